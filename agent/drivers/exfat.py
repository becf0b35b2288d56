"""Reads exFAT (Microsoft exFAT specification 1.00): boot sector, allocation bitmap and directory entry sets."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent.drivers.clusters import Clusters, ClusterSet, Geometry
from agent.drivers.filesystem import SIZE_LIMIT_BYTES, Directory, Entry, NameQuality
from agent.drivers.names import decode_long_name, dos_time, safe_name, stamp
from agent.drivers.source import SECTOR_BYTES, FilesystemError, Source
from agent.model import Extent, Finding, Stamp, Volume

BOOT_BYTES: Final = 512
SIGNATURE: Final = b"EXFAT   "
SLOT_BYTES: Final = 32
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
UNCHECKED_BOOT_BYTES: Final = frozenset({106, 107, 112})
ROOT_SCAN_BYTES: Final = 1024 * 1024
DIRECTORY_LIMIT_BYTES: Final = 64 * 1024 * 1024
BITMAP_LIMIT_BYTES: Final = 512 * 1024 * 1024 // 8


@dataclass(frozen=True, slots=True)
class _Boot:
    """The fields of the boot sector that matter; offsets and sizes in bytes from the start of the volume."""

    sector_bytes: int
    cluster_bytes: int
    total_bytes: int
    table_offset: int
    table_bytes: int
    heap_offset: int
    cluster_count: int
    root_cluster: int
    serial: int
    flags: int


def _parse_boot(boot: bytes) -> _Boot | None:
    """None if the sector can't be that of an exFAT volume."""
    if len(boot) < BOOT_BYTES or boot[3:11] != SIGNATURE or boot[510:512] != b"\x55\xaa":
        return None
    sectors, table, table_sectors, heap, count, root, serial, _, flags, sector_shift, shift, copies = (
        struct.unpack_from("<QIIIIIIHHBBB", boot, 72)
    )
    count = min(count, (table_sectors << sector_shift) // 4 - 2) if sector_shift <= 12 else 0
    if not 9 <= sector_shift <= 12 or shift > 25 - sector_shift or copies not in (1, 2) or count <= 0:
        return None
    table_bytes = table_sectors << sector_shift
    return _Boot(
        sector_bytes=1 << sector_shift,
        cluster_bytes=1 << sector_shift + shift,
        total_bytes=sectors << sector_shift,
        table_offset=(table << sector_shift) + (table_bytes if copies == 2 and flags & SECOND_ACTIVE else 0),
        table_bytes=table_bytes,
        heap_offset=heap << sector_shift,
        cluster_count=count,
        root_cluster=root,
        serial=serial,
        flags=flags,
    )


def is_exfat(boot: bytes) -> bool:
    """Whether a boot sector describes an exFAT volume."""
    return _parse_boot(boot) is not None


def is_whole_boot_region(source: Source, offset: int) -> bool:
    """Whether a boot region (main or backup) is exFAT and its checksum fits: eleven sectors, summed in the twelfth."""
    boot = _parse_boot(source.read(offset, BOOT_BYTES))
    if boot is None:
        return False
    region = source.read(offset, CHECKED_BOOT_SECTORS * boot.sector_bytes)
    total = 0
    for index, byte in enumerate(region):
        if index not in UNCHECKED_BOOT_BYTES:
            total = ((total & 1) << 31 | total >> 1) + byte & 0xFFFFFFFF
    return source.read(offset + len(region), 4) == total.to_bytes(4, "little")


class ExFatVolume:
    """An exFAT volume that begins at `offset` bytes of the device; its boot sector may be the backup."""

    def __init__(self, source: Source, offset: int = 0, boot_offset: int | None = None) -> None:
        boot_offset = offset if boot_offset is None else boot_offset
        boot = _parse_boot(source.read(boot_offset, BOOT_BYTES))
        if boot is None:
            raise FilesystemError("no-filesystem", "The boot sector is not that of an exFAT volume.")
        self._source = source
        self._uses_backup = boot_offset != offset
        self._flags = boot.flags
        self._end = offset + boot.total_bytes
        self.clusters = Clusters(
            source,
            Geometry(
                entry_bits=32,
                table_offset=offset + boot.table_offset,
                table_bytes=boot.table_bytes,
                mirror_offset=None,
                heap_offset=offset + boot.heap_offset,
                cluster_bytes=boot.cluster_bytes,
                cluster_count=boot.cluster_count,
                value_mask=0xFFFFFFFF,
                end_mark=0xFFFFFFF8,
            ),
        )
        self.root = Entry("", b"", 0, 0, boot.root_cluster, -1, is_dir=True)
        self.directory_limit_bytes = DIRECTORY_LIMIT_BYTES
        self.fixed_root: Extent | None = None
        self.volume = Volume(
            kind="exfat",
            filesystem_id=f"{boot.serial >> 16:04X}-{boot.serial & 0xFFFF:04X}",
            label=self._load_root_entries(),
            cluster_bytes=boot.cluster_bytes,
            size_bytes=min(boot.total_bytes, SIZE_LIMIT_BYTES),
            dirty=bool(boot.flags & VOLUME_DIRTY),
        )

    def _load_root_entries(self) -> str:
        """Load the allocation bitmap; return the label."""
        chain = self.clusters.chain(self.root.start, None)
        data = self.clusters.read(self.clusters.extents(chain.runs, ROOT_SCAN_BYTES))
        label = ""
        for at in range(0, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
            slot = data[at : at + SLOT_BYTES]
            if not slot[0]:
                break
            if slot[0] == BITMAP and self.clusters.bitmap is None and not slot[1] & 1:
                self.clusters.bitmap = self._bitmap(*struct.unpack_from("<IQ", slot, 20))
            elif slot[0] == LABEL:
                label = safe_name(decode_long_name(slot[2 : 2 + 2 * min(slot[1], 11)])) if slot[1] else ""
        return label

    def _bitmap(self, start: int, size_bytes: int) -> ClusterSet | None:
        needed = -(-self.clusters.geometry.cluster_count // 8)
        if size_bytes < needed or needed > BITMAP_LIMIT_BYTES:
            return None
        data = self.clusters.read(self.clusters.extents(self.clusters.chain(start, needed).runs, needed))
        return ClusterSet(data.ljust(needed, b"\0"))

    def entries(self, directory: Directory) -> Iterator[Entry | Finding]:
        """Entries of one directory."""
        return iter(ExFatDirectory(directory, self.clusters))

    def findings(self) -> Sequence[Finding]:
        """Dirty and failure flags, missing bitmap, truncation."""
        found = []
        if self._uses_backup:
            found.append(Finding("boot-sector-damaged", {"volume": self.volume.filesystem_id}))
        if self._flags & (VOLUME_DIRTY | MEDIA_FAILURE):
            errors = bool(self._flags & MEDIA_FAILURE)
            found.append(Finding("dirty", {"volume": self.volume.filesystem_id, "errors": errors}))
        if self.clusters.bitmap is None:
            found.append(Finding("bitmap-missing", {"volume": self.volume.filesystem_id}))
        if self._end > self._source.size_bytes:
            found.append(Finding("truncated-volume", {"missing_bytes": self._end - self._source.size_bytes}))
        return found


@dataclass(frozen=True, slots=True)
class _Set:
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
        self._slots: dict[int, int] = {}
        self._stray: dict[int, int] = {}

    def __iter__(self) -> Iterator[Entry | Finding]:
        unproven: list[_Set] = []
        for found in self._sets():
            if found.is_proven:
                yield self._entry(found)
            elif found.is_in_use or self._is_plausible(found):
                unproven.append(found)
        damaged = {sector for sector, stray in self._stray.items() if 2 * stray > self._slots[sector]}
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
                    "stray_slots": sum(self._stray.values()),
                    "entries_not_believed": left_out,
                },
            )

    def _sets(self) -> Iterator[_Set]:
        data = self._directory.data
        position, is_past_end = 0, False
        length = len(data.rstrip(b"\0"))
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
            sector = at // SECTOR_BYTES
            self._slots[sector] = self._slots.get(sector, 0) + 1
            if is_stray:
                self._stray[sector] = self._stray.get(sector, 0) + 1

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
        return _Set(position, bytes(raw), is_in_use, is_past_end, is_whole and _set_checksum(raw) == checksum)

    def _is_plausible(self, found: _Set) -> bool:
        """Whether a deleted set that was partly overwritten still says something."""
        _, _, size, start = _stream(found.raw)
        name, is_complete = _name(found.raw)
        (modified,) = struct.unpack_from("<I", found.raw, 12)
        geometry = self._clusters.geometry
        is_possible = size <= geometry.cluster_count * geometry.cluster_bytes and (
            not start or self._clusters.is_cluster(start)
        )
        return bool(name) and is_complete and is_possible and dos_time(modified >> 16, modified & 0xFFFF) is not None

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
    return stamp(dos_time(value >> 16, value & 0xFFFF, raw[tens_at]), 15 * quarters if zone & 0x80 else None)


def _set_checksum(raw: bytes | bytearray) -> int:
    total = 0
    for byte in raw[:2] + raw[4:]:
        total = ((total & 1) << 15 | total >> 1) + byte & 0xFFFF
    return total
