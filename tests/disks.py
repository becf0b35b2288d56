"""Real little filesystems and block devices for tests: loop devices, tmpfs, and an image behind a faulty reader."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SECTOR_BYTES = 512
MIB = 1024 * 1024
NEVER = 1 << 62


def run(*command: str | Path) -> str:
    """Output of a tool that must succeed."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class LoopDevice:
    """A block device over an image file."""

    path: Path
    image: Path

    def counters(self) -> tuple[int, int]:
        """Bytes that were really (read from, written to) the device since it exists."""
        fields = Path(f"/sys/block/{self.path.name}/stat").read_text().split()
        return int(fields[2]) * SECTOR_BYTES, int(fields[6]) * SECTOR_BYTES


def fill(folder: Path) -> Path:
    """Use up every byte of a filesystem, as something else on the disk would."""
    filler = folder / "somebody-elses-file"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)):
                    os.fsync(file.fileno())  # space set aside for delayed writes comes back only now
    assert os.statvfs(folder).f_bavail == 0
    return filler


@contextlib.contextmanager
def loop(image: Path, *, read_only: bool = False) -> Iterator[LoopDevice]:
    """Attach an image; direct I/O would hide the page cache that the tests are about."""
    options = ["--read-only"] if read_only else []
    path = Path(run("losetup", "--find", "--show", *options, image))
    try:
        yield LoopDevice(path, image)
    finally:
        run("losetup", "--detach", path)


@contextlib.contextmanager
def mounted(folder: Path, *options: str | Path) -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    run("mount", *options, folder)
    try:
        yield folder
    finally:
        run("umount", folder)


@contextlib.contextmanager
def tmpfs(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A filesystem that is full after so many bytes."""
    with mounted(folder, "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs"):
        yield folder


@contextlib.contextmanager
def ext4(folder: Path, image: Path, size_bytes: int) -> Iterator[LoopDevice]:
    """An ext4 filesystem on a loop device, mounted at `folder`, without a reserve for root."""
    with image.open("wb") as file:
        file.truncate(size_bytes)
    run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    with loop(image) as device, mounted(folder, device.path):
        yield device


@dataclass(slots=True)
class FaultyImage:
    """An image file served through FUSE that fails where the test says so; counts the bytes it gave out."""

    path: Path
    _control: Path
    _state: dict[str, object] = field(default_factory=dict)

    def fail(self, **faults: object) -> None:
        """`bad`: [[offset, length], ...] give EIO; `code`: every read gives this errno; `missing`: no such file.

        `striped`: [begin, end, period, good], of each period in that range only the first `good` bytes can be read, and
        each read of others takes `slow_s`. `stall_from`: reads that reach behind this offset hang until that changes;
        only for a disk with `threads`.
        """
        self._state.update(faults)
        scratch = self._control.with_suffix(".new")
        scratch.write_text(json.dumps(self._state))
        os.replace(scratch, self._control)


@contextlib.contextmanager
def faulty_image(image: Path, folder: Path, *, threads: bool = False) -> Iterator[FaultyImage]:
    """Serve `image` as `folder/card.img`."""
    folder.mkdir()
    control = folder.with_suffix(".json")
    served = FaultyImage(folder / "card.img", control)
    served.fail(bad=[])
    program = Path(__file__).with_name("faulty_disk.py")
    options = ["threads"] if threads else []
    server = subprocess.Popen([sys.executable, program, image, folder, control, *options])
    try:
        end = time.monotonic() + 20
        while not served.path.exists():
            assert time.monotonic() < end, "the FUSE server did not start"
            assert server.poll() is None, "the FUSE server ended"
            time.sleep(0.01)
        yield served
    finally:
        served.fail(stall_from=NEVER)
        run("fusermount3", "-u", "-z", folder)
        server.wait(timeout=10)


@dataclass(slots=True)
class FaultyShare:
    """A folder served through FUSE like a share: it hangs, or gives errors, where the test says so."""

    path: Path
    _control: Path

    def fail(self, *, hang: Sequence[str] = (), **codes: int) -> None:
        """Names of FUSE operations (`write`, `fsync`, `getattr`, ...) that don't answer, or give an errno; others work.

        Without arguments everything works again, and what hung goes on.
        """
        scratch = self._control.with_suffix(".new")
        scratch.write_text(json.dumps({"hang": hang, "codes": codes}))
        os.replace(scratch, self._control)


@contextlib.contextmanager
def faulty_share(behind: Path, folder: Path) -> Iterator[FaultyShare]:
    """Serve the folder `behind` at `folder`."""
    folder.mkdir()
    share = FaultyShare(folder, folder.with_suffix(".json"))
    share.fail()
    program = Path(__file__).with_name("faulty_share.py")
    server = subprocess.Popen([sys.executable, program, behind, folder, folder.with_suffix(".json")])
    try:
        end = time.monotonic() + 20
        while not os.path.ismount(folder):
            assert time.monotonic() < end, "the FUSE server did not start"
            assert server.poll() is None, "the FUSE server ended"
            time.sleep(0.01)
        yield share
    finally:
        share.fail()
        run("fusermount3", "-u", "-z", folder)
        server.wait(timeout=10)
