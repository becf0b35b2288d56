"""Runs one command and tells what it cost: wall time, CPU of all its processes, peak memory of the whole tree."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from simulator.bench.report import BenchError

_LOG_TAIL: Final = 2000
_KCMP: Final[Mapping[str, int]] = {"x86_64": 312, "aarch64": 272}
_KCMP_VM: Final = 1


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command cost, or several one after the other."""

    wall_s: float
    cpu_s: float
    peak_bytes: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s, max(self.peak_bytes, other.peak_bytes))


def run(
    command: Sequence[str | Path], log: Path, *, memory: bool = False, env: Mapping[str, str] | None = None
) -> Cost:
    """Run a command to its end, output appended to `log`; raises BenchError if it fails. `env` comes on top of ours.

    CPU is that of the command and of every process that it waited for, as the kernel accounts it. Write-back by kernel
    threads is in nobody's CPU figure, on either side.
    """
    words = [str(word) for word in command]
    with log.open("ab") as out, contextlib.ExitStack() as stack:
        began_s = time.perf_counter()
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, env=os.environ | dict(env or {})
        )
        peak = stack.enter_context(PeakMemory(process.pid)) if memory else None
        _, status, used = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began_s
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = log.read_text("utf-8", "replace")[-_LOG_TAIL:]
        raise BenchError(f"{words[0]} ended with {process.returncode}:\n{tail}")
    return Cost(wall_s, used.ru_utime + used.ru_stime, peak.peak_bytes if peak else 0)


def forget() -> None:
    """Write what is dirty and drop all caches, so that the next command starts cold; raises BenchError unless root."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except PermissionError:
        raise BenchError("caches are dropped before each command, and that needs root") from None


class PeakMemory:
    """Samples the memory of a process and all its descendants, as PSS: shared pages are counted once in the sum.

    Each sample takes time on the same processors, and holds the memory map of each process: many are sampled rarely.
    """

    def __init__(self, pid: int, *, sample_s: float = 0.1) -> None:
        self._pid = pid
        self._sample_s = sample_s
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="peak-memory")
        self.peak_bytes = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            pids = list(family(self._pid))
            # A helper that is just being started (vfork) still lives in its parent's memory, which counts once.
            own = [pid for pid in pids if not any(share_memory(pid, other) for other in pids if other < pid)]
            self.peak_bytes = max(self.peak_bytes, sum(map(_pss_bytes, own)))
            self._done.wait(self._sample_s)


def family(pid: int) -> Iterator[int]:
    """A process and its descendants, as they are now."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def share_memory(one: int, other: int) -> bool:
    """Whether two processes are in the same memory, as kcmp(2) tells."""
    return int(ctypes.CDLL(None).syscall(_KCMP[platform.machine()], one, other, _KCMP_VM, 0, 0)) == 0


def _pss_bytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
