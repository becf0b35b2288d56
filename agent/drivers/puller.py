"""The puller: a child process that reads checked extents of one recorder into parts, and parses nothing of it.

    python -I -m agent.drivers.puller PATH RDEV INO SIZE DISKSEQ [RESCUE_LIMIT_S] STAGING_FD

It opens PATH read-only, ends with {"gone": why} unless that is the device the parser has read, or with the reason on
stderr and 1 if it is there but can't be opened, and locks itself (`agent.drivers.sandbox`). Requests and
acknowledgements come as JSON lines on stdin, reports go as JSON lines to stdout. It stops reading when four blocks or
512 files were not acknowledged, and ends when its parent does.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import sys
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from agent.card import BLOCK_BYTES, Extent, FailReason
from agent.drivers.pulling import Order, Puller
from agent.drivers.reading import FetchError, Layout, Recorder, Rescue
from agent.drivers.sandbox import lock_puller
from agent.drivers.source import FilesystemError, open_read_only

_LINE_LIMIT_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 64 * 1024
_UNACKED_BYTES: Final = 4 * BLOCK_BYTES
_UNACKED_FILES: Final = 512
_HEARTBEAT_S: Final = 2.0
_RESCUE_LIMIT_S: Final = 1800.0
_GONE_KINDS: Final = frozenset({"gone", "not-a-device"})


class ParentGoneError(Exception):
    """Nobody listens any more."""


class Parent:
    """The daemon's end of our pipes: orders and acknowledgements come in, reports go out, as `pulling.Reports`.

    Everything raises ParentGoneError at the end of input, or when nobody takes the output.
    """

    def __init__(self, in_fd: int, out_fd: int) -> None:
        self._in_fd = in_fd
        self._out_fd = out_fd
        self._poll = select.poll()
        self._poll.register(in_fd, select.POLLIN)
        self._rest = b""
        self._extents: array[int] = array("Q")
        self.orders: deque[Order] = deque()
        self._lines: list[str] = []
        self._unacked: deque[int] = deque()
        self._acks = 0
        self._progress = (0, 0)
        self._sent_at_s = time.monotonic()

    def listen(self, *, wait: bool) -> None:
        """Take in what the parent has sent, or wait for it."""
        if wait:
            self.flush()
        while self._poll.poll(None if wait else 0):
            wait = False
            data = os.read(self._in_fd, _READ_BYTES)
            if not data:
                raise ParentGoneError
            *lines, self._rest = (self._rest + data).split(b"\n")
            assert len(self._rest) <= _LINE_LIMIT_BYTES, "the parent sent a line without an end"
            for line in lines:
                self._line(json.loads(line))
        while self._acks and self._unacked:
            self._acks -= 1
            self._unacked.popleft()

    def _line(self, line: Mapping[str, Any]) -> None:
        match line:
            case {"ack": int(count)}:
                self._acks += count
            case {"extents": list(extents)}:  # of a clip in many pieces, line after line; the last one says the rest
                self._extents.extend(itertools.chain.from_iterable(extents))
                if "fetch" in line:
                    self.orders.append(self._order(line["fetch"]))
                    self._extents = array("Q")
            case _:
                raise AssertionError("the parent sent an unknown line")

    def _order(self, order: Mapping[str, Any]) -> Order:
        match order:
            case {
                "number": int(number), "part": str(part), "size": int(size), "zero_from": int() | None as zero_from,
                "first_block": int(first_block), "rescue": bool(rescue), "check": [int(), str()] | None as check,
            }:  # fmt: skip
                layout = Layout(self._extents, size, zero_from)
                return Order(number, part, layout, first_block, check and tuple(check), rescue)
        raise AssertionError("the parent sent an incomplete request")

    def block(self, number: int, index: int, size_bytes: int, blake3_hex: str, holes: list[Extent]) -> None:
        """Report a block, then wait until another one would not be too far ahead of the parent."""
        self._add({"block": [number, index, size_bytes, blake3_hex, holes]})
        self._unacked.append(size_bytes)
        if size_bytes == BLOCK_BYTES:
            self.flush()
        self.listen(wait=False)
        while sum(self._unacked) > _UNACKED_BYTES - BLOCK_BYTES or len(self._unacked) >= _UNACKED_FILES:
            self.listen(wait=True)

    def progress(self, number: int, done_bytes: int) -> None:
        """Tell the parent now and then that bytes keep coming."""
        self._progress = number, done_bytes
        self.alive()

    def alive(self) -> None:
        """Tell the parent now and then that this is slow, not stuck."""
        if time.monotonic() - self._sent_at_s >= _HEARTBEAT_S:
            self.say({"progress": self._progress})

    def fetched(self, number: int, size_bytes: int, holes: list[Extent], blake3_hex: str) -> None:
        """Report the end of a clip."""
        self.say({"fetched": [number, size_bytes, holes, blake3_hex]})

    def say(self, report: object) -> None:
        """Send a report at once."""
        self._add(report)
        self.flush()

    def _add(self, report: object) -> None:
        self._lines.append(json.dumps(report, separators=(",", ":")) + "\n")

    def flush(self) -> None:
        """Send what was reported."""
        text = memoryview("".join(self._lines).encode("ascii"))
        self._lines.clear()
        self._sent_at_s = time.monotonic()
        while text:
            try:
                text = text[os.write(self._out_fd, text) :]
            except BrokenPipeError:
                raise ParentGoneError from None


def work(parent: Parent, puller: Puller) -> None:
    """Fulfil orders until the recorder or the parent is gone."""
    expected: deque[Order] = deque()
    while True:
        parent.listen(wait=not expected and not parent.orders)
        while parent.orders:
            puller.expect(parent.orders[0])
            expected.append(parent.orders.popleft())
        if not expected:
            continue
        order = expected.popleft()
        parent.progress(order.number, order.first_block * BLOCK_BYTES)
        try:
            puller.pull(order)
        except FetchError as error:
            parent.say({"failed": [order.number, error.reason, str(error)]})
            if error.reason is FailReason.GONE:
                return


def main(arguments: Sequence[str]) -> int:
    """Run as a child process; returns the exit code."""
    path, *identity = arguments[:5]
    rescue_limit_s = float(arguments[5]) if len(arguments) > 6 else _RESCUE_LIMIT_S
    staging_fd = int(arguments[-1])
    parent = Parent(sys.stdin.fileno(), sys.stdout.fileno())
    with contextlib.suppress(ParentGoneError):
        try:
            fd, found = open_read_only(path)
        except FilesystemError as error:
            missing = isinstance(error.__cause__, FileNotFoundError)
            if not missing and error.kind not in _GONE_KINDS:  # it may still be there: only the reason is true
                sys.stderr.write(f"{error.what}\n")
                return 1
            parent.say({"gone": error.what})
            return 0
        if [found.rdev, found.ino, found.size, found.diskseq] != [int(number) for number in identity]:
            parent.say({"gone": "another device has taken its place"})
            return 0
        recorder = Recorder(path, fd, found)
        lock_puller(staging_fd, fd)
        work(parent, Puller(recorder, staging_fd, parent, Rescue(recorder, rescue_limit_s, parent.alive)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
