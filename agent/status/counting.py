"""Counts the recordings of a year for publication, and by day for those who answer for the station."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from pathlib import Path

from agent.config import Config, Milestone
from agent.deadline import ZONE
from agent.journal import Reader
from agent.journal.facts import Fact, Interrupted, facts, interruptions
from agent.model import LATE_CAUSES, STAGES, Interruption
from agent.register import recognise
from agent.statistics.report import Amount, Counted, Subject, Timeliness, tables, timeliness
from agent.status.statistics import NOT_SAID, Figures


@dataclass(frozen=True, slots=True)
class Year:
    """The figures of a year, and for each day how the recordings that were completed on it stand."""

    figures: Figures
    days: Mapping[date, Counter[str]]


def _never() -> bool:
    return False


def year_of(
    config: Config, journal: Path, year: int, month: int | None, now: datetime, stopped: Callable[[], bool] = _never
) -> Year:
    """Count a year in one slow walk over the journal file; `month`: only the figures of this one.

    What was counted until it is `stopped` is for nobody.
    """
    first, end = (datetime(year + more, 1, 1, tzinfo=ZONE) for more in (0, 1))
    kinds, codes = _kinds(config, journal), config.profile.interruptions
    days: dict[date, Counter[str]] = {}

    def recordings() -> Iterator[Counted]:
        for fact in facts(journal, first, end):
            one = _recording(fact, kinds, config.deadline.satisfied_by, now)
            days.setdefault(fact.made_at.date(), Counter())[one.codes[Subject.TIMELINESS]] += 1
            yield one
            if stopped():
                return

    counted = chain(recordings(), (_interruption(one, codes) for one in interruptions(journal, first, end, codes)))
    words = {one.code: (one.zh, one.en) for one in codes}
    return Year(Figures(year, month, now, tables(counted, year, now), words), days)


def _kinds(config: Config, journal: Path) -> Mapping[str, str]:
    """What sort of recorder each device is, by the inventory as it is now."""
    with closing(Reader(journal)) as reader:
        found = {name: recognise(config.inventory, device) for name, device in reader.devices().items()}
    return {name: recorder.kind.value for name, recorder in found.items() if recorder is not None}


def _recording(fact: Fact, kinds: Mapping[str, str], satisfied_by: Milestone, now: datetime) -> Counted:
    local = fact.held_at if satisfied_by is Milestone.LOCAL else None
    stored_at = local or fact.stored_at
    standing = timeliness(fact.deadline, now, stored_at)
    delay_s = 0
    if standing is Timeliness.LATE and stored_at is not None:
        delay_s = int((stored_at - fact.deadline.due_at).total_seconds())
    codes = {
        Subject.STAGE: fact.stage if fact.stage in STAGES else NOT_SAID,
        Subject.DEVICE: kinds.get(fact.device_id, NOT_SAID),
        Subject.TIMELINESS: standing.value,
    }
    if fact.cause:
        codes[Subject.CAUSE] = fact.cause if fact.cause in LATE_CAUSES else NOT_SAID
    return Counted(fact.made_at.month, codes, Amount(1, fact.seconds, fact.size_bytes, delay_s))


def _interruption(one: Interrupted, codes: Sequence[Interruption]) -> Counted:
    code = one.code if any(one.code == known.code for known in codes) else NOT_SAID
    return Counted(one.start.astimezone(ZONE).month, {Subject.INTERRUPTION: code}, Amount(1))
