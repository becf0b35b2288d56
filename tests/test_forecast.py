"""A forecast is never better than what can happen, and moves the right way with everything that it is made of."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.deadline import ZONE
from agent.forecast import Forecast, Load, Miss, forecast
from agent.hours import Span, closes_next, done_at, is_open

NOW = datetime(2026, 11, 23, 10, tzinfo=ZONE)
HOUR = timedelta(hours=1)
NIGHT = ((time(19), time(7)),)
MB_S = 1e6
HOUR_OF_BYTES = 3_600_000_000  # at 1 MB/s

SPANS = st.sampled_from([(), NIGHT, ((time(12), time(13)), (time(22), time(4))), ((time(8), time(8)),)])
LOADS = st.lists(
    st.builds(
        lambda due, files, size, ready: Load(NOW + due * HOUR, files, size, NOW + ready * HOUR),
        st.integers(-5, 100), st.integers(1, 50), st.integers(0, 20 * HOUR_OF_BYTES), st.integers(0, 30),
    ),
    max_size=6,
)  # fmt: skip


def load(due_h: float, hours: float, *, ready_h: float = 0, files: int = 1) -> Load:
    """Files that take so many hours at 1 MB/s."""
    return Load(NOW + due_h * HOUR, files, round(hours * HOUR_OF_BYTES), NOW + ready_h * HOUR)


def made(*loads: Load, rest_bytes: int = 0, rate: float = MB_S, spans: tuple[Span, ...] = ()) -> Forecast:
    return forecast(loads, rest_bytes, rate, spans, NOW)


def test_nothing_waits() -> None:
    assert made() == Forecast((), (), NOW, more=False)
    assert made().stored_by(NOW) is None


def test_what_is_more_urgent_goes_first_and_what_is_less_urgent_delays_nothing() -> None:
    found = made(load(30, 5), load(10, 2), load(40, 90))
    assert found.steps == ((NOW + 10 * HOUR, NOW + 2 * HOUR), (NOW + 30 * HOUR, NOW + 7 * HOUR),
                           (NOW + 40 * HOUR, NOW + 97 * HOUR))  # fmt: skip
    assert found.stored_by(NOW + 20 * HOUR) == NOW + 7 * HOUR
    assert found.stored_by(NOW + 41 * HOUR) is None
    assert found.all_by == NOW + 97 * HOUR


def test_what_will_be_late_is_told_with_how_many_and_when() -> None:
    """Two hours of ten are left when the time is up: two of ten equal files."""
    assert made(load(8, 10, files=10)).misses == (Miss(NOW + 8 * HOUR, 2, NOW + 10 * HOUR),)
    assert made(load(10, 10, files=10)).misses == (), "just in time"
    assert made(load(-1, 10)).misses == (), "that is no forecast: it is late already"


def test_what_still_is_on_a_recorder_is_stored_after_it_was_pulled() -> None:
    found = made(load(9, 1, ready_h=6), load(20, 3))
    assert found.steps == ((NOW + 9 * HOUR, NOW + 7 * HOUR), (NOW + 20 * HOUR, NOW + 7 * HOUR))


def test_outside_the_hours_only_what_could_miss_its_limit_goes() -> None:
    """It is ten; the night from 19:00 to 07:00 is open. What is due at midnight can't wait for the end of the night."""
    assert made(load(14, 2), spans=NIGHT).steps[0][1] == NOW + 2 * HOUR
    assert made(load(38, 2), spans=NIGHT).steps[0][1] == NOW + 11 * HOUR
    assert made(load(38, 12), spans=NIGHT).steps[0][1] == NOW + 21 * HOUR
    assert made(load(38, 13), spans=NIGHT).steps[0][1] == NOW + 22 * HOUR, "in the morning it no longer can wait"
    assert made(load(62, 13), spans=NIGHT).steps[0][1] == NOW + 34 * HOUR


def test_what_was_not_looked_at_one_by_one_counts_for_the_whole() -> None:
    found = made(load(10, 1), rest_bytes=2 * HOUR_OF_BYTES)
    assert found.all_by == NOW + 3 * HOUR
    assert found.more


