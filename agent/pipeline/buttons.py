"""What the buttons of rooms do: a press starts a session, a hold of two seconds ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final

from agent.config.rooms import Room
from agent.errors import AgentError
from agent.model import StartedBy
from agent.pipeline.scheduling import Starter
from agent.pipeline.sessions import Order
from agent.rooms.button import Button, Press

_BEAT_S: Final = 1.0
_WHO: Final = "button"
_WHY_STOP: Final = "button held"


class Buttons:
    """All of them. `meant` makes a planned session of what is started when one is about to begin."""

    def __init__(self, sessions: Starter, rooms: Mapping[str, Room], meant: Callable[[Room, Order], Order]) -> None:
        self._sessions = sessions
        self._rooms = rooms
        self._meant = meant
        self._buttons: dict[str, Button] = {}
        self._refused: dict[str, str] = {}

    def use(self, rooms: Mapping[str, Room]) -> None:
        """Take over what a reload has brought."""
        self._rooms = rooms

    def problems(self) -> tuple[str, ...]:
        """What a person should look at, in words."""
        gone = {
            name: f"按钮未接好 (its button: {button.trouble})"
            for name, button in self._buttons.items()
            if button.trouble
        }
        told = [(name, what) for of_kind in (gone, self._refused) for name, what in of_kind.items()]
        return tuple(f"{self._rooms[name].title}：{what}" for name, what in told if name in self._rooms)

    async def run(self) -> None:
        """Until cancelled; a room whose button is another one since a reload gets that."""
        tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = {name: room.button for name, room in self._rooms.items() if room.button}
                for name in [name for name, (address, _) in tasks.items() if wanted.get(name) != address]:
                    tasks.pop(name)[1].cancel()
                    self._buttons.pop(name, None)
                for name, address in wanted.items():
                    if name not in tasks:
                        self._buttons[name] = Button(address)
                        tasks[name] = address, group.create_task(self._serve(name, self._buttons[name]))
                await asyncio.sleep(_BEAT_S)

    async def _serve(self, room: str, button: Button) -> None:
        began = False
        async with aclosing(button.presses()) as presses:
            async for press in presses:
                began = await self._do(room, press, began=began)

    async def _do(self, room: str, press: Press, *, began: bool) -> bool:
        """Whether this press has begun a session, which it doesn't end when it is held."""
        running = next((one.session_id for one in self._sessions.running() if one.room == room), None)
        known = self._rooms.get(room)  # none if a reload has just taken it away
        begins = press is Press.DOWN and running is None and known is not None
        try:
            if begins and known is not None:
                order = Order(StartedBy.BUTTON, _WHO, "button pressed")
                await self._sessions.start(room, self._meant(known, order))
            elif press is Press.HELD and running is not None and not began:
                await self._sessions.stop(running, _WHO, _WHY_STOP)
        except AgentError as error:
            self._refused[room] = f"按钮未起作用 (its button was refused): {error.what}"
        else:
            self._refused.pop(room, None)
        return begins or (began and press is Press.HELD)
