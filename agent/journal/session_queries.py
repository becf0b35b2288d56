"""Queries about sessions of rooms: which there are, which are open, and all that is known of one."""

from __future__ import annotations

from typing import Any, Final, cast

from agent.errors import UnknownError
from agent.journal.codec import decode
from agent.journal.connection import Connection
from agent.journal.views import SessionView, Tally
from agent.model import STOPPING, SegmentTaken, SessionEnded, SessionNoted, SessionStarted, SessionTested

_HEAD: Final = (
    "SELECT told.kind, told.detail, ending.kind, ending.detail FROM session JOIN event AS told ON told.seq ="
    " session.seq LEFT JOIN event AS ending ON ending.seq = ended_seq"
)
_SEGMENTS: Final = (
    "SELECT kind, detail FROM session_segment JOIN event USING (seq) WHERE session_id = ? ORDER BY event.seq"
)
_NOTES: Final = (
    "SELECT event.kind, detail FROM session_note JOIN event USING (seq)"
    " WHERE session_id = ? AND (session_note.kind = ?) = ? ORDER BY event.seq"
)
_TESTS: Final = "SELECT kind, detail FROM session_test JOIN event USING (seq) WHERE session_id = ? ORDER BY event.seq"
_TALLY: Final = (
    "SELECT count(*), coalesce(sum(coalesce(size_bytes, expected_bytes)), 0) FROM session_segment"
    " JOIN asset USING (recording_id) WHERE session_id = ? AND role = 'original'"
)
_COMING: Final = (
    "SELECT kind, detail FROM session_segment JOIN asset USING (recording_id) JOIN event USING (seq)"
    " WHERE session_id = ? AND role = 'original' AND state = 'wanted' ORDER BY event.seq"
)
_UNSAID: Final = (
    "SELECT session_segment.recording_id FROM session_segment JOIN metadata USING (recording_id)"
    " WHERE session_id = ? AND metadata.version = 0 ORDER BY session_segment.seq"
)


class SessionQueries:
    """The part of the reader that knows sessions."""

    _db: Connection

    def sessions_of(self, room: str, limit: int) -> tuple[SessionView, ...]:
        """Return the newest sessions of a room, the last one first, without their segments, notes and tests."""
        query = f"{_HEAD} WHERE room = ? ORDER BY started_at DESC, session_id DESC LIMIT ?"
        return tuple(map(_head, self._db.all(query, room, limit)))

    def open_sessions(self) -> tuple[SessionView, ...]:
        """Return what has begun and not ended, at most one in each room, without segments, notes and tests."""
        query = _HEAD.replace("FROM session JOIN", "FROM session INDEXED BY session_open JOIN")
        return tuple(map(_head, self._db.all(f"{query} WHERE ended_seq IS NULL ORDER BY session_id")))

    def session_head(self, session_id: str) -> SessionView:
        """Return a session without its segments, notes and tests. Raises UnknownError."""
        row = self._db.one(f"{_HEAD} WHERE session_id = ?", session_id)
        if row is None:
            raise UnknownError(f"There is no session {session_id[:64]!r}.", do="`capture-agent room` lists them.")
        return _head(row)

    def session(self, session_id: str) -> SessionView:
        """Return a session with everything; of a line of its ledger the newest word. Raises UnknownError."""
        with self._db.snapshot():
            head = self.session_head(session_id)
            segments, tests = (
                tuple(decode(*told) for told in self._db.all(query, session_id)) for query in (_SEGMENTS, _TESTS)
            )
            return SessionView(
                head.started,
                head.ended,
                cast("tuple[SegmentTaken, ...]", segments),
                self.session_notes(session_id),
                cast("tuple[SessionTested, ...]", tests),
            )

    def session_notes(self, session_id: str) -> tuple[SessionNoted, ...]:
        """Return the ledger of a session, of each line the newest word."""
        told = self._db.all(_NOTES, session_id, STOPPING, 0)
        return cast("tuple[SessionNoted, ...]", tuple(decode(*row) for row in told))

    def stopping(self, session_id: str) -> SessionEnded | None:
        """Return how a session is to end, if somebody has stopped it."""
        query = "SELECT event.kind, detail FROM session_note JOIN event USING (seq)"
        row = self._db.one(
            f"{query} WHERE session_id = ? AND source = '' AND session_note.kind = ?", session_id, STOPPING
        )
        if row is None:
            return None
        note = cast("SessionNoted", decode(*row))
        said = {name: str(note.detail.get(name, "")) for name in ("who", "why", "reason")}
        return SessionEnded(session_id, note.start, **said)

    def session_tally(self, session_id: str) -> Tally:
        """Return how many segments of a session were taken, and their bytes."""
        row = self._db.one(_TALLY, session_id)
        assert row is not None, "an aggregate has a row"
        return Tally(*row)

    def session_of(self, recording_id: str) -> SegmentTaken | None:
        """Return what brought a recording if it is a segment of a session."""
        query = "SELECT kind, detail FROM session_segment JOIN event USING (seq) WHERE recording_id = ?"
        row = self._db.one(query, recording_id)
        return cast("SegmentTaken", decode(*row)) if row is not None else None

    def segment(self, session_id: str, source: str, number: int) -> SegmentTaken | None:
        """Return the segment of this number, if it was taken."""
        query = "SELECT kind, detail FROM session_segment JOIN event USING (seq)"
        row = self._db.one(f"{query} WHERE session_id = ? AND source = ? AND number = ?", session_id, source, number)
        return cast("SegmentTaken", decode(*row)) if row is not None else None

    def coming_segments(self, session_id: str) -> tuple[SegmentTaken, ...]:
        """Return the segments of a session that were taken, and that the vault doesn't have yet."""
        rows = self._db.all(_COMING, session_id)
        return tuple(cast("SegmentTaken", decode(*row)) for row in rows)

    def was_scheduled(self, room: str, scheduled: str) -> bool:
        """Tell whether a session was started in a room for what the schedule calls so."""
        query = "SELECT 1 FROM session WHERE room = ? AND scheduled = ? AND scheduled <> ''"
        return self._db.one(query, room, scheduled) is not None

    def newest_test(self, room: str) -> SessionTested | None:
        """Return the last readiness test of a room."""
        query = "SELECT kind, detail FROM session_test JOIN event USING (seq) WHERE room = ? ORDER BY seq DESC LIMIT 1"
        row = self._db.one(query, room)
        return cast("SessionTested", decode(*row)) if row is not None else None

    def unsaid(self, session_id: str) -> tuple[str, ...]:
        """Return the recordings of a session of which nobody has said anything yet."""
        return tuple(row[0] for row in self._db.all(_UNSAID, session_id))


def _head(row: tuple[Any, ...]) -> SessionView:
    started, ended = decode(*row[:2]), decode(*row[2:]) if row[2] is not None else None
    assert isinstance(started, SessionStarted), "a session names the event that began it"
    assert isinstance(ended, SessionEnded | None), "as above"
    return SessionView(started, ended)
