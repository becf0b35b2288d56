"""Sessions of rooms: which there are, the recordings of each, and the newest word on each line of their ledgers."""

from __future__ import annotations

from typing import Final, assert_never

from agent.errors import JournalError
from agent.journal.projection.assets import insert_footage
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.journal.rows import sortable
from agent.model import SegmentTaken, SessionEnded, SessionNoted, SessionStarted, SessionTested

SessionEntry = SessionStarted | SegmentTaken | SessionNoted | SessionTested | SessionEnded

SESSIONS: Final = (
    """
    CREATE TABLE session (
        session_id TEXT PRIMARY KEY,
        room TEXT NOT NULL,
        started_at TEXT NOT NULL,
        scheduled TEXT NOT NULL,
        seq INTEGER NOT NULL,
        ended_seq INTEGER
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX session_by_room ON session (room, started_at, session_id)",
    "CREATE UNIQUE INDEX session_open ON session (room) WHERE ended_seq IS NULL",
    "CREATE INDEX session_scheduled ON session (room, scheduled) WHERE scheduled <> ''",
    """
    CREATE TABLE session_segment (
        session_id TEXT NOT NULL REFERENCES session,
        source TEXT NOT NULL,
        number INTEGER NOT NULL,
        recording_id TEXT NOT NULL UNIQUE REFERENCES recording,
        seq INTEGER NOT NULL,
        PRIMARY KEY (session_id, source, number)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE session_note (
        session_id TEXT NOT NULL REFERENCES session,
        source TEXT NOT NULL,
        kind TEXT NOT NULL,
        started_at TEXT NOT NULL,
        seq INTEGER NOT NULL,
        is_open INTEGER NOT NULL,
        PRIMARY KEY (session_id, source, kind, started_at)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE session_test (
        session_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        room TEXT NOT NULL,
        PRIMARY KEY (session_id, seq)
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX session_test_by_room ON session_test (room, seq)",
)
"""Each row names by `seq` the event that holds its facts."""


def apply_session(tables: Tables, seq: int, entry: SessionEntry) -> None:
    """Change the tables as event `seq` says."""
    match entry:
        case SessionStarted():
            _started(tables, seq, entry)
        case SegmentTaken():
            _taken(tables, seq, entry)
        case SessionNoted():
            _known(tables, entry.session_id)
            tables.db.execute(
                "INSERT INTO session_note VALUES (?, ?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET seq = excluded.seq, is_open = excluded.is_open",
                (entry.session_id, entry.source, entry.kind, sortable(entry.start), seq, entry.end is None),
            )
        case SessionTested():
            row = (entry.session_id, seq, entry.room)
            tables.db.execute("INSERT INTO session_test VALUES (?, ?, ?)", row)
        case SessionEnded():
            query = "UPDATE session SET ended_seq = ? WHERE session_id = ? AND ended_seq IS NULL"
            changed = tables.db.execute(query, (seq, entry.session_id))
            tables.one(changed, f"Session {entry.session_id} is unknown or ended already.")
        case _:
            assert_never(entry)


def _started(tables: Tables, seq: int, entry: SessionStarted) -> None:
    query = "SELECT session_id FROM session WHERE session_id = ? OR (room = ? AND ended_seq IS NULL)"
    if (other := tables.db.execute(query, (entry.session_id, entry.room)).fetchone()) is not None:
        raise JournalError(f"Session {other[0]} is running in room {entry.room} already.", safe=UNCHANGED)
    row = (entry.session_id, entry.room, sortable(entry.started_at), entry.scheduled, seq)
    tables.db.execute("INSERT INTO session VALUES (?, ?, ?, ?, ?, NULL)", row)


def _taken(tables: Tables, seq: int, entry: SegmentTaken) -> None:
    """Also of a session that has ended: what a crash left lying is taken when it is found."""
    _known(tables, entry.session_id)
    key = (entry.session_id, entry.source, entry.number)
    query = "SELECT 1 FROM session_segment WHERE session_id = ? AND source = ? AND number = ?"
    if tables.db.execute(query, key).fetchone() is not None:
        what = f"Segment {entry.number} of {entry.source} of session {entry.session_id} was taken already."
        raise JournalError(what, safe=UNCHANGED)
    insert_footage(tables, seq, entry.recording, entry.asset, entry.asset.asset_id)
    tables.db.execute("INSERT INTO session_segment VALUES (?, ?, ?, ?, ?)", (*key, entry.recording.recording_id, seq))


def _known(tables: Tables, session_id: str) -> None:
    if tables.db.execute("SELECT 1 FROM session WHERE session_id = ?", (session_id,)).fetchone() is None:
        raise JournalError(f"Session {session_id} is unknown.", safe=UNCHANGED)
