"""What is damaged here and stored comes back from the store: proved, never silently, and never instead of an alarm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import CommitError, StoreError
from agent.model import AssetState, Receipt, Transcript, TranscriptKind
from agent.pipeline import healing
from agent.pipeline.damage import put_aside
from agent.pipeline.documents import add_document
from agent.pipeline.healing import HealLane
from agent.pipeline.recover import recover
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder, FakeStore
from tests.stations import QUICK, dock, opened

FILES = {"/1.MP4": b"footage of one", "/2.MP4": b"footage of two"}


class Away(FakeStore):
    """Refuses to give anything back as often as told."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[StoreError] = []
        self.fetched = 0

    async def fetch(self, receipt: Receipt, part: Path) -> None:
        self.fetched += 1
        if self.refusals:
            part.write_bytes(b"half of")
            raise self.refusals.pop(0)
        await super().fetch(receipt, part)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(healing, "_LOOK_AGAIN_S", 0)


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    """Two originals, both stored."""
    async with opened(tmp_path / "root", clock, store=Away()) as station:
        station.limits = replace(QUICK, backoff_base_s=60, backoff_max_s=600)
        await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
        await stored(station, 2)
        yield station


async def stored(station: Station, files: int) -> None:
    lane = StoreLane(station)
    for _ in range(files):
        delivery = await lane.take()
        await lane.store(delivery)
        lane.give_back(delivery)


def damage(station: Station) -> str:
    """Change a byte of an original behind everybody's back; returns its asset id."""
    asset = next(iter(station.journal.reader.known_bytes("", 10)))
    assert asset.digests is not None
    path = station.vault.address(asset.digests.blake3)
    path.chmod(0o640)
    path.write_bytes(b"F" + path.read_bytes()[1:])
    path.chmod(0o440)
    return asset.asset_id


def store_of(station: Station) -> Away:
    assert isinstance(station.store, Away)
    return station.store


def incidents(station: Station) -> list[str]:
    found = (event.detail for event in station.journal.reader.events(0, 1000) if event.kind == "incident")
    return [detail for detail in found if "brought-back" in detail]


def contents(station: Station) -> set[bytes]:
    return {path.read_bytes() for _, path, _ in station.vault.originals()}


async def test_a_damaged_original_comes_back_and_is_stored_again(station: Station) -> None:
    asset_id = damage(station)
    assert await put_aside(station, station.journal.reader.asset(asset_id), "a byte differs")
    assert station.journal.reader.asset(asset_id).state is AssetState.STUCK
    await HealLane(station).step()
    back = station.journal.reader.asset(asset_id)
    assert (back.state, back.receipt is not None) == (AssetState.HELD, True)
    assert contents(station) == set(FILES.values())
    assert len(list(station.vault.damaged_dir.iterdir())) == 1, "the damaged one is kept aside"
    assert len(incidents(station)) == 1
    await stored(station, 1)
    assert station.journal.reader.asset(asset_id).state is AssetState.STORED
    await HealLane(station).step()
    assert store_of(station).fetched == 1, "nothing more to do"


async def test_a_document_comes_back_too(station: Station) -> None:
    recording = station.journal.reader.recordings()[0].recording.recording_id
    text = Transcript(TranscriptKind.HUMAN, "P1", station.clock(), "a.txt")
    document = await add_document(station, text, [recording], b"what was said")
    await stored(station, 1)
    await put_aside(station, document, "for the test")
    await HealLane(station).step()
    assert station.journal.reader.asset(document.asset_id).state is AssetState.HELD
    assert b"what was said" in contents(station)


async def test_without_a_receipt_nothing_can_come_back_but_from_the_recorder(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with opened(tmp_path / "root", clock, store=Away()) as station:
        await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
        asset_id = damage(station)
        await put_aside(station, station.journal.reader.asset(asset_id), "a byte differs")
        await HealLane(station).step()
        assert store_of(station).fetched == 0
        await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
        assert station.journal.reader.asset(asset_id).state is AssetState.HELD
        assert contents(station) == set(FILES.values())


@pytest.mark.parametrize("retry", [False, True])
async def test_a_store_that_gives_nothing_is_asked_again_later_and_for_ever(
    station: Station, clock: SettableClock, retry: bool
) -> None:
    asset_id = damage(station)
    await put_aside(station, station.journal.reader.asset(asset_id), "a byte differs")
    store_of(station).refusals = [StoreError("It is away.", retry=retry)] * 3
    for failures in (1, 2, 3):
        await HealLane(station).step()
        await HealLane(station).step()
        assert store_of(station).fetched == failures, "not before the pause is over"
        assert list(station.vault.staging_dir.iterdir()) == [], "nothing is left of an attempt"
        clock.advance(600)
    assert station.journal.reader.asset(asset_id).state is AssetState.STUCK
    assert len(incidents(station)) == 1, "it is told once"
    await HealLane(station).step()
    assert station.journal.reader.asset(asset_id).state is AssetState.HELD


async def test_other_bytes_of_the_store_are_never_taken(station: Station) -> None:
    asset_id = damage(station)
    asset = station.journal.reader.asset(asset_id)
    await put_aside(station, asset, "a byte differs")
    assert asset.receipt is not None
    store_of(station).objects[asset.receipt.object] = b"other bytes!!!"
    await HealLane(station).step()
    assert station.journal.reader.asset(asset_id).state is AssetState.STUCK
    assert len(contents(station)) == 1


async def test_a_recorder_that_is_faster_wins_and_nothing_stumbles_over_it(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset_id = damage(station)
    await put_aside(station, station.journal.reader.asset(asset_id), "a byte differs")
    docked = FakeRecorder(FILES, station.vault.staging_dir)

    fetch = store_of(station).fetch

    async def slow(receipt: Receipt, part: Path) -> None:
        await fetch(receipt, part)
        await dock(station, docked)

    monkeypatch.setattr(store_of(station), "fetch", slow)
    await HealLane(station).step()
    assert station.journal.reader.asset(asset_id).state is AssetState.HELD
    assert station.journal.reader.settled() == ()
    assert list(station.vault.staging_dir.iterdir()) == []
    await recover(station)
    assert contents(station) == set(FILES.values())


@pytest.mark.parametrize("moment", ["settled", "record"])
async def test_a_death_on_the_way_back_is_finished_by_the_next_start(
    station: Station, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Before the note the store is asked again; after it, the note finishes what was begun."""
    asset_id = damage(station)
    await put_aside(station, station.journal.reader.asset(asset_id), "a byte differs")

    async def dies(*_: object) -> int:
        raise CommitError("The process is gone.")

    with monkeypatch.context() as patch:
        patch.setattr(station.journal, moment, dies)
        with pytest.raises(CommitError):
            await HealLane(station).step()
    await recover(station)
    await HealLane(station).step()
    assert station.journal.reader.asset(asset_id).state is AssetState.HELD
    assert contents(station) == set(FILES.values())
    assert list(station.vault.staging_dir.iterdir()) == []
    assert station.journal.reader.settled() == ()
