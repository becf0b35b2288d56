"""The gate before every page and answer: which names are answered, who asks, what he may see, whose form came back."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from secrets import token_urlsafe
from typing import Final
from urllib.parse import quote

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from agent.accounts.book import Book
from agent.config import Config
from agent.model import Clock, JournalEntry
from agent.screens.answers import error
from agent.screens.brake import Brake
from agent.screens.provider import Provider
from agent.screens.session import Sessions, visitor
from agent.screens.who import WHO, Role, Who, is_page_of, roles_of

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
FORM_TOKEN: Final = "token"  # noqa: S105 - a name
"""Name of the field, in every form, that proves that this page made the form."""

FORM_HEADER: Final = "X-Form-Token"
"""The same for requests of a page's script."""

_VISITOR_COOKIE: Final = "visitor"
_VISITOR: Final = web.RequestKey("visitor", str)
"""Key of a request: who has not signed in gets this cookie, to which the form on this page belongs."""

RENEWAL: Final = "X-Renewal"
"""Sent by the script of a page that renews itself: nobody did anything."""

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_PARTS: Final = frozenset({"image", "video", "audio"})

Record = Callable[[JournalEntry], Awaitable[object]]
Refused = Callable[[str, str], None]


def _unheard(_what: str, _why: str) -> None:
    """Nobody listens."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Gate:
    """Who may come in, and the middleware that asks. `record` takes what the journal has to know.

    `hosts` are the names that are answered, none for all; `refused` hears of other requests that are not answered.
    `behind_proxy`: all come from a proxy on this machine that speaks TLS, so nobody is the kiosk by his address.
    """

    book: Book
    record: Record
    hosts: tuple[str, ...] = LOOPBACK_NAMES
    behind_proxy: bool = False
    refused: Refused = _unheard
    clock: Clock = _now
    sessions: Sessions = field(default_factory=Sessions)
    brake: Brake = field(default_factory=Brake)
    provider: Provider = field(default_factory=Provider)

    def use(self, config: Config) -> None:
        """Take over another identity provider; whom the one before vouched for is out."""
        if self.provider.use(config.oidc):
            self.sessions.end_central()

    async def admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer, or say why not, before any handler runs."""
        request[_GATE] = self
        if (told := self._not_answered(request)) is not None:
            return told
        if request.match_info.http_exception is not None:
            return await handler(request)  # no such page, or no such method: the same for everybody
        who = self._who(request, acts=_acts(request))
        request[WHO] = who or self._nobody(request)
        if (told := self._not_allowed(request, who)) is not None:
            return told
        if request.method not in _READS and not self._is_own_form(request, await _form_of(request)):
            self.refused("screens", "a form of nobody's")
            words = "此表单已失效，请重新打开页面 (this form is not valid any more: open the page again)"
            raise web.HTTPForbidden(text=words)
        response = await handler(request)
        if (made := request.get(_VISITOR)) is not None:
            self.set_cookie(request, response, _VISITOR_COOKIE, made)
        return response

    def goes_on(self, request: web.Request) -> bool:
        """Whether who asked is still who he was when he asked: for an answer without an end."""
        return (self._who(request, acts=False) or self._nobody(request)) == request[WHO]

    def is_local(self, request: web.Request) -> bool:
        """Whether it comes from this very machine, asked by a name that no page elsewhere can have."""
        transport = request.transport
        if self.behind_proxy or transport is None:
            return False
        peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        if not isinstance(peer, tuple) or not isinstance(own, tuple):
            return False
        is_here = ipaddress.ip_address(peer[0].partition("%")[0]).is_loopback or peer[0] == own[0]
        return is_here and (request.secure or _host(request) in LOOPBACK_NAMES)

    def address(self, request: web.Request) -> str:
        """From where it comes: the proxy's word for it, if there is one."""
        if self.behind_proxy:
            told = ",".join(request.headers.getall("X-Forwarded-For", ()))  # who asks may have sent one of his own
            return told.rpartition(",")[2].strip()[:45]
        return request.remote or ""

    def is_secure(self, request: web.Request) -> bool:
        """Whether cookies go over TLS only."""
        return self.behind_proxy or request.secure

    def cookie(self, request: web.Request, name: str) -> str:
        """The full name of a cookie; with TLS browsers take it from this very host only (RFC 6265bis, 4.1.3)."""
        return f"__Host-{name}" if self.is_secure(request) else name

    def set_cookie(self, request: web.Request, response: web.StreamResponse, name: str, value: str) -> None:
        """Set a cookie that no script reads and no other site sends; empty: take it away."""
        response.set_cookie(
            self.cookie(request, name), value, httponly=True, samesite="Strict", secure=self.is_secure(request),
            max_age=None if value else 0, path="/",
        )  # fmt: skip

    def _not_answered(self, request: web.Request) -> web.Response | None:
        if self.hosts and not _is_unix(request) and _host(request) not in self.hosts:
            self.refused("status page", "another name")
            return error(421, "this name is not answered here")
        if request.method in ("GET", "HEAD") and request.can_read_body:
            self.refused("status page", "a body")
            return error(413, "a request has no body here", {"Connection": "close"})
        return None

    def _nobody(self, request: web.Request) -> Who:
        return Who(Role.KIOSK if self.is_local(request) else Role.PUBLIC)

    def _who(self, request: web.Request, *, acts: bool) -> Who | None:
        if _is_unix(request):
            return Who(Role.IT)  # the socket's own rights let in root and the service's group alone
        kind, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        if kind:
            found = self.book.accounts.of_token(token.strip(), self.clock()) if kind.lower() == "bearer" else None
            return Who(found[1].role, found[0].name) if found is not None else None
        cookie = request.cookies.get(self.cookie(request, "session"), "")
        who = self.sessions.find(cookie, self.book.accounts, acts=acts)
        if who is not None and who.role is Role.OFFICER and not self.is_local(request):
            return None
        return who

    def _not_allowed(self, request: web.Request, who: Who | None) -> web.Response | None:
        """Refuse who may not; a mark for the kiosk opens to everybody who stands there, signed in or not.

        The socket is not asked: who may open it has the control socket too, and with it all that the service has.
        """
        if _is_unix(request):
            return None
        roles = roles_of(request.match_info.handler)
        if request[WHO].role in roles or Role.PUBLIC in roles or (Role.KIOSK in roles and self.is_local(request)):
            return None
        if who is not None:
            raise web.HTTPForbidden(text=f"此账号无权查看 (the role {who.role.value} does not open this)")
        is_page = is_page_of(request.match_info.handler) and request.method in ("GET", "HEAD")
        if not is_page or hdrs.AUTHORIZATION in request.headers:
            words = "登录已失效或尚未登录，请先登录 (sign in first, or send a token)"
            raise web.HTTPUnauthorized(text=words, headers={"WWW-Authenticate": "Bearer"})
        return web.Response(status=303, headers={"Location": f"/login?next={quote(request.path, safe='/')}"})

    def _is_own_form(self, request: web.Request, form: Mapping[str, object]) -> bool:
        """Whether a page of ours sent it. What has no session, and so no cookie, no other site can send."""
        if (request[WHO].account and not request[WHO].session) or _is_unix(request):
            return True
        site, origin = request.headers.get("Sec-Fetch-Site", "same-origin"), request.headers.get(hdrs.ORIGIN)
        named = origin.partition("://")[2] if origin else request.host
        if site != "same-origin" or (named != request.host and not self.behind_proxy):
            return False
        token = request.headers.get(FORM_HEADER, "") or str(form.get(FORM_TOKEN, ""))
        return self.sessions.is_form_token(self._form_owner(request), token)

    def _form_owner(self, request: web.Request) -> str:
        return request[WHO].session or visitor(request.cookies.get(self.cookie(request, _VISITOR_COOKIE), ""))


