"""NMEA 0183: what a satellite receiver tells with its recommended minimum (RMC): when it is, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from operator import xor
from typing import Final

_SENTENCE: Final = re.compile(rb"\$((?:G[A-Z]|BD)RMC,[ -)+-~]{1,76})\*([0-9A-Fa-f]{2})\r?")
_TIME: Final = re.compile(r"(\d{2})(\d{2})(\d{2})(\.\d{1,3})?")
_ANGLE: Final = re.compile(r"(\d{2,3})([0-5]\d(?:\.\d{1,8})?)")
_CENTURY: Final = 2000
_HAS_FIX: Final = "A"


@dataclass(frozen=True, slots=True)
class Fix:
    """`place` in degrees of WGS 84: north, then east; None if it tells none that there is on Earth."""

    at: datetime
    place: tuple[float, float] | None


def fix_of(line: bytes) -> Fix | None:
    """What one line tells; None for any other sentence, a wrong checksum, or a receiver without a fix.

    A sentence has at most 82 characters and an XOR of those between $ and * behind it (NMEA 0183, 5.3). Others that
    have a time (ZDA) don't say whether there is a fix, or only the receiver's own clock.
    """
    match = _SENTENCE.fullmatch(line)
    if match is None or reduce(xor, match[1]) != int(match[2], 16):
        return None
    fields = match[1].decode("ascii").split(",")
    if len(fields) < 10 or fields[2] != _HAS_FIX or (at := _moment(fields[1], fields[9])) is None:
        return None
    north, east = _angle(fields[3], fields[4], "NS", 90), _angle(fields[5], fields[6], "EW", 180)
    return Fix(at, None if north is None or east is None else (north, east))


def _angle(words: str, side: str, sides: str, most: int) -> float | None:
    """`dddmm.mmm` and one of the two `sides`, of which the second is below zero."""
    found = _ANGLE.fullmatch(words)
    if found is None or len(side) != 1 or side not in sides:
        return None
    angle = int(found[1]) + float(found[2]) / 60
    return None if angle > most else angle if side == sides[0] else -angle


def _moment(clock: str, day: str) -> datetime | None:
    """`hhmmss.sss` and `ddmmyy`; None for a leap second, too, which no clock here could be compared with."""
    found = _TIME.fullmatch(clock)
    if found is None or not re.fullmatch(r"\d{6}", day, re.ASCII):
        return None
    microsecond = round(float(found[4] or 0) * 1_000_000)
    year, month, date = _CENTURY + int(day[4:]), int(day[2:4]), int(day[:2])
    try:
        return datetime(year, month, date, int(found[1]), int(found[2]), int(found[3]), microsecond, UTC)
    except ValueError:
        return None
