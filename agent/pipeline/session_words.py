"""What a session says of its own recordings: capture metadata from its start, and an activity that joins them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from agent.continuity import START_LIMIT
from agent.errors import RequestError, UnknownError
from agent.journal.views import SessionView
from agent.metadata import SCHEMA_VERSION, read_form
from agent.model import (
    ACTIVITY_LIMIT,
    RECORDINGS_LIMIT,
    ActivityStated,
    Forms,
    Medium,
    SessionStarted,
    Statement,
)
from agent.pipeline.activities import enter
from agent.pipeline.documents import add_document
from agent.pipeline.station import Station

_ROLE: Final = re.compile(r"\s*([^:：/]{1,40})[:：/]\s*(\S.{0,39})")
_PRESENT: Final = "在场人员"


async def speak(station: Station, session_id: str, room_title: str, ended_at: datetime | None = None) -> None:
    """Say of a session's recordings what it knows, and state its activity; with `ended_at` for the last time.

    Safe to repeat: what was said already is not said again. Raises JournalError or StoreError.
    """
    view = await station.on_disk(station.journal.reader.session, session_id)
    if view.segments:
        await _state_metadata(station, view, room_title)
        await _state_activity(station, view, ended_at)


def fields_of(started: SessionStarted, title: str, medium: Medium, forms: Forms) -> dict[str, object]:
    """The fields of a recording's form that its session tells; what a form would refuse is left out."""
    people = [name.strip() for name in started.participants if name.strip()]
    officers = [name for name in people if name.startswith("@")]
    told: dict[str, object] = {
        "stage": started.stage,
        "case_no": started.case_number,
        "method": "audio" if medium is Medium.AUDIO else "fixed_camera",
        "place_text": title,
        "makers": [{"name": name} for name in officers],
        "persons_present": [_person(name) for name in people if name not in officers],
    }
    found: dict[str, object] = {}
    for name, value in told.items():
        if value:
            try:
                found |= read_form({name: value}, forms)
            except RequestError:
                continue
    return found


def _person(text: str) -> dict[str, str]:
    match = _ROLE.fullmatch(text)
    return {"role": match[1].strip(), "name": match[2].strip()} if match else {"role": _PRESENT, "name": text}


async def _state_metadata(station: Station, view: SessionView, room_title: str) -> None:
    started, unsaid = view.started, set(await station.on_disk(station.journal.reader.unsaid, view.started.session_id))
    for medium in (Medium.VIDEO, Medium.AUDIO):
        found = [one.recording for one in view.segments if one.recording.medium is medium]
        names = [one.recording_id for one in found if one.recording_id in unsaid]
        fields = fields_of(started, room_title, medium, station.forms)
        for first in range(0, len(names), RECORDINGS_LIMIT):
            batch = names[first : first + RECORDINGS_LIMIT]
            why = f"{started.title} {started.session_id}".strip()
            said = Statement(started.who, why, station.clock(), fields, (0,) * len(batch), (), SCHEMA_VERSION)
            await add_document(station, said, batch)


async def _state_activity(station: Station, view: SessionView, ended_at: datetime | None) -> None:
    started = view.started
    entry = ActivityStated(
        started.session_id,
        started.stage,
        _begin(view),
        _end(view, ended_at),
        tuple(one.recording.recording_id for one in view.segments[:ACTIVITY_LIMIT]),
        started.who,
        started.title or started.why,
    )
    if entry.arrived_at < entry.left_at and entry != await station.on_disk(_stated, station, started.session_id):
        await enter(station, entry, ends=ended_at is not None)


def _begin(view: SessionView) -> datetime:
    """When the first source came, if that was soon: what a camera takes to answer is no interruption."""
    first, started_at = min(one.start for one in view.segments), view.started.started_at
    return first if first - started_at <= START_LIMIT else started_at


def _end(view: SessionView, ended_at: datetime | None) -> datetime:
    """As far as it is recorded while it goes on, and when the end was no longer away than a start would be."""
    last = max(one.end for one in view.segments)
    return last if ended_at is None or abs(ended_at - last) <= START_LIMIT else ended_at


def _stated(station: Station, activity_id: str) -> ActivityStated | None:
    try:
        return station.journal.reader.activity(activity_id).stated
    except UnknownError:
        return None
