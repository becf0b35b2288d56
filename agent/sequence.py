"""Reads the counter in the names that recorders give their files: what belongs to one run of numbers, and its place."""

import re
from typing import Final, NamedTuple

DCF_FOLDER: Final = re.compile(r"(?:^|/)[1-9]\d\d[0-9A-Z_]{5}$")
DCF_NAME: Final = re.compile(r"[0-9A-Z_?]{4}(\d{4})\.[0-9A-Z_]{1,3}")
STAMP: Final = re.compile(
    r"(?<!\d)20\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:[0-2]\d|3[01])"
    r"[-_T ]?(?:[01]\d|2[0-3])[-_.:]?[0-5]\d[-_.:]?[0-5]\d(?!\d)"
)
DATE: Final = re.compile(r"(?<!\d)20\d\d[-_.]?(?:0[1-9]|1[0-2])[-_.]?(?:[0-2]\d|3[01])(?=\D|\d{6}(?!\d)|$)")
COUNTER: Final = re.compile(r"(?<!\d)\d{3,10}(?!\d)", re.ASCII)
MARK: Final = "IMP"
"""What recorders write behind the number of a recording marked as important (重点), often a copy of another file."""


class Counter(NamedTuple):
    """The number in a file's name, of so many digits; the rest is its pattern, `day` the date in it, if any."""

    pattern: str
    number: int
    width: int
    day: str


class Name(NamedTuple):
    """A path in its parts; `suffix` is the extension with its dot, in capitals."""

    folder: str
    stem: str
    suffix: str


def name_of(path: str) -> Name:
    """The parts of a path on a recorder; the folder of the root is empty."""
    folder, _, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return Name(folder, stem, dot + suffix.upper()) if stem else Name(folder, name, "")


def is_marked(path: str) -> bool:
    """Whether its recorder marked a file as important (重点) by its name."""
    return name_of(path.upper()).stem.endswith(MARK)


def counter_of(path: str) -> Counter | None:
    """The counter of a file, or None if its name carries none.

    In a DCF folder (CIPA DC-009: `DCIM/100ABCDE`) a number belongs to one object whatever its prefix and extension.
    Elsewhere the counter is the last run of 3 to 10 digits that is no date or time.
    """
    folder, stem, suffix = name_of(path)
    match = DCF_NAME.fullmatch(stem + suffix)
    if match and DCF_FOLDER.search(folder):
        return Counter("DCF", int(match[1]), 4, "")
    day = DATE.search(stem)
    stem = DATE.sub("<date>", STAMP.sub("<time>", stem))
    counters = list(COUNTER.finditer(stem))
    if not counters:
        return None
    last = counters[-1]
    pattern = f"{stem[: last.start()]}#{stem[last.end() :].removesuffix(MARK)}"
    return Counter(pattern, int(last[0]), len(last[0]), day[0] if day else "")
