"""A session in a room as a supervisor reads it: who, when, what was recorded, what was not, and what became of it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, Final, Generic, TypeVar

from agent.config import Config
from agent.config.rooms import Room
from agent.continuity import GAP_LIMIT
from agent.deadline import Rules
from agent.journal import Reader
from agent.journal.views import RecordingView, SessionView
from agent.model import STAGES
from agent.model.sessions import SegmentTaken, SessionNoted
from agent.rooms.protocol import Cause, Why
from agent.status.activities import activity_view
from agent.status.explain import deadline_view, verdict_of
from agent.status.rooms import ledger_view, test_view
from agent.status.words import Ended, Line, at, named, named_as, words

Json = dict[str, Any]
T = TypeVar("T")

_PROPOSED: Final[Mapping[str, str]] = {
    Cause.REFUSED: "INT-12",
    Cause.UNREACHABLE: "INT-12",
    Cause.CLOSED: "INT-12",
    Cause.STALLED: "INT-12",
    Cause.GARBAGE: "INT-01",
    Cause.RECORDER: "INT-01",
    Cause.DISK: "INT-04",
}
"""Which code of interruptions.toml may explain a gap of such a cause."""

_LATEST: Final = datetime.max.replace(tzinfo=UTC)

PART: Final = 100
"""How many segments one answer lists."""

PARTS_LIMIT: Final = 10_000
"""How far such a part can be asked for."""

SESSIONS_SHOWN: Final = 20
"""How many of the latest sessions of a room are listed."""


def sessions_view(views: Iterable[SessionView]) -> list[Json]:
    """Sessions of a room, a row each: without the names that `session_view` gives."""
    return [_head(one) for one in views]


def session_view(reader: Reader, config: Config, session_id: str, part: int | None, now: datetime) -> Json:
    """All that is known of a session; its segments in parts of `PART`, the latest unless another is asked for.

    Persons are named in it. Raises UnknownError if there is no such session.
    """
    view = reader.session(session_id)
    room, segments = config.rooms.get(view.started.room), view.segments
    parts = max(1, -(-len(segments) // PART))
    part = min(part or parts, parts)
    shown = [(one, reader.recording(one.recording.recording_id)) for one in segments[(part - 1) * PART : part * PART]]
    started = view.started
    activities = activities_of(reader, config, view)
    return {
        **_head(view),
        "room_title": room.title if room else started.room,
        "title": started.title,
        "case_number": started.case_number,
        "participants": list(started.participants),
        "why": started.why,
        "ended_by": view.ended.who if view.ended else "",
        "ended_why": view.ended.why if view.ended else "",
        "sources": [_source(name, room, view) for name in started.sources],
        "ledger": _explained(ledger_view(view.notes, room, now), activities),
        "tests": [test_view(one) for one in view.tests],
        "segments": [_segment(taken, row, config, now) for taken, row in shown],
        "segment_count": len(segments),
        "part": part,
        "parts": parts,
        "activities": activities,
    }


def activities_of(reader: Reader, config: Config, view: SessionView) -> list[Json]:
    """The activities that a session is a part of, in words of its own; none as long as it has no segment."""
    first = [one.recording.recording_id for one in view.segments[:1]]
    names = dict.fromkeys(name for recording_id in first for name in reader.activities_of(recording_id))
    room = config.rooms.get(view.started.room)
    return [_in_words(activity_view(reader.activity(name), config.profile), room, view.notes) for name in names]


def _in_words(activity: Json, room: Room | None, notes: Sequence[SessionNoted]) -> Json:
    """With the source's title, what the ledger says the cause of each gap was, and the code that this suggests.

    A person says whether it is so; nothing is suggested where the causes differ.
    """
    titles = {one.name: one.title for one in room.sources} if room else {}
    lines = [(note.source, note.start, note.end or _LATEST, note.cause) for note in notes if note.kind == Line.GAP]
    sources = {"", *(source for source, *_ in lines)}
    told = {name: _Spans(one[1:] for one in lines if name in ("", one[0])) for name in sources}
    for gap in activity["gaps"]:
        start, end = datetime.fromisoformat(gap["from"]), datetime.fromisoformat(gap["to"])
        causes = dict.fromkeys(told[gap["source"]].meeting(start, end) if gap["source"] in told else ())
        codes = {_PROPOSED.get(cause) for cause in causes}
        gap["proposed"] = codes.pop() if len(codes) == 1 else None
        gap["title"] = titles.get(gap["source"]) or gap["source"]
        gap["causes"] = [named_as(cause, Cause) for cause in causes]
    return activity


def _explained(ledger: list[Json], activities: Iterable[Json]) -> list[Json]:
    """The lines of the ledger; a gap of a source with each gap of the activity that it is a part of, and its state."""
    gaps: dict[str, list[tuple[datetime, datetime, Json]]] = {}
    for gap in (gap for activity in activities for gap in activity["gaps"]):
        told = {name: gap[name] for name in ("number", "state", "explanation")}
        span = datetime.fromisoformat(gap["from"]), datetime.fromisoformat(gap["to"])
        gaps.setdefault(gap["source"], []).append((*span, told))
    spans = {source: _Spans(found) for source, found in gaps.items()}
    for line in ledger:
        line["gaps"] = []
        if line["kind"]["name"] in (Line.GAP, Line.MISSING) and line["end"]:
            start, end = (datetime.fromisoformat(line[name]) for name in ("start", "end"))
            own = dict.fromkeys(("", line["source"]))
            met = (one for source in own if source in spans for one in spans[source].meeting(start, end))
            line["gaps"] = sorted(met, key=lambda one: one["number"])
    return ledger


class _Spans(Generic[T]):
    """Things that last from one time to another, found by a time that they share; thousands of gaps meet thousands."""

    def __init__(self, things: Iterable[tuple[datetime, datetime, T]]) -> None:
        self._things = sorted(things, key=lambda one: one[0])
        self._ends = list(accumulate((end for _, end, _ in self._things), max))

    def meeting(self, start: datetime, end: datetime) -> Iterator[T]:
        """Those that share more than a moment with this span, by their beginning."""
        for since, until, thing in self._things[bisect_right(self._ends, start) :]:
            if since >= end:
                return
            if until > start:
                yield thing


def _head(view: SessionView) -> Json:
    started, ended = view.started, view.ended
    stage = STAGES.get(started.stage)
    return {
        "session_id": started.session_id,
        "room": started.room,
        "stage": words(f"{started.stage} {stage.zh}" if stage else started.stage, stage.en if stage else ""),
        "started_at": at(started.started_at),
        "started_by": named(started.started_by),
        "who": started.who,
        "planned_start": at(started.planned_start),
        "planned_end": at(started.planned_end),
        "ended_at": at(ended.ended_at) if ended else None,
        "reason": named_as(ended.reason, Ended) if ended else None,
    }


def _source(name: str, room: Room | None, view: SessionView) -> Json:
    titles = {one.name: one.title for one in room.sources} if room else {}
    own = [one for one in view.segments if one.source == name]
    return {
        "source": name,
        "title": titles.get(name) or name,
        "segments": len(own),
        "media_s": round(sum(_media_s(one) for one in own), 3),
        "size_bytes": sum(one.asset.expected_bytes for one in own),
        "spans": [{"start": at(start), "end": at(end)} for start, end in spans(own)],
    }


def spans(segments: Sequence[SegmentTaken]) -> list[tuple[datetime, datetime]]:
    """From when to when a source was recorded: what follows within two seconds is one span."""
    found: list[tuple[datetime, datetime]] = []
    for one in sorted(segments, key=lambda one: one.start):
        if found and one.start - found[-1][1] <= GAP_LIMIT:
            found[-1] = found[-1][0], max(found[-1][1], one.end)
        else:
            found.append((one.start, one.end))
    return found


def _segment(taken: SegmentTaken, row: RecordingView, config: Config, now: datetime) -> Json:
    asset, found = row.asset, verdict_of(row, config.deadline.satisfied_by, now)
    limit = deadline_view(row.recording.deadline, row.captured[2], Rules(config.profile, config.calendars))
    return {
        "recording_id": row.recording.recording_id,
        "source": taken.source,
        "number": taken.number,
        "start": at(taken.start),
        "end": at(taken.end),
        "media_s": round(_media_s(taken), 3),
        "size_bytes": asset.size_bytes if asset.size_bytes is not None else asset.expected_bytes,
        "camera_ahead_s": _ahead_s(taken),
        "ended_by": named_as(str(taken.facts.get("why", "")), Why),
        "state": named(asset.state),
        "verdict": named(found) if found else None,
        "due_text": limit["due_text"],
        "citation": limit["citation"],
    }


def _media_s(taken: SegmentTaken) -> float:
    media = taken.facts.get("media_us")
    lasts = timedelta(microseconds=media) if isinstance(media, int) else taken.end - taken.start
    return lasts.total_seconds()


def _ahead_s(taken: SegmentTaken) -> float | None:
    """How far the camera's own clock is ahead of this station's, if it tells its time."""
    return None if taken.camera_start is None else round((taken.camera_start - taken.start).total_seconds(), 3)
