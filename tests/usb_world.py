"""A made /sys with USB devices, disks and nodes, for our udev rules as they are shipped and the real udevadm.

Run as root inside namespaces of its own: `unshare --mount --net python -m tests.usb_world SCENE`; see udev_world, whose
real sockets and disks these devices don't have. The disks are real loop devices under other names.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.drivers.detect import UsbDock, recorders
from tests.dock_listener import Ear, running
from tests.udev_world import tool

ROOT = Path(__file__).resolve().parents[1]
SYS = Path("/sys")
CONTROLLER = SYS / "devices/pci0000:00/0000:00:14.0"
PORT = "pci-0000:00:14.0-usb-0:"
RULES = Path("/run/udev/rules.d")
SLOTS = Path("/run/slots.toml")
STORAGE, PTP, MTP, KEYBOARD, MOUSE = 0x080650, 0x060101, 0xFFFF00, 0x030101, 0x030102
RNDIS, RNDIS_MISC, ECM, ACM, DATA, VIDEO, AUDIO = 0xE00103, 0xEF0401, 0x020600, 0x020201, 0x0A0000, 0x0E0100, 0x010100
FTDI, PRINTER, SMART_CARD, DFU = 0xFFFFFF, 0x070102, 0x0B0000, 0xFE0101


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else f"{text}\n".encode())
    return folder


def belongs(folder: Path, subsystem: str, *, bus: bool = True) -> Path:
    """Say of which subsystem a device is, and list it there."""
    kind = SYS / ("bus" if bus else "class") / subsystem
    devices = kind / "devices" if bus else kind
    devices.mkdir(parents=True, exist_ok=True)
    (folder / "subsystem").symlink_to(kind)
    (devices / folder.name).symlink_to(folder)
    return folder


@dataclass
class Plugged:
    """A USB device in a port like "1" or "1.2"."""

    folder: Path
    number: int

    def interface(self, index: int) -> Path:
        return self.folder / f"{self.folder.name}:1.{index}"

    def node(self, subsystem: str, name: str, index: int = 0) -> Path:
        """A character device that a driver made of an interface."""
        facts = f"MAJOR=1\nMINOR=3\nDEVNAME={name}"
        folder = write(self.interface(index) / subsystem / name, uevent=facts, dev="1:3")
        tool("cp", "-a", "/dev/null", f"/dev/{name}")
        return belongs(folder, subsystem, bus=False)

    def disk(self, loop: str, name: str = "sdb", *, lun: int = 0, partition: str = "") -> Path:
        """A disk of a storage interface; the kernel knows its real self by its number."""
        host = self.interface(0) / f"host{self.number}"
        unit = f"{self.number}:0:0:{lun}"
        belongs(write(host, uevent="DEVTYPE=scsi_host"), "scsi") if not host.exists() else None
        target = host / f"target{self.number}:0:0"
        belongs(write(target, uevent="DEVTYPE=scsi_target"), "scsi") if not target.exists() else None
        scsi = write(target / unit, uevent="DEVTYPE=scsi_device", vendor="DSJ", model="V8", rev="1", type="0")
        belongs(scsi, "scsi")
        disk = block(scsi / "block" / name, loop, "disk")
        if partition:
            write(block(disk / f"{name}1", partition, "partition"), partition="1")
        return disk


def block(folder: Path, loop: str, kind: str) -> Path:
    number = os.stat(loop).st_rdev
    major, minor = os.major(number), os.minor(number)
    facts = f"MAJOR={major}\nMINOR={minor}\nDEVNAME={folder.name}\nDEVTYPE={kind}\nDISKSEQ={minor + 100}"
    write(folder, uevent=facts, dev=f"{major}:{minor}", size="2048", ro="0", removable="1")
    for place in ("block", "dev/block"):
        (SYS / place).mkdir(parents=True, exist_ok=True)
    (SYS / f"dev/block/{major}:{minor}").symlink_to(folder)
    if kind == "disk":
        (SYS / "block" / folder.name).symlink_to(folder)
    tool("cp", "-a", loop, f"/dev/{folder.name}")
    return belongs(folder, "block", bus=False)


def plug(
    port: str, *interfaces: int, serial: str = "058F63666485", speed: str = "480", kind: str = "00", name: str = ""
) -> Plugged:
    """A device with these interfaces, each class, subclass and protocol; the last one may have a name."""
    nodes = Path("/dev/bus/usb/001")
    nodes.mkdir(parents=True, exist_ok=True)
    number = 2 + len(list(nodes.iterdir()))
    descriptors = bytes([18, 1, 0, 2, int(kind, 16), 0, 0, 64, *bytes(10)])
    for index, code in enumerate(interfaces):
        descriptors += bytes([9, 4, index, 0, 2, *code.to_bytes(3, "big"), 0, 7, 5, 0x81, 2, 0, 2, 0])
    folder = CONTROLLER / "usb1"
    for depth in range(port.count(".") + 1):
        folder /= "1-" + ".".join(port.split(".")[: depth + 1])
    facts = f"MAJOR=189\nMINOR={number}\nDEVNAME=bus/usb/001/{number:03}\nDEVTYPE=usb_device\nDEVNUM={number:03}"
    write(
        folder, uevent=facts, dev=f"189:{number}", idVendor="2bdf", idProduct="0280", bcdDevice="0100", serial=serial,
        manufacturer="DSJ", product="V8", bDeviceClass=kind, authorized="1", speed=speed, descriptors=descriptors,
    )  # fmt: skip
    tool("mknod", nodes / f"{number:03}", "c", "189", str(number))
    plugged = Plugged(belongs(folder, "usb"), number)
    for index, code in enumerate(interfaces):
        names = ("bInterfaceClass", "bInterfaceSubClass", "bInterfaceProtocol")
        parts = dict(zip(names, re.findall("..", f"{code:06x}"), strict=True))
        facts = "DEVTYPE=usb_interface"
        belongs(write(plugged.interface(index), uevent=facts, bInterfaceNumber=f"{index:02}", **parts), "usb")
    if name:
        write(plugged.interface(len(interfaces) - 1), interface=name)
    return plugged


def run(device: Path, action: str = "add") -> dict[str, str]:
    """What udev makes of a device by all rules that there are; fails if it can't read ours."""
    command = ["udevadm", "test", f"--action={action}", str(device)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    complaints = re.findall(r"capture-agent\.rules:\d+ .*", done.stderr)
    assert [
        text for text in complaints if re.search(r"Invalid|Unknown|ignoring", text) and "returned" not in text
    ] == []
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if re.match(r"[A-Z_]+=", line))
    found["runs"] = " ".join(re.findall(r"^run: '(.*)'$", done.stdout, re.MULTILINE))
    if "DEVNAME" in found:
        seen = os.stat(found["DEVNAME"])
        found |= {"mode": f"{seen.st_mode & 0o777:o}", "group": str(seen.st_gid)}
    return found


