"""What waits for the store, most urgent first: the next original to send, and the sums that a forecast needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

from agent.journal.connection import Connection
from agent.journal.projection.derived import BEHIND_ORIGINALS
from agent.journal.rows import ASSET_COLUMNS, asset_of, sortable
from agent.journal.views import Batch, DueAsset

# Equal content is never sent twice at the same time.
_READY: Final = (
    "blake3 NOT IN (SELECT blake3 FROM asset WHERE asset_id IN (SELECT value FROM json_each(?))) AND NOT EXISTS"
    " (SELECT 1 FROM attempt WHERE attempt.asset_id = asset.asset_id AND next_at > ? AND next_at <= ?)"
)
# All that is as urgent as another: due at the same time, and an original too, or nothing but what was said of one.
_AS_URGENT: Final = "state = 'held' AND alarm_at = ? AND (role <> 'original') = ?"
_DEVICES: Final = (
    f"WITH RECURSIVE device (id) AS (SELECT min(device_id) FROM asset WHERE {_AS_URGENT} UNION ALL"  # noqa: S608
    f" SELECT (SELECT min(device_id) FROM asset WHERE {_AS_URGENT} AND device_id > id)"
    " FROM device WHERE id IS NOT NULL)"
    f" SELECT id, (SELECT asset_id FROM asset WHERE {_AS_URGENT} AND device_id = id"
    f" AND {_READY} ORDER BY asset_id LIMIT 1) AS first"
    " FROM device WHERE id IS NOT NULL"
)
_COUNTED_ROWS: Final = 10_000
_BATCHES: Final = 200

Choice = Callable[[Iterable[str]], str]
"""Chooses one of several devices."""


def most_urgent(
    db: Connection,
    now: datetime,
    taken: Collection[str],
    before: datetime | None,
    longest_pause: timedelta,
    choose: Choice,
) -> DueAsset | None:
    """Return the next asset to store; of several recorders with equally urgent ones `choose` says which."""
    ready = json.dumps(sorted(taken)), sortable(now), sortable(now + longest_pause)
    query = (
        f"SELECT {ASSET_COLUMNS}, alarm_at, device_id FROM asset INDEXED BY asset_to_store"  # noqa: S608
        f" WHERE state = 'held' AND alarm_at < ? AND {_READY}"
        " ORDER BY alarm_at, role <> 'original', device_id, asset_id LIMIT 1"
    )
    row = db.one(query, sortable(before) if before is not None else "~", *ready)
    if row is None:
        return None
    tie = row[-2], row[2] != "original"
    equals = {
        device_id: asset_id
        for device_id, asset_id in db.all(_DEVICES, *tie, *tie, *tie, *ready)
        if asset_id is not None
    }
    chosen = equals.get(choose(equals)) if len(equals) > 1 else None
    if chosen is not None and chosen != row[0]:
        row = db.one(f"SELECT {ASSET_COLUMNS}, alarm_at, device_id FROM asset WHERE asset_id = ?", chosen) or row  # noqa: S608
    return DueAsset(asset_of(row), datetime.fromisoformat(row[-2]), row[-1])


def held_batches(db: Connection) -> tuple[Batch, ...]:
    """Return what is held and must be stored by due time, the most urgent first; at most 200 of the first 10,000."""
    return _batches(
        db,
        "SELECT alarm_at AS due, expected_bytes AS size FROM asset INDEXED BY asset_to_store"
        " WHERE state = 'held' AND alarm_at < ?"
        " ORDER BY alarm_at, role <> 'original', device_id, asset_id",
        BEHIND_ORIGINALS,
    )


def coming_batches(db: Connection, docking_id: str) -> tuple[Batch, ...]:
    """Return what an open docking still has to pull, likewise."""
    return _batches(
        db,
        "SELECT alarm_at AS due, bytes AS size FROM clip"
        " WHERE docking_id = ? AND mode = 'pull' AND outcome = 'pending' ORDER BY alarm_at, number",
        docking_id,
    )


def _batches(db: Connection, query: str, *values: object) -> tuple[Batch, ...]:
    together = f"SELECT due, count(*), sum(size) FROM ({query} LIMIT ?) GROUP BY due ORDER BY due LIMIT ?"  # noqa: S608
    rows = db.all(together, *values, _COUNTED_ROWS, _BATCHES)
    return tuple(Batch(datetime.fromisoformat(due), files, size_bytes) for due, files, size_bytes in rows)
