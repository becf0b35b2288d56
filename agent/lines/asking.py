"""Has a child speak to one recorder, and checks every line of what it says it heard."""

from __future__ import annotations

import asyncio
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from agent import durable
from agent.child import Child, ChildError
from agent.config.recorders import TOLD, Does, RecorderProfile, Step
from agent.lines.wire import ANSWERS_LIMIT, LOOKS, TOLD_LIMIT, Trouble

_TALK: Final = "agent.lines.talk"
_STARTS_S: Final = 15.0
_LINES_LIMIT: Final = 64
_PASSWORD_LIMIT_BYTES: Final = 256
_MOST_US: Final = 200 * 366 * 86400 * 1_000_000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Heard:
    """What a conversation brought. `told` by the names of TOLD; `failed` are its steps that failed, with why.

    The recorder's clock was ahead of the station's by `offset_ms`, give or take `uncertainty_ms`, at `measured_at`;
    None if it wasn't compared.
    """

    profile: str
    told: Mapping[str, str] = field(default_factory=dict)
    offset_ms: int | None = None
    uncertainty_ms: int = 0
    measured_at: datetime | None = None
    is_disk: bool = False
    was_set: bool = False
    failed: tuple[tuple[str, Trouble], ...] = ()
    is_whole: bool = False

    def detail(self) -> dict[str, object]:
        """The same as a finding of a docking keeps it."""
        clock: dict[str, object] = {}
        if self.offset_ms is not None and self.measured_at is not None:
            at = self.measured_at.isoformat(timespec="milliseconds")
            clock = {"offset_ms": self.offset_ms, "uncertainty_ms": self.uncertainty_ms, "measured_at": at}
        failed = [{"step": step, "trouble": trouble.value} for step, trouble in self.failed]
        return {"profile": self.profile, **clock, "told": dict(self.told), "failed": failed}


async def converse(profile: RecorderProfile, node: str, wanted: Sequence[Does]) -> Heard:
    """Do those steps of the profile; never raises for what the recorder, its line or the child does."""
    steps = [step for step in profile.steps if step.does in wanted]
    heard = Heard(profile.name)
    try:
        password = _password(profile, steps)
    except (OSError, ValueError):
        return replace(heard, failed=(("open", Trouble.NO_SECRET),))
    try:
        child = await Child.start(_TALK, (), stall_limit_s=_stall_s(profile))
    except ChildError:
        return replace(heard, failed=(("open", Trouble.BROKEN),))
    try:
        async with asyncio.timeout(_STARTS_S + _stall_s(profile) * (len(steps) + 1)):
            await child.send(order_of(profile, node, steps, password))
            for _ in range(_LINES_LIMIT):
                line = await child.line()
                if line is None:
                    needed = {"open", *(step.does for step in steps if not step.optional)}
                    return replace(heard, is_whole=not any(step in needed for step, _ in heard.failed))
                heard = _with(heard, line, password)
            raise ChildError("too many lines")
    except (ChildError, TimeoutError, ValueError):
        return replace(heard, failed=(*heard.failed, ("talk", Trouble.BROKEN)))
    finally:
        await child.stop()


def order_of(profile: RecorderProfile, node: str, steps: Sequence[Step], password: str) -> dict[str, object]:
    """What the child is told to do; the password goes nowhere but through its standard input."""
    wire = profile.wire
    return {
        "node": node, "baud": wire.baud, "bits": wire.bits, "parity": wire.parity.value, "stop_bits": wire.stop_bits,
        "flow": wire.flow.value, "end": wire.end, "encoding": wire.encoding, "wait_s": wire.wait_s,
        "zone_min": profile.zone_min, "clock_format": profile.clock_format, "clock_step_ms": profile.clock_step_ms,
        "password": password,
        "steps": [
            {"does": step.does.value, "send": step.send, "expect": step.expect, "refused": step.refused,
             "optional": step.optional}
            for step in steps
        ],
    }  # fmt: skip


def _stall_s(profile: RecorderProfile) -> float:
    """The longest step: a clock that is looked at a few times, each asked twice, each time until its step turns."""
    return _STARTS_S + LOOKS * (4 * profile.wire.wait_s + profile.clock_step_ms / 1000) + ANSWERS_LIMIT


def _password(profile: RecorderProfile, steps: Sequence[Step]) -> str:
    """Empty if no step needs one. Raises OSError or ValueError if it can't be had, or all may read it."""
    if profile.secret is None or not any("{password}" in step.send for step in steps):
        return ""
    return _secret(profile.secret, profile.wire.encoding)


def _secret(path: Path, encoding: str) -> str:
    with durable.opened(path, os.O_RDONLY) as fd:
        if stat.S_IMODE(os.fstat(fd).st_mode) & stat.S_IRWXO:
            raise PermissionError(path)
        words = os.read(fd, _PASSWORD_LIMIT_BYTES).decode().rstrip("\r\n")
    if not words or not words.isprintable():
        raise ValueError(path)
    words.encode(encoding)
    return words


def _with(heard: Heard, line: object, password: str) -> Heard:
    """What is known with one more line of the child; raises ValueError for what it can't have said."""
    match line:
        case {"clock": [int(low), int(high)], "at_ms": int(at_ms)} if (
            -_MOST_US <= low <= high <= _MOST_US and 0 <= at_ms <= _MOST_US // 1000
        ):
            return replace(
                heard,
                offset_ms=round((low + high) / 2000),
                uncertainty_ms=-(-(high - low) // 2000),
                measured_at=_EPOCH + timedelta(milliseconds=at_ms),
            )
        case {"told": dict(told)} if told.keys() <= TOLD:
            return replace(heard, told={**heard.told, **{str(name): _fit(told[name], password) for name in told}})
        case {"done": Does.DISK.value}:
            return replace(heard, is_disk=True)
        case {"done": Does.SET_CLOCK.value}:
            return replace(heard, was_set=True)
        case {"done": str(step)} if step in set(Does):
            return heard
        case {"failed": str(step), "trouble": str(trouble)} if step in {*Does, "open"}:
            return replace(heard, failed=(*heard.failed, (step, Trouble(trouble))))
    raise ValueError("no line of a conversation")


def _fit(value: object, password: str) -> str:
    """One thing that a recorder told; a password in it would be kept for ever."""
    if not isinstance(value, str) or len(value) > TOLD_LIMIT or not value.isprintable():
        raise ValueError("not printable")
    if password and password in value:
        raise ValueError("repeats the password")
    return re.sub(r"\s+", " ", value).strip()
