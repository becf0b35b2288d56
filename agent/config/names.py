"""Reads the rules by which recorders name their files: patterns that can't take long, proven by their own examples."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.config.options import TomlFile, Unfit, choice, flag, identifier, option, tables, text, texts
from agent.model import Confidence, NamingRule, Proposal
from agent.naming import GROUPS, proposed

_FILES_LIMIT: Final = 64
_RULES_LIMIT: Final = 200
_PATTERN_LIMIT: Final = 200
_WAYS_LIMIT: Final = 10_000
_SAID: Final = ("officer", "device", "time", "number", "part", "channel", "marked")
_TIME: Final = re.compile(r"(?:%[YymdHMS]|[-_. T])+")
_CHARACTER: Final = r"\\[dwDW.+()\[\]{}|^$*?-]|\[\^?(?:\\[dw\]^-]|[^\]\\\[])+\]|[^\\()\[\]{}*+?|^$]"
_TOKEN: Final = re.compile(
    rf"(?P<open>\((?:\?P<[a-z]+>|\?:))|(?P<close>\)\??)|(?P<bar>\|)"
    rf"|(?:{_CHARACTER})(?P<often>\?|\{{(?P<low>\d{{1,2}})(?:,(?P<high>\d{{1,2}}))?\}})?"
)


def _pattern(value: object) -> str:
    """A pattern that can be matched in few ways whatever the text is: what repeats does so a bounded number of times,
    and no group repeats. So a name takes no longer than so many steps for each of its characters.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _PATTERN_LIMIT:
        raise Unfit(f"must be a pattern of at most {_PATTERN_LIMIT} characters")
    at, ways = 0, 1
    while at < len(value):
        token = _TOKEN.match(value, at)
        if token is None:
            raise Unfit(
                f"can't have {value[at : at + 12]!r}: only characters, classes, {{n,m}}, ?, (?P<name>…) and (?:…)"
            )
        low, high = int(token["low"] or 0), int(token["high"] or token["low"] or 0)
        choices = 2 if token["often"] == "?" or token["close"] == ")?" or token["bar"] else high - low + 1
        ways *= max(1, choices)
        at = token.end()
    if ways > _WAYS_LIMIT:
        raise Unfit(f"can be matched in {ways} ways, more than {_WAYS_LIMIT}: state lengths more narrowly")
    try:
        groups = re.compile(value).groupindex.keys()
    except re.error as error:
        raise Unfit(f"is no pattern: {error}") from None
    if unknown := sorted(groups - set(GROUPS)):
        raise Unfit(f"has a group {unknown[0]}; known are {', '.join(GROUPS)}")
    return value


def _time(value: object) -> str:
    if isinstance(value, str) and len(value) <= 40 and _TIME.fullmatch(value):
        return value
    raise Unfit('must be a time like "%Y%m%d%H%M%S", of %Y %y %m %d %H %M %S and dividers')


@dataclass(frozen=True, slots=True)
class RuleTable:
    """[[rule]] of names/*.toml."""

    id: str = identifier("")
    confidence: Confidence = choice(Confidence.LOW)
    name: str = option("", "pattern", _pattern)
    folder: str = option("", "pattern", _pattern)
    time: str = option("", "time", _time)
    endings: tuple[str, ...] = texts()
    marked: bool = flag(default=False)
    example: tuple[Mapping[str, object], ...] = tables()
    other: tuple[str, ...] = texts()


@dataclass(frozen=True, slots=True)
class ExampleTable:
    """[[rule.example]]: a path, and all that the rule has to read in it."""

    path: str = text("", 300, shortest=1)
    officer: str = text("", 64)
    device: str = text("", 64)
    time: str = text("", 19)
    number: str = text("", 20)
    part: str = text("", 20)
    channel: str = text("", 20)
    marked: bool = flag(default=False)


