"""Reads the rules that a lawyer can correct: a jurisdiction's time limit and the yearly holiday notices."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

from agent.config.options import TomlFile, Unfit, choice, flag, integer, option, text, texts
from agent.model import CalendarYear, Profile, Rule

_REACHES_BACK_TO: Final = (12, 24)
"""A notice may also settle the last days of the year before."""


def _day(value: object) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise Unfit(f"{value!r} is not a day like 2026-10-01") from None
    if not isinstance(value, date) or isinstance(value, datetime):
        raise Unfit("must be a day like 2026-10-01")
    return value


def _days(value: object) -> frozenset[date]:
    if not isinstance(value, list):
        raise Unfit('must be a list of days like "2026-10-01" or "2026-10-01..2026-10-07"')
    return frozenset(day for item in value for day in _span(item))


def _span(item: object) -> Iterator[date]:
    ends = item.split("..") if isinstance(item, str) else [item]
    first, last = _day(ends[0]), _day(ends[-1])
    if len(ends) > 2 or not timedelta() <= last - first <= timedelta(days=31):
        raise Unfit(f"{item!r} is not a span of at most 32 days")
    return (first + timedelta(days=n) for n in range((last - first).days + 1))


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """profiles/<name>.toml: a jurisdiction's time limit and its articles."""

    title: str = text("", 64, shortest=1)
    rule: Rule = choice(Rule.WORKING_DAYS)
    days: int = integer(0, 0, 60, "working days")
    citation: str = text("", 200, shortest=1)
    computation: tuple[str, ...] = texts()


@dataclass(frozen=True, slots=True)
class NoticeFile:
    """calendar/*.toml: the holiday notice of one year."""

    year: int = integer(0, 2000, 2199)
    complete: bool = flag(default=False)
    source: str = text("", 200, shortest=1)
    issued: date | None = option(None, "day", _day)
    off: frozenset[date] = option(frozenset(), "list of days", _days)
    work: frozenset[date] = option(frozenset(), "list of days", _days)


def read_profile(folder: Path, name: str, problems: list[str]) -> Profile:
    """The rule of the jurisdiction `name`; what is wrong with it goes to `problems`."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in folder.glob("*.toml"))) or "none"
        problems.append(f"{path}: there is no such profile (deadline.profile = {name!r}); there are: {there}")
    file = TomlFile(path, problems if path.is_file() else [])
    document = file.document()
    read = file.section(ProfileFile, document)
    if document:
        _require(file, document, ("title", "rule", "citation"))
        if (read.rule is Rule.WORKING_DAYS) != (read.days > 0):
            file.problem("days", read.days, "must be 1..60 working days for working_days, and absent for same_day")
    return Profile(name, read.title, read.rule, read.days, read.citation, read.computation)


def read_calendars(folder: Path, problems: list[str]) -> Mapping[int, CalendarYear]:
    """All holiday notices of a folder by year; files in the order of their names, the later one wins for a day."""
    years: dict[int, CalendarYear] = {}
    for path in sorted(folder.glob("*.toml")):
        notice = _read_notice(path, problems)
        if notice is not None:
            known = years.get(notice.year)
            years[notice.year] = notice if known is None else _merge(known, notice)
    return years


def _read_notice(path: Path, problems: list[str]) -> CalendarYear | None:
    before = len(problems)
    file = TomlFile(path, problems)
    document = file.document()
    read = file.section(NoticeFile, document)
    if len(problems) == before:
        _require(file, document, ("year", "complete", "source"))
    if len(problems) == before:
        _check_days(file, read)
    if len(problems) > before:
        return None
    return CalendarYear(read.year, read.complete, read.source, read.issued, read.off, read.work)


def _require(file: TomlFile, document: Mapping[str, object], keys: Sequence[str]) -> None:
    for key in keys:
        if key not in document:
            file.problem(key, None, "is missing")


def _check_days(file: TomlFile, read: NoticeFile) -> None:
    for key, days in (("off", read.off), ("work", read.work)):
        for day in sorted(days):
            reaches_back = day.year == read.year - 1 and (day.month, day.day) >= _REACHES_BACK_TO
            if day.year != read.year and not reaches_back:
                file.problem(key, str(day), f"is not in {read.year}")
    for day in sorted(read.work):
        if day.weekday() < 5:
            file.problem("work", str(day), "is no Saturday or Sunday, so it needs no make-up rule")
    for day in sorted(read.off & read.work):
        file.problem("work", str(day), "is also listed as off")


def _merge(known: CalendarYear, later: CalendarYear) -> CalendarYear:
    return replace(
        later,
        complete=known.complete or later.complete,
        source=f"{known.source}；{later.source}",
        off=(known.off - later.work) | later.off,
        work=(known.work - later.off) | later.work,
    )
