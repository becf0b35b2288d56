"""A whole station in trouble: full disks, a store that is away, unreadable recorders; none is lost or called done."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.model import AssetState, Phase, SlotProgress
from agent.pipeline.acquire import Docking, End
from agent.pipeline.progress import Meter
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.uploader.directory_errors import MARKER
from simulator.card import Card
from simulator.content import Noise
from tests.cards import (
    MIB,
    accounts,
    assert_not_done,
    card,
    docked,
    driver,
    expected,
    held,
    image,
    incidents,
    newest,
    said,
    stored,
)
from tests.conftest import SettableClock
from tests.disks import ext4, faulty_image, fill, mounted
from tests.shares import OwnProcessStore, made
from tests.stations import opened

FILES = {f"DCIM/{n:04}.MP4": Noise(700_000 + n, n) for n in range(1, 9)}
OTHER = {f"DCIM/{n:04}.MP4": Noise(800_000 + n, 50 + n) for n in range(1, 9)}
LIMIT_S = 60.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of the lanes, without the waiting."""
    monkeypatch.setattr("agent.pipeline.room._SPACE_CHECK_S", 0.02)
    monkeypatch.setattr("agent.pipeline.storing._LOOK_AGAIN_S", 0.02)


@asynccontextmanager
async def running(station: Station) -> AsyncIterator[Runner]:
    """The lanes at work."""
    runner = Runner(station)
    ready = asyncio.Event()
    work = asyncio.create_task(runner.run(2, ready.set))
    await ready.wait()
    try:
        yield runner
    finally:
        work.cancel()
        await asyncio.wait([work])


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.01)


def states(station: Station) -> dict[AssetState, int]:
    found = station.journal.reader.overview(station.clock()).assets
    return {state: tally.files for state, tally in found.items() if tally.files}


# F20, F21: no space, no store.


@pytest.mark.root
@pytest.mark.usefixtures("impatient")
async def test_a_full_disk_and_seven_days_without_the_store_cost_not_one_original(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F20, F21: filled from outside to the last byte; every original stays, and all recovers unaided."""
    first, second = image(tmp_path / "a.img", dict(FILES)), image(tmp_path / "b.img", dict(OTHER))
    away = tmp_path / "store"
    away.mkdir()
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 48 * MIB):
        root = tmp_path / "disk" / "station"
        store = OwnProcessStore("s", {"path": str(away)}, vault_root=root)
        async with opened(root, clock, store=store) as station, running(station) as runner:
            runner.dock("a", "1", lambda: driver(station, first))
            await until(lambda: runner.slots()[0].may_remove)
            originals = held(station)
            assert set(originals.values()) == {content.read() for content in FILES.values()}
            filler = fill(tmp_path / "disk")
            runner.dock("b", "2", lambda: driver(station, second))
            await until(lambda: runner.slots()[1].phase in {Phase.NO_SPACE, Phase.FAILED})
            for _ in range(7 * 8):
                clock.advance(3 * 3600)
                await asyncio.sleep(0.01)
                assert not runner.slots()[1].may_remove
            await until(lambda: runner.store_error)
            await assert_not_done(station, runner.slots()[1])
            status, text = await said(station, runner.slots()[1], runner.store_error)
            assert status["health"]["name"] == "failed"
            assert status["counters"]["assets"]["stored"]["files"] == 0
            assert "不可用" in text
            assert held(station) == originals, "an original was given up"
            filler.unlink()
            with mounted(away, "-t", "tmpfs", "-o", "size=64m", "tmpfs"):
                made(away)
                await until(lambda: runner.slots()[1].may_remove)
                clock.advance(3600)
                await until(lambda: states(station) == {AssetState.STORED: len(FILES) + len(OTHER)})
                assert {path.name for path in (away / "originals").rglob("*") if path.is_file()} == set(held(station))
            assert set(originals) < set(held(station))


@pytest.mark.root
@pytest.mark.usefixtures("impatient")
async def test_a_disk_without_inodes_is_waited_for_and_said(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: free bytes are there, but the disk takes no new file: no busy loop, no lie, and it goes on later."""
    path = image(tmp_path / "a.img", dict(FILES))
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 48 * MIB):
        async with opened(tmp_path / "disk" / "station", clock) as station:
            hoard = tmp_path / "disk" / "hoard"
            hoard.mkdir()
            with contextlib.suppress(OSError):
                for number in range(1 << 20):
                    (hoard / str(number)).touch()
            assert os.statvfs(hoard).f_favail == 0
            begun: list[int] = []
            real = station.journal.begun

            async def count(assets: list[str]) -> list[int]:
                begun.append(len(assets))
                if len(begun) == 3:
                    shutil.rmtree(hoard)
                return await real(assets)

            monkeypatch.setattr(station.journal, "begun", count)
            shown: list[SlotProgress] = []
            meter = Meter("1", "card", shown.append)
            assert await Docking(station, driver(station, path), "1", meter).run() is End.COMPLETE
            full = [progress for progress in shown if progress.phase is Phase.NO_SPACE]
            assert len(full) >= 2
            await assert_not_done(station, full[0])
            assert len([detail for detail in incidents(station) if "storage-full" in detail]) == 1
            assert accounts(station) == {"pulled": len(FILES)}


