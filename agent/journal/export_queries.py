"""Queries of those who hand recordings over: what a case has, which events tell of it, what was handed over before."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from agent.journal.codec import KEY, from_text
from agent.journal.connection import Connection
from agent.journal.metadata_queries import MetadataQueries
from agent.journal.views import EventView
from agent.metadata import so_far
from agent.model import Exported

# Of a docking's events those that tell of no other recording.
_DOCKING: Final = ("docking_opened", "docking_listed", "docking_closed")
_ALL_OF_A_DOCKING: Final = (*_DOCKING, "clip_refused", "clip_accounted", "observed")
_CASE: Final = (
    "SELECT DISTINCT recording_id FROM document JOIN about USING (asset_id) JOIN event USING (seq)"
    " WHERE document.kind = 'statement' AND json_extract(detail, '$.said.statement.fields.case_no') = ?"
)
_EVENTS: Final = (
    "SELECT seq FROM event WHERE subject IN (SELECT value FROM json_each(?1)) AND subject <> ''"
    " AND kind NOT IN (SELECT value FROM json_each(?2)) ORDER BY seq"
)

_TOLD: Final = (
    "SELECT seq, at, kind, subject, detail, hash FROM event WHERE subject IN (SELECT value FROM json_each(?1))"
    " AND subject <> '' AND (?2 = '[]' OR kind IN (SELECT value FROM json_each(?2))) ORDER BY seq DESC LIMIT ?3"
)


class ExportQueries(MetadataQueries):
    """The part of the reader that knows what belongs to a case, and what has left the station."""

    _db: Connection

    def recordings_of_case(self, case_no: str) -> list[str]:
        """Return the recordings of which the last word is that they belong to this case."""
        names = [row[0] for row in self._db.all(_CASE, case_no)]
        return [
            name
            for name in names
            if so_far(one.said.fields for one in self.statements([name])[name]).get("case_no") == case_no
        ]

    def events_of(self, subjects: Iterable[str]) -> list[int]:
        """Return the numbers of all events about these, and about the station's keys; of dockings only what is theirs.

        A docking's other events tell of other recordings.
        """
        hidden = [kind for kind in _ALL_OF_A_DOCKING if kind not in _DOCKING]
        return [row[0] for row in self._db.all(_EVENTS, json.dumps([*subjects, KEY]), json.dumps(hidden))]

    def told_of(self, subjects: Iterable[str], kinds: Iterable[str] = (), limit: int = 500) -> tuple[EventView, ...]:
        """Return the events about these, the newest `limit` of them, oldest first; only of `kinds` if there are any."""
        rows = self._db.all(_TOLD, json.dumps(list(subjects)), json.dumps(list(kinds)), limit)
        return tuple(
            EventView(seq, datetime.fromisoformat(at), kind, subject, detail, digest.hex())
            for seq, at, kind, subject, detail, digest in reversed(rows)
        )

    def exports(self, recordings: Sequence[str]) -> list[tuple[int, str, Exported]]:
        """Return (number, time, what) of each event by which one of these recordings left the station."""
        rows = self._db.all("SELECT seq, at, detail FROM event INDEXED BY event_exported WHERE kind = 'exported'")
        told = ((seq, at, from_text(Exported, detail)) for seq, at, detail in rows)
        return [one for one in told if not set(recordings).isdisjoint(one[2].recordings)]
