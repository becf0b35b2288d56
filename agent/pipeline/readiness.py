"""Tests a room before a session: records a little through the whole chain, and says in time what is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import rfc8785

from agent import durable
from agent.access.inspecting import Bounds, Inspection, inspect
from agent.child import ChildError
from agent.config.rooms import Room, Source
from agent.errors import AgentError, RequestError, RoomError, StoreError
from agent.journal import new_id
from agent.model import Planned, SessionTested
from agent.pipeline.reserve import planned_bytes
from agent.pipeline.scheduling import Scheduler, Starter
from agent.pipeline.session import Record, Recorder
from agent.pipeline.station import Station
from agent.rooms.addresses import Addresses
from agent.rooms.protocol import Alive, Begun, Cause, Closed, Lost, Plan, SourcePlan

OK: Final = "ok"
_BEAT_S: Final = 1.0
_LASTS_S: Final = 10.0
_ANSWER_LIMIT_S: Final = 20.0
_STOP_LIMIT_S: Final = 20.0
_STORE_LIMIT_S: Final = 20.0
_READING: Final = Bounds(stall_s=30.0, total_s=120.0, decode_s=60, cpu_s=90)
"""Of ten seconds of a source; who can't be read in that is told, and keeps no other room waiting for hours."""
_LEAST: Final = 0.5
"""Of the time that is recorded, a source must have given so much."""
_CLEAR: Final = timedelta(seconds=45)
"""So long before a session nothing more is tested: cameras let few in at a time."""
_SILENT_DB: Final = -60.0
_FLOOR_DB: Final = -120.0
"""Nothing at all; its logarithm has no JSON."""

_CAMERA_CLOCK: Final = timedelta(seconds=5)
_AT_ONCE: Final = 2
_ASKED_LIMIT_S: Final = 25.0
_CAUSES: Final[Mapping[str, str]] = {
    Cause.REFUSED: "摄像机拒绝连接 the camera refused the connection",
    Cause.UNAUTHORISED: "用户名或密码错误 user or password is wrong",
    Cause.READABLE: "摄像机要求明文密码，未允许 it wants the password readable, which is not allowed (plain_password)",
    Cause.UNREACHABLE: "无法连接 the camera can't be reached",
    Cause.CLOSED: "连接断开 the camera closed the connection",
    Cause.STALLED: "没有数据 the camera sends nothing",
    Cause.GARBAGE: "数据无法识别 what comes can't be understood",
    Cause.DISK: "本机磁盘拒绝写入 this station's disk takes nothing",
    Cause.RECORDER: "录制程序中断 the recorder ended",
}
_UNCHANGED: Final = "Nothing was changed."


@dataclass(slots=True)
class _Heard:
    """What came from one source. `why` says why nothing did."""

    title: str
    why: str = "没有信号 nothing came"
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    closed: list[Closed] = field(default_factory=list)
    level_db: float | None = None
    found: Inspection | None = None
    watched: bool = True

    @property
    def has_sound(self) -> bool:
        return any(track.type == "audio" for one in self.closed for track in one.tracks)

    @property
    def media_s(self) -> float:
        return sum(one.media_us for one in self.closed) / 1e6


