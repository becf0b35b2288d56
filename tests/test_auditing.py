"""The audit: every stored original is proved again, and what the store has lost is sent there again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import StoreError
from agent.model import AssetState, Receipt
from agent.pipeline.auditing import AuditLane
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.uploader.base import DOUBT
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder, FakeStore
from tests.stations import QUICK, dock, opened

FILES = {f"/{number}.MP4": b"footage %d" % number for number in range(5)}


class AuditedStore(FakeStore):
    """Notes which objects were checked and which of them read; may be away."""

    def __init__(self) -> None:
        super().__init__()
        self.checked: list[tuple[str, bool]] = []
        self.away: StoreError | None = None
        self.forbidden = ""

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        if self.away is not None:
            raise self.away
        if receipt.object == self.forbidden:
            raise StoreError("The store does not allow us this one.")
        self.checked.append((receipt.object, read))
        return await super().check(receipt, read=read)

    async def look(self) -> None:
        if self.away is not None and self.away.retry:
            raise self.away


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock, store=AuditedStore()) as station:
        station.limits = replace(QUICK, audit_pause_s=0, audit_read_each=3)
        await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
        lane = StoreLane(station)
        for _ in FILES:
            delivery = await lane.take()
            await lane.store(delivery)
            lane.give_back(delivery)
        assert states(station) == {AssetState.STORED: 5}
        yield station


def states(station: Station) -> dict[AssetState, int]:
    found = station.journal.reader.overview(station.clock()).assets
    return {state: tally.files for state, tally in found.items() if tally.files}


def store_of(station: Station) -> AuditedStore:
    assert isinstance(station.store, AuditedStore)
    return station.store


async def test_it_goes_round_all_of_them_and_reads_a_sample(station: Station) -> None:
    lane = AuditLane(station)
    for _ in range(2 * (len(FILES) + 1)):
        await lane.step()
    checked = store_of(station).checked
    assert [name for name, _ in checked[:5]] == [name for name, _ in checked[5:]]
    assert {name for name, _ in checked} == set(store_of(station).objects)
    assert [number for number, (_, read) in enumerate(checked) if read] == [0, 3, 6, 9]
    progress = lane.progress
    assert (progress.checked, progress.read, progress.lost, progress.rounds) == (10, 4, 0, 2)
    assert (progress.last_at, progress.error) == (station.clock(), "")


async def test_it_goes_on_after_a_restart_where_it_was(station: Station) -> None:
    for _ in FILES:
        lane = AuditLane(station)
        await lane.step()
    assert len(dict(store_of(station).checked)) == 5, "each lane took the next one"
    assert (lane.progress.checked, lane.progress.read) == (5, 2)


@pytest.mark.parametrize("harm", ["gone", "other bytes"])
async def test_what_the_store_lost_is_no_longer_called_stored_and_is_sent_again(station: Station, harm: str) -> None:
    store, lane = store_of(station), AuditLane(station)
    gone = next(iter(store.objects))
    content = store.objects.pop(gone)
    if harm == "other bytes":
        store.objects[gone] = b"other bytes"
    for _ in FILES:
        await lane.step()
    assert states(station) == {AssetState.STORED: 4, AssetState.HELD: 1}
    assert lane.progress.lost == 1
    assert "other bytes" in lane.progress.error or not lane.progress.error
    store.objects.pop(gone, None)  # somebody looked after it
    storing = StoreLane(station)
    delivery = await storing.take()
    assert await delivery.recall() == {DOUBT: "The store has other bytes."}, "the store must not believe itself"
    assert station.journal.reader.overview(station.clock()).doubted == 1
    await storing.store(delivery)
    assert station.journal.reader.overview(station.clock()).doubted == 0, "nobody need look any more"
    assert await delivery.recall() == {}
    assert store.objects[gone] == content
    assert states(station) == {AssetState.STORED: 5}


async def test_while_the_store_is_away_nothing_is_doubted_and_the_same_one_is_next(station: Station) -> None:
    store, lane = store_of(station), AuditLane(station)
    await lane.step()
    store.away = StoreError("The store is away.")
    for _ in range(3):
        await lane.step()
    assert (states(station), lane.progress.error) == ({AssetState.STORED: 5}, "The store is away.")
    store.away = None
    for _ in range(4):
        await lane.step()
    assert len(dict(store.checked)) == 5
    assert lane.progress.error == ""


async def test_a_receipt_that_cannot_be_checked_here_holds_up_no_round(station: Station) -> None:
    store, lane = store_of(station), AuditLane(station)
    store.away = StoreError("The receipt is of another store.", retry=False)
    for _ in range(len(FILES) + 1):
        await lane.step()
    assert (lane.progress.rounds, lane.progress.checked, lane.progress.last_at) == (1, 0, None)
    assert lane.progress.error == "The receipt is of another store."
    assert states(station) == {AssetState.STORED: 5}


async def test_one_that_the_store_does_not_let_us_see_holds_up_no_round(station: Station) -> None:
    """The store is there and answers for all others; what nobody could look at is neither lost nor proved."""
    store, lane = store_of(station), AuditLane(station)
    store.forbidden = next(iter(store.objects))
    for _ in range(len(FILES) + 1):
        await lane.step()
    assert {name for name, _ in store.checked} == set(store.objects) - {store.forbidden}
    assert (lane.progress.rounds, lane.progress.checked, lane.progress.lost) == (1, 4, 0)
    assert states(station) == {AssetState.STORED: 5}


async def test_it_runs_beside_the_other_lanes(station: Station) -> None:
    runner = Runner(station)
    work = asyncio.create_task(runner.run(1, lambda: None))
    async with asyncio.timeout(20):
        while runner.audit().rounds < 2:
            await asyncio.sleep(0.002)
    work.cancel()
    await asyncio.wait([work])
    assert runner.uploads() == ()
