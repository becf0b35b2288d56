"""Queries about activities: which there are, what belongs to one, and which recordings belong to none."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from agent.errors import UnknownError
from agent.journal.codec import decode
from agent.journal.connection import Connection
from agent.journal.derived import DerivedQueries
from agent.journal.rows import ACTIVITY_CHANGED
from agent.journal.views import ActivityView, RecordingView, SessionView
from agent.model import ActivityStated, Explained, Finding, GapConfirmed, GapExplained, JournalEntry, Observed

_HEADS: Final = f"SELECT activity_id, {ACTIVITY_CHANGED}, seq FROM activity"  # noqa: S608 - no word of a person

_UNJOINED: Final = (
    "SELECT recording_id FROM recording WHERE NOT EXISTS"
    " (SELECT 1 FROM segment WHERE segment.recording_id = recording.recording_id) AND NOT EXISTS"
    " (SELECT 1 FROM session_segment WHERE session_segment.recording_id = recording.recording_id) AND EXISTS"
    " (SELECT 1 FROM asset WHERE asset.recording_id = recording.recording_id AND role = 'original'"
    " AND state <> 'matched') ORDER BY recording_id DESC LIMIT ?"
)


class ActivityQueries(DerivedQueries, ABC):
    """The part of the reader that knows activities."""

    _db: Connection

    @abstractmethod
    def recording(self, identifier: str) -> RecordingView:
        """As the reader has it."""

    @abstractmethod
    def session_head(self, session_id: str) -> SessionView:
        """As the reader has it."""

    def activity_heads(self, limit: int) -> list[tuple[str, int]]:
        """Return (activity id, `ActivityView.changed_seq`), those that ended last first."""
        return [
            (row[0], row[1]) for row in self._db.all(f"{_HEADS} ORDER BY left_at DESC, activity_id DESC LIMIT ?", limit)
        ]

    def activity(self, activity_id: str) -> ActivityView:
        """Return an activity by its id; raises UnknownError if there is none."""
        with self._db.snapshot():
            row = self._db.one(f"{_HEADS} WHERE activity_id = ?", activity_id)
            if row is None:
                do = "`capture-agent activity list` shows those there are."
                raise UnknownError(f"There is no activity {activity_id[:64]!r}.", do=do)
            stated = self._said(row[2])
            assert isinstance(stated, ActivityStated), "an activity names the event that stated it"
            recordings = tuple(self._with_findings(self.recording(name)) for name in dict.fromkeys(stated.recordings))
            rooms = dict.fromkeys(row.segment.session_id for row in recordings if row.segment is not None)
            sessions = tuple(map(self.session_head, rooms))
            return ActivityView(stated, recordings, self._explanations(activity_id), row[1], sessions)

    def activities_of(self, recording_id: str) -> tuple[str, ...]:
        """Return the ids of the activities that a recording belongs to."""
        rows = self._db.all("SELECT activity_id FROM segment WHERE recording_id = ? ORDER BY 1", recording_id)
        return tuple(row[0] for row in rows)

    def unjoined(self, limit: int) -> tuple[RecordingView, ...]:
        """Return recordings that belong to no activity, newest first, without second copies of the same content."""
        with self._db.snapshot():
            return tuple(self.recording(row[0]) for row in self._db.all(_UNJOINED, limit))

    def findings(self, docking_id: str, kinds: tuple[str, ...]) -> tuple[Finding, ...]:
        """Return what was found on a recorder in one docking, of the given kinds, oldest first."""
        rows = self._db.all(
            "SELECT kind, detail FROM event WHERE subject = ? AND subject <> '' AND kind = 'observed'"
            " AND json_extract(detail, '$.finding.kind') IN (SELECT value FROM json_each(?)) ORDER BY seq",
            docking_id,
            json.dumps(kinds),
        )
        told = (decode(*row) for row in rows)
        return tuple(entry.finding for entry in told if isinstance(entry, Observed))

    def absences(self, docking_id: str) -> tuple[Mapping[str, Any], ...]:
        """Return what a docking found missing, without what its content showed to be there under another name."""
        details: list[Any] = [finding.detail for finding in self.findings(docking_id, ("absence",))]
        rows = self._db.all(
            "SELECT value FROM json_each(?) WHERE EXISTS (SELECT 1 FROM clip JOIN asset USING (asset_id)"
            " WHERE docking_id = ? AND value IN (asset_id, same_as))",
            json.dumps(sorted({name for detail in details for name in detail["assets"]})),
            docking_id,
        )
        there = {row[0] for row in rows}
        return tuple(one for one in details if not one["assets"] or one["segments"] > len(there & {*one["assets"]}))

    def _with_findings(self, row: RecordingView) -> RecordingView:
        told = self.derived(row.recording.recording_id) if row.made is not None and row.made.found else None
        return replace(row, findings=told.findings) if told is not None else row

    def _explanations(self, activity_id: str) -> tuple[Explained, ...]:
        query = "SELECT seq, confirmed_seq FROM explanation WHERE activity_id = ? ORDER BY number"
        found = []
        for seq, confirmed_seq in self._db.all(query, activity_id):
            said, confirmed = self._said(seq), self._said(confirmed_seq) if confirmed_seq is not None else None
            assert isinstance(said, GapExplained), "an explanation names the event that tells it"
            assert isinstance(confirmed, GapConfirmed | None), "as above"
            found.append(Explained(said, confirmed))
        return tuple(found)

    def _said(self, seq: int) -> JournalEntry:
        row = self._db.one("SELECT kind, detail FROM event WHERE seq = ?", seq)
        assert row is not None, "a row names the event that holds its facts"
        return decode(*row)
