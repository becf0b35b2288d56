"""The scan child: locks itself in, reads one open original once, tells its digest and where it is nothing but zeros.

After each stretch it says so as a JSON line and waits for an answer: whoever needs the disk lets it wait.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

from blake3 import blake3

from agent.drivers.sandbox import lock_parser, step_back

PIECE_BYTES: Final = 1 << 20
STRETCH_BYTES: Final = 32 << 20
BLOCK_BYTES: Final = 4096
REGION_BYTES: Final = 64 << 10
"""Shorter runs of zeros are in sound recordings and in padded files too."""
REGIONS_LIMIT: Final = 1000
CPU_S: Final = 60
BYTES_PER_CPU_S: Final = 20 << 20
_BLOCK: Final = bytes(BLOCK_BYTES)


class Zeros:
    """Counts the regions that are zero, in blocks of the file, and their bytes; `tell` hears of the first of them."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self.regions = self.bytes = 0
        self._tell = tell
        self._since = -1

    def feed(self, at: int, piece: bytes) -> None:
        """Take the next piece, which begins at this offset; none but the last ends within a block."""
        for start in range(0, len(piece), BLOCK_BYTES):
            if not piece.startswith(_BLOCK[: len(piece) - start], start):
                self.end(at + start)
            elif self._since < 0:
                self._since = at + start

    def end(self, at: int) -> None:
        """Something else begins at this offset, or nothing at all."""
        since, self._since = self._since, -1
        if since < 0 or at - since < REGION_BYTES:
            return
        self.regions += 1
        self.bytes += at - since
        if self.regions <= REGIONS_LIMIT:
            self._tell(since, at - since)


def say(line: str) -> None:
    """One line to the daemon, short enough for a pipe to take it whole."""
    os.write(1, b"{%s}\n" % line.encode("ascii"))


def scan(source: BinaryIO) -> None:
    """Read all there is, and print what was found; what was read leaves the page cache. Raises OSError."""
    hasher, zeros = blake3(), Zeros(lambda offset, length: say(f'"zeros": [{offset}, {length}]'))
    at = told = 0
    while piece := source.read(PIECE_BYTES):
        hasher.update(piece)
        zeros.feed(at, piece)
        at += len(piece)
        if at - told == STRETCH_BYTES:
            os.posix_fadvise(source.fileno(), told, STRETCH_BYTES, os.POSIX_FADV_DONTNEED)
            say(f'"read": {at}')
            os.read(0, len("0\n"))
            told = at
    zeros.end(at)
    os.posix_fadvise(source.fileno(), told, 0, os.POSIX_FADV_DONTNEED)
    say(f'"bytes": {at}, "blake3": "{hasher.hexdigest()}", "regions": {zeros.regions}, "zero_bytes": {zeros.bytes}')


def main(arguments: Sequence[str]) -> int:
    """Entry point: `agent.access.scanner <descriptor>`; what can't be read is said on stderr and by 1."""
    source = open(int(arguments[0]), "rb", buffering=PIECE_BYTES)  # noqa: SIM115 - it ends with this process
    step_back()
    lock_parser(cpu_s=CPU_S + os.fstat(source.fileno()).st_size // BYTES_PER_CPU_S)
    try:
        scan(source)
    except OSError as error:
        sys.stderr.write(f"{error.strerror}\n")
        return 1
    return 0
