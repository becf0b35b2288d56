"""Promise: what is published of a year tells no number below five, and none can be computed from what is told."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.deadline import ZONE
from agent.model import Basis
from agent.statistics.report import (
    Amount,
    Counted,
    Subject,
    Table,
    Timeliness,
    share_in_time,
    tables,
    timeliness,
)
from agent.statistics.suppression import SMALLEST, Place, hidden, hidden_in_column
from agent.status.statistics import Figures, figures_csv
from tests.journal_entries import NOW, deadline

LATER = datetime(2027, 1, 31, 9, tzinfo=ZONE)
Grid = list[list[int]]
T = TypeVar("T")
SMALL = st.integers(0, 9) | st.sampled_from([0, 1, 4, 5, 30])


def grids(rows: int, columns: int) -> st.SearchStrategy[Grid]:
    shape = st.tuples(st.integers(1, rows), st.integers(1, columns))
    return shape.flatmap(
        lambda of: st.lists(st.lists(SMALL, min_size=of[1], max_size=of[1]), min_size=of[0], max_size=of[0])
    )


def told(grid: Grid) -> Grid:
    """The columns that can be told at all; the others are put together with those that follow."""
    keep = [
        column
        for column in range(len(grid[0]))
        if sum(row[column] for row in grid) >= SMALLEST and hidden_in_column([row[column] for row in grid]) is not None
    ]
    return [[row[column] for column in keep] for row in grid]


def computable(grid: Grid, places: frozenset[Place]) -> set[Place]:
    """What solving the sums of rows and columns for the hidden cells gives."""
    width = len(grid[0])
    sums = [{(row, column): 1 if column < width else -1 for column in range(width + 1)} for row in range(len(grid))]
    sums += [{(row, column): 1 for row in range(len(grid))} for column in range(width + 1)]
    return unknowns(sums, places)


def unknowns(sums: Sequence[Mapping[T, int]], places: Collection[T]) -> set[T]:
    """Those of the unknown places that the sums have one value for: exact elimination, knowing nothing of our code."""
    order = list(places)
    matrix = [[Fraction(terms.get(place, 0)) for place in order] for terms in sums]
    lead = 0
    for column in range(len(order)):
        pivot = next((row for row in range(lead, len(matrix)) if matrix[row][column]), None)
        if pivot is None:
            continue
        matrix[lead], matrix[pivot] = matrix[pivot], matrix[lead]
        matrix[lead] = [value / matrix[lead][column] for value in matrix[lead]]
        for row in range(len(matrix)):
            if row != lead and (factor := matrix[row][column]):
                matrix[row] = [one - factor * other for one, other in zip(matrix[row], matrix[lead], strict=True)]
        lead += 1
    alone = [[column for column, value in enumerate(row) if value] for row in matrix[:lead]]
    return {order[columns[0]] for columns in alone if len(columns) == 1}


@settings(deadline=None, max_examples=300)
@given(grids(6, 6))
@example([[3, 10], [7, 0]])
@example([[1, 30], [4, 30], [30, 30]])
def test_no_hidden_number_follows_from_the_sums(grid: Grid) -> None:
    """Rows, columns and totals, solved exactly; and what is small is hidden, with its hours and bytes."""
    grid = told(grid)
    if not grid[0]:
        return
    places = hidden(grid)
    assert computable(grid, places) == set()
    table = [[*row, sum(row)] for row in grid]
    assert all(
        (row, column) in places for row, counts in enumerate(table) for column, n in enumerate(counts) if 0 < n < 5
    )
    assert all(count > 0 for row, column in places for count in [table[row][column]]), "zero is no secret"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=2), min_size=2, max_size=3))
@example([[1, 5], [1, 5], [3, 0]])
def test_nor_by_knowing_that_what_is_hidden_is_not_zero(grid: Grid) -> None:
    """All tables of whole numbers that say the same are tried: each hidden number differs in two of them."""
    grid = told(grid)
    if not grid[0]:
        return
    places = hidden(grid)
    width = len(grid[0])
    seen: dict[Place, set[int]] = {place: set() for place in places}
    for other in alternatives(grid, places):
        table = [[*row, sum(row)] for row in other]
        for row, column in places:
            seen[row, column].add(table[row][column])
    assert width
    assert [place for place, values in seen.items() if len(values) < 2] == []


def alternatives(grid: Grid, places: frozenset[Place]) -> Iterator[Grid]:
    """Every table that has the told numbers and totals, and more than zero where something is hidden."""
    columns = []
    for column in range(len(grid[0])):
        rows = [row for row in range(len(grid)) if (row, column) in places]
        rest = sum(grid[row][column] for row in rows)
        columns.append([dict(zip(rows, part, strict=True)) for part in parts(rest, len(rows))])
    for choice in itertools.product(*columns):
        other = [
            [choice[column].get(row, value) for column, value in enumerate(values)] for row, values in enumerate(grid)
        ]
        if all(sum(other[row]) == sum(grid[row]) for row in range(len(grid)) if (row, len(grid[0])) not in places):
            yield other


def parts(total: int, count: int) -> Iterator[tuple[int, ...]]:
    if count == 0:
        yield ()
    elif count == 1:
        yield (total,)
    else:
        for first in range(1, total - count + 2):
            yield from ((first, *rest) for rest in parts(total - first, count - 1))


@pytest.mark.parametrize(
    ("counts", "rows"),
    [
        ([30, 8, 7, 0], set()),
        ([30, 8, 3, 0], {1, 2}),
        ([30, 8, 1, 1], {1, 2, 3}),  # 1 + 1: what is left would be one each
        ([30, 8, 2, 1], {1, 2, 3}),  # 2 + 1: a small number too
        ([30, 8, 4, 1], {2, 3}),
        ([1, 1, 1, 1, 1], None),
        ([], set()),
    ],
)
def test_a_column_hides_what_is_small_and_the_next_smallest(counts: Sequence[int], rows: set[int] | None) -> None:
    assert hidden_in_column(counts) == rows


def one(month: int, stage: str = "S03", **changes: int) -> Counted:
    codes = {Subject.STAGE: stage, Subject.DEVICE: "", Subject.TIMELINESS: Timeliness.IN_TIME.value}
    return Counted(month, codes, Amount(**{"count": 1, "seconds": 60, "size_bytes": 1000} | changes))


def by(found: Sequence[Counted], subject: Subject = Subject.STAGE, now: datetime = LATER) -> Table:
    return next(table for table in tables(found, 2026, now) if table.subject is subject)


def test_a_small_month_is_told_with_the_ones_behind_it_and_a_small_end_not_at_all() -> None:
    """Never with one before: that may have been published already, and the difference would tell."""
    found = [one(1)] * 20 + [one(2)] * 3 + [one(3)] * 4 + [one(5)] * 9 + [one(12)] * 2
    table = by(found)
    assert [column.months for column in table.columns] == [(1,), (2, 3), (5,), ()]
    assert [amount.count for amount in table.totals] == [20, 7, 9, 36]
    assert table.withheld == (12,)
    assert table.of(3).totals == (Amount(7, 7 * 60, 7000),)
    assert (table.of(12).columns, table.of(12).withheld) == ((), (12,))
    assert (table.of(4).columns, table.of(4).withheld) == ((), ())


def test_five_months_with_one_recording_each_are_not_told() -> None:
    """That five months have something and five in all would say what each has."""
    table = by([one(month) for month in range(1, 6)])
    assert (len(table.columns), table.withheld) == (1, (1, 2, 3, 4, 5))
    assert table.totals == (Amount(),)


def test_what_was_published_of_a_month_is_what_the_year_says_of_it() -> None:
    """A later edition hides and tells the same of a month that has ended, whatever came since."""
    before = [one(1, stage) for stage, n in (("S03", 40), ("S05", 6), ("S09", 3)) for _ in range(n)]
    after = [*before, *[one(2, stage) for stage, n in (("S03", 4), ("S05", 9), ("S09", 30)) for _ in range(n)]]
    january, later = by(before).of(1), by(after).of(1)
    assert january == later
    assert january.rows == {"S03": (Amount(40, 2400, 40_000),), "S05": (None,), "S09": (None,)}


MONTHLY = st.lists(
    st.dictionaries(st.tuples(st.sampled_from("ABC"), st.sampled_from(Timeliness)), st.integers(1, 12), max_size=5),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=60)
@given(MONTHLY)
def test_all_editions_together_tell_no_more(months: list[dict[tuple[str, Timeliness], int]]) -> None:
    """Published at the end of each month, and at the end of the year: everything is solved together, once more."""
    found: list[Counted] = []
    told: dict[tuple[Subject, str, object], int] = {}
    kept: dict[tuple[Subject, str, object], int] = {}
    sums: list[dict[tuple[Subject, str, object], int]] = []
    for edition, of_month in enumerate([*months, {}], 1):
        for (stage, kind), number in of_month.items():
            codes = {Subject.STAGE: stage, Subject.DEVICE: "", Subject.TIMELINESS: kind.value}
            found += [Counted(edition, codes, Amount(1))] * number
        now = datetime(2026, edition + 1, 1, tzinfo=ZONE) if edition <= len(months) else LATER
        for table in tables(found, 2026, now):
            columns = [column.months or f"the year, edition {edition}" for column in table.columns]
            for code, cells in [*table.rows.items(), ("total", table.totals)]:
                for column, cell in zip(columns, cells, strict=True):
                    place = (table.subject, code, column)
                    if cell is None:
                        shown = column if isinstance(column, tuple) else [of for group in columns[:-1] for of in group]
                        true = [
                            one.amount.count for one in found if one.month in shown and one.codes[table.subject] == code
                        ]
                        assert kept.setdefault(place, sum(true)) == sum(true)
                    else:
                        assert told.setdefault(place, cell.count) == cell.count, "what was told stays true"
                sums.append(
                    {(table.subject, code, of): 1 for of in columns[:-1]} | {(table.subject, code, columns[-1]): -1}
                )
            sums += [
                {(table.subject, code, of): 1 if code != "total" else -1 for code in [*table.rows, "total"]}
                for of in columns
            ]
    assert not kept.keys() & told.keys()
    assert not any(0 < count < SMALLEST for count in told.values())
    assert unknowns(sums, kept) == set()


def test_the_total_of_a_row_is_told_only_with_all_its_months() -> None:
    """Told, it would tie months together, and sums over some of them would follow that are small."""
    parts = (("S03", 40), ("S05", 4), ("S09", 3), ("S10", 3))
    found = [one(month, stage) for month in (1, 2, 3) for stage, number in parts for _ in range(number)]
    rows = by(found).rows
    assert [row[-1].count for row in rows.values() if row[-1] is not None] == [120]
    assert by(found).totals[-1].count == 150


def test_no_text_is_a_formula_to_a_spreadsheet() -> None:
    """Codes are checked where they come in; here a hostile one is only text, with every quote and comma kept."""
    code = '=HYPERLINK("http://example.org","x")'
    figures = Figures(2026, None, LATER, (by([one(1, code)] * 9),))
    lines = list(csv.reader(io.StringIO(figures_csv(figures).removeprefix("\ufeff"), newline="")))
    assert {len(line) for line in lines} == {11}
    assert lines[1][1:4] == [f"'{code}"] * 3
    assert not [cell for line in lines for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_month_runs_until_midnight_in_china() -> None:
    found = [one(11)] * 9 + [one(12)] * 9
    last = datetime(2026, 12, 31, 23, 59, 59, tzinfo=ZONE)
    assert [column.running for column in by(found, now=last).columns] == [False, True, True]
    assert [column.running for column in by(found, now=last + timedelta(seconds=1)).columns] == [False, False, False]


def kinds(**counts: int) -> list[Counted]:
    return [
        Counted(1, {Subject.STAGE: "", Subject.DEVICE: "", Subject.TIMELINESS: Timeliness(kind).value}, Amount(1))
        for kind, number in counts.items()
        for _ in range(number)
    ]


def test_the_share_in_time_is_of_what_is_decided_on_an_official_calendar() -> None:
    table = by(kinds(in_time=90, late=5, overdue=5, provisional=50, undecided=7, open=30), Subject.TIMELINESS)
    assert share_in_time(table, -1) == 0.9
    assert share_in_time(by(kinds(in_time=90, provisional=9), Subject.TIMELINESS), -1) == 1.0
    assert share_in_time(by(kinds(provisional=9), Subject.TIMELINESS), -1) is None, "nothing is decided"


def test_a_share_that_would_tell_a_small_number_is_not_told() -> None:
    assert share_in_time(by(kinds(in_time=90, late=3, open=30), Subject.TIMELINESS), -1) is None


@pytest.mark.parametrize(
    ("basis", "hours", "stored", "kind"),
    [
        (Basis.OFFICIAL, 48, 1, Timeliness.IN_TIME),
        (Basis.OFFICIAL, 48, 48, Timeliness.LATE),
        (Basis.OFFICIAL, -1, None, Timeliness.OVERDUE),
        (Basis.OFFICIAL, 48, None, Timeliness.OPEN),
        (Basis.OFFICIAL, 0.5, None, Timeliness.UNDECIDED),
        (Basis.OFFICIAL, 48, 47.5, Timeliness.UNDECIDED),
        (Basis.PROVISIONAL, 48, 1, Timeliness.PROVISIONAL),
        (Basis.PROVISIONAL, -48, None, Timeliness.PROVISIONAL),
        (Basis.TARGET, -48, None, Timeliness.NO_LIMIT),
        (Basis.TARGET, 48, 1, Timeliness.NO_LIMIT),
    ],
)
def test_only_an_official_calendar_makes_in_time_or_late(
    basis: Basis, hours: float, stored: float | None, kind: Timeliness
) -> None:
    stored_at = None if stored is None else NOW + timedelta(hours=stored)
    assert timeliness(deadline(hours, basis), NOW, stored_at) is kind
