"""A docked recorder whose listing begins with what it said over its serial line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing

from agent.card import Finding, Volume
from agent.drivers.base import Docked, FetchReport, FetchRequest, Listing
from agent.lines.asking import Heard
from agent.lines.wire import SAID
from agent.model import Device


class Announced:
    """As the recorder that it wraps; its first listing waits until the recorder has said what it has to say."""

    def __init__(self, docked: Docked, said: Callable[[], Awaitable[Heard | None]]) -> None:
        self._docked = docked
        self._said = said
        self._is_first = True
        self._gone = asyncio.Event()

    @property
    def device(self) -> Device:
        """Identity as the wrapped one has it."""
        return self._docked.device

    @property
    def hangs(self) -> bool:
        """As the wrapped one says."""
        return self._docked.hangs

    async def clips(self) -> AsyncGenerator[Listing, None]:
        """The listing, with a finding behind the volumes of the first one."""
        heard = await self._heard() if self._is_first else None
        self._is_first = False
        async with aclosing(self._docked.clips()) as items:
            async for item in items:
                if heard is not None and not isinstance(item, Volume):
                    said, heard = heard, None
                    yield Finding(SAID, said.detail())
                yield item

    async def _heard(self) -> Heard | None:
        """Nothing if it is pulled out meanwhile: then the listing tells that it is gone."""
        said = asyncio.ensure_future(self._said())
        gone = asyncio.ensure_future(self._gone.wait())
        try:
            await asyncio.wait([said, gone], return_when=asyncio.FIRST_COMPLETED)
            return said.result() if said.done() else None
        finally:
            said.cancel()
            gone.cancel()
            await asyncio.gather(said, gone, return_exceptions=True)

    def fetch(self, requests: Sequence[FetchRequest]) -> AsyncGenerator[FetchReport, None]:
        """As the wrapped one."""
        return self._docked.fetch(requests)

    async def unplugged(self) -> None:
        """As the wrapped one; nobody waits for what it would have said."""
        self._gone.set()
        await self._docked.unplugged()

    async def close(self) -> None:
        """As the wrapped one."""
        await self._docked.close()
