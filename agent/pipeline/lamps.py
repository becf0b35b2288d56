"""The lamps of rooms: lit while everything is recorded, blinking while something of a session isn't, else dark."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from agent.child import Child, ChildError
from agent.config.lamps import Board, Lamp, lamp_of
from agent.config.rooms import Room
from agent.lines.wire import WORDS, Trouble
from agent.model import LiveSession

_LAMP: Final = "agent.lines.lamp"
_BEAT_S: Final = 1.0
_BLINK_S: Final = 2.0
_WAIT_S: Final = 0.5
_STALL_S: Final = 30.0
"""For the child's start; and for three questions to each of 32 lamps that doesn't answer."""
_ASKED: Final = 3
_LAST_S: Final = 3.0
_AGAIN_S: Final = 5.0
_PATIENCE: Final = 3
"""So often in a row a lamp must fail before a person is told: a byte may be disturbed on any line."""
_WORDS: Final[Mapping[Trouble, str]] = {
    **WORDS, Trouble.REFUSED: "拒绝，请核对线圈号", Trouble.OTHER: "继电器没有动作",
    Trouble.GARBAGE: "应答是乱码，请核对波特率和校验",
}  # fmt: skip


class Lamps:
    """All of them. `running` tells what is recorded now, `seconds` is a clock that nobody sets."""

    def __init__(
        self, running: Callable[[], Sequence[LiveSession]], rooms: Mapping[str, Room],
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._running = running
        self._seconds = seconds
        self._failed: dict[str, tuple[int, Trouble]] = {}
        self.use(rooms)

    def use(self, rooms: Mapping[str, Room]) -> None:
        """Take over what a reload has brought."""
        self._rooms = rooms
        self._lamps = {name: lamp for name, room in rooms.items() if (lamp := lamp_of(room.lamp)) is not None}
        self._failed = {name: failed for name, failed in self._failed.items() if name in self._lamps}

    def problems(self) -> tuple[str, ...]:
        """Which lamps don't do what they should, in words."""
        told = [
            (self._rooms[name].title, trouble) for name, (times, trouble) in self._failed.items() if times >= _PATIENCE
        ]
        return tuple(
            f"{title}：录制指示灯不受控（{_WORDS[trouble]}），以屏幕为准 (lamp: {trouble.value}; the screen is right)"
            for title, trouble in told
        )

    async def run(self) -> None:
        """Until cancelled: then they are dark, as far as that can be done in three seconds."""
        tasks: dict[Board, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = {lamp.board for lamp in self._lamps.values()}
                for board in tasks.keys() - wanted:
                    tasks.pop(board).cancel()
                for board in wanted - tasks.keys():
                    tasks[board] = group.create_task(self._serve(board))
                await asyncio.sleep(_BEAT_S)

    async def _serve(self, board: Board) -> None:
        while True:
            try:
                await self._drive(board)
            except ChildError:
                self._note(board, Trouble.BROKEN)
            await asyncio.sleep(_AGAIN_S)

    async def _drive(self, board: Board) -> None:
        """Have a child do each beat what is wanted then, until it ends; raises ChildError."""
        child = await Child.start(_LAMP, (), stall_limit_s=_STALL_S)
        number, known = 0, set[Lamp]()
        try:
            await child.send(_order(board))
            while True:
                here = {name: lamp for name, lamp in self._lamps.items() if lamp.board == board}
                wanted = {**dict.fromkeys(known, False), **{lamp: self._is_lit(room) for room, lamp in here.items()}}
                number, known = number + 1, set(here.values())
                child.stall_limit_s = _STALL_S + _ASKED * _WAIT_S * len(wanted)
                found = await _done(child, number, wanted)
                if isinstance(found, Trouble):
                    self._note(board, found)
                    return
                for room, lamp in here.items():
                    self._count(room, found[list(wanted).index(lamp)])
                await asyncio.sleep(_BEAT_S)
        finally:
            with contextlib.suppress(ChildError, TimeoutError):
                async with asyncio.timeout(_LAST_S):
                    await _done(child, number + 1, dict.fromkeys(known, False))
            await child.stop()

    def _is_lit(self, room: str) -> bool:
        session = next((one for one in self._running() if one.room == room), None)
        if session is None:
            return False
        return all(one.connected for one in session.sources) or self._seconds() % (2 * _BLINK_S) < _BLINK_S

    def _note(self, board: Board, trouble: Trouble) -> None:
        """What goes for all lamps at a line is told at once."""
        self._failed |= {name: (_PATIENCE, trouble) for name, lamp in self._lamps.items() if lamp.board == board}

    def _count(self, room: str, trouble: Trouble | None) -> None:
        if trouble is None:
            self._failed.pop(room, None)
        elif room in self._lamps:
            self._failed[room] = self._failed.get(room, (0, trouble))[0] + 1, trouble


def _order(board: Board) -> dict[str, object]:
    return {
        "node": board.node, "baud": board.baud, "bits": 8, "parity": board.parity.value, "stop_bits": 1, "flow": "none",
        "wait_s": _WAIT_S,
    }  # fmt: skip


async def _done(child: Child, number: int, wanted: Mapping[Lamp, bool]) -> list[Trouble | None] | Trouble:
    """What became of each lamp in an order with this number, or why the line is lost; raises ChildError."""
    await child.send({"number": number, "lamps": [[one.unit, one.coil, is_lit] for one, is_lit in wanted.items()]})
    try:
        for _ in range(2):
            match await child.line():
                case {"number": int(other)} if other == number - 1:
                    continue  # that to an order which nobody waited for any more
                case {"number": int(same), "lamps": list(found)} if same == number and len(found) == len(wanted):
                    return [Trouble(one) if one else None for one in found]
                case {"trouble": str(trouble)}:
                    return Trouble(trouble)
                case None:
                    return Trouble.GONE
                case _:
                    break
    except ValueError:
        raise ChildError("named a trouble that is none") from None
    raise ChildError("no answer to what was ordered")