def remember(device: Path) -> dict[str, str]:
    """Run the rules and write down what they found where libudev looks it up, as the real daemon does."""
    found = run(device)
    number = found.get("MAJOR"), found.get("MINOR")
    name = f"{'b' if found['SUBSYSTEM'] == 'block' else 'c'}{number[0]}:{number[1]}"
    known = [f"E:{key}={value}" for key, value in found.items() if key.isupper()]
    write(Path("/run/udev/data"), **{name: "\n".join(["I:1", *known, "V:1"])})
    return found


def slots(text: str | None) -> None:
    """The file of slots as it is from now on."""
    SLOTS.unlink(missing_ok=True)
    if text is not None:
        SLOTS.write_text(text)


def is_read_only(loop: str) -> bool:
    return tool("blockdev", "--getro", loop) == "1"


@contextlib.contextmanager
def loops(folder: Path, count: int) -> Iterator[list[str]]:
    """Real disks of zeros."""
    made: list[str] = []
    try:
        for number in range(count):
            image = folder / f"image{number}"
            image.write_bytes(bytes(1 << 20))
            made.append(tool("losetup", "--find", "--show", image))
        yield made
    finally:
        for disk in made:
            tool("blockdev", "--setrw", disk)  # it outlasts the image: the next one would be read-only
            tool("losetup", "--detach", disk)


