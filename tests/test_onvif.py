"""What a camera is asked, how it learns who asks, and that no answer leads astray, hangs or fills the memory."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.errors import RoomError
from agent.rooms.onvif import Camera, clock_offset, identify, stream_address, synchronize
from agent.rooms.onvif import soap as soap_module
from agent.rooms.onvif.digest import Digest
from agent.rooms.onvif.soap import parsed
from agent.rooms.protocol import Cause
from simulator.stores.processes import HOST, free_port
from tests.onvif_cameras import (
    PASSWORD,
    USER,
    Puppet,
    clock_reply,
    envelope,
    fault,
    profile1,
    profile2,
    puppet,
    recorded,
    reply,
    response,
    services,
    stream_reply,
)

STREAM = f"rtsp://{HOST}:8554/live"


def now() -> datetime:
    return datetime.now(UTC)


async def address_of(camera: Puppet, profile: str = "") -> str:
    return await stream_address(HOST, camera.port, USER, PASSWORD, profile)


async def refusal(camera: Puppet) -> RoomError:
    with pytest.raises(RoomError) as raised:
        await address_of(camera)
    assert all(secret not in str(raised.value) for secret in (PASSWORD, USER, HOST, str(camera.port)))
    return raised.value


async def test_the_stream_with_the_largest_picture_unless_another_is_named() -> None:
    async with puppet() as camera:
        assert await address_of(camera) == STREAM
        assert "<ProfileToken>large</ProfileToken>" in camera.bodies[-1]
        camera.asked.clear()
        assert await address_of(camera, 'a"<&') == STREAM
        assert '<ProfileToken>a"&lt;&amp;</ProfileToken>' in camera.bodies[-1]
        assert camera.asked == ["GetSystemDateAndTime", "GetServices", "GetStreamUri"]


async def test_a_stream_that_can_be_recorded_is_chosen_before_a_larger_one_that_can_t() -> None:
    async with puppet() as camera:
        camera.replies["GetProfiles"] = response(
            "GetProfiles", profile1("jpeg", 3840, 2160, "JPEG") + profile1("main", 1920, 1080)
        )
        await address_of(camera)
        assert ">main<" in camera.bodies[-1]


async def test_h265_is_found_by_media2() -> None:
    async with puppet() as camera:
        camera.replies |= {
            "GetServices": services(f"http://{HOST}:{camera.port}/onvif", "ver20/media"),
            "GetProfiles": response("GetProfiles", profile2("four", 2560, 1440)),
            "GetStreamUri": stream_reply("rtsp://127.0.0.1/h265?channel=1&amp;unicast=true", media2=True),
        }
        assert await address_of(camera) == "rtsp://127.0.0.1/h265?channel=1&unicast=true"
        assert camera.paths[-1] == "/onvif/ver20_media"
        await synchronize(HOST, camera.port, USER, PASSWORD)
        assert '<SetSynchronizationPoint xmlns="http://www.onvif.org/ver20/media/wsdl"' in camera.bodies[-1]


async def test_a_camera_that_names_media2_and_does_not_have_it() -> None:
    async with puppet() as camera:

        async def old(request: web.Request) -> web.StreamResponse:
            if "ver20" in request.path:
                return reply(fault("Receiver", "ActionNotSupported"), 500)
            return reply(response("GetProfiles", profile1("main", 1920, 1080)))

        address = f"http://{HOST}:{camera.port}/onvif"
        camera.replies |= {"GetServices": services(address, "ver20/media"), "GetProfiles": old}
        assert await address_of(camera) == STREAM
        assert camera.paths[-1] == "/onvif/ver10_media"
        camera.replies["GetProfiles"] = fault("Receiver", "ActionNotSupported")
        assert (await refusal(camera)).cause == Cause.REFUSED


async def test_a_camera_that_keeps_no_connection_is_asked_again_and_again() -> None:
    async def cut_later(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        asyncio.get_running_loop().call_later(0.01, request.transport.abort)
        return reply(response("GetDeviceInformation", ""))

    async with puppet() as camera, Camera(HOST, camera.port, USER, PASSWORD, now) as talk:
        camera.replies["GetDeviceInformation"] = cut_later
        for _ in range(5):
            assert await talk.identify()
            await asyncio.sleep(0.01)


async def test_a_camera_from_before_get_services() -> None:
    async with puppet() as camera:
        camera.replies |= {
            "GetServices": reply(fault("Receiver", "ActionNotSupported"), 500),
            "GetCapabilities": recorded("GetCapabilities"),
        }
        assert await address_of(camera) == STREAM
        assert camera.paths[-1] == "/onvif/services"


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=-4000), timedelta(hours=8)])
async def test_a_token_has_the_time_of_the_camera(ahead: timedelta) -> None:
    async with puppet(wants="token", ahead=ahead) as camera:
        assert await address_of(camera) == STREAM
        assert camera.refused == ["GetProfiles"], "it was asked once by nobody, then by name"
        assert PASSWORD.encode() not in camera.seen


@pytest.mark.parametrize(
    "challenges",
    [
        ['Digest realm="cam", nonce="n1", qop="auth"'],
        ['Basic realm="cam"', 'Digest realm="cam", nonce="n1", algorithm=MD5'],
        ['Basic realm="cam", Digest realm="IP Camera(12, x)", nonce="n2", opaque="o", qop="auth,auth-int"'],
        ['Digest realm="c", nonce="n", qop="auth", algorithm=SHA-256', 'Digest realm="c", nonce="n", qop="auth"'],
        ['Digest realm="c", nonce="n", algorithm=SHA-512-256', 'Digest realm="c", nonce="n", algorithm=MD5'],
    ],
)
async def test_http_digest_where_it_is_offered(challenges: list[str]) -> None:
    async with puppet(wants="digest", challenges=challenges) as camera:
        assert await address_of(camera) == STREAM
        assert camera.refused == ["GetProfiles"]
        assert b"UsernameToken" not in camera.seen, "one proof is enough"
        assert b"Basic" not in camera.seen
        assert PASSWORD.encode() not in camera.seen


async def test_a_new_nonce_is_taken_if_the_old_one_is_stale() -> None:
    async with puppet(wants="digest") as camera, Camera(HOST, camera.port, USER, PASSWORD, now) as talk:
        await talk.identify()
        challenge = 'Digest realm="cam", nonce="n2", qop="auth", stale=TRUE'

        async def stale(request: web.Request) -> web.StreamResponse:
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        camera.replies["GetProfiles"] = stale
        with pytest.raises(RoomError):
            await talk.profiles()
        assert camera.seen.count(b'nonce="n2"') == 2, "but not for ever"
        assert await talk.identify()


@pytest.mark.parametrize(
    "challenges", [['Basic realm="cam"'], [], ["Digest"], ['Digest nonce="a\\"b", realm="x"'], ["Digest \x80=,,="]]
)
async def test_a_password_is_never_shown_to_a_camera_that_wants_it_plain(challenges: list[str]) -> None:
    async with puppet(wants="digest", challenges=challenges) as camera:
        refused = await refusal(camera)
        assert refused.cause == Cause.UNAUTHORISED
        assert b"Authorization" not in camera.seen
        assert PASSWORD.encode() not in camera.seen
        assert len(camera.refused) == 2, "by nobody, then by a token: a camera may lock who is refused often"


async def test_a_wrong_password_is_tried_once() -> None:
    for wants in ("digest", "token"):
        async with puppet(wants=wants) as camera:
            with pytest.raises(RoomError, match="does not let this user in") as raised:
                await stream_address(HOST, camera.port, USER, "wrong")
            assert raised.value.cause == Cause.UNAUTHORISED
            assert len(camera.refused) <= 2 + (wants == "digest")
            with pytest.raises(RoomError, match="wants a user"):
                await stream_address(HOST, camera.port, "", "")


def test_digest_is_what_rfc_7616_computes() -> None:
    """RFC 7616, 3.9.1."""
    realm, nonce = "http-auth@example.org", "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
    client_nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    for algorithm, right in {
        "MD5": "8ca523f5e9506fed4657c9700eebdbec",
        "SHA-256": "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    }.items():
        digest = Digest.offered(
            [f'Digest realm="{realm}", qop="auth, auth-int", algorithm={algorithm}, nonce="{nonce}"']
        )
        assert digest is not None
        said = digest.header("GET", "/dir/index.html", "Mufasa", "Circle of Life", client_nonce)
        assert f'response="{right}"' in said
        assert "nc=00000001" in said


async def test_the_clock_is_known_finer_than_the_seconds_it_is_told_in() -> None:
    ahead = timedelta(days=-3, milliseconds=377)
    async with puppet(ahead=ahead) as camera, Camera(HOST, camera.port, "", "", now) as talk:
        once = await talk.compare()
        assert once.uncertainty_us >= 500_000
        best = once
        async with asyncio.timeout(60):
            while best.uncertainty_us >= 500_000:
                best = await talk.compare(2)
    for reading in (once, best):
        off_us = reading.offset_us - ahead // timedelta(microseconds=1)
        assert abs(off_us) <= reading.uncertainty_us, "whatever the machine does meanwhile"
        assert abs(reading.at - now()) < timedelta(seconds=60)


async def test_a_camera_may_want_a_user_for_its_clock() -> None:
    async with puppet(wants="token") as camera:

        async def refused(request: web.Request) -> web.StreamResponse:
            return reply(fault("Sender", "NotAuthorized"), 400)

        camera.replies["GetSystemDateAndTime"] = refused
        with pytest.raises(RoomError) as raised:
            await clock_offset(HOST, camera.port, USER, PASSWORD)
        assert raised.value.cause == Cause.UNAUTHORISED
        assert ["UsernameToken" in body for body in camera.bodies] == [False, True]


async def test_the_clock_is_set_while_it_is_compared() -> None:
    async with puppet() as camera, Camera(HOST, camera.port, "", "", now) as talk:

        async def jumping(request: web.Request) -> web.StreamResponse:
            camera.ahead += timedelta(hours=1)
            return reply(clock_reply(now() + camera.ahead))

        camera.replies["GetSystemDateAndTime"] = jumping
        reading = await talk.compare(2)
        assert abs(timedelta(microseconds=reading.offset_us) - camera.ahead) < timedelta(seconds=30)


THEN = clock_reply(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))


@pytest.mark.parametrize(
    "said",
    [
        "",
        response("GetSystemDateAndTime", ""),
        *(THEN.replace("2026", year) for year in ("0", "1", "9999", "1e3", "-1", "٢٠٢٤")),
        *(THEN.replace("<Hour>3", f"<Hour>{hour}") for hour in ("24", "", " ")),
        THEN.replace("<Day>2", "<Day>32"),
    ],
)
async def test_a_clock_that_says_no_time(said: str) -> None:
    async with puppet() as camera:
        camera.replies["GetSystemDateAndTime"] = said
        assert (await refusal(camera)).cause == Cause.GARBAGE


@given(st.text(alphabet="rtsp:/@[]?#%0127.{}a\\ ", max_size=30).map(lambda tail: f"rtsp://127.0.0.1{tail}"))
@example("rtsp://127.0.0.1[]@")
def test_any_stream_address_is_the_cameras_or_refused(uri: str) -> None:
    async def asked() -> None:
        async with Camera(HOST, 80, USER, PASSWORD, now) as talk:
            with contextlib.suppress(RoomError):
                kept = await talk._own(uri)
                assert urlsplit(kept).hostname == "127.0.0.1"
                assert "@" not in urlsplit(kept).netloc
                assert urlsplit(kept).port != 0

    asyncio.run(asked())


@pytest.mark.parametrize(
    ("uri", "kept"),
    [
        ("rtsp://admin:secret@127.0.0.1:554/a?b=c&amp;d=%2f", "rtsp://127.0.0.1:554/a?b=c&d=%2f"),
        ("RTSP://127.0.0.1/Streaming/Channels/101", "rtsp://127.0.0.1/Streaming/Channels/101"),
    ],
)
async def test_a_stream_address_is_kept_without_user_and_password(uri: str, kept: str) -> None:
    async with puppet() as camera:
        camera.replies["GetStreamUri"] = stream_reply(uri)
        assert await address_of(camera) == kept


@pytest.mark.parametrize(
    "uri",
    [
        "rtsp://192.0.2.7/live", "rtsp://127.0.0.2/live", "rtsp://camera.example/x", "rtsp://127.0.0.1.example/",
        "rtsp://127.0.0.1@192.0.2.7/live", "http://127.0.0.1/live", "file:///etc/passwd", "concat:/etc/passwd",
        "rtsp:///live", "rtsp://127.0.0.1:99999/", "rtsp://[::1/", "rtsp://127.0.0.1/é", "", "x" * 2000,
        "rtsp://１２７.0.0.1/", "rtsp://127.0.0.1/" + "a" * 2000, "rtsp://127.0.0.1:0/", "//127.0.0.1/live",
        "rtsp://127.0.0.1/{password}",
    ],
)  # fmt: skip
async def test_a_stream_that_is_elsewhere_is_refused(uri: str) -> None:
    async with puppet() as camera:
        camera.replies["GetStreamUri"] = stream_reply(uri)
        assert (await refusal(camera)).cause == Cause.GARBAGE


async def test_a_camera_may_be_named() -> None:
    async with puppet() as camera:
        assert await stream_address("localhost", camera.port, USER, PASSWORD) == STREAM


@pytest.mark.parametrize(
    "said", ["http://192.0.2.7:81/here?x=1", "https://h/here?x=1", "//192.0.2.7/here?x=1", "/here?x=1"]
)
async def test_nothing_is_asked_of_another_host(said: str) -> None:
    async with puppet() as camera:
        names = "ver10/device", "ver10/media"
        inner = [
            f"<x:Service><x:Namespace>http://www.onvif.org/{name}/wsdl</x:Namespace><x:XAddr>{said}</x:XAddr></x:Service>"
            for name in names
        ]
        camera.replies["GetServices"] = response("GetServices", "".join(inner))
        assert await address_of(camera) == STREAM
        assert camera.paths[-1] == "/here?x=1"


async def test_a_service_at_an_address_that_is_none_is_garbage() -> None:
    async with puppet() as camera:
        inner = "<x:Service><x:Namespace>http://www.onvif.org/ver10/media/wsdl</x:Namespace><x:XAddr>http://h[]@</x:XAddr></x:Service>"
        camera.replies["GetServices"] = response("GetServices", inner)
        assert (await refusal(camera)).cause == Cause.GARBAGE


async def drip(request: web.Request) -> web.StreamResponse:
    slow = web.StreamResponse()
    await slow.prepare(request)
    while True:
        await slow.write(b" ")
        await asyncio.sleep(0.05)


async def flood(request: web.Request) -> web.StreamResponse:
    endless = web.StreamResponse()
    await endless.prepare(request)
    while True:
        await endless.write(b" " * 65536)


async def cut(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


LAUGHS = '<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + envelope("<x>&b;</x>")
HOSTILE: list[tuple[object, str]] = [
    (drip, Cause.STALLED),
    (flood, Cause.GARBAGE),
    (cut, Cause.CLOSED),
    (b"", Cause.GARBAGE),
    (b"lollipop", Cause.GARBAGE),
    (LAUGHS, Cause.GARBAGE),
    (LAUGHS.encode("utf-16"), Cause.GARBAGE),
    (f'<!DOCTYPE l SYSTEM "http://192.0.2.7/x">{envelope("<x/>")}', Cause.GARBAGE),
    ('<?xml version="1.0" encoding="klingon"?>' + envelope("<x/>"), Cause.GARBAGE),
    (envelope(""), Cause.GARBAGE),
    (b"<a>" * 100_000, Cause.GARBAGE),
    ("<a>" * 100_000 + "</a>" * 100_000, Cause.GARBAGE),
    (envelope("<x>" * 100_000 + "</x>" * 100_000), Cause.GARBAGE),
    (envelope("<y/>"), Cause.GARBAGE),
    (response("GetProfiles", ""), Cause.GARBAGE),
    (response("GetProfiles", profile1("", 1, 1)), Cause.GARBAGE),
    (web.Response(status=302, headers={"Location": "http://192.0.2.7/"}), Cause.GARBAGE),
    (web.Response(status=500, text="Fault"), Cause.GARBAGE),
    (web.Response(status=503, text="busy"), Cause.GARBAGE),
    (web.Response(body=b"\x1f\x8b\x08", headers={"Content-Encoding": "gzip"}), Cause.GARBAGE),
    (fault("Receiver", "InvalidArgVal", "NoProfile"), Cause.REFUSED),
    (fault("<y/>"), Cause.REFUSED),
]


@pytest.mark.parametrize(("said", "cause"), HOSTILE)
async def test_no_answer_hangs_or_leads_astray(said: object, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soap_module, "LIMIT_S", 0.5)
    async with puppet() as camera:
        camera.replies["GetProfiles"] = said  # type: ignore[assignment]
        assert (await refusal(camera)).cause == cause


@pytest.mark.parametrize("said", [b"", b"x", b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", b"SSH-2.0-x\r\n"])
async def test_what_is_no_camera(said: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(said)
        writer.close()

    server = await asyncio.start_server(serve, HOST, 0)
    async with server:
        with pytest.raises(RoomError) as raised:
            await identify(HOST, server.sockets[0].getsockname()[1], USER, PASSWORD)
    assert raised.value.cause in {Cause.GARBAGE, Cause.CLOSED}


async def test_nobody_is_there() -> None:
    with pytest.raises(RoomError) as raised:
        await identify(HOST, free_port(), USER, PASSWORD)
    assert raised.value.cause == Cause.REFUSED
    for host in ("no such name", "camera.invalid", "[", "", "256.1.1.1", "a" * 300 + ".invalid"):
        with pytest.raises(RoomError) as raised:
            await identify(host, 80, USER, PASSWORD)
        assert raised.value.cause == Cause.UNREACHABLE


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=300), st.text(max_size=100).map(lambda inner: envelope(inner).encode())))
def test_any_bytes_are_an_element_or_an_error_in_words(content: bytes) -> None:
    with contextlib.suppress(RoomError):
        assert parsed(content).tag
