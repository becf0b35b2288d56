"""From read-back parts to HELD assets: the one place where the agent says that an original is safe here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from agent.model import (
    Acquired,
    Asset,
    AssetChanged,
    AssetState,
    Extent,
    Held,
    Incident,
    JournalEntry,
    Matched,
    Outcome,
    Resumed,
    Role,
)
from agent.pipeline.station import Station
from agent.states import is_kept, may_match
from agent.vault import Settled

_BROUGHT: Final = ("docking", "a recorder brought the same bytes again")
_ATTACHED: Final = ("attachment", "the same file was attached again")
_GIVEN_BACK: Final = ("store", "the store gave the same bytes back")


@dataclass(frozen=True, slots=True)
class ReadBack:
    """A part that came back from the medium as it was read, and the clip it belongs to, if any.

    `stored`: it was read from the store, not from a recorder.
    """

    settled: Settled
    holes: tuple[Extent, ...] = ()
    docking_id: str = ""
    number: int = -1
    role: Role = Role.ORIGINAL
    stored: bool = False


async def hold(station: Station, parts: Sequence[ReadBack]) -> list[Outcome]:
    """Move verified parts into the vault and commit; returns what became of each clip. Safe to repeat.

    Digests are noted before the rename, so that a crash between rename and commit is finished from the note.
    """
    await station.journal.settled([(part.settled, part.holes) for part in parts])
    async with station.freeing:
        pass  # what is going is gone; whatever would go from now on sees what was noted, and stays
    damaged: list[str] = []
    kept = await station.on_disk(station.vault.keep, [part.settled for part in parts], damaged.append)
    # Two dockings may bring the same bytes at the same time: only one of them may become the original.
    async with station.commit:
        entries = await station.on_disk(_entries, station, parts, kept)
        entries += [Incident("vault-damaged", {"blake3": digest, "healed": True}) for digest in damaged]
        await station.journal.record(*entries)
        for digest in await station.on_disk(_freed, station, kept):
            station.still_here(digest)
    told = {entry.asset_id for entry in entries if isinstance(entry, AssetChanged)}
    for part in parts:
        if part.settled.asset_id not in told:  # it came back some other way meanwhile
            await station.journal.unsettled(part.settled.asset_id)
    station.held_news.set()
    return [entry.outcome for entry in entries if isinstance(entry, AssetChanged) and entry.outcome is not None]


def _freed(station: Station, kept: Sequence[Held]) -> set[str]:
    """What has come into the vault again though its local copy was freed once."""
    found = station.journal.reader.assets_with({held.digests.blake3 for held in kept})
    return {asset.digests.blake3 for asset in found if asset.digests and asset.state is AssetState.RELEASED}


def _entries(station: Station, parts: Sequence[ReadBack], kept: Sequence[Held]) -> list[JournalEntry]:
    entries: list[JournalEntry] = []
    owners = station.journal.reader.assets_with({held.digests.blake3 for held in kept})
    here = {asset.asset_id for asset in owners if is_kept(asset)}
    known: dict[str, str] = {}
    for part, held in zip(parts, kept, strict=True):
        digest = held.digests.blake3
        if held.asset_id in here:
            continue
        same = known.get(digest)
        if same is None:
            same = known[digest] = _keeper(station, part, held, owners, entries)
        if same == held.asset_id:
            event: Acquired | Matched = Acquired(held, part.holes)
            outcome = Outcome.PULLED
        else:
            event, outcome = Matched(same, held.digests, part.holes), Outcome.ALREADY_HELD
        if part.holes:
            outcome = Outcome.UNREADABLE
        entries.append(AssetChanged(held.asset_id, event, part.docking_id, part.number, outcome))
    return entries


def _keeper(station: Station, part: ReadBack, held: Held, owners: Sequence[Asset], entries: list[JournalEntry]) -> str:
    """The asset these bytes belong to: the one that has them, or had them until they were damaged, or the new one."""
    same = [asset for asset in owners if asset.digests == held.digests and may_match(asset.role, part.role)]
    if (other := next(filter(is_kept, same), None)) is not None:
        return other.asset_id
    if station.vault.seal and not held.sealed:
        entries.append(Incident("not-sealed", {"asset": held.asset_id}))
    damaged = next((asset for asset in same if _waits(asset)), None)
    if damaged is None:
        return held.asset_id
    if damaged.state is AssetState.STUCK:
        brought = _BROUGHT if part.role is Role.ORIGINAL else _ATTACHED
        entries.append(AssetChanged(damaged.asset_id, Resumed(*(_GIVEN_BACK if part.stored else brought))))
    if damaged.asset_id == held.asset_id:
        return held.asset_id
    entries.append(AssetChanged(damaged.asset_id, Acquired(replace(held, asset_id=damaged.asset_id), part.holes)))
    return damaged.asset_id


def _waits(asset: Asset) -> bool:
    """A document that is WANTED is on its way itself: its content was known before."""
    return asset.state is AssetState.STUCK or (asset.state is AssetState.WANTED and asset.role is Role.ORIGINAL)
