"""Everything that a station does for its rooms: sessions, schedule, buttons, lamps, tests; idle without a room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

from agent.config.rooms import Room
from agent.model import LiveSession
from agent.pipeline.buttons import Buttons
from agent.pipeline.lamps import Lamps
from agent.pipeline.readiness import Readiness
from agent.pipeline.scheduling import Scheduler
from agent.pipeline.session import Record
from agent.pipeline.session_orders import session_verbs
from agent.pipeline.sessions import Sessions
from agent.pipeline.station import Station
from agent.rooms.addresses import Addresses


class Rooms:
    """One per daemon."""

    def __init__(self, station: Station, rooms: Mapping[str, Room], addresses: Addresses, record: Record) -> None:
        self.sessions = Sessions(station, rooms, addresses, record)
        self._scheduler = Scheduler(station, self.sessions, rooms)
        self._buttons = Buttons(self.sessions, rooms, self._scheduler.meant)
        self._lamps = Lamps(self.sessions.running, rooms)
        self._readiness = Readiness(station, self.sessions, self._scheduler, rooms, addresses, record)

    def use(self, rooms: Mapping[str, Room]) -> None:
        """Take over what a reload has brought; a session that runs goes on as it began."""
        self.sessions.rooms = rooms
        self._scheduler.use(rooms)
        self._buttons.use(rooms)
        self._lamps.use(rooms)
        self._readiness.use(rooms)

    def running(self) -> tuple[LiveSession, ...]:
        """What is recorded now."""
        return self.sessions.running()

    def planned(self) -> Mapping[str, tuple[datetime, datetime | None]]:
        """By room from when to when the next planned session is to last."""
        return dict(self._scheduler.planned())

    def problems(self) -> tuple[str, ...]:
        """What a person should look at, in words, besides what is running."""
        beside = (*self._buttons.problems(), *self._lamps.problems())
        return (*self.sessions.problems(), *self._scheduler.problems(), *beside)

    def version(self) -> tuple[object, ...]:
        """Another one when the screens should be drawn again at once."""
        return self.sessions.version()

    def ticks(self) -> int:
        """Grows as long as sessions are served."""
        return self.sessions.ticks()

    def verbs(self) -> dict[str, Callable[[Mapping[str, str]], Awaitable[dict[str, object]]]]:
        """What persons may order, by name."""
        return {**session_verbs(self.sessions, self._scheduler.meant), "room_test": self._readiness.asked}

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sessions.run())
            group.create_task(self._scheduler.run())
            group.create_task(self._buttons.run())
            group.create_task(self._lamps.run())
            group.create_task(self._readiness.run())
