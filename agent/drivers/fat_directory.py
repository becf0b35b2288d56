"""Reads one FAT directory: live entries, deleted ones with the best name that can be proven, and damage by sector."""

import re
import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from agent.card import Finding, Stamp
from agent.drivers.clusters import Clusters
from agent.drivers.filesystem import SLOT_BYTES, Directory, Entry, NameQuality, rotating_sum
from agent.drivers.names import decode_long_name, decode_short_name, dos_stamp, safe_name
from agent.drivers.source import SECTOR_BYTES

DELETED: Final = 0xE5
LONG_SLOTS_LIMIT: Final = 20
LONG_ATTRIBUTES: Final = 0x0F
LABEL: Final = 0x08
DIRECTORY: Final = 0x10
RESERVED_ATTRIBUTES: Final = 0xC0
FORBIDDEN: Final = bytes(range(0x20)) + b'"*+,./:;<=>?[\\]|\x7f'
DOT_NAMES: Final = (b".".ljust(11), b"..".ljust(11))
NAMES_IN_FINDING: Final = 20
DAMAGED_FROM: Final = 3
FORM_PROBLEMS: Final = frozenset({"attributes", "name"})
UNSEEN_BY_CHAIN: Final = frozenset({"attributes", "name", "time"})


class _LongSlot(NamedTuple):
    order: int
    checksum: int
    part: bytes


class _Short(NamedTuple):
    """A short entry with the long-name slots before it; `problem` says what can't be right."""

    position: int
    raw: bytes
    slots: tuple[_LongSlot, ...]
    start: int
    size_bytes: int
    modified: Stamp
    is_deleted: bool
    is_past_end: bool
    problem: str

    @property
    def name(self) -> bytes:
        return self.raw[:11]


