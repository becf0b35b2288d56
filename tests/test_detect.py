"""Detection of USB recorders: with a real udev socket and real disks where the world matters, with a seam elsewhere."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import pyudev

from agent.drivers.detect import UdevMonitor, UsbDock, busy_numbers, docked_disk, recorders, refusal
from agent.drivers.dock import DockedPath, Presence, Seen
from agent.model import Device
from tests.dock_listener import Ear, running
from tests.udev_world import play

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw,errors=remount-ro
91 27 0:45 /@home /home rw,relatime shared:44 - btrfs {btrfs} rw,space_cache=v2,subvolid=258
92 27 8:17 / /mnt/with\\040blank rw,relatime shared:46 - vfat /dev/sdb1 rw
93 27 0:46 / /mnt/odd rw,relatime shared:47 - fuse.sshfs /dev/nothing-there rw
"""
SWAPS = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n{swap}   partition\t1000\t0\t-2\n"


def seen(number: int, sequence: int = 1, refused: str = "") -> Seen:
    path = Path(f"/dev/sd{number:02}")
    return Seen(DockedPath(f"{path}#{sequence}", path, f"port-{number}", Device("mass_storage")), refused)


class Pipe:
    """A monitor whose hints the test writes; draining may raise, as pyudev does when the socket reports an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.closed = False
        self._reading, self._writing = os.pipe2(os.O_NONBLOCK)

    def hint(self) -> None:
        os.write(self._writing, b"!")

    def fileno(self) -> int:
        return self._reading

    def drain(self) -> None:
        if self.error:
            raise self.error
        os.read(self._reading, 4096)

    def close(self) -> None:
        assert not self.closed
        self.closed = True
        os.close(self._reading)
        os.close(self._writing)


class World:
    """What is docked, and the monitors that were made; each script entry says how the next monitor fails, if at all."""

    def __init__(self, *script: Exception | None) -> None:
        self.there: list[Seen] = []
        self.monitors: list[Pipe] = []
        self.looks = 0
        self._script = list(script)

    def look(self) -> list[Seen]:
        self.looks += 1
        return list(self.there)

    def monitor(self) -> Pipe:
        self.monitors.append(Pipe(self._script.pop(0) if self._script else None))
        return self.monitors[-1]

    def dock(self, ear: Ear, rescan_s: float) -> UsbDock:
        return UsbDock(ear, rescan_s=rescan_s, look=self.look, monitor=self.monitor)


@pytest.mark.parametrize(
    "error",
    [
        OSError(105, "No buffer space available"),
        OSError("Error while polling fd: 7"),
        pyudev.DeviceNotFoundByNameError("block", "sdb"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"),
    ],
)
async def test_a_burst_during_which_the_monitor_fails_loses_no_recorder(error: Exception) -> None:
    """F12: events of 25 recorders are lost; a new monitor and a look find them all, without waiting for the rescan."""
    ear, world = Ear(), World(error, error)
    async with running(world.dock(ear, rescan_s=3600).run()):
        await ear.until(lambda: world.looks == 1)
        for number in range(25):
            world.there.append(seen(number))
            if not world.monitors[-1].closed:
                world.monitors[-1].hint()
            await asyncio.sleep(0)
        await ear.until(lambda: len(world.monitors) == 2)
        world.monitors[-1].hint()
        await ear.until(lambda: len(ear.docked) == 25 and len(world.monitors) == 3)
        world.there.clear()
        world.monitors[-1].hint()
        await ear.hears()
    assert all(monitor.closed for monitor in world.monitors)
    assert len(ear.history) == 50
    assert ear.troubles == []


async def test_events_that_never_come_cost_at_most_a_rescan() -> None:
    ear, world = Ear(), World()
    async with running(world.dock(ear, rescan_s=0.01).run()):
        await ear.until(lambda: world.looks == 1)
        world.there = [seen(number) for number in range(25)]
        await ear.until(lambda: len(ear.docked) == 25)


async def test_a_monitor_that_fails_for_ever_makes_no_busy_loop() -> None:
    """Each new monitor has an error waiting; looks stay a settling time apart, and docking still works."""
    ear, world = Ear(), World()
    broken: list[Pipe] = []

    def monitor() -> Pipe:
        broken.append(Pipe(OSError("Error while polling fd: 7")))
        broken[-1].hint()
        return broken[-1]

    loop = asyncio.get_running_loop()
    started_s = loop.time()
    async with running(UsbDock(ear, rescan_s=3600, look=world.look, monitor=monitor).run()):
        world.there = [seen(1)]
        await ear.hears("sd01")
        await ear.until(lambda: world.looks >= 4)
        assert len(broken) <= 2 + (loop.time() - started_s) / 0.1


async def test_without_a_monitor_recorders_are_found_and_the_trouble_is_told() -> None:
    ear, world = Ear(), World()
    failing = [True]

    def monitor() -> Pipe:
        if failing[0]:
            raise OSError(24, "Too many open files")
        return world.monitor()

    async with running(UsbDock(ear, rescan_s=0.01, look=world.look, monitor=monitor).run()):
        world.there = [seen(1)]
        await ear.hears("sd01")
        assert "Too many open files" in ear.troubles[-1]
        failing[0] = False
        await ear.until(lambda: ear.troubles[-1] == "")


async def test_a_look_that_fails_changes_nothing_and_is_told() -> None:
    """What was docked is not taken for gone only because the system could not be asked."""
    ear, world = Ear(), World()
    failing = [False]

    def look() -> list[Seen]:
        if failing[0]:
            raise OSError(23, "Too many open files in system")
        return world.look()

    async with running(UsbDock(ear, rescan_s=0.01, look=look, monitor=world.monitor).run()):
        world.there = [seen(1)]
        await ear.hears("sd01")
        failing[0] = True
        await ear.until(lambda: bool(ear.troubles) and "Too many open files in system" in ear.troubles[-1])
        assert ear.history == [("docked", "sd01")]
        failing[0] = False
        await ear.until(lambda: ear.troubles[-1] == "")
        assert ear.history == [("docked", "sd01")]


def test_the_listener_hears_each_difference_once_and_those_gone_first() -> None:
    ear = Ear()
    presence = Presence(ear)
    presence.update([seen(1), seen(2, refused="mounted")])
    presence.update([seen(1), seen(2, refused="mounted")])
    presence.update([seen(1, sequence=2), seen(2, refused="in use")])
    presence.update([seen(1, sequence=2, refused="mounted"), seen(2)])
    presence.update([])
    assert ear.history == [
        ("docked", "sd01"),
        ("refused: mounted", "sd02"),
        ("gone", "sd01"),
        ("docked", "sd01"),
        ("refused: in use", "sd02"),
        ("gone", "sd01"),
        ("refused: mounted", "sd01"),
        ("docked", "sd02"),
        ("gone", "sd01"),
        ("gone", "sd02"),
    ]


def test_everything_mounted_or_swapped_to_is_known_by_its_number() -> None:
    """/dev/null and /dev/zero stand for the disks of a btrfs and of swap: only their numbers matter."""
    busy = busy_numbers(MOUNTINFO.format(btrfs="/dev/null"), SWAPS.format(swap="/dev/zero"))
    assert {"8:2", "8:17", "1:3", "1:5"} <= busy
    assert "8:0" not in busy


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A disk with two partitions as sysfs shows it."""
    for name, number in {".": "8:16", "sdb1": "8:17", "sdb2": "8:18"}.items():
        folder = tmp_path / "sdb" / name
        (folder / "holders").mkdir(parents=True)
        (folder / "dev").write_text(f"{number}\n")
        if name != ".":
            (folder / "partition").write_text("1\n")
    (tmp_path / "sdb" / "queue").mkdir()
    return tmp_path / "sdb"


