"""What the kernel tells of a file that nobody can forge, and by it which changes of files were ours."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

_REMEMBERED: Final = 10_000

# linux/fcntl.h, linux/stat.h
_AT_FDCWD: Final = -100
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_BASIC_STATS_AND_MOUNT: Final = 0x17FF
_STATX: Final = struct.Struct("=8xQIIxxxxHxxQQ8xQ32xqI28xIIQ")
_STATX_BYTES: Final = 256
_IMMUTABLE: Final = 0x10
_VERITY: Final = 0x100000

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Seen(NamedTuple):
    """What has a name; a flag is None where the filesystem has none of the kind.

    `changed_ns` is when anything about the file changed last, by the system's clock: only the kernel sets it.
    """

    mount: int
    device: int
    inode: int
    mode: int
    uid: int
    links: int
    size_bytes: int
    changed_ns: int
    immutable: bool | None
    verity: bool | None


def seen(path: Path) -> Seen | None:
    """What has this name, not what a link there leads to; None if nothing has. Raises OSError. See statx(2)."""
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    if _libc.statx(_AT_FDCWD, os.fsencode(path), _AT_SYMLINK_NOFOLLOW, _BASIC_STATS_AND_MOUNT, answer) < 0:
        code = ctypes.get_errno()
        if code in {errno.ENOENT, errno.ENOTDIR}:
            return None
        raise OSError(code, os.strerror(code), str(path))
    flags, links, uid, mode, inode, size, known, seconds, nanoseconds, major, minor, mount = _STATX.unpack_from(answer)
    immutable, verity = (bool(flags & flag) if known & flag else None for flag in (_IMMUTABLE, _VERITY))
    changed_ns = seconds * 10**9 + nanoseconds
    return Seen(mount, os.makedev(major, minor), inode, mode, uid, links, size, changed_ns, immutable, verity)


class Place:
    """Folders as they were at first: nothing is mounted over them, and nothing else was put in their place."""

    def __init__(self, *folders: Path) -> None:
        """Raises OSError."""
        self._folders = folders
        self._first = self._now()

    @property
    def mount(self) -> int:
        """The mount on which the first folder lies."""
        return self._first[0][0] if self._first[0] else 0

    def is_same(self) -> bool:
        """Whether these names still lead to the same folders; raises OSError."""
        return self._now() == self._first

    def _now(self) -> list[tuple[int, int, int] | None]:
        return [found and (found.mount, found.device, found.inode) for found in map(seen, self._folders)]


class Whose(StrEnum):
    """Who changed a file last: we did, we are doing it now, or somebody else did."""

    OURS = "ours"
    IN_HAND = "in_hand"
    FOREIGN = "foreign"


class Changes:
    """The newest 10,000 files that we changed, and how each was left. For any thread.

    Whose a change is follows from what a file is like now, never from when it was made or told. Of that only a digest
    is kept: 10,000 take 4 MB.
    """

    def __init__(self, look: Callable[[Path], Seen | None] = seen) -> None:
        self._look = look
        self._lock = threading.Lock()
        self._in_hand: dict[str, int] = {}
        self._left: OrderedDict[str, bytes] = OrderedDict()
        self._foreign: OrderedDict[str, None] = OrderedDict()

    @contextlib.contextmanager
    def of(self, path: Path) -> Iterator[None]:
        """What is done to this name meanwhile is ours; raises OSError if it can't be looked at."""
        name = os.fspath(path)
        with self._lock:
            if name in self._left and name not in self._in_hand and self._left[name] != self._now(name):
                self._foreign[name] = None  # our own change would hide it
                _bound(self._foreign)
            self._in_hand[name] = self._in_hand.get(name, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._in_hand[name] -= 1
                if not self._in_hand[name]:
                    del self._in_hand[name]
                self._left[name] = self._now(name)
                self._left.move_to_end(name)
                _bound(self._left)

    def whose(self, path: Path) -> Whose:
        """Whose the last change of this name was; each of somebody else's is told once. Raises OSError."""
        name = os.fspath(path)
        with self._lock:
            if name in self._in_hand:
                return Whose.IN_HAND
            if name in self._foreign:
                del self._foreign[name]
                return Whose.FOREIGN
            if name not in self._left:
                return Whose.FOREIGN
            left, self._left[name] = self._left[name], self._now(name)
            return Whose.OURS if left == self._left[name] else Whose.FOREIGN

    def _now(self, name: str) -> bytes:
        return hashlib.blake2b(repr(self._look(Path(name))).encode(), digest_size=16).digest()


def _bound(remembered: OrderedDict[str, Any]) -> None:
    while len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
