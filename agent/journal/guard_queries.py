"""Queries of those who guard and mend the vault: what can come back from the store, and what was alarming."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from agent.journal.codec import decode
from agent.journal.connection import Connection
from agent.journal.rows import SELECT_ASSET, asset_of, sortable
from agent.model import DERIVED_ROLES, Acquired, Asset, AssetChanged

TAMPERED: Final = "tampered"
EXAMINED: Final = "tampering-examined"


class Alarm(NamedTuple):
    """An incident of the kind TAMPERED, or EXAMINED by a person."""

    at: datetime
    kind: str
    detail: Mapping[str, Any]


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

    def alarms(self, after_seq: int = 0) -> tuple[list[Alarm], int]:
        """Return what was found changed by others, and that a person examined it, behind an event; and the last event.

        Oldest first.
        """
        newest = self._db.one("SELECT coalesce(max(seq), 0) FROM event")
        last = int(newest[0]) if newest is not None else 0
        rows = self._db.all(
            "SELECT at, json_extract(detail, '$.kind') AS told, json_extract(detail, '$.detail') FROM event"
            " INDEXED BY event_incident WHERE kind = 'incident' AND seq > ? AND seq <= ? AND told IN (?, ?)"
            " ORDER BY seq",
            after_seq,
            last,
            TAMPERED,
            EXAMINED,
        )
        found = [Alarm(datetime.fromisoformat(at), kind, json.loads(detail)) for at, kind, detail in rows]
        return found, last

    def acquired(self, asset_id: str) -> Acquired | None:
        """Return how an asset was last taken in; None if it was found in the vault."""
        told = "SELECT kind, detail FROM event WHERE subject = ? AND subject <> ''"
        query = f"{told} AND kind = 'acquired' ORDER BY seq DESC LIMIT 1"
        row = self._db.one(query, asset_id)
        entry = decode(*row) if row is not None else None
        return entry.event if isinstance(entry, AssetChanged) and isinstance(entry.event, Acquired) else None


def open_alarms(alarms: Sequence[Alarm]) -> list[Alarm]:
    """Return those that nobody has examined yet, of alarms in their order."""
    last = max((place for place, alarm in enumerate(alarms) if alarm.kind == EXAMINED), default=-1)
    return list(alarms[last + 1 :])
