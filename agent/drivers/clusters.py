"""Follows cluster chains of FAT and exFAT within fixed budgets, and tells which clusters are taken."""

from array import array
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

from agent.card import Extent
from agent.drivers.source import Source

FIRST_CLUSTER: Final = 2
PIECE_BYTES: Final = 64 * 1024
PIECES_CACHED: Final = 256
COMPARED_PIECES: Final = 64
RUNS_LIMIT: Final = 1_000_000
TRACKED_CLUSTERS: Final = 1 << 28  # FAT32 has no more; a set of them takes 32 MiB
STEPS_LIMIT: Final = 64_000_000
COUNTED_LIMIT: Final = 1 << 24  # 512 GB in clusters of 32 KiB: a table of 64 MiB

Run = tuple[int, int]
"""(first cluster, number of clusters)"""


class ChainFlag(StrEnum):
    """What is wrong with the clusters of a file."""

    SHORT = "chain-short"  # ends before the size is reached
    LONGER = "chain-longer"  # goes on after the size is reached
    BROKEN = "chain-broken"  # leads to a cluster that is free or doesn't exist
    LOOP = "chain-loop"  # comes back to itself
    BAD_START = "chain-bad-start"
    FRAGMENTED = "chain-too-fragmented"
    BUDGET = "chain-not-followed"  # the card as a whole has more chains than clusters
    EXCEEDS = "size-exceeds-volume"


class Chain(NamedTuple):
    """Clusters of a file in order, as far as they could be followed."""

    runs: tuple[Run, ...] = ()
    flags: tuple[ChainFlag, ...] = ()

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return sum(count for _, count in self.runs)


