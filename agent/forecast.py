"""When everything will be stored at the present rate, and what will not be in time; pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Final

from agent.hours import Span, done_at

HORIZON: Final = timedelta(days=365)
"""Nobody believes a forecast beyond that, and it is not computed."""


@dataclass(frozen=True, slots=True)
class Load:
    """So many files that are due at the same time; `ready_at` is when the last of them will be here to be stored."""

    due_at: datetime
    files: int
    bytes: int
    ready_at: datetime


@dataclass(frozen=True, slots=True)
class Miss:
    """Files that are due at the same time and will not all be stored by then, but by `stored_by`."""

    due_at: datetime
    files: int
    stored_by: datetime


@dataclass(frozen=True, slots=True)
class Forecast:
    """What becomes of what waits, if the rate stays as it is.

    `steps` are pairs of a due time and when everything due until then is stored, both ascending; `misses` what is not
    overdue yet and will be. `all_by` is None beyond `HORIZON`; `more` tells that not all that waits was looked at one
    by one: beyond the last step there may be further misses.
    """

    steps: tuple[tuple[datetime, datetime], ...]
    misses: tuple[Miss, ...]
    all_by: datetime | None
    more: bool

    @property
    def files_missed(self) -> int:
        """How many files will be late."""
        return sum(miss.files for miss in self.misses)

    def stored_by(self, due_at: datetime) -> datetime | None:
        """When a recording that is due then will be stored at the latest; None if that can't be told."""
        at = bisect_left(self.steps, due_at, key=lambda step: step[0])
        return self.steps[at][1] if at < len(self.steps) else None


def forecast(
    loads: Sequence[Load], rest_bytes: int, rate_bytes_s: float, spans: Sequence[Span], now: datetime
) -> Forecast:
    """Foretell for a line that serves the earliest deadline first; `rest_bytes` come after all `loads`.

    What is less urgent delays nothing, so all that is due until some time is stored as if it were alone: in the order
    in which it gets here, the line never idle while some of it is here. Outside the hours `spans` only what could miss
    its limit goes. Each answer is the latest time: within one due time nothing is said of the order.
    """
    loads = sorted(loads, key=lambda load: load.ready_at)
    steps: list[tuple[datetime, datetime]] = []
    misses: list[Miss] = []
    for due_at in sorted({load.due_at for load in loads}):
        end = now
        for ready_at, together in groupby(loads, key=lambda load: load.ready_at):
            size_bytes = sum(load.bytes for load in together if load.due_at <= due_at)
            if size_bytes:
                end = _sent(max(end, ready_at), size_bytes, rate_bytes_s, spans, due_at)
        steps.append((due_at, end))
        if now < due_at < end:
            equals = [load for load in loads if load.due_at == due_at]
            late_bytes = (end - due_at).total_seconds() * rate_bytes_s
            misses.append(Miss(due_at, _late_files(equals, late_bytes), end))
    last, end = steps[-1] if steps else (now, now)
    all_by = _sent(end, rest_bytes, rate_bytes_s, spans, last)
    return Forecast(tuple(steps), tuple(misses), all_by if all_by < now + HORIZON else None, rest_bytes > 0)


def _sent(begin: datetime, size_bytes: int, rate_bytes_s: float, spans: Sequence[Span], due_at: datetime) -> datetime:
    seconds = min(size_bytes / rate_bytes_s, HORIZON.total_seconds())
    return done_at(spans, begin, timedelta(seconds=seconds), due_at)


def _late_files(equals: Sequence[Load], late_bytes: float) -> int:
    """The share of these files that is sent after their time, as if all were of the same size; at least one."""
    files, size_bytes = sum(load.files for load in equals), sum(load.bytes for load in equals)
    return max(1, min(files, round(files * late_bytes / size_bytes))) if size_bytes else files
