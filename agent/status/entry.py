"""What an officer may still say of one docking: the form with what was said so far, the gaps, and what became of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

from agent.config import Config
from agent.deadline import Rules
from agent.journal import Reader
from agent.journal.segments import segment_of
from agent.journal.views import ActivityView, RecordingView
from agent.metadata import FIELDS, so_far
from agent.model import ActivityStated, Completeness, Forms, Medium, Missing
from agent.status.activities import activity_view
from agent.status.explain import deadline_view, verdict_of
from agent.status.record import labelled
from agent.status.words import at, named, words

Json = dict[str, Any]

ASKED: Final[Mapping[str, tuple[str, str]]] = {
    "proof_object": ("这些记录证明什么，至少 5 个字", "what these recordings prove, at least 5 characters"),
    "stage": ("", ""),
    "case_no": ("尚无案号请留空", "leave it empty while there is none"),
    "makers": (
        "每行一人：姓名/执法证号/角色，或 @名册编号；同行人员一并填写",
        "one a line: name/certificate/role, or @id of the roster; colleagues too",
    ),
    "persons_present": ("每行一人：身份/姓名", "one a line: role/name"),
    "method": ("", ""),
    "act_type": ("", ""),
    "place_text": ("", ""),
}
"""The fields of the kiosk's form in their order, with what to write; all others are said on the command line."""

_LINES: Final[Mapping[str, tuple[str, ...]]] = {
    "makers": ("name", "cert_no", "role", "officer"),
    "persons_present": ("role", "name"),
}
"""Fields of which each line is one entry, and its parts in their order."""

_SHOWN: Final = 200
_OFFICERS: Final = 60


def entry_view(reader: Reader, config: Config, docking_id: str, now: datetime) -> Json:
    """A docking with its recordings, the form for all of them at once, its activities and gaps, and its receipt.

    `seen` changes with whatever is said of them. Raises UnknownError if there is no such docking.
    """
    docking = reader.docking(docking_id)
    rows = [reader.recording(name) for name in reader.brought_by(docking_id)]
    versions = [f"{row.recording.recording_id} {row.metadata.version}" for row in rows]
    return {
        "docking_id": docking_id,
        "slot": docking.slot,
        "opened_at": at(docking.opened_at),
        "closed_at": at(docking.closed_at),
        "receipt": named(docking.clearing) if docking.clearing else None,
        "files": len(rows),
        "incomplete": sum(row.metadata.completeness is Completeness.INCOMPLETE for row in rows),
        "recordings": [_row(row, config, now) for row in rows[:_SHOWN]],
        "form": _form(reader, rows, config.forms),
        "officers": [{"id": one.officer_id, "name": one.name} for one in [*config.forms.officers.values()][:_OFFICERS]],
        "seen": hashlib.sha256("\n".join(versions).encode()).hexdigest()[:16],
        **_activities(reader, rows, config),
    }


def _row(row: RecordingView, config: Config, now: datetime) -> Json:
    limit, found = row.recording.deadline, verdict_of(row, config.deadline.satisfied_by, now)
    return {
        "name": row.name,
        "medium": named(row.recording.medium),
        "made_at": at(row.captured[1]),
        "state": named(row.asset.state),
        "completeness": named(row.metadata.completeness),
        "missing": [labelled(name) for name in Missing if name in row.metadata.lacks],
        "verdict": named(found) if found else None,
        "due_text": deadline_view(limit, row.captured[2], Rules(config.profile, config.calendars))["due_text"],
    }


def _form(reader: Reader, rows: Sequence[RecordingView], forms: Forms) -> list[Json]:
    """Each field with its text if it is the same in all; `mixed` if they differ, `wanted` if one lacks it.

    `entries` are what each line of the text was said as, so that a line that nobody touched stays what it was.
    """
    said = reader.statements([row.recording.recording_id for row in rows]).values()
    fields = [so_far(one.said.fields for one in documents) for documents in said]
    lacks = frozenset(chain.from_iterable(row.metadata.lacks for row in rows))
    return [_field(name, [found.get(name) for found in fields], lacks, forms) for name in ASKED]


def _field(name: str, values: Sequence[object], lacks: frozenset[Missing], forms: Forms) -> Json:
    field, texts = FIELDS[name], [written(name, value) for value in values]
    value = texts[0] if len(set(texts)) == 1 else ""
    entries = values[0] if value and name in _LINES else []
    assert isinstance(entries, list), "lines are those of a list"
    codes = {} if name in _LINES else field.kind.codes
    return {
        "name": name,
        **words(field.zh, field.en),
        "citation": field.citation,
        "hint": words(*ASKED[name]),
        "lines": name in _LINES,
        "options": [
            {"code": code, **words(f"{code} {one.zh}" if name == "stage" else one.zh, one.en)}
            for code, one in codes.items()
            if name != "stage" or not forms.stages or code in forms.stages
        ],
        "wanted": name in lacks,
        "mixed": len(set(texts)) > 1,
        "value": value,
        "entries": dict(zip(value.split("\n"), entries, strict=False)),
    }


def written(name: str, value: object) -> str:
    """A value that was said as the form writes it: one entry a line, its parts divided by "/"."""
    if isinstance(value, list):
        return "\n".join(_line([str(one.get(part, "")) for part in _LINES[name]]) for one in value)
    return "" if value is None else str(value)


def _line(parts: Sequence[str]) -> str:
    """The parts of an entry, without the empty ones at its end."""
    return "/".join(parts[: max((n for n, part in enumerate(parts, 1) if part), default=0)])


def said_in(field: Json, text: str) -> object:
    """What a text of the form says of a field, for `read_form`; None withdraws what was said."""
    if not field["lines"]:
        return text.strip() or None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [field["entries"].get(line, line) for line in lines] or None


# Activities and their gaps.


def _activities(reader: Reader, rows: Sequence[RecordingView], config: Config) -> Json:
    """The activities these recordings belong to; of those without one what it would be, with the gaps it would have."""
    of = {row.recording.recording_id: reader.activities_of(row.recording.recording_id) for row in rows}
    known = [reader.activity(name) for name in dict.fromkeys(chain.from_iterable(of.values()))]
    loose = [row for row in rows if not of[row.recording.recording_id] and row.recording.medium is not Medium.OTHER]
    likely = _likely(loose)
    codes = [one for one in config.profile.interruptions if not one.automatic]
    return {
        "activities": [activity_view(one, config.profile) for one in known],
        "likely": activity_view(likely, config.profile) if likely is not None else None,
        "loose": [row.recording.recording_id for row in loose],
        "causes": [{"code": one.code, **words(one.zh, one.en), "citation": one.citation} for one in codes],
        "article": config.profile.interruption,
    }


def _likely(rows: Sequence[RecordingView]) -> ActivityView | None:
    """From the beginning of the first recording to the end of the last, as far as clocks can be trusted."""
    parts = [part for part in map(segment_of, rows) if part.placed]
    if not parts:
        return None
    start, end = min(part.start for part in parts), max(part.end for part in parts)
    names = tuple(row.recording.recording_id for row in rows)
    return ActivityView(ActivityStated("", "", start, end, names, "", ""), tuple(rows), (), 0)
