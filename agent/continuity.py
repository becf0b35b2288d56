"""Joins the segments of an activity: how much of the time on site they cover, where the gaps are, what explains them.

Pure. What the clocks can't tell is said as such: a segment without a place covers nothing, but may lie in a gap.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from heapq import heappop, heappush
from itertools import accumulate
from typing import Final

from agent.model import Duty, Explained, Interruption, Obligation

GAP_LIMIT: Final = timedelta(seconds=2)
"""A recorder that begins its next file by itself loses no more than this (INT-11)."""
NEIGHBOURS: Final = timedelta(minutes=30)
"""Segments of one recorder that are no further apart are proposed as one activity."""
START_LIMIT: Final = timedelta(seconds=15)
"""So long may a camera of a room take to answer at the beginning, and longer than another one after an outage."""
LONGEST: Final = timedelta(hours=24)
"""An activity that lasts longer changes no time limit, and none is proposed."""

_NONE: Final = timedelta()


@dataclass(frozen=True, slots=True)
class Segment:
    """One recording as a span of time. Its recorder's clock may be off by `slack` either way.

    Not `placed`: it lies somewhere between `start` and `end`, and `lasts` so long, if that is known. `truncated`: its
    file is cut off at the end. `holes`: times in it, by when they begin, of which its content has nothing.
    """

    recording_id: str
    device_id: str
    start: datetime
    end: datetime
    placed: bool = True
    lasts: timedelta | None = None
    slack: timedelta = _NONE
    truncated: bool = False
    holes: tuple[tuple[datetime, datetime], ...] = ()

    @property
    def pieces(self) -> Iterator[Segment]:
        """What is between its holes."""
        since = self.start
        for start, end in self.holes:
            if since < start:
                yield replace(self, start=since, end=start, truncated=False, holes=())
            since = max(since, end)
        yield replace(self, start=min(since, self.end), holes=())


@dataclass(frozen=True, slots=True)
class Gap:
    """A time on site that no placed segment covers; `before` and `after` are the recordings beside it, if any.

    If these are the same, it lies within that recording. `doubtful`: clocks that differ as far as they may could close
    it. `may_be_covered`: a segment without a place may lie in it. `truncated`: the recording before it is cut off.
    `device_id`: nothing came from this source of a room, though another one shows the time or a part of it.
    """

    start: datetime
    end: datetime
    before: str = ""
    after: str = ""
    doubtful: bool = False
    may_be_covered: bool = False
    truncated: bool = False
    device_id: str = ""

    @property
    def length(self) -> timedelta:
        """How long nothing was recorded."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Overlap:
    """Two recordings of the same time; on one recorder that can't be, so a clock was changed or a file copied."""

    first: str
    second: str
    start: datetime
    end: datetime
    same_device: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """A source of a room was to be recorded from `start` to `end`, or to its newest recording if there is no end yet.

    What it took to answer until `due` is no gap.
    """

    device_id: str
    start: datetime
    end: datetime | None
    due: datetime


@dataclass(frozen=True, slots=True)
class Continuity:
    """What the segments of an activity cover of the time between arrival and departure.

    `at_least` is proved by segments with a place, `at_most` counts the others as far as they may lie in the gaps; both
    from 0 to 1. `segments` are ordered by time. `of_sources` are the gaps of single sources that are none of `gaps`.
    """

    segments: tuple[Segment, ...]
    gaps: tuple[Gap, ...]
    overlaps: tuple[Overlap, ...]
    covered: timedelta
    at_least: float
    at_most: float
    of_sources: tuple[Gap, ...] = ()


class GapState(StrEnum):
    """Whether a gap needs somebody: AUTOMATIC needs nobody, UNCONFIRMED a supervisor, UNEXPLAINED an officer."""

    AUTOMATIC = "automatic"
    EXPLAINED = "explained"
    UNCONFIRMED = "unconfirmed"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True)
class JudgedGap:
    """A gap and the explanation that holds for it."""

    gap: Gap
    state: GapState
    explained: Explained | None = None


