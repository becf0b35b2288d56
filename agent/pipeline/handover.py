"""Enters handovers of recorders into the issue register: as a person says, and as a docking proves."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from agent.errors import JournalError
from agent.journal.views import DockingView
from agent.model import Custody, Device, DeviceIssued, DeviceReturned
from agent.pipeline.station import Station
from agent.register import line, moment, recognise, shown

Asked = Mapping[str, str]

_UNCHANGED: Final = "Nothing was changed."
_DOCKINGS: Final = 200


async def issue(station: Station, asked: Asked) -> dict[str, object]:
    """A recorder is handed out: `id`, `to`, `at`, `who`, `why`, and `back_by` if it isn't empty.

    Raises JournalError if that can't be, ValueError for what is no time or no line of text.
    """
    recorder_id, at = line(asked["id"]), moment(asked["at"])
    back_by = moment(asked["back_by"]) if asked.get("back_by") else None
    entry = DeviceIssued(recorder_id, at, line(asked["to"]), line(asked["who"]), line(asked["why"]), back_by)
    if recorder_id not in station.inventory:
        raise _unknown(station, recorder_id)
    return await _enter(station, entry)


async def give_back(station: Station, asked: Asked) -> dict[str, object]:
    """A recorder came back without docking: `id`, `at`, `who`, `why`; `unread`, if not empty: it never will dock.

    Raises as `issue` does.
    """
    recorder_id, at = line(asked["id"]), moment(asked["at"])
    unread = bool(asked.get("unread"))
    entry = DeviceReturned(recorder_id, at, line(asked["who"]), line(asked["why"]), unread=unread)
    if recorder_id not in station.inventory and recorder_id not in station.journal.reader.standings():
        raise _unknown(station, recorder_id)
    return await _enter(station, entry)


async def taken_over(station: Station, device: Device, docking_id: str, docked_at: datetime) -> None:
    """A docking has taken over all that was on a recorder: the wait for it ends, if it began before the docking."""
    recorder = recognise(station.inventory, device)
    if recorder is None:
        return
    async with station.commit:
        known = await station.on_disk(station.journal.reader.standings)
        standing = known.get(recorder.recorder_id)
        if standing is not None and standing.custody is not Custody.HERE and standing.issued_at <= docked_at:
            why = "everything on it was taken over"
            await station.journal.record(DeviceReturned(recorder.recorder_id, docked_at, "docking", why, docking_id))


async def _enter(station: Station, entry: DeviceIssued | DeviceReturned) -> dict[str, object]:
    if entry.at > station.clock():
        raise JournalError(f"{shown(entry.at)} is in the future.", safe=_UNCHANGED, do="Correct the time.")
    async with station.commit:
        if isinstance(entry, DeviceIssued):
            dockings = await station.on_disk(station.journal.reader.dockings, _DOCKINGS)
            for docking in dockings:
                _check_before(station, entry, docking)
        await station.journal.record(entry)
        known = await station.on_disk(station.journal.reader.standings)
    return {"recorder": entry.recorder_id, "custody": known[entry.recorder_id].custody.value}


def _check_before(station: Station, entry: DeviceIssued, docking: DockingView) -> None:
    """Entered late: a recorder that was docked and taken over since then is not out any more."""
    accounts = docking.accounting
    whole = docking.reason == "complete" and accounts.pulled + accounts.already_held == accounts.seen
    recorder = recognise(station.inventory, docking.device) if whole and docking.opened_at > entry.at else None
    if recorder is not None and recorder.recorder_id == entry.recorder_id:
        raise JournalError(
            f"Recorder {entry.recorder_id} was docked since then, at {shown(docking.opened_at)},"
            " and everything on it was taken over.",
            safe=_UNCHANGED,
            do="There is nothing to wait for; give the time of the handover that came after that.",
        )


def _unknown(station: Station, recorder_id: str) -> JournalError:
    known = ", ".join(sorted(station.inventory)[:20]) or "none"
    return JournalError(
        f"The inventory has no recorder {recorder_id}.",
        safe=_UNCHANGED,
        do=f"Enter it in inventory.toml and reload the service; there are: {known}.",
    )
