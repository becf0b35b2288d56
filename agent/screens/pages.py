"""What all pages share: templates that escape everything, static files by their digest, language and theme."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import jinja2
from aiohttp import web
from markupsafe import Markup

from agent.screens.guard import form_token
from agent.screens.who import WHO, Role, allowed
from agent.status.activities import percent
from agent.status.board import Board
from agent.status.rooms import elapsed, level_percent

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
"""Of every page: nothing from elsewhere, nothing inline."""

CHOICES: Final[Mapping[str, tuple[str, ...]]] = {"lang": ("zh", "en"), "theme": ("auto", "light", "dark")}
"""What who looks may choose, by `?lang=en`, and is remembered in a cookie of that name; the first unless chosen."""

_REMEMBERED_S: Final = 365 * 86400
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+\d\d:\d\d)?")
_UNITS: Final = ((10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (1000, "kB"))


BOARD: Final = web.AppKey("board", Board)
"""Key of the application: who knows whether there are rooms, to whose pages others may lead."""


class _File(NamedTuple):
    body: bytes
    kind: str
    digest: str


def routes() -> list[web.RouteDef]:
    """The static files."""
    return [web.get("/static/{name}", _static)]


def page(request: web.Request, template: str, status: int = 200, **values: object) -> web.Response:
    """A page of templates/, in the language and theme of who looks; `?lang=` and `?theme=` are remembered.

    Every template knows `lang`, `theme`, `path` (of the request), `has_rooms`, `who` (None without the accounts'
    middleware), `asset(name)` (the address of a static file), `token()` (what every form sends back), `t(words)` (which
    of {"zh": …, "en": …} is shown), `here(name=…)` (this address with something else asked), and the filters `moment`
    (a time), `bytes`, `coverage`, `lasting` (seconds), `meter` (a level), and `said` (any value of a record).
    """
    chosen = {name: _chosen(request, name) for name in CHOICES}
    kept = {name: text for name, text in request.query.items() if name not in CHOICES}
    lang = chosen["lang"]
    found = _templates().get_template(template)
    board = request.config_dict.get(BOARD)
    known = {
        "has_rooms": board is not None and board.has_rooms,
        "path": request.path,
        "who": request.get(WHO),
        "token": lambda: form_token(request),
    }

    def here(**other: str) -> str:
        return f"?{urlencode({name: text for name, text in {**kept, **other}.items() if text})}"

    shown = found.render(**values, **chosen, **known, t=lambda words: words[lang], here=here)
    response = web.Response(text=shown, status=status, content_type="text/html", charset="utf-8")
    response.headers["Content-Security-Policy"] = POLICY
    for name in CHOICES.keys() & request.query.keys():
        response.set_cookie(
            name, chosen[name], max_age=_REMEMBERED_S, httponly=True, samesite="Strict", secure=request.secure
        )
    return response


def visible(value: object) -> object:
    """A text in which control characters, and those that turn the direction of writing, are shown as escapes.

    They could make one name look like another. What is markup already stays as it is.
    """
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c == "\n" or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else _escape(c) for c in value)


def _escape(character: str) -> str:
    return f"\\u{ord(character):04x}"


def _moment(iso: str | None) -> str:
    """A time of an answer, which is in China's zone, as a person reads it."""
    return iso[:16].replace("T", " ") if iso else "—"


def _bytes(size: int | None) -> str:
    if size is None:
        return "—"
    unit, name = next(((unit, name) for unit, name in _UNITS if size >= unit), (1, "B"))
    return f"{size / unit:.1f} {name}" if unit > 1 else f"{size} B"


def _meter(level_db: float, title: str) -> Markup:
    """A level as a bar, from -60 dBFS to 0."""
    said = Markup("{} 声音 sound {:.0f} dB").format(title, level_db)
    return Markup(
        '<svg class="meter" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">'
        '<rect class="all" width="100" height="8"/><rect class="on" width="{}" height="8"/></svg>'
    ).format(said, level_percent(level_db))


def said(value: object, lang: str) -> str:
    """Any value of a record in one language: codes by their words, times as a person reads them."""
    if isinstance(value, Mapping):
        if lang in value:
            return str(value[lang])
        return " · ".join(said(part, lang) for part in value.values() if part not in (None, "", [], {}))
    if isinstance(value, list | tuple):
        return "；".join(said(part, lang) for part in value)
    text = str(value)
    return _moment(text) if _TIME.fullmatch(text) else text


def _chosen(request: web.Request, name: str) -> str:
    known = CHOICES[name]
    asked = request.query.get(name, request.cookies.get(name, ""))
    return asked if asked in known else known[0]


@cache
def _templates() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("agent.screens"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=visible,
    )  # fmt: skip
    made.globals["asset"] = asset
    made.filters.update(moment=_moment, bytes=_bytes, coverage=percent, said=said, lasting=elapsed, meter=_meter)
    return made


def asset(name: str) -> str:
    """The address of a static file: another one when its content changes, so that browsers may keep it."""
    return f"/static/{name}?v={_files()[name].digest}"


@cache
def _files() -> Mapping[str, _File]:
    found: dict[str, _File] = {}
    for file in resources.files("agent.screens").joinpath("static").iterdir():
        body = file.read_bytes()
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        found[file.name] = _File(body, kind, sha256(body).hexdigest()[:16])
    return found


@allowed(Role.PUBLIC)
async def _static(request: web.Request) -> web.Response:
    """A style or script of the pages; by its digest it may be kept for ever."""
    found = _files().get(request.match_info["name"])
    if found is None:
        raise web.HTTPNotFound(text="there is no such file")
    keep = "public, max-age=31536000, immutable" if request.query.get("v") == found.digest else "no-cache"
    headers: dict[str, Any] = {"Cache-Control": keep, "ETag": f'"{found.digest}"'}
    return web.Response(body=found.body, content_type=found.kind, headers=headers)
