"""Server-sent events: the journal from where a client stopped, and the slots as they are now; read once for all."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from itertools import islice
from typing import Final

from agent.errors import AgentError
from agent.status.board import Board

LIMIT_S: Final = 10.0
"""How long a client may take no byte."""

FOLLOWERS: Final = 256
"""How many clients may follow at the same time."""

_TICK_S: Final = 0.25
_PULSE_S: Final = 1.0
_BEAT_S: Final = 10.0
_BATCH: Final = 200
_KEPT: Final = 1000


class Feed:
    """Reads the journal while somebody follows, and keeps the last frames: each is made once, however many follow.

    Frames (https://html.spec.whatwg.org/multipage/server-sent-events.html): `journal` events carry the sequence
    number as id; `slots` and `reset` have none, so that they don't move the place a client resumes from. Who is
    behind what is kept reads the journal itself: nothing piles up.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self.head = 0
        self.ended = False
        self.pulse = asyncio.Event()
        self._closing = False
        self._kept: deque[bytes] = deque(maxlen=_KEPT)
        self._joined = (0, 0, b"")
        self._slots: tuple[object, bytes] = (None, b"")
        self._followers = 0
        self._reading: asyncio.Task[None] | None = None

    def close(self) -> None:
        """End the streams; browsers come back by themselves."""
        self._closing = True
        self._end()

    @property
    def is_full(self) -> bool:
        """Nobody more may follow."""
        return self._followers >= FOLLOWERS

    async def follow(self, after: int | None, *, only_slots: bool = False) -> AsyncGenerator[bytes]:
        """Yield frames behind event `after`, or of what happens from now on, until the service or the journal ends.

        Empty ones come each second, for who wants to see whether his client is still there. Raises JournalError before
        the first if the journal can't be read.
        """
        self._followers += 1
        try:
            newest = await self.board.last_seq()
            if self._reading is None and not self._closing:
                self.head, self.ended = newest, False
                self._kept.clear()
                self._reading = asyncio.create_task(self._read())
            follower = _Follower(self, newest if after is None else min(after, newest), only_slots=only_slots)
            yield b"retry: 2000\n\n" + (
                _frame("reset", {"seq": newest}) if after is not None and after > newest else b""
            )
            async for frame in follower.frames():
                yield frame
        finally:
            self._followers -= 1

    def since(self, after: int) -> bytes | None:
        """The frames behind event `after`; None if they are no longer kept."""
        if after >= self.head:
            return b""
        if after < self.head - len(self._kept):
            return None
        if self._joined[:2] != (after, self.head):
            missing = self.head - after
            self._joined = after, self.head, b"".join(islice(self._kept, len(self._kept) - missing, None))
        return self._joined[2]

    def slots(self) -> tuple[object, bytes]:
        """The slots as a frame, made once per version."""
        version = self.board.version()
        if version != self._slots[0]:
            self._slots = version, b"event: slots\ndata: " + self.board.slots() + b"\n\n"
        return self._slots

    async def _read(self) -> None:
        """Wake the followers when something changed, at least each second; ends with the last of them."""
        shown: object = None
        quiet_s = 0.0
        try:
            while self._followers:
                news = await self._take() or self.board.version() != shown
                shown, quiet_s = self.board.version(), 0.0 if news else quiet_s + _TICK_S
                if news or quiet_s >= _PULSE_S:
                    quiet_s = 0.0
                    self._wake()
                await asyncio.sleep(_TICK_S)
        except AgentError:
            self._end()  # who comes back with Last-Event-ID is told at once what is wrong
        finally:
            self._reading = None

    async def _take(self) -> bool:
        newest, before = await self.board.last_seq(), self.head
        while self.head < newest:
            events = await self.board.events(self.head, _BATCH)
            self._kept.extend(_frame("journal", event, event["seq"]) for event in events)
            self.head = events[-1]["seq"]
        return self.head > before

    def _wake(self) -> None:
        pulse, self.pulse = self.pulse, asyncio.Event()
        pulse.set()

    def _end(self) -> None:
        self.ended = True
        self._wake()


class _Follower:
    """One client's place."""

    def __init__(self, feed: Feed, after: int, *, only_slots: bool) -> None:
        self._feed = feed
        self._after = after
        self._only_slots = only_slots
        self._shown: object = None

    async def frames(self) -> AsyncIterator[bytes]:
        """Raises JournalError."""
        clock = asyncio.get_running_loop().time
        told_s = clock()
        while not self._feed.ended:
            pulse = self._feed.pulse  # taken first: what comes while we look wakes us again
            news = self._slots() + (b"" if self._only_slots else await self._journal())
            if not news and clock() - told_s >= _BEAT_S:
                news = b": still here\n\n"
            told_s = clock() if news else told_s
            yield news
            if self._only_slots or self._after >= self._feed.head:
                await pulse.wait()
            else:
                await asyncio.sleep(_TICK_S / 10)

    async def _journal(self) -> bytes:
        kept, head = self._feed.since(self._after), self._feed.head
        if kept is not None:
            self._after = max(self._after, head)
            return kept
        events = await self._feed.board.events(self._after, _BATCH)
        self._after = events[-1]["seq"]
        return b"".join(_frame("journal", event, event["seq"]) for event in events)

    def _slots(self) -> bytes:
        version, frame = self._feed.slots()
        if version == self._shown:
            return b""
        self._shown = version
        return frame


def _frame(name: str, data: object, seq: int | None = None) -> bytes:
    place = f"id: {seq}\n" if seq is not None else ""
    return f"{place}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
