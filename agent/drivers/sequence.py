"""Finds missing numbers in the names that recorders give their files; a gap is a fact, not an accusation."""

import re
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from typing import Final, NamedTuple

DCF_FOLDER: Final = re.compile(r"(?:^|/)[1-9]\d\d[0-9A-Z_]{5}$")
DCF_NAME: Final = re.compile(r"[0-9A-Z_]{4}(\d{4})\.[0-9A-Z_]{1,3}")
STAMP: Final = re.compile(
    r"(?<!\d)20\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:[0-2]\d|3[01])"
    r"[-_T ]?(?:[01]\d|2[0-3])[-_.:]?[0-5]\d[-_.:]?[0-5]\d(?!\d)"
)
DATE: Final = re.compile(r"(?<!\d)20\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:[0-2]\d|3[01])(?!\d)")
COUNTER: Final = re.compile(r"(?<!\d)\d{3,10}(?!\d)", re.ASCII)
SPARSEST: Final = 50
RANGES_LIMIT: Final = 100


class Gap(NamedTuple):
    """Numbers between `first` and `last` that no live file of a folder has.

    `ranges` are inclusive and at most `RANGES_LIMIT`; `missing` counts all; `deleted` of them are the numbers of
    deleted entries that are still visible.
    """

    folder: str
    pattern: str
    first: int
    last: int
    ranges: tuple[tuple[int, int], ...]
    missing: int
    deleted: int


def split_counter(folder: str, name: str) -> tuple[str, int] | None:
    """(pattern, number) of a file name, or None if it carries no counter.

    In a DCF folder (CIPA DC-009: `DCIM/100ABCDE`) a number belongs to one object whatever its prefix and extension.
    Elsewhere the counter is the last run of 3 to 10 digits that is no date or time, and the rest is the pattern.
    """
    match = DCF_NAME.fullmatch(name)
    if match and DCF_FOLDER.search(folder):
        return "DCF", int(match[1])
    stem = name.rpartition(".")[0] or name
    stem = DATE.sub("<date>", STAMP.sub("<time>", stem))
    counters = list(COUNTER.finditer(stem))
    if not counters:
        return None
    last = counters[-1]
    return f"{stem[: last.start()]}#{stem[last.end() :]}", int(last[0])


def find_gaps(live: Iterable[tuple[str, str]], deleted: Iterable[tuple[str, str]] = ()) -> list[Gap]:
    """Gaps per folder and pattern among (folder, name) pairs.

    Numbers further apart than fifty times their count are no counter. What is missing after the highest number can't
    be seen here.
    """
    lost = _numbers(deleted)
    gaps = []
    for (folder, pattern), numbers in sorted(_numbers(live).items()):
        first, last = min(numbers), max(numbers)
        missing = last - first + 1 - len(numbers)
        if not missing or missing + len(numbers) > SPARSEST * len(numbers):
            continue
        ranges = [(low + 1, high - 1) for low, high in pairwise(sorted(numbers)) if high - low > 1]
        known = sum(first < number < last for number in lost[folder, pattern] - numbers)
        gaps.append(Gap(folder, pattern, first, last, tuple(ranges[:RANGES_LIMIT]), missing, known))
    return gaps


def _numbers(files: Iterable[tuple[str, str]]) -> defaultdict[tuple[str, str], set[int]]:
    found: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for folder, name in files:
        counter = split_counter(folder, name)
        if counter:
            found[folder, counter[0]].add(counter[1])
    return found
