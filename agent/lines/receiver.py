"""Asks a satellite receiver at a serial line when and where it is; a comparison only, nothing is set or kept by it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agent.child import Child, ChildError
from agent.lines.wire import Trouble

WAIT_S: Final = 6.0
_LISTEN: Final = "agent.lines.listen"
_STARTS_S: Final = 15.0
_LINES_LIMIT: Final = 8
_MOST_MS: Final = 200 * 366 * 86400 * 1000


@dataclass(frozen=True, slots=True)
class Compared:
    """How far this station's clock is ahead of what the receiver tells, which it tells up to a second late.

    `place`: where it says it is, in degrees of WGS 84: north, then east; None if it didn't say.
    """

    ahead_ms: int
    place: tuple[float, float] | None = None


async def compared(node: str, baud: int) -> Compared | Trouble:
    """What the receiver says; without a time in some seconds, why: SILENT also means that it has no fix."""
    order = {"node": node, "baud": baud, "bits": 8, "parity": "none", "stop_bits": 1, "flow": "none", "wait_s": WAIT_S}
    try:
        child = await Child.start(_LISTEN, (), stall_limit_s=_STARTS_S + WAIT_S)
    except ChildError:
        return Trouble.BROKEN
    found: list[Compared] = []
    try:
        await child.send(order)
        for _ in range(_LINES_LIMIT):
            match await child.line():
                case {"time": [int(told), int(heard)], "place": place} if (
                    0 <= told <= _MOST_MS and 0 <= heard <= _MOST_MS
                ):
                    found.append(Compared(heard - told, _checked(place)))
                case {"trouble": str(trouble)}:
                    return Trouble(trouble)
                case None:  # what came soonest came least late
                    return min(found, key=lambda one: one.ahead_ms) if found else Trouble.SILENT
                case _:
                    return Trouble.BROKEN
    except (ChildError, ValueError):
        return Trouble.BROKEN
    finally:
        await child.stop()
    return Trouble.BROKEN


def _checked(place: object) -> tuple[float, float] | None:
    """Raises ValueError for what the child can't have said."""
    match place:
        case None:
            return None
        case [float(north), float(east)] if abs(north) <= 90 and abs(east) <= 180:
            return north, east
    raise ValueError("no place on Earth")
