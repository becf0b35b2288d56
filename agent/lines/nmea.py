"""NMEA 0183: the time that a satellite receiver tells, from the two sentences that have date and time (RMC, ZDA)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import reduce
from operator import xor
from typing import Final

_SENTENCE: Final = re.compile(rb"\$(G[A-Z](RMC|ZDA),[ -)+-~]{1,76})\*([0-9A-Fa-f]{2})\r?")
_TIME: Final = re.compile(r"(\d{2})(\d{2})(\d{2})(\.\d{1,3})?")
_CENTURY: Final = 2000


def time_of(line: bytes) -> datetime | None:
    """The time that one line tells; None for any other sentence, a wrong checksum, or a receiver without a fix.

    A sentence has at most 82 characters and an XOR of those between $ and * behind it (NMEA 0183, 5.3).
    """
    match = _SENTENCE.fullmatch(line)
    if match is None or reduce(xor, match[1]) != int(match[3], 16):
        return None
    fields = match[1].decode("ascii").split(",")
    if match[2] == b"RMC":
        return _moment(fields[1], fields[9]) if len(fields) > 9 and fields[2] == "A" else None
    return _moment(fields[1], f"{fields[2]}{fields[3]}{fields[4][2:]}") if len(fields) > 4 else None


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
