"""The scrub lane: slowly, round after round, reads every held file again from the medium and compares it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from agent.drivers.sandbox import idle_io
from agent.errors import EvidenceError
from agent.hours import is_open
from agent.model import Asset, AssetState, Scrubbed, ScrubProgress
from agent.pipeline.damage import put_aside
from agent.pipeline.rereading import UnreadableError, rereading
from agent.pipeline.station import Station
from agent.states import is_kept

_PAGE: Final = 50
_TOLD_FILES: Final = 10_000
_TOLD_EACH: Final = timedelta(minutes=15)
_IN_A_ROW: Final = 3
"""So many files in a row that can't be read at all are the fault of a disk or a mount: no more are put aside."""


class ScrubLane:
    """Goes by asset id, so that what was read longest ago is next: new files have the highest ids.

    Where it stands is in the journal alone: the last `Scrubbed`. A restart reads again what that doesn't tell yet. The
    first round waits as long as the others do: what is held was read back when it came.
    """

    def __init__(self, station: Station, is_busy: Callable[[], bool]) -> None:
        self._station = station
        self._is_busy = is_busy
        self._batch: Scrubbed | None = None
        self._told_files = 0
        self._unreadable = 0
        self._waits_from: datetime | None = None
        self.progress = ScrubProgress()

    async def step(self) -> None:
        """Read the next file, or wait if the round is over, it is not the hour for it, or others need the disk."""
        station = self._station
        if self._batch is None:
            await self._recall()
        batch = self._batch
        if not self._may_go_on() or batch is None:
            await asyncio.sleep(station.limits.probe_pause_s)
            return
        asset = await station.on_disk(self._next, batch.last)
        if asset is not None:
            await self._examine(batch, asset)
        elif batch.last:
            await self._tell(complete=True)
        else:
            await asyncio.sleep(station.limits.probe_pause_s)  # nothing is held yet

    def _may_go_on(self) -> bool:
        now, scrub = self._station.clock(), self._station.scrub
        waits = self._waits_from is not None and timedelta() <= now - self._waits_from < timedelta(days=scrub.each_days)
        return scrub.enabled and not waits and is_open(scrub.hours, now) and not self._is_busy()

    def _next(self, after: str) -> Asset | None:
        """The next file that is here."""
        while page := self._station.journal.reader.known_bytes(after, _PAGE):
            here = (asset for asset in page if is_kept(asset) and asset.state is not AssetState.RELEASED)
            if (asset := next(here, None)) is not None:
                return asset
            after = page[-1].asset_id
        return None

    def _first_held(self) -> datetime | None:
        first = self._next("")
        return self._station.journal.reader.last_good(first.asset_id) if first is not None else self._station.clock()

    async def _examine(self, batch: Scrubbed, asset: Asset) -> None:
        assert asset.digests is not None
        assert asset.size_bytes is not None
        self._waits_from = None
        if batch.last == batch.after:
            now = self._station.clock()
            batch = replace(batch, began_at=now, round_at=batch.round_at if batch.files else now)
        path = self._station.vault.address(asset.digests.blake3)
        damaged = False
        try:
            with contextlib.closing(rereading(path, asset.size_bytes, asset.digests)) as blocks:
                await self._paced(blocks)
        except EvidenceError as error:
            damaged = await self._damaged(asset, error)
            if self._unreadable > _IN_A_ROW:
                return  # the same one is next
        else:
            self._unreadable = 0
        counts = (batch.files + 1, batch.size_bytes + asset.size_bytes, batch.damaged + damaged)
        self._show(replace(batch, last=asset.asset_id, files=counts[0], size_bytes=counts[1], damaged=counts[2]))
        late = not timedelta() <= self._station.clock() - batch.began_at < _TOLD_EACH
        if damaged or late or counts[0] - self._told_files >= _TOLD_FILES:
            await self._tell()

    async def _damaged(self, asset: Asset, error: EvidenceError) -> bool:
        self._unreadable = self._unreadable + 1 if isinstance(error, UnreadableError) else 0
        if self._unreadable > _IN_A_ROW:
            told = "多个文件连续无法读取，全量校验已暂停，请检查磁盘和挂载 (many files in a row can't be read"
            self.progress = replace(self.progress, trouble=f"{told}: {error.what})")
            await asyncio.sleep(self._station.limits.backoff_max_s)
            return False
        is_damaged = await put_aside(self._station, asset, str(error))
        if not is_damaged:  # it was freed meanwhile, by the rules for that
            self._unreadable = 0
        return is_damaged

    async def _paced(self, blocks: Iterator[int]) -> None:
        """Read to the end, no faster than configured; never a block while a recorder is being read."""
        loop, station = asyncio.get_running_loop(), self._station
        while True:
            if self._is_busy():
                await asyncio.sleep(station.limits.probe_pause_s)
                continue
            began_s = loop.time()
            got = await station.on_disk(_polite, blocks)
            if got is None:
                return
            await asyncio.sleep(max(0.0, got / station.scrub.limit_bytes_s - (loop.time() - began_s)))

    async def _recall(self) -> None:
        reader, now = self._station.journal.reader, self._station.clock()
        last = await self._station.on_disk(reader.last_scrub)
        full = await self._station.on_disk(lambda: reader.last_scrub(complete=True))
        if full is not None:
            self._show_full(full.at, full.told)
        if last is None or last.told.complete:
            self._begin(now)
            self._waits_from = last.told.round_at if last is not None else await self._station.on_disk(self._first_held)
        else:
            self._told_files = last.told.files
            self._show(replace(last.told, after=last.told.last))

    def _begin(self, now: datetime) -> None:
        self._told_files = 0
        self._show(Scrubbed("", "", now, now, 0, 0))

    async def _tell(self, *, complete: bool = False) -> None:
        """Journal what was read since the last time."""
        assert self._batch is not None, "something was read"
        told = replace(self._batch, complete=complete)
        await self._station.journal.record(told)
        now = self._station.clock()
        if complete:
            self._show_full(now, told)
            self._begin(now)
            self._waits_from = told.round_at
        else:
            self._told_files = told.files
            self._show(replace(told, after=told.last))

    def _show(self, batch: Scrubbed) -> None:
        self._batch = batch
        began_at = batch.round_at if batch.files else None
        self.progress = replace(
            self.progress, files=batch.files, size_bytes=batch.size_bytes, damaged=batch.damaged, began_at=began_at,
            trouble="",
        )  # fmt: skip

    def _show_full(self, at: datetime, told: Scrubbed) -> None:
        self.progress = replace(self.progress, full_at=at, full_files=told.files, full_damaged=told.damaged)


def _polite(blocks: Iterator[int]) -> int | None:
    """The next block, read while nobody else needs the disk; None at the end."""
    idle_io(on=True)
    try:
        return next(blocks, None)
    finally:
        idle_io(on=False)
