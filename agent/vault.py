"""Keeps originals under their own fingerprint, and calls nothing held before the medium has given it back unchanged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

from blake3 import blake3

from agent import durable
from agent.changes import Changes, Place, seen
from agent.medium_reader import MediumReader
from agent.model import Digests, Held
from agent.read_back import ReadBack, Settled, fingerprint
from agent.vault_errors import differs, medium, refused, world

__all__ = ["ReadBack", "Settled", "Vault", "address_in", "fingerprint"]

_FOLDER: Final = "vault"
_SYNC_THREADS: Final = 4
_MANY: Final = 16
"""From so many files or folders on, flushing the whole filesystem once is faster than flushing each of them."""
_COMING: Final = 32
"""So many small parts come from the medium at a time: enough to keep a disk busy, few enough to be open at once."""

_MAX_DAMAGED_COPIES: Final = 1000
_PART_ID: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,127}")
_BLAKE3: Final = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T")
R = TypeVar("R")


def _ignore(_: str) -> None:
    """Tell nobody."""


class Vault:
    """The originals of one station, `<root>/vault/<first two hex>/<blake3>`, and the parts being pulled.

    Anybody can check an original with `b3sum`: its name is its fingerprint. Synchronous: callers use a few threads.
    Raises EvidenceError when bytes are not what they were, and StoreError when the vault's disk refuses.
    """

    def __init__(self, root: Path, *, seal: bool, verity: bool = False) -> None:
        self.root = root
        self.seal = seal
        self._verity = verity
        self.staging_dir = root / "staging"
        self.originals_dir = root / _FOLDER
        self.damaged_dir = root / "damaged"
        self.work_dir = root / durable.WORK_FOLDER
        self.changes = Changes()
        with world(root):
            for folder in (root, self.staging_dir, self.originals_dir, self.damaged_dir, self.work_dir):
                durable.make_dir(folder)
            self.place = Place(self.originals_dir, root, self.staging_dir, self.damaged_dir)

    def _require_place(self) -> None:
        """What lies elsewhere says nothing about what is held here; raises StoreError."""
        with world(self.root):
            if not self.place.is_same():
                raise refused(self.root, "something was mounted over its folders, or put in their place")

    def free_bytes(self) -> int:
        """Bytes that can still be written by an unprivileged process."""
        with world(self.root):
            space = os.statvfs(self.root)
        return space.f_bavail * space.f_frsize

    def part_name(self, asset_id: str) -> str:
        """Name of an asset's part in the staging folder."""
        assert _PART_ID.fullmatch(asset_id), f"{asset_id!r} can't be the name of a file"
        return asset_id + durable.PART_SUFFIX

    def part_bytes(self, asset_id: str) -> int | None:
        """Size of an asset's part, None if there is none."""
        found = seen(self._part(asset_id))
        return None if found is None else found.size_bytes

    def _part(self, asset_id: str) -> Path:
        return self.staging_dir / self.part_name(asset_id)

    def address(self, blake3_hex: str) -> Path:
        """Where the original with this fingerprint is kept, or would be."""
        return address_in(self.root, blake3_hex)

    def read_back(self, asset_id: str) -> ReadBack:
        """Open the part of a big clip for reading it back while it grows; close it when done."""
        return ReadBack(asset_id, self._part(asset_id), MediumReader())

    def settle(self, parts: Sequence[tuple[str, int, str]]) -> list[Settled]:
        """Make parts, (asset, size in bytes, BLAKE3), durable and read them back, in the order given.

        If one of them differs the first error is raised, and all parts stay as they are.
        """
        if len(parts) >= _MANY:
            with world(self.staging_dir):
                durable.sync_filesystem(self.staging_dir)
        else:
            _in_parallel(_flush, [self._part(asset_id) for asset_id, _, _ in parts])
        reader = MediumReader()
        groups = (parts[first : first + _COMING] for first in range(0, len(parts), _COMING))
        return [settled for group in groups for settled in self._read_back(reader, group)]

    def _read_back(self, reader: MediumReader, parts: Sequence[tuple[str, int, str]]) -> list[Settled]:
        with contextlib.ExitStack() as opened:
            fds: list[int] = []
            for asset_id, size_bytes, _ in parts:
                path = self._part(asset_id)
                with world(path):
                    fds.append(opened.enter_context(durable.opened(path)))
                with medium(path):
                    reader.ask(fds[-1], size_bytes)
            return [self._settled(reader, fd, *part) for fd, part in zip(fds, parts, strict=True)]

    def _settled(self, reader: MediumReader, fd: int, asset_id: str, size_bytes: int, blake3_hex: str) -> Settled:
        path = self._part(asset_id)
        with medium(path):
            size = os.fstat(fd).st_size
            got, digests = fingerprint(fd, reader=reader)
        if not got == size == size_bytes or digests.blake3 != blake3_hex:
            raise differs(path, f"{size} bytes, {got} read back, {size_bytes} expected, BLAKE3 {digests.blake3}")
        return Settled(asset_id, size, digests)

    def ready_part(self, asset_id: str) -> str:
        """Name of a part to be written, also if an earlier attempt to name it had made it read-only."""
        part = self._part(asset_id)
        with world(part), contextlib.suppress(FileNotFoundError):
            if not part.stat().st_mode & stat.S_IWUSR:
                durable.make_writable(part)
            if (found := seen(part)) is not None and found.verity:
                durable.remove_part(part)  # it can't be written any more, by nobody
        return part.name

    def take_in(self, path: Path, asset_id: str) -> None:
        """Make a finished file of the work folder the part of an asset; it is neither durable nor read back yet."""
        with world(path):
            durable.rename_no_replace(path, self._part(asset_id))

    def lend(self, name: str, content: bytes, key: str) -> Held:
        """A text of the station's own as a part, for a store to keep under a key; its lender removes it."""
        part = self._part(name)
        with world(part):
            durable.write_part(part, content)
        digests = Digests(blake3(content).hexdigest(), hashlib.sha256(content).hexdigest())
        return Held(name, part, len(content), digests, sealed=False, key=key)

    def keep(self, settled: Sequence[Settled], tell_damaged: Callable[[str], None] = _ignore) -> list[Held]:
        """Give settled parts their final names, durably; safe to repeat after a crash anywhere in between.

        Content that is there already is read again and compared, and only then the part is dropped: equal content
        exists once. What is there but damaged is put aside, told by its fingerprint, and healed by the part.
        """
        addresses = [self.address(item.digests.blake3) for item in settled]
        folders = sorted({at.parent for at in addresses})
        with world(self.originals_dir):
            for folder in folders:
                durable.make_dir(folder)
            named = [self._name(item, at, tell_damaged) for item, at in zip(settled, addresses, strict=True)]
            held = [self.claim(item.asset_id, item.size_bytes, item.digests) for item in settled]
            if len(folders) >= _MANY:
                durable.sync_filesystem(self.originals_dir)
                folders = []  # the staging folder took part in every rename, and tells of a filesystem that gave up
            _in_parallel(durable.fsync_dir, [*folders, self.staging_dir])
            for done, was_named in zip(held, named, strict=True):
                if not was_named:
                    durable.remove_part(self._part(done.asset_id))
        return held

    def _name(self, item: Settled, address: Path, tell_damaged: Callable[[str], None]) -> bool:
        """Rename a part to its address; False if it keeps its name because the same bytes are there."""
        part = self._part(item.asset_id)
        size = self.part_bytes(item.asset_id)
        if size is None:
            return True  # renamed before a crash; `claim` looks whether it is really there
        if size != item.size_bytes:
            raise differs(part, f"{size} bytes instead of {item.size_bytes}")
        if self._verity:
            durable.enable_verity(part)  # before the name: our rights still reach
        durable.make_read_only(part)
        try:
            self._rename(part, address)
        except FileExistsError:
            if self._is_same(item, address):
                return False
            tell_damaged(item.digests.blake3)
            self.quarantine(item.asset_id, item.digests)
            self._rename(part, address)
        return True

    def _rename(self, part: Path, address: Path) -> None:
        with self.changes.of(address):
            durable.rename_no_replace(part, address)

    def _is_same(self, item: Settled, address: Path) -> bool:
        if not stat.S_ISREG(os.lstat(address).st_mode):
            return False
        with durable.opened(address) as fd:
            return fingerprint(fd) == (item.size_bytes, item.digests)

    def claim(self, asset_id: str, size_bytes: int, digests: Digests) -> Held:
        """The proof for an original that was read back before and must be there; raises EvidenceError if it isn't.

        Seals it if that is wanted and permitted. Content is not read; see `reread`.
        """
        path = self.address(digests.blake3)
        with world(path):
            found = seen(path)
        if found is None or found.mount != self.place.mount:
            self._require_place()
        if found is None or not stat.S_ISREG(found.mode):
            raise differs(path, "the file is missing")
        if found.size_bytes != size_bytes:
            raise differs(path, f"{found.size_bytes} bytes instead of {size_bytes}")
        with world(path):
            sealed = self.seal and (bool(found.immutable) or self._seal(path))
        return Held(asset_id, path, size_bytes, digests, sealed)

    def _seal(self, path: Path) -> bool:
        with self.changes.of(path):
            return durable.make_immutable(path)

    def reread(self, held: Held) -> Digests:
        """Fingerprints of an original as the medium gives it now; raises EvidenceError if it can't all be read."""
        with medium(held.path), durable.opened(held.path) as fd:
            size, digests = fingerprint(fd)
        if size != held.size_bytes:
            raise differs(held.path, f"{size} bytes instead of {held.size_bytes}")
        return digests

    def examine(self, asset_id: str, blake3_hex: str) -> Held:
        """The proof for an original that no note vouches for: read from the medium, it has the BLAKE3 of its name."""
        self._require_place()
        path = self.address(blake3_hex)
        with medium(path), durable.opened(path) as fd:
            size, digests = fingerprint(fd)
        if digests.blake3 != blake3_hex:
            raise differs(path, f"{size} bytes with BLAKE3 {digests.blake3}")
        return self.claim(asset_id, size, digests)

    def protect(self, path: Path) -> None:
        """Take the right to write to an original from everybody again; `claim` seals it."""
        with world(path), self.changes.of(path):
            durable.make_mutable(path)
            durable.make_read_only(path)

    def quarantine(self, asset_id: str, digests: Digests) -> Path | None:
        """Move a damaged original aside, durably, and return its new place, None if it is missing; removes nothing."""
        self._require_place()
        path = self.address(digests.blake3)
        with world(path):
            if not os.path.lexists(path):
                return None
            for copy in range(_MAX_DAMAGED_COPIES):
                aside = self.damaged_dir / f"{path.name}.{copy}"
                try:
                    with self.changes.of(path):
                        if path.is_file() and not path.is_symlink():  # what was put in its place goes aside as it is
                            durable.make_mutable(path)
                        durable.rename_no_replace(path, aside)
                except FileExistsError:
                    continue
                durable.fsync_dir(self.damaged_dir)
                durable.fsync_dir(path.parent)
                return aside
        raise refused(path, "too many damaged copies of the same original")

    def originals(self) -> Iterator[tuple[str, Path, int]]:
        """(BLAKE3 as its name says, path, size in bytes) of every original, in the order of names."""
        yield from ((path.name, path, path.stat().st_size) for path in self._files() if self._is_original(path))

    def strangers(self) -> Iterator[Path]:
        """Everything among the originals that can't be one by its name and place: the agent puts nothing else there."""
        yield from (path for path in self._files() if not self._is_original(path))

    def _files(self) -> Iterator[Path]:
        for folder in sorted(self.originals_dir.iterdir()):
            yield from sorted(folder.iterdir()) if folder.is_dir() else [folder]

    def _is_original(self, path: Path) -> bool:
        return bool(_BLAKE3.fullmatch(path.name)) and path == self.address(path.name) and path.is_file()


def address_in(root: Path, blake3_hex: str) -> Path:
    """Where the vault below `root` keeps the content with this fingerprint, or would."""
    assert _BLAKE3.fullmatch(blake3_hex), f"{blake3_hex!r} is not a BLAKE3 fingerprint"
    return root.joinpath(_FOLDER, blake3_hex[:2], blake3_hex)


def _in_parallel(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Waiting for the disk in a few threads is three times faster than one by one; raises the first error."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(_SYNC_THREADS, thread_name_prefix="vault-sync") as pool:
        return list(pool.map(work, items))


def _flush(part: Path) -> None:
    with world(part), durable.opened(part) as fd:
        durable.fdatasync(fd)
