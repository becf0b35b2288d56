"""The lamp of a room: a coil of a relay board that speaks Modbus-RTU, as `lamp` of a room names it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from agent.config.recorders import Parity

_LAMP: Final = re.compile(r"modbus:(/dev/[\w./:+-]+)(?:\?([\w=&]+))?", re.ASCII)
_RANGES: Final[Mapping[str, tuple[int, int]]] = {"unit": (1, 247), "coil": (0, 65_535), "baud": (9600, 115_200)}
_DEFAULTS: Final[Mapping[str, int]] = {"unit": 1, "coil": 0, "baud": 9600}
_PARITIES: Final = tuple(parity.value for parity in Parity)
TAKES: Final = 'modbus:/dev/…?unit=1&coil=0&baud=9600&parity=none, or "" for none'


@dataclass(frozen=True, slots=True)
class Board:
    """The line at which one or more boards are; eight bits and one stop bit, as most are set when they are sold."""

    node: str
    baud: int
    parity: Parity


@dataclass(frozen=True, slots=True)
class Lamp:
    """`coil` counts from 0, as it goes over the wire; many a board's manual counts from 1."""

    board: Board
    unit: int
    coil: int


def lamp_of(address: str) -> Lamp | None:
    """The lamp that a room names; None if it names none. Raises ValueError, with what is wrong, if it can't be one."""
    if not address:
        return None
    match = _LAMP.fullmatch(address)
    if match is None:
        raise ValueError(f"must be like {TAKES}")
    given = parse_qsl(match[2] or "", keep_blank_values=True)
    options = dict(given)
    if len(options) != len(given) or not options.keys() <= {*_RANGES, "parity"}:
        raise ValueError("may say unit, coil, baud and parity, each once")
    numbers = {name: _number(options.get(name, str(default)), *_RANGES[name]) for name, default in _DEFAULTS.items()}
    if (parity := options.get("parity", Parity.NONE.value)) not in _PARITIES:
        raise ValueError(f"its parity must be {', '.join(_PARITIES)}")
    board = Board(match[1], numbers["baud"], Parity(parity))
    return Lamp(board, numbers["unit"], numbers["coil"])


def _number(words: str, low: int, high: int) -> int:
    if re.fullmatch(r"\d{1,6}", words, re.ASCII) and low <= int(words) <= high:
        return int(words)
    raise ValueError(f"{words} must be {low} to {high}")


def clash(lamps: Mapping[str, Lamp], lamp: Lamp) -> str:
    """Why a lamp can't be driven beside those of other rooms, by their names; empty if it can."""
    for room, other in lamps.items():
        if (other.board.node, other.unit, other.coil) == (lamp.board.node, lamp.unit, lamp.coil):
            return f"is the lamp of room {room}, too"
        if other.board.node == lamp.board.node and other.board != lamp.board:
            return f"has another baud or parity than that of room {room} at the same line"
    return ""
