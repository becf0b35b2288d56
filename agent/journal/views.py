"""What the reader answers with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from agent.capture_time import after_setting
from agent.model import (
    ActivityStated,
    Asset,
    AssetState,
    CaptureTime,
    Clearing,
    Clip,
    ClockTrust,
    Completeness,
    Deadline,
    Declared,
    Device,
    Explained,
    Extent,
    Facts,
    KeyRotated,
    MediaFinding,
    Missing,
    Mode,
    Outcome,
    Receipt,
    ReceiptIssued,
    Recording,
    Said,
    SegmentTaken,
    SessionEnded,
    SessionNoted,
    SessionStarted,
    SessionTested,
    Stated,
    Statement,
    TimeBasis,
)
from agent.vault import Settled


@dataclass(frozen=True, slots=True)
class PendingClip:
    """A clip that this docking still has to settle."""

    clip: Clip
    mode: Mode
    asset_id: str


@dataclass(frozen=True, slots=True)
class DurableBlock:
    """A block of a part that is durable and came back from the medium; `holes` are ranges of the file inside it."""

    index: int
    size_bytes: int
    blake3: str
    holes: tuple[Extent, ...] = ()


class SettledNote(NamedTuple):
    """A part that was read back; its rename may or may not have happened."""

    settled: Settled
    holes: tuple[Extent, ...]


@dataclass(frozen=True, slots=True)
class CheckpointView:
    """A signed checkpoint of our log, in event `seq`: `note` has all cosignatures, `signed` is as it was signed.

    The receipt is a store's, for `signed`.
    """

    number: int
    seq: int
    size: int
    note: str
    signed: str
    receipt: Receipt | None


class IncidentView(NamedTuple):
    """An incident of one kind, in event `seq`."""

    seq: int
    at: datetime
    detail: Mapping[str, Any]


class AnnouncedKey(NamedTuple):
    """A public key of the station, in hexadecimal, and the event that first told of it.

    `rotation`: the key before signed that this one follows it; None for the first, and for one that was put there.
    """

    seq: int
    public: str
    rotation: KeyRotated | None


class DueAsset(NamedTuple):
    """A held asset, when it must be stored at the latest for its alarm not to go off, and the recorder it is of."""

    asset: Asset
    alarm_at: datetime
    device_id: str


@dataclass(frozen=True, slots=True)
class Tally:
    """How many, and how many bytes."""

    files: int = 0
    bytes: int = 0


class Batch(NamedTuple):
    """All that is due at the same time."""

    due_at: datetime
    files: int
    bytes: int


class Waiting(NamedTuple):
    """What is not stored yet, by due time: what is held here, and by docking id what open dockings still pull.

    Only the most urgent 200 due times of 10,000 files of each; `held_in_all` and `wanted_in_all` count everything.
    """

    held: tuple[Batch, ...]
    coming: Mapping[str, tuple[Batch, ...]]
    held_in_all: Tally
    wanted_in_all: Tally


@dataclass(frozen=True, slots=True)
class Attempt:
    """Attempts since the asset last changed its state; `next_at` only after a failure."""

    begun: int
    failed: int
    next_at: datetime | None
    last_error: str


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where the clips of one docking went, in files."""

    pulled: int = 0
    already_held: int = 0
    refused: int = 0
    unreadable: int = 0
    left: int = 0
    pending: int = 0

    @property
    def seen(self) -> int:
        """All clips: the sum of everything they became."""
        return self.pending + self.pulled + self.already_held + self.refused + self.unreadable + self.left


@dataclass(frozen=True, slots=True)
class DockingView:
    """One docking; `listed_at` and `closed_at` are None until it happened, `clearing` as long as it has no receipt."""

    docking_id: str
    device: Device
    slot: str
    opened_at: datetime
    listed_at: datetime | None
    closed_at: datetime | None
    reason: str
    accounting: Accounting
    clearing: Clearing | None = None


@dataclass(frozen=True, slots=True)
class TakenFile:
    """A clip of a docking, what became of it, and the asset that has its bytes or is to have them, if there is one.

    `deadline` is that of its own recording.
    """

    clip: Clip
    outcome: Outcome
    keeper: Asset | None
    deadline: Deadline | None


class ReceiptView(NamedTuple):
    """A receipt as it was issued, in event `seq`."""

    seq: int
    at: datetime
    said: ReceiptIssued


@dataclass(frozen=True, slots=True)
class MetadataView:
    """How complete the capture metadata of a recording is, what it lacks, and how many statements there are."""

    completeness: Completeness = Completeness.INCOMPLETE
    lacks: frozenset[Missing] = frozenset()
    version: int = 0


_NOTHING_SAID = MetadataView()


class MadeView(NamedTuple):
    """What was found in a recording, and why there is no access copy of it ("": there is one)."""

    found: int
    reason: str


class Copies(NamedTuple):
    """Of how many originals copies are still to be made (up to 10,000), there are some, and there can't be any."""

    waiting: int = 0
    made: int = 0
    failed: int = 0


_NO_COPIES = Copies()


