"""What programs ask over HTTP: JSON and server-sent events about the station, its recordings and recorders."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from agent import __version__
from agent.errors import AgentError, UnknownError
from agent.screens.answers import TEXT_LIMIT, answer, parameters, taken_within, text, whole
from agent.screens.filters import FILTERS, PAGE_LIMIT, wanted_of
from agent.screens.guard import gate_of
from agent.screens.stream import FOLLOWERS, LIMIT_S, Feed
from agent.screens.who import WHO, Role, allowed
from agent.status.board import Board
from agent.status.dossier import dossier
from agent.status.views import to_json

EVENTS: Final = "/api/v1/events"
"""Where an answer has no end."""

_EVERYBODY: Final = (Role.KIOSK, Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
_READERS: Final = (Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
_STREAM: Final[Mapping[str, str]] = {"Content-Type": "text/event-stream; charset=utf-8"}
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
            web.get("/readyz", self.ready),
            web.get("/api/v1/status", self.status),
            web.get("/api/v1/recordings", self.recordings),
            web.get("/api/v1/recordings/{recording}", self.recording),
            web.get("/api/v1/devices", self.devices),
            web.get("/api/v1/deadline/{recording}", self.deadline),
            web.get("/api/v1/metadata/{recording}", self.metadata),
            web.get(EVENTS, self.events),
        ]

    async def close(self, _: web.Application) -> None:
        """End the streams."""
        self._feed.close()

    @allowed(Role.PUBLIC, *_EVERYBODY)
    async def health(self, request: web.Request) -> web.Response:
        """`ok`, `degraded` or `failed`, and nothing that names anybody."""
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
        asked = parameters(request, (*FILTERS, "after", "limit"))
        limit = whole(asked.get("limit", "50"), "limit", 1, PAGE_LIMIT)
        wanted, verdict = wanted_of(asked)
        after = text(asked.get("after", ""), "after", "must be the next_after of the page before")
        return answer(request, await self._board.recordings(wanted, verdict, after, limit))

    @allowed(Role.SUPERVISOR, Role.CUSTODIAN)
    async def recording(self, request: web.Request) -> web.Response:
        """All that is known of a recording: its row and record, its time limit day by day, copies, custody history.

        Persons are named in it.
        """
        return await _of_recording(request, self._known)

    @allowed(*_READERS)
    async def devices(self, request: web.Request) -> web.Response:
        """All recorders: where they are, what may still be on them, and which were ever docked."""
        parameters(request)
        return answer(request, await self._board.devices())

    @allowed(*_EVERYBODY)
    async def ready(self, request: web.Request) -> web.Response:
        """Whether the station does its work: 200 if it does, else 503 with the same body."""
        parameters(request)
        told = self._board.ready()
        response = answer(request, to_json(told))
        if not told["ready"]:
            response.set_status(503)
        return response

    @allowed(*_READERS)
    async def deadline(self, request: web.Request) -> web.Response:
        """Why a recording must be stored when."""
        return await _of_recording(request, self._board.deadline)

    @allowed(Role.SUPERVISOR, Role.CUSTODIAN)
    async def metadata(self, request: web.Request) -> web.Response:
        """The record of a recording and its history.

        Persons are named in it.
        """
        return await _of_recording(request, self._board.metadata)

    @allowed(*_EVERYBODY)
    async def events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events; who is not told of recordings gets the slots alone."""
        parameters(request)
        last = request.headers.get("Last-Event-ID", "")
        after = whole(last, "Last-Event-ID", 0, 1 << 62) if last else None
        if self._feed.is_full:
            raise web.HTTPServiceUnavailable(text=f"more than {FOLLOWERS} clients follow the events")
        if request.method == "HEAD":
            return web.Response(headers=_STREAM)
        only_slots = request[WHO].role in _ONLY_SLOTS
        async with contextlib.aclosing(self._feed.follow(after, only_slots=only_slots)) as frames:
            return await _stream(request, frames)

    async def _known(self, identifier: str) -> bytes:
        return await self._board.look(lambda reader, config, now: to_json(dossier(reader, config, identifier, now)))


async def _stream(request: web.Request, frames: AsyncIterator[bytes]) -> web.StreamResponse:
    """Write frames until the client is gone, they end, or he may no longer see them."""
    gate, first = gate_of(request), await anext(frames)
    response = web.StreamResponse(headers=_STREAM)
    await response.prepare(request)
    # Everybody is let go if the journal fails. Who comes back with Last-Event-ID has missed nothing, or is told at once
    # what is wrong.
    with contextlib.suppress(ConnectionResetError, AgentError):
        await response.write(first)
        async for frame in frames:
            if request.transport is None or request.transport.is_closing() or not gate.goes_on(request):
                break
            if frame:
                async with taken_within(request, LIMIT_S):
                    await response.write(frame)
    return response


async def _of_recording(request: web.Request, ask: Callable[[str], Awaitable[bytes]]) -> web.Response:
    parameters(request)
    try:
        return answer(request, await ask(request.match_info["recording"][:TEXT_LIMIT]))
    except UnknownError as error:
        raise web.HTTPNotFound(text=str(error)) from error
