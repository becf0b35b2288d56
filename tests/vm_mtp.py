"""A device that speaks MTP over a real USB stack: QEMU's own, by the kernel's usbfs, in the service's sandbox."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from agent.model import BLOCK_BYTES
from simulator.content import Noise
from tests.machine.machine import Machine
from tests.vm_devices import told
from tests.vm_usb import dock, properties, pulled

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

FILMS = {
    "DCIM/0001.MP4": Noise(5_000_000, 1),
    "DCIM/100ANDRO/0002.MP4": Noise(64 * 1024 - 12, 2),
    "0003.WAV": Noise(512 * 300, 3),
    "0004.JPG": Noise(1, 4),
}
"""Sizes at which the data of an answer fill the last transfer or the last packet, and others."""


YANKED_BYTES = 160_000_000


def shown(folder: Path, films: dict[str, Noise]) -> Path:
    for path, film in films.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(film.read())
    return folder


def assert_stored_and_still_there(machine: Machine, folder: Path, films: dict[str, Noise]) -> None:
    """The storage and the station hold what the host made and nothing else; the folder is what it was."""
    machine.until("runuser -u capture-agent -- capture-agent unstored")
    machine.power_off()
    made = {hashlib.sha256(film.read()).hexdigest() for film in films.values()}
    assert set(machine.stored().values()) == set(machine.vaulted().values()) == made
    found = {f"{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {path: film.read() for path, film in films.items()}


def test_it_is_pulled_in_its_slot_unplugged_and_docked_again(machine: Machine, tmp_path: Path) -> None:
    """A second docking finds all of it held; the folder that it shows is what it was."""
    folder = shown(tmp_path / "shown", FILMS)
    dock(machine, port1="甲")
    device = machine.usb.mtp(folder, "1")
    machine.until_status(pulled("甲"), 300)
    known = properties(machine, "/sys/bus/usb/devices/1-1")
    assert known["CAPTURE_AGENT"] == "mtp"
    assert machine.run(f"stat -c '%a %G' {known['DEVNAME']}").split() == ["660", "capture-agent"]
    (row,) = (row for row in told(machine, "device list")["plugged"] if row["port"].endswith("-usb-0:1"))
    assert (row["state"]["name"], row["slot"], row["mark"]) == ("docked", "甲", "mtp"), row
    assert [(one["driver"], one["progress"]["phase"]) for one in row["docked"]] == [("mtp", "finished")], row
    machine.usb.yank(device)
    machine.until("journalctl -b -q -u capture-agent | grep -q ': gone 1-1#'")
    assert all(row["mark"] != "mtp" for row in told(machine, "device list")["plugged"])
    machine.usb.mtp(folder, "1")
    status = machine.until_status(lambda status: len(status["dockings"]) == 2 and pulled("甲")(status), 300)
    assert status["dockings"][0]["accounting"]["already_held"] == len(FILMS)
    assert_stored_and_still_there(machine, folder, FILMS)


def test_it_is_unplugged_while_it_is_read_and_goes_on_when_it_is_docked_again(machine: Machine, tmp_path: Path) -> None:
    """The first docking ends as unplugged and calls nothing unreadable; the second reads the rest."""
    films = {"DCIM/0001.MP4": Noise(YANKED_BYTES, 5), "0002.WAV": Noise(3000, 6)}
    folder = shown(tmp_path / "shown", films)
    dock(machine, port1="甲")
    device = machine.usb.mtp(folder, "1")
    machine.until_status(lambda status: status["slots"] and status["slots"][0]["bytes"]["done"] > BLOCK_BYTES)
    machine.usb.yank(device)
    machine.until_phase("unplugged", slot="甲")
    machine.until("journalctl -b -q -u capture-agent | grep -q ': gone 1-1#'")
    machine.usb.mtp(folder, "1")
    status = machine.until_status(lambda status: len(status["dockings"]) == 2 and pulled("甲")(status), 300)
    again, before = (docking["accounting"] for docking in status["dockings"])
    assert (before["left"], before["unreadable"], before["pulled"]) == (1, 0, 1), status["dockings"]
    assert (again["already_held"], again["pulled"]) == (1, 1), status["dockings"]
    assert_stored_and_still_there(machine, folder, films)
