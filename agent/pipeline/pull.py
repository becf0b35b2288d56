"""From fetched blocks to parts that were read back: one big file block by block, or many small ones at once."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from blake3 import blake3

from agent.drivers.base import BlockWritten, Fetched, FetchReport, FetchRequest
from agent.errors import EvidenceError
from agent.journal.views import DurableBlock, PendingClip
from agent.model import BLOCK_BYTES, Mode
from agent.pipeline.hold import ReadBack
from agent.pipeline.station import Station
from agent.vault import ReadBack as VaultReadBack

_ZERO_BLOCK_BLAKE3 = blake3(bytes(BLOCK_BYTES)).hexdigest()


@dataclass(slots=True)
class SmallBatch:
    """Clips of at most one block each: written one after the other, made durable and read back together."""

    station: Station
    docking_id: str
    batch: Sequence[PendingClip]
    ready: list[PendingClip] = field(default_factory=list)
    differing: list[tuple[PendingClip, EvidenceError]] = field(default_factory=list)
    _blocks: dict[int, BlockWritten] = field(default_factory=dict)

    @property
    def numbers(self) -> set[int]:
        """The clips that were fetched."""
        return {item.clip.number for item in self.ready}

    def request(self, item: PendingClip) -> FetchRequest:
        """How to fetch this clip."""
        part = self.station.vault.ready_part(item.asset_id)
        return FetchRequest(item.clip, part, rescue=item.mode is Mode.RESCUE)

    async def take(self, item: PendingClip, report: FetchReport) -> int:
        """Collect one report; returns the bytes that came from the recorder."""
        if isinstance(report, BlockWritten):
            self._blocks[report.number] = report
            return report.size_bytes
        if isinstance(report, Fetched):
            self.ready.append(item)
        return 0

    async def read_back(self) -> list[ReadBack]:
        """Make all parts durable and read them back from the medium; those that differ are left in `differing`."""
        try:
            return await self._settled(self.ready)
        except EvidenceError:
            return [part for item in self.ready for part in await self._settled_alone(item)]

    async def _settled_alone(self, item: PendingClip) -> list[ReadBack]:
        try:
            return await self._settled([item])
        except EvidenceError as error:
            self.differing.append((item, error))
            return []

    async def _settled(self, items: Sequence[PendingClip]) -> list[ReadBack]:
        parts = [(item.asset_id, item.clip.readable_bytes, self._blocks[item.clip.number].blake3) for item in items]
        settled = await self.station.on_disk(self.station.vault.settle, parts)
        return [
            ReadBack(part, self._blocks[item.clip.number].holes, self.docking_id, item.clip.number)
            for part, item in zip(settled, items, strict=True)
        ]


class BigPull:
    """A clip of several blocks: each is made durable, read back and journalled while the next ones are read."""

    def __init__(self, station: Station, docking_id: str, item: PendingClip, durable: Sequence[DurableBlock]) -> None:
        self._station = station
        self._docking_id = docking_id
        self._item = item
        self._durable = list(durable)
        self._holes = [hole for block in durable for hole in block.holes]
        self._back: VaultReadBack | None = None
        self.complete: ReadBack | None = None

    @classmethod
    async def prepare(cls, station: Station, docking_id: str, item: PendingClip) -> BigPull:
        """Go on behind the last durable block of an earlier attempt, if its part is still there."""
        blocks = await station.on_disk(station.journal.reader.blocks, item.asset_id)
        there = await station.on_disk(station.vault.part_bytes, item.asset_id) or 0
        durable: list[DurableBlock] = []
        for block in blocks:
            if block.index != len(durable) or block.index * BLOCK_BYTES + block.size_bytes > there:
                break
            durable.append(block)
        # A block of zeros (space reserved ahead) would fit any recording, so it can't prove that this is the same one.
        while durable and durable[-1].blake3 == _ZERO_BLOCK_BLAKE3:
            durable.pop()
        return cls(station, docking_id, item, durable)

    @property
    def durable_bytes(self) -> int:
        """Bytes of earlier attempts that need not be read again."""
        return sum(block.size_bytes for block in self._durable)

    def request(self) -> FetchRequest:
        """How to fetch this clip."""
        last = self._durable[-1] if self._durable else None
        return FetchRequest(
            self._item.clip,
            self._station.vault.ready_part(self._item.asset_id),
            first_block=len(self._durable),
            check=(last.index, last.blake3) if last else None,
            rescue=self._item.mode is Mode.RESCUE,
        )

    async def take(self, item: PendingClip, report: FetchReport) -> int:
        """Verify a block or finish the file; returns the bytes that came from the recorder."""
        if isinstance(report, BlockWritten):
            back = await self._opened()
            await self._station.on_disk(back.block, report.index, report.size_bytes, report.blake3)
            block = DurableBlock(report.index, report.size_bytes, report.blake3, report.holes)
            await self._station.journal.block(item.asset_id, block)
            self._holes += report.holes
            return report.size_bytes
        if isinstance(report, Fetched):
            back = await self._opened()
            settled = await self._station.on_disk(back.finish, item.clip.readable_bytes)
            self.complete = ReadBack(settled, tuple(self._holes), self._docking_id, item.clip.number)
        return 0

    async def _opened(self) -> VaultReadBack:
        if self._back is None:
            return await self._station.on_disk(self._open)
        return self._back

    def _open(self) -> VaultReadBack:
        # Kept by the thread itself: a caller that was cancelled meanwhile must find it in order to close it.
        self._back = back = self._station.vault.read_back(self._item.asset_id)
        back.replay((block.index, block.size_bytes, block.blake3) for block in self._durable)
        return back

    async def close(self) -> None:
        """Give up the part's descriptor."""
        if self._back is not None:
            back, self._back = self._back, None
            with contextlib.suppress(OSError):
                await self._station.on_disk(back.close)
