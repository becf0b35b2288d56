"""Shows the films of a session: one for each camera or microphone, and all side by side, to who gave a reason."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from agent.config import Config
from agent.continuity import GapState
from agent.errors import UnknownError
from agent.journal import Reader
from agent.model import Medium
from agent.model import Role as Made
from agent.screens.answers import TEXT_LIMIT, parameters
from agent.screens.pages import CHOICES, page
from agent.screens.player import READERS, Found, Player, reason_of
from agent.screens.who import allowed
from agent.status.board import Board
from agent.status.dossier import MadeFile, session_files
from agent.status.sessions import activities_of
from agent.vault import address_in

_FILMS: Final = (Made.ACCESS_COPY, Made.MOSAIC)
_PICTURES: Final = (Made.CONTACT_SHEET, Made.TIMELINE)

Json = dict[str, Any]


class Films:
    """The handlers; grants are the player's."""

    def __init__(self, board: Board, player: Player) -> None:
        self._board = board
        self._player = player

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.get("/sessions/{session}/films", self.films),
            web.post("/sessions/{session}/films", self.view),
            web.get("/sessions/{session}/film", self.film),
            web.get("/sessions/{session}/made/{role}", self.made),
        ]

    @allowed(*READERS, page=True)
    async def films(self, request: web.Request) -> web.Response:
        """What there is of a session, and the one that is looked at."""
        asked = parameters(request, ("grant", "of", *CHOICES))
        found, titles, _, now = await self._look(request)
        gaps = await self._gaps(request)
        films = []
        for of, medium, file in found:
            if file.role in _FILMS:
                grant = asked.get("grant", "") if of == asked.get("of", "") else ""
                plays = grant if self._player.holds(request, grant, file.asset_id, now) else ""
                own = [gap for gap in gaps if not of or gap["source"] in ("", of)]
                films.append(
                    {"of": of, "title": titles.get(of, of), "medium": medium.value, "grant": plays, "gaps": own}
                )
        pictures = [file.role.value for of, _, file in found if file.role in _PICTURES and not of]
        session_id = request.match_info["session"][:TEXT_LIMIT]
        return page(request, "films.html", session_id=session_id, films=films, pictures=pictures)

    @allowed(*READERS)
    async def view(self, request: web.Request) -> web.Response:
        """Take a reason, journal it, and only then give a grant."""
        form = await request.post()
        why, of = reason_of(form), str(form.get("of", ""))[:TEXT_LIMIT]
        grant = await self._player.let(request, await self._film(request, of), why)
        return web.Response(
            status=HTTPStatus.SEE_OTHER, headers={"Location": f"{request.path}?of={of}&grant={grant}#player"}
        )

    @allowed(*READERS)
    async def film(self, request: web.Request) -> web.FileResponse:
        """A film or a range of it (RFC 9110 §14), to who holds the grant; without `of` that of all cameras."""
        asked = parameters(request, ("grant", "of"))
        return self._player.lent(request, await self._film(request, asked.get("of", "")), asked.get("grant", ""))

    @allowed(*READERS)
    async def made(self, request: web.Request) -> web.FileResponse:
        """A picture of the whole session."""
        parameters(request)
        role = next((one for one in _PICTURES if one.value == request.match_info["role"]), None)
        return self._player.picture(await self._find(request, "", (role,) if role else ()))

    async def _gaps(self, request: web.Request) -> list[Json]:
        """What is missing in the films and is more than a recorder loses by itself, with what is said of it by now."""
        session_id = request.match_info["session"][:TEXT_LIMIT]
        activities = await self._board.look(
            lambda reader, config, _: activities_of(reader, config, reader.session(session_id))
        )
        gaps = (gap for activity in activities for gap in activity["gaps"])
        return [gap for gap in gaps if gap["state"]["name"] != GapState.AUTOMATIC]

    async def _film(self, request: web.Request, of: str) -> Found:
        return await self._find(request, of, _FILMS)

    async def _find(self, request: web.Request, of: str, roles: tuple[Made, ...]) -> Found:
        found, _, root, now = await self._look(request)
        for whose, medium, file in found:
            if whose == of and file.role in roles:
                shown = Medium.VIDEO if file.role is Made.MOSAIC else medium
                return Found(file, shown, address_in(root, file.blake3), now)
        raise web.HTTPNotFound(text="没有这个合成片 (there is none of it here)")

    async def _look(
        self, request: web.Request
    ) -> tuple[list[tuple[str, Medium, MadeFile]], dict[str, str], Path, datetime]:
        """All that may be shown, titles of the sources, where files are, the time; raises HTTPNotFound."""
        session_id = request.match_info["session"][:TEXT_LIMIT]

        def ask(
            reader: Reader, config: Config, now: datetime
        ) -> tuple[list[tuple[str, Medium, MadeFile]], dict[str, str], Path, datetime]:
            room = config.rooms.get(reader.session(session_id).started.room)
            titles = {one.name: one.title for one in room.sources} if room is not None else {}
            return session_files(reader, session_id), titles, config.storage.root, now

        try:
            return await self._board.look(ask)
        except UnknownError as error:
            raise web.HTTPNotFound(text=f"没有这个场次 (there is no such session): {error.what}") from error
