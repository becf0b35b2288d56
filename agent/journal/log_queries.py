"""Queries of the custody log: how long it is, its root, what proves an event of it or its growth, and who signed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from agent.errors import JournalError
from agent.journal.codec import KEY, from_text
from agent.journal.connection import Connection
from agent.journal.rows import sortable
from agent.journal.tree import Nodes
from agent.journal.views import AnnouncedKey, CheckpointView, IncidentView
from agent.model import CheckpointWitnessed, Incident, KeyRotated, Receipt
from agent.tlog import tree
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Algorithm, Ed25519Verifier, Key, Verifier
from agent.tlog.note import Note
from agent.tlog.proof import Proof


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

    # Signed checkpoints and the keys that sign them.

    def newest_checkpoint(self) -> CheckpointView | None:
        """Return the checkpoint that was signed last; None before the first."""
        return self._checkpoint("TRUE ORDER BY number DESC")

    def checkpoint(self, number: int) -> CheckpointView | None:
        """Return the checkpoint of a number."""
        return self._checkpoint("number = ?", number)

    def checkpoint_over(self, seq: int) -> CheckpointView | None:
        """Return the first checkpoint that covers event `seq`; None as long as there is none."""
        return self._checkpoint("size >= ? ORDER BY size, number", seq)

    def checkpoint_to_store(self, after: int = 0) -> CheckpointView | None:
        """Return the oldest checkpoint behind number `after` that no store has proved to have."""
        return self._checkpoint("receipt IS NULL AND number > ? ORDER BY number", after)

    def checkpoints(self, after: int = 0, limit: int = 100) -> tuple[CheckpointView, ...]:
        """Return the checkpoints behind number `after`, oldest first."""
        return self._checkpoints("number > ? ORDER BY number LIMIT ?", after, limit)

    def proof(self, seq: int) -> Proof | None:
        """Return the proof that event `seq` is in the log; None as long as no signed checkpoint covers it.

        Raises JournalError or NoteError if there is no such event, or what is in the file doesn't prove it.
        """
        with self._db.snapshot():
            leaf = self.log_leaf(seq)
            view = self.checkpoint_over(seq)
            if view is None:
                return None
            note = Note.parse(view.note.encode())
            proof = Proof(seq - 1, tuple(self.inclusion(seq, view.size)), note)
        root = Checkpoint.parse(note.text).root
        if not tree.includes(tree.leaf_hash(leaf), proof.index, view.size, proof.path, root):
            raise JournalError(
                f"Event {seq} isn't what checkpoint {view.number} was signed over.",
                safe="Nothing was changed.",
                do="Run `capture-agent verify`: somebody changed the journal.",
            )
        return proof

    def announced_keys(self) -> tuple[AnnouncedKey, ...]:
        """Return every key that this station said to sign with, each once, oldest first."""
        announced = self._db.all(
            "SELECT min(seq), json_extract(detail, '$.detail.public') AS public FROM event INDEXED BY event_incident"
            " WHERE kind = 'incident' AND json_extract(detail, '$.kind') = 'signing-key' GROUP BY public"
        )
        first = {public: AnnouncedKey(seq, public, None) for seq, public in announced}
        rows = self._db.all(
            "SELECT seq, detail FROM event WHERE subject = ? AND subject <> '' AND kind = 'key_rotated'", KEY
        )
        rotations = [(seq, from_text(KeyRotated, detail)) for seq, detail in rows]
        rotated = {rotation.new: AnnouncedKey(seq, rotation.new, rotation) for seq, rotation in rotations}
        return tuple(sorted({**first, **rotated}.values(), key=lambda key: key.seq))

    def objections(self, kind: str) -> dict[int, datetime]:
        """Return the numbers of checkpoints to which somebody objected by this kind of incident, and when first."""
        rows = self._db.all(
            "SELECT json_extract(detail, '$.detail.number') AS number, min(at) FROM event INDEXED BY event_incident"
            " WHERE kind = 'incident' AND json_extract(detail, '$.kind') = ? GROUP BY number",
            kind,
        )
        return {number: datetime.fromisoformat(at) for number, at in rows}

    def verifiers(self, origin: str) -> tuple[Verifier, ...]:
        """Return what verifies our signatures under a name: all keys that the log ever told of, old ones too."""
        keys = (Key(origin, Algorithm.ED25519, bytes.fromhex(key.public)) for key in self.announced_keys())
        return tuple(map(Ed25519Verifier, keys))

    def last_incident(self, kind: str) -> IncidentView | None:
        """Return the newest incident of a kind."""
        row = self._db.one(
            "SELECT seq, at, detail FROM event INDEXED BY event_incident"
            " WHERE kind = 'incident' AND json_extract(detail, '$.kind') = ? ORDER BY seq DESC LIMIT 1",
            kind,
        )
        return IncidentView(row[0], datetime.fromisoformat(row[1]), from_text(Incident, row[2]).detail) if row else None

    def incidents_of(self, kind: str, since: datetime, limit: int) -> tuple[IncidentView, ...]:
        """Return the incidents of a kind that were entered at that time or later, newest first."""
        rows = self._db.all(
            "SELECT seq, at, detail FROM event INDEXED BY event_incident WHERE kind = 'incident'"
            " AND json_extract(detail, '$.kind') = ? AND at >= ? ORDER BY seq DESC LIMIT ?",
            kind,
            sortable(since),
            limit,
        )
        return tuple(
            IncidentView(seq, datetime.fromisoformat(at), from_text(Incident, text).detail) for seq, at, text in rows
        )

    def witnessed(self, origin: str) -> CheckpointWitnessed | None:
        """Return the newest checkpoint of another log that this station cosigned."""
        row = self._db.one(
            "SELECT detail FROM event WHERE subject = ? AND subject <> '' AND kind = 'checkpoint_witnessed'"
            " ORDER BY seq DESC LIMIT 1",
            origin,
        )
        return from_text(CheckpointWitnessed, row[0]) if row else None

    def _checkpoint(self, where: str, *values: object) -> CheckpointView | None:
        return next(iter(self._checkpoints(f"{where} LIMIT 1", *values)), None)

    def _checkpoints(self, where: str, *values: object) -> tuple[CheckpointView, ...]:
        columns = "number, seq, size, note, coalesce(json_extract(detail, '$.note'), ''), receipt"
        rows = self._db.all(f"SELECT {columns} FROM checkpoint LEFT JOIN event USING (seq) WHERE {where}", *values)  # noqa: S608
        return tuple(map(_view, rows))

    def _require(self, lowest: int, *rising: int) -> None:
        size = self.log_size()
        if list(rising) != sorted(rising) or rising[0] < lowest or rising[-1] > size:
            asked = " of ".join(map(str, rising))
            raise JournalError(f"The log has {size} events: {asked} can't be proved.", do="Ask for what is there.")


def _view(row: tuple[Any, ...]) -> CheckpointView:
    number, seq, size, note, signed, receipt = row
    return CheckpointView(number, seq, size, note, signed, from_text(Receipt, receipt) if receipt is not None else None)
