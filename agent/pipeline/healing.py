"""The healing lane: what is damaged here, and stored, comes back from the store; never silently, never unproved."""

from __future__ import annotations

import asyncio
from typing import Final

from agent import durable
from agent.errors import EvidenceError, StoreError
from agent.model import Asset, Incident
from agent.pipeline.documents import refusing
from agent.pipeline.hold import ReadBack, hold
from agent.pipeline.own_disk import journalled
from agent.pipeline.station import Station
from agent.vault import Settled, Vault

_LOOK_AGAIN_S: Final = 5.0


class HealLane:
    """Asks the journal for what can come back; what can't is tried again with growing pauses."""

    def __init__(self, station: Station) -> None:
        self._station = station

    async def step(self) -> None:
        """Bring the most urgent one back, or wait. Raises JournalError, and StoreError if our own disk refuses."""
        station, pause = self._station, self._station.longest_pause
        asset = await station.on_disk(station.journal.reader.next_to_bring_back, station.clock(), pause)
        if asset is not None:
            await bring_back(station, asset)
        else:
            await asyncio.sleep(_LOOK_AGAIN_S)


async def bring_back(station: Station, asset: Asset) -> None:
    """Fetch what a receipt proves, read it back from our own medium, and hold it; what hinders that is noted."""
    assert asset.receipt is not None, "only what is stored can come back"
    vault, asset_id = station.vault, asset.asset_id
    await station.journal.begun([asset_id])
    try:
        await station.on_disk(_make_way, station, asset)
        await station.store.fetch(asset.receipt, vault.staging_dir / vault.part_name(asset_id))
        settled = await station.on_disk(_settled, vault, asset)
    except (EvidenceError, StoreError) as error:
        await station.on_disk(_remove, vault, asset_id)
        if await station.failed(asset_id, error.what) == 1:
            await journalled(station, Incident("not-brought-back", {"asset": asset_id, "what": error.what}))
        return
    before = await station.on_disk(station.journal.reader.acquired, asset_id)
    holes = before.holes if before is not None else ()
    await hold(station, [ReadBack(settled, holes, role=asset.role, stored=True)])
    await journalled(station, Incident("brought-back", {"asset": asset_id, "store": asset.receipt.store}))


def _make_way(station: Station, asset: Asset) -> None:
    """Room, and no part of an earlier attempt."""
    _remove(station.vault, asset.asset_id)
    if station.vault.free_bytes() - station.reserve_bytes < asset.expected_bytes:
        what = f"There is no room for {asset.expected_bytes} bytes that the store would give back."
        raise StoreError(what, safe="The store keeps them.", do="Make room.")


def _settled(vault: Vault, asset: Asset) -> Settled:
    assert asset.digests is not None, "what is stored has fingerprints"
    return vault.settle([(asset.asset_id, asset.expected_bytes, asset.digests.blake3)])[0]


def _remove(vault: Vault, asset_id: str) -> None:
    with refusing(vault.part_name(asset_id)):
        durable.remove_part(vault.staging_dir / vault.part_name(asset_id))
