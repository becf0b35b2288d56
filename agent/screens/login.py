"""Signing in and out: by password, or at the kiosk by PIN or card, with a brake, and a journal event for each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from agent.accounts.book import Account, AccountsError, Role, card_number
from agent.accounts.hashing import SECRET_LIMIT, is_right
from agent.errors import JournalError
from agent.model import SignedIn, SignedOut, SignInRefused
from agent.screens.answers import TEXT_LIMIT
from agent.screens.guard import Gate, gate_of
from agent.screens.pages import page
from agent.screens.who import WHO, allowed

_AT_ONCE: Final = 2
_WAITING: Final = 8
_ALL: Final = tuple(Role)
_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "wrong": {
        "zh": "账号、密码或卡不正确，请核对后重试；采集照常进行，资料安全。",
        "en": "The account, password or card is not right: try again. Recordings are pulled all the same.",
    },
    "wait": {
        "zh": "多次输入有误，请 {} 秒后再试；采集照常进行，资料安全。",
        "en": "Too many wrong tries: wait {} s, then try again. Recordings are pulled all the same.",
    },
    "busy": {
        "zh": "同时登录的人过多，请稍后再试；采集照常进行，资料安全。",
        "en": "Too many sign in at once: try again in a moment. Recordings are pulled all the same.",
    },
    "journal": {
        "zh": "日志无法写入，暂不能登录；已采集的资料安全，请联系管理员。",
        "en": "The journal can't be written, so nobody can sign in; what was pulled is safe. Call IT.",
    },
    "accounts": {
        "zh": "账号文件无法使用，暂不能登录；采集照常进行，资料安全，请联系管理员。",
        "en": "The accounts can't be read, so nobody can sign in; recordings are pulled all the same. Call IT.",
    },
    "centre": {
        "zh": "统一认证暂不可用，请使用本站账号登录，并联系管理员；采集照常进行，资料安全。",
        "en": "Signing in through the bureau does not work now: use an account of this station, and call IT.",
    },
    "elsewhere-name": {
        "zh": "统一认证登录请从 {} 打开本页；采集照常进行，资料安全。",
        "en": "To sign in through the bureau, open this page at {}.",
    },
    "stale": {
        "zh": "此次登录已失效或已用过，请重新登录；采集照常进行，资料安全。",
        "en": "This sign-in is over, or was used already: sign in again.",
    },
    "declined": {
        "zh": "统一认证未确认登录，请重试；采集照常进行，资料安全。",
        "en": "The bureau's sign-in was not confirmed: try again.",
    },
    "unproven": {
        "zh": "统一认证的答复无法核实，未登录；采集照常进行，资料安全，请联系管理员。",
        "en": "What the bureau's sign-in answered can't be verified, so nobody was signed in. Call IT.",
    },
    "no-role": {
        "zh": "统一认证未授予您本站的任何角色，请联系管理员；采集照常进行，资料安全。",
        "en": "The bureau's sign-in gives you no role at this station: ask IT.",
    },
}


class Refused(Exception):  # noqa: N818 - an answer
    """Nobody comes in; the name of the words, how long to wait, and where else to try."""

    def __init__(self, words: str, status: int = 403, wait_s: int = 0, where: str = "") -> None:
        super().__init__(words)
        self.words = words
        self.status = status
        self.wait_s = wait_s
        self.where = where


class Login:
    """The handlers, and how many passwords are looked at: two at a time take half a core and 128 MiB.

    A thread can't be ended: what who asked no longer waits for is counted all the same.
    """

    def __init__(self) -> None:
        self._hashing = asyncio.Semaphore(_AT_ONCE)
        self._looked_at: set[asyncio.Task[bool]] = set()

    def routes(self) -> list[web.RouteDef]:
        """All of them."""
        return [web.get("/login", self.show), web.post("/login", self.sign_in), web.post("/logout", self.sign_out)]

    async def close(self, _: web.Application) -> None:
        """Wait for what is looked at."""
        if self._looked_at:
            await asyncio.wait(self._looked_at)

    @allowed(*_ALL, page=True)
    async def show(self, request: web.Request) -> web.Response:
        """The form."""
        return form(request, request.query.get("next", ""))

    @allowed(*_ALL)
    async def sign_in(self, request: web.Request) -> web.Response:
        """Begin a session, or tell in words why not; never whether there is such an account, or one of an officer."""
        asked, gate = await request.post(), gate_of(request)
        onward = str(asked.get("next", ""))
        try:
            account, by = await self._checked(request, gate, asked)
            told = SignedIn(account.name, account.role.value, by, gate.address(request))
            return await come_in(request, account, told, onward)
        except Refused as refusal:
            return form(request, onward, refusal)
        except JournalError:
            return form(request, onward, Refused("journal", 503))

    @allowed(*_ALL)
    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session."""
        gate, who = gate_of(request), request[WHO]
        response = web.Response(status=303, headers={"Location": "/kiosk" if who.role is Role.OFFICER else "/login"})
        if who.session:
            gate.sessions.end(who.session)
            gate.set_cookie(request, response, "session", "")
            await gate.record(SignedOut(who.account))
        return response

    async def _checked(self, request: web.Request, gate: Gate, asked: Mapping[str, Any]) -> tuple[Account, str]:
        """Who has shown that it is him, and by what; raises Refused, behind an event, and JournalError."""
        if gate.book.trouble:
            raise Refused("accounts", 503)
        name, secret, card = (str(asked.get(field, ""))[:SECRET_LIMIT] for field in ("account", "secret", "card"))
        address = gate.address(request)
        # Who guesses from elsewhere must not hold up those who stand at the station.
        place = "here" if gate.is_local(request) else "elsewhere"
        tried = f"{place} {'a card' if card else name.strip()}"
        if wait_s := gate.brake.wait_s(tried, address):
            gate.refused("sign in", "too many wrong tries")
            raise Refused("wait", 429, wait_s=int(wait_s) + 1)
        gate.brake.tried(tried, address)
        account = _of_card(gate, card) if card else gate.book.accounts.by_name.get(name.strip())
        whose, why = account.name if account is not None else "", "wrong"
        if account is not None and place == "elsewhere" and (card or account.role is Role.OFFICER):
            # A PIN is short, and a card says its number to anybody: not even looked at, as if nobody had them.
            account, why = None, place
        is_his = bool(card) or await self._is_right(account, secret)
        if account is None or account.disabled or not is_his:
            await gate.record(SignInRefused(whose, why, address))
            raise Refused("wrong")
        gate.brake.was_right(tried, address)
        return account, "card" if card else "pin" if account.role is Role.OFFICER else "password"

    async def _is_right(self, account: Account | None, secret: str) -> bool:
        if len(self._looked_at) >= _WAITING:
            raise Refused("busy", 503)
        task = asyncio.create_task(self._look(account, secret))
        self._looked_at.add(task)
        task.add_done_callback(self._looked_at.discard)
        return await asyncio.shield(task)

    async def _look(self, account: Account | None, secret: str) -> bool:
        async with self._hashing:
            return await asyncio.to_thread(is_right, account, secret)


