"""The screen at the dock, and what officers say there of a docking; it reads, and asks the station's own verbs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from agent.errors import AgentError, AwayError, CommitError, RequestError, StoreError, UnknownError
from agent.screens.answers import TEXT_LIMIT, answer, parameters
from agent.screens.pages import page
from agent.screens.who import WHO, Role, allowed
from agent.status.board import Board
from agent.status.entry import said_in
from agent.status.refusals import refusal, told
from agent.status.views import to_json
from agent.status.words import words

Verb = Callable[[dict[str, str]], Awaitable[dict[str, object]]]
Json = dict[str, Any]

_ALL: Final = (Role.KIOSK, Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
_SAY: Final = (Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN)
_WHY: Final = "采集站补充信息 (filled in at the kiosk)"
_LIMIT_S: Final = 4.0
_FIELD_LIMIT: Final = 4000
_NOTICES: Final[Mapping[str, tuple[str, str, str]]] = {
    "saved": ("good", "已保存", "saved"),
    "same": ("calm", "没有改动", "nothing was changed"),
    "slow": ("warn", "正在保存，请稍后查看；原始资料安全", "still being saved: look again in a moment"),
}
_REFUSED: Final = ("warn", "未保存，请更正；原始资料安全", "not saved, please correct it; the originals are safe")
_BROKEN: Final = (CommitError, StoreError)
_NOT_KEPT: Final = (
    "bad",
    "未保存：本站磁盘拒绝写入，请联系管理员；已采集的资料安全",
    "not saved: this station's disk refuses, call the administrator; what was pulled is safe",
)
_MEANWHILE: Final = (
    "warn",
    "其间已有人填写，未保存；原始资料安全，请核对后重新填写",
    "somebody else has filled it in since: nothing was saved, the originals are safe; look at it again",
)
_NO_GAP: Final = (
    "warn",
    "此活动中已没有这段中断（可能已采集到新的资料），未保存；原始资料安全，请核对后重新填写",
    "the activity has no such gap any more: nothing was saved, the originals are safe; look at it again",
)
_AWAY: Final = (
    "bad",
    "未保存：本站暂时无法读写流转记录，请稍候再试，如持续出现请联系管理员；已采集的资料安全",
    "not saved: the journal can't be used now, try again or call the administrator; what was pulled is safe",
)
_ANEW: Final = words("请更正后重新填写", "correct it and fill it in again")


class Kiosk:
    """The handlers. What is being written goes on when who asked is gone, and is waited for at the end."""

    def __init__(self, board: Board, verbs: Mapping[str, Verb]) -> None:
        self._board = board
        self._verbs = verbs
        self._under_way: set[asyncio.Task[dict[str, object]]] = set()

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/kiosk", self.dock),
            web.get("/api/v1/kiosk", self.state),
            web.get("/kiosk/receipt/{docking}", self.receipt),
            web.get("/kiosk/dockings/{docking}", self.entry),
            web.post("/kiosk/dockings/{docking}", self.say),
            web.post("/kiosk/dockings/{docking}/activity", self.join),
            web.post("/kiosk/dockings/{docking}/gap", self.explain),
        ]

    async def close(self, _: web.Application) -> None:
        """Wait for what is being written."""
        if self._under_way:
            await asyncio.wait(self._under_way)

    @allowed(*_ALL, page=True)
    async def dock(self, request: web.Request) -> web.Response:
        """Each slot in its place, for everybody who stands there."""
        return page(request, "kiosk.html", **await self._board.kiosk())

    @allowed(*_ALL)
    async def state(self, request: web.Request) -> web.Response:
        """The same as JSON; no recording and no person is named."""
        parameters(request)
        return answer(request, to_json(await self._board.kiosk()))

    @allowed(*_ALL, page=True)
    async def receipt(self, request: web.Request) -> web.Response:
        """The newest receipt of a docking, to show and to print."""
        try:
            paper = await self._board.receipt_body(_docking(request))
        except AgentError as error:
            return _message(request, error)
        return page(request, "kiosk_receipt.html", paper=Markup(paper))  # noqa: S704 - made with everything escaped

    @allowed(*_SAY, page=True)
    async def entry(self, request: web.Request) -> web.Response:
        """The form of a docking, with all that was said of it."""
        notice = _NOTICES.get(request.query.get("told", ""))
        return await self._shown(request, notice)

    @allowed(*_SAY)
    async def say(self, request: web.Request) -> web.Response:
        """Take down what was changed in the form, of all recordings of the docking at once."""
        asked = await _form(request)
        entry = await self._board.entry(_docking(request))
        fields = {field["name"]: field for field in entry["form"]}
        texts = {name: asked.get(name, field["value"]) for name, field in fields.items()}
        said = {name: said_in(field, texts[name]) for name, field in fields.items()}
        changed = {name: value for name, value in said.items() if value != said_in(fields[name], fields[name]["value"])}
        if not changed:
            return _to(request, "same")
        if asked.get("seen") != entry["seen"]:
            return await self._shown(request, _MEANWHILE, texts=texts, status=HTTPStatus.CONFLICT)
        form = {"fields": json.dumps(changed), "docking": entry["docking_id"]}
        return await self._done(request, "metadata_set", form, texts)

    @allowed(*_SAY)
    async def join(self, request: web.Request) -> web.Response:
        """State the activity that the recordings without one were made in."""
        asked = await _form(request)
        entry = await self._board.entry(_docking(request))
        said = {name: asked.get(name, "") for name in ("stage", "arrived", "left")}
        return await self._done(request, "activity_state", said | {"recordings": " ".join(entry["loose"])})

    @allowed(*_SAY)
    async def explain(self, request: web.Request) -> web.Response:
        """Explain a gap in an activity of this docking: the cause, in words, by voice or in writing."""
        asked = await _form(request)
        entry = await self._board.entry(_docking(request))
        gap = _gap(entry, asked)
        if gap is None:
            return await self._shown(request, _NO_GAP, texts=asked, status=HTTPStatus.CONFLICT)
        said = {name: asked.get(name, "").strip() for name in ("from", "to", "code", "why", "ended", "statement")}
        said["id"] = asked["activity"]
        if offset := asked.get("offset", "").strip():
            said |= {"voice": gap["after"], "offset_ms": f"{offset}000"}
        return await self._done(request, "activity_explain", said, asked)

    async def _done(
        self, request: web.Request, verb: str, said: dict[str, str], texts: Mapping[str, str] | None = None
    ) -> web.Response:
        """Ask a verb in the name of who has signed in; then the form again, with what became of it."""
        task = asyncio.create_task(_asked(self._verbs[verb], {"why": _WHY} | said | {"who": request[WHO].account}))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        if not (await asyncio.wait([task], timeout=_LIMIT_S))[0]:
            return _to(request, "slow")
        try:
            task.result()
        except AgentError as error:
            notice, status = _became(error)
            return await self._shown(request, notice, _problems(error), texts=texts, status=status)
        return _to(request, "saved")

    async def _shown(
        self,
        request: web.Request,
        notice: tuple[str, str, str] | None,
        problems: list[dict[str, str]] | None = None,
        *,
        texts: Mapping[str, str] | None = None,
        status: int = HTTPStatus.OK,
    ) -> web.Response:
        """The form; `texts` are what somebody wrote that was not taken down."""
        try:
            entry = await self._board.entry(_docking(request))
        except AgentError as error:
            return _message(request, error)
        for field in entry["form"]:
            field["value"] = (texts or {}).get(field["name"], field["value"])
        shown = dict(zip(("look", "zh", "en"), notice, strict=True)) if notice else None
        values = entry | {"told": shown, "problems": problems or [], "typed": texts or {}}
        return page(request, "kiosk_entry.html", status, **values)


async def _asked(verb: Verb, said: dict[str, str]) -> dict[str, object]:
    """The verb's answer; raises AgentError, also for what is no request."""
    try:
        return await verb(said)
    except ValueError as error:
        raise RequestError(str(error), safe="Nothing was changed.") from error


