"""The control socket of the running daemon: dock a path by hand, resume a stuck recording; for root and its group."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web

from agent.errors import AgentError

SOCKET_NAME: Final = "control.sock"
_BODY_LIMIT_BYTES: Final = 16 * 1024
_ANSWER_LIMIT_S: Final = 30

Verb = Callable[[dict[str, str]], Awaitable[dict[str, object]]]


class NotRunningError(Exception):
    """No daemon listens on the control socket."""


@contextlib.asynccontextmanager
async def serving(root: Path, verbs: dict[str, Verb]) -> AsyncIterator[None]:
    """Answer `POST /<verb>` with a JSON object of texts; errors are told as {"error": text}."""

    async def handle(request: web.Request) -> web.Response:
        verb = verbs.get(request.match_info["verb"])
        if verb is None:
            return web.json_response({"error": "no such verb"}, status=404)
        try:
            body = json.loads(await request.read())
            if not isinstance(body, dict) or not all(isinstance(value, str) for value in body.values()):
                raise ValueError("the body must be an object of texts")
            return web.json_response(await verb(body))
        except (ValueError, KeyError) as error:
            return web.json_response({"error": f"bad request: {error}"}, status=400)
        except AgentError as error:
            return web.json_response({"error": str(error)}, status=409)

    app = web.Application(client_max_size=_BODY_LIMIT_BYTES)
    app.router.add_post("/{verb}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        before = os.umask(0o117)
        try:
            await web.UnixSite(runner, str(root / SOCKET_NAME)).start()
        finally:
            os.umask(before)
        yield
    finally:
        await runner.cleanup()


async def ask(root: Path, verb: str, body: dict[str, str]) -> dict[str, object]:
    """Send one verb to the daemon; raises NotRunningError, or AgentError with the daemon's own words."""
    path = root / SOCKET_NAME
    try:
        async with (
            ClientSession(connector=UnixConnector(str(path)), timeout=ClientTimeout(_ANSWER_LIMIT_S)) as session,
            session.post(f"http://localhost/{verb}", json=body) as response,
        ):
            answer = await response.json()
    except (ClientError, FileNotFoundError, TimeoutError) as error:
        raise NotRunningError(str(error)) from error
    if response.status != 200:
        raise AgentError(str(answer.get("error", "the service refused")))
    return dict(answer)
