"""Counts recordings and interruptions by month, and says what of it may be published: numbers, never persons.

Months are China's. All that is published of a year is one design: the table of a month is a column of that of the year,
so that both together tell no more than the latter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, NamedTuple

from agent.deadline import ZONE, Verdict, verdict
from agent.model import Basis, Deadline
from agent.statistics.suppression import SMALLEST, hidden, hidden_in_column

MONTHS: Final = 12


class Subject(StrEnum):
    """What a table counts by; INTERRUPTION counts interruptions, the others recordings."""

    STAGE = "stage"
    DEVICE = "device"
    TIMELINESS = "timeliness"
    CAUSE = "cause"
    INTERRUPTION = "interruption"


class Timeliness(StrEnum):
    """How a recording stands to its time limit; the first three are decided, on an official calendar."""

    IN_TIME = "in_time"
    LATE = "late"
    OVERDUE = "overdue"
    OPEN = "open"
    PROVISIONAL = "provisional"
    UNDECIDED = "undecided"
    NO_LIMIT = "no_limit"


DECIDED: Final = (Timeliness.IN_TIME, Timeliness.LATE, Timeliness.OVERDUE)
_TOGETHER: Final = (
    (Subject.STAGE, Subject.DEVICE, Subject.TIMELINESS),
    (Subject.CAUSE,),
    (Subject.INTERRUPTION,),
)
"""Tables that count the same things have the same columns, since they have the same totals."""
_OF_VERDICT: Final[Mapping[Verdict, Timeliness]] = {
    Verdict.OPEN: Timeliness.OPEN,
    Verdict.DUE_SOON: Timeliness.OPEN,
    Verdict.UNDECIDED: Timeliness.UNDECIDED,
    Verdict.OVERDUE: Timeliness.OVERDUE,
    Verdict.IN_TIME: Timeliness.IN_TIME,
    Verdict.LATE: Timeliness.LATE,
    Verdict.NO_LIMIT: Timeliness.NO_LIMIT,
    Verdict.PAST_TARGET: Timeliness.NO_LIMIT,
}


@dataclass(frozen=True, slots=True)
class Amount:
    """How many, how long (without photos), how many bytes; `delay_s` is the sum over what was stored late."""

    count: int = 0
    seconds: int = 0
    size_bytes: int = 0
    delay_s: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(
            self.count + other.count,
            self.seconds + other.seconds,
            self.size_bytes + other.size_bytes,
            self.delay_s + other.delay_s,
        )


class Counted(NamedTuple):
    """One thing to count: in which month, by what, and how much of each measure."""

    month: int
    codes: Mapping[Subject, str]
    amount: Amount


@dataclass(frozen=True, slots=True)
class Column:
    """Some months of the year, told together; none are named by that of the whole year. `running`: it has not ended."""

    months: tuple[int, ...]
    running: bool

    @property
    def whole(self) -> bool:
        """Whether it is that of the year."""
        return not self.months


_Group = tuple[int, ...]
_Months = Mapping[str, Sequence[Amount]]
_Sums = dict[Subject, dict[str, list[Amount]]]


@dataclass(frozen=True, slots=True)
class Table:
    """What may be published: an amount for each code and column, None if it is hidden; `totals` are those of columns.

    `withheld` are months in no column and no total, because they can't be told without telling small numbers.
    """

    subject: Subject
    columns: tuple[Column, ...]
    rows: Mapping[str, tuple[Amount | None, ...]]
    totals: tuple[Amount, ...]
    withheld: tuple[int, ...]

    def of(self, month: int) -> Table:
        """The same table with only the column of one month; without any if it is withheld or empty."""
        places = [place for place, column in enumerate(self.columns[:-1]) if month in column.months]
        return Table(
            self.subject,
            tuple(self.columns[place] for place in places),
            {code: tuple(row[place] for place in places) for code, row in self.rows.items() if places},
            tuple(self.totals[place] for place in places),
            tuple(of for of in self.withheld if of == month),
        )


def timeliness(limit: Deadline, now: datetime, stored_at: datetime | None) -> Timeliness:
    """How a recording stands; one with a provisional limit is never called in time, and never late."""
    if limit.basis is Basis.PROVISIONAL:
        return Timeliness.PROVISIONAL
    return _OF_VERDICT[verdict(limit, now, stored_at)]


def share_in_time(table: Table, place: int) -> float | None:
    """按期率 of a column: of what is decided, how much was stored in time; None if that can't be told."""
    none = (Amount(),) * len(table.columns)
    counts = [amount.count for kind in DECIDED if (amount := table.rows.get(kind, none)[place]) is not None]
    total = sum(counts, 0)
    return counts[0] / total if len(counts) == len(DECIDED) and total else None


def tables(found: Iterable[Counted], year: int, now: datetime) -> tuple[Table, ...]:
    """Count everything, each thing once, and make the tables of the year."""
    sums: _Sums = {subject: {} for subject in Subject}
    for month, codes, amount in found:
        for subject, code in codes.items():
            months = sums[subject].setdefault(code, [Amount()] * MONTHS)
            months[month - 1] += amount
    made: list[Table] = []
    for subjects in _TOGETHER:
        groups, withheld = _grouped([sums[subject] for subject in subjects])
        made += [_table(subject, sums[subject], groups, withheld, year, now) for subject in subjects]
    return tuple(made)


def has_ended(year: int, month: int, now: datetime) -> bool:
    """Whether a month of China's calendar is over."""
    return now >= datetime(year + month // MONTHS, month % MONTHS + 1, 1, tzinfo=ZONE)


def _grouped(counted: Sequence[_Months]) -> tuple[tuple[_Group, ...], _Group]:
    """Which months may be told, small ones together with those that follow; and which are left at the end.

    Never together with one before: that was published already, and the difference would tell. Months that are named are
    known not to be empty, so as many recordings as months would be exactly one each.
    """
    groups: list[_Group] = []
    waiting: _Group = ()
    sizes = [_total(months[month] for months in counted[0].values()).count for month in range(MONTHS)]
    for month, size in enumerate(sizes, 1):
        if not size:
            continue
        waiting += (month,)
        columns = [[_sum(months, waiting).count for months in codes.values()] for codes in counted]
        enough = sum(sizes[of - 1] for of in waiting) >= max(SMALLEST, len(waiting) + 1)
        if enough and all(hidden_in_column(column) is not None for column in columns):
            groups.append(waiting)
            waiting = ()
    return tuple(groups), waiting


def _table(
    subject: Subject, counted: _Months, groups: tuple[_Group, ...], withheld: _Group, year: int, now: datetime
) -> Table:
    everything = {code: [_sum(months, group) for group in groups] for code, months in sorted(counted.items())}
    cells = {code: row for code, row in everything.items() if any(amount.count for amount in row)}
    places = hidden([[amount.count for amount in row] for row in cells.values()])
    rows = {
        code: tuple(None if (number, place) in places else amount for place, amount in enumerate([*row, _total(row)]))
        for number, (code, row) in enumerate(cells.items())
    }
    totals = [_total(row[place] for row in cells.values()) for place in range(len(groups))]
    columns = [Column(group, not all(has_ended(year, month, now) for month in group)) for group in groups]
    return Table(
        subject, (*columns, Column((), not has_ended(year, MONTHS, now))), rows, (*totals, _total(totals)), withheld
    )


def _sum(months: Sequence[Amount], group: _Group) -> Amount:
    return _total(months[month - 1] for month in group)


def _total(amounts: Iterable[Amount]) -> Amount:
    return sum(amounts, Amount())