def scene_disks(*found: str) -> None:
    """A recorder's disk and its partition are read-only for everybody, at once; what isn't the dock's is left alone."""
    whole, part, other, mounted = found
    recorder = plug("1", STORAGE)
    disk = recorder.disk(whole, "sdb", partition=part)
    slots(f'[slots]\n"{PORT}11" = "1"\n"{PORT}2" = "2"\n')
    assert "CAPTURE_AGENT" not in run(disk), "port 1 is not port 11"
    slots("[slots\n")
    assert "CAPTURE_AGENT" not in run(disk), "nobody knows whose port it is"
    assert not is_read_only(whole)
    for text in (None, "", "[slots]\n", f'[slots]\n"{PORT}1" = "一"\n'):
        slots(text)
        tool("blockdev", "--setrw", whole)
        found_out = remember(disk)
        assert found_out["ID_PATH"] == f"{PORT}1:1.0-scsi-0:0:0:0"
        assert (found_out["CAPTURE_AGENT"], found_out["UDISKS_IGNORE"]) == ("dock", "1")
        assert (found_out["mode"], found_out["group"], found_out["CAPTURE_AGENT_READ_ONLY"]) == ("440", "4711", "1")
        assert found_out["runs"] == "/bin/true", "nobody else's programs are run for it"
        assert is_read_only(whole), "the kernel itself refuses to write, before any other rule has run"
    assert {key: run(disk / "sdb1").get(key) for key in ("CAPTURE_AGENT", "UDISKS_IGNORE", "mode")} == {
        "CAPTURE_AGENT": "dock", "UDISKS_IGNORE": "1", "mode": "440",
    }  # fmt: skip
    assert is_read_only(part)
    assert run(disk, "change")["CAPTURE_AGENT"] == "dock", "a card was put into a reader"

    own = plug("3", STORAGE, serial="OWN").disk(other, "sdc")
    rule = 'SUBSYSTEM=="block", ENV{ID_SERIAL_SHORT}=="OWN", ENV{CAPTURE_AGENT}="own"\n'
    slots(None)
    write(RULES, **{"61-capture-agent.rules": rule})
    assert run(own)["CAPTURE_AGENT"] == "own"
    assert not is_read_only(other)

    tool("mkfs.ext4", "-q", "-O", "^has_journal", mounted)
    used = plug("4", STORAGE).disk(mounted, "sdd")
    place = Path("/run/mounted")
    place.mkdir()
    tool("mount", "/dev/sdd", place)
    assert "CAPTURE_AGENT" not in run(used)
    tool("umount", place)
    assert run(used)["CAPTURE_AGENT"] == "dock"


REFUSED = {
    (STORAGE, KEYBOARD): "refused-input",
    (STORAGE, MOUSE): "refused-input",
    (STORAGE, ACM, DATA, KEYBOARD): "refused-input",
    (PTP, KEYBOARD): "refused-input",
    (STORAGE, RNDIS): "refused-network",
    (STORAGE, RNDIS_MISC): "refused-network",
    (STORAGE, ECM, DATA): "refused-network",
    (STORAGE, PRINTER): "refused-other",
    (STORAGE, SMART_CARD): "refused-other",
    (STORAGE, DFU): "refused-other",
    (STORAGE,): "",
    (STORAGE, PTP): "",
    (STORAGE, ACM, DATA): "",
    (STORAGE, VIDEO, AUDIO): "",
    (STORAGE, FTDI): "",
    (PTP,): "no-disk in any port, mtp in a slot",
}
"""What becomes of recorders in a port of the dock, whether it has a name or not."""

ALONE = {
    (KEYBOARD,): "refused-input",
    (ECM, DATA): "refused-network",
    (PRINTER,): "refused-other",
    (ACM, DATA): "no-disk",
    (FTDI,): "no-disk",
    (MTP,): "no-disk",
    (VIDEO,): "no-disk",
}
"""What becomes of what is no recorder at all: only in a slot that was named is it anybody's business."""


