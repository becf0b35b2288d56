"""The scrub: every held file is read again from the medium, in rounds, and what is damaged is put aside and told."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import time, timedelta
from pathlib import Path

import pytest

from agent import durable
from agent.config import Scrub
from agent.deadline import ZONE
from agent.errors import StoreError
from agent.model import Asset, AssetState, Scrubbed
from agent.pipeline import scrubbing
from agent.pipeline.runner import Runner
from agent.pipeline.scrubbing import ScrubLane
from agent.pipeline.station import Station
from agent.status.scrub import scrub_fact, scrub_view
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.journal_entries import assert_consistent
from tests.stations import QUICK, dock, opened

FILES = {f"/{number}.MP4": b"footage %d" % number * 50 for number in range(6)}
MONTH = timedelta(days=31)


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock) as station:
        station.limits = replace(QUICK, probe_pause_s=0)
        station.scrub = Scrub(limit_bytes_s=10**11)
        await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
        yield station
        assert_consistent(tmp_path / "root" / "journal.db")


async def steps(lane: ScrubLane, number: int) -> None:
    for _ in range(number):
        await lane.step()


def lane_of(station: Station, *, busy: bool = False) -> ScrubLane:
    return ScrubLane(station, lambda: busy)


def held(station: Station) -> list[Asset]:
    return list(station.journal.reader.known_bytes("", 100))


def path_of(station: Station, asset: Asset) -> Path:
    assert asset.digests is not None
    return station.vault.address(asset.digests.blake3)


def change(path: Path) -> None:
    """One bit, by somebody with the rights of root; size and times stay."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(content)


def told(station: Station) -> list[tuple[str, str]]:
    return [(event.kind, event.subject) for event in station.journal.reader.events(0, 1000)]


async def test_nothing_is_read_before_it_is_a_round_old(station: Station, clock: SettableClock) -> None:
    lane = lane_of(station)
    await steps(lane, 3)
    assert (lane.progress.files, lane.progress.full_at) == (0, None)
    clock.now += timedelta(days=29)
    await steps(lane, 3)
    assert lane.progress.files == 0
    clock.now += timedelta(days=2)
    await steps(lane, 3)
    assert lane.progress.files == 3


async def test_a_round_reads_all_and_tells_when_it_is_over(station: Station, clock: SettableClock) -> None:
    clock.now += MONTH
    began, lane = clock.now, lane_of(station)
    await steps(lane, len(FILES) + 1)
    last = station.journal.reader.last_scrub(complete=True)
    assert last is not None
    size = sum(map(len, FILES.values()))
    ids = [asset.asset_id for asset in held(station)]
    assert last.told == Scrubbed("", ids[-1], began, began, len(FILES), size, 0, complete=True)
    assert (lane.progress.full_files, lane.progress.full_damaged, lane.progress.files) == (len(FILES), 0, 0)
    assert lane.progress.full_at == clock.now
    events = len(told(station))
    await steps(lane, 3)
    assert len(told(station)) == events, "the next round waits"
    assert all(station.journal.reader.last_good(name) == began for name in ids)


async def test_the_next_round_comes_when_it_is_due_and_after_a_restart_too(
    station: Station, clock: SettableClock
) -> None:
    clock.now += MONTH
    lane = lane_of(station)
    await steps(lane, len(FILES) + 1)
    for _ in range(2):
        clock.now += timedelta(days=29)
        lane = lane_of(station)
        await steps(lane, 2)
        assert (lane.progress.files, lane.progress.full_files) == (0, len(FILES))
        clock.now += timedelta(days=2)
        await steps(lane, len(FILES) + 1)
        last = station.journal.reader.last_scrub(complete=True)
        assert last is not None
        assert last.told.round_at == clock.now


@pytest.mark.parametrize("told_each", [1, 4])
async def test_a_restart_goes_on_behind_what_was_told(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, told_each: int
) -> None:
    monkeypatch.setattr(scrubbing, "_TOLD_FILES", told_each)
    clock.now += MONTH
    await steps(lane_of(station), 5)
    again = lane_of(station)
    await again.step()
    assert again.progress.files == {1: 6, 4: 5}[told_each]
    await steps(again, {1: 1, 4: 2}[told_each])
    assert again.progress.full_files == len(FILES)
    scrubs = [event for event in station.journal.reader.events(0, 1000) if event.kind == "scrubbed"]
    assert len(scrubs) == {1: 7, 4: 2}[told_each]


async def test_a_long_round_tells_how_far_it_is(station: Station, clock: SettableClock) -> None:
    clock.now += MONTH
    lane = lane_of(station)
    for _ in FILES:
        clock.now += timedelta(minutes=10)
        await lane.step()
    assert [kind for kind, _ in told(station)].count("scrubbed") == 2
    times = [station.journal.reader.last_good(asset.asset_id) for asset in held(station)]
    assert times == sorted(times, key=str)
    assert len(set(times)) == 2, "so closely is it known when each file was still good"


