"""Compares this station's clock with a satellite receiver at a serial line; a comparison only, nothing is set by it."""

from __future__ import annotations

from typing import Final

from agent.child import Child, ChildError
from agent.lines.wire import Trouble

WAIT_S: Final = 6.0
_LISTEN: Final = "agent.lines.listen"
_STARTS_S: Final = 15.0
_LINES_LIMIT: Final = 8
_MOST_MS: Final = 200 * 366 * 86400 * 1000


async def station_ahead_ms(node: str, baud: int) -> int | Trouble:
    """How far this station's clock is ahead of what the receiver tells, which it tells up to a second late.

    Without a time in some seconds, why: SILENT also means that it has no fix.
    """
    order = {"node": node, "baud": baud, "bits": 8, "parity": "none", "stop_bits": 1, "flow": "none", "wait_s": WAIT_S}
    try:
        child = await Child.start(_LISTEN, (), stall_limit_s=_STARTS_S + WAIT_S)
    except ChildError:
        return Trouble.BROKEN
    found: list[int] = []
    try:
        await child.send(order)
        for _ in range(_LINES_LIMIT):
            match await child.line():
                case {"time": [int(told), int(heard)]} if 0 <= told <= _MOST_MS and 0 <= heard <= _MOST_MS:
                    found.append(heard - told)
                case {"trouble": str(trouble)}:
                    return Trouble(trouble)
                case None:
                    return min(found, default=Trouble.SILENT)  # what came soonest came least late
                case _:
                    return Trouble.BROKEN
    except (ChildError, ValueError):
        return Trouble.BROKEN
    finally:
        await child.stop()
    return Trouble.BROKEN
