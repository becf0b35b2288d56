"""Makes an access copy, and compares it with its original: what ffmpeg says of its own success proves nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Final

from agent import durable
from agent.access.encoders import SOFTWARE, WAYS
from agent.access.inspecting import Inspection, Track, inspect
from agent.access.made import OUTPUT, SOURCE, Made
from agent.access.plan import NoCopyError, Plan, plans
from agent.access.tool import Bounds, ToolError, run, version
from agent.access.watching import never
from agent.config import AccessCopies
from agent.model import Facts, Integrity, Role

_NEAR_MS: Final = 500
_OFFSET_MS: Final = 80
_SPARE_BYTES: Final = 64 << 20
_SOUND_BYTES_S: Final = 16_000
"""Twice what sound takes that is encoded; voice recorders write a tenth of it."""
_SHORTEST_S, _LONGEST_S = 1800.0, 48 * 3600.0


async def make_copy(
    original: Path, facts: Facts, source: Inspection, folder: Path, settings: AccessCopies, encoder: str = SOFTWARE,
    *, is_busy: Callable[[], bool] = never,
) -> Made:  # fmt: skip
    """A copy that a browser plays, checked to its end against `source`, in `folder`.

    What is missing in it is in its remarks, and then it isn't complete. Raises NoCopyError, or ToolError if there is
    no ffmpeg; then no file of it is left. `encoder` is what `encoders.proven` said.
    """
    tool, reason = await version(), ""
    ways = plans(facts, source, settings, encoder)
    for plan in ways:
        path, part = folder / f"access_copy{plan.suffix}", folder / f"access_copy{durable.PART_SUFFIX}"
        try:
            copy = await _copied(original, part, plan, _bounds(original, source), is_busy)
        except ToolError as error:
            reason = str(error)
        else:
            lacks = list(_lacks(plan, source, copy))
            if not lacks or (plan is ways[-1] and any(track.frames for track in copy.tracks)):
                durable.rename_no_replace(part, path)
                return _made(path, tool, plan, facts, source, copy, lacks)
            reason = "; ".join(lacks)
        durable.remove_part(part)
    raise NoCopyError(reason)


def _bounds(original: Path, source: Inspection) -> Bounds:
    """Ten times as long as it lasts is enough for a slow machine; what it says of that itself is not believed."""
    span_s = max((track.span_ms or 0 for track in source.tracks), default=0) / 1000
    total_s = min(_LONGEST_S, _SHORTEST_S + 10 * span_s)
    size_bytes = 2 * os.stat(original).st_size + _SPARE_BYTES + int(min(span_s, _LONGEST_S)) * _SOUND_BYTES_S
    return Bounds(total_s=total_s, cpu_s=int(2 * total_s), output_bytes=size_bytes)


async def _copied(original: Path, path: Path, plan: Plan, bounds: Bounds, is_busy: Callable[[], bool]) -> Inspection:
    words = [word.replace(SOURCE, str(original)).replace(OUTPUT, str(path)) for word in plan.words]
    devices = WAYS[plan.encoder].devices() if plan.encoder else []
    await run(words, reads=original, folder=path.parent, bounds=bounds, is_busy=is_busy, devices=devices)
    try:
        return await inspect(path, is_busy=is_busy)
    except OSError as error:
        raise ToolError(f"ffmpeg wrote nothing: {error.strerror}") from error


def _lacks(plan: Plan, source: Inspection, copy: Inspection) -> Iterator[str]:
    """What is not in the copy though it is in the original, or can't be decoded."""
    if not copy.ended:
        yield f"the copy can't be read to its end: {copy.reason}"
    for kind, numbers in (("video", plan.pictures), ("audio", plan.sounds)):
        own, made = source.kind(kind), copy.kind(kind)
        if len(made) != len(numbers):
            yield f"the copy has {len(made)} {kind} tracks, not {len(numbers)}"
        for number, track in zip(numbers, made, strict=False):
            yield from _differs(kind, own[number], track, encoded=kind in plan.encoded, is_whole=source.ended)
    before, after = source.offset_ms, copy.offset_ms
    if before is not None and after is not None and abs(after - before) > _OFFSET_MS and not source.jumped:
        yield f"sound begins {after} ms after the pictures, not {before} ms"


def _differs(kind: str, own: Track, made: Track, *, encoded: bool, is_whole: bool) -> Iterator[str]:
    if made.bad:
        yield f"{made.bad} packets of the copy's {kind} can't be decoded"
    if not encoded and made.packets != own.packets:
        yield f"{made.packets} of {own.packets} {kind} packets are in the copy"
    if encoded and kind == "video" and made.packets < (frames := own.frames if is_whole else own.packets):
        yield f"{made.packets} of {frames} pictures are in the copy"
    span, copied = own.span_ms or 0, made.span_ms or 0
    if not own.jumped and not own.bad and span - copied > max(_NEAR_MS, span // 1000):
        yield f"{copied} of {span} ms of {kind} are in the copy"


def _made(
    path: Path, tool: str, plan: Plan, facts: Facts, source: Inspection, copy: Inspection, lacks: list[str]
) -> Made:
    losses = [*lacks, *_losses(facts, plan, source)]
    counts = {
        "how": plan.how,
        "source": [asdict(track) for track in source.tracks],
        "copy": [asdict(track) for track in copy.tracks],
        "source_offset_ms": source.offset_ms,
        "copy_offset_ms": copy.offset_ms,
    }
    shown = ("video", "audio")
    others = (f"{track.kind} ({track.codec}) is not in the copy" for track in source.tracks if track.kind not in shown)
    remarks = (*losses, *plan.remarks, *others, *_jumps(source, copy))
    return Made(
        Role.ACCESS_COPY, path, tool, plan.words, repeatable=plan.encoder in ("", SOFTWARE), complete=not losses,
        remarks=remarks, counts=counts,
    )  # fmt: skip


def _losses(facts: Facts, plan: Plan, source: Inspection) -> Iterator[str]:
    """What is wrong with the original, so that no copy of it can be whole."""
    if facts.integrity is not Integrity.COMPLETE:
        yield f"the original is {facts.integrity}: {facts.reason}"
    if not source.ended:
        yield f"the original was not read to its end: {source.reason}"
    for kind, numbers in (("video", plan.pictures), ("audio", plan.sounds)):
        for number, track in enumerate(source.kind(kind)):
            if track.bad:
                yield f"{track.bad} packets of the original's {kind} can't be decoded"
            if number not in numbers and track.packets:
                yield f"{kind} track {number + 1} is not in the copy"


def _jumps(source: Inspection, copy: Inspection) -> Iterator[str]:
    """A jump of time that the copy doesn't have, so that the times of both are not the same behind it."""
    for own, made in zip(source.tracks, copy.tracks, strict=False):
        for at_ms, by_ms in own.jumps if made.jumped < own.jumped else ():
            yield f"time jumps by {by_ms} ms at {at_ms} ms in the original's {own.kind}; in the copy it goes on"
