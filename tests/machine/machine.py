"""A Debian 12 with systemd and udev that tests switch on, plug recorders into, and cut the power of."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machine import drives
from tests.machine.drives import Drive
from tests.machine.guest import Done, Guest
from tests.machine.image import Image, alone
from tests.machine.qemu import Hardware, MachineError, Qemu, start
from tests.machine.usb import Usb

BOOT_LIMIT_S = 400.0
OFF_LIMIT_S = 120.0
LIMIT_S = 300.0
POLL_S = 0.3
STATION, EVIDENCE = "station", "evidence"
MARKER = ".capture-agent-store"
STATUS = "curl -sf --max-time 20 --unix-socket /var/lib/capture-agent/screens.sock http://localhost/api/v1/status"


@dataclass(slots=True)
class Machine:
    """One computer over several runs: its disks stay what they are when it is switched off or loses its power.

    `station` holds /var/lib/capture-agent, `evidence` is the dedicated storage (/srv/evidence), `share` is a folder
    that both sides see (/mnt, after `mount_share`).
    """

    image: Image
    folder: Path
    drives: Sequence[Drive]
    hardware: Hardware
    qemu: Qemu | None = None
    usb: Usb = field(init=False)
    guest: Guest = field(init=False)
    boots: int = 0
    memory: Path | None = None

    @property
    def station(self) -> Path:
        return self.folder / "station.img"

    @property
    def evidence(self) -> Path:
        return self.folder / "evidence.img"

    @property
    def share(self) -> Path:
        return self.folder / "share"

    def power_on(self, wait: bool = True) -> None:
        """Switch on and, unless told otherwise, wait until everything has been started that is started at boot.

        A machine with `memory` has booted already when it is switched on for the first time.
        """
        assert self.qemu is None, "it is on"
        self.boots += 1
        for drive in self.drives:
            drive.switched_on()
        memory, self.memory = self.memory, None
        self.qemu = start(self.image, self.folder, self.drives, self.hardware, f"{self.boots}", memory)
        self.usb, self.guest = Usb(self.qemu), Guest(self.qemu)
        self.qemu.command("cont")
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until the boot has ended, with or without failed units."""
        self.guest.wait(BOOT_LIMIT_S)
        self.call("systemctl is-system-running --wait", BOOT_LIMIT_S)
        self.run("systemctl is-active multi-user.target", BOOT_LIMIT_S)

    def power_off(self) -> None:
        """Shut down in good order."""
        qemu = self._running()
        self.guest.power_off()
        qemu.ended(OFF_LIMIT_S)
        self.qemu = None

    def power_cut(self, lose: random.Random | None = None, survival: float = 0.5) -> tuple[int, int]:
        """Cut the power. With `lose` (on a machine made lossy) the disks also lose most of what was never flushed.

        Returns how many pieces were not flushed, and how many of them are lost.
        """
        self._running().kill()
        self.qemu = None
        if lose is None:
            return 0, 0
        counts = [drive.lose_unflushed(lose, survival) for drive in self.drives if drive.lossy]
        return sum(count for count, _ in counts), sum(lost for _, lost in counts)

    def freeze(self, memory: Path) -> None:
        """Write the memory into a file and switch off; with the disks as they are then, that is the whole machine."""
        self._running().freeze(memory)
        self.qemu = None

    def _running(self) -> Qemu:
        assert self.qemu is not None, "it is off"
        return self.qemu

    def call(self, script: str, limit_s: float = 60.0) -> Done:
        """How a bash script ends inside, as root."""
        return self.guest.call(script, limit_s)

    def run(self, script: str, limit_s: float = 60.0) -> str:
        """What a bash script prints inside, as root; it must succeed."""
        return self.guest.run(script, limit_s)

    def until(self, script: str, limit_s: float = LIMIT_S) -> str:
        """Run a script inside until it succeeds; what it prints then."""
        return self.guest.until(script, limit_s)

    def mount_share(self) -> str:
        """The folder inside that is `share` outside."""
        self.run(
            "mountpoint -q /mnt || mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=none share /mnt"
        )
        return "/mnt"

    def journal(self, unit: str = "capture-agent") -> str:
        """What a unit has said since the boot."""
        return self.call(f"journalctl -b -o short-monotonic --no-pager -q -n 80 -u {unit}").output

    def status(self) -> dict[str, Any]:
        """What the station's status page says; empty if it doesn't answer."""
        done = self.call(STATUS)
        found: dict[str, Any] = json.loads(done.output) if done.returncode == 0 else {}
        return found

    def until_status(self, is_it: Callable[[dict[str, Any]], object], limit_s: float = LIMIT_S) -> dict[str, Any]:
        """Ask the status page until the answer is as wanted; the answer."""
        end = time.monotonic() + limit_s
        while not ((status := self.status()) and is_it(status)):
            assert time.monotonic() < end, f"{json.dumps(status, ensure_ascii=False)[:4000]}\n{self.journal()}"
            time.sleep(POLL_S)
        return status

    def until_phase(self, *phases: str, slot: str = "", limit_s: float = LIMIT_S) -> dict[str, Any]:
        """Wait until a slot (any, or one that has `slot` in its name) is in one of the phases; what it shows then."""

        def found(status: dict[str, Any]) -> list[dict[str, Any]]:
            shown: list[dict[str, Any]] = [one for one in status["slots"] if slot in one["slot"]]
            return [one for one in shown if one["phase"]["name"] in phases]

        return found(self.until_status(found, limit_s))[0]

    def configure(self, changes: dict[str, str]) -> None:
        """Change options of the station's configuration, as TOML, and restart the service."""
        from simulator.stage import with_options

        path = "/etc/capture-agent/agent.toml"
        self.guest.write(path, with_options(self.run(f"cat {path}"), changes))
        self.run("systemctl restart capture-agent", LIMIT_S)

    def stored(self) -> dict[str, str]:
        """SHA-256 of each original in the dedicated storage of a machine that is off, read from outside."""
        return self._originals(self.evidence, "originals")

    def vaulted(self) -> dict[str, str]:
        """SHA-256 of each original that the station keeps, of a machine that is off, read from outside."""
        return self._originals(self.station, "vault")

    def _originals(self, disk: Path, kept_in: str) -> dict[str, str]:
        assert self.qemu is None, "its disks are in use"
        return drives.originals(disk, kept_in, self.folder)


