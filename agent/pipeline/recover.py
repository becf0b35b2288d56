"""Start = recovery: finishes what was read back, closes dockings that were cut off, adopts originals without a row."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Final

from agent.deadline import deadline_for
from agent.errors import EvidenceError, StoreError
from agent.journal import Reader, new_id
from agent.journal.views import SettledNote
from agent.model import (
    Adopted,
    Asset,
    AssetState,
    ClockTrust,
    DockingClosed,
    Held,
    Incident,
    Medium,
    Recording,
    Role,
)
from agent.pipeline.documents import recover_documents
from agent.pipeline.hold import ReadBack, hold
from agent.pipeline.station import Station

_CENSUS_BATCH: Final = 64
_CENSUS_PAUSE_S: Final = 0.2


async def recover(station: Station) -> None:
    """Everything that needs no recorder to be finished; the same steps as after a normal pull.

    Parts that are not complete stay in staging: a later docking goes on with them.
    """
    reader = station.journal.reader
    for note in await station.on_disk(reader.settled):
        await _finish(station, note)
    await recover_documents(station)
    for docking_id in await station.on_disk(reader.open_dockings):
        await station.journal.record(DockingClosed(docking_id, "interrupted"))


async def _finish(station: Station, note: SettledNote) -> None:
    try:
        await _hold_or_give_up(station, note)
    except StoreError as error:
        # Our own disk refuses this one: the note stays for the next start, and the station works meanwhile.
        await station.journal.record(Incident("part-waits", {"asset": note.settled.asset_id, "what": error.what}))


async def _hold_or_give_up(station: Station, note: SettledNote) -> None:
    asset_id, digests = note.settled.asset_id, note.settled.digests
    place = await station.on_disk(station.journal.reader.open_clip_of, asset_id)
    docking_id, number = place if place is not None else ("", -1)
    try:
        kept = await station.on_disk(station.vault.keep, [note.settled])
        found = await station.on_disk(station.vault.reread, kept[0])
        if found != digests:
            await station.on_disk(station.vault.quarantine, asset_id, digests)
            raise EvidenceError(f"The part of asset {asset_id} changed while the agent was down.")
    except EvidenceError as error:
        # Not safe here after all; it stays wanted, and the recorder still has it.
        await station.journal.unsettled(asset_id)
        await station.journal.record(Incident("part-lost", {"asset": asset_id, "what": error.what}))
        return
    asset = await station.on_disk(station.journal.reader.asset, asset_id)
    await hold(station, [ReadBack(note.settled, note.holes, docking_id, number, asset.role)])


async def census(station: Station) -> None:
    """Compare the vault with the journal, gently; an original that no row knows is adopted, never ignored."""
    originals = station.vault.originals()
    while batch := await station.on_disk(lambda: list(islice(originals, _CENSUS_BATCH))):
        for digest, _, _ in batch:
            await _adopt_if_unknown(station, digest)
            freed = await station.on_disk(station.journal.reader.asset_by_blake3, digest, (AssetState.RELEASED,))
            if freed is not None:
                station.still_here(digest)
        await asyncio.sleep(_CENSUS_PAUSE_S)


async def _adopt_if_unknown(station: Station, digest: str) -> None:
    if await station.on_disk(_is_known, station.journal.reader, digest):
        return
    asset_id = new_id(station.clock)
    # Reading a whole original takes its time: the dockings don't wait for it, so they may have brought it meanwhile.
    try:
        held = await station.on_disk(station.vault.examine, asset_id, digest)
    except EvidenceError as error:
        await station.journal.record(Incident("vault-damaged", {"blake3": digest, "what": error.what}))
        return
    async with station.commit:
        if await station.on_disk(_is_known, station.journal.reader, digest):
            return
        await station.journal.record(_adoption(station, held))
    station.held_news.set()


def _is_known(reader: Reader, digest: str) -> bool:
    return reader.asset_by_blake3(digest, tuple(AssetState)) is not None or reader.is_settled(digest)


def _adoption(station: Station, held: Held) -> Adopted:
    now = station.clock()
    recording = Recording(
        new_id(station.clock), "", Medium.OTHER, None, now, ClockTrust.UNTRUSTED,
        deadline_for(station.rules, None, now),
    )  # fmt: skip
    asset = Asset(held.asset_id, recording.recording_id, Role.ORIGINAL, AssetState.WANTED, held.size_bytes)
    return Adopted(recording, asset, held)
