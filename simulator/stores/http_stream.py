"""Reads HTTP/1.1 messages off a connection without changing a byte, for a proxy that must know where each one ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

LIMIT_BYTES: Final = 1 << 18
_CHUNK_BYTES: Final = 1 << 16


@dataclass(slots=True)
class Head:
    """First line and headers of a message; names of headers in lower case, as `headers` has the last of each name."""

    raw: bytes
    first: list[str]
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def length(self) -> int | None:
        """Bytes of the body; None if that shows only as it comes."""
        if "chunked" in self.headers.get("transfer-encoding", ""):
            return None
        length = self.headers.get("content-length")
        return None if length is None else int(length)

    @property
    def status(self) -> int:
        """Status of a reply."""
        return int(self.first[1])


@dataclass(slots=True)
class Answer:
    """A whole reply."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    def encode(self, method: str) -> bytes:
        """Return the bytes that answer a request of this method; the length is that of the body."""
        reason = HTTPStatus(self.status).phrase if self.status in set(HTTPStatus) else "Unknown"
        headers = {name.lower(): value for name, value in self.headers.items()}
        headers.pop("transfer-encoding", None)
        if method != "HEAD" or "content-length" not in headers:
            headers["content-length"] = str(len(self.body))
        lines = [f"HTTP/1.1 {self.status} {reason}", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1") + (b"" if method == "HEAD" else self.body)


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read up to the empty line; None if the other side closed between two messages."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *rest = raw.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in rest if line)
    return Head(raw, first.split(" ", 2), {name.lower(): value.strip() for name, _, value in fields})


async def body_of_request(reader: asyncio.StreamReader, head: Head) -> AsyncIterator[bytes]:
    """Yield the body of a request as it is on the wire."""
    if head.length is None and "transfer-encoding" in head.headers:
        async for piece in _chunked(reader):
            yield piece
        return
    async for piece in _counted(reader, head.length or 0):
        yield piece


async def body_of_reply(reader: asyncio.StreamReader, head: Head, method: str) -> AsyncIterator[bytes]:
    """Yield the body of the reply to a request of this method as it is on the wire."""
    if method == "HEAD" or head.status in {204, 304}:
        return
    if head.length is not None:
        pieces = _counted(reader, head.length)
    elif "transfer-encoding" in head.headers:
        pieces = _chunked(reader)
    else:
        pieces = _to_the_end(reader)
    async for piece in pieces:
        yield piece


def unchunked(wire: bytes) -> bytes:
    """Return what a body in chunks holds."""
    body = b""
    while wire:
        size, _, rest = wire.partition(b"\r\n")
        count = int(size.split(b";")[0], 16)
        if not count:
            break
        body, wire = body + rest[:count], rest[count + 2 :]
    return body


async def _counted(reader: asyncio.StreamReader, count: int) -> AsyncIterator[bytes]:
    while count:
        piece = await reader.read(min(count, _CHUNK_BYTES))
        if not piece:
            raise ConnectionResetError("closed inside of a body")
        count -= len(piece)
        yield piece


async def _chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        line = await reader.readuntil(b"\r\n")
        yield line
        size = int(line.split(b";")[0], 16)
        async for piece in _counted(reader, size):
            yield piece
        if not size:
            while line != b"\r\n":
                line = await reader.readuntil(b"\r\n")
                yield line
            return
        yield await reader.readexactly(2)


async def _to_the_end(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(_CHUNK_BYTES):
        yield piece
