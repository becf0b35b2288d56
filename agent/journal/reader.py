"""Queries of the pipeline and of the status page: what to do next, what is known, what a person asks."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from agent.journal import waiting
from agent.journal.activity_queries import ActivityQueries
from agent.journal.codec import from_text
from agent.journal.connection import Connection
from agent.journal.derived import NO_SEGMENT, TO_DERIVE
from agent.journal.dockings import DockingQueries
from agent.journal.export_queries import ExportQueries
from agent.journal.guard_queries import GuardQueries
from agent.journal.log_queries import LogQueries
from agent.journal.manifests import ManifestQueries
from agent.journal.recordings import RecordingQueries
from agent.journal.release_queries import ReleaseQueries
from agent.journal.rows import (
    ASSET_COLUMNS,
    SELECT_ASSET,
    asset_of,
    holes_of,
    likeness,
    moment_of,
    sortable,
)
from agent.journal.scrubs import ScrubQueries
from agent.journal.session_queries import SessionQueries
from agent.journal.views import (
    Attempt,
    DueAsset,
    DurableBlock,
    EventView,
    Overview,
    PendingClip,
    SettledNote,
    Tally,
    Waiting,
)
from agent.model import (
    DERIVED_ROLES,
    Asset,
    AssetState,
    Clip,
    Digests,
    Mode,
    Outcome,
    Role,
)
from agent.states import is_kept
from agent.uploader.base import DOUBT
from agent.vault import Settled

LATE_LIMIT: Final = 10_000
_CANDIDATES: Final = 32
_NOT_SAFE: Final = "asset.receipt IS NULL AND asset.state <> 'matched'"


class Reader(
    RecordingQueries, DockingQueries, SessionQueries, ActivityQueries, ExportQueries, ManifestQueries, LogQueries,
    ScrubQueries, GuardQueries, ReleaseQueries,
):  # fmt: skip
    """Answers from a read-only connection that sees only what is committed; may be used from any thread.

    What a person asks is answered from one snapshot, in milliseconds with a million recordings.
    """

    def __init__(self, path: Path) -> None:
        self._db = Connection(path)

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._db.close()

    # Assets and clips.

    def assets_with(self, digests: Collection[str]) -> list[Asset]:
        """Return all assets whose content has one of these BLAKE3."""
        marks = ", ".join("?" * len(digests))
        return [asset_of(row) for row in self._db.all(f"{SELECT_ASSET} WHERE blake3 IN ({marks})", *digests)]

    def asset_by_blake3(self, blake3: str, states: Collection[AssetState]) -> Asset | None:
        """Return the first asset with this content in one of the states."""
        return next((asset for asset in self.assets_with([blake3]) if asset.state in states), None)

    def kept_asset(self, blake3: str) -> Asset | None:
        """Return the original that keeps this content (`states.is_kept`): who has it again records Matched with it."""
        same = self.assets_with([blake3])
        return next((asset for asset in same if asset.role is Role.ORIGINAL and is_kept(asset)), None)

    def known_clips(self, device_id: str, clip: Clip) -> tuple[Asset, ...]:
        """Return the assets that this clip may be: same device, path, raw name, size and stamp; latest seen first.

        Only a hint: content decides. At most 32 are given.
        """
        rows = self._db.all(
            SELECT_ASSET + " JOIN (SELECT asset_id, max(seq) AS last FROM clip"  # noqa: S608
            " WHERE likeness = ? AND asset_id IS NOT NULL GROUP BY asset_id ORDER BY last DESC LIMIT ?) AS seen"
            " USING (asset_id) ORDER BY last DESC",
            likeness(device_id, clip),
            _CANDIDATES,
        )
        return tuple(map(asset_of, rows))

    def next_clips(self, docking_id: str, limit: int, taken: Collection[int] = ()) -> list[PendingClip]:
        """Return pending clips in the order to read them: new footage, rescue, confirmation; most urgent first.

        At most `limit`, without those whose numbers are `taken`.
        """
        found: list[PendingClip] = []
        for mode in Mode:
            if len(found) >= limit:
                break
            rows = self._db.all(
                "SELECT number, asset_id, json_extract(detail, '$.clip') FROM clip JOIN event USING (seq)"
                " WHERE docking_id = ? AND mode = ? AND outcome = 'pending' ORDER BY alarm_at, number LIMIT ?",
                docking_id,
                mode,
                limit + len(taken) - len(found),
            )
            found += [
                PendingClip(from_text(Clip, clip), mode, asset_id) for n, asset_id, clip in rows if n not in taken
            ]
        return found[:limit]

    def next_to_store(
        self,
        now: datetime,
        taken: Collection[str] = (),
        *,
        before: datetime | None = None,
        longest_pause: timedelta = timedelta(days=1),
        choose: waiting.Choice = min,
    ) -> DueAsset | None:
        """Return the most urgent held asset whose content isn't `taken` and that isn't waiting after a failure.

        Originals go before documents of the same urgency. Only one that is due earlier than `before`, if that is given.
        Nothing waits longer than `longest_pause`: a time behind that was noted before the clock was set back. Of the
        recorders that have one as urgent `choose` says which is next.
        """
        return waiting.most_urgent(self._db, now, taken, before, longest_pause, choose)

    def waiting(self) -> Waiting:
        """Return what is not stored yet, for a forecast."""
        with self._db.snapshot():
            assets = self._counters("asset")
            coming = {docking_id: waiting.coming_batches(self._db, docking_id) for docking_id in self.open_dockings()}
            held, wanted = (assets.get(state, Tally()) for state in (AssetState.HELD, AssetState.WANTED))
            return Waiting(waiting.held_batches(self._db), coming, held, wanted)

    def next_to_audit(self, after: str) -> tuple[Asset, str] | None:
        """Return the stored asset that comes after a place ("" is the beginning), and its own place.

        Also one whose local copy was freed: of that the store has the only one.
        """
        alarm_at, _, asset_id = after.partition(" ")
        query = (
            f"SELECT {ASSET_COLUMNS}, alarm_at FROM asset WHERE state = ? AND (alarm_at, asset_id) > (?, ?)"  # noqa: S608
            " ORDER BY alarm_at, asset_id LIMIT 1"
        )
        states = (AssetState.STORED, AssetState.RELEASED)
        rows = [row for state in states for row in self._db.all(query, state, alarm_at, asset_id)]
        found = min(rows, key=lambda row: (row[-1], row[0]), default=None)
        return (asset_of(found), f"{found[-1]} {found[0]}") if found else None

    def next_to_probe(self, taken: Collection[str] = ()) -> Asset | None:
        """Return the most urgent original that is here and whose content nobody has read yet, without those `taken`."""
        rows = self._db.all(
            SELECT_ASSET + " INDEXED BY asset_to_probe WHERE probed = 0"
            " AND role = 'original' AND state IN ('held', 'stored', 'matched') ORDER BY alarm_at, asset_id LIMIT ?",
            len(taken) + 1,
        )
        return next((asset_of(row) for row in rows if row[0] not in taken), None)

    def next_to_derive(self, taken: Collection[str] = ()) -> Asset | None:
        """Return the most urgent original from which nothing was made yet, without those `taken`; no segment."""
        rows = self._db.all(
            SELECT_ASSET + f" INDEXED BY asset_to_derive WHERE {TO_DERIVE} AND {NO_SEGMENT}"
            " ORDER BY alarm_at, asset_id LIMIT ?",
            len(taken) + 1,
        )
        return next((asset_of(row) for row in rows if row[0] not in taken), None)

    def notes(self, subject: str) -> dict[str, str]:
        """Return what was noted about work under way on an asset or by a lane."""
        return dict(self._db.all("SELECT name, value FROM note WHERE subject = ?", subject))

    def open_clip_of(self, asset_id: str) -> tuple[str, int] | None:
        """Return (docking id, clip number) under which an open docking still has to settle this asset."""
        row = self._db.one(
            "SELECT docking_id, number FROM clip JOIN docking USING (docking_id)"
            " WHERE asset_id = ? AND outcome = 'pending' AND closed_at IS NULL ORDER BY clip.seq DESC LIMIT 1",
            asset_id,
        )
        return (row[0], row[1]) if row else None

    # What was under way when the last process ended.

    def blocks(self, asset_id: str) -> tuple[DurableBlock, ...]:
        """Return the durable blocks of an asset's part, in order."""
        rows = self._db.all(
            "SELECT number, size_bytes, blake3, holes FROM block WHERE asset_id = ? ORDER BY number", asset_id
        )
        return tuple(DurableBlock(index, size, blake3, holes_of(holes)) for index, size, blake3, holes in rows)

    def settled(self) -> tuple[SettledNote, ...]:
        """Return the parts that were read back and whose assets are not held yet."""
        rows = self._db.all("SELECT asset_id, size_bytes, blake3, sha256, holes FROM settled ORDER BY asset_id")
        return tuple(
            SettledNote(Settled(asset_id, size_bytes, Digests(blake3, sha256)), holes_of(holes))
            for asset_id, size_bytes, blake3, sha256, holes in rows
        )

    def is_settled(self, blake3: str) -> bool:
        """Tell whether a part with this content was read back and is on its way to be held."""
        return self._db.one("SELECT 1 FROM settled WHERE blake3 = ?", blake3) is not None

    def attempt(self, asset_id: str) -> Attempt | None:
        """Return the attempts since the asset last changed its state."""
        row = self._db.one("SELECT begun, failed, next_at, last_error FROM attempt WHERE asset_id = ?", asset_id)
        return Attempt(row[0], row[1], moment_of(row[2] or None), row[3]) if row else None

    # What a person asks.

    def only_here(self) -> Tally:
        """Return what would be lost with this station: held, read back or stuck, and without a receipt.

        Not what was merely seen: that is on its recorder yet. Not what can be made again.
        """
        derived = ", ".join("?" * len(DERIVED_ROLES))
        row = self._db.one(
            "SELECT count(*), coalesce(sum(size_bytes), 0) FROM asset WHERE receipt IS NULL"  # noqa: S608
            f" AND role NOT IN ({derived})"
            " AND (state IN ('held', 'stuck') OR asset_id IN (SELECT asset_id FROM settled))",
            *DERIVED_ROLES,
        )
        assert row is not None, "an aggregate has a row"
        return Tally(*row)

    def overview(self, now: datetime) -> Overview:
        """Return the station in numbers."""
        with self._db.snapshot():
            assets, documents, derived = map(self._counters, ("asset", "document", "derived"))
            clips = self._counters("clip")
            late = self._db.all(
                f"SELECT count(*) FROM (SELECT 1 FROM asset WHERE {_NOT_SAFE} AND late_at <= ? LIMIT ?)",  # noqa: S608
                sortable(now),
                LATE_LIMIT,
            )
            doubted = self._db.all(
                "SELECT count(*) FROM note JOIN asset ON asset_id = subject WHERE name = ? AND receipt IS NULL", DOUBT
            )
            head = self._db.one("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1") or (0, b"")
            return Overview(
                {state: assets.get(state, Tally()) for state in AssetState},
                {outcome: clips.get(outcome, Tally()) for outcome in Outcome},
                late[0][0],
                doubted[0][0],
                len(self.open_dockings()),
                head[0],
                head[1].hex(),
                {state: documents.get(state, Tally()) for state in AssetState},
                self.completeness(),
                {state: derived.get(state, Tally()) for state in AssetState},
                self.copies(),
                self.seal_counts(),
            )

    def newest(self) -> datetime | None:
        """Return when the last event was recorded; None if there is none."""
        found = self._db.one("SELECT at FROM event ORDER BY seq DESC LIMIT 1")
        return None if found is None else datetime.fromisoformat(found[0])

    def events(self, after_seq: int = 0, limit: int = 100) -> tuple[EventView, ...]:
        """Return the events behind `after_seq`, oldest first."""
        query = "SELECT seq, at, kind, subject, detail, hash FROM event WHERE seq > ? ORDER BY seq LIMIT ?"
        return tuple(
            EventView(seq, datetime.fromisoformat(at), kind, subject, detail, digest.hex())
            for seq, at, kind, subject, detail, digest in self._db.all(query, after_seq, limit)
        )
