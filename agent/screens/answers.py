"""The form of every answer and question of the API: JSON with a tag, errors in words, parameters that are known."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Collection, Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Final, TypeVar

from aiohttp import web

TEXT_LIMIT: Final = 200
"""How long a text in an address may be, in characters."""

TEXT: Final = r"[^\x00-\x1f\x7f]*"
"""What it may be made of."""

_AT_ONCE: Final = struct.pack("ii", 1, 0)
E = TypeVar("E", bound=StrEnum)


@contextlib.asynccontextmanager
async def taken_within(request: web.BaseRequest, limit_s: float) -> AsyncIterator[None]:
    """Send an answer; who takes it more slowly is let go with what is left of it, by a ConnectionResetError."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as slow:
        if (transport := request.transport) is not None:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            transport.abort()  # at once: else the kernel would go on sending what it has
        raise ConnectionResetError("the answer was not taken in time") from slow


@lru_cache(maxsize=8)
def tag_of(body: bytes) -> str:
    """The entity tag of a body (RFC 9110 §8.8.3): the same for the same bytes."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def answer(request: web.Request, body: bytes, tag: str = "") -> web.Response:
    """JSON, or 304 to who has these bytes already; `tag` is that of the body, if it is known."""
    tag = tag or tag_of(body)
    if any(known.value in (tag, "*") for known in request.if_none_match or ()):
        response = web.Response(status=304)
    else:
        response = web.Response(body=body, content_type="application/json", charset="utf-8")
    response.etag = tag
    return response


def error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """What was wrong, as JSON."""
    body = json.dumps({"error": {"status": status, "message": message}}, ensure_ascii=False).encode()
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8", headers=headers)


def parameters(request: web.Request, known: Collection[str] = ()) -> dict[str, str]:
    """What the address asks; raises HTTPBadRequest for what isn't known, given twice, or can't be a text."""
    asked: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            there = f"known are {', '.join(known)}" if known else "there are none here"
            raise web.HTTPBadRequest(text=f"unknown parameter {name[:40]!r}; {there}")
        if name in asked:
            raise web.HTTPBadRequest(text=f"parameter {name!r} is given twice")
        asked[name] = value
    return asked


def text(given: str, name: str, must: str, pattern: str = TEXT) -> str:
    """A text that matches; raises HTTPBadRequest."""
    if len(given) > TEXT_LIMIT or not re.fullmatch(pattern, given):
        raise web.HTTPBadRequest(text=f"{name} {must}")
    return given


def one_of(known: type[E], given: str, name: str) -> E:
    """One of the names there are; raises HTTPBadRequest."""
    try:
        return known(given)
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{name} must be one of {', '.join(known)}") from error


def whole(text: str, name: str, low: int, high: int) -> int:
    """A whole number within its limits; raises HTTPBadRequest."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise web.HTTPBadRequest(text=f"{name} must be a whole number from {low} to {high}")
    return int(text)
