"""The sessions of a station's rooms: started and stopped by whoever may, and gone on with after a crash."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from agent import durable
from agent.config.rooms import Room
from agent.deadline import ZONE
from agent.errors import JournalError, RequestError, StoreError
from agent.journal import new_id
from agent.model import LiveSession, SessionEnded, SessionStarted, StartedBy
from agent.pipeline.ledger import Ledger, extension
from agent.pipeline.reserve import Reserve, planned_bytes
from agent.pipeline.session import Record, RunningSession, cleared
from agent.pipeline.session_recovery import INTERRUPTED, Left, left_open, leftovers, sweep
from agent.pipeline.station import Station
from agent.rooms.addresses import Addresses

FOLDER: Final = "rooms"
_BEAT_S: Final = 1.0
_LEAST_BYTES: Final = 64 << 20
"""With less there is nothing to be recorded."""
_LONGEST: Final = timedelta(hours=24)
_STOP_LIMIT_S: Final = 25.0
_OUTAGE: Final[Mapping[str, object]] = {"service": "it was not running"}
_UNCHANGED: Final = "Nothing was changed."


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants a session to start, and what is known of it; `session_id` if a readiness test was made for it already.

    `anyway`: also if the disk has not the space for the planned time.
    """

    started_by: StartedBy
    who: str
    why: str = ""
    stage: str = ""
    title: str = ""
    case_number: str = ""
    participants: tuple[str, ...] = ()
    planned_start: datetime | None = None
    planned_end: datetime | None = None
    scheduled: str = ""
    session_id: str = ""
    anyway: bool = False


