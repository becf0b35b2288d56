"""Reads exFAT (Microsoft exFAT specification 1.00): boot sector, allocation bitmap and directory entry sets."""

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final, NamedTuple

from agent.card import Finding, Stamp, Volume
from agent.drivers.clusters import Clusters, ClusterSet, Geometry
from agent.drivers.filesystem import (
    SIZE_LIMIT_BYTES,
    SLOT_BYTES,
    Boot,
    ClusterVolume,
    Directory,
    Entry,
    NameQuality,
    rotating_sum,
)
from agent.drivers.names import decode_long_name, dos_stamp, safe_name
from agent.drivers.source import SECTOR_BYTES, Source

SIGNATURE: Final = b"EXFAT   "
IN_USE: Final = 0x80
FILE, STREAM, NAME = 0x05, 0x40, 0x41
"""Entry types without the in-use bit."""
BITMAP, UPCASE, LABEL = 0x81, 0x82, 0x83
ROOT_TYPES: Final = frozenset({BITMAP, UPCASE, LABEL, 0xA0, 0xA1})
SECONDARY_TYPES: Final = frozenset({0xC0, 0xC1, 0xE0, 0xE1})
SET_SLOTS: Final = range(3, 20)
DIRECTORY: Final = 0x10
NO_CHAIN: Final = 0x02
SECOND_ACTIVE, VOLUME_DIRTY, MEDIA_FAILURE = 0x0001, 0x0002, 0x0004
CHECKED_BOOT_SECTORS: Final = 11
BITMAP_LIMIT_BYTES: Final = 512 * 1024 * 1024 // 8


def is_whole_boot_region(source: Source, offset: int) -> bool:
    """Whether a boot region (main or backup) is exFAT and its checksum fits: eleven sectors, summed in the twelfth."""
    sector = source.read(offset, SECTOR_BYTES)
    if ExFatVolume.parse_boot(sector) is None:
        return False
    region = source.read(offset, CHECKED_BOOT_SECTORS << sector[108])
    checked = region[:106] + region[108:112] + region[113:]  # flags and percentage in use may change
    return source.read(offset + len(region), 4) == rotating_sum(checked, 32).to_bytes(4, "little")


