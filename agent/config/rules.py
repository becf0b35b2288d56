"""Reads the rules that a lawyer can correct: a jurisdiction's time limit and the yearly holiday notices."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Final

from agent.config.obligations import read_obligations
from agent.config.options import TomlFile, Unfit, choice, flag, identifier, integer, option, tables, text, texts
from agent.model import STAGES, CalendarYear, Profile, Rule, RuleKind

_REACHES_BACK_TO: Final = (12, 24)
"""A notice may also settle the last days of the year before."""
_ANY_YEAR: Final = 0
"""What a notice that can't be read says."""


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


def _clock(value: object) -> time:
    if isinstance(value, str) and re.fullmatch(r"\d\d:\d\d", value):
        return time.fromisoformat(value)
    raise Unfit("must be a time of day like 17:30")


def _stages(value: object) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(item, str) and item in STAGES for item in value):
        return tuple(dict.fromkeys(value))
    raise Unfit(f"must be a list of stages of {', '.join(STAGES)}")


def _pattern(value: object) -> str:
    """A group that repeats could make a short text take for ever."""
    if not isinstance(value, str) or len(value) > 200 or re.search(r"\)\s*[*+{?]|\\[1-9]|\(\?", value):
        raise Unfit("must be a pattern of at most 200 characters, whose groups don't repeat and aren't referred to")
    try:
        return re.compile(value).pattern
    except re.error as error:
        raise Unfit(f"is no regular expression: {error}") from None


@dataclass(frozen=True, slots=True)
class RuleTable:
    """[[rule]] of a profile: one time limit and its article."""

    kind: RuleKind = choice(RuleKind.WORKING_DAYS)
    citation: str = text("", 200, shortest=1)
    days: int = integer(0, 0, 60, "working days")
    hours: int = integer(0, 0, 720, "hours")
    event: str = identifier("")
    causes: tuple[str, ...] = texts()
    instead_of: str = identifier("")
    binding: bool = flag(default=True)


@dataclass(frozen=True, slots=True)
class ProfileFile:
    """profiles/<name>.toml: a jurisdiction's time limits and obligations, and what they leave out."""

    title: str = text("", 64, shortest=1)
    office_closes: time = option(time(17), "time of day", _clock)
    computation: tuple[str, ...] = texts()
    uncovered: tuple[str, ...] = texts()
    interruption: str = text("", 200)
    rule: tuple[Mapping[str, object], ...] = tables()
    obligation: tuple[Mapping[str, object], ...] = tables()
    stages: tuple[str, ...] = option((), "list of codes of stages", _stages)
    case_no: str = option("", "pattern", _pattern)


@dataclass(frozen=True, slots=True)
class LocalTable:
    """[[local]] of a notice: days off of one region (全国年节及纪念日放假办法 art. 4)."""

    region: str = text("", 6, shortest=6)
    source: str = text("", 200, shortest=1)
    off: frozenset[date] = option(frozenset(), "list of days", _days)


@dataclass(frozen=True, slots=True)
class NoticeFile:
    """calendar/*.toml and calendar.d/*.toml: the holiday notice of one year, or later changes to it."""

    year: int = integer(0, 2000, 2199)
    complete: bool = flag(default=False)
    source: str = text("", 200, shortest=1)
    issued: date | None = option(None, "day", _day)
    off: frozenset[date] = option(frozenset(), "list of days", _days)
    work: frozenset[date] = option(frozenset(), "list of days", _days)
    local: tuple[Mapping[str, object], ...] = tables()


def read_profile(folder: Path, name: str, problems: list[str]) -> Profile:
    """The rules of the jurisdiction `name`; what is wrong with them goes to `problems`."""
    path = folder / f"{name}.toml"
    if not path.is_file():
        there = ", ".join(sorted(found.stem for found in folder.glob("*.toml"))) or "none"
        problems.append(f"{path}: there is no such profile (deadline.profile = {name!r}); there are: {there}")
    file = TomlFile(path, problems if path.is_file() else [])
    document = file.document()
    read = file.section(ProfileFile, document)
    if document:
        file.require(document, ("title", "rule"))
    rules = tuple(_rule(file, table) for table in read.rule)
    if document and not rules:
        file.problem("rule", None, "there must be at least one [[rule]]")
    elif rules and all(rule.kind is RuleKind.HOURS_AFTER for rule in rules):
        file.problem("rule", "hours_after", "can't be the only rule: without a declaration there would be no limit")
    obligations = read_obligations(file, read.obligation)
    known = (read.computation, read.uncovered, read.office_closes, read.interruption, obligations)
    return Profile(name, read.title, rules, *known, stages=read.stages, case_no=read.case_no)


