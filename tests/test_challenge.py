"""A camera's password goes over the network readable only if the room allows it: by the bytes that really went."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.rooms import Source
from agent.doctor.finding import Grade
from agent.doctor.rooms import answers
from agent.rooms import challenge
from agent.rooms.challenge import schemes
from agent.rooms.protocol import Back, Cause, Closed, Lost
from simulator.cameras.camera import PASSWORD, USER, Cameras
from simulator.stores.processes import HOST
from tests.recording import plan, recording
from tests.studio import ROOM

READABLE = base64.b64encode(f"{USER}:{PASSWORD}".encode())


@dataclass
class Tap:
    """Passes everything on to a camera, and keeps what it was told."""

    upstream: int
    port: int = 0
    said: bytes = b""
    passing: list[asyncio.Task[None]] = field(default_factory=list)

    async def taken(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, there = await asyncio.open_connection(HOST, self.upstream)
        self.passing.append(asyncio.create_task(self._passed(reader, there, keeps=True)))
        self.passing.append(asyncio.create_task(self._passed(answers, writer, keeps=False)))

    async def _passed(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, keeps: bool) -> None:
        with contextlib.suppress(OSError):
            try:
                while piece := await reader.read(65536):
                    self.said += piece if keeps else b""
                    writer.write(piece)
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def tapped(server: Cameras) -> AsyncIterator[Tap]:
    tap = Tap(server.port)
    async with await asyncio.start_server(tap.taken, HOST, 0) as listening:
        tap.port = listening.sockets[0].getsockname()[1]
        yield tap
        for task in tap.passing:
            task.cancel()
        await asyncio.wait(tap.passing)


@pytest.mark.parametrize("allowed", [False, True])
async def test_a_camera_that_wants_it_readable_gets_it_only_where_the_room_allows_that(
    cameras: Callable[..., Cameras], pack: Callable[..., Path], tmp_path: Path, allowed: bool
) -> None:
    """That FFmpeg gives it away is what the second case shows: without asking first it would in the first one, too."""
    server = cameras({"front": pack()}, auth="basic")
    async with tapped(server) as tap:
        what = plan(tmp_path / "r", server.url("front", tap.port), segment_s=1.0)
        what = replace(what, sources=tuple(replace(one, plain_password=allowed) for one in what.sources))
        async with recording(what) as it:
            await it.wait(Closed if allowed else Lost)
        assert (READABLE in tap.said, b"DESCRIBE" in tap.said) == (allowed, True)
    assert [one.cause for one in it.all(Lost)] == [] if allowed else [Cause.READABLE]
    assert PASSWORD not in repr(it.said)


async def test_digest_is_answered_and_asked_for_once(
    cameras: Callable[..., Cameras], pack: Callable[..., Path], tmp_path: Path
) -> None:
    server = cameras({"front": pack()})
    async with tapped(server) as tap:
        async with recording(plan(tmp_path / "r", server.url("front", tap.port), segment_s=1.0)) as it:
            await it.wait(Closed)
            server.end("front")
            await it.wait(Lost)
            await it.wait(Back)
        assert READABLE not in tap.said
        assert PASSWORD.encode() not in tap.said
        assert tap.said.count(b"Authorization: Digest") > 1
        assert len(tap.passing) == 2 * 3, "one question, and two connections"


@contextlib.asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]],
) -> AsyncIterator[str]:
    """Host and port of who serves each that connects; all have been served in the end."""
    served: list[asyncio.Task[None]] = []

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(asyncio.create_task(serve(reader, writer)))

    async with await asyncio.start_server(begin, HOST, 0) as listening:
        yield f"{HOST}:{listening.sockets[0].getsockname()[1]}"
        await asyncio.sleep(0.05)  # who has only connected is taken, too
        await asyncio.wait(served)


@contextlib.asynccontextmanager
async def answering(answer: bytes, *, ends: bool = True) -> AsyncIterator[tuple[str, list[bytes]]]:
    """The address of somebody who says just that to whoever connects, and what was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer)
                await writer.drain()
                if not ends:
                    await reader.read()
            finally:
                writer.close()
                await writer.wait_closed()

    async with serving(serve) as place:
        yield f"rtsp://{USER}:secret@{place}/live?channel=1", asked


SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=a\r\na=control:*\r\n"
    b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:t\r\n"
)
ASKS = (b"OPTIONS", b"DESCRIBE", b"SETUP", b"PLAY")


