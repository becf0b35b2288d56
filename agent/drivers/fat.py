"""Reads what a FAT12, FAT16 or FAT32 volume says about itself (Microsoft FAT specification 1.03)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from agent.card import Finding, Volume
from agent.drivers.clusters import Geometry
from agent.drivers.fat_directory import FatDirectory
from agent.drivers.filesystem import SLOT_BYTES, Boot, ClusterVolume, Directory, Entry
from agent.drivers.names import safe_name
from agent.drivers.source import SECTOR_BYTES, Source

SECTOR_SIZES: Final = frozenset({512, 1024, 2048, 4096})
FAT12_BELOW: Final = 4085
FAT16_BELOW: Final = 65525
MIRRORING_OFF: Final = 0x80


class FatVolume(ClusterVolume):
    """A FAT12, FAT16 or FAT32 volume."""

    directory_limit_bytes = 65536 * SLOT_BYTES

    def __init__(self, source: Source, offset: int = 0, boot_offset: int | None = None) -> None:
        super().__init__(source, offset, boot_offset)
        bits = self.clusters.geometry.value_bits
        state = self.clusters.entry(1) if bits > 12 else -1
        is_dirty = self.volume.dirty or not state >> bits - 1 & 1
        self._had_errors = is_dirty and not state >> bits - 2 & 1
        self.volume = self.volume._replace(label=self._label(), dirty=is_dirty)

    @staticmethod
    def parse_boot(sector: bytes, offset: int = 0) -> Boot | None:
        """The fields that matter, checked against each other."""
        if len(sector) < SECTOR_BYTES or sector[510:] != b"\x55\xaa":
            return None
        unit, sectors, reserved, copies, root_entries, total16, _, table16 = struct.unpack_from("<HBHBHHBH", sector, 11)
        total32, table32, flags, _, root_cluster = struct.unpack_from("<IIHHI", sector, 32)
        table_sectors, total = table16 or table32, total16 or total32
        is_sane = unit in SECTOR_SIZES and sectors and not sectors & (sectors - 1) and reserved and copies in (1, 2)
        if not is_sane or not table_sectors:
            return None
        root_sector = reserved + copies * table_sectors
        first_data = root_sector + -(-root_entries * SLOT_BYTES // unit)
        count = (total - first_data) // sectors
        is_wide = not (table16 or root_entries) or count >= FAT16_BELOW
        bits = 28 if is_wide else 12 if count < FAT12_BELOW else 16
        count = min(count, table_sectors * unit * 8 // (32 if is_wide else bits) - 2)
        if count <= 0:
            return None
        active = flags & 0x0F if is_wide and flags & MIRRORING_OFF and flags & 0x0F < copies else None
        table_offset, table_bytes = offset + reserved * unit, table_sectors * unit
        tail = sector[64 if is_wide else 36 :]
        serial = int.from_bytes(tail[3:7], "little")
        geometry = Geometry(
            value_bits=bits,
            table_offset=table_offset + (active or 0) * table_bytes,
            table_bytes=table_bytes,
            mirror_offset=table_offset + table_bytes if copies == 2 and active is None and bits > 12 else None,
            heap_offset=offset + first_data * unit,
            cluster_bytes=unit * sectors,
            cluster_count=count,
        )
        volume = Volume(
            kind=f"fat{32 if is_wide else bits}",
            filesystem_id=f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
            label=tail[7:18].decode("gbk", "replace"),
            cluster_bytes=geometry.cluster_bytes,
            size_bytes=total * unit,
            dirty=bool(tail[1] & 1),
        )
        if is_wide:
            return Boot(geometry, volume, root_cluster)
        return Boot(geometry, volume, fixed_root=(offset + root_sector * unit, root_entries * SLOT_BYTES))

    def _label(self) -> str:
        """The label entry of the root directory, else that of the boot sector."""
        labels = (slot[:11] for slot in self.root_slots() if slot[0] != 0xE5 and slot[11] & 0x3F in (0x08, 0x28))
        raw = next(labels, None)
        text = (self.volume.label if raw is None else raw.decode("gbk", "replace")).rstrip(" \0")
        return "" if text in ("", "NO NAME") else safe_name(text)

    def entries(self, directory: Directory) -> Iterator[Entry | Finding]:
        """Entries of one directory."""
        return iter(FatDirectory(directory, self.clusters))
