"""Queries of those who guard and mend the vault: what can come back from the store, and what was alarming."""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.journal.codec import decode
from agent.journal.connection import Connection
from agent.journal.rows import SELECT_ASSET, asset_of, sortable
from agent.model import DERIVED_ROLES, Acquired, Asset, AssetChanged


class GuardQueries:
    """The part of the reader that the guard asks."""

    _db: Connection

    def next_to_bring_back(self, now: datetime, longest_pause: timedelta) -> Asset | None:
        """Return the most urgent asset whose bytes are damaged here and stored; not what can be made again anyway.

        Nothing that failed waits longer than `longest_pause`: a time behind that was noted before the clock was set.
        """
        derived = ", ".join("?" * len(DERIVED_ROLES))
        row = self._db.one(
            f"{SELECT_ASSET} WHERE state = 'stuck' AND resume_to = 'wanted' AND receipt IS NOT NULL"  # noqa: S608
            f" AND (role NOT IN ({derived}) OR EXISTS (SELECT 1 FROM asset AS source"
            " WHERE source.recording_id = asset.recording_id AND source.role = 'original'"
            " AND source.state = 'released')) AND NOT EXISTS (SELECT 1 FROM attempt"
            " WHERE attempt.asset_id = asset.asset_id AND next_at > ? AND next_at <= ?) ORDER BY alarm_at LIMIT 1",
            *DERIVED_ROLES,
            sortable(now),
            sortable(now + longest_pause),
        )
        return None if row is None else asset_of(row)

    def acquired(self, asset_id: str) -> Acquired | None:
        """Return how an asset was last taken in; None if it was found in the vault."""
        query = "SELECT kind, detail FROM event WHERE subject = ? AND kind = 'acquired' ORDER BY seq DESC LIMIT 1"
        row = self._db.one(query, asset_id)
        entry = decode(*row) if row is not None else None
        return entry.event if isinstance(entry, AssetChanged) and isinstance(entry.event, Acquired) else None
