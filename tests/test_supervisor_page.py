"""Promise: in a real browser a supervisor sees the present state and why, in his language, whatever way he reads."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent.absence import Absence, Evidence, Sure
from agent.deadline import ZONE
from agent.model import (
    ActivityStated,
    AssetChanged,
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
from agent.model import Role as Made
from agent.pipeline.absences import detail_of
from agent.receipts import list_digest
from agent.vault import address_in
from tests.chromium import Page, browsing
from tests.journal_entries import acquired, confirmed, digests_of, opened
from tests.made import copy, derived
from tests.media import film
from tests.status_station import HOSTILE, Served, footage, serve, slot

FRIDAY = datetime(2026, 11, 20, 16, tzinfo=ZONE)
AXE = Path(__file__).parent / "axe/node_modules/axe-core/axe.min.js"
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
WORDS_WITHOUT_ICON = "[...document.querySelectorAll('.word')].filter((node) => !node.querySelector('svg path')).length"
BARRIERS = """
axe.run(document, {resultTypes: ["violations"], runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
   .then((found) => found.violations.map((one) =>
       one.impact + " " + one.id + " " + one.nodes.map((node) => node.html + node.failureSummary).join(" | ")))
"""
LABELS = """
[...document.querySelectorAll('th, label, h2, h3, dt, button, .bar a, caption')]
   .map((node) => node.firstChild ? node.firstChild.textContent.trim() : '').filter(Boolean).join(' ')
"""
SUBMIT = "document.querySelector('[name=why]').value = '复核'; document.querySelector('form.filters button').click()"
PLAYS = """
new Promise((done) => {
    const video = document.querySelector('video');
    video.muted = true;
    video.ontimeupdate = () => video.currentTime > 0.3 && done([video.videoWidth, video.error]);
    video.play();
})
"""


def storage(tmp_path: Path) -> str:
    return f'[station]\nname = "测试站"\n[storage]\nroot = "{tmp_path}"\n'


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path, storage(tmp_path)) as station:
        yield station


async def filmed(served: Served, tmp_path: Path) -> None:
    """A recording `a` that is held, with an access copy and a timeline whose bytes are here; and `b`, stored late."""
    original = footage(served.config, "a", 1, FRIDAY)
    late = footage(served.config, "b", 2, FRIDAY - timedelta(days=9))
    await served.journal.record(
        opened(), original, late, DockingListed("d1", 2, "ab" * 32), acquired("a"), acquired("b", 2)
    )
    stated = ActivityStated("act", "S08", FRIDAY - timedelta(hours=1), FRIDAY, ("rec-a",), "张三", "先行登记保存")
    await served.journal.record(confirmed("b"), stated)
    made = {
        "p": (Made.ACCESS_COPY, film(tmp_path, "mp4", 3)),
        "t": (Made.TIMELINE, b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    }
    for name, (role, content) in made.items():
        entry = copy(name, "a", role)
        path = address_in(served.config.storage.root, digests_of(name).blake3)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        await served.journal.record(replace(entry, asset=replace(entry.asset, expected_bytes=len(content))))
        await served.journal.record(acquired_document(name, len(content)))
    await served.journal.record(derived("a"))


def acquired_document(name: str, size: int) -> AssetChanged:
    """The bytes of a document are held."""
    return replace(acquired(name, size=size), docking_id="", number=0, outcome=None)


async def shown(page: Page, url: str, words: str) -> str:
    await page.send("Page.navigate", url=url)
    await page.shows(words)
    return await page.text()


async def test_the_page_follows_the_journal_and_every_name_is_only_text(served: Served, tmp_path: Path) -> None:
    async with browsing(served.url, tmp_path / "browser", served.cookie) as page:
        await page.shows("测试站")
        fact = Absence(1, (Evidence.NUMBERS, Evidence.REMAINS), Sure.CERTAIN, 1, "DCIM/A_0002.MP4", HOSTILE, lasts_s=14)
        facts = [
            detail_of(fact) | {"told": False},
            detail_of(fact) | {"told": True},
            detail_of(replace(fact, held=True)) | {"told": False},
        ]
        await served.journal.record(
            opened(),
            footage(served.config, "a", 1, FRIDAY, path=HOSTILE),
            footage(served.config, "b", 2, FRIDAY),
            footage(served.config, "c", 3, FRIDAY - timedelta(days=4)),
            *(Observed("d1", Finding("absence", detail)) for detail in facts),
            DockingListed("d1", 3, "ab" * 32),
            opened("d0"),
            DockingListed("d0", 0, "ab" * 32),
            DockingClosed("d0", "complete"),
            ReceiptIssued("d0", 1, Clearing.NOT_ALL_TAKEN, "V8", 0, 0, 0, 0, list_digest("")),
        )
        await served.journal.record(acquired("b", 2))
        await page.shows("应于 11月24日（周二）24:00 前入库")
        await page.shows("缺 1 段，约 00:14，依据：序号 + 目录残留（确定）")
        served.world.live = replace(served.world.live, uploads=(Upload("b", 250, 1000),))
        served.world.show(
            replace(slot(Phase.READING, total=37, pulled=12), device_label="设" * 300, message="x" * 3000)
        )
        await page.shows("上传中 250 B/1.0 kB")
        await page.shows("12/37 · 3.1 GB/8.4 GB")
        text = await page.text()
        assert r"DCIM/<script>alert(1)</script>\u202e\udc80\u0007.MP4" in text
        assert text.count("缺 1 段") == 1
        assert "此前已采集的" not in text
        for words in (
            "请勿拔出",
            "逾期",
            "鲁医保发〔2019〕60号",
            "采集记录",
            "请勿清空：未全部采集",
            "日历",
            "剩余空间",
        ):
            assert words in text, words
        assert await page.value(WORDS_WITHOUT_ICON) == 0
        assert not await page.value(TOO_WIDE), "no sideways scrolling"
        served.world.show(slot(Phase.UNPLUGGED, total=37, pulled=28))
        await page.shows("已拔出，剩余 9 个未采集")
        overdue = await shown(page, f"{served.url}?verdict=overdue", "rec-c")
        assert "rec-a" not in overdue
        await page.value("document.querySelector('#dockings a').click()")
        await page.shows("交接回执")
        assert page.console == [], "nothing was refused by the page's own policy and nothing failed"


async def test_recorders_that_are_missing_stand_there_with_their_warning_and_nobody_s_name(tmp_path: Path) -> None:
    inventory = "".join(
        f'[recorder.DSJ-00{n}]\nnumber = "固资 <b>{n}</b>"\nserial = "{n}"\nproduct = "V8"\n' for n in (1, 2, 3)
    )
    async with serve(tmp_path, inventory=inventory) as served:
        long_ago, today = FRIDAY - timedelta(days=9), served.world.now - timedelta(hours=1)
        await served.journal.record(
            DeviceIssued("DSJ-001", today, "officer-name", "keeper-name", "why"),
            DeviceIssued("DSJ-002", long_ago, "officer-name", "keeper-name", "why", long_ago + timedelta(hours=9)),
            opened(),
        )
        async with browsing(served.url, tmp_path / "browser", served.cookie) as page:
            await page.shows("未按期交还、未采集的记录仪")
            text = await page.text()
            assert text.index("固资 <b>2</b>") < text.index("固资 <b>1</b>"), "the most urgent first, and only text"
            assert "固资 <b>3</b>" not in text, "it is here"
            assert "可能有未采集的音像记录，最早可能的期限已过" in text
            assert "未登记" in text
            assert "1 台记录仪未采集" in text, "and the station is degraded"
            assert "降级" in text
            assert "officer-name" not in text + await page.value("document.documentElement.outerHTML")
            assert page.console == []


async def test_when_the_service_is_gone_the_page_says_that_it_is_old(tmp_path: Path) -> None:
    async with serve(tmp_path / "a") as served:
        browser = browsing(served.url, tmp_path / "browser", served.cookie)
        page = await browser.__aenter__()
        await page.shows("测试站")
    try:
        await page.shows("连接中断，页面未更新，以下不是最新状态")
        assert await page.value("document.querySelectorAll('[data-live]:not(.old)').length") == 0
    finally:
        await browser.__aexit__(None, None, None)


async def test_a_copy_plays_behind_a_reason_that_is_journalled(served: Served, tmp_path: Path) -> None:
    await filmed(served, tmp_path)
    async with browsing(f"{served.url}recordings/rec-a", tmp_path / "browser", served.cookie) as page:
        await page.shows("调阅事由")
        assert await page.value("document.querySelector('video')") is None
        await page.value(SUBMIT)
        await page.shows("本次调阅已记入流转记录")
        (viewed,) = [one for one in served.journal.reader.events(0, 1000) if one.kind == "copy_viewed"]
        assert '"account":"supervisor"' in viewed.detail
        width, error = await page.value(PLAYS)
        assert width > 0
        assert error is None
        assert "调阅查阅副本" in await page.text(), "and it stands in the custody history"
        assert page.console == []


async def test_no_page_has_a_serious_barrier_in_any_language_or_theme(served: Served, tmp_path: Path) -> None:
    await filmed(served, tmp_path)
    served.world.show(slot(Phase.READING, total=37, pulled=12))
    async with browsing(served.url, tmp_path / "browser", served.cookie) as page:
        for path, words in (("", "rec-a"), ("recordings/rec-a", "rec-a"), ("statistics?year=2026&month=11", "2026-11")):
            for lang, theme in (("zh", "light"), ("en", "dark")):
                mark = "&" if "?" in path else "?"
                await shown(page, f"{served.url}{path}{mark}lang={lang}&theme={theme}", words)
                await page.value(f"document.documentElement.lang === '{'zh-CN' if lang == 'zh' else 'en'}'")
                await page.send("Runtime.evaluate", expression=AXE.read_text())
                assert await page.value(BARRIERS) == [], (path, lang, theme)
                labels = await page.value(LABELS)
                if lang == "en":
                    assert not any("\u4e00" <= c <= "\u9fff" for c in labels.replace("中文", "")), labels
                for width in (1920, 1024, 390):
                    size = {"width": width, "height": 768, "deviceScaleFactor": 1, "mobile": width < 600}
                    await page.send("Emulation.setDeviceMetricsOverride", **size)
                    assert not await page.value(TOO_WIDE), (path, width)
        assert page.console == []
