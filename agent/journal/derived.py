"""Queries about what was made from originals, and what was found in them; equal content is looked at once."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Final

from agent.journal.codec import from_text
from agent.journal.connection import Connection
from agent.journal.documents import SELECT_DOCUMENT, document_view
from agent.journal.projection.derived import COPY, FAILED, SCOPE
from agent.journal.views import Copies, DocumentView, MadeView
from agent.model import DERIVED_ROLES, Derived

TO_DERIVE: Final = "derived = '' AND probed = 1 AND role = 'original' AND state IN ('held', 'stored')"
"""As the index of this name has it."""

NO_SEGMENT: Final = "NOT EXISTS (SELECT 1 FROM session_segment AS part WHERE part.recording_id = asset.recording_id)"
"""A film is made of the segments of a session, once it has ended, and no copy of each."""

_TO_JOIN: Final = (
    "SELECT DISTINCT session_id, source FROM asset INDEXED BY asset_to_derive JOIN session_segment USING (recording_id)"  # noqa: S608
    f" JOIN session USING (session_id) WHERE {TO_DERIVE} AND ended_seq IS NOT NULL ORDER BY session_id, source LIMIT ?"
)
_COMING: Final = (
    "SELECT 1 FROM session_segment JOIN asset USING (recording_id) WHERE session_id = ? AND role = 'original'"
    " AND (state = 'wanted' OR (probed = 0 AND state IN ('held', 'stored', 'matched')"
    " AND asset_id NOT IN (SELECT value FROM json_each(?)))) LIMIT 1"
)
_WAITING: Final = (
    f"SELECT 1 FROM asset INDEXED BY asset_to_derive WHERE {TO_DERIVE}"  # noqa: S608
    " UNION ALL SELECT 1 FROM asset INDEXED BY asset_to_probe"
    " WHERE probed = 0 AND role = 'original' AND state IN ('held', 'stored', 'matched') AND state <> 'matched'"
)
_WAITING_LIMIT: Final = 10_000
# The original whose bytes a recording shares, or its own.
_KEEPER: Final = (
    "(SELECT coalesce(nullif(same_as, ''), asset_id) FROM asset WHERE recording_id = ? AND role = 'original')"
)
_SELECT_MADE: Final = (
    f"{SELECT_DOCUMENT} WHERE asset.recording_id = (SELECT recording_id FROM asset WHERE asset_id = {_KEEPER})"  # noqa: S608
    f" AND document.kind IN {tuple(sorted(role.value for role in DERIVED_ROLES))} ORDER BY document.seq"
)
_SELECT_JOINED: Final = (
    f"{SELECT_DOCUMENT} WHERE asset.recording_id IN (SELECT recording_id FROM session_segment WHERE session_id = ?)"  # noqa: S608
    f" AND document.kind IN {tuple(sorted(role.value for role in DERIVED_ROLES))} ORDER BY document.seq"
)


class DerivedQueries:
    """The part of the reader that knows what was made."""

    _db: Connection

    def derived(self, recording_id: str) -> Derived | None:
        """Return what was found in a recording's content, None as long as nobody has looked."""
        query = f"SELECT detail FROM asset JOIN event ON event.seq = derived_seq WHERE asset_id = {_KEEPER}"  # noqa: S608
        row = self._db.one(query, recording_id)
        return from_text(Derived, row[0]) if row else None

    def derivatives(self, recording_id: str) -> tuple[DocumentView, ...]:
        """Return all files that were ever made from a recording's content, oldest first."""
        return tuple(map(document_view, self._db.all(_SELECT_MADE, recording_id)))

    def to_join(self, limit: int) -> tuple[tuple[str, str], ...]:
        """Return (session, source) of which a film is to be made: of sessions that have ended, the oldest first."""
        return tuple(self._db.all(_TO_JOIN, limit))

    def is_coming(self, session_id: str, unread: Iterable[str] = ()) -> bool:
        """Tell whether a segment of a session is still on its way in, or its content will be read yet.

        `unread` are originals of which it won't be.
        """
        return self._db.one(_COMING, session_id, json.dumps(sorted(unread))) is not None

    def joined(self, session_id: str) -> tuple[DocumentView, ...]:
        """Return all files that were ever made from a whole session or from a source of it, oldest first."""
        found = map(document_view, self._db.all(_SELECT_JOINED, session_id))
        return tuple(view for view in found if getattr(view.said, "session_id", "") == session_id)

    def copies(self) -> Copies:
        """Return how far the making of copies has come; what nobody has probed yet waits too."""
        waiting = self._db.all(f"SELECT count(*) FROM ({_WAITING} LIMIT ?)", _WAITING_LIMIT)  # noqa: S608
        counted = dict(self._db.all("SELECT name, files FROM counter WHERE scope = ?", SCOPE))
        return Copies(waiting[0][0], counted.get(COPY, 0), counted.get(FAILED, 0))


def made_of(text: str | None) -> MadeView | None:
    """Return what `json_extract` of `found` and `reason` tells of a Derived; a default is left out."""
    if text is None:
        return None
    found, reason = json.loads(text)
    return MadeView(found or 0, reason or "")
