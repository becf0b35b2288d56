"""A recorder that is spoken to over a serial line, on a pseudo-terminal: identity, battery, a wrong clock, a password.

    python -m simulator.serial_recorder --link /tmp/recorder --ahead 93.4

Its functions are those that programs for GA/T 947 recorders share (Init_Device, GetIDCode, GetZFYInfo, SyncDevTime,
SetMSDC, ReadDeviceBatteryDumpEnergy); how they go over the wire is invented here
(config/recorders/gat947-simulated.toml), for every maker has its own way, and none is public.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import threading
import time
import tty
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Final, Self

CHINA: Final = timezone(timedelta(hours=8), "CST")
END: Final = b"\r\n"
_WAIT_S: Final = 0.05
_PIECE_BYTES: Final = 4096
_FLOOD: Final = b"GPS 35.4,116.5 " * 60


class Fault(StrEnum):
    """How a line can be bad."""

    NONE = "none"
    SILENT = "silent"  # nobody is there
    ECHO = "echo"  # what is said comes back, and nothing else
    ECHO_TOO = "echo-too"  # before the answer
    CHATTY = "chatty"  # messages between the answers
    GARBAGE = "garbage"  # wrong baud rate: bytes that are no text
    HALF = "half"  # answers without their end
    FLOOD = "flood"  # it never stops
    OTHER = "other"  # another protocol
    GONE = "gone"  # pulled out in the middle of an answer


@dataclass(slots=True)
class SerialRecorder:
    """One simulated recorder, from `with` to its end; `node` is where it is spoken to.

    Its clock is `ahead_s` ahead, and shows whole seconds, or `tenths`. `fault_from`: the first request (from 0) that
    meets the fault. `heard` are the requests, `is_disk` whether it was switched to a disk.
    """

    device_no: str = "0000217"
    officer_no: str = "001234"
    battery: int = 87
    password: str = "000000"  # noqa: S105 - as such recorders leave the factory
    ahead_s: float = 0.0
    tenths: bool = False
    fault: Fault = Fault.NONE
    fault_from: int = 0
    delay_s: float = 0.0
    heard: list[str] = field(default_factory=list)
    is_open: bool = False
    is_disk: bool = False
    node: str = ""
    _fds: tuple[int, int] = (-1, -1)
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._fds = os.openpty()
        tty.setraw(self._fds[1])
        os.set_blocking(self._fds[0], False)
        self.node = os.ttyname(self._fds[1])
        self._thread = threading.Thread(target=self._serve, name="serial recorder")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join()
        self._unplug()

    def _unplug(self) -> None:
        fds, self._fds = self._fds, (-1, -1)
        for fd in fds:
            if fd >= 0:
                os.close(fd)

    def _serve(self) -> None:
        rest = b""
        while not self._ended.is_set() and self._fds[0] >= 0:
            if self.fault is Fault.FLOOD and len(self.heard) > self.fault_from:
                self._say(_FLOOD)
            if not select.select([self._fds[0]], [], [], _WAIT_S)[0]:
                continue
            rest += os.read(self._fds[0], _PIECE_BYTES)
            while END in rest and self._fds[0] >= 0:
                request, _, rest = rest.partition(END)
                self._answer(request.decode("gbk", "replace"))

    def _answer(self, request: str) -> None:
        self.heard.append(request)
        is_bad = len(self.heard) > self.fault_from
        answer = self.reply(request).encode("gbk")
        if self._ended.wait(self.delay_s):
            return
        match self.fault if is_bad else Fault.NONE:
            case Fault.SILENT | Fault.FLOOD:
                return
            case Fault.ECHO:
                self._say(request.encode("gbk") + END)
            case Fault.ECHO_TOO:
                self._say(request.encode("gbk") + END + answer + END)
            case Fault.CHATTY:
                self._say(b"\r\nDSJ: gps fix lost\r\n\r\n" + answer + END)
            case Fault.GARBAGE:
                self._say(bytes(byte ^ 0xFF for byte in answer) + END)
            case Fault.HALF:
                self._say(answer[: len(answer) // 2])
            case Fault.OTHER:
                self._say(b"ERROR: unknown command" + END)
            case Fault.GONE:
                self._say(answer[:2])
                self._unplug()
            case Fault.NONE:
                self._say(answer + END)

    def _say(self, content: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # nobody reads: as on a wire, it is lost
            os.write(self._fds[0], content)

    def reply(self, request: str) -> str:
        """What a recorder in order answers."""
        shown = datetime.fromtimestamp(time.time() + self.ahead_s, CHINA)
        if request.startswith("PASS "):
            self.is_open = request == f"PASS {self.password}"
            return "PASS 3" if self.is_open else "PASS 4"
        if request.startswith("TIME="):
            return self._set(request.removeprefix("TIME="))
        if request == "MSDC":
            self.is_disk = self.is_open
            return "MSDC 7" if self.is_open else "MSDC 8"
        known = {
            "INIT": "INIT 1 DSJH7",
            "TIME?": f"TIME {shown:%Y%m%d%H%M%S}{f'{shown:%f}'[:1] if self.tenths else ''}",
            "INFO?": f"INFO {self.device_no},{self.officer_no},张三,370800,医疗保障局",
            "POWER?": f"POWER {self.battery}",
        }
        return known.get(request, "ERROR")

    def _set(self, words: str) -> str:
        try:
            there = datetime.strptime(words.ljust(20, "0"), "%Y%m%d%H%M%S%f").replace(tzinfo=CHINA)
        except ValueError:
            return "TIME 6"
        if not self.is_open:
            return "TIME 6"
        self.ahead_s = there.timestamp() - time.time()
        return "TIME 5"


def main() -> None:
    """Be a recorder until somebody ends it; `--link` is a name for its line."""
    parser = argparse.ArgumentParser(prog="python -m simulator.serial_recorder", description=__doc__)
    parser.add_argument("--link", type=Path, required=True, help="where a link to its line is made")
    parser.add_argument("--ahead", type=float, default=0.0, help="seconds that its clock is ahead")
    parser.add_argument("--fault", type=Fault, choices=list(Fault), default=Fault.NONE)
    options = parser.parse_args()
    with SerialRecorder(ahead_s=options.ahead, fault=options.fault) as recorder:
        options.link.unlink(missing_ok=True)
        options.link.symlink_to(recorder.node)
        print(f"{options.link} is {recorder.node}; end with Ctrl+C", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