def in_order(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """By time; which of two that began together comes first doesn't depend on where they came from."""
    return tuple(sorted(segments, key=lambda part: (part.start, part.end, part.device_id, part.recording_id)))


def join(
    arrived_at: datetime, left_at: datetime, segments: Iterable[Segment], expected: Iterable[Expected] = ()
) -> Continuity:
    """What all segments together, of however many recorders, cover between arrival and departure.

    Of the sources that were expected all the time each has gaps of its own, too.
    """
    assert arrived_at <= left_at, "whoever states an activity is asked for times in order"
    ordered = in_order(segments)
    placed = [part for part in ordered if part.placed]
    floating = [part for part in ordered if not part.placed]
    gaps = _gaps(arrived_at, left_at, placed)
    near = _Near(placed)
    met = _may_meet(floating)
    gaps = [replace(gap, doubtful=near.could_close(gap), may_be_covered=met(gap)) for gap in gaps]
    interval = left_at - arrived_at
    missing = sum((gap.length for gap in gaps), _NONE)
    possible = _room(gaps, floating)
    return Continuity(
        ordered,
        tuple(gaps),
        tuple(_overlaps(placed)),
        interval - missing,
        _share(interval - missing, interval),
        _share(interval - missing + possible, interval),
        tuple(_gaps_of_sources(arrived_at, left_at, expected, ordered, gaps)),
    )


def judge(
    gap: Gap, explanations: Sequence[Explained], codes: Mapping[str, Interruption], limit: timedelta = GAP_LIMIT
) -> JudgedGap:
    """Whether a gap is explained: the latest explanation of all of it counts that no supervisor refused.

    What is said of one source explains nothing of the others; what is said of all of them holds for each. A code that
    is no objective cause counts only once a supervisor has confirmed it.
    """
    for one in sorted(explanations, key=lambda one: one.said.number, reverse=True):
        said, refused = one.said, one.confirmed is not None and not one.confirmed.accepted
        if said.device_id not in ("", gap.device_id):
            continue
        if not refused and said.start - limit <= gap.start and gap.end <= said.end + limit:
            known = codes.get(said.code)
            waits = one.confirmed is None and (known is None or known.confirm)
            return JudgedGap(gap, GapState.UNCONFIRMED if waits else GapState.EXPLAINED, one)
    return JudgedGap(gap, GapState.AUTOMATIC if gap.length <= limit else GapState.UNEXPLAINED)


def obligation_of(
    obligations: Iterable[Obligation], stage: str, conditions: Iterable[str] = ()
) -> tuple[Obligation, tuple[Obligation, ...]]:
    """What a stage asks for under the stated conditions (the strictest), and what it would under others.

    Silence of the documents is an answer too; nothing here says that a missing recording violates anything.
    """
    stated = set(conditions)
    own = [one for one in obligations if one.stage == stage]
    holding = [one for one in own if not one.condition or one.condition in stated]
    strictest = max(holding, key=lambda one: list(Duty).index(one.duty), default=Obligation(stage, Duty.SILENT))
    return strictest, tuple(one for one in own if one.condition and one.condition not in stated)


def proven_end(arrived_at: datetime, left_at: datetime, segments: Iterable[Segment]) -> datetime | None:
    """When an activity ended as far as its own footage bears out what was stated; None if it can't tell.

    A departure that is stated too late stretches nothing: later than the last placed recording of that time ended it
    never is. An activity longer than a day is none that a same-day rule speaks of.
    """
    ends = [part.end for part in segments if part.placed and part.start <= left_at and arrived_at <= part.end]
    return min(left_at, max(ends)) if ends and left_at - arrived_at <= LONGEST else None


def propose(segments: Iterable[Segment], distance: timedelta = NEIGHBOURS) -> tuple[tuple[Segment, ...], ...]:
    """Which recordings may be one activity: of one recorder, on one day, no further apart than `distance`.

    One that goes on behind midnight stays with those before it, up to a day. What has no place in time is in no group.
    """
    found: list[list[Segment]] = []
    latest: dict[str, tuple[list[Segment], datetime]] = {}
    for part in in_order(part for part in segments if part.placed):
        group, reached = latest.get(part.device_id, ([], part.end))
        if not group or part.start - reached > distance or part.end - group[0].start > LONGEST:
            group, reached = [], part.end
            found.append(group)
        group.append(part)
        latest[part.device_id] = group, max(reached, part.end)
    return tuple(map(tuple, found))


def _gaps(arrived_at: datetime, left_at: datetime, placed: Sequence[Segment]) -> list[Gap]:
    found: list[Gap] = []
    reached, last = arrived_at, None
    for part in in_order(piece for whole in placed for piece in whole.pieces):
        if part.end < arrived_at or part.start > left_at or part.start == part.end:
            continue  # a photo divides no gap
        if part.start > reached:
            found.append(_between(reached, part.start, last, part))
        if last is None or part.end >= reached:
            reached, last = max(reached, part.end), part
    if reached < left_at:
        found.append(_between(reached, left_at, last, None))
    return found


def _gaps_of_sources(
    arrived_at: datetime, left_at: datetime, expected: Iterable[Expected], ordered: Iterable[Segment],
    gaps: Sequence[Gap],
) -> Iterator[Gap]:  # fmt: skip
    """Longer than a recorder loses by itself, and no part of the gaps that all sources have."""
    own: dict[str, list[Segment]] = {}
    for part in ordered:
        own.setdefault(part.device_id, []).append(part)
    for one in expected:
        parts = [part for part in own.get(one.device_id, ()) if part.placed]
        met = _may_meet([part for part in own.get(one.device_id, ()) if not part.placed])
        end = one.end or max((part.end for part in parts), default=one.start)
        for gap in _gaps(max(arrived_at, one.start), min(left_at, end), parts):
            in_time = not gap.before and gap.end <= one.due
            if gap.length > GAP_LIMIT and not in_time and not _is_part(gap, gaps):
                yield replace(gap, may_be_covered=met(gap), device_id=one.device_id)


def _is_part(gap: Gap, gaps: Sequence[Gap]) -> bool:
    """Whether one of the gaps in order contains it, but for what its source takes longer to come back."""
    before = bisect_right(gaps, gap.start + GAP_LIMIT, key=lambda one: one.start)
    return before > 0 and gap.end <= gaps[before - 1].end + START_LIMIT


def _between(start: datetime, end: datetime, last: Segment | None, following: Segment | None) -> Gap:
    before = last.recording_id if last else ""
    after = following.recording_id if following else ""
    return Gap(start, end, before, after, truncated=last is not None and last.truncated)


def _may_meet(floating: Sequence[Segment]) -> Callable[[Gap], bool]:
    """Whether one of the segments without a place may lie in a gap."""
    starts = [part.start for part in floating]
    furthest = list(accumulate((part.end for part in floating), max))

    def met(gap: Gap) -> bool:
        before = bisect_left(starts, gap.end)
        return before > 0 and furthest[before - 1] > gap.start

    return met


def _room(gaps: Sequence[Gap], floating: Sequence[Segment]) -> timedelta:
    """How much of the gaps the segments without a place could cover together at most, were they cut as one likes.

    Whoever has to end first goes first: that leaves the most room for the others.
    """
    waiting = deque(floating)
    ready: list[tuple[datetime, int, timedelta]] = []
    room = _NONE
    for gap in gaps:
        now = gap.start
        while now < gap.end and (waiting or ready):
            while waiting and waiting[0].start <= now:
                part = waiting.popleft()
                heappush(ready, (part.end, len(waiting), part.end - part.start if part.lasts is None else part.lasts))
            until = min(gap.end, waiting[0].start) if waiting else gap.end
            if not ready:
                now = until
                continue
            end, number, left = heappop(ready)
            used = max(_NONE, min(until - now, end - now, left))
            room, now = room + used, now + used
            if used < left and now < end:
                heappush(ready, (end, number, left - used))
    return room


def _overlaps(placed: Sequence[Segment]) -> Iterator[Overlap]:
    """Each with the one that reaches furthest of those before it, and of those of its own recorder."""
    furthest: Segment | None = None
    own: dict[str, Segment] = {}
    for part in placed:
        before = own.get(part.device_id)
        for other in {id(one): one for one in (furthest, before) if one is not None}.values():
            end = min(other.end, part.end)
            if part.start < end:
                same = other.device_id == part.device_id
                yield Overlap(other.recording_id, part.recording_id, part.start, end, same)
        furthest = part if furthest is None or part.end > furthest.end else furthest
        own[part.device_id] = part if before is None or part.end > before.end else before


def _share(part: timedelta, whole: timedelta) -> float:
    return part / whole if whole else 1.0


class _Near:
    """Placed segments by where they begin and end, to ask which of them clocks could shift into a gap."""

    def __init__(self, placed: Sequence[Segment]) -> None:
        self._by_start = placed
        self._by_end = sorted(placed, key=lambda part: part.end)
        self._starts = [part.start for part in self._by_start]
        self._ends = [part.end for part in self._by_end]
        self._by_id = {part.recording_id: part for part in placed}
        self._reach = 2 * max((part.slack for part in placed), default=_NONE)

    def could_close(self, gap: Gap) -> bool:
        """Whether clocks that are off as far as they may be could close the gap.

        A gap between two files of one recorder keeps its length, however wrong its clock is; others may lie in it.
        """
        before, after = self._by_id.get(gap.before), self._by_id.get(gap.after)
        both = before is not None and after is not None and before.device_id == after.device_id
        shared = before.slack if before is not None and both else _NONE
        others = [
            part for part in self._beside(gap) if before is None or not both or part.device_id != before.device_id
        ]
        reach = [(part.start - part.slack - shared, part.end + part.slack + shared) for part in others]
        enough = sum((part.end - part.start for part in others), _NONE) + GAP_LIMIT >= gap.length > GAP_LIMIT
        return enough and _left_of(gap, reach) <= GAP_LIMIT

    def _beside(self, gap: Gap) -> Iterator[Segment]:
        ended = bisect_left(self._ends, gap.start - self._reach), bisect_right(self._ends, gap.start)
        begins = bisect_left(self._starts, gap.end), bisect_right(self._starts, gap.end + self._reach)
        yield from self._by_end[slice(*ended)]
        yield from self._by_start[slice(*begins)]


def _left_of(gap: Gap, spans: Iterable[tuple[datetime, datetime]]) -> timedelta:
    """How much of a gap the spans leave open."""
    left, reached = _NONE, gap.start
    for start, end in sorted(spans):
        left += max(_NONE, min(start, gap.end) - reached)
        reached = max(reached, min(end, gap.end))
    return left + gap.end - reached
