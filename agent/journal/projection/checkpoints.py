"""Signed checkpoints of the log, and what the store and witnesses said of them."""

from __future__ import annotations

from agent.journal.codec import to_text
from agent.journal.projection.tables import Tables
from agent.model import CheckpointCosigned, CheckpointSigned, CheckpointStored

CheckpointEntry = CheckpointSigned | CheckpointStored | CheckpointCosigned


def apply_checkpoint(tables: Tables, seq: int, entry: CheckpointEntry) -> None:
    """Enter a checkpoint behind the one before, or what is news of one."""
    match entry:
        case CheckpointSigned(number, size, note):
            cursor = tables.db.execute(
                "INSERT INTO checkpoint SELECT ?1, ?2, ?3, ?4, NULL WHERE ?3 < ?2 AND (?1, 1) = ("
                "SELECT coalesce(max(number), 0) + 1, coalesce(max(size), 0) <= ?3 FROM checkpoint)",
                (number, seq, size, note),
            )
            tables.one(cursor, f"Checkpoint {number} of {size} events doesn't follow those before.")
        case CheckpointStored(number, receipt):
            statement = "UPDATE checkpoint SET receipt = ? WHERE number = ? AND receipt IS NULL"
            cursor = tables.db.execute(statement, (to_text(receipt), number))
            tables.one(cursor, f"Checkpoint {number} waits for no receipt.")
        case CheckpointCosigned(number, cosignatures):
            statement = "UPDATE checkpoint SET note = note || ? WHERE number = ?"
            cursor = tables.db.execute(statement, (cosignatures, number))
            tables.one(cursor, f"Checkpoint {number} is unknown.")
