"""Promise: each planned session starts once and on time, or late and told; none is ended early, and never run two."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.rooms import Room
from agent.config.schedules import CHINA, Schedule
from agent.errors import ConfigError, JournalError, RequestError
from agent.journal.views import IncidentView, SessionView
from agent.model import Incident, LiveSession, Planned, SessionEnded, SessionStarted, SessionTested, StartedBy
from agent.pipeline.scheduling import Scheduler
from agent.pipeline.sessions import Order
from agent.pipeline.station import Station

T = TypeVar("T")
NINE = datetime(2026, 11, 23, 9, 0, tzinfo=CHINA)
MINUTE = timedelta(minutes=1)


def planned(key: str, start_min: float, lasts_min: float = 60) -> Planned:
    start = NINE + start_min * MINUTE
    return Planned(key, start, start + lasts_min * MINUTE)


@dataclass
class World:
    """A room whose sessions are only noted: what the journal of a station would know, and time that the test moves.

    What it records is not what is looked at here; `Sessions` itself is tested where recorders are real.
    """

    path: Path
    plan: list[Planned] = field(default_factory=list)
    now: datetime = NINE
    seconds: float = 0.0
    known: list[SessionView] = field(default_factory=list)
    incidents: list[Incident] = field(default_factory=list)
    refuses: bool = False
    reads: int = 0
    wrong: tuple[str, ...] = ()
    refused: str = ""
    left: dict[str, datetime] = field(default_factory=dict)
    test: SessionTested | None = None

    def __post_init__(self) -> None:
        self.path.write_text("")
        os.utime(self.path, (0, 0))
        self.rooms = {"a1": Room("a1", "第一询问室", schedule=self.path, overrun_min=0)}
        self.restart()

    def restart(self) -> None:
        """The service ends and begins; sessions that run go on."""
        self.scheduler = Scheduler(
            cast("Station", self), self, self.rooms, read=self.read, seconds=lambda: self.seconds
        )  # fmt: skip

    # What a scheduler asks of a station

    @property
    def journal(self) -> World:
        return self

    reader = journal

    def clock(self) -> datetime:
        return self.now

    async def on_disk(self, work: Callable[..., T], *arguments: object) -> T:
        return work(*arguments)

    async def record(self, *entries: Incident) -> int:
        self.incidents += entries
        return 1

    def sessions_of(self, room: str, limit: int) -> tuple[SessionView, ...]:
        return tuple(self.known[::-1][:limit])

    def newest_test(self, room: str) -> SessionTested | None:
        return self.test

    def last_incident(self, kind: str) -> IncidentView | None:
        return IncidentView(1, NINE - timedelta(days=3), {})

    def incidents_of(self, kind: str, since: datetime, limit: int) -> tuple[IncidentView, ...]:
        assert since <= self.now
        return tuple(IncidentView(1, self.now, one.detail) for one in self.incidents if one.kind == kind)[:limit]

    async def read(self, path: Path, first: datetime, last: datetime) -> Schedule:
        assert path == self.path
        self.reads += 1
        if self.refused:
            raise ConfigError(self.refused)
        within = (one for one in self.plan if one.start < last and one.end > first)
        return Schedule(tuple(sorted(within, key=lambda one: (one.start, one.key))), self.wrong)

    # Sessions

    def running(self) -> tuple[LiveSession, ...]:
        return tuple(
            LiveSession("a1", one.started.session_id, one.started.started_at, one.started.planned_end, ())
            for one in self.known
            if one.ended is None
        )

    async def start(self, room: str, order: Order) -> str:
        if self.refuses:
            raise RequestError("存储空间不足 (no space).")
        if self.running():
            raise RequestError("is recording already")
        name = order.session_id or f"s{len(self.known)}"
        started = SessionStarted(
            name, room, order.title, self.now, order.started_by, order.who, order.why, order.stage, (),
            order.case_number, order.participants, order.planned_start, order.planned_end, order.scheduled,
        )  # fmt: skip
        self.known.append(SessionView(started, None))
        return name

    async def stop(self, session_id: str, who: str, why: str, reason: str = "stopped") -> None:
        view = next(one for one in self.known if one.started.session_id == session_id and one.ended is None)
        ended = SessionEnded(session_id, self.now, who, why, reason)
        self.known[self.known.index(view)] = SessionView(view.started, ended)

    # What a test does

    def changed(self) -> None:
        os.utime(self.path, (1, self.path.stat().st_mtime + 1))

    async def pass_time(self, minutes: float, step_s: float = 20.0) -> None:
        end_s = self.seconds + minutes * 60
        while self.seconds < end_s:
            await self.scheduler.serve("a1")
            self.seconds += step_s
            self.now += timedelta(seconds=step_s)
        await self.scheduler.serve("a1")

    def history(self) -> list[tuple[str, float, float | None, str]]:
        """Of each session its key, and when it began and ended in minutes after nine, and why."""
        return [
            (
                one.started.scheduled, (one.started.started_at - NINE) / MINUTE,
                (one.ended.ended_at - NINE) / MINUTE if one.ended else None, one.ended.reason if one.ended else "",
            )
            for one in self.known
        ]  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "plan.ics")


async def test_a_planned_session_starts_and_ends_on_time_with_all_that_is_known_of_it(world: World) -> None:
    said: dict[str, Any] = {"title": "听证", "stage": "S06", "case_number": "7号", "participants": ("张三",)}
    world.plan = [replace(planned("k", 5, 30), **said)]
    await world.pass_time(60)
    assert world.history() == [("k", 5, 35, "scheduled")]
    started = world.known[0].started
    assert (started.planned_start, started.planned_end) == (NINE + 5 * MINUTE, NINE + 35 * MINUTE)
    assert {name: getattr(started, name) for name in said} == said
    assert (started.started_by, started.who) == (StartedBy.SCHEDULE, "schedule")
    assert world.scheduler.problems() == ()


async def test_after_a_restart_in_its_middle_it_starts_at_once_and_once_only(world: World) -> None:
    world.plan = [planned("k", -30)]
    await world.pass_time(1)
    assert world.history() == [("k", 0, None, "")]
    for _ in range(3):
        world.restart()
        await world.pass_time(1)
    await world.stop(world.known[0].started.session_id, "张三", "over")
    world.restart()
    await world.pass_time(60)
    assert world.history() == [("k", 0, 4, "stopped")]


async def test_one_that_a_crash_has_ended_is_begun_again(world: World) -> None:
    world.plan = [planned("k", 0)]
    await world.pass_time(1)
    await world.stop(world.known[0].started.session_id, "", "", "interrupted")
    world.restart()
    await world.pass_time(90)
    assert world.history() == [("k", 0, 1, "interrupted"), ("k", 1, 60, "scheduled")]


async def test_back_to_back_sessions_stay_apart_and_follow_at_once(world: World) -> None:
    world.plan = [planned("a", 0, 30), planned("b", 30, 30), planned("c", 60, 30)]
    await world.pass_time(120)
    assert world.history() == [("a", 0, 30, "scheduled"), ("b", 30, 60, "scheduled"), ("c", 60, 90, "scheduled")]


async def test_one_that_overlaps_waits_and_is_told_and_starts_late(world: World) -> None:
    world.plan = [planned("a", 0, 40), planned("b", 20, 40)]
    await world.pass_time(30)
    (told,) = world.scheduler.problems()
    assert told.startswith("第一询问室：预定 11-23 09:20 的会话等待")
    await world.pass_time(60)
    assert world.history() == [("a", 0, 40, "scheduled"), ("b", 40, 60, "scheduled")]
    assert world.scheduler.problems() == ()


async def test_what_a_person_began_a_person_ends(world: World) -> None:
    world.plan = [planned("k", 10, 20)]
    await world.pass_time(1)
    mine = Order(StartedBy.SCREEN, "张三", "early", title="我的")
    order = world.scheduler.meant(world.rooms["a1"], mine)
    assert (order.scheduled, order.title, order.planned_end) == ("k", "我的", NINE + 30 * MINUTE)
    await world.start("a1", order)
    await world.pass_time(60)
    assert world.history() == [("k", 1, None, "")]


async def test_what_a_person_began_early_and_ended_at_once_is_begun_again_at_its_time(world: World) -> None:
    world.plan = [planned("k", 10, 20)]
    await world.pass_time(1)
    name = await world.scheduler.session_id("a1", world.plan[0])
    for _ in range(2):
        order = world.scheduler.meant(world.rooms["a1"], Order(StartedBy.SCREEN, "张三", "a mistake"))
        started = await world.start("a1", order)
        assert (started == name) is (len(world.known) == 1), "an id is used once"
        await world.pass_time(1)
        await world.stop(started, "张三", "a mistake")
    await world.pass_time(60)
    assert [entry[0] for entry in world.history()] == ["k", "k", "k"]
    assert world.history()[2] == ("k", 10, 30, "scheduled")


async def test_one_that_was_held_and_is_put_off_to_the_afternoon_is_begun_there_too(world: World) -> None:
    world.plan = [planned("k", 0, 30)]
    await world.pass_time(40)
    world.plan = [planned("k", 120, 30)]
    world.changed()
    await world.pass_time(160)
    assert world.history() == [("k", 0, 30, "scheduled"), ("k", 120, 150, "scheduled")]


async def test_what_a_person_begins_long_before_is_another_session(world: World) -> None:
    world.plan = [planned("k", 20, 20)]
    await world.pass_time(1)
    order = Order(StartedBy.SCREEN, "张三", "another")
    assert world.scheduler.meant(world.rooms["a1"], order) is order
    await world.start("a1", order)
    await world.pass_time(24)
    assert "等待" in world.scheduler.problems()[0]
    await world.stop("s0", "张三", "over")
    await world.pass_time(60)
    assert world.history() == [("", 1, 25, "stopped"), ("k", 25, 40, "scheduled")]


async def test_one_that_was_extended_is_ended_at_its_new_end(world: World) -> None:
    world.plan = [planned("k", 0, 30)]
    await world.pass_time(10)
    started = world.known[0].started
    later = SimpleNamespace(**{name: getattr(started, name) for name in SessionStarted.__slots__})
    later.planned_end = NINE + 50 * MINUTE
    world.known[0] = SessionView(cast("SessionStarted", later), None)
    await world.pass_time(60)
    assert world.history() == [("k", 0, 50, "scheduled")]


async def test_a_hearing_that_takes_longer_is_not_cut_off_but_an_empty_room_ends(
    world: World,
) -> None:
    """Also after a restart beyond the planned end, and by both clocks."""
    world.rooms["a1"] = replace(world.rooms["a1"], overrun_min=20)
    world.plan = [planned("k", 0, 30)]
    await world.pass_time(40)
    assert world.history() == [("k", 0, None, "")]
    world.restart()
    await world.pass_time(5)
    world.now += 60 * MINUTE  # somebody sets the clock
    await world.pass_time(2)
    assert world.history() == [("k", 0, None, "")]
    await world.pass_time(30)
    ((_, _, ended, why),) = world.history()
    assert (why, ended is not None) == ("scheduled", True)


@pytest.mark.parametrize(("next_at", "first_ends"), [(30, 30), (40, 40), (60, 50), (25, 30)])
@pytest.mark.parametrize("restarts", [False, True])
async def test_an_overrun_ends_when_the_next_session_begins(
    world: World, next_at: int, first_ends: int, restarts: bool
) -> None:
    world.rooms["a1"] = replace(world.rooms["a1"], overrun_min=20)
    world.plan = [planned("a", 0, 30), planned("b", next_at, 30)]
    await world.pass_time(20)
    if restarts:
        world.restart()
    await world.pass_time(130)
    begins = max(next_at, first_ends)
    assert world.history() == [("a", 0, first_ends, "scheduled"), ("b", begins, next_at + 50, "scheduled")]


async def test_one_that_can_t_start_is_told_and_tried_until_its_end(world: World) -> None:
    world.plan = [planned("k", 0, 30)]
    world.refuses = True
    await world.pass_time(10)
    (told,) = world.scheduler.problems()
    assert told == "第一询问室：预定 11-23 09:00 的会话未能开始 (could not be started): 存储空间不足 (no space)."
    world.refuses = False
    await world.pass_time(30)
    ((key, begun, ended, why),) = world.history()
    assert (key, ended, why) == ("k", 30, "scheduled")
    assert 10 <= begun <= 11
    assert world.scheduler.problems() == ()


async def test_one_that_never_started_is_told_for_a_day_and_journalled_once(world: World) -> None:
    world.plan = [planned("k", 0, 5)]
    world.refuses = True
    await world.pass_time(10)
    told = "第一询问室：预定 11-23 09:00 的会话没有录制 (a planned session was not recorded)"
    assert world.scheduler.problems() == (told,)
    assert [one.kind for one in world.incidents] == ["session-missed"]
    assert world.incidents[0].detail == {"room": "a1", "planned_start": "2026-11-23T09:00:00+08:00"}
    await world.pass_time(24 * 60, step_s=300)
    assert world.scheduler.problems() == ()
    assert len(world.incidents) == 1


async def test_one_that_never_started_is_an_alarm_after_a_restart_too_and_no_second_event(world: World) -> None:
    world.plan = [planned("k", 0, 5), planned("l", 20, 5)]
    world.refuses = True
    await world.pass_time(10)
    world.restart()
    await world.pass_time(1)
    assert len(world.scheduler.problems()) == 1
    assert len(world.incidents) == 1
    await world.pass_time(20)
    assert len(world.scheduler.problems()) == 2
    assert [one.detail["planned_start"][11:16] for one in world.incidents] == ["09:00", "09:20"]


async def test_one_that_passed_while_nothing_ran_is_told_but_not_what_is_older_than_the_file(world: World) -> None:
    world.plan = [planned("old", -600, 5), planned("k", -60, 5)]
    os.utime(world.path, (1, (NINE - 300 * MINUTE).timestamp()))
    await world.pass_time(1)
    assert [one.split()[1] for one in world.scheduler.problems()] == ["11-23"]
    assert "08:00" in world.scheduler.problems()[0]
    assert world.known == []


async def test_a_clock_that_is_set_forward_ends_nothing_early(world: World) -> None:
    world.plan = [planned("k", 0, 120)]
    await world.pass_time(30)
    world.now += timedelta(hours=5)
    await world.pass_time(60)
    assert world.history()[0][2] is None
    await world.pass_time(60)
    assert len(world.known) == 1
    assert world.known[0].ended is not None
    assert world.seconds == pytest.approx(150 * 60, abs=100)


async def test_a_clock_that_is_set_back_starts_nothing_again(world: World) -> None:
    world.plan = [planned("k", 0, 20)]
    await world.pass_time(30)
    world.now -= timedelta(minutes=25)
    await world.pass_time(60)
    assert [entry[0] for entry in world.history()] == ["k"]


async def test_a_file_is_read_when_it_changes_and_each_hour_and_not_else(world: World) -> None:
    await world.pass_time(30)
    assert world.reads == 1
    world.plan = [planned("k", 32, 5)]
    world.changed()
    await world.pass_time(20)
    assert world.reads == 2
    assert world.history() == [("k", 32, 37, "scheduled")]
    await world.pass_time(60)
    assert world.reads == 3


async def test_what_was_planned_stays_planned_when_the_file_breaks_and_that_is_told(world: World) -> None:
    world.plan = [planned("k", 30, 5)]
    await world.pass_time(5)
    world.refused = "plan.ics: is no iCalendar file"
    world.changed()
    await world.pass_time(30)
    assert world.history() == [("k", 30, 35, "scheduled")]
    assert world.scheduler.problems() == ("第一询问室：排期文件有误 (schedule): plan.ics: is no iCalendar file",)
    world.refused = ""
    await world.pass_time(12)
    assert world.scheduler.problems() == ()


async def test_wrong_events_are_told_beside_the_others(world: World) -> None:
    world.plan, world.wrong = [planned("k", 0)], ("plan.ics: event 2 has no end",)
    await world.pass_time(1)
    assert world.running()
    assert "event 2 has no end" in world.scheduler.problems()[0]


async def test_a_reload_without_the_schedule_plans_nothing_and_ends_what_it_began_on_time(world: World) -> None:
    world.plan = [planned("k", 0, 20), planned("l", 30, 20)]
    await world.pass_time(10)
    world.rooms["a1"] = Room("a1", "第一询问室", overrun_min=0)
    world.scheduler.use(world.rooms)
    await world.pass_time(60)
    assert world.history() == [("k", 0, 20, "scheduled")]
    assert world.scheduler.planned() == {}


async def test_a_session_in_a_room_that_a_reload_took_away_is_ended_on_time(world: World) -> None:
    world.plan = [planned("k", 0, 20), planned("l", 30, 20)]
    await world.pass_time(10)
    world.scheduler.use({})
    await world.pass_time(60)
    assert world.history() == [("k", 0, 20, "scheduled")]
    world.scheduler.use({})
    await world.scheduler.serve("a1")
    assert world.scheduler.problems() == ()


async def test_a_journal_that_can_t_be_read_is_asked_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.plan = [planned("k", 0, 20)]

    def refused(*_: object) -> tuple[SessionView, ...]:
        raise JournalError("disk I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(world, "sessions_of", refused)
        await world.scheduler._served("a1")
    world.now += MINUTE
    await world.scheduler._served("a1")
    assert world.history() == [("k", 1, None, "")]


async def test_screens_know_what_comes(world: World) -> None:
    world.plan = [planned("k", 5, 30), planned("l", 60, 30)]
    await world.pass_time(1)
    assert world.scheduler.planned() == {"a1": (NINE + 5 * MINUTE, NINE + 35 * MINUTE)}
    await world.pass_time(10)
    assert world.scheduler.planned() == {"a1": (NINE + 60 * MINUTE, NINE + 90 * MINUTE)}


async def test_a_room_that_takes_long_keeps_no_other_one_waiting(world: World) -> None:
    slow, stuck = asyncio.Event(), asyncio.Event()
    world.rooms["b2"] = Room("b2", "听证室")
    served: list[str] = []

    async def serve(name: str) -> None:
        served.append(name)
        if name == "a1":
            stuck.set()
            await slow.wait()

    world.scheduler.serve = serve  # type: ignore[method-assign]
    running = asyncio.create_task(world.scheduler.run())
    async with asyncio.timeout(30):
        await stuck.wait()
        while served.count("b2") < 2:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])
    assert served.count("a1") == 1


async def test_a_session_starts_with_the_id_that_its_test_has_told_also_after_a_restart(world: World) -> None:
    world.plan = [planned("k", 5, 30), planned("l", 60, 30)]
    await world.pass_time(1)
    name = await world.scheduler.session_id("a1", world.plan[0])
    world.test = SessionTested(name, "a1", world.now, passed=True, checks={}, figures={"scheduled": "k"})
    world.restart()
    await world.pass_time(100)
    assert world.known[0].started.session_id == name
    assert world.known[1].started.session_id != name


async def test_one_that_is_begun_again_after_a_crash_gets_another_id(world: World) -> None:
    world.plan = [planned("k", 0, 30)]
    world.test = SessionTested("t", "a1", world.now, passed=True, checks={}, figures={"scheduled": "k"})
    await world.pass_time(1)
    await world.stop("t", "", "", "interrupted")
    world.restart()
    await world.pass_time(5)
    assert [one.started.scheduled for one in world.known] == ["k", "k"]
    assert world.known[1].started.session_id not in ("", "t")


# Against a plain model

ACTIONS = st.one_of(
    st.tuples(st.just("pass"), st.integers(1, 40)),
    st.tuples(st.just("restart"), st.just(0)),
    st.tuples(st.just("begin"), st.just(0)),
    st.tuples(st.just("end"), st.just(0)),
    st.tuples(st.just("move"), st.integers(-30, 30)),
    st.tuples(st.just("step"), st.integers(-90, 90)),
)
PLANS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 90)), max_size=5)


@settings(max_examples=120)
@given(plans=PLANS, actions=st.lists(ACTIONS, max_size=14))
def test_whatever_happens_no_session_is_begun_twice_doubled_or_ended_early(
    tmp_path_factory: pytest.TempPathFactory, plans: list[tuple[int, int]], actions: list[tuple[str, int]]
) -> None:
    world = World(tmp_path_factory.getbasetemp() / "model.ics")
    world.plan = [planned(f"k{number}", start, lasts) for number, (start, lasts) in enumerate(plans)]
    asyncio.run(_live(world, actions))
    for number, one in enumerate(world.known):
        for later in world.known[number + 1 :]:
            if one.started.scheduled and one.started.scheduled == later.started.scheduled:
                assert one.ended is not None
                assert later.started.planned_start is not None
                assert one.ended.ended_at <= later.started.planned_start, "each is begun once, unless it came too early"
    spans = [(one.started.started_at, one.ended) for one in world.known]
    assert sum(ended is None for _, ended in spans) <= 1, "never two"
    stepped = any(kind == "step" and size for kind, size in actions)
    for one in world.known:
        if one.ended is not None and one.ended.reason == "scheduled":
            assert one.started.planned_end is not None
            assert one.ended.ended_at >= one.started.planned_end, "none is ended early"
            assert one.started.started_by is StartedBy.SCHEDULE
    if not stepped:
        assert world.left == {}, "one that was due began, as soon as the room was free"


async def _live(world: World, actions: list[tuple[str, int]]) -> None:
    for kind, size in actions:
        if kind == "pass":
            await world.pass_time(size, step_s=60)
        elif kind == "restart":
            world.restart()
        elif kind == "begin" and not world.running():
            await world.start("a1", world.scheduler.meant(world.rooms["a1"], Order(StartedBy.BUTTON, "")))
        elif kind == "end" and world.running():
            await world.stop(world.running()[0].session_id, "张三", "over")
        elif kind == "move" and world.plan:
            one = world.plan.pop()
            world.plan.append(Planned(one.key, one.start + size * MINUTE, one.end + size * MINUTE))
            world.changed()
        elif kind == "step":
            world.now += size * MINUTE
    # When nobody interferes any more: the plain model says what must run now.
    await world.pass_time(3, step_s=60)
    begun = {one.started.scheduled: one.ended.ended_at if one.ended else world.now for one in world.known}
    due = {
        one.key: one.start
        for one in world.plan
        if one.start <= world.now < one.end and begun.get(one.key, one.start) <= one.start
    }
    if not world.running():
        world.left = due


@settings(max_examples=60)
@given(plans=PLANS)
def test_left_alone_a_room_does_exactly_what_a_plain_queue_would(
    tmp_path_factory: pytest.TempPathFactory, plans: list[tuple[int, int]]
) -> None:
    world = World(tmp_path_factory.getbasetemp() / "queue.ics")
    world.plan = [planned(f"k{number}", start, lasts) for number, (start, lasts) in enumerate(plans)]
    asyncio.run(world.pass_time(300, step_s=60))

    expected: list[tuple[str, float, float | None, str]] = []
    left = sorted(world.plan, key=lambda one: (one.start, one.key))
    free = 0
    for minute in range(301):
        at = NINE + minute * MINUTE
        if minute < free:
            continue
        one = next((one for one in left if one.start <= at < one.end), None)
        if one is not None:
            left.remove(one)
            free = int((one.end - NINE) / MINUTE)
            expected.append((one.key, minute, free, "scheduled"))
    assert world.history() == expected