async def _form(request: web.Request) -> dict[str, str]:
    """The fields of the form that are texts; raises HTTPBadRequest for more than fits, never silent about it."""
    posted = await request.post()
    asked = {name: text.replace("\r\n", "\n") for name, text in posted.items() if isinstance(text, str)}
    if any(len(text) > _FIELD_LIMIT for text in asked.values()):
        what = f"未保存：每项至多 {_FIELD_LIMIT} 字 (nothing was saved: at most {_FIELD_LIMIT} characters a field)"
        raise web.HTTPBadRequest(text=what)
    return asked


def _became(error: AgentError) -> tuple[tuple[str, str, str], HTTPStatus]:
    """What to tell of an entry that was not taken down."""
    if isinstance(error, _BROKEN):
        return _NOT_KEPT, HTTPStatus.SERVICE_UNAVAILABLE
    if isinstance(error, AwayError):
        return _AWAY, HTTPStatus.SERVICE_UNAVAILABLE
    return _REFUSED, HTTPStatus.UNPROCESSABLE_ENTITY if isinstance(error, RequestError) else HTTPStatus.CONFLICT


def _gap(entry: Json, asked: Mapping[str, str]) -> Json | None:
    """The gap that is meant, if it is one of this docking's activities and still there."""
    gaps = (
        gap
        for activity in entry["activities"] if activity["activity_id"] == asked.get("activity")
        for gap in activity["gaps"] if (gap["from"], gap["to"]) == (asked.get("from"), asked.get("to"))
    )  # fmt: skip
    return next(gaps, None)


def _docking(request: web.Request) -> str:
    return request.match_info["docking"][:TEXT_LIMIT]


def _to(request: web.Request, became: str) -> web.Response:
    """Behind a form the page itself, so that loading it again enters nothing twice."""
    return web.Response(
        status=HTTPStatus.SEE_OTHER, headers={"Location": f"/kiosk/dockings/{_docking(request)}?told={became}"}
    )


def _message(request: web.Request, error: AgentError) -> web.Response:
    status = HTTPStatus.NOT_FOUND if isinstance(error, UnknownError | RequestError) else HTTPStatus.SERVICE_UNAVAILABLE
    return page(request, "kiosk_message.html", status, **refusal(status, error.what), back="/kiosk")


def _problems(error: AgentError) -> list[dict[str, str]]:
    """What is wrong, a line each; what to do on a command line is nothing for the kiosk."""
    return [told(line, _ANEW) for line in error.what.strip().split("\n")]
