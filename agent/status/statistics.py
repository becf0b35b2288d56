"""Statistics as JSON and CSV: codes, their words and numbers; nothing by which a person could be told."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from agent.model import LATE_CAUSES, STAGES, Code, RecorderKind
from agent.statistics.report import Amount, Column, Subject, Table, Timeliness, share_in_time
from agent.statistics.suppression import SMALLEST
from agent.status.words import WORDS, at

Json = dict[str, Any]

HIDDEN: Final = "*"
"""What stands in a CSV file for a number that isn't told."""
NOT_SAID: Final = "unknown"
"""The code of what nobody has said yet: the stage, or in the inventory whose recorder it is."""
MEASURED: Final = (Subject.STAGE, Subject.DEVICE)
"""The tables that also tell hours and bytes."""

TOTAL: Final = ("合计", "total")
TITLES: Final[Mapping[Subject, tuple[str, str]]] = {
    Subject.STAGE: ("音像记录，按执法环节", "recordings by stage"),
    Subject.DEVICE: ("音像记录，按设备类型", "recordings by kind of recorder"),
    Subject.TIMELINESS: ("音像记录，按入库情况", "recordings by time limit"),
    Subject.CAUSE: ("有期限说明的音像记录，按原因", "recordings with a cause for being late, by cause"),
    Subject.INTERRUPTION: ("中断，按原因", "interruptions by cause"),
}
_TIMELINESS: Final[Mapping[str, tuple[str, str]]] = {
    Timeliness.IN_TIME: ("按期入库", "stored in time"),
    Timeliness.LATE: ("逾期入库", "stored late"),
    Timeliness.OVERDUE: ("逾期，尚未入库", "overdue, not stored"),
    Timeliness.OPEN: ("期限内，尚未入库", "within the time limit, not stored"),
    Timeliness.PROVISIONAL: ("暂定", "provisional calendar"),
    Timeliness.UNDECIDED: ("无法判定", "can't be decided"),
    Timeliness.NO_LIMIT: ("无法定期限", "no legal time limit"),
}


def _words(codes: Mapping[str, Code]) -> Mapping[str, tuple[str, str]]:
    return {code: (said.zh, said.en) for code, said in codes.items()}


_CODES: Final[Mapping[Subject, Mapping[str, tuple[str, str]]]] = {
    Subject.STAGE: {NOT_SAID: ("待补充", "not said yet"), **_words(STAGES)},
    Subject.DEVICE: {NOT_SAID: ("未登记", "not registered"), **WORDS[RecorderKind]},
    Subject.TIMELINESS: _TIMELINESS,
    Subject.CAUSE: {NOT_SAID: ("未说明", "not said"), **_words(LATE_CAUSES)},
    Subject.INTERRUPTION: {NOT_SAID: ("未说明", "not explained yet")},
}
_HEADER: Final = (
    "table", "code", "zh", "en", "period", "ended", "count", "hours", "bytes", "in_time_percent", "mean_delay_hours",
)  # fmt: skip
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, slots=True)
class Figures:
    """What may be published of a year, or of one `month` of it; `interruptions` are the words of their codes."""

    year: int
    month: int | None
    made_at: datetime
    tables: tuple[Table, ...]
    interruptions: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[Table, ...]:
        """The tables with the columns that were asked for."""
        return self.tables if self.month is None else tuple(table.of(self.month) for table in self.tables)

    def label(self, subject: Subject, code: str) -> tuple[str, str]:
        """A code in Chinese and English."""
        known = _CODES[subject].get(code)
        return known if known is not None else self.interruptions.get(code, (code, code))


def period(year: int, column: Column) -> str:
    """The months of a column: 2026, 2026-03, or 2026-03+2026-04 for months that are too small to be told alone."""
    return str(year) if column.whole else "+".join(f"{year}-{month:02}" for month in column.months)


def mean_delay_hours(amount: Amount | None) -> float | None:
    """How long after its limit a recording was stored on average; None if none was, or if it can't be told."""
    return round(amount.delay_s / amount.count / 3600, 1) if amount is not None and amount.count else None