@dataclass(frozen=True, slots=True)
class NamesFile:
    """names/*.toml: how recorders of one kind name their files, and where that was seen."""

    title: str = text("", 64, shortest=1)
    source: str = text("", 300, shortest=1)
    rule: tuple[Mapping[str, object], ...] = tables()


def read_names(folder: Path, problems: list[str]) -> tuple[NamingRule, ...]:
    """All rules, surest first, then by file and place; one that is wrong is left out and told in `problems`."""
    found: list[NamingRule] = []
    paths = sorted(folder.glob("*.toml"))
    if len(paths) > _FILES_LIMIT:
        problems.append(f"{folder}: has {len(paths)} files; only the first {_FILES_LIMIT} are read")
    for path in paths[:_FILES_LIMIT]:
        file = TomlFile(path, problems, names_people=True)
        document = file.document()
        if document:
            file.require(document, ("title", "source", "rule"))
        read = file.section(NamesFile, document)
        for rule in _rules(file, path.stem, read, problems):
            if any(rule.rule_id == other.rule_id for other in found):
                file.problem("rule.id", rule.rule_id, "is there twice")
            elif len(found) >= _RULES_LIMIT:
                file.problem("rule.id", rule.rule_id, f"is one too many: only {_RULES_LIMIT} rules are read")
            else:
                found.append(rule)
    order = list(Confidence)
    return tuple(sorted(found, key=lambda rule: order.index(rule.confidence)))


def _rules(file: TomlFile, stem: str, read: NamesFile, problems: list[str]) -> Iterator[NamingRule]:
    for table in read.rule:
        before = len(problems)
        one = file.section(RuleTable, table, "rule")
        file.require(table, ("id", "confidence", "name", "example"), "rule.")
        if len(problems) == before and (rule := _rule(file, stem, read.title, one)) is not None:
            _prove(file, rule, one)
            if len(problems) == before:
                yield rule


def _rule(file: TomlFile, stem: str, title: str, one: RuleTable) -> NamingRule | None:
    name, folders = (re.compile(one.name, re.ASCII | re.IGNORECASE), re.compile(one.folder, re.ASCII | re.IGNORECASE))
    twice = name.groupindex.keys() & folders.groupindex.keys()
    has_time = not {"day", "time"}.isdisjoint({*name.groupindex, *folders.groupindex})
    if twice or has_time != bool(one.time):
        reason = f"has {min(twice)} twice" if twice else "needs a group day or time and the key time, or neither"
        file.problem("rule.name", one.name, reason)
        return None
    endings = frozenset(f".{ending.upper()}" for ending in one.endings)
    depth = re.sub(r"\[[^]]*]", "", one.folder).count("/") + 1 if one.folder else 0
    where = folders if one.folder else None
    return NamingRule(f"{stem}/{one.id}", title, one.confidence, name, where, depth, one.time, endings, one.marked)


def _prove(file: TomlFile, rule: NamingRule, one: RuleTable) -> None:
    """A rule is worth what its examples show."""
    if not one.example:
        file.problem("rule.example", rule.rule_id, "there must be at least one [[rule.example]]")
    for table in one.example:
        wanted = file.section(ExampleTable, table, "rule.example")
        found = proposed([rule], wanted.path)
        if found is None:
            file.problem("rule.example.path", wanted.path, f"does not fit rule {rule.rule_id}")
        elif other := sorted(name for name, _ in _said(found).items() ^ _said(wanted).items()):
            file.problem("rule.example.path", wanted.path, f"gives another {other[0]} by rule {rule.rule_id}")
    for path in one.other:
        if proposed([rule], path) is not None:
            file.problem("rule.other", path, f"fits rule {rule.rule_id}, and must not")


def _said(found: ExampleTable | Proposal) -> dict[str, object]:
    """What a name says, in the words of an example."""
    values = {name: getattr(found, name) for name in _SAID} | {"time": str(found.time or "")[:19]}
    return {name: value for name, value in values.items() if value}
