"""What is plugged into this PC, as udev and the kernel tell it: no device is opened, and nothing is read from one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyudev

from agent.drivers.detect import MARK, WORLD, busy_now, docked_disk, link_mbit_s, refusal, udev

DEVICES_MAX: Final = 256
"""More USB devices than this are not told of."""

_CHARACTERS_MAX: Final = 256
_HARMLESS: Final = re.compile(
    r"(CAPTURE_AGENT\w*|DEV(NAME|PATH|TYPE|NUM|LINKS)|DISKSEQ|DRIVER|SUBSYSTEM|TAGS|UDISKS_IGNORE"
    r"|ID_(BUS|TYPE|INSTANCE|REVISION|SERIAL(_SHORT)?|MODEL(_ID)?|VENDOR(_ID)?|PATH(_TAG)?|USB_\w+|V4L_\w+"
    r"|GPHOTO2|MTP_DEVICE|MEDIA_PLAYER|MM_\w+|FS_(TYPE|VERSION|UUID|LABEL)|PART_TABLE_TYPE))"
)
"""What udev knows of how a device calls itself and where it sits: no user, no network address, no disk of this PC."""

_NODES: Final = ("block", "tty", "video4linux", "sound")
_KINDS: Final[Mapping[str, str]] = {
    "01": "sound", "03": "input", "06": "camera", "07": "printer", "08": "disk", "09": "hub", "0a": "serial",
    "0b": "smart card", "0e": "video", "e0": "network", "ff": "its maker's own",
}  # fmt: skip
"""Classes of USB interfaces (usb.org, Defined Class Codes) in the words that the screens have for them."""


@dataclass(frozen=True, slots=True)
class Node:
    """One of the files below /dev that the kernel made for a device; `busy` tells who else uses a disk."""

    path: str
    subsystem: str
    mark: str = ""
    size_bytes: int = 0
    busy: str = ""
    is_read_only: bool = False
    known: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Plugged:
    """A USB device that is no hub, or a disk elsewhere that is marked as a recorder.

    `functions` is what its interfaces are for, `whose` whose port it sits in by udev's rules (`slot`, `any`, `other`;
    empty: they said nothing), `mark` what else they said. `known` is what udev knows of it that is harmless.
    """

    name: str
    port: str
    vendor: str
    product: str
    serial: str
    usb_id: str
    functions: tuple[str, ...]
    link_mbit_s: float
    whose: str
    mark: str
    is_looked_at: bool
    nodes: tuple[Node, ...]
    known: Mapping[str, str]


def look() -> list[Plugged]:
    """Everything that is plugged in now, at most 256; raises OSError if the system can't be asked."""
    found: list[Plugged] = []
    mounted = busy_now()
    for device in udev().list_devices(subsystem="usb", DEVTYPE="usb_device"):
        if len(found) < DEVICES_MAX and not _is_hub(device):
            found.extend(_usb(device, mounted))
    for disk in udev().list_devices(subsystem="block"):
        is_ours = disk.device_type == "disk" and disk.properties.get(MARK[0]) == MARK[1]
        if is_ours and disk.find_parent("usb", "usb_device") is None and len(found) < DEVICES_MAX:
            found.extend(_elsewhere(disk, mounted))
    return sorted(found, key=lambda one: (one.port, one.name))


def named_node(path: Path) -> Node:
    """What udev knows of a node that a person named, by any of its names; of a partition, its disk.

    Raises OSError if there is none.
    """
    try:
        device = pyudev.Devices.from_device_file(udev(), str(path.resolve(strict=True)))
        disk = device.find_parent("block", "disk") if device.device_type == "partition" else device
        return _node(disk, busy_now())
    except (*WORLD, RuntimeError) as error:  # links that go round are a RuntimeError
        raise OSError(str(error)) from error


def _is_hub(device: pyudev.Device) -> bool:
    try:
        return bool(_attribute(device, "bDeviceClass") == "09")
    except OSError:
        return True  # unplugged while we looked


def _usb(device: pyudev.Device, mounted: frozenset[str]) -> Iterator[Plugged]:
    try:
        known = _harmless(device)
        below = [node for node in device.children if node.subsystem in _NODES and node.device_node]
        yield Plugged(
            device.sys_name,
            known.get("ID_PATH", ""),
            known.get("ID_VENDOR", ""),
            known.get("ID_MODEL", ""),
            known.get("ID_SERIAL_SHORT", ""),
            f"{_attribute(device, 'idVendor')}:{_attribute(device, 'idProduct')}",
            _functions(known.get("ID_USB_INTERFACES", "")),
            link_mbit_s(device),
            known.get("CAPTURE_AGENT_PORT", ""),
            known.get(MARK[0], ""),
            device.is_initialized,
            (_usb_node(device), *(_node(one, mounted) for one in below if one.device_type != "partition")),
            known,
        )
    except WORLD:
        return


def _elsewhere(disk: pyudev.Device, mounted: frozenset[str]) -> Iterator[Plugged]:
    """A disk on no USB, as in a built-in card slot, that a local rule made a dock."""
    try:
        known, node, who = _harmless(disk), _node(disk, mounted), docked_disk(disk).device
        yield Plugged(
            disk.sys_name, who.port, who.vendor, who.product, who.serial, "", ("disk",), 0.0,
            known.get("CAPTURE_AGENT_PORT", ""), node.mark, True, (node,), known,
        )  # fmt: skip
    except WORLD:
        return


def _usb_node(device: pyudev.Device) -> Node:
    return Node(device.device_node or "", "usb")


def _node(device: pyudev.Device, mounted: frozenset[str]) -> Node:
    known, path = _harmless(device), str(device.device_node)
    mark = known.get(MARK[0], "")
    if device.subsystem != "block":
        return Node(path, device.subsystem, mark, known=known)
    size = docked_disk(device).device.size_bytes
    is_read_only = _attribute(device, "ro") == "1"
    return Node(path, "block", mark, size, refusal(Path(device.sys_path), mounted), is_read_only, known)


def _functions(interfaces: str) -> tuple[str, ...]:
    """`:080650:030101:` of udev, which is class, subclass and protocol of each interface, as words, each once."""
    codes = [code for code in interfaces.split(":") if code]
    return tuple(dict.fromkeys(_function(code) for code in codes))


def _function(code: str) -> str:
    if code.startswith("02"):  # communication: a modem's serial line (ACM), else a network card
        return "serial" if code.startswith("0202") else "network"
    return "network" if code.startswith("ef04") else _KINDS.get(code[:2], f"class {code[:2]}")


def _harmless(device: pyudev.Device) -> dict[str, str]:
    known = {str(name): str(value) for name, value in device.properties.items()}
    return {name: value[:_CHARACTERS_MAX] for name, value in sorted(known.items()) if _HARMLESS.fullmatch(name)}


def _attribute(device: pyudev.Device, name: str) -> str:
    return Path(device.sys_path, name).read_text("ascii", "replace").strip()
