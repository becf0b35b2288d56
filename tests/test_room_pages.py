"""Promise: the panel of a room says at once whether it is recorded, and never that it is when nobody knows."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlencode

import pytest

from agent.accounts.book import Role
from agent.errors import RequestError
from tests.chromium import Page, browsing
from tests.readings import SAMPLE, text_of
from tests.room_station import BEGAN, CASE, MINUTE, PERSON, picture, recorded, session, show, source, standing
from tests.status_station import NOW, Served, session_cookie
from tests.test_kiosk_page import SMALLEST_FONT_PX
from tests.test_screens_fit import fits
from tests.test_supervisor_page import AXE, BARRIERS, WORDS_WITHOUT_ICON

Asked = dict[str, str]


class Recorder:
    """Takes down what the screens ask of a station."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.refuses = ""

    async def ask(self, asked: Asked) -> dict[str, object]:
        if self.refuses:
            raise RequestError(self.refuses, safe="Nothing was started.")
        self.asked.append(asked)
        return {"session": "s1"}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with standing(tmp_path) as station:
        yield station


async def get(served: Served, path: str) -> tuple[int, str]:
    status, _, body = await asyncio.to_thread(served.ask, path, Accept="text/html")
    return status, body.decode(errors="replace")


async def post(served: Served, path: str, **fields: str) -> tuple[int, str]:
    """Send a form; the status of the answer, and where it leads or else its text."""
    body = urlencode({"token": served.form_token, **fields}).encode()
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    status, headers, text = await asyncio.to_thread(served.ask, path, "POST", body, **kind)
    return status, headers.get("location") or text.decode()


async def sound(page: Page) -> None:
    """Everything fits, is large enough for a finger and a look, says by icon and word, and has no barrier."""
    await fits(page)
    assert await page.value(SMALLEST_FONT_PX) >= 24
    assert await page.value(WORDS_WITHOUT_ICON) == 0
    await page.value(AXE.read_text("utf-8"))
    assert await page.value(BARRIERS) == []


async def test_the_panel_follows_a_session_from_idle_over_a_lost_camera_to_a_service_that_is_gone(
    tmp_path: Path,
) -> None:
    async with standing(tmp_path) as served:
        officer = session_cookie(served.gate, Role.OFFICER)
        still = picture(tmp_path / "stills", "face")
        async with browsing(f"{served.url}rooms/xunwen", tmp_path / "browser", officer) as page:
            await page.shows("未录制")
            await sound(page)
            served.world.live = replace(served.world.live, planned={"xunwen": (NOW, NOW + 60 * MINUTE)})
            wide = source("wide", "全景摄像机", level_db=-90.0)
            show(served, session(source("face", "正面摄像机", still), wide))
            await recorded(served)
            await page.shows("录制中")
            text = await page.text()
            for words in (
                "00:10:00",
                "计划 11:00 结束",
                "-23 dB",
                "磁盘还可录制",
                "开录前测试未通过",
                "摄像机不再传送数据",
                "09:58:00 起没有声音",
            ):
                assert words in text, words
            seen = "document.querySelector('img.still')"
            assert await page.value(f"{seen}.decode().then(() => {seen}.naturalWidth)") == 640
            width = "document.querySelectorAll('.meter .on')[0].getBoundingClientRect().width"
            assert await page.value(width) > 0
            await sound(page)
            lost = source("face", "正面摄像机", still, connected=False, gaps=1, noticed=("black",))
            show(served, session(lost, wide))
            await page.shows("信号中断")
            assert "录制中" not in await page.value("document.querySelector('.lamp').innerText")
            assert await page.value("document.querySelectorAll('img.still').length") == 0
            await sound(page)
            served.world.live = replace(served.world.live, sessions=())
            await page.shows("未录制")
            show(served, session(wide))
            await page.shows("录制中")
            assert page.console == []
            await page.send("Network.enable")
            await page.send("Network.emulateNetworkConditions", offline=True, latency=0, downloadThroughput=-1,
                            uploadThroughput=-1)  # fmt: skip
            await page.shows("服务没有应答，是否正在录制不明")
            assert "录制中" not in await page.text()
            await sound(page)
            await page.send("Network.emulateNetworkConditions", offline=False, latency=0, downloadThroughput=-1,
                            uploadThroughput=-1)  # fmt: skip
            await page.shows("录制中")
            served.gate.sessions.end(served.gate.sessions.find(officer, served.gate.book.accounts).session)  # type: ignore[union-attr]
            await page.shows("登录后显示画面")


