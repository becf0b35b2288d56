"""Reads an original on its way to a store, or back, and notices when it is no longer what it was."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path
from typing import Final, Self

from blake3 import blake3

from agent import durable
from agent.errors import EvidenceError, StoreError
from agent.model import Digests, Held

SLICE_BYTES: Final = durable.CHUNK_BYTES

_OURS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM, errno.EINTR})
"""Trouble of this process: it says nothing about the original, which must not be called damaged for it."""


def chunks(held: Held) -> Generator[memoryview, None, None]:
    """The bytes of an original from first to last, always in the same buffer; blocks, so run it in a thread.

    Raises EvidenceError if it can't be read, and at the end if size or fingerprint are not those of `held`.
    """
    with Source(held) as source:
        hasher = blake3()
        done = 0
        for chunk in source.read(0, held.size_bytes):
            hasher.update(chunk)
            done += len(chunk)
            yield chunk
        source.compare(done, hasher.hexdigest())


class Tally:
    """Size and fingerprints of what a store gives back, piece by piece."""

    def __init__(self) -> None:
        self._size_bytes = 0
        self._hashers = blake3(), hashlib.sha256()

    async def add(self, piece: bytes) -> None:
        """Take more bytes."""
        await asyncio.to_thread(self.take, piece)

    def take(self, piece: bytes | memoryview) -> None:
        """The same, blocking."""
        self._size_bytes += len(piece)
        for hasher in self._hashers:
            hasher.update(piece)

    def found(self) -> tuple[int, Digests]:
        """Size in bytes and fingerprints of all so far."""
        return self._size_bytes, Digests(*(hasher.hexdigest() for hasher in self._hashers))


class Copy(Tally):
    """Writes what a store gives back into a file, and not a byte more than there may be; raises as `taking`."""

    def __init__(self, fd: int, limit_bytes: int, differs: Callable[[str], EvidenceError]) -> None:
        super().__init__()
        self._fd = fd
        self._limit_bytes = limit_bytes
        self._differs = differs

    def take(self, piece: bytes | memoryview) -> None:
        """Write and count more bytes."""
        super().take(piece)
        if self._size_bytes > self._limit_bytes:
            raise self._differs(f"it gives more than {self._limit_bytes} bytes")
        with _own_disk():
            write_all(self._fd, memoryview(piece))


@contextlib.contextmanager
def taking(part: Path, size_bytes: int, digests: Digests, differs: Callable[[str], EvidenceError]) -> Iterator[Copy]:
    """A new file for an object that comes back, compared at the end with what it must be.

    Raises what `differs` makes of a reason, FileExistsError, and StoreError if our own disk refuses.
    """
    with contextlib.ExitStack() as opened:
        with _own_disk():
            fd = opened.enter_context(durable.opened(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW))
        copy = Copy(fd, size_bytes, differs)
        yield copy
        if (found := copy.found()) != (size_bytes, digests):
            raise differs(f"it gives back {found[0]} bytes with SHA-256 {found[1].sha256}")


def write_all(fd: int, view: memoryview) -> None:
    """Write all of it; raises OSError."""
    while view:
        view = view[os.write(fd, view) :]


@contextlib.contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        what = f"This station's disk refuses what the store gives back: {error.strerror or error}."
        raise StoreError(what, safe="The store keeps it.", do="Check this station's disk and its room.") from error


class Source:
    """An opened original, for several readers at once; every method raises EvidenceError if it can't be read.

    StoreError if that is only trouble of this process, which passes.
    """

    def __init__(self, held: Held) -> None:
        self._held = held
        self._opened = contextlib.ExitStack()
        self._fd = -1

    def __enter__(self) -> Self:
        with self._world():
            self._fd = self._opened.enter_context(durable.opened(self._held.path))
            size_bytes = os.fstat(self._fd).st_size
        if size_bytes != self._held.size_bytes:
            self._opened.close()
            raise self._changed(f"it has {size_bytes} bytes, not {self._held.size_bytes}")
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()
        self._fd = -1

    def read(self, offset_bytes: int, size_bytes: int) -> Iterator[memoryview]:
        """The bytes of a range, always in the same buffer; blocks, so run it in a thread."""
        view = memoryview(bytearray(SLICE_BYTES))
        end = offset_bytes + size_bytes
        while offset_bytes < end:
            with self._world():
                got = os.preadv(self._fd, [view[: end - offset_bytes]], offset_bytes)
            if not got:
                return
            yield view[:got]
            offset_bytes += got

    async def pieces(self, offset_bytes: int, size_bytes: int) -> AsyncIterator[bytes]:
        """The bytes of a range as a request's body, without blocking; never shorter than asked for."""
        end = offset_bytes + size_bytes
        while offset_bytes < end:
            with self._world():
                piece = await asyncio.to_thread(os.pread, self._fd, min(SLICE_BYTES, end - offset_bytes), offset_bytes)
            if not piece:
                raise self._changed(f"it ends at byte {offset_bytes}")
            offset_bytes += len(piece)
            yield piece

    def compare(self, done_bytes: int, blake3_hex: str) -> None:
        """Raise EvidenceError unless what was read is what `held` proves."""
        if (done_bytes, blake3_hex) != (self._held.size_bytes, self._held.digests.blake3):
            raise self._changed(f"{done_bytes} of {self._held.size_bytes} bytes read, and their fingerprint differs")

    def _changed(self, what: str) -> EvidenceError:
        what = f"The original {self._held.path.name} in this station is no longer what it was: {what}."
        do = "Keep the recorder as it is, and call the administrator."
        return EvidenceError(what, safe="Nothing was stored.", do=do)

    @contextlib.contextmanager
    def _world(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            why = error.strerror or str(error)
            if error.errno in _OURS:
                what = f"{self._held.path.name} can't be read now: {why}."
                raise StoreError(what, do="Check this station.") from error
            raise self._changed(why) from error
