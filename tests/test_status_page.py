"""Promise: what the page shows in a real browser is the present state, in the field's words, readable by anybody."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from agent.absence import Absence, Evidence, Sure
from agent.deadline import ZONE
from agent.model import (
    Clearing,
    DeviceIssued,
    DockingClosed,
    DockingListed,
    Finding,
    Observed,
    Phase,
    ReceiptIssued,
    Upload,
)
from agent.pipeline.absences import detail_of
from agent.receipts import list_digest
from tests.chromium import browsing
from tests.journal_entries import NOW, acquired, confirmed, opened
from tests.status_station import HOSTILE, footage, serve, slot

FRIDAY = datetime(2026, 11, 20, 16, tzinfo=ZONE)

SMALLEST_FONT_PX = """
    Math.min(...[...document.body.querySelectorAll("*")]
        .filter((node) => node.innerText && node.tagName != "SCRIPT" && node.offsetParent)
        .map((node) => parseFloat(getComputedStyle(node).fontSize)))
"""
WORDS_WITHOUT_ICON = """
    [...document.querySelectorAll(".word")].filter((node) => !node.querySelector("svg use")).length
"""


async def test_a_docking_from_the_first_byte_to_the_yank(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as served,
        browsing(served.url, tmp_path / "browser", served.cookie) as page,
    ):
        await page.shows("请插入执法记录仪")
        await page.shows("测试站")
        served.world.show(slot(Phase.READING, total=37, pulled=12))
        await page.shows("读取中")
        text = await page.text()
        assert "端口 3 · DSJ-V8 058F63666485" in text
        assert "12/37 个文件" in text
        assert "3.1 GB/8.4 GB" in text
        assert "约 3 分钟" in text
        assert "请勿拔出" in text
        assert "可以取走" not in text
        served.world.show(slot(Phase.VERIFYING, total=37, pulled=36))
        await page.shows("校验中")
        assert "可以取走" not in await page.text()
        served.world.show(slot(Phase.FINISHED, total=37, pulled=37, may_remove=True))
        await page.shows("可以取走")
        assert "请勿拔出" not in await page.text()
        served.world.show(slot(Phase.UNPLUGGED, total=37, pulled=28))
        await page.shows("已拔出，剩余 9 个未采集")
        served.world.show(slot(Phase.FAILED, total=14, pulled=13, unreadable=1, may_remove=True))
        await page.shows("已采集的 13 个文件安全。请勿反复插拔，联系管理员 0531-12345")
        assert "可以取走" not in await page.text()
        assert page.console == [], "nothing was refused by the page's own policy and nothing failed"


async def test_recordings_and_dockings_appear_as_the_journal_grows(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as served,
        browsing(served.url, tmp_path / "browser", served.cookie) as page,
    ):
        await page.shows("请插入")
        await served.journal.record(
            opened(),
            footage(served.config, "a", 1, FRIDAY, path=HOSTILE),
            footage(served.config, "b", 2, FRIDAY),
            DockingListed("d1", 2, "ab" * 32),
        )
        await served.journal.record(acquired("b", 2))
        await page.shows("应于 11月24日（周二）24:00 前入库")
        await page.shows("已采集，待上传")
        served.world.live = replace(served.world.live, uploads=(Upload("b", 250, 1000),))
        served.world.show()
        await page.shows("上传中 uploading 250 B/1.0 kB")
        text = await page.text()
        assert r"DCIM/<script>alert(1)</script>\u202e\udc80\u0007.MP4" in text, "a name is only text"
        assert "鲁医保发〔2019〕60号" in text
        assert "采集记录" in text
        assert await page.value(SMALLEST_FONT_PX) >= 24
        assert await page.value(WORDS_WITHOUT_ICON) == 0
        wider = await page.value("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wider, "no sideways scrolling"
        assert page.console == []


async def test_what_is_missing_stands_below_its_docking_once(tmp_path: Path) -> None:
    """What was told before, and what is held here, is left to the command line."""
    fact = Absence(1, (Evidence.NUMBERS, Evidence.REMAINS), Sure.CERTAIN, 1, "DCIM/A_0002.MP4", HOSTILE, lasts_s=14)
    shown = [detail_of(fact) | {"told": False}, detail_of(fact) | {"told": True}]
    shown.append(detail_of(replace(fact, held=True)) | {"told": False})
    async with (
        serve(tmp_path) as served,
        browsing(served.url, tmp_path / "browser", served.cookie) as page,
    ):
        await page.shows("请插入")
        findings = [Observed("d1", Finding("absence", detail)) for detail in shown]
        await served.journal.record(opened(), *findings, DockingListed("d1", 0, "ab" * 32))
        await page.shows("缺 1 段，约 00:14，依据：序号 + 目录残留（确定）")
        text = await page.text()
        assert text.count("缺 1 段") == 1
        assert "此前已采集的" not in text
        assert r"[DCIM/A_0002.MP4 → DCIM/<script>alert(1)</script>\u202e\udc80\u0007.MP4]" in text
        assert await page.value(SMALLEST_FONT_PX) >= 24
        assert page.console == []


async def test_each_docking_leads_to_its_receipt(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as served,
        browsing(served.url, tmp_path / "browser", served.cookie) as page,
    ):
        await page.shows("请插入")
        said = ReceiptIssued("d1", 1, Clearing.CLEAR, "V8", 0, 0, 0, 0, list_digest(""))
        ended = (DockingListed("d1", 0, "ab" * 32), DockingClosed("d1", "complete"))
        await served.journal.record(opened(), *ended, said)
        await page.shows("可以清空")
        assert await page.value(SMALLEST_FONT_PX) >= 24
        await page.value("document.querySelector('#dockings a').click()")
        await page.shows("可以清空：记录仪中的全部文件已采集并校验，且已按规定入库。")
        assert "尚未签名" in await page.text()
        width = await page.value("document.querySelector('table').offsetWidth")
        assert 600 < width < 800, "its style is allowed by its policy"
        assert page.console == []


async def test_what_is_stored_says_until_when_it_is_locked(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as served,
        browsing(served.url, tmp_path / "browser", served.cookie) as page,
    ):
        await served.journal.record(
            opened(), footage(served.config, "a", 1, FRIDAY), footage(served.config, "b", 2, FRIDAY), acquired("a")
        )
        served.world.live = replace(served.world.live, uploads=(Upload("a", 0, 1000),))
        await page.shows("最近的音像记录")
        assert "上传中" not in await page.text(), "nothing of it is on its way yet"
        assert "—" in await page.text()
        await served.journal.record(confirmed("a"))
        until = (NOW + timedelta(days=180)).astimezone(ZONE)
        await page.shows(f"{until.year}/{until.month}/{until.day}")
        assert "锁定至" in await page.text()
        assert page.console == []


async def test_recorders_that_are_missing_stand_there_with_their_warning_and_nobody_s_name(tmp_path: Path) -> None:
    inventory = "".join(
        f'[recorder.DSJ-00{n}]\nnumber = "固资 <b>{n}</b>"\nserial = "{n}"\nproduct = "V8"\n' for n in (1, 2, 3)
    )
    async with (
        serve(tmp_path, inventory=inventory) as served,
        browsing(served.url, tmp_path / "browser", served.cookie) as page,
    ):
        await page.shows("请插入")
        assert "未归还" not in await page.text(), "nobody is missing"
        long_ago, today = FRIDAY - timedelta(days=9), served.world.now - timedelta(hours=1)
        await served.journal.record(
            DeviceIssued("DSJ-001", today, "officer-name", "keeper-name", "why"),
            DeviceIssued("DSJ-002", long_ago, "officer-name", "keeper-name", "why", long_ago + timedelta(hours=9)),
            opened(),
        )
        await page.shows("未归还、未采集的记录仪")
        text = await page.text()
        assert text.index("固资 <b>2</b>") < text.index("固资 <b>1</b>"), "the most urgent first, and only text"
        assert "固资 <b>3</b>" not in text, "it is here"
        assert "可能有未采集的音像记录，最早可能的期限已过" in text
        assert "可能有未采集的音像记录，最早期限 11月25日 24:00" in text
        assert "未登记" in text
        assert "1 台记录仪未采集" in text, "and the station is degraded"
        assert "officer-name" not in text
        assert "keeper-name" not in text
        assert await page.value(SMALLEST_FONT_PX) >= 24
        assert await page.value(WORDS_WITHOUT_ICON) == 0
        assert not await page.value("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert page.console == []


async def test_when_the_service_is_gone_the_page_says_so_and_takes_back_what_it_allowed(tmp_path: Path) -> None:
    async with serve(tmp_path / "a") as served:
        served.world.show(slot(Phase.FINISHED, total=3, pulled=3, may_remove=True))
        browser = browsing(served.url, tmp_path / "browser", served.cookie)
        page = await browser.__aenter__()
        await page.shows("可以取走")
    try:
        await page.shows("连接中断，以下不是最新状态；请勿拔出")
        await page.shows("状态未知，请勿拔出")
        assert "可以取走" not in await page.text()
    finally:
        await browser.__aexit__(None, None, None)


async def test_a_long_name_does_not_break_the_page(tmp_path: Path) -> None:
    async with (
        serve(tmp_path) as served,
        browsing(served.url, tmp_path / "browser", served.cookie) as page,
    ):
        served.world.show(replace(slot(Phase.READING, total=1), device_label="设" * 300, message="x" * 3000))
        await page.shows("设设设")
        assert not await page.value("document.documentElement.scrollWidth > document.documentElement.clientWidth")
