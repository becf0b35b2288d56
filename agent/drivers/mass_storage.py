"""Mass-storage recorders and card images: read without mounting, by a parser child and a puller child."""

from __future__ import annotations

import asyncio
import itertools
import math
from array import array
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.child import Child, ChildError
from agent.drivers.base import FetchRequest, Listing
from agent.drivers.fetching import Fetching
from agent.drivers.listing import CheckedListing, Layout, unplugged
from agent.drivers.source import LOOK_S, LOOKS, Identity
from agent.errors import DeviceError
from agent.model import Clip, Device, Extent, Volume

_EXTENTS_PER_LINE: Final = 1000


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the helpers: silence of either, CPU and memory of the parser, patience with bad sectors per clip."""

    stall_s: float = 30.0
    parser_s: float = 120.0
    parser_memory_bytes: int = 1 << 30
    rescue_s: float = 1800.0


DEFAULT_LIMITS: Final = Limits()


class MassStorage(Fetching):
    """A docked block device or image file. The daemon never opens it: only the two children do, read-only."""

    def __init__(self, path: Path, device: Device, staging_dir: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        super().__init__()
        self.device = device  # filesystem ids and size are known after the listing began
        self._path = path
        self._staging_dir = staging_dir
        self._limits = limits
        self._layouts: dict[int, Layout] = {}
        self._source: Identity | None = None
        self._parser: Child | None = None
        self._is_disk = path.is_block_device()

    async def clips(self) -> AsyncGenerator[Listing, None]:
        """List everything on the recorder; raises DeviceError if the filesystem or the parser fails."""
        try:
            async with aclosing(self._listed()) as items:
                async for item in items:
                    yield item
        except DeviceError as error:
            if await self._is_gone():
                raise unplugged(error.what) from error
            raise

    async def _is_gone(self) -> bool:
        """Whether it is no disk any more, or soon: until then its filesystem only seemed to be damaged."""
        for _ in range(LOOKS if self._is_disk else 0):
            if not self._path.exists():
                return True
            await asyncio.sleep(LOOK_S)
        return False

    async def _listed(self) -> AsyncGenerator[Listing, None]:
        limits = self._limits
        arguments = [str(self._path), str(math.ceil(limits.parser_s)), str(limits.parser_memory_bytes)]
        listing = CheckedListing()
        volumes: list[str] = []
        ended = False
        try:
            self._parser = await Child.start("agent.drivers.parser", arguments, stall_limit_s=limits.parser_s)
            while (line := await self._parser.line()) is not None:
                if ended:
                    raise DeviceError("The reader of this recorder went on after its end.")
                ended = isinstance(line, dict) and "end" in line
                for item in await asyncio.to_thread(listing.feed, line) if ended else listing.feed(line):
                    if isinstance(item, Volume):
                        volumes.append(f"{item.kind}:{item.filesystem_id}")
                        self.device = replace(self.device, label=self.device.label or item.label)
                    yield item
                if listing.source is not None and self.device.filesystem_ids != tuple(volumes):
                    self.device = replace(self.device, filesystem_ids=tuple(volumes), size_bytes=listing.source.size)
            if not ended:
                raise ChildError("ended before the listing was complete")
        except ChildError as error:
            raise reader_failed(error) from error
        finally:
            parser, self._parser = self._parser, None
            await self._stop(parser)
        self._same_source(listing.source)
        self._source, self._layouts = listing.source, listing.layouts

    def _same_source(self, found: Identity | None) -> None:
        if self._source is not None and found != self._source:
            raise DeviceError(
                "Another recorder lies here than the one that was listed.",
                safe="What was pulled is safe.",
                do="Leave it docked: it is read from the beginning.",
            )

    def locate(self, clip: Clip, extents: Sequence[Extent]) -> None:
        """Make what lies at these places of the listed recorder fetchable as a clip; its number must be no other's.

        Raises DeviceError if the recorder has no such places, or if they are not as long as the clip.
        """
        assert self._source is not None, "locate() before clips()"
        inside = all(0 <= at and 0 < length <= self._source.size - at for at, length in extents)
        if not inside or sum(length for _, length in extents) != clip.readable_bytes:
            raise DeviceError(f"{clip.path}: the recorder has no such place.", safe="Nothing was read or changed.")
        self._layouts[clip.number] = Layout(clip.readable_bytes, None, array("Q", itertools.chain(*extents)))

    async def _started_puller(self) -> Child:
        if self._puller is None:
            assert self._source is not None, "fetch() before clips()"
            source = self._source
            limits, numbers = self._limits, (source.rdev, source.ino, source.size, source.diskseq)
            arguments = (self._path, *numbers, limits.rescue_s)
            self._puller = await self._start("agent.drivers.puller", arguments, self._staging_dir, limits.stall_s)
        return self._puller

    def _lines(self, requests: Sequence[FetchRequest]) -> Iterator[object]:
        for request in requests:
            number = request.clip.number
            layout = self._layouts[number]
            size, zero_from = layout.readable_bytes, layout.zero_from
            first, check, rescue = request.first_block, request.check, request.rescue
            order = {"number": number, "part": request.part, "size": size, "zero_from": zero_from}
            order |= {"first_block": first, "check": check, "rescue": rescue}
            pairs = layout.pairs()
            extents = list(itertools.islice(pairs, _EXTENTS_PER_LINE))
            while more := list(itertools.islice(pairs, _EXTENTS_PER_LINE)):
                yield {"extents": extents}
                extents = more
            yield {"fetch": order, "extents": extents}

    async def close(self) -> None:
        """End all helpers."""
        await super().close()
        await self._stop(self._parser)


def reader_failed(error: ChildError) -> DeviceError:
    """A recorder could not be listed, since its helper ended, stalled or spoke nonsense."""
    return DeviceError(
        f"The reader of this recorder failed: it {error}.",
        safe="Nothing was changed on the recorder; what was pulled before is safe.",
        do="Dock it again; if it happens again, keep it and call the administrator.",
    )
