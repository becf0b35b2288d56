"""Reads when sessions are planned in a room: an iCalendar file, or a TOML file with [[session]]."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from agent.config.options import TomlFile, Unfit, integer, option, tables, text, texts
from agent.model import STAGES, Planned

CHINA: Final = ZoneInfo("Asia/Shanghai")
"""The time zone of times that have none."""

SESSIONS_LIMIT: Final = 2000
_FILE_LIMIT_BYTES: Final = 1 << 20
_LONGEST: Final = timedelta(hours=24)
_KEY_DIGITS: Final = 32
_PEOPLE_LIMIT: Final = 20


class Schedule(NamedTuple):
    """Sessions in the order in which they begin, and what is wrong with the file, without naming anybody."""

    sessions: tuple[Planned, ...]
    problems: tuple[str, ...]


def _moment(value: object) -> datetime | None:
    if not isinstance(value, datetime):
        raise Unfit("must be a day and a time like 2026-11-24T09:00:00, without quotes")
    return value.astimezone(CHINA) if value.tzinfo is not None else value.replace(tzinfo=CHINA)


@dataclass(frozen=True, slots=True)
class SessionEntry:
    """[[session]] of a schedule: `end` or `duration_min` says how long it is to last."""

    start: datetime | None = option(None, "day and time", _moment)
    end: datetime | None = option(None, "day and time", _moment)
    duration_min: int = integer(0, 1, 1440, "minutes")
    title: str = text("", 200)
    stage: str = text("", 3)
    case_number: str = text("", 64)
    participants: tuple[str, ...] = texts()


@dataclass(frozen=True, slots=True)
class ScheduleFile:
    """A schedule as a TOML file."""

    session: tuple[Mapping[str, object], ...] = tables()


def read_schedule(path: Path, first: datetime, last: datetime) -> Schedule:
    """The sessions that may be running from `first` to `last`; one that is wrong is left out, and told.

    Raises ValueError or OSError if the whole file makes no sense. It may take long: a calendar can ask for anything.
    """
    problems: list[str] = []

    def tell(what: str) -> None:
        problems.append(f"{path}: {what}")

    with path.open("rb") as file:
        content = file.read(_FILE_LIMIT_BYTES + 1)
    if len(content) > _FILE_LIMIT_BYTES:
        raise ValueError(f"is larger than {_FILE_LIMIT_BYTES} bytes")
    if path.suffix == ".toml":
        found = [one for one in _of_toml(path, problems) if one.start < last and one.end > first]
    else:
        from agent.config.icalendars import sessions  # takes a quarter of a second

        found = list(sessions(content, first, last, CHINA, tell))
    fit = sorted(_fitting(found, tell), key=lambda one: (one.start, one.key))
    if len(fit) > SESSIONS_LIMIT:
        raise ValueError(f"plans {len(fit)} sessions from {first:%Y-%m-%d} to {last:%Y-%m-%d}; up to {SESSIONS_LIMIT}")
    _tell_overlaps(fit, tell)
    return Schedule(tuple(fit), tuple(problems))


def _of_toml(path: Path, problems: list[str]) -> Iterator[Planned]:
    before = len(problems)
    file = TomlFile(path, problems, names_people=True)
    document = file.document()
    if len(problems) > before:
        raise ValueError(problems.pop().removeprefix(f"{path}: "))
    for table in file.section(ScheduleFile, document).session:
        before = len(problems)
        read = file.section(SessionEntry, table, "session")
        file.require(table, ("start",), "session.")
        if ("end" in table) == ("duration_min" in table):
            file.problem("session.end", None, "there must be end or duration_min, and not both")
        if len(problems) == before and read.start is not None:
            end = read.end or read.start + timedelta(minutes=read.duration_min)
            said = (read.title, read.stage, read.case_number, read.participants)
            yield Planned(read.start.isoformat(), read.start, end, *said)


def _fitting(found: list[Planned], tell: Callable[[str], None]) -> Iterator[Planned]:
    """Without those that can't be, and what is said of them on one line each."""
    known: set[str] = set()
    for one in found:
        begins = f"the session of {one.start:%Y-%m-%d %H:%M}"
        key = sha256(one.key.encode("utf-8", "replace")).hexdigest()[:_KEY_DIGITS]
        if not timedelta() < one.end - one.start <= _LONGEST:
            tell(f"{begins} must end after it starts, and within 24 hours")
        elif one.stage and one.stage not in STAGES:
            tell(f"{begins} is of a stage that doesn't exist; there are {', '.join(STAGES)}")
        elif key in known:
            tell(f"{begins} is there twice")
        else:
            known.add(key)
            people = [_line(person, 40) for person in one.participants]
            yield replace(
                one, key=key, title=_line(one.title, 200), case_number=_line(one.case_number, 64),
                participants=tuple(dict.fromkeys(filter(None, people)))[:_PEOPLE_LIMIT],
            )  # fmt: skip


def _line(text: str, longest: int) -> str:
    return "".join(char if char.isprintable() else " " for char in text).strip()[:longest].strip()


def _tell_overlaps(ordered: list[Planned], tell: Callable[[str], None]) -> None:
    """A room has one session at a time: the one that begins later would have to wait."""
    running: Planned | None = None
    for one in ordered:
        if running is not None and one.start < running.end:
            tell(f"the session of {one.start:%Y-%m-%d %H:%M} begins before that of {running.start:%m-%d %H:%M} ends")
        running = one if running is None or one.end > running.end else running
