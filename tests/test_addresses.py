"""Promise: whatever password a camera has, its recorder gets it whole, and nobody else sees it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.rooms import Room, Source
from agent.errors import RoomError
from agent.rooms.addresses import CameraAddresses, complete
from agent.rooms.protocol import Cause, SourcePlan, Transport

ROOM = Room(name="a1", title="第一询问室")
PRINTABLE = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=5)
"""At most 12 characters each in an address, and 127 are read of both."""


async def nobody(*asked: object) -> str:
    raise AssertionError(f"{asked[0]} was asked")


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    return tmp_path


def put(folder: Path, content: bytes, mode: int = 0o400) -> None:
    path = folder / "capture-agent.camera-front"
    path.write_bytes(content)
    path.chmod(mode)


def source(url: str, **options: object) -> Source:
    return Source(name="front", title="前方", url=url, credential="front", **options)  # type: ignore[arg-type]


async def test_user_and_password_come_from_the_credential_as_they_are(secrets: Path) -> None:
    put(secrets, "admin:p@ss:w/rd%41 #?密\n".encode())
    plan = await CameraAddresses(nobody)(ROOM, source("rtsp://10.1.2.3:554/main?channel=1&x=%2F", transport="udp"))
    assert plan.url == "rtsp://admin:p%40ss%3Aw%2Frd%2541%20%23%3F%E5%AF%86@10.1.2.3:554/main?channel=1&x=%2F"
    assert (plan.name, plan.transport, plan.watch) == ("front", Transport.UDP, True)


@given(user=PRINTABLE.filter(lambda text: ":" not in text), password=PRINTABLE)
def test_any_password_comes_whole_out_of_the_address(user: str, password: str) -> None:
    made = source("rtsp://10.1.2.3/main")
    url = complete(made.url, user, password, made)
    parts = urlsplit(url)
    assert parts.netloc.count("@") == 1
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert (parts.hostname, parts.path) == ("10.1.2.3", "/main")
    assert url.isascii()


async def test_a_camera_that_asks_for_nobody_gets_no_password(secrets: Path) -> None:
    plain = Source(name="front", title="", url="rtsp://10.1.2.3/main")
    assert (await CameraAddresses(nobody)(ROOM, plain)).url == plain.url


@pytest.mark.parametrize("url", ["v4l2:/dev/video0", "alsa:hw:1"])
async def test_what_is_in_this_machine_has_no_address(url: str, secrets: Path) -> None:
    plan = await CameraAddresses(nobody)(ROOM, source(url, watch=False))
    assert plan == SourcePlan("front", url, Transport.TCP, watch=False)


async def test_both_stand_inside_the_address_where_the_camera_wants_them(secrets: Path) -> None:
    put(secrets, b"admin:a&b=c")
    url = "rtsp://10.1.2.3/user={user}&password={password}&channel=1"
    assert (await CameraAddresses(nobody)(ROOM, source(url))).url == (
        "rtsp://10.1.2.3/user=admin&password=a%26b%3Dc&channel=1"
    )


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("onvif://10.1.2.3", ("10.1.2.3", 80, "admin", "p@ss", "")),
        ("onvif://10.1.2.3:8899/Profile_2", ("10.1.2.3", 8899, "admin", "p@ss", "Profile_2")),
        ("onvif://[fd00::3]:8899", ("fd00::3", 8899, "admin", "p@ss", "")),
    ],
)
async def test_an_onvif_camera_is_asked_and_what_it_answers_gets_the_password(
    url: str, asked: tuple[object, ...], secrets: Path
) -> None:
    put(secrets, b"admin:p@ss\n")
    heard: list[tuple[object, ...]] = []

    async def ask(*arguments: object) -> str:
        heard.append(arguments)
        return "rtsp://somebody:else@10.1.2.3:554/h264main?profile=2"

    plan = await CameraAddresses(ask)(ROOM, source(url))
    assert heard == [asked]
    assert plan.url == "rtsp://admin:p%40ss@10.1.2.3:554/h264main?profile=2"


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        (b"admin", 0o400, "must hold one line user:password"),
        (b":Geheim7", 0o400, "must hold one line user:password"),
        (b"admin:Geheim7\nadmin:x", 0o400, "must hold one line user:password"),
        (b"admin:Geheim7\x00", 0o400, "must hold one line user:password"),
        (b"admin:Geheim7\xff", 0o400, "is no text"),
        (b"admin:" + b"Geheim7" * 30, 0o400, "too long: 216 characters in an address, where 127 are read"),
        (b"admin:Geheim7", 0o444, "everybody on this station may read it"),
        (None, 0o400, "can't be read: No such file"),
    ],
)
async def test_a_wrong_credential_is_told_without_showing_it(
    content: bytes | None, mode: int, told: str, secrets: Path
) -> None:
    if content is not None:
        put(secrets, content, mode)
    with pytest.raises(RoomError) as caught:
        await CameraAddresses(nobody)(ROOM, source("rtsp://10.1.2.3/main"))
    assert told in caught.value.what
    assert caught.value.what.startswith("The credential capture-agent.camera-front: ")
    assert caught.value.cause == Cause.UNAUTHORISED
    assert caught.value.do
    assert "Geheim" not in str(caught.value)
    assert "10.1.2.3" not in str(caught.value)
