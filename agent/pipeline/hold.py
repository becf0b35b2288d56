"""From read-back parts to HELD assets: the one place where the agent says that an original is safe here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agent.model import (
    Acquired,
    AssetChanged,
    Extent,
    Held,
    Incident,
    JournalEntry,
    Matched,
    Outcome,
)
from agent.pipeline.station import Station
from agent.vault import Settled


@dataclass(frozen=True, slots=True)
class ReadBack:
    """A part that came back from the medium as it was read from the recorder, and the clip it belongs to."""

    settled: Settled
    holes: tuple[Extent, ...]
    docking_id: str
    number: int


async def hold(station: Station, parts: Sequence[ReadBack]) -> list[Outcome]:
    """Move verified parts into the vault and commit; returns what became of each clip. Safe to repeat.

    Digests are noted before the rename, so that a crash between rename and commit is finished from the note.
    """
    await station.journal.settled([(part.settled, part.holes) for part in parts])
    kept = await station.on_disk(station.vault.keep, [part.settled for part in parts])
    # Two dockings may bring the same bytes at the same time: only one of them may become the original.
    async with station.commit:
        entries = await station.on_disk(_entries, station, parts, kept)
        await station.journal.record(*entries)
    station.held_news.set()
    return [entry.outcome for entry in entries if isinstance(entry, AssetChanged) and entry.outcome is not None]


def _entries(station: Station, parts: Sequence[ReadBack], kept: Sequence[Held]) -> list[JournalEntry]:
    entries: list[JournalEntry] = []
    new: dict[str, str] = {}
    for part, held in zip(parts, kept, strict=True):
        digest = held.digests.blake3
        same = new.get(digest)
        if same is None:
            other = station.journal.reader.kept_asset(digest)
            same = other.asset_id if other is not None and other.asset_id != held.asset_id else None
        if same is not None:
            event: Acquired | Matched = Matched(same, held.digests)
            outcome = Outcome.ALREADY_HELD
        else:
            new[digest] = held.asset_id
            event = Acquired(held, part.holes)
            outcome = Outcome.UNREADABLE if part.holes else Outcome.PULLED
            if not held.sealed and station.vault.seal:
                entries.append(Incident("not-sealed", {"asset": held.asset_id}))
        entries.append(AssetChanged(held.asset_id, event, part.docking_id, part.number, outcome))
    return entries
