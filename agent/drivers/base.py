"""The contract of a driver: a docked recorder can list its clips and fetch their bytes, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from agent.card import Extent, FailReason, Finding, Space, Volume
from agent.model import Clip, Device


@dataclass(frozen=True, slots=True)
class RefusedEntry:
    """A directory entry that can't be a readable file; it still counts as seen."""

    clip: Clip
    reason: str


@dataclass(frozen=True, slots=True)
class ListingEnd:
    """The listing is complete; the BLAKE3 over all filesystem metadata that was read shows later changes."""

    metadata_blake3: str
    space: Space | None = None


Listing = Volume | Clip | RefusedEntry | Finding | ListingEnd


@dataclass(frozen=True, slots=True)
class FetchRequest:
    """Read one clip into `part` (a name in the staging folder), or only fingerprint it if `part` is empty.

    `first_block` blocks are durable already. `check` is (block index, BLAKE3): that block is read again first and
    must be the same, else the clip is not the one whose pull was interrupted.
    `rescue` reads bad areas sector by sector and reports what stays unreadable as holes.
    """

    clip: Clip
    part: str
    first_block: int = 0
    check: tuple[int, str] | None = None
    rescue: bool = False


@dataclass(frozen=True, slots=True)
class BlockWritten:
    """Block `index` was written to the part, not yet durable; `blake3` was computed on the bytes as read.

    `holes` are ranges of the file inside this block that the medium would not give; they are zeros in the part.
    """

    number: int
    index: int
    size_bytes: int
    blake3: str
    holes: tuple[Extent, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Bytes of a clip that were read without being written (fingerprint only)."""

    number: int
    done_bytes: int


@dataclass(frozen=True, slots=True)
class Fetched:
    """All bytes of the clip were read; `blake3` is given only when nothing was written."""

    number: int
    size_bytes: int
    holes: tuple[Extent, ...] = ()
    blake3: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """The clip was not fetched; after GONE nothing more will come from this docking."""

    number: int
    reason: FailReason
    message: str = ""


FetchReport = BlockWritten | Progress | Fetched | Failed


class Docked(Protocol):
    """One docked recorder.

    Never writes to the recorder. `clips()` may be called again and starts over; it ends with exactly one `ListingEnd`
    or raises `DeviceError`. `fetch()` handles its requests in order and yields, for each, its blocks in order (an empty
    clip has one empty block) and then exactly one `Fetched` or `Failed`; it never yields for a clip that wasn't
    requested, never raises for one bad clip, and reads ahead of its consumer by at most four blocks. After `close()` no
    child or descriptor is left but those that `hangs` tells of.
    """

    @property
    def device(self) -> Device:
        """Identity; filesystem ids are filled in once `clips()` has yielded the volumes."""

    @property
    def hangs(self) -> bool:
        """Whether the kernel still holds a helper that was killed; another one would only hang beside it."""

    def clips(self) -> AsyncGenerator[Listing, None]:
        """List everything on the recorder."""

    def fetch(self, requests: Sequence[FetchRequest]) -> AsyncGenerator[FetchReport, None]:
        """Read clips of the last listing."""

    async def unplugged(self) -> None:
        """Detection saw the recorder go: what is under way ends with GONE, nothing is read any more."""

    async def close(self) -> None:
        """End all helpers; idempotent."""
