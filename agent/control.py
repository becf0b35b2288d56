"""The control socket of the running daemon: dock a path by hand, resume a stuck recording; for root and its group."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, UnixConnector, web

from agent.errors import AgentError, ConfigError, DeviceError, EvidenceError, JournalError, StoreError, UnknownError

SOCKET_NAME: Final = "control.sock"
_BODY_LIMIT_BYTES: Final = 16 * 1024
_ANSWER_LIMIT_S: Final = 30
_KINDS: Final[Mapping[str, type[AgentError]]] = {
    kind.__name__: kind for kind in (ConfigError, DeviceError, EvidenceError, JournalError, StoreError, UnknownError)
}

Verb = Callable[[dict[str, str]], Awaitable[dict[str, object]]]


class NotRunningError(Exception):
    """No daemon listens on the control socket."""


@contextlib.asynccontextmanager
async def serving(root: Path, verbs: dict[str, Verb]) -> AsyncIterator[None]:
    """Answer `POST /<verb>` with a JSON object of texts; errors tell "error", "kind", "safe" and "do"."""

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
            told = {"error": error.what, "kind": type(error).__name__, "safe": error.safe, "do": error.do}
            return web.json_response(told, status=409)

    app = web.Application(client_max_size=_BODY_LIMIT_BYTES)
    app.router.add_post("/{verb}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        before = os.umask(0o117)
        try:
            with _address(root) as address:
                await web.UnixSite(runner, address).start()
        finally:
            os.umask(before)
        yield
    finally:
        await runner.cleanup()


async def ask(root: Path, verb: str, body: dict[str, str]) -> dict[str, object]:
    """Send one verb to the daemon; raises NotRunningError, or the daemon's own error."""
    try:
        with _address(root) as address:
            async with (
                ClientSession(connector=UnixConnector(address), timeout=ClientTimeout(_ANSWER_LIMIT_S)) as session,
                session.post(f"http://localhost/{verb}", json=body) as response,
            ):
                answer = await response.json()
    except (ClientError, OSError) as error:
        raise NotRunningError(str(error)) from error
    if response.status != 200:
        kind = _KINDS.get(str(answer.get("kind")), AgentError)
        told = str(answer.get("error", "The service refused."))
        raise kind(told, safe=str(answer.get("safe", "")), do=str(answer.get("do", "")))
    return dict(answer)


@contextlib.contextmanager
def _address(root: Path) -> Iterator[str]:
    """A path of the socket that fits into the 108 bytes of its address, however deep the folder lies."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)
