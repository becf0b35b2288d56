"""Builds raw card images with a known truth: files, folders, fragments, deletions, and damage on demand."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simulator import exfat, fat32
from simulator.content import Content, chunks_of, size_of
from simulator.layout import DEFAULT_STAMP, FIRST_CLUSTER, SLOT_BYTES, ChainEnd, Format, Image, Node, Run, expand

MBR_VOLUME_OFFSET: Final = 1024 * 1024
MBR_TYPES: Final[Mapping[str, int]] = {"fat32": 0x0C, "exfat": 0x07}

MakeEmpty = Callable[[Path, str, int], None]

CardPath = str | tuple[str, ...]
"""Components joined by "/", or a tuple when a name itself holds one."""


@dataclass(frozen=True, slots=True)
class Truth:
    """What a correct reader must find for one file: absolute (offset, length) pairs cover exactly its bytes."""

    path: str
    size_bytes: int
    extents: tuple[tuple[int, int], ...]
    deleted: bool


class Card:
    """A card image under construction.

    Use as a context manager, or call `finish()`; more may be added and deleted after `finish()`, then finish again.
    File data goes into the image at once, in order, without gaps unless `fragments` asks for them.
    """

    def __init__(self, path: Path, volume_offset: int, make_format: Callable[[Image], Format]) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.image = Image(self._fd, volume_offset)
        self.format = make_format(self.image)
        self._next = self.format.first_free
        self._freed: list[int] = []
        self._pokes: list[tuple[int, bytes]] = []
        self._nodes: dict[tuple[str, ...], Node] = {(): self.format.root}

    @classmethod
    def fat32(
        cls, path: Path, size_bytes: int, label: str = "BODYCAM", *, cluster_bytes: int = 32768, mbr: bool = False
    ) -> Card:
        """A new FAT32 card; sparse, so that a large one costs nothing. `label` is at most 11 plain characters."""
        offset = _make_image(path, size_bytes, label, cluster_bytes, "fat32" if mbr else "", fat32.make_empty)
        return cls(path, offset, fat32.Fat32)

    @classmethod
    def exfat(
        cls, path: Path, size_bytes: int, label: str = "BODYCAM", *, cluster_bytes: int = 131072, mbr: bool = False
    ) -> Card:
        """A new exFAT card; sparse, so that a large one costs nothing."""
        offset = _make_image(path, size_bytes, label, cluster_bytes, "exfat" if mbr else "", exfat.make_empty)
        return cls(path, offset, exfat.ExFat)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        self.close()

    def close(self) -> None:
        """Close the image without finishing it."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    # Building.

    def add(
        self,
        path: CardPath,
        content: Content = b"",
        *,
        modified: datetime = DEFAULT_STAMP,
        created: datetime | None = None,
        fragments: int = 1,
        short_name: bytes = b"",
        utc_offset_min: int | None = 480,
        valid_bytes: int | None = None,
        reuse: bool = False,
    ) -> Node:
        """Add a file and its missing folders.

        `modified` is naive local time. `fragments` pieces are laid out of order with gaps. `short_name` (11 raw
        bytes) makes a FAT entry without a long name. `valid_bytes` and `utc_offset_min` (None: not said) are exFAT's.
        `reuse` takes the clusters of deleted files first.
        """
        parts = _parts(path)
        assert parts not in self._nodes, f"{path} is on the card already"
        size = size_of(content)
        runs = self._allocate(-(-size // self.format.cluster_bytes), fragments, reuse)
        node = Node(
            parts[-1], size_bytes=size, runs=runs, modified=modified, created=created or modified,
            utc_offset_min=utc_offset_min, valid_bytes=valid_bytes, short_name=short_name,
        )  # fmt: skip
        self._write(node, content)
        self.format.link(node)
        self._attach(parts, node)
        return node

    def mkdir(self, path: CardPath) -> Node:
        """The folder at `path`; made with its parents if it is not there."""
        parts = _parts(path)
        node = self._nodes.get(parts)
        if node is None:
            node = Node(parts[-1], is_dir=True)
            self._attach(parts, node)
        return node

    def delete(self, path: CardPath) -> None:
        """Delete a file, or a folder with all it holds, the way a recorder does: entries marked, clusters freed."""
        doomed = [self.node(path)]
        while doomed:
            node = doomed.pop()
            doomed += node.children
            if not node.deleted:
                node.deleted = True
                self.format.release(node.runs)
                self._freed += expand(node.runs)

    def finish(self) -> None:
        """Write directories and tables; afterwards the image is a complete card."""
        self._grow_directory(self.format.root, None)
        self._write_directory(self.format.root, None)
        self.format.flush()
        for offset, data in self._pokes:
            self._put(offset, data)
        os.fsync(self._fd)

    # Truth.

    def node(self, path: CardPath) -> Node:
        """The node at `path`; changing it before `finish()` changes what its directory entry says."""
        return self._nodes[_parts(path)]

    def truth(self) -> Iterator[Truth]:
        """All files, also deleted ones, as they were added (damage is not reflected)."""
        for parts, node in self._nodes.items():
            if not node.is_dir:
                yield Truth("/".join(parts), node.size_bytes, self.extents(node), node.deleted)

    def extents(self, node: Node) -> tuple[tuple[int, int], ...]:
        """Absolute (offset, length) pairs of the bytes of a node."""
        left = node.size_bytes if not node.is_dir else 1 << 62
        found = []
        for first, count in node.runs:
            length = min(left, count * self.format.cluster_bytes)
            if length > 0:
                found.append((self.cluster_offset(first), length))
            left -= length
        return tuple(found)

    def cluster_offset(self, cluster: int) -> int:
        """Absolute byte offset of a cluster in the image."""
        heap = self.image.volume_offset + self.format.data_offset
        return heap + (cluster - FIRST_CLUSTER) * self.format.cluster_bytes

    # Damage.

    def set_dirty(self) -> None:
        """Mark the card as pulled out while it was written."""
        self.format.set_dirty()

    def corrupt_start(self, path: CardPath, cluster: int) -> None:
        """Let the entry point to another first cluster: beyond the card, or into another file (a cross-link)."""
        self.node(path).claimed_start = cluster

    def corrupt_cross_link(self, path: CardPath, other: CardPath) -> None:
        """Let both entries own the clusters of `other`."""
        self.corrupt_start(path, self.node(other).start)

    def corrupt_size(self, path: CardPath, size_bytes: int) -> None:
        """Let the entry claim a size that its chain doesn't have, or 0 with a chain (power loss while recording)."""
        self.node(path).claimed_bytes = size_bytes

    def corrupt_chain(self, path: CardPath, end: ChainEnd, keep_clusters: int) -> None:
        """End the chain after `keep_clusters` clusters: early, in a free cluster, or in a loop to its start."""
        node = self.node(path)
        clusters = expand(node.runs)
        assert self.format.kind == "fat32" or not node.is_contiguous, "contiguous exFAT files have no chain"
        self.format.set_next(clusters[keep_clusters - 1], clusters[0] if end is ChainEnd.LOOP else end)

    def corrupt_directory(self, path: CardPath, seed: int = 0) -> None:
        """Overwrite a finished folder with random bytes."""
        node = self.node(path)
        for offset, length in self.extents(node):
            self.poke(offset, random.Random(seed).randbytes(length))

    def corrupt_directory_loop(self, path: CardPath, ancestor: CardPath) -> None:
        """Let the folder at `path` be the folder at `ancestor`; call after a first `finish()`, then finish again."""
        self.node(path).claimed_start = self.node(ancestor).start if _parts(ancestor) else self.format.root.start

    def truncate(self, size_bytes: int) -> None:
        """Cut the image off, as a fake or failing card does."""
        os.ftruncate(self._fd, size_bytes)

    def poke(self, offset: int, data: bytes) -> None:
        """Overwrite raw bytes at an absolute offset of the image, now and after each further `finish()`."""
        self._pokes.append((offset, data))
        self._put(offset, data)

    # Parts of building.

    def _put(self, offset: int, data: bytes) -> None:
        assert os.pwrite(self._fd, data, offset) == len(data)

    def _attach(self, parts: tuple[str, ...], node: Node) -> None:
        parent = self.mkdir(parts[:-1])
        self.format.assign_name(node, parent)
        parent.children.append(node)
        self._nodes[parts] = node

    def _allocate(self, count: int, fragments: int, reuse: bool) -> list[Run]:
        if not count:
            return []
        if reuse and len(self._freed) >= count:
            self._freed.sort()
            taken, self._freed = self._freed[:count], self._freed[count:]
            return _runs(taken)
        fragments = min(fragments, count)
        sizes = [count // fragments + (index < count % fragments) for index in range(fragments)]
        runs = []
        for size in sizes:
            runs.append((self._next, size))
            self._next += size + (fragments > 1)
        assert self._next <= self.format.cluster_count + FIRST_CLUSTER, "the card is full"
        return runs[1:] + runs[:1]

    def _write(self, node: Node, content: Content) -> None:
        targets = iter(self.extents(node))
        offset = room = 0
        for chunk in chunks_of(content):
            view = memoryview(chunk)
            while view:
                if not room:
                    offset, room = next(targets)
                step = min(room, len(view))
                assert os.pwrite(self._fd, view[:step], offset) == step
                view, offset, room = view[step:], offset + step, room - step

    def _grow_directory(self, node: Node, parent: Node | None) -> None:
        slots = len(self.format.head(node, parent)) // SLOT_BYTES + sum(map(self.format.slots, node.children)) + 1
        needed = max(1, -(-slots * SLOT_BYTES // self.format.cluster_bytes))
        missing = needed - sum(count for _, count in node.runs)
        if missing > 0:
            node.runs = _runs(expand(node.runs + self._allocate(missing, 1, reuse=False)))
            if not node.deleted:
                self.format.link(node)
        for child in node.children:
            if child.is_dir:
                self._grow_directory(child, node)

    def _write_directory(self, node: Node, parent: Node | None) -> None:
        head = self.format.head(node, parent)
        sets = [self.format.entries(child) for child in node.children]
        clusters, unit = expand(node.runs), self.format.cluster_bytes
        position = len(head)
        for child, raw in zip(node.children, sets, strict=True):
            last = position + len(raw) - SLOT_BYTES if self.format.kind == "fat32" else position
            child.entry_offset = self.cluster_offset(clusters[last // unit]) + last % unit
            position += len(raw)
        raw_directory = (head + b"".join(sets)).ljust(len(clusters) * unit, b"\0")
        for index, cluster in enumerate(clusters):
            self._put(self.cluster_offset(cluster), raw_directory[index * unit : (index + 1) * unit])
        for child in node.children:
            if child.is_dir:
                self._write_directory(child, node)


def _parts(path: CardPath) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part) if isinstance(path, str) else path


def _runs(clusters: list[int]) -> list[Run]:
    runs: list[Run] = []
    for cluster in clusters:
        if runs and sum(runs[-1]) == cluster:
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((cluster, 1))
    return runs


def _make_image(
    path: Path,
    size_bytes: int,
    label: str,
    cluster_bytes: int,
    mbr_kind: str,
    make_empty: Callable[[Path, str, int], None],
) -> int:
    """Make the sparse image with its empty filesystem; return where the volume begins."""
    if not mbr_kind:
        _make_sparse(path, size_bytes)
        make_empty(path, label, cluster_bytes)
        return 0
    volume = path.with_name(path.name + ".volume")
    _make_sparse(volume, size_bytes - MBR_VOLUME_OFFSET)
    make_empty(volume, label, cluster_bytes)
    _make_sparse(path, size_bytes)
    with path.open("r+b") as image, volume.open("rb") as source:
        sectors = (MBR_VOLUME_OFFSET // 512, (size_bytes - MBR_VOLUME_OFFSET) // 512)
        image.seek(446)
        image.write(struct.pack("<4xB3xII", MBR_TYPES[mbr_kind], *sectors))
        image.seek(510)
        image.write(b"\x55\xaa")
        for begin, end in _data_ranges(source.fileno()):
            os.pwrite(image.fileno(), os.pread(source.fileno(), end - begin, begin), MBR_VOLUME_OFFSET + begin)
    volume.unlink()
    return MBR_VOLUME_OFFSET


def _make_sparse(path: Path, size_bytes: int) -> None:
    with path.open("wb") as image:
        image.truncate(size_bytes)


def _data_ranges(fd: int) -> Iterator[tuple[int, int]]:
    """Parts of a sparse file that hold data."""
    size, position = os.fstat(fd).st_size, 0
    while position < size:
        try:
            begin = os.lseek(fd, position, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing but a hole up to the end
            return
        position = os.lseek(fd, begin, os.SEEK_HOLE)
        yield begin, position
