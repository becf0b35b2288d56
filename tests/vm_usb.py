"""The dock's USB ports in a real machine: slots, who may write to a recorder, clones, and what is no recorder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from simulator.content import Noise
from tests.cards import image, sha256
from tests.machine.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

SLOTS = "/etc/capture-agent/slots.toml"
MANY = 9


def clip(number: int) -> Noise:
    return Noise(300_000 + number, number)


def digests(*clips: Noise) -> set[str]:
    return {hashlib.sha256(made.read()).hexdigest() for made in clips}


def dock(machine: Machine, **names: str) -> None:
    """Name the ports with these numbers, in this order."""
    devices = "/sys/bus/usb/devices/usb1"
    controller = machine.run(f"udevadm info -q property {devices} | sed -n s/^ID_PATH=//p").strip()
    lines = [f'"{controller}-usb-0:{port.removeprefix("port")}" = "{name}"' for port, name in names.items()]
    machine.guest.write(SLOTS, "\n".join(["[slots]", *lines, ""]))
    machine.run("systemctl reload capture-agent")
    machine.until("journalctl -b -q -u capture-agent | grep -q 'configuration read'")


def properties(machine: Machine, device: str) -> dict[str, str]:
    """What udev knows of a device when it has done with it."""
    told = machine.run(f"udevadm settle && udevadm info -q property {device}")
    return dict(line.split("=", 1) for line in told.splitlines())


def slots(status: dict[str, Any]) -> dict[str, str]:
    """What each slot shows; nothing while a machine without a real processor is too busy to answer."""
    return {slot["slot"]: slot["phase"]["name"] for slot in status.get("slots", ())}


def pulled(*names: str) -> Callable[[dict[str, Any]], bool]:
    """Whether the slots, in this order, have all that was on their recorders."""

    def are_they(status: dict[str, Any]) -> bool:
        return list(slots(status).items()) == [(name, "finished") for name in names]

    return are_they


def test_a_recorder_in_a_slot_is_read_only_for_everybody_and_a_disk_elsewhere_is_left_alone(
    machine: Machine, tmp_path: Path
) -> None:
    """root itself, a desktop's disk service and a mount that asks for writing."""
    dock(machine, port3="左一", port2="右一")
    cards = {port: image(tmp_path / port, {"DCIM/0001.MP4": clip(int(port))}) for port in "235"}
    before = {port: sha256(card) for port, card in cards.items()}
    for port, card in cards.items():
        machine.usb.disk(card, "SAME-SERIAL", port=port)
    status = machine.until_status(pulled("左一", "右一"))
    assert [row["slot"] for row in status["dockings"]][::-1] in (["左一", "右一"], ["右一", "左一"])
    found = {node: properties(machine, f"/dev/sd{node}") for node in "abc"}
    (own,) = (node for node in found if found[node]["ID_PATH"].partition("-usb-0:")[2].startswith("5:"))
    for node in sorted(set(found) - {own}):
        disk = f"/dev/sd{node}"
        assert (found[node]["CAPTURE_AGENT"], found[node]["UDISKS_IGNORE"]) == ("dock", "1")
        assert machine.run(f"stat -c '%a %U %G' {disk}").split() == ["440", "root", "capture-agent"]
        assert machine.run(f"blockdev --getro {disk}").strip() == "1"
        assert "HintIgnore:                 true" in machine.run(f"udisksctl info -b {disk}")
        refused = machine.call(f"dd if=/dev/zero of={disk} bs=512 count=1 conv=notrunc,fsync")
        assert refused.returncode != 0, refused.output
        machine.run(
            f"mkdir -p /run/m; mount -o rw {disk} /run/m && findmnt -no OPTIONS /run/m | grep -w ro; umount /run/m"
        )
    assert "CAPTURE_AGENT" not in found[own]
    assert machine.run(f"blockdev --getro /dev/sd{own}").strip() == "0"
    machine.until("runuser -u capture-agent -- capture-agent unstored")
    machine.power_off()
    assert set(machine.stored().values()) == set(machine.vaulted().values()) == digests(clip(2), clip(3))
    assert {port: sha256(card) for port, card in cards.items()} == before


def test_many_recorders_with_one_serial_number_at_once_are_kept_apart(machine: Machine, tmp_path: Path) -> None:
    """All clones of each other, each with footage of its own under the same name."""
    dock(machine, **{f"port{port}": f"{port}" for port in range(1, MANY + 1)})
    clips = [clip(number) for number in range(1, MANY + 1)]
    cards = [image(tmp_path / f"{number}", {"DCIM/0001.MP4": made}) for number, made in enumerate(clips, 1)]
    before = [sha256(card) for card in cards]
    for number, card in enumerate(cards, 1):
        machine.usb.disk(card, "058F63666485", port=f"{number}")
    machine.until_status(pulled(*(f"{number}" for number in range(1, MANY + 1))), 300)
    machine.until("runuser -u capture-agent -- capture-agent unstored")
    machine.power_off()
    assert set(machine.stored().values()) == digests(*clips)
    assert [sha256(card) for card in cards] == before


