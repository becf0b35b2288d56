"""Mass-storage recorders and card images: read without mounting, by a parser child and a puller child."""

from __future__ import annotations

import asyncio
import itertools
import math
import os
from array import array
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from agent.child import Child, ChildError
from agent.drivers.base import BlockWritten, Failed, Fetched, FetchReport, FetchRequest, Listing, Progress
from agent.drivers.listing import CheckedListing, Layout
from agent.drivers.source import Identity
from agent.errors import DeviceError
from agent.model import BLOCK_BYTES, Clip, Device, Extent, FailReason, Volume

_EXTENTS_PER_LINE: Final = 1000
_ACK_BLOCKS: Final = 32
_REASONS: Final = frozenset(reason.value for reason in FailReason)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the helpers: silence of either, CPU and memory of the parser, patience with bad sectors per clip."""

    stall_s: float = 30.0
    parser_s: float = 120.0
    parser_memory_bytes: int = 1 << 30
    rescue_s: float = 1800.0


DEFAULT_LIMITS: Final = Limits()


class MassStorage:
    """A docked block device or image file. The daemon never opens it: only the two children do, read-only."""

    def __init__(self, path: Path, device: Device, staging_dir: Path, limits: Limits = DEFAULT_LIMITS) -> None:
        self.device = device  # filesystem ids and size are known after the listing began
        self._path = path
        self._staging_dir = staging_dir
        self._limits = limits
        self._layouts: dict[int, Layout] = {}
        self._source: Identity | None = None
        self._puller: Child | None = None
        self._parser: Child | None = None
        self._stopped: list[Child] = []
        self._gone = False

    @property
    def hangs(self) -> bool:
        """Whether the kernel still holds a helper that was killed; another one would only hang beside it."""
        return any(not child.ended for child in self._stopped)

    async def clips(self) -> AsyncGenerator[Listing, None]:
        """List everything on the recorder; raises DeviceError if the filesystem or the parser fails."""
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
            raise DeviceError(
                f"The reader of this recorder failed: it {error}.",
                safe="Nothing was changed on the recorder; what was pulled before is safe.",
                do="Dock it again; if it happens again, keep it and call the administrator.",
            ) from error
        finally:
            parser, self._parser = self._parser, None
            await self._stop(parser)
        if self._source is not None and listing.source != self._source:
            raise DeviceError(
                "Another recorder lies here than the one that was listed.",
                safe="What was pulled is safe.",
                do="Leave it docked: it is read from the beginning.",
            )
        self._source, self._layouts = listing.source, listing.layouts

    def locate(self, clip: Clip, extents: Sequence[Extent]) -> None:
        """Make what lies at these places of the listed recorder fetchable as a clip; its number must be no other's.

        Raises DeviceError if the recorder has no such places, or if they are not as long as the clip.
        """
        assert self._source is not None, "locate() before clips()"
        inside = all(0 <= at and 0 < length <= self._source.size - at for at, length in extents)
        if not inside or sum(length for _, length in extents) != clip.readable_bytes:
            raise DeviceError(f"{clip.path}: the recorder has no such place.", safe="Nothing was read or changed.")
        self._layouts[clip.number] = Layout(clip.readable_bytes, None, array("Q", itertools.chain(*extents)))

    async def fetch(self, requests: Sequence[FetchRequest]) -> AsyncGenerator[FetchReport, None]:
        """Read clips of the last listing, in order; a helper that dies or lies costs only the clip it was at."""
        waiting = deque(requests)
        try:
            while waiting and not self._gone:
                try:
                    async with aclosing(self._fetch_with_one_puller(waiting)) as reports:
                        async for report in reports:
                            yield report
                            self._gone |= isinstance(report, Failed) and report.reason is FailReason.GONE
                except ChildError as error:
                    await self._stop_puller()
                    if waiting and not self._gone:
                        yield Failed(waiting.popleft().clip.number, FailReason.BROKEN, f"the reading helper {error}")
            for request in waiting:
                yield Failed(request.clip.number, FailReason.GONE, "the recorder was unplugged")
        finally:
            if waiting:  # given up in the middle: what the helper goes on to say is an answer to nobody
                await self._stop_puller()

    async def _fetch_with_one_puller(self, waiting: deque[FetchRequest]) -> AsyncGenerator[FetchReport, None]:
        puller = await self._started_puller()
        sending = asyncio.create_task(puller.send(*self._lines(tuple(waiting))))
        taken = taken_bytes = 0
        try:
            while waiting:
                line = await puller.line()
                report = self._report(line, waiting[0])
                if isinstance(report, (Fetched, Failed)):
                    waiting.popleft()
                yield report
                if isinstance(report, Failed) and report.reason is FailReason.GONE:
                    return
                if isinstance(report, BlockWritten):
                    taken += 1
                    taken_bytes += report.size_bytes
                    # One acknowledgement a block for big files; small files share one.
                    if taken_bytes >= BLOCK_BYTES or taken == _ACK_BLOCKS:
                        await sending
                        await puller.send({"ack": taken})
                        taken = taken_bytes = 0
            await sending
            await puller.send({"ack": taken})
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _started_puller(self) -> Child:
        if self._puller is None:
            assert self._source is not None, "fetch() before clips()"
            source = self._source
            staging_fd = os.open(self._staging_dir, os.O_RDONLY | os.O_DIRECTORY)
            numbers = (source.rdev, source.ino, source.size, source.diskseq, self._limits.rescue_s, staging_fd)
            arguments = [str(self._path), *map(str, numbers)]
            stall_s = self._limits.stall_s
            try:
                self._puller = await Child.start(
                    "agent.drivers.puller", arguments, stall_limit_s=stall_s, pass_fds=[staging_fd]
                )
            finally:
                os.close(staging_fd)
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

    def _report(self, line: object, request: FetchRequest) -> FetchReport:
        """One line of the puller as a report; raises ChildError for anything that can't be about the clip at hand."""
        number = request.clip.number
        size = request.clip.readable_bytes
        match line:
            case {"block": [int(n), int(index), int(length), str(digest), list(holes)]} if n == number:
                if length != min(BLOCK_BYTES, size - index * BLOCK_BYTES) or len(digest) != 64:
                    raise ChildError("reported an impossible block")
                return BlockWritten(n, index, length, digest, _holes(holes, index * BLOCK_BYTES + length))
            case {"progress": [int(n), int(done)]} if n == number and 0 <= done <= size:
                return Progress(n, done)
            case {"fetched": [int(n), int(length), list(holes), str(digest)]} if n == number and length == size:
                return Fetched(n, length, _holes(holes, size), digest)
            case {"failed": [int(n), str(reason), str(message)]} if n == number and reason in _REASONS:
                return Failed(n, FailReason(reason), message[:500])
            case {"gone": _}:
                return Failed(number, FailReason.GONE, "the recorder was unplugged or is another one now")
            case _:
                raise ChildError("reported something that was not asked")

    async def unplugged(self) -> None:
        """Called when detection says that the device is gone: every fetch under way ends with GONE."""
        self._gone = True
        await self.close()

    async def _stop_puller(self) -> None:
        puller, self._puller = self._puller, None
        await self._stop(puller)

    async def _stop(self, child: Child | None) -> None:
        if child is not None:
            await child.stop()
            self._stopped.append(child)

    async def close(self) -> None:
        """End all helpers."""
        await self._stop_puller()
        await self._stop(self._parser)


def _holes(raw: list[object], end: int) -> tuple[Extent, ...]:
    holes: list[Extent] = []
    for pair in raw:
        match pair:
            case [int(offset), int(length)] if 0 <= offset and 0 < length <= end - offset:
                holes.append((offset, length))
            case _:
                raise ChildError("reported an impossible hole")
    return tuple(holes)
