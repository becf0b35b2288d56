"""What is done about a held file that is no longer as it was recorded: it is put aside, and told, never hidden."""

from __future__ import annotations

from agent.model import Asset, AssetChanged, AssetState, Damaged
from agent.pipeline.station import Station
from agent.states import is_kept


async def put_aside(station: Station, asset: Asset, found: str) -> bool:
    """Move the file aside and journal it; a docking can bring the original again. Raises StoreError and JournalError.

    False if the file is no longer held: then nothing is wrong.
    """
    async with station.commit:
        now = await station.on_disk(station.journal.reader.asset, asset.asset_id)
        if not is_kept(now) or now.state is AssetState.RELEASED or now.digests is None:
            return False
        await station.on_disk(station.vault.quarantine, now.asset_id, now.digests)
        await station.journal.record(AssetChanged(now.asset_id, Damaged(found, source_docked=False)))
        station.damages += 1
    return True
