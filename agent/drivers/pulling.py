"""Pulls one clip after the other from an opened recorder into parts, fingerprinting each block on the way."""

import errno
import os
from collections.abc import Iterator
from itertools import chain
from typing import Final, NamedTuple, Protocol

from blake3 import blake3

from agent import durable
from agent.card import BLOCK_BYTES, Extent, FailReason
from agent.drivers.reading import CHUNK_BYTES, FetchError, Layout

_WRITEBACK_BYTES: Final = 2 * 1024 * 1024
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Order(NamedTuple):
    """One clip to read into the part of that name, or only to fingerprint; see `base.FetchRequest`."""

    number: int
    part: str
    layout: Layout
    first_block: int = 0
    check: tuple[int, str] | None = None
    rescue: bool = False

    def device_pieces(self) -> Iterator[Extent]:
        """What will be read from the device for this order, in that order."""
        first = self.first_block * BLOCK_BYTES
        rest = self.layout.pieces(first, self.layout.size_bytes)
        if self.check is None:
            return rest
        begin = self.check[0] * BLOCK_BYTES
        return chain(self.layout.pieces(begin, begin + BLOCK_BYTES), rest)

    def device_bytes(self) -> int:
        """Sum of `device_pieces`, without going through them."""
        stored = self.layout.stored_bytes
        total = max(0, stored - self.first_block * BLOCK_BYTES)
        if self.check is not None:
            total += max(0, min(BLOCK_BYTES, stored - self.check[0] * BLOCK_BYTES))
        return total


class Reports(Protocol):
    """Where the results of an order go, while they come."""

    def block(self, number: int, index: int, size_bytes: int, blake3_hex: str, holes: list[Extent]) -> None:
        """A block was written; `holes` are ranges of the file in it that became zeros. Waits if too far ahead."""

    def progress(self, number: int, done_bytes: int) -> None:
        """All before this was read; called often."""

    def fetched(self, number: int, size_bytes: int, holes: list[Extent], blake3_hex: str) -> None:
        """All of the clip was read; fingerprint and holes are given only when nothing was written."""


class Ahead(Protocol):
    """Reads ahead of need; see `reading.ReadAhead`."""

    def expect(self, pieces: Iterator[Extent]) -> None:
        """These pieces will be read after all that was expected before."""

    def advance(self, position: int) -> None:
        """Everything before `position` was read or given up."""


class Medium(Protocol):
    """What clips are read from by place; see `reading.Recorder`."""

    @property
    def read_ahead(self) -> Ahead:
        """What is told of the pieces to come."""

    def let_kernel_guess(self, guess: bool, /) -> None:
        """Whether reading goes straight on."""

    def read(self, offset: int, view: memoryview) -> None:
        """Fill `view`; raises OSError for a bad area and FetchError for all else."""

    def forget(self, offset: int, length: int) -> None:
        """These bytes are not wanted again."""


class Patience(Protocol):
    """How a clip is read whose medium is bad; see `reading.Rescue`."""

    def read(self, offset: int, view: memoryview, file_offset: int) -> None:
        """Fill `view`, with zeros where nothing comes; raises FetchError."""

    def take_holes(self) -> list[Extent]:
        """What did not come since the last time."""


