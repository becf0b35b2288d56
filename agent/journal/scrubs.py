"""Queries about the scrub: how far it is, and when a file was last as it was recorded."""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple

from agent.journal.codec import VAULT, from_text
from agent.journal.connection import Connection
from agent.journal.rows import SELECT_ASSET, asset_of, moment_of
from agent.model import Asset, Scrubbed

_BELONGING: Final = (
    f"{SELECT_ASSET} WHERE blake3 IS NOT NULL AND state <> 'matched' AND asset_id > ?2 AND (recording_id = ?1"  # noqa: S608
    " OR asset_id IN (SELECT asset_id FROM about WHERE recording_id = ?1)"
    " OR recording_id IN (SELECT kept.recording_id FROM asset JOIN asset AS kept ON kept.asset_id = asset.same_as"
    " WHERE asset.recording_id = ?1)) ORDER BY asset_id LIMIT ?3"
)


class Scrub(NamedTuple):
    """What the scrub told, and when."""

    at: datetime
    told: Scrubbed


class ScrubQueries:
    """The part of the reader that knows when files of the vault were read again."""

    _db: Connection

    def known_bytes(self, after: str, limit: int, recording_id: str = "") -> tuple[Asset, ...]:
        """Return assets, documents too, whose content is known and their own, by asset id from behind `after` on.

        Of one recording: what it has, what was said of it, and what belongs to the recording that keeps its bytes.
        """
        if recording_id:
            return tuple(map(asset_of, self._db.all(_BELONGING, recording_id, after, limit)))
        where = "asset_id > ? AND blake3 IS NOT NULL AND state <> 'matched'"
        query = f"{SELECT_ASSET} WHERE {where} ORDER BY asset_id LIMIT ?"
        return tuple(map(asset_of, self._db.all(query, after, limit)))

    def last_scrub(self, *, complete: bool = False) -> Scrub | None:
        """Return what the scrub told last, or last at the end of a round; None if it never did."""
        return self._scrub("json_extract(detail, '$.complete')" if complete else "1")

    def last_good(self, asset_id: str) -> datetime | None:
        """Return since when nobody has read the file of an asset and found it as it was recorded; None: nobody ever."""
        covers = "coalesce(json_extract(detail, '$.after'), '') < ?2 AND json_extract(detail, '$.last') >= ?2"
        scrub = self._scrub(covers, asset_id)
        row = self._db.one("SELECT held_at FROM asset WHERE asset_id = ?", asset_id)
        times = (moment_of(row[0]) if row else None, scrub.told.began_at if scrub else None)
        return max((time for time in times if time is not None), default=None)

    def _scrub(self, term: str, *values: object) -> Scrub | None:
        query = (
            f"SELECT at, detail FROM event WHERE subject = ?1 AND subject <> '' AND {term} ORDER BY seq DESC LIMIT 1"  # noqa: S608
        )
        row = self._db.one(query, VAULT, *values)
        return Scrub(datetime.fromisoformat(row[0]), from_text(Scrubbed, row[1])) if row else None