class Readiness:
    """One per daemon."""

    def __init__(
        self, station: Station, sessions: Starter, scheduler: Scheduler, rooms: Mapping[str, Room],
        addresses: Addresses, record: Record,
    ) -> None:  # fmt: skip
        self._station = station
        self._sessions = sessions
        self._scheduler = scheduler
        self._rooms = rooms
        self._addresses = addresses
        self._record = record
        self._testing: set[str] = set()
        self._under_way: set[asyncio.Task[SessionTested]] = set()
        self._again_at_s: dict[str, float] = {}
        self._places = asyncio.Semaphore(_AT_ONCE)
        self._now_s = time.monotonic

    def use(self, rooms: Mapping[str, Room]) -> None:
        """Take over what a reload has brought."""
        self._rooms = rooms

    async def run(self) -> None:
        """Until cancelled: test each room again and again before its next session."""
        try:
            async with asyncio.TaskGroup() as group:
                while True:
                    for name in self._due():
                        self._testing.add(name)
                        group.create_task(self._quietly(name))
                    await asyncio.sleep(_BEAT_S)
        finally:
            for task in self._under_way:
                task.cancel()

    def _due(self) -> list[str]:
        now, now_s = self._station.clock(), self._now_s()
        due = []
        for name, room in self._rooms.items():
            if self._is_busy(name):
                continue
            one = self._scheduler.coming(name)
            lead = one.start - now if one is not None else None
            if lead is None or lead > timedelta(seconds=room.test_before_s):
                self._again_at_s.pop(name, None)  # the next session's first test is made at once
            elif lead > _CLEAR and now_s >= self._again_at_s.get(name, 0):
                due.append(name)
        return due

    async def _quietly(self, name: str) -> None:
        """What a test finds is in the journal; one that can't be made is made again soon."""
        try:
            room = self._rooms[name]
            self._again_at_s[name] = self._now_s() + room.test_each_s
            async with self._places:
                await self._unless_busy(room)
        except (AgentError, KeyError):  # a reload may just have taken the room away
            self._again_at_s[name] = self._now_s() + _CLEAR.total_seconds()
        finally:
            self._testing.discard(name)

    async def test(self, name: str) -> SessionTested:
        """Test a room now; what was found is in the journal. Raises RequestError if that can't be, JournalError."""
        room = self._rooms.get(name)
        if room is None:
            raise RequestError(f"没有这个房间 (there is no room {name[:64]!r}).", safe=_UNCHANGED, do="See rooms.toml.")
        if self._is_busy(name):
            what = f"{room.title}正在录制或测试 (room {name} is being recorded or tested)."
            raise RequestError(what, safe="That goes on.", do="Look at `capture-agent room show`.")
        self._testing.add(name)
        try:
            return await self._unless_busy(room)
        finally:
            self._testing.discard(name)

    async def asked(self, asked: Mapping[str, str]) -> dict[str, object]:
        """The same for a person who names a `room`; what takes longer than an answer may goes on by itself."""
        task = asyncio.create_task(self.test(asked["room"]))
        self._under_way.add(task)
        task.add_done_callback(self._forget)
        if not (await asyncio.wait([task], timeout=_ASKED_LIMIT_S))[0]:
            return {"under_way": True}
        tested = task.result()
        return {"session": tested.session_id, "passed": tested.passed, "checks": dict(tested.checks)}

    def _forget(self, task: asyncio.Task[SessionTested]) -> None:
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()  # nobody waits for its words any more

    def _is_busy(self, name: str) -> bool:
        return name in self._testing or any(one.room == name for one in self._sessions.running())

    async def _unless_busy(self, room: Room) -> SessionTested:
        """A session that starts goes before: the test ends at once then."""
        test = asyncio.create_task(self._test(room))
        try:
            while not (await asyncio.wait([test], timeout=0.2))[0]:
                if any(one.room == room.name for one in self._sessions.running()):
                    what = f"{room.title}已开始录制，测试中止 (a session has started: the test was ended)."
                    raise RequestError(what, safe="The session goes on.")
            return test.result()
        finally:
            test.cancel()
            await asyncio.wait([test])

    async def _test(self, room: Room) -> SessionTested:
        station, one = self._station, self._scheduler.coming(room.name)
        now = station.clock()
        if one is not None and one.start - now > timedelta(seconds=room.test_before_s):
            one = None
        name = new_id(station.clock) if one is None else await self._scheduler.session_id(room.name, one)
        folder = station.vault.work_dir / f"test-{new_id(station.clock)}"
        try:
            await station.on_disk(durable.make_dir, folder)
            heard = await self._recorded(room, name, folder)
        except OSError as error:
            what = f"The station's disk refused the test's folder: {error.strerror or error}."
            raise StoreError(what, safe=_UNCHANGED, do="Have the administrator check the disk.") from error
        finally:
            with contextlib.suppress(OSError):  # what is left in this folder goes at the next start
                await station.on_disk(durable.remove_work, folder)
        told = {
            "record": _joined(heard, _recorded_badly), "decode": _joined(heard, _decodes_badly),
            "levels": _levels(heard), "clock": self._clocks(heard), "disk": await self._space(room, one),
            "store": await self._reaches(),
        }  # fmt: skip
        figures: dict[str, Any] = {source: _figures(one) for source, one in heard.items()}
        whose = {"scheduled": one.key} if one is not None else {}
        passed = all(what == OK for what in told.values())
        tested = SessionTested(name, room.name, now, passed, told, {"sources": figures, **whose})
        tested = self._signed(tested)
        await station.journal.record(tested)
        return tested

    # Record and decode

    async def _recorded(self, room: Room, name: str, folder: Path) -> dict[str, _Heard]:
        heard = {source.name: _Heard(source.title, watched=source.watch) for source in room.sources}
        found = await asyncio.gather(*(self._address(room, source, heard) for source in room.sources))
        plans = tuple(plan for plan in found if plan is not None)
        if plans:
            plan = Plan(name, str(folder), plans, (1,) * len(plans), 3600.0, test=True)
            await self._listened(self._record(plan, self._station.clock), [heard[one.name] for one in plans], heard)
        for one in heard.values():
            if one.closed:
                largest = max(one.closed, key=lambda closed: closed.size_bytes)
                with contextlib.suppress(ChildError):
                    one.found = await inspect(folder / largest.file, bounds=_READING)
        return heard

    async def _address(self, room: Room, source: Source, heard: Mapping[str, _Heard]) -> SourcePlan | None:
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                return await self._addresses(room, source)
        except RoomError as error:
            heard[source.name].why = f"{_CAUSES.get(error.cause, '')} {error.what}".strip()
        except TimeoutError:
            heard[source.name].why = "摄像机没有回答 the camera didn't answer"
        return None

    async def _listened(self, recorder: Recorder, asked: list[_Heard], heard: Mapping[str, _Heard]) -> None:
        """Have it record for a while from when all have begun, or from when that has taken too long."""
        listening = asyncio.create_task(_listen(recorder, heard))
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_ANSWER_LIMIT_S):
                    await asyncio.gather(*(one.begun.wait() for one in asked))
            if any(one.begun.is_set() for one in asked):
                await asyncio.sleep(_LASTS_S)
        finally:
            await recorder.stop()
            await asyncio.wait([listening], timeout=_STOP_LIMIT_S)
            listening.cancel()
            await asyncio.wait([listening])

    # Clock, disk, store

    def _clocks(self, heard: Mapping[str, _Heard]) -> str:
        ours = "" if self._station.clock_is_kept() else "本站时钟未校准 nobody keeps the station's clock right"
        found = _joined(heard, _camera_clock)
        return "; ".join(what for what in (ours, found if found != OK else "") if what) or OK

    async def _space(self, room: Room, one: Planned | None) -> str:
        lasts = one.end - one.start if one is not None else timedelta(hours=room.planned_h)
        wanted = planned_bytes(room, lasts)
        try:
            free = await self._station.on_disk(self._station.vault.free_bytes) - self._station.reserve_bytes
        except StoreError as error:
            return error.what
        short = f"需要 {wanted / 1e9:.1f} GB，可用 {max(0, free) / 1e9:.1f} GB not enough space for the planned time"
        return OK if free >= wanted else short

    async def _reaches(self) -> str:
        try:
            async with asyncio.timeout(_STORE_LIMIT_S):
                await self._station.store.look()
        except StoreError as error:
            return error.what
        except TimeoutError:
            return f"{_STORE_LIMIT_S:g} 秒内没有回答 it gave no answer"
        return OK

    def _signed(self, tested: SessionTested) -> SessionTested:
        """By the station's own key, over the canonical JSON (RFC 8785) of everything else; as it is without a key."""
        key = self._station.custody.key
        if key is None:
            return tested
        said = asdict(tested) | {"tested_at": tested.tested_at.isoformat()}
        signed = {"key": key.fingerprint, "signature": key.sign(rfc8785.dumps(said)).hex()}
        return replace(tested, figures={**tested.figures, **signed})


