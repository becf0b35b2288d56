"""One docking from first look to last byte: list, pull by deadline, rescue, confirm, account for everything."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import aclosing
from enum import StrEnum
from typing import Final

from agent.drivers.base import Docked, Failed, Fetched, FetchRequest, ListingEnd
from agent.drivers.base import Progress as ReadProgress
from agent.errors import AgentError, DeviceError, EvidenceError, JournalError, UnknownRecorderError, UnpluggedError
from agent.journal import new_id
from agent.journal.views import PendingClip
from agent.model import (
    BLOCK_BYTES,
    Asset,
    AssetChanged,
    AssetState,
    Blocked,
    ClipAccounted,
    DockingClosed,
    FailReason,
    Finding,
    Incident,
    Mode,
    Observed,
    Outcome,
    Phase,
)
from agent.pipeline.admit import Admission
from agent.pipeline.hold import hold
from agent.pipeline.progress import Meter
from agent.pipeline.pull import BigPull, SmallBatch
from agent.pipeline.room import Room
from agent.pipeline.station import Station

_BATCH_FILES: Final = 256
_SHOWN_BYTES: Final = 1024 * 1024
_BROKEN_CLIPS: Final = 5


class End(StrEnum):
    """How a docking ended."""

    COMPLETE = "complete"
    YANKED = "yanked"
    CHANGED = "changed"
    FAILED = "failed"


class Docking:
    """Drives one docked recorder. Cancelling it at any point loses nothing: all that counts is committed."""

    def __init__(self, station: Station, docked: Docked, slot: str, meter: Meter) -> None:
        self._station = station
        self._docked = docked
        self._slot = slot
        self._meter = meter
        self._id = new_id(station.clock)
        self._admission = Admission(self._id, station, docked, slot, meter)
        self._metadata_blake3 = ""
        self._in_flight: set[int] = set()
        self._tried: dict[int, set[str]] = {}
        self._holding: deque[tuple[asyncio.Task[None], SmallBatch]] = deque()
        self._broken_at: set[int] = set()
        self._unplugged = asyncio.Event()
        self._room = Room(station, self._id, meter, self._unplugged)

    def unplugged(self) -> None:
        """Detection says that the recorder is gone."""
        self._unplugged.set()

    async def run(self) -> End:
        """Do everything; an unreadable recorder or a full or failing disk ends as FAILED, to be tried again."""
        try:
            return await self._run()
        except UnpluggedError as error:  # detection tells it a moment later
            self._unplugged.set()
            self._meter.phase(Phase.UNPLUGGED)
            await self._finish_holding()
            return await self._failed_as_a_whole(error)
        except AgentError as error:
            is_unknown = isinstance(error, UnknownRecorderError)
            self._meter.phase(Phase.UNREGISTERED if is_unknown else Phase.FAILED, str(error))
            await self._finish_holding()
            return await self._failed_as_a_whole(error)
        finally:
            await self._finish_holding()
            await self._docked.close()
            self._station.claims.difference_update(self._admission.claimed)
            if self._admission.is_open:
                self._station.unclosed.add(self._id)

    async def _run(self) -> End:
        self._metadata_blake3 = await self._admission.admit_all()
        self._meter.phase(Phase.READING, docking_id=self._id)
        end = await self._pull_all()
        await self._held()
        if end is End.COMPLETE:
            self._meter.phase(Phase.VERIFYING)
            end = await self._compare_metadata()
        await self._close(end)
        return end

    async def _failed_as_a_whole(self, error: AgentError) -> End:
        end = End.YANKED if self._unplugged.is_set() else End.FAILED
        try:
            await self._station.journal.record(Incident("docking-failed", {"slot": self._slot, "what": error.what}))
            if self._admission.is_open:
                await self._record_end(end)
        except JournalError:
            return end  # the journal's disk is full or failing: the next docking closes this one
        return end

    # Pulling

    async def _pull_all(self) -> End:
        while batch := await self._next_batch():
            if not await self._room_for(batch):
                return End.YANKED
            if batch[0].mode is Mode.CONFIRM:
                gone = await self._confirm(batch[0])
            elif batch[0].clip.readable_bytes > BLOCK_BYTES:
                gone = await self._pull_big(batch[0])
            else:
                gone = await self._pull_small(batch)
            if gone:
                return End.YANKED
        return End.COMPLETE

    async def _next_batch(self) -> list[PendingClip]:
        """The most urgent clip, with its small neighbours: at most one block of bytes in all."""
        while True:
            reader = self._station.journal.reader
            pending = await self._station.on_disk(reader.next_clips, self._id, _BATCH_FILES, self._in_flight)
            if pending or not self._holding:
                break
            await self._held()  # what is being held may come back as pending
        batch: list[PendingClip] = []
        total = 0
        for item in pending:
            total += item.clip.readable_bytes
            alone = item.mode is Mode.CONFIRM or item.clip.readable_bytes > BLOCK_BYTES
            if batch and (alone or total > BLOCK_BYTES or item.mode is not batch[0].mode or len(batch) == _BATCH_FILES):
                break
            batch.append(item)
            if alone:
                break
        return batch

    async def _room_for(self, batch: Sequence[PendingClip]) -> bool:
        """Wait until staging has room; the footage stays on the card meanwhile. False when it was unplugged."""
        need_bytes = sum(item.clip.readable_bytes for item in batch if item.mode is not Mode.CONFIRM)
        return await self._room.wait_for(need_bytes, self._held)

    async def _pull_small(self, batch: Sequence[PendingClip]) -> bool:
        small = SmallBatch(self._station, self._id, batch)
        await self._station.journal.begun([item.asset_id for item in batch])
        gone = await self._fetch([small.request(item) for item in batch], batch, small)
        await self._held(all_but=1)
        if small.ready:
            before = self._holding[-1][0] if self._holding else None
            self._holding.append((asyncio.create_task(self._hold_small(small, before)), small))
            self._in_flight |= small.numbers
        return gone

    async def _hold_small(self, small: SmallBatch, before: asyncio.Task[None] | None) -> None:
        """Read a batch back while the one before is named and committed; what is more urgent is held first."""
        parts = await small.read_back()
        if before is not None:
            await before
        for outcome, files in Counter(await hold(self._station, parts)).items():
            self._meter.settled(outcome, files)
        for item, error in small.differing:
            await self._differs(item, error)

    async def _pull_big(self, item: PendingClip) -> bool:
        await self._held()
        big = await BigPull.prepare(self._station, self._id, item)
        self._meter.read(big.durable_bytes)
        await self._station.journal.begun([item.asset_id])
        try:
            gone = await self._fetch([big.request()], [item], big)
            if big.complete is not None:
                for outcome in await hold(self._station, [big.complete]):
                    self._meter.settled(outcome)
        except EvidenceError as error:
            await self._differs(item, error)
            return False
        finally:
            await big.close()
        return gone

    async def _fetch(
        self, requests: Sequence[FetchRequest], batch: Sequence[PendingClip], sink: SmallBatch | BigPull
    ) -> bool:
        """Feed the reports of these clips to `sink`, handle the failed ones; True when the recorder is gone."""
        by_number = {item.clip.number: item for item in batch}
        gone = False
        unshown_bytes = 0
        async with aclosing(self._docked.fetch(requests)) as reports:
            async for report in reports:
                item = by_number[report.number]
                if isinstance(report, Failed):
                    gone = gone or report.reason is FailReason.GONE
                    await self._failed(item, report)
                else:
                    self._broken_at.clear()
                    unshown_bytes += await sink.take(item, report)
                    if unshown_bytes >= _SHOWN_BYTES:
                        self._meter.read(unshown_bytes)
                        unshown_bytes = 0
        self._meter.read(unshown_bytes)
        return gone

    async def _confirm(self, item: PendingClip) -> bool:
        """Read a clip that looks known and compare its fingerprint with what we hold; only content decides."""
        await self._held()
        request = FetchRequest(item.clip, "", rescue=True)
        done = 0
        async with aclosing(self._docked.fetch([request])) as reports:
            async for report in reports:
                match report:
                    case ReadProgress():
                        self._meter.read(report.done_bytes - done)
                        done = report.done_bytes
                    case Fetched():
                        self._meter.read(report.size_bytes - done)
                        await self._confirmed(item, report)
                    case Failed():
                        await self._failed(item, report)
                        return report.reason is FailReason.GONE
                    case _:
                        pass
        return False

    async def _confirmed(self, item: PendingClip, report: Fetched) -> None:
        asset = await self._station.on_disk(self._station.journal.reader.asset, item.asset_id)
        if asset.digests is None or asset.digests.blake3 != report.blake3:
            await self._another(item)
        elif report.holes:
            await self._account(item, Outcome.UNREADABLE, "the same parts of it can't be read")
        elif await self._is_in_vault(asset):
            await self._account(item, Outcome.ALREADY_HELD)
        else:
            await self._another(item)

    async def _is_in_vault(self, asset: Asset) -> bool:
        """Whether the original is still there; if somebody took it away, the recorder heals the vault."""
        if asset.state is AssetState.RELEASED:
            return True
        assert asset.digests is not None
        try:
            await self._station.on_disk(self._station.vault.claim, asset.asset_id, asset.expected_bytes, asset.digests)
        except EvidenceError as error:
            await self._station.journal.record(Incident("vault-damaged", {"asset": asset.asset_id, "what": error.what}))
            return False
        return True

    # Failures

    async def _failed(self, item: PendingClip, report: Failed) -> None:
        reason = report.reason
        if reason is FailReason.GONE or reason is FailReason.NO_SPACE:
            # Stays pending: left on the recorder, or tried again after a pause.
            if reason is FailReason.NO_SPACE:
                self._room.refused()
        elif item.mode is Mode.CONFIRM:
            await self._account(item, Outcome.UNREADABLE, report.message or reason.value)
        elif reason is FailReason.DIFFERENT:
            await self._another(item)
        elif reason is FailReason.UNREADABLE and item.mode is Mode.PULL:
            await self._defer(item, report)
        else:
            self._check_helper(item, report)
            failures = await self._station.failed(item.asset_id, f"{reason.value}: {report.message}")
            if reason is FailReason.CHANGED or failures >= self._station.limits.attempts:
                await self._give_up(item, report)
            else:
                await self._defer(item, report)

    def _check_helper(self, item: PendingClip, report: Failed) -> None:
        """A helper that breaks at one clip after the other is at fault itself: no clip is to be blamed for it."""
        if report.reason is FailReason.BROKEN:
            self._broken_at.add(item.clip.number)
        if len(self._broken_at) >= _BROKEN_CLIPS:
            raise DeviceError(
                f"Reading breaks at every file: {report.message}.",
                safe="What was pulled before is safe; nothing on the recorder was changed.",
                do="It is tried again; if it goes on, call the administrator.",
            )

    async def _differs(self, item: PendingClip, error: EvidenceError) -> None:
        """Our own disk gave back other bytes than were written: start this clip over, a few times."""
        await self._station.journal.unsettled(item.asset_id)
        await self._station.journal.record(Incident("read-back-differs", {"asset": item.asset_id, "what": error.what}))
        await self._failed(item, Failed(item.clip.number, FailReason.BROKEN, error.what))

    async def _another(self, item: PendingClip) -> None:
        """The clip is not the recording it looked like: try the next candidate, else it is new footage."""
        tried = self._tried.setdefault(item.clip.number, set())
        tried.add(item.asset_id)
        async with self._station.commit:
            entries = await self._station.on_disk(self._admission.candidate, item.clip, tried)
            await self._station.journal.record(*entries)

    async def _defer(self, item: PendingClip, report: Failed) -> None:
        """To the end of the docking: first everything that reads well, then the patient pass."""
        await self._station.journal.record(
            ClipAccounted(self._id, item.clip.number, Outcome.PENDING, Mode.RESCUE, report.message)
        )

    async def _give_up(self, item: PendingClip, report: Failed) -> None:
        blocked = Blocked(f"{report.reason.value}: {report.message}")
        await self._station.journal.record(
            AssetChanged(item.asset_id, blocked, self._id, item.clip.number, Outcome.UNREADABLE)
        )
        self._meter.settled(Outcome.UNREADABLE)

    async def _account(self, item: PendingClip, outcome: Outcome, reason: str = "") -> None:
        await self._station.journal.record(ClipAccounted(self._id, item.clip.number, outcome, item.mode, reason))
        self._meter.settled(outcome)

    async def _held(self, *, all_but: int = 0) -> None:
        """Wait for the batches that are being read back and committed, but for the newest `all_but`."""
        while len(self._holding) > all_but:
            task, small = self._holding[0]
            await task
            self._holding.popleft()
            self._in_flight -= small.numbers

    async def _finish_holding(self) -> None:
        """Let the batches end, whatever ended the docking: their threads can't be cancelled, and the next docking of
        this recorder would write to the parts that they are still naming.
        """
        while self._holding:
            task, _ = self._holding[0]
            await asyncio.wait([task])
            self._holding.popleft()
            if not task.cancelled():
                task.exception()  # the docking ends anyway; its clips are accounted as left

    # The end

    async def _compare_metadata(self) -> End:
        """List again, from the medium: what was written to the card while it was docked nobody has pulled yet."""
        end = End.COMPLETE
        async with aclosing(self._docked.clips()) as items:
            async for item in items:
                if isinstance(item, ListingEnd) and item.metadata_blake3 != self._metadata_blake3:
                    end = End.CHANGED
                    await self._station.journal.record(
                        Observed(self._id, Finding("medium-changed", {"before": self._metadata_blake3}))
                    )
        return end

    async def _record_end(self, end: End) -> None:
        await self._station.journal.record(DockingClosed(self._id, end.value))
        self._admission.is_open = False

    async def _close(self, end: End) -> None:
        await self._record_end(end)
        accounts = await self._station.on_disk(self._station.journal.reader.accounting, self._id)
        self._meter.final(
            {
                Outcome.PULLED: accounts.pulled, Outcome.ALREADY_HELD: accounts.already_held,
                Outcome.REFUSED: accounts.refused, Outcome.UNREADABLE: accounts.unreadable, Outcome.LEFT: accounts.left,
            }
        )  # fmt: skip
        troubled = accounts.refused + accounts.unreadable
        if end is End.YANKED:
            self._meter.phase(Phase.UNPLUGGED)
        elif end is End.CHANGED:
            self._meter.phase(Phase.FAILED, "something wrote to the recorder while it was read; it is read again")
        elif troubled:
            self._meter.phase(Phase.FAILED, f"{troubled} of {accounts.seen} files can't be read completely")
        elif self._admission.cut_short:
            short = self._admission.cut_short
            self._meter.phase(Phase.FAILED, f"{short} files end earlier than the recorder says; what there is is safe")
        elif misstated := self._admission.misstated:
            what = f"{misstated} files have another size than the recorder says; all that could be read is safe"
            self._meter.phase(Phase.FAILED, what)
        elif self._admission.may_have_more:
            self._meter.phase(Phase.FAILED, "parts of the recorder can't be read: there may be more on it")
        else:
            await self._admission.came_back()
            self._station.emptied(self._slot)
            self._meter.phase(Phase.FINISHED)
