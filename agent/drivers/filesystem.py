"""What the readers of FAT, exFAT and other filesystems share: limits, volumes, directory entries, files found."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from agent.card import NO_STAMP, Extent, Finding, Stamp, Volume
from agent.drivers.clusters import ChainFlag, Clusters, Geometry
from agent.drivers.source import SECTOR_BYTES, FilesystemError, Source

SIZE_LIMIT_BYTES: Final = (1 << 63) - 1
SLOT_BYTES: Final = 32
ROOT_SCAN_BYTES: Final = 1024 * 1024
DEPTH_LIMIT: Final = 24
ENTRIES_LIMIT: Final = 400_000
DELETED_LIMIT: Final = 100_000
EXTENTS_LIMIT: Final = 3_000_000
DIRECTORIES_LIMIT_BYTES: Final = 512 * 1024 * 1024


class Budget:
    """What one listing of a device, all its volumes together, may still hold; an honest card needs a fraction of it.

    Files may claim twice what the device holds, since damaged cards list clusters under two names.
    """

    def __init__(self, readable_bytes: int) -> None:
        self.readable_bytes = readable_bytes
        self.entries = ENTRIES_LIMIT
        self.deleted = DELETED_LIMIT
        self.extents = EXTENTS_LIMIT
        self.directories_bytes = DIRECTORIES_LIMIT_BYTES

    def take_entry(self) -> None:
        """Count one directory entry; raises FilesystemError when there are too many."""
        self.entries -= 1
        if self.entries < 0:
            raise FilesystemError("limit", "The card has more directory entries than any recorder makes.")

    def take_directory(self, size_bytes: int) -> None:
        """Count the bytes of one directory; raises FilesystemError when there are too many."""
        self.directories_bytes -= size_bytes
        if self.directories_bytes < 0:
            raise FilesystemError("limit", "The card's directories are larger than any recorder makes them.")

    def refusal(self, readable_bytes: int, extents: int) -> str:
        """Take what one file needs, or say why there is no room for it."""
        if readable_bytes > self.readable_bytes:
            return "cross-linked"
        if extents > self.extents:
            return ChainFlag.FRAGMENTED
        self.readable_bytes -= readable_bytes
        self.extents -= extents
        return ""


class NameQuality(StrEnum):
    """How sure the name of a deleted entry is."""

    EXACT = "exact"  # proven by a checksum that covers it
    LONG = "long"  # long-name slots that fit the short entry
    DOUBTFUL = "doubtful"  # long-name slots whose checksum fits, but which don't look like the short name
    PARTIAL = "partial"  # part of it was overwritten
    INFERRED = "inferred"  # the lost first letter is that of its siblings
    LOSSY = "lossy"  # the first letter is lost


class Entry(NamedTuple):
    """One directory entry as it stands on the card, before its clusters are looked at.

    `raw_name` is UTF-16LE for long names and 11 bytes for 8.3 names. `is_contiguous` files have no chain (exFAT).
    """

    name: str
    raw_name: bytes
    size_bytes: int
    valid_bytes: int
    start: int
    entry_offset: int
    is_dir: bool = False
    is_deleted: bool = False
    is_contiguous: bool = False
    created: Stamp = NO_STAMP
    modified: Stamp = NO_STAMP
    quality: NameQuality = NameQuality.EXACT
    flags: tuple[str, ...] = ()
    short_name: bytes = b""


class Directory(NamedTuple):
    """The bytes of a directory and where they lie on the device."""

    path: str
    data: bytes
    extents: tuple[Extent, ...]
    is_deleted: bool = False

    @property
    def used_bytes(self) -> int:
        """Length up to the last byte that isn't zero, in a tenth of the time of stripping zeros off."""
        return (int.from_bytes(self.data, "little").bit_length() + 7) // 8

    def offset(self, position: int) -> int:
        """Absolute offset on the device of a position in `data`."""
        for offset, length in self.extents:
            if position < length:
                return offset + position
            position -= length
        return -1


class File(NamedTuple):
    """A live file and where its bytes are, or the reason why it can't be read at all; it counts as seen either way.

    `extents` cover `readable_bytes`, or what lies before `zero_from` if zeros follow from there.
    """

    path: str
    entry: Entry
    readable_bytes: int = 0
    extents: tuple[Extent, ...] = ()
    flags: tuple[str, ...] = ()
    zero_from: int | None = None
    refusal: str = ""


Found = File | Finding


class Boot(NamedTuple):
    """What a boot sector says; a fixed root directory (FAT12 and FAT16) has no clusters."""

    geometry: Geometry
    volume: Volume
    root_cluster: int = 0
    fixed_root: Extent | None = None
    had_errors: bool = False


class ClusterVolume(ABC):
    """A FAT or exFAT volume that begins at `offset` bytes of the device; its boot sector may be the backup."""

    system_clusters = 0
    """What the format itself needs of its clusters, beside directories and files."""
    directory_limit_bytes: int
    """What a directory of this format can't exceed, or none that a recorder makes."""

    def __init__(self, source: Source, offset: int = 0, boot_offset: int | None = None) -> None:
        boot_offset = offset if boot_offset is None else boot_offset
        boot = self.parse_boot(source.read(boot_offset, SECTOR_BYTES), offset)
        if boot is None:
            raise FilesystemError("no-filesystem", "The boot sector is damaged.")
        self.clusters = Clusters(source, boot.geometry)
        self.root = Entry("", b"", 0, 0, boot.root_cluster, -1, is_dir=True)
        self.fixed_root = boot.fixed_root
        self.volume = boot.volume
        self._had_errors = boot.had_errors
        self._uses_backup = boot_offset != offset
        self._missing_bytes = offset + boot.volume.size_bytes - source.size_bytes

    @staticmethod
    @abstractmethod
    def parse_boot(sector: bytes, offset: int = 0) -> Boot | None:
        """What the boot sector of a volume at that offset says, or None if it isn't one of this format."""

    @abstractmethod
    def entries(self, directory: Directory) -> Iterator[Entry | Finding]:
        """Entries of a directory in order, and what is wrong with it."""

    def root_slots(self) -> Iterator[bytes]:
        """The used slots of the root directory, each of 32 bytes."""
        extents: tuple[Extent, ...] = (self.fixed_root,) if self.fixed_root else ()
        if not extents:
            extents = self.clusters.extents(self.clusters.chain(self.root.start, None).runs, ROOT_SCAN_BYTES)
        data = self.clusters.read(extents)
        for at in range(0, len(data) - SLOT_BYTES + 1, SLOT_BYTES):
            if not data[at]:
                return
            yield data[at : at + SLOT_BYTES]

    def findings(self) -> list[Finding]:
        """What is wrong with the volume as a whole; complete after the walk."""
        name = {"volume": self.volume.filesystem_id}
        found = []
        if self._uses_backup:
            found.append(Finding("boot-sector-damaged", name))
        if self.volume.dirty or self._had_errors:
            found.append(Finding("dirty", {**name, "errors": self._had_errors}))
        if self.clusters.differing_entries:
            detail = {"entries": self.clusters.differing_entries, "first_cluster": self.clusters.first_difference}
            found.append(Finding("fat-copies-differ", detail))
        if self._missing_bytes > 0:
            found.append(Finding("truncated-volume", {"missing_bytes": self._missing_bytes}))
        return found


def rotating_sum(data: Iterable[int], bits: int) -> int:
    """The checksum of FAT's long names (8 bits), exFAT's entry sets (16) and boot regions (32)."""
    total, mask = 0, (1 << bits) - 1
    for byte in data:
        total = ((total & 1) << bits - 1 | total >> 1) + byte & mask
    return total
