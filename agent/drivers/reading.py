"""Reads checked extents of a recorder, ahead of need, around bad sectors, and knows when the recorder is gone."""

from __future__ import annotations

import errno
import mmap
import os
import stat
import time
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Final

from agent import durable
from agent.card import Extent, FailReason
from agent.drivers.source import GONE_ERRNOS, LOOK_S, LOOKS, SECTOR_BYTES, Identity, identify

CHUNK_BYTES: Final = 256 * 1024
"""Reading and hashing unit: small enough to stay in the processor's cache."""

WINDOW_BYTES: Final = 16 * 1024 * 1024
RUN_BYTES: Final = 1024 * 1024
"""After so much in one piece the kernel's own reading ahead has found its pace, at a tenth of the CPU."""

MAX_HOLES: Final = 1024
"""Holes in one block that are looked at sector by sector; what is bad beyond them is given up in chunks."""

GONE: Final = GONE_ERRNOS | {errno.ENOTCONN, errno.ECONNABORTED, errno.ESTALE}


class FetchError(Exception):
    """A clip can't be read (further) now; `reason` is for the daemon, the text for a person."""

    def __init__(self, reason: FailReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Layout:
    """Where the bytes of one file lie on the device; from `zero_from` on they are zeros and lie nowhere."""

    def __init__(self, extents: array[int], size_bytes: int, zero_from: int | None) -> None:
        self.size_bytes = size_bytes
        self.stored_bytes = size_bytes if zero_from is None else min(zero_from, size_bytes)
        self._offsets = extents[::2]
        self._ends = array("Q", accumulate(extents[1::2]))
        covered = self._ends[-1] if self._ends else 0
        assert covered == self.stored_bytes, f"extents cover {covered} of {self.stored_bytes} bytes"

    def pieces(self, start: int, end: int) -> Iterator[Extent]:
        """(offset, length) on the device of the bytes from `start` to `end` of the file, each at most a chunk."""
        at = start
        end = min(end, self.stored_bytes)
        index = bisect_right(self._ends, start)
        while at < end:
            begin = self._ends[index - 1] if index else 0
            length = min(CHUNK_BYTES, end - at, self._ends[index] - at)
            yield self._offsets[index] + at - begin, length
            at += length
            if at == self._ends[index]:
                index += 1


class ReadAhead:
    """Keeps a window of the coming pieces on its way from the device, across the borders of extents and files.

    Positions count bytes in the order in which they will be read. Only the beginning of what lies in one piece is
    asked for: the kernel can't guess where the next piece begins, but goes on by itself within one, with large folios
    (it makes one of 4 KiB for each page that is asked for). It clips one request, so each piece is asked for by itself.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._coming: deque[Iterator[Extent]] = deque()
        self._asked = 0
        self._run = (0, 0)

    def expect(self, pieces: Iterator[Extent]) -> None:
        """These pieces will be read after all that was expected before."""
        self._coming.append(pieces)

    def advance(self, position: int) -> None:
        """Everything before `position` was read or given up; ask for what follows."""
        while self._coming and self._asked < position + WINDOW_BYTES:
            piece = next(self._coming[0], None)
            if piece is None:
                self._coming.popleft()
                continue
            begin, end = self._run if piece[0] == self._run[1] else (piece[0], piece[0])
            self._run = begin, end + piece[1]
            if self._asked >= position and end - begin < RUN_BYTES:
                os.posix_fadvise(self._fd, *piece, os.POSIX_FADV_WILLNEED)
            self._asked += piece[1]


class Recorder:
    """An opened recorder or image: read-only, and always the one that was identified."""

    def __init__(self, path: str, fd: int, identity: Identity) -> None:
        self._path = path
        self._fd = fd
        self._identity = identity
        self._read_run = (0, 0)
        self._is_block = stat.S_ISBLK(os.fstat(fd).st_mode)
        disk = f"/sys/dev/block/{os.major(identity.dev)}:{os.minor(identity.dev)}"
        self._disk = "" if self._is_block or not os.path.exists(disk) else disk
        self.read_ahead = ReadAhead(fd)
        durable.drop_cache(fd, 0, identity.size)  # what the parser has read is not the medium
        self.is_direct = True
        self._direct_fd = self._open_direct()
        self._bounce = memoryview(mmap.mmap(-1, CHUNK_BYTES + 2 * SECTOR_BYTES))  # aligned, as O_DIRECT needs it

    def _open_direct(self) -> int:
        try:
            return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        except OSError:  # some filesystems have no O_DIRECT; then rescue works page by page
            self.is_direct = False
            return os.dup(self._fd)

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view` from the device; raises OSError for a bad area and FetchError if the recorder is gone."""
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._fd, [view[done:]], offset + done)
            except OSError as error:
                self.raise_if_gone(error)
                raise
            if not got:
                raise self._too_short(offset + done)
            done += got

    def read_sectors(self, offset: int, view: memoryview) -> None:
        """As `read`, past the page cache, so that one bad sector doesn't spoil its neighbours; at most a chunk."""
        first = offset // SECTOR_BYTES * SECTOR_BYTES
        last = -(-(offset + len(view)) // SECTOR_BYTES) * SECTOR_BYTES
        try:
            got = os.preadv(self._direct_fd, [self._bounce[: last - first]], first)
        except OSError as error:
            self.raise_if_gone(error)
            raise
        if got < offset - first + len(view):
            raise self._too_short(first + got)
        view[:] = self._bounce[offset - first : offset - first + len(view)]

    def let_kernel_guess(self, allowed: bool) -> None:
        """Whether reading may run ahead of what is asked for; on a dying card every guess costs seconds."""
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_NORMAL if allowed else os.POSIX_FADV_RANDOM)

    def forget(self, offset: int, size_bytes: int) -> None:
        """A range was read; memory has better uses. Told range by range, done in long runs: folios may be large."""
        begin, end = self._read_run
        if offset == end and end - begin < WINDOW_BYTES:
            self._read_run = begin, offset + size_bytes
        else:
            durable.drop_cache(self._fd, begin, end - begin)
            self._read_run = offset, offset + size_bytes

    def raise_if_gone(self, error: OSError) -> None:
        """Tell a bad sector from an unplugged recorder, by the error and by what is at the path now."""
        if error.errno in GONE or not self._is_there():
            raise FetchError(FailReason.GONE, error.strerror or str(error)) from error

    def _too_short(self, offset: int) -> FetchError:
        if self._is_block and not self._is_there():  # an unplugged disk has size zero
            return FetchError(FailReason.GONE, "the device has no bytes any more")
        return FetchError(FailReason.CHANGED, f"the medium ends at byte {offset}")

    def _is_there(self) -> bool:
        try:
            now = identify(self._fd)
            if self._is_block and now != self._identity:
                return False
            named = os.stat(self._path)
            if not self._is_block:
                os.fstatvfs(self._fd)  # a share's computer is asked; what is mounted of a disk stays when it goes
        except PermissionError:  # the sandbox may forbid looking at paths; the open device has answered
            return True
        except OSError:
            return False
        is_same = (named.st_dev, named.st_ino) == (self._identity.dev, self._identity.ino)
        return is_same and (not self._disk or os.path.exists(self._disk))

    def fileno(self) -> int:
        """The descriptor that was handed over."""
        return self._fd

    def close(self) -> None:
        """Give up the descriptors, also the one that was handed over."""
        os.close(self._direct_fd)
        os.close(self._fd)


