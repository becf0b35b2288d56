"""The daemon's side of a room's recorder: starts the process, checks what it says, replaces it when it stands still.

Camera trouble is the recorder's own business. Here is what happens if the recorder is the trouble: it ends, says what
is no report, says nothing, or says that it records while nothing grows. It is killed then, what it left open is
told as it is on disk, and a new one goes on with the next number.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from agent import durable
from agent.child import Child, ChildError
from agent.model import Clock
from agent.rooms.protocol import Alive, Back, Begun, Cause, Closed, Lost, Plan, Report, Stop, Why
from agent.rooms.wire import packed, report

_SILENT_LIMIT_S: Final = 10.0
_STILL_SLACK_S: Final = 5.0
"""The recorder notices by itself that a camera sends nothing; it gets this much longer than a stall may last."""

_START_LIMIT_S: Final = 80.0
"""After one that was killed before its first word the next is given twice the time, up to this: on a busy computer, as
after a power cut, each would else be killed while it starts, for ever."""

_STOP_LIMIT_S: Final = 6.0
_FIRST_PAUSE_S: Final = 0.1
_LAST_PAUSE_S: Final = 5.0
_WELL_S: Final = 30.0
_FILE: Final = re.compile(r"(.+)-([0-9]{6})\.(?:mp4|mov)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Known:
    """What one source's reports said so far."""

    number: int
    begun: dict[int, Begun] = field(default_factory=dict)
    end_us: int | None = None
    is_out: bool = False
    is_ours: bool = False
    media_us: int = -1
    size_bytes: int = -1
    grew_us: int = 0


class RoomRecorder:
    """Records the sources of one plan until `stop`. `reports` is iterated once."""

    def __init__(self, plan: Plan, clock: Clock) -> None:
        self._plan, self._clock = plan, clock
        self._known = {
            source.name: _Known(number) for source, number in zip(plan.sources, plan.first_numbers, strict=True)
        }
        self._start_limit_s = _SILENT_LIMIT_S
        self._child: Child | None = None
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int:
        """The recorder's process id, 0 if none runs; for accounting and tests."""
        return self._child.pid if self._child is not None else 0

    async def reports(self) -> AsyncIterator[Report]:
        """All that is to be told, from the first connection to the last closed file after `stop`. Raises nothing."""
        pause_s, clock = _FIRST_PAUSE_S, asyncio.get_running_loop().time
        try:
            while not self._stopping.is_set():
                began_s = clock()
                async with aclosing(self._one()) as one:
                    async for said in one:
                        yield said
                if clock() - began_s > _WELL_S:
                    pause_s = _FIRST_PAUSE_S
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause_s)
                pause_s = min(2 * pause_s, _LAST_PAUSE_S)
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """End all segments, and kill a recorder that can't within 6 s; `reports` ends with what it said until then."""
        self._stopping.set()
        child = self._child
        if child is None:
            return
        with suppress(ChildError):
            await child.send(packed(Stop()))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _STOP_LIMIT_S)
            return
        await child.stop()

    async def _one(self) -> AsyncGenerator[Report, None]:
        """One process from its start to its end, and what it left."""
        numbers, is_heard = tuple(known.number for known in self._known.values()), False
        await asyncio.to_thread(_unshow, Path(self._plan.folder), tuple(self._known))
        try:
            self._child = await Child.start("agent.rooms.recorder", [], stall_limit_s=self._start_limit_s)
            try:
                await self._child.send(packed(replace(self._plan, first_numbers=numbers)))
                while (line := await self._child.line()) is not None:
                    self._child.stall_limit_s, is_heard = _SILENT_LIMIT_S, True
                    for said in self._checked(report(line)):
                        yield said
            finally:
                await self._child.stop()
                self._child = None
        except ChildError as error:
            trouble = str(error)[:80]
            if not is_heard:
                self._start_limit_s = min(2 * self._start_limit_s, _START_LIMIT_S)
        else:
            trouble = "ended"
        for path, written_us, size_bytes in await asyncio.to_thread(_files, Path(self._plan.folder)):
            for closed in self._left(path, written_us, size_bytes):
                yield closed
        if not self._stopping.is_set():
            for name, known in self._known.items():
                if not known.is_out:
                    known.is_out = known.is_ours = True
                    now_us = (self._clock() - _EPOCH) // timedelta(microseconds=1)
                    yield Lost(name, known.end_us or now_us, Cause.RECORDER, trouble)
                known.media_us = -1

    def _checked(self, said: Report) -> Iterator[Report]:
        """What follows from a report besides itself; raises ChildError if the recorder is not to be believed."""
        known = self._known.get(said.source)
        if known is None:
            raise ChildError("reported a source that is none")
        match said:
            case Alive():
                self._see_growth(known, said)
            case Begun():
                known.begun[said.number] = said
                known.number = max(known.number, said.number + 1)
                if known.is_ours:
                    known.is_out = known.is_ours = False
                    yield Back(said.source, said.at_us)
            case Closed():
                if not re.fullmatch(rf"{re.escape(said.source)}-{said.number:06}\.(mp4|mov)", said.file):
                    raise ChildError("reported a file that is none of its source")
                known.begun.pop(said.number, None)
                known.number, known.end_us = max(known.number, said.number + 1), said.end_us
            case Lost():
                if known.is_out:
                    return  # told already, as the recorder's end
                known.is_out = True
            case Back():
                known.is_out = known.is_ours = False
        yield said

    def _see_growth(self, known: _Known, alive: Alive) -> None:
        grows = alive.media_us != known.media_us and (alive.size_bytes != known.size_bytes or known.is_out)
        if not alive.connected or grows:
            known.media_us, known.size_bytes, known.grew_us = alive.media_us, alive.size_bytes, alive.mono_us
        elif alive.mono_us - known.grew_us > (self._plan.stall_s + _STILL_SLACK_S) * 1_000_000:
            raise ChildError("records and nothing grows")

    def _left(self, path: Path, written_us: int, size_bytes: int) -> Iterator[Closed]:
        """A file that the process left open, as it is on disk; nobody has counted what it has."""
        match = _FILE.fullmatch(path.name)
        known = self._known.get(match[1]) if match else None
        if match is None or known is None or not size_bytes:
            return
        number, begun = int(match[2]), known.begun.pop(int(match[2]), None)
        if begun is None and number < known.number:
            return
        known.number, known.end_us = max(known.number, number + 1), written_us
        start_us = min(begun.at_us, written_us) if begun is not None else written_us
        yield Closed(match[1], number, path.name, Why.KILLED, start_us, written_us, 0, size_bytes, 0, 0, ())


def _unshow(folder: Path, sources: Iterable[str]) -> None:
    """Remove the stills that a recorder left which had no time to: nothing makes them newer until a source answers."""
    with suppress(OSError):  # they go with the folder then
        for name in sources:
            durable.remove_still(folder / f"{name}{durable.STILL_SUFFIX}")


def _files(folder: Path) -> list[tuple[Path, int, int]]:
    """The files of a folder in their order, when each was written last, and its size."""
    found = []
    for path in sorted(folder.iterdir()):
        with suppress(FileNotFoundError):  # a closed one, which the vault has just taken
            state = path.stat()
            found.append((path, state.st_mtime_ns // 1000, state.st_size))
    return found
