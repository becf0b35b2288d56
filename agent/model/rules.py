"""Legal rules as data: `config` reads them, `deadline` computes with them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from enum import StrEnum


class Rule(StrEnum):
    """How a jurisdiction counts its time limit."""

    WORKING_DAYS = "working_days"
    SAME_DAY = "same_day"


@dataclass(frozen=True, slots=True)
class Profile:
    """One jurisdiction's rule with the article it comes from; `days` is 0 for the same-day rule."""

    name: str
    title: str
    rule: Rule
    days: int
    citation: str
    computation: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CalendarYear:
    """The holiday notice of one year: days `off` and make-up `work` days; not `complete` means only partly known."""

    year: int
    complete: bool
    source: str
    issued: date | None = None
    off: frozenset[date] = frozenset()
    work: frozenset[date] = frozenset()