async def test_a_changed_bit_is_found_put_aside_and_told(station: Station, clock: SettableClock) -> None:
    victim = held(station)[2]
    change(path_of(station, victim))
    clock.now += MONTH
    lane = lane_of(station)
    await steps(lane, len(FILES) + 1)
    assert (lane.progress.full_files, lane.progress.full_damaged) == (len(FILES), 1)
    now = station.journal.reader.asset(victim.asset_id)
    assert now.state is AssetState.STUCK
    assert "does not give back what was written" in now.reason
    assert len(list(station.vault.damaged_dir.iterdir())) == 1
    assert not path_of(station, victim).exists()
    assert [subject for kind, subject in told(station) if kind == "damaged"] == [victim.asset_id]
    await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
    assert station.journal.reader.asset(victim.asset_id).state is AssetState.HELD, "its recorder has it yet"
    clock.now += MONTH
    await steps(lane, len(FILES) + 1)
    assert (lane.progress.full_files, lane.progress.full_damaged) == (len(FILES), 0)


@pytest.mark.root
async def test_what_root_edits_under_the_seal_is_found(tmp_path: Path, clock: SettableClock) -> None:
    """The flag is cleared, a bit is changed, the flag is set again: only reading shows it."""
    async with opened(tmp_path / "root", clock, seal=True) as station:
        station.limits, station.scrub = replace(QUICK, probe_pause_s=0), Scrub(limit_bytes_s=10**11)
        await dock(station, FakeRecorder({"/A.MP4": b"footage" * 99}, station.vault.staging_dir))
        (asset,) = held(station)
        path = path_of(station, asset)
        assert durable.make_mutable(path)
        times = path.stat()
        change(path)
        path.chmod(0o440)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert durable.make_immutable(path)
        clock.now += MONTH
        await steps(lane := lane_of(station), 2)
        assert (lane.progress.full_files, lane.progress.full_damaged) == (1, 1)
        assert not path.exists()


@pytest.mark.parametrize("harm", ["removed", "another file", "a link", "shorter", "longer", "a folder"])
async def test_whatever_is_done_to_a_file_is_found(station: Station, clock: SettableClock, harm: str) -> None:
    victim, other = held(station)[1], path_of(station, held(station)[4])
    path = path_of(station, victim)
    content, beside = path.read_bytes(), other.read_bytes()
    path.unlink()
    if harm == "another file":
        path.write_bytes(other.read_bytes())
    elif harm == "a link":
        path.symlink_to(other)
    elif harm == "a folder":
        path.mkdir()
    elif harm != "removed":
        path.write_bytes(content[:-1] if harm == "shorter" else content + b"\0")
    clock.now += MONTH
    lane = lane_of(station)
    await steps(lane, len(FILES) + 1)
    assert lane.progress.full_damaged == 1
    assert station.journal.reader.asset(victim.asset_id).state is AssetState.STUCK
    assert other.read_bytes() == beside, "the other one is as it was"


async def test_a_vault_that_is_gone_damages_nothing(station: Station, clock: SettableClock) -> None:
    """An unmounted vault must not make thousands of recordings damaged; what comes back is read on."""
    folder = station.vault.originals_dir
    folder.rename(folder.with_name("away"))
    clock.now += MONTH
    lane = lane_of(station)
    for _ in range(3):
        with pytest.raises(StoreError, match="mounted over"):
            await lane.step()
    await steps(lane, 3)
    assert "many files in a row can't be read" in lane.progress.trouble
    assert {asset.state for asset in held(station)} == {AssetState.HELD}
    folder.with_name("away").rename(folder)
    await steps(lane, len(FILES) + 1)
    assert (lane.progress.full_files, lane.progress.full_damaged) == (len(FILES), 0)


async def test_a_disk_that_gives_nothing_damages_no_more_than_a_few(station: Station, clock: SettableClock) -> None:
    """The names are there, and all reading fails: that is no damage of each."""
    for asset in held(station):
        path_of(station, asset).rename(path_of(station, asset).with_suffix(".away"))
        path_of(station, asset).symlink_to("/nonexistent")
    clock.now += MONTH
    lane = lane_of(station)
    await steps(lane, 3 * len(FILES))
    here = held(station)
    assert [asset.state for asset in here].count(AssetState.STUCK) == 3
    assert "many files in a row can't be read" in lane.progress.trouble
    assert lane.progress.full_at is None, "nobody says that all was read"
    for asset in here:
        if asset.state is AssetState.HELD:
            path_of(station, asset).unlink()
            path_of(station, asset).with_suffix(".away").rename(path_of(station, asset))
    await steps(lane, len(FILES))
    assert (lane.progress.trouble, lane.progress.full_files, lane.progress.full_damaged) == ("", len(FILES), 3)


async def test_many_changed_files_are_all_told(station: Station, clock: SettableClock) -> None:
    for asset in held(station):
        change(path_of(station, asset))
    clock.now += MONTH
    lane = lane_of(station)
    await steps(lane, len(FILES) + 1)
    assert (lane.progress.full_damaged, lane.progress.trouble) == (len(FILES), "")


