"""Writes exFAT structures (Microsoft exFAT specification 1.00) into an image that mkfs.exfat has made."""

from __future__ import annotations

import struct
import subprocess
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulator.layout import FIRST_CLUSTER, SLOT_BYTES, ChainEnd, Image, Node, Run, dos_stamp

END_MARK: Final = 0xFFFFFFFF
NAME_PART_BYTES: Final = 30
IN_USE_BIT: Final = 0x80
VOLUME_DIRTY: Final = 0x0002


def make_empty(path: Path, label: str, cluster_bytes: int) -> None:
    """Make an empty exFAT in a file that has its final size already."""
    command = ["mkfs.exfat", "-c", str(cluster_bytes), "-L", label, str(path)]
    subprocess.run(command, check=True, capture_output=True)


class ExFat:
    """An exFAT volume being written; contiguous files are stored without a chain, as recorders do."""

    kind = "exfat"

    def __init__(self, image: Image) -> None:
        self._image = image
        boot = image.read(0, 512)
        fat_sector, _, heap_sector, self.cluster_count, root = struct.unpack_from("<IIIII", boot, 80)
        sector_shift, cluster_shift = boot[108], boot[109]
        self.cluster_bytes = 1 << sector_shift + cluster_shift
        self._fat_offset = fat_sector << sector_shift
        self.data_offset = heap_sector << sector_shift
        directory = image.read(self._offset(root), self.cluster_bytes)
        slots = [directory[at : at + SLOT_BYTES] for at in range(0, len(directory), SLOT_BYTES)]
        self.root_prefix = b"".join(slots[: next(i for i, slot in enumerate(slots) if not slot[0])])
        bitmap = next(slot for slot in slots if slot[0] == 0x81)
        self._bitmap_start, bitmap_bytes = struct.unpack_from("<IQ", bitmap, 20)
        self._bitmap = bytearray(image.read(self._offset(self._bitmap_start), bitmap_bytes))
        self.root = Node("", is_dir=True, runs=[(root, 1)])
        used = int.from_bytes(self._bitmap, "little").bit_length()
        self.first_free = FIRST_CLUSTER + used

    def _offset(self, cluster: int) -> int:
        offset: int = self.data_offset + (cluster - FIRST_CLUSTER) * self.cluster_bytes
        return offset

    def _mark(self, run: Run, used: bool) -> None:
        first, count = run[0] - FIRST_CLUSTER, run[1]
        low, high = first >> 3, (first + count + 7) >> 3
        mask = ((1 << count) - 1) << (first & 7)
        bits = int.from_bytes(self._bitmap[low:high], "little")
        bits = bits | mask if used else bits & ~mask
        self._bitmap[low:high] = bits.to_bytes(high - low, "little")

    def _write_fat(self, cluster: int, values: array[int]) -> None:
        self._image.write(self._fat_offset + 4 * cluster, values.tobytes())

    def link(self, node: Node) -> None:
        """Mark the runs as used; chain them only if they are not contiguous (the root always has a chain)."""
        for run in node.runs:
            self._mark(run, used=True)
        if node is not self.root and node.is_contiguous:
            return
        following = [first for first, _ in node.runs[1:]] + [END_MARK]
        for (first, count), after in zip(node.runs, following, strict=True):
            self._write_fat(first, array("I", [*range(first + 1, first + count), after]))

    def release(self, runs: Sequence[Run]) -> None:
        """Free clusters; the old links stay in the table, as exFAT drivers leave them."""
        for run in runs:
            self._mark(run, used=False)

    def set_next(self, cluster: int, following: int | ChainEnd) -> None:
        """Overwrite one link; LOOP is resolved by the card."""
        values = {ChainEnd.EARLY: END_MARK, ChainEnd.FREE: 0}
        value = values[following] if isinstance(following, ChainEnd) else following
        self._write_fat(cluster, array("I", [value]))

    def set_dirty(self) -> None:
        """Set VolumeDirty, which the boot checksum leaves out."""
        (flags,) = struct.unpack("<H", self._image.read(106, 2))
        self._image.write(106, struct.pack("<H", flags | VOLUME_DIRTY))

    def flush(self) -> None:
        """Write the allocation bitmap."""
        self._image.write(self._offset(self._bitmap_start), bytes(self._bitmap))

    def assign_name(self, node: Node, siblings: Node) -> None:
        """Nothing: there are no short names."""

    def slots(self, node: Node) -> int:
        """File, stream and name entries."""
        return 2 + -(-len(node.name.encode("utf-16-le", "surrogatepass")) // NAME_PART_BYTES)

    def entries(self, node: Node) -> bytes:
        """Directory entry set of a node, with its checksum."""
        raw = bytearray(_file_entry(node, self.slots(node) - 1) + self._stream_entry(node) + _name_entries(node.name))
        struct.pack_into("<H", raw, 2, set_checksum(raw))
        if node.deleted:
            for at in range(0, len(raw), SLOT_BYTES):
                raw[at] &= ~IN_USE_BIT
        return bytes(raw)

    def head(self, directory: Node, parent: Node | None) -> bytes:
        """The label, bitmap and up-case entries in the root; nothing elsewhere."""
        return self.root_prefix if parent is None else b""

    def _stream_entry(self, node: Node) -> bytes:
        name = node.name.encode("utf-16-le", "surrogatepass")
        size = node.said_bytes
        if node.is_dir:
            size = sum(count for _, count in node.runs) * self.cluster_bytes
        valid = size if node.valid_bytes is None else node.valid_bytes
        flags = 1 | (2 if node.is_contiguous and node.start else 0)
        return struct.pack(
            "<BBBBHHQIIQ", 0xC0, flags, 0, len(name) // 2, _name_hash(node.name), 0, valid, 0, node.start, size
        )


def _file_entry(node: Node, secondaries: int) -> bytes:
    created_date, created_time, created_tens = dos_stamp(node.created)
    date, time, tens = dos_stamp(node.modified)
    created, modified = created_date << 16 | created_time, date << 16 | time
    zone = 0 if node.utc_offset_min is None else 0x80 | node.utc_offset_min // 15 & 0x7F
    attributes = 0x10 if node.is_dir else 0x20
    return struct.pack(
        "<BBHHHIIIBBBBB7x", 0x85, secondaries, 0, attributes, 0, created, modified, modified, created_tens, tens,
        zone, zone, zone,
    )  # fmt: skip


def _name_entries(name: str) -> bytes:
    raw = name.encode("utf-16-le", "surrogatepass")
    parts = (raw[at : at + NAME_PART_BYTES] for at in range(0, len(raw), NAME_PART_BYTES))
    return b"".join(b"\xc1\0" + part.ljust(NAME_PART_BYTES, b"\0") for part in parts)


def _rotate_sum(data: bytes | bytearray) -> int:
    total = 0
    for byte in data:
        total = ((total & 1) << 15 | total >> 1) + byte & 0xFFFF
    return total


def _name_hash(name: str) -> int:
    return _rotate_sum(name.upper().encode("utf-16-le", "surrogatepass"))


def set_checksum(raw: bytes | bytearray) -> int:
    """Checksum of an entry set, without the two bytes that hold it."""
    return _rotate_sum(raw[:2] + raw[4:])
