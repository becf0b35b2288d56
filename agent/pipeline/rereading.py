"""Reads held files again from the medium, block by block, and compares them with what was recorded."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from blake3 import blake3

from agent import durable
from agent.errors import EvidenceError
from agent.medium_reader import MediumReader
from agent.model import BLOCK_BYTES, Asset, Digests
from agent.vault import Vault

_READERS: Final = 4
_AHEAD: Final = 8
"""So many small files are asked for before the first of them was read to its end."""


class UnreadableError(EvidenceError):
    """The file is missing, or the medium doesn't give it: that may be the fault of a disk or a mount."""


def rereading(path: Path, size_bytes: int, digests: Digests) -> Generator[int]:
    """Yield the bytes of each block that was read, in order; raises EvidenceError if the file is not as recorded.

    Close it if it isn't read to its end.
    """
    whole, sha256, done = blake3(), hashlib.sha256(), 0
    try:
        with durable.opened(path) as fd:
            reader, size = MediumReader(), os.fstat(fd).st_size
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


def read_all(
    vault: Vault, assets: Iterable[Asset], moved: Callable[[int], None]
) -> Generator[tuple[Asset, EvidenceError | None]]:
    """Read the files of assets again, several at a time where that is faster; yield each, in order, with what is wrong.

    `moved` is called with the bytes of each block, from any thread. Close it if it isn't read to its end.
    """
    stop = threading.Event()

    def read(asset: Asset) -> EvidenceError | None:
        assert asset.digests is not None
        assert asset.size_bytes is not None
        path = vault.address(asset.digests.blake3)
        try:
            with contextlib.closing(rereading(path, asset.size_bytes, asset.digests)) as blocks:
                for got in blocks:
                    moved(got)
                    if stop.is_set():
                        break
        except EvidenceError as error:
            return error
        return None

    waiting: deque[tuple[Asset, Future[EvidenceError | None]]] = deque()
    with ThreadPoolExecutor(readers(vault.root), thread_name_prefix="verify") as pool:
        try:
            for asset in assets:
                waiting.append((asset, pool.submit(read, asset)))
                if len(waiting) > _AHEAD:
                    first, done = waiting.popleft()
                    yield first, done.result()
            yield from ((first, done.result()) for first, done in waiting)
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


def readers(folder: Path) -> int:
    """How many files to read at a time: one where a disk's head would have to go back and forth between them."""
    device = folder.stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve()
    for queue in (place / "queue", place.parent / "queue"):  # a partition is beneath its disk
        with contextlib.suppress(OSError):
            turns = (queue / "rotational").read_text().strip() == "1"
            return 1 if turns and "virtio" not in str(place) else _READERS  # of what is behind virtio nobody knows
    return _READERS
