"""Promise: whatever happens, all screens, answers, numbers and receipts agree, and none says done before it is."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import pytest

from agent.access import tool
from agent.child import Child
from agent.clocks import ClockState
from agent.config import AccessCopies
from agent.deadline import ZONE
from agent.drivers.base import Listing
from agent.drivers.dock import DockedPath
from agent.model import Clip, Device, Finding, Stamp
from agent.uploader.tus import TusStore
from simulator.content import Noise
from simulator.stores.faults import Call
from tests.cards import MIB
from tests.conftest import SettableClock
from tests.disks import ext4, fill, run
from tests.fakes import FakeRecorder
from tests.media import film
from tests.readings import DONE, Reading, Watched, text_of, watched
from tests.shares import OwnProcessStore, made

if TYPE_CHECKING:
    from simulator.stores.proxy import FaultProxy
    from simulator.stores.tus import TusServer

FILES = 3
FIRST_CHINESE = re.compile("[^A-Za-z]*[\u4e00-\u9fff]")
NOW = datetime(2026, 10, 20, 10, tzinfo=ZONE)
MADE = Stamp("2026-10-19T09:00:00", 480)
WELL = "ok"


@dataclass(slots=True)
class Recorder(FakeRecorder):
    """May be written to while it is docked, and may give fewer bytes than it says."""

    rewritten: bool = False
    short: bool = False
    _listed: int = 0

    async def clips(self) -> AsyncGenerator[Listing, None]:
        self._listed += 1
        if self.rewritten and self._listed > 1:
            self.metadata_blake3 = "11" * 32
        async for item in FakeRecorder.clips(self):
            yield replace(item, size_bytes=item.size_bytes + 7) if self.short and isinstance(item, Clip) else item


FAULTS: dict[str, dict[str, object]] = {
    WELL: {},
    "yanked": {"gone_after_bytes": 30_000},
    "sector": {"bad": {"DCIM/0002.MP4": 0}},
    "refused": {"refused": {"DCIM/0009.MP4": "impossible start"}},
    "changing": {"changed": {"DCIM/0002.MP4"}},
    "broken": {"broken": {"DCIM/0002.MP4": 99}},
    "unlistable": {"unlistable": "This recorder's filesystem can't be read: no filesystem (unsupported)."},
    "more": {"findings": [Finding("truncated-volume", {})]},
    "rewritten": {"rewritten": True},
    "short": {"short": True},
}


def files_of(slot: str) -> dict[str, bytes]:
    return {f"DCIM/{n:04}.MP4": Noise(20_000 + n, hash(slot) % 1000 + n).read() for n in range(1, FILES + 1)}


def docked(seen: Watched, slot: str, **faults: object) -> Recorder:
    """Put a recorder of its own into a slot, with what goes wrong with it."""
    files, folder = files_of(slot), seen.station.vault.staging_dir
    about = {"serial": f"SN-{slot}", "filesystem_id": slot, "stamps": dict.fromkeys(files, MADE)}
    recorder = Recorder(files, folder, **about | faults)  # type: ignore[arg-type]
    seen.dock(slot, lambda: recorder, *files.values())
    return recorder


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only the time changes is on the screens sooner."""
    monkeypatch.setattr("agent.status.board._STALE_S", 0.6)


@pytest.fixture
async def seen(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Watched]:
    """A station with a folder as its store, whose clock is kept."""
    clock.set(NOW)
    objects = made(tmp_path / "store")
    store = OwnProcessStore("s", {"path": str(objects)}, vault_root=tmp_path / "root", clock=clock)
    async with watched(tmp_path, clock, store, objects=objects) as station:
        station.service.clocks.state = lambda: ClockState(synced=True)  # type: ignore[method-assign]
        yield station


def holds(**expected: str) -> Callable[[Reading], bool]:
    return lambda now: now.holds == expected


