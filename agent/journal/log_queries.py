"""Queries of the custody log: how long it is, its root, and what proves an event of it or its growth."""

from __future__ import annotations

from agent.errors import JournalError
from agent.journal.connection import Connection
from agent.journal.tree import Nodes
from agent.tlog import tree


class LogQueries:
    """The part of the reader that answers from the Merkle tree over all events (RFC 9162 §2.1).

    A tree is named by its size, the number of events it covers from the first on. What was changed in the file behind
    the agent's back gives proofs that don't hold: whoever signs or hands them out checks them first.
    """

    _db: Connection

    def log_size(self) -> int:
        """Return how many events there are."""
        rows = self._db.all("SELECT max(seq) FROM event")
        return int(rows[0][0] or 0)

    def log_root(self, size: int) -> bytes:
        """Return the root hash of the first `size` events; raises JournalError if there aren't as many."""
        with self._db.snapshot():
            self._require(0, size)
            return tree.root(size, Nodes(self._db.all))

    def log_leaf(self, seq: int) -> bytes:
        """Return the bytes that event `seq` is hashed as; raises JournalError if there is no such event."""
        with self._db.snapshot():
            self._require(1, seq)
            return Nodes(self._db.all).content(seq)

    def inclusion(self, seq: int, size: int) -> list[bytes]:
        """Return what proves that event `seq` is one of the first `size`; raises JournalError if it isn't."""
        with self._db.snapshot():
            self._require(1, seq, size)
            return tree.inclusion(seq - 1, size, Nodes(self._db.all))

    def consistency(self, old: int, size: int) -> list[bytes]:
        """Return what proves that the first `size` events begin with the first `old`; raises JournalError as above."""
        with self._db.snapshot():
            self._require(0, old, size)
            return tree.consistency(old, size, Nodes(self._db.all))

    def _require(self, lowest: int, *rising: int) -> None:
        size = self.log_size()
        if list(rising) != sorted(rising) or rising[0] < lowest or rising[-1] > size:
            asked = " of ".join(map(str, rising))
            raise JournalError(f"The log has {size} events: {asked} can't be proved.", do="Ask for what is there.")
