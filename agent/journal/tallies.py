"""The counters: collected while events are applied, and added to the table once per job."""

from __future__ import annotations

import sqlite3


class Tallies:
    """Changes of (scope, name) counters, in files and bytes.

    What an event changes counts only after `keep`; what a job's events changed is in the table only after `flush`.
    A counter that was touched has a row, even if that is zero, so that a replay gives the same rows.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._of_event: list[tuple[str, str, int, int]] = []
        self._kept: dict[tuple[str, str], tuple[int, int]] = {}

    def add(self, scope: str, name: str, files: int, size_bytes: int) -> None:
        """Change one counter."""
        self._of_event.append((scope, name, files, size_bytes))

    def keep(self) -> None:
        """The event was applied."""
        for scope, name, files, size_bytes in self._of_event:
            before = self._kept.get((scope, name), (0, 0))
            self._kept[scope, name] = before[0] + files, before[1] + size_bytes
        self._of_event.clear()

    def forget_event(self) -> None:
        """The event was refused."""
        self._of_event.clear()

    def forget_all(self) -> None:
        """The job was refused."""
        self._of_event.clear()
        self._kept.clear()

    def flush(self) -> None:
        """The job is complete: add its changes to the table."""
        self._db.executemany(
            "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET files = files + excluded.files, bytes = bytes + excluded.bytes",
            [(*key, *change) for key, change in self._kept.items()],
        )
        self._kept.clear()
