"""The watcher of an inbox: a locked child that looks at the folder again and again, and tells which files are complete.

    python -I -m agent.inboxes.watcher FOLDER SETTLE_S UNSURE_S GIVE_UP_S RESCAN_S [MARKER]

Lines: {"file": [hex path, inode, bytes, mtime, ctime, doubt]} once for each that is complete, {"lost": hex path} if it
is not that any more, {"refused": [hex path, why]} once; {"seen": n} as a sign of life; and after each look
{"look": [files, settling, overdue, refused, blind, too many]}. It ends when its input does, or with {"gone": why}.
Nothing is opened but to read: to ask for a lease, and for the lengths that a container states.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import signal
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from agent.drivers.folder_reader import Folder, Mark
from agent.drivers.parser import Output
from agent.drivers.sandbox import lock_watcher
from agent.inboxes.judging import Patience, is_unfinished, judged
from agent.inotify import Ears
from agent.media.structure import damage_of

FILES_LIMIT: Final = 400_000
DEPTH_LIMIT: Final = 32
REFUSED_LIMIT: Final = 1000
_HEAD_BYTES: Final = 4096
_ALIVE_S: Final = 2.0
_GATHER_S: Final = 0.5
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_HELD: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.ETXTBSY})
"""Somebody has it for himself: by a write lease, as Samba takes them, or on SMB by denying others to open it."""

LOCAL: Final = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "tmpfs", "overlay", "vfat", "exfat", "ntfs3"}
)
_KINDS: Final = (
    (stat.S_ISLNK, "link"), (stat.S_ISFIFO, "fifo"), (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "device"), (stat.S_ISCHR, "device"),
)  # fmt: skip


def _is_like(one: Mark, other: Mark) -> bool:
    """Whether nothing has changed but the inode, which shares change as they like."""
    return one[2:] == other[2:]


class OpenFile:
    """A settled file at which a closer look is taken, as `judging.Closer`."""

    def __init__(self, fd: int, mark: Mark, broken: set[Mark], local_dev: int | None) -> None:
        self._fd = fd
        self._is_local = os.fstat(fd).st_dev == local_dev
        self._mark = mark
        self._broken = broken

    def is_written_to(self) -> bool | None:
        """A read lease is refused while somebody has it open for writing; fcntl(2). It is given back at once.

        Of a share only this computer's own writers would be known.
        """
        if not self._is_local:
            return None
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            return True
        except OSError:
            return None  # it belongs to another user, and we have no CAP_LEASE
        return False

    def is_whole(self) -> bool:
        """What can't be read is left to the reader, who is patient with it; what isn't whole is looked at once."""
        try:
            if self._mark not in self._broken and (
                not self._pread(0, _HEAD_BYTES).strip(b"\0")  # its place was set aside, its content isn't there yet
                or damage_of(self._pread, self._mark.size_bytes) is not None
            ):
                self._broken.add(self._mark)
        except OSError:
            return True
        return self._mark not in self._broken

    def _pread(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)


def local_device(path: str, mountinfo: str) -> int | None:
    """The st_dev of the filesystem at a path, if it is one to which only this computer can write; see proc(5)."""
    number = os.stat(path).st_dev
    lines = (line.partition(" - ") for line in mountinfo.splitlines())
    kinds = [tail.split()[0] for head, _, tail in lines if head.split()[2] == f"{os.major(number)}:{os.minor(number)}"]
    return number if kinds and set(kinds) <= LOCAL else None


class Watcher:
    """Remembers since when each file has been the same, and what it has told."""

    def __init__(self, folder: Folder, local_dev: int | None, patience: Patience, output: Output) -> None:
        self._folder = folder
        self._local_dev = local_dev
        self._patience = patience
        self._output = output
        self.ears = Ears()
        self._root = Path(os.path.realpath(folder.path))
        self._since: dict[bytes, tuple[Mark, float]] = {}
        self._told: dict[bytes, Mark] = {}
        self._broken: set[Mark] = set()
        self._refused: set[tuple[bytes, str]] = set()
        self._refused_now = 0
        self._blind = False
        self._alive_at = 0.0

    def look(self) -> int:
        """Look once, and tell what changed; how many files are waited for."""
        now_s = time.monotonic()
        self._refused_now, self._blind = 0, False
        found = dict[bytes, Mark]()
        for mark in self._marks():
            if len(found) < FILES_LIMIT:
                found[mark.path] = mark
            self._live(len(found))
        before = self._since
        self._broken &= set(found.values())
        self._since = {
            path: (mark, before[path][1] if path in before and _is_like(before[path][0], mark) else now_s)
            for path, mark in found.items()
        }
        for path in [path for path, mark in self._told.items() if path not in found or not _is_like(found[path], mark)]:
            del self._told[path]
            self._output.line({"lost": path.hex()})
        waiting = settling = overdue = 0
        for path in sorted(found.keys() - self._told.keys()):
            rested_s = now_s - self._since[path][1]
            is_done = self._judge(found[path], rested_s, found)
            waiting += not is_done
            settling += not is_done and rested_s < self._patience.settle_s
            overdue += not is_done and rested_s >= self._patience.give_up_s
        told = [len(found), settling, overdue, self._refused_now, self._blind, len(found) == FILES_LIMIT]
        self._output.line({"look": told})
        self._output.flush()
        return waiting

    def _judge(self, mark: Mark, rested_s: float, found: dict[bytes, Mark]) -> bool:
        """Tell a file that is complete; whether nobody has to wait for it, or because of it."""
        marker = os.fsencode(self._patience.marker)
        if marker and mark.path.endswith(marker):
            return True
        if is_unfinished(os.fsdecode(mark.path)):
            return False
        if rested_s < self._patience.settle_s:
            return False
        try:
            with self._opened(mark.path) as fd:
                if not mark.is_still(os.fstat(fd)):
                    return False  # NFS may remember a file for a minute, and asks its server when it is opened; nfs(5)
                closer = OpenFile(fd, mark, self._broken, self._local_dev)
                has_marker = bool(marker) and mark.path + marker in found
                doubt = judged(rested_s, mark.size_bytes, self._patience, closer, has_marker=has_marker)
        except FileNotFoundError:
            return True  # taken out since: the next look doesn't see it
        except OSError as error:
            if error.errno not in _HELD:
                self._refuse(mark.path, f"unreadable: {error.strerror}")
            return False
        self._live(0)
        if doubt is None:
            return False
        self._told[mark.path] = mark
        self._output.line({"file": [mark.path.hex(), *mark[1:], doubt.value]})
        return True

    @contextlib.contextmanager
    def _opened(self, path: bytes) -> Iterator[int]:
        fd = os.open(path, _OPEN, dir_fd=self._folder.fd)
        try:
            yield fd
        finally:
            os.close(fd)

    def _marks(self) -> Iterator[Mark]:
        """All plain files below the folder, but hidden ones; what is neither file nor folder is refused."""
        todo = [(b"", 0)]
        while todo:
            path, depth = todo.pop()
            self._listen(path)
            for below, entry in self._entries(path):
                if stat.S_ISDIR(entry.st_mode) and depth < DEPTH_LIMIT:
                    todo.append((below, depth + 1))
                elif stat.S_ISREG(entry.st_mode):
                    yield Mark(below, entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns)
                else:
                    self._refuse(below, next((kind for is_it, kind in _KINDS if is_it(entry.st_mode)), "too-deep"))

    def _entries(self, path: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
        """What lies in a folder and can be looked at; raises OSError if that is the inbox itself and can't be."""
        with contextlib.ExitStack() as opened:
            try:
                fd = os.open(path or b".", _FOLDER, dir_fd=self._folder.fd)
                opened.callback(os.close, fd)
                for entry in opened.enter_context(os.scandir(fd)):
                    if not entry.name.startswith("."):
                        yield from self._looked_at(path + b"/" * bool(path) + os.fsencode(entry.name), entry)
            except (FileNotFoundError, NotADirectoryError):
                pass  # taken out while we looked: it is not there
            except OSError as error:
                if not path:
                    raise
                self._refuse(path, f"unreadable: {error.strerror}")

    def _looked_at(self, path: bytes, entry: os.DirEntry[str]) -> Iterator[tuple[bytes, os.stat_result]]:
        try:
            yield path, entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            pass
        except OSError as error:
            self._refuse(path, f"unreadable: {error.strerror}")

    def _listen(self, path: bytes) -> None:
        try:
            self.ears.listen(self._root / os.fsdecode(path))
        except OSError:  # too many folders, or a filesystem without: then only looking again helps
            self._blind = True

    def _refuse(self, path: bytes, why: str) -> None:
        self._refused_now += 1
        if (path, why) not in self._refused and len(self._refused) < REFUSED_LIMIT:
            self._refused.add((path, why))
            self._output.line({"refused": [path.hex(), why]})

    def _live(self, seen: int) -> None:
        if time.monotonic() - self._alive_at > _ALIVE_S:
            self._alive_at = time.monotonic()
            self._output.line({"seen": seen})
            self._output.flush()


