"""Runs QEMU as a child that can't outlive the tests, and speaks its control protocol (QMP)."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machine.drives import Drive
from tests.machine.image import Image

ANSWER_LIMIT_S = 60.0
END_LIMIT_S = 30.0
FREEZE_LIMIT_S = 120.0
POLL_S = 0.05
TAIL_BYTES = 3000
HALTED = "reboot: System halted"
COMMAND_LINE = (
    "root=/dev/vda console=ttyS0 loglevel=4 panic=-1 no5lvl mitigations=off nokaslr audit=0 net.ifnames=0 "
    "8250.nr_uarts=1 rcupdate.rcu_expedited=1 cryptomgr.notests no_timer_check random.trust_cpu=on "
    "systemd.show_status=0"
)


class MachineError(Exception):
    """The test machine itself doesn't do what it is told; says what its console showed last."""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What may differ between machines: memory, clock (UTC, like "2026-12-02T09:00:00"), further arguments of QEMU."""

    memory_mib: int = 1024
    rtc: str = "utc"
    arguments: tuple[str, ...] = ()


@dataclass(slots=True)
class Channel:
    """Lines of JSON over a socket, each with a limit."""

    socket: socket.socket
    rest: bytes = b""

    def send(self, message: dict[str, Any], start: bytes = b"") -> None:
        self.socket.settimeout(ANSWER_LIMIT_S)
        self.socket.sendall(start + json.dumps(message).encode() + b"\n")

    def receive(self, end_s: float) -> dict[str, Any]:
        """The next message; raises TimeoutError at `end_s` (monotonic), MachineError if the other side is gone."""
        while b"\n" not in self.rest:
            self.socket.settimeout(max(0.001, end_s - time.monotonic()))
            data = self.socket.recv(1 << 16)
            if not data:
                raise MachineError("QEMU has closed the connection")
            self.rest += data
        line, _, self.rest = self.rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line.rpartition(b"\xff")[2] or b"{}")
        return found


@dataclass(slots=True)
class Qemu:
    """One run of QEMU, from power on to power off."""

    process: subprocess.Popen[bytes]
    control: Channel
    agent: Channel
    console: Path
    events: list[dict[str, Any]] = field(default_factory=list)
    number: int = 0

    def command(self, name: str, /, **arguments: object) -> object:
        """One command of QMP, with `_` for `-` in its arguments; its answer."""
        self.number += 1
        words = {key.replace("_", "-"): value for key, value in arguments.items()}
        end = time.monotonic() + ANSWER_LIMIT_S
        try:
            self.control.send({"execute": name, "arguments": words, "id": self.number})
            while (message := self.control.receive(end)).get("id") != self.number:
                self.events.append(message)
        except (OSError, MachineError) as error:
            raise MachineError(f"{name}: {error}\n{self.tail()}") from error
        if "error" in message:
            raise MachineError(f"{name} {words}: {message['error']['desc']}")
        return message["return"]

    def asked(self, name: str) -> dict[str, Any]:
        """The answer to a question of QMP."""
        found = self.command(name)
        assert isinstance(found, dict)
        return found

    def freeze(self, memory: Path) -> None:
        """Write the memory of the machine into a file, and end: together with its disks that is all of it."""
        self.command("migrate-set-parameters", max_bandwidth=10 << 30, downtime_limit=60_000)
        self.command("stop")
        self.command("migrate", uri=f"exec:zstd -q -1 >{memory}")
        end = time.monotonic() + FREEZE_LIMIT_S
        while (state := self.asked("query-migrate")["status"]) != "completed":
            if state == "failed" or time.monotonic() > end:
                raise MachineError(f"the machine can't be frozen: {state}")
            time.sleep(POLL_S)
        self.kill()

    def monitor(self, line: str) -> str:
        """One command of the monitor for people."""
        return str(self.command("human-monitor-command", command_line=line))

    def wait_for(self, event: str, is_it: Callable[[dict[str, Any]], bool], since: int, limit_s: float) -> None:
        """Wait for an event that came after the first `since` ones."""
        end = time.monotonic() + limit_s
        while not any(one.get("event") == event and is_it(one["data"]) for one in self.events[since:]):
            self.events.append(self.control.receive(end))

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """Cut the power."""
        self.process.kill()
        self.ended(END_LIMIT_S)

    def ended(self, limit_s: float) -> None:
        """Wait until QEMU has ended, and let go of it; a machine that can only halt in good order is ended then."""
        end = time.monotonic() + limit_s
        while self.process.poll() is None:
            if HALTED in self.tail():
                self.process.kill()
            if time.monotonic() > end:
                raise MachineError(f"QEMU has not ended after {limit_s:g} s\n{self.tail()}")
            time.sleep(POLL_S)
        self.control.socket.close()
        self.agent.socket.close()

    def tail(self) -> str:
        """The last lines of the console, and what QEMU itself said."""
        shown = self.console.read_bytes()[-TAIL_BYTES:].decode("utf-8", "replace") if self.console.exists() else ""
        said = self.console.with_suffix(".qemu").read_text("utf-8", "replace")[-TAIL_BYTES:]
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", f"{said}{shown}")


def start(
    image: Image, folder: Path, drives: Sequence[Drive], hardware: Hardware, name: str, memory: Path | None = None
) -> Qemu:  # fmt: skip
    """Power on, but stand still until `cont`; the machine sees `folder/share`, `name` names this run's logs.

    With `memory` it is where it was when that was written by `freeze`.
    """
    ours, theirs = zip(socket.socketpair(), socket.socketpair(), strict=True)
    console = folder / f"console-{name}.log"
    words = [*_machine(image, folder, console, hardware), *(word for drive in drives for word in drive.arguments())]
    for channel, end in zip(("control", "agent"), theirs, strict=True):
        words += ["-chardev", f"socket,id={channel},fd={end.fileno()}"]
    words += ["-mon", "chardev=control,mode=control"]
    words += ["-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", *hardware.arguments, "-S"]
    words += ["-incoming", f"exec:zstd -dc {memory}"] if memory else []
    with console.with_suffix(".qemu").open("wb") as said:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            pass_fds=[end.fileno() for end in theirs], start_new_session=True,
        )  # fmt: skip
    for end in theirs:
        end.close()
    qemu = Qemu(process, Channel(ours[0]), Channel(ours[1]), console)
    try:
        qemu.control.receive(time.monotonic() + ANSWER_LIMIT_S)
        qemu.command("qmp_capabilities")
        while qemu.asked("query-status")["status"] == "inmigrate":
            time.sleep(POLL_S)
    except (OSError, MachineError) as error:
        qemu.kill()
        raise MachineError(f"QEMU doesn't start: {error}\n{qemu.tail()}") from error
    return qemu


def _machine(image: Image, folder: Path, console: Path, hardware: Hardware) -> list[str]:
    # Emulated, since tests must run where /dev/kvm doesn't; q35 has timers that a busy host doesn't confuse.
    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max", "-smp", "2",
        "-m", str(hardware.memory_mib), "-M", "q35,sata=off,smbus=off,i8042=off,vmport=off,usb=off",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-rtc", f"base={hardware.rtc}",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", COMMAND_LINE,
        "-serial", f"file:{console}", "-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
        "-fsdev", f"local,id=share,path={folder / 'share'},security_model=none,multidevs=remap",
        "-device", "virtio-9p-pci,fsdev=share,mount_tag=share", "-device", "qemu-xhci,id=usb,p2=15,p3=15",
        "-netdev", "user,id=net,ipv6=off,restrict=on", "-device", "virtio-net-pci,netdev=net,romfile=",
    ]  # fmt: skip
