"""A disk or share as one request sees it: opened once, proven to be the store, and all done beneath what was opened."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from agent import durable
from agent.errors import EvidenceError, StoreError
from agent.model import BLOCK_BYTES, Digests, Held
from agent.uploader import directory_errors as errors
from agent.uploader.base import key_of, lost
from agent.uploader.mounts import keeps_modes
from agent.uploader.source import chunks, taking, write_all
from agent.vault import fingerprint

_RESERVE_BYTES: Final = 16 * 1024 * 1024
_NAME_ATTEMPTS: Final = 5
_ANY_WRITE: Final = 0o222
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF})

Found = tuple[int, Digests]
"""Size in bytes and fingerprints of an object, as its medium gave them back."""


Tell = Callable[[int | None], None]
"""Hears how many bytes of a copy are written, or with None only that work goes on; may raise to give up."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says: the store's name and folder, whether it seals, and where this station's vault is."""

    name: str
    root: Path
    vault_root: Path
    seal: bool


class Share:
    """Does the work of the directory store, blocking; every method raises StoreError or EvidenceError.

    A request opens the folder once and goes on through that descriptor, so a mount that comes or goes in the middle
    can't divert a copy, and a folder without the marker file is never written to.
    """

    def __init__(self, settings: Settings, tell: Tell) -> None:
        self._settings = settings
        self._name = settings.name
        self._tell = tell
        self._durable: set[str] = set()

    def put(self, held: Held, *, prepare: bool) -> Found:
        """Copy an original, read it back and name it; or prove that it is there. `prepare`: remove leftovers first."""
        with self.opened() as here, self.storing():
            if prepare:
                self._prepare(here)
            target = here / key_of(held)
            if _mode(target):
                found = self._require_same(held, target)
            else:
                with incoming(here) as (fd, path):
                    self._copy(held, fd)
                    found = self._publish(held, fd, path, here, target)
            self._settle(here, target)
        return found

    def check(self, key: str, size_bytes: int, digests: Digests, *, read: bool) -> tuple[int, Digests | None]:
        """Size, and with `read` the fingerprints, of an object that must be there, unchangeable as when it was put."""
        with self.opened() as here:
            try:
                found = self._examine(here / key, read=read)
            except OSError as error:
                raise self._unreadable(key, error) from error
        if found[0] != size_bytes or (read and found[1] != digests):
            raise lost(self._name, key, f"it has {found[0]} of {size_bytes} bytes" if not read else "its bytes differ")
        return found

    def fetch(self, key: str, size_bytes: int, digests: Digests, part: Path) -> Found:
        """Copy an object back into a new file; raises as `Store.fetch`."""
        with self.opened() as here, taking(part, size_bytes, digests, partial(lost, self._name, key)) as copy:
            try:
                with durable.opened(here / key) as fd:
                    while piece := os.read(fd, durable.CHUNK_BYTES):
                        copy.take(piece)
                        self._tell(None)
            except OSError as error:
                raise self._unreadable(key, error) from error
        return copy.found()

    def _unreadable(self, key: str, error: OSError) -> EvidenceError | StoreError:
        what, do = errors.in_words(error)
        return lost(self._name, key, what) if errors.means_lost(error) else errors.away(self._name, what, do)

    # The place.

    @contextlib.contextmanager
    def opened(self) -> Iterator[Path]:
        """The folder, as a path through its descriptor; raises StoreError if it is not the store."""
        root = self._settings.root
        with contextlib.ExitStack() as closing:
            try:
                fd = closing.enter_context(durable.opened(root, os.O_RDONLY | os.O_DIRECTORY))
                here = Path(f"/proc/self/fd/{fd}")
                is_vault = here.readlink().is_relative_to(self._settings.vault_root)
                marker = _mode(here / errors.MARKER)
            except FileNotFoundError as error:
                raise errors.away(self._name, f"{root} is missing", "Bring the folder back.") from error
            except NotADirectoryError as error:
                raise errors.away(self._name, f"{root} is no folder", "Bring the folder back.") from error
            except OSError as error:
                raise errors.away(self._name, *errors.in_words(error)) from error
            if is_vault:
                do = "Correct store.options.path: the store must be a second place."
                raise errors.away(self._name, f"{root} lies inside this station's own storage", do)
            if not stat.S_ISREG(marker):
                raise errors.no_marker(self._name, root)
            yield here

    def _prepare(self, here: Path) -> None:
        """Remove what a worker left that is gone, and see whether sealing works."""
        self._durable.clear()
        _tidy(here)
        if self._settings.seal:
            with incoming(here) as (_, path):
                if not (durable.make_immutable(path) and durable.make_mutable(path)):
                    what = "files on it can't be made immutable"
                    raise errors.not_taken(self._name, what, "Write store.options.seal = false.")

    @contextlib.contextmanager
    def storing(self) -> Iterator[None]:
        """Turn what the share refuses into words."""
        try:
            yield
        except OSError as error:
            self._durable.clear()  # it may be another disk now
            raise errors.not_taken(self._name, *errors.in_words(error)) from error

    # From an original to an object.

    def _copy(self, held: Held, fd: int) -> None:
        """Copy the original; `chunks` makes sure that its bytes still are what they were.

        Never more than two blocks are on their way to the medium, so that the flush at the end is short: a share that
        only is slow must not look like one that hangs.
        """
        space = os.statvfs(fd)
        if space.f_bavail * space.f_frsize < held.size_bytes + _RESERVE_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = flushed = under_way = 0
        with contextlib.closing(chunks(held)) as pieces:
            for piece in pieces:
                write_all(fd, piece)
                done += len(piece)
                if done - flushed >= BLOCK_BYTES:
                    durable.start_writeback(fd, flushed, done - flushed)
                    if flushed:
                        durable.finish_writeback(fd, under_way, flushed - under_way)
                    under_way, flushed = flushed, done
                self._tell(done)

    def _publish(self, held: Held, fd: int, path: Path, here: Path, target: Path) -> Found:
        """From a copy to an object: flush, read back from the medium, compare, name."""
        durable.fsync_file(fd)
        found = fingerprint(fd, partial(self._tell, None))
        if found != (held.size_bytes, held.digests):
            what = f"it did not give back what was written ({found[0]} bytes)"
            raise errors.not_taken(self._name, what, "Have its disks checked.")
        durable.make_read_only(path)
        self._make_folder(here, target.parent)
        try:
            durable.rename_no_replace(path, target)
        except FileExistsError:  # somebody stored the same content just now, or the answer to our own naming got lost
            return self._require_same(held, target)
        return found

    def _require_same(self, held: Held, target: Path) -> Found:
        with durable.opened(target) as fd:
            durable.fsync_file(fd)
            found = fingerprint(fd, partial(self._tell, None))
        if found != (held.size_bytes, held.digests):
            what = f"its object {target.name} has other bytes than its name says"
            do = "Have the store checked; the agent never replaces an object."
            raise errors.not_taken(self._name, what, do, retry=False)
        return found

    def _settle(self, here: Path, target: Path) -> None:
        """Protect an object and make its name durable; repeated for one that is there already, after a crash here."""
        if os.lstat(target).st_mode & _ANY_WRITE and not durable.is_immutable(target):
            durable.make_read_only(target)
        if self._settings.seal:
            if os.lstat(target).st_nlink > 1:  # a crash between its two names: what is sealed can't lose one any more
                _tidy(here)
            if not durable.make_immutable(target):
                what = f"{target.name} could not be made immutable"
                raise errors.not_taken(self._name, what, "Have its disks and our rights checked.")
        self._make_folder(here, target.parent)
        durable.fsync_dir(target.parent)

    def _make_folder(self, here: Path, folder: Path) -> None:
        """Make the folder of an object, if need be, and its own name durable, once for each folder."""
        top = folder.parent.name
        if top not in self._durable:
            durable.make_dir(folder.parent)
            there = os.listdir(folder.parent)
            durable.fsync_dir(folder.parent)
            durable.fsync_dir(here)
            self._durable.update({top}, (f"{top}/{name}" for name in there))
        if (name := f"{top}/{folder.name}") not in self._durable:
            if not durable.make_dir(folder):  # made by somebody else just now, perhaps not yet durable
                durable.fsync_dir(folder.parent)
            self._durable.add(name)

    # From an object to a proof.

    def _examine(self, target: Path, *, read: bool) -> tuple[int, Digests | None]:
        with durable.opened(target) as fd:
            info = os.fstat(fd)
            if not stat.S_ISREG(info.st_mode):
                raise lost(self._name, target.name, "it is no regular file")
            if info.st_mode & _ANY_WRITE and keeps_modes(fd):
                raise lost(self._name, target.name, f"its mode is {stat.S_IMODE(info.st_mode):04o}: it is writable")
            if self._settings.seal and not durable.is_immutable(target):
                raise lost(self._name, target.name, "it has no immutable flag")
            if not read:
                return info.st_size, None
            durable.fsync_file(fd)
            return fingerprint(fd, partial(self._tell, None))


