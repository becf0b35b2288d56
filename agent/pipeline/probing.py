"""The probe lane: reads the content of what is held, behind all else, and enters what it says of itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from agent import durable
from agent.capture_time import made
from agent.errors import JournalError
from agent.media.probing import DEFAULT_LIMITS, Limits, probe
from agent.model import Asset, Facts, Probed
from agent.pipeline.limits import limit_of
from agent.pipeline.station import Station

_GIVEN_UP_LIMIT: Final = 1000


class ProbeLane:
    """One original at a time, the most urgent first, never beginning while a recorder is being read.

    Where it stands is in the journal alone. `given_up` are originals whose file can't be opened, or at which this lane
    has a bug: they are tried again after the next start.
    """

    def __init__(self, station: Station, is_busy: Callable[[], bool], limits: Limits = DEFAULT_LIMITS) -> None:
        self._station = station
        self._is_busy = is_busy
        self._limits = limits
        self.given_up: set[str] = set()
        self._under_way = ""

    def unread(self) -> frozenset[str]:
        """Originals of which nobody will know the content before the next start."""
        return frozenset(self.given_up - {self._under_way})

    async def step(self) -> None:
        """Probe the next original, or wait a little if there is none or others need the station."""
        station, asset = self._station, None
        if not self._is_busy() and len(self.given_up) < _GIVEN_UP_LIMIT:
            asset = await station.on_disk(station.journal.reader.next_to_probe, frozenset(self.given_up))
        if asset is None:
            await asyncio.sleep(station.limits.probe_pause_s)
            return
        self.given_up.add(asset.asset_id)
        self._under_way = asset.asset_id
        try:
            done = await self._probe(asset)
        except JournalError:  # the disk refuses: reading again at once would only be read for nothing
            done = True
            await asyncio.sleep(station.limits.backoff_max_s)
        finally:
            self._under_way = ""
        if done:
            self.given_up.discard(asset.asset_id)

    async def _probe(self, asset: Asset) -> bool:
        """Whether the content could be read at all; what it says is entered."""
        station = self._station
        assert asset.digests is not None, "what is held has digests"
        path = station.vault.address(asset.digests.blake3)
        with contextlib.ExitStack() as opened:  # closes it too if we are cancelled while it is being opened
            try:
                fd = await station.on_disk(lambda: opened.enter_context(durable.opened(path)))
            except OSError:
                return await self._as_before(asset)
            facts = await probe(fd, gps=station.gps, limits=self._limits)
        await self._enter(asset, facts)
        return True

    async def _as_before(self, asset: Asset) -> bool:
        """What equal bytes said when they were here; else the store lane or `verify` finds out why, and tells."""
        station, facts = self._station, None
        if asset.same_as:
            facts = (await station.on_disk(station.journal.reader.recording, asset.same_as)).facts
        if facts is not None:
            await self._enter(asset, facts)
        return facts is not None

    async def _enter(self, asset: Asset, facts: Facts) -> None:
        station = self._station
        async with station.commit:
            row = await station.on_disk(station.journal.reader.recording, asset.asset_id)
            name = row.clip.path.rpartition("/")[2] if row.clip else ""
            time = made(row.recording, facts, name, row.held_at or station.clock())
            old, told = row.recording.deadline, replace(row, facts=facts, by_content=time)
            new = limit_of(station, told)
            if new == limit_of(station, row):
                new = old  # the content changes nothing; what was judged by older rules stays as it was judged
            await station.journal.record(Probed(asset.asset_id, facts, time, old, new))
        if new != old:
            station.held_news.set()
