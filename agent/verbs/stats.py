"""`capture-agent stats`: the numbers of a year or a month, for publication: CSV, JSON, or a chart."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Final

from agent.config import Config, Milestone, load
from agent.deadline import ZONE
from agent.errors import RequestError
from agent.journal import Reader
from agent.journal.facts import Fact, Interrupted, facts, first_year, interruptions
from agent.model import LATE_CAUSES, STAGES, Clock, Interruption
from agent.register import recognise
from agent.statistics.report import MONTHS, Amount, Counted, Subject, Timeliness, tables, timeliness
from agent.status.chart import figures_svg
from agent.status.statistics import NOT_SAID, Figures, figures_csv, figures_json
from agent.verbs.base import Add, Exit

_WRITERS: Final[Mapping[str, Callable[[Figures], str]]] = {
    "csv": figures_csv,
    "json": lambda figures: json.dumps(figures_json(figures), ensure_ascii=False, indent=1) + "\n",
    "svg": figures_svg,
}
_UNCHANGED: Final = "Nothing was written."


def add_stats(add: Add) -> None:
    """`capture-agent stats`."""
    stats = add("stats", _stats, "numbers of a year or month that may be published: no persons, no small numbers")
    stats.add_argument("--year", required=True, type=int, metavar="YEAR", help="in which recordings were completed")
    stats.add_argument("--month", type=int, choices=range(1, 1 + MONTHS), metavar="1..12", help="only this month of it")
    stats.add_argument("--format", choices=sorted(_WRITERS), default="csv", help="default: %(default)s")
    stats.add_argument("--output", type=Path, metavar="FILE", help="a new file; without it, to the terminal")


def _stats(options: argparse.Namespace, clock: Clock) -> int:
    config, now = load(options.config), clock()
    journal = config.storage.root / "journal.db"
    _check(journal, options.year, options.month, now.astimezone(ZONE))
    first, end = (datetime(options.year + more, 1, 1, tzinfo=ZONE) for more in (0, 1))
    kinds = _kinds(config, journal)
    codes = config.profile.interruptions
    counted = chain(
        (_recording(fact, kinds, config.deadline.satisfied_by, now) for fact in facts(journal, first, end)),
        (_interruption(one, codes) for one in interruptions(journal, first, end, codes)),
    )
    words = {one.code: (one.zh, one.en) for one in codes}
    figures = Figures(options.year, options.month, now, tables(counted, options.year, now), words)
    _write(_WRITERS[options.format](figures), options.output)
    return Exit.OK


def _check(journal: Path, year: int, month: int | None, now: datetime) -> None:
    asked = f"{year}" if month is None else f"{year}-{month:02}"
    if (year, month or 1) > (now.year, now.month):
        do = f"Now it is {now:%Y-%m} in China: ask for that or an earlier one."
        raise RequestError(f"{asked} 尚未开始 / has not begun yet.", safe=_UNCHANGED, do=do)
    first = first_year(journal)
    if first is None or year < first:
        why = "there is no recording yet" if first is None else f"the first recording is of {first}"
        raise RequestError(f"{asked} 没有音像记录 / has no recordings: {why}.", safe=_UNCHANGED)


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


def _write(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    try:
        with output.open("x", encoding="utf-8", newline="") as file:
            file.write(text)
    except FileExistsError as error:
        do = "Choose another name: what may have been published is never overwritten."
        raise RequestError(f"{output} 已存在 / exists already.", safe="It was not touched.", do=do) from error
    except OSError as error:
        why = f"{output} 无法写入 / can't be written: {error.strerror}."
        raise RequestError(why, safe="No recording was touched.", do="Choose another folder, or make room.") from error
