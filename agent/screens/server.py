"""Serves the screens: pages, JSON, events and metrics behind one gate; bounded, nothing from outside."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from agent.control import SCREENS_NAME, listen
from agent.errors import AgentError, RequestError, UnknownError
from agent.screens.answers import TEXT_LIMIT, error, parameters, taken_within
from agent.screens.api import EVENTS, Api
from agent.screens.centre import Centre
from agent.screens.door import Door, listening
from agent.screens.films import Films
from agent.screens.guard import Gate
from agent.screens.kiosk import Kiosk, Verb
from agent.screens.login import Login
from agent.screens.metrics import routes as metrics_routes
from agent.screens.openapi import routes as openapi_routes
from agent.screens.pages import BOARD, page
from agent.screens.pages import routes as shared_routes
from agent.screens.player import Player
from agent.screens.rooms import Rooms
from agent.screens.supervisor import Supervisor
from agent.screens.who import Role, allowed
from agent.status.board import Board
from agent.status.client import StatusUnavailable
from agent.status.refusals import refusal

_ANSWER_LIMIT_S: Final = 5.0
_TAKEN_S: Final = 20.0
_LINE_LIMIT_BYTES: Final = 2048
_HEADERS_LIMIT: Final = 64
_FORM_LIMIT_BYTES: Final = 64 * 1024
_BACKLOG: Final = 32
_NO_VERBS: Final[Mapping[str, Verb]] = {}
_HEADERS: Final[Mapping[str, str]] = {
    "Server": "capture-agent",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=()",
}
_TOLD: Final = ("Allow", "WWW-Authenticate")
"""Headers of a refusal that are said with its words."""

_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


def _is_ours(told: logging.LogRecord) -> bool:
    """Whether it is our mistake: who sends what is no request must not fill the log, nor choose the words in it."""
    return not (told.exc_info and isinstance(told.exc_info[1], HttpProcessingError))


_log: Final = logging.getLogger("capture-agent.screens")
_log.addFilter(_is_ours)


@contextlib.asynccontextmanager
async def serving(
    board: Board,
    gate: Gate,
    host: str,
    port: int,
    *,
    tls: ssl.SSLContext | None = None,
    bound: socket.socket | None = None,
    root: Path | None = None,
    verbs: Mapping[str, Verb] = _NO_VERBS,
) -> AsyncIterator[int]:
    """Serve until the block ends, close the board, yield the port; raises StatusUnavailable if the address
    can't be had. `bound` is a socket that has it already; `root` is where the command line finds its socket,
    and `verbs` are what officers may ask of the station.
    """
    runner = web.AppRunner(
        status_app(board, gate, verbs),
        access_log=None,
        keepalive_timeout=30,
        shutdown_timeout=2,
        max_line_size=_LINE_LIMIT_BYTES,
        max_field_size=_LINE_LIMIT_BYTES,
        max_headers=_HEADERS_LIMIT,
        auto_decompress=False,
        logger=_log,
    )
    await runner.setup()
    try:
        try:
            door = Door(bound or listening(host, port))
            await web.SockSite(runner, door, backlog=_BACKLOG, ssl_context=tls).start()
        except OSError as error:
            raise StatusUnavailable(
                f"The status page can't listen at {host} port {port}: {error.strerror}.",
                safe="No recording was touched.",
                do="Change [status] in the configuration, or stop what listens there.",
            ) from error
        at = runner.addresses[0][1]
        if root is not None:
            await listen(runner, root, SCREENS_NAME)
        yield at
    finally:
        await runner.cleanup()
        board.close()


def status_app(board: Board, gate: Gate, verbs: Mapping[str, Verb] = _NO_VERBS) -> web.Application:
    """The routes, behind the gate."""

    @web.middleware
    async def admit(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await gate.admit(request, handler)

    app = web.Application(middlewares=[_sending, _errors, admit], client_max_size=_FORM_LIMIT_BYTES)
    pages, api, kiosk, player, login = _Pages(board), Api(board), Kiosk(board, verbs), Player(board), Login()
    rooms = Rooms(board, verbs)
    app.router.add_get("/receipt/{docking}", pages.receipt)
    centre = Centre()
    shown = (
        shared_routes(),
        login.routes(),
        centre.routes(),
        api.routes(),
        kiosk.routes(),
        metrics_routes(board),
        rooms.routes(),
    )
    for routes in shown:
        app.router.add_routes(routes)
    supervisor, films = Supervisor(board, player), Films(board, player)
    app.router.add_routes([*supervisor.routes(), *player.routes(), *films.routes()])
    app.router.add_routes(openapi_routes(app))
    app[BOARD] = board
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.extend([api.close, kiosk.close, rooms.close, supervisor.close, login.close])
    return app


class _Pages:
    """What a person reads."""

    def __init__(self, board: Board) -> None:
        self._board = board

    @allowed(Role.KIOSK, Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN, Role.IT, page=True)
    async def receipt(self, request: web.Request) -> web.Response:
        """The newest custody receipt of a docking, to be printed."""
        parameters(request)
        try:
            paper = await self._board.receipt(request.match_info["docking"][:TEXT_LIMIT])
        except (UnknownError, RequestError) as unknown:
            raise web.HTTPNotFound(text=unknown.what) from unknown
        headers = {"Content-Security-Policy": f"{_NOTHING}; style-src 'unsafe-inline'"}  # all else in it is escaped
        return web.Response(body=paper, content_type="text/html", charset="utf-8", headers=headers)


@web.middleware
async def _sending(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Send the answer in a bounded time; aiohttp would wait for ever, and keep the bytes, for who takes none."""
    response = await handler(request)
    if not isinstance(response, web.FileResponse):  # that bounds itself
        with contextlib.suppress(ConnectionError):
            async with taken_within(request, _TAKEN_S):
                await response.prepare(request)
                await response.write_eof()
    return response


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors in words, never with a traceback."""
    try:
        if request.path == EVENTS:
            return await handler(request)
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            return await handler(request)
    except web.HTTPException as refusal:
        headers = {name: refusal.headers[name] for name in _TOLD if name in refusal.headers}
        return _told(request, refusal.status, refusal.text or refusal.reason, headers)
    except TimeoutError:
        what = f"{_ANSWER_LIMIT_S:g} 秒内没有应答，磁盘可能繁忙"
        return _told(request, 503, f"{what} (no answer within {_ANSWER_LIMIT_S:g} s; the disk may be busy, try again)")
    except UnknownError as unknown:
        return _told(request, 404, str(unknown), what=unknown.what)
    except AgentError as failure:
        return _told(request, 503, str(failure), what=failure.what)


def _told(
    request: web.Request, status: int, message: str, headers: Mapping[str, str] | None = None, *, what: str = ""
) -> web.Response:
    """A page for who looks with a browser, on which commands (all but `what`) are nothing; JSON for everybody else."""
    if request.path.startswith("/api/") or "text/html" not in request.headers.get("Accept", ""):
        return error(status, message, headers)
    told = refusal(status, what or message, writes=request.method == "POST")
    form = re.match("/kiosk(/dockings/[^/]+)?", request.path)  # the docking that was filled in, to begin anew
    template = "kiosk_message.html" if form else "refused.html"
    response = page(request, template, status, **told, back=form[0] if form else "")
    response.headers.update(headers or {})
    return response


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Content-Security-Policy", _NOTHING)
