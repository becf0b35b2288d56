"""`capture-agent stats`: the numbers of a year or a month, for publication: CSV, JSON, or a chart."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from agent.config import load
from agent.deadline import ZONE
from agent.errors import RequestError
from agent.journal.facts import first_year
from agent.model import Clock
from agent.statistics.report import MONTHS
from agent.status.chart import figures_svg
from agent.status.counting import YearCount
from agent.status.statistics import Figures, figures_csv, figures_json
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
    figures = YearCount(options.year).of(config, options.month, now).figures
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
