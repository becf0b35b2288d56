"""Promise: footage on a recorder that the inventory lacks is never lost by that: taken and marked, or left on it."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config import checked, reloaded
from agent.config.dock import Unknown
from agent.errors import ConfigError
from agent.model import Device, Phase, Recorder, RecorderKind, SlotProgress
from agent.pipeline.acquire import End
from agent.status.devices import quarantined
from tests.cards import image
from tests.conftest import SettableClock
from tests.daemons import running, stage
from tests.fakes import FakeRecorder
from tests.journal_entries import DEVICE
from tests.stations import dock, opened
from tests.status_station import configured
from tests.test_handover import CARD, own

FILES = {"/DCIM/0001.MP4": b"a" * 100, "/DCIM/0002.MP4": b"b" * 200}
REFUSE = '[dock]\nunknown = "refuse"\n'
OWNED = Recorder("DSJ-001", "0117", RecorderKind.BODY_CAMERA, DEVICE.product, DEVICE.serial)


async def test_refused_it_keeps_its_footage_and_is_read_once_the_inventory_has_it(
    tmp_path: Path, clock: SettableClock
) -> None:
    """Its marks are in the journal, so that they can be copied into the inventory."""
    async with opened(tmp_path / "root", clock) as station:
        station.refuse_unknown = True
        recorder = FakeRecorder(FILES, station.vault.staging_dir)
        shown: list[SlotProgress] = []
        assert await dock(station, recorder, shown) is End.FAILED
        assert (shown[-1].phase, shown[-1].may_remove, recorder.read_bytes) == (Phase.UNREGISTERED, False, 0)
        assert "all that is on it stays there" in shown[-1].message
        (docking,) = station.journal.reader.dockings(limit=5)
        assert (docking.device.serial, docking.reason, docking.accounting.seen) == (recorder.serial, "failed", 0)
        device = recorder.device
        station.inventory = {"a": replace(OWNED, product=device.product, serial=device.serial)}
        again = FakeRecorder(FILES, station.vault.staging_dir)
        assert await dock(station, again, shown) is End.COMPLETE
        assert station.journal.reader.dockings(limit=1)[0].accounting.pulled == len(FILES)


async def test_by_default_an_unknown_recorder_is_taken(tmp_path: Path, clock: SettableClock) -> None:
    async with opened(tmp_path / "root", clock) as station:
        station.inventory = {"a": OWNED}
        recorder = FakeRecorder(FILES, station.vault.staging_dir, serial="a stranger")
        assert await dock(station, recorder) is End.COMPLETE


@pytest.mark.parametrize("policy", Unknown)
@pytest.mark.parametrize("owned", [{}, {"DSJ-001": OWNED}])
def test_what_came_from_it_is_marked_only_in_quarantine_and_only_if_there_is_an_inventory(
    tmp_path: Path, policy: Unknown, owned: dict[str, Recorder]
) -> None:
    config = configured(tmp_path)
    config = replace(config, inventory=owned, dock=replace(config.dock, unknown=policy))
    devices = {"known": DEVICE, "stranger": replace(DEVICE, serial="cloned?"), "image": Device("mass_storage")}
    expected = {"stranger", "image"} if policy is Unknown.QUARANTINE and owned else set()
    assert set(quarantined(config, devices)) == expected


def test_to_refuse_all_recorders_is_a_mistake(tmp_path: Path) -> None:
    """Without an inventory `refuse` would pull nothing at all; a reload that would do so is refused too."""
    inventory = '[recorder.x]\nnumber = "1"\nserial = "1"\nproduct = "V8"\n'
    config = configured(tmp_path, REFUSE, inventory)
    assert config.dock.unknown is Unknown.REFUSE
    (config.path.parent / "inventory.toml").write_text("")
    for read in (lambda: checked(config.path), lambda: reloaded(config)):
        with pytest.raises(ConfigError, match=r"dock\.unknown = 'refuse': would refuse every recorder"):
            read()


@pytest.mark.root
def test_the_mark_goes_as_soon_as_the_inventory_has_it(tmp_path: Path) -> None:
    """The running service: pulled and stored as all are, marked, and after a reload not marked any more."""
    made = stage(tmp_path)
    own(made, "fat32:0000-0000")
    card = image(tmp_path / "card.img", dict(CARD))
    with running(made) as daemon:

        def marks() -> set[str]:
            rows = made.ask("/api/v1/recordings")["recordings"]
            return {json.dumps(row["quarantine"], ensure_ascii=False) for row in rows}

        name = daemon.dock(card)
        assert daemon.until_phase(name, "finished")["may_remove"]
        daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == len(CARD))
        assert len(marks()) == 1
        assert "未登记" in marks().pop()
        (stranger,) = daemon.status()["devices"]["unregistered"]
        own(made, "fat32:0000-0000", *stranger["filesystem_ids"])
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: marks() == {"null"})
        (made.config.parent / "inventory.toml").write_text("", "utf-8")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: daemon.status()["devices"]["recorders"] == [])
        assert marks() == {"null"}
