"""What a dock slot is doing right now: lives in memory only, made by `pipeline`, shown by `status`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from agent.model.evidence import Outcome


class Phase(StrEnum):
    """How far a docking has come; FINISHED means that everything pulled was read back from the medium."""

    IDENTIFYING = "identifying"
    READING = "reading"
    VERIFYING = "verifying"
    FINISHED = "finished"
    FAILED = "failed"
    UNPLUGGED = "unplugged"
    UNSUPPORTED = "unsupported"
    UNREGISTERED = "unregistered"
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


@dataclass(frozen=True, slots=True)
class Upload:
    """An original on its way to the store."""

    asset_id: str
    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class ScrubProgress:
    """How far the round is in which all held files are read again, and what the last complete one found.

    `trouble` says in two languages why the round can't go on.
    """

    files: int = 0
    size_bytes: int = 0
    damaged: int = 0
    began_at: datetime | None = None
    full_at: datetime | None = None
    full_files: int = 0
    full_damaged: int = 0
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class AuditProgress:
    """What the slow audit of stored originals has found since this station began: how many were proved again.

    `checked` by what the store says of them, `read` also by their bytes; `lost` no longer had what their receipt says.
    """

    checked: int = 0
    read: int = 0
    lost: int = 0
    rounds: int = 0
    last_at: datetime | None = None
    error: str = ""
