"""Reads what a FAT12, FAT16 or FAT32 volume says about itself (Microsoft FAT specification 1.03)."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agent.drivers.clusters import Clusters, Geometry
from agent.drivers.fat_directory import FatDirectory
from agent.drivers.filesystem import Directory, Entry
from agent.drivers.names import safe_name
from agent.drivers.source import FilesystemError, Source
from agent.model import Extent, Finding, Volume

BOOT_BYTES: Final = 512
SECTOR_SIZES: Final = frozenset({512, 1024, 2048, 4096})
FAT12_BELOW: Final = 4085
FAT16_BELOW: Final = 65525
END_MARKS: Final = (0xFF8, 0xFFF8, 0x0FFFFFF8)
MASKS: Final = (0xFFF, 0xFFFF, 0x0FFFFFFF)
CLEAN_BITS: Final = (0, 0x8000, 0x08000000)
NO_ERROR_BITS: Final = (0, 0x4000, 0x04000000)
MIRRORING_OFF: Final = 0x80
LABEL_SCAN_BYTES: Final = 1024 * 1024
DIRECTORY_LIMIT_BYTES: Final = 65536 * 32


@dataclass(frozen=True, slots=True)
class _Boot:
    """The fields of the boot sector that matter, checked against each other; offsets and sizes in bytes."""

    index: int  # 0: FAT12, 1: FAT16, 2: FAT32
    sector_bytes: int
    cluster_bytes: int
    table_offset: int
    table_bytes: int
    copies: int
    active_copy: int | None
    root_offset: int
    root_bytes: int
    heap_offset: int
    cluster_count: int
    total_bytes: int
    root_cluster: int
    serial: int
    label: bytes
    is_dirty: bool


def is_fat(boot: bytes) -> bool:
    """Whether a boot sector describes a FAT volume."""
    try:
        _parse_boot(boot)
    except FilesystemError:
        return False
    return True


def _parse_boot(boot: bytes) -> _Boot:
    """Raises FilesystemError if the sector can't be that of a FAT volume."""
    if len(boot) < BOOT_BYTES or boot[510:512] != b"\x55\xaa":
        raise FilesystemError("no-filesystem", "There is no boot sector.")
    sector, sectors, reserved, copies, root_entries, total16, _, table16 = struct.unpack_from("<HBHBHHBH", boot, 11)
    total32, table32 = struct.unpack_from("<II", boot, 32)
    table_sectors, total = table16 or table32, total16 or total32
    is_sane = sector in SECTOR_SIZES and sectors and not sectors & (sectors - 1) and reserved and copies in (1, 2)
    if not is_sane or not table_sectors or not total:
        raise FilesystemError("no-filesystem", "The boot sector is not that of a FAT volume.")
    root_sectors = -(-root_entries * 32 // sector)
    first_data = reserved + copies * table_sectors + root_sectors
    count = (total - first_data) // sectors if total > first_data else 0
    index = 2 if not table16 and not root_entries else 0 if count < FAT12_BELOW else 1 if count < FAT16_BELOW else 2
    bits = (12, 16, 32)[index]
    count = min(count, table_sectors * sector * 8 // bits - 2)
    if count <= 0:
        raise FilesystemError("no-filesystem", "The boot sector leaves no room for files.")
    extended = struct.unpack_from("<H", boot, 40)[0] if index == 2 else 0
    active = extended & 0x0F if extended & MIRRORING_OFF and extended & 0x0F < copies else None
    tail = 64 if index == 2 else 36
    return _Boot(
        index=index,
        sector_bytes=sector,
        cluster_bytes=sector * sectors,
        table_offset=reserved * sector,
        table_bytes=table_sectors * sector,
        copies=copies,
        active_copy=active,
        root_offset=(reserved + copies * table_sectors) * sector,
        root_bytes=root_entries * 32,
        heap_offset=first_data * sector,
        cluster_count=count,
        total_bytes=total * sector,
        root_cluster=struct.unpack_from("<I", boot, 44)[0] if index == 2 else 0,
        serial=struct.unpack_from("<I", boot, tail + 3)[0],
        label=boot[tail + 7 : tail + 18],
        is_dirty=bool(boot[tail + 1] & 1),
    )


class FatVolume:
    """A FAT12, FAT16 or FAT32 volume that begins at `offset` bytes of the device; its boot sector may be the backup."""

    def __init__(self, source: Source, offset: int = 0, boot_offset: int | None = None) -> None:
        boot_offset = offset if boot_offset is None else boot_offset
        boot = self._boot = _parse_boot(source.read(boot_offset, BOOT_BYTES))
        table = offset + boot.table_offset
        mirror = table + boot.table_bytes if boot.copies == 2 and boot.active_copy is None and boot.index else None
        self._source = source
        self._uses_backup = boot_offset != offset
        self._offset = offset
        self.clusters = Clusters(
            source,
            Geometry(
                entry_bits=(12, 16, 32)[boot.index],
                table_offset=table + (boot.active_copy or 0) * boot.table_bytes,
                table_bytes=boot.table_bytes,
                mirror_offset=mirror,
                heap_offset=offset + boot.heap_offset,
                cluster_bytes=boot.cluster_bytes,
                cluster_count=boot.cluster_count,
                value_mask=MASKS[boot.index],
                end_mark=END_MARKS[boot.index],
            ),
        )
        self.root = Entry("", b"", 0, 0, boot.root_cluster, -1, is_dir=True)
        self.directory_limit_bytes = DIRECTORY_LIMIT_BYTES
        self.fixed_root: Extent | None = None if boot.index == 2 else (offset + boot.root_offset, boot.root_bytes)
        state = self.clusters.entry(1)
        self._is_dirty = boot.is_dirty or (boot.index > 0 and not state & CLEAN_BITS[boot.index])
        self._had_errors = boot.index > 0 and not state & NO_ERROR_BITS[boot.index]
        self.volume = Volume(
            kind=("fat12", "fat16", "fat32")[boot.index],
            filesystem_id=f"{boot.serial >> 16:04X}-{boot.serial & 0xFFFF:04X}",
            label=self._label(),
            cluster_bytes=boot.cluster_bytes,
            size_bytes=boot.total_bytes,
            dirty=self._is_dirty,
        )

    def _label(self) -> str:
        """The label entry of the root directory, else that of the boot sector."""
        extents: tuple[Extent, ...] = (self.fixed_root,) if self.fixed_root else ()
        if not extents:
            extents = self.clusters.extents(self.clusters.chain(self._boot.root_cluster, None).runs, LABEL_SCAN_BYTES)
        raw = self._boot.label
        data = self.clusters.read(extents[:1])
        for at in range(0, len(data) - 31, 32):
            if not data[at]:
                break
            if data[at] != 0xE5 and data[at + 11] & 0x3F in (0x08, 0x28):
                raw = data[at : at + 11]
                break
        text = raw.decode("gbk", "replace").rstrip(" \0")
        return "" if text in ("", "NO NAME") else safe_name(text)

    def entries(self, directory: Directory) -> Iterator[Entry | Finding]:
        """Entries of one directory."""
        is_wide = self._boot.index == 2
        return iter(FatDirectory(directory, self.clusters, is_wide=is_wide))

    def findings(self) -> Sequence[Finding]:
        """Dirty flag, differing table copies, truncation."""
        found = []
        if self._uses_backup:
            found.append(Finding("boot-sector-damaged", {"volume": self.volume.filesystem_id}))
        if self._is_dirty:
            found.append(Finding("dirty", {"volume": self.volume.filesystem_id, "errors": self._had_errors}))
        if self.clusters.differing_entries:
            found.append(
                Finding(
                    "fat-copies-differ",
                    {"entries": self.clusters.differing_entries, "first_cluster": self.clusters.first_difference},
                )
            )
        missing = self._offset + self._boot.total_bytes - self._source.size_bytes
        if missing > 0:
            found.append(Finding("truncated-volume", {"missing_bytes": missing}))
        return found
