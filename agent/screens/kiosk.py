"""The screen at the dock, and what officers say there of a docking; it reads, and asks the station's own verbs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from agent.errors import AgentError, RequestError, UnknownError
from agent.screens.answers import TEXT_LIMIT, answer, parameters
from agent.screens.asking import (
    MEANWHILE,
    NO_GAP,
    NOTICES,
    Asking,
    Notice,
    Verb,
    became,
    form_of,
    gap_said,
    problems_of,
    told_of,
)
from agent.screens.pages import page
from agent.screens.who import WHO, Role, allowed
from agent.status.board import Board
from agent.status.entry import said_in
from agent.status.refusals import refusal
from agent.status.views import to_json

__all__ = ["Kiosk", "Verb"]

Json = dict[str, Any]

_ALL: Final = (Role.KIOSK, Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
_SAY: Final = (Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN)
_WHY: Final = "采集站补充信息 (filled in at the kiosk)"


class Kiosk:
    """The handlers."""

    def __init__(self, board: Board, verbs: Mapping[str, Verb]) -> None:
        self._board = board
        self._asking = Asking(verbs)
        self.close = self._asking.close

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
        notice = NOTICES.get(request.query.get("told", ""))
        return await self._shown(request, notice)

    @allowed(*_SAY)
    async def say(self, request: web.Request) -> web.Response:
        """Take down what was changed in the form, of all recordings of the docking at once."""
        asked = await form_of(request)
        entry = await self._board.entry(_docking(request))
        fields = {field["name"]: field for field in entry["form"]}
        texts = {name: asked.get(name, field["value"]) for name, field in fields.items()}
        said = {name: said_in(field, texts[name]) for name, field in fields.items()}
        changed = {name: value for name, value in said.items() if value != said_in(fields[name], fields[name]["value"])}
        if not changed:
            return _to(request, "same")
        if asked.get("seen") != entry["seen"]:
            return await self._shown(request, MEANWHILE, texts=texts, status=HTTPStatus.CONFLICT)
        form = {"fields": json.dumps(changed), "docking": entry["docking_id"]}
        return await self._done(request, "metadata_set", form, texts)

    @allowed(*_SAY)
    async def join(self, request: web.Request) -> web.Response:
        """State the activity that the recordings without one were made in."""
        asked = await form_of(request)
        entry = await self._board.entry(_docking(request))
        said = {name: asked.get(name, "") for name in ("stage", "arrived", "left")}
        return await self._done(request, "activity_state", said | {"recordings": " ".join(entry["loose"])})

    @allowed(*_SAY)
    async def explain(self, request: web.Request) -> web.Response:
        """Explain a gap in an activity of this docking: the cause, in words, by voice or in writing."""
        asked = await form_of(request)
        entry = await self._board.entry(_docking(request))
        if (said := gap_said(entry, asked)) is None:
            return await self._shown(request, NO_GAP, texts=asked, status=HTTPStatus.CONFLICT)
        return await self._done(request, "activity_explain", said, asked)

    async def _done(
        self, request: web.Request, verb: str, said: dict[str, str], texts: Mapping[str, str] | None = None
    ) -> web.Response:
        """Ask a verb in the name of who has signed in; then the form again, with what became of it."""
        try:
            done = await self._asking.ask(verb, {"why": _WHY} | said | {"who": request[WHO].account})
        except AgentError as error:
            notice, status = became(error)
            return await self._shown(request, notice, problems_of(error), texts=texts, status=status)
        return _to(request, "slow" if done is None else "saved")

    async def _shown(
        self,
        request: web.Request,
        notice: Notice | None,
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
        values = entry | {"told": told_of(notice), "problems": problems or [], "typed": texts or {}}
        return page(request, "kiosk_entry.html", status, **values)


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
