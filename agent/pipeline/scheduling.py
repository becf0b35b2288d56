"""Starts and ends the sessions that are planned in rooms: each once, on time, and late rather than never."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

from agent.clocks import uptime
from agent.config.rooms import Room
from agent.config.schedules import CHINA, Schedule
from agent.errors import AgentError, ConfigError, JournalError
from agent.journal import new_id
from agent.model import Incident, LiveSession, Planned, StartedBy
from agent.pipeline.own_disk import journalled
from agent.pipeline.sessions import Order
from agent.pipeline.station import Station
from agent.rooms import scheduled

_BEAT_S: Final = 1.0
_LOOK_S: Final = 60.0
_AGAIN: Final = timedelta(hours=1)
_SOON: Final = timedelta(minutes=10)
"""A file that made no sense is read again, even if it didn't change: the trouble may have been another one."""

_BACK: Final = timedelta(hours=24)
_AHEAD: Final = timedelta(days=8)
_RETRY_S: Final = 30.0
_SLACK_S: Final = 2.0
_HEADS: Final = 200
"""Sessions of a room within a day, at the most."""

_MISSED: Final = "session-missed"
_MISSED_LIMIT: Final = 1000
_WHO: Final = "schedule"
_INTERRUPTED: Final = "interrupted"
Read = Callable[[Path, datetime, datetime], Awaitable[Schedule]]
Stamp = tuple[int, int, int]


class Starter(Protocol):
    """What starts and stops: `agent.pipeline.sessions.Sessions`."""

    def running(self) -> tuple[LiveSession, ...]:
        """What is recorded now."""

    async def start(self, room: str, order: Order) -> str:
        """Return the id of the session; raises AgentError."""

    async def stop(self, session_id: str, who: str, why: str, reason: str = "stopped") -> None:
        """End one; raises AgentError."""


@dataclass(slots=True)
class _Plan:
    """What is known of one room's schedule. `held` are the keys of what was begun, `waits` those of what is to come."""

    path: Path | None = None
    stamp: Stamp | None = None
    read_at: datetime | None = None
    look_at_s: float = 0.0
    sessions: tuple[Planned, ...] = ()
    problems: tuple[str, ...] = ()
    held: frozenset[str] = frozenset()
    waits: frozenset[str] = frozenset()
    missed: tuple[Planned, ...] = ()
    trouble: str = ""
    again_at_s: float = 0.0


