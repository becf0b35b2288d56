"""Which cells of a published table must be hidden, so that no small number can be told or computed from the others.

A table of rows x columns with totals is a network: a cell leads from its row to its column, a row's total from the
column of totals back to its row, and what is hidden can be shifted around any closed way. A hidden cell can be computed
exactly if no such way leads through it (L. H. Cox, Network Models for Complementary Cell Suppression, JASA 1995).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

SMALLEST: Final = 5
"""A count below this says something about single recordings, and so about persons; zero says it of nobody."""

Grid = Sequence[Sequence[int]]
"""The values of one measure, row by row, without totals."""

Place = tuple[int, int]
"""(row, column) of a cell; the total of a row stands behind the last column."""

_Ways = Mapping[int, Sequence[tuple[int, Place]]]


def hidden_in_column(counts: Sequence[int]) -> frozenset[int] | None:
    """The rows to hide in a column whose total is told; None if even hiding all of them leaves no doubt.

    What is hidden is known not to be zero. So one cell is its column's rest, and as many as there are in that rest are
    one each; then the next smallest is hidden too.
    """
    by_size = sorted((count, row) for row, count in enumerate(counts) if count)
    needed = sum(count < SMALLEST for count, _ in by_size)
    for number in range(needed, len(by_size) + 1):
        taken = by_size[:number]
        if not taken or (number > 1 and sum(count for count, _ in taken) > number):
            return frozenset(row for _, row in taken)
    return None


def hidden(measures: Sequence[Grid], *, whole: bool) -> frozenset[Place]:
    """The places to hide in all measures, of which the first counts, and decides. The totals of columns are told.

    Within a column that depends on the column only, so that what was published of a month stays true when the next one
    is. The total of a row with hidden cells is told only if the year is `whole`, and nothing can be computed with it.
    """
    counts, width = measures[0], len(measures[0][0]) if measures[0] else 0
    columns = [hidden_in_column([row[column] for row in counts]) for column in range(width)]
    cells = {(row, column) for column, rows in enumerate(columns) for row in rows or ()}
    found = frozenset(cells | {(row, width) for row, _ in cells})
    for row in sorted({row for row, _ in cells}, key=lambda row: -sum(counts[row])) if whole else ():
        rest = found - {(row, width)}
        rest -= {(row, of) for row, of in _computed(measures, rest) if of == width and sum(counts[row]) >= SMALLEST}
        if sum(counts[row]) >= SMALLEST and not _computed(measures, rest):
            found = rest
    return found


def _computed(measures: Sequence[Grid], places: frozenset[Place]) -> frozenset[Place]:
    found = (exposed(grid, places, floor=0 if number else 1) for number, grid in enumerate(measures))
    return frozenset(place for places in found for place in places)


def exposed(grid: Grid, places: Collection[Place], floor: int = 1) -> frozenset[Place]:
    """Those of the hidden places that can be computed from all others by whoever knows that none is below `floor`.

    What is zero anyway is no secret.
    """
    table = _with_totals(grid)
    ways = _ways(table, places, floor)
    return frozenset(
        place
        for place in places
        if table[place] > 0
        and not any(_leads(ways, end, start, place) for start, end in _steps(place, table[place], len(grid[0]), floor))
    )


def _with_totals(grid: Grid) -> dict[Place, int]:
    table = {(row, column): value for row, values in enumerate(grid) for column, value in enumerate(values)}
    return table | {(row, len(values)): sum(values) for row, values in enumerate(grid)}


def _steps(place: Place, value: int, width: int, floor: int) -> Iterator[tuple[int, int]]:
    """From which node to which the growing of a cell leads, and its shrinking if it can; rows are negative."""
    row, column = place
    start, end = (-1 - row, column) if column < width else (column, -1 - row)
    yield start, end
    if value > floor:
        yield end, start


def _ways(table: Mapping[Place, int], places: Collection[Place], floor: int) -> _Ways:
    width = max(column for _, column in table)
    ways: dict[int, list[tuple[int, Place]]] = {}
    for place in places:
        for start, end in _steps(place, table[place], width, floor):
            ways.setdefault(start, []).append((end, place))
    return ways


def _leads(ways: _Ways, start: int, goal: int, without: Place) -> bool:
    """Whether a way leads from one node to another along other hidden cells than this one."""
    reached, ends = {start}, [start]
    while ends and goal not in reached:
        for node, place in ways.get(ends.pop(), ()):
            if place != without and node not in reached:
                reached.add(node)
                ends.append(node)
    return goal in reached
