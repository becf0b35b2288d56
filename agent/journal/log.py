"""The writing connection: appends events to the chain, projects them, and commits groups of jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from agent.errors import AgentError, JournalError
from agent.journal.codec import FIRST_LINK, Encoded, leaf, link
from agent.journal.ids import deriving, sealing
from agent.journal.projection import Projection
from agent.journal.rows import holes_text, sortable, storable
from agent.journal.schema import connect, migrate
from agent.journal.tree import Growth, frontier_of
from agent.journal.views import DurableBlock
from agent.model import (
    Acquired,
    AssetChanged,
    Clock,
    Confirmed,
    DeriveAsked,
    Derived,
    DocumentAdded,
    Extent,
    Matched,
    Sealing,
    Stamping,
)
from agent.vault import Settled

Job = Callable[["Log"], list[int]]
"""Work inside the group's transaction; its result is what the caller gets after the commit."""


class Log:
    """One connection, used by one thread. After a sqlite3.Error from `commit`, close it and open another."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open, create or migrate the journal at `path`; raises JournalError."""
        self._clock = clock
        self.db = connect(path, write=True)
        try:
            migrate(self.db, path)
            self._head = self._read_head()
            self._tree = Growth(self.db, frontier_of(self.db, self._head[0]))
        except JournalError:
            self.db.close()
            raise
        self._projection = Projection(self.db)
        self._version = self._data_version()
        self.changes = 0
        """Rows that jobs have changed, refused ones not counted: a commit of none asks nothing of the disk."""

    def written_by_others(self) -> list[int]:
        """[1] if another connection has committed something since the last call: nobody but us ever does."""
        before, self._version = self._version, self._data_version()
        return [int(before != self._version)]

    def _data_version(self) -> int:
        """See https://sqlite.org/pragma.html#pragma_data_version: our own commits leave it as it is."""
        return int(self.db.execute("PRAGMA data_version").fetchone()[0])

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""
        self.db.close()

    def commit(self, jobs: Sequence[Job]) -> list[list[int] | AgentError]:
        """Run the jobs in one transaction and return, in order, each one's result or why it was refused.

        A refused job leaves nothing behind and doesn't touch the others. Durable when it returns.

        Raises:
            sqlite3.Error: nothing of the group was committed (full disk, I/O error).
        """
        self.db.execute("BEGIN IMMEDIATE")
        results = [self._run(job) for job in jobs]
        self.db.execute("COMMIT")
        return results

    def append(self, entries: Sequence[Encoded]) -> list[int]:
        """Append and project the entries of one job; returns the sequence numbers of the events."""
        at = sortable(self._clock())
        first = self._head[0] + 1
        for kind, subject, detail, entry in entries:
            seq = self._head[0] + 1
            content = leaf(seq, at, kind, subject, detail)
            digest = link(self._head[1], content)
            self.db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", (seq, at, kind, subject, detail, digest))
            self._tree.append(seq, content)
            self._projection.apply(seq, at, entry)
            if isinstance(entry, AssetChanged):
                self._drop_notes(entry)
            elif isinstance(entry, Derived | DeriveAsked):
                self.db.execute("DELETE FROM attempt WHERE asset_id = ?", (deriving(entry.asset_id),))
            elif isinstance(entry, DocumentAdded) and isinstance(entry.said, Sealing | Stamping):
                done = entry.said.manifest if isinstance(entry.said, Stamping) else entry.asset.recording_id
                self.db.execute("DELETE FROM attempt WHERE asset_id = ?", (sealing(done),))
            self._head = (seq, digest)
        return list(range(first, self._head[0] + 1))

    # Notes of work under way: durable, but never evidence. `Journal` tells what they are for.

    def begun(self, asset_ids: Sequence[str]) -> list[int]:
        """Count one more attempt for each asset; returns, in order, how many began since the asset last changed."""
        statement = (
            "INSERT INTO attempt VALUES (?, 1, 0, '', '') ON CONFLICT DO UPDATE SET begun = begun + 1 RETURNING begun"
        )
        return [self.db.execute(statement, (asset_id,)).fetchall()[0][0] for asset_id in asset_ids]

    def failed(self, asset_id: str, error: str, next_at: datetime) -> list[int]:
        """Note that an attempt failed; returns how many failed since the asset last changed."""
        statement = (
            "INSERT INTO attempt VALUES (?1, 1, 1, ?2, ?3)"
            " ON CONFLICT DO UPDATE SET failed = failed + 1, next_at = ?2, last_error = ?3 RETURNING failed"
        )
        return [*self.db.execute(statement, (asset_id, sortable(next_at), storable(error))).fetchall()[0]]

    def block(self, asset_id: str, block: DurableBlock) -> list[int]:
        """Note that a block of a part is durable; those behind it are void, since a part grows in order."""
        self.db.execute("DELETE FROM block WHERE asset_id = ? AND number >= ?", (asset_id, block.index))
        row = (asset_id, block.index, block.size_bytes, block.blake3, holes_text(block.holes))
        self.db.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?)", row)
        return []

    def settled(self, parts: Sequence[tuple[Settled, tuple[Extent, ...]]]) -> list[int]:
        """Note parts, and their holes, that were read back."""
        rows = [
            (part.asset_id, part.size_bytes, part.digests.blake3, part.digests.sha256, holes_text(holes))
            for part, holes in parts
        ]
        self.db.executemany("INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?, ?)", rows)
        return []

    def unsettled(self, asset_id: str) -> list[int]:
        """Drop what was noted about the part of an asset."""
        self.db.execute("DELETE FROM block WHERE asset_id = ?", (asset_id,))
        self.db.execute("DELETE FROM settled WHERE asset_id = ?", (asset_id,))
        return []

    def note(self, subject: str, notes: Mapping[str, str], *, anew: bool) -> list[int]:
        """Write notes on a subject; an attempt that has something new to note was not in vain."""
        if anew:
            self.db.execute("DELETE FROM note WHERE subject = ?", (subject,))
        rows = [(subject, name, value) for name, value in notes.items()]
        self.db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?, ?)", rows)
        self.db.execute("UPDATE attempt SET begun = failed + 1 WHERE asset_id = ?", (subject,))
        return []

    def _drop_notes(self, entry: AssetChanged) -> None:
        """A change of state ends the attempts; a part is noted until held or not wanted, an upload until stored."""
        self.db.execute("DELETE FROM attempt WHERE asset_id = ?", (entry.asset_id,))
        if isinstance(entry.event, Acquired | Matched):
            self.unsettled(entry.asset_id)
        if isinstance(entry.event, Confirmed):
            self.db.execute("DELETE FROM note WHERE subject = ?", (entry.asset_id,))

    def _run(self, job: Job) -> list[int] | AgentError:
        head, frontier, before = self._head, self._tree.frontier, self.db.total_changes
        self.db.execute("SAVEPOINT job")
        try:
            result: list[int] | AgentError = job(self)
            self._projection.flush()
            self.changes += self.db.total_changes - before
        except (AgentError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
            self.db.execute("ROLLBACK TO job")
            self._projection.forget()
            self._head, self._tree.frontier = head, frontier
            result = error if isinstance(error, AgentError) else _contradiction(error)
        self.db.execute("RELEASE job")
        return result

    def _read_head(self) -> tuple[int, bytes]:
        row = self.db.execute("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, FIRST_LINK)


def _contradiction(error: Exception) -> JournalError:
    return JournalError(f"The entry contradicts the journal: {error}.", safe="Nothing was changed.")
