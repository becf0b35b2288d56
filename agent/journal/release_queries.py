"""Queries for freeing local copies: what is stored and old enough, all that hangs on it, and who allowed what."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from agent.journal.codec import RELEASE, decode
from agent.journal.connection import Connection
from agent.journal.rows import ASSET_COLUMNS, SELECT_ASSET, asset_of, sortable
from agent.journal.views import Tally
from agent.model import Asset, JournalEntry, ReleaseAsked, ReleaseConfirmed

_DAY_MS: Final = 86_400_000
_STORED: Final = "role = 'original' AND state = 'stored'"


class Told(NamedTuple):
    """One event: its number, when it was recorded, and what it says."""

    seq: int
    at: datetime
    entry: JournalEntry


@dataclass(frozen=True, slots=True)
class Witness:
    """What the log itself knows of time: no step of the clock makes a copy older than the days that were signed.

    `days`: of every day with a signed checkpoint the number of the event that tells the last one, sorted. `steps`: the
    events by which the clock was set forwards, and by how many ms; one of them makes at most one day.
    """

    days: tuple[int, ...]
    steps: tuple[tuple[int, int], ...]

    def days_since(self, seq: int) -> int:
        """Return on how many days since event `seq` the log was signed, without those that steps may have made."""
        made_ms = sum(min(size_ms, _DAY_MS) for at, size_ms in self.steps if at > seq)
        return len(self.days) - bisect_right(self.days, seq) - -(-made_ms // _DAY_MS)


class ReleaseQueries:
    """The part of the reader that the release of local copies asks."""

    _db: Connection

    def stored_before(self, held_before: datetime, after: str, limit: int) -> tuple[Asset, ...]:
        """Return stored originals, taken in before a time by the station's clock, from behind an asset id on."""
        query = f"{SELECT_ASSET} WHERE {_STORED} AND held_at <= ? AND asset_id > ? ORDER BY asset_id LIMIT ?"
        return tuple(map(asset_of, self._db.all(query, sortable(held_before), after, limit)))

    def stored(self) -> Tally:
        """Return how many originals are here and stored."""
        row = self._db.one("SELECT files, bytes FROM counter WHERE scope = 'asset' AND name = 'stored'")
        return Tally(*row) if row else Tally()

    def freed(self) -> int:
        """Return of how many originals there is no local copy any more."""
        row = self._db.one("SELECT files FROM counter WHERE scope = 'asset' AND name = 'released'")
        return int(row[0]) if row else 0

    def history(self, subject: str) -> tuple[Told, ...]:
        """Return all that was ever recorded of an asset, oldest first."""
        rows = self._db.all(
            "SELECT seq, at, kind, detail FROM event WHERE subject = ? AND subject <> '' ORDER BY seq", subject
        )
        return tuple(Told(seq, datetime.fromisoformat(at), decode(kind, detail)) for seq, at, kind, detail in rows)

    def all_of(self, recordings: Collection[str]) -> tuple[tuple[str, Asset], ...]:
        """Return all assets of these recordings, each with its recording: originals, documents, and what was made."""
        marks = ", ".join("?" * len(recordings))
        rows = self._db.all(
            f"SELECT {ASSET_COLUMNS}, recording_id FROM asset WHERE recording_id IN ({marks})"  # noqa: S608  our marks
            f" UNION SELECT {ASSET_COLUMNS}, about.recording_id FROM about JOIN asset USING (asset_id)"
            f" WHERE about.recording_id IN ({marks})",
            *recordings,
            *recordings,
        )
        return tuple((row[-1], asset_of(row)) for row in rows)

    def is_noted(self, subjects: Collection[str], name: str) -> bool:
        """Tell whether a note of this name is on one of the subjects."""
        marks = ", ".join("?" * len(subjects))
        query = f"SELECT 1 FROM note WHERE subject IN ({marks}) AND name = ? LIMIT 1"  # noqa: S608  as above
        return self._db.one(query, *subjects, name) is not None

    def wants_manifest(self, recordings: Collection[str]) -> bool:
        """Tell whether the newest manifest of one of these recordings doesn't say all, or there is none."""
        marks = ", ".join("?" * len(recordings))
        query = f"SELECT count(*) FROM manifest WHERE touched_at IS NULL AND recording_id IN ({marks})"  # noqa: S608
        row = self._db.one(query, *recordings)
        return row is None or row[0] < len(recordings)

    def witness(self) -> Witness:
        """Return on which days the log was signed, and when the clock was set forwards."""
        days = self._db.all("SELECT max(seq) FROM checkpoint JOIN event USING (seq) GROUP BY substr(at, 1, 10)")
        steps = self._db.all(
            "SELECT seq, json_extract(detail, '$.step_ms') AS ms FROM event"
            " WHERE subject = 'clock' AND subject <> '' AND ms > 0"
        )
        return Witness(tuple(sorted(row[0] for row in days)), tuple(steps))

    def asked(self) -> tuple[int, ReleaseAsked] | None:
        """Return the event by which somebody last asked for other terms, and its number."""
        told = reversed(self.history(RELEASE))
        return next(((one.seq, one.entry) for one in told if isinstance(one.entry, ReleaseAsked)), None)

    def agreed(self) -> tuple[ReleaseAsked, ReleaseConfirmed] | None:
        """Return the newest terms that two persons want, and the second one's word; None if there are none."""
        told = {one.seq: one.entry for one in self.history(RELEASE)}
        for entry in reversed(told.values()):
            asked = told.get(entry.asked) if isinstance(entry, ReleaseConfirmed) else None
            if isinstance(entry, ReleaseConfirmed) and isinstance(asked, ReleaseAsked):
                return asked, entry
        return None
