"""What the readers of a card's filesystem share: limits, the form of an entry and of a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from agent.drivers.clusters import ChainFlag, Clusters
from agent.drivers.source import FilesystemError
from agent.model import Extent, Finding, Stamp, Volume

SIZE_LIMIT_BYTES: Final = (1 << 63) - 1
NO_STAMP: Final = Stamp()


DEPTH_LIMIT: Final = 24
ENTRIES_LIMIT: Final = 400_000
DELETED_LIMIT: Final = 100_000
EXTENTS_LIMIT: Final = 3_000_000
DIRECTORIES_LIMIT_BYTES: Final = 512 * 1024 * 1024


@dataclass(slots=True)
class Budget:
    """What one listing of a device, all its volumes together, may still hold; an honest card needs a fraction of it.

    Files may claim twice what the device holds, since damaged cards list clusters under two names.
    """

    readable_bytes: int
    entries: int = ENTRIES_LIMIT
    deleted: int = DELETED_LIMIT
    extents: int = EXTENTS_LIMIT
    directories_bytes: int = DIRECTORIES_LIMIT_BYTES

    @classmethod
    def of(cls, device_bytes: int) -> Budget:
        """The budget for a device of that size."""
        return cls(2 * device_bytes)

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
            return ChainFlag.FRAGMENTED.value
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


@dataclass(frozen=True, slots=True)
class Entry:
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


@dataclass(frozen=True, slots=True)
class Directory:
    """The bytes of a directory and where they lie on the device."""

    path: str
    data: bytes
    extents: tuple[Extent, ...]
    is_deleted: bool = False

    def offset(self, position: int) -> int:
        """Absolute offset on the device of a position in `data`."""
        for offset, length in self.extents:
            if position < length:
                return offset + position
            position -= length
        return -1


@dataclass(frozen=True, slots=True)
class Located:
    """A file and where its bytes are; `extents` cover `readable_bytes`, or `zero_from` if zeros follow from there."""

    path: str
    entry: Entry
    readable_bytes: int
    extents: tuple[Extent, ...] = ()
    flags: tuple[str, ...] = ()
    zero_from: int | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A live entry that can't be read as a file at all; it still counts as seen."""

    path: str
    entry: Entry
    reason: str
    flags: tuple[str, ...] = ()


Found = Located | Unreadable | Finding


class ClusterVolume(Protocol):
    """A FAT or exFAT volume: the walk asks it for directories and leaves the format to it."""

    @property
    def volume(self) -> Volume:
        """What the boot sector says."""

    @property
    def clusters(self) -> Clusters:
        """Its allocation table."""

    @property
    def root(self) -> Entry:
        """The root directory as an entry."""

    @property
    def fixed_root(self) -> Extent | None:
        """Where the root directory is if it has no clusters (FAT12 and FAT16)."""

    @property
    def directory_limit_bytes(self) -> int:
        """What a directory of this format can't exceed, or none that a recorder makes."""

    def entries(self, directory: Directory) -> Iterator[Entry | Finding]:
        """Entries of a directory in order, and what is wrong with it."""

    def findings(self) -> Sequence[Finding]:
        """What is wrong with the volume as a whole; complete after the walk."""
