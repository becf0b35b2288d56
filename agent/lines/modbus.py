"""Modbus over a serial line (Modbus over Serial Line V1.02, RTU): reads one coil of one board, or writes it."""

from __future__ import annotations

import time
from typing import Final

from agent.lines.talk import Line, UnheardError
from agent.lines.wire import Trouble

FRAME_LIMIT_BYTES: Final = 256
"""The longest frame there is; more at one request is a flood."""

_READ_COILS, _WRITE_COIL, _IS_ERROR = 1, 5, 0x80
_ON: Final = 0xFF00
_QUIET_S: Final = 0.005
"""Longer than the pause between two frames (2.5.1.1: 3.5 characters, which take 4 ms at 9600 baud)."""


def crc(frame: bytes) -> bytes:
    """The two bytes behind a frame (Modbus over Serial Line V1.02, 6.2.2)."""
    found = 0xFFFF
    for byte in frame:
        found ^= byte
        for _ in range(8):
            found = found >> 1 ^ (0xA001 if found & 1 else 0)
    return found.to_bytes(2, "little")


def framed(unit: int, function: int, address: int, value: int) -> bytes:
    """A request with two numbers, with its check."""
    frame = bytes((unit, function)) + address.to_bytes(2, "big") + value.to_bytes(2, "big")
    return frame + crc(frame)


def answer_in(heard: bytes, request: bytes) -> bytes | None:
    """The answer without its check, wherever it begins: noise or an echo may be before it. None if it isn't there yet.

    Raises UnheardError if the board refuses.
    """
    lengths = {request[1]: 8 if request[1] == _WRITE_COIL else 6, request[1] | _IS_ERROR: 5}
    for start in range(len(heard) - 4):
        length = lengths.get(heard[start + 1], 0)
        frame = heard[start : start + length]
        if not length or frame[0] != request[0] or len(frame) < length or crc(frame[:-2]) != frame[-2:]:
            continue
        if frame[1] & _IS_ERROR:
            raise UnheardError(Trouble.REFUSED)
        if frame == request or (length == 6 and frame[2] == 1):
            return frame[:-2]
    return None


def asked(line: Line, request: bytes, wait_s: float) -> bytes:
    """What the board answers; raises UnheardError."""
    line.hush(_QUIET_S)
    line.send(request, wait_s)
    until = time.monotonic() + wait_s
    heard = b""
    while (answer := answer_in(heard, request)) is None:
        if (piece := line.piece(until)) is None:
            raise UnheardError(_why(heard, request))
        heard += piece
    return answer


def _why(heard: bytes, request: bytes) -> Trouble:
    if not heard or heard == request:
        return Trouble.ECHO if heard else Trouble.SILENT
    return Trouble.HALF if heard[:2] == request[:2] and len(heard) < 6 else Trouble.GARBAGE


def light(line: Line, unit: int, coil: int, *, is_lit: bool, wait_s: float) -> None:
    """Have a coil be as it should; what it says of itself counts, for an echo looks like the answer to a write.

    Raises UnheardError: OTHER if it stays as it is.
    """
    if _is_lit(line, unit, coil, wait_s) is is_lit:
        return
    asked(line, framed(unit, _WRITE_COIL, coil, _ON if is_lit else 0), wait_s)
    if _is_lit(line, unit, coil, wait_s) is not is_lit:
        raise UnheardError(Trouble.OTHER)


def _is_lit(line: Line, unit: int, coil: int, wait_s: float) -> bool:
    return bool(asked(line, framed(unit, _READ_COILS, coil, 1), wait_s)[-1] & 1)
