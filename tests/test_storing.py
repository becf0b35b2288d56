"""What the store lane lets go, when, and in which order; and what it remembers of attempts that were cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, time, timedelta
from pathlib import Path

import pytest

from agent.deadline import ZONE
from agent.errors import StoreError
from agent.model import AssetState, Held, Receipt, Stamp, Upload
from agent.pipeline.progress import Flow
from agent.pipeline.station import Station
from agent.pipeline.storing import _INTERRUPTED, Delivery, StoreLane
from agent.uploader.base import Errand
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder, FakeStore
from tests.stations import dock, opened

NOON = datetime(2026, 11, 23, 12, tzinfo=ZONE)  # a Monday: what was made on Friday is due on Tuesday at 24:00


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(NOON)


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock) as station:
        yield station


async def hold(station: Station, *days: int) -> None:
    """Make one original held for each day of November on which it was made."""
    stamps = {f"/{day}.MP4": Stamp(f"2026-11-{day}T09:00:00", 480) for day in days}
    files = {path: path.encode() for path in stamps}
    await dock(station, FakeRecorder(files, station.vault.staging_dir, stamps=stamps))


async def taken(lane: StoreLane) -> Delivery | None:
    """What the lane gives out at once."""
    try:
        async with asyncio.timeout(0.2):
            return await lane.take()
    except TimeoutError:
        return None


async def test_the_last_worker_is_kept_for_what_is_more_urgent_than_all_that_is_on_its_way(station: Station) -> None:
    lane = StoreLane(station)
    await hold(station, 19, 18, 20, 23)
    first = [await lane.take() for _ in range(station.limits.store_workers - 1)]
    assert [one.due_at for one in first] == sorted(one.due_at for one in first)
    assert await taken(lane) is None, "the one of the 23rd must not take the last worker"
    await hold(station, 12)
    urgent = await taken(lane)
    assert urgent is not None
    assert urgent.due_at < first[0].due_at
    assert [upload.asset_id for upload in lane.uploads()] == [one.asset.asset_id for one in (urgent, *first)]
    lane.give_back(first[0])
    assert await taken(lane) is None, "three are on their way still"
    lane.give_back(urgent)
    assert await taken(lane) is not None


async def test_outside_the_hours_only_what_could_miss_its_time_limit_goes(
    station: Station, clock: SettableClock
) -> None:
    """From 19:00 to 07:00: the one due on Monday at 24:00 can't be sure of the night, the one due on Tuesday can."""
    station.hours = ((time(19), time(7)),)
    lane = StoreLane(station)
    await hold(station, 19, 20)
    urgent = await taken(lane)
    assert urgent is not None
    assert urgent.due_at == datetime(2026, 11, 24, tzinfo=ZONE)
    assert await taken(lane) is None
    clock.set(NOON.replace(hour=19))
    night = await taken(lane)
    assert night is not None
    assert night.due_at == datetime(2026, 11, 25, tzinfo=ZONE)


async def test_notes_outlive_the_attempt_and_are_gone_once_it_is_stored(station: Station) -> None:
    lane = StoreLane(station)
    await hold(station, 20)
    delivery = await lane.take()
    await delivery.note({"upload": "u1", "part-1": "aa"})
    await delivery.note({"part-2": "bb"})
    lane.give_back(delivery)
    again = await lane.take()
    assert await again.recall() == {"upload": "u1", "part-1": "aa", "part-2": "bb"}
    await again.note({"upload": "u2"}, anew=True)
    assert await again.recall() == {"upload": "u2"}
    await lane.store(again)
    assert await again.recall() == {}


async def test_an_upload_that_moves_on_is_never_given_up_however_often_it_is_interrupted(station: Station) -> None:
    """Power cuts in the middle of a large upload: each attempt brought some parts, so none was in vain."""
    lane = StoreLane(station)
    await hold(station, 20)
    for part in range(3 * _INTERRUPTED):
        delivery = await lane.take()
        await station.journal.begun([delivery.asset.asset_id])
        await delivery.note({f"part-{part}": "x"})
        lane.give_back(delivery)
    await lane.store(await lane.take())
    assert station.journal.reader.overview(NOON).assets[AssetState.STORED].files == 1


async def test_what_interrupts_every_attempt_without_progress_needs_a_person(station: Station) -> None:
    lane = StoreLane(station)
    await hold(station, 20)
    delivery = await lane.take()
    for _ in range(_INTERRUPTED):
        await station.journal.begun([delivery.asset.asset_id])
    await lane.store(delivery)
    assert station.journal.reader.overview(NOON).assets[AssetState.STUCK].files == 1


