"""The room that a session's files will need: really allocated before it starts, given back as they grow."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Final

from agent import durable
from agent.config.rooms import Room

_NAME: Final = f"reserved{durable.PART_SUFFIX}"
_STEP_BYTES: Final = 8 << 20
_AHEAD_BYTES: Final = 16 << 20
_OVERHEAD: Final = 1.05


def planned_bytes(room: Room, lasts: timedelta) -> int:
    """What all sources of a room write in that time, at the bit rate that is stated for each."""
    per_s = room.bitrate_kbit_s * 125 * len(room.sources)
    return int(per_s * max(lasts, timedelta()).total_seconds() * _OVERHEAD)


class Reserve:
    """The space of one session in its folder; `planned_bytes` for all of its files. Blocking: called in a thread."""

    def __init__(self, folder: Path, planned_bytes: int) -> None:
        self._folder = folder
        self._path = folder / _NAME
        self.planned_bytes = planned_bytes
        self.kept_bytes = 0

    def keep(self, written_bytes: int = 0) -> None:
        """Allocate what is still to be written; raises OSError (ENOSPC), with nothing allocated."""
        self._set(max(0, self.planned_bytes - written_bytes))

    def follow(self, taken_bytes: int) -> None:
        """Give back what the files have grown by: those that were taken, and those that lie in the folder.

        If others have filled the disk, also what is written until the next look: for that it was kept.
        """
        space = os.statvfs(self._folder)
        ahead = max(_AHEAD_BYTES, self.planned_bytes // 500) - space.f_bavail * space.f_frsize
        left = max(0, min(self._left(taken_bytes), self.kept_bytes - ahead if ahead > 0 else self.planned_bytes))
        if left + _STEP_BYTES <= self.kept_bytes or (left < self.kept_bytes and (not left or ahead > 0)):
            self._set(left)

    def again(self, taken_bytes: int) -> None:
        """After a crash: keep what is still to be written, or as much of it as was kept before."""
        self.kept_bytes = self._path.stat().st_size if self._path.exists() else 0
        with contextlib.suppress(OSError):
            self._set(self._left(taken_bytes))

    def grow(self, planned_bytes: int, taken_bytes: int) -> int:
        """Plan for another length; returns how many bytes the disk hasn't for it, and then keeps what it kept."""
        before, self.planned_bytes = self.planned_bytes, planned_bytes
        try:
            self._set(self._left(taken_bytes))
        except OSError:
            self.planned_bytes = before
            return max(0, planned_bytes - before)
        return 0

    def free(self) -> None:
        """Give everything back."""
        durable.remove_part(self._path)
        self.kept_bytes = 0

    def _left(self, taken_bytes: int) -> int:
        lying = sum(path.stat().st_size for path in self._folder.iterdir() if path != self._path and path.is_file())
        return max(0, self.planned_bytes - taken_bytes - lying)

    def _set(self, size_bytes: int) -> None:
        durable.keep_room(self._path, size_bytes)
        self.kept_bytes = size_bytes