@pytest.mark.parametrize(
    ("busy", "reason"),
    [({"8:16"}, "mounted"), ({"8:18"}, "mounted"), ({"8:1", "8:19", "0:21"}, ""), (set(), "")],
)
def test_a_disk_of_which_any_part_is_mounted_is_refused(disk: Path, busy: set[str], reason: str) -> None:
    assert refusal(disk, busy) == reason


@pytest.mark.parametrize("part", [".", "sdb2"])
def test_a_disk_that_carries_another_device_is_refused(disk: Path, part: str) -> None:
    """RAID, encryption and volume groups hold a disk without mounting it."""
    (disk / part / "holders" / "dm-0").mkdir()
    assert refusal(disk, set()) == "in use"


def test_the_disk_of_this_system_is_never_a_recorder() -> None:
    """The real enumeration runs, and nothing that isn't marked comes out of it."""
    all_disks = [disk for disk in pyudev.Context().list_devices(subsystem="block") if disk.device_type == "disk"]
    unmarked = {docked_disk(disk).key for disk in all_disks if "CAPTURE_AGENT" not in disk.properties}
    assert unmarked.isdisjoint(one.docked.key for one in recorders())


async def test_a_real_monitor_opens_drains_and_closes_without_leaving_a_descriptor() -> None:
    """The check for leaks is conftest's."""
    for _ in range(20):
        monitor = UdevMonitor()
        assert os.readlink(f"/proc/self/fd/{monitor.fileno()}").startswith("socket:")
        monitor.drain()
        monitor.close()


async def test_detection_of_the_real_system_starts_and_stops() -> None:
    ear = Ear()
    async with running(UsbDock(ear, rescan_s=0.01).run()):
        await asyncio.sleep(0.05)
    assert ear.troubles == []


@pytest.mark.root
@pytest.mark.parametrize("scene", ["hotplug", "coldplug", "replug", "burst", "mounted"])
def test_real_disks_and_a_real_udev_socket(scene: str) -> None:
    """Each scene's promise is told in udev_world; in namespaces of its own, away from this system's udev."""
    play(scene)