class ClusterSet:
    """A set of clusters of a volume, one bit each; clusters beyond its size are never in it."""

    def __init__(self, cluster_count: int, bits: bytes = b"") -> None:
        self._bits = bytearray(bits.ljust((min(cluster_count, TRACKED_CLUSTERS) + 7) // 8, b"\0"))

    def count(self, first: int, count: int) -> int:
        """How many of the clusters of a run are in the set."""
        low, shift = divmod(first - FIRST_CLUSTER, 8)
        bits = int.from_bytes(self._bits[low : low + (shift + count + 7) // 8], "little") >> shift
        return (bits & ((1 << count) - 1)).bit_count()

    def __len__(self) -> int:
        return int.from_bytes(self._bits, "little").bit_count()

    def add(self, first: int, count: int) -> None:
        """Put the clusters of a run into the set."""
        low, shift = divmod(first - FIRST_CLUSTER, 8)
        count = min(count, 8 * len(self._bits) - (first - FIRST_CLUSTER))
        if count <= 0:
            return
        high = low + (shift + count + 7) // 8
        bits = int.from_bytes(self._bits[low:high], "little") | ((1 << count) - 1) << shift
        self._bits[low:high] = bits.to_bytes(high - low, "little")


class Geometry(NamedTuple):
    """Where a volume keeps its table and clusters; offsets in bytes on the device."""

    value_bits: int  # 12, 16, 28 (FAT32) or 32 (exFAT)
    table_offset: int
    table_bytes: int
    mirror_offset: int | None
    heap_offset: int
    cluster_bytes: int
    cluster_count: int

    @property
    def heap_bytes(self) -> int:
        """What all files together can hold."""
        return self.cluster_count * self.cluster_bytes


class Clusters:
    """The allocation table of one volume.

    Work is bounded: an honest card follows each cluster once, so live chains may take two steps for each cluster that
    the device can hold, and questions about deleted files eight.
    """

    def __init__(self, source: Source, geometry: Geometry) -> None:
        self._source = source
        self.geometry = geometry
        self.bitmap: ClusterSet | None = None
        self.differing_entries = 0
        self.first_difference: int | None = None
        self._mask = (1 << geometry.value_bits) - 1
        self._entry_bits = 32 if geometry.value_bits == 28 else geometry.value_bits
        self._per_piece = PIECE_BYTES * 8 // self._entry_bits
        self._pieces: dict[int, Sequence[int]] = {}
        self._compared: set[int] = set()
        self._end = geometry.cluster_count + FIRST_CLUSTER
        room = max(0, source.size_bytes - geometry.heap_offset) // geometry.cluster_bytes + 1
        honest = min(geometry.cluster_count, room)
        self._live_budget = min(2 * honest + 100_000, STEPS_LIMIT)
        self._deleted_budget = min(8 * honest + 1_000_000, STEPS_LIMIT)

    def is_cluster(self, number: int) -> bool:
        """Whether the volume has a cluster of that number."""
        return FIRST_CLUSTER <= number < self._end

    def entry(self, cluster: int) -> int:
        """Table entry of a cluster; 0 (free) where the table can't be read."""
        piece = self._piece(cluster // self._per_piece)
        index = cluster % self._per_piece
        return piece[index] & self._mask if index < len(piece) else 0

    def unchained(self, start: int, size_bytes: int) -> Chain:
        """The clusters of a live file that is stored without a chain; they count against the budget too."""
        if self._live_budget <= 0:
            return Chain(flags=(ChainFlag.BUDGET,))
        chain = self.contiguous(start, size_bytes)
        self._live_budget -= chain.clusters
        return chain

    def contiguous(self, start: int, size_bytes: int) -> Chain:
        """The clusters of a file that lies or lay in one piece."""
        if not self.is_cluster(start):
            return Chain(flags=(ChainFlag.BAD_START,))
        needed = self._clusters_of(size_bytes)
        if start + needed > self._end:
            return Chain(((start, self._end - start),), (ChainFlag.EXCEEDS,))
        return Chain(((start, needed),))

    def chain(self, start: int, size_bytes: int | None) -> Chain:
        """Follow a chain for as many clusters as the size needs, or to its end mark if no size is known."""
        if not self.is_cluster(start):
            return Chain(flags=(ChainFlag.BAD_START,))
        if self._live_budget <= 0:
            return Chain(flags=(ChainFlag.BUDGET,))
        count = self.geometry.cluster_count
        needed = count if size_bytes is None else self._clusters_of(size_bytes)
        flags: list[ChainFlag] = [ChainFlag.EXCEEDS] if needed > count else []
        runs, end = self._follow(start, min(needed, count))
        if end is ChainFlag.SHORT and size_bytes is None:
            end = None
        if end is None and size_bytes is not None and self.is_cluster(self.entry(sum(runs[-1]) - 1)):
            end = ChainFlag.LONGER
        if _overlapping(runs):
            runs, end = self._cut_at_loop(runs), ChainFlag.LOOP
        return Chain(tuple(runs), (*flags, end) if end else tuple(flags))

    def _follow(self, start: int, needed: int) -> tuple[list[Run], ChainFlag | None]:
        """Runs from `start` on, and why the chain ended before `needed` clusters."""
        limit = min(needed, self._live_budget)
        runs: list[Run] = []
        cluster = first = start
        taken = 1
        end = None if limit == needed else ChainFlag.BUDGET
        while taken < limit:
            following = self.entry(cluster)
            if following != cluster + 1 or following >= self._end:
                runs.append((first, cluster - first + 1))
                if not self.is_cluster(following):
                    end = ChainFlag.SHORT if following >= self._mask - 7 else ChainFlag.BROKEN
                    break
                if len(runs) >= RUNS_LIMIT:
                    end = ChainFlag.FRAGMENTED
                    break
                first = following
            cluster = following
            taken += 1
        else:
            runs.append((first, cluster - first + 1))
        self._live_budget -= taken
        return runs, end

    def _cut_at_loop(self, runs: Sequence[Run]) -> list[Run]:
        """The runs up to the first cluster that occurs a second time."""
        seen = ClusterSet(self.geometry.cluster_count)
        kept: list[Run] = []
        for first, count in runs:
            if seen.count(first, count):
                fresh = next(index for index in range(count) if seen.count(first + index, 1))
                return [*kept, (first, fresh)] if fresh else kept
            seen.add(first, count)
            kept.append((first, count))
        return kept

    def is_taken(self, cluster: int) -> bool:
        """Whether a cluster belongs to something that is live."""
        return self.bitmap.count(cluster, 1) > 0 if self.bitmap else self.entry(cluster) != 0

    def taken(self, start: int, size_bytes: int) -> tuple[int, int] | None:
        """(clusters taken by live files, clusters in all) if a deleted file lay in one piece; None beyond budget."""
        needed = min(self._clusters_of(size_bytes), self._end - start)
        if needed > self._deleted_budget:
            return None
        self._deleted_budget -= needed
        return self.bitmap.count(start, needed) if self.bitmap else self._count_taken(start, start + needed), needed

    def taken_in_all(self) -> int | None:
        """How many clusters the volume's own account says are taken; None if it has too many to be counted."""
        if self.bitmap is not None:
            return len(self.bitmap)
        is_counted = self.geometry.value_bits < 32  # exFAT's table says nothing of most files
        return self._count_taken(FIRST_CLUSTER, self._end) if is_counted and self._end <= COUNTED_LIMIT else None

    def _count_taken(self, cluster: int, end: int) -> int:
        """Table entries from `cluster` to before `end` that are neither free nor marked as bad."""
        taken, bad = 0, self._mask - 8
        while cluster < end:
            index = cluster % self._per_piece
            step = min(end - cluster, self._per_piece - index)
            entries = self._piece(cluster // self._per_piece)[index : index + step]
            if any(entries):
                taken += sum(1 for value in entries if 0 < value & self._mask != bad)
            cluster += step
        return taken

    def extents(self, runs: Sequence[Run], size_bytes: int | None) -> tuple[Extent, ...]:
        """Absolute byte ranges of the runs, cut to the size and to what the device really has."""
        left = self.geometry.heap_bytes if size_bytes is None else size_bytes
        found = []
        for first, count in runs:
            offset = self.geometry.heap_offset + (first - FIRST_CLUSTER) * self.geometry.cluster_bytes
            length = min(count * self.geometry.cluster_bytes, left)
            inside = min(length, self._source.size_bytes - offset)
            if inside > 0:
                found.append((offset, inside))
            left -= length
            if inside < length or not left:
                break
        return tuple(found)

    def read(self, extents: Sequence[Extent]) -> bytes:
        """The bytes of some extents (directories, bitmaps)."""
        return b"".join(self._source.read(offset, length) for offset, length in extents)

    def _clusters_of(self, size_bytes: int) -> int:
        return -(-size_bytes // self.geometry.cluster_bytes)

    def _piece(self, number: int) -> Sequence[int]:
        piece = self._pieces.get(number)
        if piece is None:
            if len(self._pieces) >= PIECES_CACHED:
                self._pieces.clear()
            piece = self._pieces[number] = self._load(number)
        return piece

    def _load(self, number: int) -> Sequence[int]:
        start = number * PIECE_BYTES
        length = min(PIECE_BYTES, self.geometry.table_bytes - start)
        raw = self._source.read(self.geometry.table_offset + start, length)
        mirror = self.geometry.mirror_offset
        if mirror is not None and number not in self._compared and len(self._compared) < COMPARED_PIECES:
            self._compared.add(number)
            self._compare(number, raw, self._source.read(mirror + start, length))
        if self._entry_bits == 12:  # such a table is at most 6 KiB, so its pieces don't cut an entry in two
            pairs = (raw[at * 3 // 2 : at * 3 // 2 + 2] for at in range(len(raw) * 2 // 3))
            return array("H", (int.from_bytes(pair, "little") >> at % 2 * 4 & 0xFFF for at, pair in enumerate(pairs)))
        width = self._entry_bits // 8
        return memoryview(raw[: len(raw) // width * width]).cast("I" if width == 4 else "H")

    def _compare(self, number: int, raw: bytes, mirror: bytes) -> None:
        """Count entries that differ between the two copies of the table."""
        width = self._entry_bits // 8
        starts = range(0, len(raw), width) if raw != mirror else ()
        differing = [at for at in starts if raw[at : at + width] != mirror[at : at + width]]
        self.differing_entries += len(differing)
        if differing and self.first_difference is None:
            self.first_difference = (number * PIECE_BYTES + differing[0]) // width


def _overlapping(runs: Sequence[Run]) -> bool:
    return any(sum(before) > after[0] for before, after in pairwise(sorted(runs)))