def cleared(*expected: str) -> Callable[[Reading], bool]:
    return lambda now: sorted(now.clearings.values()) == sorted(expected)


async def test_what_goes_well_is_said_to_be_done_as_soon_as_it_is(seen: Watched) -> None:
    assert (await seen.until(lambda now: now.store)).state == "ok"
    docked(seen, WELL)
    await seen.until(holds(ok="take"))
    await seen.until(lambda now: now.stored == FILES)
    assert (await seen.until(cleared("clear"))).state == "ok"
    seen.undock(WELL)
    await seen.until(holds())


async def test_a_dock_full_of_trouble_says_of_each_recorder_what_is_true(seen: Watched) -> None:
    """F5, F6, F7, F13, F25 and more beside each other: one may be taken, and in the end all."""
    recorders = {slot: docked(seen, slot, **faults) for slot, faults in FAULTS.items()}
    device = Device("usb", product="P")
    why = "it doesn't show itself as a USB disk: nothing can be pulled from it"
    seen.service.on_refused(DockedPath("locked", Path("/x"), "locked", device), why)
    await asyncio.sleep(0)
    expected = dict.fromkeys([*FAULTS, "locked"], "ask") | {WELL: "take", "yanked": "gone"}
    now = await seen.until(holds(**expected))
    assert now.state == "degraded"
    assert all(FIRST_CHINESE.match(slot["message_words"]["zh"]) for slot in now.status["slots"] if slot["message"])
    for slot in FAULTS:
        seen.undock(slot)
    seen.service.on_gone("locked")
    await seen.until(holds(**dict.fromkeys(FAULTS.keys() - {WELL}, "gone")))
    for slot in recorders:
        docked(seen, slot)
    await seen.until(holds(**dict.fromkeys(FAULTS, "take")))
    now = await seen.until(lambda now: now.stored >= FILES * len(FAULTS))
    assert now.state == "ok"


async def test_nothing_is_called_stored_while_the_store_is_away_or_has_lost_it(seen: Watched, tmp_path: Path) -> None:
    """F20, F23: and as soon as it is there (again) the screens and a new receipt say so."""
    seen.station.limits = replace(seen.station.limits, backoff_base_s=0.1, backoff_max_s=0.1)
    away = seen.objects.rename(tmp_path / "away")
    docked(seen, WELL)
    await seen.until(lambda now: now.store is False)
    now = await seen.until(lambda now: now.holds == {WELL: "take"} and cleared("not_stored")(now))
    assert (now.stored, now.state) == (0, "degraded")
    away.rename(seen.objects)
    await seen.until(lambda now: now.store and now.stored == FILES and cleared("clear")(now))
    seen.betrayed = True
    away = seen.objects.rename(tmp_path / "away")
    await seen.until(lambda now: now.store is False)
    away.rename(seen.objects)
    seen.betrayed = False
    await seen.until(lambda now: now.store)
    lost = next(path for path in seen.objects.rglob("*") if path.is_file() and path.stat().st_size > 0)
    seen.betrayed = True
    lost.unlink()
    await seen.until(lambda now: now.status["store"]["audit"]["lost"])
    seen.betrayed = False
    await seen.until(lambda now: len(now.papers) == 1 and " / 3" in next(iter(now.papers.values())))
    await seen.until(lambda now: now.stored == FILES and cleared("clear")(now))


