"""What pictures and sounds of a source are like: black, frozen, silent, flat; told once it lasted, and when it ended.

Nothing here decodes or waits. All limits were chosen so that an empty room with the light on is none of these: see
docs/rooms.md.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from operator import mul
from typing import Final, NamedTuple

BLOCKS: Final = (128, 72)
"""Columns and rows of the picture's mean grey levels: of a full HD picture 15 x 15 points each."""

POINTS: Final = (64, 36)
SILENT_DB: Final = -60.0
FLOOR_DB: Final = -120.0
"""What is said of digital nothing, which has no level."""

_DARK: Final = bytes(range(25))
"""Grey levels (0 to 255) of black: FFmpeg's blackdetect draws the line at a tenth, too."""

_BRIGHT_PART: Final = 0.05
_DARK_SPREAD: Final = 12
_CHANGED_POINTS: Final = 11
_LSB: Final = 1 / 32768


class Moment(NamedTuple):
    """The same moment by CLOCK_MONOTONIC, for durations, and by CLOCK_REALTIME, for the ledger; microseconds."""

    mono_us: int
    wall_us: int


def station_now() -> Moment:
    """Now, by this station's clocks."""
    return Moment(time.monotonic_ns() // 1000, time.time_ns() // 1000)


class Picture(NamedTuple):
    """A picture as it is judged: mean grey levels of `BLOCKS`, and the grey levels of single `POINTS` between them."""

    blocks: bytes
    points: bytes


class Sound(NamedTuple):
    """A fraction of a second: its level in dBFS (RMS without offset), and whether all samples are equal."""

    level_db: float
    flat: bool


def is_black(picture: Picture) -> bool:
    """All is dark and alike, but for what a camera writes into its picture; a dark room that shows something isn't."""
    dark = picture.blocks.translate(None, bytes(range(len(_DARK), 256)))
    if len(dark) < (1 - _BRIGHT_PART) * len(picture.blocks):
        return False
    levels = sorted(dark)
    return levels[len(levels) * 95 // 100] - levels[len(levels) * 5 // 100] <= _DARK_SPREAD


def is_same(one: Picture, other: Picture) -> bool:
    """Nothing differs: neither in a block (a clock's digit changes a few), nor in the noise that every sensor has.

    Mean levels hide noise, single points hide small changes: a picture that stands still has neither.
    """
    changed = sum(abs(a - b) > 1 for a, b in zip(one.points, other.points, strict=True))
    return changed <= _CHANGED_POINTS and (
        one.blocks == other.blocks or all(abs(a - b) <= 1 for a, b in zip(one.blocks, other.blocks, strict=True))
    )


def sound_of(channels: list[array[int] | array[float]], full_scale: float) -> Sound:
    """Level and flatness of the samples of each channel; at least one channel with a sample."""
    energy = count = 0.0
    for samples in channels:
        mean = sum(samples) / len(samples)
        energy += sum(map(mul, samples, samples)) - mean * mean * len(samples)
        count += len(samples)
    flat = all(max(samples) - min(samples) <= _LSB * full_scale for samples in channels)
    rms = math.sqrt(max(energy, 0.0) / count) / full_scale
    return Sound(max(FLOOR_DB, 20 * math.log10(rms)) if rms > 0 else FLOOR_DB, flat)


class Lasting:
    """Something that may be so of a source: told (start) once it was so for `hold_us`, and when it ends (start, end).

    Looks further apart than `apart_us` prove nothing about the time between them.
    """

    def __init__(self, hold_us: int, apart_us: int, tell: Callable[[Moment, Moment | None], None]) -> None:
        self._hold_us = hold_us
        self._apart_us = apart_us
        self._tell = tell
        self._since: Moment | None = None
        self._last: Moment | None = None
        self._told = False

    def look(self, at: Moment, on: bool) -> None:
        """It is so at `at`, or it isn't; looks come in the order of time."""
        self.lapse(at)
        if not on:
            self._end(at)
            return
        if self._since is None:
            self._since = at
        self._last = at
        if not self._told and at.mono_us - self._since.mono_us >= self._hold_us:
            self._told = True
            self._tell(self._since, None)

    def lapse(self, now: Moment) -> None:
        """Without a look for too long it is over, as far as anybody can say, since the last one."""
        if self._last is not None and now.mono_us - self._last.mono_us > self._apart_us:
            self._end(self._last)

    def close(self) -> None:
        """Nobody looks any more."""
        if self._last is not None:
            self._end(self._last)

    def _end(self, at: Moment) -> None:
        if self._told and self._since is not None:
            self._tell(self._since, at)
        self._since, self._last, self._told = None, None, False
