"""Typed options: dataclass fields that know how to read themselves from TOML, and a file that reports all problems."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field, fields
from datetime import time
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from agent.config.environment import credential
from agent.errors import ConfigError

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_FILE_LIMIT_BYTES: Final = 1 << 20
_SHOWN: Final = 80
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_ORIGIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")
_SPAN: Final = re.compile(r"\d\d:\d\d-\d\d:\d\d")
CREDENTIALS: Final = tuple(
    f"capture-agent.{name}" for name in ("store", "proxy", "client-key", "tls-key", "oidc-secret")
)
_ABSOLUTE: Final = "an absolute path without .."


class Unfit(ValueError):  # noqa: N818 - a reason, told with file and key
    """A value is not what its option takes; the text is the reason."""


class UnfitSecretError(Unfit):
    """The same of a value that may hold a password: it isn't shown."""


def option(default: T, takes: str, read: Callable[[Any], T]) -> T:
    """A field with `default`; `read` turns the TOML value into the field's or raises Unfit with the reason."""
    metadata = {"takes": takes, "read": read}
    if isinstance(default, dict):
        return cast("T", field(default_factory=default.copy, metadata=metadata))
    return field(default=default, metadata=metadata)


def _checked(
    default: T, takes: str, fits: Callable[[Any], bool], make: Callable[[Any], T] = lambda value: value, must: str = ""
) -> T:
    """A field made from a value that fits; `must` is what it must be where that says more than `takes`."""

    def read(value: object) -> T:
        if not fits(value):
            raise Unfit(f"must be {must or takes}")
        return make(value)

    return option(default, takes, read)


def integer(default: int, low: int, high: int, unit: str = "") -> int:
    """A whole number from `low` to `high`."""
    takes = f"integer, {low}..{high} {unit}".rstrip()
    return _checked(default, takes, lambda value: type(value) is int and low <= value <= high)


def number(default: float, low: float, high: float, unit: str) -> float:
    """A number from `low` to `high`, whole or not."""
    takes = f"number, {low:g}..{high:g} {unit}"
    return _checked(default, takes, lambda value: type(value) in {int, float} and low <= value <= high, float)


def flag(*, default: bool) -> bool:
    """True or false."""
    return _checked(default, "true or false", lambda value: type(value) is bool)


def text(default: str, longest: int, *, shortest: int = 0) -> str:
    """One line of text of `shortest` to `longest` characters."""

    def fits(value: object) -> bool:
        return isinstance(value, str) and shortest <= len(value) <= longest and value.isprintable()

    takes = f"text, {shortest}..{longest} characters"
    return _checked(default, takes, fits, must=f"{takes}, on one line")


def identifier(default: str) -> str:
    """A name that is also a file's or an entry point's: never a path."""
    takes = "name of letters, digits, - and _"
    return _checked(
        default, takes, lambda value: isinstance(value, str) and bool(NAME.fullmatch(value)), must=f"a {takes}"
    )


def choice(default: E) -> E:
    """One of the values of an enum."""
    known = [member.value for member in type(default)]
    return _checked(default, " or ".join(f'"{value}"' for value in known), known.__contains__, type(default))


def folder(default: str) -> Path:
    """An absolute path."""
    return _checked(Path(default), "absolute path", _is_absolute, Path, _ABSOLUTE)


def folder_or_off() -> Path | None:
    """An absolute path, or None for an empty text."""

    def fits(value: object) -> bool:
        return value == "" or _is_absolute(value)

    return _checked(None, 'absolute path, or "" for off', fits, lambda value: Path(value) if value else None, _ABSOLUTE)


def secret() -> Path | None:
    """A file with a secret: an absolute path, or one of the CREDENTIALS that the unit lets systemd hand over."""

    def fits(value: object) -> bool:
        return value == "" or value in CREDENTIALS or _is_absolute(value)

    takes = f'absolute path, {" or ".join(CREDENTIALS)}, or "" for none'
    return _checked(None, takes, fits, lambda value: credential(value) if value else None)


def table() -> Mapping[str, object]:
    """A table whose keys somebody else checks."""
    return _checked({}, "table", lambda value: isinstance(value, dict), must="a table")


def tables() -> tuple[Mapping[str, object], ...]:
    """A list of tables ([[name]]) whose keys somebody else checks."""

    def fits(value: object) -> bool:
        return isinstance(value, list) and all(isinstance(item, dict) for item in value)

    return _checked((), "list of tables", fits, tuple, "a list of tables, each under its own [[...]]")


def region(default: str) -> str:
    """A region's code of six digits (GB/T 2260), or an empty text."""

    def fits(value: object) -> bool:
        return value == "" or (isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{5}", value) is not None)

    return _checked(default, 'code of six digits, or "" for none', fits, must='a code of six digits, like "370800"')


def org_code(default: str) -> str:
    """A unified social credit code (统一社会信用代码, GB 32100-2015) without its check, or an empty text."""

    def fits(value: object) -> bool:
        return value == "" or (isinstance(value, str) and re.fullmatch("[0-9A-HJ-NPQRTUWXY]{18}", value) is not None)

    return _checked(default, 'code of 18 digits and letters, or "" for none', fits)


def origin() -> str:
    """The name of a log (c2sp.org/tlog-checkpoint) that is also a folder's name in every store, or an empty text."""
    takes = 'name of letters, digits, ., _, - and /, or "" for one that is made'
    return _checked("", takes, lambda value: value == "" or (isinstance(value, str) and bool(_ORIGIN.fullmatch(value))))


def texts() -> tuple[str, ...]:
    """A list of texts."""

    def fits(value: object) -> bool:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)

    return _checked((), "list of texts", fits, tuple, "a list of texts")