async def test_an_original_that_is_damaged_takes_the_leave_to_go_back_until_the_recorder_has_healed_it(
    seen: Watched, tmp_path: Path
) -> None:
    """F2, F25: the recorder, which has the only good copy now, is read again while it is there; gone, it is missed."""
    seen.station.limits = replace(seen.station.limits, backoff_base_s=0.1, backoff_max_s=0.1)
    away = seen.objects.rename(tmp_path / "away")
    docked(seen, WELL)
    await seen.until(holds(ok="take"))
    seen.betrayed = True
    _spoil(seen)
    await seen.until(lambda now: now.status["slots"][0]["docking_id"] and len(now.status["dockings"]) == 2)
    seen.betrayed = False
    await seen.until(holds(ok="take"))
    seen.undock(WELL)
    await seen.until(holds())
    _spoil(seen)
    now = await seen.until(lambda now: now.status["counters"]["assets"]["stuck"]["files"])
    assert now.state == "degraded"
    away.rename(seen.objects)
    await seen.until(lambda now: now.stored == FILES - 1)
    docked(seen, WELL)
    await seen.until(lambda now: now.stored == FILES and now.holds == {WELL: "take"})


def _spoil(seen: Watched) -> None:
    """Somebody writes into one original."""
    _, path, _ = next(iter(seen.station.vault.originals()))
    path.chmod(0o640)
    path.write_bytes(b"x" * path.stat().st_size)


async def test_a_recorder_with_a_cloned_identity_is_never_taken_for_the_other(seen: Watched) -> None:
    """F9: two of one serial docked together, and swapped in the middle."""
    same = {"serial": "058F63666485", "filesystem_id": "F00D"}
    docked(seen, "a", **same, gone_after_bytes=30_000)
    docked(seen, "b", **same, gone_after_bytes=30_000)
    await seen.until(holds(a="gone", b="gone"))
    seen.undock("a")
    seen.undock("b")
    for slot, other in (("a", "b"), ("b", "a")):
        files = files_of(other)
        recorder = Recorder(files, seen.station.vault.staging_dir, **same)  # type: ignore[arg-type]
        seen.dock(slot, lambda recorder=recorder: recorder, *files.values())
    await seen.until(holds(a="take", b="take"))
    await seen.until(lambda now: now.stored == 2 * FILES)


async def test_trouble_of_the_station_itself_is_on_every_screen_until_it_is_over(seen: Watched) -> None:
    """F12, F24: detection that is hindered, a clock that nobody keeps, lanes that stand still, free space unknown."""
    service = seen.service
    await seen.until(lambda now: now.store and now.state == "ok")
    service.hears("usb").on_trouble("Recorders can't be detected: no udev. It is tried again.")
    now = await seen.until(lambda now: now.state == "degraded")
    assert "无法发现新插入的记录仪" in now.terminal
    service.hears("usb").on_trouble("")
    await seen.until(lambda now: now.state == "ok")
    service._moves = False  # what the watchdog finds
    await seen.until(lambda now: now.state == "failed")
    service._moves = True
    await seen.until(lambda now: now.state == "ok")


# What the station itself stands on: its disk, its journal, its tools, its clock, its calendar, its store.


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of the lanes, without the waiting."""
    monkeypatch.setattr("agent.pipeline.room._SPACE_CHECK_S", 0.02)
    monkeypatch.setattr("agent.pipeline.own_disk._PAUSE_S", 0.5)


@asynccontextmanager
async def on_own_disk(folder: Path, clock: SettableClock) -> AsyncIterator[Watched]:
    """A station on an ext4 of its own, with a folder elsewhere as its store; the first recorder is stored."""
    clock.set(NOW)
    objects, root = made(folder / "store"), folder / "disk" / "station"
    with ext4(folder / "disk", folder / "disk.img", 48 * MIB):
        store = OwnProcessStore("s", {"path": str(objects)}, vault_root=root, clock=clock)
        async with watched(folder, clock, store, objects=objects, root=root) as seen:
            seen.service.clocks.state = lambda: ClockState(synced=True)  # type: ignore[method-assign]
            seen.station.limits = replace(seen.station.limits, backoff_base_s=0.1, backoff_max_s=0.1)
            docked(seen, WELL)
            await seen.until(lambda now: now.stored == FILES and cleared("clear")(now))
            yield seen


@pytest.mark.root
@pytest.mark.usefixtures("impatient")
async def test_a_full_disk_is_on_every_screen_and_what_waits_for_room_is_not_done(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F20, F21: somebody else's file takes the last byte; gone, everything goes on by itself."""
    async with on_own_disk(tmp_path, clock) as seen:
        filler = fill(tmp_path / "disk")
        docked(seen, "late")
        now = await seen.until(lambda now: now.state == "failed" and now.holds == {WELL: "take", "late": "ask"})
        assert now.stored == FILES
        assert not now.ready["room"]
        filler.unlink()
        await seen.until(holds(ok="take", late="take"))
        assert (await seen.until(lambda now: now.stored == 2 * FILES)).state == "ok"