class Puller:
    """Works on the orders of one docking, in the order in which they were expected. One thread, one buffer."""

    def __init__(self, recorder: Medium, staging_fd: int, reports: Reports, rescue: Patience) -> None:
        self._recorder = recorder
        self._staging_fd = staging_fd
        self._reports = reports
        self._rescue = rescue
        self._buffer = memoryview(bytearray(CHUNK_BYTES))
        self._position = 0

    def expect(self, order: Order) -> None:
        """Reading ahead may reach into this order; `pull` must be called for each expected order, in turn."""
        if not order.rescue:  # reading ahead over bad sectors would only make a dying card slower
            self._recorder.read_ahead.expect(order.device_pieces())

    def pull(self, order: Order) -> None:
        """Read one clip and report it; raises FetchError when it can't be read, with all earlier blocks good."""
        end = self._position + (0 if order.rescue else order.device_bytes())
        try:
            self._recorder.let_kernel_guess(not order.rescue)
            self._recorder.read_ahead.advance(self._position)
            if order.part:
                self._into_part(order)
            else:
                self._fingerprint(order)
        finally:
            self._position = end

    def _into_part(self, order: Order) -> None:
        self._check(order)
        part_fd = self._open_part(order)
        size = order.layout.size_bytes
        try:
            # An empty clip has one empty block, so that every clip can be compared in the same way.
            for start in range(order.first_block * BLOCK_BYTES, max(size, 1), BLOCK_BYTES):
                self._block(order, part_fd, start, min(start + BLOCK_BYTES, size))
        finally:
            os.close(part_fd)
        self._reports.fetched(order.number, size, [], "")

    def _block(self, order: Order, part_fd: int, start: int, end: int) -> None:
        hasher = blake3()
        at = flushed = start
        for view in self._chunks(order, start, end):
            hasher.update(view)
            self._write(part_fd, view, at)
            at += len(view)
            if at - flushed >= _WRITEBACK_BYTES:
                durable.start_writeback(part_fd, flushed, at - flushed)
                flushed = at
        if flushed > start:
            durable.start_writeback(part_fd, flushed, at - flushed)
        index = start // BLOCK_BYTES
        self._reports.block(order.number, index, end - start, hasher.hexdigest(), self._rescue.take_holes())

    def _fingerprint(self, order: Order) -> None:
        hasher = blake3()
        holes: list[Extent] = []
        size = order.layout.size_bytes
        for start in range(0, size, BLOCK_BYTES):
            self._hash(order, start, hasher)
            holes += self._rescue.take_holes()
        self._reports.fetched(order.number, size, holes, hasher.hexdigest())

    def _check(self, order: Order) -> None:
        """Read the check block again: is this still the recording whose pull was interrupted?"""
        if order.check is None:
            return
        index, expected = order.check
        hasher = blake3()
        self._hash(order, index * BLOCK_BYTES, hasher)
        self._rescue.take_holes()
        if hasher.hexdigest() != expected:
            raise FetchError(FailReason.DIFFERENT, f"block {index} is not the one that was pulled before")

    def _hash(self, order: Order, start: int, hasher: blake3) -> None:
        for view in self._chunks(order, start, min(start + BLOCK_BYTES, order.layout.size_bytes)):
            hasher.update(view)

    def _chunks(self, order: Order, start: int, end: int) -> Iterator[memoryview]:
        """The bytes of the file from `start` to `end`; each view is good until the next one is asked for."""
        for at in range(start, end, CHUNK_BYTES):
            view = self._buffer[: min(CHUNK_BYTES, end - at)]
            pieces = list(order.layout.pieces(at, at + len(view)))
            filled = 0
            for offset, length in pieces:
                self._read(order, offset, view[filled : filled + length], at + filled)
                filled += length
            view[filled:] = bytes(len(view) - filled)
            self._reports.progress(order.number, at)
            if not order.rescue:
                self._position += filled
                self._recorder.read_ahead.advance(self._position)
            for offset, length in pieces:
                self._recorder.forget(offset, length)
            yield view

    def _read(self, order: Order, offset: int, view: memoryview, file_offset: int) -> None:
        if order.rescue:
            self._rescue.read(offset, view, file_offset)
            return
        try:
            self._recorder.read(offset, view)
        except OSError as error:
            raise FetchError(FailReason.UNREADABLE, f"byte {file_offset}: {error.strerror}") from error

    def _open_part(self, order: Order) -> int:
        """The part, cut to the blocks that are durable."""
        kept = min(order.first_block * BLOCK_BYTES, order.layout.size_bytes)
        if "/" in order.part:
            raise FetchError(FailReason.BROKEN, f"{order.part!r} is not a name in the staging folder")
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(order.part, flags, 0o600, dir_fd=self._staging_fd)
        except OSError as error:
            raise _unwritable(error) from error
        there = os.fstat(fd).st_size
        if there < kept:
            os.close(fd)
            raise FetchError(FailReason.BROKEN, f"the part has {there} bytes, but {kept} were durable")
        if there > kept:
            durable.cut_part(fd, kept)
        return fd

    def _write(self, part_fd: int, view: memoryview, at: int) -> None:
        done = 0
        try:
            while done < len(view):
                done += os.pwrite(part_fd, view[done:], at + done)
        except OSError as error:
            raise _unwritable(error) from error


def _unwritable(error: OSError) -> FetchError:
    reason = FailReason.NO_SPACE if error.errno in _NO_SPACE else FailReason.BROKEN
    return FetchError(reason, f"staging: {error.strerror}")
