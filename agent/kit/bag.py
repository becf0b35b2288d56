"""Writes BagIt bags (RFC 8493): files with their digests, whole or not at all, read back before they get their name."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Self

from blake3 import blake3

from agent import durable
from agent.errors import EvidenceError
from agent.medium_reader import Hasher

DATA: Final = "data"
"""Folder of what is handed over; all else in a bag is about it."""

_CHUNK_BYTES: Final = 1 << 20
# BagIt knows the first two alone, and its readers pass over manifests that they don't know: the others are tag files.
_LISTS: Final[Mapping[str, str]] = {
    "sha256": "manifest-sha256.txt",
    "sha512": "manifest-sha512.txt",
    "blake3": "b3sums.txt",
    "sm3": "sm3sums.txt",
}
_MAKE: Final[Mapping[str, Callable[[], Hasher]]] = {
    "sha256": hashlib.sha256,
    "sha512": hashlib.sha512,
    "blake3": blake3,
    "sm3": lambda: hashlib.new("sm3"),
}


@dataclass(frozen=True, slots=True)
class Sums:
    """Size and digests (lower-case hexadecimal, by algorithm) of a file as it was read."""

    size_bytes: int
    digests: Mapping[str, str]


class Bag:
    """A bag under way in `folder`, which is empty; nothing of it counts before `close`. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: dict[str, Sums] = {}
        self._pool = ThreadPoolExecutor(len(_MAKE), thread_name_prefix="bag")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def add(self, name: str, source: BinaryIO, tell: Callable[[int], None] = lambda _: None) -> Sums:
        """Copy a file to `name` below the bag; `tell` hears of bytes. Returns the digests of what was read."""
        path = self.folder.joinpath(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        hashers = {algorithm: make() for algorithm, make in _MAKE.items()}
        size_bytes = 0
        with path.open("xb") as file:
            while chunk := source.read(_CHUNK_BYTES):
                feeding = [self._pool.submit(hasher.update, memoryview(chunk)) for hasher in hashers.values()]
                file.write(chunk)
                size_bytes += len(chunk)
                tell(len(chunk))
                for one in feeding:
                    one.result()
            file.flush()
            durable.fsync_file(file.fileno())
        self.files[name] = Sums(size_bytes, {algorithm: one.hexdigest() for algorithm, one in hashers.items()})
        return self.files[name]

    def write(self, name: str, content: bytes | str) -> Sums:
        """Add a file that is made here."""
        return self.add(name, io.BytesIO(content.encode() if isinstance(content, str) else content))

    def close(self, info: Iterable[tuple[str, str]]) -> str:
        """Write all lists and read every file back; returns the bag's digest, SHA-256 of its last list.

        Raises EvidenceError if what was read back is not what was written.
        """
        payload = {name: sums for name, sums in self.files.items() if name.startswith(f"{DATA}/")}
        oxum = f"{sum(sums.size_bytes for sums in payload.values())}.{len(payload)}"
        self.write("bagit.txt", "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")
        lines = (*info, ("Payload-Oxum", oxum))
        self.write("bag-info.txt", "".join(f"{label}: {_one_line(value)}\n" for label, value in lines))
        for algorithm, name in _LISTS.items():
            self.write(name, _list(payload, algorithm))
        tags = {name: sums for name, sums in self.files.items() if name not in payload}
        last = self.write("tagmanifest-sha256.txt", _list(tags, "sha256"))
        self._read_back()
        return last.digests["sha256"]

    def _read_back(self) -> None:
        for name, sums in self.files.items():
            digest = hashlib.sha256()
            with durable.opened(self.folder / name) as fd, open(fd, "rb", closefd=False) as file:
                durable.drop_cache(fd, 0, sums.size_bytes)
                while chunk := file.read(_CHUNK_BYTES):
                    digest.update(chunk)
            if digest.hexdigest() != sums.digests["sha256"]:
                raise EvidenceError(
                    f"{name} was written and came back with other bytes.",
                    safe="The station's originals are unchanged; nothing was exported.",
                    do="Export to another disk.",
                )
        folders = {(self.folder / name).parent for name in self.files}
        for folder in sorted({*folders, *(path.parent for path in folders if path != self.folder)}):
            durable.fsync_dir(folder)


def _list(files: Mapping[str, Sums], algorithm: str) -> str:
    """Names are ours: no line breaks and no percent signs, which BagIt would have written otherwise."""
    return "".join(f"{sums.digests[algorithm]}  {name}\n" for name, sums in sorted(files.items()))


def _one_line(value: str) -> str:
    return " ".join(value.split())