def spans_of_day() -> tuple[tuple[time, time], ...]:
    """A list of spans of the day like "19:00-07:00"."""

    def read(value: object) -> tuple[tuple[time, time], ...]:
        try:
            if isinstance(value, list):
                return tuple(_span(item) for item in value)
        except ValueError:
            pass
        raise Unfit('must be a list of spans like "19:00-07:00"')

    return option((), "list of spans of the day", read)


def _span(item: object) -> tuple[time, time]:
    if not isinstance(item, str) or not _SPAN.fullmatch(item):
        raise ValueError(item)
    first, last = item.split("-")
    return time.fromisoformat(first), time.fromisoformat(last)


def _is_absolute(value: object) -> bool:
    return isinstance(value, str) and value.startswith("/") and value.isprintable() and ".." not in value.split("/")


def read_options(kind: type[T], table: Mapping[str, object], where: str) -> T:
    """Read a table that somebody else handed on into the dataclass `kind`; raises ConfigError with every problem."""
    problems: list[str] = []
    made = TomlFile(Path(), problems).section(kind, table, where)
    if problems:
        raise ConfigError("\n".join(problems), safe="\nNothing was changed.", do="Correct the configuration.")
    return made


class TomlFile:
    """One TOML file and the list that its problems go to; without a path its tables came from elsewhere.

    Of a file that `names_people` neither values nor ids are told, only lines: problems go to logs and screens.
    """

    def __init__(self, path: Path, problems: list[str], *, names_people: bool = False) -> None:
        self._is_private = names_people
        self._path = path
        self._where = f"{path}: " if path.name else ""
        self._problems = problems
        self._lines: tuple[str, ...] = ()

    def problem(self, key: str, value: object, reason: str) -> None:
        """Note what is wrong with the value of a key."""
        shown = repr(str(value) if isinstance(value, Path) else value)
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        line = self._line_of(key, value)
        if self._is_private:
            key, shown = key.rpartition(".")[2], "…"
        self._problems.append(f"{self._where}{key} = {shown}: {reason}{f' (line {line})' if line else ''}")

    def _line_of(self, key: str, value: object) -> int:
        """Where the value is written, else its key, else its table; 0 if none is found."""
        table, _, name = key.rpartition(".")
        written = re.escape(value) if isinstance(value, str) and value else "(?!)"
        head = self._found(rf"^\s*\[+{re.escape(table)}\]", 1) if table else 0
        if head and value is None:
            return head
        patterns = rf'^[^#]*["\']{written}["\']', rf"^\s*(?:{re.escape(name)}\s*=|\[+{re.escape(name)}\])"
        return next((line for pattern in patterns if (line := self._found(pattern, max(head, 1)))), head)

    def _found(self, pattern: str, first: int) -> int:
        lines = enumerate(self._lines[first - 1 :], first)
        return next((number for number, line in lines if re.search(pattern, line)), 0)

    def refuse(self, where: str, found: Iterable[str], known: Iterable[str]) -> None:
        """Refuse every key that is not `known`, and name the nearest one that is."""
        known = sorted(known)
        for key in sorted(set(found) - set(known)):
            near = difflib.get_close_matches(key, known, 1)
            hint = (
                f"did you mean {near[0] if self._is_private else where + near[0]}?"
                if near
                else f"known are {', '.join(known)}"
            )
            line = self._line_of(where + key, "")
            shown = f"line {line}" if self._is_private else where + key[:_SHOWN]
            self._problems.append(f"{self._where}{shown}: there is no such option; {hint}")

    def require(self, table: Mapping[str, object], keys: Iterable[str], where: str = "") -> None:
        """Refuse a table in which one of the keys is missing."""
        for key in keys:
            if key not in table:
                self.problem(where + key, None, "is missing")

    def document(self) -> dict[str, Any]:
        """The whole file; empty, with a problem noted, if it can't be read."""
        try:
            with self._path.open("rb") as file:
                content = file.read(_FILE_LIMIT_BYTES + 1)
            if len(content) > _FILE_LIMIT_BYTES:
                raise Unfit(f"it is larger than {_FILE_LIMIT_BYTES} bytes")
            text = content.decode()
            self._lines = tuple(text.splitlines())
            return tomllib.loads(text)
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
        options = {known.name: known for known in fields(cast("Any", kind)) if known.metadata}
        prefix = where and where + "."
        values: dict[str, object] = {}
        for key in options.keys() & table.keys():
            try:
                values[key] = options[key].metadata["read"](table[key])
            except Unfit as error:
                shown = "…" if isinstance(error, UnfitSecretError) else table[key]
                self.problem(prefix + key, shown, str(error))
        self.refuse(prefix, table, options)
        return kind(**values)
