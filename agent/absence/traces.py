"""Traces of recordings: what a recorder has, what is left of others, and which of those are only elsewhere."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter as Counts
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, NamedTuple

from agent.sequence import MARK, counter_of, name_of

_LOOKS_LIMIT: Final = 1_000_000
_EVER: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
_TEMPORARY: Final = re.compile(r"te?mp", re.IGNORECASE)


class Evidence(StrEnum):
    """What speaks of a missing recording: the numbers of the others, what is left of its directory entry, what was
    on the recorder when it was docked last, or space that is taken and belongs to no file.
    """

    NUMBERS = "numbers"
    REMAINS = "remains"
    LEDGER = "ledger"
    SPACE = "space"


class Fate(StrEnum):
    """What became of a recording that is gone, as far as the journal knows: RELEASED may be gone."""

    UNKNOWN = "unknown"
    HELD = "held"
    RELEASED = "released"


@dataclass(frozen=True, slots=True)
class Trace:
    """A recording that is on the recorder or, if there is something in `by`, was; `proven`: its name is certain."""

    path: str
    size_bytes: int = 0
    start: datetime | None = None
    end: datetime | None = None
    proven: bool = True
    photo: bool = False
    fate: Fate = Fate.UNKNOWN
    asset_id: str = ""
    by: frozenset[Evidence] = frozenset()


class Point(NamedTuple):
    """A recording's place in its series: its number or, without one, its time in seconds."""

    place: int
    trace: Trace


class Card:
    """What is on the recorder now, to ask whether something that seems gone is only elsewhere."""

    def __init__(self, present: Iterable[Trace]) -> None:
        kept = (one for one in present if not _is_temporary(one))
        self.present = sorted(kept, key=lambda one: (one.path, one.size_bytes, str(one.end)))
        self.counted = [(one, counter_of(one.path)) for one in self.present]
        self._places = Counts((one.size_bytes, one.end) for one in self.present if one.end)
        self._beside: defaultdict[tuple[str, str], dict[str, int]] = defaultdict(dict)
        self._names: set[tuple[str, bool, int]] = set()
        self._looks = _LOOKS_LIMIT
        for one in self.present:
            folder, stem, suffix = name_of(one.path.upper())
            self._beside[folder, stem][suffix] = one.size_bytes
            self._names.add((stem.removesuffix(MARK) + suffix, stem.endswith(MARK), one.size_bytes))
        numbered = [(counter.number, one) for one, counter in self.counted if counter]
        self._numbers = sorted(numbered, key=lambda pair: pair[0])

    def explains(self, one: Trace) -> bool:
        """Whether a file was renamed, moved or marked, or belonged to one that is there (a thumbnail)."""
        folder, stem, suffix = name_of(one.path.upper())
        beside = self._beside.get((folder, stem), {})
        alike = self._places[one.size_bytes, one.end] if one.end else 0
        is_there = alike > 0 if suffix in beside else alike == 1  # a clock that stands still makes many alike
        is_marked = (stem.removesuffix(MARK) + suffix, not stem.endswith(MARK), one.size_bytes) in self._names
        is_thumbnail = any(other != suffix and size > one.size_bytes for other, size in beside.items())
        return _is_temporary(one) or is_there or is_marked or is_thumbnail

    def elsewhere(self, low: Point, high: Point) -> int:
        """How many numbers between two files of other series bear, which were made between them.

        Of a card that makes this costly nothing more is said.
        """
        first = bisect_right(self._numbers, low.place, key=lambda pair: pair[0])
        last = bisect_left(self._numbers, high.place, key=lambda pair: pair[0])
        self._looks -= last - first
        since, until = low.trace.end or _EVER[0], high.trace.start or high.trace.end or _EVER[1]
        between = {
            number
            for number, one in self._numbers[first:last]
            if one.end is None or (since <= one.end and (one.start or one.end) <= until)
        }
        return len(between) if self._looks >= 0 else high.place - low.place


def _is_temporary(one: Trace) -> bool:
    """What a recorder keeps before recording begins, and throws away by itself."""
    return any(_TEMPORARY.search(part) for part in one.path.split("/")[:-1])


def merged(card: Card, remains: Iterable[Trace], gone: Iterable[Trace]) -> list[Trace]:
    """One for each missing recording, of which its ledger, its entry and that of its copy (重点) speak."""
    found: dict[object, Trace] = {}
    for evidence, traces in ((Evidence.LEDGER, gone), (Evidence.REMAINS, remains)):
        for one in traces:
            if card.explains(one):
                continue
            counter = counter_of(one.path)
            key = (counter.number if counter else name_of(one.path.upper())[1:], one.size_bytes, one.end)
            before = found.get(key, one)
            fate = one.fate if before.fate is Fate.UNKNOWN else before.fate
            told = before if before.proven or not one.proven else one
            found[key] = replace(told, fate=fate, by=before.by | {evidence})
    return list(_without_thumbnails(found.values()))


def _without_thumbnails(found: Iterable[Trace]) -> Iterator[Trace]:
    """Of files that differ only in their extension, the largest."""
    kept: dict[tuple[str, str], str] = {}
    for one in sorted(found, key=lambda one: (-one.size_bytes, one.path)):
        folder, stem, suffix = name_of(one.path.upper())
        if kept.setdefault((folder, stem), suffix) == suffix:
            yield one
