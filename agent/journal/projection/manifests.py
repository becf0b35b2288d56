"""Which recordings need a manifest, and which is their newest: one row each, from when their original is held."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Final

from agent.errors import AgentError, JournalError
from agent.journal.codec import decode
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.model import (
    SEAL_ROLES,
    Acquired,
    ActivityEnded,
    Adopted,
    Asset,
    AssetChanged,
    AssetState,
    Blocked,
    Checked,
    Damaged,
    DeadlineRecomputed,
    DocumentAdded,
    EventDeclared,
    JournalEntry,
    Lost,
    Matched,
    Probed,
    Role,
    Sealing,
    Stamping,
    TimeStated,
)

MANIFESTS: Final = (
    # `touched_at`: since when the newest manifest, if there is one, doesn't say all; null: it does.
    """
    CREATE TABLE manifest (
        recording_id TEXT PRIMARY KEY REFERENCES recording,
        touched_seq INTEGER NOT NULL,
        touched_at TEXT,
        number INTEGER NOT NULL DEFAULT 0,
        asset_id TEXT REFERENCES asset,
        stamp_id TEXT REFERENCES asset
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX manifest_to_make ON manifest (touched_at, recording_id) WHERE touched_at IS NOT NULL",
    "CREATE INDEX manifest_to_stamp ON manifest (asset_id) WHERE asset_id IS NOT NULL AND stamp_id IS NULL",
)

_OfOriginal = TimeStated | EventDeclared | DeadlineRecomputed | ActivityEnded | Probed
_KINDS: Final = (
    "'acquired', 'matched', 'adopted', 'document_added', 'checked', 'time_stated', 'event_declared',"
    " 'deadline_recomputed', 'activity_ended', 'probed'"
)


def touch(tables: Tables, seq: int, at: str, entry: JournalEntry) -> None:
    """The manifests of recordings of which event `seq` says something new don't say all any more."""
    for recording_id in _touched(tables, entry):
        tables.db.execute(
            "INSERT INTO manifest (recording_id, touched_seq, touched_at) SELECT recording_id, ?, ? FROM asset"
            " WHERE recording_id = ? AND role = 'original' AND (held_at IS NOT NULL OR state = 'matched')"
            " ON CONFLICT DO UPDATE SET touched_seq = excluded.touched_seq, touched_at = excluded.touched_at",
            (seq, at, recording_id),
        )


def touch_all(db: sqlite3.Connection) -> None:
    """Fill the table of a journal that was written without manifests; what is damaged in it touches nothing."""
    tables = Tables(db)
    query = f"SELECT seq, at, kind, detail FROM event WHERE kind IN ({_KINDS}) ORDER BY seq"  # noqa: S608
    for seq, at, kind, detail in db.execute(query):
        try:
            touch(tables, seq, at, decode(kind, detail))
        except AgentError:
            continue


def apply_seal(tables: Tables, asset: Asset, said: Sealing | Stamping) -> None:
    """A manifest of a recording was signed, the next one, or one has a time stamp now."""
    if isinstance(said, Stamping):
        if tables.asset_row(said.manifest, "recording_id, role") != (asset.recording_id, Role.MANIFEST):
            raise JournalError(f"{said.manifest} is no manifest of recording {asset.recording_id}.", safe=UNCHANGED)
        tables.db.execute("UPDATE manifest SET stamp_id = ? WHERE asset_id = ?", (asset.asset_id, said.manifest))
        return
    query = "SELECT number, blake3 FROM manifest LEFT JOIN asset USING (asset_id) WHERE manifest.recording_id = ?"
    number, before = tables.db.execute(query, (asset.recording_id,)).fetchone() or (-1, "")
    if (said.number, said.previous) != (number + 1, before or ""):
        what = f"Manifest {said.number} of recording {asset.recording_id} doesn't follow the one before."
        raise JournalError(what, safe=UNCHANGED)
    tables.db.execute(
        "UPDATE manifest SET number = ?, asset_id = ?, stamp_id = NULL,"
        " touched_at = CASE WHEN touched_seq > ? THEN touched_at END WHERE recording_id = ?",
        (said.number, asset.asset_id, said.covers, asset.recording_id),
    )


def _touched(tables: Tables, entry: JournalEntry) -> Collection[str]:
    """It follows from the entry and from what never changes, so that old journals get the same rows."""
    if isinstance(entry, _OfOriginal):
        return tables.asset_row(entry.asset_id, "recording_id")
    match entry:
        case DocumentAdded(said=Sealing() | Stamping()):
            return ()
        case DocumentAdded(recordings=recordings) | Checked(recordings=recordings):
            return recordings
        case Adopted(recording=recording):
            return (recording.recording_id,)
        case AssetChanged(asset_id=asset_id, event=Acquired() | Matched()):
            recording_id, role = tables.asset_row(asset_id, "recording_id, role")
            return () if role in SEAL_ROLES else (recording_id,)
        case AssetChanged(asset_id=asset_id, event=Blocked() | Damaged() | Lost()):  # one that is lost is made anew
            recording_id, role, resume_to = tables.asset_row(asset_id, "recording_id, role, resume_to")
            return (recording_id,) if role in SEAL_ROLES and resume_to == AssetState.WANTED else ()
    return ()
