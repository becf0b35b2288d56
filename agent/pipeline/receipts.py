"""The receipt lane: issues a receipt for each docking that has ended, and another when its recorder may be cleared, or
no longer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agent.config import Milestone
from agent.errors import JournalError
from agent.model import ReceiptIssued
from agent.pipeline.station import Station
from agent.receipts import composed, named


class ReceiptLane:
    """One docking at a time. Where it stands is in the journal; those at which it has a bug wait for the next start."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._given_up: set[str] = set()
        self._issued = False

    async def step(self) -> None:
        """Issue the next receipt, or wait a little if there is none to issue."""
        station = self._station
        docking_id = await station.on_disk(self._next)
        if docking_id is None:
            if self._issued:
                station.custody.asked.set()  # once for all of them: after an upgrade there are many
            self._issued = False
            await asyncio.sleep(station.limits.probe_pause_s)
            return
        self._given_up.add(docking_id)
        try:
            await issue(station, docking_id)
            self._issued = True
        except JournalError:  # the disk refuses: that is not the fault of this docking
            self._given_up.discard(docking_id)
            raise
        self._given_up.discard(docking_id)

    def _next(self) -> str | None:
        reader = self._station.journal.reader
        found = reader.next_to_receipt(self._given_up)
        if found is None and self._station.satisfied_by is Milestone.CENTRAL:
            return reader.next_to_withdraw(self._given_up)
        return found


async def issue(station: Station, docking_id: str, by: str = "") -> ReceiptIssued:
    """Journal what can be said of a docking now; raises as `composed` does."""
    async with station.commit:
        said = await station.on_disk(composed, station.journal.reader, docking_id, station.satisfied_by, by)
        await station.journal.record(said)
    return said


async def asked_for(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """Issue a receipt of `docking` that says `by` whom the recorder was handed over."""
    said = await issue(station, asked["docking"], named(asked["by"]))
    station.custody.asked.set()
    return {"docking": said.docking_id, "number": said.number, "clearing": said.clearing.value}
