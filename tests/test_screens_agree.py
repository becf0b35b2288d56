"""Promise: whatever happens, all screens, answers, numbers and receipts agree, and none says done before it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import pytest

from agent.clocks import ClockState
from agent.deadline import ZONE
from agent.drivers.base import Listing
from agent.drivers.dock import DockedPath
from agent.model import Clip, Device, Finding, Stamp
from simulator.content import Noise
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.readings import Reading, Watched, watched
from tests.shares import OwnProcessStore, made

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
