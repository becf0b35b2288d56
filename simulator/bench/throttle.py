"""Block devices of a given speed: loop devices over images, slowed down by the kernel's own throttling."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulator.bench.report import BenchError

_V1: Final = Path("/sys/fs/cgroup/blkio")
_V2: Final = Path("/sys/fs/cgroup")
_SECTOR_BYTES: Final = 512


@dataclass(frozen=True, slots=True)
class Slow:
    """Devices that give a process in `group`, and its children, at most `rate_bytes_s` each."""

    group: Path
    devices: tuple[Path, ...]
    rate_bytes_s: int

    def command(self, words: Sequence[str | Path]) -> list[str]:
        """A command that runs in the group."""
        join = 'echo $$ >"$0" && exec "$@"'
        return ["sh", "-c", join, str(self.group / "cgroup.procs"), *map(str, words)]

    def read_bytes(self) -> list[int]:
        """Bytes that were read from each device so far."""
        stats = [Path(f"/sys/block/{device.name}/stat").read_text().split() for device in self.devices]
        return [int(fields[2]) * _SECTOR_BYTES for fields in stats]


@contextlib.contextmanager
def slowed(images: Sequence[Path], rate_bytes_s: int) -> Iterator[Slow]:
    """Attach the images read-only and throttle them; raises BenchError where that isn't possible."""
    with contextlib.ExitStack() as stack:
        group, limit = stack.enter_context(_group())
        devices = tuple(stack.enter_context(_attached(image)) for image in images)
        for device in devices:
            limit(Path(f"/sys/block/{device.name}/dev").read_text().strip(), rate_bytes_s)
        yield Slow(group, devices, rate_bytes_s)


@contextlib.contextmanager
def _attached(image: Path) -> Iterator[Path]:
    done = subprocess.run(
        ["losetup", "--find", "--show", "--read-only", str(image)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"no loop device: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", str(device)], check=False)


@contextlib.contextmanager
def _group() -> Iterator[tuple[Path, _Limit]]:
    """A control group of our own that can throttle reading: version 2 if it has `io`, else version 1."""
    controllers = _V2 / "cgroup.controllers"
    new = controllers.is_file() and "io" in controllers.read_text().split()
    group = (_V2 if new else _V1) / f"capture-agent-bench-{os.getpid()}"
    try:
        if new:
            (_V2 / "cgroup.subtree_control").write_text("+io")
        group.mkdir()
    except OSError as error:
        raise BenchError(f"no control group that throttles I/O: {error}") from None
    try:
        yield group, _Limit(group / ("io.max" if new else "blkio.throttle.read_bps_device"), "rbps=" if new else "")
    finally:
        with contextlib.suppress(OSError):  # a process that is still ending keeps it; it is empty and harmless
            group.rmdir()


@dataclass(frozen=True, slots=True)
class _Limit:
    """Writes the limit of one device in the words of one version of control groups."""

    path: Path
    prefix: str

    def __call__(self, number: str, rate_bytes_s: int) -> None:
        self.path.write_text(f"{number} {self.prefix}{rate_bytes_s}")
