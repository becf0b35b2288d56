"""A FUSE filesystem that passes everything on to a folder, and gives errors or no answer where a control file says so.

A network share is one for the kernel that waits for somebody else's answer; so is this, and it hangs and fails alike.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import mfusepy

P = ParamSpec("P")
R = TypeVar("R")


def answered(work: Callable[Concatenate[FaultyShare, P], R]) -> Callable[Concatenate[FaultyShare, P], R]:
    """An operation that first looks whether it may answer."""

    @wraps(work)
    def operation(share: FaultyShare, *arguments: P.args, **named: P.kwargs) -> R:
        while work.__name__ in (faults := json.loads(share.control.read_text()))["hang"]:
            time.sleep(0.02)
        if code := faults["codes"].get(work.__name__):
            raise mfusepy.FuseOSError(code)
        try:
            return work(share, *arguments, **named)
        except OSError as error:
            raise mfusepy.FuseOSError(error.errno or errno.EIO) from error

    return operation


class FaultyShare(mfusepy.Operations):  # type: ignore[misc]  # published without types
    use_ns = True

    def __init__(self, folder: str, control: str) -> None:
        self._folder = folder
        self.control = Path(control)

    def _at(self, path: str) -> str:
        return self._folder + path

    @answered
    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        info = os.lstat(self._at(path))
        names = ("mode", "nlink", "size", "uid", "gid", "ino")
        times = {f"st_{name}": getattr(info, f"st_{name}_ns") for name in ("atime", "mtime", "ctime")}
        return {f"st_{name}": getattr(info, f"st_{name}") for name in names} | times

    @answered
    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *os.listdir(self._at(path))]

    @answered
    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    @answered
    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    @answered
    def utimens(self, path: str, times: tuple[int, int] | None = None) -> None:
        os.utime(self._at(path), ns=times)

    @answered
    def mknod(self, path: str, mode: int, dev: int) -> None:
        os.mknod(self._at(path), mode, dev)

    @answered
    def create(self, path: str, mode: int, fi: object = None) -> int:
        return os.open(self._at(path), os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)

    @answered
    def open(self, path: str, flags: int) -> int:
        return os.open(self._at(path), flags & os.O_ACCMODE)

    @answered
    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return os.pread(fh, size, offset)

    @answered
    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        return os.pwrite(fh, data, offset)

    @answered
    def truncate(self, path: str, length: int, fh: int | None = None) -> None:
        os.truncate(self._at(path), length)

    @answered
    def fsync(self, path: str, datasync: int, fh: int) -> None:
        os.fsync(fh)

    @answered
    def fsyncdir(self, path: str, datasync: int, fh: int) -> None:
        return None

    @answered
    def release(self, path: str, fh: int) -> None:
        os.close(fh)

    @answered
    def rename(self, old: str, new: str) -> None:
        os.rename(self._at(old), self._at(new))

    @answered
    def link(self, target: str, source: str) -> None:
        os.link(self._at(source), self._at(target))

    @answered
    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    @answered
    def statfs(self, path: str) -> dict[str, int]:
        found = os.statvfs(self._at(path))
        return {name: getattr(found, name) for name in ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail")}


if __name__ == "__main__":
    mfusepy.FUSE(
        FaultyShare(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, attr_timeout=0, entry_timeout=0,
        hard_remove=True,  # else an open file that is removed gets another name
    )  # fmt: skip
