"""Reads durable bytes from the medium instead of from memory, and proves that it did."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from typing import Final, Protocol

from agent import durable

_SMALL_BYTES: Final = 8 * 1024 * 1024
_DROP_ATTEMPTS: Final = 3


class Hasher(Protocol):
    """What BLAKE3 and SHA-256 have in common."""

    def update(self, data: memoryview, /) -> object:
        """Take more bytes."""

    def hexdigest(self) -> str:
        """Fingerprint of all bytes so far, lower-case hexadecimal."""


class MediumReader:
    """Reads durable bytes from the medium, never from memory, and feeds them to hashers. One thread at a time.

    Cached pages are dropped and `mincore` proves that they are gone; if somebody keeps them in memory, the range is
    read with O_DIRECT. A read that returns nothing before the end counts as the end: callers compare sizes.
    """

    __slots__ = ("_coming", "_view")

    def __init__(self) -> None:
        self._view = memoryview(mmap.mmap(-1, durable.CHUNK_BYTES))  # aligned, as O_DIRECT needs it
        self._coming: set[int] = set()

    def ask(self, fd: int, size_bytes: int) -> None:
        """Have the medium begin to give a small durable file, which `feed` waits for: the disk works on several."""
        if size_bytes <= durable.CHUNK_BYTES and self.forget(fd, 0, size_bytes):
            os.posix_fadvise(fd, 0, size_bytes, os.POSIX_FADV_WILLNEED)
            self._coming.add(fd)

    def feed(self, fd: int, offset_bytes: int, size_bytes: int, *hashers: Hasher) -> int:
        """Read a range that `fdatasync` made durable; returns the bytes read. Raises OSError."""
        if fd in self._coming or self.forget(fd, offset_bytes, size_bytes):
            self._coming.discard(fd)
            return self._read(fd, offset_bytes, size_bytes, hashers)
        direct = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
        try:
            return self._read(direct, offset_bytes, size_bytes, hashers)
        finally:
            os.close(direct)

    def forget(self, fd: int, offset_bytes: int, size_bytes: int) -> bool:
        """Drop a range from memory; True proves that reading it asks the medium."""
        for _ in range(_DROP_ATTEMPTS):
            durable.drop_cache(fd, offset_bytes, size_bytes)
            if not durable.cached_bytes(fd, offset_bytes, size_bytes):
                return True
        return False

    def _read(self, fd: int, offset: int, size: int, hashers: Sequence[Hasher]) -> int:
        # The kernel reads ahead by itself, with large folios: asking for it page by page takes ten times the CPU.
        end = offset + size
        at = offset
        while at < end:
            got = min(os.preadv(fd, [self._view], at), end - at)
            if not got:
                break
            for hasher in hashers:
                hasher.update(self._view[:got])
            at += got
        if size > _SMALL_BYTES:  # small files stay: they are uploaded next
            durable.drop_cache(fd, offset, size)
        return at - offset
