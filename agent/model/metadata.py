"""Capture metadata: how complete it is, who may be named as maker, and what a bureau lets its forms hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum

from agent.model.naming import NamingRule


class Completeness(StrEnum):
    """How far the capture metadata of a recording has come, independent of where its bytes are."""

    INCOMPLETE = "incomplete"
    FILLED = "filled"
    CHECKED = "checked"


class OrgType(StrEnum):
    """What the bureau is in the sense of 鲁医保发〔2019〕60号《全过程记录办法》art. 2 and 25; unstated stays so."""

    UNSTATED = ""
    ADMINISTRATION = "administration"
    ENTRUSTED = "entrusted"
    AGENCY = "agency"


class Missing(StrEnum):
    """What art. 20 of 鲁医保发〔2019〕60号《全过程记录办法》 wants and a recording doesn't have yet."""

    METHOD = "method"
    MADE_AT = "made_at"
    MAKERS = "makers"
    PROOF_OBJECT = "proof_object"
    TRANSCRIPT = "transcript"


@dataclass(frozen=True, slots=True)
class Officer:
    """A person of the roster, with the enforcement certificate (执法证) and the days on which it is valid.

    `badge` is the 警号 that recorders write into file names; it proves nothing.
    """

    officer_id: str
    name: str
    cert_no: str = ""
    valid_from: date | None = None
    valid_until: date | None = None
    org: str = ""
    badge: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of the bureau's list of items that are recorded (音像记录事项清单)."""

    code: str
    title: str
    stage: str


@dataclass(frozen=True, slots=True)
class Forms:
    """What the bureau lets officers say: its stages (none: all), the form of its case numbers, roster and items.

    `names` are the rules by which a file's name proposes something, surest first. `refused` tells which lines of
    roster, items and rules were left out, without naming anybody.
    """

    stages: tuple[str, ...] = ()
    case_no: str = ""
    officers: Mapping[str, Officer] = field(default_factory=dict)
    items: Mapping[str, Item] = field(default_factory=dict)
    names: tuple[NamingRule, ...] = ()
    refused: tuple[str, ...] = ()
