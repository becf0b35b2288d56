"""What the locked helpers tell of a card, as plain tuples: a helper must not pay for importing the whole model.

Modules of the helpers that make named tuples don't postpone annotations: as text, each would have to be compiled.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

BLOCK_BYTES: Final = 16 * 1024 * 1024
"""Unit of durability, read-back and resume inside a file."""

Extent = tuple[int, int]
"""(offset, length) in bytes on the device, or a hole (offset, length) in bytes inside a file."""


class Stamp(NamedTuple):
    """A time as the device wrote it: naive local ISO 8601 text, and the zone only if the filesystem stores one."""

    local: str | None = None
    offset_min: int | None = None


NO_STAMP: Final = Stamp()


class Volume(NamedTuple):
    """A filesystem found on a docked device."""

    kind: str
    filesystem_id: str
    label: str
    cluster_bytes: int
    size_bytes: int
    dirty: bool


class Space(NamedTuple):
    """Bytes of a docked device's filesystems: all, those that are free, those taken that belong to nothing listed."""

    size_bytes: int
    free_bytes: int
    lost_bytes: int


class Finding(NamedTuple):
    """A fact about a docking that is no clip: deleted entry, numbering gap, damage, medium changed."""

    kind: str
    detail: Mapping[str, object]


class FailReason(StrEnum):
    """Why a clip could not be fetched now."""

    UNREADABLE = "unreadable"  # read error without rescue: blocks before it are good
    CHANGED = "changed"  # fewer bytes than listed: the medium shrank under us
    DIFFERENT = "different"  # the check block differs: another recording
    GONE = "gone"  # the recorder was unplugged, or is another one now
    NO_SPACE = "no_space"  # staging is full
    BROKEN = "broken"  # the helper died, stalled or spoke nonsense
