"""Watches the disk that holds vault and journal: one that refuses or hangs is told also while nothing else happens."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from agent.errors import JournalError
from agent.model import Incident
from agent.pipeline.station import Station

log: Final = logging.getLogger("capture-agent")

_REFUSES: Final = "本机磁盘无法写入，已停止采集，资料留在记录仪中 (this station's disk refuses; pulling has stopped)"
_PAUSE_S: Final = 10.0
_ANSWER_LIMIT_S: Final = 10.0


class OwnDisk:
    """Writes to the journal now and then. What the disk did cannot be entered before it works again; then it is."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._silent = False
        self._told = ""

    @property
    def trouble(self) -> str:
        """Why nothing can be written, as the last commit found it; empty if it could."""
        silence = f"no answer for {_ANSWER_LIMIT_S:g} s" if self._silent else ""
        return self._station.journal.trouble or silence

    @property
    def shown(self) -> str:
        """The same for the screens."""
        return f"{_REFUSES}: {self.trouble}" if self.trouble else ""

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            self._silent = not await self._answers()
            await self._tell()
            await asyncio.sleep(_PAUSE_S)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                await self._station.journal.note("disk", {"answered": self._station.clock().isoformat()})
        except TimeoutError:
            return False
        except JournalError:
            pass  # an answer, too, which `trouble` tells
        return True

    async def _tell(self) -> None:
        """Each change, once."""
        before, self._told = self._told, self.trouble
        if self._told and not before:
            log.error("this station's disk refuses, nothing is pulled: %s", self._told)
        elif before and not self._told:
            log.warning("this station's disk works again")
            await journalled(self._station, Incident("disk-refused", {"what": before}))


async def journalled(station: Station, incident: Incident) -> None:
    """Enter what nothing depends on; while the disk refuses, only the log has it."""
    try:
        await station.journal.record(incident)
    except JournalError as error:
        log.error("incident %s not journalled: %s", incident.kind, error.what)
