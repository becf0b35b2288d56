"""Turns the listing of a docked recorder into journal entries: what is new, what to go on with, what to confirm."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import aclosing
from datetime import datetime, timedelta
from functools import partial
from typing import Final, assert_never

from agent.capture_time import by_comparison
from agent.deadline import capture_interval, deadline_for
from agent.drivers.base import Docked, Listing, ListingEnd, RefusedEntry
from agent.errors import UnknownRecorderError
from agent.journal import device_id, new_id
from agent.lines.wire import SAID
from agent.media.kinds import medium_of
from agent.model import (
    INBOX,
    Asset,
    AssetChanged,
    AssetState,
    Clip,
    ClipRefused,
    ClipSeen,
    DockingListed,
    DockingOpened,
    Finding,
    JournalEntry,
    Mode,
    Observed,
    Recording,
    Resumed,
    Role,
    Volume,
)
from agent.pipeline.absences import Traces
from agent.pipeline.handover import taken_over
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station
from agent.receipts import NOT_ALL_SEEN
from agent.register import is_stranger

_ADMIT_CLIPS: Final = 500


class Admission:
    """Lists one docked recorder into the journal, and knows which assets this docking has claimed for itself.

    `is_open`: the journal has the docking, and not yet its end. `may_have_more`: the listing found something behind
    which there may be footage that was not listed. `cut_short` clips give fewer bytes than their entry says, and of
    `misstated` ones the recorder tells another size than reading shows.
    """

    def __init__(self, docking_id: str, station: Station, docked: Docked, slot: str, meter: Meter) -> None:
        self._docking_id = docking_id
        self._station = station
        self._docked = docked
        self._slot = slot
        self._meter = meter
        self._docked_at = station.clock()
        self._device_id = ""
        self._last_dock_out: datetime | None = None
        self._ahead = timedelta()
        self._traces = Traces(medium_of)
        self.claimed: set[str] = set()
        self.is_open = False
        self.may_have_more = False
        self.cut_short = 0
        self.misstated = 0

    async def admit_all(self) -> str:
        """Journal everything on the recorder; returns the BLAKE3 of its filesystem metadata. Raises DeviceError."""
        batch: list[Listing] = []
        seen = 0
        metadata_blake3 = ""
        async with aclosing(self._docked.clips()) as items:
            async for item in items:
                batch.append(item)
                if isinstance(item, Volume) and not self.is_open:
                    continue  # the identity of the recorder needs its filesystems
                if not self.is_open:
                    await self._open()
                seen += isinstance(item, (Clip, RefusedEntry))
                if isinstance(item, ListingEnd):
                    await self._admit(batch)
                    metadata_blake3 = item.metadata_blake3
                    await self._listed(seen, item)
                elif len(batch) >= _ADMIT_CLIPS:
                    await self._admit(batch)
                    batch = []
        assert metadata_blake3, "a listing ends with ListingEnd or DeviceError"
        return metadata_blake3

    async def _listed(self, seen: int, end: ListingEnd) -> None:
        """Journal that this is all, and what is not there any more."""
        known = (self._station.journal.reader, self._docking_id, self._device_id, end.space)
        missing: list[Finding] = []
        if self._docked.device.driver != INBOX:  # a batch lists nothing of the batch before
            missing = await self._station.on_disk(self._traces.findings, *known, is_whole=not self.may_have_more)
        self._traces = Traces(medium_of)  # a docking may last for hours
        observed = [Observed(self._docking_id, finding) for finding in missing]
        await self._station.journal.record(*observed, DockingListed(self._docking_id, seen, end.metadata_blake3))

    async def came_back(self) -> None:
        """Everything on it was taken over: if this recorder was handed out, nobody has to wait for it any more."""
        await taken_over(self._station, self._docked.device, self._docking_id, self._docked_at)

    async def _open(self) -> None:
        device = self._docked.device
        self._device_id = device_id(device)
        reader = self._station.journal.reader
        if device.driver != INBOX:  # what comes to an inbox now may have been recorded before its last batch
            self._last_dock_out = await self._station.on_disk(reader.last_dock_out, self._device_id)
        await self._station.close_left_open()
        await self._station.journal.record(DockingOpened(self._docking_id, self._device_id, device, self._slot))
        self.is_open = True
        self._meter.label(device.label or device.product or device.serial)
        if self._station.refuse_unknown and is_stranger(self._station.inventory, device):
            raise UnknownRecorderError(
                "This recorder is not in the inventory, and unknown ones are refused.",
                safe="Nothing of it was pulled; all that is on it stays there.",
                do="Call the administrator: once it is in inventory.toml it is read by itself.",
            )

    async def _admit(self, batch: Sequence[Listing]) -> None:
        async with self._station.commit:
            entries = await self._station.on_disk(self.entries, batch)
            await self._station.journal.record(*entries)
        files = [item for item in batch if isinstance(item, (Clip, RefusedEntry))]
        self._meter.listed(len(files), sum(item.readable_bytes for item in files if isinstance(item, Clip)))

    def entries(self, items: Iterable[Listing]) -> list[JournalEntry]:
        """Journal entries for one batch of the listing; claims the assets that it is going to pull."""
        found: list[JournalEntry] = []
        for item in items:
            match item:
                case Clip():
                    self.cut_short += item.readable_bytes < item.size_bytes
                    self._traces.clip(item)
                    found += self.candidate(item, tried=())
                case RefusedEntry():
                    self._traces.clip(item.clip)
                    found.append(ClipRefused(self._docking_id, item.clip, item.reason))
                case Finding():
                    self.misstated += item.kind == "size-differs"
                    self.may_have_more |= item.kind in NOT_ALL_SEEN
                    if item.kind == SAID and isinstance(offset_ms := item.detail.get("offset_ms"), int):
                        self._ahead = timedelta(milliseconds=offset_ms)
                    if item.kind == "deleted":
                        self._traces.deleted(item.detail)
                    found.append(Observed(self._docking_id, item))
                case Volume():
                    found.append(Observed(self._docking_id, Finding("volume", item._asdict())))
                case ListingEnd():
                    pass
                case _:
                    assert_never(item)
        return found

    def candidate(self, clip: Clip, tried: Iterable[str]) -> list[JournalEntry]:
        """The asset this clip may be, or a new recording. A candidate only: content decides.

        Assets that another docking works on are left out: two recorders with cloned identities must not share a part.
        """
        for asset in self._station.journal.reader.known_clips(self._device_id, clip):
            if asset.asset_id in tried:
                continue
            if asset.digests is None:
                if asset.asset_id not in self._station.claims:
                    return self._continued(clip, asset)
            elif (kept := self._kept(asset)) is not None and kept not in tried:
                return [ClipSeen(self._docking_id, clip, Mode.CONFIRM, kept)]
        return [self._new_clip(clip)]

    def _kept(self, asset: Asset) -> str | None:
        """The asset that keeps these bytes. None if they were damaged: then they are pulled as if they were new, and
        heal it if they turn out to be the same.
        """
        assert asset.digests is not None
        kept = self._station.journal.reader.kept_asset(asset.digests.blake3)
        return None if kept is None else kept.asset_id

    def _continued(self, clip: Clip, asset: Asset) -> list[JournalEntry]:
        self._claim(asset.asset_id)
        seen = ClipSeen(self._docking_id, clip, Mode.PULL, asset.asset_id)
        if asset.state is AssetState.STUCK:
            return [AssetChanged(asset.asset_id, Resumed("docking", "the recorder was docked again")), seen]
        return [seen]

    def _new_clip(self, clip: Clip) -> ClipSeen:
        told = capture_interval(clip, docked_at=self._docked_at, last_dock_out=self._last_dock_out)
        earliest, latest, trust = by_comparison(told, self._ahead)
        deadline = deadline_for(self._station.rules, earliest, latest)
        new = partial(new_id, self._station.clock)
        recording = Recording(new(), self._device_id, medium_of(clip.path), earliest, latest, trust, deadline)
        asset = Asset(new(), recording.recording_id, Role.ORIGINAL, AssetState.WANTED, clip.readable_bytes)
        self._claim(asset.asset_id)
        return ClipSeen(self._docking_id, clip, Mode.PULL, asset.asset_id, recording, asset)

    def _claim(self, asset_id: str) -> None:
        self.claimed.add(asset_id)
        self._station.claims.add(asset_id)
