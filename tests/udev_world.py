"""A world with its own udev, for detection: real loop disks and a real netlink socket, marked and announced by us.

Run as root inside namespaces of its own: `unshare --mount --net python -m tests.udev_world SCENE`. There is a private
/run/udev, and nobody outside hears the events. A scene fails by raising.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from agent.drivers.detect import UdevMonitor, UsbDock, recorders
from tests.dock_listener import Ear, running

NETLINK_KOBJECT_UEVENT = 15
UDEV_GROUP = 2
DISK_BYTES = 1024 * 1024
BURST = 25


def tool(*arguments: str | Path) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True, timeout=30).stdout.strip()


def string_hash(text: str) -> int:
    """MurmurHash2 with seed 0, by which libudev's socket filter tells subsystems apart."""
    m, mask = 0x5BD1E995, 0xFFFFFFFF
    data = text.encode()
    value = len(data)
    whole = len(data) // 4 * 4
    for (k,) in struct.iter_unpack("<I", data[:whole]):
        mixed = k * m & mask
        value = value * m & mask ^ (mixed ^ mixed >> 24) * m & mask
    if tail := data[whole:]:
        value = (value ^ int.from_bytes(tail, "little")) * m & mask
    value = (value ^ value >> 13) * m & mask
    return value ^ value >> 15


def event(action: str, name: str) -> bytes:
    """A message as udev sends it to libudev's listeners when its rules have run."""
    facts = {
        "ACTION": action, "DEVPATH": f"/devices/virtual/block/{name}", "SUBSYSTEM": "block", "DEVTYPE": "disk",
        "DEVNAME": f"/dev/{name}", "SEQNUM": "1",
    }  # fmt: skip
    properties = b"".join(f"{key}={value}\0".encode() for key, value in facts.items())
    header = struct.pack("=8s4s3I", b"libudev\0", b"\xfe\xed\xca\xfe", 40, 40, len(properties))
    return header + struct.pack(">2I", string_hash("block"), string_hash("disk")) + bytes(8) + properties


def announce(*messages: bytes) -> None:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_KOBJECT_UEVENT) as sender:
        for message in messages:
            sender.sendto(message, (0, UDEV_GROUP))


def mark(disk: str, serial: str = "000001", *, ours: bool = True) -> None:
    """Write what udev's rules found out about a disk where libudev looks it up."""
    number = (Path("/sys/class/block") / Path(disk).name / "dev").read_text().strip()
    lines = ["I:1", "E:ID_VENDOR=DSJ", "E:ID_MODEL=BODYCAM-V8", f"E:ID_SERIAL_SHORT={serial}", "E:ID_PATH=usb-0:3:1.0"]
    lines += ["E:CAPTURE_AGENT=dock"] if ours else []
    Path(f"/run/udev/data/b{number}").write_text("\n".join([*lines, "V:1", ""]))


def forget(disk: str) -> None:
    number = (Path("/sys/class/block") / Path(disk).name / "dev").read_text().strip()
    Path(f"/run/udev/data/b{number}").unlink()


@contextlib.contextmanager
def disks(folder: Path, count: int = 1) -> Iterator[list[str]]:
    """Loop disks of zeros."""
    made: list[str] = []
    try:
        for number in range(count):
            image = folder / f"disk{number}"
            with image.open("wb") as file:
                file.truncate(DISK_BYTES)
            made.append(tool("losetup", "--find", "--show", image))
        yield made
    finally:
        for disk in made:
            tool("losetup", "--detach", disk)


@contextlib.asynccontextmanager
async def detection(rescan_s: float, *, buffer_bytes: int = 0) -> AsyncIterator[tuple[Ear, list[UdevMonitor]]]:
    """The real thing: pyudev's enumeration and monitor; with all monitors that it made.

    A small `buffer_bytes` stands for a burst too large for the buffer that libudev asks for.
    """
    ear = Ear()
    made: list[UdevMonitor] = []

    def monitor() -> UdevMonitor:
        made.append(UdevMonitor())
        if buffer_bytes:
            made[-1]._monitor.set_receive_buffer_size(buffer_bytes)
        return made[-1]

    async with running(UsbDock(ear, rescan_s=rescan_s, monitor=monitor).run()):
        await ear.until(lambda: bool(made))
        await asyncio.sleep(0)
        yield ear, made
    assert set(ear.troubles) <= {""}, ear.troubles


