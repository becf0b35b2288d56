"""A device that speaks MTP over a real USB stack: QEMU's own, by the kernel's usbfs, in the service's sandbox."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from simulator.content import Noise
from tests.machine.machine import Machine
from tests.vm_usb import dock, properties, pulled

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

FILMS = {
    "DCIM/0001.MP4": Noise(5_000_000, 1),
    "DCIM/100ANDRO/0002.MP4": Noise(64 * 1024 - 12, 2),
    "0003.WAV": Noise(512 * 300, 3),
    "0004.JPG": Noise(1, 4),
}
"""Sizes at which the data of an answer fill the last transfer or the last packet, and others."""


def test_it_is_pulled_in_its_slot_unplugged_and_docked_again(machine: Machine, tmp_path: Path) -> None:
    """A second docking finds all of it held; the folder that it shows is what it was."""
    folder = tmp_path / "shown"
    for path, film in FILMS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(film.read())
    dock(machine, port1="甲")
    device = machine.usb.mtp(folder)
    machine.until_status(pulled("甲"), 300)
    known = properties(machine, "/sys/bus/usb/devices/1-1")
    assert known["CAPTURE_AGENT"] == "mtp"
    assert machine.run(f"stat -c '%a %G' {known['DEVNAME']}").split() == ["660", "capture-agent"]
    machine.usb.yank(device)
    machine.until("journalctl -b -q -u capture-agent | grep -q ': gone 1-1#'")
    machine.usb.mtp(folder)
    status = machine.until_status(lambda status: len(status["dockings"]) == 2 and pulled("甲")(status), 300)
    assert status["dockings"][0]["accounting"]["already_held"] == len(FILMS)
    machine.until("runuser -u capture-agent -- capture-agent unstored")
    machine.power_off()
    made = {hashlib.sha256(film.read()).hexdigest() for film in FILMS.values()}
    assert set(machine.stored().values()) == set(machine.vaulted().values()) == made
    found = {f"{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == {path: film.read() for path, film in FILMS.items()}
