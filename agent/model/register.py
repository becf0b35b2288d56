"""The recorders that the bureau owns, and where each of them is as far as anybody has said or docked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class RecorderKind(StrEnum):
    """What sort of recorder it is."""

    BODY_CAMERA = "body_camera"
    VOICE_RECORDER = "voice_recorder"
    CAMERA = "camera"


@dataclass(frozen=True, slots=True)
class Recorder:
    """One recorder of the inventory: its asset `number`, and the marks by which a docked one is recognised as it."""

    recorder_id: str
    number: str
    kind: RecorderKind
    product: str = ""
    serial: str = ""
    volume_label: str = ""
    filesystem_ids: tuple[str, ...] = ()


class Custody(StrEnum):
    """Where a recorder is: UNPULLED came back without docking, WRITTEN_OFF will never be docked, says a person."""

    HERE = "here"
    OUT = "out"
    UNPULLED = "unpulled"
    WRITTEN_OFF = "written_off"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a recorder is, since its last handover at `changed_at`.

    Footage that nobody has pulled may be on it from `unseen_since` on; None: everything it had was pulled, or a person
    has given it up.
    """

    recorder_id: str
    custody: Custody
    issued_at: datetime
    changed_at: datetime
    unseen_since: datetime | None = None
    back_by: datetime | None = None
