"""Runs the lanes: a device lane per docking slot, store workers, recovery first; catches the bugs of single steps."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Final

from agent.access.making import make_all
from agent.drivers.base import Docked
from agent.errors import JournalError, StoreError
from agent.model import (
    Asset,
    AssetChanged,
    AuditProgress,
    Blocked,
    Incident,
    Phase,
    ScrubProgress,
    SlotProgress,
    Upload,
)
from agent.pipeline.acquire import Docking, End
from agent.pipeline.auditing import AuditLane
from agent.pipeline.checkpoint_store import CheckpointStoreLane
from agent.pipeline.checkpoints import CheckpointLane
from agent.pipeline.cosigning import CosignLane
from agent.pipeline.deriving import DeriveLane
from agent.pipeline.guarding import Guard
from agent.pipeline.healing import HealLane
from agent.pipeline.joining import JoinLane
from agent.pipeline.probing import ProbeLane
from agent.pipeline.progress import Meter
from agent.pipeline.receipts import ReceiptLane
from agent.pipeline.recover import census, recover
from agent.pipeline.releasing import ReleaseLane
from agent.pipeline.scrubbing import ScrubLane
from agent.pipeline.sealing import SealLane
from agent.pipeline.stamping import StampLane
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane

log: Final = logging.getLogger("capture-agent")

OnBug = Callable[[str], Awaitable[None]]
Opener = Callable[[], Docked]

_READING: Final = (Phase.IDENTIFYING, Phase.READING, Phase.VERIFYING)
_SHOWN_S: Final = 60.0
_BEAT_S: Final = 1.0


class Slot:
    """What is docked at one place, from plug to unplug."""

    def __init__(self, name: str, *, once: bool) -> None:
        self.name = name
        self.once = once
        self.ended = False
        self.gone = asyncio.Event()
        self.free = asyncio.Event()


class Runner:
    """One per daemon. `slots()` is what the screens show."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._slots: dict[str, Slot] = {}
        self._shown: dict[str, Slot] = {}
        self._progress: dict[str, SlotProgress] = {}
        self._group = asyncio.TaskGroup()
        self._store = StoreLane(station)
        self._audit = AuditLane(station, self._store.heard)
        self._probe = ProbeLane(station, self._is_reading)
        self._scrub = ScrubLane(station, self._is_reading)
        self._heal = HealLane(station)
        self._guard = Guard(station)
        self._derive = DeriveLane(station, self._is_reading, make_all)
        self._join = JoinLane(station, self._is_reading, self._probe.unread)
        self._checkpoints = CheckpointLane(station)
        self._centre = CheckpointStoreLane(station)
        self._seal = SealLane(station, self._is_reading)
        self._stamp = StampLane(station)
        self._release = ReleaseLane(station, self._is_reading)
        self._cosign = CosignLane(station)
        self._receipts = ReceiptLane(station)
        self._version = 0
        self._ticks = 0

    # For the screens

    def slots(self) -> tuple[SlotProgress, ...]:
        """Progress of every slot, in the order of their names."""
        return tuple(self._progress[name] for name in sorted(self._progress))

    def version(self) -> int:
        """Grows with every change of `slots()`."""
        return self._version

    def ticks(self) -> tuple[int, ...]:
        """Counters that grow while the lanes are alive; the watchdog is fed only if all of them do."""
        return (self._ticks, self._store.ticks())

    @property
    def store_error(self) -> str:
        """Why the store could not take the last original; empty when it could."""
        return self._store.error

    @property
    def store_heard(self) -> bool:
        """Whether the store has answered, or refused to, since the start."""
        return self._store.is_heard

    def uploads(self) -> tuple[Upload, ...]:
        """The originals on their way to the store, the most urgent first."""
        return self._store.uploads()

    def store_rate_bytes_s(self) -> float | None:
        """How fast originals went to the store lately; None: not known yet."""
        return self._store.rate_bytes_s()

    def troubles(self) -> tuple[str, ...]:
        """Why nothing can be made from any original, signed, stamped or freed, or what others did; empty if nothing."""
        lanes = (
            self._derive.trouble,
            self._join.trouble,
            self._seal.trouble,
            self._stamp.trouble,
            self._release.trouble,
        )
        return (*lanes, *self._guard.problems())

    def audit(self) -> AuditProgress:
        """What the audit of stored originals has found."""
        return self._audit.progress

    def scrub(self) -> ScrubProgress:
        """How far the reading again of all held files is."""
        return self._scrub.progress

    # Lanes

    async def run(self, workers: int, ready: Callable[[], None]) -> None:
        """Recover, then serve until cancelled."""
        await recover(self._station)
        async with self._group:
            ready()
            self._group.create_task(self._beat())
            self._group.create_task(self._census())
            self._group.create_task(self._first_look())
            self._group.create_task(self._forever("audit", self._audit.step))
            self._group.create_task(self._forever("scrub", self._scrub.step))
            self._group.create_task(self._forever("guard", self._guard.watch))
            self._group.create_task(self._forever("patrol", self._guard.patrol))
            self._group.create_task(self._forever("heal", self._heal.step))
            self._group.create_task(self._forever("probe", self._probe.step))
            self._group.create_task(self._forever("derive", self._derive.step))
            self._group.create_task(self._forever("join", self._join.step))
            self._group.create_task(self._forever("log", self._checkpoints.step))
            self._group.create_task(self._forever("checkpoints", self._centre.step))
            self._group.create_task(self._forever("seal", self._seal.step))
            self._group.create_task(self._forever("stamp", self._stamp.step))
            self._group.create_task(self._forever("release", self._release.step))
            self._group.create_task(self._forever("witnesses", self._cosign.step))
            self._group.create_task(self._forever("receipt", self._receipts.step))
            for _ in range(workers):
                self._group.create_task(self._store_worker())

    async def _beat(self) -> None:
        """Count as long as the disk pool answers; a journal that can't be written any more ends the process."""
        while True:
            await self._station.on_disk(lambda: None)
            if not self._station.journal.is_alive():
                raise RuntimeError("The journal's writer has ended; only a new start helps.")
            self._ticks += 1
            await asyncio.sleep(_BEAT_S)

    async def _first_look(self) -> None:
        """Whether the store is there is shown before anything goes there."""
        await asyncio.sleep(_BEAT_S)
        await self._guarded(self._if_disk_works(self._audit.look), partial(self._note_bug, "store"))

    async def _census(self) -> None:
        await self._guarded(census(self._station), partial(self._note_bug, "census"))

    async def _forever(self, name: str, step: Callable[[], Awaitable[None]]) -> None:
        """A step again and again; after a bug in it not at once, or the log would be full of it."""
        while True:
            if not await self._guarded(self._if_disk_works(step), partial(self._note_bug, name)):
                await asyncio.sleep(self._station.limits.backoff_base_s)

    async def _if_disk_works(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except (JournalError, StoreError):  # the service tells that our own disk refuses
            await asyncio.sleep(self._station.limits.backoff_max_s)

    def _is_reading(self) -> bool:
        return any(slot.phase in _READING for slot in self._progress.values())

    async def _store_worker(self) -> None:
        while True:
            delivery = await self._store.take()
            try:
                await self._guarded(self._store.store(delivery), partial(self._stuck, delivery.asset))
            finally:
                self._store.give_back(delivery)

    async def _stuck(self, asset: Asset, trace: str) -> None:
        try:
            await self._station.journal.record(AssetChanged(asset.asset_id, Blocked(trace)))
        except JournalError:
            self._store.rest()
            await self._note_bug("store", trace)

    async def _note_bug(self, step: str, trace: str) -> None:
        """Keep the trace as an incident; if even that can't be written, it is in the log."""
        log.error("%s failed: %s", step, trace)
        with contextlib.suppress(JournalError):
            await self._station.journal.record(Incident("bug", {"step": step, "trace": trace}))

    # Slots

    def dock(self, key: str, name: str, opener: Opener, *, once: bool = False) -> None:
        """A recorder appeared; a key that is docked already is ignored. `once`: don't wait for it to be unplugged."""
        old = self._slots.get(key)
        if old is not None and not old.gone.is_set() and not (once and old.ended):
            return
        if old is not None:
            old.gone.set()
        self._publish(SlotProgress(name, name, Phase.IDENTIFYING))
        before = self._shown.get(name)
        slot = self._slots[key] = self._shown[name] = Slot(name, once=once)
        self._group.create_task(self._serve(key, slot, opener, before))

    def undock(self, key: str) -> None:
        """The recorder is gone: what is under way ends as yanked, and the slot becomes free."""
        if slot := self._slots.get(key):
            slot.gone.set()

    def refuse(self, slot: str, device_label: str, reason: str) -> None:
        """Show a recorder that is there but must not be read."""
        self._publish(SlotProgress(slot, device_label, Phase.UNSUPPORTED, message=reason))

    def forget(self, slot: str) -> None:
        """A refused recorder is gone."""
        if self._progress.pop(slot, None) is not None:
            self._version += 1

    async def _serve(self, key: str, slot: Slot, opener: Opener, before: Slot | None) -> None:
        """Dock again and again with growing pauses until it is complete or the recorder is gone."""
        pause_s = self._station.limits.backoff_base_s
        try:
            if before is not None and before.gone.is_set():
                await before.free.wait()  # a recorder that comes back goes on with what its last docking gives up
            while not slot.gone.is_set():
                docked = opener()
                end = await self._one_docking(slot, docked)
                slot.ended = True
                if slot.once:
                    await _wait(slot.gone, _SHOWN_S)
                    break
                if end is End.COMPLETE:
                    await self._while_all_is_here(slot)
                else:
                    await _wait(slot.gone, pause_s)
                    pause_s = min(2 * pause_s, self._station.limits.backoff_max_s)
                while docked.hangs and not slot.gone.is_set():
                    await _wait(slot.gone, _BEAT_S)
        finally:
            if self._slots.get(key) is slot:
                del self._slots[key]
            self._unplugged(slot)
            slot.free.set()

    async def _while_all_is_here(self, slot: Slot) -> None:
        """Until the recorder is gone. Or something of it is damaged here: while it is docked it can bring it again."""
        known = -1
        while not slot.gone.is_set():
            if known != self._station.damages:
                with contextlib.suppress(JournalError):
                    known, docking_id = self._station.damages, self._progress[slot.name].docking_id
                    if await self._station.on_disk(self._station.journal.reader.is_lacking, docking_id):
                        return
            await _wait(slot.gone, _BEAT_S)

    async def _one_docking(self, slot: Slot, docked: Docked) -> End:
        name = slot.name
        docking = Docking(self._station, docked, name, Meter(name, docked.device.label, partial(self._show, slot)))
        watcher = asyncio.create_task(self._watch(slot, docking, docked))
        ends: list[End] = []

        async def work() -> None:
            ends.append(await docking.run())

        async def bug(trace: str) -> None:
            shown = self._progress.get(name, SlotProgress(name, name, Phase.FAILED))
            self._show(slot, replace(shown, phase=Phase.FAILED, message="internal error", may_remove=False))
            await self._note_bug("docking", trace)

        try:
            await self._guarded(work(), bug)
        finally:
            watcher.cancel()
            await asyncio.wait([watcher])
        return ends[0] if ends else End.FAILED

    async def _watch(self, slot: Slot, docking: Docking, docked: Docked) -> None:
        await slot.gone.wait()
        docking.unplugged()
        await docked.unplugged()

    def _unplugged(self, slot: Slot) -> None:
        if self._shown.get(slot.name) is not slot:
            return
        del self._shown[slot.name]
        shown = self._progress.get(slot.name)
        if shown is not None and (slot.once or shown.phase is Phase.FINISHED):
            del self._progress[slot.name]
            self._version += 1
        elif shown is not None:
            self._publish(replace(shown, phase=Phase.UNPLUGGED, may_remove=False))

    def _show(self, slot: Slot, progress: SlotProgress) -> None:
        """Publish, unless another recorder sits in this place by now: what ends late must not speak for it."""
        if self._shown.get(slot.name) is slot:
            self._publish(progress)

    def _publish(self, progress: SlotProgress) -> None:
        self._progress[progress.slot] = progress
        self._version += 1

    async def _guarded(self, step: Awaitable[None], on_bug: OnBug) -> bool:
        """The only place that catches everything: a bug in one step must not stop the other recorders."""
        try:
            await step
        except Exception:  # noqa: BLE001
            await on_bug(traceback.format_exc(limit=20))
            return False
        return True


async def _wait(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return
