"""What can happen: the events of an asset, and the entries of the journal that tell them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agent.card import Extent, Finding
from agent.model.accounts import AccountChanged, SignedIn, SignedOut, SignInRefused
from agent.model.activities import ActivityEnded, ActivityStated, GapConfirmed, GapExplained
from agent.model.checkpoints import (
    CheckpointCosigned,
    CheckpointSigned,
    CheckpointStored,
    CheckpointWitnessed,
    KeyRotated,
)
from agent.model.derived import DeriveAsked, Derived
from agent.model.documents import Checked, DocumentAdded, NoSpeechFound
from agent.model.evidence import (
    Asset,
    Clip,
    Deadline,
    Declared,
    Device,
    Digests,
    Held,
    Mode,
    Outcome,
    Receipt,
    Recording,
    Stated,
)
from agent.model.export import CopyViewed, Exported
from agent.model.facts import CaptureTime, Facts
from agent.model.receipts import ReceiptIssued
from agent.model.release import Frozen, ReleaseAsked, ReleaseConfirmed
from agent.model.sessions import SegmentTaken, SessionEnded, SessionNoted, SessionStarted, SessionTested

# Events of the asset state machine.


@dataclass(frozen=True, slots=True)
class Acquired:
    """The vault holds the bytes; `holes` are ranges of the file that the medium would not give (kept as zeros)."""

    held: Held
    holes: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class Matched:
    """The content read from the recorder is already held as another asset; `holes` as for Acquired."""

    same_as: str
    digests: Digests
    holes: tuple[Extent, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Lost:
    """The store no longer proves that it has the original: its receipt is void."""

    found: str


AssetEvent = Acquired | Matched | Confirmed | Released | Blocked | Resumed | Damaged | Lost


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
class TimeStated:
    """A person stated when the recording of this asset was completed; its limit goes from `old` to `new`."""

    asset_id: str
    stated: Stated
    old: Deadline
    new: Deadline


@dataclass(frozen=True, slots=True)
class EventDeclared:
    """A person declared an event from which a rule counts; the limit goes from `old` to `new`."""

    asset_id: str
    declared: Declared
    old: Deadline
    new: Deadline


@dataclass(frozen=True, slots=True)
class DeadlineRecomputed:
    """Other holiday notices or rules came into force: the limit goes from `old` to `new`."""

    asset_id: str
    old: Deadline
    new: Deadline


@dataclass(frozen=True, slots=True)
class Probed:
    """The content of an original was read; when it was made, by that, and its limit from `old` to `new`."""

    asset_id: str
    facts: Facts
    time: CaptureTime
    old: Deadline
    new: Deadline


@dataclass(frozen=True, slots=True)
class Incident:
    """Something a person must know: not sealed, medium changed, service started or stopped, capacity."""

    kind: str
    detail: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ClockStepped:
    """The station's clock was set, by `step_ms`, backwards if negative; `before` is what it would have said at `after`.

    `run` is the sequence number of the event with which this run of the service began.
    """

    before: datetime
    after: datetime
    step_ms: int
    run: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Held files were read again from the medium since `began_at`: those behind `after` up to `last`, by asset id.

    `files`, `size_bytes` and `damaged` count from `round_at` on, when the round began that is `complete` with this.
    """

    after: str
    last: str
    began_at: datetime
    round_at: datetime
    files: int
    size_bytes: int
    damaged: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class DeviceIssued:
    """A recorder of the inventory was handed out (领用) to `officer`, a reference that no screen and no log shows."""

    recorder_id: str
    at: datetime
    officer: str
    who: str
    why: str
    back_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class DeviceReturned:
    """A recorder came back: by a docking in which all that was on it was taken over, or as a person says.

    Without `docking_id` it was not docked; `unread`: it never will be (lost, broken), so nobody waits for its footage.
    """

    recorder_id: str
    at: datetime
    who: str
    why: str
    docking_id: str = ""
    unread: bool = False


JournalEntry = (
    DockingOpened
    | ClipSeen
    | ClipRefused
    | ClipAccounted
    | Observed
    | DockingListed
    | DockingClosed
    | AssetChanged
    | Adopted
    | TimeStated
    | EventDeclared
    | DeadlineRecomputed
    | Probed
    | Incident
    | ClockStepped
    | Scrubbed
    | DeviceIssued
    | DeviceReturned
    | DocumentAdded
    | NoSpeechFound
    | ActivityStated
    | ActivityEnded
    | GapExplained
    | GapConfirmed
    | Checked
    | Derived
    | DeriveAsked
    | CheckpointSigned
    | CheckpointStored
    | CheckpointCosigned
    | CheckpointWitnessed
    | KeyRotated
    | ReleaseAsked
    | ReleaseConfirmed
    | Frozen
    | ReceiptIssued
    | Exported
    | SignedIn
    | SignInRefused
    | SignedOut
    | AccountChanged
    | CopyViewed
    | SessionStarted
    | SegmentTaken
    | SessionNoted
    | SessionTested
    | SessionEnded
)
