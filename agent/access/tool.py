"""Runs ffmpeg in a cage: bounded, watched by what it has done, stopped while others need the station, always reaped."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.access.watching import never, watch
from agent.checked import plain
from agent.child import Child, ChildError
from agent.media.formats import FORMATS

READING: Final = ("-protocol_whitelist", "file", "-format_whitelist", FORMATS)
"""Words before every `-i`; the path behind it begins with `file:`, since a bare name may be taken for a protocol."""

_FRONT: Final = (
    "-nostdin", "-hide_banner", "-loglevel", "warning", "-nostats", "-progress", "pipe:1", "-stats_period", "0.5", "-y",
)  # fmt: skip
_PROGRAM: Final = "ffmpeg"
_WRITTEN_STEP_BYTES: Final = 1 << 20
_COMPLAINTS: Final = 20
_DIGITS_LIMIT: Final = 18
_VERSION_S: Final = 120.0
"""On a machine at its limit a few idle milliseconds take a minute."""


class ToolError(Exception):
    """ffmpeg could not do it; the text says in a few words why."""

    def __init__(self, reason: str) -> None:
        super().__init__(plain(reason))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Time without progress and in all, not counting that in which it is stopped; and what the kernel enforces."""

    stall_s: float = 60.0
    total_s: float = 6 * 3600.0
    cpu_s: int = 12 * 3600
    memory_bytes: int = 4 << 30
    output_bytes: int = 64 << 30


DEFAULT_BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Ran:
    """What ffmpeg said of its work: frames and microseconds written, and its last complaints."""

    frames: int
    media_us: int
    complaints: tuple[str, ...]


async def version() -> str:
    """Name and version of ffmpeg, like "ffmpeg 5.1.9-0+deb12u1"; raises ToolError if there is none."""
    child = await _start(["-version"], _cage(DEFAULT_BOUNDS), stall_s=_VERSION_S)
    try:
        words = (await child.words() or b"").decode("ascii", "replace").split()
        while await child.words() is not None:
            pass
    except ChildError as error:
        raise ToolError(f"there is no ffmpeg that works: it {error}") from error
    finally:
        await child.stop()
    if words[:2] != ["ffmpeg", "version"] or len(words) < 3:
        raise ToolError("what is installed as ffmpeg is something else")
    return f"ffmpeg {words[2][:80]}"


async def run(
    arguments: Sequence[str], *, reads: Path | Sequence[Path], folder: Path, bounds: Bounds = DEFAULT_BOUNDS,
    is_busy: Callable[[], bool] = never, devices: Sequence[Path] = (),
) -> Ran:  # fmt: skip
    """Run ffmpeg with these words; it can read only what `reads` names, and write only into `folder`, in which it
    runs.

    It stands still while `is_busy`. `devices` are those it may compute on. Raises ToolError; then, as when it is
    cancelled, ffmpeg is gone and what it wrote lies in `folder`.
    """
    cage = _cage(bounds, reads=[reads] if isinstance(reads, Path) else reads, writes=[folder], devices=devices)
    child = await _start([*_FRONT, *arguments], cage, stall_s=math.inf)
    told = _Told()
    try:
        await watch(
            child, told.listen(child), lambda: told.look(child.pid),
            stall_s=bounds.stall_s, total_s=bounds.total_s, is_busy=is_busy,
        )  # fmt: skip
    except ChildError as error:
        raise ToolError(f"ffmpeg {error}") from error
    return Ran(told.frames, told.media_us, tuple(map(plain, child.complaints[-_COMPLAINTS:])))


@dataclass(slots=True)
class _Told:
    """How far ffmpeg is, by its own report and by the kernel's."""

    frames: int = 0
    media_us: int = 0
    written_steps: int = 0

    async def listen(self, child: Child) -> None:
        """Take lines of `-progress` until it ends; raises ChildError if that is a bad end."""
        while (line := await child.words()) is not None:
            name, _, value = line.partition(b"=")
            if name == b"progress":
                self.look(child.pid)  # at its end this is the last look that is possible
            if not value.isdigit() or len(value) > _DIGITS_LIMIT:
                continue
            if name == b"frame":
                self.frames = int(value)
            elif name == b"out_time_us":
                self.media_us = int(value)

    def look(self, pid: int) -> tuple[int, ...]:
        """How far it is; the kernel is asked how much it has written.

        That counts because moving the index to the front of a large copy is reported by nothing else.
        """
        with contextlib.suppress(OSError, ValueError, IndexError):  # it has just ended
            written = Path(f"/proc/{pid}/io").read_text().partition("wchar: ")[2].split()[0]
            self.written_steps = int(written) // _WRITTEN_STEP_BYTES
        return self.frames, self.media_us, self.written_steps


def _cage(
    bounds: Bounds, *, reads: Sequence[Path] = (), writes: Sequence[Path] = (), devices: Sequence[Path] = ()
) -> str:
    limits = {name: getattr(bounds, name) for name in ("cpu_s", "memory_bytes", "output_bytes")}
    paths = {"reads": reads, "writes": writes, "devices": devices}
    words = {name: [str(path) for path in listed] for name, listed in paths.items()}
    return json.dumps({**words, "limits": limits, "parent": os.getpid()})


async def _start(words: Sequence[str], cage: str, *, stall_s: float) -> Child:
    try:
        return await Child.start("agent.drivers.caged", [cage, _PROGRAM, *words], stall_limit_s=stall_s)
    except ChildError as error:
        raise ToolError(f"ffmpeg {error}") from error