def _of_card(gate: Gate, card: str) -> Account | None:
    try:
        return gate.book.accounts.of_card(card_number(card.strip()))
    except AccountsError:
        return None


async def come_in(request: web.Request, account: Account, told: SignedIn, onward: str) -> web.Response:
    """Begin a session, which the journal knows before, and lead on; raises JournalError."""
    gate = gate_of(request)
    gate.sessions.end(request[WHO].session)
    await gate.record(told)
    response = web.Response(status=303, headers={"Location": _onward(onward, account.role)})
    cookie = gate.sessions.begin(account.name, account.role, account.secret, account if told.issuer else None)
    gate.set_cookie(request, response, "session", cookie)
    return response


def form(request: web.Request, onward: str, refusal: Refused | None = None) -> web.Response:
    """The page on which somebody signs in, and why he could not."""
    words = {}
    if refusal is not None:
        words = {lang: text.format(refusal.where or refusal.wait_s) for lang, text in _WORDS[refusal.words].items()}
    gate = gate_of(request)
    values = {"onward": onward[:TEXT_LIMIT], "told": words, "local": gate.is_local(request), "provider": gate.provider}
    response = page(request, "login.html", refusal.status if refusal else 200, **values)
    if refusal is not None and refusal.wait_s:
        response.headers["Retry-After"] = str(refusal.wait_s)
    return response


def _onward(asked: str, role: Role) -> str:
    """Where to go: a path of this station and nothing else, however a browser may read it."""
    is_path = asked.startswith("/") and not asked.startswith(("//", "/\\")) and asked.isascii() and asked.isprintable()
    if is_path and "\\" not in asked and len(asked) <= TEXT_LIMIT:
        return asked
    return "/kiosk" if role is Role.OFFICER else "/"
