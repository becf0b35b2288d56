"""Which cells of a published table must be hidden, so that no small number can be told or computed from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SMALLEST: Final = 5
"""A count below this says something about single recordings, and so about persons; zero says it of nobody."""

Place = tuple[int, int]
"""(row, column) of a cell; the total of a row stands behind the last column."""


def hidden_in_column(counts: Sequence[int]) -> frozenset[int] | None:
    """The rows to hide in a column whose total is told; None if even hiding all of them leaves no doubt.

    What is hidden is known not to be zero, and its sum is what is left of the total. So one cell is that sum, and as
    many as there are in it are one each; the sum is no small number either. Until then the next smallest is hidden too.
    """
    by_size = sorted((count, row) for row, count in enumerate(counts) if count)
    needed = sum(count < SMALLEST for count, _ in by_size)
    for number in range(needed, len(by_size) + 1):
        taken = by_size[:number]
        if not taken or (number > 1 and sum(count for count, _ in taken) >= max(SMALLEST, number + 1)):
            return frozenset(row for _, row in taken)
    return None


def hidden(counts: Sequence[Sequence[int]]) -> frozenset[Place]:
    """The places to hide in a table, row by row. The totals of columns are told, each of which can be.

    What is hidden in a column depends on it only, so that what was published of a month stays true when the next one
    is. The total of a row with hidden cells is hidden as well: told, it would tie months together, and sums over some
    of them would follow that are small.
    """
    width = len(counts[0]) if counts else 0
    columns = [hidden_in_column([row[column] for row in counts]) for column in range(width)]
    cells = {(row, column) for column, rows in enumerate(columns) for row in rows or ()}
    return frozenset(cells | {(row, width) for row, _ in cells})
