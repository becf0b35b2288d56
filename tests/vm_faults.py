"""What goes wrong at a dock, in a real machine: pulled out, hanging, full, in another time; the rest goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from simulator.content import Noise
from tests.cards import MIB, image, sha256
from tests.machine.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

RATE_BPS = 1_000_000
FIRST, SECOND = "usb-0:1:", "usb-0:2:"
DAY_S = 86_400


def clips(seed: int, *sizes_bytes: int) -> dict[str, Noise]:
    return {f"DCIM/{seed}{index}.MP4": Noise(size, seed * 100 + index) for index, size in enumerate(sizes_bytes)}


def digests(*cards: Mapping[str, Noise]) -> list[str]:
    return sorted(hashlib.sha256(clip.read()).hexdigest() for card in cards for clip in card.values())


def slot(status: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next((one for one in status["slots"] if name in one["slot"]), {})


def until_all_is_stored(machine: Machine) -> None:
    machine.until("runuser -u capture-agent -- capture-agent unstored", 240)


def assert_stored(machine: Machine, *cards: Mapping[str, Noise]) -> None:
    """The service never ended by itself, and from outside storage and station hold these clips and nothing else."""
    assert machine.run("systemctl show -P NRestarts capture-agent").strip() == "0", machine.journal()
    machine.power_off()
    assert sorted(machine.stored().values()) == sorted(machine.vaulted().values()) == digests(*cards)


def test_a_recorder_that_is_pulled_out_goes_on_where_it_was(machine: Machine, tmp_path: Path) -> None:
    content = clips(1, 6 * MIB, 3 * MIB)
    card = image(tmp_path / "card", content, "exfat")
    before = sha256(card)
    for _ in range(2):
        stick = machine.usb.disk(card, "REC1", port="1", rate_bps=RATE_BPS)
        machine.until_status(lambda status: slot(status, FIRST).get("phase", {}).get("name") == "reading")
        machine.usb.yank(stick)
        shown = machine.until_phase("unplugged", slot=FIRST)
        assert not shown["may_remove"]
    machine.usb.disk(card, "REC1", port="1")
    assert machine.until_phase("finished", slot=FIRST)["may_remove"]
    until_all_is_stored(machine)
    assert_stored(machine, content)
    assert sha256(card) == before


def test_a_recorder_that_is_pulled_out_while_it_is_read_patiently_gets_no_holes_by_that(
    machine: Machine, tmp_path: Path
) -> None:
    """A bad sector made it slow and patient; when it is docked again its reader is better, and all of it is taken."""
    content = clips(1, 12 * MIB)
    card = image(tmp_path / "card", content)
    bad = card.read_bytes().index(content["DCIM/10.MP4"].read()[: 4 * MIB]) // 512 + 4096
    stick = machine.usb.disk(card, "REC1", port="1", rate_bps=RATE_BPS, bad_sectors=[bad])
    machine.until("test $(dmesg | grep -c 'I/O error, dev sda') -ge 6")  # pieces of a piece: the patient pass
    machine.usb.yank(stick)
    shown = machine.until_phase("unplugged", slot=FIRST)
    assert not shown["may_remove"]
    machine.usb.disk(card, "REC1", port="1")
    assert machine.until_phase("finished", slot=FIRST)["may_remove"]
    dockings = machine.until_status(lambda status: status["dockings"])["dockings"]
    before = dockings[-1]["accounting"]
    assert (before["seen"], before["left"], before["unreadable"]) == (1, 1, 0)
    until_all_is_stored(machine)
    assert_stored(machine, content)


def _until_read_on(machine: Machine, size_bytes: int) -> None:
    """Wait until that much more has been read of the first recorder."""

    def done(status: Mapping[str, Any]) -> int:
        return int(slot(status, FIRST).get("bytes", {}).get("done", 0))

    before = done(machine.until_status(lambda _: True))
    machine.until_status(lambda status: done(status) >= before + size_bytes)


def test_a_recorder_that_hangs_is_told_and_the_others_go_on(machine: Machine, tmp_path: Path) -> None:
    hanging, other = clips(1, 6 * MIB), clips(2, 2 * MIB)
    machine.configure({"dock.stall_limit_s": "5"})
    stick = machine.usb.disk(image(tmp_path / "hanging", hanging), "REC1", port="1", rate_bps=RATE_BPS)
    machine.until_status(lambda status: slot(status, FIRST).get("phase", {}).get("name") == "reading")
    machine.run("echo 900 >/sys/block/sda/device/timeout")
    _until_read_on(machine, MIB)  # what was asked for before still has the old limit
    machine.usb.hang(stick)
    machine.usb.disk(image(tmp_path / "other", other, "exfat"), "REC2", port="2")
    assert machine.until_phase("finished", slot=SECOND)["may_remove"]
    shown = machine.until_phase("failed", slot=FIRST)
    assert not shown["may_remove"]
    assert shown["message"]
    assert machine.until_phase("finished", slot=SECOND)["may_remove"]
    machine.usb.free(stick)
    machine.usb.rate(stick, 0)
    machine.usb.yank(stick)
    machine.until_status(lambda status: slot(status, FIRST).get("phase", {}).get("name") != "failed")
    machine.usb.disk(tmp_path / "hanging", "REC1", port="1")
    assert machine.until_phase("finished", slot=FIRST)["may_remove"]
    until_all_is_stored(machine)
    assert_stored(machine, hanging, other)


def test_a_full_station_leaves_the_recording_on_the_recorder_until_there_is_room(
    machine: Machine, tmp_path: Path
) -> None:
    content = clips(1, 4 * MIB)
    card = image(tmp_path / "card", content)
    before = sha256(card)
    free = int(machine.run("df --output=avail -B1 /var/lib/capture-agent | tail -1"))
    machine.run(f"fallocate -l {free - MIB} /var/lib/capture-agent/full")
    machine.usb.disk(card, "REC1", port="1")
    shown = machine.until_phase("no_space", slot=FIRST)
    assert not shown["may_remove"]
    assert "空间" in shown["phase"]["zh"]
    machine.run("rm /var/lib/capture-agent/full")
    assert machine.until_phase("finished", slot=FIRST)["may_remove"]
    until_all_is_stored(machine)
    assert_stored(machine, content)
    assert sha256(card) == before


def test_steps_of_the_clock_stop_nothing(machine: Machine, tmp_path: Path) -> None:
    cards = [clips(number, 3 * MIB) for number in (1, 2, 3)]
    for number, (content, step) in enumerate(zip(cards, ("+1 day", "-2 days", "1970-01-02"), strict=True), 1):
        port = f"usb-0:{number}:"
        path = image(tmp_path / f"card{number}", content)
        machine.usb.disk(path, f"REC{number}", port=f"{number}", rate_bps=RATE_BPS)
        machine.until_status(lambda status, port=port: slot(status, port).get("phase", {}).get("name") == "reading")
        machine.run(f"date -s '{step}'")
        assert machine.until_phase("finished", slot=port)["may_remove"]
    until_all_is_stored(machine)
    machine.run("systemctl restart capture-agent", 120)
    machine.until("runuser -u capture-agent -- capture-agent verify", 240)
    assert_stored(machine, *cards)


def test_a_serial_device_disturbs_nobody(machine: Machine, tmp_path: Path) -> None:
    content = clips(1, MIB)
    adapter = machine.usb.serial()
    machine.until("test -c /dev/ttyUSB0")
    machine.usb.disk(image(tmp_path / "card", content), "REC1", port="2")
    assert machine.until_phase("finished", slot=SECOND)["may_remove"]
    assert machine.call("fuser /dev/ttyUSB0").returncode == 1
    machine.usb.yank(adapter)
    machine.until("test ! -e /dev/ttyUSB0")
    until_all_is_stored(machine)
    assert_stored(machine, content)
