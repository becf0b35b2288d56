"""Promise: who comes through the bureau's identity provider is whom it vouches for, now, for us; and nobody else."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from agent.accounts.book import Account, Role
from agent.accounts.hashing import hashed
from agent.config.oidc import Oidc
from agent.screens.centre import Centre, _Begun
from agent.screens.provider import Asked
from simulator.stage import with_options
from tests.chromium import browsing
from tests.daemons import running, stage
from tests.identity import GROUPS, ROLES, Forger, certified, forging, proven
from tests.servers import installed
from tests.status_station import Served, serve

FORM = {"Content_Type": "application/x-www-form-urlencoded"}
Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with installed(), certified(tmp_path_factory.mktemp("oidc")) as running:
        yield running


def use(
    served: Served, issuer: str, client_id: str = "dock 3", secret: str = "a secret: 100%+", **other: object
) -> None:
    """Have the station take people whom this provider vouches for; its clock is the true one."""
    path = None
    if secret:
        path = served.config.path.with_name("secret")
        path.write_text(secret + "\n")
        path.chmod(0o600)
    address = f"http://127.0.0.1:{served.port}"
    chosen = replace(Oidc(issuer, client_id, path, address=address, roles=ROLES), **other)
    served.gate.use(replace(served.config, oidc=chosen))
    served.world.now = datetime.now(UTC)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path, role=None) as station:
        yield station


@pytest.fixture
async def forger() -> AsyncIterator[Forger]:
    async with forging() as running:
        yield running


async def ask(served: Served, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
    return await asyncio.to_thread(served.ask, path, method, body, **headers)


async def begin(served: Served, onward: str = "") -> tuple[str, str]:
    """Press the button: the browser's cookie, and the address of the provider to which it leads."""
    cookie = (await ask(served, "/login"))[1]["set-cookie"].split(";")[0]
    status, _, page = await press(served, cookie, next=onward)
    assert status == 200, page.decode()
    return cookie, onward_of(page)


def onward_of(page: bytes) -> str:
    """Where a page leads to by itself."""
    found = re.search(r'http-equiv="refresh" content="0;url=([^"]+)"', page.decode())
    assert found, page.decode()
    return unescape(found[1])


async def press(served: Served, cookie: str, path: str = "/login/centre", **fields: str) -> Answer:
    """Send a form of the page for signing in."""
    _, _, page = await ask(served, "/login", Cookie=cookie)
    token = re.search(r'name="token" value="(\w+)"', page.decode())
    assert token
    body = urlencode({"token": token[1], **fields}).encode()
    return await ask(served, path, "POST", body, Cookie=cookie, **FORM)


async def come_back(served: Served, address: str, cookie: str = "") -> Answer:
    """What a browser gets that the provider led here: the first request is the other site's, without any cookie."""
    parts = urlsplit(address)
    status, got, page = await ask(served, f"{parts.path}?{parts.query}")
    assert (status, "set-cookie" in got) == (200, False)
    return await ask(served, onward_of(page), Cookie=cookie)


def told(served: Served) -> list[tuple[str, dict[str, object]]]:
    return [(event.kind, json.loads(event.detail)) for event in served.journal.reader.events(limit=100)]


# With a provider that nobody here wrote.