@pytest.mark.root
@pytest.mark.usefixtures("impatient")
async def test_a_store_that_fills_up_and_one_that_fails_are_never_believed(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21: ENOSPC and EIO while the store writes; nothing is stored, nothing half-done lies there, it goes on later."""
    path = image(tmp_path / "a.img", dict(FILES))
    with ext4(tmp_path / "store", tmp_path / "store.img", 48 * MIB):
        objects = tmp_path / "store" / "objects"
        root = tmp_path / "station"
        store = OwnProcessStore("s", {"path": str(made(objects))}, vault_root=root)
        async with opened(root, clock, store=store) as station:
            await docked(station, path)
            monkeypatch.setattr("agent.uploader.directory_share._RESERVE_BYTES", -(1 << 40))  # let it run into the wall
            filler = fill(tmp_path / "store")
            await _fails_once(station)
            filler.unlink()
            write = os.write
            monkeypatch.setattr("agent.uploader.directory_share.write_all", _failing(errno.EIO))
            await _fails_once(station)
            monkeypatch.undo()
            assert os.write is write
            assert {found.name for found in objects.rglob("*") if found.is_file()} == {MARKER}
            assert states(station) == {AssetState.HELD: len(FILES)}
            await stored(station)
            assert states(station) == {AssetState.STORED: len(FILES)}


def _failing(code: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


async def _fails_once(station: Station) -> None:
    from agent.pipeline.storing import StoreLane

    lane = StoreLane(station)
    asset = await lane.take()
    await lane.store(asset)
    lane.give_back(asset)
    assert lane.error


@pytest.mark.usefixtures("impatient")
async def test_an_original_that_was_damaged_here_is_kept_aside_and_needs_a_person(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F25: damaged before it was stored: never stored, never forgotten, and said."""
    path = image(tmp_path / "a.img", {"A.MP4": Noise(90_000, 1)})
    store = made(tmp_path / "store")
    root = tmp_path / "root"
    objects = OwnProcessStore("s", {"path": str(store)}, vault_root=root)
    async with opened(root, clock, store=objects) as station:
        _, shown = await docked(station, path)
        ((_, original, _),) = list(station.vault.originals())
        original.chmod(0o640)
        original.write_bytes(b"x" * 90_000)
        await stored(station)
        assert states(station) == {AssetState.STUCK: 1}
        assert {found.name for found in store.rglob("*") if found.is_file()} == {MARKER}
        assert len(list(station.vault.damaged_dir.iterdir())) == 1
        status, text = await said(station, shown)
        assert status["counters"]["assets"]["stored"]["files"] == 0
        assert status["at_risk"][0]["state"]["name"] == "stuck"
        assert "需要处理" in text
        _, shown = await docked(station, path)
        assert shown.may_remove, "the recorder still has it: it is pulled again"
        assert held(station) == expected(Noise(90_000, 1).read())
        await stored(station)
        assert states(station)[AssetState.STORED] == 1
        assert AssetState.STUCK not in states(station)


# F25: nothing that failed looks like something that succeeded.

Scenario = Callable[[Station, Path], Awaitable[SlotProgress]]


async def yank(station: Station, folder: Path) -> SlotProgress:
    recorder = driver(station, image(folder / "card.img", dict(FILES)))
    pulls: list[asyncio.Task[None]] = []

    def publish(progress: SlotProgress) -> None:
        if progress.bytes_done and not pulls:
            docking.unplugged()
            pulls.append(asyncio.create_task(recorder.unplugged()))

    meter = Meter("1", "card", publish)
    docking = Docking(station, recorder, "1", meter)
    await docking.run()
    await asyncio.gather(*pulls)
    return meter.state


async def noise(station: Station, folder: Path) -> SlotProgress:
    path = folder / "noise.img"
    path.write_bytes(Noise(MIB, 3).read())
    return (await docked(station, path))[1]


async def missing(station: Station, folder: Path) -> SlotProgress:
    return (await docked(station, folder / "nothing.img"))[1]


async def nothing_but_a_table(station: Station, folder: Path) -> SlotProgress:
    path = folder / "empty.img"
    with path.open("wb") as file:
        file.truncate(MIB)
    return (await docked(station, path))[1]


async def refused_entry(station: Station, folder: Path) -> SlotProgress:
    made = card(folder / "card.img", dict(FILES))
    made.corrupt_start("DCIM/0003.MP4", 0x0FFFFF00)
    made.finish()
    made.close()
    shown = (await docked(station, made.path))[1]
    assert accounts(station) == {"pulled": len(FILES) - 1, "refused": 1}
    assert (shown.files_total, shown.files_done) == (len(FILES), len(FILES)), "what was refused was seen, too"
    return shown


async def damaged_folder(station: Station, folder: Path) -> SlotProgress:
    made = card(folder / "card.img", dict(FILES))
    made.corrupt_directory("DCIM")
    made.close()
    return (await docked(station, made.path))[1]


async def folder_behind_the_end(station: Station, folder: Path) -> SlotProgress:
    made = card(folder / "card.img", dict(FILES) | {"TOP.MP4": Noise(5000, 9)})
    made.corrupt_start("DCIM", 0x0FFFFF00)
    made.finish()
    made.close()
    shown = (await docked(station, made.path))[1]
    assert accounts(station) == {"pulled": 1}
    return shown


async def unreadable_folder(station: Station, folder: Path) -> SlotProgress:
    made = card(folder / "card.img", dict(FILES) | {"TOP.MP4": Noise(5000, 9)})
    ((offset, _),) = made.extents(made.node("DCIM"))
    made.close()
    with faulty_image(made.path, folder / "fuse") as served:
        served.fail(bad=[[offset, 512]])
        return (await docked(station, served.path))[1]


async def bad_sectors(station: Station, folder: Path) -> SlotProgress:
    made = card(folder / "card.img", dict(FILES))
    offset = made.extents(made.node("DCIM/0003.MP4"))[0][0]
    made.close()
    with faulty_image(made.path, folder / "fuse") as served:
        served.fail(bad=[[offset + 4096, 512]])
        shown = (await docked(station, served.path))[1]
    assert accounts(station) == {"pulled": len(FILES) - 1, "unreadable": 1}
    return shown


async def dying_recorder(station: Station, folder: Path) -> SlotProgress:
    path = image(folder / "card.img", dict(FILES))
    with faulty_image(path, folder / "fuse") as served:

        def die(progress: SlotProgress) -> None:
            if progress.phase is Phase.READING:
                served.fail(code=errno.EIO)

        return (await docked(station, served.path, die))[1]


async def truncated_card(station: Station, folder: Path) -> SlotProgress:
    made = card(folder / "card.img", dict(FILES))
    made.truncate(20 * MIB)
    made.close()
    return (await docked(station, made.path))[1]


async def second_volume_unread(station: Station, folder: Path) -> SlotProgress:
    """A partition that nobody here can read lies behind the one that was read."""
    with Card.fat32(folder / "card.img", 64 * MIB, cluster_bytes=4096, mbr=True) as made:
        made.add("A.MP4", Noise(5000, 1))
    size = made.path.stat().st_size
    with made.path.open("r+b") as file:
        os.pwrite(file.fileno(), bytes([0, 0, 0, 0, 0x83, 0, 0, 0]), 446 + 16)
        os.pwrite(file.fileno(), (size // 512).to_bytes(4, "little") + (2048).to_bytes(4, "little"), 446 + 16 + 8)
        file.truncate(size + MIB)
        os.pwrite(file.fileno(), Noise(MIB, 4).read(), size)
    shown = (await docked(station, made.path))[1]
    assert accounts(station) == {"pulled": 1}
    return shown


SCENARIOS = (
    yank, noise, missing, nothing_but_a_table, refused_entry, damaged_folder, folder_behind_the_end, unreadable_folder,
    bad_sectors, dying_recorder, truncated_card, second_volume_unread,
)  # fmt: skip


@pytest.mark.root
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_no_screen_and_no_answer_says_done_after(
    tmp_path: Path, clock: SettableClock, scenario: Scenario
) -> None:
    """F25: status endpoint, slot view, `status` and `pull` all disagree with "done"."""
    async with opened(tmp_path / "root", clock) as station:
        shown = await scenario(station, tmp_path)
        await assert_not_done(station, shown)
        assert shown.phase in {Phase.FAILED, Phase.UNPLUGGED}
        if shown.docking_id:
            accounts(station)
            assert newest(station).closed_at is not None


async def test_the_same_card_unharmed_is_called_done(tmp_path: Path, clock: SettableClock) -> None:
    """The other side of the above: the checks are able to say yes, and the endpoint says it as the slot does."""
    async with opened(tmp_path / "root", clock) as station:
        _, shown = await docked(station, image(tmp_path / "card.img", dict(FILES)))
        status, text = await said(station, shown)
        assert status["slots"][0]["may_remove"]
        assert "可以取走" in text
        with pytest.raises(AssertionError):
            await assert_not_done(station, shown)
        assert held(station) == expected(*(content.read() for content in FILES.values()))
