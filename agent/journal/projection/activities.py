"""Activities: what a person stated last, the recordings of each, and how its gaps are explained."""

from __future__ import annotations

from typing import assert_never

from agent.errors import JournalError
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.journal.rows import sortable
from agent.model import ACTIVITY_LIMIT, ActivityStated, GapConfirmed, GapExplained

ActivityEntry = ActivityStated | GapExplained | GapConfirmed


def apply_activity(tables: Tables, seq: int, entry: ActivityEntry) -> None:
    """Enter what was said; the events keep what was said before."""
    match entry:
        case ActivityStated():
            _stated(tables, seq, entry)
            return
        case GapExplained():
            _explained(tables, seq, entry)
        case GapConfirmed():
            tables.one(
                tables.db.execute(
                    "UPDATE explanation SET confirmed_seq = ? WHERE activity_id = ? AND number = ?",
                    (seq, entry.activity_id, entry.number),
                ),
                f"Activity {entry.activity_id} has no explanation {entry.number}.",
            )
        case _:
            assert_never(entry)
    _touch(tables, seq, entry.activity_id)


def touch_activities_of(tables: Tables, seq: int, recording_id: str) -> None:
    """What is known of a recording changed: so may what is to be said of its activities."""
    tables.db.execute(
        "UPDATE activity SET changed_seq = ? WHERE activity_id IN"
        " (SELECT activity_id FROM segment WHERE recording_id = ?)",
        (seq, recording_id),
    )


def _stated(tables: Tables, seq: int, entry: ActivityStated) -> None:
    if not entry.arrived_at < entry.left_at or not 1 <= len(entry.recordings) <= ACTIVITY_LIMIT:
        what = f"An activity lasts from arrival to departure and has 1 to {ACTIVITY_LIMIT} recordings."
        raise JournalError(what, safe=UNCHANGED)
    for recording_id in entry.recordings:
        known = tables.db.execute("SELECT 1 FROM recording WHERE recording_id = ?", (recording_id,)).fetchone()
        if known is None:
            raise JournalError(f"Recording {recording_id} is unknown.", safe=UNCHANGED)
    tables.db.execute(
        "INSERT INTO activity VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
        " SET seq = excluded.seq, changed_seq = excluded.changed_seq, left_at = excluded.left_at",
        (entry.activity_id, seq, seq, sortable(entry.left_at)),
    )
    tables.db.execute("DELETE FROM segment WHERE activity_id = ?", (entry.activity_id,))
    rows = [(entry.activity_id, recording_id) for recording_id in dict.fromkeys(entry.recordings)]
    tables.db.executemany("INSERT INTO segment VALUES (?, ?)", rows)


def _explained(tables: Tables, seq: int, entry: GapExplained) -> None:
    query = "SELECT coalesce(max(number), 0) FROM explanation WHERE activity_id = ?"
    (last,) = tables.db.execute(query, (entry.activity_id,)).fetchone()
    if entry.number != last + 1:
        what = f"Activity {entry.activity_id} has {last} explanations; number {entry.number} can't be the next."
        raise JournalError(what, safe=UNCHANGED)
    row = (entry.activity_id, entry.number, seq)
    tables.db.execute("INSERT INTO explanation VALUES (?, ?, ?, NULL)", row)


def _touch(tables: Tables, seq: int, activity_id: str) -> None:
    query = "UPDATE activity SET changed_seq = ? WHERE activity_id = ?"
    tables.one(tables.db.execute(query, (seq, activity_id)), f"Activity {activity_id} is unknown.")
