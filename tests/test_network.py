"""One attempt of a request ends in bounded time with bounded memory, whoever is on the other side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.config.options import read_options
from agent.errors import ConfigError, EvidenceError, StoreError
from agent.uploader.network import REPLY_LIMIT_BYTES, CutError, Network, NetworkOptions, Pace, read_private

MIB = 1024 * 1024
NOW = datetime(2026, 11, 23, tzinfo=UTC)
Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def peer(serve: Peer) -> AsyncIterator[str]:
    """A server of raw bytes; gives its address."""
    over = asyncio.Event()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.ensure_future(serve(reader, writer))
        ended = asyncio.create_task(over.wait())
        await asyncio.wait({serving, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        serving.cancel()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await serving
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x"
    finally:
        over.set()
        server.close()


@contextlib.asynccontextmanager
async def network(**options: object) -> AsyncIterator[Network]:
    known: dict[str, object] = {"stall_limit_s": 0.3}
    made = Network(NetworkOptions(**(known | options)))  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


def body(*pieces: bytes, each: Callable[[], Awaitable[None]] | None = None) -> Callable[[], AsyncIterator[bytes]]:
    async def make() -> AsyncIterator[bytes]:
        for piece in pieces:
            if each is not None:
                await each()
            yield piece

    return make


def answering(reply: bytes) -> Peer:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()

    return serve


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def taking_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    await reader.readexactly(int(head.partition("content-length: ")[2].split()[0]))
    writer.write(OK)
    await writer.drain()


@pytest.mark.parametrize("size", [0, 64 * MIB], ids=["never answers", "never reads"])
async def test_a_peer_that_stalls_is_given_up(size: int) -> None:
    """Also while it stops reading what we send: no time limit of the HTTP library covers that."""
    async with peer(silent) as url, network() as ours:
        with pytest.raises(CutError, match=r"no byte for 0\.3 s"):
            await ours.ask("PUT", url, {"Content-Length": str(size)}, body(*[bytes(MIB)] * (size // MIB)))


async def test_our_own_pauses_are_no_stall() -> None:
    """A slow disk or a limit of bytes per second takes what time it needs."""
    slow = body(b"a", b"b", each=lambda: asyncio.sleep(0.5))
    async with peer(taking_all) as url, network() as ours:
        assert (await ours.ask("PUT", url, {"Content-Length": "2"}, slow)).body == b"ok"


async def test_a_peer_that_is_slow_but_alive_is_waited_for() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            writer.write(b".")
            await writer.drain()
            await asyncio.sleep(0.1)

    async with peer(drip) as url, network() as ours:
        assert (await ours.ask("GET", url, {})).body == b"." * 8


@pytest.mark.parametrize("told", [b"Content-Length: 1099511627776\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_endless_replies_are_refused(told: bytes) -> None:
    async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + told + b"\r\n")
        while True:
            writer.write((b"10000\r\n" + bytes(65536) + b"\r\n") if b"chunked" in told else bytes(65536))
            await writer.drain()

    async with peer(endless) as url, network() as ours:
        with pytest.raises(StoreError, match=f"more than {REPLY_LIMIT_BYTES} bytes"):
            await ours.ask("GET", url, {})


async def test_a_sink_takes_bytes_of_any_length_and_only_of_a_success() -> None:
    seen: list[bytes] = []

    async def sink(piece: bytes) -> None:
        seen.append(piece)

    content = bytes(range(256)) * 4096 * 3
    async with network() as ours:
        async with peer(answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)) as url:
            assert (await ours.ask("GET", url, {}, sink=sink)).body == b""
        assert b"".join(seen) == content
        assert max(map(len, seen)) < 2 * MIB
        async with peer(answering(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")) as url:
            assert (await ours.ask("GET", url, {}, sink=sink)).body == b"no"
        assert b"".join(seen) == content


async def test_what_our_own_bytes_raise_is_raised() -> None:
    """Evidence trouble is never hidden behind a connection that broke because of it."""

    async def damaged() -> AsyncIterator[bytes]:
        yield b"a" * 100
        raise EvidenceError("damaged")

    async with peer(taking_all) as url, network() as ours:
        with pytest.raises(EvidenceError, match="damaged"):
            await ours.ask("PUT", url, {"Content-Length": "1000"}, damaged)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "connection"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfive!", "connection"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\n", "HTTP"),
    ],
)
async def test_what_is_not_http_is_told_in_words(reply: bytes, words: str) -> None:
    async with peer(answering(reply)) as url, network() as ours:
        with pytest.raises(CutError, match=words) as caught:
            await ours.ask("POST", url, {})
    assert "safe" in caught.value.safe
    assert caught.value.do


async def test_redirects_are_not_followed() -> None:
    """Evidence goes where the configuration says."""
    moved = b"HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"
    async with peer(answering(moved)) as url, network() as ours:
        assert (await ours.ask("PUT", url, {"Content-Length": "1"}, body(b"x"))).status == 307


async def test_names_and_ports_that_nobody_has_are_told() -> None:
    async with network() as ours:
        with pytest.raises(CutError, match="not known"):
            await ours.ask("GET", "http://nowhere.invalid/", {})
        with pytest.raises(CutError, match=r"No connection to 127\.0\.0\.1: Connection refused"):
            await ours.ask("GET", "http://127.0.0.1:1/", {})


async def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with peer(answering(OK)) as url, network() as ours:
        assert (await ours.ask("GET", url, {})).body == b"ok"


async def test_a_proxy_gets_its_credentials_with_plain_requests_too(tmp_path: Path) -> None:
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(OK)
        await writer.drain()

    async with peer(serve) as url:
        secret = tmp_path / "proxy"
        secret.write_text("user:p w\n")
        secret.chmod(0o600)
        async with network(proxy=url.removesuffix("/x"), proxy_credentials=secret) as ours:
            await ours.ask("GET", "http://store.invalid/key", {})
    assert heads[0].startswith("GET http://store.invalid/key ")
    assert "Proxy-Authorization: Basic dXNlcjpwIHc=" in heads[0]


def test_a_password_in_the_address_of_the_proxy_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigError, match="belong into") as caught:
        Network(NetworkOptions(proxy="http://user:hush@proxy:8080"))
    assert "hush" not in str(caught.value)


# How fast.


async def test_all_who_share_a_pace_share_its_bytes() -> None:
    pace = Pace(100_000)
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    await asyncio.gather(*(pace.take(10_000) for _ in range(8)))
    assert loop.time() - began_s >= 0.8 - 0.2 - 0.01, "with a burst of 0.2 s"
    await Pace(0).take(1 << 60)


# Secrets.


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o666])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("secret")
    path.chmod(mode)
    with pytest.raises(ConfigError, match="everybody") as caught:
        read_private(path)
    assert "chmod" in caught.value.do
    path.chmod(0o640)
    assert read_private(path) == "secret"


def test_a_secret_that_is_no_text_or_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    with pytest.raises(ConfigError, match="can't be read"):
        read_private(path)
    path.touch(0o600)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="no text"):
        read_private(path)


def test_a_secret_is_a_file_or_a_credential_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials/x.service")
    given = {"proxy_credentials": "capture-agent.proxy", "client_key": "/etc/key.pem"}
    options = read_options(NetworkOptions, given, "store.options")
    assert options.proxy_credentials == Path("/run/credentials/x.service/capture-agent.proxy")
    assert options.client_key == Path("/etc/key.pem")
    assert read_options(NetworkOptions, {"proxy_credentials": ""}, "store.options").proxy_credentials is None


@pytest.mark.parametrize("value", ["capture-agent.other", "key.pem", "../key.pem", "/etc/../key", 3, ["/etc/key"]])
def test_another_name_is_no_credential(value: object) -> None:
    """A secret that the unit doesn't load would be looked for in vain."""
    with pytest.raises(ConfigError, match=r"capture-agent\.store or capture-agent\.proxy"):
        read_options(NetworkOptions, {"client_key": value}, "store.options")
