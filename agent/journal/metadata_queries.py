"""Queries about capture metadata: how complete it is, at which version, and what a docking brought."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from agent.errors import UnknownError
from agent.journal.documents import DocumentQueries
from agent.journal.projection.metadata import SCOPE, lacks_of
from agent.journal.views import DocumentView, MetadataView, StatementView
from agent.model import Completeness, Statement


class MetadataQueries(DocumentQueries):
    """The part of the reader that knows how complete the capture metadata is."""

    def completeness(self) -> dict[Completeness, int]:
        """Return how many recordings are in each state of completeness: counted as they change, read at once."""
        rows = self._db.all("SELECT name, files FROM counter WHERE scope = ?", SCOPE)
        return {Completeness(name): files for name, files in rows}

    def metadata(self, recording_id: str) -> MetadataView:
        """Return how complete the capture metadata of a recording is; raises UnknownError if there is none."""
        row = self._db.one("SELECT completeness, lacks, version FROM metadata WHERE recording_id = ?", recording_id)
        if row is None:
            raise UnknownError(f"There is no recording {recording_id[:64]!r}.", do="Check the id; the status shows it.")
        return metadata_view(*row)

    def statements(self, recordings: Collection[str]) -> dict[str, list[StatementView]]:
        """Return what officers said of each of these recordings, oldest first; one document is read once."""
        marks = ", ".join("?" * len(recordings))
        rows = self._db.all(
            "SELECT recording_id, asset_id FROM about JOIN document USING (asset_id)"  # noqa: S608  as above
            f" WHERE kind = 'statement' AND recording_id IN ({marks}) ORDER BY document.seq",
            *recordings,
        )
        known = {asset_id: _statement(self.document(asset_id)) for asset_id in dict.fromkeys(row[1] for row in rows)}
        found: dict[str, list[StatementView]] = {recording_id: [] for recording_id in recordings}
        for recording_id, asset_id in rows:
            found[recording_id].append(known[asset_id])
        return found

    def docked_at(self, docking_id: str) -> datetime | None:
        """Return when a docking began; None if there was none."""
        row = self._db.one("SELECT opened_at FROM docking WHERE docking_id = ?", docking_id)
        return datetime.fromisoformat(row[0]) if row else None

    def brought_by(self, docking_id: str) -> tuple[str, ...]:
        """Return the recordings that were new in a docking, in the order of their clips."""
        rows = self._db.all(
            "SELECT asset.recording_id FROM clip JOIN asset USING (asset_id) JOIN recording USING (recording_id)"
            " WHERE docking_id = ? AND recording.seq = clip.seq ORDER BY number",
            docking_id,
        )
        return tuple(row[0] for row in rows)

    def to_fill_in(self, docking_id: str) -> tuple[int, int, str]:
        """Return how many recordings were new in a docking, how many of them lack something, and the most urgent one.

        That is the one the store above has not accepted and whose limit comes first; "" if there is none.
        """
        row = self._db.one(
            "SELECT count(*), coalesce(sum(completeness = 'incomplete'), 0), min(CASE WHEN asset.receipt IS NULL"
            " AND asset.state <> 'matched' THEN asset.alarm_at || '/' || recording_id END)"
            " FROM clip JOIN asset USING (asset_id) JOIN recording USING (recording_id) JOIN metadata USING"
            " (recording_id) WHERE docking_id = ? AND recording.seq = clip.seq",
            docking_id,
        )
        assert row is not None, "an aggregate has a row"
        return row[0], row[1], (row[2] or "").partition("/")[2]


def metadata_view(completeness: str, lacks: str, version: int) -> MetadataView:
    """Return what the columns of these names say."""
    return MetadataView(Completeness(completeness), lacks_of(lacks), version)


def _statement(view: DocumentView) -> StatementView:
    assert isinstance(view.said, Statement), "the table says so"
    return StatementView(view.asset, view.said)
