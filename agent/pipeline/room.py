"""Staging that is full: the footage stays on the recorder until there is room, and that is told once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agent.model import Incident, Phase
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station

_SPACE_CHECK_S: Final = 5.0


class Room:
    """The room that one docking finds. `unplugged` ends every wait."""

    def __init__(self, station: Station, docking_id: str, meter: Meter, unplugged: asyncio.Event) -> None:
        self._station = station
        self._id = docking_id
        self._meter = meter
        self._unplugged = unplugged
        self._is_refused = self._is_told = False

    def refused(self) -> None:
        """The disk took no more, whatever it says is free (quotas and inodes run out unseen): pause once."""
        self._is_refused = True

    def _ask_for(self, need_bytes: int) -> None:
        """What the policy allows to go goes now rather than later."""
        self._station.wanted_bytes[self._id] = need_bytes
        self._station.room_wanted.set()

    async def wait_for(self, need_bytes: int, held: Callable[[], Awaitable[None]]) -> bool:
        """Wait until staging has room; `held` lets what is read back end first. False when it was unplugged."""
        try:
            return await self._wait(need_bytes, held)
        finally:
            self._station.wanted_bytes.pop(self._id, None)

    async def _wait(self, need_bytes: int, held: Callable[[], Awaitable[None]]) -> bool:
        while self._is_refused or (need_bytes and self._free_bytes() < need_bytes):
            if self._meter.state.phase is not Phase.NO_SPACE:
                await held()
                self._meter.phase(Phase.NO_SPACE, "storage is full; the footage stays on the recorder")
                self._ask_for(need_bytes)
                if not self._is_told:
                    self._is_told = True
                    await self._station.journal.record(Incident("storage-full", {"docking": self._id}))
            try:
                async with asyncio.timeout(_SPACE_CHECK_S):
                    await self._unplugged.wait()
                return False
            except TimeoutError:
                self._is_refused = False
        if self._meter.state.phase is Phase.NO_SPACE:
            self._meter.phase(Phase.READING)
        return True

    def _free_bytes(self) -> int:
        return self._station.vault.free_bytes() - self._station.reserve_bytes
