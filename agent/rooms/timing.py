"""Where each packet of a connection belongs in time, whatever the camera's time stamps do; nothing here waits or reads.

Cameras' time stamps leap by hours, step back, run 1 % fast. A muxer refuses a step back, and a leap makes a file claim
hours. So a leap moves what follows to when it arrived, small steps back are squeezed, holes stay holes, and drift is
only told: no frame is lost to its time stamp. All times are whole microseconds or ticks of a track: Fraction is slow.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from statistics import median_low
from typing import Final

SECOND_US: Final = 1_000_000
_SQUEEZE_US: Final = SECOND_US // 2
"""A smaller step back is squeezed: packets out of order, sender reports that correct the clock."""
SQUEEZED_US: Final = 125
"""How far apart they are then: a sample at 8 kHz, for a file counts PCM in samples, and refuses two at one time."""
_SLACK_US: Final = SECOND_US
"""What arrives so much later or earlier than its time stamp says is still late, or early; beyond, the clock leapt."""
_TOGETHER_US: Final = SECOND_US // 2
_TOGETHER_WITHIN_US: Final = 5 * SECOND_US
_WRAP: Final = 1 << 32
"""RTP's time stamps have 32 bits (RFC 3550, 5.1)."""
_FORGET_US: Final = 2000
"""At each look: 2 % of the time for pictures, 0.4 % for sound, which is looked at less often."""
_LEARN: Final = 16
_ODD_LIMIT: Final = 64
_SETTLE_US: Final = 3 * SECOND_US
_WINDOW_US: Final = 10 * SECOND_US
_DRIFT_STEP_US: Final = SECOND_US // 2


class Oddity(StrEnum):
    """What was odd about a time stamp."""

    LEAP = "leap"
    HOLE = "hole"


@dataclass(frozen=True, slots=True)
class Odd:
    """At `at_us` (monotonic) a time stamp leapt by `value` microseconds, or `value` packets were missing before it.

    `for_us`: how long before that nothing came, by the time stamps.
    """

    oddity: Oddity
    at_us: int
    value: int
    for_us: int = 0


@dataclass(slots=True)
class Shifts:
    """By how much the tracks of one connection were moved last: tracks that leap together stay together."""

    by_us: int = 0
    at_us: int = -_TOGETHER_WITHIN_US