def judged(interfaces: tuple[int, ...], port: str = "1.2", name: str = "") -> tuple[str, bool]:
    """The mark that a device gets, and whether it is switched off."""
    device = plug(port, *interfaces, name=name).folder
    found = run(device)
    authorized = (device / "authorized").read_text().strip()
    assert authorized in ("0", "1")
    tool("sh", "-c", f"find /sys/bus -lname '{device}*' -delete; rm -r {device}")
    return found.get("CAPTURE_AGENT", ""), authorized == "0"


def scene_policy() -> None:
    """What is more than a recorder is switched off in the dock, and nowhere else."""
    plug("1", kind="09")
    for text in (None, f'[slots]\n"{PORT}1" = "1"\n', f'[slots]\n"{PORT}7" = "7"\n'):
        slots(text)
        is_ours, is_named = text is None or f'"{PORT}1"' in text, text is not None
        for interfaces, mark in (REFUSED | ALONE).items():
            expected = mark if is_ours and (is_named or interfaces in REFUSED) else ""
            if "," in expected:
                expected = "mtp" if is_named else "no-disk"
            told = f"{[f'{code:06x}' for code in interfaces]} with {text}"
            assert judged(interfaces) == (expected, expected.startswith("refused")), told
        telephone = "mtp" if is_named and is_ours else ""
        assert judged((MTP,), name="MTP") == judged((MTP, FTDI), name="MTP") == (telephone, False), text
        assert judged((MTP, KEYBOARD), name="MTP") == (telephone and "refused-input", bool(telephone)), text
    slots(f'[slots]\n"{PORT}1" = "1"\n')
    assert judged((MTP,), name="MTP or something")[0] == "no-disk"
    assert "CAPTURE_AGENT" not in run(plug("1.4", 0x090000, kind="09").folder), "a hub is no device of its own"
    for mark in ("own", "dock"):
        rule = f'SUBSYSTEM=="usb", ENV{{ID_SERIAL_SHORT}}=="058F63666485", ENV{{CAPTURE_AGENT}}="{mark}"\n'
        write(RULES, **{"61-capture-agent.rules": rule})
        assert judged((STORAGE, KEYBOARD)) == (mark, False), "the administrator has the last word"


def scene_nodes() -> None:
    """Serial lines and cameras in a slot are for the service only, and no modem is looked for in them."""
    line = plug("1", ACM, DATA).node("tty", "ttyACM0")
    camera = plug("2", VIDEO).node("video4linux", "video0")
    still, disk = plug("3", PTP).folder, plug("4", STORAGE, ACM, DATA).folder
    slots(f'[slots]\n"{PORT}9" = "9"\n')
    left_alone = [run(device) for device in (line, camera, still, disk)]
    assert not [found for found in left_alone if found["group"] == "4711" or "ID_MM_DEVICE_IGNORE" in found]
    assert "uaccess" in left_alone[1]["CURRENT_TAGS"]
    assert "uaccess" in left_alone[1]["runs"]
    slots(None)
    assert run(disk)["ID_MM_DEVICE_IGNORE"] == "1", "a modem's commands are written to the recorder"
    slots("[slots]\n" + "".join(f'"{PORT}{port}" = "{port}"\n' for port in range(1, 5)))
    phone = plug("5", MTP, name="MTP").folder
    slots("[slots]\n" + "".join(f'"{PORT}{port}" = "{port}"\n' for port in range(1, 6)))
    for device in (line, camera, still, phone):
        found = run(device)
        assert (found["mode"], found["group"]) == ("660", "4711"), found
        assert ("uaccess" in found.get("CURRENT_TAGS", ""), found["runs"]) == (False, "/bin/true")
    assert run(still)["ID_MM_DEVICE_IGNORE"] == "1"


