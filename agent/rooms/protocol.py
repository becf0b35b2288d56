"""What daemon and recorder process of a room say to each other: JSON lines, one frozen dataclass each.

Down goes one `Plan`, then at most one `Stop`. Up come the reports. Addresses with passwords are only in the plan, which
travels through the recorder's standard input: never in a command line, an environment or a log. All `*_us` are
microseconds since 1970 (CLOCK_REALTIME of this station) unless they say that they are a camera's; `mono_us` are
CLOCK_MONOTONIC, which nobody can set.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Transport(StrEnum):
    """How RTSP brings its packets (RFC 7826, 2326): interleaved in its own connection, or beside it."""

    TCP = "tcp"
    UDP = "udp"


class Why(StrEnum):
    """Why a segment ended."""

    LENGTH = "length"
    LOST = "lost"
    JUMP = "jump"
    CHANGED = "changed"
    STOPPED = "stopped"
    DISK = "disk"
    KILLED = "killed"


class Cause(StrEnum):
    """Why nothing came: what a gap of the ledger is said to come from."""

    REFUSED = "refused"
    UNAUTHORISED = "unauthorised"
    READABLE = "readable"
    UNREACHABLE = "unreachable"
    CLOSED = "closed"
    STALLED = "stalled"
    GARBAGE = "garbage"
    DISK = "disk"
    RECORDER = "recorder"


class Kind(StrEnum):
    """What is told of a source besides its segments: of its time stamps, or of what it shows and sounds like.

    TAMPER and SIGNAL are what a camera says of itself: that somebody covers or turns it, that its own sensor or input
    gives nothing. UNHEARD: what it says of itself can't be heard.
    """

    JUMP = "jump"
    DRIFT = "drift"
    DROPPED = "dropped"
    DAMAGED = "damaged"
    CHANGED = "changed"
    BLACK = "black"
    FROZEN = "frozen"
    SILENT = "silent"
    FLAT = "flat"
    CLOCK = "clock"
    TRACK = "track"
    TAMPER = "tamper"
    SIGNAL = "signal"
    UNWATCHED = "unwatched"
    UNHEARD = "unheard"


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """One camera or microphone: `url` is rtsp://, v4l2:/dev/… or alsa:…, complete with user and password.

    `watch`: whether pictures and levels are looked at while it records. `plain_password`: the camera may have the
    password in a way that the whole network can read; else such a camera is told nothing (Cause.READABLE).
    """

    name: str
    url: str
    transport: Transport = Transport.TCP
    watch: bool = True
    plain_password: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """What one recorder process does: files `<source>-<number, six digits>.mp4` or `.mov` in `folder`, which exists.

    `first_numbers`: for each source, in the order of `sources`, the number of its next file. `test`: a readiness test.
    """

    session_id: str
    folder: str
    sources: tuple[SourcePlan, ...]
    first_numbers: tuple[int, ...]
    segment_s: float = 60.0
    stall_s: float = 5.0
    still_s: float = 2.0
    test: bool = False


@dataclass(frozen=True, slots=True)
class Stop:
    """End every segment and exit with 0."""


@dataclass(frozen=True, slots=True)
class Track:
    """One track as the file has it: `type` is video or audio, `codec` FFmpeg's name; 0 where it doesn't apply."""

    type: str
    codec: str
    width: int = 0
    height: int = 0
    rate_hz: int = 0
    channels: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """A source answered and describes these tracks; `took_ms` from the first attempt of this connection."""

    source: str
    at_us: int
    tracks: tuple[Track, ...]
    took_ms: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A file has its first packet: from now on what is missing in it is at most the last second."""

    source: str
    number: int
    file: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Closed:
    """A file is complete and durable. It holds the media from `start_us` to `end_us`, the station's clock at arrival.

    `media_us` is how long it plays. `camera_us`: what the camera's own clock (RTCP sender report, RFC 3550) said at its
    first packet, if it says any. `av_us`: by how much audio arrives later than video of the same RTCP time. `frames`
    and `samples` count the packets of video and audio. Who takes it counts anew what is not whole: with DISK the last
    of it may be missing; with KILLED nothing was counted, and `start_us` is `end_us` if it isn't known either.
    """

    source: str
    number: int
    file: str
    why: Why
    start_us: int
    end_us: int
    media_us: int
    size_bytes: int
    frames: int
    samples: int
    tracks: tuple[Track, ...]
    camera_us: int | None = None
    av_us: int | None = None


@dataclass(frozen=True, slots=True)
class Lost:
    """Nothing comes from a source since `since_us`; told once for each outage. `detail` has no address and no name."""

    source: str
    since_us: int
    cause: Cause
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Back:
    """What is recorded begins again at `at_us`, after the `Lost` before."""

    source: str
    at_us: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something about a source from `start_us`; `end_us` None: it goes on, and is told again when it ends.

    `value`: by how many microseconds time stamps jumped or drifted or the camera's clock is off, or how many packets
    were dropped or damaged. `track`: video or audio, if it is about one. UNWATCHED: a track comes, but nothing is known
    of how it looks or sounds: its key frames are too far apart or damaged, or nobody can decode it.
    """

    source: str
    kind: Kind
    start_us: int
    end_us: int | None = None
    value: int = 0
    track: str = ""


@dataclass(frozen=True, slots=True)
class Alive:
    """Each second, for each source: what is written so far in all, and how it looks and sounds now.

    `level_db` (dBFS, RMS) and `still` (name of a JPEG in the folder, replaced as a whole) are absent if not watched.
    """

    source: str
    mono_us: int
    media_us: int
    size_bytes: int
    video_bytes: int
    audio_bytes: int
    connected: bool
    level_db: float | None = None
    still: str = ""


Report = Opened | Begun | Closed | Lost | Back | Noticed | Alive
