"""Finds docked USB recorders: udev says when to look, a look at all disks says what is there."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Final

import pyudev

from agent.drivers.dock import DockedPath, DockListener, Presence, Seen, news_or_timeout
from agent.errors import DeviceError
from agent.model import Device

MARK: Final = ("CAPTURE_AGENT", "dock")
"""The property that our udev rule gives to disks that are recorders; no other disk is ever looked at."""

MTP: Final = "mtp"
"""What our rule says of USB devices that have no disk, but speak PTP or MTP."""

REFUSALS: Final[Mapping[str, str]] = {
    "refused-input": "a keyboard or a mouse is in it: it was switched off",
    "refused-network": "a network card is in it: it was switched off",
    "refused-other": "more than a recorder is in it: it was switched off",
    "no-disk": "it doesn't show itself as a USB disk: nothing can be pulled from it",
}
"""What our udev rules say of a USB device in the dock of which nothing is read, whether it has a disk or not."""

_SECTOR_BYTES: Final = 512  # the unit of sysfs `size`, whatever the disk's own sector size is
_DRAIN_EVENTS: Final = 256
_SETTLE_S: Final = 0.1
WORLD: Final = (OSError, ValueError, pyudev.DeviceNotFoundError)
"""What sysfs and pyudev raise when the world refuses."""

udev: Final = functools.cache(pyudev.Context)
"""The one connection to udev, for the event loop's thread: a new one runs ldconfig, and everything waits for that."""


def recorders() -> list[Seen]:
    """All disks that our udev rule marked, with a medium in them, all that speak MTP, and all that it refused.

    Raises OSError if the system can't be asked.
    """
    busy = busy_now()
    disks = [disk for disk in udev().list_devices(subsystem="block") if _is_recorder(disk)]
    found = [seen for disk in disks for seen in _look_at(disk, busy) if seen.docked.device.size_bytes > 0]
    for device in udev().list_devices(subsystem="usb", DEVTYPE="usb_device"):
        if (mark := _mark(device)) in REFUSALS:
            found.append(Seen(_usb(device, "usb"), REFUSALS[mark]))
        elif mark == MTP and device.device_node is not None:
            found.append(Seen(replace(_usb(device, MTP), path=Path(device.device_node))))
    return found


def _mark(device: pyudev.Device) -> str:
    return str(device.properties.get(MARK[0], ""))


def _usb(device: pyudev.Device, driver: str) -> DockedPath:
    """A USB device without a disk; a device number is given anew each time something is plugged in."""
    known = device.properties
    path = Path(device.sys_path)
    named = (known.get(name, "") for name in ("ID_VENDOR", "ID_MODEL", "ID_SERIAL_SHORT", "ID_PATH"))
    who = Device(driver, *named)
    key = f"{path.name}#{known.get('DEVNUM', '')}#{known.get('USEC_INITIALIZED', '')}"
    return DockedPath(key, path, who.port or path.name, who, link_mbit_s(device))


def _is_recorder(disk: pyudev.Device) -> bool:
    """Checked here and not by libudev's matches: of several properties, any one would do for those."""
    return disk.device_type == "disk" and _mark(disk) == MARK[1] and disk.device_node is not None


def _look_at(disk: pyudev.Device, busy: AbstractSet[str]) -> Iterator[Seen]:
    try:
        yield Seen(docked_disk(disk), refusal(Path(disk.sys_path), busy))
    except WORLD:
        return  # unplugged while we looked: it is not there, and the others must not suffer


def docked_disk(disk: pyudev.Device) -> DockedPath:
    """Who a disk is. The key has the kernel's disk sequence number, which no later disk or medium gets again."""
    known = disk.properties
    node, port = disk.device_node, known.get("ID_PATH", "")
    sequence = known.get("DISKSEQ") or known.get("USEC_INITIALIZED", "")
    return DockedPath(
        key=f"{node}#{sequence}",
        path=Path(node),
        slot=port or disk.sys_name,
        device=Device(
            driver="mass_storage",
            vendor=known.get("ID_VENDOR", ""),
            product=known.get("ID_MODEL", ""),
            serial=known.get("ID_SERIAL_SHORT", ""),
            port=port,
            size_bytes=int(_text(Path(disk.sys_path) / "size")) * _SECTOR_BYTES,
        ),
        link_mbit_s=link_mbit_s(disk.find_parent("usb", "usb_device")),
    )


def link_mbit_s(usb: pyudev.Device | None) -> float:
    """How fast the USB link runs that was agreed upon when it was plugged in; 0 for what is on no USB."""
    try:
        return 0.0 if usb is None else float(_text(Path(usb.sys_path) / "speed"))
    except ValueError:
        return 0.0  # "unknown"


def lies_on_recorder(path: Path) -> bool:
    """Whether a folder is on a disk that our udev rule marked as a recorder."""
    try:
        part = pyudev.Devices.from_device_number(udev(), "block", os.stat(path).st_dev)
        disk = part if part.device_type == "disk" else part.find_parent("block", "disk")
    except WORLD:
        return False  # a filesystem without a disk of its own
    return disk is not None and _mark(disk) == MARK[1]


