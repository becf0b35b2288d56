"""The watcher of an inbox: a locked child that looks at the folder again and again, and tells which files are complete.

    python -I -m agent.inboxes.watcher FOLDER SETTLE_S UNSURE_S GIVE_UP_S RESCAN_S [MARKER]

Lines: {"file": [hex path, inode, bytes, mtime, ctime, doubt]} once for each that is complete, {"lost": hex path} if it
is not that any more, {"refused": [hex path, why]} once; {"seen": n} as a sign of life; and after each look
{"look": [files, waiting, overdue, refused, blind, too many]}. It ends when its input does, or with {"gone": why}.
Nothing is opened but to read: to ask for a lease, and for the lengths that a container states.
"""

from __future__ import annotations

import contextlib
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
_ALIVE_S: Final = 2.0
_GATHER_S: Final = 0.5
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KINDS: Final = (
    (stat.S_ISLNK, "link"), (stat.S_ISFIFO, "fifo"), (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "device"), (stat.S_ISCHR, "device"),
)  # fmt: skip


class OpenFile:
    """A settled file at which a closer look is taken, as `judging.Closer`."""

    def __init__(self, fd: int, mark: Mark, broken: set[Mark]) -> None:
        self._fd = fd
        self._mark = mark
        self._broken = broken

    def is_written_to(self) -> bool | None:
        """A read lease is refused while somebody has it open for writing; fcntl(2). It is given back at once."""
        try:
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(self._fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except BlockingIOError:
            return True
        except OSError:
            return None  # it belongs to another user, or lies on a share
        return False

    def is_whole(self) -> bool:
        """What can't be read is left to the reader, who is patient with it; what isn't whole is looked at once."""
        try:
            if self._mark not in self._broken and damage_of(self._pread, self._mark.size_bytes) is not None:
                self._broken.add(self._mark)
        except OSError:
            return True
        return self._mark not in self._broken

    def _pread(self, offset: int, length: int) -> bytes:
        return os.pread(self._fd, length, offset)


class Watcher:
    """Remembers since when each file has been the same, and what it has told."""

    def __init__(self, folder: Folder, root: Path, patience: Patience, output: Output, ears: Ears) -> None:
        self._folder = folder
        self._patience = patience
        self._output = output
        self._ears = ears
        self._root = root
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
            path: (mark, before[path][1] if path in before and before[path][0] == mark else now_s)
            for path, mark in found.items()
        }
        for path in [path for path, mark in self._told.items() if found.get(path) != mark]:
            del self._told[path]
            self._output.line({"lost": path.hex()})
        waiting = overdue = 0
        for path in sorted(found.keys() - self._told.keys()):
            is_done = self._judge(found[path], now_s - self._since[path][1], found)
            waiting += not is_done
            overdue += not is_done and now_s - self._since[path][1] >= self._patience.give_up_s
        told = [len(found), waiting, overdue, self._refused_now, self._blind, len(found) == FILES_LIMIT]
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
                closer, has_marker = OpenFile(fd, mark, self._broken), bool(marker) and mark.path + marker in found
                doubt = judged(rested_s, mark.size_bytes, self._patience, closer, has_marker=has_marker)
        except FileNotFoundError:
            return True  # taken out since: the next look doesn't see it
        except OSError as error:
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
            try:
                fd = os.open(path or b".", _FOLDER, dir_fd=self._folder.fd)
            except (FileNotFoundError, NotADirectoryError):
                continue  # taken out while we looked: it is not there
            except OSError as error:
                self._refuse(path, f"unreadable: {error.strerror}")
                continue
            try:
                for name, entry in self._entries(fd):
                    below = path + b"/" + name if path else name
                    if stat.S_ISDIR(entry.st_mode) and depth < DEPTH_LIMIT:
                        todo.append((below, depth + 1))
                    elif stat.S_ISREG(entry.st_mode):
                        yield Mark(below, entry.st_ino, entry.st_size, entry.st_mtime_ns, entry.st_ctime_ns)
                    else:
                        self._refuse(below, next((kind for is_it, kind in _KINDS if is_it(entry.st_mode)), "too-deep"))
            finally:
                os.close(fd)

    def _entries(self, fd: int) -> Iterator[tuple[bytes, os.stat_result]]:
        with os.scandir(fd) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    with contextlib.suppress(FileNotFoundError):
                        yield os.fsencode(entry.name), entry.stat(follow_symlinks=False)

    def _listen(self, path: bytes) -> None:
        try:
            self._ears.listen(self._root / os.fsdecode(path))
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


def watch(folder: Folder, root: Path, patience: Patience, rescan_s: float, output: Output) -> None:
    """Look until nobody listens any more or the folder is gone; after a hint soon, else now and then."""
    ears = Ears()
    watcher = Watcher(folder, root, patience, output, ears)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    while folder.is_there():
        begun = time.monotonic()
        waiting = watcher.look()
        lasted_s = time.monotonic() - begun
        if ears.fileno() >= 0:
            poll.register(ears.fileno(), select.POLLIN)
        pause_s = min(rescan_s, max(patience.settle_s, 0.05)) if waiting else rescan_s
        ready = [fd for fd, _ in poll.poll(1000 * pause_s)]
        if 0 in ready:
            return
        if ready:
            time.sleep(max(min(_GATHER_S, pause_s), 5 * lasted_s))  # a burst is one look, and looking no full-time work
            while ears.heard():
                pass
    output.line({"gone": "the folder is gone, or another one has taken its place"})
    output.flush()


def main(arguments: Sequence[str]) -> int:
    """Entry point; see the module."""
    path, settle_s, unsure_s, give_up_s, rescan_s, *marker = arguments
    patience = Patience(float(settle_s), float(unsure_s), float(give_up_s), *marker)
    output = Output(1)
    signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody opened what we hold a lease of: it is given back anyway
    try:
        folder, root = Folder(path), Path(os.path.realpath(path))
        lock_watcher(folder.fd)
        watch(folder, root, patience, float(rescan_s), output)
    except OSError as error:
        output.line({"gone": f"{error.strerror}"})
        output.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