@contextmanager
def computer(
    image: Image, folder: Path, *, lossy: bool = False, hardware: Hardware | None = None, more: Sequence[Drive] = (),
    frozen: Path | None = None,
) -> Iterator[Machine]:  # fmt: skip
    """A machine that is off, with new disks in `folder`; `lossy` ones can lose what was never flushed.

    `more` are further disks: /dev/vdd and on, /dev/disk/by-id/virtio-SERIAL. With `frozen`, a folder of `booted`, it
    goes on from there when it is switched on first; then hardware and disks are those of any machine.
    """
    (folder / "share").mkdir()
    source = frozen / "root.qcow2" if frozen else image.disk
    for disk, size_mib, *names in ((STATION, 4096), (EVIDENCE, 1024, MARKER)):
        if frozen:
            drives.copied(frozen / f"{disk}.img", folder / f"{disk}.img")
        else:
            drives.ext4(folder / f"{disk}.img", disk, size_mib, *names)
    root = Drive(drives.overlay(source, folder / "root.qcow2"), "root", "qcow2")
    data = [Drive(folder / f"{disk}.img", disk, lossy=lossy) for disk in (STATION, EVIDENCE)]
    memory = frozen / "memory" if frozen else None
    machine = Machine(image, folder, (root, *data, *more), hardware or Hardware(), memory=memory)
    try:
        yield machine
    except BaseException as error:
        _explain(machine, error)
        raise
    finally:
        if machine.qemu is not None:
            machine.qemu.kill()


def booted(image: Image) -> Path:
    """The folder of a machine that was frozen after its boot; tests go on from there in a second, each by itself."""
    folder = image.disk.with_suffix(".frozen")
    with alone():
        if not folder.is_dir():
            part = folder.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            with computer(image, part) as machine:
                machine.power_on()
                machine.run("sync")
                machine.freeze(part / "memory")
            part.rename(folder)
    return folder


def _explain(machine: Machine, error: BaseException) -> None:
    """Add to an error what the machine showed last."""
    if machine.qemu is None or not machine.qemu.runs:
        return
    error.add_note(machine.qemu.tail())
    try:
        error.add_note(machine.journal())
    except (MachineError, OSError) as silent:
        error.add_note(f"{silent}")
