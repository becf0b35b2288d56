"""The lock that keeps the journal to one writing process."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from agent.errors import JournalError


class WriterLock:
    """An exclusive flock on `<journal>.lock`, which names the process that has it; it ends with the process."""

    def __init__(self, journal: Path) -> None:
        """Take the lock; raises JournalError, naming the process that has it."""
        self.path = journal.with_suffix(".lock")
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        except OSError as error:
            raise JournalError(
                f"The lock {self.path} can't be opened: {error.strerror}.",
                safe="Nothing was changed.",
                do="Check that the folder exists and belongs to the agent.",
            ) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._fd, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(self._fd)
            raise JournalError(
                f"Process {holder} writes the journal {journal} already.",
                safe="Nothing was changed.",
                do="Stop it first, or ask it.",
            ) from error
        os.pwrite(self._fd, b"%-20d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Free the lock; idempotent."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
