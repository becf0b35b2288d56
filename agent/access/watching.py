"""Watches a child at long work: it stops while others need the station, and does not stand still or go on for ever."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Final

from agent.child import Child, ChildError

_TICK_S: Final = 0.2
_BUSY_PAUSE_S: Final = 0.5


def never() -> bool:
    """Nobody else needs the station."""
    return False


async def go_on(child: Child, is_busy: Callable[[], bool]) -> None:
    """Let a child that waits for it go on, when nobody else needs the station; raises ChildError."""
    while is_busy():  # noqa: ASYNC110 - a pulled recorder is asked after, it raises no event
        await asyncio.sleep(_BUSY_PAUSE_S)
    await child.send(0)


async def watch(
    child: Child, work: Coroutine[None, None, None], steps: Callable[[], tuple[int, ...]],
    *, stall_s: float, total_s: float, is_busy: Callable[[], bool],
) -> None:  # fmt: skip
    """Until `work`, which listens to the child, is done; then, and in every other case, the child is gone.

    It goes on as long as one of `steps` is higher than ever. Raises what `work` raises, and ChildError.
    """
    listening = asyncio.create_task(work)
    try:
        await _patience(child, listening, steps, stall_s=stall_s, total_s=total_s, is_busy=is_busy)
        await listening
    finally:
        listening.cancel()
        await asyncio.wait([listening])
        await child.stop()


async def _patience(
    child: Child, work: asyncio.Task[None], steps: Callable[[], tuple[int, ...]],
    *, stall_s: float, total_s: float, is_busy: Callable[[], bool],
) -> None:  # fmt: skip
    """Stop and continue the child, and count the time it had; raises ChildError when that was enough."""
    stopped, idle_s, ran_s, before = False, 0.0, 0.0, time.monotonic()
    furthest, waited_s = steps(), 0.0
    while not work.done():
        if is_busy() is not stopped:
            stopped = not stopped
            _signal(child, signal.SIGSTOP if stopped else signal.SIGCONT)
        await asyncio.wait([work], timeout=_TICK_S)
        now = time.monotonic()
        # This process may have been the one that stood still, so that the child waited for it.
        passed_s, before = min(now - before, 2 * _TICK_S), now
        if stopped:
            continue
        reached = tuple(map(max, furthest, steps()))
        # It doesn't stand still while it is ready and the processor is given to others.
        waited_before_s, waited_s = waited_s, _waited_s(child.pid)
        idle_s = 0.0 if reached != furthest else idle_s + max(0.0, passed_s - max(0.0, waited_s - waited_before_s))
        furthest, ran_s = reached, ran_s + passed_s
        if idle_s > stall_s:
            raise ChildError(f"made no progress for {stall_s:g} s")
        if ran_s > total_s:
            raise ChildError(f"did not end within {total_s:g} s")


def _waited_s(pid: int) -> float:
    """How long its threads were ready to compute while others did (proc(5), schedstat)."""
    waited_ns = 0
    with contextlib.suppress(OSError, ValueError, IndexError):  # a thread, or all of it, has just ended
        for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            waited_ns += int(path.read_text().split()[1])
    return waited_ns / 1e9


def _signal(child: Child, number: signal.Signals) -> None:
    if not child.ended:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, number)
