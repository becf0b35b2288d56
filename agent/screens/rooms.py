"""The pages of rooms: what is recorded now, start and stop by who has signed in, and what a session came to."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aiohttp import web
from markupsafe import Markup

from agent import durable
from agent.errors import AgentError, UnknownError
from agent.model import STAGES
from agent.model.sessions import StartedBy
from agent.screens.answers import TEXT_LIMIT, answer, parameters, whole
from agent.screens.asking import MEANWHILE, NOTICES, Asking, Told, Verb, form_of, gap_said, refused
from agent.screens.pages import CHOICES, page
from agent.screens.who import WHO, Role, allowed
from agent.status.board import Board
from agent.status.session_strip import session_svg
from agent.status.sessions import PARTS_LIMIT, SESSIONS_SHOWN, session_view, sessions_view
from agent.status.views import to_json
from agent.status.words import words

Json = dict[str, Any]

_ALL: Final = (Role.KIOSK, Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
_SAY: Final = (Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN)
_READ: Final = (Role.SUPERVISOR, Role.CUSTODIAN)
_WHY: Final = "在场所屏幕上开始 (started at the room's screen)"
_HOURS: Final = ("0.5", "1", "2", "3", "4", "6", "8", "12")
_STILL_LIMIT_BYTES: Final = 1 << 20
_STILL_FRESH_S: Final = 15.0
"""How old a picture may be that is shown as what the camera sees now."""
_OFFICERS: Final = 60
_STILLS: Final = 8
"""Pictures that are read at the same time."""


class Rooms:
    """The handlers."""

    def __init__(self, board: Board, verbs: Mapping[str, Verb]) -> None:
        self._board = board
        self._asking = Asking(verbs)
        self.close = self._asking.close
        self._places = asyncio.Semaphore(_STILLS)

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/rooms", self.all),
            web.get("/rooms/{room}", self.room),
            web.get("/rooms/{room}/stills/{source}", self.still),
            web.get("/rooms/{room}/start", self.asks_start),
            web.post("/rooms/{room}/start", self.start),
            web.get("/rooms/{room}/stop", self.asks_stop),
            web.post("/rooms/{room}/stop", self.stop),
            web.get("/rooms/{room}/extend", self.asks_extend),
            web.post("/rooms/{room}/extend", self.extend),
            web.get("/sessions/{session}", self.session),
            web.get("/sessions/{session}/gaps", self.gaps),
            web.post("/sessions/{session}/gaps", self.explain),
            web.get("/api/v1/rooms", self.rooms_json),
            web.get("/api/v1/rooms/{room}", self.room_json),
            web.get("/api/v1/sessions/{session}", self.session_json),
        ]

    # What there is.

    @allowed(*_ALL, page=True)
    async def all(self, request: web.Request) -> web.Response:
        """Every room with its recording light."""
        return page(request, "rooms.html", **await self._board.rooms())

    @allowed(*_ALL, page=True)
    async def room(self, request: web.Request) -> web.Response:
        """One room: its light, its sources, how long still, its gaps; to who has signed in pictures and sessions."""
        found, who = await self._room(request), request[WHO]
        name, tick = found["room"]["room"], int(datetime.fromisoformat(found["now"]).timestamp()) // 2
        sessions = None
        if who.role in _SAY:
            sessions = await self._board.look(lambda read, *_: sessions_view(read.sessions_of(name, SESSIONS_SHOWN)))
        known: Json = {"pictures": who.role in _SAY, "reads": who.role in _READ, "sessions": sessions}
        return page(request, "room.html", **found, **known, tick=tick)

    @allowed(*_SAY)
    async def still(self, request: web.Request) -> web.Response:
        """What a camera of a running session sees now, as a JPEG; nothing that is older than 15 s."""
        parameters(request, ("at",))
        path = self._board.still(*(request.match_info[name] for name in ("room", "source")))
        async with self._places:
            body = await asyncio.to_thread(_fresh, path) if path is not None else b""
        if not body:
            raise web.HTTPNotFound(text="现在没有画面 (there is no picture now)")
        return web.Response(body=body, content_type="image/jpeg")

    @allowed(*_ALL)
    async def rooms_json(self, request: web.Request) -> web.Response:
        """Every room as it is now; no person and no case is named."""
        parameters(request)
        found = await self._board.rooms()
        return answer(request, to_json({"now": found["now"], "rooms": found["rooms"]}))

    @allowed(*_ALL)
    async def room_json(self, request: web.Request) -> web.Response:
        """One room as it is now; no person and no case is named."""
        parameters(request)
        return answer(request, to_json((await self._room(request))["room"]))

    async def _room(self, request: web.Request) -> Json:
        """The room that is meant, with the station's name and time; raises HTTPNotFound."""
        found, name = await self._board.rooms(), request.match_info["room"]
        room = next((room for room in found["rooms"] if room["room"] == name), None)
        if room is None:
            raise _no_room()
        return {"room": room, "station": found["station"], "now": found["now"]}

    # Start and stop.

    @allowed(*_SAY, page=True)
    async def asks_start(self, request: web.Request) -> web.Response:
        """The form that starts a session: stage, length, case number, participants."""
        return await self._start_shown(request, Told())

    @allowed(*_SAY)
    async def start(self, request: web.Request) -> web.Response:
        """Start a session in the name of who has signed in."""
        asked, found = await form_of(request), await self._room(request)
        room, end = found["room"]["room"], _end_of(found, asked)
        said = {
            "room": room,
            "started_by": StartedBy.SCREEN.value,
            "who": request[WHO].account,
            "why": _WHY,
            "stage": asked.get("stage", ""),
            "case_number": asked.get("case", "").strip(),
            "participants": "\n".join(filter(None, map(str.strip, asked.get("participants", "").split("\n")))),
            "planned_end": end,
            "anyway": asked.get("anyway", ""),
        }
        try:
            await self._asking.ask("session_start", said)
        except AgentError as error:
            return await self._start_shown(request, refused(error, asked))
        return _to(f"/rooms/{room}")

    async def _start_shown(self, request: web.Request, told: Told) -> web.Response:
        found = await self._room(request)
        name = found["room"]["room"]
        room, forms = await self._board.look(lambda _, config, __: (config.rooms.get(name), config.forms))
        if room is None:  # it is configured no more, and only shown as long as its session runs
            raise _no_room()
        stages = [
            {"code": code, **words(f"{code} {one.zh}", one.en)}
            for code, one in STAGES.items()
            if code == room.stage or not forms.stages or code in forms.stages
        ]
        planned = min(_HOURS, key=lambda hours: abs(float(hours) - room.planned_h))
        officers = [{"id": one.officer_id, "name": one.name} for one in [*forms.officers.values()][:_OFFICERS]]
        more = {"stages": stages, "stage": room.stage, "hours": _HOURS, "planned": planned, "officers": officers}
        return page(request, "room_start.html", told.status, **found, **more, **told.values())

    @allowed(*_SAY, page=True)
    async def asks_stop(self, request: web.Request) -> web.Response:
        """Whether the session is really to be stopped."""
        return await self._order_shown(request, "stop", Told())

    @allowed(*_SAY)
    async def stop(self, request: web.Request) -> web.Response:
        """Stop the session that was meant, and no other one that may have begun since."""
        asked, found = await form_of(request), await self._room(request)
        return await self._ordered(request, found, "stop", asked, {"why": asked.get("why", "")})

    @allowed(*_SAY, page=True)
    async def asks_extend(self, request: web.Request) -> web.Response:
        """The form that plans another end."""
        return await self._order_shown(request, "extend", Told())

    @allowed(*_SAY)
    async def extend(self, request: web.Request) -> web.Response:
        """Plan another end for the session that was meant."""
        asked, found = await form_of(request), await self._room(request)
        said = {"planned_end": _end_of(found, asked), "why": asked.get("why", "")}
        return await self._ordered(request, found, "extend", asked, said)

    async def _ordered(
        self, request: web.Request, found: Json, what: str, asked: Mapping[str, str], said: dict[str, str]
    ) -> web.Response:
        room = found["room"]
        if room["session"] is None or room["session"]["session_id"] != asked.get("session"):
            return await self._order_shown(request, what, Told(MEANWHILE, status=HTTPStatus.CONFLICT))
        try:
            whose = {"session": asked["session"], "who": request[WHO].account}
            await self._asking.ask(f"session_{what}", said | whose)
        except AgentError as error:
            return await self._order_shown(request, what, refused(error, asked))
        return _to(f"/rooms/{room['room']}")

    async def _order_shown(self, request: web.Request, what: str, told: Told) -> web.Response:
        found = await self._room(request)
        return page(request, f"room_{what}.html", told.status, **found, hours=_HOURS, **told.values())

    # Sessions.

    @allowed(*_READ, page=True)
    async def session(self, request: web.Request) -> web.Response:
        """All that is known of a session: its ledger, its segments, who took part."""
        view = await self._session(request, _part(parameters(request, ("part", *CHOICES))))
        strip = {lang: Markup(session_svg(view, lang)) for lang in CHOICES["lang"]}  # noqa: S704 - escaped there
        titles = {one["source"]: one["title"] for one in view["sources"]}
        return page(request, "session.html", view=view, strip=strip, titles=titles)

    @allowed(*_READ)
    async def session_json(self, request: web.Request) -> web.Response:
        """All that is known of a session, its segments in parts of 100, the latest part unless another is asked for.

        Persons are named in it.
        """
        return answer(request, to_json(await self._session(request, _part(parameters(request, ("part",))))))

    @allowed(*_SAY, page=True)
    async def gaps(self, request: web.Request) -> web.Response:
        """The gaps of a session, to be explained as those of any activity."""
        return await self._gaps_shown(request, Told(NOTICES.get(request.query.get("told", ""))))

    @allowed(*_SAY)
    async def explain(self, request: web.Request) -> web.Response:
        """Explain a gap: the cause, in words, by voice or in writing."""
        asked, view = await form_of(request), await self._session(request)
        if (said := gap_said(view, asked)) is None:
            return await self._gaps_shown(request, Told(MEANWHILE, status=HTTPStatus.CONFLICT))
        try:
            done = await self._asking.ask("activity_explain", said | {"who": request[WHO].account})
        except AgentError as error:
            return await self._gaps_shown(request, refused(error, asked))
        return _to(f"/sessions/{view['session_id']}/gaps?told={'slow' if done is None else 'saved'}")

    async def _gaps_shown(self, request: web.Request, told: Told) -> web.Response:
        profile = await self._board.look(lambda _, config, __: config.profile)
        causes = [{"code": one.code, **words(one.zh, one.en)} for one in profile.interruptions if not one.automatic]
        more = {"session": await self._session(request), "causes": causes, "article": profile.interruption}
        return page(request, "session_gaps.html", told.status, **more, **told.values())

    async def _session(self, request: web.Request, part: int | None = None) -> Json:
        """The session that is meant; raises HTTPNotFound."""
        name = request.match_info["session"][:TEXT_LIMIT]
        try:
            return await self._board.look(lambda reader, config, now: session_view(reader, config, name, part, now))
        except UnknownError as error:
            raise web.HTTPNotFound(text=f"没有这个场次 (there is no such session): {error.what}") from error


