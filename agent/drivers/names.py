"""Turns names and times as cards store them into text that is safe to show; the raw bytes are kept beside it."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta
from typing import Final

from agent.card import Stamp

PATH_LIMIT: Final = 4096
UNSAFE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
SEPARATORS: Final = frozenset("/\\")


def safe_name(name: str) -> str:
    """A path component that is safe to show, log and join.

    Control, format (bidirectional), surrogate, unassigned and separator characters become `<U+XXXX>`; so do the
    dots of `.` and `..`. No FAT or exFAT name holds `<`, so nothing is lost. Never used to open anything.
    """
    is_dots = name in (".", "..")
    if name.isprintable() and name and not is_dots and SEPARATORS.isdisjoint(name):
        return name
    unsafe = (is_dots or one in SEPARATORS or unicodedata.category(one) in UNSAFE_CATEGORIES for one in name)
    return "".join(f"<U+{ord(one):04X}>" if bad else one for one, bad in zip(name, unsafe, strict=True)) or "<empty>"


def join_path(folder: str, name: str) -> str:
    """A display path of bounded length; `name` must be safe already."""
    path = f"{folder}/{name}" if folder else name
    if len(path) <= PATH_LIMIT:
        return path
    return f"{path[: PATH_LIMIT // 2]}<...>{path[-PATH_LIMIT // 2 :]}"


def decode_long_name(raw: bytes) -> str:
    """UTF-16LE as FAT long names and exFAT store it; broken surrogates survive as such."""
    return raw[: len(raw) // 2 * 2].decode("utf-16-le", "surrogatepass")


def decode_short_name(raw: bytes, case_bits: int = 0) -> str:
    """An 8.3 name (11 bytes, GBK on recorders sold in China); bits 3 and 4 say that stem or extension is lower case."""
    stem = raw[:8].rstrip(b" ").decode("gbk", "replace")
    extension = raw[8:].rstrip(b" ").decode("gbk", "replace")
    stem = stem.lower() if case_bits & 0x08 else stem
    extension = extension.lower() if case_bits & 0x10 else extension
    return f"{stem}.{extension}" if extension else stem


def dos_stamp(value: int, tens: int = 0, offset_min: int | None = None) -> Stamp:
    """A time of FAT and exFAT: 16 bits of date above 16 of time, plus 10 ms units; no time if unset or impossible."""
    date, time = value >> 16, value & 0xFFFF
    day = (1980 + (date >> 9), date >> 5 & 15, date & 31)
    try:
        moment = datetime(*day, time >> 11, time >> 5 & 63, (time & 31) * 2)  # noqa: DTZ001 - no zone is known
    except ValueError:
        return Stamp(None, offset_min)
    return Stamp((moment + timedelta(milliseconds=10 * tens if tens < 200 else 0)).isoformat(), offset_min)
