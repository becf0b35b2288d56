"""Server-sent events: the journal from where a client stopped, and the slots as they are now."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Final, Self

from agent.status.board import Board

LIMIT_S: Final = 10.0
"""How long a client may take no byte."""

_TICK_S: Final = 0.25
_BEAT_S: Final = 10.0
_BATCH: Final = 200


class Stream:
    """One client's place in the journal; what it has not yet taken stays in the journal, so nothing piles up.

    Frames (https://html.spec.whatwg.org/multipage/server-sent-events.html): `journal` events carry the sequence
    number as id; `slots` and `reset` have none, so that they don't move the place a client resumes from.
    """

    def __init__(self, board: Board, after: int, closing: asyncio.Event, first: bytes) -> None:
        self._board = board
        self._after = after
        self._closing = closing
        self._first = first
        self._shown = -1

    @classmethod
    async def open(cls, board: Board, after: int | None, closing: asyncio.Event) -> Self:
        """Begin behind `after`, or with what happens from now on; raises JournalError."""
        newest = await board.last_seq()
        first = b"retry: 2000\n\n"
        if after is not None and after > newest:
            first += _frame("reset", {"seq": newest})
        return cls(board, newest if after is None else min(after, newest), closing, first)

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield frames until the service closes, each bounded by the batch; raises JournalError."""
        yield self._first
        quiet_s = 0.0
        while not self._closing.is_set():
            events = await self._board.events(self._after, _BATCH)
            news = b"".join(_frame("journal", event, event["seq"]) for event in events) + self._slots()
            if events:
                self._after = events[-1]["seq"]
            quiet_s = 0.0 if news else quiet_s + _TICK_S
            if quiet_s >= _BEAT_S:
                news, quiet_s = b": still here\n\n", 0.0
            # Also without news: the caller then looks whether the client is still there.
            yield news
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _TICK_S if len(events) < _BATCH else _TICK_S / 10)

    def _slots(self) -> bytes:
        version = self._board.version()
        if version == self._shown:
            return b""
        self._shown = version
        return b"event: slots\ndata: " + self._board.slots() + b"\n\n"


def _frame(name: str, data: object, seq: int | None = None) -> bytes:
    place = f"id: {seq}\n" if seq is not None else ""
    return f"{place}event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
