"""The disks of a test machine: made before it runs, read after it has stopped, and losing what was never flushed."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

LOG_SECTOR_BYTES = 512
FLUSHED, FORCED, DISCARDED = 1, 2, 4  # flags of dm-log-writes, whose format QEMU's blklogwrites has


@dataclass(frozen=True, slots=True)
class Drive:
    """A virtio disk. One that is `lossy` logs what is written and flushed from power on."""

    path: Path
    serial: str
    format: str = "raw"
    lossy: bool = False

    @property
    def log(self) -> Path:
        return self.path.with_suffix(".log")

    @property
    def before(self) -> Path:
        return self.path.with_suffix(".before")

    def arguments(self) -> list[str]:
        """Arguments of QEMU; the disk's write cache is on, so that what is not flushed is not safe."""
        node = {"driver": self.format, "node-name": self.serial, "file": _file(self.path)}
        if self.lossy:
            node["node-name"] = f"{self.serial}-medium"
            log = _file(self.log)
            node = {"driver": "blklogwrites", "node-name": self.serial, "file": node, "log": log}
        device = f"virtio-blk-pci,drive={self.serial},serial={self.serial},write-cache=on"
        return ["-blockdev", json.dumps(node), "-device", device]

    def switched_on(self) -> None:
        """Begin the log of a lossy disk."""
        if self.lossy:
            copied(self.path, self.before)
            self.log.write_bytes(b"")

    def lose_unflushed(self, chance: random.Random, survival: float) -> tuple[int, int]:
        """After a power cut: of what was written and never flushed each piece survives with that probability.

        Returns how many pieces were not flushed, and how many of them are lost.
        """
        writes = _logged(self.log)
        flushed = max((index for index, (flags, _, _, _) in enumerate(writes) if flags & FLUSHED), default=-1)
        unflushed = lost = 0
        copied(self.before, self.path)
        with self.path.open("r+b") as medium, self.log.open("rb") as log:
            for index, (flags, at, source, size) in enumerate(writes):
                if flags & DISCARDED or not size:
                    continue
                if index > flushed and not flags & FORCED:
                    unflushed += 1
                    if chance.random() >= survival:
                        lost += 1
                        continue
                log.seek(source)
                medium.seek(at)
                medium.write(log.read(size))
        return unflushed, lost


def _file(path: Path) -> dict[str, object]:
    """A file as QEMU opens it. It waits for no disk of this computer: what a killed QEMU has written stays written."""
    return {"driver": "file", "filename": f"{path}", "cache": {"direct": False, "no-flush": True}}


def _logged(log: Path) -> list[tuple[int, int, int, int]]:
    """What was logged, in order: flags, place on the disk, place in the log, size; all but the flags in bytes."""
    found, place, end = [], LOG_SECTOR_BYTES, log.stat().st_size
    with log.open("rb") as file:
        while place + LOG_SECTOR_BYTES <= end:
            file.seek(place)
            sector, sectors, flags, _ = struct.unpack("<QQQQ", file.read(32))
            size = 0 if flags & DISCARDED else sectors * LOG_SECTOR_BYTES
            place += LOG_SECTOR_BYTES
            if not (sectors or flags) or place + size > end:
                break
            found.append((flags, sector * LOG_SECTOR_BYTES, place, size))
            place += size
    return found


def tool(*words: str | Path) -> str:
    """What a tool prints; it must succeed."""
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def apart(*words: str | Path) -> list[str | Path]:
    """A command that can't see what is mounted: tools of ext4 ask every loop device there is, also one that hangs."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-ec", 'umount -l /proc; exec "$0" "$@"', *words]


def copied(source: Path, target: Path) -> None:
    """A copy with the same holes."""
    tool("cp", "--sparse=always", "--reflink=auto", source, target)


def overlay(disk: Path, target: Path) -> Path:
    """A disk that starts as another one (qcow2 by its name, or raw), which is never written to."""
    kind = "qcow2" if disk.suffix == ".qcow2" else "raw"
    tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", disk, target)
    return target


def ext4(path: Path, label: str, size_mib: int, *empty_files: str) -> Path:
    """A new disk with a filesystem, and empty files in its root."""
    with tempfile.TemporaryDirectory() as root:
        Path(root).chmod(0o755)
        for name in empty_files:
            (Path(root) / name).touch()
        tool(*apart(
            "mke2fs", "-q", "-F", "-t", "ext4", "-L", label, "-d", root, "-N", "16384", "-m", "0",
            "-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0", path, f"{size_mib}M",
        ))  # fmt: skip
    return path


PAPERS = (b'{"', b"<svg", b"<?xml", b"\xff\xd8\xff")
"""How what a station writes of recordings begins, where there is no access copy: JSON, drawings, pictures."""


@contextmanager
def files(disk: Path, folder: Path) -> Iterator[Path]:
    """A copy of all files on a stopped machine's ext4 disk, whose filesystem must be sound, as it is after a boot."""
    copy = folder / f"{disk.name}.read"
    copied(disk, copy)
    words = apart("e2fsck", "-p", "-E", "journal_only", copy)
    subprocess.run(words, capture_output=True, timeout=300, check=False)
    tool(*apart("e2fsck", "-f", "-n", copy))
    target = folder / f"{disk.name}.files"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    tool("debugfs", "-R", f"rdump / {target}", copy)
    copy.unlink()
    yield target
    shutil.rmtree(target)


def originals(disk: Path, kept_in: str, folder: Path) -> dict[str, str]:
    """SHA-256 of each original below `kept_in` on a stopped machine's ext4 disk, read from outside.

    The filesystem must be sound, and each file there what its name says. Papers about originals are left out.
    """
    found = {}
    with files(disk, folder) as root:
        for path, content in named(root / kept_in):
            if not content.startswith(PAPERS):
                found[path.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def named(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Each file below a folder of originals, with its bytes, which must be what its name says."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):  # a copy under way
            content = path.read_bytes()
            assert blake3(content).hexdigest() == path.name, f"{path} is not what its name says"
            yield path, content