class FatDirectory:
    """Iterates over the entries of one directory.

    A 512-byte sector in which over half of the live slots have a form that no recorder writes is damaged: from it, only
    live entries proven by their long name's checksum are believed, and the rest is counted in a finding. An entry of
    good form with an impossible start, size or time is listed and flagged.
    """

    def __init__(self, directory: Directory, clusters: Clusters) -> None:
        self._directory = directory
        self._clusters = clusters
        self._live: Counter[int] = Counter()
        self._invalid: Counter[int] = Counter()
        self._first_letters: defaultdict[bytes, set[int]] = defaultdict(set)

    def __iter__(self) -> Iterator[Entry | Finding]:
        if self._directory.is_deleted and self._directory.data[:11] not in (DOT_NAMES[0], b"\xe5" + DOT_NAMES[0][1:]):
            return
        shorts = list(self._shorts())
        for short in shorts:
            if not short.is_deleted and not short.problem:
                self._first_letters[_digits_out(short.name)].add(short.name[0])
        left_out: list[_Short] = []
        for short in shorts:
            if self._is_damaged(short.position // SECTOR_BYTES) and not _is_proven(short):
                left_out.append(short)
            elif not (short.is_deleted and short.problem):
                yield self._entry(short)
        if left_out:
            yield self._report(left_out)

    def _is_damaged(self, sector: int) -> bool:
        """A few odd slots are a careless firmware, many are not a directory."""
        return self._invalid[sector] >= DAMAGED_FROM and 2 * self._invalid[sector] > self._live[sector]

    def _report(self, left_out: Sequence[_Short]) -> Finding:
        sectors = {short.position // SECTOR_BYTES for short in left_out}
        return Finding(
            "directory-damaged",
            {
                "path": self._directory.path,
                "sectors": len(sectors),
                "first_offset": self._directory.offset(min(sectors) * SECTOR_BYTES),
                "entries_not_believed": len(left_out),
                "names": [self._entry(short).name for short in left_out[:NAMES_IN_FINDING]],
            },
        )

    # Slots.

    def _shorts(self) -> Iterator[_Short]:
        """All short entries, each with the long-name slots that stand directly before it."""
        data = self._directory.data
        slots: list[_LongSlot] = []
        is_past_end = False
        for position in range(0, self._directory.used_bytes, SLOT_BYTES):
            raw = data[position : position + SLOT_BYTES]
            if len(raw) < SLOT_BYTES or not raw[0]:
                is_past_end, slots = True, []
                continue
            if raw[11] & 0x3F == LONG_ATTRIBUTES:
                slot = self._long_slot(position, raw, is_past_end)
                slots = [*slots[-LONG_SLOTS_LIMIT + 1 :], slot] if slot else []
                continue
            short = self._short(position, raw, tuple(slots), is_past_end)
            slots = []
            if short is not None:
                yield short

    def _count(self, position: int, *, is_valid: bool) -> None:
        self._live[position // SECTOR_BYTES] += 1
        self._invalid[position // SECTOR_BYTES] += not is_valid

    def _long_slot(self, position: int, raw: bytes, is_past_end: bool) -> _LongSlot | None:
        is_valid = not raw[12] and raw[26:28] == b"\0\0"
        if raw[0] != DELETED and not is_past_end:
            self._count(position, is_valid=is_valid and 1 <= raw[0] & 0x3F <= LONG_SLOTS_LIMIT)
        return _LongSlot(raw[0], raw[13], raw[1:11] + raw[14:26] + raw[28:32]) if is_valid else None

    def _short(self, position: int, raw: bytes, slots: tuple[_LongSlot, ...], is_past_end: bool) -> _Short | None:
        high, time, low, size = struct.unpack_from("<HIHI", raw, 20)
        start = low | high << 16 if self._clusters.geometry.value_bits == 28 else low
        is_deleted = raw[0] == DELETED or self._directory.is_deleted or is_past_end
        if raw[:11] in DOT_NAMES or (raw[11] & 0x18 == LABEL and not (start and size)):
            if not is_deleted:
                self._count(position, is_valid=True)
            return None
        modified = dos_stamp(time)
        problem = self._problem(raw, start, size)
        if not problem and time >> 16 and modified.local is None:
            problem = "time"
        if not is_deleted:
            self._count(position, is_valid=problem not in FORM_PROBLEMS)
        elif raw[0] == DELETED and (raw[1:11] == b" " * 10 or not (time or any(raw[16:18]) or start or size or slots)):
            problem = "empty"
        return _Short(position, raw, slots, start, size, modified, is_deleted, is_past_end, problem)

    def _problem(self, raw: bytes, start: int, size: int) -> str:
        """What can't be right in an entry that a recorder wrote, or nothing."""
        checked = raw[1:11] if raw[0] in (DELETED, 0x05) else raw[:11]
        if raw[11] & RESERVED_ATTRIBUTES or raw[11] & (LABEL | DIRECTORY) == LABEL | DIRECTORY:
            return "attributes"
        if len(checked.translate(None, FORBIDDEN)) != len(checked) or raw[0] == 0x20:
            return "name"
        if start and not self._clusters.is_cluster(start):
            return "start"
        return "size" if size > self._clusters.geometry.heap_bytes else ""

    # Entries.

    def _entry(self, short: _Short) -> Entry:
        raw_name, name, quality = self._name(short)
        flags = ["after-end-mark"] if short.is_past_end else []
        if not short.is_deleted:
            flags += [f"entry-{short.problem}"] if short.problem in UNSEEN_BY_CHAIN else []
            has_live_slots = any(slot.order != DELETED for slot in short.slots)
            flags += ["long-name-damaged"] if has_live_slots and not _live_long_name(short) else []
        is_dir = bool(short.raw[11] & DIRECTORY)
        tens, created = struct.unpack_from("<BI", short.raw, 13)
        return Entry(
            name=safe_name(name),
            raw_name=raw_name,
            size_bytes=0 if is_dir else short.size_bytes,
            valid_bytes=short.size_bytes,
            start=short.start,
            entry_offset=self._directory.offset(short.position),
            is_dir=is_dir,
            is_deleted=short.is_deleted,
            created=dos_stamp(created, tens),
            modified=short.modified,
            quality=quality,
            flags=tuple(flags),
            short_name=short.name,
        )

    def _name(self, short: _Short) -> tuple[bytes, str, NameQuality]:
        """(raw bytes, text, quality) of the best name."""
        if short.name[0] != DELETED:
            long_name = _live_long_name(short)
            if long_name:
                return long_name, decode_long_name(long_name), NameQuality.EXACT
            whole = b"\xe5" + short.name[1:] if short.name[0] == 0x05 else short.name
            return short.name, decode_short_name(whole, short.raw[12]), NameQuality.EXACT
        return _lost_long_name(short) or self._lost_short_name(short)

    def _lost_short_name(self, short: _Short) -> tuple[bytes, str, NameQuality]:
        """A deleted 8.3 name: its first letter is that of its siblings, if they agree, else `?`."""
        letters = self._first_letters.get(_digits_out(short.name), set())
        first, quality = ord("?"), NameQuality.LOSSY
        if len(letters) == 1:
            (first,), quality = letters, NameQuality.INFERRED
        return short.name, decode_short_name(bytes((first,)) + short.name[1:], short.raw[12]), quality


def _digits_out(name: bytes) -> bytes:
    """The pattern of an 8.3 name without its first letter: equal for `MOVI0001.MP4` and `MOVI0042.MP4`."""
    return re.sub(rb"[0-9]", b"0", name[1:])


def _first_byte(checksum: int, rest: bytes) -> int:
    """The first byte of the short name with that checksum: each step of the sum can be undone."""
    total = checksum
    for byte in reversed(rest):
        total = total - byte & 0xFF
        total = (total << 1 | total >> 7) & 0xFF
    return total


def _until_terminator(raw: bytes) -> tuple[bytes, bool]:
    """Name without terminator and padding, and whether there was a terminator."""
    for at in range(0, len(raw), 2):
        if raw[at : at + 2] == b"\0\0":
            return raw[:at], True
    return raw, False


def _live_long_name(short: _Short) -> bytes:
    """The long name whose slots are numbered 1, 2, ... upwards from the entry and carry its checksum; else nothing."""
    checksum = rotating_sum(short.name, 8)
    parts: list[bytes] = []
    for slot in reversed(short.slots):
        if slot.order == DELETED or slot.order & 0x3F != len(parts) + 1 or slot.checksum != checksum:
            return b""
        parts.append(slot.part)
        if slot.order & 0x40:
            return _until_terminator(b"".join(parts))[0]
    return b""


def _is_proven(short: _Short) -> bool:
    return not short.is_deleted and not short.problem and bool(_live_long_name(short))


def _lost_slots(slots: Sequence[_LongSlot]) -> Iterator[bytes]:
    """Parts of the long name of a deleted entry, first part first; deletion wiped the numbers of its slots."""
    for slot in reversed(slots):
        if slot.order != DELETED or slot.checksum != slots[-1].checksum:
            return
        yield slot.part
        if _until_terminator(slot.part)[1]:
            return


def _lost_long_name(short: _Short) -> tuple[bytes, str, NameQuality] | None:
    """The long name of a deleted entry, if the checksum in its slots gives a possible first letter."""
    if not short.slots:
        return None
    first = _first_byte(short.slots[-1].checksum, short.name[1:])
    raw, is_terminated = _until_terminator(b"".join(_lost_slots(short.slots)))
    if not raw or first in FORBIDDEN or first in (0x20, DELETED):
        return None
    text = decode_long_name(raw)
    whole = bytes((first,)) + short.name[1:]
    is_complete = is_terminated or text.upper().endswith("." + whole[8:].rstrip().decode("gbk", "replace"))
    if not _looks_alike(text, whole, is_complete=is_complete):
        return raw, text, NameQuality.DOUBTFUL
    if not is_complete:
        return raw, text + "\u2026", NameQuality.PARTIAL
    return raw, text, NameQuality.EXACT if text[0].upper() == chr(first) else NameQuality.LONG


def _looks_alike(text: str, short_name: bytes, *, is_complete: bool) -> bool:
    """Whether an 8.3 name can be the alias of a long name: equal, or shortened with the same extension."""
    if text.upper() == decode_short_name(short_name):
        return True
    if b"~" not in short_name and b"_" not in short_name[:8]:
        return False
    extension = text.rpartition(".")[2] if "." in text else ""
    initial = extension[:1].upper().encode("ascii", "replace").replace(b"?", b"_") or b" "
    return not is_complete or short_name[8:9] in (initial, b" ")
