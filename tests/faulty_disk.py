"""A FUSE filesystem with one read-only image that gives errors for ranges named in a control file."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
import time
from pathlib import Path
from typing import Any

import mfusepy

NAME = "/card.img"


class FaultyDisk(mfusepy.Operations):  # type: ignore[misc]  # published without types
    use_ns = True

    def __init__(self, image: str, control: str) -> None:
        self._fd = os.open(image, os.O_RDONLY)
        self._control = Path(control)

    def _faults(self) -> dict[str, object]:
        faults: dict[str, object] = json.loads(self._control.read_text())
        return faults

    def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path != NAME or self._faults().get("missing"):
            raise mfusepy.FuseOSError(errno.ENOENT)
        return {"st_mode": stat.S_IFREG | 0o444, "st_nlink": 1, "st_size": os.fstat(self._fd).st_size, "st_ino": 7}

    def readdir(self, path: str, fh: int) -> list[tuple[str, dict[str, int], int]]:
        return [(name, {"st_ino": 7}, 0) for name in (".", "..", NAME[1:])]  # what has number 0 is not listed

    def open(self, path: str, flags: int) -> int:
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        while offset + size > (faults := self._faults()).get("stall_from", offset + size):  # type: ignore[operator]
            time.sleep(0.05)
        if faults.get("code"):
            raise mfusepy.FuseOSError(faults["code"])
        if _is_in_bad_stripe(faults.get("striped"), offset, size):
            time.sleep(faults["slow_s"])  # type: ignore[arg-type]
            raise mfusepy.FuseOSError(errno.EIO)
        for begin, length in faults["bad"]:  # type: ignore[attr-defined]  # parsed JSON
            if offset < begin + length and begin < offset + size:
                raise mfusepy.FuseOSError(errno.EIO)
        return os.pread(self._fd, size, offset)


def _is_in_bad_stripe(stripes: Any, offset: int, size: int) -> bool:  # noqa: ANN401 - parsed JSON
    """`stripes`: [begin, end, period, good], all in bytes; of each period the first `good` bytes can be read."""
    if stripes is None:
        return False
    begin, end, period, good = stripes
    first, last = max(offset, begin) - begin, min(offset + size, end) - begin
    return first < last and (first % period) + (last - first) > good


if __name__ == "__main__":
    one_by_one = "threads" not in sys.argv
    mfusepy.FUSE(
        FaultyDisk(sys.argv[1], sys.argv[3]), sys.argv[2], foreground=True, nothreads=one_by_one, ro=True,
        attr_timeout=0, entry_timeout=0, use_ino=True,  # the image stays the same file when the kernel forgets it
    )  # fmt: skip