def _rule(file: TomlFile, table: Mapping[str, object]) -> Rule:
    read = file.section(RuleTable, table, "rule")
    file.require(table, ("kind", "citation"), "rule.")
    if (read.kind is RuleKind.WORKING_DAYS) != (read.days > 0):
        file.problem("rule.days", read.days, "must be 1..60 for working_days, and absent for every other kind")
    after = (bool(read.hours), bool(read.event), bool(read.causes))
    if after != (read.kind is RuleKind.HOURS_AFTER,) * 3:
        file.problem("rule.hours", read.hours, "hours_after needs hours, event and causes; no other kind has them")
    if any(not cause.strip() for cause in read.causes):
        file.problem("rule.causes", "", 'must each be a code and words, like "LATE-02 异地执法"')
    if read.instead_of not in ("", *RuleKind) or read.instead_of == read.kind:
        file.problem("rule.instead_of", read.instead_of, "must be the kind of another rule")
    return Rule(read.kind, read.citation, read.days, read.hours, read.event, read.causes, read.instead_of, read.binding)


def read_calendars(folders: Sequence[Path], region: str, problems: list[str]) -> Mapping[int, CalendarYear]:
    """All holiday notices by year, with what holds in `region`; of two that speak of a day the later file wins.

    Files come in the order of the folders, then of their names. One that is wrong is left out as a whole, and the year
    that it is for is incomplete then, all of them if it doesn't say: it may have moved any day.
    """
    years: dict[int, CalendarYear] = {}
    spoiled: set[int] = set()
    for path in (path for folder in folders for path in sorted(folder.glob("*.toml"))):
        notice = _read_notice(path, region, problems)
        if isinstance(notice, CalendarYear):
            known = years.get(notice.year)
            years[notice.year] = notice if known is None else _merge(known, notice)
        else:
            spoiled.add(notice)
    doubted = years if _ANY_YEAR in spoiled else years.keys() & spoiled
    return years | {year: replace(years[year], complete=False) for year in doubted}


def _read_notice(path: Path, region: str, problems: list[str]) -> CalendarYear | int:
    """The notice, or the year of one that is wrong."""
    before = len(problems)
    file = TomlFile(path, problems)
    document = file.document()
    read = file.section(NoticeFile, document)
    local = [file.section(LocalTable, table, "local") for table in read.local]
    if len(problems) == before:
        file.require(document, ("year", "complete", "source"))
        for table in read.local:
            file.require(table, ("region", "source", "off"), "local.")
    if len(problems) == before:
        _check_days(file, read)
        for part in local:
            _check_local(file, read, part)
    if len(problems) > before:
        return read.year
    year = CalendarYear(read.year, read.complete, read.source, read.issued, read.off, read.work)
    for part in local:
        if region and region.startswith(re.sub(r"(00)+$", "", part.region)):
            year = _merge(year, CalendarYear(read.year, read.complete, part.source, off=part.off))
    return year


def _check_days(file: TomlFile, read: NoticeFile) -> None:
    _check_year(file, read.year, "off", read.off)
    _check_year(file, read.year, "work", read.work)
    for day in sorted(read.work):
        if day.weekday() < 5:
            file.problem("work", str(day), "is no Saturday or Sunday, so it needs no make-up rule")
    for day in sorted(read.off & read.work):
        file.problem("work", str(day), "is also listed as off")


def _check_local(file: TomlFile, read: NoticeFile, part: LocalTable) -> None:
    _check_year(file, read.year, "local.off", part.off)
    if not re.fullmatch(r"(?!00)[0-9]{6}", part.region):
        file.problem("local.region", part.region, "must be a code of six digits (GB/T 2260), like 450000")
    for day in sorted(part.off & read.work):
        file.problem("local.off", str(day), "is also listed as work")


def _check_year(file: TomlFile, year: int, key: str, days: frozenset[date]) -> None:
    for day in sorted(days):
        reaches_back = day.year == year - 1 and (day.month, day.day) >= _REACHES_BACK_TO
        if day.year != year and not reaches_back:
            file.problem(key, str(day), f"is not in {year}")


def _merge(known: CalendarYear, later: CalendarYear) -> CalendarYear:
    news = dict.fromkeys(later.off | later.work, later.source)
    return replace(
        known,
        complete=known.complete or later.complete,
        source="；".join(dict.fromkeys((*known.source.split("；"), later.source))),
        off=(known.off - later.work) | later.off,
        work=(known.work - later.off) | later.work,
        cited={**dict.fromkeys(known.off | known.work, known.source), **known.cited, **news},
    )