async def test_what_is_kept_once_for_two_is_read_once_and_what_is_not_here_is_not_read(
    station: Station, clock: SettableClock
) -> None:
    """A file that is pulled again under another name belongs to the asset that has it."""
    twin = FakeRecorder({"/COPY.MP4": FILES["/0.MP4"]}, station.vault.staging_dir, serial="SN2")
    await dock(station, twin)
    kinds = [event.kind for event in station.journal.reader.events(0, 1000)]
    assert kinds.count("matched") == 1
    clock.now += MONTH
    lane = lane_of(station)
    await steps(lane, len(FILES) + 1)
    assert (lane.progress.full_files, lane.progress.full_damaged) == (len(FILES), 0)


async def test_it_waits_for_its_hours_and_while_a_recorder_is_read(station: Station, clock: SettableClock) -> None:
    clock.now = (clock.now + MONTH).astimezone(ZONE).replace(hour=12, minute=0)
    station.scrub = replace(station.scrub, hours=((time(19), time(7)),))
    lane = lane_of(station)
    await steps(lane, 3)
    assert lane.progress.files == 0
    clock.now = clock.now.replace(hour=20)
    busy = lane_of(station, busy=True)
    await steps(busy, 3)
    assert busy.progress.files == 0
    await lane.step()
    assert lane.progress.files == 1
    station.scrub = replace(station.scrub, enabled=False)
    await steps(lane, 3)
    assert lane.progress.files == 1


async def test_a_clock_that_was_set_back_holds_nothing_up(station: Station, clock: SettableClock) -> None:
    clock.now += MONTH
    lane = lane_of(station)
    await steps(lane, len(FILES) + 1)
    clock.now -= timedelta(days=4000)
    await steps(lane, len(FILES) + 1)
    assert lane.progress.full_at == clock.now


async def test_it_reads_no_faster_than_it_may(station: Station, clock: SettableClock, tmp_path: Path) -> None:
    """A block takes as long as it must by the limit, whatever the disk could do; a short file its share of a second."""
    clock.now += MONTH
    lane, loop = lane_of(station), asyncio.get_running_loop()
    station.scrub = replace(station.scrub, limit_bytes_s=5_000)
    began_s = loop.time()
    await steps(lane, 2)
    assert loop.time() - began_s >= 2 * len(FILES["/0.MP4"]) / 5_000


async def test_an_empty_station_waits(tmp_path: Path, clock: SettableClock) -> None:
    async with opened(tmp_path / "empty", clock) as station:
        station.limits, station.scrub = replace(QUICK, probe_pause_s=0), Scrub()
        lane = lane_of(station)
        for _ in range(3):
            await lane.step()
            clock.now += MONTH
        assert station.journal.reader.log_size() == 0


async def test_it_runs_beside_the_other_lanes_and_ends_when_it_is_told(station: Station, clock: SettableClock) -> None:
    clock.now += MONTH
    runner = Runner(station)
    work = asyncio.create_task(runner.run(1, lambda: None))
    async with asyncio.timeout(20):
        while runner.scrub().full_at is None:
            await asyncio.sleep(0.002)
    work.cancel()
    await asyncio.wait([work])
    assert runner.scrub().full_files >= len(FILES)


async def test_since_when_a_file_was_not_looked_at(station: Station, clock: SettableClock) -> None:
    reader, pulled = station.journal.reader, clock.now
    name = held(station)[0].asset_id
    assert reader.last_good(name) == pulled
    assert reader.last_good("nobody") is None
    assert reader.last_scrub() is None


async def test_the_screens_tell_when_all_was_read(station: Station, clock: SettableClock) -> None:
    lane = lane_of(station)
    assert scrub_fact(lane.progress)["zh"] == "最近一次全量校验：尚未进行"
    clock.now += MONTH
    await lane.step()
    assert "正在校验，已完成 1 个，异常 0" in scrub_fact(lane.progress)["zh"]
    await steps(lane, len(FILES))
    fact = scrub_fact(lane.progress)
    assert fact["zh"].endswith(f"，{len(FILES)} 个文件，异常 0")
    assert f"{clock.now.astimezone(ZONE):%Y-%m-%d %H:%M}" in fact["zh"]
    assert scrub_view(lane.progress)["full_files"] == len(FILES)


async def test_what_is_freed_while_it_is_read_is_no_damage(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between looking and reading the file can go, with a receipt and by the rules; nobody may call that damage."""
    clock.now += MONTH
    lane, here = lane_of(station), held(station)
    asset = station.journal.reader.asset

    def released(identifier: str) -> Asset:
        return replace(asset(identifier), state=AssetState.RELEASED)

    for one in here:
        path_of(station, one).rename(path_of(station, one).with_suffix(".away"))
    monkeypatch.setattr(station.journal.reader, "asset", released)
    await steps(lane, len(FILES) + 1)
    assert (lane.progress.full_damaged, lane.progress.trouble) == (0, "")
    monkeypatch.undo()
    assert {one.state for one in held(station)} == {AssetState.HELD}
