"""Promise: with a real recorder and cameras the panel, the ledger and what becomes of a session say what happened."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from agent.accounts.book import Role
from simulator.cameras.camera import Cameras
from simulator.stage import Stage, enlist
from tests.chromium import Page, browsing
from tests.daemons import Daemon, running, stage

LIMIT_S = 90
ROOMS = """
[room.xunwen]
title = "第一询问室"
segment_s = 3
planned_h = 0.5
bitrate_kbit_s = 500
[room.xunwen.source.face]
title = "正面摄像机"
url = "{face}"
[room.xunwen.source.wide]
title = "全景摄像机"
url = "{wide}"
"""
PICTURE = "document.querySelector('img.still') ? document.querySelector('img.still').naturalWidth : 0"


async def press(page: Page, words: str) -> None:
    """Touch what says so, once it is there."""
    await page.shows(words, LIMIT_S)
    find = (
        f"[...document.querySelectorAll('button, a.button')].find((one) => one.innerText.includes({json.dumps(words)}))"
    )
    await page.value(f"{find}.click(); 0")


async def fill(page: Page, **values: str) -> None:
    for name, value in values.items():
        await page.value(f"document.getElementById({json.dumps(name)}).value = {json.dumps(value)}; 0")


async def sign_in(page: Page, made: Stage, path: str, role: Role, secret: str) -> None:
    await page.send("Page.navigate", url=f"{made.address}login?next=/{path}")
    await page.shows("密码或 PIN", LIMIT_S)
    await fill(page, account=role.value, secret=secret)
    await page.value("document.getElementById('secret').form.querySelector('button').click(); 0")


async def lit(page: Page, words: str) -> None:
    """Wait for the recording light, as it is seen."""
    lamps = "[...document.querySelectorAll('.lamp')].filter((one) => one.checkVisibility())"
    async with asyncio.timeout(LIMIT_S):
        while words not in await page.value(f"{lamps}.map((one) => one.innerText).join()"):
            await asyncio.sleep(0.2)


async def test_a_session_is_recorded_with_an_outage_and_a_crash_of_the_service_and_explained(
    tmp_path: Path, pack: Callable[..., Path], cameras: Callable[..., Cameras]
) -> None:
    from simulator.cameras.footage import Footage

    other = Footage(picture="smptebars=size={size}:rate=25,noise=alls=8:allf=t")
    server = cameras({"face": pack(), "wide": pack(other)}, auth="")
    made = stage(tmp_path)
    rooms = ROOMS.format(face=server.url("face"), wide=server.url("wide"))
    (made.config.parent / "rooms.toml").write_text(rooms, "utf-8")
    pin, _ = enlist(made, Role.OFFICER)
    password, _ = enlist(made, Role.SUPERVISOR)
    async with browsing("about:blank", tmp_path / "browser") as page:
        with running(made) as daemon:
            session_id = await recorded(page, daemon, made, server, pin)
            os.kill(daemon.pid, signal.SIGKILL)
            daemon.service.process.wait()
            await lit(page, "状态未知")
        with running(made) as daemon:
            await lit(page, "录制中")
            await ended(page, daemon, made, session_id, password)


async def recorded(page: Page, daemon: Daemon, made: Stage, server: Cameras, pin: str) -> str:
    """Start at the panel, see and hear both cameras, lose them and have them back."""
    await sign_in(page, made, "rooms/xunwen/start", Role.OFFICER, pin)
    await page.shows("确认开始录制", LIMIT_S)
    await fill(page, participants="当事人：李四", case="鲁医保案〔2026〕7号")
    await press(page, "确认开始录制")
    await lit(page, "录制中")
    async with asyncio.timeout(LIMIT_S):
        while not await page.value(PICTURE) or not await page.value("document.querySelectorAll('.meter').length"):
            await asyncio.sleep(0.2)
    server.kill()
    await lit(page, "信号中断")
    status = await asyncio.to_thread(daemon.status)
    (room,) = status["rooms"]
    assert room["light"]["name"] == "lost"
    assert status["health"]["name"] == "degraded"
    assert any("录制中断" in problem["zh"] for problem in status["health"]["problems"])
    await asyncio.sleep(3)  # longer than what is no interruption
    server.start()
    await lit(page, "录制中")
    return str(room["session"]["session_id"])


async def ended(page: Page, daemon: Daemon, made: Stage, session_id: str, password: str) -> None:
    """Stop it as a supervisor, read its ledger, and explain the gap."""
    await sign_in(page, made, "rooms/xunwen/stop", Role.SUPERVISOR, password)
    await press(page, "确认停止录制")
    await lit(page, "未录制")

    def all_stored() -> bool:
        counted = daemon.status()["counters"]["assets"]
        return counted["stored"]["files"] >= 4 and not counted["wanted"]["files"] + counted["held"]["files"]

    await asyncio.to_thread(daemon.until, all_stored)
    await page.send("Page.navigate", url=f"{made.address}sessions/{session_id}")
    await page.shows("人工停止", LIMIT_S)
    text = await page.text()
    for words in ("李四", "摄像机断开了连接", "本机录制程序中断", "已入库", "正面摄像机"):
        assert words in text, text
    view = await page.value(f"fetch('/api/v1/sessions/{session_id}').then((answer) => answer.json())")
    gaps = [line for line in view["ledger"] if line["kind"]["name"] == "gap"]
    assert {line["source"] for line in gaps} == {"face", "wide"}
    assert all(line["end"] for line in gaps)
    assert view["segment_count"] == sum(one["segments"] for one in view["sources"]) >= 4
    await page.send("Page.navigate", url=f"{made.address}sessions/{session_id}/gaps")
    await page.shows("保存中断说明", LIMIT_S)
    chosen = "document.querySelector('[name=code]').value = 'INT-12'"
    why = "document.querySelector('[name=why]').value = '摄像机断电'"
    await page.value(f"{chosen}; {why}; document.querySelector('form.entry button').click(); 0")
    await page.shows("已保存", LIMIT_S)
    assert [one for one in page.console if "net::ERR" not in one] == [], "nothing but that nobody answered"
