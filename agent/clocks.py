"""Watches the station's own clock: who keeps it right, how far the hardware clock is off, and every step it makes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from agent.model import Clock

_STEP_S: Final = 1.0
"""Slewing moves CLOCK_BOOTTIME as well, so any difference is a step; a leap second is the smallest worth telling."""
_LOOK_S: Final = 5.0
_SHAKY_S: Final = 0.2
_ASK_FIRST_S: Final = 60.0
_ASK_LAST_S: Final = 3600.0
_FRESH: Final = timedelta(seconds=32_000)
"""A clock that nobody has corrected for so long may be 16 s off (500 ppm): then the kernel calls it unsynchronised."""
_TOLD_FOR_S: Final = 86400.0
_ANSWER_LIMIT_S: Final = 10.0
_TIMESYNCD: Final = "systemd-timesyncd"
_KERNEL: Final = "kernel"
_TIMEDATE: Final = "org.freedesktop.timedate1", "/org/freedesktop/timedate1", "org.freedesktop.timedate1"


@dataclass(frozen=True, slots=True)
class ClockState:
    """What is known of the clock; None and empty: nothing.

    `synced` says whether a time service keeps it right, `by` who told so, `since` when this run first heard it.
    `rtc_ahead_s`: how far the hardware clock is ahead. `step_s`: size of the last step of the last 24 hours, backwards
    if negative, and `stepped_at` when it was made at the earliest. `is_behind`: the last event before this start was
    recorded at a later time; who set the clock back before a restart is told by the step alone.
    """

    synced: bool | None = None
    by: str = ""
    since: datetime | None = None
    rtc_ahead_s: float | None = None
    step_s: float = 0.0
    stepped_at: datetime | None = None
    is_behind: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """Somebody or something set the clock; `before` is what it would have said at `after`."""

    before: datetime
    after: datetime

    @property
    def size_s(self) -> float:
        """How far it was set, in seconds; backwards if negative."""
        return (self.after - self.before).total_seconds()


def uptime() -> float:
    """Seconds since the machine was started, asleep or not: no step changes it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class ClockWatch:
    """Compares the clock with the time since boot, and asks now and then who keeps it right.

    `on_step` is told of a step until it says that it took it down, `on_answer` whenever somebody else, or nobody any
    more, says that the clock is right. `newest` is when the last event of the journal was recorded, to be told once the
    journal is open; the files are found below `root`.
    """

    def __init__(
        self,
        clock: Clock,
        on_step: Callable[[Step], Awaitable[bool]],
        on_answer: Callable[[ClockState], None] | None = None,
        *,
        uptime: Callable[[], float] = uptime,
        root: Path = Path("/"),
    ) -> None:
        self._clock = clock
        self._on_step, self._on_answer = on_step, on_answer
        self.newest: datetime | None = None
        self._uptime = uptime
        self._root = root
        self._from: tuple[datetime, float] | None = None
        self._looked_s = self._stepped_s = 0.0
        self._state = ClockState()
        self._ask_at_s = 0.0
        self._pause_s = _ASK_FIRST_S

    def state(self) -> ClockState:
        """What is known by now."""
        known, newest = self._state, self.newest
        if self._uptime() - self._stepped_s > _TOLD_FOR_S:
            known = replace(known, step_s=0.0, stepped_at=None)
        return replace(known, is_behind=known.synced is not True and newest is not None and self._clock() < newest)

    async def run(self) -> None:
        """Watch until cancelled."""
        while True:
            await self.look()
            if self._uptime() >= self._ask_at_s:
                await self.ask()
            await asyncio.sleep(_LOOK_S)

    async def look(self) -> None:
        """Tell of a step since the last look. Small ones add up until they are worth it.

        Nothing can be said if this process was held up between two readings.
        """
        begun_s, now = self._uptime(), self._clock()
        if self._uptime() - begun_s > _SHAKY_S:
            return
        start, began_s = self._from = self._from or (now, begun_s)
        step = Step(start + timedelta(seconds=begun_s - began_s), now)
        since, self._looked_s = timedelta(seconds=begun_s - self._looked_s), begun_s
        if abs(step.size_s) >= _STEP_S and await self._on_step(step):
            self._from, self._stepped_s = (now, begun_s), begun_s
            self._state = replace(self._state, step_s=step.size_s, stepped_at=now - since)
            self._ask_at_s, self._pause_s = 0.0, _ASK_FIRST_S

    async def ask(self) -> None:
        """Who keeps the clock right, and the hardware clock; again after a minute, and ever later up to an hour."""
        by = _TIMESYNCD if self._by_timesyncd() else _KERNEL
        synced = True if by is _TIMESYNCD else await _kernel_synced()
        old, now = self._state, self._clock()
        by = by if synced else ""
        since = old.since if (synced, by) == (old.synced, old.by) else now
        known = replace(old, synced=synced, by=by, since=since)
        self._state = replace(known, rtc_ahead_s=await asyncio.to_thread(self._rtc_ahead_s))
        if self._on_answer is not None and (synced, by) != (old.synced, old.by):
            self._on_answer(self._state)
        self._ask_at_s = self._uptime() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _ASK_LAST_S)

    def _by_timesyncd(self) -> bool:
        """Whether it has set or confirmed the clock lately, and since the last step; see systemd-timesyncd(8)."""
        try:
            touched_s = (self._root / "run/systemd/timesync/synchronized").stat().st_mtime
        except OSError:
            return False
        touched, now = datetime.fromtimestamp(touched_s, UTC), self._clock()
        return max(now - _FRESH, self._state.stepped_at or now - _FRESH) <= touched <= now + timedelta(seconds=_STEP_S)

    def _rtc_ahead_s(self) -> float | None:
        """How far the hardware clock is ahead, to the second; it may be kept in local time, see hwclock(8)."""
        told = self._read("sys/class/rtc/rtc0/since_epoch").strip()
        if not told.isdigit():
            return None
        now, is_local = self._clock(), "LOCAL" in self._read("etc/adjtime").split()
        offset = now.astimezone().utcoffset() if is_local else None
        return int(told) - now.timestamp() - (offset or timedelta()).total_seconds()

    def _read(self, name: str) -> str:
        try:
            return (self._root / name).read_text("ascii")
        except (OSError, ValueError):
            return ""


async def _kernel_synced() -> bool | None:
    """Whether any time service keeps the kernel's clock within 16 s, as timedated(8) tells over D-Bus.

    The kernel itself can't be asked: ProtectClock=yes forbids reading with adjtimex(2) too.
    """
    ask = ("busctl", "--system", f"--timeout={_ANSWER_LIMIT_S:g}", "get-property", *_TIMEDATE, "NTPSynchronized")
    quiet = asyncio.subprocess.DEVNULL
    try:
        asked = await asyncio.create_subprocess_exec(
            *ask, stdin=quiet, stdout=asyncio.subprocess.PIPE, stderr=quiet, env={}
        )
    except OSError:
        return None
    try:
        async with asyncio.timeout(_ANSWER_LIMIT_S):
            answer, _ = await asked.communicate()
    except TimeoutError:
        return None
    finally:
        if asked.returncode is None:
            asked.kill()
            await asked.wait()
    return {b"b true": True, b"b false": False}.get(answer.strip())
