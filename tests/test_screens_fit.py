"""Promise: on a phone, a small and a large screen nothing of any page is cut off, lies over something else, or is too
small for a finger, whatever states, names and languages it shows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from html import unescape
from pathlib import Path

import pytest

from agent.deadline import ZONE
from agent.model import (
    Clearing,
    DockingClosed,
    DockingListed,
    Phase,
    ReceiptIssued,
    SlotProgress,
)
from agent.receipts import list_digest
from agent.screens.who import Role
from tests.chromium import Page, browsing
from tests.journal_entries import opened
from tests.status_station import Served, footage, serve, session_cookie, slot

FRIDAY = datetime(2026, 11, 20, 16, tzinfo=ZONE)
SCREENS = ((1024, 768), (1920, 1080), (390, 844))
LONG = "济宁市任城区医疗保障局基金监管科执法记录仪第〇一二三四五六七八九号备用机（借用，月底归还）"
TROUBLE = "读取失败：第 14 个文件有坏块。" * 8 + "x" * 120
SLOTS = tuple(map(str, range(30)))
AMISS = """
(() => {
    const seen = (node) => node.checkVisibility({visibilityProperty: true}) && node.getClientRects().length;
    const hidden = "svg, .only-heard, .skip";
    const all = [...document.body.querySelectorAll("*")].filter((node) => seen(node) && !node.closest(hidden));
    const name = (node) => `${node.tagName}.${node.className} ${node.innerText.slice(0, 30)}`, amiss = [];
    const touched = ".button, button, select, textarea, input, summary, .bar a, .pages a, .tiles a";
    const edge = document.documentElement.clientWidth;
    const inside = (node) => node.closest(".scroll, .chart") !== null;
    for (const node of all) {
        const at = node.getBoundingClientRect(), style = getComputedStyle(node);
        const cut = node.scrollWidth > node.clientWidth + 1 && node.clientWidth > 0 && style.display !== "inline";
        const rolls = node.matches(".scroll, .chart, select, input, textarea");
        if (cut && !rolls && !inside(node)) amiss.push(`cut off: ${name(node)}`);
        if (!inside(node) && (at.right > edge + 1 || at.left < -1)) amiss.push(`beyond the edge: ${name(node)}`);
        if (node.matches(touched) && (at.height < 44 || at.width < 44))
            amiss.push(`small, ${at.width} x ${at.height}: ${name(node)}`);
    }
    const apart = ".slot, .docking, .tiles li, .told, .activity, .acts > *, .filters > label";
    const cards = [...document.querySelectorAll(apart)].filter(seen);
    for (const one of cards) for (const other of cards) {
        if (one === other || one.contains(other) || other.contains(one)) continue;
        const a = one.getBoundingClientRect(), b = other.getBoundingClientRect();
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        if (across > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 1)
            amiss.push(`over each other: ${name(one)} and ${name(other)}`);
    }
    return [...new Set(amiss)].slice(0, 8);
})()
"""


def shown() -> Iterator[SlotProgress]:
    """Every phase, with and without trouble, as often as there are slots."""
    for n, name in enumerate(SLOTS):
        phase = list(Phase)[n % len(Phase)]
        pulled, may_remove = (9999, True) if phase is Phase.FINISHED else (9000, False)
        done = replace(slot(phase, total=9999, pulled=pulled, may_remove=may_remove), slot=name)
        yield replace(
            done, device_label=LONG if n % 2 else "V8" * 60, message=TROUBLE if n % 3 else "", docking_id="d1"
        )


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    text = f'[station]\nname = "{LONG}"\ncontact = "0531-12345 转 {LONG[:20]}"\n[storage]\nroot = "{tmp_path}"\n'
    inventory = f'[recorder.DSJ-001]\nnumber = "{LONG}"\nserial = "1"\nproduct = "V8"\n'
    async with serve(tmp_path, text, inventory, SLOTS) as station:
        clips = [footage(station.config, name, n, FRIDAY - n * timedelta(days=3), path=f"DCIM/{LONG}{n}.MP4")
                 for n, name in enumerate("abc", 1)]  # fmt: skip
        issued = ReceiptIssued("d1", 1, Clearing.NOT_ALL_TAKEN, "V8", 0, 0, 0, 0, list_digest(""))
        await station.journal.record(
            opened(), *clips, DockingListed("d1", 3, "ab" * 32), DockingClosed("d1", "unplugged")
        )
        await station.journal.record(issued)
        station.world.show(*shown())
        yield station


async def fits(page: Page, screens: tuple[tuple[int, int], ...] = SCREENS) -> None:
    """Measure what is there, in each size."""
    for width, height in screens:
        size: Mapping[str, object] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await page.send("Emulation.setDeviceMetricsOverride", **size)
        assert await page.value(AMISS) == [], (await page.value("location.pathname + location.search"), width)


async def test_nothing_of_the_kiosk_is_cut_off_with_thirty_slots_in_every_state(served: Served, tmp_path: Path) -> None:
    officer = session_cookie(served.gate, Role.OFFICER)
    async with browsing(f"{served.url}kiosk", tmp_path / "browser", officer) as page:
        await page.shows("可以取走")
        for theme in ("light", "dark"):
            await page.value(f"document.documentElement.dataset.theme = '{theme}'; 0")
            await fits(page)
        await page.value("document.body.classList.add('stale'); 0")
        await fits(page)
        for path, words in (("kiosk/dockings/d1", "待补充"), ("kiosk/dockings/nothing", "返回")):
            await page.send("Page.navigate", url=served.url + path)
            await page.shows(words)
            await fits(page)
        await page.send("Network.clearBrowserCookies")
        await page.send("Page.navigate", url=f"{served.url}login?next=/kiosk/dockings/d1")
        await page.shows("请刷卡")
        await fits(page)


async def test_nothing_of_the_supervisors_pages_is_cut_off_in_any_language(served: Served, tmp_path: Path) -> None:
    async with browsing(served.url, tmp_path / "browser", served.cookie) as page:
        for path, words in (("", "rec-a"), ("recordings/rec-a", "rec-a"), ("statistics?year=2026&month=11", "2026-11")):
            for lang, theme in (("zh", "dark"), ("en", "light")):
                mark = "&" if "?" in path else "?"
                await page.send("Page.navigate", url=f"{served.url}{path}{mark}lang={lang}&theme={theme}")
                await page.shows(words)
                await fits(page)


async def test_a_filter_by_recorder_stays_from_page_to_page(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.screens.supervisor._ROWS", 2)

    async def asked(query: str) -> str:
        return (await asyncio.to_thread(served.ask, f"/?{query}"))[2].decode()

    device = served.journal.reader.recording("rec-a").recording.device_id
    assert f'<option value="{device}">' in await asked("")
    first = await asked(f"device={device}&sort=newest")
    assert f'<option value="{device}" selected>' in first
    (further,) = re.findall(r'href="\?([^"]*after=[^"]+)#list"', first)
    second = await asked(unescape(further))
    assert f'<option value="{device}" selected>' in second
    assert [name in first for name in ("rec-a", "rec-b", "rec-c")] == [False, True, True]
    assert [f'id"><a href="/recordings/{name}"' in second for name in ("rec-a", "rec-b", "rec-c")] == [
        True,
        False,
        False,
    ]
    assert "没有符合条件的记录" in await asked("device=another")
