"""Hears from the kernel what happens to names in folders; see inotify(7)."""

from __future__ import annotations

import ctypes
import os
import struct
from enum import IntFlag
from pathlib import Path
from typing import Final, NamedTuple

_NEW: Final = os.O_NONBLOCK | os.O_CLOEXEC
_ONLY_FOLDERS: Final = 0x01000000 | 0x02000000  # IN_ONLYDIR, IN_DONT_FOLLOW
_EVENT: Final = struct.Struct("iIII")
_READ_BYTES: Final = 64 * 1024

_libc: Final = ctypes.CDLL(None, use_errno=True)


class What(IntFlag):
    """What happened, as the kernel numbers it. A shared mapping is written without a word until it is closed."""

    WRITTEN = 0x2
    ATTRIBUTES = 0x4
    CLOSED = 0x8
    MOVED_AWAY = 0x40
    MOVED_HERE = 0x80
    CREATED = 0x100
    DELETED = 0x200
    FOLDER_DELETED = 0x400
    FOLDER_MOVED = 0x800
    UNMOUNTED = 0x2000
    OVERFLOWED = 0x4000
    IGNORED = 0x8000
    IS_FOLDER = 0x40000000


_HEARD: Final = 0xFCE
_LOST: Final = What.FOLDER_DELETED | What.FOLDER_MOVED | What.UNMOUNTED | What.OVERFLOWED | What.IGNORED


class Happened(NamedTuple):
    """Something happened to a name in a folder, or with an empty name to the folder itself."""

    path: Path
    what: What

    @property
    def is_lost(self) -> bool:
        """Whether more may have happened that nobody tells: then all has to be looked at."""
        return bool(self.what & _LOST)


class Ears:
    """Listens to folders, not to what lies in folders below. Every method raises OSError."""

    def __init__(self) -> None:
        self._fd = -1
        self._folders: dict[int, Path] = {}

    def fileno(self) -> int:
        """Readable when something happened; -1 before it listens to anything."""
        return self._fd

    def listen(self, folder: Path) -> None:
        """Hear of everything but reading in a folder; twice is fine."""
        if self._fd < 0:
            self._fd = _checked(_libc.inotify_init1(_NEW))
        watch = _checked(_libc.inotify_add_watch(self._fd, os.fsencode(folder), _HEARD | _ONLY_FOLDERS))
        self._folders[watch] = folder

    def heard(self) -> list[Happened]:
        """What has happened since the last call, in order; at most some thousand at a time."""
        try:
            told = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return []
        found, at = [], 0
        while at < len(told):
            watch, mask, _, size = _EVENT.unpack_from(told, at)
            at += _EVENT.size + size
            name = told[at - size : at].rstrip(b"\0")
            folder = self._folders.get(watch, Path())
            if mask & What.IGNORED:
                self._folders.pop(watch, None)
            found.append(Happened(folder / os.fsdecode(name) if name else folder, What(mask)))
        return found

    def close(self) -> None:
        """Hear nothing any more; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def _checked(answer: int) -> int:
    if answer < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return answer
