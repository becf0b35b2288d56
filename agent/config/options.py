"""Typed options: dataclass fields that know how to read themselves from TOML, and a file that reports all problems."""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar, cast

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_FILE_LIMIT_BYTES: Final = 1 << 20
_SHOWN: Final = 80
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


class Unfit(ValueError):  # noqa: N818 - a reason, told with file and key
    """A value is not what its option takes; the text is the reason."""


def option(default: T, takes: str, read: Callable[[object], T]) -> T:
    """A field with `default`; `read` turns the TOML value into the field's or raises Unfit with the reason."""
    metadata = {"takes": takes, "read": read}
    if isinstance(default, dict):
        return cast("T", field(default_factory=default.copy, metadata=metadata))
    return field(default=default, metadata=metadata)


def integer(default: int, low: int, high: int, unit: str = "") -> int:
    """A whole number from `low` to `high`."""
    takes = f"integer, {low}..{high} {unit}".rstrip()

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise Unfit(f"must be {takes}")
        return value

    return option(default, takes, read)


def number(default: float, low: float, high: float, unit: str) -> float:
    """A number from `low` to `high`, whole or not."""
    takes = f"number, {low:g}..{high:g} {unit}"

    def read(value: object) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_number or not low <= cast("float", value) <= high:
            raise Unfit(f"must be {takes}")
        return float(cast("float", value))

    return option(default, takes, read)


def flag(*, default: bool) -> bool:
    """True or false."""

    def read(value: object) -> bool:
        if not isinstance(value, bool):
            raise Unfit("must be true or false")
        return value

    return option(default, "true or false", read)


def text(default: str, longest: int, *, shortest: int = 0) -> str:
    """One line of text of `shortest` to `longest` characters."""
    takes = f"text, {shortest}..{longest} characters"

    def read(value: object) -> str:
        if not isinstance(value, str) or not shortest <= len(value) <= longest or not value.isprintable():
            raise Unfit(f"must be {takes}, on one line")
        return value

    return option(default, takes, read)


def identifier(default: str) -> str:
    """A name that is also a file's or an entry point's: never a path."""
    takes = "name of letters, digits, - and _"

    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > 64 or not _NAME.fullmatch(value):
            raise Unfit(f"must be a {takes}")
        return value

    return option(default, takes, read)


def choice(default: E) -> E:
    """One of the values of an enum."""
    kind = type(default)
    takes = " or ".join(f'"{member.value}"' for member in kind)

    def read(value: object) -> E:
        if not isinstance(value, str) or value not in [member.value for member in kind]:
            raise Unfit(f"must be {takes}")
        return kind(value)

    return option(default, takes, read)


def folder(default: str) -> Path:
    """An absolute path."""
    return option(Path(default), "absolute path", _absolute)


def folder_or_off() -> Path | None:
    """An absolute path, or None for an empty text."""

    def read(value: object) -> Path | None:
        return None if value == "" else _absolute(value)

    return option(None, 'absolute path, or "" for off', read)


def table() -> Mapping[str, object]:
    """A table whose keys somebody else checks."""

    def read(value: object) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise Unfit("must be a table")
        return value

    return option({}, "table", read)


def texts() -> tuple[str, ...]:
    """A list of texts."""

    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise Unfit("must be a list of texts")
        return tuple(value)

    return option((), "list of texts", read)


def _absolute(value: object) -> Path:
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable() or ".." in value.split("/"):
        raise Unfit("must be an absolute path without ..")
    return Path(value)


class TomlFile:
    """One TOML file and the list that its problems go to."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self._path = path
        self._problems = problems

    def problem(self, key: str, value: object, reason: str) -> None:
        """Note what is wrong with the value of a key."""
        shown = repr(str(value) if isinstance(value, Path) else value)
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        self._problems.append(f"{self._path}: {key} = {shown}: {reason}")

    def refuse(self, where: str, found: Iterable[str], known: Iterable[str]) -> None:
        """Refuse every key that is not `known`, and name the nearest one that is."""
        known = sorted(known)
        for key in sorted(set(found) - set(known)):
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {where}{near[0]}?" if near else f"known are {', '.join(known)}"
            self._problems.append(f"{self._path}: {where}{key[:_SHOWN]}: there is no such option; {hint}")

    def document(self) -> dict[str, Any]:
        """The whole file; empty, with a problem noted, if it can't be read."""
        try:
            with self._path.open("rb") as file:
                content = file.read(_FILE_LIMIT_BYTES + 1)
            if len(content) > _FILE_LIMIT_BYTES:
                raise Unfit(f"it is larger than {_FILE_LIMIT_BYTES} bytes")
            return tomllib.loads(content.decode())
        except OSError as error:
            self._problems.append(f"{self._path}: can't be read: {error.strerror}")
        except (ValueError, RecursionError) as error:
            self._problems.append(f"{self._path}: is not a TOML file: {error}")
        return {}

    def section(self, kind: type[T], table: object, where: str = "") -> T:
        """Read a table into the dataclass `kind`; a bad value leaves its default, so that reading goes on."""
        if not isinstance(table, dict):
            self.problem(where, table, "must be a table")
            return kind()
        options = {known.name: known for known in fields(cast("Any", kind))}
        prefix = where and where + "."
        values: dict[str, object] = {}
        for key in options.keys() & table.keys():
            try:
                values[key] = options[key].metadata["read"](table[key])
            except Unfit as error:
                self.problem(prefix + key, table[key], str(error))
        self.refuse(prefix, table, options)
        return kind(**values)
