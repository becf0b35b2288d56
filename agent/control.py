"""The control socket of the running daemon: what a person asks, with a file if need be; for root and its group."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from aiohttp import (
    BodyPartReader,
    ClientError,
    ClientSession,
    ClientTimeout,
    JsonPayload,
    MultipartReader,
    MultipartWriter,
    Payload,
    UnixConnector,
    web,
)

from agent.errors import (
    AgentError,
    CommitError,
    ConfigError,
    DeviceError,
    EvidenceError,
    JournalError,
    RequestError,
    StoreError,
    UnknownError,
)
from agent.model import DOCUMENT_LIMIT_BYTES

SOCKET_NAME: Final = "control.sock"
SCREENS_NAME: Final = "screens.sock"
"""The screens without sign-in, for the command line: who may open this socket may give orders by the other one."""

_ASKED_LIMIT_BYTES: Final = 256 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_ANSWER_LIMIT_S: Final = 30
_KINDS: Final[Mapping[str, type[AgentError]]] = {
    kind.__name__: kind
    for kind in (
        CommitError,
        ConfigError,
        DeviceError,
        EvidenceError,
        JournalError,
        RequestError,
        StoreError,
        UnknownError,
    )
}

Asked = dict[str, str]
Verb = Callable[[Asked], Awaitable[dict[str, object]]]
FileVerb = Callable[[Asked, bytes], Awaitable[dict[str, object]]]
Refused = Callable[[str, str], None]
"""Hears of a request that was refused: which verb, and the kind of error."""


def _unheard(_what: str, _why: str) -> None:
    """Nobody listens."""


_NO_FILES: Final[Mapping[str, FileVerb]] = {}


class NotRunningError(Exception):
    """No daemon listens on the control socket."""


@contextlib.asynccontextmanager
async def serving(
    root: Path,
    verbs: Mapping[str, Verb],
    file_verbs: Mapping[str, FileVerb] = _NO_FILES,
    refused: Refused = _unheard,
) -> AsyncIterator[None]:
    """Answer `POST /<verb>` with a JSON object of texts; errors tell "error", "kind", "safe" and "do".

    `refused` hears of these.
    A verb that takes a file gets multipart/form-data: the object as `asked`, then the bytes as `file`, at most 16 MiB.
    """

    async def handle(request: web.Request) -> web.Response:
        name = request.match_info["verb"]
        try:
            if name in file_verbs:
                return web.json_response(await file_verbs[name](*await _with_file(request)))
            if name in verbs:
                return web.json_response(await verbs[name](_texts(await request.read())))
            refused("control socket", "no such verb")
            return web.json_response({"error": "no such verb"}, status=404)
        except (ValueError, KeyError, web.HTTPRequestEntityTooLarge) as error:
            refused(name, type(error).__name__)
            return web.json_response({"error": f"bad request: {error}"}, status=400)
        except AgentError as error:
            refused(name, type(error).__name__)
            told = {"error": error.what, "kind": type(error).__name__, "safe": error.safe, "do": error.do}
            return web.json_response(told, status=409)

    app = web.Application(client_max_size=_ASKED_LIMIT_BYTES)
    app.router.add_post("/{verb}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await listen(runner, root, SOCKET_NAME)
        yield
    finally:
        await runner.cleanup()


async def listen(runner: web.AppRunner, root: Path, name: str) -> None:
    """Serve at a socket of this name below `root` too, which root and the service's group may open."""
    before = os.umask(0o117)
    try:
        with address_below(root, name) as address:
            await web.UnixSite(runner, address).start()
    finally:
        os.umask(before)


def _texts(body: bytes) -> Asked:
    asked = json.loads(body)
    if not isinstance(asked, dict) or not all(isinstance(value, str) for value in asked.values()):
        raise ValueError("the body must be an object of texts")
    return asked


async def _with_file(request: web.Request) -> tuple[Asked, bytes]:
    """The two parts, in their order, read as they come and never beyond their limits."""
    if not request.content_type.startswith("multipart/"):
        raise ValueError("a file is needed")
    parts = await request.multipart()
    asked = await _part(parts, "asked", _ASKED_LIMIT_BYTES)
    if len(asked) > _ASKED_LIMIT_BYTES:
        raise ValueError("too much is asked at once")
    return _texts(asked), _checked(await _part(parts, "file", DOCUMENT_LIMIT_BYTES))


async def _part(parts: MultipartReader, name: str, limit_bytes: int) -> bytes:
    """The next part, or as much of it as shows that it is too large."""
    part = await parts.next()
    if not isinstance(part, BodyPartReader) or part.name != name:
        raise ValueError(f"the part {name!r} is missing")
    content = bytearray()
    while len(content) <= limit_bytes and (chunk := await part.read_chunk(_CHUNK_BYTES)):
        content += chunk
    return bytes(content)


def read_file(path: Path) -> bytes:
    """The bytes of a file that a person names, read by the person's own process; raises JournalError in words."""
    try:
        with path.open("rb") as file:
            content = file.read(DOCUMENT_LIMIT_BYTES + 1)
    except OSError as error:
        what = f"{path} can't be read: {error.strerror}."
        raise JournalError(what, safe="Nothing was changed.", do="Check the path and its rights.") from error
    return _checked(content)


def _checked(content: bytes) -> bytes:
    if len(content) > DOCUMENT_LIMIT_BYTES:
        limit = f"{DOCUMENT_LIMIT_BYTES // 1024 // 1024} MiB"
        raise JournalError(
            f"文件超过 {limit}，未附上 (the file is larger than {limit} and was not taken).",
            safe="Nothing was changed.",
            do="Attach a smaller file, or divide it.",
        )
    return content


async def ask(root: Path, verb: str, asked: Asked, content: bytes | None = None) -> dict[str, object]:
    """Send one verb to the daemon, with the bytes of a file if it takes one.

    Raises NotRunningError, or the daemon's own error.
    """
    try:
        with address_below(root, SOCKET_NAME) as address:
            async with (
                ClientSession(connector=UnixConnector(address), timeout=ClientTimeout(_ANSWER_LIMIT_S)) as session,
                session.post(f"http://localhost/{verb}", data=_body(asked, content)) as response,
            ):
                answer = await response.json()
    except (ClientError, OSError) as error:
        raise NotRunningError(str(error)) from error
    if response.status != 200:
        kind = _KINDS.get(str(answer.get("kind")), AgentError)
        told = str(answer.get("error", "The service refused."))
        raise kind(told, safe=str(answer.get("safe", "")), do=str(answer.get("do", "")))
    return dict(answer)


def _body(asked: Asked, content: bytes | None) -> Payload | MultipartWriter:
    if content is None:
        return JsonPayload(asked)
    parts = MultipartWriter("form-data")
    parts.append_json(asked).set_content_disposition("form-data", name="asked")
    parts.append(io.BytesIO(content)).set_content_disposition("form-data", name="file")
    return parts


@contextlib.contextmanager
def address_below(root: Path, name: str) -> Iterator[str]:
    """A path of a socket that fits into the 108 bytes of its address, however deep the folder lies."""
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)
