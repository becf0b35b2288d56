"""The reader of an inbox: a locked child that looks whether files are still those that were found, and copies them.

    python -I -m agent.drivers.folder_reader FOLDER RESCUE_LIMIT_S STAGING_FD

Lines as in `agent.drivers.puller`, and before them {"marks": [[hex path, inode, bytes, mtime, ctime], …]}. It answers
{"look": true} with {"states": text} of a letter for each mark, and {"end": [bytes of a block, bytes of its disk]}.
An order names its mark as "file". It follows no link, opens nothing but plain files, and only for reading.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from agent.card import Extent, FailReason
from agent.drivers.puller import Parent, ParentGoneError
from agent.drivers.pulling import Order, Puller
from agent.drivers.reading import GONE, FetchError, Recorder, Rescue
from agent.drivers.sandbox import lock_puller
from agent.drivers.source import identify

SAME, CHANGED, VANISHED = "s", "c", "v"
STATES_PER_LINE: Final = 1000


class Mark(NamedTuple):
    """A file below a folder as it was found: its path, and what tells that it is still the same; see stat(2)."""

    path: bytes
    ino: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    def is_still(self, found: os.stat_result) -> bool:
        """Whether a file is the one that was found.

        Giving it to another owner changes ctime, and shares change inodes as they like: one of both is enough.
        """
        if not stat.S_ISREG(found.st_mode) or (found.st_size, found.st_mtime_ns) != (self.size_bytes, self.mtime_ns):
            return False
        return found.st_ino == self.ino or found.st_ctime_ns == self.ctime_ns


class Daemon(Parent):
    """As the puller's parent; it has told which files this is about, and asks to look at them."""

    def __init__(self, in_fd: int, out_fd: int) -> None:
        super().__init__(in_fd, out_fd)
        self.marks: list[Mark] = []
        self.looks = 0
        self.file_of: dict[int, int] = {}
        self.check: Callable[[], None] = lambda: None

    def _line(self, line: Mapping[str, Any]) -> None:
        match line:
            case {"marks": list(rows)}:
                self.marks += [Mark(bytes.fromhex(path), *numbers) for path, *numbers in rows]
            case {"look": True}:
                self.looks += 1
            case _:
                if "fetch" in line:
                    self.file_of[line["fetch"]["number"]] = line["fetch"]["file"]
                super()._line(line)

    def fetched(self, number: int, size_bytes: int, holes: list[Extent], blake3_hex: str) -> None:
        """Report the end of a file, if it is still the one whose first byte was read; raises FetchError else."""
        self.check()
        super().fetched(number, size_bytes, holes, blake3_hex)


class Folder:
    """The folder that was opened first, and no other that gets its name."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.found = os.fstat(self.fd)
        self.space = os.fstatvfs(self.fd)

    def is_there(self) -> bool:
        """Whether its path still leads to it."""
        try:
            now = os.stat(self.path)
        except OSError:
            return False
        return (now.st_ino, now.st_dev) == (self.found.st_ino, self.found.st_dev)

    def states(self, marks: Sequence[Mark]) -> Iterator[str]:
        """A letter for each mark, many at a time. Raises FetchError if the folder is gone."""
        for at in range(0, len(marks), STATES_PER_LINE):
            letters = "".join(map(self._state, marks[at : at + STATES_PER_LINE]))
            if not self.is_there():
                raise FetchError(FailReason.GONE, "the folder is gone")
            yield letters

    def _state(self, mark: Mark) -> str:
        try:
            now = os.stat(mark.path, dir_fd=self.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return VANISHED
        except OSError:
            return SAME  # whether it can be read is told by reading it
        return SAME if mark.is_still(now) else CHANGED

    @contextlib.contextmanager
    def opened(self, mark: Mark) -> Iterator[Recorder]:
        """The file of a mark, without following a link anywhere below the folder. Raises FetchError."""
        try:
            fd = self._open(mark.path)
        except OSError as error:
            raise self._unopened(error) from error
        if not mark.is_still(os.fstat(fd)):
            os.close(fd)
            raise FetchError(FailReason.CHANGED, "it is not the file any more that was found complete")
        recorder = Recorder(os.path.join(self.path, os.fsdecode(mark.path)), fd, identify(fd))
        try:
            yield recorder
        finally:
            recorder.close()

    def ask_again(self, mark: Mark) -> None:
        """Have a share ask its server about a file: NFS does when it is opened, and remembers else; nfs(5)."""
        with contextlib.suppress(OSError, FetchError):  # one that is gone was still read as it was
            os.close(self._open(mark.path))

    def _open(self, path: bytes) -> int:
        *folders, name = path.split(b"/")
        with contextlib.ExitStack() as passed:
            at = self.fd
            for folder in folders:
                at = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at)
                passed.callback(os.close, at)
            if not stat.S_ISREG(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
                raise FetchError(FailReason.CHANGED, "it is no plain file any more")
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=at)

    def _unopened(self, error: OSError) -> FetchError:
        if error.errno in GONE or not self.is_there():
            return FetchError(FailReason.GONE, f"the folder can't be read any more: {error.strerror}")
        if isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return FetchError(FailReason.CHANGED, "it was taken away before it was read")
        return FetchError(FailReason.UNREADABLE, f"it can't be opened: {error.strerror}")


def _pull(daemon: Daemon, folder: Folder, order: Order, staging_fd: int, rescue_s: float) -> None:
    """Fulfil one order; raises FetchError."""
    mark = daemon.marks[daemon.file_of.pop(order.number)]
    with folder.opened(mark) as recorder:
        fd = recorder.fileno()

        def check() -> None:
            folder.ask_again(mark)
            if not mark.is_still(os.fstat(fd)):
                raise FetchError(FailReason.CHANGED, "it was changed while it was read")

        daemon.check = check
        puller = Puller(recorder, staging_fd, daemon, Rescue(recorder, rescue_s, daemon.alive))
        puller.expect(order)
        puller.pull(order)


def _work(daemon: Daemon, folder: Folder, staging_fd: int, rescue_s: float) -> None:
    """Look and fulfil orders until the folder or the daemon is gone."""
    while True:
        daemon.listen(wait=not daemon.orders and not daemon.looks)
        while daemon.looks:
            daemon.looks -= 1
            for letters in folder.states(daemon.marks):
                daemon.say({"states": letters})
            space = folder.space
            daemon.say({"end": [space.f_frsize, space.f_frsize * space.f_blocks]})
        while daemon.orders:
            order = daemon.orders.popleft()
            begun = time.monotonic()
            try:
                _pull(daemon, folder, order, staging_fd, rescue_s)
            except FetchError as error:
                if error.reason is FailReason.GONE:
                    raise
                daemon.say({"failed": [order.number, error.reason.value, str(error)]})
            if order.rescue:  # all files of a docking share one patience
                rescue_s = max(0.0, rescue_s - (time.monotonic() - begun))


def main(arguments: Sequence[str]) -> int:
    """Lock in and work until the daemon closes our input; says {"gone": why} when the folder is."""
    path, rescue_s, staging_fd = arguments
    daemon = Daemon(0, 1)
    with contextlib.suppress(ParentGoneError):
        try:
            folder = Folder(path)
            lock_puller(int(staging_fd), folder.fd)
            _work(daemon, folder, int(staging_fd), float(rescue_s))
        except FetchError as error:
            daemon.say({"gone": str(error)})
        except OSError as error:
            daemon.say({"gone": f"{path} can't be opened: {error.strerror}"})
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
