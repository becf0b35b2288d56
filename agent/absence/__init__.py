"""Puts together what traces tell of recordings that are not on a recorder any more: facts, never an accusation.

Pure. Traces of the same missing recording become one fact; what has an innocent reason gives none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from agent.absence.series import Pace, Run, Series, Sure, comes_before, series_of
from agent.absence.traces import Card, Evidence, Fate, Point, Trace, merged
from agent.card import Space

__all__ = ["Absence", "Evidence", "Fate", "Sure", "Trace", "absences"]

NAMES_LIMIT: Final = 5
LOOP_BELOW: Final = 0.1
"""With less of the card free, a recorder that overwrites its oldest files does so."""
ANEW_WITHIN: Final = timedelta(days=31)
"""A recorder that begins its numbers anew goes on recording; a clock that was reset leaps by years."""
LOST_FROM_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Absence:
    """So many recordings are gone (0: can't be counted), `proven` of them certain, between two that are there.

    Between `since` and `until` they were made. `held`: their content was pulled before. `loop`: the oldest ones are
    gone from a full card, as loop recording (循环摄像) does it. `stepped`: the clock went backwards there.
    """

    segments: int
    by: tuple[Evidence, ...]
    sure: Sure
    proven: int = 0
    before: str = ""
    after: str = ""
    since: datetime | None = None
    until: datetime | None = None
    lasts_s: int | None = None
    size_bytes: int | None = None
    names: tuple[str, ...] = ()
    assets: tuple[str, ...] = ()
    held: bool = False
    loop: bool = False
    stepped: bool = False


def absences(
    present: Iterable[Trace], remains: Iterable[Trace], gone: Iterable[Trace], space: Space | None
) -> tuple[Absence, ...]:
    """What is missing from a recorder: `remains` are deleted entries, `gone` was there at its last docking.

    All of them recordings, `present` in any order; the surest facts first.
    """
    remains, gone = list(remains), list(gone)
    card = Card(present, remains + gone)
    lost = merged(card, remains, gone)
    series = series_of(card, lost)
    pace = Pace(card.present, series)
    facts = [_fact(run, pace, one) for one in series for run in one.runs(Fate.UNKNOWN, pace)]
    facts += [replace(_fact(run, pace), held=True) for one in series for run in one.runs(Fate.HELD)]
    facts = [replace(fact, loop=_is_full(space) and not fact.before and not fact.held) for fact in facts]
    if not lost and not any(fact.loop for fact in facts):
        facts += _overwritten(series, space)
    return tuple(sorted(_with_space(facts, space, pace), key=_importance))


def _importance(fact: Absence) -> tuple[bool, int, str, str, tuple[str, ...]]:
    return fact.held, list(Sure).index(fact.sure), fact.before, fact.after, fact.names


def _fact(run: Run, pace: Pace, series: Series | None = None) -> Absence:
    """One fact from what is missing between two recordings."""
    traces = [point.trace for point in run.lost]
    proven = sum(one.proven or Evidence.LEDGER in one.by for one in traces)
    by = {evidence for one in traces for evidence in one.by}
    if run.numbers or (series and series.counts and any(_is_inside(point, run) for point in run.lost)):
        by.add(Evidence.NUMBERS)
    segments = len(traces) + run.numbers
    return Absence(
        segments,
        tuple(evidence for evidence in Evidence if evidence in by),
        Sure.CERTAIN if proven == segments else run.sure,
        proven,
        run.before.trace.path if run.before else "",
        run.after.trace.path if run.after else "",
        *_span(run),
        *_amount(run, pace),
        tuple(one.path for one in traces[:NAMES_LIMIT]),
        tuple(one.asset_id for one in traces[:NAMES_LIMIT] if one.asset_id),
        stepped=run.stepped,
    )


def _is_inside(point: Point, run: Run) -> bool:
    """Whether the numbers beside it tell that it was there."""
    return run.before is not None and run.after is not None and run.before.place < point.place < run.after.place


def _span(run: Run) -> tuple[datetime | None, datetime | None]:
    """Between which times they were made: by their own stamps, or by the neighbours'."""
    ends = [point.trace.end for point in run.lost if point.trace.end is not None]
    if not run.numbers and ends and len(ends) == len(run.lost):
        return min(point.trace.start or point.trace.end or ends[0] for point in run.lost), max(ends)
    after = run.after.trace if run.after else None
    return run.before.trace.end if run.before else None, (after.start or after.end) if after else None


def _amount(run: Run, pace: Pace) -> tuple[int | None, int | None]:
    """How many seconds and bytes they were, about."""
    lengths = [pace.lasts(point.trace) for point in run.lost]
    sizes: list[int | None] = [point.trace.size_bytes for point in run.lost]
    if run.numbers:
        beside = (run.before or run.after or run.lost[0]).trace
        length, size = pace.typical(beside)
        lengths.append(None if length is None else length * run.numbers)
        sizes.append(None if size is None else size * run.numbers)
    time = sum((length for length in lengths if length is not None), timedelta())
    size_bytes = None if None in sizes else sum(size or 0 for size in sizes)
    if run.numbers and run.before and run.after and not run.stepped:
        room = pace.room(run.before.trace, run.after.trace)
        time = min(time, max(room, timedelta())) if room is not None else time
    return (None if None in lengths or not any(lengths) else round(time.total_seconds())), size_bytes


def _with_space(facts: Sequence[Absence], space: Space | None, pace: Pace) -> list[Absence]:
    """Space that is taken and belongs to nothing: of the missing ones about as large, else a fact of its own."""
    lost = space.lost_bytes if space else 0
    found = list(facts)
    if lost < LOST_FROM_BYTES:
        return found
    for at, fact in enumerate(facts):
        if not fact.held and fact.proven < fact.segments and 2 * lost >= (fact.size_bytes or 0) >= lost / 2:
            sure = Sure.LIKELY if fact.sure is Sure.POSSIBLE else fact.sure
            found[at] = replace(fact, by=(*fact.by, Evidence.SPACE), sure=sure)
            return found
    return [*found, Absence(0, (Evidence.SPACE,), Sure.POSSIBLE, size_bytes=lost)]


def _is_full(space: Space | None) -> bool:
    return space is not None and space.free_bytes < LOOP_BELOW * space.size_bytes


def _overwritten(series: Iterable[Series], space: Space | None) -> list[Absence]:
    """A full card whose oldest recordings are gone: nothing else tells what was overwritten, or how much."""
    counted = [one for one in series if one.counts]
    longest = max(counted, key=lambda one: len(one.points), default=None)
    first = _oldest(longest.points) if longest is not None and _is_full(space) else None
    if first is None:
        return []
    by = (Evidence.NUMBERS, Evidence.SPACE)
    return [Absence(0, by, Sure.POSSIBLE, after=first.path, until=first.start or first.end, loop=True)]


def _oldest(points: Sequence[Point]) -> Trace | None:
    """The oldest one that is left, if there were older ones: the lowest number isn't the first, or numbers began anew
    at the first one and went on over older recordings, which are behind the only step back in time.
    """
    low, high = points[0].trace, points[-1].trace
    if points[0].place > 1:
        return low
    steps = [after.trace for before, after in pairwise(points) if not comes_before(before.trace, after.trace)]
    if len(steps) != 1 or low.end is None or high.end is None:
        return None
    return steps[0] if timedelta() < low.end - high.end <= ANEW_WITHIN else None
