"""What goes into a simulated file: bytes, a host file, or seeded noise of any size without keeping it in memory."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHUNK_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Noise:
    """Incompressible bytes that follow from `seed`; no two chunks and no two seeds give the same bytes."""

    size_bytes: int
    seed: int = 0

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes in pieces of at most `CHUNK_BYTES`."""
        length = min(CHUNK_BYTES, self.size_bytes)
        base = random.Random(self.seed).randbytes(length)
        for index in range(-(-self.size_bytes // CHUNK_BYTES)):
            stamp = index.to_bytes(8, "little")
            size = min(CHUNK_BYTES, self.size_bytes - index * CHUNK_BYTES)
            yield (stamp + base[len(stamp) :])[:size]

    def read(self) -> bytes:
        """All bytes at once."""
        return b"".join(self.chunks())


Content = bytes | Path | Noise


def size_of(content: Content) -> int:
    """Size in bytes."""
    if isinstance(content, bytes):
        return len(content)
    return content.size_bytes if isinstance(content, Noise) else content.stat().st_size


def chunks_of(content: Content) -> Iterator[bytes]:
    """Yield the bytes in pieces of at most `CHUNK_BYTES` (whole, if they are bytes already)."""
    if isinstance(content, bytes):
        yield content
    elif isinstance(content, Noise):
        yield from content.chunks()
    else:
        with content.open("rb", buffering=0) as source:
            while chunk := source.read(CHUNK_BYTES):
                yield chunk
