"""The writing connection: appends events to the chain, projects them, and commits groups of jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from agent.errors import AgentError, JournalError
from agent.journal.codec import FIRST_LINK, Encoded, link
from agent.journal.projection import Projection
from agent.journal.rows import sortable
from agent.journal.schema import connect, migrate
from agent.model import Acquired, AssetChanged, Clock, Matched

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
        except JournalError:
            self.db.close()
            raise
        self._projection = Projection(self.db)

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
            digest = link(self._head[1], seq, at, kind, subject, detail)
            self.db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", (seq, at, kind, subject, detail, digest))
            self._projection.apply(seq, at, entry)
            if isinstance(entry, AssetChanged):
                self._drop_notes(entry)
            self._head = (seq, digest)
        return list(range(first, self._head[0] + 1))

    def _run(self, job: Job) -> list[int] | AgentError:
        head = self._head
        self.db.execute("SAVEPOINT job")
        try:
            result: list[int] | AgentError = job(self)
            self._projection.tallies.flush()
        except (AgentError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
            self.db.execute("ROLLBACK TO job")
            self._projection.tallies.forget_all()
            self._head = head
            result = error if isinstance(error, AgentError) else _contradiction(error)
        self.db.execute("RELEASE job")
        return result

    def drop_part(self, asset_id: str) -> None:
        """Forget the blocks and the settled note of an asset's part."""
        self.db.execute("DELETE FROM block WHERE asset_id = ?", (asset_id,))
        self.db.execute("DELETE FROM settled WHERE asset_id = ?", (asset_id,))

    def _drop_notes(self, entry: AssetChanged) -> None:
        """A change of state ends the attempts; the part is noted until the asset is held or not wanted."""
        self.db.execute("DELETE FROM attempt WHERE asset_id = ?", (entry.asset_id,))
        if isinstance(entry.event, Acquired | Matched):
            self.drop_part(entry.asset_id)

    def _read_head(self) -> tuple[int, bytes]:
        row = self.db.execute("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        return (row[0], row[1]) if row else (0, FIRST_LINK)


def _contradiction(error: Exception) -> JournalError:
    return JournalError(f"The entry contradicts the journal: {error}.", safe="Nothing was changed.")
