"""待补充 → 已补充 → 已核对: what art. 20 wants and a recording lacks, and how each thing that is said changes that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from agent.metadata.fields import FIELDS
from agent.model import ClockTrust, Completeness, Medium, Missing

Lacks = frozenset[Missing]

_SAID: Final = frozenset(missing for missing in Missing if missing.value in FIELDS)
"""What an officer's statement supplies; the rest comes from clocks, persons who state a time, and transcripts."""

_DOUBTED: Final = frozenset({ClockTrust.UNTRUSTED, ClockTrust.CONTRADICTED})


def so_far(said: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """The fields in force after these statements, oldest first: the last word counts, None withdraws."""
    fields: dict[str, object] = {}
    for change in said:
        fields |= change
    return {name: value for name, value in fields.items() if value is not None}


def missing(medium: Medium, trust: ClockTrust, fields: Mapping[str, object], *, has_transcript: bool) -> Lacks:
    """What art. 20 wants and the recording lacks; a time that is plainly wrong or contradicted is none."""
    lacks = {name for name in _SAID if fields.get(name) is None}
    return frozenset(lacks) | _automatic(medium, trust, has_transcript=has_transcript)


def _automatic(medium: Medium, trust: ClockTrust, *, has_transcript: bool) -> Lacks:
    wanted = {Missing.MADE_AT: trust in _DOUBTED, Missing.TRANSCRIPT: medium is Medium.AUDIO and not has_transcript}
    return frozenset(name for name, is_wanted in wanted.items() if is_wanted)


def after_statement(lacks: Lacks, change: Mapping[str, object]) -> Lacks:
    """What is lacking after one more statement."""
    said = {name for name in _SAID if name in change}
    return lacks - said | {name for name in said if change[name] is None}


def after_probe(lacks: Lacks, medium: Medium, trust: ClockTrust, *, has_transcript: bool) -> Lacks:
    """What is lacking when the content has told what the recording is, and whether its time can be believed."""
    return (lacks & _SAID) | _automatic(medium, trust, has_transcript=has_transcript)


def completeness(lacks: Lacks, *, checked: bool) -> Completeness:
    """`checked`: somebody has checked all that is said now."""
    if lacks:
        return Completeness.INCOMPLETE
    return Completeness.CHECKED if checked else Completeness.FILLED