def breath_s(lasted_s: float, pause_s: float, rescan_s: float) -> float:
    """How long not to look after a hint: a burst is one look, and looking no full-time work.

    Whoever is silent for longer than `rescan_s` counts as hanging.
    """
    return min(rescan_s, max(min(_GATHER_S, pause_s), 5 * lasted_s))


def watch(watcher: Watcher, folder: Folder, settle_s: float, rescan_s: float) -> bool:
    """Look until nobody listens any more or the folder is gone; after a hint soon, else now and then."""
    ears = watcher.ears
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while folder.is_there():
        begun = time.monotonic()
        waiting = watcher.look()
        lasted_s = time.monotonic() - begun
        if ears.fileno() >= 0:
            poll.register(ears.fileno(), select.POLLIN)
        pause_s = min(rescan_s, max(settle_s, 0.05)) if waiting else rescan_s
        ready = [fd for fd, _ in poll.poll(1000 * pause_s)]
        if 0 in ready:
            return True
        if ready:
            time.sleep(breath_s(lasted_s, pause_s, rescan_s))
            while ears.heard():
                pass
    return False


def main(arguments: Sequence[str]) -> int:
    """Entry point; see the module."""
    path, settle_s, unsure_s, give_up_s, rescan_s, *marker = arguments
    patience = Patience(float(settle_s), float(unsure_s), float(give_up_s), *marker)
    output = Output(1)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody opened what we hold a lease of: it is given back anyway
    try:
        folder = Folder(path)
        local_dev = local_device(path, Path("/proc/self/mountinfo").read_text("utf-8", "replace"))
        watcher = Watcher(folder, local_dev, patience, output)
        lock_watcher(folder.fd)
        if not watch(watcher, folder, patience.settle_s, float(rescan_s)):
            output.line({"gone": "the folder is gone, or another one has taken its place"})
    except OSError as error:
        output.line({"gone": f"{error.strerror}"})
    output.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