def _no_room() -> web.HTTPNotFound:
    return web.HTTPNotFound(text="没有这个场所 (there is no such room)")


def _end_of(found: Json, asked: Mapping[str, str]) -> str:
    """The end that is planned by a form, so many hours from now; empty if it is open."""
    hours = asked.get("hours", "")
    if hours and hours not in _HOURS:
        raise web.HTTPBadRequest(text=f"hours must be one of {', '.join(_HOURS)}, or empty")
    return (datetime.fromisoformat(found["now"]) + timedelta(hours=float(hours))).isoformat() if hours else ""


def _part(asked: Mapping[str, str]) -> int | None:
    return whole(asked["part"], "part", 1, PARTS_LIMIT) if "part" in asked else None


def _fresh(path: Path) -> bytes:
    """The picture, empty if there is none, if it is old, or is no picture by its size."""
    try:
        durable.mark_seen(path)  # pictures come more often as long as somebody looks
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            if time.time() - about.st_mtime > _STILL_FRESH_S or about.st_size > _STILL_LIMIT_BYTES:
                return b""
            return file.read(_STILL_LIMIT_BYTES)
    except OSError:
        return b""  # the next one takes its place, or the session has ended


def _to(path: str) -> web.Response:
    """Behind a form a page, so that loading it again enters nothing twice."""
    return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": path})
