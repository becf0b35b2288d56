"""A session in a room (询问, 听证): what the journal says of it from its start to its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.model.evidence import Asset, Recording


class StartedBy(StrEnum):
    """Who started a session: the schedule, a person at the room's page or a command, or the room's button."""

    SCHEDULE = "schedule"
    SCREEN = "screen"
    COMMAND = "command"
    BUTTON = "button"


STOPPING: Final = "stopping"
"""The kind of a note that is no line of the ledger: somebody has stopped the session, which is about to end."""


def source_id(room: str, source: str) -> str:
    """What stands for a source of a room where a recorder has its id."""
    return f"room:{room}:{source}"


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A session began in a room. `planned_start` and `planned_end` are the schedule's, absent without one.

    `sources` are the names of the cameras and microphones that were to record. `scheduled` is the schedule's own name
    of it, so that it is never started twice.
    """

    session_id: str
    room: str
    title: str
    started_at: datetime
    started_by: StartedBy
    who: str
    why: str
    stage: str
    sources: tuple[str, ...]
    case_number: str = ""
    participants: tuple[str, ...] = ()
    planned_start: datetime | None = None
    planned_end: datetime | None = None
    scheduled: str = ""


@dataclass(frozen=True, slots=True)
class SegmentTaken:
    """A closed segment became a recording with its original, which is still WANTED: its file is on the way in.

    `file` is its name in the session's folder. `start` to `end` by this station's clock; `camera_start` by the
    camera's. `facts` is what the recorder counted: frames, samples, media_us, av_us, why, tracks.
    """

    session_id: str
    source: str
    number: int
    file: str
    start: datetime
    end: datetime
    recording: Recording
    asset: Asset
    camera_start: datetime | None = None
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionNoted:
    """A line of a session's ledger, about one source or (empty) the whole room.

    `kind` is `gap` (cause in `cause`: one of rooms.protocol.Cause), one of rooms.protocol.Kind, or `late`, `overrun`,
    `missing`, `recorder`, `space`, `stopping`, `extended` (`detail` has `planned_end`, `who`, `why`: it lasts until
    then). `end` is absent while it goes on; the line with the same `source`, `kind` and `start` that
    has one ends it.
    """

    session_id: str
    source: str
    kind: str
    start: datetime
    end: datetime | None = None
    cause: str = ""
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionTested:
    """A readiness test of a room, for the session that follows: `checks` by name, each "ok" or what is wrong.

    `session_id` is the session's if one was known to come (then it is the id it will start with), else the test's own.
    """

    session_id: str
    room: str
    tested_at: datetime
    passed: bool
    checks: Mapping[str, str]
    figures: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session ended; `reason`: stopped, scheduled, interrupted (found so at the next start)."""

    session_id: str
    ended_at: datetime
    who: str
    why: str
    reason: str


@dataclass(frozen=True, slots=True)
class SourceLive:
    """What is known of a source now: `since` when it is connected, or lost, as `connected` says.

    `level_db` (dBFS, RMS) and `still` (a JPEG, replaced as a whole) are absent if nobody looks at it. `gaps` counts
    those of this session; `noticed` are the kinds (rooms.protocol.Kind) that go on now.
    """

    name: str
    title: str
    connected: bool
    since: datetime | None
    level_db: float | None = None
    still: Path | None = None
    media_s: float = 0.0
    size_bytes: int = 0
    gaps: int = 0
    noticed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LiveSession:
    """A session that is running: what the screens tell of this moment; `reserved_bytes` are still set aside for it."""

    room: str
    session_id: str
    started_at: datetime
    planned_end: datetime | None
    sources: tuple[SourceLive, ...]
    reserved_bytes: int = 0

    def elapsed(self, now: datetime) -> timedelta:
        """How long it has been running, never less than nothing."""
        return max(now - self.started_at, timedelta(0))


@dataclass(frozen=True, slots=True)
class Planned:
    """A session as a room's schedule has it. `key` is the schedule's own name of it, also when it is moved."""

    key: str
    start: datetime
    end: datetime
    title: str = ""
    stage: str = ""
    case_number: str = ""
    participants: tuple[str, ...] = ()