def scene_detection(*found: str) -> None:
    """What the rules have marked is found: clones apart, each in its own port, with its speed, and what was refused."""
    slots(None)
    clones = [plug(port, STORAGE, speed=speed) for port, speed in (("1", "480"), ("2", "12"), ("3", "unknown"))]
    for clone, loop, name in zip(clones, found, ("sdb", "sdc", "sdd"), strict=False):
        remember(clone.disk(loop, name))
    remember(clones[0].disk(found[3], "sde", lun=1))
    bad = plug("4", STORAGE, KEYBOARD)
    remember(bad.folder)
    slots(f'[slots]\n"{PORT}5" = "5"\n')
    remember(plug("5", PTP, speed="5000").folder)
    seen = {one.docked.slot: one for one in recorders()}
    camera = seen.pop(f"{PORT}5").docked
    assert (camera.device.driver, camera.device.serial, camera.link_mbit_s) == ("mtp", "058F63666485", 5000)
    assert str(camera.path).startswith("/dev/bus/usb/001/"), "that is where it is asked"
    disks = {place.removeprefix(PORT): one.docked for place, one in seen.items() if not one.refusal}
    speeds = {place: docked.link_mbit_s for place, docked in disks.items()}
    assert speeds == {
        f"{port}:1.0-scsi-0:0:0:{lun}": speed for port, lun, speed in ((1, 0, 480), (1, 1, 480), (2, 0, 12), (3, 0, 0))
    }
    assert len({docked.key for docked in disks.values()}) == 4
    assert {docked.device.serial for docked in disks.values()} == {"058F63666485"}
    (refused,) = (one for one in seen.values() if one.refusal)
    assert (refused.docked.slot, refused.docked.device.product) == (f"{PORT}4", "V8")
    assert "keyboard" in refused.refusal
    asyncio.run(unplugged(bad))


async def unplugged(bad: Plugged) -> None:
    """A refused device is told once, and told as gone when it is."""
    ear = Ear()
    async with running(UsbDock(ear, rescan_s=0.05).run()):
        await ear.until(lambda: len(ear.docked) == 5 and len(ear.refused) == 1)
        tool("sh", "-c", f"find /sys/bus -lname '{bad.folder}*' -delete; rm -r {bad.folder}")
        await ear.until(lambda: not ear.refused)
    assert [what for what, _ in ear.history].count("gone") == 1


def private_world(disks: list[str]) -> None:
    """Take a /run, /dev, /sys and a group of our own, with our rules beside those of the system."""
    tool("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/udev/data").mkdir(parents=True)
    Path("/run/group").write_text(Path("/etc/group").read_text() + "capture-agent:x:4711:\n")
    tool("mount", "--bind", "/run/group", "/etc/group")
    replaced = {
        "/usr/lib/capture-agent/lib/python3.11/site-packages/agent": str(ROOT / "agent"),
        "/etc/capture-agent/slots.toml": str(SLOTS),
    }
    for rules in (ROOT / "systemd").glob("*.rules"):
        text = rules.read_text()
        for shipped, ours in replaced.items():
            text = text.replace(shipped, ours)
        write(RULES, **{rules.name: text})
    tool("mount", "-t", "tmpfs", "tmpfs", "/run/dev", "-o", "mode=755,X-mount.mkdir")
    tool("cp", "-a", "/dev/null", "/dev/zero", "/dev/urandom", *disks, "/run/dev")
    tool("mount", "--move", "/run/dev", "/dev")
    tool("mount", "-t", "tmpfs", "tmpfs", "/sys")
    os.environ["SYSTEMD_DEVICE_VERIFY_SYSFS"] = "0"
    belongs(write(CONTROLLER, uevent="DRIVER=xhci_hcd\nPCI_SLOT_NAME=0000:00:14.0"), "pci")
    root = write(CONTROLLER / "usb1", uevent="DEVTYPE=usb_device", bDeviceClass="09", authorized="1")
    belongs(root, "usb")


SCENES = {"disks": scene_disks, "policy": scene_policy, "nodes": scene_nodes, "detection": scene_detection}


def main(scene: str) -> None:
    """Take a private world, then play the scene."""
    assert Path("/proc/self/mountinfo").read_text().count(" shared:") == 0, "run by unshare --mount --net"
    with tempfile.TemporaryDirectory() as folder, loops(Path(folder), 4) as disks:
        private_world(disks)
        SCENES[scene](*disks if scene in ("disks", "detection") else ())


if __name__ == "__main__":
    main(sys.argv[1])
