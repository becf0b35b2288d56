"""Hours of the day in which the store may be used, in China's time whatever zone `now` has."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.deadline import ZONE
from agent.hours import closes_next, is_open

NIGHT = [(time(19), time(7))]
LUNCH = [(time(12), time(13, 30))]
TIMES = st.times().map(lambda moment: moment.replace(second=0, microsecond=0))
MOMENTS = st.datetimes(datetime(2020, 1, 2), datetime(2030, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


def at(hour: int, minute: int = 0) -> datetime:
    return datetime(2026, 11, 22, hour, minute, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("spans", "hour", "minute", "expected"),
    [
        ([], 3, 0, True),
        (NIGHT, 18, 59, False),
        (NIGHT, 19, 0, True),
        (NIGHT, 6, 59, True),
        (NIGHT, 7, 0, False),
        (LUNCH, 12, 0, True),
        (LUNCH, 13, 30, False),
        (NIGHT + LUNCH, 12, 30, True),
        ([(time(8), time(8))], 3, 0, True),
    ],
)
def test_a_span_begins_with_its_first_minute_and_ends_before_its_last(
    spans: list[tuple[time, time]], hour: int, minute: int, expected: bool
) -> None:
    assert is_open(spans, at(hour, minute)) is expected
    assert is_open(spans, at(hour, minute).astimezone(UTC)) is expected


def test_what_is_due_before_the_next_span_ends_cannot_wait_for_it() -> None:
    assert closes_next(NIGHT, at(8)) == at(7) + timedelta(days=1)
    assert closes_next(NIGHT + LUNCH, at(8)) == at(13, 30)
    assert closes_next(NIGHT, at(19)) == at(7) + timedelta(days=2), "the span that has begun is no next one"


@given(spans=st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=4), now=MOMENTS)
def test_the_next_end_lies_ahead_and_within_two_days_and_a_span_is_open_before_it(
    spans: list[tuple[time, time]], now: datetime
) -> None:
    end = closes_next(spans, now)
    assert now < end <= now + timedelta(days=2)
    assert is_open(spans, end - timedelta(minutes=1))
