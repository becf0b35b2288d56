"""Reads what a file's name proposes, by the bureau's rules: who, with what, when, which one. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from agent.model import NamingRule, Proposal
from agent.sequence import Name, is_marked, name_of

GROUPS: Final = ("officer", "device", "day", "time", "number", "part", "channel", "mark")
"""What a rule's groups may be called; what `day` and `time` fit is read as one text."""

LONGEST: Final = 1024
"""A path with more characters fits no rule."""

_CHINA: Final = timezone(timedelta(hours=8))
_FIRST_YEAR: Final = 2000


def proposed(rules: Iterable[NamingRule], path: str) -> Proposal | None:
    """What the first rule that fits says of a path on a recorder; None if none fits, or its time is none."""
    name = name_of(path)
    if len(path) > LONGEST:
        return None
    return next((found for rule in rules if (found := _read(rule, name)) is not None), None)


def is_important(rules: Iterable[NamingRule], path: str) -> bool:
    """Whether the recorder marked a file as important (重点): by what stands behind its number, or by a rule."""
    found = None if is_marked(path) else proposed(rules, path)
    return is_marked(path) or (found is not None and found.marked)


def _read(rule: NamingRule, name: Name) -> Proposal | None:
    stem = rule.stem.fullmatch(name.stem)
    if stem is None or (rule.endings and name.suffix not in rule.endings):
        return None
    said: Mapping[str, str | None] = stem.groupdict()
    if rule.folders is not None:
        folders = rule.folders.fullmatch("/".join(name.folder.split("/")[-rule.depth :]))
        if folders is None:
            return None
        said = {**said, **folders.groupdict()}
    time = (said.get("day") or "") + (said.get("time") or "")
    at = _time(time, rule.time) if time else None
    if time and at is None:
        return None
    parts = {part: said.get(part) or "" for part in ("officer", "device", "number", "part", "channel")}
    return Proposal(rule.rule_id, rule.confidence, time=at, marked=rule.marked or bool(said.get("mark")), **parts)


def _time(text: str, form: str) -> datetime | None:
    try:
        at = datetime.strptime(text, form).replace(tzinfo=UTC)
    except ValueError:
        return None
    return at.replace(tzinfo=_CHINA) if at.year >= _FIRST_YEAR else None
