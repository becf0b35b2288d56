"""One session that is running: hears its recorders, takes what they close, keeps its ledger and its space."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from agent import durable
from agent.config.rooms import Room, Source
from agent.errors import EvidenceError, JournalError, RoomError, StoreError
from agent.model import (
    STOPPING,
    Clock,
    LiveSession,
    SegmentTaken,
    SessionEnded,
    SessionNoted,
    SessionStarted,
    SourceLive,
)
from agent.pipeline.cameras import SessionCameras
from agent.pipeline.ledger import GAP, Ledger
from agent.pipeline.reserve import Reserve, planned_bytes
from agent.pipeline.segments import EPOCH, Lying, at, finish, salvage, take
from agent.pipeline.session_words import speak
from agent.pipeline.station import Station
from agent.rooms.addresses import Addresses
from agent.rooms.protocol import Alive, Back, Begun, Cause, Closed, Lost, Noticed, Opened, Plan, Report, SourcePlan

_BEAT_S: Final = 1.0
_SPACE_EACH: Final = 5
_SPEAK_EACH: Final = 900
"""Beats between two looks at the space, and between two words on what was taken until then."""
_SPEAK_SOON: Final = 60
"""Beats between two words at least where a gap has ended, of which somebody is to be asked while it is remembered."""
_SAID_EACH: Final = 10
"""Segments that are named in a beat on average at most: each word names them all, and stays in the journal."""
_ADDRESS_LIMIT_S: Final = 3.0
"""So long the start waits for a camera that is asked for its address; it joins later."""
_JOIN_LIMIT_S: Final = 30.0
_ASK_AGAIN_S: Final = 2.0
_LOCKED_OUT_S: Final = 60.0
"""Between two wrong passwords: many cameras lock who is refused often."""
_STOP_LIMIT_S: Final = 10.0
_LAST_LIMIT_S: Final = 8.0
"""Both together, when the service ends: less than systemd waits (TimeoutStopSec)."""


class Recorder(Protocol):
    """What records the sources of a plan, in a process of its own: `agent.rooms.engine.RoomRecorder`."""

    def reports(self) -> AsyncIterator[Report]:
        """Everything it has to say; ends after `stop`."""

    async def stop(self) -> None:
        """End all segments; bounded."""


Record = Callable[[Plan, Clock], Recorder]
Job = Closed | Lying | SegmentTaken | SessionNoted
"""What is to be taken or journalled: a file that a recorder closed, or that a crash left; a segment on its way."""


@dataclass(slots=True)
class _Seen:
    """What is known of a source now."""

    connected: bool = False
    since_us: int | None = None
    alive: Alive | None = None


class RunningSession:
    """A session from its start, or from where a crash left it, to its end. `numbers`: the next file of each source."""

    def __init__(
        self, station: Station, room: Room, started: SessionStarted, folder: Path, reserve: Reserve, ledger: Ledger,
        record: Record, addresses: Addresses, numbers: Mapping[str, int],
    ) -> None:  # fmt: skip
        self.started = started
        self.room = room
        self.ledger = ledger
        self.trouble = ""
        self._station = station
        self._folder = folder
        self._reserve = reserve
        self._record = record
        self._addresses = addresses
        self._numbers = dict(numbers)
        self._sources = {source.name: source for source in room.sources if source.name in started.sources}
        self._cameras = SessionCameras(self._sources.values(), station.clock, self._hear)
        self._seen = {name: _Seen() for name in started.sources}
        self._inbox: deque[Job] = deque()
        self._news = asyncio.Event()
        self._ending: SessionEnded | None = None
        self._stopping = asyncio.Event()
        self._beats = self._spoken_at = 0
        self._back: set[str] = set()
        self._owes_word = False
        self.over = asyncio.Event()

    # For the screens

    def live(self) -> LiveSession:
        """What is to be shown of this moment."""
        one = self.started
        key = (one.room, one.session_id, one.started_at, one.planned_end)
        return LiveSession(*key, tuple(map(self._live, self._seen)), self._reserve.kept_bytes)

    def alarms(self) -> tuple[str, ...]:
        """What a person should look at now, besides what `live` shows."""
        missing = [source.title for name, source in self._sources.items() if self.ledger.is_missing(name)]
        told = [f"{self.room.title} {title}：开始后一直没有信号 (missing since the start)" for title in missing]
        return (*told, *([f"{self.room.title}：{self.trouble}"] if self.trouble else []))

    def _live(self, name: str) -> SourceLive:
        seen, source = self._seen[name], self._sources.get(name)
        live = SourceLive(
            name,
            source.title if source is not None else name,
            seen.connected,
            at(seen.since_us) if seen.since_us is not None else self.started.started_at,
            gaps=self.ledger.gaps.get(name, 0),
            noticed=self.ledger.noticed(name),
        )
        if (alive := seen.alive) is None:
            return live
        still = self._folder / alive.still if alive.still and "/" not in alive.still else None
        media_s = alive.media_us / 1e6
        return replace(live, level_db=alive.level_db, still=still, media_s=media_s, size_bytes=alive.size_bytes)

    # From start to end

    def stop(self, ended: SessionEnded, *, told: bool = False) -> None:
        """Have it end; `over` tells when it has. The first word counts. `told`: the journal has that it was stopped."""
        if self._ending is None:
            self._ending = ended
            if not told:
                self._inbox.appendleft(_stopping(ended))
                self._news.set()
            self._stopping.set()

    def left(self, *jobs: Job) -> None:
        """What a crash left to be done."""
        self._put(*jobs)

    async def extend(self, planned_end: datetime) -> int:
        """Have it last until another time; returns how many bytes the disk lacks for that."""
        self._put(*self.ledger.extend(planned_end, self._station.clock()))
        self.started = replace(self.started, planned_end=planned_end)
        wanted = planned_bytes(self.room, planned_end - self.started.started_at)
        taken = await self._station.on_disk(self._station.journal.reader.session_tally, self.started.session_id)
        return await self._station.on_disk(self._reserve.grow, wanted, taken.bytes)

    async def run(self) -> None:
        """Until `stop`, and what follows from it. When it is cancelled the session goes on at the next start.

        All that is closed by then is in the journal, or lies in the folder.
        """
        try:
            async with asyncio.TaskGroup() as group:
                worker = group.create_task(self._work())
                beside = group.create_task(self._keep()), group.create_task(self._cameras.run())
                recording = group.create_task(self._recording())
                await recording
                for task in (worker, *beside):
                    task.cancel()
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LAST_LIMIT_S):
                    await self._drain()
            raise
        await self._conclude()

    async def _recording(self) -> None:
        """One recorder for the sources that can be addressed at once, and one for each that can't yet."""
        if self._stopping.is_set():
            return
        plans = await asyncio.gather(*(self._address(source, _ADDRESS_LIMIT_S) for source in self._sources.values()))
        ready = tuple(plan for plan in plans if isinstance(plan, SourcePlan))
        async with asyncio.TaskGroup() as group:
            if ready:
                group.create_task(self._recorded(ready))
            for source, plan in zip(self._sources.values(), plans, strict=True):
                if not isinstance(plan, SourcePlan):
                    group.create_task(self._joining(source, plan))

    async def _address(self, source: Source, limit_s: float) -> SourcePlan | Cause:
        """What its recorder is told, or why it can't be."""
        try:
            async with asyncio.timeout(limit_s):
                return await self._addresses(self.room, source)
        except TimeoutError:
            return Cause.UNREACHABLE
        except RoomError as error:
            self._hear(Lost(source.name, self._now_us(), _cause(error)))
            return _cause(error)

    async def _joining(self, source: Source, cause: Cause) -> None:
        """Until it can be addressed, and from then on as the others."""
        plan: SourcePlan | Cause = cause
        while not self._stopping.is_set():
            await _wait(self._stopping, _LOCKED_OUT_S if plan is Cause.UNAUTHORISED else _ASK_AGAIN_S)
            if not self._stopping.is_set():
                plan = await self._address(source, _JOIN_LIMIT_S)
            if isinstance(plan, SourcePlan):
                await self._recorded((plan,))

    async def _recorded(self, sources: tuple[SourcePlan, ...]) -> None:
        """Until `stop`: a recorder that gives up is followed by another one."""
        while not self._stopping.is_set():
            numbers = tuple(self._numbers.get(source.name, 1) for source in sources)
            plan = Plan(self.started.session_id, str(self._folder), sources, numbers, float(self.room.segment_s))
            await self._heard_out(self._record(plan, self._station.clock))
            if not self._stopping.is_set():
                for source in sources:
                    self._hear(Lost(source.name, self._now_us(), Cause.RECORDER))
                await _wait(self._stopping, _BEAT_S)

    async def _heard_out(self, recorder: Recorder) -> None:
        """Hear a recorder until it ends; it is told to by `stop`, and when the service ends."""
        hearing = asyncio.create_task(self._hear_all(recorder))
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait([hearing, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_STOP_LIMIT_S):
                    await recorder.stop()
                    await asyncio.wait([hearing])
            hearing.cancel()
            await asyncio.wait([hearing])
        if not hearing.cancelled():
            hearing.result()

    async def _hear_all(self, recorder: Recorder) -> None:
        async for report in recorder.reports():
            self._hear(report)

    def _hear(self, report: Report) -> None:
        if report.source not in self._seen:
            return
        seen = self._seen[report.source]
        match report:
            case Alive():
                seen.alive, seen.connected = report, report.connected
            case Closed():
                self._put(report)
            case Begun(at_us=at_us) if not seen.connected or seen.since_us is None:
                seen.connected, seen.since_us = True, at_us
            case Back(at_us=at_us):
                seen.connected, seen.since_us = True, at_us
            case Lost(since_us=since_us):
                seen.connected, seen.since_us = False, since_us
            case Opened(source=source):
                self._cameras.opened(source)
            case Noticed() | Begun():
                pass
        if isinstance(report, Begun | Closed):
            self._numbers[report.source] = max(self._numbers.get(report.source, 1), report.number + 1)
        lines = self.ledger.hear(report)
        if any(line.kind == GAP and line.end is not None for line in lines):
            self._back.add(report.source)
        self._put(*lines)

    # What follows from it

    def _put(self, *jobs: Job) -> None:
        if jobs:
            self._inbox.extend(jobs)
            self._news.set()

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            await self._drain()

    async def _drain(self) -> None:
        """Journal and take what there is, the oldest first; what our own disk refuses stays, and is tried again."""
        while self._inbox:
            job = self._inbox[0]
            try:
                await self._do(job)
            except (JournalError, StoreError, EvidenceError) as error:
                self.trouble = f"已录内容在本机，尚未入库 (what is recorded is on disk, not taken yet): {error.what}"
                if not isinstance(job, SessionNoted):  # the lines of a ledger stay in their order
                    self._inbox.remove(job)
                    self._inbox.append(job)
                await asyncio.sleep(_BEAT_S)
                continue
            self.trouble = ""
            self._inbox.remove(job)

    async def _do(self, job: Job) -> None:
        match job:
            case Closed():
                await take(self._station, self.started, self._folder, job)
                if job.source in self._back:  # now it is known from when to when the gap was
                    self._back.remove(job.source)
                    self._owes_word = True
            case Lying():
                await salvage(self._station, self.started, self._folder, job)
            case SegmentTaken():
                await finish(self._station, self._folder, job)
            case SessionNoted():
                await self._station.journal.record(job)

    async def _keep(self) -> None:
        """What the time brings: space that is used up, ends that are overrun, recordings that nobody spoke of yet."""
        while True:
            await asyncio.sleep(_BEAT_S)
            self._beats += 1
            self._put(*self.ledger.passing(self._station.clock()))
            if self._beats % _SPACE_EACH == 0:
                await self._follow()
            if self._beats - self._spoken_at >= self._speak_after():
                self._spoken_at, self._owes_word = self._beats, False
                with contextlib.suppress(JournalError, StoreError, EvidenceError):
                    await speak(self._station, self.started.session_id, self.room.title)

    def _speak_after(self) -> int:
        """How many beats after the last word on what was taken."""
        soon = max(_SPEAK_SOON, sum(self._numbers.values()) // _SAID_EACH)
        return min(soon, _SPEAK_EACH) if self._owes_word else _SPEAK_EACH

    async def _follow(self) -> None:
        with contextlib.suppress(OSError, JournalError):
            taken = await self._station.on_disk(self._station.journal.reader.session_tally, self.started.session_id)
            await self._station.on_disk(self._reserve.follow, taken.bytes)

    async def _conclude(self) -> None:
        """The journal has everything: say what is to be said of it, and end. Tried until the disk lets us."""
        assert self._ending is not None, "only a word ends a session"
        ended = self._ending
        self._put(*self.ledger.ended(ended.ended_at))
        while True:
            try:
                await self._drain()
                await conclude(self._station, self._folder, self.room.title, ended)
            except (JournalError, StoreError, EvidenceError) as error:
                self.trouble = f"会话已停止，尚未记入 (stopped; its end is not journalled yet): {error.what}"
                await asyncio.sleep(_BEAT_S)
            else:
                break
        self.over.set()

    def _now_us(self) -> int:
        return (self._station.clock() - EPOCH) // timedelta(microseconds=1)


async def conclude(station: Station, folder: Path, room_title: str, ended: SessionEnded) -> None:
    """The last word on a session, whose files are all taken. Safe to repeat until it has ended."""
    await speak(station, ended.session_id, room_title, ended.ended_at)
    await station.journal.record(ended)
    await station.on_disk(cleared, folder)


def cleared(folder: Path) -> bool:
    """Remove the folder of a session that ended; what can't be removed lies until the next start."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.suffix == durable.STILL_SUFFIX:
                durable.remove_still(path)
            elif path.suffix == durable.PART_SUFFIX:
                durable.remove_part(path)
            else:
                durable.remove_empty(path)  # begun by a recorder that was killed before it wrote anything
        return durable.remove_empty(folder)
    return False


def _stopping(ended: SessionEnded) -> SessionNoted:
    """Somebody has stopped it: told at once, so that a crash before its end is journalled doesn't let it go on."""
    said = {"who": ended.who, "why": ended.why, "reason": ended.reason}
    return SessionNoted(ended.session_id, "", STOPPING, ended.ended_at, ended.ended_at, detail=said)


def _cause(error: RoomError) -> Cause:
    return Cause(error.cause) if error.cause in set(Cause) else Cause.UNREACHABLE


async def _wait(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()