class Scheduler:
    """One per daemon. Time by the station's clock; `seconds` is one that nobody can set."""

    def __init__(
        self, station: Station, sessions: Starter, rooms: Mapping[str, Room], *,
        read: Read = scheduled.read, seconds: Callable[[], float] = uptime,
    ) -> None:  # fmt: skip
        self._station = station
        self._sessions = sessions
        self._rooms = rooms
        self._read = read
        self._seconds = seconds
        self._plans: dict[str, _Plan] = {}
        self._ends: dict[tuple[str, datetime], float] = {}
        self._names: dict[tuple[str, str], str] = {}

    def use(self, rooms: Mapping[str, Room]) -> None:
        """Take over what a reload has brought; what runs in a room that is gone is ended on time all the same."""
        running = {one.room for one in self._sessions.running()}
        gone = {name: room for name, room in self._rooms.items() if name in running and name not in rooms}
        self._rooms = {**rooms, **{name: replace(room, schedule=None) for name, room in gone.items()}}

    # For screens, readiness test and whoever starts a session by hand

    def coming(self, room: str) -> Planned | None:
        """The next session of a room that nobody has begun; its time may have come already."""
        plan, now = self._plans.get(room), self._station.clock()
        found = (one for one in plan.sessions if one.end > now and one.key not in plan.held) if plan else ()
        return next(iter(found), None)

    def planned(self) -> Mapping[str, tuple[datetime, datetime]]:
        """By room when its next session begins and ends."""
        found = {name: self.coming(name) for name in self._rooms}
        return {name: (one.start, one.end) for name, one in found.items() if one is not None}

    def meant(self, room: Room, order: Order) -> Order:
        """What a person starts when a planned session is about to begin, or should have begun, is that session."""
        one = self.coming(room.name)
        if one is None or one.start - self._station.clock() > timedelta(seconds=room.test_before_s):
            return order
        return replace(
            _order(one, order.started_by, order.who, order.why),
            stage=order.stage or one.stage, title=order.title or one.title,
            case_number=order.case_number or one.case_number, participants=order.participants or one.participants,
            planned_end=order.planned_end or one.end, anyway=order.anyway,
            session_id=order.session_id or self._names.pop((room.name, one.key), ""),
        )  # fmt: skip

    async def session_id(self, room: str, one: Planned) -> str:
        """With which id a planned session will start: the one that a readiness test has told, also before a restart."""
        if (room, one.key) not in self._names:
            reader = self._station.journal.reader
            test = await self._station.on_disk(reader.newest_test, room)
            told = test.session_id if test is not None and test.figures.get("scheduled") == one.key else ""
            heads = await self._station.on_disk(reader.sessions_of, room, _HEADS)
            is_new = told and all(head.started.session_id != told for head in heads)
            self._names = {(room, one.key): told if is_new else new_id(self._station.clock)} | {
                known: name for known, name in self._names.items() if known[0] != room
            }
        return self._names[room, one.key]

    def problems(self) -> tuple[str, ...]:
        """What a person should look at, in words, without naming anybody."""
        return tuple(told for name, room in self._rooms.items() for told in self._problems(room, self._plans.get(name)))

    def _problems(self, room: Room, plan: _Plan | None) -> list[str]:
        if plan is None:
            return []
        told = [f"{room.title}：排期文件有误 (schedule): {'; '.join(plan.problems)}"] if plan.problems else []
        told += [plan.trouble] if plan.trouble else []
        for one in plan.missed:
            told.append(f"{room.title}：预定 {_clock(one)} 的会话没有录制 (a planned session was not recorded)")
        return told

    # Work

    async def run(self) -> None:
        """Until cancelled. A room that takes long keeps no other one waiting."""
        busy: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                for name in self._rooms:
                    if name not in busy or busy[name].done():
                        busy[name] = group.create_task(self._served(name))
                await asyncio.sleep(_BEAT_S)

    async def _served(self, name: str) -> None:
        with contextlib.suppress(JournalError):  # that our disk refuses is told; it is asked again in a second
            await self.serve(name)

    async def serve(self, name: str) -> None:
        """One look at a room: its file, what is to end, what is to start."""
        room, plan = self._rooms.get(name), self._plans.setdefault(name, _Plan())
        if room is None:
            return  # a reload has just taken it away
        await self._look(room, plan)
        running = next((one for one in self._sessions.running() if one.room == name), None)
        if running is not None and await self._is_over(room, plan, running):
            try:
                await self._sessions.stop(running.session_id, _WHO, "planned end", "scheduled")
            except AgentError:
                return  # somebody else has ended it
            running = next((one for one in self._sessions.running() if one.room == name), None)
        if running is None:
            self._ends = {key: end_s for key, end_s in self._ends.items() if key[0] in self._ids()}
        now = self._station.clock()
        due = [one for one in plan.sessions if one.start <= now < one.end and one.key not in plan.held]
        if due:
            plan.held = await self._held(name, plan.sessions)
        due = [one for one in due if one.key not in plan.held]
        await self._tell_missed(room, plan, now)
        plan.trouble = plan.trouble if due else ""
        if due and running is not None:
            what = "等待：上一会话尚未结束 (waits for the session that still runs)"
            plan.trouble = f"{room.title}：预定 {_clock(due[0])} 的会话{what}"
        elif due and self._seconds() >= plan.again_at_s:
            await self._start(room, plan, due[0])

    async def _start(self, room: Room, plan: _Plan, one: Planned) -> None:
        order = _order(one, StartedBy.SCHEDULE, _WHO, "planned")
        try:
            name = await self.session_id(room.name, one)
            await self._sessions.start(room.name, replace(order, session_id=name))
        except AgentError as error:
            plan.again_at_s = self._seconds() + _RETRY_S
            plan.trouble = f"{room.title}：预定 {_clock(one)} 的会话未能开始 (could not be started): {error.what}"
        else:
            plan.trouble, plan.again_at_s, plan.held = "", 0.0, plan.held | {one.key}
            self._names.pop((room.name, one.key), None)

    async def _is_over(self, room: Room, plan: _Plan, live: LiveSession) -> bool:
        """Whether the schedule is to end it: what a person began, a person ends.

        A hearing that takes longer than planned is not cut off: it has `overrun_min`, unless another one is to begin.
        Both by the clock and by the time that really passed: a clock that is set forward ends nothing early.
        """
        now, planned_end = self._station.clock(), live.planned_end
        if planned_end is None:
            return False
        known = (live.session_id, planned_end)
        end_s = self._ends.setdefault(known, self._seconds() + (planned_end - now).total_seconds())
        if now < planned_end or self._seconds() < end_s - _SLACK_S:
            return False
        heads = await self._station.on_disk(self._station.journal.reader.sessions_of, live.room, 1)
        begun = [head.started for head in heads]
        if [(one.session_id, one.started_by) for one in begun] != [(live.session_id, StartedBy.SCHEDULE)]:
            return False
        plan.held = await self._held(room.name, plan.sessions)
        until = planned_end + timedelta(minutes=room.overrun_min)
        waiting = (one.start for one in plan.sessions if one.key not in plan.held and one.end > now)
        until = min([until, *(max(planned_end, start) for start in waiting)])
        return now >= until and self._seconds() >= end_s + (until - planned_end).total_seconds() - _SLACK_S

    def _ids(self) -> set[str]:
        return {one.session_id for one in self._sessions.running()}

    async def _held(self, room: str, sessions: Sequence[Planned]) -> frozenset[str]:
        """The keys of those that were begun; one that ended before its time, or that a crash ended, may begin again."""
        heads = await self._station.on_disk(self._station.journal.reader.sessions_of, room, _HEADS)
        starts = {one.key: one.start for one in sessions}
        return frozenset(
            key
            for head in heads
            if (key := head.started.scheduled) in starts
            and (head.ended is None or (head.ended.reason != _INTERRUPTED and head.ended.ended_at > starts[key]))
        )

    async def _tell_missed(self, room: Room, plan: _Plan, now: datetime) -> None:
        """What waited until its end has passed was never begun; it is told for a day."""
        over = [one for one in plan.sessions if one.end <= now and one.key in plan.waits]
        if over:
            plan.held |= await self._held(room.name, plan.sessions)
        for one in over:
            if one not in plan.missed and one.key not in plan.held:
                plan.missed = (*plan.missed, one)
                await self._journal_missed({"room": room.name, "planned_start": one.start.isoformat()})
        plan.missed = tuple(one for one in plan.missed if one.end > now - _BACK)
        plan.waits = frozenset(one.key for one in plan.sessions if one.end > now and one.key not in plan.held)

    async def _journal_missed(self, told: Mapping[str, str]) -> None:
        """Once, also if the service has been started anew since: then only the alarm is still to be there."""
        since = datetime.fromisoformat(told["planned_start"])
        reader = self._station.journal.reader
        before = await self._station.on_disk(reader.incidents_of, _MISSED, since, _MISSED_LIMIT)
        if told not in [one.detail for one in before]:
            await journalled(self._station, Incident(_MISSED, told))

    async def _look(self, room: Room, plan: _Plan) -> None:
        """Read the file anew when it is another one, and each hour, since days go by."""
        if room.schedule != plan.path:
            plan.path, plan.stamp, plan.read_at, plan.look_at_s = room.schedule, None, None, 0.0
            plan.sessions, plan.problems = (), ()
        now = self._station.clock()
        is_old = plan.read_at is None or not timedelta() <= now - plan.read_at < _AGAIN
        if room.schedule is None or (self._seconds() < plan.look_at_s and not is_old):
            return
        plan.look_at_s = self._seconds() + _LOOK_S
        stamp = await self._station.on_disk(_stamp, room.schedule)
        if stamp == plan.stamp and not is_old:
            return
        plan.stamp, plan.read_at = stamp, now
        try:
            plan.sessions, plan.problems = await self._read(room.schedule, now - _BACK, now + _AHEAD)
        except ConfigError as error:
            plan.problems, plan.read_at = (error.what,), now - _AGAIN + _SOON
        plan.held = await self._held(room.name, plan.sessions)
        configured = await self._station.on_disk(self._station.journal.reader.last_incident, "configuration")
        if stamp is not None and configured is not None:  # what came while nothing ran here was to be recorded, too
            since = max(datetime.fromtimestamp(stamp[0] / 1e9, UTC), configured.at)
            plan.waits |= {one.key for one in plan.sessions if one.start > since}


def _order(one: Planned, started_by: StartedBy, who: str, why: str) -> Order:
    return Order(
        started_by, who, why, one.stage, one.title, one.case_number, one.participants, one.start, one.end, one.key
    )


def _clock(one: Planned) -> str:
    return one.start.astimezone(CHINA).strftime("%m-%d %H:%M")


def _stamp(path: Path) -> Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
