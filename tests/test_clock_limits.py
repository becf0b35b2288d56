"""Promise: a station whose own clock was wrong and is set has no limit that is later than with the right clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture_time import after_setting, limit_by
from agent.clocks import Step
from agent.deadline import CLOCK_TOLERANCE, ZONE, capture_interval
from agent.errors import JournalError
from agent.journal.codec import decode
from agent.journal.rows import CLOCK_SET
from agent.model import CaptureTime, Clip, ClockStepped, ClockTrust, DockingClosed, Incident, Stamp
from agent.pipeline.limits import recompute, state_time
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.service import Service
from tests.conftest import SettableClock
from tests.journal_entries import assert_consistent, listed, opened, seen
from tests.stations import SHIPPED
from tests.stations import opened as station_opened
from tests.test_deadline import at
from tests.test_limits import SHANDONG, Stated, footage

DAY = timedelta(days=1)
DAY_S = 86400.0
DOCKED = at("2026-11-18T09:00")
MINUTES = st.integers(-20 * 1440, 20 * 1440).map(lambda minutes: timedelta(minutes=minutes))


def interval(stamp: datetime, docked_at: datetime, last_dock_out: datetime | None) -> CaptureTime:
    clip = replace(Clip(1, "A.MP4", b"A.MP4", 1, 1), modified=Stamp(stamp.replace(tzinfo=None).isoformat()))
    return CaptureTime(*capture_interval(clip, docked_at=docked_at, last_dock_out=last_dock_out))


@given(error=MINUTES, stamp=MINUTES, out=st.none() | MINUTES, out_is_wrong=st.booleans())
def test_no_limit_is_later_than_with_the_right_clock(
    error: timedelta, stamp: timedelta, out: timedelta | None, out_is_wrong: bool
) -> None:
    """Whatever the recorder wrote, and whenever the clock went wrong; nor is 逾期 said too early."""
    if timedelta() < abs(error) < CLOCK_TOLERANCE:
        error = timedelta()
    written, left = DOCKED + stamp, None if out is None else DOCKED - abs(out)
    right = interval(written, DOCKED, left)
    wrong = interval(written, DOCKED + error, left + error if left and out_is_wrong else left)
    mended = after_setting(wrong, DOCKED + error, -error.total_seconds())
    found, should = limit_by(SHANDONG, mended), limit_by(SHANDONG, right)
    assert found.alarm_at <= max(should.alarm_at, DOCKED), "before it was docked nobody could do anything"
    if right.clock_trust is ClockTrust.UNMEASURED:
        assert found.due_at >= should.due_at or mended == right


@given(st.floats(-1e12, 1e12), st.integers(86400, 7_000_000_000))
def test_no_step_leads_out_of_the_calendar(seconds: float, seen_at_s: int) -> None:
    local = datetime.fromtimestamp(seen_at_s, ZONE)
    for trust in (ClockTrust.UNTRUSTED, ClockTrust.UNMEASURED):
        after_setting(CaptureTime(local, local, trust), local, seconds)


def test_a_persons_word_stands() -> None:
    stated = CaptureTime(DOCKED, DOCKED, ClockTrust.STATED)
    assert after_setting(stated, DOCKED, -DAY_S) == stated


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(DOCKED)


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with station_opened(tmp_path, clock) as made:
        yield made
    assert_consistent(tmp_path / "journal.db")


def service(station: Station, run: int = 0) -> Service:
    made = Service(SHIPPED, station, Runner(station))
    made._run = run
    return made


def step(clock: SettableClock, by: timedelta) -> Step:
    before = clock()
    clock.set(before + by)
    return Step(before, clock())


async def test_a_clock_set_back_makes_what_only_looked_right_urgent(station: Station, clock: SettableClock) -> None:
    """The station was a day ahead and had set the recorder: nobody could see it until the step."""
    run = await station.journal.record(Incident("started"))
    ahead = footage(SHANDONG, "a", 1, DOCKED, DOCKED)
    past = footage(SHANDONG, "b", 2, DOCKED - 2 * DAY, DOCKED - 2 * DAY)
    await station.journal.record(opened(), ahead, past)
    assert await service(station, run).on_step(step(clock, -DAY))
    row = station.journal.reader.recording("a")
    assert row.captured == (None, DOCKED - DAY, ClockTrust.UNTRUSTED)
    assert row.recording.deadline.alarm_at == DOCKED - DAY
    assert station.journal.reader.recording("b").recording.deadline == past.recording.deadline
    limit = await state_time(station, "a", Stated(DOCKED - DAY, "张三", "the clock was a day ahead"))
    assert limit.due_at == at("2026-11-20T00:00"), "a person can tell"


async def test_a_clock_set_forwards_calls_nothing_late_too_early(station: Station, clock: SettableClock) -> None:
    """The station was a day behind: a recorder with the right time looked as if it came from the future."""
    run = await station.journal.record(Incident("started"))
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, DOCKED - DAY, DOCKED))
    before = station.journal.reader.recording("a").recording.deadline
    assert before.due_at == at("2026-11-21T00:00")
    assert await service(station, run).on_step(step(clock, DAY))
    after = station.journal.reader.recording("a").recording.deadline
    assert (after.alarm_at, after.due_at) == (before.alarm_at, at("2026-11-24T00:00"))


async def test_a_step_forwards_in_a_later_run_makes_nothing_later(station: Station, clock: SettableClock) -> None:
    """The clock may have gone wrong when the machine was off, as it does with an empty battery: it was right before."""
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, DOCKED - DAY, DOCKED))
    before = station.journal.reader.recording("a")
    run = await station.journal.record(Incident("started"))
    assert await service(station, run).on_step(step(clock, 20_000 * DAY))
    assert station.journal.reader.recording("a").time == before.time
    assert await service(station, run).on_step(step(clock, -20_001 * DAY))
    assert station.journal.reader.recording("a").captured == (DOCKED - 2 * DAY, DOCKED - DAY, ClockTrust.UNTRUSTED)


async def test_a_step_into_1970_computes_nothing(station: Station, clock: SettableClock) -> None:
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, DOCKED, DOCKED))
    before = station.journal.reader.recording("a").recording.deadline
    made = service(station)
    assert await made.on_step(step(clock, -20_000 * DAY))
    assert station.journal.reader.recording("a").recording.deadline == before
    assert await made.on_step(step(clock, 20_000 * DAY))
    assert station.journal.reader.recording("a").captured == (DOCKED, DOCKED, ClockTrust.UNMEASURED)
    assert await recompute(station) == 0


async def test_a_recorder_left_as_much_earlier_as_the_clock_was_set_back(
    station: Station, clock: SettableClock
) -> None:
    await station.journal.record(opened(), seen("a", 1), listed(1), DockingClosed("d1", "complete"))
    device_id = opened().device_id
    assert station.journal.reader.last_dock_out(device_id) == DOCKED
    await service(station).on_step(step(clock, -DAY))
    assert station.journal.reader.last_dock_out(device_id) == DOCKED - DAY
    await service(station).on_step(step(clock, 3 * DAY))
    assert station.journal.reader.last_dock_out(device_id) == DOCKED, "in all it was set forwards: no later for that"


async def test_a_step_that_the_journal_cannot_take_down_is_told_again(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> int:
        raise JournalError("the disk is full")

    set_back = step(clock, -DAY)
    with monkeypatch.context() as patch:
        patch.setattr(station.journal, "record", full)
        assert not await service(station).on_step(set_back)
    assert await service(station).on_step(set_back)
    (event,) = [event for event in station.journal.reader.events() if event.kind == "clock_stepped"]
    assert event.subject == "clock"
    assert decode(event.kind, event.detail) == ClockStepped(set_back.before, set_back.after, -86_400_000, 0)


async def test_what_the_clock_was_set_by_is_found_by_an_index(station: Station) -> None:
    plan = station.journal.reader._db.all(f"EXPLAIN QUERY PLAN SELECT {CLOCK_SET} > 5)")
    assert "event_by_subject" in str(plan)
