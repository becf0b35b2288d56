"""The store lane: takes the most urgent held original, stores it, and believes only a checked receipt."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Final

from agent.errors import EvidenceError, JournalError, StoreError
from agent.model import Asset, AssetChanged, Blocked, Confirmed, Damaged
from agent.pipeline.station import Station

_LOOK_AGAIN_S: Final = 5.0
_INTERRUPTED: Final = 50
_ATTEMPT_LIMIT_S: Final = 600.0
_SLOWEST_BYTES_S: Final = 1e6


class StoreLane:
    """Workers share one lane; each asks the journal for the next asset, so there is nothing to recover."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._taken: set[str] = set()
        self._choosing = asyncio.Lock()
        self._must_end: dict[str, float] = {}
        self._failures = 0
        self._ticks = 0
        self._blind = ""
        self._refusal = ""

    @property
    def error(self) -> str:
        """Why the last original could not be stored, or none be looked for; empty when it could."""
        return self._blind or self._refusal

    def ticks(self) -> int:
        """Grows with every call while no attempt takes longer than any store that still works would need."""
        now_s = asyncio.get_running_loop().time()
        self._ticks += all(now_s < end_s for end_s in self._must_end.values())
        return self._ticks

    async def take(self) -> Asset:
        """Wait for the most urgent original that is due for an attempt, and keep the other workers away from it."""
        while True:
            await self._pause()
            self._station.held_news.clear()
            async with self._choosing:
                try:
                    asset = await self._next()
                except JournalError as error:
                    self._blind = error.what
                    self.rest()
                    continue
                self._blind = ""
                if asset is not None:
                    self._taken.add(asset.asset_id)
                    allowed_s = _ATTEMPT_LIMIT_S + asset.expected_bytes / _SLOWEST_BYTES_S
                    self._must_end[asset.asset_id] = asyncio.get_running_loop().time() + allowed_s
                    return asset
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._station.held_news.wait()
            except TimeoutError:
                continue

    async def _next(self) -> Asset | None:
        station = self._station
        longest = timedelta(seconds=station.limits.backoff_max_s)
        return await station.on_disk(
            station.journal.reader.next_asset_to_store, station.clock(), frozenset(self._taken), longest_pause=longest
        )

    def give_back(self, asset: Asset) -> None:
        """The attempt is over, whatever came of it."""
        self._taken.discard(asset.asset_id)
        self._must_end.pop(asset.asset_id, None)

    def rest(self) -> None:
        """Something failed: wait longer before the next attempt begins, not inside this one, which has a limit."""
        self._failures += 1

    async def _pause(self) -> None:
        """While the store is away, one original after the other would fail: wait longer after each."""
        if self._failures:
            limits = self._station.limits
            await asyncio.sleep(min(limits.backoff_max_s, limits.backoff_base_s * 2.0 ** min(self._failures - 1, 30)))

    async def store(self, asset: Asset) -> None:
        """One attempt; whatever the world refuses leaves the asset in a true state, to be tried again."""
        try:
            await self._attempt(asset)
        except (JournalError, StoreError) as error:  # our own disk is full or failing: nothing was changed
            self._refusal = error.what
            self.rest()

    async def _attempt(self, asset: Asset) -> None:
        """Counted before the work, so that what kills the process again and again is noticed."""
        station = self._station
        assert asset.digests is not None
        assert asset.size_bytes is not None
        before = await station.on_disk(station.journal.reader.attempt, asset.asset_id)
        if before is not None and before.begun - before.failed >= _INTERRUPTED:
            why = f"the agent was interrupted {_INTERRUPTED} times while storing this"
            await station.journal.record(AssetChanged(asset.asset_id, Blocked(why)))
            return
        await station.journal.begun([asset.asset_id])
        try:
            held = await station.on_disk(station.vault.claim, asset.asset_id, asset.size_bytes, asset.digests)
            receipt = await station.store.put(held)
        except StoreError as error:
            await self._not_stored(asset, error)
        except EvidenceError as error:
            await self._damaged(asset, error)
        else:
            await station.journal.record(AssetChanged(asset.asset_id, Confirmed(receipt)))
            self._refusal = ""
            self._failures = 0

    async def _not_stored(self, asset: Asset, error: StoreError) -> None:
        self._refusal = error.what
        # A store that is away is tried for ever, with a bounded pause; only a refusal needs a person.
        if error.retry:
            self.rest()
            await self._station.failed(asset.asset_id, str(error))
        else:
            await self._station.journal.record(AssetChanged(asset.asset_id, Blocked(str(error))))

    async def _damaged(self, asset: Asset, error: EvidenceError) -> None:
        """The vault's own bytes changed: keep them aside, and say so; a new docking can bring the original again."""
        assert asset.digests is not None
        await self._station.on_disk(self._station.vault.quarantine, asset.asset_id, asset.digests)
        await self._station.journal.record(AssetChanged(asset.asset_id, Damaged(str(error), source_docked=False)))
