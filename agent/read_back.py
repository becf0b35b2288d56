"""Reads a part back from the medium, while it still grows, and compares it with what the recorder gave."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from blake3 import blake3

from agent import durable
from agent.medium_reader import MediumReader
from agent.model import BLOCK_BYTES, Digests
from agent.vault_errors import differs, medium, world


@dataclass(frozen=True, slots=True)
class Settled:
    """A part whose bytes are durable and came back from the medium with these fingerprints; it has no name yet."""

    asset_id: str
    size_bytes: int
    digests: Digests


def fingerprint(
    fd: int, each_block: Callable[[], None] = lambda: None, reader: MediumReader | None = None
) -> tuple[int, Digests]:
    """Bytes read and fingerprints of a whole durable file, from the medium; raises OSError.

    `each_block` is called before every block, and may raise to give up.
    """
    size = os.fstat(fd).st_size
    whole, sha256 = blake3(), hashlib.sha256()
    reader = reader or MediumReader()
    done = 0
    for at in range(0, size or 1, BLOCK_BYTES):
        each_block()
        done += reader.feed(fd, at, min(BLOCK_BYTES, size - at), whole, sha256)
    return done, Digests(whole.hexdigest(), sha256.hexdigest())


class ReadBack:
    """Reads one part back from the medium, block by block behind the puller. For one thread at a time.

    Every method raises EvidenceError if the medium gives other bytes than the recorder did, and StoreError if the
    vault's disk can't make them durable. Nothing is lost by either: the recorder still has the footage.
    """

    def __init__(self, asset_id: str, path: Path, reader: MediumReader) -> None:
        self._asset_id = asset_id
        self._path = path
        self._opened = contextlib.ExitStack()
        with world(path):
            self._fd = self._opened.enter_context(durable.opened(path))
        self._reader = reader
        self._whole = blake3()
        self._sha256 = hashlib.sha256()
        self._next = 0
        self._done_bytes = 0
        self._durable_bytes = -1
        self._flusher: ThreadPoolExecutor | None = None
        self._flushing: Future[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def block(self, index: int, size_bytes: int, blake3_hex: str) -> None:
        """Make the next block durable, read it back and compare; after this it need not be pulled again."""
        assert index == self._next, f"block {index} of {self._asset_id} after block {self._next - 1}"
        assert self._done_bytes == index * BLOCK_BYTES, "only the last block may be shorter"
        end = self._done_bytes + size_bytes
        with world(self._path):
            self._make_durable(end)
            self._flush_ahead()
        # The first block's fingerprint is that of the file so far, and need not be computed twice.
        hasher = blake3() if index else self._whole
        hashers = (hasher, self._whole, self._sha256) if index else (self._whole, self._sha256)
        with medium(self._path):
            got = self._reader.feed(self._fd, self._done_bytes, size_bytes, *hashers)
        if got != size_bytes or hasher.hexdigest() != blake3_hex:
            raise differs(self._path, f"block {index}: {got} of {size_bytes} bytes")
        self._next += 1
        self._done_bytes = end

    def _make_durable(self, end: int) -> None:
        if self._flushing is not None and (end > self._durable_bytes or self._flushing.done()):
            flushing, self._flushing = self._flushing, None
            self._durable_bytes = flushing.result()
        if end > self._durable_bytes:
            self._durable_bytes = self._flush()

    def _flush(self) -> int:
        # The puller only appends, so one fdatasync covers everything that was written when it began.
        written = os.fstat(self._fd).st_size
        durable.fdatasync(self._fd)
        return written

    def _flush_ahead(self) -> None:
        """While a block is read and hashed, the disk makes durable what the puller has written behind it."""
        if self._flushing is None and os.fstat(self._fd).st_size > self._durable_bytes:
            self._flusher = self._flusher or ThreadPoolExecutor(1, thread_name_prefix="vault-flush")
            self._flushing = self._flusher.submit(self._flush)

    def replay(self, blocks: Iterable[tuple[int, int, str]]) -> None:
        """Read back (index, size in bytes, BLAKE3) blocks of an earlier attempt, from the first on."""
        for index, size_bytes, blake3_hex in blocks:
            self.block(index, size_bytes, blake3_hex)

    def finish(self, expected_bytes: int) -> Settled:
        """Compare the size of the file, the bytes that were read back and the bytes that were expected."""
        size = os.fstat(self._fd).st_size
        if not size == self._done_bytes == expected_bytes:
            raise differs(self._path, f"{size} bytes, {self._done_bytes} read back, {expected_bytes} expected")
        with world(self._path):
            self._make_durable(size)
        return Settled(self._asset_id, size, Digests(self._whole.hexdigest(), self._sha256.hexdigest()))

    def close(self) -> None:
        """Give up the descriptor; idempotent."""
        if self._flusher is not None:
            self._flusher.shutdown()
        self._opened.close()
