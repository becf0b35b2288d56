"""Makes a recovery copy of an MP4 or MOV that has no index: the pictures that are there, in a new file beside it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from agent import durable
from agent.access.certificate import AGENT
from agent.access.made import Made
from agent.access.plan import NoCopyError
from agent.access.tool import READING, run, version
from agent.access.watching import go_on, never
from agent.checked import count, plain
from agent.child import Child, ChildError
from agent.model import Facts, Role

STALL_S: Final = 120.0
CPU_S: Final = 120
CPU_S_PER_MIB: Final = 2
MEMORY_BYTES: Final = 2 << 30
_LINES_LIMIT: Final = 10_000
_NUMBERS: Final = ("width", "height", "pictures", "shown", "used_bytes", "skipped_bytes")
_CODECS: Final = ("h264", "hevc", "mjpeg")


async def salvage(
    original: Path, facts: Facts, reference: Path | None, folder: Path, *, is_busy: Callable[[], bool] = never
) -> Made:
    """A new MP4 in `folder` of the pictures found in an original whose index is lost; the original is only read.

    `reference` is a whole recording of the same recorder with the same settings: it tells how to decode the pictures
    where they don't tell so themselves, and how many are in a second. Raises NoCopyError, ToolError if ffmpeg fails.
    """
    if facts.container:
        raise NoCopyError("its index is there: ffmpeg itself reads what is left")
    found, output = folder / "found.part", folder / "recovered.mp4"
    counts = await _found(original, reference, found, is_busy)
    words = [
        *READING, "-i", f"file:{found}", "-map", "0:v", "-c", "copy", "-map_metadata", "-1", "-fflags", "+bitexact",
        "-movflags", "+faststart", "-f", "mp4", f"file:{output}",
    ]  # fmt: skip
    ran = await run(words, reads=found, folder=folder, is_busy=is_busy)
    durable.remove_part(found)
    if ran.frames != counts["pictures"]:
        raise NoCopyError(f"ffmpeg wrote {ran.frames} of the {counts['pictures']} pictures that were found")
    remarks = ["made from the pictures alone: sound, and the time between pictures that are lost, are not in it"]
    if not counts["rate"]:
        remarks.append("nothing tells how many pictures there were in a second: 25 are assumed")
    if counts["shown"] != counts["pictures"]:
        remarks.append(f"{counts['pictures'] - counts['shown']} of {counts['pictures']} pictures can't be decoded")
    return Made(
        role=Role.RECOVERY_COPY,
        path=output,
        tool=f"{AGENT}, {await version()}",
        complete=False,
        remarks=tuple(remarks),
        counts={**counts, "with_reference": reference is not None},
    )


async def _found(original: Path, reference: Path | None, found: Path, is_busy: Callable[[], bool]) -> dict[str, Any]:
    """What the child counted of what it wrote to `found`; raises NoCopyError."""
    with contextlib.ExitStack() as opened:
        try:
            source_fd = opened.enter_context(durable.opened(original))
            reference_fd = opened.enter_context(durable.opened(reference)) if reference else -1
            output_fd = opened.enter_context(durable.opened(found, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))
        except OSError as error:
            raise NoCopyError(f"a file can't be opened: {error.strerror}") from error
        size_bytes = os.fstat(source_fd).st_size
        limits = {
            "memory_bytes": MEMORY_BYTES,
            "cpu_s": CPU_S + CPU_S_PER_MIB * (size_bytes >> 20),
            "output_bytes": size_bytes + (64 << 20),
        }
        fds = [source_fd, reference_fd, output_fd]
        arguments = [*map(str, fds), json.dumps(limits)]
        given = [fd for fd in fds if fd >= 0]
        try:
            child = await Child.start("agent.access.salvager", arguments, stall_limit_s=STALL_S, pass_fds=given)
            try:
                return await _answer(child, is_busy)
            finally:
                await child.stop()
        except ChildError as error:
            raise NoCopyError(f"the child that looks for pictures {error}") from error


async def _answer(child: Child, is_busy: Callable[[], bool]) -> dict[str, Any]:
    """Its counts, checked; raises NoCopyError if it found nothing, ChildError for what can't be an answer."""
    for _ in range(_LINES_LIMIT):
        match await child.line():
            case {"at": int()}:
                await go_on(child, is_busy)
            case {"read": int()}:
                pass
            case {"nothing": str(reason)}:
                raise NoCopyError(plain(reason, 200))
            case {"codec": str(codec), "rate": str(rate), **rest} if codec in _CODECS and len(rate) < 30:
                return {"codec": codec, "rate": rate, **{name: count(rest.get(name)) for name in _NUMBERS}}
            case _:
                raise ChildError("reported something that was not asked")
    raise ChildError("reported more than was asked")
