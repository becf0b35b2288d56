"""Freeing local copies (释放本机副本): on which terms, who allowed it, what keeps one here, and the proof for one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from agent.model.evidence import Receipt, Role


class FreeWhen(StrEnum):
    """Never; only when a recorder finds no room; or as soon as all that is asked for is true."""

    OFF = "off"
    FULL = "when_full"
    DONE = "when_done"


@dataclass(frozen=True, slots=True)
class Terms:
    """On which terms local copies may be freed; journalled, so hardly any of the fields has a default.

    `roles`: of which documents every recording must have one at the centre. `lock_days`: so long must the store's own
    lock still last. More than `files_max` originals, or `percent_max` of all that are here, need a second person.
    `store` is the one that proves its copies: its kind, and a digest of how it is configured.
    """

    when: FreeWhen
    retention_days: int
    roles: tuple[Role, ...]
    read_back: bool
    lock_days: int
    keep_marked: bool
    files_max: int
    percent_max: int
    store: str = ""

    @property
    def retention(self) -> timedelta:
        """How long a copy stays at least."""
        return timedelta(days=self.retention_days)


class Stays(StrEnum):
    """Why a local copy is not freed."""

    YOUNG = "young"
    UNSTORED = "unstored"
    LACKING = "lacking"
    UNLOCKED = "unlocked"
    FROZEN = "frozen"
    MARKED = "marked"
    DOUBTED = "doubted"
    UNREAD = "unread"
    INCOMPLETE = "incomplete"
    SHARED = "shared"
    UNDER_WAY = "under_way"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class ReleaseAsked:
    """Somebody wants these terms to be in force, by which so much of what is here would go."""

    terms: Terms
    files: int
    bytes: int
    of_files: int
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class ReleaseConfirmed:
    """Another person agrees with what event `asked` wants; `freed` copies had gone until then."""

    asked: int
    freed: int
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Frozen:
    """Somebody wants the local copy of an original to stay (审核冻结), or not any more (`frozen` false)."""

    asset_id: str
    frozen: bool
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Releasable:
    """Proof that a local copy may be freed: everything was true a moment ago, the store's own answer too.

    Only `pipeline.releasable` makes one. `identity` is the very file that was read: device, inode, bytes, time of the
    last change of anything about it in ns. `receipts` by asset id are those that the store has just proved.
    """

    path: Path
    blake3: str
    identity: tuple[int, int, int, int]
    receipts: tuple[tuple[str, Receipt], ...]