@pytest.mark.root
@pytest.mark.usefixtures("impatient")
async def test_a_disk_that_takes_no_more_writes_is_on_every_screen_and_nothing_new_is_done(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F21: the kernel found an error on it and made it read-only."""
    async with on_own_disk(tmp_path, clock) as seen:
        run("mount", "-o", "remount,abort", tmp_path / "disk")
        docked(seen, "late")
        now = await seen.until(lambda now: now.state == "failed" and now.holds == {WELL: "take", "late": "ask"})
        assert "本机磁盘无法写入" in now.texts["kiosk"] + now.terminal
        assert not now.ready["journal"]
        assert now.stored == FILES


async def test_a_journal_that_cannot_be_read_leaves_no_screen_that_says_anything_is_done(seen: Watched) -> None:
    """F21, F25: its bytes are no longer a database; what was said before is said by nobody now."""
    docked(seen, WELL)
    await seen.until(lambda now: now.stored == FILES and cleared("clear")(now))
    for path in seen.station.vault.root.glob("journal.db*"):
        if not path.name.endswith("-shm"):
            with path.open("r+b") as file:
                file.seek(4096)
                file.write(bytes(path.stat().st_size - 4096))
    docked(seen, "late")
    told = await seen.until_blind()
    assert {status for status, _ in told.values()} == {503}
    for name, (_, text) in told.items():
        assert not any(word in text for word in DONE), name
        assert "Traceback" not in text
    assert [one.slot for one in seen.service.live().slots if one.may_remove] == [WELL]


async def test_a_transcoder_that_is_killed_has_made_no_copy(
    seen: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F3, F18: ffmpeg at work gets SIGKILL; the original is stored as ever, and every screen says that no copy is."""
    start, content = tool._start, film(tmp_path, "mp4")

    async def killed(words: Sequence[str], cage: str, *, stall_s: float) -> Child:
        child = await start(words, cage, stall_s=stall_s)
        while words != ["-version"] and Path(f"/proc/{child.pid}/comm").read_text() != "ffmpeg\n":
            await asyncio.sleep(0)
        if words != ["-version"]:
            os.kill(child.pid, signal.SIGKILL)
        return child

    monkeypatch.setattr("agent.access.tool._start", killed)
    seen.station.access = AccessCopies()
    recorder = Recorder({"A.MP4": content}, seen.station.vault.staging_dir, stamps={"A.MP4": MADE})
    seen.dock(WELL, lambda: recorder, content)
    now = await seen.until(lambda now: now.status["access"]["failed"] and now.stored == 1)
    assert now.copies == 0
    (row,) = json.loads(await seen.ask("/api/v1/recordings"))["recordings"]
    assert "无查阅副本" in row["access"]["zh"]
    assert "结束（-9）" in row["access"]["reason"]["zh"]
    assert row["access"]["reason"]["zh"] in text_of(await seen.ask(f"/recordings/{row['recording_id']}", status=200))


async def test_a_clock_that_is_wrong_is_on_every_screen_until_it_is_right_and_no_limit_is_called_kept_by_it(
    seen: Watched,
) -> None:
    """F24: set to 1970 while it works."""
    docked(seen, WELL)
    await seen.until(lambda now: now.stored == FILES and cleared("clear")(now))
    clocks = seen.service.clocks
    del clocks.state
    clocks.newest = seen.clock()
    seen.clock.set(datetime(1970, 1, 1, 8, tzinfo=ZONE))
    now = await seen.until(lambda now: now.state == "degraded")
    for text in (now.terminal, now.texts["page"], now.texts["kiosk"]):
        assert "本机时间早于已有记录" in text
    docked(seen, "late")
    now = await seen.until(lambda now: now.holds == {WELL: "take", "late": "take"} and now.stored == 2 * FILES)
    rows = json.loads(await seen.ask("/api/v1/recordings"))["recordings"]
    assert [row["verdict"]["name"] for row in rows] == ["in_time"] * FILES + ["undecided"] * FILES
    seen.clock.set(NOW + timedelta(hours=1))
    assert (await seen.until(lambda now: now.state == "ok")).metrics["overdue", ""] == 0


async def test_a_calendar_that_is_missing_is_on_every_screen_and_its_limits_are_provisional(seen: Watched) -> None:
    """F24: a year without its notice, until somebody imports it."""
    seen.clock.set(datetime(2027, 1, 20, 10, tzinfo=ZONE))
    docked(seen, WELL, stamps=dict.fromkeys(files_of(WELL), Stamp("2027-01-19T09:00:00", 480)))
    now = await seen.until(lambda now: now.stored == FILES and now.state == "degraded")
    assert ("calendar_until_timestamp_seconds", "") not in now.metrics
    for text in (now.terminal, now.texts["page"], now.texts["kiosk"]):
        assert "缺少 2027 年放假安排" in text
    rows = json.loads(await seen.ask("/api/v1/recordings"))["recordings"]
    assert all("暂定" in row["due_text"]["zh"] for row in rows)
    folder = seen.config.path.parent / "calendar.d"
    folder.mkdir()
    head = 'year = 2027\ncomplete = true\nsource = "测试"\nissued = 2026-11-04\n'
    (folder / "cn-2027.toml").write_text(f'{head}off = ["2027-01-01..2027-01-03"]\nwork = []\n')
    config = await seen.service.reload()
    assert config is not None
    seen.board.use(config)
    assert (await seen.until(lambda now: now.state == "ok")).stored == FILES


async def test_a_store_that_says_yes_and_keeps_nothing_is_believed_by_no_screen(
    tmp_path: Path,
    clock: SettableClock,
    tus_server: TusServer,
    fault_proxy: Callable[..., FaultProxy],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """F23: 201 for the upload, 204 with the right digest for its bytes, and then there is nothing."""
    clock.set(NOW)
    monkeypatch.setattr("agent.uploader.tus.pause_s", lambda _: 0.01)

    alone = Lock()

    def forget() -> None:
        with alone:
            for kept in [path for path in tus_server.kept.rglob("*") if path.is_file()]:
                for upload in [path for path in tus_server.uploads() if path.samefile(kept)]:
                    upload.unlink()
                kept.unlink()

    proxy = fault_proxy(tus_server.port)
    proxy.on(Call(forget), "HEAD", times=None)
    options = {"endpoint": f"{proxy.endpoint}/files", "stall_limit_s": 20}
    store = TusStore("s", options, vault_root=tmp_path / "root", clock=clock)
    async with watched(tmp_path, clock, store, objects=tus_server.kept) as seen:
        seen.service.clocks.state = lambda: ClockState(synced=True)  # type: ignore[method-assign]
        seen.station.limits = replace(seen.station.limits, backoff_base_s=0.1, backoff_max_s=0.1)
        docked(seen, WELL)
        now = await seen.until(lambda now: now.store is False and cleared("not_stored")(now))
        assert (now.holds, now.stored, now.state) == ({WELL: "take"}, 0, "degraded")
        proxy.clear()
        await seen.until(lambda now: now.stored == FILES and cleared("clear")(now))
    await store.close()
