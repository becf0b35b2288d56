"""Lists a FAT or exFAT volume from the root down: live files with their extents, deleted entries as findings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from agent.card import Extent, Finding, Space
from agent.drivers.clusters import Chain, ChainFlag, ClusterSet
from agent.drivers.filesystem import DEPTH_LIMIT, SIZE_LIMIT_BYTES, Budget, ClusterVolume, Directory, Entry, File, Found
from agent.drivers.names import join_path

DELETED_DIRECTORY_CLUSTERS: Final = 64
_NOT_ALL_FOLLOWED: Final = frozenset({ChainFlag.LONGER, ChainFlag.FRAGMENTED, ChainFlag.BUDGET})
"""Clusters of such a file may be taken that nobody went to; recorders reserve space ahead."""


class Walk:
    """One listing of one volume.

    Each directory is read once, whoever points to it. Clusters that two files claim are given to both and flagged at
    the second; when files claim more than twice what the device holds, the rest is refused.
    """

    def __init__(self, volume: ClusterVolume, budget: Budget, prefix: str = "") -> None:
        self.volume = volume.volume
        self._volume = volume
        self._clusters = volume.clusters
        self._prefix = prefix
        self._budget = budget
        self._claimed = ClusterSet(self._clusters.geometry.cluster_count)
        self._visited: set[int] = set()
        self._deleted_not_listed = 0
        self._is_accounted = True

    def __iter__(self) -> Iterator[Found]:
        stack = [(self._prefix, self._volume.root, 0)]
        while stack:
            path, entry, depth = stack.pop()
            below: list[tuple[str, Entry, int]] = []
            for item in self._read(path, entry):
                if isinstance(item, Entry):
                    item_path = join_path(path, item.name)
                    yield from self._judge(item_path, item)
                    if item.is_dir:
                        below.append((item_path, item, depth + 1))
                else:
                    yield item
            if depth < DEPTH_LIMIT:
                stack += reversed(below)
            elif below:
                yield Finding("too-deep", {"path": path, "folders": len(below)})
        if self._deleted_not_listed:
            yield Finding("deleted-not-listed", {"entries": self._deleted_not_listed})
        yield from self._volume.findings()

    def space(self) -> Space | None:
        """How the volume is used, after the walk; None if it is not known."""
        taken = self._clusters.taken_in_all()
        if taken is None:
            return None
        count, lost = self._clusters.geometry.cluster_count, taken - len(self._claimed) - self._volume.system_clusters
        lost = lost if self._is_accounted else 0
        return Space(
            *(self.volume.cluster_bytes * clusters for clusters in (count, max(0, count - taken), max(0, lost)))
        )

    # Directories.

    def _read(self, path: str, entry: Entry) -> Iterator[Entry | Finding]:
        """Entries of the directory that `entry` points to."""
        if entry.start in self._visited:
            if not entry.is_deleted:
                yield Finding("directory-loop", {"path": path, "cluster": entry.start})
            return
        has_clusters = self._clusters.is_cluster(entry.start)
        if entry.is_deleted and (not has_clusters or self._clusters.is_taken(entry.start)):
            return  # gone, or its clusters are something else now
        if not has_clusters and entry is not self._volume.root:
            yield Finding("directory-damaged", {"path": path, "flags": [ChainFlag.BAD_START]})
            return
        self._visited.add(entry.start)
        extents, flags = self._directory_extents(entry)
        if flags:
            yield Finding("directory-damaged", {"path": path, "flags": list(flags)})
        data = self._clusters.read(extents)
        self._budget.take_directory(len(data))
        for item in self._volume.entries(Directory(path, data, extents, entry.is_deleted)):
            self._budget.take_entry()
            yield item

    def _directory_extents(self, entry: Entry) -> tuple[tuple[Extent, ...], tuple[str, ...]]:
        if entry is self._volume.root and self._volume.fixed_root is not None:
            return (self._volume.fixed_root,), ()
        unit = self._clusters.geometry.cluster_bytes
        if entry.is_deleted:
            size = min(entry.size_bytes or unit, DELETED_DIRECTORY_CLUSTERS * unit)
            chain = self._clusters.contiguous(entry.start, size)
            return self._clusters.extents(chain.runs, size), ()
        limit = self._volume.directory_limit_bytes
        if entry.is_contiguous and entry.size_bytes:
            chain = self._clusters.unchained(entry.start, min(entry.size_bytes, limit + 1))
        else:
            chain = self._clusters.chain(entry.start, entry.size_bytes or None)
        self._claim(chain)
        flags: list[str] = [flag for flag in chain.flags if flag is not ChainFlag.LONGER]
        if (chain.clusters - 1) * unit >= limit:
            flags.append("too-large")
        return self._clusters.extents(chain.runs, limit), tuple(flags)

    # Entries.

    def _judge(self, path: str, entry: Entry) -> Iterator[Found]:
        if not entry.is_deleted:
            if not entry.is_dir:
                yield self._locate(path, entry)
        elif self._budget.deleted > 0:
            self._budget.deleted -= 1
            yield self._tombstone(path, entry)
        else:
            self._deleted_not_listed += 1

    def _locate(self, path: str, entry: Entry) -> File:
        size = entry.size_bytes
        if size > SIZE_LIMIT_BYTES:
            return File(path, entry, refusal="size-impossible")
        if not size and not entry.start:
            return File(path, entry, flags=entry.flags)
        if entry.is_contiguous:
            chain = self._clusters.unchained(entry.start, size or self._clusters.geometry.cluster_bytes)
        else:
            chain = self._clusters.chain(entry.start, size or None)
        flags: list[str] = [*entry.flags, *chain.flags]
        self._is_accounted &= _NOT_ALL_FOLLOWED.isdisjoint(chain.flags)
        if not size:
            flags.append("size-zero-chain")
        if self._claim(chain):
            flags.append("cross-linked")
        extents = self._clusters.extents(chain.runs, size or None)
        readable = sum(length for _, length in extents)
        if readable < min(size, chain.clusters * self._clusters.geometry.cluster_bytes):
            flags.append("beyond-device")
        if not readable:
            reason = next(iter(flags), "no-clusters") if size else ChainFlag.BAD_START
            return File(path, entry, flags=tuple(flags), refusal=reason)
        if reason := self._budget.refusal(readable, len(extents)):
            return File(path, entry, flags=tuple(flags), refusal=reason)
        if not size or entry.valid_bytes >= readable:
            return File(path, entry, readable, extents, tuple(flags))
        zero_from = entry.valid_bytes
        extents = self._clusters.extents(chain.runs, zero_from) if zero_from else ()
        return File(path, entry, readable, extents, (*flags, "valid-shorter"), zero_from)

    def _claim(self, chain: Chain) -> bool:
        """Note the clusters of a chain as used; tell if some were used before."""
        is_shared = any(self._claimed.count(first, count) for first, count in chain.runs)
        for first, count in chain.runs:
            self._claimed.add(first, count)
        return is_shared

    # Deleted entries.

    def _tombstone(self, path: str, entry: Entry) -> Finding:
        extents, state = ((), "directory") if entry.is_dir else self._deleted_state(entry)
        return Finding(
            "deleted",
            {
                "path": path,
                "raw_name": entry.raw_name.hex(),
                "short_name": entry.short_name.hex(),
                "name_quality": entry.quality,
                "is_directory": entry.is_dir,
                "size": min(entry.size_bytes, SIZE_LIMIT_BYTES),
                "created": [entry.created.local, entry.created.offset_min],
                "modified": [entry.modified.local, entry.modified.offset_min],
                "state": state,
                "extents": [list(extent) for extent in extents],
                "entry_offset": entry.entry_offset,
                "flags": list(entry.flags),
            },
        )

    def _deleted_state(self, entry: Entry) -> tuple[tuple[Extent, ...], str]:
        """Where a deleted file lay if it lay in one piece, and whether live files have taken its place."""
        if not entry.size_bytes:
            return (), "empty"
        if not self._clusters.is_cluster(entry.start):
            return (), "start-lost"
        chain = self._clusters.contiguous(entry.start, entry.size_bytes)
        if chain.flags:
            return (), "beyond-volume"
        extents = self._clusters.extents(chain.runs, entry.size_bytes)
        taken = self._clusters.taken(entry.start, entry.size_bytes)
        if taken is None:
            return extents, "unknown"
        return extents, f"overwritten:{taken[0]}/{taken[1]}" if taken[0] else "intact"
