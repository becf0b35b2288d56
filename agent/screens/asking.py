"""Forms of persons that ask the station's own verbs: what was sent, what became of it, and what goes on meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from agent.errors import AgentError, AwayError, CommitError, RequestError, StoreError
from agent.status.refusals import Words, told
from agent.status.words import words

Verb = Callable[[dict[str, str]], Awaitable[dict[str, object]]]
Json = dict[str, Any]
Notice = tuple[str, str, str]
"""How it looks, and what it says in Chinese and English."""

NOTICES: Final[Mapping[str, Notice]] = {
    "saved": ("good", "已保存", "saved"),
    "same": ("calm", "没有改动", "nothing was changed"),
    "slow": ("warn", "正在保存，请稍后查看；原始资料安全", "still being saved: look again in a moment"),
}
MEANWHILE: Final[Notice] = (
    "warn",
    "其间已有人填写，未保存；原始资料安全，请核对后重新填写",
    "somebody else has filled it in since: nothing was saved, the originals are safe; look at it again",
)
NO_GAP: Final[Notice] = (
    "warn",
    "此活动中已没有这段中断（可能已采集到新的资料），未保存；原始资料安全，请核对后重新填写",
    "the activity has no such gap any more: nothing was saved, the originals are safe; look at it again",
)
_LIMIT_S: Final = 4.0
_FIELD_LIMIT: Final = 4000
_REFUSED: Final = ("warn", "未保存，请更正；原始资料安全", "not saved, please correct it; the originals are safe")
_BROKEN: Final = (CommitError, StoreError)
_NOT_KEPT: Final = (
    "bad",
    "未保存：本站磁盘拒绝写入，请联系管理员；已采集的资料安全",
    "not saved: this station's disk refuses, call the administrator; what was pulled is safe",
)
_AWAY: Final = (
    "bad",
    "未保存：本站暂时无法读写流转记录，请稍候再试，如持续出现请联系管理员；已采集的资料安全",
    "not saved: the journal can't be used now, try again or call the administrator; what was pulled is safe",
)
_NO_RECORDING: Final = "-"
"""Follows a gap that goes on to the end: who says that it was spoken there is told that it can't be."""
_ANEW: Final = words("请更正后重新填写", "correct it and fill it in again")


class Asking:
    """Asks verbs. What is being written goes on when who asked is gone, and is waited for at the end."""

    def __init__(self, verbs: Mapping[str, Verb]) -> None:
        self._verbs = verbs
        self._under_way: set[asyncio.Task[dict[str, object]]] = set()

    async def close(self, _: web.Application) -> None:
        """Wait for what is being written."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    async def ask(self, verb: str, said: dict[str, str]) -> dict[str, object] | None:
        """The verb's answer, None if it takes longer than a page may; raises AgentError, also if it is no request."""
        task = asyncio.create_task(_asked(self._verbs[verb], said))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return task.result() if (await asyncio.wait([task], timeout=_LIMIT_S))[0] else None


async def _asked(verb: Verb, said: dict[str, str]) -> dict[str, object]:
    try:
        return await verb(said)
    except ValueError as error:
        raise RequestError(str(error), safe="Nothing was changed.") from error


async def form_of(request: web.Request) -> dict[str, str]:
    """The fields of the form that are texts; raises HTTPBadRequest for more than fits, never silent about it."""
    posted = await request.post()
    asked = {name: text.replace("\r\n", "\n") for name, text in posted.items() if isinstance(text, str)}
    if any(len(text) > _FIELD_LIMIT for text in asked.values()):
        what = f"未保存：每项至多 {_FIELD_LIMIT} 字 (nothing was saved: at most {_FIELD_LIMIT} characters a field)"
        raise web.HTTPBadRequest(text=what)
    return asked


def became(error: AgentError) -> tuple[Notice, HTTPStatus]:
    """What to tell of an entry that was not taken down."""
    if isinstance(error, _BROKEN):
        return _NOT_KEPT, HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, AwayError):
        return _AWAY, HTTPStatus.SERVICE_UNAVAILABLE
    return _REFUSED, HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, RequestError) else HTTPStatus.CONFLICT


def problems_of(error: AgentError) -> list[Words]:
    """What is wrong, a line each; what to do on a command line is nothing for the kiosk."""
    return [told(line, _ANEW) for line in error.what.strip().split("\n")]


def told_of(notice: Notice | None) -> dict[str, str] | None:
    """A notice as the templates show it."""
    return dict(zip(("look", "zh", "en"), notice, strict=True)) if notice else None


@dataclass(frozen=True, slots=True)
class Told:
    """What a form is shown with again: the notice, what is wrong, and what somebody wrote that was not taken down."""

    notice: Notice | None = None
    problems: Sequence[Words] = ()
    typed: Mapping[str, str] = field(default_factory=dict)
    status: int = HTTPStatus.OK

    def values(self) -> Json:
        """For the template."""
        return {"told": told_of(self.notice), "problems": self.problems, "typed": self.typed}


def refused(error: AgentError, typed: Mapping[str, str]) -> Told:
    """What to tell of an entry that was refused, and keep of it."""
    notice, status = became(error)
    return Told(notice, problems_of(error), typed, status)


def gap_said(view: Json, asked: Mapping[str, str]) -> dict[str, str] | None:
    """What the verb `activity_explain` is to be told of a gap; None if the view has no such gap (any more)."""
    meant = asked.get("from"), asked.get("to"), asked.get("device", "")
    gaps = (
        gap
        for activity in view["activities"] if activity["activity_id"] == asked.get("activity")
        for gap in activity["gaps"] if (gap["from"], gap["to"], gap["device_id"]) == meant
    )  # fmt: skip
    if (gap := next(gaps, None)) is None:
        return None
    said = {name: asked.get(name, "").strip() for name in ("from", "to", "code", "why", "ended", "statement")}
    if offset := asked.get("offset", "").strip():
        said |= {"voice": gap["after"] or _NO_RECORDING, "offset_ms": f"{offset}000"}
    return said | {"id": asked["activity"], "device": gap["device_id"]}
