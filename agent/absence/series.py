"""Recordings in the order in which they were made: holes between them, and how long one of them usually is."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import chain, pairwise
from operator import attrgetter
from statistics import median_low
from typing import Final

from agent.absence.traces import Card, Evidence, Fate, Point, Trace
from agent.sequence import counter_of, name_of

SPARSEST: Final = 50
"""Numbers further apart than so many times their count are no counter."""
_LONGEST: Final = timedelta(hours=24)
_ROOM: Final = timedelta(seconds=2)
_LOOKS_LIMIT: Final = 1_000_000
_SAMPLES: Final = 1000
_EVER: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def _is_lost(point: Point) -> bool:
    return bool(point.trace.by)


_PATH: Final = attrgetter("trace.path")
_PLACE: Final = attrgetter("place")


class Sure(StrEnum):
    """How sure it is that something was there and is gone; nothing tells why, or who did it.

    CERTAIN: its own entry or the last docking names each. LIKELY: the recorder counted on between two recordings that
    leave time for it, or its entry is damaged. POSSIBLE: one trace alone, which may have another reason.
    """

    CERTAIN = "certain"
    LIKELY = "likely"
    POSSIBLE = "possible"


@dataclass(slots=True)
class Run:
    """What is missing between two recordings; `numbers` of them have left nothing but a hole."""

    before: Point | None = None
    after: Point | None = None
    lost: list[Point] = field(default_factory=list)
    numbers: int = 0
    sure: Sure = Sure.LIKELY
    stepped: bool = False


class Elsewhere:
    """The numbers of all that is there, in whatever series."""

    def __init__(self, points: Iterable[Point]) -> None:
        self._points = sorted((point for point in points if not point.trace.by), key=_PLACE)
        self._looks = _LOOKS_LIMIT

    def count(self, low: Point, high: Point) -> int:
        """How many numbers between two are borne by what was made between them.

        Of a card that makes this costly nothing more is said.
        """
        first = bisect_right(self._points, low.place, key=_PLACE)
        last = bisect_left(self._points, high.place, key=_PLACE)
        self._looks -= last - first
        since, until = low.trace.end or _EVER[0], high.trace.start or high.trace.end or _EVER[1]
        between = {
            place
            for place, one in self._points[first:last]
            if one.end is None or (since <= one.end and (one.start or one.end) <= until)
        }
        return len(between) if self._looks >= 0 else high.place - low.place


class Series:
    """Recordings that one counter numbered, or without numbers those of one folder, in the order they were made."""

    def __init__(self, width: int, points: Iterable[Point], elsewhere: Elsewhere) -> None:
        self._elsewhere = elsewhere
        self.width = width  # digits of a number; 0: times are the places
        self.points = list(points)  # ordered step by step: keys of a hundred thousand at once are many megabytes
        for key in (_PATH, _is_lost, _PLACE):
            self.points.sort(key=key)
        self._most = SPARSEST * len(self.points)
        if width:
            self._unwind()
        steps = [high.place - low.place for low, high in pairwise(self.points)]
        holes = [step - 1 for step in steps if 1 < step <= self._most]
        self.counts = bool(width) and (sum(holes) <= len(self.points) or len(holes) <= steps.count(1))

    def _unwind(self) -> None:
        """Behind 9999 comes 0001: what is behind it gets places that go on."""
        top, points = 10**self.width - 1, self.points
        seams = [at for at, (low, high) in enumerate(pairwise(points), 1) if self._is_seam(low, high)]
        begins_anew = points[0].place <= SPARSEST and points[-1].place >= top - SPARSEST
        if seams and begins_anew and comes_before(points[-1].trace, points[0].trace):
            cycle = top + (points[0].place == 0)
            behind = [point._replace(place=point.place + cycle) for point in points[: seams[-1]]]
            self.points = points[seams[-1] :] + behind

    def _is_seam(self, low: Point, high: Point) -> bool:
        """Whether a counter began anew between two, rather than that something is missing."""
        hole = high.place - low.place - 1
        return hole > self._most or (hole > len(self.points) and not comes_before(low.trace, high.trace))

    def runs(self, fate: Fate, pace: Pace | None = None) -> Iterator[Run]:
        """Those of that fate between two that are there, and with `pace` also numbers that nothing else tells of."""
        run, last = Run(), None
        for point in self.points:
            if pace is not None and last is not None and self.counts and not self._is_seam(last, point):
                self._count(run, last, point, pace)
            if point.trace.by and point.trace.fate is fate:
                run.lost.append(point)
            elif not point.trace.by or pace is not None:
                run.after = point
                if run.lost or run.numbers:
                    yield run
                run = Run(before=point)
            last = point
        if run.lost or run.numbers:
            yield run

    def _count(self, run: Run, low: Point, high: Point, pace: Pace) -> None:
        """Add the numbers between two that no file bears."""
        hole = high.place - low.place - 1
        missing = hole - self._elsewhere.count(low, high) if hole > 0 else 0
        # What came between dockings may have been taken elsewhere.
        is_beside_gone = Evidence.LEDGER in low.trace.by | high.trace.by
        if missing <= 0 or (is_beside_gone and missing > len(self.points)):
            return
        run.numbers += missing
        run.stepped |= not comes_before(low.trace, high.trace)
        room = pace.room(low.trace, high.trace)
        if room is None or room <= _ROOM or missing > len(self.points) or is_beside_gone:
            run.sure = Sure.POSSIBLE


def series_of(card: Card, lost: Iterable[Trace]) -> list[Series]:
    """All series of a card; folders that go on with each other's numbers (100ANDRO, 101ANDRO) are one.

    A number that occurs on two days tells of a counter that begins anew each day.
    """
    found: dict[tuple[str, str, int], defaultdict[str, list[Point]]] = {}
    for one in chain(card.present, lost):
        folder, counter = name_of(one.path).folder, counter_of(one.path)
        if counter is None:
            key, day, place = (folder, "", 0), "", int(one.end.timestamp()) if one.end else 0
        else:
            key, day, place = (folder, counter.pattern, counter.width), counter.day, counter.number
        found.setdefault(key, defaultdict(list))[day].append(Point(place, one))
    elsewhere = Elsewhere(
        point for key, days in found.items() if key[2] for points in days.values() for point in points
    )
    alike: defaultdict[tuple[str, str, int], list[list[Point]]] = defaultdict(list)
    for (folder, pattern, width), days in found.items():
        shape = re.sub(r"\d+", "#", folder) if width else folder
        alike[shape, pattern, width] += _by_day(days)
    series = []
    for (_, _, width), parts in alike.items():
        spans = sorted((min(point.place for point in part), max(point.place for point in part)) for part in parts)
        goes_on = all(one[1] < other[0] for one, other in pairwise(spans))
        joined = [[point for part in parts for point in part]] if goes_on else parts
        series += [Series(width, points, elsewhere) for points in joined]
    return series


def _by_day(days: Mapping[str, list[Point]]) -> list[list[Point]]:
    places = [{point.place for point in points} for points in days.values()] if len(days) > 1 else []
    begins_anew = len(set().union(*places)) < sum(map(len, places))
    return list(days.values()) if begins_anew else [[point for points in days.values() for point in points]]


class Pace:
    """How long and how large a recording of this card is, by the kind of its file; photos take no time.

    By the stamps of each file, or where they tell nothing by how far apart the ends of neighbours are.
    """

    def __init__(self, present: Iterable[Trace], series: Iterable[Series]) -> None:
        lengths: defaultdict[str, list[tuple[timedelta, int]]] = defaultdict(list)
        apart = lengths.copy()
        for one in present:
            if not one.photo and (length := length_of(one)) is not None:
                _sample(lengths, one, length)
        for low, high in (pair for one in series if one.counts for pair in pairwise(one.points)):
            if high.place - low.place == 1 and low.trace.end and high.trace.end and not low.trace.photo:
                step = high.trace.end - low.trace.end
                if _ROOM < step <= _LONGEST:
                    _sample(apart, high.trace, step)
        self._typical = {
            suffix: (median_low(time for time, _ in known), median_low(size for _, size in known))
            for suffix, known in (apart | lengths).items()
        }

    def typical(self, like: Trace) -> tuple[timedelta | None, int | None]:
        """How long and how large recordings of that kind are."""
        return self._typical.get(name_of(like.path).suffix, (None, None)) if not like.photo else (timedelta(), None)

    def lasts(self, one: Trace) -> timedelta | None:
        """How long a recording lasted, by its own stamps, else by its size."""
        if (length := length_of(one)) is not None:
            return length
        time, size = self.typical(one)
        share = one.size_bytes / size if size and one.size_bytes else 1.0
        return time * min(share, 100.0) if time is not None else None

    def room(self, low: Trace, high: Trace) -> timedelta | None:
        """How much time is between two recordings; None if their times don't tell, or go backwards."""
        if low.end is None or high.end is None:
            return None
        begin = high.start or high.end - (self.lasts(high) or timedelta())
        return begin - low.end if high.end >= low.end else None


def _sample(samples: dict[str, list[tuple[timedelta, int]]], one: Trace, lasts: timedelta) -> None:
    kind = samples[name_of(one.path).suffix]
    if len(kind) < _SAMPLES:
        kind.append((lasts, one.size_bytes))


def comes_before(low: Trace, high: Trace) -> bool:
    """Whether the times agree with the order of two, as far as they are known."""
    return low.end is None or high.end is None or low.end <= high.end


def length_of(one: Trace) -> timedelta | None:
    """How long a recording lasted by its own stamps."""
    if one.photo:
        return timedelta()
    lasts = one.end - one.start if one.start is not None and one.end is not None else timedelta()
    return lasts if timedelta() < lasts <= _LONGEST else None
