"""The lanes: what is urgent goes first, failures pause, a bug stays with its asset, docking storms do no harm."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from agent import durable
from agent.config import Runner as Pace
from agent.errors import JournalError, StoreError
from agent.journal import verify
from agent.journal.log import Log
from agent.model import (
    BLOCK_BYTES,
    Asset,
    AssetChanged,
    AssetState,
    Held,
    Phase,
    Receipt,
    Resumed,
    Stamp,
)
from agent.pipeline.acquire import End
from agent.pipeline.recover import census, recover
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.uploader.base import Errand
from tests.conftest import SettableClock
from tests.crashing import running
from tests.fakes import FakeRecorder, FakeStore, digests_of
from tests.stations import QUICK, dock, opened

BIG = bytes(range(251)) * (2 * BLOCK_BYTES // 251 + 9)
SMALL = {f"/{n:02}.MP4": b"clip %d" % n for n in range(12)}
LIMIT_S = 20.0


class Slow(FakeStore):
    """A store that shows who is in it at the same time, and lets nobody out before it is told to."""

    gate: asyncio.Event
    inside: list[str]

    async def put(self, held: Held, errand: Errand) -> Receipt:
        self.inside.append(held.asset_id)
        assert len(set(self.inside)) == len(self.inside), "two workers have the same asset"
        await self.gate.wait()
        self.inside.remove(held.asset_id)
        return await super().put(held, errand)


class Deaf(Slow):
    """As `Slow`, and can't be cancelled, as what hangs in the kernel can't."""

    async def put(self, held: Held, errand: Errand) -> Receipt:
        inner = asyncio.ensure_future(super().put(held, errand))
        while not inner.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(inner)
        return inner.result()


class Buggy(FakeStore):
    """A store with a bug that shows at one content."""

    async def put(self, held: Held, errand: Errand) -> Receipt:
        if held.path.read_bytes() == SMALL["/03.MP4"]:
            raise ValueError("division by cheese")
        return await super().put(held, errand)


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock) as station:
        yield station


def recorder(station: Station, files: dict[str, bytes] = SMALL, **switches: object) -> FakeRecorder:
    return FakeRecorder(dict(files), station.vault.staging_dir, **switches)  # type: ignore[arg-type]


def store_of(station: Station) -> FakeStore:
    assert isinstance(station.store, FakeStore)
    return station.store


def states(station: Station) -> dict[AssetState, int]:
    found = station.journal.reader.overview(station.clock()).assets
    return {state: tally.files for state, tally in found.items() if tally.files}


def assets(station: Station, state: AssetState) -> list[Asset]:
    return [view.asset for view in station.journal.reader.recordings(state=state, limit=100)]


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.002)


def phase(runner: Runner) -> Phase | None:
    return runner.slots()[0].phase if runner.slots() else None


def all_incidents(station: Station) -> list[str]:
    return [event.detail for event in station.journal.reader.events(limit=10_000) if event.kind == "incident"]


# The store lane.


async def test_the_earliest_deadline_is_stored_first(station: Station) -> None:
    days = [19, 12, 17, 11, 18]
    files = {f"/{day}.MP4": b"day %d" % day for day in days}
    await dock(
        station, recorder(station, files, stamps={f"/{d}.MP4": Stamp(f"2026-11-{d}T09:00:00", 480) for d in days})
    )
    async with running(station):
        await until(lambda: states(station) == {AssetState.STORED: 5})
    paths = {view.asset.asset_id: view.clip.path for view in station.journal.reader.recordings() if view.clip}
    assert [paths[asset_id] for asset_id in store_of(station).order] == [f"/{day}.MP4" for day in sorted(days)]


async def test_a_store_that_is_away_is_tried_for_ever_with_bounded_pauses(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pauses of lane and asset double up to their bound, and no number of failures makes a person necessary."""
    slept: list[float] = []
    sleep = asyncio.sleep

    async def asleep(seconds: float) -> None:
        slept.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", asleep)
    station.limits = Pace(attempts=3, backoff_base_s=5, backoff_max_s=900)
    await dock(station, recorder(station, {"/A.MP4": b"a"}))
    store_of(station).fail_before = 12
    lane = StoreLane(station)
    pauses = []
    for _ in range(12):
        delivery = await lane.take()
        await lane.store(delivery)
        lane.give_back(delivery)
        attempt = station.journal.reader.attempt(delivery.asset.asset_id)
        assert attempt is not None
        assert attempt.next_at is not None
        assert station.journal.reader.next_to_store(clock()) is None, "not before its time"
        pauses.append((attempt.next_at - clock()).total_seconds())
        clock.set(attempt.next_at + timedelta(seconds=1))
    bounded = [min(5.0 * 2**failures, 900.0) for failures in range(12)]
    assert pauses == bounded
    assert lane.error == "The store is away."
    await lane.store(await lane.take())
    assert (states(station), lane.error) == ({AssetState.STORED: 1}, "")
    assert [seconds for seconds in slept if seconds] == bounded, "the lane rests before each further try"