@pytest.mark.parametrize(("client_id", "secret"), [("dock 3", "a secret: 100%+"), ("post", "b"), ("public", "")])
async def test_whom_the_provider_vouches_for_comes_in_and_the_journal_tells_who(
    served: Served, issuer: str, client_id: str, secret: str
) -> None:
    use(served, issuer, client_id, secret)
    cookie, address = await begin(served, "/api/v1/status")
    asked = parse_qs(urlsplit(address).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["prompt"] == ["login"], "at the dock, who signed in there before is no proof"
    back = await proven(address, "li.si")
    status, headers, _ = await come_back(served, back, cookie)
    assert (status, headers["location"]) == (303, "/api/v1/status")
    session = headers["set-cookie"]
    assert all(word in session for word in ("HttpOnly", "SameSite=Strict", "Path=/"))
    signed_in = replace(served, cookie=session.split(";")[0].partition("=")[2])
    assert (await ask(signed_in, "/api/v1/status"))[0] == 200
    (kind, event), *_ = told(served)
    assert kind == "signed_in"
    name = str(event.pop("account"))
    assert re.fullmatch(r"li\.si#[0-9a-f]{12}", name)
    who = {"issuer": issuer, "subject": "li.si", "address": "127.0.0.1"}
    assert event == {"role": "supervisor", "by": "centre", **who}
    assert (await come_back(served, back, cookie))[0] == 403, "an answer counts once"
    body = urlencode({"token": signed_in.form_token}).encode()
    assert (await ask(signed_in, "/logout", "POST", body, **FORM))[0] == 303
    assert (await ask(signed_in, "/api/v1/status"))[0] == 401
    assert told(served)[-1] == ("signed_out", {"account": name})


async def test_a_code_that_was_used_is_refused_by_the_provider_too(served: Served, issuer: str) -> None:
    use(served, issuer)
    cookie, address = await begin(served)
    back = await proven(address, "zhao")
    assert (await come_back(served, back, cookie))[1]["location"] == "/"
    cookie, address = await begin(served)
    fresh = parse_qs(urlsplit(await proven(address, "zhao")).query)["state"][0]
    replayed = re.sub(r"state=[^&]+", f"state={fresh}", back)
    status, headers, page = await come_back(served, replayed, cookie)
    assert (status, "session=" in headers.get("set-cookie", "")) == (403, False)
    assert "统一认证未确认登录" in page.decode()


async def test_nobody_can_be_signed_in_as_somebody_else_by_a_link(served: Served, issuer: str) -> None:
    use(served, issuer)
    _, address = await begin(served)
    attackers = await proven(address, "li.si")
    victim, _ = await begin(served)
    for cookie in (victim, "", "visitor=x"):
        status, headers, page = await come_back(served, attackers, cookie)
        assert (status, "session=" in headers.get("set-cookie", "")) == (403, False)
        assert "此次登录已失效或已用过" in page.decode()
    assert told(served) == []


async def test_who_has_no_role_does_not_come_in(served: Served, issuer: str) -> None:
    use(served, issuer)
    cookie, address = await begin(served)
    status, _, page = await come_back(served, await proven(address, "nobody"), cookie)
    assert (status, "统一认证未授予您本站的任何角色" in page.decode()) == (403, True)
    assert told(served) == [("sign_in_refused", {"account": "", "why": "centre no-role", "address": "127.0.0.1"})]
    assert GROUPS["nobody"]


async def test_a_person_signs_in_through_the_bureau_in_a_browser(served: Served, issuer: str, tmp_path: Path) -> None:
    use(served, issuer)
    async with browsing(f"{served.url}login?next=/statistics", tmp_path / "browser") as page:
        await page.shows("统一认证登录")
        await page.value("document.querySelector('form[action=\"/login/centre\"] button').click()")
        await page.shows("Sign-in")
        fill = "for (const one of document.querySelectorAll('input[type=text],input[type=password]')) one.value='li.si'"
        await page.value(f"{fill}; document.querySelector('form button').click()")
        await page.shows("Continue")
        await page.value("document.querySelector('form button').click()")
        await page.shows("已登录 li.si#")
        assert await page.value("location.pathname + location.search") == "/statistics"
        assert await page.value("document.cookie") == ""
        assert not [line for line in page.console if "127.0.0.1:" + str(served.port) in line and "Refused" in line]
        await page.value("document.querySelector('form[action=\"/logout\"] button').click()")
        await page.shows("统一认证登录")


# When it does not answer.


async def test_a_slow_provider_is_given_up_in_time_and_local_accounts_work(
    served: Served, forger: Forger, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(served, forger.issuer, "dock", "")
    secret = hashed("correct horse battery", Role.SUPERVISOR)
    served.gate.book.change("li.si", lambda _, __: Account("li.si", Role.SUPERVISOR, secret))
    cookie, _ = await begin(served)
    forger.hangs = {"/.well-known/openid-configuration"}
    served.gate.provider._known = None
    for hanging in ("/.well-known/openid-configuration", "/keys"):
        forger.hangs = {hanging}
        with monkeypatch.context() as soon:
            soon.setattr("agent.screens.provider._LIMIT_S", 0.2)
            status, _, page = await press(served, cookie)
        assert status == 503
        assert "统一认证暂不可用，请使用本站账号登录" in page.decode()
    _, _, page = await ask(served, "/login?lang=en", Cookie=cookie)
    assert "Signing in through the bureau failed the last time; accounts of this station work." in page.decode()
    fields = {"account": "li.si", "secret": "correct horse battery"}
    assert (await press(served, cookie, "/login", **fields))[0] == 303
    forger.hangs = set()
    assert (await press(served, cookie))[0] == 200
    assert told(served)[-1][1]["by"] == "password"


async def test_wrong_answers_are_braked_and_fill_neither_log_nor_memory(served: Served, forger: Forger) -> None:
    use(served, forger.issuer, "dock", "")
    forger.given = "nonsense"
    statuses = []
    for _ in range(6):
        cookie, address = await begin(served)
        state = parse_qs(urlsplit(address).query)["state"][0]
        statuses.append((await ask(served, f"/login/centre/done?code=c&state={state}", Cookie=cookie))[0])
    assert statuses == [403, 403, 403, 403, 429, 429]
    assert len(told(served)) == 4
    centre = Centre()
    for n in range(5000):
        asked = Asked(str(n), "", "")
        centre._keep(_Begun(asked, "", "", "192.0.2.7" if n > 10 else str(n), datetime.now(UTC)))
    assert len(centre._begun) == 11 + 32, "one address takes nobody else's place"


async def test_who_takes_too_long_begins_again(served: Served, forger: Forger) -> None:
    use(served, forger.issuer, "dock", "")
    cookie, address = await begin(served)
    state = parse_qs(urlsplit(address).query)["state"][0]
    served.world.now += timedelta(minutes=11)
    status, _, page = await ask(served, f"/login/centre/done?code=c&state={state}", Cookie=cookie)
    assert (status, "此次登录已失效" in page.decode()) == (403, True)
    assert "/token" not in forger.asked


# How the station is configured.


async def test_without_a_provider_there_is_nothing_to_press(served: Served) -> None:
    assert "统一认证" not in (await ask(served, "/login"))[2].decode()
    for path in ("/login/centre", "/login/centre/done?code=c&state=s"):
        assert (await ask(served, path))[0] == 404


async def test_another_name_than_the_provider_knows_is_told_the_right_one(served: Served, forger: Forger) -> None:
    use(served, forger.issuer, "dock", "", address="https://dock-3.example:8470")
    cookie, _ = (await ask(served, "/login"))[1]["set-cookie"].split(";")[0], None
    status, _, page = await press(served, cookie)
    assert (status, "https://dock-3.example:8470" in page.decode()) == (403, True)
    assert forger.asked == {}


async def test_another_provider_ends_the_sessions_of_the_one_before(served: Served, forger: Forger) -> None:
    use(served, forger.issuer, "dock", "")
    person = Account("li.si#0123456789ab", Role.SUPERVISOR)
    session = served.gate.sessions.begin(person.name, person.role, central=person)
    local = served.signed_in(Role.IT)
    assert (await ask(replace(served, cookie=session), "/api/v1/status"))[0] == 200
    use(served, forger.issuer, "dock", "")
    assert (await ask(replace(served, cookie=session), "/api/v1/status"))[0] == 200
    use(served, forger.issuer, "dock", "", roles={"another": "it"})
    assert (await ask(replace(served, cookie=session), "/api/v1/status"))[0] == 401
    assert (await ask(local, "/api/v1/status"))[0] == 200


async def test_a_secret_that_cannot_be_read_stops_nobody_else(served: Served, forger: Forger) -> None:
    use(served, forger.issuer)
    served.config.path.with_name("secret").chmod(0o644)
    cookie, address = await begin(served)
    state = parse_qs(urlsplit(address).query)["state"][0]
    status, _, page = await ask(served, f"/login/centre/done?code=c&state={state}", Cookie=cookie)
    assert (status, "统一认证暂不可用" in page.decode()) == (503, True)
    assert "may read it" in served.gate.provider.trouble


def test_the_service_takes_a_provider_over_at_a_reload(issuer: str, tmp_path: Path) -> None:
    made = stage(tmp_path)
    chosen = {
        "oidc.issuer": f'"{issuer}"',
        "oidc.client_id": '"public"',
        "oidc.address": f'"http://127.0.0.1:{made.port}"',
        "oidc.roles": '{ "it-operations" = "it" }',
    }
    with running(made) as daemon, closing(http.client.HTTPConnection("127.0.0.1", made.port, timeout=20)) as client:

        def page() -> str:
            client.request("GET", "/login")
            return client.getresponse().read().decode()

        assert "统一认证登录" not in page()
        made.config.write_text(with_options(made.config.read_text("utf-8"), chosen), "utf-8")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: "统一认证登录" in page())
        assert "重新启动" not in json.dumps(daemon.status()["health"], ensure_ascii=False), "nothing waits for a start"
