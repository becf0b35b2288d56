"""Reads held files again from the medium, block by block, and compares them with what was recorded."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from pathlib import Path

from blake3 import blake3

from agent import durable
from agent.errors import EvidenceError
from agent.model import BLOCK_BYTES, Digests


class UnreadableError(EvidenceError):
    """The file is missing, or the medium doesn't give it: that may be the fault of a disk or a mount."""


def rereading(path: Path, size_bytes: int, digests: Digests) -> Generator[int]:
    """Yield the bytes of each block that was read, in order; raises EvidenceError if the file is not as recorded.

    Close it if it isn't read to its end.
    """
    whole, sha256, done = blake3(), hashlib.sha256(), 0
    try:
        with durable.opened(path) as fd:
            reader, size = durable.MediumReader(), os.fstat(fd).st_size
            for at in range(0, size, BLOCK_BYTES):
                got = reader.feed(fd, at, min(BLOCK_BYTES, size - at), whole, sha256)
                done += got
                yield got
    except OSError as error:
        raise UnreadableError(f"The vault's {path.name} can't be read: {error.strerror or error}.") from error
    found = Digests(whole.hexdigest(), sha256.hexdigest())
    if (done, found) != (size_bytes, digests):
        what = f"{done} of {size_bytes} bytes, BLAKE3 {found.blake3}, SHA-256 {found.sha256}"
        raise EvidenceError(f"The vault's disk does not give back what was written: {path.name} ({what}).")
