"""Promise: an officer at the dock sees in one glance what may be taken away, and never that something is done when
nobody knows.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.accounts.book import Account, Book, Role
from agent.deadline import ZONE
from agent.journal import Reader
from agent.model import Clearing, DockingClosed, DockingListed, Phase, ReceiptIssued
from agent.receipts import list_digest
from agent.status.kiosk import _left, _progress
from simulator.content import Noise
from simulator.stage import Stage, serving
from tests.cards import image
from tests.chromium import browsing
from tests.daemons import Daemon, stage
from tests.journal_entries import acquired, opened, seen_again
from tests.status_station import HOSTILE, Served, footage, serve, slot

CARD = "12345678"
PROOF = "证明药店未按处方销售药品"
FRIDAY = datetime(2026, 11, 20, 16, tzinfo=ZONE)
SMALLEST_FONT_PX = """
    Math.min(...[...document.body.querySelectorAll("*")]
        .filter((node) => node.innerText && node.offsetParent && node.tagName != "OPTION")
        .map((node) => parseFloat(getComputedStyle(node).fontSize)))
"""
TOO_WIDE = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def at(served: Served) -> str:
    return f"http://127.0.0.1:{served.port}/kiosk"


async def test_a_docking_goes_through_its_states_in_its_place_on_the_dock(tmp_path: Path) -> None:
    async with serve(tmp_path, slots=("3", "1", "2")) as served, browsing(at(served), tmp_path / "browser") as page:
        await page.shows("请插入执法记录仪")
        assert await page.value("[...document.querySelectorAll('.slot h2')].map((one) => one.innerText).join()") == (
            "端口 3,端口 1,端口 2"
        ), "as they follow each other on the dock, also the empty ones"
        served.world.show(slot(Phase.READING, total=37, pulled=12))
        await page.shows("读取中")
        text = await page.text()
        for words in ("DSJ-V8 058F63666485", "12/37 个文件", "3.1/8.4 GB", "约 3 分钟", "请勿拔出", "原始资料不得损毁"):
            assert words in text
        assert "可以取走" not in text
        served.world.show(slot(Phase.VERIFYING, total=37, pulled=36))
        await page.shows("校验中")
        assert "可以取走" not in await page.text(), "not before it was read back"
        served.world.show(slot(Phase.FINISHED, total=37, pulled=37, may_remove=True))
        await page.shows("可以取走")
        assert "请勿拔出" not in await page.text()
        served.world.show(slot(Phase.UNPLUGGED, total=37, pulled=28))
        await page.shows("已拔出，剩余 9 个未采集")
        amber = "getComputedStyle(document.querySelector('.hold.gone')).backgroundColor"
        assert await page.value(amber) == "rgb(138, 75, 0)"
        served.world.show(slot(Phase.FAILED, total=14, pulled=13, unreadable=1, may_remove=True))
        await page.shows("已采集的 13 个文件安全。请勿反复插拔，联系管理员 0531-12345")
        assert "可以取走" not in await page.text()
        assert await page.value(SMALLEST_FONT_PX) >= 24
        assert await page.value("document.querySelectorAll('.state .word svg').length") == 3, "icon and word"
        assert "删除" not in await page.value("document.documentElement.outerHTML")
        assert page.console == [], "nothing was refused by the page's own policy and nothing failed"


async def test_what_a_docking_brought_says_until_when_and_that_something_is_to_fill_in(tmp_path: Path) -> None:
    async with serve(tmp_path) as served, browsing(at(served), tmp_path / "browser") as page:
        await page.shows("请插入")
        clip = footage(served.config, "a", 1, FRIDAY, path=HOSTILE)
        await served.journal.record(opened(), clip, DockingListed("d1", 1, "ab" * 32))
        await served.journal.record(acquired("a", 1), DockingClosed("d1", "complete"))
        served.world.show()
        await page.shows("应于 11月24日（周二）24:00 前入库 · 剩余 1 天 14 小时")
        text = await page.text()
        for words in ("鲁医保发〔2019〕60号", "需补充信息（约 1 分钟）", "现在填写", "稍后填写，期限不受影响"):
            assert words in text
        assert "script" not in text, "no recording is named to everybody who stands there"
        served.world.now = FRIDAY + timedelta(days=9)
        served.world.show()
        await page.shows("前入库 · 逾期")
        assert await page.value(SMALLEST_FONT_PX) >= 24
        assert page.console == []


async def test_what_was_docked_again_has_its_own_receipt_and_nothing_to_fill_in(tmp_path: Path) -> None:
    """Its recordings belong to the docking that saw them first; the receipt that clears it belongs to this one."""
    async with serve(tmp_path, role=None) as served:
        clip = footage(served.config, "a", 1, FRIDAY)
        await served.journal.record(opened(), clip, DockingListed("d1", 1, "ab" * 32), acquired("a", 1))
        await served.journal.record(DockingClosed("d1", "unplugged"))
        again = (opened("d2"), seen_again("a"), DockingListed("d2", 1, "ab" * 32), DockingClosed("d2", "complete"))
        await served.journal.record(*again, ReceiptIssued("d2", 1, Clearing.CLEAR, "V8", 1, 1, 1, 9, list_digest("")))
        shown = (await asyncio.to_thread(served.ask, "/kiosk"))[2].decode()
        texts = shown.split('<article class="docking">')[1:]
        assert ["需补充信息" in text for text in texts] == [False, True]
        assert ["可以清空" in text for text in texts] == [True, False]
        assert "1 个文件" in texts[0]
        assert "信息已补充" not in texts[0]


async def test_a_limit_without_its_holiday_notice_is_provisional_and_says_which_is_missing(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        served.world.now = datetime(2026, 12, 30, 18, tzinfo=ZONE)
        clip = footage(served.config, "a", 1, served.world.now - timedelta(hours=2), path=HOSTILE)
        await served.journal.record(opened(), clip, DockingListed("d1", 1, "ab" * 32), DockingClosed("d1", "unplugged"))
        (docking,) = (await served.board.kiosk())["dockings"]
        assert docking["brought"]["due"]["zh"] == (
            "暂定：暂按最早可能期限提醒，1月2日（周六）24:00 前入库（2027 年放假安排尚未导入） · 剩余 3 天 6 小时"
        )


async def test_who_stands_at_the_dock_learns_no_name_of_a_recording_or_of_anybody(tmp_path: Path) -> None:
    async with serve(tmp_path, role=None) as served:
        clip = footage(served.config, "a", 1, FRIDAY, path="DCIM/secret.MP4")
        await served.journal.record(opened(), clip, DockingListed("d1", 1, "ab" * 32), DockingClosed("d1", "unplugged"))
        for path in ("/kiosk", "/api/v1/kiosk"):
            status, _, body = await asyncio.to_thread(served.ask, path)
            assert (status, b"secret" in body, b"rec-a" in body) == (200, False, False)


@given(st.timedeltas(timedelta(-1), timedelta(40)))
def test_the_time_that_is_left_is_never_said_to_be_more_than_it_is(left: timedelta) -> None:
    zh, en = _left(left)
    parts = dict(zip(zh.split()[1::2], map(int, zh.split()[::2]), strict=True))
    said = timedelta(days=parts.get("天", 0), hours=parts.get("小时", 0), minutes=parts.get("分钟", 0))
    assert said <= max(left, timedelta())
    assert max(left, timedelta()) - said < (timedelta(hours=1) if "天" in parts else timedelta(minutes=1))
    assert zh.split()[::2] == en.split()[::2]


@pytest.mark.parametrize(("eta_s", "said"), [(0, "约 1 分钟"), (60, "约 1 分钟"), (61, "约 2 分钟")])
def test_what_is_nearly_read_takes_another_minute_not_none(eta_s: int, said: str) -> None:
    read = {"files": {"done": 1, "total": 2}, "bytes": {"done": 1, "total": 2}, "phase": {"name": Phase.READING}}
    assert _progress({**read, "eta_s": eta_s})["zh"].endswith(said)


async def test_the_kiosk_works_without_the_centre_and_says_so(tmp_path: Path) -> None:
    async with serve(tmp_path) as served, browsing(at(served), tmp_path / "browser") as page:
        await page.shows("专用存储器 已连接")
        served.world.live = replace(served.world.live, store_error="no route to host")
        served.world.show(slot(Phase.FINISHED, total=3, pulled=3, may_remove=True))
        await page.shows("专用存储器 未连接（数据已在本机安全保存，可继续采集）")
        text = await page.text()
        assert "可以取走" in text
        assert "已入库" not in text
        served.world.live = replace(served.world.live, free_bytes=1)
        served.world.show()
        await page.shows("存储空间不足，已停止采集")


def test_an_entry_reaches_the_real_service_and_when_that_hangs_or_dies_nothing_stays_done_on_the_screen(
    tmp_path: Path,
) -> None:
    made = stage(tmp_path)
    made.station.mkdir()
    Book(made.station).change("a017", lambda all_, _: Account("a017", Role.OFFICER, "", all_.card(CARD)))
    card = image(tmp_path / "card.img", {"DCIM/0001.MP4": Noise(1, 4000)})
    with serving(made) as service:
        daemon = Daemon(service, made)
        daemon.until_phase(daemon.dock(card), "finished")
        asyncio.run(_watched(made, service.process, tmp_path / "browser"))


def said_of_the_only_recording(made: Stage) -> str:
    with contextlib.closing(Reader(made.station / "journal.db")) as reader:
        (row,) = reader.recordings()
        name = row.recording.recording_id
        (one,) = reader.statements([name])[name]
        assert one.said.who == "a017"
        return str(one.said.fields["proof_object"])


async def _watched(made: Stage, process: subprocess.Popen[bytes], profile: Path) -> None:
    async with browsing(f"{made.address}kiosk", profile) as page:
        await page.shows("可以取走")
        await page.shows("现在填写")
        await page.value("document.querySelector('.docking .button').click(); 0")
        await page.shows("请刷卡")
        await page.value(f"card.value = '{CARD}'; card.form.requestSubmit(); 0")
        await page.shows("须填写")
        await page.value(f"proof_object.value = '{PROOF}'; document.querySelector('.entry button').click(); 0")
        await page.shows("已保存")
        assert PROOF in said_of_the_only_recording(made)
        await page.value("leave.submit(); 0")
        await page.shows("可以取走")
        process.send_signal(signal.SIGSTOP)
        await page.shows("页面未更新")
        await page.shows("状态未知，请勿拔出")
        assert not {"可以取走", "已采集", "已连接"} & {
            word for word in ("可以取走", "已连接") if word in await page.text()
        }
        process.send_signal(signal.SIGCONT)
        await page.shows("可以取走")
        assert "页面未更新" not in await page.text()
        process.kill()
        await page.shows("页面未更新")
        assert "可以取走" not in await page.text()


async def test_nothing_is_cut_off_on_any_screen(tmp_path: Path) -> None:
    names = tuple(map(str, range(1, 9)))
    async with serve(tmp_path, slots=names) as served, browsing(at(served), tmp_path / "browser") as page:
        reading = replace(slot(Phase.READING, total=37, pulled=12), device_label="设" * 200, message="x" * 900)
        done = replace(slot(Phase.FINISHED, total=3, pulled=3, may_remove=True), slot="5")
        served.world.show(reading, done)
        await page.shows("可以取走")
        for width, height in ((1024, 768), (1920, 1080), (390, 844)):
            screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
            await page.send("Emulation.setDeviceMetricsOverride", **screen)
            assert not await page.value(TOO_WIDE), "no sideways scrolling"
            cut = "[...document.querySelectorAll('.hold')].filter((one) => one.scrollWidth > one.clientWidth).length"
            assert await page.value(cut) == 0
