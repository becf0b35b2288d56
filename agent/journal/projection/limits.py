"""Time limits that change: a person states a time, an event or an activity, or other rules come into force."""

from __future__ import annotations

from agent.errors import JournalError
from agent.journal.codec import from_text, to_text
from agent.journal.projection.activities import touch_activities_of
from agent.journal.projection.documents import follow_limit
from agent.journal.projection.tables import UNCHANGED, Tables, limit_columns
from agent.journal.rows import sortable
from agent.model import ActivityEnded, Deadline, DeadlineRecomputed, EventDeclared, Role, TimeStated

LimitEntry = TimeStated | EventDeclared | DeadlineRecomputed | ActivityEnded


def apply_limit(tables: Tables, seq: int, entry: LimitEntry) -> None:
    """Change the limit of a recording from what it must be now, and the alarm of all who keep its bytes."""
    recording_id, role = tables.asset_row(entry.asset_id, "recording_id, role")
    if role != Role.ORIGINAL:
        raise JournalError(f"Document {entry.asset_id} has no time limit.", safe=UNCHANGED)
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
    asset_id = entry.asset_id
    while asset_id:  # who keeps the bytes keeps them for all recordings with this content
        _set_limit(tables, asset_id)
        asset_id, recording_id = tables.asset_row(asset_id, "same_as, recording_id")
        follow_limit(tables, recording_id)


def _set_limit(tables: Tables, asset_id: str) -> None:
    """The earliest of its own recording's limit and those of all recordings that share its content."""
    query = "SELECT deadline FROM recording JOIN asset USING (recording_id) WHERE asset_id = ?"
    own = limit_columns(from_text(Deadline, tables.db.execute(query, (asset_id,)).fetchone()[0]))
    twins = tables.db.execute("SELECT alarm_at, late_at FROM asset WHERE same_as = ?", (asset_id,)).fetchall()
    alarm_at = min(alarm for alarm, _ in (own, *twins))
    late_at = min((late for _, late in (own, *twins) if late is not None), default=None)
    row = (alarm_at, late_at, asset_id)
    tables.db.execute("UPDATE asset SET alarm_at = ?, late_at = ? WHERE asset_id = ?", row)
    pending = "UPDATE clip SET alarm_at = ? WHERE asset_id = ? AND outcome = 'pending'"
    tables.db.execute(pending, (alarm_at, asset_id))
