"""Recorders and other things that are plugged into a test machine and pulled out of it, and their faults."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machine.qemu import MachineError, Qemu

SLOWEST_BPS = 65536
"""QEMU, all of it, waits for a request that a throttle holds back when the machine gives it up."""

GONE_LIMIT_S = 30.0
LET_GO_TRIES = 100
LET_GO_S = 0.02
ERROR_NUMBER = 5


@dataclass(frozen=True, slots=True)
class Plugged:
    """A device in a USB port, and the parts of QEMU that it is made of."""

    name: str
    nodes: tuple[str, ...] = ()
    objects: tuple[str, ...] = ()


@dataclass(slots=True)
class Usb:
    """The USB ports of one running machine."""

    qemu: Qemu
    plugged: list[Plugged] = field(default_factory=list)
    number: int = 0

    def disk(
        self, image: Path, serial: str, *, vendor: str = "DSJ", product: str = "BODYCAM-V8", port: str = "",
        rate_bps: int = 0, bad_sectors: Sequence[int] = (), read_only: bool = False,
    ) -> Plugged:  # fmt: skip
        """Plug in a recorder: a raw image as a USB disk.

        `serial` is at most 36 characters, `vendor` 8, `product` 16, all ASCII; `port` is one of "1".."15", or of a hub
        "1.1".. ; `rate_bps` in bytes a second, 0 for none, at least 65536; `bad_sectors` of 512 bytes can't be read.
        """
        name = self._name("stick")
        faults = [
            {"event": "none", "iotype": "read", "errno": ERROR_NUMBER, "sector": sector, "once": False}
            for sector in bad_sectors
        ]
        file: dict[str, Any] = {"driver": "file", "filename": f"{image.resolve()}", "read-only": read_only}
        file = {"driver": "blkdebug", "image": file} | ({"inject-error": faults} if faults else {})
        self._node(driver="raw", node_name=f"{name}-image", file=file, read_only=read_only)
        parts = Plugged(name, (f"{name}-image",))
        if rate_bps:
            limits = {"bps-total": max(rate_bps, SLOWEST_BPS)}
            self.qemu.command("object-add", qom_type="throttle-group", id=f"{name}-rate", limits=limits)
            self._node(
                driver="throttle", node_name=f"{name}-slow", throttle_group=f"{name}-rate", file=f"{name}-image",
                read_only=read_only,
            )  # fmt: skip
            parts = Plugged(name, (f"{name}-image", f"{name}-slow"), (f"{name}-rate",))
        # Two devices, so that vendor and product can be named; they are attached as one.
        self._device("usb-bot", name, port=port, serial=serial)
        self.qemu.command(
            "device_add", driver="scsi-hd", id=f"{name}-disk", bus=f"{name}.0", drive=parts.nodes[-1], removable=True,
            vendor=vendor, product=product, serial=serial,
        )  # fmt: skip
        self.qemu.command("qom-set", path=f"/machine/peripheral/{name}", property="attached", value=True)
        self.plugged.append(parts)
        return parts

    def serial(self, node: str = "", port: str = "", number: str = "") -> Plugged:
        """Plug in an FTDI serial adapter (0403:6001), at whose other end is this computer's line `node`, or nobody.

        `number` is its serial number, instead of the one that QEMU makes up.
        """
        name = self._name("serial")
        backend = {"type": "serial", "data": {"device": node}} if node else {"type": "null", "data": {}}
        self.qemu.command("chardev-add", id=f"{name}-line", backend=backend)
        self._device("usb-serial", name, port=port, serial=number, chardev=f"{name}-line", always_plugged=True)
        return self._keep(Plugged(name))

    def keyboard(self, port: str = "") -> Plugged:
        """Plug in a keyboard."""
        name = self._name("keyboard")
        self._device("usb-kbd", name, port=port)
        return self._keep(Plugged(name))

    def hub(self, port: str = "") -> Plugged:
        """Plug in a hub of eight ports, at a port that then has to be named: "1" gives the ports "1.1" to "1.8"."""
        name = self._name("hub")
        self._device("usb-hub", name, port=port)
        return self._keep(Plugged(name))

    def mtp(self, folder: Path, port: str = "") -> Plugged:
        """Plug in a device that shows a folder over MTP; names must be ASCII."""
        name = self._name("mtp")
        self._device("usb-mtp", name, port=port, rootdir=f"{folder.resolve()}", desc="Recorder", readonly=True)
        return self._keep(Plugged(name))

    def yank(self, device: Plugged) -> None:
        """Pull a device out: no eject, no sync."""
        since = len(self.qemu.events)
        self.qemu.command("device_del", id=device.name)
        self.qemu.wait_for("DEVICE_DELETED", lambda data: data.get("device") == device.name, since, GONE_LIMIT_S)
        self.plugged.remove(device)
        for node in reversed(device.nodes):
            self._let_go(node)
        for one in device.objects:
            self.qemu.command("object-del", id=one)

    def hang(self, device: Plugged) -> None:
        """Let a recorder answer no further reading, until `free`, which comes before it is yanked.

        First raise the kernel's own limit (30 s, /sys/block/sdX/device/timeout): when it passes, QEMU hangs too.
        """
        said = self.qemu.monitor(f'qemu-io -d {device.name}-disk "break read_aio hang"')
        assert not said.strip(), said

    def free(self, device: Plugged) -> None:
        """Let a hanging recorder answer again."""
        self.qemu.monitor(f'qemu-io -d {device.name}-disk "resume hang"')

    def rate(self, device: Plugged, rate_bps: int) -> None:
        """Change the speed of a recorder that was plugged in with one; 0 for no limit."""
        limits = {"bps-total": rate_bps and max(rate_bps, SLOWEST_BPS)}
        self.qemu.command("qom-set", path=f"/objects/{device.name}-rate", property="limits", value=limits)

    def _name(self, kind: str) -> str:
        self.number += 1
        return f"{kind}{self.number}"

    def _keep(self, device: Plugged) -> Plugged:
        self.plugged.append(device)
        return device

    def _node(self, **options: object) -> None:
        self.qemu.command("blockdev-add", **options)

    def _device(self, driver: str, name: str, **options: object) -> None:
        options = {key: value for key, value in options.items() if value != ""}
        self.qemu.command("device_add", driver=driver, id=name, bus="usb.0", **options)

    def _let_go(self, node: str) -> None:
        """A device lets go of its image a moment after it was reported as gone."""
        for _ in range(LET_GO_TRIES):
            try:
                self.qemu.command("blockdev-del", node_name=node)
                return
            except MachineError:
                time.sleep(LET_GO_S)
        raise MachineError(f"{node} is still in use")