async def test_without_the_service_s_word_the_page_says_that_it_does_not_know(served: Served) -> None:
    """As it is rendered, before any script has run: out of a cache, with a script that fails."""
    show(served, session(source("face", "正面摄像机")))
    _, text = await get(served, "/rooms/xunwen")
    assert '<body class="kiosk stale"' in text
    assert "状态未知" in text


async def test_in_a_room_that_is_configured_no_more_nothing_is_started(tmp_path: Path) -> None:
    """Its session runs on and is shown until it ends; a form that was open by then is answered in words."""
    station = Recorder()
    station.refuses = "没有这个房间 (there is no room gone)"
    async with standing(tmp_path, Role.OFFICER, {"session_start": station.ask}) as served:
        show(served, session(source("face", "正面摄像机"), room="gone"))
        assert (await get(served, "/rooms/gone"))[0] == 200
        for status, text in (
            await get(served, "/rooms/gone/start"),
            await post(served, "/rooms/gone/start", stage="S05", hours="1"),
        ):
            assert status == 404
            assert "没有这个场所" in text


async def test_a_session_is_started_and_stopped_by_who_has_signed_in_after_being_asked(tmp_path: Path) -> None:
    station = Recorder()
    verbs = dict.fromkeys(("session_start", "session_stop", "session_extend"), station.ask)
    async with standing(tmp_path, Role.OFFICER, verbs) as served:
        async with browsing(f"{served.url}rooms/xunwen", tmp_path / "browser", served.cookie) as page:
            await page.shows("开始录制")
            await page.value("document.querySelector('a.start').click(); 0")
            await page.shows("确认开始录制")
            await sound(page)
            typed = {"case": CASE, "participants": f"当事人/{PERSON}\n 记录人/王五 \n"}
            for name, text in typed.items():
                await page.value(f"document.getElementById('{name}').value = {json.dumps(text)}; 0")
            station.refuses = "磁盘空间不足，不能开始录制 (no room)"
            await page.value("document.querySelector('button.start').click(); 0")
            await page.shows("磁盘空间不足")
            assert PERSON in await page.value("document.getElementById('participants').value")
            await sound(page)
            station.refuses = ""
            await page.value(
                "document.getElementById('anyway').click(), document.querySelector('button.start').click(); 0"
            )
            await page.shows("停止录制" if served.world.live.sessions else "未录制")
            (asked,) = station.asked
            said = {"room": "xunwen", "started_by": "screen", "who": "officer", "stage": "S05", "case_number": CASE}
            people, end = f"当事人/{PERSON}\n记录人/王五", (NOW + 120 * MINUTE).isoformat()
            assert asked == said | {"participants": people, "planned_end": end, "why": asked["why"], "anyway": "yes"}
            show(served, session(source("face", "正面摄像机")))
            await page.shows("停止录制")
            await page.send("Page.navigate", url=f"{served.url}rooms/xunwen/extend")
            await page.shows("确认延长")
            await sound(page)
            await page.value("document.querySelector('button.start').click(); 0")
            await page.shows("全部场所")
            said = {"session": "s1", "who": "officer", "planned_end": (NOW + 60 * MINUTE).isoformat()}
            assert station.asked.pop() == said | {"why": "询问（听证）未结束"}
            await page.value("document.querySelector('a.stop').click(); 0")
            await page.shows("确定停止")
            await sound(page)
            await page.value("document.querySelector('button.stop').click(); 0")
            await page.shows("全部场所")
            assert station.asked[1:] == [{"session": "s1", "who": "officer", "why": "询问（听证）结束"}]


