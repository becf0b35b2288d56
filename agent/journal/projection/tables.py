"""What every event's meaning is written with: rows of the evidence tables, and counts that wait for the job's end."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from agent.errors import JournalError
from agent.journal.rows import ASSET_COLUMNS, asset_of, sortable
from agent.model import Asset, Basis, Deadline

UNCHANGED: Final = "Nothing was changed."


class Tables:
    """The evidence tables of one connection. Counters are collected by `counted`, per event, by (scope, name)."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.counted: list[tuple[str, str, int, int]] = []

    def asset(self, asset_id: str) -> Asset:
        """Return an asset; raises JournalError if there is none."""
        return asset_of(self.asset_row(asset_id, ASSET_COLUMNS))

    def asset_row(self, asset_id: str, columns: str) -> tuple[Any, ...]:
        """Return columns of an asset; raises JournalError if there is none."""
        query = f"SELECT {columns} FROM asset WHERE asset_id = ?"  # noqa: S608  names of our own columns
        row: tuple[Any, ...] | None = self.db.execute(query, (asset_id,)).fetchone()
        if row is None:
            raise JournalError(f"Asset {asset_id} is unknown.", safe=UNCHANGED)
        return row

    def one(self, cursor: sqlite3.Cursor, otherwise: str) -> None:
        """Exactly one row must have been changed."""
        if cursor.rowcount != 1:
            raise JournalError(otherwise, safe=UNCHANGED)

    def count(self, scope: str, name: str, files: int, size_bytes: int) -> None:
        """Add to a counter when the job is complete."""
        self.counted.append((scope, name, files, size_bytes))


def limit_columns(limit: Deadline) -> tuple[str, str | None]:
    """Return alarm_at and late_at."""
    return sortable(limit.alarm_at), sortable(limit.due_at) if limit.basis is Basis.OFFICIAL else None
