"""What every test gets: a clock it can set, folders that can be removed again, and a check that it leaves nothing."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import stat
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None)  # how long an example takes is the machine's affair
settings.load_profile("suite")

CHINA = timezone(timedelta(hours=8), "CST")
FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
FS_IMMUTABLE_FL = 0x00000010
SETTLE_S = 3.0
"""How long what a test started may take to vanish after it; a bound, never a wait."""


@dataclass(slots=True)
class SettableClock:
    """A clock that only the test moves; calling it gives the present as an aware datetime."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 10, 0, tzinfo=CHINA))

    def __call__(self) -> datetime:
        return self.now

    def set(self, now: datetime) -> None:
        """Jump to `now`, forwards or backwards; it must be aware."""
        assert now.tzinfo is not None
        self.now = now

    def advance(self, seconds: float) -> None:
        """Move by `seconds`, which may be negative."""
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


def is_immutable(path: Path) -> bool:
    """Whether the immutable flag of a file is set."""
    with path.open("rb") as file:
        (flags,) = struct.unpack("l", fcntl.ioctl(file, FS_IOC_GETFLAGS, struct.pack("l", 0)))
    return bool(flags & FS_IMMUTABLE_FL)


def unseal(root: Path) -> None:
    """Take the immutable flag off every file and folder under `root`, so that it can be removed."""
    for folder, _, names in os.walk(root):
        for path in [folder, *(os.path.join(folder, name) for name in names)]:
            if not stat.S_ISREG(mode := os.lstat(path).st_mode) and not stat.S_ISDIR(mode):
                continue
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            try:
                (flags,) = struct.unpack("l", fcntl.ioctl(fd, FS_IOC_GETFLAGS, struct.pack("l", 0)))
                if flags & FS_IMMUTABLE_FL:
                    fcntl.ioctl(fd, FS_IOC_SETFLAGS, struct.pack("l", flags & ~FS_IMMUTABLE_FL))
            except OSError:
                pass  # this filesystem has no such flags, so nothing is sealed either
            finally:
                os.close(fd)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    unseal(tmp_path)


def _descriptors() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one listing this folder
    return found


def _children() -> set[str]:
    found: set[str] = set()
    for task in os.listdir("/proc/self/task"):
        try:
            found.update(Path(f"/proc/self/task/{task}/children").read_text().split())
        except FileNotFoundError:
            continue  # that thread has just ended
    return found


def _is_of_servers(pid: str, children: set[str]) -> bool:
    """Whether a process belongs to a group of servers that outlives the test, which may have restarted one of them."""
    try:
        return str(os.getpgid(int(pid))) in children
    except ProcessLookupError:
        return True  # it has just ended


def _left_behind(threads: set[threading.Thread], children: set[str], descriptors: dict[str, str]) -> list[str]:
    left = [f"thread {thread.name}" for thread in threading.enumerate() if thread not in threads]
    left += [f"child process {pid}" for pid in _children() - children if not _is_of_servers(pid, children)]
    left += [f"descriptor {fd}: {target}" for fd, target in _descriptors().items() if descriptors.get(fd) != target]
    return left


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Fail a test after which a thread, a child process or a file descriptor is left."""
    before = set(threading.enumerate()), _children(), _descriptors()
    yield
    end = time.monotonic() + SETTLE_S
    while left := _left_behind(*before):
        if time.monotonic() > end:
            pytest.fail("left behind: " + "; ".join(sorted(left)))
        gc.collect()
        time.sleep(0.01)


@pytest.fixture(autouse=True)
async def no_task_left(nothing_left_open: None) -> AsyncIterator[None]:
    """Fail a test after which an asyncio task is left."""
    before = asyncio.all_tasks()
    yield
    end = time.monotonic() + SETTLE_S
    while left := asyncio.all_tasks() - before - {asyncio.current_task()}:
        if time.monotonic() > end:
            pytest.fail("left behind: " + "; ".join(sorted(repr(task) for task in left)))
        await asyncio.sleep(0.01)
