"""The audit lane: slowly, for ever, proves one stored original after the other again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from agent.errors import EvidenceError, JournalError, StoreError
from agent.model import Acquired, Asset, AssetChanged, AssetState, AuditProgress, JournalEntry, Lost, Resumed
from agent.pipeline.station import Station
from agent.uploader.base import DOUBT

_SUBJECT: Final = "audit"
_COUNTS: Final = ("checked", "read", "lost", "rounds")


async def void(station: Station, asset: Asset, gone: EvidenceError) -> None:
    """The store no longer proves that it has an asset: its receipt is void, and the copy here goes there again.

    An object that was overwritten there needs a person; so does one whose local copy was freed, unless its file is
    still here.
    """
    entries: list[JournalEntry] = [AssetChanged(asset.asset_id, Lost(str(gone)))]
    await station.journal.note(asset.asset_id, {DOUBT: gone.what})
    async with station.freeing, station.commit:
        if asset.state is AssetState.RELEASED and asset.digests is not None:
            with contextlib.suppress(EvidenceError):
                held = await station.on_disk(station.vault.examine, asset.asset_id, asset.digests.blake3)
                back = Resumed("audit", "its file was still here"), Acquired(held)
                entries += [AssetChanged(asset.asset_id, event) for event in back]
        await station.journal.record(*entries)
    station.held_news.set()


def _unheard(_: str) -> None:
    """Nobody asks whether the store is there."""


class AuditLane:
    """Goes round all stored originals; where it stands, and what it has counted, survives a restart.

    `heard` is told whether the store is there: why not, or nothing.
    """

    def __init__(self, station: Station, heard: Callable[[str], None] = _unheard) -> None:
        self._station = station
        self._heard = heard
        self._after: str | None = None
        self.progress = AuditProgress()

    async def step(self) -> None:
        """Wait for the configured pause, then prove the next stored original again."""
        await asyncio.sleep(self._station.limits.audit_pause_s)
        try:
            if self._after is None:
                await self._recall()
            await self._next()
        except (JournalError, StoreError) as error:
            self.progress = replace(self.progress, error=error.what)

    async def look(self) -> None:
        """Ask the store whether it is there, and nothing else; raises StoreError if not."""
        try:
            await self._station.store.look()
        except StoreError as error:
            self._heard(error.what)
            raise
        self._heard("")

    async def _next(self) -> None:
        station = self._station
        found = await station.on_disk(station.journal.reader.next_to_audit, self._after or "")
        if found is not None:
            asset, place = found
            await self._prove(asset)
            self._after = place
        elif self._after:
            self._after = ""
            self.progress = replace(self.progress, rounds=self.progress.rounds + 1)
        else:
            await self.look()
            return  # nothing is stored yet
        await self._note()

    async def _prove(self, asset: Asset) -> None:
        """Raises StoreError while the store is away: then the same original is next again.

        One that only can't be proved now, say for its rights or because its receipt is of another store, is not counted
        and must not hold up the round.
        """
        station, so_far = self._station, self.progress
        assert asset.receipt is not None
        proved, read, lost, error = True, False, False, ""
        try:
            read = await station.store.check(asset.receipt, read=so_far.checked % station.limits.audit_read_each == 0)
        except EvidenceError as gone:
            await void(station, asset, gone)
            lost, error = True, gone.what
        except StoreError as refused:
            if refused.retry:
                await self.look()
            proved, error = False, refused.what
        else:
            self._heard("")
        self.progress = AuditProgress(
            so_far.checked + proved,
            so_far.read + read,
            so_far.lost + lost,
            so_far.rounds,
            station.clock() if proved else so_far.last_at,
            error,
        )

    async def _recall(self) -> None:
        station = self._station
        notes = await station.on_disk(station.journal.reader.notes, _SUBJECT)
        self._after = notes.get("after", "")
        checked, read, lost, rounds = (int(notes.get(name, "0")) for name in _COUNTS)
        self.progress = AuditProgress(checked, read, lost, rounds)

    async def _note(self) -> None:
        counts = {name: str(getattr(self.progress, name)) for name in _COUNTS}
        await self._station.journal.note(_SUBJECT, {"after": self._after or "", **counts})
