"""Promise: what an officer says at the kiosk is in the journal as it was said, or the screen tells why it is not."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlencode

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from agent.accounts.book import Account
from agent.accounts.hashing import hashed
from agent.deadline import ZONE, Rules
from agent.model import DockingClosed
from agent.pipeline.asked import VERBS
from agent.pipeline.station import Station
from agent.screens.guard import Gate
from agent.screens.kiosk import Kiosk
from agent.screens.server import serving
from agent.screens.who import Role, roles_of
from agent.status.board import Board
from agent.status.entry import said_in, written
from agent.status.health import Live
from tests.chromium import LeftError, Page, browsing
from tests.conftest import SettableClock
from tests.filming import docked, filmed
from tests.stations import opened
from tests.status_station import Served, World, configured
from tests.test_kiosk_page import SMALLEST_FONT_PX
from tests.test_supervisor_page import AXE, BARRIERS

NINE = datetime(2026, 11, 20, 9, tzinfo=ZONE)
MINUTE = timedelta(minutes=1)
ROSTER = '[officer.A-017]\nname = "张三"\ncert_no = "37080012345"\n'
PROOF = "证明药店未按处方销售药品"
LINE = st.text(st.characters(categories=("L", "N"), include_characters="/·〔〕"), min_size=1, max_size=8)
CARD = "12345678"


@dataclass(frozen=True, slots=True)
class Dock:
    """A kiosk and the station behind it; `served` speaks for an officer who has signed in."""

    station: Station
    served: Served

    async def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form; the status of the answer, and where it leads or else its text."""
        body = urlencode({"token": self.served.form_token, **fields}).encode()
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        status, headers, text = await asyncio.to_thread(self.served.ask, path, "POST", body, **kind)
        return status, headers.get("location") or text.decode()

    async def get(self, path: str) -> str:
        return (await asyncio.to_thread(self.served.ask, path))[2].decode()

    async def entry(self) -> dict[str, Any]:
        return await self.served.board.entry("d1")

    async def fill_in(self, **fields: str) -> tuple[int, str]:
        """The form of the docking, as it is now."""
        return await self.post("/kiosk/dockings/d1", seen=(await self.entry())["seen"], **fields)

    def said(self, name: str) -> list[dict[str, object]]:
        views = self.station.journal.reader.statements([f"rec-{name}"])[f"rec-{name}"]
        return [{"who": one.said.who, **one.said.fields} for one in views]


@contextlib.asynccontextmanager
async def standing(tmp_path: Path, clock: SettableClock, profile: str = "shandong") -> AsyncIterator[Dock]:
    """One recorder with two recordings and a gap of twenty minutes between them."""
    clock.set(datetime(2026, 11, 23, 10, tzinfo=ZONE))
    config = configured(tmp_path, f'[deadline]\nprofile = "{profile}"\n', roster=ROSTER)
    async with opened(tmp_path / "station", clock) as station:
        station.rules, station.forms = Rules(config.profile, config.calendars), config.forms
        clips = [
            filmed(station.rules, name, n, (NINE + start * MINUTE, NINE + end * MINUTE), path=f"DCIM/{name}.MP4")
            for n, (name, start, end) in enumerate((("a", 0, 20), ("b", 40, 60)), 1)
        ]
        await docked(station, *clips)
        await station.journal.record(DockingClosed("d1", "unplugged"))
        board = Board(config, station.journal.reader, clock, Live, lambda: 0)
        gate = Gate(station.book, station.journal.record, clock=clock)
        verbs = {name: partial(verb, station) for name, verb in VERBS.items()}
        async with serving(board, gate, "127.0.0.1", 0, verbs=verbs) as port:
            served = Served(config, station.journal, World(), board, port, gate)
            yield Dock(station, served.signed_in(Role.OFFICER))


async def fill(page: Page, **values: str) -> None:
    for name, value in values.items():
        await page.value(f"document.getElementById({json.dumps(name)}).value = {json.dumps(value)}; 0")


async def press(page: Page, words: str) -> None:
    find = f"[...document.querySelectorAll('button, a')].find((one) => one.innerText.includes({json.dumps(words)}))"
    await page.value(f"{find}.click(); 0")


