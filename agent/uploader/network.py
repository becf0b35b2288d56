"""What stores beyond the network share: TLS and proxy, one attempt that can't hang, and how fast."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import aiohttp
from yarl import URL

from agent import __version__, durable
from agent.config.options import folder_or_off, integer, number, secret, text
from agent.errors import EvidenceError, StoreError
from agent.uploader.base import SAFE, misconfigured

REPLY_LIMIT_BYTES: Final = 1 << 20
"""Longer answers than this are refused; the longest true one lists 1,000 parts and takes a third of it."""

_SECRET_LIMIT_BYTES: Final = 1 << 16
_CONNECT_LIMIT_S: Final = 30.0
_BURST_S: Final = 0.2
_SINK_BYTES: Final = 1 << 20
_SLICE_BYTES: Final = 1 << 18

Body = Callable[[], AsyncIterator[bytes]]
"""Makes the bytes of a request anew for each attempt; a stream would be at its end when it is needed again."""

Sink = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """Options of every store beyond the network; without `ca_file` the system's authorities are trusted.

    `proxy` is http://host:port or https://host:port; its user and password are one line `user:password` in the
    file `proxy_credentials`. `rate_limit_bytes_s` 0 means none.
    """

    ca_file: Path | None = folder_or_off()
    client_certificate: Path | None = folder_or_off()
    client_key: Path | None = secret()
    proxy: str = text("", 1024)
    proxy_credentials: Path | None = secret()
    rate_limit_bytes_s: int = integer(0, 0, 1 << 40, "bytes/s")
    stall_limit_s: float = number(60, 1, 3600, "s")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole reply; `body` is empty if the bytes went into a sink."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def number(self, name: str) -> int:
        """The number in a header; -1 if there is none."""
        return as_number(self.headers.get(name, ""))

    def date(self) -> datetime | None:
        """The peer's clock, if it tells."""
        try:
            there = parsedate_to_datetime(self.headers.get("Date", ""))
        except ValueError:
            return None
        return there if there.tzinfo else None


class CutError(StoreError):
    """The connection failed or stalled: whether the request was carried out is unknown, and another may succeed."""


class Pace:
    """A limit in bytes per second for all who share it; 0 is none."""

    def __init__(self, bytes_s: int) -> None:
        self._bytes_s = bytes_s
        self._free_at_s = 0.0

    async def take(self, size_bytes: int) -> None:
        """Wait until `size_bytes` more may be sent."""
        if self._bytes_s:
            now_s = asyncio.get_running_loop().time()
            self._free_at_s = max(self._free_at_s, now_s - _BURST_S) + size_bytes / self._bytes_s
            await asyncio.sleep(max(0.0, self._free_at_s - now_s))


class Network:
    """The connections of one store. Raises ConfigError if certificates, keys or the proxy make no sense."""

    def __init__(self, options: NetworkOptions) -> None:
        self._stall_limit_s = options.stall_limit_s
        self._pace = Pace(options.rate_limit_bytes_s)
        self._tls = _tls(options)
        self._proxy, self._proxy_headers = _proxy(options)
        self._session: aiohttp.ClientSession | None = None

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | Body = b"",
        sink: Sink | None = None,
        patience_s: float = 0.0,
    ) -> Answer:
        """One request, tried once, and its whole reply. Redirects are answers like others.

        A `body` that is made needs its Content-Length among the headers; what it raises is raised here. `sink` takes
        the bytes of a reply 200 or 206, of any length. Raises CutError if the connection fails, or if for
        `stall_limit_s` no byte moved in either direction; StoreError if it can't be trusted. An answer that takes
        work may come `patience_s` later than that.
        """
        self._session = self._session or self._new_session()
        failed: list[Exception] = []
        try:
            async with asyncio.timeout(self._stall_limit_s + patience_s) as guard:
                data = body if isinstance(body, bytes) else self._made(body, guard, failed, patience_s)
                async with self._session.request(
                    method,
                    URL(url, encoded=True),
                    # A proxy sees the headers of plain requests, but only its own of those that go through a tunnel.
                    headers={**headers, **self._proxy_headers} if url.startswith("http:") else headers,
                    proxy_headers=self._proxy_headers,
                    data=data or None,
                    allow_redirects=False,
                    skip_auto_headers=("Content-Type",),
                ) as response:
                    _acknowledge(response)
                    received = await self._received(response, guard, sink)
                    return Answer(response.status, response.headers, received)
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is an OSError
            limit_s = self._stall_limit_s + patience_s
            raise failed[0] if failed else _trouble(error, URL(url).host or url, limit_s) from error

    async def close(self) -> None:
        """Close all connections; idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._tls, limit=64),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_LIMIT_S),
            headers={"User-Agent": f"capture-agent/{__version__}", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            proxy=self._proxy,
        )

    async def _made(
        self, body: Body, guard: asyncio.Timeout, failed: list[Exception], patience_s: float
    ) -> AsyncIterator[bytes]:
        try:
            guard.reschedule(None)
            async for piece in body():
                await self._pace.take(len(piece))
                self._wait(guard)
                yield piece
                guard.reschedule(None)
        except (StoreError, OSError, EvidenceError) as error:
            failed.append(error)  # the HTTP library would tell of a connection that broke
            raise
        self._wait(guard, patience_s)

    async def _received(self, response: aiohttp.ClientResponse, guard: asyncio.Timeout, sink: Sink | None) -> bytes:
        sink = sink if response.status in {200, 206} else None
        received = bytearray()
        async for piece in response.content.iter_any():
            self._wait(guard)
            received += piece
            if sink is not None and len(received) >= _SINK_BYTES:
                guard.reschedule(None)
                await sink(bytes(received))
                received.clear()
                self._wait(guard)
            elif len(received) > REPLY_LIMIT_BYTES:
                raise _refused(f"{response.url.host} answers with more than {REPLY_LIMIT_BYTES} bytes.")
        if sink is None:
            return bytes(received)
        await sink(bytes(received))
        return b""

    def _wait(self, guard: asyncio.Timeout, patience_s: float = 0.0) -> None:
        """The guard only runs while the peer is waited for, never during our own pauses."""
        guard.reschedule(asyncio.get_running_loop().time() + self._stall_limit_s + patience_s)


def _acknowledge(response: aiohttp.ClientResponse) -> None:
    """Acknowledge the head of a reply at once: a server that sends its body apart (as Ceph does) may wait for that, and
    Linux would let it wait for 40 ms, several times for each original.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:  # else the whole reply has come
        peer = connection.transport.get_extra_info("socket")
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def as_number(value: str) -> int:
    """A number of bytes or parts as a peer writes it; -1 if it is none."""
    return int(value) if value.isascii() and value.isdecimal() and len(value) < 19 else -1


