"""Has the newest checkpoint cosigned by neighbouring docks, over HTTP or by a request that goes on a stick."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout

from agent.config.neighbours import Neighbour
from agent.errors import RequestError
from agent.journal.views import CheckpointView
from agent.model import CheckpointCosigned, Incident
from agent.pipeline.station import Station
from agent.pipeline.witness import PATH
from agent.tlog.note import Note
from agent.tlog.texts import TEXT_LIMIT_BYTES, NoteError, number_of
from agent.tlog.witness import AddCheckpoint, with_answer

log: Final = logging.getLogger("capture-agent")

_ASK_AGAIN_S: Final = 60.0
_ANSWER_LIMIT_S: Final = 10.0


class CosignLane:
    """Asks every witness that has an address, after each checkpoint, until it has cosigned that one or a later one."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._done: dict[str, int] = {}

    async def step(self) -> None:
        """Ask who has not answered yet, then wait for the next checkpoint or for another try."""
        custody = self._station.custody
        signed = custody.signed
        view = await self._station.on_disk(self._station.journal.reader.newest_checkpoint)
        late = False
        for witness in custody.settings.witnesses:
            if view is not None and witness.url and self._done.get(witness.key.name, 0) < view.number:
                late |= not await self._asked(witness, view)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_ASK_AGAIN_S if late else None):
                await signed.wait()

    async def _asked(self, witness: Neighbour, view: CheckpointView) -> bool:
        """Whether this witness has cosigned it now."""
        try:
            await _over_http(self._station, witness, view)
        except (ClientError, TimeoutError, OSError, NoteError) as error:
            log.info("witness %s: %s", witness.key.name, error)
            return False
        except RequestError as error:
            await _objected(self._station, witness, view, error)
            return False
        self._done[witness.key.name] = view.number
        self._station.custody.troubles.pop(witness.key.name, None)
        return True


async def _over_http(station: Station, witness: Neighbour, view: CheckpointView) -> None:
    """Have it cosigned; a witness that has seen another size says so, and is asked once more.

    Raises RequestError if it objects, ClientError, TimeoutError or OSError if it is away, NoteError for a bad answer.
    """
    size = await _known_size(station, witness)
    async with ClientSession(timeout=ClientTimeout(_ANSWER_LIMIT_S)) as session:
        status, body = await _post(session, witness, await _request(station, view, size))
        if status == HTTPStatus.CONFLICT:
            if (size := number_of(body.decode("utf-8", "replace").strip())) > view.size:
                raise RequestError(f"It has seen {size} events of this log, which has {view.size}.")
            status, body = await _post(session, witness, await _request(station, view, size))
    if status != HTTPStatus.OK:
        raise RequestError(f"It answers {status}: {body[:200].decode('utf-8', 'replace').strip()}")
    await _take(station, witness, view, body)


async def _post(session: ClientSession, witness: Neighbour, request: bytes) -> tuple[int, bytes]:
    async with session.post(witness.url + PATH, data=request, allow_redirects=False) as response:
        body = bytearray()
        while len(body) <= TEXT_LIMIT_BYTES and (piece := await response.content.readany()):
            body += piece
        if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ClientError(f"it answers {response.status}")
        return response.status, bytes(body)


async def _request(station: Station, view: CheckpointView, size: int) -> bytes:
    path = await station.on_disk(station.journal.reader.consistency, size, view.size)
    return AddCheckpoint(size, tuple(path), Note.parse(view.signed.encode())).encode()


async def _take(station: Station, witness: Neighbour, view: CheckpointView, body: bytes) -> None:
    """Keep what a witness put under a checkpoint; raises NoteError if that is nothing of it."""
    note = Note.parse(view.note.encode())
    new = with_answer(note, body, [witness.verifier]).signatures[len(note.signatures) :]
    if new:
        await station.journal.record(CheckpointCosigned(view.number, "".join(map(str, new))))
    await station.journal.note(_subject(witness), {"size": str(view.size)})


async def _objected(station: Station, witness: Neighbour, view: CheckpointView, error: RequestError) -> None:
    """A witness that saw another log than this one: an incident, and a red line until it agrees."""
    troubles = station.custody.troubles
    if witness.key.name not in troubles:
        log.critical("witness %s objects to checkpoint %s: %s", witness.key.name, view.number, error.what)
        told = {"witness": witness.key.name, "number": view.number, "what": error.what}
        await station.journal.record(Incident("witness-objects", told))
    troubles[witness.key.name] = (
        f"见证站 {witness.key.name} 不认可第 {view.number} 号日志签名，日志可能被回退或伪造，请联系管理员"
        f" (a witness objects): {error.what}"
    )


# By a stick, for neighbours without a line between them.


async def witness_ask(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """What is to be carried to a witness: `witness`, and `old` if it said another size; raises RequestError."""
    witness = _configured(station, asked["witness"])
    view = await station.on_disk(station.journal.reader.newest_checkpoint)
    if view is None:
        raise RequestError("Nothing was signed yet.", do="Start the service once.")
    size = int(asked["old"]) if asked.get("old") else await _known_size(station, witness)
    request = await _request(station, view, size)
    await station.journal.note(_subject(witness), {"asked": str(view.number)})
    return {"request": request.decode(), "number": view.number}


async def witness_take(station: Station, asked: Mapping[str, str], content: bytes) -> dict[str, object]:
    """Take what came back from `witness`; raises RequestError, NoteError if it cosigns nothing that was asked."""
    witness = _configured(station, asked["witness"])
    notes = await station.on_disk(station.journal.reader.notes, _subject(witness))
    view = await station.on_disk(station.journal.reader.checkpoint, int(notes.get("asked", "0")))
    if view is None:
        raise RequestError("This witness was not asked for anything.", do="Begin with `capture-agent log ask`.")
    await _take(station, witness, view, content)
    return {"witness": witness.key.name, "number": view.number}


def _configured(station: Station, name: str) -> Neighbour:
    witnesses = station.custody.settings.witnesses
    found = next((one for one in witnesses if one.key.name == name), None)
    if found is None:
        known = ", ".join(one.key.name for one in witnesses) or "none"
        raise RequestError(f"No such witness; log.witnesses has {known}.", do="Correct agent.toml.")
    return found


async def _known_size(station: Station, witness: Neighbour) -> int:
    """How much of the log this witness has seen, as far as we know; it says so if that is wrong."""
    notes = await station.on_disk(station.journal.reader.notes, _subject(witness))
    return int(notes.get("size", "0"))


def _subject(witness: Neighbour) -> str:
    return f"witness {witness.key.vkey}"
