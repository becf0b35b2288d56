"""Reads a form: what a person says of a recording, all of it checked, every problem with its field in two languages."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from agent.errors import RequestError
from agent.metadata.fields import FIELDS
from agent.metadata.kinds import Problem, Unfit
from agent.model import Forms

_MADE_AT: Final = ("用 capture-agent deadline state 说明", "is stated with `capture-agent deadline state`")
_DECLARED: Final = ("用 capture-agent deadline declare 说明", "is declared with `capture-agent deadline declare`")
_JOINED: Final = ("用 capture-agent activity 填写", "is said with `capture-agent activity`")
_ATTACHED: Final = ("用 capture-agent transcript 附上", "is attached with `capture-agent transcript`")
_AUTOMATIC: Final = ("由系统自动记录，不能填写", "is recorded by the agent, and can't be said")
_ELSEWHERE: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {"made_start_at": _MADE_AT, "made_end_at": _MADE_AT, "return_to_unit_at": _DECLARED, "transcript": _ATTACHED}
    | dict.fromkeys(("activity_id", "arrived_at", "left_at", "interruptions"), _JOINED)
    | dict.fromkeys(
        (
            "item_id", "media_type", "device", "tech", "digests", "deadline", "org_code", "org_name", "org_type",
            "source_path", "source_name_raw", "integrity_state", "ingested_by_station", "secured_local_at",
            "accepted_central_at", "central_receipt",
        ),
        _AUTOMATIC,
    )
)  # fmt: skip
"""What is in the record of a recording, and isn't said in its form."""

_SHOWN: Final = 40


def read_form(given: Mapping[str, object], forms: Forms) -> dict[str, object]:
    """The fields as they are kept: plain JSON, NFC; None withdraws one. Raises RequestError with all problems at once.

    Reading what it returned gives the same again.
    """
    found: dict[str, object] = {}
    problems: list[str] = []
    for name, value in given.items():
        try:
            found[name] = _read(name, value, forms)
        except Unfit as error:
            problems += map(_sentence, (problem.inside(ascii(name)[1:-1][:_SHOWN]) for problem in error.problems))
    if not given:
        problems.append("没有填写任何字段 / no field is given")
    if problems:
        do = "`capture-agent metadata fields` lists every field with what it takes."
        raise RequestError("\n".join(problems), safe="\nNothing was changed.", do=do)
    return found


def _read(name: str, value: object, forms: Forms) -> object:
    field = FIELDS.get(name)
    if field is None:
        raise Unfit(Problem("", *_unknown(name)))
    return None if value is None else field.kind.read(value, forms)


def _unknown(name: str) -> tuple[str, str]:
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    near = difflib.get_close_matches(name[:_SHOWN], FIELDS, 1, 0.5)
    zh, en = (f"，是否为 {near[0]}？", f"; did you mean {near[0]}?") if near else ("", "")
    return f"没有这个字段{zh}", f"there is no such field{en}"


def _sentence(problem: Problem) -> str:
    field = FIELDS.get(problem.field.split("[")[0].split(".")[0])
    return f"{problem.field}{f' {field.zh}' if field else ''}：{problem.zh} / {problem.en}"
