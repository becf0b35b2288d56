"""A listener for detection that keeps what it heard, so that tests can wait for a state and look back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

from agent.drivers.dock import DockedPath

LIMIT_S = 20.0
"""Bound of a wait for something that must happen; nothing is asserted about speed."""


class Ear:
    """Checks the contract of DockListener while it listens."""

    def __init__(self) -> None:
        self.docked: dict[str, DockedPath] = {}
        self.refused: dict[str, DockedPath] = {}
        self.history: list[tuple[str, str]] = []
        self.troubles: list[str] = []

    def on_docked(self, docked: DockedPath) -> None:
        assert docked.key not in self.docked
        self.refused.pop(docked.key, None)
        self.docked[docked.key] = docked
        self.history.append(("docked", docked.path.name))

    def on_gone(self, key: str) -> None:
        found = self.docked.pop(key, None) or self.refused.pop(key)
        self.history.append(("gone", found.path.name))

    def on_refused(self, docked: DockedPath, reason: str) -> None:
        self.refused[docked.key] = docked
        self.history.append((f"refused: {reason}", docked.path.name))

    def on_trouble(self, what: str) -> None:
        assert not self.troubles or self.troubles[-1] != what
        self.troubles.append(what)

    def names(self) -> set[str]:
        return {docked.path.name for docked in self.docked.values()}

    async def hears(self, *names: str) -> None:
        """Wait until exactly these are docked."""
        await self.until(lambda: self.names() == set(names))

    async def until(self, reached: Callable[[], bool]) -> None:
        """Wait for a state, within a bound."""
        async with asyncio.timeout(LIMIT_S):
            while not reached():
                await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def running(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """Let detection run for the time of a block; it must not end before."""
    task = asyncio.create_task(work)
    try:
        yield
        assert not task.done(), task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