class Sessions:
    """One per daemon."""

    def __init__(self, station: Station, rooms: Mapping[str, Room], addresses: Addresses, record: Record) -> None:
        self.rooms = rooms
        self._station = station
        station.is_recording = lambda: bool(self._running or self._starting)
        self._addresses = addresses
        self._record = record
        self._running: dict[str, RunningSession] = {}
        self._starting: set[str] = set()
        self._ready = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._ticks = 0
        self._interrupted: dict[str, str] = {}

    # For screens, schedule and watchdog

    def running(self) -> tuple[LiveSession, ...]:
        """What is recorded now, in the order of rooms."""
        return tuple(self._running[name].live() for name in sorted(self._running))

    def problems(self) -> tuple[str, ...]:
        """What a person should look at, in words."""
        now = tuple(told for name in sorted(self._running) for told in self._running[name].alarms())
        return (*now, *self._interrupted.values())

    def version(self) -> tuple[object, ...]:
        """Another one when a session begins or ends, or a source is lost or comes back."""
        return tuple((one.session_id, *((s.connected, s.noticed) for s in one.sources)) for one in self.running())

    def ticks(self) -> int:
        """Grows as long as this is alive."""
        return self._ticks

    # Orders

    async def start(self, room: str, order: Order) -> str:
        """Start a session; returns its id. Raises RequestError in words, JournalError or StoreError if ours refuses."""
        await self._ready.wait()
        known = self.rooms.get(room)
        if known is None:
            there = ", ".join(sorted(self.rooms)) or "none"
            raise RequestError(
                f"没有这个房间 (there is no room {room[:64]!r}; there are: {there}).",
                safe=_UNCHANGED,
                do="Name one of rooms.toml.",
            )
        if room in self._running or room in self._starting:
            raise RequestError(
                f"{known.title}正在录制 (room {room} is recording already).",
                safe="That session goes on.",
                do="Stop it first.",
            )
        self._starting.add(room)
        try:
            return await self._start(known, order)
        finally:
            self._starting.discard(room)

    async def stop(self, session_id: str, who: str, why: str, reason: str = "stopped") -> None:
        """Stop a session, and wait until all of it is taken and its end is journalled; raises RequestError.

        If that takes longer than 25 s, which who asks waits for an answer, it goes on by itself.
        """
        session = self._known(session_id)
        session.stop(SessionEnded(session_id, self._station.clock(), who, why, reason))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_LIMIT_S):
                await session.over.wait()

    async def extend(self, session_id: str, planned_end: datetime, who: str, why: str) -> int:
        """Have a session last until another time; returns how many bytes the disk lacks for it; raises as `start`."""
        session, now = self._known(session_id), self._station.clock()
        _check_end(planned_end, now, now)
        await self._station.journal.record(extension(session_id, now, planned_end, who, why))
        return await session.extend(planned_end)

    def _known(self, session_id: str) -> RunningSession:
        session = next((one for one in self._running.values() if one.started.session_id == session_id), None)
        if session is None:
            what = f"没有正在进行的会话 (session {session_id[:64]!r} is not running)."
            raise RequestError(what, safe=_UNCHANGED, do="It may have ended already.")
        return session

    async def _start(self, room: Room, order: Order) -> str:
        station = self._station
        now = station.clock()
        if order.planned_end is not None:
            _check_end(order.planned_end, now, max(now, order.planned_start or now))
        session_id = order.session_id or new_id(station.clock)
        started = SessionStarted(
            session_id, room.name, order.title, now, order.started_by, order.who, order.why, order.stage or room.stage,
            tuple(source.name for source in room.sources), order.case_number, order.participants,
            order.planned_start, order.planned_end, order.scheduled,
        )  # fmt: skip
        lasts = order.planned_end - now if order.planned_end else timedelta(hours=room.planned_h)
        wanted = planned_bytes(room, lasts)
        folder = self.folder(session_id)
        reserve, short = await station.on_disk(self._reserved, folder, wanted, order)
        ledger = Ledger(started)
        lines = ledger.began(now, short)
        try:
            await station.journal.record(started, *lines)
        except JournalError:
            await station.on_disk(cleared, folder)
            raise
        self._interrupted.pop(room.name, None)
        self._serve(self._session(room, started, folder, reserve, ledger, {}))
        return session_id

    def folder(self, session_id: str) -> Path:
        """Where the files of a session are until the vault has them."""
        return self._station.vault.root / FOLDER / session_id

    def _reserved(self, folder: Path, wanted: int, order: Order) -> tuple[Reserve, int]:
        """Make the folder, and have the disk keep the space; returns how many bytes it hasn't. Blocking."""
        vault = self._station.vault
        free = max(0, vault.free_bytes() - self._station.reserve_bytes)
        anyway = order.anyway or order.started_by is StartedBy.SCHEDULE
        if free < (_LEAST_BYTES if anyway else wanted):
            raise _no_space(wanted, free)
        try:
            durable.make_dir(folder.parent)
            durable.make_dir(folder)
            reserve = Reserve(folder, min(wanted, free))
            reserve.keep()
        except OSError as error:
            cleared(folder)
            what = f"The station's disk refused the session's folder: {error.strerror or error}."
            raise StoreError(what, safe=_UNCHANGED, do="Have the administrator check the disk.") from error
        return reserve, max(0, wanted - free)

    def _session(
        self, room: Room, started: SessionStarted, folder: Path, reserve: Reserve, ledger: Ledger,
        numbers: Mapping[str, int],
    ) -> RunningSession:  # fmt: skip
        made = (self._station, room, started, folder, reserve, ledger)
        return RunningSession(*made, self._record, self._addresses, numbers)

    def _serve(self, session: RunningSession) -> None:
        self._running[session.room.name] = session
        self._group.create_task(self._run(session))

    async def _run(self, session: RunningSession) -> None:
        try:
            await session.run()
        finally:
            del self._running[session.room.name]

    # The service's side

    async def run(self) -> None:
        """Finish what a crash left, then serve until cancelled."""
        async with self._group:
            for left in await self._station.on_disk(left_open, self._station, self.rooms, self.folder("-").parent):
                await self._go_on(left)
            folders = await self._station.on_disk(leftovers, self._station, self.folder("-").parent)
            self._ready.set()
            self._group.create_task(sweep(self._station, folders, self.rooms))  # the watchdog doesn't wait for it
            while True:
                self._ticks += 1
                await asyncio.sleep(_BEAT_S)

    async def _go_on(self, left: Left) -> None:
        """A session that was running when the service ended goes on, or ends where it was interrupted."""
        folder, started = self.folder(left.view.started.session_id), left.view.started
        ledger = Ledger(started, left.view.notes)
        reserve = Reserve(folder, planned_bytes(left.room, _planned(started, left.room)))
        session = self._session(left.room, started, folder, reserve, ledger, left.numbers)
        session.left(*left.jobs)
        if left.ended is None:
            taken = sum(one.asset.expected_bytes for one in left.view.segments)
            await self._station.on_disk(reserve.again, taken)
            session.left(*(line for name, since in left.until.items() for line in ledger.outage(name, since, _OUTAGE)))
        else:
            session.stop(left.ended, told=left.ended.reason != INTERRUPTED)
        if left.ended is not None and left.ended.reason == INTERRUPTED:
            since = left.ended.ended_at.astimezone(ZONE).strftime("%m-%d %H:%M:%S")
            told = f"{left.room.title}：录制于 {since} 中断，未继续 (interrupted, and not gone on with)"
            self._interrupted[left.room.name] = told
        self._serve(session)


def _check_end(planned_end: datetime, now: datetime, start: datetime) -> None:
    """Whether it is to come, and within a day of the start."""
    if not now < planned_end <= start + _LONGEST:
        what = "结束时间应在今后 24 小时内 (the end must lie in the next 24 hours)."
        raise RequestError(what, safe=_UNCHANGED, do="State another time.")


def _planned(started: SessionStarted, room: Room) -> timedelta:
    return (started.planned_end or started.started_at + timedelta(hours=room.planned_h)) - started.started_at


def _no_space(wanted: int, free: int) -> RequestError:
    return RequestError(
        f"存储空间不足：需要 {wanted / 1e9:.1f} GB，可用 {free / 1e9:.1f} GB (not enough space for the planned time).",
        safe=_UNCHANGED,
        do="Make room; or start it anyway, and it is recorded as far as the space goes.",
    )
