"""Finds the serial lines of what sits in the dock's slots; asks udev only, opens nothing."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

import pyudev

IN_SLOT: Final = ("CAPTURE_AGENT_PORT", "slot")
"""The property that our udev rule gives to nodes in a named slot of the dock; no other line is ever spoken to."""

_DISK: Final = ":08"

_udev: Final = functools.cache(pyudev.Context)


@dataclass(frozen=True, slots=True)
class SerialPort:
    """A serial line of a USB device. `path` is where it is plugged in (ID_PATH), `usb` its numbers like "2bdf:0280".

    `is_disk`: the same device is a disk, too, so that it need not be switched to one.
    """

    key: str
    node: str
    path: str
    usb: str
    serial: str = ""
    is_disk: bool = False


def serial_ports() -> list[SerialPort]:
    """All serial lines in named slots, in the order of their nodes. Raises OSError if the system can't be asked."""
    found = [_port(device) for device in _udev().list_devices(subsystem="tty") if _is_in_slot(device)]
    return sorted(found, key=lambda port: port.node)


def _is_in_slot(device: pyudev.Device) -> bool:
    known = device.properties
    return known.get(IN_SLOT[0]) == IN_SLOT[1] and device.device_node is not None and "ID_VENDOR_ID" in known


def _port(device: pyudev.Device) -> SerialPort:
    """The key has the time at which udev first saw it, which nothing that is plugged in later gets again."""
    known = device.properties
    return SerialPort(
        key=f"{device.device_node}#{known.get('USEC_INITIALIZED', '')}",
        node=str(device.device_node),
        path=known.get("ID_PATH", ""),
        usb=f"{known['ID_VENDOR_ID']}:{known.get('ID_MODEL_ID', '')}",
        serial=known.get("ID_SERIAL_SHORT", ""),
        is_disk=_DISK in known.get("ID_USB_INTERFACES", ""),
    )
