"""The puller: a child process that reads checked extents of one recorder into parts, and parses nothing of it.

    python -I -m agent.drivers.puller PATH RDEV INO SIZE DISKSEQ [RESCUE_LIMIT_S] STAGING_FD

It opens PATH read-only, ends with {"gone": why} unless that is the device the parser has read, and locks itself
(`agent.drivers.sandbox`). Requests and acknowledgements come as JSON lines on stdin, reports go as JSON lines to
stdout. It stops reading when four blocks or 512 files were not acknowledged, and ends when its parent does.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

from agent.drivers.base import FailReason
from agent.drivers.pulling import Order, Puller
from agent.drivers.reading import FetchError, Layout, Recorder, Rescue
from agent.drivers.sandbox import lock_puller
from agent.drivers.source import FilesystemError, open_read_only
from agent.model import BLOCK_BYTES, Extent

_LINE_LIMIT_BYTES: Final = 256 * 1024
_READ_BYTES: Final = 64 * 1024
_UNACKED_BYTES: Final = 4 * BLOCK_BYTES
_UNACKED_FILES: Final = 512
_HEARTBEAT_S: Final = 2.0
_RESCUE_LIMIT_S: Final = 1800.0


class ParentGoneError(Exception):
    """Nobody listens any more."""


class Inbox:
    """Requests and acknowledgements from the parent; raises ParentGoneError at the end of input."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._rest = b""
        self._request: Mapping[str, object] = {}
        self._extents: array[int] = array("Q")
        self.orders: deque[Order] = deque()
        self.acknowledged = 0

    def take(self, *, wait: bool) -> None:
        """Take in what the parent has sent, or wait for it."""
        while self._poll.poll(None if wait else 0):
            wait = False
            data = os.read(self._fd, _READ_BYTES)
            if not data:
                raise ParentGoneError
            *lines, self._rest = (self._rest + data).split(b"\n")
            assert len(self._rest) <= _LINE_LIMIT_BYTES, "the parent sent a line without an end"
            for line in lines:
                self._line(json.loads(line))

    def _line(self, line: Mapping[str, object]) -> None:
        match line:
            case {"ack": int(count)}:
                self.acknowledged += count
            case {"number": _, "extents": list(extents)}:
                self._request = line
                self._extents = array("Q")
                self._extend(extents)
            case {"more": list(extents)}:
                self._extend(extents)
            case {"go": dict(go)}:
                assert self._request["number"] == go["number"], "the parent mixed up two requests"
                self.orders.append(_order(self._request, self._extents, go))
            case _:
                raise AssertionError("the parent sent an unknown line")

    def _extend(self, extents: list[list[int]]) -> None:
        for offset, length in extents:
            self._extents.append(offset)
            self._extents.append(length)


def _order(request: Mapping[str, object], extents: array[int], go: Mapping[str, object]) -> Order:
    match request, go:
        case (
            {"number": int(number), "part": str(part), "size": int(size), "zero_from": int() | None as zero_from},
            {"first_block": int(first_block), "rescue": bool(rescue), "check": check},
        ):
            layout = Layout(extents, size, zero_from)
            return Order(number, part, layout, first_block, _check(check), rescue)
    raise AssertionError("the parent sent an incomplete request")


def _check(raw: object) -> tuple[int, str] | None:
    match raw:
        case None:
            return None
        case [int(index), str(digest)]:
            return index, digest
    raise AssertionError("the parent sent an unknown check")


