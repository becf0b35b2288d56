"""Has the scan child read an original once, checks every line of its answer, and tells when it isn't what was held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import durable
from agent.access.scanner import REGION_BYTES, REGIONS_LIMIT, STRETCH_BYTES
from agent.access.watching import go_on, never
from agent.child import Child, ChildError

STALL_S: Final = 120.0
_DIGEST: Final = frozenset("0123456789abcdef")


class ScanError(Exception):
    """The file could not be read to its end, which says nothing about its content; the text says why."""


class ChangedError(ScanError):
    """The file was read, and it is not what its size and digest say."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """What is in the bytes: (offset, length) of the first regions that are zero, ordered, and all of them together."""

    blake3: str
    zeros: tuple[tuple[int, int], ...] = ()
    regions: int = 0
    zero_bytes: int = 0


async def scan(
    path: Path, size_bytes: int, digest: str = "", *, is_busy: Callable[[], bool] = never, stall_s: float = STALL_S
) -> Scanned:
    """Read the whole file once, waiting while `is_busy`.

    Raises ChangedError if it has another size or BLAKE3 than was said, ScanError if it can't be read.
    """
    try:
        with durable.opened(path) as fd:
            child = await Child.start("agent.access.scanner", [str(fd)], stall_limit_s=stall_s, pass_fds=[fd])
            try:
                scanned = await _answer(child, size_bytes, is_busy)
            finally:
                await child.stop()
    except ChildError as error:
        raise ScanError(f"the child that reads it {error}") from error
    except OSError as error:
        raise ScanError(f"it can't be opened: {error.strerror}") from error
    if digest and scanned.blake3 != digest:
        raise ChangedError(f"its BLAKE3 is {scanned.blake3}, not {digest}")
    return scanned


async def _answer(child: Child, size_bytes: int, is_busy: Callable[[], bool]) -> Scanned:
    """What the child tells, if that is in order; raises ChildError, ChangedError."""
    zeros: list[tuple[int, int]] = []
    done = end = 0
    while done <= size_bytes:
        match await child.line():
            case {"read": int(at)} if at == done + STRETCH_BYTES:
                done = at
                await go_on(child, is_busy)
            case {"zeros": [int(offset), int(length)]} if offset >= end and length >= REGION_BYTES:
                if len(zeros) == REGIONS_LIMIT:
                    raise ChildError("reported more regions than were asked")
                zeros.append((offset, length))
                end = offset + length
            case {"bytes": int(at), "blake3": str(digest), "regions": int(regions), "zero_bytes": int(zero_bytes)}:
                if at != size_bytes:
                    raise ChangedError(f"it has {at} bytes, not {size_bytes}")
                return _checked(Scanned(digest, tuple(zeros), regions, zero_bytes), end, at)
            case None:
                raise ChildError("ended before it had told everything")
            case _:
                raise ChildError("reported something that was not asked")
    raise ChangedError(f"it has more than {size_bytes} bytes")


def _checked(said: Scanned, end: int, size_bytes: int) -> Scanned:
    told = sum(length for _, length in said.zeros)
    more = said.regions - len(said.zeros)
    few = more == 0 or (more > 0 and len(said.zeros) == REGIONS_LIMIT)
    if len(said.blake3) != 64 or not _DIGEST.issuperset(said.blake3) or end > size_bytes:
        raise ChildError("reported a digest or a place that is none")
    if not few or not told + more * REGION_BYTES <= said.zero_bytes <= told + (size_bytes - end if more else 0):
        raise ChildError("reported numbers that contradict each other")
    return said
