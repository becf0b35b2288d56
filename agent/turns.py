"""Who goes next: of those who share a line the most urgent, and of equally urgent recorders each its share."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

_FILE_COST_BYTES: Final = 256 * 1024
"""What a file costs beside its bytes: many small ones are no gift either."""


@dataclass(slots=True)
class Turn:
    """A place in the line of a gate; `number` is that of its arrival."""

    due_at: datetime
    number: int
    slots: int
    is_in: bool = False


class Gate:
    """Lets `slots` through at a time; of those who wait the one with the earliest due time goes first.

    Who wants to go alone takes all slots. It is waited for until they are free: nobody less urgent slips in before it.
    """

    def __init__(self, slots: int) -> None:
        self._slots = self._free = slots
        self._waiting: list[tuple[datetime, int, int, asyncio.Future[None]]] = []
        self._arrivals = 0

    @contextlib.asynccontextmanager
    async def slot(self, due_at: datetime, *, alone: bool = False) -> AsyncIterator[Turn]:
        """Hold a slot, or all of them."""
        self._arrivals += 1
        turn = Turn(due_at, self._arrivals, self._slots if alone else 1)
        await self._enter(turn)
        try:
            yield turn
        finally:
            if turn.is_in:
                self._leave(turn)

    async def _enter(self, turn: Turn) -> None:
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (turn.due_at, turn.number, turn.slots, called))
        self._call()
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():  # its turn had come in the same moment
                self._free += turn.slots
            self._call()  # who waited behind it may fit
            raise
        turn.is_in = True

    def _leave(self, turn: Turn) -> None:
        turn.is_in = False
        self._free += turn.slots
        self._call()

    def _call(self) -> None:
        """Let in who is first, as long as there is room for that one."""
        while self._waiting:
            _, _, slots, called = self._waiting[0]
            if called.done():
                heapq.heappop(self._waiting)
            elif slots <= self._free:
                heapq.heappop(self._waiting)
                self._free -= slots
                called.set_result(None)
            else:
                return

    async def give_way(self, turn: Turn) -> None:
        """Between two parts: wait while something more urgent wants to go; equals go on, one after the other."""
        if any(not called.done() for due_at, *_, called in self._waiting if due_at < turn.due_at):
            self._leave(turn)
            await self._enter(turn)


class Shares:
    """Who of several equals was given least: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996) by bytes.

    A newcomer begins where the others are, so that it neither waits for their past nor catches up its own. It lives
    in memory: after a start everybody begins anew.
    """

    def __init__(self) -> None:
        self._finish: dict[str, int] = {}
        self._now = 0

    def first(self, names: Iterable[str]) -> str:
        """Whose turn it is, of at least one name."""
        return min(names, key=lambda name: (self._start(name), name))

    def given(self, name: str, size_bytes: int) -> None:
        """One file of so many bytes was let go."""
        self._now = self._start(name)
        self._finish[name] = self._now + size_bytes + _FILE_COST_BYTES

    def _start(self, name: str) -> int:
        return max(self._now, self._finish.get(name, 0))