def named_disk(path: Path) -> DockedPath:
    """Who the disk or partition is that a person named; raises DeviceError if it must not be read."""
    try:
        disk = pyudev.Devices.from_device_file(udev(), str(path))
        found = docked_disk(disk)
        reason = refusal(Path(disk.sys_path), busy_now())
    except WORLD as error:
        raise DeviceError(f"{path} can't be identified: {error}.", safe="Nothing was touched.") from error
    if reason:
        raise DeviceError(
            f"{path} is {reason} by this system, which may write to it.",
            safe="Nothing was read and nothing was changed.",
            do="Unmount it first, if it is a recorder; never name a disk of this computer.",
        )
    return found


def refusal(sys_path: Path, busy: AbstractSet[str]) -> str:
    """Why a disk must not be read: this system uses it, or a part of it, itself; empty if nothing speaks against it."""
    for part in (sys_path, *(child for child in sys_path.iterdir() if (child / "partition").exists())):
        if _text(part / "dev") in busy:
            return "mounted"
        holders = part / "holders"
        if holders.is_dir() and any(holders.iterdir()):
            return "in use"
    return ""


def busy_now() -> frozenset[str]:
    """`major:minor` of everything that this system itself has mounted or swaps to; raises OSError."""
    return busy_numbers(Path("/proc/self/mountinfo").read_text("utf-8", "replace"), Path("/proc/swaps").read_text())


def busy_numbers(mountinfo: str, swaps: str) -> frozenset[str]:
    """`major:minor` of everything mounted or swapped to; see proc(5).

    The source is looked at too, since filesystems over several disks (btrfs) show a number of their own.
    """
    numbers: set[str] = set()
    sources: set[str] = {line.split()[0] for line in swaps.splitlines()[1:] if line.strip()}
    for line in mountinfo.splitlines():
        fields, _, tail = line.partition(" - ")
        numbers.add(fields.split()[2])
        sources.add(tail.split()[1])
    for source in sources:
        if source.startswith("/dev/"):
            with contextlib.suppress(OSError):  # a device that no longer exists holds no disk of ours
                number = os.stat(source).st_rdev
                numbers.add(f"{os.major(number)}:{os.minor(number)}")
    return frozenset(numbers)


def _text(path: Path) -> str:
    return path.read_text("ascii").strip()


class UdevMonitor:
    """Hints that something changed: events of disks, USB devices and lines after udev's rules, from its netlink socket.

    Any of `WORLD` that it raises means: make a new one.
    """

    def __init__(self) -> None:
        self._monitor = pyudev.Monitor.from_netlink(udev(), source="udev")
        self._monitor.filter_by("block", "disk")
        self._monitor.filter_by("usb", "usb_device")
        self._monitor.filter_by("tty")
        self._monitor.start()

    def fileno(self) -> int:
        """Descriptor of the netlink socket."""
        return int(self._monitor.fileno())

    def drain(self) -> None:
        """Take up to 256 events; raises OSError when the kernel dropped some (pyudev does so on POLLERR)."""
        for _ in range(_DRAIN_EVENTS):
            if self._monitor.poll(timeout=0) is None:
                return

    def close(self) -> None:
        """Free the socket, which libudev closes with its last reference."""
        del self._monitor


class UsbDock:
    """Detection of USB recorders. A lost event costs at most `rescan_s`, since each look sees all that is there."""

    def __init__(
        self,
        listener: DockListener,
        *,
        rescan_s: float = 5.0,
        look: Callable[[], Sequence[Seen]] = recorders,
        monitor: Callable[[], UdevMonitor] = UdevMonitor,
    ) -> None:
        self._presence = Presence(listener)
        self._rescan_s = rescan_s
        self._look = look
        self._make_monitor = monitor
        self._monitor: UdevMonitor | None = None
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Detect until cancelled."""
        try:
            while True:
                self._step()
                await news_or_timeout(self._news, self._rescan_s)
                await asyncio.sleep(_SETTLE_S)  # a burst of events is one look, a broken monitor no busy loop
        finally:
            self._drop_monitor()

    def _step(self) -> None:
        """Look once; the monitor is made first, so that nothing can change unheard after the look."""
        trouble = ""
        try:
            self._ensure_monitor()
        except WORLD as error:
            trouble = f"Docking is noticed late, since udev can't be heard: {error}. It is tried again."
        try:
            seen = self._look()
        except WORLD as error:
            trouble = f"Recorders can't be detected: {error}. It is tried again."
        else:
            self._presence.update(seen)
        self._presence.trouble(trouble)

    def _ensure_monitor(self) -> None:
        if self._monitor is None:
            self._monitor = self._make_monitor()
            asyncio.get_running_loop().add_reader(self._monitor.fileno(), self._heard)

    def _heard(self) -> None:
        assert self._monitor is not None
        try:
            self._monitor.drain()
        except WORLD:
            self._drop_monitor()  # events were lost: the next look sees what they would have told
        self._news.set()

    def _drop_monitor(self) -> None:
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None
