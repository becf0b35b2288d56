"""The store lane: takes the most urgent held original, stores it, and believes only a checked receipt."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import datetime
from typing import Final

from agent.errors import EvidenceError, JournalError, StoreError
from agent.hours import closes_next, is_open
from agent.journal.views import DueAsset
from agent.model import Asset, AssetChanged, Blocked, Confirmed, Upload
from agent.pipeline.damage import put_aside
from agent.pipeline.progress import Flow
from agent.pipeline.station import Station
from agent.turns import Shares

_LOOK_AGAIN_S: Final = 5.0
_INTERRUPTED: Final = 50
_STALL_LIMIT_S: Final = 600.0
_CANCEL_LIMIT_S: Final = 60.0
_SLOWEST_BYTES_S: Final = 1e6

OVERTAKERS: Final = 8
"""So many workers more than configured: each only begins what is more urgent than all that is on its way."""


class Delivery:
    """What one attempt shares with its store (an `Errand`), and what the lane sees of it."""

    def __init__(
        self, station: Station, due: DueAsset, answered: Callable[[], None], moved: Callable[[int], None]
    ) -> None:
        self._station = station
        self._answered = answered
        self._moved = moved
        self.asset = due.asset
        self.due_at = due.alarm_at
        self.done_bytes = 0
        self._found_bytes = self._fresh_bytes = 0
        # A store that only reads back what it has says nothing for as long as that takes.
        self._patience_s = _STALL_LIMIT_S + due.asset.expected_bytes / _SLOWEST_BYTES_S
        self._guard: asyncio.Timeout | None = None
        self.go_on()

    async def recall(self) -> Mapping[str, str]:
        """What earlier attempts noted."""
        return await self._station.on_disk(self._station.journal.reader.notes, self.asset.asset_id)

    async def note(self, notes: Mapping[str, str], *, anew: bool = False) -> None:
        """Note durably how far it has come; who has something to note has got an answer from the store."""
        self._answered()
        await self._station.journal.note(self.asset.asset_id, notes, anew=anew)

    def found(self, size_bytes: int) -> None:
        """Earlier attempts brought them."""
        self._found_bytes += size_bytes

    def sent(self, done_bytes: int) -> None:
        """Show progress; only that proves that the attempt is alive."""
        if done_bytes != self.done_bytes:
            self.done_bytes = done_bytes
            before, self._fresh_bytes = self._fresh_bytes, max(self._fresh_bytes, done_bytes - self._found_bytes)
            self._moved(self._fresh_bytes - before)

    def go_on(self) -> None:
        """The lane moves: from now on this attempt may take as long as a store that still works would need."""
        self._must_move_by = asyncio.get_running_loop().time() + self._patience_s
        if self._guard is not None and not self._guard.expired():
            self._guard.reschedule(self._must_move_by)

    @contextlib.asynccontextmanager
    async def bounded(self) -> AsyncIterator[None]:
        """Cancel what is done meanwhile when nothing moves any more; raises StoreError then."""
        self.go_on()
        try:
            async with asyncio.timeout_at(self._must_move_by) as self._guard:
                yield
        except TimeoutError as error:
            what = f"Nothing has moved on the way to the store for {self._patience_s:.0f} s."
            do = "Check the store and the network; storing goes on by itself."
            raise StoreError(what, safe="The original is safe in this station.", do=do) from error
        finally:
            self._guard = None

    def hangs(self) -> bool:
        """Whether the attempt could not even be cancelled."""
        return asyncio.get_running_loop().time() > self._must_move_by + _CANCEL_LIMIT_S


class StoreLane:
    """Workers share one lane; each asks the journal for the next asset, so there is nothing to recover."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._out: dict[str, Delivery] = {}
        self._shares = Shares()
        self._flow = Flow()
        self._choosing = asyncio.Lock()
        self._failures = 0
        self._ticks = 0
        self._blind = ""
        self._refusal = self._away = ""
        self.is_heard = False

    @property
    def error(self) -> str:
        """Why the last original could not be stored, or none be looked for; empty when it could."""
        return self._blind or self._refusal

    def uploads(self) -> tuple[Upload, ...]:
        """What is on its way now, the most urgent first."""
        out = sorted(self._out.values(), key=lambda delivery: delivery.due_at)
        return tuple(Upload(one.asset.asset_id, one.done_bytes, one.asset.expected_bytes) for one in out)

    def rate_bytes_s(self) -> float | None:
        """How fast originals went to the store in the last minutes in which any did; None: not known yet."""
        return self._flow.rate_bytes_s()

    def ticks(self) -> int:
        """Grows with every call unless an attempt hangs: a store that does is only tried again."""
        self._ticks += not any(delivery.hangs() for delivery in self._out.values())
        return self._ticks

    async def take(self) -> Delivery:
        """Wait for the most urgent original that may go now, and keep the other workers away from it."""
        while True:
            await self._pause()
            self._station.held_news.clear()
            async with self._choosing:
                try:
                    due = await self._next()
                except JournalError as error:
                    self._blind = error.what
                    self.rest()
                    continue
                self._blind = ""
                if due is not None:
                    return self._begin(due)
            try:
                async with asyncio.timeout(_LOOK_AGAIN_S):
                    await self._station.held_news.wait()
            except TimeoutError:
                continue

    def _begin(self, due: DueAsset) -> Delivery:
        self._shares.given(due.device_id, due.asset.expected_bytes)
        delivery = self._out[due.asset.asset_id] = Delivery(self._station, due, self._forgive, self._moved)
        self._flow.busy()
        return delivery

    async def _next(self) -> DueAsset | None:
        station = self._station
        now = station.clock()
        return await station.on_disk(
            station.journal.reader.next_to_store,
            now,
            frozenset(self._out),
            before=self._only_before(now),
            longest_pause=station.longest_pause,
            choose=self._shares.first,
        )

    def _only_before(self, now: datetime) -> datetime | None:
        """Only what is due before this may go now; None: everything.

        Outside the hours that the configuration allows, only what could miss its time limit. And the last worker, like
        those beyond it, is kept for what is more urgent than all that is on its way: it never waits behind large files,
        which make way for it at their next part.
        """
        spans = self._station.hours
        limits = [] if is_open(spans, now) else [closes_next(spans, now)]
        if self._out and len(self._out) >= self._station.limits.store_workers - 1:
            limits.append(min(delivery.due_at for delivery in self._out.values()))
        return min(limits, default=None)

    def give_back(self, delivery: Delivery) -> None:
        """The attempt is over, whatever came of it."""
        self._out.pop(delivery.asset.asset_id, None)
        if not self._out:
            self._flow.idle()

    def _moved(self, size_bytes: int) -> None:
        """While one original moves, others may have to wait for it: the store lets the most urgent go first."""
        self._flow.add(size_bytes)
        for delivery in self._out.values():
            delivery.go_on()

    def _forgive(self) -> None:
        """The store answers again: what it refused before must not be shown until all of a large original is there."""
        self._refusal, self.is_heard = "", True

    def heard(self, away: str) -> None:
        """Who only looked found the store away; or there, which takes back nothing that it has refused since."""
        if away or self._refusal == self._away:
            self._refusal = away
        self._away, self.is_heard = away, True

    def rest(self) -> None:
        """Something failed: wait longer before the next attempt begins, not inside this one, which has a limit."""
        self._failures += 1

    async def _pause(self) -> None:
        """While the store is away, one original after the other would fail: wait longer after each."""
        if self._failures:
            limits = self._station.limits
            await asyncio.sleep(min(limits.backoff_max_s, limits.backoff_base_s * 2.0 ** min(self._failures - 1, 30)))

    async def store(self, delivery: Delivery) -> None:
        """One attempt; whatever the world refuses leaves the asset in a true state, to be tried again."""
        try:
            await self._attempt(delivery)
        except (JournalError, StoreError) as error:  # our own disk is full or failing: nothing was changed
            self._refusal = error.what
            self.rest()

    async def _attempt(self, delivery: Delivery) -> None:
        """Counted before the work, so that what kills the process again and again is noticed."""
        station, asset = self._station, delivery.asset
        assert asset.digests is not None
        assert asset.size_bytes is not None
        before = await station.on_disk(station.journal.reader.attempt, asset.asset_id)
        if before is not None and before.begun - before.failed >= _INTERRUPTED:
            why = f"the agent was interrupted {_INTERRUPTED} times while storing this"
            await station.journal.record(AssetChanged(asset.asset_id, Blocked(why)))
            return
        await station.journal.begun([asset.asset_id])
        try:
            held = await station.on_disk(station.vault.claim, asset.asset_id, asset.size_bytes, asset.digests)
            async with delivery.bounded():
                receipt = await station.store.put(held, delivery)
        except StoreError as error:
            await self._not_stored(asset, error)
        except EvidenceError as error:
            await put_aside(station, asset, str(error))
        else:
            await station.journal.record(AssetChanged(asset.asset_id, Confirmed(receipt)))
            self._forgive()
            self._failures = 0

    async def _not_stored(self, asset: Asset, error: StoreError) -> None:
        self._refusal, self.is_heard = error.what, True
        # A store that is away is tried for ever, with a bounded pause; only a refusal needs a person.
        if error.retry:
            self.rest()
            await self._station.failed(asset.asset_id, str(error))
        else:
            await self._station.journal.record(AssetChanged(asset.asset_id, Blocked(str(error))))
