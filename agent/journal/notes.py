"""Notes of work under way: attempts, durable blocks of a pull, settled parts; durable, but never evidence."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from agent.journal.log import Job, Log
from agent.journal.rows import holes_text, sortable, storable
from agent.journal.views import DurableBlock
from agent.model import Extent
from agent.vault import Settled


def begun(asset_ids: Sequence[str]) -> Job:
    """Count one more attempt for each asset; gives, in order, how many began since the asset last changed."""

    def job(log: Log) -> list[int]:
        statement = (
            "INSERT INTO attempt VALUES (?, 1, 0, '', '') ON CONFLICT DO UPDATE SET begun = begun + 1 RETURNING begun"
        )
        return [count for asset_id in asset_ids for (count,) in log.db.execute(statement, (asset_id,)).fetchall()]

    return job


def failed(asset_id: str, error: str, next_at: datetime) -> Job:
    """Note that an attempt failed and when the next may begin; gives how many failed since the asset last changed."""

    def job(log: Log) -> list[int]:
        statement = (
            "INSERT INTO attempt VALUES (?1, 1, 1, ?2, ?3)"
            " ON CONFLICT DO UPDATE SET failed = failed + 1, next_at = ?2, last_error = ?3 RETURNING failed"
        )
        row = (asset_id, sortable(next_at), storable(error))
        return [count for (count,) in log.db.execute(statement, row).fetchall()]

    return job


def block(asset_id: str, done: DurableBlock) -> Job:
    """Note that a block of a part is durable; blocks noted behind it are void, since a part grows in order."""

    def job(log: Log) -> list[int]:
        log.db.execute("DELETE FROM block WHERE asset_id = ? AND number >= ?", (asset_id, done.index))
        row = (asset_id, done.index, done.size_bytes, done.blake3, holes_text(done.holes))
        log.db.execute("INSERT INTO block VALUES (?, ?, ?, ?, ?)", row)
        return []

    return job


def settled(parts: Sequence[tuple[Settled, tuple[Extent, ...]]]) -> Job:
    """Note parts, and their holes, that were read back and are about to be renamed."""

    def job(log: Log) -> list[int]:
        rows = [
            (part.asset_id, part.size_bytes, part.digests.blake3, part.digests.sha256, holes_text(holes))
            for part, holes in parts
        ]
        log.db.executemany("INSERT OR REPLACE INTO settled VALUES (?, ?, ?, ?, ?)", rows)
        return []

    return job


def unsettled(asset_id: str) -> Job:
    """Drop what was noted about the part of an asset: it is void, and the pull starts over."""

    def job(log: Log) -> list[int]:
        log.drop_part(asset_id)
        return []

    return job
