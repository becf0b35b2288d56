"""Counts the recordings of a year for publication, and by day for those who answer for the station."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Final

from agent.config import Config, Milestone
from agent.deadline import ZONE
from agent.journal import Reader
from agent.journal.codec import CLOCK
from agent.journal.facts import Fact, Interrupted, Walk
from agent.model import LATE_CAUSES, STAGES, Interruption
from agent.register import recognise
from agent.statistics.report import Amount, Counted, Subject, Timeliness, tables, timeliness
from agent.status.statistics import NOT_SAID, Figures

_LAST: Final = "\U0010ffff"
_NEVER: Final = datetime.max.replace(tzinfo=ZONE)
_Key = tuple[int, Subject, str]
_Rules = tuple[Mapping[str, str], Sequence[Interruption], Milestone]
_Gaps = dict[str, tuple[tuple[int, int], Counter[_Key]]]


def _endless() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Year:
    """The figures of a year, and for each day how the recordings that were completed on it stand."""

    figures: Figures
    days: Mapping[date, Counter[str]]


@dataclass(frozen=True, slots=True)
class _Part:
    """What was counted `at` a time of the originals behind those of the part before, up to `last`; true before `until`.

    Until then no time limit passes of what is not stored, so that only events change it.
    """

    last: str
    number: int
    at: datetime
    until: datetime
    sums: Mapping[_Key, Amount]
    days: Mapping[date, Counter[str]]


class YearCount:
    """Counts a year in one slow walk over the journal; of what was counted before only what may have changed.

    Parts are counted again if an event behind the last count tells of one of their recordings, and all of them if the
    rules or the inventory say something else. Not for two threads.
    """

    def __init__(self, year: int, part: int = 5000) -> None:
        self._year = year
        self._part = part
        self._seq = 0
        self._rules: _Rules | None = None
        self._parts: list[_Part] = []
        self._ended: _Gaps = {}

    def of(self, config: Config, month: int | None, now: datetime, stopped: Callable[[], bool] = _endless) -> Year:
        """The year as it is now; `month`: only the figures of this one. Raises JournalError.

        What was counted until it is `stopped` is for nobody.
        """
        first, end = (datetime(self._year + more, 1, 1, tzinfo=ZONE) for more in (0, 1))
        codes, journal = config.profile.interruptions, config.storage.root / "journal.db"
        rules = (_kinds(config, journal), codes, config.deadline.satisfied_by)
        with closing(Walk(journal, first, end)) as walk:
            head, changed = walk.head(), walk.changed(self._seq)
            if changed is None or rules != self._rules or CLOCK in changed:
                self._parts, self._ended, self._rules = [], {}, rules
            self._parts = list(self._recounted(walk, self._stale(changed or (), now), now, stopped))
            self._ended = _ended(walk, self._ended, codes)
        self._seq = head  # what was told meanwhile is looked at again
        days: dict[date, Counter[str]] = {}
        for part in self._parts:
            for day, counted in part.days.items():
                days.setdefault(day, Counter()).update(counted)
        words = {one.code: (one.zh, one.en) for one in codes}
        return Year(Figures(self._year, month, now, tables(self._counted(), self._year, now), words), days)

    def _stale(self, changed: Iterable[str], now: datetime) -> set[int]:
        """The places of parts that may not be true any more; the last one, unless it is full, grows."""
        lasts = [part.last for part in self._parts]
        stale = {bisect_left(lasts, name) for name in changed}
        stale |= {place for place, part in enumerate(self._parts) if not part.at <= now < part.until}
        return stale | {
            place for place, part in enumerate(self._parts[-1:], len(lasts) - 1) if part.number < self._part
        }

    def _recounted(self, walk: Walk, stale: set[int], now: datetime, stopped: Callable[[], bool]) -> Iterator[_Part]:
        """Those that are still true, and anew the others and what comes behind them."""
        assert self._rules is not None, "they were looked at first"
        after = ""
        for place, part in enumerate([*self._parts, None]):
            last = part.last if part is not None else _LAST
            if part is not None and place not in stale:
                yield part
            else:
                page = walk.page(after, last, self._part)
                while page and not stopped():
                    yield _part(page, self._rules, now)
                    page = walk.page(page[-1][0], last, self._part) if len(page) == self._part else []
            after = last

    def _counted(self) -> Iterator[Counted]:
        for part in self._parts:
            yield from (Counted(month, {of: code}, amount) for (month, of, code), amount in part.sums.items())
        for _, gaps in self._ended.values():
            yield from (Counted(month, {of: code}, Amount(number)) for (month, of, code), number in gaps.items())


def _part(page: Sequence[tuple[str, Fact]], rules: _Rules, now: datetime) -> _Part:
    """Alike recordings are summed first: there are far fewer sorts than recordings."""
    kinds, _, satisfied_by = rules
    alike: dict[tuple[date, str, str, str, str], list[int]] = {}
    until = _NEVER
    for _, fact in page:
        stored_at = (fact.held_at if satisfied_by is Milestone.LOCAL else None) or fact.stored_at
        limit, standing, late_s = fact.deadline, timeliness(fact.deadline, now, stored_at), 0
        if stored_at is None:
            until = min([until, *(passes for passes in (limit.alarm_at, limit.due_at) if passes > now)])
        elif standing is Timeliness.LATE:
            late_s = int((stored_at - limit.due_at).total_seconds())
        cause = fact.cause and (fact.cause if fact.cause in LATE_CAUSES else NOT_SAID)
        stage = fact.stage if fact.stage in STAGES else NOT_SAID
        key = (fact.made_at.date(), stage, kinds.get(fact.device_id, NOT_SAID), standing.value, cause)
        total = alike.setdefault(key, [0, 0, 0, 0])
        for place, more in enumerate((1, fact.seconds, fact.size_bytes, late_s)):
            total[place] += more
    sums: dict[_Key, Amount] = {}
    days: dict[date, Counter[str]] = {}
    for (day, *codes), amount in alike.items():
        days.setdefault(day, Counter())[codes[2]] += amount[0]
        for subject, code in zip(
            (Subject.STAGE, Subject.DEVICE, Subject.TIMELINESS, Subject.CAUSE), codes, strict=True
        ):
            if code:
                sums[day.month, subject, code] = sums.get((day.month, subject, code), Amount()) + Amount(*amount)
    return _Part(page[-1][0], len(page), now, until, sums, days)


def _ended(walk: Walk, known: _Gaps, codes: Sequence[Interruption]) -> _Gaps:
    """Interruptions by the day on which their activity ended; one that came or changed has a newer event than all."""
    found: _Gaps = {}
    for day, *newest in walk.activities():
        found[day] = known.get(day, ((0, 0), Counter()))
        if found[day][0] != tuple(newest):
            gaps = Counter(_interruption(one, codes) for one in walk.interruptions(day, codes))
            found[day] = (newest[0], newest[1]), gaps
    return found


def _kinds(config: Config, journal: Path) -> Mapping[str, str]:
    """What sort of recorder each device is, by the inventory as it is now."""
    with closing(Reader(journal)) as reader:
        found = {name: recognise(config.inventory, device) for name, device in reader.devices().items()}
    return {name: recorder.kind.value for name, recorder in found.items() if recorder is not None}


def _interruption(one: Interrupted, codes: Sequence[Interruption]) -> _Key:
    code = one.code if any(one.code == known.code for known in codes) else NOT_SAID
    return one.start.astimezone(ZONE).month, Subject.INTERRUPTION, code
