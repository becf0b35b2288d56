"""Keeps the lamps at one line as it is told to: a locked child, as `talk`.

    python -I -m agent.lines.lamp

Its first order is one JSON line on stdin with the line (`agent.pipeline.lamps` makes it). Each further one has a number
and `lamps`, a list of [unit, coil, whether it is lit]; the answer has the number and the trouble of each, "" for none.
"""

from __future__ import annotations

import json
import sys
from typing import Final

from agent.drivers.sandbox import lock_line
from agent.lines.modbus import FRAME_LIMIT_BYTES, light
from agent.lines.talk import Line, UnheardError, opened, tell
from agent.lines.wire import ORDER_LIMIT, Trouble

_CPU_S: Final = 24 * 3600
"""Years at one look each second; who drives it starts another one then."""


def main(arguments: list[str]) -> int:
    """Drive the lamps until there are no more orders, or the line has gone; 0 unless this program is at fault."""
    assert not arguments
    order = json.loads(sys.stdin.readline(ORDER_LIMIT))
    try:
        port = opened(order)
    except OSError:
        tell({"trouble": Trouble.BUSY})
        return 0
    with port:
        lock_line(port.fileno(), cpu_s=_CPU_S)
        line = Line(port.fileno(), b"", limit_bytes=FRAME_LIMIT_BYTES)
        while words := sys.stdin.readline(ORDER_LIMIT):
            wanted = json.loads(words)
            found = [_lit(line, *lamp, wait_s=float(order["wait_s"])) for lamp in wanted["lamps"]]
            tell({"number": wanted["number"], "lamps": found})
            if Trouble.GONE in found:
                break
    return 0


def _lit(line: Line, unit: int, coil: int, is_lit: bool, *, wait_s: float) -> str:
    try:
        light(line, unit, coil, is_lit=is_lit, wait_s=wait_s)
    except UnheardError as error:
        return error.trouble
    return ""
