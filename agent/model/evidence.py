"""The nouns of evidence: recorders, clips, recordings, originals, and the proofs that they are safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.card import NO_STAMP, Stamp

Clock = Callable[[], datetime]
"""Returns the present as an aware datetime; a parameter everywhere, so that tests own time."""

INBOX: Final = "folder"
"""The driver of an inbox: docked for ever, it gives batches of files; what it gave before need not be there still."""

INBOX_SLOT: Final = "收件夹 "
"""How the names of slots begin that are inboxes: there is nothing to unplug."""


class Medium(StrEnum):
    """载体类型; from the file name until the content has been probed."""

    VIDEO = "video"
    AUDIO = "audio"
    PHOTO = "photo"
    OTHER = "other"


class Role(StrEnum):
    """What an asset is to its recording: the recording itself, a document about it, or what was made from it."""

    ORIGINAL = "original"
    STATEMENT = "statement"
    TRANSCRIPT = "transcript"
    EXPLANATION = "explanation"
    ACCESS_COPY = "access_copy"
    RECOVERY_COPY = "recovery_copy"
    POSTER = "poster"
    CONTACT_SHEET = "contact_sheet"
    WAVEFORM = "waveform"
    TIMELINE = "timeline"
    FINDINGS = "findings"
    CERTIFICATE = "certificate"
    MOSAIC = "mosaic"
    PLAYLIST = "playlist"
    SESSION_LIST = "session_list"
    MANIFEST = "manifest"
    TIMESTAMP = "timestamp"


class ClockTrust(StrEnum):
    """设备时钟可信度: no offset measured, plainly wrong (before 2020, in the future), or a person told the time.

    CONTRADICTED: the content or the file name tells of another time than the file's.
    """

    UNMEASURED = "unmeasured"
    UNTRUSTED = "untrusted"
    CONTRADICTED = "contradicted"
    STATED = "stated"


class Basis(StrEnum):
    """Whether a due time stands on an official calendar, is 暂定 (provisional), or only the bureau's own target."""

    OFFICIAL = "official"
    PROVISIONAL = "provisional"
    TARGET = "target"


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


SIMULATED: Final = "演练 SIMULATED"
"""Vendor of a recorder that was docked for training: whatever names the recorder says it, and no inventory has it."""


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
    created: Stamp = NO_STAMP
    modified: Stamp = NO_STAMP
    flags: tuple[str, ...] = ()
    entry_offset: int = -1


@dataclass(frozen=True, slots=True)
class Digests:
    """Fingerprints of a whole file, lower-case hexadecimal."""

    blake3: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Held:
    """Proof that an original is durable and was read back from the medium. Only `vault` makes one.

    With a `key` it is a text of the station's own, no original: a store keeps it under that key.
    """

    asset_id: str
    path: Path
    size_bytes: int
    digests: Digests
    sealed: bool
    key: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a store has an original: its own answer about size and digest was checked. Only stores make one.

    `version` and `etag` are the store's own names for exactly these bytes, where it has such; `locked_until` is the
    end of the lock that is in force there.
    """

    store: str
    object: str
    size_bytes: int
    digests: Digests
    confirmed_at: datetime
    locked_until: datetime | None = None
    version: str = ""
    etag: str = ""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a recording must be stored, by which rule; `due_at` is exclusive (24:00 is the next day's 00:00).

    `alarm_at` is never later than the law: it drives order and alarms when the calendar is not official
    or the capture time is an interval. `calendar` is the digest of the holiday notices it was counted with.
    """

    profile: str
    rule: str
    citation: str
    start: datetime
    due_at: datetime
    alarm_at: datetime
    basis: Basis
    calendar: str = ""


@dataclass(frozen=True, slots=True)
class Stated:
    """A person's word on when a recording was completed, because its recorder's clock can't tell."""

    made_at: datetime
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Declared:
    """A person's word that an event happened from which a rule counts, and for which of the article's causes."""

    event: str
    at: datetime
    cause: str
    who: str
    why: str


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
