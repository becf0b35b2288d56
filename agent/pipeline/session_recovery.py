"""What a crash left of sessions: from journal and folder to what is still to be done, and whether one goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from agent.config.rooms import Room
from agent.errors import EvidenceError, StoreError, UnknownError
from agent.journal.views import SessionView
from agent.model import SessionEnded
from agent.pipeline.ledger import extended
from agent.pipeline.segments import lying, salvage
from agent.pipeline.session import Job, cleared
from agent.pipeline.session_words import speak
from agent.pipeline.station import Station

INTERRUPTED: Final = "interrupted"
RESUME_WITHIN: Final = timedelta(minutes=2)
"""A session without a planned end goes on if nothing was missed for longer than this (ADR 52)."""


@dataclass(frozen=True, slots=True)
class Left:
    """An open session as a crash left it: what is to be done, the next number and the last moment of each source.

    `ended`: it doesn't go on.
    """

    view: SessionView
    room: Room
    jobs: tuple[Job, ...]
    numbers: Mapping[str, int]
    until: Mapping[str, datetime]
    ended: SessionEnded | None


def left_open(station: Station, rooms: Mapping[str, Room], folder: Path) -> list[Left]:
    """All sessions that the journal knows as open. Blocking."""
    reader = station.journal.reader
    names = [view.started.session_id for view in reader.open_sessions()]
    return [_left(station, reader.session(name), rooms, folder / name) for name in names]


def _left(station: Station, view: SessionView, rooms: Mapping[str, Room], folder: Path) -> Left:
    started = extended(view.started, view.notes)
    view = replace(view, started=started)
    room = rooms.get(started.room)
    files = [one for one in lying(folder) if one.source in started.sources]
    taken = {(one.source, one.number) for one in view.segments}
    numbers = dict.fromkeys(started.sources, 1)
    until = dict.fromkeys(started.sources, started.started_at)
    ends = [(one.source, one.number, one.end) for one in view.segments]
    for source, number, end in (*ends, *((one.source, one.number, one.changed_at) for one in files)):
        numbers[source] = max(numbers.get(source, 1), number + 1)
        until[source] = max(until.get(source, end), end)
    coming = station.journal.reader.coming_segments(started.session_id)
    jobs: tuple[Job, ...] = (*coming, *(one for one in files if (one.source, one.number) not in taken))
    ended = station.journal.reader.stopping(started.session_id)
    last = max(until.values(), default=started.started_at)
    if ended is None and (room is None or not _goes_on(started.planned_end, last, station.clock())):
        why = "the service was not running"
        ended = SessionEnded(started.session_id, last, "capture-agent", why, INTERRUPTED)
    return Left(view, room or Room(started.room, started.room), jobs, numbers, until, ended)


def _goes_on(planned_end: datetime | None, last: datetime, now: datetime) -> bool:
    return (planned_end is not None and now < planned_end) or abs(now - last) <= RESUME_WITHIN


def leftovers(station: Station, folder: Path) -> list[Path]:
    """Folders of sessions that are over, or never were. Blocking."""
    open_now = {view.started.session_id for view in station.journal.reader.open_sessions()}
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [one for one in found if one.is_dir() and one.name not in open_now]


async def sweep(station: Station, folders: Iterable[Path], rooms: Mapping[str, Room]) -> None:
    """What lies in leftovers is taken, and what is empty goes; what our own disk refuses waits for the next start."""
    for one in folders:
        with contextlib.suppress(EvidenceError, StoreError):
            await _swept(station, one, rooms)


async def _swept(station: Station, folder: Path, rooms: Mapping[str, Room]) -> None:
    with contextlib.suppress(UnknownError):
        view = await station.on_disk(station.journal.reader.session, folder.name)
        files = await station.on_disk(lying, folder)
        for one in files:
            await salvage(station, view.started, folder, one)
        if files and view.ended is not None:
            room = rooms.get(view.started.room)
            await speak(station, folder.name, room.title if room else view.started.room, view.ended.ended_at)
    await station.on_disk(cleared, folder)
