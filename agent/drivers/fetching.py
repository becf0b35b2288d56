"""Fetches clips through a puller child, checking each of its lines: what all drivers share that have one."""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Final

from agent.child import Child, ChildError
from agent.drivers.base import BlockWritten, Failed, Fetched, FetchReport, FetchRequest, Progress
from agent.model import BLOCK_BYTES, Extent, FailReason

_ACK_BLOCKS: Final = 32
_REASONS: Final = frozenset(reason.value for reason in FailReason)


class Fetching(ABC):
    """The fetching half of `base.Docked`. Subclasses start the puller and say what it is asked, in `puller`'s lines."""

    def __init__(self) -> None:
        self._puller: Child | None = None
        self._stopped: list[Child] = []
        self._gone = False

    @abstractmethod
    async def _started_puller(self) -> Child:
        """The puller, started if there is none; raises ChildError."""

    @abstractmethod
    def _lines(self, requests: Sequence[FetchRequest]) -> Iterator[object]:
        """What the puller is told, so that it fulfils these requests in order."""

    @property
    def hangs(self) -> bool:
        """Whether the kernel still holds a helper that was killed; another one would only hang beside it."""
        return any(not child.ended for child in self._stopped)

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

    @staticmethod
    async def _start(module: str, arguments: Sequence[object], staging_dir: Path, stall_limit_s: float) -> Child:
        """A child that may write into one folder, whose descriptor is its last argument. Raises ChildError."""
        fd = os.open(staging_dir, os.O_RDONLY | os.O_DIRECTORY)
        try:
            words = [str(word) for word in (*arguments, fd)]
            return await Child.start(module, words, stall_limit_s=stall_limit_s, pass_fds=[fd])
        finally:
            os.close(fd)

    async def _stop_puller(self) -> None:
        puller, self._puller = self._puller, None
        await self._stop(puller)

    async def _stop(self, child: Child | None) -> None:
        if child is not None:
            await child.stop()
            self._stopped.append(child)

    async def close(self) -> None:
        """End the puller."""
        await self._stop_puller()


def _holes(raw: list[object], end: int) -> tuple[Extent, ...]:
    holes: list[Extent] = []
    for pair in raw:
        match pair:
            case [int(offset), int(length)] if 0 <= offset and 0 < length <= end - offset:
                holes.append((offset, length))
            case _:
                raise ChildError("reported an impossible hole")
    return tuple(holes)