async def test_what_is_ordered_is_what_was_on_the_screen(tmp_path: Path) -> None:
    station = Recorder()
    verbs = dict.fromkeys(("session_start", "session_stop", "session_extend"), station.ask)
    async with standing(tmp_path, Role.OFFICER, verbs) as served:
        show(served, session(source("face", "正面摄像机")))
        for what in ("stop", "extend"):
            status, text = await post(served, f"/rooms/xunwen/{what}", session="another", why="x")
            assert (status, station.asked) == (409, []), "not one that has begun since"
            assert "其间已有人" in text
        assert (await post(served, "/rooms/xunwen/start", hours="99"))[0] == 400
        assert (await get(served, "/rooms/nothing/start"))[0] == 404


async def test_a_supervisor_reads_a_session_with_its_ledger_segments_and_explanations(
    served: Served, tmp_path: Path
) -> None:
    await recorded(served)
    show(served, session(source("face", "正面摄像机"), source("wide", "全景摄像机")))
    async with browsing(f"{served.url}sessions/s1", tmp_path / "browser", served.cookie) as page:
        await page.shows("中断与异常台账")
        text = await page.text()
        for words in (
            CASE, PERSON, "正面摄像机", "摄像机断开了连接", "没有声音", "仍在继续", "已入库", "达到分段时长",
            "中断未说明", "未通过", "no sound from wide", "+6.0 s", "11月",
        ):  # fmt: skip
            assert words in text, words
        assert await page.value("document.querySelectorAll('svg.strip rect.gap').length") == 2
        assert await page.value("document.querySelectorAll('svg.strip rect.segment').length") == 4
        for lang, words in (("en", "goes on"), ("zh", "仍在继续")):
            await page.send("Page.navigate", url=f"{served.url}sessions/s1?lang={lang}")
            await page.shows(words)
            await fits(page)
            await page.value(AXE.read_text("utf-8"))
            assert await page.value(BARRIERS) == []
        await page.send("Page.navigate", url=f"{served.url}rooms")
        await page.shows("第一询问室")
        await sound(page)
        await page.send("Page.navigate", url=f"{served.url}sessions/s1/gaps")
        await page.shows("请选择原因")
        await page.shows("按台账可能是 INT-12")
        await sound(page)
        assert page.console == []


async def test_who_may_see_what(tmp_path: Path) -> None:
    still = picture(tmp_path / "stills", "face")
    async with standing(tmp_path, role=None) as nobody:
        await recorded(nobody)
        show(nobody, session(source("face", "正面摄像机", still), source("wide", "全景摄像机")))
        said = "/rooms", "/rooms/xunwen", "/api/v1/rooms", "/api/v1/rooms/xunwen"
        signed = "/rooms/xunwen/start", "/rooms/xunwen/extend", "/rooms/xunwen/stop", "/sessions/s1/gaps"
        for role in (None, *(role for role in Role if role not in (Role.PUBLIC, Role.KIOSK))):
            served = nobody.signed_in(role) if role is not None else nobody
            for path in said:
                status, text = await get(served, path)
                assert status == 200
                assert CASE not in text
                assert PERSON not in text
                assert ('class="still" src' in text) == (path == "/rooms/xunwen" and role in WRITERS)
            for path in (*signed, "/rooms/xunwen/stills/face"):
                assert ((await get(served, path))[0] == 200) == (role in WRITERS), (role, path)
            for path in ("/sessions/s1", "/api/v1/sessions/s1"):
                assert ((await get(served, path))[0] == 200) == (role in READERS), (role, path)
            status, _ = await post(served, "/rooms/xunwen/stop", session="s1", why="x")
            assert (status in (401, 403)) == (role not in WRITERS)


WRITERS = (Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN)
READERS = (Role.SUPERVISOR, Role.CUSTODIAN)