def test_nobody_is_told_of_years() -> None:
    assert made(load(10, 1), rest_bytes=10_000 * HOUR_OF_BYTES).all_by is None
    assert made(load(10, 1), rate=1e-9).files_missed == 1


def test_where_this_station_is_the_storage_only_pulling_takes_time() -> None:
    assert made(load(10, 99, ready_h=3), rate=math.inf).all_by == NOW + 3 * HOUR


@given(loads=LOADS, spans=SPANS, rate=st.floats(1e5, 1e8), faster=st.floats(1, 10))
def test_more_rate_is_never_later_and_never_misses_more(
    loads: list[Load], spans: tuple[Span, ...], rate: float, faster: float
) -> None:
    slow, fast = (forecast(loads, 0, each, spans, NOW) for each in (rate, rate * faster))
    for (_, before), (_, after) in zip(slow.steps, fast.steps, strict=True):
        assert after <= before
    assert {miss.due_at for miss in fast.misses} <= {miss.due_at for miss in slow.misses}


@given(loads=LOADS, more=LOADS, spans=SPANS)
def test_more_to_do_is_never_earlier_and_what_is_less_urgent_changes_nothing(
    loads: list[Load], more: list[Load], spans: tuple[Span, ...]
) -> None:
    before, after = made(*loads, spans=spans), dict(made(*loads, *more, spans=spans).steps)
    most_urgent = min((load.due_at for load in more if load.bytes), default=NOW + 1000 * HOUR)
    for due_at, end in before.steps:
        assert after[due_at] >= end
        if due_at < most_urgent:
            assert after[due_at] == end


@given(loads=LOADS, spans=SPANS, ready=st.integers(0, 50))
def test_who_comes_later_is_not_stored_earlier(loads: list[Load], spans: tuple[Span, ...], ready: int) -> None:
    later = [Load(one.due_at, one.files, one.bytes, one.ready_at + ready * HOUR) for one in loads]
    for (_, before), (_, after) in zip(made(*loads, spans=spans).steps, made(*later, spans=spans).steps, strict=True):
        assert after >= before


@given(loads=LOADS, spans=SPANS)
def test_less_urgent_is_never_done_earlier_and_misses_are_what_is_late(
    loads: list[Load], spans: tuple[Span, ...]
) -> None:
    found = made(*loads, spans=spans)
    ends = [end for _, end in found.steps]
    assert ends == sorted(ends)
    assert [miss.due_at for miss in found.misses] == [due for due, end in found.steps if NOW < due < end]
    for miss in found.misses:
        assert 1 <= miss.files <= sum(load.files for load in loads if load.due_at == miss.due_at)


@settings(max_examples=300)
@given(
    spans=SPANS, begin_min=st.integers(0, 2880), work_min=st.integers(0, 3000), due_min=st.integers(-600, 6000)
)  # fmt: skip
def test_the_hours_are_kept_as_the_store_lane_keeps_them(
    spans: tuple[Span, ...], begin_min: int, work_min: int, due_min: int
) -> None:
    """Minute by minute: work goes on while the lane would let go what is due then."""
    at, due_at = NOW + timedelta(minutes=begin_min), NOW + timedelta(minutes=due_min)
    begin, left = at, work_min
    while left:
        left -= is_open(spans, at) or due_at < closes_next(spans, at)
        at += timedelta(minutes=1)
    assert done_at(spans, begin, timedelta(minutes=work_min), due_at) == at


def test_hours_hold_in_any_zone() -> None:
    begin = NOW.astimezone(UTC)
    assert done_at(NIGHT, begin, HOUR, begin + 50 * HOUR) == NOW + 10 * HOUR


@pytest.mark.parametrize("loads", [200, 1])
def test_a_forecast_of_many_due_times_is_the_sum(loads: int) -> None:
    found = made(*(load(100 + due, 0.1) for due in range(loads)), spans=NIGHT)
    assert len(found.steps) == loads
