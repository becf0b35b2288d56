"""The Merkle tree over all events: what of it is kept with each commit, and how any part of it is found again.

Leaf number `seq - 1` is what the chain hash of event `seq` covers behind the hash before. Kept are the roots of
complete subtrees of 256, 65,536 … leaves; whatever lies between is computed from at most 255 rows.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Final

from agent.journal.codec import leaf
from agent.tlog.tree import HASH_BYTES, Frontier, leaf_hash, node_hash, subtrees

TREE: Final = """
    CREATE TABLE tree (
        height INTEGER NOT NULL,
        number INTEGER NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        PRIMARY KEY (height, number)
    ) STRICT, WITHOUT ROWID
"""
"""Row `number` of `height` is the root over the `1 << height` events behind event `number << height`."""

STEP: Final = 8
"""Rows are kept of each so many levels."""

_EACH: Final = (1 << STEP) - 1
_LOST: Final = bytes(HASH_BYTES)
"""What stands for events that are missing: no proof of them holds, and the others keep their places."""

_LEAVES: Final = (
    "SELECT seq, CAST(at AS BLOB), CAST(kind AS BLOB), CAST(subject AS BLOB), CAST(detail AS BLOB) FROM event"
)

Ask = Callable[..., list[tuple[Any, ...]]]


class Growth:
    """The tree of one writing connection, inside the caller's transaction; `frontier` goes back with a refused job."""

    def __init__(self, db: sqlite3.Connection, frontier: Frontier) -> None:
        self._db = db
        self.frontier = frontier

    def append(self, seq: int, content: bytes) -> None:
        """Event `seq` has this leaf; events that were left out before it count as lost."""
        if seq != self.frontier.size + 1:
            if seq <= self.frontier.size:
                return
            for height, _ in subtrees(self.frontier.size, seq - 1):
                self.frontier = self.frontier.plus(_LOST, height)
        digest = leaf_hash(content)
        if not seq & _EACH:
            kept = [row for row in self.frontier.completed(digest) if row[0] and row[0] % STEP == 0]
            rows = [(height, (seq >> height) - 1, found) for height, found in kept]
            self._db.executemany("INSERT INTO tree VALUES (?, ?, ?)", rows)
        self.frontier = self.frontier.plus(digest)


class Nodes:
    """The hashes of complete subtrees, from what is kept; a row that was lost is computed again from those below."""

    def __init__(self, ask: Ask) -> None:
        """`ask` runs a query with its values and returns all rows."""
        self._ask = ask

    def __call__(self, height: int, index: int) -> bytes:
        """Return the hash of a subtree all of whose events are there."""
        base = height - height % STEP
        first, count = index << height - base, 1 << height - base
        hashes = self._rows(base, first, count) if base else self._leaves(first, count)
        while len(hashes) > 1:
            hashes = [node_hash(left, right) for left, right in zip(hashes[::2], hashes[1::2], strict=True)]
        return hashes[0]

    def content(self, seq: int) -> bytes:
        """Return the leaf of an event that is there."""
        ((_, *texts),) = self._ask(f"{_LEAVES} WHERE seq = ?", seq)
        return _leaf(seq, *texts)

    def _rows(self, height: int, first: int, count: int) -> list[bytes]:
        query = "SELECT number, hash FROM tree WHERE height = ? AND number >= ? AND number < ?"
        rows: dict[int, bytes] = dict(self._ask(query, height, first, first + count))
        return [rows.get(number) or self._below(height, number) for number in range(first, first + count)]

    def _below(self, height: int, index: int) -> bytes:
        return node_hash(self(height - 1, 2 * index), self(height - 1, 2 * index + 1))

    def _leaves(self, first: int, count: int) -> list[bytes]:
        rows = self._ask(f"{_LEAVES} WHERE seq > ? AND seq <= ?", first, first + count)
        hashes = {seq - 1: leaf_hash(_leaf(seq, *texts)) for seq, *texts in rows}
        return [hashes.get(number, _LOST) for number in range(first, first + count)]


def frontier_of(db: sqlite3.Connection, size: int) -> Frontier:
    """Return the frontier of the first `size` events."""
    nodes = Nodes(lambda query, *values: db.execute(query, values).fetchall())
    return Frontier(size, tuple(nodes(height, index) for height, index in subtrees(0, size)))


def plant(db: sqlite3.Connection) -> None:
    """Fill the table of a journal that was written without it, whatever state its events are in."""
    growth = Growth(db, Frontier())
    for seq, *texts in db.execute(f"{_LEAVES} ORDER BY seq"):
        growth.append(seq, _leaf(seq, *texts))


def _leaf(seq: int, at: bytes, kind: bytes, subject: bytes, detail: bytes) -> bytes:
    """The leaf of a stored event; damaged text must be hashed, not stop anybody."""
    return leaf(seq, *(text.decode("utf-8", "surrogateescape") for text in (at, kind, subject, detail)))
