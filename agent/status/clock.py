"""What the status says of the station's own clock: its state, and what a person should do something about."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from agent.clocks import ClockState
from agent.deadline import CLOCK_TOLERANCE, ZONE
from agent.status.words import at, words

_WORTH_S: Final = CLOCK_TOLERANCE.total_seconds()
_SYNCED: Final = (("已校准", "synchronised"), ("未校准", "not synchronised"), ("未知", "unknown"))


def clock_view(clock: ClockState, now: datetime) -> dict[str, Any]:
    """All that is known of the clock, with null for what isn't."""
    stepped = {"at": at(clock.stepped_at), "seconds": round(clock.step_s, 1)} if clock.stepped_at else None
    return {
        "now": at(now),
        "synced": clock.synced,
        "by": clock.by,
        "since": at(clock.since),
        "rtc_ahead_s": None if clock.rtc_ahead_s is None else round(clock.rtc_ahead_s),
        "stepped": stepped,
        "behind": clock.is_behind,
    }


def clock_fact(clock: ClockState) -> dict[str, str]:
    """Whether the clock is kept right, in one line."""
    zh, en = _SYNCED[(True, False, None).index(clock.synced)]
    return words(f"时钟 {zh}", f"clock {en}")


def clock_problems(clock: ClockState) -> Iterator[dict[str, str]]:
    """What makes times doubtful: limits of what is docked from now on, and legal times that are written down."""
    if clock.synced is False:
        yield words("时钟未校准", "the clock of this station is not synchronised")
    if clock.is_behind:
        zh, en = "本机时间早于已有记录，时钟有误", "the clock is behind times that were recorded here: it is wrong"
        yield words(zh, en)
    if clock.stepped_at is not None and abs(clock.step_s) >= _WORTH_S:
        when, size = f"{clock.stepped_at.astimezone(ZONE):%Y-%m-%d %H:%M}", f"{clock.step_s:+.0f}"
        zh = f"本机时钟于 {when} 被调整 {size} 秒，此前采集的时间请核对"
        yield words(zh, f"the clock was set by {size} s at {when}; check the times of what was docked before")
    if clock.rtc_ahead_s is not None and abs(clock.rtc_ahead_s) >= _WORTH_S:
        size = f"{clock.rtc_ahead_s:+.0f}"
        zh = f"硬件时钟相差 {size} 秒，断电重启后时间可能有误"
        yield words(zh, f"the hardware clock is off by {size} s: after a power cut the time may be wrong")