@dataclass(frozen=True, slots=True)
class RecordingView:
    """A recording with its original; `clip` is None if it was adopted from the vault. `after` is its place in pages.

    `recording` is as the recorder tells it, except for its deadline, which is the one in force, and its medium once
    the content has told it. `stated` and `declared` are what persons said since, `facts` and `by_content` what the
    content says; `held_at` is when the vault got the original (also if it has lost it again). `ended` is the end of its
    activity, if that was on a later day. `made`: None as long as nothing was made from its content. `findings`: what
    was found in it, only where it is read as a part of an activity. `set_by_s`: by how much the station's clock was set
    since `seen_at`, when it was listed. `segment`: it is one of a session in a room.
    """

    recording: Recording
    asset: Asset
    clip: Clip | None
    docking_id: str
    after: str
    held_at: datetime | None = None
    stated: Stated | None = None
    declared: Declared | None = None
    ended: datetime | None = None
    facts: Facts | None = None
    by_content: CaptureTime | None = None
    metadata: MetadataView = _NOTHING_SAID
    made: MadeView | None = None
    findings: tuple[MediaFinding, ...] = ()
    seen_at: datetime | None = None
    set_by_s: float = 0.0
    segment: SegmentTaken | None = None

    @property
    def name(self) -> str:
        """What its file was called where it was recorded; empty if that is unknown."""
        if self.clip is not None:
            return self.clip.path
        return self.segment.file if self.segment is not None else ""

    @property
    def witnessed(self) -> CaptureTime:
        """When it was completed by all that machines wrote: the file's times, and the content once it was probed."""
        recording = self.recording
        told = CaptureTime(recording.captured_earliest, recording.captured_latest, recording.clock_trust)
        told = self.by_content or told
        return told if self.seen_at is None else after_setting(told, self.seen_at, self.set_by_s)

    @property
    def time(self) -> CaptureTime:
        """When it was completed, between which times, and how that is known; a person's word goes first."""
        told = self.witnessed
        if self.stated is None:
            return told
        said, start = self.stated.made_at, None
        if told.made_start is not None and told.made_end is not None:
            start = said - (told.made_end - told.made_start)
        trust, basis = ClockTrust.STATED, TimeBasis.OFFICER
        return CaptureTime(said, said, trust, made_start=start, made_end=said, basis=basis, sources=told.sources)

    @property
    def captured(self) -> tuple[datetime | None, datetime, ClockTrust]:
        """Earliest and latest of `time`, and how far the clock is trusted."""
        return self.time.earliest, self.time.latest, self.time.clock_trust

    @property
    def activity_end(self) -> datetime | None:
        """`ended`, as long as nothing is said against the recorder's clock."""
        return self.ended if self.captured[2] is ClockTrust.UNMEASURED else None


@dataclass(frozen=True, slots=True)
class ActivityView:
    """An activity as it was stated last, its recordings, and the explanations of its gaps.

    `changed_seq` is the newest event that may have changed what is to be said of it. `sessions` are those in rooms that
    its recordings are of, without segments, notes and tests.
    """

    stated: ActivityStated
    recordings: tuple[RecordingView, ...]
    explanations: tuple[Explained, ...]
    changed_seq: int
    sessions: tuple[SessionView, ...] = ()


@dataclass(frozen=True, slots=True)
class DocumentView:
    """What was said about recordings, and the asset that is its file; `at` and `seq` of the event that tells it."""

    asset: Asset
    said: Said
    recordings: tuple[str, ...]
    at: datetime
    seq: int


class SealCounts(NamedTuple):
    """How many manifests are still to be made and stamped; `made` are the manifests and time stamps there are."""

    to_make: int = 0
    to_stamp: int = 0
    made: int = 0
    stored: int = 0
    stuck: int = 0


_NO_SEALS = SealCounts()


@dataclass(frozen=True, slots=True)
class StatementView:
    """What an officer said of recordings, and the asset that is its file."""

    asset: Asset
    said: Statement


@dataclass(frozen=True, slots=True)
class EventView:
    """One event of the log; `detail` is canonical JSON, `hash` hexadecimal."""

    seq: int
    at: datetime
    kind: str
    subject: str
    detail: str
    hash: str


@dataclass(frozen=True, slots=True)
class Overview:
    """The station in numbers. `late` counts up to `LATE_LIMIT`. `assets` are originals, each one recording.

    `derived` are the files that were made from them, `documents` what persons and programs said of them.

    `metadata` counts recordings by how complete theirs is.
    `doubted` are assets that an audit did not find in the store as they were, and that are not stored again yet.
    """

    assets: Mapping[AssetState, Tally]
    clips: Mapping[Outcome, Tally]
    late: int
    doubted: int
    open_dockings: int
    head_seq: int
    head_hash: str
    documents: Mapping[AssetState, Tally] = field(default_factory=dict)
    metadata: Mapping[Completeness, int] = field(default_factory=dict)
    derived: Mapping[AssetState, Tally] = field(default_factory=dict)
    copies: Copies = _NO_COPIES
    seals: SealCounts = _NO_SEALS


@dataclass(frozen=True, slots=True)
class SessionView:
    """A session in a room with everything that the journal has of it, each in the order in which it was told."""

    started: SessionStarted
    ended: SessionEnded | None = None
    segments: tuple[SegmentTaken, ...] = ()
    notes: tuple[SessionNoted, ...] = ()
    tests: tuple[SessionTested, ...] = ()