class ExFatVolume(ClusterVolume):
    """An exFAT volume."""

    directory_limit_bytes = 64 * 1024 * 1024

    def __init__(self, source: Source, offset: int = 0, boot_offset: int | None = None) -> None:
        super().__init__(source, offset, boot_offset)
        for slot in self.root_slots():
            if slot[0] in (BITMAP, UPCASE):
                self.system_clusters += -(-int.from_bytes(slot[24:32], "little") // self.volume.cluster_bytes)
            if slot[0] == BITMAP and self.clusters.bitmap is None and not slot[1] & 1:
                self.clusters.bitmap = self._bitmap(*struct.unpack_from("<IQ", slot, 20))
            elif slot[0] == LABEL:
                label = safe_name(decode_long_name(slot[2 : 2 + 2 * min(slot[1], 11)])) if slot[1] else ""
                self.volume = self.volume._replace(label=label)

    @staticmethod
    def parse_boot(sector: bytes, offset: int = 0) -> Boot | None:
        """The fields that matter, checked against each other."""
        if len(sector) < SECTOR_BYTES or sector[3:11] != SIGNATURE or sector[510:] != b"\x55\xaa":
            return None
        sectors, table, table_sectors, heap, count, root, serial, _, flags, sector_shift, shift, copies = (
            struct.unpack_from("<QIIIIIIHHBBB", sector, 72)
        )
        if not 9 <= sector_shift <= 12 or shift > 25 - sector_shift or copies not in (1, 2):
            return None
        table_bytes = table_sectors << sector_shift
        count = min(count, table_bytes // 4 - 2)
        if count <= 0:
            return None
        geometry = Geometry(
            value_bits=32,
            table_offset=offset
            + (table << sector_shift)
            + (table_bytes if copies == 2 and flags & SECOND_ACTIVE else 0),
            table_bytes=table_bytes,
            mirror_offset=None,
            heap_offset=offset + (heap << sector_shift),
            cluster_bytes=1 << sector_shift + shift,
            cluster_count=count,
        )
        volume = Volume(
            kind="exfat",
            filesystem_id=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
            label="",
            cluster_bytes=geometry.cluster_bytes,
            size_bytes=min(sectors << sector_shift, SIZE_LIMIT_BYTES),
            dirty=bool(flags & VOLUME_DIRTY),
        )
        return Boot(geometry, volume, root, had_errors=bool(flags & MEDIA_FAILURE))

    def _bitmap(self, start: int, size_bytes: int) -> ClusterSet | None:
        count = self.clusters.geometry.cluster_count
        needed = -(-count // 8)
        if size_bytes < needed or needed > BITMAP_LIMIT_BYTES:
            return None
        extents = self.clusters.extents(self.clusters.chain(start, needed).runs, needed)
        return ClusterSet(count, self.clusters.read(extents))

    def entries(self, directory: Directory) -> Iterator[Entry | Finding]:
        """Entries of one directory."""
        return iter(ExFatDirectory(directory, self.clusters))

    def findings(self) -> list[Finding]:
        """Those of every volume, and a missing bitmap."""
        found = super().findings()
        if self.clusters.bitmap is None:
            found.append(Finding("bitmap-missing", {"volume": self.volume.filesystem_id}))
        return found


class _Set(NamedTuple):
    """An entry set: its bytes with all in-use bits restored, and whether its checksum fits."""

    position: int
    raw: bytes
    is_in_use: bool
    is_past_end: bool
    is_proven: bool


class ExFatDirectory:
    """Iterates over the entries of one directory.

    A deleted set keeps everything but its in-use bits, so its checksum proves name, size and times. Sets whose
    checksum doesn't fit are listed and flagged, except in 512-byte sectors where over half of the live slots belong
    to no set: those are damaged, and counted in a finding.
    """

    def __init__(self, directory: Directory, clusters: Clusters) -> None:
        self._directory = directory
        self._clusters = clusters
        self._live: Counter[int] = Counter()
        self._stray: Counter[int] = Counter()

    def __iter__(self) -> Iterator[Entry | Finding]:
        unproven: list[_Set] = []
        for found in self._sets():
            if found.is_proven:
                yield self._entry(found)
            elif found.is_in_use or self._is_plausible(found):
                unproven.append(found)
        damaged = {sector for sector, stray in self._stray.items() if 2 * stray > self._live[sector]}
        left_out = 0
        for found in unproven:
            if found.position // SECTOR_BYTES in damaged:
                left_out += 1
            else:
                yield self._entry(found)
        if self._stray:
            yield Finding(
                "directory-damaged",
                {
                    "path": self._directory.path,
                    "sectors": len(damaged),
                    "first_offset": self._directory.offset(min(self._stray) * SECTOR_BYTES),
                    "stray_slots": self._stray.total(),
                    "entries_not_believed": left_out,
                },
            )

    def _sets(self) -> Iterator[_Set]:
        data = self._directory.data
        position, is_past_end = 0, False
        length = self._directory.used_bytes
        while position < length:
            kind = data[position]
            found = self._set_at(position, is_past_end) if kind & ~IN_USE == FILE else None
            slots = 1
            if not kind:
                is_past_end = True
            elif found:
                slots = len(found.raw) // SLOT_BYTES if found.is_proven or found.is_in_use else 1
                yield found
            if kind & IN_USE and not is_past_end:
                self._count(position, slots, is_stray=found is None and kind not in ROOT_TYPES)
            position += slots * SLOT_BYTES

    def _count(self, position: int, slots: int, *, is_stray: bool) -> None:
        for at in range(position, position + slots * SLOT_BYTES, SLOT_BYTES):
            self._live[at // SECTOR_BYTES] += 1
            if is_stray:
                self._stray[at // SECTOR_BYTES] += 1

    def _set_at(self, position: int, is_past_end: bool) -> _Set | None:
        """The set that begins here, if a stream entry and enough slots of the same state follow."""
        data = self._directory.data
        slots = data[position + 1] + 1
        raw = bytearray(data[position : position + slots * SLOT_BYTES])
        if slots not in SET_SLOTS or len(raw) < 2 * SLOT_BYTES or raw[SLOT_BYTES] & ~IN_USE != STREAM:
            return None
        is_in_use = bool(raw[0] & IN_USE)
        if is_in_use and not raw[SLOT_BYTES] & IN_USE:
            return None
        kinds = raw[::SLOT_BYTES]
        if is_in_use:  # of a set that was cut, what belongs to it
            strays = (number for number, kind in enumerate(kinds) if number and kind not in SECONDARY_TYPES)
            kinds = kinds[: next(strays, slots)]
            del raw[len(kinds) * SLOT_BYTES :]
        for at in range(0, len(raw), SLOT_BYTES):
            raw[at] |= IN_USE
        (checksum,) = struct.unpack_from("<H", raw, 2)
        is_whole = len(kinds) == slots and all(bool(kind & IN_USE) == is_in_use for kind in kinds)
        return _Set(
            position, bytes(raw), is_in_use, is_past_end, is_whole and rotating_sum(raw[:2] + raw[4:], 16) == checksum
        )

    def _is_plausible(self, found: _Set) -> bool:
        """Whether a deleted set that was partly overwritten still says something."""
        _, _, size, start = _stream(found.raw)
        name, is_complete = _name(found.raw)
        is_possible = size <= self._clusters.geometry.heap_bytes and (not start or self._clusters.is_cluster(start))
        return bool(name) and is_complete and is_possible and _stamp(found.raw, 12, 21, 23).local is not None

    def _entry(self, found: _Set) -> Entry:
        raw = found.raw
        flags, valid_bytes, size_bytes, start = _stream(raw)
        name, is_complete = _name(raw)
        (attributes,) = struct.unpack_from("<H", raw, 4)
        is_deleted = not found.is_in_use or self._directory.is_deleted or found.is_past_end
        noted = [] if found.is_proven else ["checksum-bad"]
        noted += ["after-end-mark"] if found.is_past_end else []
        noted += [] if is_complete or found.is_proven else ["name-incomplete"]
        is_contiguous = bool(flags & NO_CHAIN)
        if is_deleted and not is_contiguous and size_bytes > self._clusters.geometry.cluster_bytes:
            noted.append("was-fragmented")
        if valid_bytes > size_bytes:
            noted.append("valid-longer")
        return Entry(
            name=safe_name(decode_long_name(name)),
            raw_name=name,
            size_bytes=size_bytes,
            valid_bytes=valid_bytes,
            start=start,
            entry_offset=self._directory.offset(found.position),
            is_dir=bool(attributes & DIRECTORY),
            is_deleted=is_deleted,
            is_contiguous=is_contiguous,
            created=_stamp(raw, 8, 20, 22),
            modified=_stamp(raw, 12, 21, 23),
            quality=NameQuality.EXACT if found.is_proven else NameQuality.PARTIAL,
            flags=tuple(noted),
        )


def _stream(raw: bytes) -> tuple[int, int, int, int]:
    """(flags, valid length, size, first cluster) of the stream entry."""
    (valid_bytes,) = struct.unpack_from("<Q", raw, 40)
    start, size_bytes = struct.unpack_from("<IQ", raw, 52)
    return raw[33], valid_bytes, size_bytes, start


def _name(raw: bytes) -> tuple[bytes, bool]:
    """UTF-16LE name, and whether it is as long as the stream entry says."""
    length = 2 * raw[35]
    parts = []
    for at in range(2 * SLOT_BYTES, len(raw), SLOT_BYTES):
        if raw[at] & ~IN_USE != NAME:
            break
        parts.append(raw[at + 2 : at + SLOT_BYTES])
    name = b"".join(parts)[:length]
    return name, len(name) == length


def _stamp(raw: bytes, time_at: int, tens_at: int, zone_at: int) -> Stamp:
    """A time with its 10 ms units and, if the zone byte is valid, its offset from UTC in minutes."""
    (value,) = struct.unpack_from("<I", raw, time_at)
    zone = raw[zone_at]
    quarters = (zone & 0x7F) - (0x80 if zone & 0x40 else 0)
    return dos_stamp(value, raw[tens_at], 15 * quarters if zone & 0x80 else None)
