"""Legal rules as data: `config` reads them, `deadline` computes with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, time
from enum import StrEnum


class RuleKind(StrEnum):
    """How a rule counts its time limit."""

    WORKING_DAYS = "working_days"
    SAME_DAY = "same_day"
    HOURS_AFTER = "hours_after"


@dataclass(frozen=True, slots=True)
class Rule:
    """One time limit with the article it comes from.

    `days` for working_days. `hours` after the `event` that a person declares, for one of the `causes` ("CODE words"),
    for hours_after; such a rule stands in place of the one of kind `instead_of`. Not `binding`: no law gives a number,
    it is a target that the bureau set itself.
    """

    kind: RuleKind
    citation: str
    days: int = 0
    hours: int = 0
    event: str = ""
    causes: tuple[str, ...] = ()
    instead_of: str = ""
    binding: bool = True

    @property
    def name(self) -> str:
        """What the rule is called in the journal, like "working_days:2"."""
        number = {RuleKind.WORKING_DAYS: f":{self.days}", RuleKind.HOURS_AFTER: f":{self.hours}:{self.event}"}
        return self.kind.value + number.get(self.kind, "")


class Duty(StrEnum):
    """What a document asks for at a stage, from the least to the most: nothing, recording, 全程音像记录.

    MUST: recording or photographs, without a word about the whole course.
    """

    SILENT = "silent"
    MAY = "may"
    SHOULD = "should"
    MUST = "must"
    MUST_FULL = "must_full"


@dataclass(frozen=True, slots=True)
class Obligation:
    """What is to be recorded at a stage, with its article; a `condition` in words is stated by a person, or not."""

    stage: str
    duty: Duty
    citation: str = ""
    condition: str = ""


@dataclass(frozen=True, slots=True)
class Interruption:
    """A code for why recording was interrupted; without `citation` it is ours, and in no article.

    `objective`: a cause that lies outside the officers (客观原因). `confirm`: a supervisor has to accept it.
    `automatic`: the system says it, no person.
    """

    code: str
    zh: str
    en: str
    citation: str = ""
    objective: bool = True
    confirm: bool = False
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """One jurisdiction's rules; of those that apply the earliest wins. `uncovered` tells what they leave out.

    `office_closes` is the time of day of the internal target, which is shown and binds nobody. `interruption` cites
    the article that asks for an explanation of every interruption, by voice or in writing; empty where none does.
    `interruptions` are the codes for that, the same for all jurisdictions.
    `stages` are the codes of those that it has (none: all), `case_no` is the pattern of its case numbers.
    """

    name: str
    title: str
    rules: tuple[Rule, ...]
    computation: tuple[str, ...] = ()
    uncovered: tuple[str, ...] = ()
    office_closes: time = time(17)
    interruption: str = field(default="", repr=False)
    obligations: tuple[Obligation, ...] = field(default=(), repr=False)
    interruptions: tuple[Interruption, ...] = field(default=(), repr=False)
    # What its forms hold; kept out of the text that limits are digested with.
    stages: tuple[str, ...] = field(default=(), repr=False)
    case_no: str = field(default="", repr=False)

    @property
    def citation(self) -> str:
        """The articles of the rules."""
        return "；".join(dict.fromkeys(rule.citation for rule in self.rules))


@dataclass(frozen=True, slots=True)
class CalendarYear:
    """The holiday notice of one year: days `off` and make-up `work` days; not `complete` means only partly known.

    `cited` names the source of a day that another file than the year's first one has settled.
    """

    year: int
    complete: bool
    source: str
    issued: date | None = None
    off: frozenset[date] = frozenset()
    work: frozenset[date] = frozenset()
    cited: Mapping[date, str] = field(default_factory=dict)