async def test_a_picture_is_shown_as_the_present_only_while_it_is(served: Served, tmp_path: Path) -> None:
    still = picture(tmp_path / "stills", "face")
    show(served, session(source("face", "正面摄像机", still)))
    status, headers, body = await asyncio.to_thread(served.ask, "/rooms/xunwen/stills/face?at=1")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/jpeg", "no-store")
    assert body == still.read_bytes()
    for path in (
        "/rooms/xunwen/stills/wide",
        "/rooms/tingzheng/stills/hall",
        "/rooms/xunwen/stills/..%2F..%2Fjournal.db",
    ):
        assert (await get(served, path))[0] == 404
    os.utime(still, (0, 0))
    assert (await get(served, "/rooms/xunwen/stills/face"))[0] == 404, "an old one"
    still.write_bytes(b"x" * (1 << 21))
    assert (await get(served, "/rooms/xunwen/stills/face"))[0] == 404, "not a still"
    still.unlink()
    assert (await get(served, "/rooms/xunwen/stills/face"))[0] == 404


async def test_pages_answers_numbers_health_and_terminal_say_the_same(served: Served) -> None:
    it = served.signed_in(Role.IT)
    await recorded(served)
    face, wide = source("face", "正面摄像机"), source("wide", "全景摄像机")
    lost = replace(wide, connected=False, gaps=1)
    for running, light, counted in (
        ((), "idle", {"recording": 0, "lost": 0, "idle": 3}),
        ((session(face, wide),), "recording", {"recording": 2, "lost": 0, "idle": 1}),
        ((session(face, lost),), "lost", {"recording": 1, "lost": 1, "idle": 1}),
    ):
        show(served, *running, free_bytes=40_000_000_000)
        await asyncio.sleep(0.6)  # the status is half a second old at most
        room = await asyncio.to_thread(served.get, "/api/v1/rooms/xunwen")
        rooms = (await asyncio.to_thread(served.get, "/api/v1/rooms"))["rooms"]
        status = await asyncio.to_thread(served.get, "/api/v1/status")
        numbers = {(m[1], m[2] or ""): float(m[3]) for m in SAMPLE.finditer((await get(it, "/metrics"))[1])}
        assert room == rooms[0] == status["rooms"][0]
        assert room["light"]["name"] == light
        for name, count in counted.items():
            assert numbers["room_sources", name] == count
        assert numbers["rooms", light] == 1 + (light == "idle")
        assert numbers["room_gaps", ""] == room["gaps"] == (2 if running else 0)
        assert numbers["room_tests_failed", ""] == 1
        assert numbers["room_disk_hours", ""] == min(one["disk_hours"] for one in rooms)
        assert status["health"]["name"] == "degraded", "the test failed"
        said = [problem["zh"] for problem in status["health"]["problems"]]
        assert [problem["zh"] for problem in room["problems"]] == [one for one in said if "询问室" in one]
        assert any("没有声音" in one for one in said) == bool(running)
        for path in ("/rooms/xunwen", "/rooms", "/"):
            text = text_of((await get(served, path))[1])
            assert room["light"]["zh"] in text
            assert all(problem["zh"] in text for problem in room["problems"])
        assert PERSON not in json.dumps(status, ensure_ascii=False) + (await get(it, "/metrics"))[1]


async def test_pages_lead_to_rooms_only_where_there_is_one(served: Served, tmp_path: Path) -> None:
    async with standing(tmp_path / "none", rooms="") as without:
        for station, there in ((served, True), (without, False)):
            for path in ("/", "/kiosk"):
                assert bool(re.search('href="/rooms"', (await get(station, path))[1])) == there
        assert "没有登记询问室" in (await get(without, "/rooms"))[1]


async def test_long_sessions_come_in_parts(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.status.sessions.PART", 2)
    await recorded(served)
    newest = await asyncio.to_thread(served.get, "/api/v1/sessions/s1")
    assert (newest["part"], newest["parts"], newest["segment_count"], len(newest["segments"])) == (3, 3, 5, 1)
    first = await asyncio.to_thread(served.get, "/api/v1/sessions/s1?part=1")
    assert [one["number"] for one in first["segments"]] == [1, 2]
    assert first["sources"] == newest["sources"], "of the whole session"
    assert 'href="?part=2#segments"' in (await get(served, "/sessions/s1"))[1]
    assert (await get(served, "/sessions/s1?part=0"))[0] == 400
    assert (await get(served, "/sessions/nothing"))[0] == 404
    assert BEGAN.isoformat()[:16] in first["started_at"]