class Standing(FakeStore):
    """Takes nothing, and only says how it ended."""

    def __init__(self) -> None:
        super().__init__()
        self.ended: list[type[BaseException]] = []

    async def put(self, held: Held, errand: Errand) -> Receipt:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError as error:
            self.ended.append(type(error))
            raise
        raise AssertionError("an hour has passed")


async def test_an_attempt_that_does_not_move_is_ended_and_tried_again(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that hangs must not end the service, which has recorders to read."""
    monkeypatch.setattr("agent.pipeline.storing._STALL_LIMIT_S", 0.05)
    store = Standing()
    async with opened(tmp_path / "root", clock, store=store) as station:
        lane = StoreLane(station)
        await hold(station, 20)
        delivery = await lane.take()
        before = lane.ticks()
        await lane.store(delivery)
        assert lane.ticks() == before + 1
        assert store.ended == [asyncio.CancelledError]
        assert "Nothing has moved" in lane.error
        attempt = station.journal.reader.attempt(delivery.asset.asset_id)
        assert attempt is not None
        assert (attempt.begun, attempt.failed) == (1, 1)
        assert station.journal.reader.overview(NOON).assets[AssetState.HELD].files == 1


async def test_an_attempt_may_take_any_time_while_it_or_another_one_moves(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The most urgent originals may keep the line busy for hours, and the others wait for their turn."""
    monkeypatch.setattr("agent.pipeline.storing._STALL_LIMIT_S", 0.1)
    lane = StoreLane(station)
    await hold(station, 19, 20)
    moving, waiting = await lane.take(), await lane.take()
    async with waiting.bounded():
        for done in range(1, 12):
            await asyncio.sleep(0.02)
            moving.sent(done)

    async def stand() -> None:
        async with waiting.bounded():
            while True:
                moving.sent(11)  # the same again is no progress
                await asyncio.sleep(0.005)

    with pytest.raises(StoreError, match="Nothing has moved"):
        await stand()
    assert [upload.done_bytes for upload in lane.uploads()] == [11, 0]


async def test_what_cannot_even_be_cancelled_is_told_to_the_watchdog(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.pipeline.storing._STALL_LIMIT_S", 0.01)
    monkeypatch.setattr("agent.pipeline.storing._CANCEL_LIMIT_S", 0.01)
    lane = StoreLane(station)
    await hold(station, 20)
    delivery = await lane.take()
    while not delivery.hangs():
        await asyncio.sleep(0.005)
    assert lane.ticks() == lane.ticks()
    delivery.sent(7)
    before = lane.ticks()
    assert lane.ticks() > before
    assert lane.uploads() == (Upload(delivery.asset.asset_id, 7, len("/20.MP4")),)


async def test_the_store_is_told_how_urgent_it_is(tmp_path: Path, clock: SettableClock) -> None:
    errands: list[Errand] = []

    class Asking(FakeStore):
        async def put(self, held: Held, errand: Errand) -> Receipt:
            errands.append(errand)
            await errand.note({"half": "way"})
            if len(errands) == 1:
                raise StoreError("The store is away.")
            return await super().put(held, errand)

    async with opened(tmp_path / "root", clock, store=Asking()) as station:
        await hold(station, 20)
        lane = StoreLane(station)
        for _ in range(2):
            delivery = await lane.take()
            await lane.store(delivery)
            lane.give_back(delivery)
            clock.set(clock() + timedelta(seconds=1))
        assert [errand.due_at for errand in errands] == [datetime(2026, 11, 25, tzinfo=ZONE)] * 2
        assert station.journal.reader.overview(NOON).assets[AssetState.STORED].files == 1


async def test_what_was_refused_is_no_longer_shown_once_the_store_answers_again(
    tmp_path: Path, clock: SettableClock
) -> None:
    """A large original may then be on its way for hours, and somebody would look for a fault that is mended."""
    shown: list[str] = []

    class Returning(FakeStore):
        async def put(self, held: Held, errand: Errand) -> Receipt:
            if shown:
                shown.append(lane.error)
                await errand.note({"part-1": "arrived"})
            else:
                self.fail_before = 1
            shown.append(lane.error)
            return await super().put(held, errand)

    async with opened(tmp_path / "root", clock, store=Returning()) as station:
        await hold(station, 20)
        lane = StoreLane(station)
        for _ in range(2):
            delivery = await lane.take()
            await lane.store(delivery)
            lane.give_back(delivery)
            clock.set(clock() + timedelta(seconds=1))
    assert shown == ["", "The store is away.", ""]


async def test_what_is_more_urgent_than_all_that_is_on_its_way_begins_though_every_worker_is_busy(
    station: Station,
) -> None:
    lane = StoreLane(station)
    await hold(station, 20)
    out = [await lane.take()]
    for day in (19, 18, 17, 16, 13, 12):
        await hold(station, day)
        out.append(await lane.take())
    assert len(out) > station.limits.store_workers
    assert [one.due_at for one in out] == sorted((one.due_at for one in out), reverse=True)
    await hold(station, 17)
    assert await taken(lane) is None, "some on their way are more urgent"


async def bring(station: Station, serial: str, files: int, size_bytes: int) -> None:
    """Dock a recorder with so many files of one day."""
    contents = {f"/{serial}{number:05}.MP4": f"{serial}{number}".encode().ljust(size_bytes) for number in range(files)}
    await dock(station, FakeRecorder(contents, station.vault.staging_dir, serial=serial, filesystem_id=serial))


async def test_equally_urgent_recorders_take_turns_whoever_came_first(station: Station) -> None:
    """A camera with hundreds of photos docks first; the two films of the others don't wait for all of them."""
    await bring(station, "CAM", 300, 10)
    await bring(station, "REC", 2, 10)
    await bring(station, "VOX", 5, 10)
    reader, lane, order = station.journal.reader, StoreLane(station), []
    for _ in range(12):
        delivery = await lane.take()
        order.append(reader.recording(delivery.asset.asset_id).recording.device_id)
        await lane.store(delivery)
        lane.give_back(delivery)
    ids = {device.serial: device_id for device_id, device in reader.devices().items()}
    camera, recorder, voice = ids["CAM"], ids["REC"], ids["VOX"]
    assert sorted(order[:6]) == sorted([camera, recorder, voice] * 2)
    assert order.count(voice) == 5
    assert order.count(recorder) == 2


async def test_a_nearer_deadline_goes_before_a_fair_share(station: Station) -> None:
    lane = StoreLane(station)
    await bring(station, "CAM", 3, 10)
    first = await lane.take()
    await lane.store(first)
    lane.give_back(first)
    stamps = {"/1.MP4": Stamp("2026-11-18T09:00:00", 480)}
    urgent = {"/1.MP4": b"x" * 1000}
    await dock(station, FakeRecorder(urgent, station.vault.staging_dir, serial="CAM", filesystem_id="C", stamps=stamps))
    assert (await lane.take()).asset.expected_bytes == 1000


async def test_a_recorder_whose_files_all_wait_after_a_failure_does_not_stop_the_others(
    station: Station, clock: SettableClock
) -> None:
    await bring(station, "AAA", 2, 10)
    lane = StoreLane(station)
    for _ in range(2):
        delivery = await lane.take()
        await station.journal.failed(delivery.asset.asset_id, "away", clock() + timedelta(hours=1))
        lane.give_back(delivery)
    await bring(station, "BBB", 1, 20)
    station.limits = replace(station.limits, backoff_max_s=7200)
    assert (await lane.take()).asset.expected_bytes == 20


async def test_the_rate_is_that_of_what_was_sent_and_not_of_what_was_there(station: Station) -> None:
    lane = StoreLane(station)
    assert lane.rate_bytes_s() is None
    seconds = iter(range(1000))
    lane._flow = Flow(lambda: next(seconds))
    await bring(station, "REC", 1, 4000)
    delivery = await lane.take()
    delivery.found(3000)
    delivery.sent(3000)
    assert lane.rate_bytes_s() is None, "nothing moved yet"
    delivery.sent(3600)
    delivery.sent(3500)
    delivery.sent(4000)
    rate = lane.rate_bytes_s()
    assert rate is not None
    assert 0 < rate <= 1000
    lane.give_back(delivery)


def test_rest_is_no_slowness() -> None:
    now = 0.0
    flow = Flow(lambda: now)
    for _ in range(100):
        flow.busy()
        now += 10
        flow.add(1000)
        flow.idle()
        now += 3600
    assert flow.rate_bytes_s() == pytest.approx(100)


def test_a_line_that_became_slow_is_believed_after_a_few_minutes() -> None:
    now = 0.0
    flow = Flow(lambda: now)
    flow.busy()
    for size in [10_000] * 1000 + [100] * 400:
        now += 1
        flow.add(size)
    assert flow.rate_bytes_s() == pytest.approx(100)
