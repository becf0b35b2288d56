"""The hours of the day in which a store may be used, in China's time; pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, time, timedelta
from typing import Final

from agent.deadline import ZONE

Span = tuple[time, time]
"""From a time of day until another one; past midnight if the second is not later. Equal times are a whole day."""

_DAY: Final = timedelta(days=1)
_LONGEST: Final = timedelta(days=31)


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


def done_at(spans: Sequence[Span], begin: datetime, work: timedelta, due_at: datetime) -> datetime:
    """When work that is begun at some time is done, if it rests outside the hours unless it could miss its limit.

    That is: until the beginning of the last span that ends before it is due, it only goes on while it is open.
    """
    last = _last_begin(spans, begin, due_at) if spans else begin
    at = begin
    while at < last and work:
        until = min((end for first, end in _around(spans, at) if first <= at < end), default=at)
        if until == at:
            at = min(first for first, _ in _around(spans, at) if first > at)
        else:
            step = min(work, min(until, last) - at)
            at, work = at + step, work - step
    return at + work


def _last_begin(spans: Sequence[Span], begin: datetime, due_at: datetime) -> datetime:
    """Begin of the last span that ends by `due_at`, at most a month ahead; `begin` if there is none behind it."""
    due_at = min(due_at, begin + _LONGEST)
    near = _around(spans, due_at - _DAY)
    return max((first for first, end in near if begin < first and end <= due_at), default=begin)