class Line:
    """The time line of one track of one connection; ticks of `num`/`den` seconds, as the stream's time base is.

    `typical` is the usual step between packets, 0 until it is known. `odd` is what was odd, to be taken away.
    """

    __slots__ = (
        "_early_us", "_hole_from", "_holes", "_is_new", "_shifts", "_steps", "_usual", "at_us", "before_us", "den",
        "last", "num", "odd", "shift", "step", "typical",
    )  # fmt: skip

    def __init__(self, num: int, den: int, shifts: Shifts) -> None:
        self.num, self.den = num, den
        self.last = self.step = self.shift = self.at_us = self.before_us = self.typical = 0
        self.odd: list[Odd] = []
        self._shifts = shifts
        self._is_new = True
        self._early_us: int | None = None
        self._usual = -1  # until it is known, all steps are looked at
        self._steps: list[tuple[int, int]] = []
        self._holes = self._hole_from = 0

    def us(self, ticks: int) -> int:
        """So many ticks in microseconds."""
        return ticks * self.num * SECOND_US // self.den

    def ticks(self, us: int) -> int:
        """So many microseconds in ticks."""
        return us * self.den // (self.num * SECOND_US)

    def place(self, dts: int, now_us: int) -> int:
        """When, on this line, a packet with such a DTS belongs that arrived now; later than any packet before."""
        placed = dts + self.shift
        step = placed - self.last
        if not 0 < step <= self._usual:
            placed = self._looked_at(placed, step, now_us)
        self.step, self.last = placed - self.last, placed
        self.before_us, self.at_us = self.at_us, now_us
        return placed

    def seen(self, now_us: int) -> None:
        """The last packet arrived now, for it was waited for; by and by that tells what is late."""
        early_us = self.us(self.last) - now_us
        self._early_us = early_us if self._early_us is None else max(early_us, self._early_us - _FORGET_US)

    def move(self, us: int) -> None:
        """All that follows belongs so much later, or earlier; what is in between then is not missing."""
        by = self.ticks(us)
        self.shift += by
        self.last += max(0, by)

    def _looked_at(self, placed: int, step: int, now_us: int) -> int:
        if self._is_new:
            self._is_new, self.last, self.at_us = False, placed, now_us  # nothing is known of the time before
            return placed
        step_us = self.us(step)
        if -_SQUEEZE_US < step_us and step <= 0:
            return self.last + max(1, self.ticks(SQUEEZED_US))
        # A picture is complete when the next one begins, so the one before a hole comes after it, at its own time.
        nothing_us = max(now_us - self.at_us, self.at_us - self.before_us - self.us(self.step), 0)
        if step <= 0 or (step_us > nothing_us + _SLACK_US and not self._is_late(placed, now_us)):
            return self._leap(placed, now_us)
        if not self.typical:
            self._learn(step, now_us)
        else:
            self._hole(placed, step, now_us)
        return placed

    def _is_late(self, placed: int, now_us: int) -> bool:
        """We are behind: time passed before this packet was read, and its time stamp may say so."""
        return self._early_us is not None and self.us(placed) - now_us <= self._early_us + _SLACK_US

    def _learn(self, step: int, now_us: int) -> None:
        self._steps.append((step, now_us))
        if len(self._steps) < _LEARN:
            return
        self.typical = median_low(step for step, _ in self._steps)
        self._usual = self.typical * 3 // 2
        for one, at_us in self._steps:
            if one > self._usual:
                self._missing(one, at_us)

    def _hole(self, placed: int, step: int, now_us: int) -> None:
        """Time passed by the camera's clock as by ours: something is missing, or the track has no fixed rate."""
        self._holes += 1
        if self._holes % _LEARN == 1:
            self._hole_from = placed
        elif self._holes % _LEARN == 0 and placed - self._hole_from < 8 * _LEARN * self.typical:
            self._usual = self.ticks(_SLACK_US)
            return
        self._missing(step, now_us)

    def _missing(self, step: int, now_us: int) -> None:
        self._tell(Odd(Oddity.HOLE, now_us, max(1, (step + self.typical // 2) // self.typical - 1), self.us(step)))

    def _leap(self, placed: int, now_us: int) -> int:
        """Move this packet and all that follow to where it arrived, by as much as another track was moved just now."""
        by = self.last + max(self.ticks(now_us - self.at_us), self.typical, 1) - placed
        shifts = self._shifts
        if now_us - shifts.at_us < _TOGETHER_WITHIN_US and abs(self.us(by) - shifts.by_us) < _TOGETHER_US:
            together = self.ticks(shifts.by_us)
            by = together if placed + together > self.last else by
        else:
            shifts.by_us, shifts.at_us = self.us(by), now_us
        self.shift += by
        leapt = (_WRAP // 2 - by) % _WRAP - _WRAP // 2  # FFmpeg takes every step back for a wrap
        self._tell(Odd(Oddity.LEAP, now_us, self.us(leapt)))
        return placed + by

    def _tell(self, odd: Odd) -> None:
        if len(self.odd) < _ODD_LIMIT:
            self.odd.append(odd)


@dataclass(slots=True)
class Clock:
    """Compares media time with the station's monotonic clock, over one connection.

    The network delays packets and never hastens them, so the earliest of some seconds is believed. `ahead_us`: how far
    the camera's clock ran ahead of ours since the connection settled. A player's clock knows neither.
    """

    ahead_us: int = 0
    _began_us: int | None = None
    _base_us: int | None = None
    _best_us: int | None = None
    _window_us: int = 0
    _told_us: int = 0

    def look(self, media_us: int, now_us: int) -> int | None:
        """A packet of `media_us` arrived now. How far it drifted in all, if that is worth telling again."""
        early_us = media_us - now_us
        if self._began_us is None:
            self._began_us, self._window_us = now_us, now_us + _SETTLE_US
        self._best_us = early_us if self._best_us is None else max(self._best_us, early_us)
        if now_us < self._window_us:
            return None
        if self._base_us is None:
            self._base_us = self._best_us
        self.ahead_us = self._best_us - self._base_us
        self._best_us, self._window_us = None, now_us + _WINDOW_US
        if abs(self.ahead_us - self._told_us) < _DRIFT_STEP_US:
            return None
        self._told_us = self.ahead_us
        return self.ahead_us

    def moved(self) -> None:
        """A time line was moved to the clock: drift begins anew."""
        self._began_us = self._base_us = self._best_us = None
        self._told_us = self.ahead_us = 0


@dataclass(slots=True)
class Arrival:
    """When, by the station's clock, media of a time arrived: what waited in buffers at the start is not taken for late.

    `wall_us` − media time is taken from the earliest packet of the first seconds, then from each look.
    """

    offset_us: int | None = None
    _settled_us: int = 0

    def look(self, media_us: int, wall_us: int, now_us: int) -> None:
        """A packet of `media_us` is here at `wall_us`, which `now_us` is by the monotonic clock."""
        offset_us = wall_us - media_us
        if self.offset_us is None:
            self._settled_us = now_us + _SETTLE_US
        is_settling = self.offset_us is not None and now_us < self._settled_us
        self.offset_us = min(self.offset_us or offset_us, offset_us) if is_settling else offset_us

    def wall_us(self, media_us: int) -> int:
        """When media of that time arrived."""
        assert self.offset_us is not None
        return media_us + self.offset_us