class Rescue:
    """Reads around bad sectors, within limits: a dying card can take a second for each of millions of sectors.

    Bad pieces are halved down to one sector while `left_s` lasts, which all clips of a docking share. After that a
    bad piece is given up whole, and the reading leaps on, twice as far each time, until something is readable again.
    `alive` is called before every patient read. A hole is only one if the recorder was there when it gave an error.
    """

    def __init__(
        self,
        recorder: Recorder,
        limit_s: float,
        alive: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._recorder = recorder
        self._alive = alive
        self._clock = clock
        self._pause = pause
        self._doubt: OSError | None = None
        self._left_s = limit_s
        self._holes: list[Extent] = []
        self._skip_bytes = 0
        self._leap_bytes = CHUNK_BYTES

    def take_holes(self) -> list[Extent]:
        """Holes (offset in the file, length) since the last call, in order, neighbours joined.

        Raises FetchError when the recorder was unplugged instead: what was read after an error shows that it was not,
        else it is waited until the kernel would have noticed.
        """
        for _ in range(LOOKS):
            if self._doubt is not None:
                self._alive()
                self._pause(LOOK_S)
                self._recorder.raise_if_gone(self._doubt)
        self._doubt = None
        holes, self._holes = self._holes, []
        return holes

    def read(self, offset: int, view: memoryview, file_offset: int) -> None:
        """Fill `view` from the device; what it doesn't give becomes zeros and a hole. Raises FetchError when gone."""
        if self._skip_bytes > 0:
            self._skip_bytes -= len(view)
            self._hole(view, file_offset)
            return
        try:
            self._recorder.read(offset, view)
        except OSError:
            self._read_around(offset, view, file_offset)
        else:
            self._leap_bytes = CHUNK_BYTES

    def _read_around(self, offset: int, view: memoryview, file_offset: int) -> None:
        until = self._clock() + self._left_s
        begun = self._clock()
        todo = [(0, len(view))]
        while todo:
            at, length = todo.pop()
            part = view[at : at + length]
            if self._clock() >= until:
                self._skip_bytes = self._leap_bytes
            if self._skip_bytes or len(self._holes) >= MAX_HOLES:
                self._hole(part, file_offset + at)
                continue
            self._alive()
            try:
                self._recorder.read_sectors(offset + at, part)
                if self._recorder.is_direct:
                    self._doubt = None  # this came from the medium
            except OSError as error:
                self._doubt = error
                first, last = (offset + at) // SECTOR_BYTES, (offset + at + length - 1) // SECTOR_BYTES
                if first == last:
                    self._hole(part, file_offset + at)
                else:
                    half = (first + last + 1) // 2 * SECTOR_BYTES - offset - at
                    todo += [(at + half, length - half), (at, half)]
        self._left_s = max(0.0, self._left_s - (self._clock() - begun))
        if self._skip_bytes:
            self._leap_bytes *= 2

    def _hole(self, view: memoryview, file_offset: int) -> None:
        view[:] = bytes(len(view))
        if self._holes and sum(self._holes[-1]) == file_offset:
            self._holes[-1] = (self._holes[-1][0], self._holes[-1][1] + len(view))
        else:
            self._holes.append((file_offset, len(view)))
