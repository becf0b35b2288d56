"""Whether udev marks recorders and protects them: rules in force, and every USB disk that is plugged in now."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import pyudev

from agent.doctor.finding import Case, Finding, Grade
from agent.drivers.detect import MARK

_RULES: Final = "*-capture-agent.rules"
_SYSTEM: Final = (Path("/usr/lib/udev/rules.d"), Path("/lib/udev/rules.d"))
_LOCAL: Final = (Path("/etc/udev/rules.d"), Path("/run/udev/rules.d"), Path("/usr/local/lib/udev/rules.d"))
"""A file here hides one of the same name that a package brought (udev(7))."""

_AGAIN: Final = (
    "运行 udevadm control --reload && udevadm trigger -s usb -s block",
    "Run `udevadm trigger -s usb -s block`.",
)


def look_at_dock(case: Case) -> Iterator[Finding]:
    """The rules, the running udev, and what it has said of each USB disk."""
    if case.config is not None and not case.config.dock.usb:
        yield Finding(Grade.GOOD, "按配置不采集 USB 设备", "switched off by dock.usb")
        return
    yield rules_in_force(_SYSTEM, _LOCAL)
    if case.config is not None:
        yield slots_named(case.config.slots, Path("/sys/bus/pci/devices"))
    if not Path("/run/udev/control").exists():
        do = "运行 systemctl restart systemd-udevd", "Run `systemctl restart systemd-udevd`."
        yield Finding(
            Grade.BAD, "udev 未运行，插入的设备不会被发现", "udev does not run: nothing docked is noticed", *do
        )
        return
    disks = [disk for disk in pyudev.Context().list_devices(subsystem="block") if _is_usb_disk(disk)]
    for disk in disks:
        yield _disk(disk)
    if not disks:
        told = "现在没有插入 USB 磁盘", "no USB disk is plugged in to see the rules at work"
        yield Finding(Grade.UNKNOWN, *told)


def rules_in_force(system: Sequence[Path], local: Sequence[Path]) -> Finding:
    """Whether the package's rules are there, and nothing stands in for them."""
    found = {path.name for folder in system for path in folder.glob(_RULES)}
    if not found:
        do = "重新安装软件包", "Install the package again."
        return Finding(Grade.BAD, "没有设备规则，不会采集任何设备", "there are no rules: nothing will be pulled", *do)
    hidden = " ".join(str(folder / name) for folder in local for name in sorted(found) if (folder / name).exists())
    if hidden:
        do = f"确认后移走 {hidden}", f"Remove {hidden} unless it is meant."
        return Finding(
            Grade.WARNING, f"软件包的规则被 {hidden} 取代", f"{hidden} stands in for the package's rules", *do
        )
    names = " ".join(sorted(found))
    return Finding(Grade.GOOD, f"设备规则 {names}", f"rules {names}")


def slots_named(slots: Mapping[str, str], controllers: Path) -> Finding:
    """Whether the named ports can be this station's: the controllers that they begin with are there."""
    if not slots:
        told = "未命名端口：每个 USB 口都是采集口", "no port is named in slots.toml: every USB port is the dock's"
        return Finding(Grade.GOOD, *told)
    found = {port: re.match(r"pci-([0-9a-f:.]+)-", port) for port in slots}
    strange = [slots[port] for port, pci in found.items() if pci and not (controllers / pci[1]).exists()]
    if strange:
        names = " ".join(strange)
        do = "按 docs/usb.md 重新填写 slots.toml", "Enter the ports anew: slots.toml is another PC's (docs/usb.md)."
        zh = f"端口 {names} 所在的控制器不在本机"
        return Finding(Grade.BAD, zh, f"slots {names} are on controllers that this PC does not have", *do)
    names = " ".join(dict.fromkeys(slots.values()))
    return Finding(Grade.GOOD, f"端口 {names}", f"slots {names}")


def _is_usb_disk(disk: pyudev.Device) -> bool:
    return bool(disk.device_type == "disk" and disk.properties.get("ID_BUS") == "usb" and disk.device_node)


def _disk(disk: pyudev.Device) -> Finding:
    node, mark = disk.device_node, disk.properties.get(MARK[0], "")
    if mark == "own":
        return Finding(
            Grade.GOOD, f"{node}：本站自用磁盘，不采集", f"{node} is this station's own, and not pulled from"
        )
    if disk.properties.get("CAPTURE_AGENT_PORT") == "other":
        told = f"{node}：不在采集口上，不采集", f"{node} is in no slot of the dock, and not pulled from"
        return Finding(Grade.GOOD, *told)
    if mark != MARK[1]:
        zh = f"{node} 未被识别为执法记录设备（插入时已挂载，或规则未生效）"
        en = f"{node} is not marked as a recorder: it was mounted when it appeared, or the rules were not in force"
        return Finding(Grade.WARNING, zh, en, *_AGAIN)
    mode = os.stat(node).st_mode
    is_read_only = Path(disk.sys_path, "ro").read_text("ascii").strip() == "1"
    if is_read_only and not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IRWXO):
        return Finding(Grade.GOOD, f"{node}：执法记录设备，只读", f"{node} is marked as a recorder, and read-only")
    zh, en = f"{node} 没有写保护", f"{node} is marked as a recorder, but it could be written to"
    return Finding(Grade.BAD, zh, en, *_AGAIN)