def _mode(path: Path) -> int:
    """Kind and rights of what has this name, 0 if nothing has; a share that can't tell raises OSError."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


@contextlib.contextmanager
def incoming(here: Path) -> Iterator[tuple[int, Path]]:
    """A new file for a copy under way, locked while somebody works on it; gone afterwards unless it was named.

    Somebody who tidies up may take one away in the moment before it is locked.
    """
    for _ in range(_NAME_ATTEMPTS):
        path = here / f"{durable.INCOMING_PREFIX}{secrets.token_hex(16)}"
        try:
            with durable.opened(path, os.O_RDWR | os.O_CREAT | os.O_EXCL) as fd:
                if lock(fd) is not False and os.fstat(fd).st_nlink:
                    yield fd, path
                    return
        finally:
            durable.remove_part(path)
    raise OSError(errno.EBUSY, "somebody removes every new file")


def lock(fd: int) -> bool | None:
    """Lock a copy under way: whether it worked, or None where locks don't exist."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False
    return True


def _tidy(here: Path) -> None:
    """Remove copies that nobody works on any more, of this station or of another one that uses the same store.

    Where locks don't exist nobody's leftovers are removed. A seal on one is left from where we tried whether sealing
    works, unless it is an object as well.
    """
    for path in [here / name for name in os.listdir(here) if name.startswith(durable.INCOMING_PREFIX)]:
        with contextlib.suppress(FileNotFoundError), durable.opened(path) as fd:
            if not lock(fd):
                continue
            if durable.is_immutable(path):
                if os.fstat(fd).st_nlink > 1:
                    continue
                durable.make_mutable(path)
            durable.remove_part(path)
