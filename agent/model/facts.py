"""What the content of an original says of itself, and what that means for the time at which it was made."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from agent.model.evidence import ClockTrust, Medium


class Integrity(StrEnum):
    """文件状态: all there, proved to be cut off, not to be understood, or a reason to doubt that it is all there."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    SUSPECT = "suspect"


class Measured(StrEnum):
    """How the duration was found: all packets read, those of the tail, as far as the limit, or the header's word."""

    PACKETS = "packets"
    TAIL = "tail"
    PARTIAL = "partial"
    HEADER = "header"
    NOTHING = "nothing"


class TimeBasis(StrEnum):
    """时间来源: where the time at which a recording was made (制作时间) comes from."""

    CONTAINER = "container"
    FILENAME = "filename"
    MTIME = "mtime"
    EXIF = "exif"
    OFFICER = "officer"


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """One track; 0 and "" where the content doesn't say. `fps` is a fraction like "30000/1001".

    `pixels` and `profile` are FFmpeg's names, like "yuv420p" and "High". `rotation_deg`: the picture is shown turned
    so far clockwise.
    """

    kind: str
    codec: str = ""
    width: int = 0
    height: int = 0
    fps: str = ""
    rate_hz: int = 0
    channels: int = 0
    duration_ms: int | None = None
    pixels: str = ""
    profile: str = ""
    rotation_deg: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """What the content says, never its name. `medium` is None where the content can't tell.

    `created` (container), `taken` and `taken_zone` (EXIF DateTimeOriginal, OffsetTimeOriginal) are as they are written.
    `streams` are the first of `stream_count`. `gps` only where `[privacy] gps` allows it. `signed_stream` names the
    scheme by which the camera signed its pictures ("axis", "onvif", "gb35114"): seen, never verified.
    """

    medium: Medium | None
    integrity: Integrity
    reason: str = ""
    container: str = ""
    duration_ms: int | None = None
    measured: Measured = Measured.NOTHING
    header_ms: int | None = None
    streams: tuple[StreamFacts, ...] = ()
    stream_count: int = 0
    created: str = ""
    taken: str = ""
    taken_zone: str = ""
    gps: str = ""
    signed_stream: str = ""


@dataclass(frozen=True, slots=True)
class TimeSource:
    """One witness of the time of completion: what it says, the readings that are possible, whether it agrees.

    It agrees if a reading is no further than five minutes from the file's own time; without a reading it says nothing.
    """

    basis: TimeBasis
    raw: str
    readings: tuple[datetime, ...] = ()
    agrees: bool = False


@dataclass(frozen=True, slots=True)
class CaptureTime:
    """Between which times a recording was completed, and how that is known.

    `latest` is never later than what the files' times say; `later` is the latest time that a contradicting witness
    gives, if that is behind it. `made_start` and `made_end` are the best account, None where there is none.
    """

    earliest: datetime | None
    latest: datetime
    clock_trust: ClockTrust
    later: datetime | None = None
    made_start: datetime | None = None
    made_end: datetime | None = None
    basis: TimeBasis = TimeBasis.MTIME
    sources: tuple[TimeSource, ...] = ()
