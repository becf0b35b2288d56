"""The reading connection: read-only, usable from any thread, one query at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.errors import AwayError, JournalError, UnknownError
from agent.journal.schema import MIGRATIONS, connect, version_of


class Connection:
    """Sees what is committed; raises JournalError if the file is missing, foreign, broken or of another version."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db = connect(path, write=False)
        self._lock = threading.RLock()
        self._in_snapshot = False
        if version_of(self._db, path) != len(MIGRATIONS):
            self._db.close()
            raise JournalError(f"The journal {path} is of an older version.", do="Start the service once.")

    def close(self) -> None:
        """Close; idempotent."""
        with self._lock:
            self._db.close()

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries inside see the same state of the journal, those of snapshots inside too."""
        with self._lock:
            if self._in_snapshot:
                yield
                return
            self.all("BEGIN")
            self._in_snapshot = True
            try:
                yield
            finally:
                self._in_snapshot = False
                self.all("COMMIT")

    def all(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Return all rows of a query."""
        try:
            with self._lock:
                return self._db.execute(query, values).fetchall()
        except UnicodeEncodeError as error:  # a lone surrogate, as from a command line in another encoding
            raise UnknownError("There is nothing of such a name.", do="Check it; the status shows names.") from error
        except sqlite3.Error as error:
            raise AwayError(
                f"The journal {self._path} can't be read: {error}.",
                safe="Nothing was changed.",
                do="Check the disk; `capture-agent verify` tells what is damaged.",
            ) from error

    def one(self, query: str, *values: object) -> tuple[Any, ...] | None:
        """Return the first row of a query."""
        rows = self.all(query, *values)
        return rows[0] if rows else None
