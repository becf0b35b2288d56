"""The recorded replies of a real camera, in a network of their own: found, asked for clock and stream, listened to."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from agent.errors import RoomError
from agent.rooms.onvif import (
    Camera,
    Events,
    Found,
    Happening,
    Notices,
    clock_offset,
    discover,
    identify,
    stream_address,
    synchronize,
)
from agent.rooms.onvif import discovery as discovery_module
from agent.rooms.onvif import events as events_module
from agent.rooms.onvif.soap import Talk
from tests.onvif_cameras import ADDRESS, PASSWORD, USER, PrivateNetwork, private_network, recorded, start_recorded
from tests.servers import installed


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateNetwork]:
    with private_network(tmp_path_factory.mktemp("onvif") / "camera.log") as made:
        with installed():
            start_recorded(made)
        yield made


def test_it_is_found(network: PrivateNetwork) -> None:
    assert network.run(discover(0.5)) == [Found(ADDRESS, 80, "PREDATOR", "HD_PREDATOR")]


def test_whoever_lies_when_cameras_are_looked_for_misleads_nobody(network: PrivateNetwork) -> None:
    honest = recorded("Probe").replace("SERVICE_URI", f"http://{ADDRESS}/onvif/device_service")

    class Liar(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            number = data.split(b"<a:MessageID>")[1].split(b"<")[0].decode()
            mine = honest.replace("RELATES_TO", number)
            for said in (
                b"lollipop", b"", b"\0" * 65000, honest, mine.replace(number, "urn:uuid:of-others"),
                f"<!DOCTYPE l [<!ENTITY a 'b'>]>{mine}", mine.replace("dn:NetworkVideoTransmitter", "printer")
                .replace("onvif", "else"), mine.replace(ADDRESS, "192.0.2.9:81"), mine,
                mine.replace("PREDATOR", "%E5%8D%B0" + "x" * 9000),
            ):  # fmt: skip
                content = said if isinstance(said, bytes) else said.encode()
                assert isinstance(self.transport, asyncio.DatagramTransport)
                self.transport.sendto(content[:65000], addr)

    async def looked() -> list[Found]:
        group = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        group.bind(("", 3702))
        joined = socket.inet_aton("239.255.255.250") + socket.inet_aton(ADDRESS)
        group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, joined)
        transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Liar, sock=group)
        try:
            return await discover(0.5)
        finally:
            transport.close()

    (found,) = network.run(looked())
    assert (found.host, found.port) == (ADDRESS, 80)


def test_its_motion_is_heard(network: PrivateNetwork) -> None:
    async def heard() -> tuple[Happening, ...]:
        async with contextlib.aclosing(aiter(Events(ADDRESS, 80, USER, PASSWORD, lambda: datetime.now(UTC)))) as told:
            return (await anext(told),)

    (motion,) = network.run(heard())
    assert (motion.what, motion.on, motion.topic) == (Notices.MOTION, True, "RuleEngine/CellMotionDetector/Motion")


def test_its_stream(network: PrivateNetwork) -> None:
    found = network.run(stream_address(ADDRESS, 80, USER, PASSWORD))
    assert found == f"rtsp://{ADDRESS}/h264main"
    assert network.run(stream_address(ADDRESS, 80, USER, PASSWORD, "jpeg")) == found, "it has one reply"


def test_who_it_is(network: PrivateNetwork) -> None:
    found = network.run(identify(ADDRESS, 80, USER, PASSWORD))
    assert (found.manufacturer, found.model, found.serial) == ("Mockup Manufacturer", "Mockup Model", "00000000")


def test_a_network_that_the_service_may_not_reach(network: PrivateNetwork) -> None:
    network.call(lambda: subprocess.run(["ip", "route", "add", "prohibit", "192.0.2.0/24"], check=True))
    with pytest.raises(RoomError, match="IPAddressAllow"):
        network.run(identify("192.0.2.7", 80, USER, PASSWORD))


def test_its_clock_stands_still_in_2014(network: PrivateNetwork) -> None:
    reading = network.run(clock_offset(ADDRESS, 80, USER, PASSWORD))
    said = reading.at + timedelta(microseconds=reading.offset_us)
    assert abs(said - datetime(2014, 12, 24, 19, 14, 37, tzinfo=UTC)) < timedelta(seconds=60)
    assert 0 < reading.uncertainty_us < 60e6


def test_a_key_frame_can_t_be_asked_of_it(network: PrivateNetwork) -> None:
    """It has no reply to that, and gives what is no XML instead."""
    with pytest.raises(RoomError, match="no XML"):
        network.run(synchronize(ADDRESS, 80, USER, PASSWORD))


CALLS = "GetSystemDateAndTime", "GetServices", "GetCapabilities", "GetProfiles", "GetStreamUri", "GetDeviceInformation"
EVENTS = "events.CreatePullPointSubscription", "PullMessages"
WORDS = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "0",
        "-1",
        "9" * 30,
        "http://[",
        "//x",
        "rtsp://",
        "H265",
        "PT5S",
        "2014-12-24T19:00:00",
        "true",
        "\x85",
        "{user}",
    ]
)
CHANGES = st.tuples(st.floats(0, 1), st.sampled_from(["text", "name", "gone", "twice", "attribute"]), WORDS)


class Canned(Talk):
    """A camera that answers with recorded replies, of which some elements are others."""

    def __init__(self, changes: list[tuple[float, str, str]]) -> None:
        super().__init__(ADDRESS, 80, USER, PASSWORD, lambda: datetime.now(UTC))
        self._changes = changes

    async def _post(self, url: URL, body: str, *_: object) -> tuple[int, list[str], bytes]:
        call = next(name for name in (*CALLS, *EVENTS) if f"<{name.rpartition('.')[2]} " in body)
        return 200, [], damaged(recorded(call), self._changes)


def damaged(content: str, changes: list[tuple[float, str, str]]) -> bytes:
    content = re.sub(r"{{[=?][^}]*}}", "1", content.replace("http://{{=it.hostname}}", f"http://{ADDRESS}"))
    content = content.replace(":1/onvif", "/onvif")
    root = ET.fromstring(content.encode())
    body = root[-1]
    for place, kind, word in changes:
        parents = [(parent, child) for parent in body.iter() for child in parent]
        if not parents:
            break
        parent, child = parents[int(place * (len(parents) - 1))]
        match kind:
            case "text":
                child.text = word
            case "name":
                child.tag = re.sub(r"[^A-Za-z]", "", word) or "x"
            case "gone":
                parent.remove(child)
            case "twice":
                parent.append(child)
            case "attribute":
                child.set("token", word)
    return ET.tostring(root)


@settings(max_examples=80)
@given(st.lists(CHANGES, max_size=4))
def test_whatever_becomes_of_a_real_camera_s_replies_is_an_answer_or_an_error_in_words(
    changes: list[tuple[float, str, str]],
) -> None:
    async def asked() -> None:
        camera = Camera(ADDRESS, 80, USER, PASSWORD, lambda: datetime.now(UTC))
        camera.talk = Canned(changes)
        for ask in (camera.compare, camera.identify, camera.profiles):
            with contextlib.suppress(RoomError):
                assert await ask()
        with contextlib.suppress(RoomError):
            assert (await camera.stream_address()).startswith(f"rtsp://{ADDRESS}")
        with contextlib.suppress(RoomError):
            subscription = await events_module._Subscription.made(camera)
            for happening in Events(ADDRESS, 80, "", "", camera.talk._clock)._changes(await subscription.pull()):
                assert happening.what in Notices
        discovery_module._found(damaged(recorded("Probe"), changes), ADDRESS)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events_module, "_PACE_S", 0)
        asyncio.run(asked())
