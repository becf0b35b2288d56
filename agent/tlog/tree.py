"""The Merkle tree of RFC 6962 and RFC 9162 with SHA-256: its root, how it grows, and what proves a leaf or its growth.

A subtree is named by height and index: it has `1 << height` leaves, from leaf `index << height` on. Proofs are
made from a function that gives the hash of a complete subtree, so that nothing here knows where leaves are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import Final, NamedTuple

HASH_BYTES: Final = 32
SIZE_LIMIT: Final = 1 << 63
PROOF_LIMIT: Final = 63
"""No proof of a tree below `SIZE_LIMIT` has more hashes (C2SP tlog-witness says the same)."""

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Node = Callable[[int, int], bytes]
"""The hash of the complete subtree of a height and an index."""


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf's content (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\0" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of a node by those of its children (RFC 9162 §2.1.1)."""
    return hashlib.sha256(b"\1" + left + right).digest()


class Frontier(NamedTuple):
    """All that a tree must remember to grow: how many leaves it has, and its complete subtrees, the largest first."""

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def plus(self, digest: bytes, height: int = 0) -> Frontier:
        """Return the frontier with one more complete subtree, by default a leaf, of which `size` is a multiple."""
        peaks, rest = self.peaks, self.size >> height
        keep = len(peaks)
        while rest & 1:
            keep -= 1
            digest = node_hash(peaks[keep], digest)
            rest >>= 1
        return Frontier(self.size + (1 << height), (*peaks[:keep], digest))

    def completed(self, digest: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield height and hash of each subtree that is complete with one more leaf, the leaf itself first."""
        height = 0
        yield height, digest
        while self.size >> height & 1:
            height += 1
            digest = node_hash(self.peaks[-height], digest)
            yield height, digest

    def root(self) -> bytes:
        """Return the hash of the whole tree."""
        return _folded(self.peaks) if self.peaks else EMPTY_ROOT


def subtrees(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield height and index of the largest complete subtrees that together hold the leaves from `start` to `end`."""
    while start < end:
        fits = (end - start).bit_length() - 1
        height = min(fits, (start & -start).bit_length() - 1) if start else fits
        yield height, start >> height
        start += 1 << height


def root(size: int, node: Node) -> bytes:
    """Return the hash of the tree of the first `size` leaves."""
    return _range_hash(0, size, node) if size else EMPTY_ROOT


def inclusion(index: int, size: int, node: Node) -> list[bytes]:
    """Return the audit path of a leaf in the tree of `size` leaves, its sibling first (RFC 9162 §2.1.3.1)."""
    assert 0 <= index < size < SIZE_LIMIT, "the leaf is in the tree"
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + _left_leaves(end - start)
        if index < middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(_range_hash(start, middle, node))
            start = middle
    return path[::-1]


def consistency(old: int, size: int, node: Node) -> list[bytes]:
    """Return what proves that the tree of `size` leaves begins with that of `old` (RFC 9162 §2.1.4.1).

    Empty for an empty old tree, which every tree begins with, and for the same tree.
    """
    assert 0 <= old <= size < SIZE_LIMIT, "trees only grow"
    if old in (0, size):
        return []
    path, start, end = [], 0, size
    while old != end:
        middle = start + _left_leaves(end - start)
        if old <= middle:
            path.append(_range_hash(middle, end, node))
            end = middle
        else:
            path.append(_range_hash(start, middle, node))
            start = middle
    if start:  # the verifier has the hash of the old tree, not of this part of it
        path.append(_range_hash(start, end, node))
    return path[::-1]


def includes(digest: bytes, index: int, size: int, path: Sequence[bytes], expected_root: bytes) -> bool:
    """Tell whether a path proves that a tree of `size` leaves has this leaf hash at `index` (RFC 9162 §2.1.3.2)."""
    if not 0 <= index < size < SIZE_LIMIT:
        return False
    reached = _reached(index, size - 1, digest, path)
    return reached is not None and reached[1] == expected_root


def continues(old: int, old_root: bytes, size: int, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Tell whether a path proves that the tree of `size` leaves begins with that of `old` (RFC 9162 §2.1.4.2)."""
    if not 0 <= old <= size < SIZE_LIMIT or (size == 0 and new_root != EMPTY_ROOT):
        return False
    if old in (0, size):
        return not path and old_root == (new_root if old else EMPTY_ROOT)
    if not path:
        return False
    first, *rest = [old_root, *path] if old.bit_count() == 1 else path
    height = (old & -old).bit_length() - 1
    return _reached((old - 1) >> height, (size - 1) >> height, first, rest) == (old_root, new_root)


def _reached(place: int, last: int, digest: bytes, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """The roots that a path leads to from a node: of the tree that ends there, and of the one that ends at `last`.

    None if the path is too short or too long. Nodes are counted on their own level.
    """
    before = after = digest
    for sibling in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        place, last = place >> 1, last >> 1
    return None if last else (before, after)


def _left_leaves(leaves: int) -> int:
    """The largest power of two below a number of leaves above one."""
    return 1 << (leaves - 1).bit_length() - 1


def _range_hash(start: int, end: int, node: Node) -> bytes:
    """The hash of a subtree that may be incomplete at its right edge."""
    return _folded(node(height, index) for height, index in subtrees(start, end))


def _folded(peaks: Iterable[bytes]) -> bytes:
    """The hash over complete subtrees, the largest first."""
    return reduce(lambda right, left: node_hash(left, right), reversed(list(peaks)))