_GATE: Final = web.RequestKey("gate", Gate)


def gate_for(config: Config, book: Book, record: Record, refused: Refused, clock: Clock) -> Gate:
    """The gate of a configured page. Without TLS, or a proxy, only this machine's names are answered.

    Else a page elsewhere could ask us by its own name, through somebody's browser (DNS rebinding).
    """
    page = config.status
    names = () if page.tls_certificate or page.behind_proxy else (*LOOPBACK_NAMES, page.host)
    return Gate(book, record, names, page.behind_proxy, refused, clock, provider=Provider(config.oidc))


def gate_of(request: web.Request) -> Gate:
    """The gate that a request came through."""
    return request[_GATE]


def form_token(request: web.Request) -> str:
    """What a form on a page of this request sends back as its field `token`; empty without a gate (tests)."""
    if _GATE not in request:
        return ""
    gate = gate_of(request)
    if owner := gate._form_owner(request):  # noqa: SLF001
        return gate.sessions.form_token(owner)
    request[_VISITOR] = request.get(_VISITOR) or token_urlsafe(32)
    return gate.sessions.form_token(visitor(request[_VISITOR]))


async def _form_of(request: web.Request) -> Mapping[str, object]:
    """The form that was sent; aiohttp keeps it for the handler. Raises HTTPBadRequest for bytes that are none."""
    try:
        return await request.post()
    except (ValueError, LookupError, web.RequestPayloadError) as error:
        raise web.HTTPBadRequest(text="此表单无法读取，未作任何改动 (this is no form: nothing was changed)") from error


def _acts(request: web.Request) -> bool:
    """Whether a person did something. A page that renews itself, its pictures, and programs say nothing of him."""
    if request.method not in _READS:
        return True
    is_part = request.headers.get("Sec-Fetch-Dest") in _PARTS
    return not (is_part or RENEWAL in request.headers or request.path.startswith("/api/"))


def _host(request: web.Request) -> str:
    return re.sub(r":\d*$", "", request.headers.get(hdrs.HOST, "")).lower()


def _is_unix(request: web.Request) -> bool:
    own = request.transport.get_extra_info("socket") if request.transport is not None else None
    return own is not None and own.family == socket.AF_UNIX
