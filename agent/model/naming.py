"""How recorders name their files: rules as data, and what a name proposes, which is never a fact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Confidence(StrEnum):
    """How far a rule's reading can be believed: HIGH only where hardly anything else is named so."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@dataclass(frozen=True, slots=True)
class NamingRule:
    """One way of naming: `stem` fits the whole name without its ending, `folders` the last `depth` folders, if any.

    Named groups of both are the fields of a Proposal; `time` is how the group of that name is written (strptime), and
    `endings`, in capitals with their dot, are those it is for (none: all). `marked`: what is named so is 重点.
    """

    rule_id: str
    title: str
    confidence: Confidence
    stem: re.Pattern[str]
    folders: re.Pattern[str] | None = None
    depth: int = 0
    time: str = ""
    endings: frozenset[str] = frozenset()
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Proposal:
    """What a name says by a rule: 警号, 设备号, a time of the recording, 序号, which part, which channel, and 重点.

    Everything as it is written, "" and None where the name has no such part; a time without zone is China's.
    """

    rule_id: str
    confidence: Confidence
    officer: str = ""
    device: str = ""
    time: datetime | None = None
    number: str = ""
    part: str = ""
    channel: str = ""
    marked: bool = False
