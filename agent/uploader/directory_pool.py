"""The helper processes of a store whose disk or share may hang: reused while they answer, killed when they don't."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Final

from agent.child import Child, ChildError

_MAX_ABANDONED: Final = 8


class WorkerPool:
    """Processes of one module; as many exist as were ever at work at the same time, and those that hang in the kernel.

    A killed process that the kernel doesn't let go is left behind. When there are too many of these, no more are
    started until one of them is gone.
    """

    def __init__(self, module: str, arguments: Sequence[str], stall_limit_s: float) -> None:
        self._module = module
        self._arguments = arguments
        self._stall_limit_s = stall_limit_s
        self._idle: list[Child] = []
        self._stopping: dict[Child, asyncio.Task[None]] = {}

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[Child]:
        """A process to work with alone; whatever goes wrong meanwhile, or cancels this, kills it. Raises ChildError."""
        child = await self._take()
        went_well = False
        try:
            yield child
            went_well = True
        finally:
            if went_well:
                self._idle.append(child)
            else:
                await self._stop(child)

    async def _take(self) -> Child:
        while self._idle:
            child = self._idle.pop()
            if not child.ended:
                return child
            await self._stop(child)
        if len(self.abandoned()) >= _MAX_ABANDONED:
            raise ChildError(f"{_MAX_ABANDONED} processes hang in it already, and no more are started")
        return await Child.start(self._module, self._arguments, stall_limit_s=self._stall_limit_s)

    async def _stop(self, child: Child) -> None:
        task = self._stopping[child] = asyncio.create_task(child.stop())
        await asyncio.shield(task)

    def abandoned(self) -> Sequence[Child]:
        """Processes that were killed and are still there."""
        for child in [child for child, task in self._stopping.items() if task.done() and child.ended]:
            del self._stopping[child]
        return tuple(self._stopping)

    async def close(self) -> None:
        """Stop all; idempotent."""
        idle, self._idle = self._idle, []
        for child in idle:
            self._stopping[child] = asyncio.create_task(child.stop())
        if self._stopping:
            await asyncio.wait(self._stopping.values())
