"""Queries about manifests: which are to be made and stamped next, what belongs into one, and which there are."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

from agent.journal.connection import Connection
from agent.journal.documents import SELECT_DOCUMENT, document_view
from agent.journal.rows import ASSET_COLUMNS, asset_of, sortable
from agent.journal.views import DocumentView, SealCounts
from agent.model import SEAL_ROLES, Asset, AssetState
from agent.states import SEAL_SCOPE

_SEALS: Final = tuple(sorted(role.value for role in SEAL_ROLES))
_COUNTED: Final = 10_000
_RESTED: Final = (
    "NOT EXISTS (SELECT 1 FROM attempt"
    " WHERE attempt.asset_id = 'seal ' || manifest.{} AND next_at > ? AND next_at <= ?)"
)
_SEAL_RESTED: Final = _RESTED.format("recording_id")
_TO_SEAL: Final = (
    "SELECT recording_id FROM manifest WHERE touched_at IS NOT NULL AND (touched_at <= ? OR touched_at > ?)"  # noqa: S608
    f" AND {_SEAL_RESTED} ORDER BY touched_at, recording_id LIMIT ?"
)
_STAMP_RESTED: Final = _RESTED.format("asset_id")
_HELD: Final = (
    "(SELECT coalesce(json_extract(detail, '$.event.acquired.held.sealed'), json_extract(detail, '$.held.sealed'), 0)"
    " FROM event WHERE subject = coalesce(nullif(asset.same_as, ''), asset.asset_id) AND subject <> ''"
    " AND kind IN ('acquired', 'adopted') ORDER BY seq DESC LIMIT 1)"
)


class Belongings(NamedTuple):
    """What the manifest `number` of a recording has to name, each with whether it was sealed here.

    `previous` is the BLAKE3 of the manifest before, `covers` how many events that is told from.
    """

    number: int
    previous: str
    covers: int
    assets: tuple[tuple[Asset, bool], ...]


class ManifestQueries:
    """The part of the reader that knows manifests and time stamps."""

    _db: Connection

    def next_to_seal(self, now: datetime, quiet: timedelta, longest_pause: timedelta, limit: int) -> tuple[str, ...]:
        """Return recordings that want a manifest and of which nothing new was told for so long, the oldest news first.

        News from behind `now` is taken too, and nothing waits longer than `longest_pause` after a failure: such times
        were noted before the clock was set back.
        """
        times = map(sortable, (now - quiet, now, now, now + longest_pause))
        return tuple(row[0] for row in self._db.all(_TO_SEAL, *times, limit))

    def next_to_stamp(self, now: datetime, longest_pause: timedelta) -> Asset | None:
        """Return the oldest manifest without time stamp that is the newest of its recording and is here."""
        row = self._db.one(
            f"SELECT {ASSET_COLUMNS} FROM manifest INDEXED BY manifest_to_stamp CROSS JOIN asset USING (asset_id)"  # noqa: S608
            " WHERE manifest.asset_id IS NOT NULL AND stamp_id IS NULL AND state IN ('held', 'stored')"
            f" AND {_STAMP_RESTED} ORDER BY manifest.asset_id LIMIT 1",
            sortable(now), sortable(now + longest_pause),
        )  # fmt: skip
        return asset_of(row) if row else None

    def belongings(self, recording_id: str) -> Belongings:
        """Return all that a manifest of a recording has to name, and which number it has."""
        with self._db.snapshot():
            size = self._db.all("SELECT max(seq) FROM event")[0][0]
            query = (
                "SELECT number, blake3 FROM manifest LEFT JOIN asset USING (asset_id) WHERE manifest.recording_id = ?"
            )
            number, before = self._db.one(query, recording_id) or (0, None)
            rows = self._db.all(
                f"SELECT {ASSET_COLUMNS}, {_HELD} FROM asset WHERE blake3 IS NOT NULL AND role NOT IN {_SEALS} AND"  # noqa: S608
                " (recording_id = ?1 OR asset_id IN (SELECT asset_id FROM about WHERE recording_id = ?1))"
                " ORDER BY role <> 'original', asset_id",
                recording_id,
            )
        return Belongings(number + 1, before or "", size, tuple((asset_of(row), bool(row[-1])) for row in rows))

    def seals(self, recording_id: str) -> tuple[DocumentView, ...]:
        """Return all manifests of a recording and their time stamps, oldest first."""
        query = f"{SELECT_DOCUMENT} WHERE asset.recording_id = ? AND document.kind IN {_SEALS} ORDER BY document.seq"
        return tuple(map(document_view, self._db.all(query, recording_id)))

    def seal_counts(self) -> SealCounts:
        """Return how many manifests are to be made and to be stamped, to ten thousand, and how many there are."""
        waiting = ("touched_at IS NOT NULL", "asset_id IS NOT NULL AND stamp_id IS NULL")
        query = "SELECT count(*) FROM (SELECT 1 FROM manifest WHERE {} LIMIT ?)"
        to_make, to_stamp = (self._db.all(query.format(what), _COUNTED)[0][0] for what in waiting)
        files = dict(self._db.all("SELECT name, files FROM counter WHERE scope = ?", SEAL_SCOPE))
        stored, stuck = files.get(AssetState.STORED, 0), files.get(AssetState.STUCK, 0)
        return SealCounts(to_make, to_stamp, sum(files.values()), stored, stuck)

    def incidents_since(self, seq: int) -> dict[str, int]:
        """Return how often each kind of incident was recorded from event `seq` on; the first ten thousand count."""
        rows = self._db.all(
            "SELECT json_extract(detail, '$.kind') AS kind, count(*) FROM (SELECT detail FROM event"
            " INDEXED BY event_incident WHERE kind = 'incident' AND seq >= ? LIMIT ?) GROUP BY kind",
            seq,
            _COUNTED,
        )
        return dict(rows)