async def hotplug(folder: Path) -> None:
    """An hour between looks: only an event that was heard can dock the disk, and only one can tell that it has gone."""
    async with detection(rescan_s=3600) as (ear, made):
        with disks(folder) as (disk,):
            mark(disk, "A1B2C3D4")
            announce(event("add", Path(disk).name))
            await ear.hears(Path(disk).name)
            (docked,) = ear.docked.values()
            device = docked.device
            assert docked.path == Path(disk)
            assert docked.slot == device.port == "usb-0:3:1.0"
            assert (device.vendor, device.product, device.serial) == ("DSJ", "BODYCAM-V8", "A1B2C3D4")
            assert device.size_bytes == DISK_BYTES
            assert docked.key.partition("#")[2].isdigit()
            forget(disk)
            announce(event("remove", Path(disk).name))
            await ear.hears()
        assert len(made) == 1


async def coldplug(folder: Path) -> None:
    """What is docked at start is found; a disk that our rule didn't mark never is, whatever else is known about it."""
    with disks(folder, 2) as (ours, other):
        mark(ours)
        mark(other, ours=False)
        async with detection(rescan_s=0.05) as (ear, _):
            await ear.hears(Path(ours).name)
            announce(event("add", Path(other).name))
            await asyncio.sleep(0.3)
            assert ear.history == [("docked", Path(ours).name)]


async def replug(folder: Path) -> None:
    """The same disk name for another recorder between two looks: the first has gone, the second is docked."""
    with disks(folder) as (disk,):
        mark(disk)
        async with detection(rescan_s=3600) as (ear, _):
            await ear.hears(Path(disk).name)
            tool("losetup", "--detach", disk)
            tool("losetup", disk, folder / "disk0")
            announce(event("change", Path(disk).name))
            await ear.until(lambda: len(ear.history) == 3)
            assert [what for what, _ in ear.history] == ["docked", "gone", "docked"]


async def burst(folder: Path) -> None:
    """F12: 25 disks come while so many events arrive that the kernel drops some and the socket reports an error."""
    async with detection(rescan_s=5, buffer_bytes=16 * 1024) as (ear, made):
        with disks(folder, BURST) as found:
            for disk in found:
                mark(disk)
            announce(*(event("change", Path(found[0]).name) for _ in range(1000)))
            await ear.hears(*(Path(disk).name for disk in found))
            assert len(made) > 1, "the socket never overflowed"
            announce(event("change", Path(found[0]).name))
            await ear.until(lambda: len(ear.docked) == BURST)
            for disk in found:
                forget(disk)
            announce(event("remove", Path(found[0]).name))
            await ear.hears()
    assert len(ear.history) == 2 * BURST


async def mounted(folder: Path) -> None:
    """A disk that is mounted is refused as long as it is, even while it is docked."""
    with disks(folder) as (disk,):
        mark(disk)
        name = Path(disk).name
        place = folder / "mounted"
        place.mkdir()
        tool("mkfs.ext4", "-q", "-O", "^has_journal", disk)
        tool("mount", "-o", "ro", disk, place)
        async with detection(rescan_s=0.05) as (ear, _):
            await ear.until(lambda: ear.history == [("refused: mounted", name)])
            tool("umount", place)
            await ear.hears(name)
            tool("mount", "-o", "ro", disk, place)
            await ear.hears()
            tool("umount", place)
            await ear.hears(name)
        assert len(recorders()) == 1


def play(scene: str, world: str = "tests.udev_world") -> None:
    """Run a scene in namespaces of its own; raises AssertionError with what it said if it fails."""
    command = ["unshare", "--mount", "--net", sys.executable, "-W", "error", "-m", world, scene]
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def main(scene: str) -> None:
    """Take a private /run, then play the scene."""
    assert os.readlink("/proc/self/ns/net") != os.readlink(f"/proc/{os.getppid()}/ns/net"), (
        "run by unshare --mount --net"
    )
    assert Path("/proc/self/mountinfo").read_text().count(" shared:") == 0, "run by unshare --mount --net"
    tool("mount", "-t", "tmpfs", "tmpfs", "/run")
    Path("/run/udev/data").mkdir(parents=True)
    scenes = {"hotplug": hotplug, "coldplug": coldplug, "replug": replug, "burst": burst, "mounted": mounted}
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(scenes[scene](Path(folder)))


if __name__ == "__main__":
    main(sys.argv[1])