def test_a_keyboard_in_a_hub_of_a_slot_is_switched_off_and_one_elsewhere_works(
    machine: Machine, tmp_path: Path
) -> None:
    """The recorder beside it is pulled; the station's own keyboard stays."""
    dock(machine, port1="甲")
    machine.usb.keyboard("4")
    machine.usb.hub("1")
    machine.usb.keyboard("1.1")
    machine.usb.disk(image(tmp_path / "card", {"DCIM/0001.MP4": clip(1)}), "REC", port="1.2")
    status = machine.until_status(lambda status: slots(status) == {"甲 .1": "unsupported", "甲 .2": "finished"})
    (bad,) = (slot for slot in status["slots"] if slot["slot"] == "甲 .1")
    assert "未授权设备" in bad["message"]
    assert "可以取走" not in bad["hold"]["zh"]
    authorized = machine.run("cd /sys/bus/usb/devices && grep . 1-*/authorized | sort").split()
    assert [line for line in authorized if line.endswith(":0")] == ["1-1.1/authorized:0"]
    names = machine.run("grep -l . /sys/class/input/event*/device/phys | xargs cat | grep usb").split()
    assert [name.partition("-")[2].partition("/")[0] for name in names if "usb" in name]
    assert all("-1.1/" not in name for name in names)
    assert "端口 甲 .2 连接仅 12 Mbit/s" in json.dumps(status["health"], ensure_ascii=False), "so slow is QEMU's hub"
    assert "未授权" not in machine.journal(), "the log is in English"
    assert "a keyboard or a mouse is in it" in machine.journal()


GADGET = """
modprobe libcomposite; modprobe dummy_hcd; mountpoint -q /sys/kernel/config || mount -t configfs none /sys/kernel/config
truncate -s 4M /run/card
g=/sys/kernel/config/usb_gadget/bad; mkdir $g; cd $g
echo 0x2bdf >idVendor; echo 0x0280 >idProduct; mkdir strings/0x409 configs/c.1
echo DSJ-V8 >strings/0x409/product; echo CLONE >strings/0x409/serialnumber
mkdir functions/mass_storage.0; echo /run/card >functions/mass_storage.0/lun.0/file
mkdir functions/hid.0; cd functions/hid.0; echo 1 >protocol; echo 1 >subclass; echo 8 >report_length
echo BQEJBqEBBQcZ4CnnFQAlAXUBlQiBAsA= | base64 -d >report_desc; cd $g
ln -s functions/mass_storage.0 functions/hid.0 configs/c.1/
echo dummy_udc.0 >UDC
"""


def test_a_recorder_that_is_also_a_keyboard_never_becomes_a_disk(machine: Machine) -> None:
    """One device with both functions, on a port that nobody has named; and let in by one line of the administrator."""
    machine.run(GADGET)
    status = machine.until_status(lambda status: list(slots(status).values()) == ["unsupported"])
    assert "未授权设备：其中有键盘或鼠标，已禁用" in status["slots"][0]["message"]
    assert status["slots"][0]["device"] == "DSJ-V8"
    assert machine.run("udevadm settle; ls /sys/block | grep -c ^sd || true").strip() == "0"
    events = machine.run("runuser -u capture-agent -- sqlite3 -readonly /var/lib/capture-agent/journal.db"
                         " \"SELECT detail FROM event WHERE kind = 'incident'\"")  # fmt: skip
    (told,) = (json.loads(line) for line in events.splitlines() if '"refused"' in line)
    assert told["detail"]["reason"] == "a keyboard or a mouse is in it: it was switched off"
    rule = 'SUBSYSTEM=="usb", ATTR{idVendor}=="2bdf", ATTR{idProduct}=="0280", ENV{CAPTURE_AGENT}="dock"'
    machine.guest.write("/etc/udev/rules.d/61-capture-agent.rules", f"{rule}\n")
    machine.run("udevadm control --reload; cd /sys/kernel/config/usb_gadget/bad; echo >UDC; echo dummy_udc.0 >UDC")
    machine.until("test -e /dev/sda && test $(blockdev --getro /dev/sda) = 1")
    machine.until_status(lambda status: "unsupported" not in slots(status).values())


def test_what_shows_no_disk_is_told_in_its_slot(machine: Machine) -> None:
    """A serial adapter; it is for the service's group only."""
    dock(machine, port1="1")
    machine.usb.serial()
    machine.until("test -e /dev/ttyUSB0")
    status = machine.until_status(lambda status: slots(status) == {"1": "unsupported"})
    assert "需切换U盘模式" in status["slots"][0]["message"]
    assert machine.run("udevadm settle; stat -c '%a %G' /dev/ttyUSB0").split() == ["660", "capture-agent"]
    known = properties(machine, "/sys/bus/usb/devices/1-1")
    assert (known["ID_MM_DEVICE_IGNORE"], known["CAPTURE_AGENT"]) == ("1", "no-disk")
