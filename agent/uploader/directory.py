"""The store that is a folder (本单位专用存储器): a disk or share that keeps each original under its fingerprint."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar

from blake3 import blake3

from agent import durable
from agent.errors import ConfigError, EvidenceError, StoreError
from agent.model import BLOCK_BYTES, Clock, Digests, Held, Receipt
from agent.uploader.base import Errand, Trait
from agent.vault import fingerprint

_OPTIONS: Final = ("path", "require_mount", "seal")
_DEFAULT_PATH: Final = "/srv/evidence"
_RESERVE_BYTES: Final = 16 * 1024 * 1024
_CANCEL_LIMIT_S: Final = 10.0
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})
_SAFE: Final = "The original is safe in this station."
_SAFE_CONFIG: Final = "Nothing was changed."

R = TypeVar("R")


class _GaveUpError(Exception):
    """The caller was cancelled; what was under way has been removed."""


def _now() -> datetime:
    return datetime.now(UTC)


class DirectoryStore:
    """Keeps originals as `<path>/<first two hex>/<blake3>`, and nothing else but copies under way (`.incoming-*`).

    Options: `path`, the folder, which is never made (default /srv/evidence); `require_mount`, the mount point it lies
    on, so that a disk or share that is away is never mistaken for an empty one (default "": not checked); `seal`,
    whether objects get the immutable flag (default false, since network shares have none). Raises ConfigError if they
    make no sense; the folder itself may come later, and is not touched before the first `put`. A copy is flushed and
    read back from the medium before it gets its name, which never replaces.
    """

    def __init__(self, name: str, options: Mapping[str, object], *, vault_root: Path, clock: Clock = _now) -> None:
        for unknown in options.keys() - set(_OPTIONS):
            raise _config(f"store.options.{unknown}: no such option; known are {', '.join(_OPTIONS)}")
        self._name = name
        self._clock = clock
        self._root = _absolute(options.get("path", _DEFAULT_PATH), "path")
        self._mount = _absolute(options["require_mount"], "require_mount") if options.get("require_mount") else None
        self._seal = options.get("seal", False)
        if not isinstance(self._seal, bool):
            raise _config("store.options.seal: must be true or false")
        if self._mount is not None and not self._root.is_relative_to(self._mount):
            raise _config(f"store.options.path: {self._root} does not lie on {self._mount}")
        if self._root.resolve().is_relative_to(vault_root.resolve()):
            raise _config(f"store.options.path: {self._root} lies inside this station's own storage {vault_root}")
        self._prepared = threading.Lock()
        self._is_prepared = False

    @property
    def name(self) -> str:
        """Name of the store as the receipts show it."""
        return self._name

    @property
    def locks(self) -> bool:
        """Whether objects are sealed against deletion here."""
        return self._seal is True

    async def put(self, held: Held, errand: Errand) -> Receipt:
        """Store one original, or prove that it is there; raises StoreError or EvidenceError."""
        return await _in_thread(lambda stop: self._put(held, stop))

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        """Read an object again from the medium; raises EvidenceError if it is not what the receipt says."""
        await _in_thread(lambda stop: self._check(receipt, stop))
        return True

    async def survey(self) -> Sequence[Trait]:
        """What the folder can do."""
        await self.look()
        return ()

    async def close(self) -> None:
        """Nothing is kept open."""

    async def look(self) -> None:
        """Only look whether the folder is there now; raises StoreError."""
        await _in_thread(lambda _: self._require_there())

    # The place.

    def _prepare(self) -> None:
        """Before the first copy: remove what a crash left, see whether sealing works."""
        with self._prepared:
            if self._is_prepared:
                return
            for path in self._root.glob(durable.INCOMING_PREFIX + "*"):
                _remove_if_left(path)
            if self._seal and not self._can_seal():
                raise self._error(f"files on {self._root} can't be made immutable", "Write store.options.seal = false.")
            self._is_prepared = True

    def _can_seal(self) -> bool:
        with self._incoming() as (_, path):
            return durable.make_immutable(path) and durable.make_mutable(path)

    def _require_there(self) -> None:
        """Raise StoreError unless the store is there, by looking only; an unmounted folder is not the store."""
        try:
            if self._mount is not None and not os.path.ismount(self._mount):
                raise self._away(f"{self._mount} is not mounted", "Connect and mount it; storing goes on by itself.")
            if not self._root.is_dir():
                what = "is no folder" if self._root.exists() else "is missing"
                raise self._away(f"{self._root} {what}", "Bring the folder back; storing goes on by itself.")
            if self._mount is not None and self._mount.stat().st_dev != self._root.stat().st_dev:
                raise self._away(f"{self._root} does not lie on {self._mount}", "Correct the configuration.")
        except OSError as error:
            raise self._away(f"{self._root}: {error.strerror}", "Check the store.") from error

    def _require_room(self, need_bytes: int) -> None:
        """Raise StoreError unless a copy of this size can be written."""
        space = os.statvfs(self._root)
        if space.f_bavail * space.f_frsize < need_bytes + _RESERVE_BYTES:
            raise self._error("it is full", "Give it more room; storing goes on by itself.")

    # What runs in a thread. `stop` is looked at often.

    def _put(self, held: Held, stop: threading.Event) -> Receipt:
        target = self._target(held.digests)
        with self._storing():
            self._require_there()
            self._prepare()
            if not target.exists():
                self._require_room(held.size_bytes)
                with self._incoming() as (fd, path):
                    self._require_there()  # again: the copy must not lie under a mount that came or went
                    self._copy(held, fd, stop)
                    self._publish(held, fd, path, target, stop)
            else:
                self._require_same(target, held.size_bytes, held.digests, stop)
            self._settle(target)
        return Receipt(self._name, self._object(target), held.size_bytes, held.digests, self._clock())

    def _copy(self, held: Held, fd: int, stop: threading.Event) -> None:
        """Copy the original, and make sure that its bytes still are what they were."""
        hasher = blake3()
        done = flushed = 0
        with contextlib.closing(_chunks(held)) as chunks:
            for chunk in chunks:
                hasher.update(chunk)
                done += len(chunk)
                _write(fd, chunk)
                if done - flushed >= BLOCK_BYTES:
                    durable.start_writeback(fd, flushed, done - flushed)
                    flushed = done
                _go_on(stop)
        if (done, hasher.hexdigest()) != (held.size_bytes, held.digests.blake3):
            raise _changed(held, f"{done} of {held.size_bytes} bytes read, and their fingerprint differs")

    def _publish(self, held: Held, fd: int, path: Path, target: Path, stop: threading.Event) -> None:
        """From a copy to an object: flush, read back from the medium, compare, name."""
        durable.make_read_only(path)
        durable.fsync_file(fd)
        found = fingerprint(fd, lambda: _go_on(stop))
        if found != (held.size_bytes, held.digests):
            raise self._error(f"it did not give back what was written ({found[0]} bytes)", "Have its disk checked.")
        durable.make_dir(target.parent)
        try:
            durable.rename_no_replace(path, target)
        except FileExistsError:  # somebody stored the same content just now
            self._require_same(target, held.size_bytes, held.digests, stop)

    def _settle(self, target: Path) -> None:
        """Seal an object and make its name durable; repeated for one that is there already, after a crash here."""
        if self._seal and not durable.make_immutable(target):
            raise self._error(f"{target.name} could not be made immutable", "Have its disk and our rights checked.")
        durable.fsync_dir(target.parent)
        durable.fsync_dir(self._root)

    def _require_same(self, target: Path, size_bytes: int, digests: Digests, stop: threading.Event) -> None:
        with durable.opened(target) as fd:
            durable.fsync_file(fd)
            found = fingerprint(fd, lambda: _go_on(stop))
        if found != (size_bytes, digests):
            raise self._error(
                f"its object {target.name} has other bytes than its name says",
                "Have the store checked; the agent never replaces an object.",
                retry=False,
            )

    def _check(self, receipt: Receipt, stop: threading.Event) -> None:
        target = self._target(receipt.digests)
        if (receipt.store, receipt.object) != (self._name, self._object(target)):
            what = f"The receipt is of {receipt.object} in the store {receipt.store}; this store is {self._name}."
            raise StoreError(what, do="Check store.name in the configuration.", retry=False)
        self._require_there()
        try:
            self._require_same(target, receipt.size_bytes, receipt.digests, stop)
        except (OSError, StoreError) as error:
            why = error.what if isinstance(error, StoreError) else error.strerror
            raise EvidenceError(
                f"The store {self._name} no longer proves that it has {target.name}: {why}",
                do="Keep every other copy of it, and call the administrator.",
            ) from error

    # Names and errors.

    def _target(self, digests: Digests) -> Path:
        return self._root.joinpath(digests.blake3[:2], digests.blake3)

    def _object(self, target: Path) -> str:
        return f"{target.parent.name}/{target.name}"

    @contextlib.contextmanager
    def _incoming(self) -> Iterator[tuple[int, Path]]:
        """A new file for a copy under way, locked while somebody works on it; gone afterwards unless it was named."""
        path = self._root / f"{durable.INCOMING_PREFIX}{secrets.token_hex(16)}"
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            _lock(fd)
            yield fd, path
        finally:
            os.close(fd)
            try:
                durable.remove_part(path)
            except OSError:
                self._is_prepared = False  # the original is tried again, and what is left here removed then
                raise

    def _away(self, what: str, do: str) -> StoreError:
        return StoreError(f"The store {self._name} is not there: {what}.", safe=_SAFE, do=do)

    def _error(self, what: str, do: str, *, retry: bool = True) -> StoreError:
        return StoreError(f"The store {self._name} did not take the original: {what}.", safe=_SAFE, do=do, retry=retry)

    @contextlib.contextmanager
    def _storing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(error.strerror or str(error), "Check the store and its free space.") from error


async def _in_thread(work: Callable[[threading.Event], R]) -> R:
    """Run blocking work in a thread; a cancelled caller waits until the work has cleaned up after itself."""
    stop = threading.Event()
    task = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task], timeout=_CANCEL_LIMIT_S)
        if task.done():
            task.exception()  # it ended by giving up, which is no news to anybody
        raise


def _go_on(stop: threading.Event) -> None:
    if stop.is_set():
        raise _GaveUpError


def _absolute(value: object, key: str) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise _config(f"store.options.{key}: must be an absolute path")
    return Path(value)


def _config(what: str) -> ConfigError:
    return ConfigError(what, safe=_SAFE_CONFIG, do="Correct the configuration.")


def _lock(fd: int) -> bool:
    """Lock a copy under way; where locks don't exist nobody's leftovers are removed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS | {errno.EWOULDBLOCK}:
            raise
        return False
    return True


def _remove_if_left(path: Path) -> None:
    """Remove a copy that nobody works on any more, of this station or of another one that uses the same store."""
    with durable.opened(path) as fd:
        if _lock(fd):
            durable.make_mutable(path)  # left where we tried whether sealing works
            durable.remove_part(path)


def _chunks(held: Held) -> Generator[memoryview, None, None]:
    """The bytes of an original, always in the same buffer; one that can't be read is not what it was."""
    view = memoryview(bytearray(durable.CHUNK_BYTES))
    try:
        with durable.opened(held.path) as fd:
            while got := os.readv(fd, [view]):
                yield view[:got]
    except OSError as error:
        raise _changed(held, error.strerror or str(error)) from error


def _write(fd: int, view: memoryview) -> None:
    while view:
        view = view[os.write(fd, view) :]


def _changed(held: Held, what: str) -> EvidenceError:
    return EvidenceError(
        f"The original {held.path.name} in this station is no longer what it was: {what}.",
        safe="Nothing was stored.",
        do="Keep the recorder as it is, and call the administrator.",
    )
