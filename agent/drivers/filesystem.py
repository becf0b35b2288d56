"""What the readers of a card's filesystem share: limits, the form of an entry and of a result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

from agent.drivers.clusters import Clusters
from agent.model import Extent, Finding, Stamp, Volume

SIZE_LIMIT_BYTES: Final = (1 << 63) - 1
NO_STAMP: Final = Stamp()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one listing; an honest card stays far below all of them."""

    entries: int = 400_000
    deleted: int = 100_000
    all_directories_bytes: int = 512 * 1024 * 1024
    depth: int = 24
    extents: int = 3_000_000


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