async def barriers(page: Page) -> list[str]:
    """What axe-core finds, in the light and in the dark."""
    await page.send("Runtime.evaluate", expression=AXE.read_text())
    found: list[str] = []
    for theme in ("light", "dark"):
        await page.value(f"document.documentElement.dataset.theme = '{theme}'; 0")
        found += await page.value(BARRIERS)
    return found


async def listening(page: Page) -> None:
    """Wait until the page is there and keys go into its field: it shows its words before that."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(LeftError):
                if await page.value("document.readyState === 'complete' && document.activeElement !== document.body"):
                    return
            await asyncio.sleep(0.05)


async def by_card(page: Page) -> None:
    """Another card first; a reader is a keyboard to the computer, and nobody has touched the field."""
    await listening(page)
    await page.keys(f"{CARD[::-1]}\r")
    await page.shows("不正确")
    assert ["403" in one for one in page.console] == [True], "what the browser says of a refusal"
    page.console.clear()
    await listening(page)
    await page.keys(f"{CARD}\r")


async def by_pin(page: Page) -> None:
    await page.shows("请刷卡")
    await listening(page)
    await page.keys("\t\ta017\t482913\r")
    await page.shows("填写人 signed in as a017")


async def test_an_officer_fills_in_a_docking_and_answers_its_gap(tmp_path: Path, clock: SettableClock) -> None:
    async with (
        standing(tmp_path, clock) as dock,
        browsing(f"{dock.served.url}kiosk", tmp_path / "browser") as page,
    ):
        secret = hashed("482913", Role.OFFICER)
        dock.station.book.change("a017", lambda all_, _: Account("a017", Role.OFFICER, secret, all_.card(CARD)))
        await page.shows("需补充信息")
        await press(page, "现在填写")
        await page.shows("请刷卡")
        assert await page.value(SMALLEST_FONT_PX) >= 24
        await by_card(page)
        await page.shows("待补充 2 / 2")
        assert await page.value(SMALLEST_FONT_PX) >= 24
        await page.shows("检测到中断 09:20:00–09:40:00")
        await press(page, "张三")
        await fill(page, proof_object=PROOF, stage="S03", method="body_camera", case_no="鲁济医保罚〔2026〕7号")
        await press(page, "保存（2 个文件）")
        await page.shows("已保存")
        await page.shows("已补充")
        for name in ("a", "b"):
            (said,) = dock.said(name)
            assert said["who"] == "a017"
            assert (said["proof_object"], said["stage"], said["case_no"]) == (PROOF, "S03", "鲁济医保罚〔2026〕7号")
            assert said["makers"] == [{"name": "张三", "cert_no": "37080012345", "officer": "A-017"}]
        await press(page, "确认执法活动")
        await page.shows("请选择原因")
        assert await barriers(page) == []
        (activity,) = (name for name, _ in dock.station.journal.reader.activity_heads(9))
        await fill(page, **{f"code-{activity}1": "INT-03", f"why-{activity}1": "电池用完，更换后继续"})
        await press(page, "保存中断说明")
        await page.shows("已说明 explained")
        (explained,) = dock.station.journal.reader.activity(activity).explanations
        assert (explained.said.code, explained.said.who) == ("INT-03", "a017")
        assert await page.value("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        assert page.console == []
        assert await barriers(page) == []
        await press(page, "退出，稍后填写")
        await page.shows("信息已补充")
        assert await barriers(page) == []
        await press(page, "查看、更正")
        await by_pin(page)
        told = [event.detail for event in dock.station.journal.reader.events(0, 1000) if event.kind == "signed_in"]
        assert [json.loads(detail)["by"] for detail in told] == ["card", "pin"]


async def test_who_is_writing_keeps_his_session_and_who_has_gone_leaves_nothing(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with standing(tmp_path, clock) as dock:
        sessions, ahead_s = dock.served.gate.sessions, [0.0]
        monkeypatch.setattr(sessions, "_seconds", lambda: monotonic() + ahead_s[0])
        entry = f"{dock.served.url}kiosk/dockings/d1"
        async with browsing(entry, tmp_path / "browser", dock.served.cookie) as page:
            await page.shows("待补充 2 / 2")
            await fill(page, place_text="任城区")
            for _ in range(2):
                ahead_s[0] += 100
                await page.value("{ const now = Date.now; Date.now = () => now() + 30000; } 0")
                await page.value("dispatchEvent(new Event('input')); 0")
                async with asyncio.timeout(20):
                    while next(iter(sessions._found.values())).seen_s < monotonic() + ahead_s[0] - 50:
                        await asyncio.sleep(0.05)
            await press(page, "保存（2 个文件）")
            await page.shows("已保存")
            assert dock.said("b") == [{"who": "officer", "place_text": "任城区"}]
            ahead_s[0] += 1000
            await page.value("window.setTimeout = (then, ms) => { if (ms > 100000) then(); }; 0")
            with contextlib.suppress(LeftError):
                await page.value("dispatchEvent(new Event('input')); 0")
            await page.shows("请插入执法记录仪")


async def test_what_is_wrong_is_told_and_what_was_typed_stays(tmp_path: Path, clock: SettableClock) -> None:
    async with standing(tmp_path, clock) as dock:
        status, text = await dock.fill_in(proof_object="无", makers="@nobody\n李四/2", place_text="<script>x")
        assert status == 422
        told = (
            "未保存，请更正；原始资料安全",
            "proof_object 证明对象：",
            "makers[1].officer",
            "名册（roster.toml）中没有此编号",
        )
        assert [words for words in told if words not in text] == []
        assert "李四/2" in text
        assert "&lt;script&gt;x" in text
        assert dock.said("a") == []
        status, text = await dock.post("/kiosk/dockings/d1/activity", stage="S03", arrived="2026-11-20T10:00", left="x")
        assert (status, "未保存" in text) == (422, True)


async def test_nobody_overwrites_what_somebody_else_has_said_meanwhile(tmp_path: Path, clock: SettableClock) -> None:
    async with standing(tmp_path, clock) as dock:
        seen = (await dock.entry())["seen"]
        _, text = await dock.post("/kiosk/dockings/d1", seen=seen, place_text="任城区")
        assert text.startswith("/kiosk/dockings/d1?told=saved")
        status, text = await dock.post("/kiosk/dockings/d1", seen=seen, place_text="别处")
        assert (status, "其间已有人填写" in text, "别处" in text) == (409, True, True)
        assert [one["place_text"] for one in dock.said("a")] == ["任城区"]


async def test_only_what_was_changed_is_another_version_and_what_is_taken_away_is_withdrawn(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with standing(tmp_path, clock) as dock:
        await dock.fill_in(makers="张三/37080012345\n李四/2/记录", place_text="任城区")
        same = {"makers": "张三/37080012345\r\n李四/2/记录", "place_text": "任城区", "case_no": ""}
        status, text = await dock.fill_in(**same)
        assert (status, "told=same" in text, len(dock.said("a"))) == (303, True, 1)
        await dock.fill_in(**same | {"place_text": ""})
        assert dock.said("a")[1] == {"who": "officer", "place_text": None}


async def test_what_is_too_long_is_refused_and_what_fits_in_the_browser_fits(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with standing(tmp_path, clock) as dock:
        many = "\r\n".join(["张三/" + "7" * 17] * 190)
        assert len(many) > 4000 > len(many.replace("\r\n", "\n")), "a browser counts the end of a line once"
        _, text = await dock.fill_in(makers=many)
        assert "told=same" not in text
        said = dock.said("a")
        status, text = await dock.fill_in(place_text="任城区", makers="x" * 4001)
        assert (status, "未保存" in text, dock.said("a")) == (400, True, said)


async def test_a_field_that_differs_between_files_stays_unless_it_is_filled_in(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with standing(tmp_path, clock) as dock:
        said = {"who": "x", "why": "y", "ids": "rec-a", "fields": json.dumps({"place_text": "只有第一个"})}
        await VERBS["metadata_set"](dock.station, said)
        assert "各文件不同，留空则不改" in await dock.get("/kiosk/dockings/d1")
        await dock.fill_in(place_text="", case_no="7号")
        assert "place_text" not in dock.said("a")[-1]


async def test_where_an_article_wants_it_spoken_the_place_is_asked_for(tmp_path: Path, clock: SettableClock) -> None:
    async with standing(tmp_path, clock, "nanchang") as dock:
        times = {"arrived": "2026-11-20T09:00:00", "left": "2026-11-20T10:00:00"}
        assert (await dock.post("/kiosk/dockings/d1/activity", stage="S10", **times))[0] == 303
        assert "第十九条" in await dock.get("/kiosk/dockings/d1")
        (activity,) = (await dock.entry())["activities"]
        (gap,) = activity["gaps"]
        said = {"activity": activity["activity_id"], "from": gap["from"], "to": gap["to"]}
        said |= {"code": "INT-03", "why": "没电"}
        status, text = await dock.post("/kiosk/dockings/d1/gap", **said)
        assert (status, "恢复记录时应当语音说明" in text) == (409, True), "not spoken, and not in writing"
        assert "--statement" not in text, "nobody types commands at the kiosk"
        assert 'value="没电"' in text, "nothing that was typed is lost"
        assert (await dock.post("/kiosk/dockings/d1/gap", **said, offset="5"))[0] == 303
        (explained,) = dock.station.journal.reader.activity(activity["activity_id"]).explanations
        assert (explained.said.voice.recording_id, explained.said.voice.offset_ms) == ("rec-b", 5000)
        assert (await dock.post("/kiosk/dockings/d1/gap", **said | {"from": "x"}, offset="5"))[0] == 409


async def test_what_was_spoken_after_a_gap_that_nothing_follows_is_refused_not_left_out(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with standing(tmp_path, clock) as dock:
        times = {"arrived": "2026-11-20T09:00:00", "left": "2026-11-20T12:00:00"}
        await dock.post("/kiosk/dockings/d1/activity", stage="S10", **times)
        (activity,) = (await dock.entry())["activities"]
        (gap,) = [one for one in activity["gaps"] if not one["after"]]
        said = {
            "activity": activity["activity_id"],
            "from": gap["from"],
            "to": gap["to"],
            "code": "INT-03",
            "why": "没电",
        }
        status, text = await dock.post("/kiosk/dockings/d1/gap", **said, offset="5")
        assert (status, "语音说明不在本次执法活动中" in text) == (409, True)
        page = await dock.get("/kiosk/dockings/d1")
        number = activity["activity_id"] + str(gap["number"])
        assert (f'id="why-{number}"' in page, f'id="offset-{number}"' in page) == (True, False)
        assert (await dock.post("/kiosk/dockings/d1/gap", **said))[0] == 303


async def test_a_written_statement_is_sealed_as_it_was_typed_and_each_one_stays(
    tmp_path: Path, clock: SettableClock
) -> None:
    """Where recording could not go on the article asks for it in writing; INT-99 then waits for a supervisor."""
    async with standing(tmp_path, clock, "nanchang") as dock:
        times = {"arrived": "2026-11-20T09:00:00", "left": "2026-11-20T10:00:00"}
        await dock.post("/kiosk/dockings/d1/activity", stage="S10", **times)
        (activity,) = (await dock.entry())["activities"]
        (gap,) = activity["gaps"]
        said = {"activity": activity["activity_id"], "from": gap["from"], "to": gap["to"]}
        written = said | {"code": "INT-06", "why": "现场人员阻挠", "ended": "yes"}
        written["statement"] = "<b>无法</b>\r\n继续记录。"
        for refused, words in (
            ({"statement": " \r\n"}, "应当书面说明"),
            ({"offset": "5"}, "未恢复记录的，不可能有语音说明"),
            ({"code": "INT-11"}, "不能填写此中断原因"),
            ({"ended": "", "offset": "999999"}, "超出录制时长"),
            ({"ended": "", "offset": "9" * 30}, "应为秒数"),
            ({"ended": "", "offset": "五"}, "应为秒数"),
            ({"ended": "", "offset": "-5"}, "应为秒数"),
            ({"why": "x" * 600}, "各为一行"),
        ):
            status, text = await dock.post("/kiosk/dockings/d1/gap", **written | refused)
            assert (status, words in text) == (409, True), refused
        assert dock.station.journal.reader.activity(activity["activity_id"]).explanations == ()
        assert (await dock.post("/kiosk/dockings/d1/gap", **written))[0] == 303
        (explained,) = dock.station.journal.reader.activity(activity["activity_id"]).explanations
        assert (explained.said.code, explained.said.resumed, explained.said.written) == ("INT-06", False, True)
        (kept,) = dock.station.journal.reader.documents("rec-a")
        assert kept.asset.digests.blake3 == blake3("<b>无法</b>\n继续记录。".encode()).hexdigest()
        text = await dock.get("/kiosk/dockings/d1")
        assert ("已说明" in text, "<b>无法" in text) == (True, False)
        verdict = {"id": activity["activity_id"], "number": "1", "refused": "yes", "who": "李四", "why": "与事实不符"}
        await VERBS["activity_confirm"](dock.station, verdict)
        again = written | {"code": "INT-99", "statement": "原因不明", "ended": ""}
        assert (await dock.post("/kiosk/dockings/d1/gap", **again))[0] == 303
        assert "待确认" in await dock.get("/kiosk/dockings/d1")
        found = dock.station.journal.reader.activity(activity["activity_id"]).explanations
        assert [one.said.code for one in found] == ["INT-06", "INT-99"], "the first one stays"


async def test_the_receipt_is_shown_and_what_is_unknown_is_told(tmp_path: Path, clock: SettableClock) -> None:
    async with standing(tmp_path, clock) as dock:
        assert "no receipt yet" in await dock.get("/kiosk/receipt/d1")
        assert "没有这次采集" in await dock.get("/kiosk/dockings/nobody")
        await VERBS["receipt_issue"](dock.station, {"docking": "d1", "by": "李四"})
        text = await dock.get("/kiosk/receipt/d1")
        assert "请勿清空：记录仪中的文件未全部完整采集" in text
        assert "打印" in text


async def test_only_who_has_signed_in_says_anything(tmp_path: Path, clock: SettableClock) -> None:
    async with standing(tmp_path, clock) as dock:
        routes = Kiosk(dock.served.board, {}).routes()
        anybody_s = {(route.method, route.path) for route in routes if Role.KIOSK in roles_of(route.handler)}
        assert anybody_s == {("GET", "/kiosk"), ("GET", "/api/v1/kiosk"), ("GET", "/kiosk/receipt/{docking}")}
        for path in ("", "/activity", "/gap"):
            nobody = replace(dock, served=replace(dock.served, cookie=""))
            assert (await nobody.post(f"/kiosk/dockings/d1{path}", place_text="x"))[0] == 401
            other = replace(dock, served=dock.served.signed_in(Role.IT))
            assert (await other.post(f"/kiosk/dockings/d1{path}", place_text="x"))[0] == 403
            assert (await dock.post(f"/kiosk/dockings/d1{path}", place_text="x", token=""))[0] == 403
        assert dock.said("a") == []


@given(
    st.lists(
        st.fixed_dictionaries({"name": LINE}, optional={"cert_no": LINE, "role": LINE}), min_size=1, max_size=4,
        unique_by=lambda one: "/".join(one.get(part, "") for part in ("name", "cert_no", "role")),
    ),
    st.integers(0, 3),
)  # fmt: skip
def test_lines_that_nobody_touched_stay_what_was_said(makers: list[dict[str, str]], place: int) -> None:
    """Also those in which somebody has written what divides the parts of a line."""
    text = written("makers", makers)
    field = {"lines": True, "entries": dict(zip(text.split("\n"), makers, strict=True))}
    assert said_in(field, text) == makers
    lines = text.replace("\n", "\r\n").split("\r\n")
    lines.insert(place, "@A-017")
    assert [one for one in said_in(field, "\n".join(lines)) if one != "@A-017"] == makers
