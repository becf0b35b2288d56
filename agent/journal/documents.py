"""Queries about documents: what was said about a recording, and which of them are not held."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from agent.errors import UnknownError
from agent.journal.codec import from_text
from agent.journal.connection import Connection
from agent.journal.rows import ASSET_COLUMNS, asset_of
from agent.journal.views import DocumentView
from agent.model import DocumentAdded, NoSpeechFound

_COLUMNS: Final = f"SELECT {ASSET_COLUMNS}, event.seq, event.at, event.detail"
SELECT_DOCUMENT: Final = f"{_COLUMNS} FROM document JOIN asset USING (asset_id) JOIN event USING (seq)"
"""A query to which a WHERE is added."""

_SELECT_UNHELD: Final = (
    f"{_COLUMNS} FROM asset INDEXED BY asset_unheld_document JOIN document USING (asset_id) JOIN event USING (seq)"
    " WHERE role <> 'original' AND state IN ('wanted', 'stuck') AND coalesce(resume_to, '') <> 'held'"
    " ORDER BY asset.asset_id"
)


class DocumentQueries:
    """The part of the reader that knows documents."""

    _db: Connection

    def documents(self, recording_id: str) -> tuple[DocumentView, ...]:
        """Return all documents about a recording, oldest first."""
        query = f"{SELECT_DOCUMENT} JOIN about USING (asset_id) WHERE about.recording_id = ? ORDER BY document.seq"
        return tuple(map(document_view, self._db.all(query, recording_id)))

    def document(self, asset_id: str) -> DocumentView:
        """Return one document; raises UnknownError if there is none."""
        row = self._db.one(f"{SELECT_DOCUMENT} WHERE asset.asset_id = ?", asset_id)
        if row is None:
            raise UnknownError(f"There is no document {asset_id}.", do="Check the id.")
        return document_view(row)

    def no_speech_found(self, asset_id: str) -> tuple[tuple[datetime, str], ...]:
        """Return when which tool found no speech in an original, oldest first."""
        query = (
            "SELECT at, detail FROM event WHERE subject = ? AND subject <> '' AND kind = 'no_speech_found' ORDER BY seq"
        )
        rows = self._db.all(query, asset_id)
        return tuple((datetime.fromisoformat(at), from_text(NoSpeechFound, detail).tool) for at, detail in rows)

    def unheld_documents(self) -> tuple[DocumentView, ...]:
        """Return the documents whose bytes the vault does not hold, by asset id."""
        return tuple(map(document_view, self._db.all(_SELECT_UNHELD)))


def document_view(row: tuple[Any, ...]) -> DocumentView:
    """Return what a row of `SELECT_DOCUMENT` tells."""
    seq, at, detail = row[-3:]
    entry = from_text(DocumentAdded, detail)
    return DocumentView(asset_of(row), entry.said, entry.recordings, datetime.fromisoformat(at), seq)
