"""Listens to a satellite receiver at a serial line and says what it told when: a locked child, as `talk`.

    python -I -m agent.lines.listen

Its order is one JSON line on stdin; of each fix, `time` as [told, heard] in milliseconds and `place` go to stdout.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Final

from agent.drivers.sandbox import lock_line
from agent.lines.nmea import fix_of
from agent.lines.talk import Line, UnheardError, opened, tell
from agent.lines.wire import HEARD_LIMIT_BYTES, ORDER_LIMIT, Trouble

_TIMES: Final = 3
_END: Final = b"\n"


def main(arguments: list[str]) -> int:
    """Listen until enough was told; 0 unless this program itself is at fault."""
    assert not arguments
    order = json.loads(sys.stdin.readline(ORDER_LIMIT))
    try:
        port = opened(order)
    except OSError:
        tell({"trouble": Trouble.BUSY})
        return 0
    with port:
        lock_line(port.fileno())
        line, left = Line(port.fileno(), _END, limit_bytes=HEARD_LIMIT_BYTES * 32), _TIMES
        until = time.monotonic() + float(order["wait_s"])
        try:
            while left and (answer := line.answer(until)) is not None:
                heard_ms = time.time_ns() // 1_000_000
                if (fix := fix_of(answer)) is not None:
                    tell({"time": [round(fix.at.timestamp() * 1000), heard_ms], "place": fix.place})
                    left -= 1
        except UnheardError as error:
            tell({"trouble": error.trouble})
    return 0