@contextlib.asynccontextmanager
async def asking_at(method: bytes, scheme: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A camera that lets everybody do what comes before `method`, and there wants a password in this way."""
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                while True:
                    heard.append(said := await reader.readuntil(b"\r\n\r\n"))
                    number = next(line for line in said.split(b"\r\n") if line.startswith(b"CSeq"))
                    status, more, body = b"200 OK", b"", b""
                    if said.startswith(method):
                        status, more = b"401 No", b"WWW-Authenticate: " + scheme + b' realm="a", nonce="b"\r\n'
                    elif said.startswith(b"DESCRIBE"):
                        more, body = b"Content-Type: application/sdp\r\nContent-Length: %d\r\n" % len(SDP), SDP
                    elif said.startswith(b"SETUP"):
                        more = b"Session: 5;timeout=60\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n"
                    writer.write(b"RTSP/1.0 " + status + b"\r\n" + number + b"\r\n" + more + b"\r\n" + body)
                    await writer.drain()
            finally:
                writer.close()
                await writer.wait_closed()

    async with serving(serve) as place:
        yield f"rtsp://{USER}:secret@{place}/live", heard


@pytest.mark.parametrize("method", ASKS[:3])
@pytest.mark.parametrize("allowed", [False, True])
async def test_wherever_a_camera_asks_before_it_plays(tmp_path: Path, method: bytes, allowed: bool) -> None:
    """FFmpeg signs in at each of these, as the second case shows."""
    async with asking_at(method, b"Basic") as (url, heard):
        what = plan(tmp_path / "r", url, segment_s=1.0)
        what = replace(what, sources=tuple(replace(one, plain_password=allowed) for one in what.sources))
        async with recording(what) as it:
            lost = await it.wait(Lost)
        said = b"".join(heard)
        readable = base64.b64encode(f"{USER}:secret".encode())
        assert (lost.cause is Cause.READABLE, readable in said) == (not allowed, allowed)
        assert method in said


async def test_who_lets_everybody_in_is_asked_until_it_would_play_and_left(tmp_path: Path) -> None:
    async with asking_at(b"PLAY", b"Basic") as (url, heard):
        assert await asyncio.to_thread(schemes, url, 20.0) == frozenset()
        assert [one.split()[0] for one in heard] == [*ASKS[:3], b"TEARDOWN"]
        assert heard[2].split()[1] == url.replace(f"{USER}:secret@", "").encode() + b"/t"
    async with asking_at(b"TEARDOWN", b"Basic") as (url, _):
        assert await asyncio.to_thread(schemes, url, 20.0) == frozenset()


async def test_the_doctor_tells_of_such_a_camera(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret = tmp_path / "capture-agent.camera-front"
    secret.write_text(f"{USER}:{PASSWORD}\n")
    secret.chmod(0o400)
    basic, both = (
        "".join(["RTSP/1.0 401 No\r\n", *(f"WWW-Authenticate: {one} realm=a\r\n" for one in offered), "\r\n"]).encode()
        for offered in (["Basic"], ["Basic", "Digest"])
    )
    for answer, allowed, credential, grade in (
        (basic, False, "front", Grade.BAD), (basic, True, "front", Grade.GOOD), (basic, False, "", Grade.GOOD),
        (both, False, "front", Grade.GOOD),
    ):  # fmt: skip
        async with answering(answer) as (url, asked):
            plain = url.replace(f"{USER}:secret@", "")
            source = Source("front", "正面", plain, credential, plain_password=allowed)
            found = await asyncio.to_thread(answers, ROOM, source)
            assert found.grade is grade, found
            assert PASSWORD.encode() not in b"".join(asked)


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('401 Unauthorized\r\nCSeq: 1\r\nWWW-Authenticate: Basic realm="cam"\r\n\r\n', {"basic"}),
        ('401 Unauthorized\r\nwww-authenticate:BASIC realm="Digest"\r\n\r\n', {"basic"}),
        ('401 No\r\nWWW-Authenticate: Basic realm="a"\r\nWWW-Authenticate: Digest realm="a", nonce="b"\r\n\r\n',
         {"basic", "digest"}),
        ("401 Unauthorized\r\n\r\nWWW-Authenticate: Basic x", set()),
        ("404 Not Found\r\nWWW-Authenticate: Basic x\r\n\r\n", set()),
    ],
)  # fmt: skip
async def test_what_a_camera_asks_for_is_read_from_its_refusal(answer: str, told: set[str]) -> None:
    async with answering(f"RTSP/1.0 {answer}".encode(), ends=False) as (url, asked):
        assert await asyncio.to_thread(schemes, url, 20.0) == told
    assert asked[0].startswith(b"OPTIONS rtsp://127.0.0.1:")
    assert b"/live?channel=1 RTSP/1.0\r\n" in asked[0]
    assert USER.encode() not in asked[0]
    assert b"secret" not in asked[0]


@given(st.binary(max_size=200) | st.text("RTSP/1.0 42\r\nw-a:Bsic", max_size=60).map(str.encode))
def test_any_answer_is_understood_or_refused(answer: bytes) -> None:
    async def ask() -> None:
        async with answering(answer) as (url, _):
            with contextlib.suppress(ValueError, OSError):
                assert await asyncio.to_thread(schemes, url, 20.0) <= {"basic", "digest"} or b"401" in answer

    asyncio.run(ask())


async def test_silence_drips_and_floods_are_bounded() -> None:
    async with answering(b"", ends=False) as (url, _):
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(schemes, url, 0.3)
    async with answering(b"RTSP/1.0 200 OK\r\n" + b"x" * 1_000_000, ends=False) as (url, _):
        with pytest.raises(ValueError, match="RTSP"):
            await asyncio.to_thread(schemes, url, 20.0)
    assert challenge._LIMIT_BYTES < 65536
