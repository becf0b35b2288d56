"""待补充 → 已补充 → 已核对: what art. 20 wants and a recording lacks, and how each thing that is said changes that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from agent.metadata.fields import FIELDS
from agent.model import ClockTrust, Completeness, Medium, Missing

Lacks = frozenset[Missing]

_SAID: Final = frozenset(missing for missing in Missing if missing.value in FIELDS)
"""What an officer's statement supplies; the rest comes from clocks, persons who state a time, and transcripts."""


def so_far(said: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """The fields in force after these statements, oldest first: the last word counts, None withdraws."""
    fields: dict[str, object] = {}
    for change in said:
        fields |= change
    return {name: value for name, value in fields.items() if value is not None}


def missing(medium: Medium, trust: ClockTrust, fields: Mapping[str, object], *, has_transcript: bool) -> Lacks:
    """What art. 20 wants and the recording lacks; a time of a clock that is plainly wrong is none."""
    lacks = {name for name in _SAID if fields.get(name) is None}
    if trust is ClockTrust.UNTRUSTED:
        lacks.add(Missing.MADE_AT)
    if medium is Medium.AUDIO and not has_transcript:
        lacks.add(Missing.TRANSCRIPT)
    return frozenset(lacks)


def after_statement(lacks: Lacks, change: Mapping[str, object]) -> Lacks:
    """What is lacking after one more statement."""
    said = {name for name in _SAID if name in change}
    return lacks - said | {name for name in said if change[name] is None}


def after_probe(lacks: Lacks, medium: Medium, *, has_transcript: bool) -> Lacks:
    """What is lacking when the content has told what the recording is."""
    rest = lacks - {Missing.TRANSCRIPT}
    return rest | {Missing.TRANSCRIPT} if medium is Medium.AUDIO and not has_transcript else rest


def completeness(lacks: Lacks, *, checked: bool) -> Completeness:
    """`checked`: somebody has checked all that is said now."""
    if lacks:
        return Completeness.INCOMPLETE
    return Completeness.CHECKED if checked else Completeness.FILLED
