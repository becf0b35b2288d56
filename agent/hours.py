"""The hours of the day in which a store may be used, in China's time; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Final

from agent.deadline import ZONE

Span = tuple[time, time]
"""From a time of day until another one; past midnight if the second is not later. Equal times are a whole day."""

_DAY: Final = timedelta(days=1)


def is_open(spans: Sequence[Span], now: datetime) -> bool:
    """Whether `now` lies in one of the spans; without any it is always open."""
    return not spans or any(begin <= now < end for begin, end in _around(spans, now))


def closes_next(spans: Sequence[Span], now: datetime) -> datetime:
    """End of the first span that begins after `now`: what is due before that can't be sure to wait for it."""
    return min((begin, end) for begin, end in _around(spans, now) if begin > now)[1]


def _around(spans: Sequence[Span], now: datetime) -> list[tuple[datetime, datetime]]:
    """The spans of yesterday, today and tomorrow."""
    today = now.astimezone(ZONE).date()
    found = []
    for day in (today - _DAY, today, today + _DAY):
        for first, last in spans:
            begin = datetime.combine(day, first, ZONE)
            end = datetime.combine(day, last, ZONE)
            found.append((begin, end if end > begin else end + _DAY))
    return found
