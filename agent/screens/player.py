"""Shows what was made from an original, never the original: pictures, and the access copy to who gave a reason."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from agent.config import Config
from agent.errors import UnknownError
from agent.journal import Reader
from agent.model import CopyViewed, Medium
from agent.model import Role as Made
from agent.register import line
from agent.screens.answers import TEXT_LIMIT, parameters, taken_within
from agent.screens.guard import gate_of
from agent.screens.who import WHO, Role, allowed
from agent.status.board import Board
from agent.status.dossier import PICTURES, MadeFile, made_file
from agent.vault import address_in

READERS: Final = (Role.SUPERVISOR, Role.CUSTODIAN)
"""Who may see what recordings show."""
ACCESS_COPY: Final = Made.ACCESS_COPY.value
PICTURE: Final[Mapping[str, str]] = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"
}
"""Of a picture with a style of its own: it may do nothing else."""

COPY_LIMIT_S: Final = 60.0
"""How long one answer with a copy may take; a browser asks for the rest of it when it needs that."""

_COPIES: Final = 32
"""Copies and pictures that are sent at the same time."""

_LASTS: Final = timedelta(hours=1)
_LEAST_REASON: Final = 2
_DRAWN: Final = (Made.WAVEFORM, Made.TIMELINE)
_KINDS: Final[Mapping[Medium, str]] = {Medium.AUDIO: "audio/mp4", Medium.PHOTO: "image/jpeg"}


class Found(NamedTuple):
    """A file that was made from an original, what sort of thing that is, where the file is, and the time now."""

    file: MadeFile
    medium: Medium
    path: Path
    now: datetime


@dataclass(frozen=True, slots=True)
class Player:
    """Grants, and serves the bytes. A grant is for one copy, one session and one hour, and dies with the process."""

    board: Board
    _key: bytes = field(default_factory=partial(secrets.token_bytes, 32), repr=False)
    _places: asyncio.Semaphore = field(default_factory=partial(asyncio.Semaphore, _COPIES), repr=False)

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [
            web.post("/recordings/{recording}/view", self.view),
            web.get("/recordings/{recording}/copy", self.copy),
            web.get("/recordings/{recording}/made/{role}", self.made),
        ]

    @allowed(*READERS)
    async def view(self, request: web.Request) -> web.Response:
        """Take a reason, journal it, and only then give a grant."""
        why = reason_of(await request.post())
        found = await self._find(request.match_info["recording"][:TEXT_LIMIT], Made.ACCESS_COPY)
        grant = await self.let(request, found, why)
        to = f"{request.path.removesuffix('/view')}?grant={grant}#player"
        return web.Response(status=HTTPStatus.SEE_OTHER, headers={"Location": to})

    async def let(self, request: web.Request, found: Found, why: str) -> str:
        """Journal who looks at a copy and why, and only then give a grant."""
        file, who = found.file, request[WHO]
        if not who.session:
            raise web.HTTPForbidden(text="查阅须登录 (a copy is shown to who has signed in, not to a program)")
        await gate_of(request).record(CopyViewed(file.original_id, file.asset_id, who.account, why))
        return self._grant(request, file.asset_id, int((found.now + _LASTS).timestamp()))

    @allowed(*READERS)
    async def copy(self, request: web.Request) -> web.FileResponse:
        """The access copy or a range of it (RFC 9110 §14), to who holds the grant."""
        asked = parameters(request, ("grant",))
        found = await self._find(request.match_info["recording"][:TEXT_LIMIT], Made.ACCESS_COPY)
        return self.lent(request, found, asked.get("grant", ""))

    def lent(self, request: web.Request, found: Found, grant: str) -> web.FileResponse:
        """A copy to who holds the grant; raises HTTPForbidden."""
        if not self.holds(request, grant, found.file.asset_id, found.now):
            raise web.HTTPForbidden(text="请先填写调阅事由 (give a reason first: this grant is not valid here or now)")
        return self._served(found, _KINDS.get(found.medium, "video/mp4"))

    def picture(self, found: Found) -> web.FileResponse:
        """A picture, which needs no reason."""
        return self._served(found, "image/svg+xml" if found.file.role in _DRAWN else "image/jpeg")

    @allowed(*READERS)
    async def made(self, request: web.Request) -> web.FileResponse:
        """A picture that was made from the original."""
        parameters(request)
        role = next((one for one in PICTURES if one.value == request.match_info["role"]), None)
        if role is None:
            raise web.HTTPNotFound(text="there is no such picture")
        return self.picture(await self._find(request.match_info["recording"][:TEXT_LIMIT], role))

    def holds(self, request: web.Request, grant: str, copy: str, now: datetime) -> bool:
        """Whether a grant is for this copy and this session, and not over."""
        until = grant.partition(".")[0]
        is_number = until.isascii() and until.isdigit() and len(until) <= len(str(10**12))
        if not (copy and is_number and int(until) > now.timestamp()):
            return False
        return hmac.compare_digest(self._grant(request, copy, int(until)).encode(), grant.encode("utf-8", "replace"))

    def _grant(self, request: web.Request, copy: str, until: int) -> str:
        who = request[WHO]
        told = "\n".join((str(until), copy, who.account, who.session)).encode()
        return f"{until}.{hmac.new(self._key, told, hashlib.sha256).hexdigest()}"

    def _served(self, found: Found, kind: str) -> web.FileResponse:
        """The bytes, or the range that is asked for; where they lie follows from their fingerprint alone."""
        headers = {"Content-Type": kind, "Content-Disposition": "inline", "Cache-Control": "no-store", **PICTURE}
        return _Lent(found.path, headers, self._places)

    async def _find(self, recording: str, role: Made) -> Found:
        def ask(reader: Reader, config: Config, now: datetime) -> tuple[MadeFile | None, Medium, Path, datetime]:
            medium = reader.recording(recording).recording.medium
            return made_file(reader, recording, role), medium, config.storage.root, now

        try:
            file, medium, root, now = await self.board.look(ask)
        except UnknownError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        if file is None:
            raise web.HTTPNotFound(text="没有查阅副本 (there is none of it here)")
        return Found(file, medium, address_in(root, file.blake3), now)


def reason_of(form: Mapping[str, object]) -> str:
    """Why somebody looks at a copy; raises HTTPBadRequest."""
    try:
        why = line(str(form.get("why", "")))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"请填写调阅事由 (a reason is needed): {error}") from error
    if len(why) < _LEAST_REASON:
        raise web.HTTPBadRequest(text="调阅事由过短 (the reason is too short)")
    return why


class _Lent(web.FileResponse):
    """A file in one of few places, and for a bounded time."""

    def __init__(self, path: Path, headers: Mapping[str, str], places: asyncio.Semaphore) -> None:
        super().__init__(path, headers=headers)
        self._places = places

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it all, as aiohttp's own does; raises ConnectionResetError for who is too slow."""
        async with self._places, taken_within(request, COPY_LIMIT_S):
            return await super().prepare(request)
