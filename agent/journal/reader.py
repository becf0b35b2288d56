"""Queries of the pipeline: what to do next, what is known, what was under way when the last process ended."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Final

from agent.journal.codec import decode
from agent.journal.connection import Connection
from agent.journal.overview import StatusQueries
from agent.journal.rows import SELECT_ASSET, asset_of, clip_likeness, holes_of, sortable
from agent.journal.views import Attempt, DurableBlock, PendingClip, SettledNote
from agent.model import Asset, AssetState, Clip, ClipSeen, Device, Digests, Mode
from agent.states import is_kept
from agent.vault import Settled

_CANDIDATES: Final = 32
_CLIPS_CACHED: Final = 2048


class Reader(StatusQueries):
    """Answers from a read-only connection that sees only what is committed; may be used from any thread."""

    def __init__(self, path: Path) -> None:
        super().__init__(Connection(path))
        # An event never changes, so what it says may be remembered.
        self._clip = lru_cache(_CLIPS_CACHED)(self._decode_clip)

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._db.close()

    def asset(self, asset_id: str) -> Asset:
        """Return an asset; raises JournalError if there is none."""
        return self._asset(asset_id)

    def asset_by_blake3(self, blake3: str, states: Collection[AssetState]) -> Asset | None:
        """Return the first asset with this content in one of the states."""
        return next((asset for asset in self._assets_with(blake3) if asset.state in states), None)

    def kept_asset(self, blake3: str) -> Asset | None:
        """Return the asset that keeps this content (`states.is_kept`): who has it again records Matched with it."""
        return next(filter(is_kept, self._assets_with(blake3)), None)

    def known_clips(self, device_id: str, clip: Clip) -> tuple[Asset, ...]:
        """Return the assets that this clip may be: same device, path, raw name, size and stamp; latest seen first.

        Only a hint: content decides. At most 32 are given.
        """
        rows = self._db.all(
            SELECT_ASSET + " JOIN (SELECT asset_id, max(seq) AS last FROM clip"  # noqa: S608
            " WHERE likeness = ? AND asset_id IS NOT NULL GROUP BY asset_id ORDER BY last DESC LIMIT ?) AS seen"
            " USING (asset_id) ORDER BY last DESC",
            clip_likeness(device_id, clip),
            _CANDIDATES,
        )
        return tuple(map(asset_of, rows))

    def next_clips(self, docking_id: str, limit: int) -> list[PendingClip]:
        """Return pending clips in the order to read them: new footage, rescue, confirmation; most urgent first."""
        found: list[PendingClip] = []
        for mode in Mode:
            rows = self._db.all(
                "SELECT seq, asset_id FROM clip WHERE docking_id = ? AND mode = ? AND outcome = 'pending'"
                " ORDER BY alarm_at, number LIMIT ?",
                docking_id,
                mode,
                limit - len(found),
            )
            found += [PendingClip(self._clip(seq), mode, asset_id) for seq, asset_id in rows]
        return found

    def next_asset_to_store(self, now: datetime, taken: Collection[str] = ()) -> Asset | None:
        """Return the most urgent held asset that isn't `taken` and isn't waiting after a failure."""
        rows = self._db.all(
            SELECT_ASSET + " WHERE state = 'held' AND NOT EXISTS"  # noqa: S608
            " (SELECT 1 FROM attempt WHERE attempt.asset_id = asset.asset_id AND next_at > ?)"
            " ORDER BY alarm_at, asset_id LIMIT ?",
            sortable(now),
            len(taken) + 1,
        )
        return next((asset_of(row) for row in rows if row[0] not in taken), None)

    def open_dockings(self) -> tuple[str, ...]:
        """Return the ids of dockings that have not ended, oldest first."""
        rows = self._db.all("SELECT docking_id FROM docking WHERE closed_at IS NULL ORDER BY seq")
        return tuple(row[0] for row in rows)

    def open_clip_of(self, asset_id: str) -> tuple[str, int] | None:
        """Return (docking id, clip number) under which an open docking still has to settle this asset."""
        row = self._db.one(
            "SELECT docking_id, number FROM clip JOIN docking USING (docking_id)"
            " WHERE asset_id = ? AND outcome = 'pending' AND closed_at IS NULL ORDER BY clip.seq DESC LIMIT 1",
            asset_id,
        )
        return (row[0], row[1]) if row else None

    def last_dock_out(self, device_id: str) -> datetime | None:
        """Return when the newest docking of this device that was listed to the end and has ended did so.

        Only after such a docking is a clip that nobody has seen newer than it.
        """
        row = self._db.one(
            "SELECT closed_at FROM docking WHERE device_id = ? AND listed_at IS NOT NULL AND closed_at IS NOT NULL"
            " ORDER BY seq DESC LIMIT 1",
            device_id,
        )
        return datetime.fromisoformat(row[0]) if row else None

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

    def wanted_parts(self, asset_ids: Iterable[str]) -> set[str]:
        """Return those of these assets whose part is still of use: they are wanted, or will be when resumed."""
        query = (
            "SELECT 1 FROM asset WHERE asset_id = ?"
            " AND (state = 'wanted' OR (state = 'stuck' AND resume_to = 'wanted'))"
        )
        return {asset_id for asset_id in asset_ids if self._db.one(query, asset_id)}

    def attempt(self, asset_id: str) -> Attempt | None:
        """Return the attempts since the asset last changed its state."""
        row = self._db.one("SELECT begun, failed, next_at, last_error FROM attempt WHERE asset_id = ?", asset_id)
        if row is None:
            return None
        begun, failed, next_at, last_error = row
        return Attempt(begun, failed, datetime.fromisoformat(next_at) if next_at else None, last_error)

    def devices(self) -> dict[str, Device]:
        """Return every recorder that was ever docked, as it was last seen, by device id."""
        rows = self._db.all("SELECT device_id, last_seq FROM device")
        return {device_id: self._opened(seq).device for device_id, seq in rows}

    def _assets_with(self, blake3: str) -> list[Asset]:
        return [asset_of(row) for row in self._db.all(SELECT_ASSET + " WHERE blake3 = ?", blake3)]

    def _decode_clip(self, seq: int) -> Clip:
        row = self._db.one("SELECT kind, detail FROM event WHERE seq = ?", seq)
        assert row is not None, "a clip names its event"
        entry = decode(*row)
        assert isinstance(entry, ClipSeen), "a pending clip was seen"
        return entry.clip
