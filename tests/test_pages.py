"""Promise: pages are made of escaped text and of files of our own, in the language and theme of who looks."""

from __future__ import annotations

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from agent.screens import pages
from agent.screens.pages import asset, page, visible
from agent.screens.who import Role, roles_of


async def asked(address: str, cookie: str = "") -> tuple[int, str, dict[str, str]]:
    """What a browser gets from an application with the static files and one page."""

    async def login(request: web.Request) -> web.Response:
        return page(request, "base.html")

    app = web.Application()
    app.add_routes([*pages.routes(), web.get("/", login)])
    async with TestClient(TestServer(app)) as client:
        answer = await client.get(address, headers={"Cookie": cookie} if cookie else {})
        return answer.status, await answer.text(), dict(answer.headers)


async def test_a_page_is_in_the_language_that_was_chosen_and_remembers_it() -> None:
    _, chinese, headers = await asked("/")
    assert '<html lang="zh-CN" data-theme="auto">' in chinese
    assert "Set-Cookie" not in headers
    assert headers["Content-Security-Policy"] == pages.POLICY
    assert "unsafe" not in pages.POLICY
    _, english, headers = await asked("/?lang=en&theme=dark")
    assert '<html lang="en" data-theme="dark">' in english
    assert "HttpOnly" in headers["Set-Cookie"]
    assert "SameSite=Strict" in headers["Set-Cookie"]
    assert '<html lang="en" data-theme="auto">' in (await asked("/", "lang=en; theme=nonsense"))[1]


async def test_static_files_are_kept_by_their_digest_and_nothing_else_is_served() -> None:
    status, body, headers = await asked(asset("page.css"))
    assert (status, headers["Content-Type"].partition(";")[0]) == (200, "text/css")
    assert "immutable" in headers["Cache-Control"]
    assert "url(" not in body, "nothing is fetched from elsewhere"
    assert (await asked("/static/page.css?v=other"))[2]["Cache-Control"] == "no-cache"
    for path in ("/static/..%2fserver.py", "/static/%2e%2e%2fwho.py", "/static/nothing.css", "/static//etc/passwd"):
        assert (await asked(path))[0] == 404, path


def test_static_files_are_for_everybody() -> None:
    assert {roles_of(route.handler) for route in pages.routes()} == {frozenset({Role.PUBLIC})}


def test_what_could_make_one_name_look_like_another_is_shown() -> None:
    assert visible("a\u202eb\udc80\x07\n中") == "a\\u202eb\\udc80\\u0007\n中"
    assert visible(7) == 7
