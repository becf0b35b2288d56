"""Serves the status: JSON, server-sent events and one page; read-only, bounded, nothing from outside."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from importlib import resources
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from agent import __version__
from agent.errors import AgentError, RequestError, UnknownError
from agent.model import AssetState
from agent.screens.pages import routes as shared_routes
from agent.screens.stream import LIMIT_S, Stream
from agent.status.board import Board
from agent.status.client import StatusUnavailable

_ANSWER_LIMIT_S: Final = 5.0
_FOLLOWERS: Final = 16
_LINE_LIMIT_BYTES: Final = 2048
_PAGE_LIMIT: Final = 100
_CURSOR_LIMIT: Final = 200
_LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_HEADERS: Final[Mapping[str, str]] = {
    "Server": "capture-agent",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=()",
}
_NOTHING: Final = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


Refused = Callable[[str, str], None]
"""Hears of a request that was refused: where, and why."""


def _unheard(_what: str, _why: str) -> None:
    """Nobody listens."""


@contextlib.asynccontextmanager
async def serving(
    board: Board,
    host: str,
    port: int,
    *,
    any_host: bool = False,
    bound: socket.socket | None = None,
    refused: Refused = _unheard,
) -> AsyncIterator[int]:
    """Serve until the block ends, close the board, yield the port; raises StatusUnavailable if the address
    can't be had. `bound` is a socket that has it already.

    `any_host` accepts every Host header, for use behind a proxy; else only this machine's own names are answered,
    so that no web page elsewhere can read the status through somebody's browser.
    """
    runner = web.AppRunner(
        status_app(board, () if any_host else (*_LOOPBACK_NAMES, host), refused),
        access_log=None,
        keepalive_timeout=30,
        shutdown_timeout=2,
        max_line_size=_LINE_LIMIT_BYTES,
        max_field_size=_LINE_LIMIT_BYTES,
    )
    await runner.setup()
    try:
        site = web.SockSite(runner, bound, backlog=32) if bound else web.TCPSite(runner, host, port, backlog=32)
        try:
            await site.start()
        except OSError as error:
            raise StatusUnavailable(
                f"The status page can't listen at {host} port {port}: {error.strerror}.",
                safe="No recording was touched.",
                do="Change [status] in the configuration, or stop what listens there.",
            ) from error
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
        board.close()


def status_app(board: Board, hosts: tuple[str, ...] = _LOOPBACK_NAMES, refused: Refused = _unheard) -> web.Application:
    """The routes, all GET; `hosts` are the names that are answered, none for all. `refused` hears of others."""
    app = web.Application(middlewares=[_guard(hosts, refused), _errors], client_max_size=1)
    pages = _Pages(board)
    app.router.add_get("/", pages.page)
    app.router.add_get("/healthz", pages.health)
    app.router.add_get("/api/v1/status", pages.status)
    app.router.add_get("/api/v1/recordings", pages.recordings)
    app.router.add_get("/api/v1/deadline/{recording}", pages.deadline)
    app.router.add_get("/api/v1/metadata/{recording}", pages.metadata)
    app.router.add_get("/api/v1/events", pages.events)
    app.router.add_get("/receipt/{docking}", pages.receipt)
    app.router.add_routes(shared_routes())
    app.on_response_prepare.append(_add_headers)
    app.on_shutdown.append(pages.close)
    return app


class _Pages:
    """The handlers; each returns bytes that were made once for everybody."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._closing = asyncio.Event()
        self._followers = 0
        self._page, self._policy = _page()

    async def close(self, _: web.Application) -> None:
        """End the streams; browsers come back by themselves."""
        self._closing.set()

    async def page(self, _: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": self._policy}
        return web.Response(body=self._page, content_type="text/html", charset="utf-8", headers=headers)

    async def health(self, _: web.Request) -> web.Response:
        state = await self._board.health()
        return _json(json.dumps({"status": state, "version": __version__}).encode())

    async def status(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        return _json(await self._board.status())

    async def recordings(self, request: web.Request) -> web.Response:
        asked = _parameters(request, ("state", "after", "limit"))
        limit = _whole(asked.get("limit", "50"), "limit", 1, _PAGE_LIMIT)
        after = asked.get("after", "")
        if len(after) > _CURSOR_LIMIT or not after.isprintable():
            raise web.HTTPBadRequest(text="after must be the next_after of the page before")
        return _json(await self._board.recordings(_state(asked.get("state")), after, limit))

    async def deadline(self, request: web.Request) -> web.Response:
        return await _of_recording(request, self._board.deadline)

    async def metadata(self, request: web.Request) -> web.Response:
        return await _of_recording(request, self._board.metadata)

    async def receipt(self, request: web.Request) -> web.Response:
        _parameters(request, ())
        try:
            paper = await self._board.receipt(request.match_info["docking"][:_CURSOR_LIMIT])
        except (UnknownError, RequestError) as error:
            raise web.HTTPNotFound(text=str(error)) from error
        headers = {"Content-Security-Policy": f"{_NOTHING}; style-src 'unsafe-inline'"}  # all else in it is escaped
        return web.Response(body=paper, content_type="text/html", charset="utf-8", headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        _parameters(request, ())
        last = request.headers.get("Last-Event-ID", "")
        after = _whole(last, "Last-Event-ID", 0, 1 << 62) if last else None
        if self._followers >= _FOLLOWERS:
            raise web.HTTPServiceUnavailable(text=f"more than {_FOLLOWERS} clients follow the events")
        self._followers += 1
        try:
            return await self._follow(request, await Stream.open(self._board, after, self._closing))
        finally:
            self._followers -= 1

    async def _follow(self, request: web.Request, stream: Stream) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        # A client that doesn't read is let go, and everybody if the journal fails. Who comes back with Last-Event-ID
        # has missed nothing, or is told at once what is wrong.
        with contextlib.suppress(ConnectionResetError, TimeoutError, AgentError):
            async for frame in stream.frames():
                if request.transport is None or request.transport.is_closing():
                    break
                async with asyncio.timeout(LIMIT_S):
                    if frame:
                        await response.write(frame)
        return response


async def _of_recording(request: web.Request, ask: Callable[[str], Awaitable[bytes]]) -> web.Response:
    _parameters(request, ())
    try:
        return _json(await ask(request.match_info["recording"][:_CURSOR_LIMIT]))
    except UnknownError as error:
        raise web.HTTPNotFound(text=str(error)) from error


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as JSON, in words, never with a traceback."""
    try:
        if request.path == "/api/v1/events":
            return await handler(request)
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            return await handler(request)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _error(error.status, error.text or error.reason, headers)
    except TimeoutError:
        return _error(503, f"no answer within {_ANSWER_LIMIT_S:g} s; the disk may be busy, try again")
    except AgentError as error:
        return _error(503, str(error))


def _guard(hosts: tuple[str, ...], refused: Refused) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if hosts and re.sub(r":\d*$", "", request.headers.get("Host", "")).lower() not in hosts:
            refused("status page", "another name")
            return _error(421, "this name is not answered here")
        if request.method in ("GET", "HEAD") and request.can_read_body:
            refused("status page", "a body")
            return _error(413, "a request has no body here", {"Connection": "close"})
        return await handler(request)

    return guard


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("Content-Security-Policy", _NOTHING)


def _json(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8")


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = json.dumps({"error": {"status": status, "message": message}}, ensure_ascii=False).encode()
    return web.Response(status=status, body=body, content_type="application/json", charset="utf-8", headers=headers)


def _parameters(request: web.Request, known: tuple[str, ...]) -> dict[str, str]:
    asked: dict[str, str] = {}
    for name, value in request.query.items():
        if name not in known:
            there = f"known are {', '.join(known)}" if known else "there are none here"
            raise web.HTTPBadRequest(text=f"unknown parameter {name[:40]!r}; {there}")
        if name in asked:
            raise web.HTTPBadRequest(text=f"parameter {name!r} is given twice")
        asked[name] = value
    return asked


def _whole(text: str, name: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or not low <= int(text) <= high:
        raise web.HTTPBadRequest(text=f"{name} must be a whole number from {low} to {high}")
    return int(text)


def _state(text: str | None) -> AssetState | None:
    known = [state.value for state in AssetState]
    if text is not None and text not in known:
        raise web.HTTPBadRequest(text=f"state must be one of {', '.join(known)}")
    return AssetState(text) if text is not None else None


def _page() -> tuple[bytes, str]:
    """The page and its policy: only its own style and script may run, by their fingerprints (CSP level 3, 6.6)."""
    page = resources.files("agent.status").joinpath("page.html").read_text("utf-8")
    allowed = {}
    for tag in ("style", "script"):
        found = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert found is not None, f"page.html has no <{tag}>"
        digest = base64.b64encode(hashlib.sha256(found[1].encode()).digest()).decode()
        allowed[tag] = f"'sha256-{digest}'"
    policy = f"{_NOTHING}; connect-src 'self'; style-src {allowed['style']}; script-src {allowed['script']}"
    return page.encode(), policy
