"""Recorders that are handed out and come back."""

from __future__ import annotations

from agent.errors import JournalError
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.journal.rows import SELECT_STANDING, standing_of, standing_row
from agent.model import DeviceIssued, DeviceReturned
from agent.register import step

CustodyEntry = DeviceIssued | DeviceReturned


def apply_custody(tables: Tables, entry: CustodyEntry) -> None:
    """Take the recorder one step on, by the rules of `register.step`."""
    if isinstance(entry, DeviceReturned) and entry.docking_id:
        _check_all_taken_over(tables, entry.docking_id)
    row = tables.db.execute(SELECT_STANDING + " WHERE recorder_id = ?", (entry.recorder_id,)).fetchone()
    standing = step(standing_of(row) if row else None, entry)
    tables.db.execute("INSERT OR REPLACE INTO custody VALUES (?, ?, ?, ?, ?, ?)", standing_row(standing))


def _check_all_taken_over(tables: Tables, docking_id: str) -> None:
    """Only a docking that was listed to the end and left nothing behind ends the wait for a recorder."""
    row = tables.db.execute(
        "SELECT 1 FROM docking WHERE docking_id = ?1 AND listed_at IS NOT NULL AND reason = 'complete'"
        " AND NOT EXISTS (SELECT 1 FROM clip WHERE docking_id = ?1 AND outcome NOT IN ('pulled', 'already_held'))",
        (docking_id,),
    ).fetchone()
    if row is None:
        raise JournalError(f"Docking {docking_id} didn't take over all that was there.", safe=UNCHANGED)