async def test_attempts_are_counted_before_the_work(tmp_path: Path, clock: SettableClock) -> None:
    """What kills the process again and again at one asset is stopped, with a reason, and a person can resume it."""
    async with opened(tmp_path / "root", clock) as station:
        await dock(station, recorder(station, {"/A.MP4": b"a"}))
        (asset,) = assets(station, AssetState.HELD)
        for _ in range(50):
            await station.journal.begun([asset.asset_id])  # and then the process died
        async with running(station) as (runner, _):
            await until(lambda: states(station) == {AssetState.STUCK: 1})
            assert "interrupted 50 times" in assets(station, AssetState.STUCK)[0].reason
            assert store_of(station).order == []
            await station.journal.record(AssetChanged(asset.asset_id, Resumed("Wang", "the power works again")))
            station.held_news.set()
            await until(lambda: states(station) == {AssetState.STORED: 1})
            assert runner.store_error == ""


async def test_a_refusal_needs_a_person_and_says_why(station: Station) -> None:
    store_of(station).refuse = True
    await dock(station, recorder(station, {"/A.MP4": b"a"}))
    async with running(station) as (runner, _):
        await until(lambda: states(station) == {AssetState.STUCK: 1})
        (asset,) = assets(station, AssetState.STUCK)
        assert (asset.reason, asset.resume_to) == ("The store refuses for good.", AssetState.HELD)
        assert runner.store_error == "The store refuses for good."


