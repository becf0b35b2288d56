"""What programs ask over HTTP: JSON and server-sent events about the station, its recordings and recorders."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from aiohttp import web

from agent import __version__
from agent.errors import AgentError, UnknownError
from agent.model import AssetState
from agent.screens.answers import TEXT_LIMIT, answer, parameters, whole
from agent.screens.stream import FOLLOWERS, LIMIT_S, Feed
from agent.screens.who import WHO, Role, allowed
from agent.status.board import Board

EVENTS: Final = "/api/v1/events"
"""Where an answer has no end."""

_PAGE_LIMIT: Final = 100
_EVERYBODY: Final = (Role.KIOSK, Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
_READERS: Final = (Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
_ONLY_SLOTS: Final = (Role.KIOSK, Role.OFFICER)


class Api:
    """The handlers; each returns bytes that were made once for everybody."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._feed = Feed(board)

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/healthz", self.health),
            web.get("/api/v1/status", self.status),
            web.get("/api/v1/recordings", self.recordings),
            web.get("/api/v1/deadline/{recording}", self.deadline),
            web.get("/api/v1/metadata/{recording}", self.metadata),
            web.get(EVENTS, self.events),
        ]

    async def close(self, _: web.Application) -> None:
        """End the streams."""
        self._feed.close()

    @allowed(Role.PUBLIC, *_EVERYBODY)
    async def health(self, request: web.Request) -> web.Response:
        """`ok` or `degraded`, and nothing that names anybody."""
        state = await self._board.health()
        return answer(request, json.dumps({"status": state, "version": __version__}).encode())

    @allowed(*_READERS)
    async def status(self, request: web.Request) -> web.Response:
        """The whole state of the station."""
        parameters(request)
        return answer(request, await self._board.status())

    @allowed(*_READERS)
    async def recordings(self, request: web.Request) -> web.Response:
        """A page of recordings."""
        asked = parameters(request, ("state", "after", "limit"))
        limit = whole(asked.get("limit", "50"), "limit", 1, _PAGE_LIMIT)
        after = asked.get("after", "")
        if len(after) > TEXT_LIMIT or not after.isprintable():
            raise web.HTTPBadRequest(text="after must be the next_after of the page before")
        return answer(request, await self._board.recordings(_state(asked.get("state")), after, limit))

    @allowed(*_READERS)
    async def deadline(self, request: web.Request) -> web.Response:
        """Why a recording must be stored when."""
        return await _of_recording(request, self._board.deadline)

    @allowed(*_READERS)
    async def metadata(self, request: web.Request) -> web.Response:
        """The record of a recording and its history."""
        return await _of_recording(request, self._board.metadata)

    @allowed(*_EVERYBODY)
    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events; who is not told of recordings gets the slots alone."""
        parameters(request)
        last = request.headers.get("Last-Event-ID", "")
        after = whole(last, "Last-Event-ID", 0, 1 << 62) if last else None
        if self._feed.is_full:
            raise web.HTTPServiceUnavailable(text=f"more than {FOLLOWERS} clients follow the events")
        only_slots = WHO in request and request[WHO].role in _ONLY_SLOTS
        async with contextlib.aclosing(self._feed.follow(after, only_slots=only_slots)) as frames:
            return await _stream(request, frames)


async def _stream(request: web.Request, frames: AsyncIterator[bytes]) -> web.StreamResponse:
    """Write frames until the client is gone or they end."""
    first = await anext(frames)
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    # A client that doesn't read is let go, and everybody if the journal fails. Who comes back with Last-Event-ID
    # has missed nothing, or is told at once what is wrong.
    with contextlib.suppress(ConnectionResetError, TimeoutError, AgentError):
        await response.write(first)
        async for frame in frames:
            if request.transport is None or request.transport.is_closing():
                break
            if frame:
                async with asyncio.timeout(LIMIT_S):
                    await response.write(frame)
    return response


async def _of_recording(request: web.Request, ask: Callable[[str], Awaitable[bytes]]) -> web.Response:
    parameters(request)
    try:
        return answer(request, await ask(request.match_info["recording"][:TEXT_LIMIT]))
    except UnknownError as error:
        raise web.HTTPNotFound(text=str(error)) from error


def _state(text: str | None) -> AssetState | None:
    known = [state.value for state in AssetState]
    if text is not None and text not in known:
        raise web.HTTPBadRequest(text=f"state must be one of {', '.join(known)}")
    return AssetState(text) if text is not None else None
