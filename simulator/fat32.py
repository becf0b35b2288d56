"""Writes FAT32 structures (Microsoft FAT specification 1.03) into an image that mkfs.vfat has made."""

from __future__ import annotations

import re
import struct
import subprocess
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from simulator.layout import SLOT_BYTES, ChainEnd, Image, Node, Run, dos_stamp

END_MARK: Final = 0x0FFFFFFF
PLAIN_SHORT_NAME: Final = re.compile(r"[A-Z0-9_$%'@~`!(){}^#&-]{1,8}(\.[A-Z0-9_$%'@~`!(){}^#&-]{1,3})?")
LONG_PART_BYTES: Final = 26
FSINFO_UNKNOWN: Final = b"\xff" * 8


def make_empty(path: Path, label: str, cluster_bytes: int) -> None:
    """Make an empty FAT32 in a file that has its final size already."""
    command = ["mkfs.vfat", "-F", "32", "-S", "512", "-s", str(cluster_bytes // 512), "-n", label, str(path)]
    subprocess.run(command, check=True, capture_output=True)


class Fat32:
    """A FAT32 volume being written; `slots`, `entries` and `head` give directory bytes, the rest allocates."""

    kind = "fat32"

    def __init__(self, image: Image) -> None:
        self._image = image
        boot = image.read(0, 512)
        sector_bytes, sectors, reserved, self._copies = struct.unpack_from("<HBHB", boot, 11)
        total, fat_sectors = struct.unpack_from("<II", boot, 32)
        total = total or struct.unpack_from("<H", boot, 19)[0]  # below 32 MiB
        root, fsinfo_sector = struct.unpack_from("<IH", boot, 44)
        self.cluster_bytes = sector_bytes * sectors
        self._fat_offset = reserved * sector_bytes
        self._fat_bytes = fat_sectors * sector_bytes
        self.data_offset = self._fat_offset + self._copies * self._fat_bytes
        self.cluster_count = (total * sector_bytes - self.data_offset) // self.cluster_bytes
        self.first_free = root + 1
        self.root = Node("", is_dir=True, runs=[(root, 1)])
        self.root_prefix = image.read(self.data_offset + (root - 2) * self.cluster_bytes, SLOT_BYTES)
        image.write(fsinfo_sector * sector_bytes + 488, FSINFO_UNKNOWN)

    def _write_fat(self, cluster: int, values: array[int]) -> None:
        for copy in range(self._copies):
            self._image.write(self._fat_offset + copy * self._fat_bytes + 4 * cluster, values.tobytes())

    def link(self, node: Node) -> None:
        """Chain the runs of a node, in both copies of the table."""
        following = [first for first, _ in node.runs[1:]] + [END_MARK]
        for (first, count), after in zip(node.runs, following, strict=False):
            self._write_fat(first, array("I", [*range(first + 1, first + count), after]))

    def release(self, runs: Sequence[Run]) -> None:
        """Free clusters."""
        for first, count in runs:
            self._write_fat(first, array("I", bytes(4 * count)))

    def set_next(self, cluster: int, following: int | ChainEnd) -> None:
        """Overwrite one link; LOOP is resolved by the card."""
        values = {ChainEnd.EARLY: END_MARK, ChainEnd.FREE: 0}
        value = values[following] if isinstance(following, ChainEnd) else following
        self._write_fat(cluster, array("I", [value]))

    def set_dirty(self) -> None:
        """Clear the clean-shutdown bit of FAT[1]."""
        self._write_fat(1, array("I", [END_MARK & ~0x08000000]))

    def flush(self) -> None:
        """Nothing is kept in memory."""

    def assign_name(self, node: Node, siblings: Node) -> None:
        """Use the name itself if it is plain 8.3, else a numbered alias and long-name slots."""
        if node.short_name:
            node.has_long_name = False
        elif PLAIN_SHORT_NAME.fullmatch(node.name):
            stem, _, extension = node.name.partition(".")
            node.short_name = stem.encode().ljust(8) + extension.encode().ljust(3)
            node.has_long_name = False
        else:
            node.short_name = _alias(node.name, len(siblings.children) + 1)

    def slots(self, node: Node) -> int:
        """Long-name slots and the short entry."""
        return 1 + (len(_long_name_parts(node.name)) if node.has_long_name else 0)

    def entries(self, node: Node) -> bytes:
        """Directory entries of a node: long-name slots (unless the name is plain 8.3), then the short entry."""
        raw = bytearray(_long_slots(node) + _short_entry(node))
        if node.deleted:
            raw[::SLOT_BYTES] = b"\xe5" * (len(raw) // SLOT_BYTES)
        return bytes(raw)

    def head(self, directory: Node, parent: Node | None) -> bytes:
        """`.` and `..`, or the volume label in the root."""
        if parent is None:
            return self.root_prefix
        above = 0 if parent is self.root else parent.start
        here = Node("", is_dir=True, claimed_start=directory.start, short_name=b".".ljust(11))
        up = Node("", is_dir=True, claimed_start=above, short_name=b"..".ljust(11))
        return _short_entry(here) + _short_entry(up)


def _alias(name: str, number: int) -> bytes:
    """An 8.3 name for a long one, as a recorder would make it: `ZHIFA~12MP4`."""
    stem, dot, extension = name.rpartition(".")
    stem, extension = (stem, extension) if dot else (name, "")
    tail = b"~%d" % number
    return (_eight_bit(stem)[: 8 - len(tail)] + tail).ljust(8) + _eight_bit(extension)[:3].ljust(3)


def _eight_bit(text: str) -> bytes:
    return re.sub(r"[^A-Z0-9]", "_", text.upper()).encode("ascii", "replace")


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-le", "surrogatepass")


def _long_name_parts(name: str) -> list[bytes]:
    """The name in pieces of 13 characters, terminated and padded as the specification asks."""
    raw = _utf16(name)
    if len(raw) % LONG_PART_BYTES:
        raw += b"\0\0"
    return [
        raw[at : at + LONG_PART_BYTES].ljust(LONG_PART_BYTES, b"\xff") for at in range(0, len(raw), LONG_PART_BYTES)
    ]


def short_name_checksum(short_name: bytes) -> int:
    """Checksum that ties long-name slots to their short entry."""
    total = 0
    for byte in short_name:
        total = ((total & 1) << 7 | total >> 1) + byte & 0xFF
    return total


def _long_slots(node: Node) -> bytes:
    if not node.has_long_name:
        return b""
    parts = _long_name_parts(node.name)
    checksum = short_name_checksum(node.short_name)
    slots = []
    for number in range(len(parts), 0, -1):
        part = parts[number - 1]
        order = number | (0x40 if number == len(parts) else 0)
        slots.append(bytes((order,)) + part[:10] + bytes((0x0F, 0, checksum)) + part[10:22] + b"\0\0" + part[22:])
    return b"".join(slots)


def _short_entry(node: Node) -> bytes:
    created_date, created_time, created_tens = dos_stamp(node.created)
    date, time, _ = dos_stamp(node.modified)
    start = node.start
    return struct.pack(
        "<11sBBBHHHHHHHI",
        node.short_name,
        0x10 if node.is_dir else 0x20,
        0,
        created_tens,
        created_time,
        created_date,
        date,
        start >> 16,
        time,
        date,
        start & 0xFFFF,
        0 if node.is_dir else node.said_bytes,
    )