async def test_a_bug_in_a_step_stops_just_that_asset_and_keeps_its_traceback(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with opened(tmp_path / "root", clock, store=Buggy()) as station:
        await dock(station, recorder(station))
        async with running(station, workers=2):
            await until(lambda: states(station) == {AssetState.STORED: 11, AssetState.STUCK: 1})
        (asset,) = assets(station, AssetState.STUCK)
        assert "division by cheese" in asset.reason
        assert "Traceback" in asset.reason
        assert asset.digests == digests_of(SMALL["/03.MP4"])


async def test_two_workers_never_take_the_same_asset(tmp_path: Path, clock: SettableClock) -> None:
    store = Slow()
    store.gate, store.inside = asyncio.Event(), []
    async with opened(tmp_path / "root", clock, store=store) as station:
        await dock(station, recorder(station))
        async with running(station, workers=QUICK.store_workers):
            await until(lambda: len(store.inside) == 3)  # the fourth is kept for something more urgent
            store.gate.set()
            await until(lambda: states(station) == {AssetState.STORED: 12})
    assert len(store.order) == 12


async def test_a_journal_that_cannot_commit_for_a_moment_makes_nothing_stuck(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: the disk of the journal is full while an original is stored; afterwards everything goes on by itself."""
    await dock(station, recorder(station))
    refusals = iter(range(30))
    commit = type(station.journal).record

    async def record(*arguments: object) -> int:
        if next(refusals, None) is not None:
            raise JournalError("The journal could not commit.")
        return await commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(station.journal), "record", record)
    async with running(station, workers=2):
        await until(lambda: states(station) == {AssetState.STORED: 12})


async def test_a_journal_that_cannot_be_read_for_a_moment_stops_no_lane(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look for the next original fails a few times: it is told, looked for again with pauses, and then stored."""
    await dock(station, recorder(station))
    look = type(station.journal.reader).next_to_store
    refusals = iter(range(5))
    told: list[str] = []

    def failing(*arguments: object, **options: object) -> object:
        told.append(runner.store_error)
        if next(refusals, None) is not None:
            raise JournalError("The journal can't be read.")
        return look(*arguments, **options)  # type: ignore[arg-type]

    runner = Runner(station)
    monkeypatch.setattr(type(station.journal.reader), "next_to_store", failing)
    work = asyncio.create_task(runner.run(2, lambda: None))
    await until(lambda: work.done() or states(station) == {AssetState.STORED: 12})
    assert not work.done(), "all dockings died with it"
    assert told[5] == "The journal can't be read."
    await until(lambda: not runner.store_error)
    work.cancel()
    await asyncio.wait([work])


async def test_no_pause_is_part_of_an_attempt(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt has a limit, which the watchdog knows; a pause may be an hour, so it lies between the attempts."""
    station.limits = Pace(attempts=3, backoff_base_s=3600, backoff_max_s=3600)
    await dock(station, recorder(station, {"/A.MP4": b"a"}))
    lane = StoreLane(station)
    delivery = await lane.take()
    slept: list[float] = []

    async def refuse(*_: object) -> None:
        raise JournalError("The journal could not commit.")

    async def asleep(seconds: float) -> None:
        slept.append(seconds)

    with monkeypatch.context() as patch:
        patch.setattr(type(station.journal), "begun", refuse)
        patch.setattr(type(station.journal), "record", refuse)
        patch.setattr(asyncio, "sleep", asleep)
        await lane.store(delivery)
        await Runner(station)._stuck(delivery.asset, "a bug")
        assert slept == []
        assert lane.error == "The journal could not commit."
        lane.give_back(delivery)
        assert (await lane.take()).asset == delivery.asset
        assert slept == [3600]
    await lane.store(delivery)
    assert (states(station), lane.error) == ({AssetState.STORED: 1}, "")


# An original that is damaged in the vault.


async def test_a_damaged_original_is_kept_aside_and_healed_by_any_recorder_that_has_it(station: Station) -> None:
    await dock(station, recorder(station, {"/A.MP4": b"evidence", "/B.MP4": b"other"}))
    await dock(station, recorder(station, {"/COPY.MP4": b"evidence"}, serial="SN2"))
    (damaged,) = (path for digest, path, _ in station.vault.originals() if digest == digests_of(b"evidence").blake3)
    durable.make_mutable(damaged)
    damaged.chmod(0o600)
    damaged.write_bytes(b"evilence")
    async with running(station):
        await until(lambda: AssetState.STORED in states(station) and AssetState.STUCK in states(station))
    assert states(station) == {AssetState.STORED: 1, AssetState.STUCK: 1, AssetState.MATCHED: 1}
    assert [path.read_bytes() for path in station.vault.damaged_dir.iterdir()] == [b"evilence"]
    # It had only matched before: the journal knows its name, and nobody holds its bytes any more.
    assert await dock(station, recorder(station, {"/COPY.MP4": b"evidence"}, serial="SN2")) is End.COMPLETE
    async with running(station):
        await until(lambda: states(station).get(AssetState.STORED) == 2)
    assert AssetState.STUCK not in states(station)
    assert store_of(station).objects.keys() == {digests_of(b"evidence").blake3, digests_of(b"other").blake3}


async def test_other_footage_under_the_name_of_a_damaged_original_is_pulled_too(station: Station) -> None:
    await dock(station, recorder(station, {"/A.MP4": b"evidence"}))
    (asset,) = assets(station, AssetState.HELD)
    (damaged,) = (path for _, path, _ in station.vault.originals())
    damaged.chmod(0o600)
    damaged.write_bytes(b"evilence")
    async with running(station):
        await until(lambda: states(station) == {AssetState.STUCK: 1})
    assert await dock(station, recorder(station, {"/A.MP4": b"later on"})) is End.COMPLETE
    assert await dock(station, recorder(station, {"/A.MP4": b"evidence"})) is End.COMPLETE
    assert states(station) == {AssetState.HELD: 2, AssetState.MATCHED: 1}
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.HELD


async def test_a_stuck_original_does_not_stop_its_recorder(station: Station) -> None:
    """The store refused it for good; the recorder that brought it is docked again before anybody cared."""
    store_of(station).refuse = True
    await dock(station, recorder(station, {"/A.MP4": b"a"}))
    async with running(station):
        await until(lambda: states(station) == {AssetState.STUCK: 1})
    assert await dock(station, recorder(station, {"/A.MP4": b"a", "/B.MP4": b"b"})) is End.COMPLETE
    assert states(station) == {AssetState.STUCK: 1, AssetState.HELD: 1}
    last = station.journal.reader.dockings(limit=1)[0].accounting
    assert (last.pulled, last.already_held) == (1, 1)


# Slots.


async def test_docking_storms_end_with_everything_held_once(station: Station) -> None:
    """Docked and undocked faster than a docking can end, at two places, in any state."""
    files = [SMALL | {"/BIG.MP4": BIG[: BLOCK_BYTES + 5]}, {"/X.MP4": b"x"}]
    async with running(station) as (runner, _):

        def dock_both() -> None:
            for place in (0, 1):
                opener = partial(recorder, station, files[place], serial=f"S{place}")
                runner.dock(f"key {place}", f"slot {place}", opener)

        for turn in range(40):
            dock_both()
            for _ in range(turn % 7):
                await asyncio.sleep(0)
            runner.undock(f"key {turn % 2}")
        dock_both()
        await until(lambda: [slot.phase for slot in runner.slots()] == [Phase.FINISHED] * 2)
        await until(lambda: states(station) == {AssetState.STORED: 14})
    assert len(list(station.vault.originals())) == 14
    assert not list(station.vault.staging_dir.iterdir())
    assert station.journal.reader.open_dockings() == ()


async def test_a_recorder_that_comes_back_at_once_is_docked_again(station: Station) -> None:
    async with running(station) as (runner, _):
        runner.dock("key", "slot", lambda: recorder(station))
        await until(lambda: phase(runner) is Phase.READING)
        runner.undock("key")
        runner.dock("key", "slot", lambda: recorder(station))
        await until(lambda: phase(runner) is Phase.FINISHED)
        runner.undock("key")
        await until(lambda: not runner.slots())
    assert states(station).get(AssetState.WANTED) is None


async def test_an_undock_while_pulling_frees_the_slot_and_leaves_the_rest_on_the_recorder(station: Station) -> None:
    cards = []

    def opener() -> FakeRecorder:
        cards.append(recorder(station, {"/BIG.MP4": BIG}))
        return cards[-1]

    async with running(station) as (runner, _):
        runner.dock("key", "slot", opener)
        await until(lambda: cards and cards[0].read_bytes)
        runner.undock("key")
        await until(lambda: phase(runner) is Phase.UNPLUGGED)
        assert not runner.slots()[0].may_remove
        assert cards[0].closed
        assert station.journal.reader.dockings(limit=1)[0].accounting.left == 1
        runner.dock("key", "slot", opener)
        await until(lambda: phase(runner) is Phase.FINISHED)
    assert station.journal.reader.dockings(limit=1)[0].accounting.pulled == 1


async def test_a_recorder_that_the_kernel_waits_for_gets_no_crowd_of_helpers(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is docked again only when the helper that was killed is gone; meanwhile it is shown as failed."""
    monkeypatch.setattr("agent.pipeline.runner._BEAT_S", 0.01)
    station.limits = Pace(attempts=3, backoff_base_s=0.001, backoff_max_s=0.001)
    dockings = [recorder(station, unlistable="no answer for 30 s", hangs=True), recorder(station)]
    tried: list[FakeRecorder] = []

    def opener() -> FakeRecorder:
        tried.append(dockings[len(tried)])
        return tried[-1]

    async with running(station) as (runner, _):
        runner.dock("key", "slot", opener)
        await until(lambda: phase(runner) is Phase.FAILED)
        beats = runner.ticks()[0]
        await until(lambda: runner.ticks()[0] > beats + 20)
        assert (len(tried), phase(runner)) == (1, Phase.FAILED)
        tried[0].hangs = False
        await until(lambda: phase(runner) is Phase.FINISHED)
        assert len(tried) == 2


async def test_a_recorder_that_hangs_can_be_unplugged(station: Station) -> None:
    async with running(station) as (runner, _):
        runner.dock("key", "slot", lambda: recorder(station, unlistable="no answer for 30 s", hangs=True))
        await until(lambda: phase(runner) is Phase.FAILED)
        runner.undock("key")
        await until(lambda: phase(runner) is Phase.UNPLUGGED)


async def test_a_bug_while_docking_is_told_and_the_other_recorders_go_on(station: Station) -> None:
    def broken() -> FakeRecorder:
        card = recorder(station)
        card.files = None  # type: ignore[assignment]
        return card

    station.limits = Pace(attempts=3, backoff_base_s=100, backoff_max_s=100)
    async with running(station) as (runner, _):
        runner.dock("bad", "slot 1", broken)
        runner.dock("good", "slot 2", lambda: recorder(station))
        await until(lambda: [slot.phase for slot in runner.slots()] == [Phase.FAILED, Phase.FINISHED])
        assert runner.slots()[0].message == "internal error"
    assert any("AttributeError" in detail for detail in all_incidents(station))


@pytest.mark.parametrize("turns", [0, 1, 3, 10, 30, 100, 300, 1000])
async def test_a_cancelled_runner_leaves_nothing_half_done(tmp_path: Path, clock: SettableClock, turns: int) -> None:
    """No task, thread or descriptor is left (the fixtures look), and the next start goes on."""
    root = tmp_path / "root"
    files = SMALL | {"/BIG.MP4": BIG[: BLOCK_BYTES + 5]}
    async with opened(root, clock) as station, running(station) as (runner, _):
        runner.dock("key", "slot", lambda: recorder(station, files))
        for _ in range(turns):
            await asyncio.sleep(0)
    async with opened(root, clock) as station, running(station) as (runner, _):
        runner.dock("key", "slot", lambda: recorder(station, files))
        await until(lambda: states(station) == {AssetState.STORED: 13})
        await until(lambda: phase(runner) is Phase.FINISHED)
    assert verify(root / "journal.db").consistent


# Start, census, watchdog.


async def test_recovery_finishes_what_was_read_back(station: Station) -> None:
    """The process died between the note and the name, or between the name and the commit."""
    await dock(station, recorder(station, {"/A.MP4": b"a", "/B.MP4": b"b"}, gone_after_bytes=0))
    wanted = assets(station, AssetState.WANTED)
    for asset, content in zip(wanted, (b"1", b"2"), strict=True):
        (station.vault.staging_dir / station.vault.part_name(asset.asset_id)).write_bytes(content)
        settled = station.vault.settle([(asset.asset_id, 1, digests_of(content).blake3)])
        await station.journal.settled([(settled[0], ())])
        if content == b"2":
            station.vault.keep(settled)
    await recover(station)
    assert states(station) == {AssetState.HELD: 2}
    assert station.journal.reader.settled() == ()
    assert not list(station.vault.staging_dir.iterdir())


async def test_recovery_gives_up_a_part_that_changed_and_the_recorder_brings_it_again(station: Station) -> None:
    await dock(station, recorder(station, {"/A.MP4": b"a"}, gone_after_bytes=0))
    (asset,) = assets(station, AssetState.WANTED)
    part = station.vault.staging_dir / station.vault.part_name(asset.asset_id)
    part.write_bytes(b"a")
    await station.journal.settled([(station.vault.settle([(asset.asset_id, 1, digests_of(b"a").blake3)])[0], ())])
    part.write_bytes(b"?")
    await recover(station)
    assert any("part-lost" in detail for detail in all_incidents(station))
    assert await dock(station, recorder(station, {"/A.MP4": b"a"})) is End.COMPLETE
    assert states(station) == {AssetState.HELD: 1}


async def test_a_part_that_the_disk_refuses_at_the_start_waits_for_the_next_start(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One part with an error of our own disk must not keep the station from starting: it is told, and kept."""
    await dock(station, recorder(station, {"/A.MP4": b"a"}, gone_after_bytes=0))
    (asset,) = assets(station, AssetState.WANTED)
    (station.vault.staging_dir / station.vault.part_name(asset.asset_id)).write_bytes(b"a")
    await station.journal.settled([(station.vault.settle([(asset.asset_id, 1, digests_of(b"a").blake3)])[0], ())])

    def refuse(*_: object) -> None:
        raise StoreError("The vault's disk refused it: read-only file system.")

    with monkeypatch.context() as patch:
        patch.setattr(type(station.vault), "keep", refuse)
        async with running(station) as (runner, _):
            await until(lambda: all(tick > 0 for tick in runner.ticks()))
    assert any("part-waits" in detail and "read-only" in detail for detail in all_incidents(station))
    assert len(station.journal.reader.settled()) == 1
    await recover(station)
    assert states(station) == {AssetState.HELD: 1}


async def test_the_census_adopts_what_no_row_knows_and_reports_what_is_damaged(station: Station) -> None:
    for name, content in ((digests_of(b"stray").blake3, b"stray"), (digests_of(b"good").blake3, b"evil")):
        path = station.vault.address(name)
        path.parent.mkdir()
        path.write_bytes(content)
    async with running(station):
        await until(lambda: states(station) == {AssetState.STORED: 1})
        await until(lambda: any("vault-damaged" in detail for detail in all_incidents(station)))
    assert store_of(station).objects == {digests_of(b"stray").blake3: b"stray"}
    (adopted,) = station.journal.reader.recordings()
    assert adopted.clip is None


async def test_the_census_reads_without_holding_up_a_docking_and_adopts_nothing_twice(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stray is being read when a recorder brings the same bytes: the docking ends first, and the stray is its."""
    path = station.vault.address(digests_of(b"stray").blake3)
    path.parent.mkdir()
    path.write_bytes(b"stray")
    reading, go_on = threading.Event(), threading.Event()
    examine = type(station.vault).examine

    def slow(*arguments: object) -> Held:
        reading.set()
        assert go_on.wait(LIMIT_S)
        return examine(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(station.vault), "examine", slow)
    counting = asyncio.create_task(census(station))
    try:
        await until(reading.is_set)
        async with asyncio.timeout(LIMIT_S / 2):
            assert await dock(station, recorder(station, {"/A.MP4": b"stray"})) is End.COMPLETE
    finally:
        go_on.set()
        await counting
    (view,) = station.journal.reader.recordings()
    assert (view.asset.state, view.clip is not None) == (AssetState.HELD, True)


async def test_a_disk_pool_that_does_not_answer_stops_the_heartbeat(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that hangs takes one thread after the other: the watchdog must see it, only a new start helps."""
    monkeypatch.setattr("agent.pipeline.runner._BEAT_S", 0.001)
    stop = threading.Event()
    async with running(station) as (runner, _):
        await until(lambda: runner.ticks()[0] > 3)
        hung = [asyncio.create_task(station.on_disk(stop.wait, LIMIT_S)) for _ in range(8)]
        try:
            for _ in range(20):  # a heartbeat that was under way may still end
                await asyncio.sleep(0.002)
            before = runner.ticks()[0]
            for _ in range(20):
                await asyncio.sleep(0.002)
            assert runner.ticks()[0] == before
        finally:
            stop.set()
            await asyncio.wait(hung)
        await until(lambda: runner.ticks()[0] > before)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_journal_whose_writer_has_ended_ends_the_process(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the writer's thread leaves a daemon that can claim nothing any more: systemd must start it again."""

    def bug(*_: object) -> None:
        raise ValueError("division by cheese")

    work = asyncio.create_task(Runner(station).run(1, lambda: None))
    assert station.journal.is_alive()
    monkeypatch.setattr(Log, "commit", bug)
    with pytest.raises(JournalError):
        await station.journal.begun(["a"])
    await asyncio.wait([work], timeout=LIMIT_S)
    with pytest.raises(ExceptionGroup, match="unhandled") as caught:
        work.result()
    assert caught.group_contains(RuntimeError, match="writer has ended")


async def test_the_watchdog_is_fed_only_while_every_lane_moves(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service compares these counters: one that stands still stops the feeding."""
    monkeypatch.setattr("agent.pipeline.storing._STALL_LIMIT_S", 0.02)
    monkeypatch.setattr("agent.pipeline.storing._CANCEL_LIMIT_S", 0.02)
    store = Deaf()
    store.gate, store.inside = asyncio.Event(), []

    async with opened(tmp_path / "root", clock, store=store) as station, running(station) as (runner, _):

        def grows() -> list[bool]:
            return [new > old for new, old in zip(runner.ticks(), before, strict=True)]

        before = runner.ticks()
        await until(lambda: all(grows()))
        await dock(station, recorder(station, {"/A.MP4": b"a"}))
        await until(lambda: store.inside)
        await until(lambda: len({runner.ticks()[1] for _ in range(3)}) == 1)  # each look would make it grow
        before = runner.ticks()
        await until(lambda: grows() == [True, False])
        store.gate.set()
        await until(lambda: all(grows()))
