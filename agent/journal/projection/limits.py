"""Time limits that change: persons state times, events, activities; other rules; or what the content says."""

from __future__ import annotations

from datetime import datetime

from agent.errors import JournalError
from agent.journal.codec import from_text, to_text
from agent.journal.projection.activities import touch_activities_of
from agent.journal.projection.documents import follow_limit
from agent.journal.projection.metadata import apply_probe, apply_time
from agent.journal.projection.tables import UNCHANGED, Tables, limit_columns
from agent.journal.rows import sortable
from agent.model import (
    ActivityEnded,
    Deadline,
    DeadlineRecomputed,
    EventDeclared,
    Probed,
    Role,
    Stated,
    TimeBasis,
    TimeStated,
)

LimitEntry = TimeStated | EventDeclared | DeadlineRecomputed | ActivityEnded | Probed


def apply_limit(tables: Tables, seq: int, entry: LimitEntry) -> None:
    """Change the limit of a recording from what it must be now, and the alarm of all who keep its bytes."""
    recording_id, role = tables.asset_row(entry.asset_id, "recording_id, role")
    if role != Role.ORIGINAL:
        raise JournalError(f"Document {entry.asset_id} has no time limit.", safe=UNCHANGED)
    if isinstance(entry, TimeStated):
        apply_time(tables, recording_id)
    stated = to_text(entry.stated) if isinstance(entry, TimeStated) else None
    declared = to_text(entry.declared) if isinstance(entry, EventDeclared) else None
    tables.one(
        tables.db.execute(
            "UPDATE recording SET deadline = ?, stated = coalesce(?, stated), declared = coalesce(?, declared)"
            " WHERE recording_id = ? AND deadline = ?",
            (to_text(entry.new), stated, declared, recording_id, to_text(entry.old)),
        ),
        f"The limit of recording {recording_id} is no longer what it was.",
    )
    if isinstance(entry, ActivityEnded):
        ended = sortable(entry.ended_at) if entry.ended_at is not None else None
        tables.db.execute("UPDATE recording SET ended = ? WHERE recording_id = ?", (ended, recording_id))
    elif not isinstance(entry, DeadlineRecomputed):
        touch_activities_of(tables, seq, recording_id)
    if isinstance(entry, Probed):
        _keep_facts(tables, seq, recording_id, entry)
        apply_probe(tables, recording_id, entry)
    if isinstance(entry, TimeStated | Probed):
        _set_made(tables, recording_id, entry)
    asset_id = entry.asset_id if entry.new != entry.old else ""
    while asset_id:  # who keeps the bytes keeps them for all recordings with this content
        _set_limit(tables, asset_id)
        asset_id, recording_id = tables.asset_row(asset_id, "same_as, recording_id")
        follow_limit(tables, recording_id)


def _keep_facts(tables: Tables, seq: int, recording_id: str, entry: Probed) -> None:
    """Enter what others count and sort by; the rest is in the event."""
    tables.db.execute(
        "UPDATE recording SET medium = coalesce(?, medium), integrity = ?, probed_seq = ? WHERE recording_id = ?",
        (entry.facts.medium, entry.facts.integrity, seq, recording_id),
    )
    tables.db.execute("UPDATE asset SET probed = 1 WHERE asset_id = ?", (entry.asset_id,))


def _set_made(tables: Tables, recording_id: str, entry: TimeStated | Probed) -> None:
    """Enter when it was made (制作时间): as a person says, with the length that the content has."""
    query = "SELECT stated, made_start_at, made_end_at FROM recording WHERE recording_id = ?"
    stated, *times = tables.db.execute(query, (recording_id,)).fetchone()
    start, end = (datetime.fromisoformat(time) if time is not None else None for time in times)
    basis = TimeBasis.OFFICER
    if isinstance(entry, Probed):
        start, end, basis = entry.time.made_start, entry.time.made_end, entry.time.basis
    if stated is not None:
        said = from_text(Stated, stated).made_at
        start = said - (end - start) if start is not None and end is not None else None
        end, basis = said, TimeBasis.OFFICER
    row = (*(sortable(time) if time is not None else None for time in (start, end)), basis, recording_id)
    tables.db.execute(
        "UPDATE recording SET made_start_at = ?, made_end_at = ?, time_basis = ? WHERE recording_id = ?", row
    )
    tables.db.execute(
        "UPDATE asset SET captured_at = coalesce(?, captured_at) WHERE asset_id = ?", (row[1], entry.asset_id)
    )


def _set_limit(tables: Tables, asset_id: str) -> None:
    """The earliest of its own recording's limit and those of all recordings that share its content."""
    query = "SELECT deadline FROM recording JOIN asset USING (recording_id) WHERE asset_id = ?"
    own = limit_columns(from_text(Deadline, tables.db.execute(query, (asset_id,)).fetchone()[0]))
    shared = "SELECT alarm_at, late_at FROM asset WHERE same_as = ? AND same_as <> ''"  # as its index says
    twins = tables.db.execute(shared, (asset_id,)).fetchall()
    alarm_at = min(alarm for alarm, _ in (own, *twins))
    late_at = min((late for _, late in (own, *twins) if late is not None), default=None)
    row = (alarm_at, late_at, asset_id)
    tables.db.execute("UPDATE asset SET alarm_at = ?, late_at = ? WHERE asset_id = ?", row)
    pending = "UPDATE clip SET alarm_at = ? WHERE asset_id = ? AND outcome = 'pending'"
    tables.db.execute(pending, (alarm_at, asset_id))