def sliced(content: bytes) -> Body:
    """A body of bytes that are in memory."""

    async def made() -> AsyncIterator[bytes]:
        for at in range(0, len(content), _SLICE_BYTES):
            yield content[at : at + _SLICE_BYTES]

    return made


def pause_s(attempt: int, longest_s: float = 20.0) -> float:
    """How long to wait after failed attempt number `attempt` (from 0): exponential, at random up to its full length."""
    return random.uniform(0, min(longest_s, 0.25 * 2.0**attempt))  # noqa: S311 - spreads load, guards nothing


def read_private(path: Path) -> str:
    """The text of a file with a secret; raises ConfigError if it can't be read, or if others may read it."""
    try:
        with durable.opened(path, os.O_RDONLY) as fd:
            if stat.S_IMODE(os.fstat(fd).st_mode) & stat.S_IRWXO:
                what = f"{path} holds a secret, and everybody on this station may read it"
                raise misconfigured(what, f"chmod o= {path}")
            content = os.read(fd, _SECRET_LIMIT_BYTES)
        return content.decode()
    except OSError as error:
        raise misconfigured(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise misconfigured(f"{path} is no text") from error


def _tls(options: NetworkOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca_file)
    except OSError as error:
        raise misconfigured(f"store.options.ca_file: {options.ca_file}: {_reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if options.client_certificate is not None:
        if options.client_key is not None:
            read_private(options.client_key)
        try:
            # An encrypted key would make OpenSSL ask on the terminal.
            context.load_cert_chain(options.client_certificate, options.client_key, password=lambda: "")
        except OSError as error:
            what = f"{options.client_certificate} with client_key {options.client_key}: {_reason(error)}"
            raise misconfigured(f"store.options.client_certificate: {what}") from error
    elif options.client_key is not None:
        raise misconfigured("store.options.client_key: needs client_certificate too")
    return context


def http_url(value: str) -> URL | None:
    """An address that begins with http:// or https:// and names a host; None if it doesn't."""
    try:
        url = URL(value)
    except (ValueError, IndexError):  # yarl raises both
        return None
    return url if url.scheme in {"http", "https"} and url.host else None


def _proxy(options: NetworkOptions) -> tuple[URL | None, Mapping[str, str]]:
    if not options.proxy:
        return None, {}
    url = http_url(options.proxy)
    if url is None:
        raise misconfigured("store.options.proxy: must be http://host:port or https://host:port")
    if url.user or url.password:  # a secret in the configuration would be shown by errors and by backups of /etc
        raise misconfigured("store.options.proxy: its user and password belong into store.options.proxy_credentials")
    if options.proxy_credentials is None:
        return url, {}
    user, colon, password = read_private(options.proxy_credentials).strip().partition(":")
    if not colon:
        what = f"store.options.proxy_credentials: {options.proxy_credentials} must hold one line user:password"
        raise misconfigured(what)
    return url, {"Proxy-Authorization": aiohttp.encode_basic_auth(user, password)}


def _trouble(error: Exception, host: str, stall_limit_s: float) -> StoreError:
    """The words for a connection that failed."""
    do = "Check that the store is running, and the network."
    match error:
        case aiohttp.ClientConnectorDNSError():
            what, do = f"The name {host} is not known to the network", "Check the address and DNS."
        case aiohttp.ClientConnectorCertificateError():
            what = f"The certificate of {host} is not trusted: {_reason(error.certificate_error)}."
            return _refused(what, "Check ca_file, the station's clock, and the certificate of the store.")
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            what, do = f"The proxy before {host} refuses: {_reason(error)}", "Check the proxy."
        case aiohttp.ClientSSLError() | ssl.SSLError():
            what = f"No secure connection to {host}: {_reason(error)}"
            do = "Check the TLS settings of the store, and our client certificate."
        case aiohttp.ClientResponseError():
            what, do = f"{host} does not answer in HTTP: {_reason(error)}", "Check the address."
        case aiohttp.ClientConnectorError() if error.errno:
            what = f"No connection to {host}: {os.strerror(error.errno)}"
        case TimeoutError():
            what, do = f"{host} took or gave no byte for {stall_limit_s:g} s", "Check the network and the store."
        case _:
            what = f"The connection to {host} failed: {_reason(error)}"
    return CutError(f"{what}.", safe=SAFE, do=do)


def _reason(error: BaseException) -> str:
    """What a library's error says, on one line and without its own habits."""
    text = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or getattr(error, "message", "")
    return " ".join((str(text) or str(error) or type(error).__name__).split())[:200].rstrip(".")


def _refused(what: str, do: str = "Check that the address is that of the store.") -> StoreError:
    return StoreError(what, safe=SAFE, do=do)
