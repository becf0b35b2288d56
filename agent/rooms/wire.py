"""Plans and reports as JSON lines, and back; what a recorder says is checked, for cameras speak through it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import StrEnum
from typing import Any, Final, TypeVar, get_args, get_origin, get_type_hints

from agent.checked import number, text
from agent.child import ChildError
from agent.rooms.protocol import Alive, Back, Begun, Closed, Lost, Noticed, Opened, Plan, Report, Stop

_LIST_LIMIT: Final = 64
_URL_LIMIT: Final = 4096
_REPORTS: Final[Mapping[str, type[Report]]] = {
    kind.__name__: kind for kind in (Opened, Begun, Closed, Lost, Back, Noticed, Alive)
}
_T = TypeVar("_T")


def packed(value: Plan | Stop | Report) -> dict[str, object]:
    """What stands in the line for it."""
    return {"is": type(value).__name__, **asdict(value)}


def report(line: object) -> Report:
    """The report in a line; raises ChildError for what is none."""
    if not isinstance(line, dict) or not isinstance(name := line.get("is"), str) or name not in _REPORTS:
        raise ChildError("reported what nobody knows")
    found: Report = made(_REPORTS[name], line)
    return found


def order(line: object) -> Plan | Stop:
    """The plan, or the word to stop, in a line; raises ChildError."""
    name = line.get("is") if isinstance(line, dict) else None
    if name == "Stop":
        return Stop()
    if name == "Plan" and isinstance(line, dict):
        return made(Plan, line)
    raise ChildError("was told what nobody knows")


def made(kind: type[_T], line: Mapping[Any, object]) -> _T:
    """A dataclass from what a line has of its fields; raises ChildError for what doesn't fit."""
    hints = get_type_hints(kind)
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**{str(name): _value(hints[str(name)], value) for name, value in line.items() if name in known})
    except TypeError:
        raise ChildError(f"left something out of {kind.__name__}") from None


def _value(hint: Any, value: object) -> object:  # noqa: ANN401
    """A value of the type that is annotated."""
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple) or len(value) > _LIST_LIMIT:
            raise ChildError("reported a list that is none")
        return tuple(_value(get_args(hint)[0], one) for one in value)
    if get_origin(hint) is types.UnionType:
        return None if value is None else _value(get_args(hint)[0], value)
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ChildError("reported a part that is none")
        return made(hint, value)  # type: ignore[arg-type]
    if issubclass(hint, StrEnum):
        try:
            return hint(text(value))
        except ValueError:
            raise ChildError(f"reported no {hint.__name__}") from None
    if hint is bool:
        if not isinstance(value, bool):
            raise ChildError("reported neither yes nor no")
        return value
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
            raise ChildError("reported a number that is none")
        return float(value)
    return number(value) if hint is int else text(value, _URL_LIMIT)
