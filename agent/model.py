"""The nouns of the agent: frozen values without behaviour, shared by every layer above."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

Clock = Callable[[], datetime]
"""Returns the present as an aware datetime; a parameter everywhere, so that tests own time."""

BLOCK_BYTES: Final = 16 * 1024 * 1024
"""Unit of durability, read-back and resume inside a file."""

Extent = tuple[int, int]
"""(offset, length) in bytes on the device, or a hole (offset, length) in bytes inside a file."""


class Medium(StrEnum):
    """载体类型; from the file name until the content has been probed."""

    VIDEO = "video"
    AUDIO = "audio"
    PHOTO = "photo"
    OTHER = "other"


class Role(StrEnum):
    """What an asset is to its recording."""

    ORIGINAL = "original"


class ClockTrust(StrEnum):
    """设备时钟可信度: no offset measured yet, or plainly wrong (before 2020, in the future)."""

    UNMEASURED = "unmeasured"
    UNTRUSTED = "untrusted"


class Basis(StrEnum):
    """Whether a due time stands on an official calendar or is 暂定 (provisional)."""

    OFFICIAL = "official"
    PROVISIONAL = "provisional"


class AssetState(StrEnum):
    """The states of the one state machine; see `states.transition`."""

    WANTED = "wanted"
    HELD = "held"
    STORED = "stored"
    RELEASED = "released"
    STUCK = "stuck"
    MATCHED = "matched"


class Outcome(StrEnum):
    """What became of one clip in one docking: `seen` is the sum over all of these."""

    PENDING = "pending"
    PULLED = "pulled"
    ALREADY_HELD = "already_held"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    LEFT = "left"


class Mode(StrEnum):
    """How a clip is read: as new footage, as rescue of one with bad sectors, or to confirm that we hold it."""

    PULL = "pull"
    RESCUE = "rescue"
    CONFIRM = "confirm"


@dataclass(frozen=True, slots=True)
class Device:
    """Composite identity of a docked recorder; no single field is trusted (serial numbers are cloned in the field)."""

    driver: str
    vendor: str = ""
    product: str = ""
    serial: str = ""
    port: str = ""
    filesystem_ids: tuple[str, ...] = ()
    label: str = ""
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Stamp:
    """A time as the device wrote it: naive local ISO 8601 text, and the zone only if the filesystem stores one."""

    local: str | None = None
    offset_min: int | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """A file on a device: a fact, not yet ours.

    `number` counts within one docking. `raw_name` is the last path component exactly as stored on the medium.
    `size_bytes` is what the directory claims, `readable_bytes` what its cluster chain can really give.
    """

    number: int
    path: str
    raw_name: bytes
    size_bytes: int
    readable_bytes: int
    created: Stamp = Stamp()
    modified: Stamp = Stamp()
    flags: tuple[str, ...] = ()
    entry_offset: int = -1


@dataclass(frozen=True, slots=True)
class Volume:
    """A filesystem found on a docked device."""

    kind: str
    filesystem_id: str
    label: str
    cluster_bytes: int
    size_bytes: int
    dirty: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """A fact about a docking that is no clip: deleted entry, numbering gap, damage, medium changed."""

    kind: str
    detail: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Digests:
    """Fingerprints of a whole file, lower-case hexadecimal."""

    blake3: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Held:
    """Proof that an original is durable and was read back from the medium. Only `vault` makes one."""

    asset_id: str
    path: Path
    size_bytes: int
    digests: Digests
    sealed: bool


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a store has an original: its own answer about size and digest was checked. Only stores make one."""

    store: str
    object: str
    size_bytes: int
    digests: Digests
    confirmed_at: datetime
    locked_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a recording must be stored, by which rule; `due_at` is exclusive (24:00 is the next day's 00:00).

    `alarm_at` is never later than the law: it drives order and alarms when the calendar is not official
    or the capture time is an interval.
    """

    profile: str
    rule: str
    citation: str
    start: datetime
    due_at: datetime
    alarm_at: datetime
    basis: Basis


@dataclass(frozen=True, slots=True)
class Recording:
    """What a clip became: medium, capture interval, clock trust and legal deadline."""

    recording_id: str
    device_id: str
    medium: Medium
    captured_earliest: datetime | None
    captured_latest: datetime
    clock_trust: ClockTrust
    deadline: Deadline


@dataclass(frozen=True, slots=True)
class Asset:
    """One file that must exist in the store, and how far it has come."""

    asset_id: str
    recording_id: str
    role: Role
    state: AssetState
    expected_bytes: int
    size_bytes: int | None = None
    digests: Digests | None = None
    receipt: Receipt | None = None
    reason: str = ""
    resume_to: AssetState | None = None
    same_as: str = ""


# Events of the asset state machine.


@dataclass(frozen=True, slots=True)
class Acquired:
    """The vault holds the bytes; `holes` are ranges of the file that the medium would not give (kept as zeros)."""

    held: Held
    holes: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class Matched:
    """The content read from the recorder is already held as another asset."""

    same_as: str
    digests: Digests


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A store proved that it has the original."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Released:
    """Policy freed the local copy; needs the receipt that allowed it."""

    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Blocked:
    """A person is needed; `reason` says why in words a person understands."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """Somebody (or a new docking) asked to try again."""

    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Damaged:
    """The held file no longer has its digest; it can be pulled again only while the source has it."""

    found: str
    source_docked: bool


AssetEvent = Acquired | Matched | Confirmed | Released | Blocked | Resumed | Damaged


# Entries of the journal: what `journal.record` takes. Each becomes one hash-chained event.


@dataclass(frozen=True, slots=True)
class DockingOpened:
    """A recorder was docked and its filesystem read far enough to know who it is."""

    docking_id: str
    device_id: str
    device: Device
    slot: str


@dataclass(frozen=True, slots=True)
class ClipSeen:
    """A clip was listed. New footage brings its `recording` and `asset`; known footage names the asset to confirm."""

    docking_id: str
    clip: Clip
    mode: Mode
    asset_id: str
    recording: Recording | None = None
    asset: Asset | None = None


@dataclass(frozen=True, slots=True)
class ClipRefused:
    """A directory entry that can't be read as a file at all, with the reason."""

    docking_id: str
    clip: Clip
    reason: str


@dataclass(frozen=True, slots=True)
class ClipAccounted:
    """The outcome of one clip in one docking, when no asset changes with it (confirmed, left, deferred to rescue)."""

    docking_id: str
    number: int
    outcome: Outcome
    mode: Mode
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """A finding of a docking, kept as a fact."""

    docking_id: str
    finding: Finding


@dataclass(frozen=True, slots=True)
class DockingListed:
    """All entries of the card are known: from here on `seen` is complete."""

    docking_id: str
    seen: int
    metadata_blake3: str


@dataclass(frozen=True, slots=True)
class DockingClosed:
    """The docking ended; every clip that is still pending is counted as left on the recorder."""

    docking_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AssetChanged:
    """An asset event; with docking and clip number it also settles that clip's outcome."""

    asset_id: str
    event: AssetEvent
    docking_id: str = ""
    number: int = -1
    outcome: Outcome | None = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """A vault file without a row became a recording of unknown origin."""

    recording: Recording
    asset: Asset
    held: Held


@dataclass(frozen=True, slots=True)
class Incident:
    """Something a person must know: not sealed, medium changed, service started or stopped, capacity."""

    kind: str
    detail: Mapping[str, object] = field(default_factory=dict)


JournalEntry = (
    DockingOpened | ClipSeen | ClipRefused | ClipAccounted | Observed | DockingListed | DockingClosed
    | AssetChanged | Adopted | Incident
)


# Legal rules as data; `config` reads them, `deadline` computes with them.


class Rule(StrEnum):
    """How a jurisdiction counts its time limit."""

    WORKING_DAYS = "working_days"
    SAME_DAY = "same_day"


@dataclass(frozen=True, slots=True)
class Profile:
    """One jurisdiction's rule with the article it comes from; `days` is 0 for the same-day rule."""

    name: str
    title: str
    rule: Rule
    days: int
    citation: str
    computation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CalendarYear:
    """The holiday notice of one year: days `off` and make-up `work` days; not `complete` means only partly known."""

    year: int
    complete: bool
    source: str
    issued: date | None = None
    off: frozenset[date] = frozenset()
    work: frozenset[date] = frozenset()


# What a dock slot is doing right now: lives in memory only, shown by `status`, made by `pipeline`.


class Phase(StrEnum):
    """How far a docking has come; FINISHED means that everything pulled was read back from the medium."""

    IDENTIFYING = "identifying"
    READING = "reading"
    VERIFYING = "verifying"
    FINISHED = "finished"
    FAILED = "failed"
    UNPLUGGED = "unplugged"
    UNSUPPORTED = "unsupported"
    NO_SPACE = "no_space"


@dataclass(frozen=True, slots=True)
class SlotProgress:
    """Live progress of one slot; `outcomes` counts clips so far, `may_remove` only after everything was read back."""

    slot: str
    device_label: str
    phase: Phase
    files_done: int = 0
    files_total: int = 0
    bytes_done: int = 0
    bytes_total: int = 0
    rate_bytes_s: float = 0.0
    eta_s: float | None = None
    message: str = ""
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    may_remove: bool = False
    docking_id: str = ""
