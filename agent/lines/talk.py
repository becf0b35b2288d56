"""Speaks to one recorder over its serial line as it was told to: a locked child that can open nothing else.

    python -I -m agent.lines.talk

Its order is one JSON line on stdin (`agent.lines.asking` makes it); what it heard goes to stdout as JSON lines, never
what was not asked for, and never a password. It opens the line, locks itself, and ends after the last step or the first
that fails.
"""

from __future__ import annotations

import json
import os
import re
import select
import sys
import termios
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import serial

from agent.drivers.sandbox import lock_line
from agent.lines.wire import ANSWERS_LIMIT, HEARD_LIMIT_BYTES, LOOKS, ORDER_LIMIT, TOLD_LIMIT, Trouble

_SECOND_NS: Final = 1_000_000_000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_PIECE_BYTES: Final = 512
_QUIET_S: Final = 0.05
_HUSH_LIMIT_S: Final = 2.0
"""Who hasn't been quiet by then, however slowly it talks, doesn't stop talking."""
_HUSH_PIECES: Final = 256
"""More than the kernel keeps of what nobody has read yet."""
_ASK_TWICE: Final = frozenset({"greet", "tell"})
"""What may be asked again: it changes nothing on the recorder, and an answer that comes late is as good.

A password that is tried again may lock it; a time that comes late would be a wrong one.
"""

_PARITIES: Final[Mapping[str, str]] = {
    "none": serial.PARITY_NONE, "even": serial.PARITY_EVEN, "odd": serial.PARITY_ODD,
}  # fmt: skip

NowNs = Callable[[], int]


class UnheardError(Exception):
    """A step failed; its only argument is the Trouble."""

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble)
        self.trouble = trouble


class Line:
    """An open line, on which nothing is believed: every wait and every number of bytes is bounded."""

    def __init__(self, fd: int, end: bytes, *, limit_bytes: int = HEARD_LIMIT_BYTES) -> None:
        self._fd = fd
        self._limit_bytes = limit_bytes
        self._end = end
        self._rest = b""
        self._heard_bytes = 0

    def hush(self, quiet_s: float) -> None:
        """Throw away what came unasked, until it is quiet for so long: no late answer is taken for another's."""
        until = time.monotonic() + _HUSH_LIMIT_S
        for _ in range(_HUSH_PIECES):
            self._heard_bytes = -_PIECE_BYTES  # what lay there is no flood
            if not self._read(quiet_s):
                self._rest, self._heard_bytes = b"", 0
                return
            self._rest = b""
            if time.monotonic() > until:
                break
        raise UnheardError(Trouble.FLOOD)

    def send(self, request: bytes, wait_s: float) -> None:
        """Say it."""
        left = request + self._end
        until = time.monotonic() + wait_s
        while left:
            _, ready, _ = select.select([], [self._fd], [], max(0.0, until - time.monotonic()))
            if not ready:
                raise UnheardError(Trouble.SILENT)
            left = left[self._write(left) :]

    def answer(self, until: float) -> bytes | None:
        """The next line, without its end; None if none came in time (`half` tells whether one had begun)."""
        while self._end not in self._rest:
            left_s = until - time.monotonic()
            if left_s <= 0 or not self._read(left_s):
                return None
        found, _, self._rest = self._rest.partition(self._end)
        return found

    def piece(self, until: float) -> bytes | None:
        """What comes next, of whatever length; None if nothing came in time."""
        left_s = until - time.monotonic()
        if left_s <= 0 or not self._read(left_s):
            return None
        found, self._rest = self._rest, b""
        return found

    @property
    def half(self) -> bool:
        """Whether an answer has begun that didn't end."""
        return bool(self._rest)

    def _read(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self._fd], [], [], wait_s)
        if not ready:
            return False
        try:
            piece = os.read(self._fd, _PIECE_BYTES)
        except BlockingIOError:
            return True
        except OSError:
            piece = b""
        if not piece:
            raise UnheardError(Trouble.GONE)
        self._heard_bytes += len(piece)
        if self._heard_bytes > self._limit_bytes:
            raise UnheardError(Trouble.FLOOD)
        self._rest += piece
        return True

    def _write(self, left: bytes) -> int:
        try:
            return os.write(self._fd, left)
        except BlockingIOError:
            return 0
        except OSError:
            raise UnheardError(Trouble.GONE) from None


