"""The small shared types of the card builders: clusters, nodes of the tree, and what a filesystem format must offer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

SLOT_BYTES: Final = 32
FIRST_CLUSTER: Final = 2
DEFAULT_STAMP: Final = datetime(2026, 1, 31, 9, 30, 14)  # noqa: DTZ001 - cards store naive local times

Run = tuple[int, int]
"""(first cluster, number of clusters)"""


class ChainEnd(StrEnum):
    """How a damaged chain ends."""

    EARLY = "early"  # with a valid end mark
    FREE = "free"  # in a cluster that the table calls free
    LOOP = "loop"  # back at its first cluster


@dataclass(slots=True)
class Node:
    """One file or directory of a card, and what its directory entry says (which hostile cards make differ)."""

    name: str
    is_dir: bool = False
    size_bytes: int = 0
    runs: list[Run] = field(default_factory=list)
    modified: datetime = DEFAULT_STAMP
    created: datetime = DEFAULT_STAMP
    utc_offset_min: int | None = 480
    valid_bytes: int | None = None
    short_name: bytes = b""
    has_long_name: bool = True
    deleted: bool = False
    claimed_start: int | None = None
    claimed_bytes: int | None = None
    children: list[Node] = field(default_factory=list)
    entry_offset: int = -1

    @property
    def start(self) -> int:
        """First cluster as the directory entry tells it; 0 for an empty file."""
        if self.claimed_start is not None:
            return self.claimed_start
        return self.runs[0][0] if self.runs else 0

    @property
    def said_bytes(self) -> int:
        """Size as the directory entry tells it."""
        return self.size_bytes if self.claimed_bytes is None else self.claimed_bytes

    @property
    def is_contiguous(self) -> bool:
        """Whether the clusters lie in one piece."""
        return len(self.runs) <= 1


@dataclass(frozen=True, slots=True)
class Image:
    """The image file and where in it the volume begins."""

    fd: int
    volume_offset: int = 0

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the volume."""
        return os.pread(self.fd, length, self.volume_offset + offset)

    def write(self, offset: int, data: bytes) -> None:
        """Write bytes into the volume."""
        assert os.pwrite(self.fd, data, self.volume_offset + offset) == len(data)


class Format(Protocol):
    """A filesystem format: where clusters are, how chains and directory entries are written."""

    kind: str
    cluster_bytes: int
    data_offset: int
    cluster_count: int
    first_free: int
    root: Node
    root_prefix: bytes

    def assign_name(self, node: Node, siblings: Node) -> None:
        """Give a new node what its directory needs beside the name (FAT: a short name)."""

    def slots(self, node: Node) -> int:
        """Number of 32-byte directory slots of a node."""

    def entries(self, node: Node) -> bytes:
        """Directory entry set of a node."""

    def head(self, directory: Node, parent: Node | None) -> bytes:
        """What stands before the children of a directory."""

    def link(self, node: Node) -> None:
        """Mark the clusters of a node as allocated, chained in order."""

    def release(self, runs: Sequence[Run]) -> None:
        """Mark clusters as free."""

    def set_next(self, cluster: int, following: int | ChainEnd) -> None:
        """Overwrite one link of a chain."""

    def flush(self) -> None:
        """Write what is kept in memory."""

    def set_dirty(self) -> None:
        """Mark the volume as not cleanly unmounted."""


def expand(runs: Sequence[Run]) -> list[int]:
    """All clusters of the runs, in order."""
    return [first + index for first, count in runs for index in range(count)]


def dos_stamp(moment: datetime) -> tuple[int, int, int]:
    """(date, time, 10 ms units) of a naive local time, as FAT and exFAT store it."""
    date = (moment.year - 1980) << 9 | moment.month << 5 | moment.day
    time = moment.hour << 11 | moment.minute << 5 | moment.second // 2
    return date, time, moment.second % 2 * 100 + moment.microsecond // 10_000