def percent_in_time(table: Table, place: int) -> float | None:
    """Of what is decided, what was stored in time, in percent."""
    share = share_in_time(table, place)
    return None if share is None else round(100 * share, 1)


def hours(amount: Amount) -> float:
    """The playing time of what has one."""
    return round(amount.seconds / 3600, 1)


def figures_json(figures: Figures) -> Json:
    """The whole as one object; docs/statistics.md is its schema. A number that isn't told is null."""
    return {
        "year": figures.year,
        "month": figures.month,
        "made_at": at(figures.made_at),
        "hidden_below": SMALLEST,
        "tables": [_table_json(figures, table) for table in figures.shown],
    }


def _table_json(figures: Figures, table: Table) -> Json:
    titled = {"table": table.subject.value, "zh": TITLES[table.subject][0], "en": TITLES[table.subject][1]}
    columns = [{"period": period(figures.year, column), "ended": not column.running} for column in table.columns]
    rows = [_row_json(figures, table.subject, code, cells) for code, cells in table.rows.items()]
    total = [_amount_json(table.subject, amount) for amount in table.totals]
    found: Json = {**titled, "columns": columns, "rows": rows, "total": total, "withheld_months": list(table.withheld)}
    if table.subject is Subject.TIMELINESS:
        late = table.rows.get(Timeliness.LATE, (None,) * len(table.columns))
        found["in_time_percent"] = [percent_in_time(table, place) for place in range(len(table.columns))]
        found["mean_delay_hours"] = [mean_delay_hours(amount) for amount in late]
    return found


def _row_json(figures: Figures, subject: Subject, code: str, cells: tuple[Amount | None, ...]) -> Json:
    zh, en = figures.label(subject, code)
    return {"code": code, "zh": zh, "en": en, "cells": [_amount_json(subject, cell) for cell in cells]}


def _amount_json(subject: Subject, amount: Amount | None) -> Json | None:
    if amount is None:
        return None
    measured = {"hours": hours(amount), "bytes": amount.size_bytes} if subject in MEASURED else {}
    return {"count": amount.count, **measured}


def figures_csv(figures: Figures) -> str:
    """The whole as one table of RFC 4180, a line for each number.

    With a byte order mark, since without it a spreadsheet in China takes UTF-8 for GBK; nothing is a formula to it.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\r\n")
    writer.writerow(_HEADER)
    for table in figures.shown:
        for line in _lines(figures, table):
            writer.writerow(map(_harmless, line))
    return f"\ufeff{written.getvalue()}"


def _lines(figures: Figures, table: Table) -> Iterator[tuple[str, ...]]:
    rows = [(code, figures.label(table.subject, code), cells) for code, cells in table.rows.items()]
    for code, words, cells in [*rows, ("total", TOTAL, table.totals)]:
        for place, (column, amount) in enumerate(zip(table.columns, cells, strict=True)):
            named = (table.subject.value, code, *words, period(figures.year, column), "no" if column.running else "yes")
            yield (*named, *_numbers(table, code, amount, place))
    for month in table.withheld:
        yield (table.subject.value, "total", *TOTAL, f"{figures.year}-{month:02}", "", HIDDEN, "", "", "", "")


def _numbers(table: Table, code: str, amount: Amount | None, place: int) -> tuple[str, ...]:
    measured = table.subject in MEASURED
    if amount is None:
        return (HIDDEN, *([HIDDEN] * 2 if measured else [""] * 2), "", "")
    share = percent_in_time(table, place) if table.subject is Subject.TIMELINESS and code == "total" else None
    delay = mean_delay_hours(amount) if code == Timeliness.LATE else None
    return (
        str(amount.count),
        str(hours(amount)) if measured else "",
        str(amount.size_bytes) if measured else "",
        "" if share is None else str(share),
        "" if delay is None else str(delay),
    )


def _harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula (OWASP, CSV injection)."""
    return f"'{text}" if text.startswith(_FORMULA) else text