class Talk:
    """One conversation; `tell` gets what it heard, as JSON values. `order` is what `asking.order_of` made."""

    def __init__(
        self, line: Line, order: Mapping[str, Any], tell: Callable[[object], None], now_ns: NowNs = time.time_ns
    ) -> None:
        self._line = line
        self._order = order
        self._tell = tell
        self._now_ns = now_ns
        self._wait_s = float(order["wait_s"])
        self._encoding = str(order["encoding"])
        self._zone = timezone(timedelta(minutes=int(order["zone_min"])))
        self._step_ns = int(order["clock_step_ms"]) * 1_000_000

    def hold(self) -> None:
        """Say all steps; what fails and isn't optional ends it."""
        for step in self._order["steps"]:
            try:
                self._do(step)
            except UnheardError as error:
                self._tell({"failed": step["does"], "trouble": error.trouble, "optional": step["optional"]})
                if not step["optional"] or error.trouble in {Trouble.GONE, Trouble.FLOOD}:
                    return
            else:
                self._tell({"done": step["does"]})

    def _do(self, step: Mapping[str, Any]) -> None:
        if step["does"] == "clock":
            low_ns, high_ns, at_ns = self._compare(step)
            self._tell({"clock": [low_ns // 1000, -(-high_ns // 1000)], "at_ms": at_ns // 1_000_000})
            return
        told, _, _ = self._ask(step)
        if told:
            self._tell({"told": told})

    def _ask(self, step: Mapping[str, Any]) -> tuple[dict[str, str], int, int]:
        """What the answer tells, and between which times it was given."""
        try:
            return self._ask_once(step)
        except UnheardError as error:
            if step["does"] not in _ASK_TWICE or error.trouble not in {Trouble.SILENT, Trouble.HALF, Trouble.GARBAGE}:
                raise
        return self._ask_once(step)

    def _ask_once(self, step: Mapping[str, Any], quiet_s: float = _QUIET_S) -> tuple[dict[str, str], int, int]:
        self._line.hush(quiet_s)
        request = self._request(step)
        asked_ns, until = self._now_ns(), time.monotonic() + self._wait_s
        self._line.send(request, self._wait_s)
        strange = Trouble.SILENT
        for _ in range(ANSWERS_LIMIT):
            answer = self._line.answer(until)
            if answer is None:
                break
            heard_ns = self._now_ns()
            if not answer.strip() or answer.strip() == request.strip():
                strange = Trouble.ECHO if answer.strip() else strange
                continue
            try:
                words = answer.decode(self._encoding)
            except UnicodeDecodeError:
                strange = Trouble.GARBAGE
                continue
            if step["refused"] and re.fullmatch(step["refused"], words):
                raise UnheardError(Trouble.REFUSED)
            if match := re.fullmatch(step["expect"], words):
                return {name: value[:TOLD_LIMIT] for name, value in match.groupdict("").items()}, asked_ns, heard_ns
            strange = Trouble.OTHER
        raise UnheardError(Trouble.HALF if strange is Trouble.SILENT and self._line.half else strange)

    def _request(self, step: Mapping[str, Any]) -> bytes:
        words = str(step["send"]).replace("{password}", str(self._order["password"]))
        if "{clock}" in words:
            now_ns = self._now_ns()
            time.sleep(-now_ns % self._step_ns / _SECOND_NS)  # so that it is right to the step in which it is told
            now = datetime.fromtimestamp((self._now_ns() + 5_000_000) / _SECOND_NS, self._zone)
            words = words.replace("{clock}", now.strftime(self._order["clock_format"]))
        return words.encode(self._encoding)

    def _compare(self, step: Mapping[str, Any]) -> tuple[int, int, int]:
        """Between which two values the recorder's clock is ahead of ours, and when that was found.

        It shows whole steps. Each further look comes when its step must turn if the best guess is true, and halves
        what is uncertain, down to half the way there and back.
        """
        low, high = self._bounds(step, _QUIET_S)
        for _ in range(LOOKS - 1):
            if high - low <= self._step_ns // 64:
                break
            self._line.hush(_QUIET_S)
            there = self._now_ns() + (low + high) // 2
            time.sleep(-there % self._step_ns / _SECOND_NS)
            next_low, next_high = self._bounds(step, 0.0)
            low, high = max(low, next_low), min(high, next_high)
            if low > high:  # one of the clocks was set while they were compared
                low, high = next_low, next_high
        return low, high, self._now_ns()

    def _bounds(self, step: Mapping[str, Any], quiet_s: float) -> tuple[int, int]:
        told, asked_ns, heard_ns = self._ask_once(step, quiet_s)
        try:
            shown = datetime.strptime(told["clock"], self._order["clock_format"]).replace(tzinfo=self._zone)
            shown_ns = (shown - _EPOCH) // timedelta(microseconds=1) * 1000
        except (ValueError, OverflowError):
            raise UnheardError(Trouble.OTHER) from None
        return shown_ns - heard_ns, shown_ns + self._step_ns - min(asked_ns, heard_ns)


def opened(order: Mapping[str, Any]) -> serial.Serial:
    """The line, set up, and for nobody else who locks it (flock); raises OSError."""
    try:
        return serial.Serial(
            order["node"], order["baud"], bytesize=order["bits"], parity=_PARITIES[order["parity"]],
            stopbits=order["stop_bits"], rtscts=order["flow"] == "rtscts", xonxoff=order["flow"] == "xonxoff",
            timeout=0, exclusive=True,
        )  # fmt: skip
    except (ValueError, termios.error) as error:  # a rate that its driver doesn't know; it was pulled out just now
        raise OSError(str(error)) from error


def tell(value: object) -> None:
    """One JSON line for who has started this."""
    os.write(1, f"{json.dumps(value)}\n".encode("ascii"))


def _prepared(order: Mapping[str, Any]) -> None:
    """Load what Python loads late: behind the lock no file can be opened."""
    shown = _EPOCH.strftime(order["clock_format"])
    datetime.strptime(shown, order["clock_format"])  # noqa: DTZ007 - only loaded
    "".encode(order["encoding"])
    b"".decode(order["encoding"])
    for step in order["steps"]:
        re.compile(step["expect"]), re.compile(step["refused"])


def main(arguments: list[str]) -> int:
    """Hold one conversation; 0 unless this program itself is at fault."""
    assert not arguments
    order = json.loads(sys.stdin.readline(ORDER_LIMIT))
    _prepared(order)
    try:
        line = opened(order)
    except OSError:
        tell({"failed": "open", "trouble": Trouble.BUSY, "optional": False})
        return 0
    with line:
        lock_line(line.fileno())
        Talk(Line(line.fileno(), order["end"].encode(order["encoding"])), order, tell).hold()
    return 0