class Outbox:
    """Reports to the parent, as `pulling.Reports`; holds back the reading while too much is not acknowledged."""

    def __init__(self, fd: int, inbox: Inbox) -> None:
        self._fd = fd
        self._inbox = inbox
        self._lines: list[str] = []
        self._unacked: deque[int] = deque()
        self._unacked_bytes = 0
        self._progress = (0, 0)
        self._sent_at_s = time.monotonic()

    def block(self, number: int, index: int, size_bytes: int, blake3_hex: str, holes: list[Extent]) -> None:
        """Report a block, then wait until another one would not be too far ahead of the parent."""
        self._lines.append(_json({"block": [number, index, size_bytes, blake3_hex, holes]}))
        self._unacked.append(size_bytes)
        self._unacked_bytes += size_bytes
        if size_bytes == BLOCK_BYTES:
            self.flush()
        self.listen(wait=False)
        while self._unacked_bytes > _UNACKED_BYTES - BLOCK_BYTES or len(self._unacked) >= _UNACKED_FILES:
            self.listen(wait=True)

    def progress(self, number: int, done_bytes: int) -> None:
        """Tell the parent now and then that bytes keep coming."""
        self._progress = number, done_bytes
        self.alive()

    def alive(self) -> None:
        """Tell the parent now and then that this is slow, not stuck."""
        if time.monotonic() - self._sent_at_s >= _HEARTBEAT_S:
            self._lines.append(_json({"progress": self._progress}))
            self.flush()

    def fetched(self, number: int, size_bytes: int, holes: list[Extent], blake3_hex: str) -> None:
        """Report the end of a clip."""
        self._lines.append(_json({"fetched": [number, size_bytes, holes, blake3_hex]}))
        self.flush()

    def failed(self, number: int, reason: FailReason, message: str) -> None:
        """Report that a clip can't be read."""
        self._lines.append(_json({"failed": [number, reason.value, message]}))
        self.flush()

    def gone(self, message: str) -> int:
        """Report that there is nothing to read from; returns the exit code."""
        self._lines.append(_json({"gone": message}))
        self.flush()
        return 0

    def listen(self, *, wait: bool) -> None:
        """Take in requests and acknowledgements."""
        if wait:
            self.flush()
        self._inbox.take(wait=wait)
        while self._inbox.acknowledged and self._unacked:
            self._inbox.acknowledged -= 1
            self._unacked_bytes -= self._unacked.popleft()

    def flush(self) -> None:
        """Send what was reported."""
        text = memoryview("".join(self._lines).encode("ascii"))
        self._lines.clear()
        self._sent_at_s = time.monotonic()
        while text:
            try:
                text = text[os.write(self._fd, text) :]
            except BrokenPipeError:
                raise ParentGoneError from None


def _json(value: object) -> str:
    return json.dumps(value, separators=(",", ":")) + "\n"


def _work(inbox: Inbox, outbox: Outbox, puller: Puller) -> None:
    """Fulfil orders until the recorder or the parent is gone."""
    expected: deque[Order] = deque()
    while True:
        outbox.listen(wait=not expected and not inbox.orders)
        while inbox.orders:
            puller.expect(inbox.orders[0])
            expected.append(inbox.orders.popleft())
        if not expected:
            continue
        order = expected.popleft()
        outbox.progress(order.number, order.first_block * BLOCK_BYTES)
        try:
            puller.pull(order)
        except FetchError as error:
            outbox.failed(order.number, error.reason, str(error))
            if error.reason is FailReason.GONE:
                return


def main(arguments: Sequence[str]) -> int:
    """Run as a child process; returns the exit code."""
    path, *identity = arguments[:5]
    rescue_limit_s = float(arguments[5]) if len(arguments) > 6 else _RESCUE_LIMIT_S
    staging_fd = int(arguments[-1])
    inbox = Inbox(sys.stdin.fileno())
    outbox = Outbox(sys.stdout.fileno(), inbox)
    try:
        fd, found = open_read_only(path)
    except FilesystemError as error:
        return outbox.gone(error.what)
    if [found.rdev, found.ino, found.size, found.diskseq] != [int(number) for number in identity]:
        return outbox.gone("another device has taken its place")
    recorder = Recorder(path, fd, found)
    lock_puller(staging_fd, fd)
    try:
        _work(inbox, outbox, Puller(recorder, staging_fd, outbox, Rescue(recorder, rescue_limit_s, outbox.alive)))
    except ParentGoneError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
