"""When a file of an inbox is complete: pure, so that every sequence of looks can be tested."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

UNFINISHED_SUFFIXES: Final = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".!ut", ".upload")
"""Names that programs give to what they have not finished; they rename it then."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a file must have stayed the same, in seconds.

    `settle_s`: if nobody has it open for writing. `unsure_s`: where the filesystem can't tell that. `give_up_s`: then
    it is taken as it is, whatever is missing; what is written later is taken as another version. With a `marker` a file
    is complete as soon as it has settled and one of its name with that suffix lies beside it, and never else.
    """

    settle_s: float = 5.0
    unsure_s: float = 60.0
    give_up_s: float = 900.0
    marker: str = ""


class Doubt(StrEnum):
    """What spoke against a file that was taken because it had not changed for so long."""

    NONE = ""
    OPEN = "open-for-writing"
    EMPTY = "empty"
    NOT_WHOLE = "not-whole"


class Closer(Protocol):
    """A closer look at a file, made only when it has settled."""

    def is_written_to(self) -> bool | None:
        """Whether somebody has it open for writing; None: the filesystem doesn't tell."""

    def is_whole(self) -> bool:
        """Whether nothing is missing by the lengths that its own format states."""


def judged(
    rested_s: float, size_bytes: int, patience: Patience, closer: Closer, *, has_marker: bool = False
) -> Doubt | None:
    """None while a file must be waited for; else it is complete, or taken in spite of a doubt."""
    if rested_s < patience.settle_s:
        return None
    if patience.marker:
        return Doubt.NONE if has_marker else None
    written = closer.is_written_to()
    doubt = Doubt.NONE
    if written:
        doubt = Doubt.OPEN
    elif not size_bytes:
        doubt = Doubt.EMPTY
    elif not closer.is_whole():
        doubt = Doubt.NOT_WHOLE
    if rested_s >= patience.give_up_s:
        return doubt
    if doubt or (written is None and rested_s < patience.unsure_s):
        return None
    return Doubt.NONE


def is_unfinished(name: str) -> bool:
    """Whether a name says that its file isn't finished."""
    return name.lower().endswith(UNFINISHED_SUFFIXES)