async def _listen(recorder: Recorder, heard: Mapping[str, _Heard]) -> None:
    async for report in recorder.reports():
        one = heard.get(report.source)
        match report:
            case _ if one is None:
                pass
            case Begun():
                one.begun.set()
            case Closed():
                one.closed.append(report)
            case Lost(cause=cause):
                one.why = _CAUSES.get(cause, cause)
            case Alive(level_db=float(level_db)):
                one.level_db = max(_FLOOR_DB, level_db, one.level_db if one.level_db is not None else _FLOOR_DB)


def _joined(heard: Mapping[str, _Heard], judged: Callable[[_Heard], str]) -> str:
    return "; ".join(f"{one.title}：{wrong}" for one in heard.values() if (wrong := judged(one))) or OK


def _recorded_badly(one: _Heard) -> str:
    if not one.closed:
        return one.why
    short = f"只录到 {one.media_s:.1f} 秒 only {one.media_s:.1f} s were recorded"
    return short if one.media_s < _LEAST * _LASTS_S else ""


def _decodes_badly(one: _Heard) -> str:
    if not one.closed:
        return ""  # told already
    if one.found is None or not one.found.tracks:
        return f"无法解码 it can't be decoded {one.found.reason if one.found else ''}".strip()
    bad, packets = (sum(getattr(track, what) for track in one.found.tracks) for what in ("bad", "packets"))
    frames = sum(track.frames for track in one.found.tracks)
    return "" if frames and not bad else f"{packets} 个数据包中 {bad} 个无法解码 packets can't be decoded"


def _levels(heard: Mapping[str, _Heard]) -> str:
    """Somebody must be heard: one microphone of the room at least, and no one that is looked at may be silent."""
    if any(one.closed for one in heard.values()) and not any(one.has_sound for one in heard.values()):
        return "没有一路有声音 no source has sound"
    return _joined(heard, _silent)


def _silent(one: _Heard) -> str:
    if not one.has_sound or not one.watched or (one.level_db is not None and one.level_db > _SILENT_DB):
        return ""
    return f"无声 silent ({one.level_db:.0f} dB)" if one.level_db is not None else "无声 no level was heard"


def _camera_clock(one: _Heard) -> str:
    ahead_s = _ahead_s(one)
    if ahead_s is None or abs(ahead_s) <= _CAMERA_CLOCK.total_seconds():
        return ""
    return f"摄像机时钟偏差 its clock is off by {ahead_s:+.0f} s"


def _ahead_s(one: _Heard) -> float | None:
    told = next((closed for closed in one.closed if closed.camera_us is not None), None)
    return (told.camera_us - told.start_us) / 1e6 if told is not None and told.camera_us is not None else None


def _figures(one: _Heard) -> dict[str, Any]:
    return {
        "media_s": round(one.media_s, 3), "size_bytes": sum(closed.size_bytes for closed in one.closed),
        "frames": sum(closed.frames for closed in one.closed), "level_db": one.level_db,
        "camera_ahead_s": _ahead_s(one),
        "tracks": [asdict(track) for closed in one.closed[:1] for track in closed.tracks],
    }  # fmt: skip
