"""Promise: a door that was open closes when it must, and nobody finds out from outside what is behind it."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import re
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import cast
from urllib.parse import urlencode

import aiohttp
import pytest

from agent.accounts.book import PROGRAMS, Account, Role, Token
from agent.screens import login
from agent.screens.brake import Brake
from agent.screens.guard import RENEWAL, Gate
from agent.screens.server import serving, status_app
from agent.screens.session import Sessions
from agent.screens.who import is_page_of, roles_of
from tests.chromium import browsing
from tests.status_station import NOW, Served, session_cookie
from tests.test_accounts import FORM, PASSWORD, Seconds, ask, nobody, opened_form, sign_in, told

__all__ = ["nobody"]
SOON_S = 10
RENEWED = """(async () => {
    while (typeof asking === "undefined" || asking) await new Promise((go) => setTimeout(go, 20));
    await renew();
})()"""


@contextlib.asynccontextmanager
async def behind(nobody: Served, **changed: object) -> AsyncIterator[Served]:
    """The same station behind a gate of its own."""
    gate: Gate = replace(nobody.gate, **changed)  # type: ignore[arg-type]
    async with serving(nobody.board, gate, "127.0.0.1", 0) as port:
        yield replace(nobody, port=port, gate=gate)


# An answer without an end.


def signed_out(served: Served, _: Seconds) -> None:
    who = served.gate.sessions.find(served.cookie, served.gate.book.accounts)
    assert who is not None
    served.gate.sessions.end(who.session)


def idle(_: Served, seconds: Seconds) -> None:
    seconds.now += 1801


def disabled(served: Served, _: Seconds) -> None:
    served.gate.book.change("li.si", lambda __, before: replace(cast("Account", before), disabled=True))


def revoked(served: Served, _: Seconds) -> None:
    served.gate.book.change("li.si", lambda __, before: replace(cast("Account", before), tokens=()))


def expired(served: Served, _: Seconds) -> None:
    served.world.now += timedelta(days=2)


@pytest.mark.parametrize(
    ("end", "by_token"),
    [(signed_out, False), (idle, False), (disabled, False), (disabled, True), (revoked, True), (expired, True)],
)
async def test_who_is_no_longer_signed_in_hears_nothing_more(
    nobody: Served, end: Callable[[Served, Seconds], None], by_token: bool
) -> None:
    seconds = Seconds()
    async with behind(nobody, sessions=Sessions(seconds)) as served:
        kept = Token("p", sha256(b"abc").hexdigest(), Role.IT, NOW + timedelta(days=1))
        served.gate.book.change("li.si", lambda _, before: replace(cast("Account", before), tokens=(kept,)))
        known = served.gate.book.accounts.by_name["li.si"]
        his = replace(served, cookie=served.gate.sessions.begin("li.si", Role.SUPERVISOR, known.secret))
        headers = {"Authorization": "Bearer abc"} if by_token else his.headers
        address = f"http://127.0.0.1:{served.port}/api/v1/events"
        async with aiohttp.ClientSession() as client, client.get(address, headers=headers) as stream:
            assert stream.status == 200
            await stream.content.readuntil(b"slots")
            end(his, seconds)
            async with asyncio.timeout(SOON_S):
                await stream.content.read()


async def test_the_stream_of_who_stands_at_the_dock_goes_on(nobody: Served) -> None:
    async with aiohttp.ClientSession() as client, client.get(f"{nobody.url}api/v1/events") as stream:
        await stream.content.readuntil(b"slots")
        nobody.world.show()
        await asyncio.wait_for(stream.content.readuntil(b"slots"), SOON_S)


async def test_a_head_of_the_events_ends(nobody: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", nobody.port, timeout=SOON_S)

    def asked(method: str, path: str) -> tuple[int, str | None]:
        connection.request(method, path)
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("Content-Type")

    with contextlib.closing(connection):
        assert await asyncio.to_thread(asked, "HEAD", "/api/v1/events") == (200, "text/event-stream; charset=utf-8")
        assert (await asyncio.to_thread(asked, "GET", "/healthz"))[0] == 200, "on the same connection"


# Who is idle.


async def test_a_page_that_renews_itself_keeps_nobody_signed_in_but_a_person_does(nobody: Served) -> None:
    seconds = Seconds()
    async with behind(nobody, sessions=Sessions(seconds)) as plain:
        served = plain.signed_in(Role.SUPERVISOR)
        renewals: list[tuple[str, dict[str, str]]] = [
            ("/", {RENEWAL.replace("-", "_"): "1"}),
            ("/api/v1/status", {}),
            ("/statistics/2026", {"Sec_Fetch_Dest": "image"}),
        ]
        for path, headers in renewals:
            for _ in range(2):
                seconds.now += 1000
                status, _, _ = await ask(served, path, **headers)
            assert status in (303, 401), path
            served = plain.signed_in(Role.SUPERVISOR)
        for path in ("/", "/healthz", "/", "/healthz"):
            seconds.now += 1000
            assert (await ask(served, path))[0] == 200
        assert (await ask(served, "/api/v1/status"))[0] == 200


async def test_in_the_browser_an_idle_page_ends_at_the_form_and_a_used_one_does_not(
    nobody: Served, tmp_path: Path
) -> None:
    seconds = Seconds()
    async with behind(nobody, sessions=Sessions(seconds)) as served:
        cookie = session_cookie(served.gate, Role.SUPERVISOR)
        async with browsing(served.url, tmp_path / "browser", cookie) as page:
            await page.shows("本站状态")
            (session,) = served.gate.sessions._found
            for used in (False, True, False, False):
                seconds.now += 700
                await page.value(RENEWED)
                assert "本站状态" in await page.text()
                if used:
                    await page.value("told_ms = 0; dispatchEvent(new KeyboardEvent('keydown')); 0")
                    async with asyncio.timeout(SOON_S):
                        while served.gate.sessions._found[session].seen_s < seconds.now:
                            await asyncio.sleep(0.05)
            seconds.now += 700
            await page.shows("密码或 PIN", SOON_S)


# From elsewhere.


async def test_from_elsewhere_an_officer_is_nobody(nobody: Served) -> None:
    """Else a PIN of six digits could be tried, or a number of a card, from the network."""
    looked: list[Account | None] = []
    answers: dict[str, tuple[object, ...]] = {}
    patch = pytest.MonkeyPatch()
    patch.setattr(login, "is_right", lambda account, _: bool(looked.append(account)) or account is not None)
    tries = {
        "a right PIN": {"account": "zhang", "secret": "246813"},
        "a wrong PIN": {"account": "zhang", "secret": "000000"},
        "nobody's": {"account": "wu.ming", "secret": "246813"},
        "a right card": {"card": "12345678"},
        "nobody's card": {"card": "99999999"},
    }
    try:
        for what, fields in tries.items():
            async with behind(nobody, hosts=(), brake=Brake(Seconds())) as served:
                found = [await sign_in(served, fields, Host="station.example") for _ in range(6)]
                seen = [(status, headers.get("retry-after"), plain(body)) for status, headers, body in found]
                answers[what] = (*seen, "session=" in str(found))
    finally:
        patch.undo()
    assert len({answers[what] for what in tries if "card" not in what}) == 1
    assert answers["a right card"] == answers["nobody's card"]
    assert answers["a right PIN"][0][0] == 403  # type: ignore[index]
    assert set(looked) == {None}, "it takes as long as for an account that there is not"
    refused = [detail for kind, detail in told(nobody) if kind == "sign_in_refused"]
    assert {(one["account"], one["why"]) for one in refused} == {("zhang", "elsewhere"), ("", "wrong")}


def plain(body: bytes) -> str:
    return re.sub(r'name="token" value="\w+"', "", body.decode())


@pytest.mark.parametrize(("whose", "role"), [("zhang", Role.IT), ("zhang", Role.OFFICER), ("li.si", Role.OFFICER)])
async def test_no_token_is_an_officers(nobody: Served, whose: str, role: Role) -> None:
    """A file of before may have one."""
    kept = Token("t", sha256(b"abc").hexdigest(), role, NOW + timedelta(days=1))
    nobody.gate.book.change(whose, lambda _, before: replace(cast("Account", before), tokens=(kept,)))
    for path in ("/api/v1/status", "/kiosk/dockings/d1"):
        assert (await ask(nobody, path, Authorization="Bearer abc"))[0] == 401
    assert Role.OFFICER not in PROGRAMS


# Words for programs.


async def test_only_pages_lead_to_the_form_and_all_else_tells_that_nobody_has_signed_in(nobody: Served) -> None:
    app = status_app(nobody.board, nobody.gate)
    closed = {
        (route.resource.canonical, is_page_of(route.handler))
        for route in app.router.routes()
        if route.method == "GET" and route.resource and not roles_of(route.handler) & {Role.PUBLIC, Role.KIOSK}
    }
    assert ("/metrics", False) in closed
    assert ("/", True) in closed
    for path, is_page in closed:
        status, headers, body = await ask(nobody, re.sub(r"{\w+}", "x", path))
        assert (status, "location" in headers) == ((303, True) if is_page else (401, False)), path
        assert is_page or "请先登录" in json.loads(body)["error"]["message"]
    assert (await ask(nobody.signed_in(Role.SUPERVISOR), "/metrics"))[0] == 403


@pytest.mark.parametrize("what", ["", "/activity", "/gap"])
async def test_what_is_said_of_no_docking_is_told_to_be_of_none(nobody: Served, what: str) -> None:
    officer = nobody.signed_in(Role.OFFICER)
    body = urlencode({"token": officer.form_token, "proof_object": "x"}).encode()
    status, _, told = await ask(officer, f"/kiosk/dockings/nowhere{what}", "POST", body, **FORM)
    assert (status, "nowhere" in told.decode()) == (404, True)


# Guessing.


async def test_passwords_that_nobody_waits_for_any_more_are_counted_all_the_same(
    nobody: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once, most, lock, go_on = 0, 0, threading.Lock(), threading.Event()

    def slow(*_: object) -> bool:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        go_on.wait(20)
        with lock:
            at_once -= 1
        return False

    monkeypatch.setattr(login, "is_right", slow)
    monkeypatch.setattr("agent.screens.server._ANSWER_LIMIT_S", 0.3)
    async with behind(nobody, brake=Brake(Seconds())) as served:
        cookie, token = await opened_form(served)
        try:
            statuses = []
            for n in range(10):
                body = urlencode({"token": token, "account": f"a{n}", "secret": PASSWORD}).encode()
                statuses.append((await ask(served, "/login", "POST", body, Cookie=cookie, **FORM))[0])
            assert (set(statuses), most) == ({503}, 2)
            busy = await ask(served, "/login", "POST", body, Cookie=cookie, **FORM)
            assert "同时登录的人过多" in busy[2].decode(), "eight wait already"
        finally:
            go_on.set()


# What no browser sends.

ASKED = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
POSTED = b"POST /login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (ASKED + b"X<script>: secret\r\n\r\n", 400),
        (ASKED + b"X-A: b\r\n  secret\r\n\r\n", 400),
        (ASKED + b"Host: secret\r\n\r\n", 400),
        (b"GET /" + b"secret" * 500 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://[secret/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /secret HTTP/1.1\nHost: localhost\n\n", 400),
        (b"\x16\x03\x01\x02\x00secret\r\n\r\n", 400),
        (ASKED + b"".join(b"X-%d: secret\r\n" % n for n in range(70)) + b"\r\n", 400),
        (POSTED + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /secret", 400),
        (POSTED + b"Content-Length: 6\r\nContent-Length: 5\r\n\r\nsecret", 400),
        (POSTED + b"Origin: http://[\r\nContent-Length: 0\r\n\r\n", 403),
        (POSTED + b"Origin: http://[\xff\r\nContent-Length: 0\r\n\r\n", 403),
        (b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: GET\r\nConnection: close\r\n\r\n", 405),
        (b"CONNECT secret:443 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
        (b"GET /kiosk/receipt/a%0d%0aX:secret HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 404),
    ],
)
async def test_what_is_no_request_is_refused_and_says_nothing_in_the_log(
    nobody: Served, caplog: pytest.LogCaptureFixture, request_: bytes, status: int
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", nobody.port)
    writer.write(request_)
    async with asyncio.timeout(SOON_S):
        answer = await reader.read()
    writer.close()
    assert int(answer.split()[1]) == status
    assert answer.count(b"\r\nDate: ") == 1, "a second request was not smuggled in"
    assert (caplog.text, told(nobody)) == ("", [])


async def test_a_form_that_is_packed_is_not_unpacked(nobody: Served) -> None:
    cookie, token = await opened_form(nobody)
    body = gzip.compress(urlencode({"token": token, "card": "12345678"}).encode())
    headers = {"Content_Encoding": "gzip", "Cookie": cookie, **FORM}
    assert (await ask(nobody, "/login", "POST", body, **headers))[0] in (400, 403)
    large = gzip.compress(b"a" * (64 << 20))
    assert (await ask(nobody, "/login", "POST", large[: 60 << 10], **headers))[0] in (400, 403, 413)
    assert told(nobody) == []
