"""Promise: at the kiosk of the real service a recorder that is taken out too early is amber, goes on when it is back,
and turns green only once every file was read back; a service that dies meanwhile leaves no such word on the screen.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from agent.journal import Reader
from agent.model import AssetState
from simulator.content import Noise
from simulator.hand import slowed
from simulator.stage import STORE_MARKER, Stage
from tests.cards import MIB, image
from tests.chromium import Page, browsing
from tests.daemons import Daemon, running, stage

FILES = 12
SIZE_BYTES = 160 * MIB
HELD = (AssetState.HELD, AssetState.STUCK)
SEEN = """
window.seen = [];
new MutationObserver(() => {
    const now = document.querySelector(".slot:not(.empty) .hold:not(.unknown)")?.innerText.split("\\n")[0].trim();
    if (now && now !== window.seen.at(-1)) window.seen.push(now);
}).observe(document.body, {subtree: true, childList: true, characterData: true});
"""
BEGUN = """
[...document.querySelectorAll("[data-phase=reading] progress")].some((bar) => bar.value > bar.max / 6)
"""
AMBER = "getComputedStyle(document.querySelector('.hold.gone')).backgroundColor === 'rgb(138, 75, 0)'"


def test_a_yank_is_amber_goes_on_and_is_green_only_when_all_was_read_back(tmp_path: Path) -> None:
    """Without the centre: nothing of this waits for it."""
    made = stage(tmp_path)
    (made.store / STORE_MARKER).unlink()
    card = recorder(made.recorders / "card.img", 1)
    with running(made) as daemon, slowed(daemon.pid):
        asyncio.run(_watched(made, daemon, card, tmp_path / "browser"))


async def _watched(made: Stage, daemon: Daemon, card: Path, profile: Path) -> None:
    docked = made.dock / card.name
    async with browsing(f"{made.address}kiosk", profile) as page:
        await page.shows("请插入执法记录仪")
        await page.value(SEEN)
        os.link(card, docked)
        await reading(page)
        docked.unlink()
        await page.shows("已拔出，剩余")
        assert await page.value(AMBER)
        left = FILES - len(held(made))
        assert 0 < left < FILES
        assert f"已拔出，剩余 {left} 个未采集" in await page.text()
        assert "可以取走" not in await page.text()
        await page.shows("未连接（数据已在本机安全保存，可继续采集）")
        os.link(card, docked)
        await page.shows("可以取走", 60)
        assert len(held(made)) == FILES, "it is green, so every file was read back"
        assert await page.value("window.seen") == ["请勿拔出", f"已拔出，剩余 {left} 个未采集", "请勿拔出", "可以取走"]
        assert "未连接" in await page.text()
        assert page.console == []
        await killed_while_reading(made, daemon, page)


async def killed_while_reading(made: Stage, daemon: Daemon, page: Page) -> None:
    other = recorder(made.recorders / "other.img", 100, FILES // 2)
    os.link(other, made.dock / other.name)
    await reading(page)
    daemon.service.process.kill()
    await page.shows("页面未更新")
    text = await page.text()
    assert "状态未知，请勿拔出" in text
    assert not {word for word in ("可以取走", "已采集", "已连接") if word in text.replace("已采集的在本机", "")}


def recorder(path: Path, seed: int, count: int = FILES) -> Path:
    files = {f"DCIM/{n:04}.MP4": Noise(8 * MIB, seed + n) for n in range(count)}
    return image(path, files, size_bytes=SIZE_BYTES)


async def reading(page: Page) -> None:
    """Wait until some of it was read, and not all."""
    async with asyncio.timeout(30):
        while not await page.value(BEGUN):
            await asyncio.sleep(0.05)


def held(made: Stage) -> list[str]:
    """The recordings that were read back."""
    with contextlib.closing(Reader(made.station / "journal.db")) as reader:
        return [row.recording.recording_id for row in reader.recordings() if row.asset.state in HELD]
