"""Promise: only who may sees and says something, guessing is slow, and each sign-in is in the log."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from agent.accounts.book import FILE, SIGNED_IN, Account, AccountsError, Book, Role, Token
from agent.accounts.hashing import hashed, is_right
from agent.errors import JournalError
from agent.journal import Journal
from agent.screens.brake import Brake
from agent.screens.guard import Gate
from agent.screens.server import serving, status_app
from agent.screens.session import Sessions
from agent.screens.who import roles_of
from agent.status.board import Board
from tests.status_station import NOW, Served, board_of, serve

PASSWORD = "correct horse battery"
FORM = {"Content_Type": "application/x-www-form-urlencoded"}
Answer = tuple[int, dict[str, str], bytes]


known = cache(hashed)


@pytest.fixture
async def nobody(tmp_path: Path) -> AsyncIterator[Served]:
    """A station that nobody has signed in to, with a supervisor, and an officer with a PIN and a card."""
    async with serve(tmp_path, role=None) as station:
        secret, pin = known(PASSWORD, Role.SUPERVISOR), known("246813", Role.OFFICER)
        station.gate.book.change("li.si", lambda _, before: Account("li.si", Role.SUPERVISOR, secret))
        station.gate.book.change("zhang", lambda all_, _: Account("zhang", Role.OFFICER, pin, all_.card("12345678")))
        yield station


async def ask(served: Served, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    return await asyncio.to_thread(served.ask, path, method, body, **headers)


async def opened_form(served: Served, **headers: str) -> tuple[str, str]:
    """The cookie and the token of a form that was just opened."""
    status, got, body = await ask(served, "/login", **headers)
    assert status == 200
    found = re.search(r'name="token" value="(\w+)"', body.decode())
    assert found is not None
    return got["set-cookie"].split(";")[0], found[1]


async def sign_in(served: Served, fields: Mapping[str, str], **headers: str) -> Answer:
    cookie, token = await opened_form(served, **headers)
    body = urlencode({"token": token, **fields}).encode()
    return await ask(served, "/login", "POST", body, Cookie=cookie, **FORM, **headers)


def told(served: Served) -> list[tuple[str, dict[str, object]]]:
    """What the journal has of accounts."""
    return [(event.kind, json.loads(event.detail)) for event in served.journal.reader.events(limit=100)]


# Who may what.


def test_every_route_says_who_may_ask_for_it() -> None:
    app = status_app(cast("Board", None), cast("Gate", None))
    assert [str(route) for route in app.router.routes() if not roles_of(route.handler)] == []
    public = {
        route.resource.canonical
        for route in app.router.routes()
        if route.resource and Role.PUBLIC in roles_of(route.handler)
    }
    assert public <= {"/healthz", "/login", "/login/centre", "/login/centre/done", "/logout", "/static/{name}"}


async def test_each_route_answers_its_roles_and_no_other(nobody: Served) -> None:
    app = status_app(nobody.board, nobody.gate)
    gets = {
        (route.resource.canonical, roles_of(route.handler))
        for route in app.router.routes()
        if route.method == "GET" and route.resource and "events" not in route.resource.canonical
    }
    for role in (None, *SIGNED_IN):
        served = nobody.signed_in(role) if role else nobody
        for path, roles in gets:
            status, _, _ = await ask(served, re.sub(r"{\w+}", "x", path))
            may = role in roles or roles & {Role.PUBLIC, Role.KIOSK}
            assert (status not in (303, 401, 403)) == bool(may), (role, path, status)


def test_whom_a_recording_shows_and_names_is_not_its_business() -> None:
    app = status_app(cast("Board", None), cast("Gate", None))
    routes = [route for route in app.router.routes() if Role.IT in roles_of(route.handler)]
    its = {route.resource.canonical for route in routes if route.resource}
    named = {"/api/v1/recordings/{recording}", "/api/v1/metadata/{recording}", "/recordings/{recording}"}
    assert not its & (named | {f"/recordings/{{recording}}/{part}" for part in ("view", "copy", "made/{role}")})


async def test_who_has_not_signed_in_is_led_to_the_form_and_programs_are_told(nobody: Served) -> None:
    status, headers, _ = await ask(nobody, "/")
    assert (status, headers["location"]) == (303, "/login?next=/")
    status, headers, body = await ask(nobody, "/api/v1/status")
    assert (status, headers["www-authenticate"]) == (401, "Bearer")
    assert "请先登录" in json.loads(body)["error"]["message"]


async def test_who_may_not_is_told_so_on_a_page_and_programs_as_json(nobody: Served) -> None:
    officer = nobody.signed_in(Role.OFFICER)
    status, headers, body = await ask(officer, "/", Accept="text/html,*/*")
    assert (status, headers["content-type"]) == (403, "text/html; charset=utf-8")
    assert "此账号无权查看" in body.decode()
    assert "unsafe" not in headers["content-security-policy"]
    status, _, body = await ask(officer, "/api/v1/status", Accept="text/html")
    assert (status, json.loads(body)["error"]["status"]) == (403, 403)


# Signing in and out.


async def test_a_supervisor_signs_in_sees_and_signs_out_and_the_journal_tells(nobody: Served) -> None:
    status, headers, _ = await sign_in(nobody, {"account": "li.si", "secret": PASSWORD, "next": "/api/v1/status"})
    assert (status, headers["location"]) == (303, "/api/v1/status")
    cookie = headers["set-cookie"]
    assert all(word in cookie for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    signed_in = replace(nobody, cookie=cookie.split(";")[0].partition("=")[2])
    assert (await ask(signed_in, "/api/v1/status"))[0] == 200
    body = urlencode({"token": signed_in.form_token}).encode()
    assert (await ask(signed_in, "/logout", "POST", body, **FORM))[0] == 303
    assert (await ask(signed_in, "/api/v1/status"))[0] == 401
    assert told(nobody) == [
        ("signed_in", {"account": "li.si", "role": "supervisor", "by": "password", "address": "127.0.0.1"}),
        ("signed_out", {"account": "li.si"}),
    ]


@pytest.mark.parametrize(
    ("fields", "account"),
    [
        ({"account": "li.si", "secret": "wrong"}, "li.si"),
        ({"account": "hunter2 typed here", "secret": PASSWORD}, ""),
        ({"account": "li.si", "secret": "\udc80"}, "li.si"),
        ({"card": "99999999"}, ""),
        ({"card": "1'; --"}, ""),
        ({}, ""),
    ],
)
async def test_what_is_wrong_is_told_the_same_way_and_journalled_without_what_was_typed(
    nobody: Served, fields: dict[str, str], account: str
) -> None:
    body = {name: value.encode("utf-8", "replace").decode() for name, value in fields.items()}
    status, headers, page = await sign_in(nobody, body)
    assert status == 403
    assert "账号、密码或卡不正确" in page.decode()
    assert "session=" not in headers.get("set-cookie", "")
    assert told(nobody) == [("sign_in_refused", {"account": account, "why": "wrong", "address": "127.0.0.1"})]


@pytest.mark.parametrize("fields", [{"account": "zhang", "secret": "246813"}, {"card": "12345678"}])
async def test_an_officer_signs_in_by_pin_or_card_at_the_station_only(nobody: Served, fields: dict[str, str]) -> None:
    status, headers, _ = await sign_in(nobody, fields)
    assert (status, headers["location"]) == (303, "/kiosk")
    assert told(nobody)[-1][1]["by"] == ("card" if "card" in fields else "pin")


@pytest.mark.parametrize(
    "onward", ["//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nX: y", "", "/é"]
)
async def test_signing_in_leads_to_no_other_site(nobody: Served, onward: str) -> None:
    _, headers, _ = await sign_in(nobody, {"card": "12345678", "next": onward})
    assert headers["location"] == "/kiosk"


async def test_a_disabled_account_is_out_at_once(nobody: Served) -> None:
    _, headers, _ = await sign_in(nobody, {"account": "li.si", "secret": PASSWORD})
    signed_in = replace(nobody, cookie=headers["set-cookie"].split(";")[0].partition("=")[2])
    nobody.gate.book.change("li.si", lambda _, before: replace(cast("Account", before), disabled=True))
    assert (await ask(signed_in, "/api/v1/status"))[0] == 401
    assert (await sign_in(nobody, {"account": "li.si", "secret": PASSWORD}))[0] == 403


async def test_without_a_journal_nobody_comes_in(nobody: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> int:
        raise JournalError("The disk is full.")

    monkeypatch.setattr(Journal, "record", broken)
    gate = replace(nobody.gate, record=nobody.journal.record)
    async with serving(board_of(nobody.config, nobody.journal, nobody.world), gate, "127.0.0.1", 0) as port:
        status, headers, page = await sign_in(replace(nobody, port=port), {"card": "12345678"})
    assert (status, "session=" in headers.get("set-cookie", "")) == (503, False)
    assert "已采集的资料安全" in page.decode()


# Forms.


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
async def test_a_form_of_another_site_does_nothing(nobody: Served, headers: dict[str, str]) -> None:
    cookie, token = await opened_form(nobody)
    body = urlencode({"token": token, "card": "12345678"}).encode()
    status, _, _ = await ask(nobody, "/login", "POST", body, Cookie=cookie, **FORM, **headers)
    assert (status, told(nobody)) == (403, [])


@pytest.mark.parametrize("token", ["", "0" * 64, "\u00e9"])
async def test_a_form_without_its_token_or_with_anothers_does_nothing(nobody: Served, token: str) -> None:
    supervisor = nobody.signed_in(Role.SUPERVISOR)
    others = nobody.signed_in(Role.IT).form_token
    for given in (token, others):
        status, _, _ = await ask(supervisor, "/logout", "POST", urlencode({"token": given}).encode(), **FORM)
        assert status == 403
    assert (await ask(supervisor, "/api/v1/status"))[0] == 200
    assert (await ask(supervisor, "/logout", "POST", b"", X_Form_Token=supervisor.form_token))[0] == 303


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("multipart/form-data", b"--"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nnameless\r\n--x--\r\n"),
        ("application/x-www-form-urlencoded; charset=nothing", b"a=b"),
        ("application/x-www-form-urlencoded", b"a=\xff"),
    ],
)
async def test_what_is_no_form_is_refused_in_words(nobody: Served, kind: str, body: bytes) -> None:
    for token in ({}, {"X_Form_Token": "0"}):
        status, _, page = await ask(nobody, "/login", "POST", body, Content_Type=kind, **token)
        assert status in (400, 403), "never 500, nor a traceback in the log"
        assert "表单" in page.decode()


# Guessing.


async def test_guessing_gets_slow_and_is_not_even_looked_at(nobody: Served) -> None:
    seconds = Seconds()
    gate = replace(nobody.gate, brake=Brake(seconds))
    async with serving(nobody.board, gate, "127.0.0.1", 0) as port:
        served = replace(nobody, port=port, gate=gate)
        for _ in range(4):
            assert (await sign_in(served, {"account": "li.si", "secret": "wrong"}))[0] == 403
        status, headers, page = await sign_in(served, {"account": "li.si", "secret": PASSWORD})
        assert (status, headers["retry-after"]) == (429, "2")
        assert "请 2 秒后再试" in page.decode()
        assert (await sign_in(served, {"card": "12345678"}))[0] == 303, "others at the same station are not held up"
        seconds.now += 2
        assert (await sign_in(served, {"account": "li.si", "secret": PASSWORD}))[0] == 303


async def test_guessing_from_elsewhere_holds_up_nobody_at_the_station(nobody: Served) -> None:
    gate = replace(nobody.gate, hosts=(), brake=Brake(Seconds()))
    async with serving(nobody.board, gate, "127.0.0.1", 0) as port:
        served = replace(nobody, port=port, gate=gate)
        for fields in ({"card": "99999999"}, {"account": "zhang", "secret": "000000"}):
            for _ in range(5):
                status, _, _ = await sign_in(served, fields, Host="station.example")
            assert status == 429
        assert (await sign_in(served, {"card": "12345678"}))[0] == 303
        assert (await sign_in(served, {"account": "zhang", "secret": "246813"}))[0] == 303


async def test_behind_a_proxy_the_address_is_the_proxys_word_not_that_of_who_asks(nobody: Served) -> None:
    gate = replace(nobody.gate, behind_proxy=True)
    headers = CIMultiDict({"X-Forwarded-For": "203.0.113.9, 198.51.100.1"})
    headers.add("X-Forwarded-For", "192.0.2.7")
    assert gate.address(make_mocked_request("GET", "/login", headers)) == "192.0.2.7"
    assert gate.address(make_mocked_request("GET", "/login")) == ""


class Seconds:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_the_brake_doubles_up_to_a_minute_and_forgets() -> None:
    seconds = Seconds()
    brake, waits = Brake(seconds), []
    for _ in range(12):
        brake.tried("li.si", "192.0.2.7")
        waits.append(brake.wait_s("li.si", "198.51.100.1"))
        seconds.now += waits[-1]
    assert waits == [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
    seconds.now += 900
    assert brake.wait_s("li.si", "192.0.2.7") == 0


def test_an_address_that_tries_many_accounts_waits_too_and_a_right_one_costs_nothing() -> None:
    brake = Brake(Seconds())
    for n in range(12):
        brake.tried(f"a{n}", f"2001:db8::{n:x}")
    assert brake.wait_s("another", "2001:db8::ffff") > 0, "a /64 is one address"
    assert brake.wait_s("another", "2001:db8:0:1::1") == 0
    right = Brake(Seconds())
    for _ in range(100):
        right.tried("li.si", "192.0.2.7")
        right.was_right("li.si", "192.0.2.7")
    assert right.wait_s("li.si", "192.0.2.7") == 0


def test_the_brake_keeps_the_latest_only() -> None:
    brake = Brake(Seconds())
    for n in range(10_000):
        brake.tried(str(n), "192.0.2.7")
    assert len(brake._tried) <= 4096


# Sessions.


def test_sessions_end_by_idleness_age_and_number(tmp_path: Path) -> None:
    seconds, book = Seconds(), Book(tmp_path)
    book.change("a", lambda _, __: Account("a", Role.OFFICER))
    accounts = book.change("b", lambda _, __: Account("b", Role.IT)) and book.accounts
    sessions = Sessions(seconds)
    officer, other = sessions.begin("a", Role.OFFICER), sessions.begin("b", Role.IT)
    seconds.now += 170
    assert sessions.find(officer, accounts) is not None
    seconds.now += 181
    assert sessions.find(officer, accounts) is None
    for _ in range(25):
        seconds.now += 1500
        last = sessions.find(other, accounts)
    assert last is None, "after ten hours"
    first = sessions.begin("b", Role.IT)
    for _ in range(500):
        sessions.begin("b", Role.IT)
    assert sessions.find(first, accounts) is None


# Tokens.


async def test_a_token_has_one_role_an_end_and_no_form(nobody: Served) -> None:
    kept = Token("prometheus", sha256(b"abc").hexdigest(), Role.IT, NOW + timedelta(days=1))
    nobody.gate.book.change("li.si", lambda _, before: replace(cast("Account", before), tokens=(kept,)))
    assert (await ask(nobody, "/api/v1/status", Authorization="Bearer abc"))[0] == 200
    for wrong in ("Bearer abd", "Bearer ", "Basic abc", "abc"):
        assert (await ask(nobody, "/api/v1/status", Authorization=wrong))[0] == 401
    nobody.world.now += timedelta(days=2)
    assert (await ask(nobody, "/api/v1/status", Authorization="Bearer abc"))[0] == 401


# The file.


def test_accounts_are_private_and_come_back_as_they_were(tmp_path: Path) -> None:
    token = Token("t", "ab" * 32, Role.IT, NOW)
    made = Account("li.si", Role.SUPERVISOR, "$argon2id$", disabled=True, tokens=(token,))
    Book(tmp_path).change("li.si", lambda _, __: made)
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert Book(tmp_path).read().by_name == {"li.si": made}


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"version": 2}', '{"version": 1, "card_key": "00", "accounts": []}', '{"version": []}']
)
def test_a_damaged_file_means_that_nobody_signs_in_and_is_never_written_over(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    (tmp_path / FILE).chmod(0o600)
    book = Book(tmp_path)
    book.load()
    assert book.accounts.by_name == {}
    assert "it is damaged" in book.trouble
    with pytest.raises(AccountsError, match="is damaged"):
        book.change("a", lambda _, __: Account("a", Role.IT))
    assert (tmp_path / FILE).read_text() == content


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    book = Book(tmp_path)
    book.change("a", lambda _, __: Account("a", Role.IT))
    (tmp_path / FILE).chmod(0o640)
    with pytest.raises(AccountsError, match="can be read by others"):
        book.read()


@pytest.mark.parametrize("name", ["", " ", "a b", "../a", "a\n", "-a", "a" * 65, "\u202ea"])
def test_a_name_is_a_word(tmp_path: Path, name: str) -> None:
    with pytest.raises(AccountsError):
        Book(tmp_path).change(name, lambda _, __: Account(name, Role.IT))


def test_short_passwords_are_refused_and_hashes_tell_nothing() -> None:
    with pytest.raises(AccountsError, match="12"):
        hashed("short", Role.IT)
    with pytest.raises(AccountsError):
        hashed("1" * 129, Role.OFFICER)
    account = Account("a", Role.OFFICER, hashed("ｐａｓｓ12", Role.OFFICER))
    assert "pass12" not in account.secret
    assert is_right(account, "pass12"), "as another keyboard types it"
    assert not is_right(account, "pass13")
    assert not is_right(None, "pass12")
    assert not is_right(replace(account, secret=""), "")
