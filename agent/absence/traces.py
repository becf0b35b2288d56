"""Traces of recordings: what a recorder has, what is left of others, and which of those are only elsewhere."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import groupby
from operator import attrgetter
from typing import Final, NamedTuple

from agent.sequence import MARK, counter_of, name_of

_path: Final = attrgetter("path")
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
    """What is on the recorder now, to ask whether something that seems gone is only elsewhere.

    It keeps no more than it needs to know of those that `seem_gone`: a card may have a hundred thousand files.
    """

    def __init__(self, present: Iterable[Trace], seem_gone: Iterable[Trace]) -> None:
        by_path = sorted((one for one in present if not _is_temporary(one)), key=_path)
        self.present = [one for _, same in groupby(by_path, _path) for one in sorted(same, key=_order)]
        asked = [(one, *name_of(one.path.upper())) for one in seem_gone]
        self._places: dict[object, int] = {(one.size_bytes, one.end): 0 for one, *_ in asked if one.end}
        self._beside: dict[tuple[str, str], dict[str, int]] = {(folder, stem): {} for _, folder, stem, _ in asked}
        marked = {_unmarked(stem, suffix, one) for one, _, stem, suffix in asked}
        self._names: set[tuple[str, int, bool]] = set()
        for one in self.present if asked else ():
            folder, stem, suffix = name_of(one.path.upper())
            if (one.size_bytes, one.end) in self._places:
                self._places[one.size_bytes, one.end] += 1
            if (folder, stem) in self._beside:
                self._beside[folder, stem][suffix] = one.size_bytes
            if (name := _unmarked(stem, suffix, one)) in marked:
                self._names.add((*name, stem.endswith(MARK)))

    def explains(self, one: Trace) -> bool:
        """Whether a file was renamed, moved or marked, or belonged to one that is there (a thumbnail)."""
        folder, stem, suffix = name_of(one.path.upper())
        beside, alike = self._beside[folder, stem], self._places.get((one.size_bytes, one.end), 0)
        is_there = alike > 0 if suffix in beside else alike == 1  # a clock that stands still makes many alike
        is_marked = (*_unmarked(stem, suffix, one), not stem.endswith(MARK)) in self._names
        is_thumbnail = any(other != suffix and size > one.size_bytes for other, size in beside.items())
        return _is_temporary(one) or is_there or is_marked or is_thumbnail


def _unmarked(stem: str, suffix: str, one: Trace) -> tuple[str, int]:
    return stem.removesuffix(MARK) + suffix, one.size_bytes


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


def _order(one: Trace) -> tuple[object, ...]:
    """Of a damaged card two may have the same path, and what is said must not depend on which was listed first."""
    start, end = (time.timestamp() if time else -math.inf for time in (one.start, one.end))
    return one.size_bytes, start, end, one.proven, one.photo, one.fate, one.asset_id
