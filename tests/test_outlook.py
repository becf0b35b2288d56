"""What the screens say of the time to come: from a real journal, at a rate that is known, or in honest words."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agent.deadline import ZONE
from agent.model import AssetChanged, AssetState, Blocked, ClipSeen, DockingClosed, Phase, SlotProgress
from agent.status.summary import summary
from tests.journal_entries import acquired, confirmed, listed, opened
from tests.status_station import NOW, Served, footage, serve

FRIDAY = datetime(2026, 11, 20, 16, tzinfo=ZONE)  # due on Tuesday at 24:00, that is in 38 hours
TODAY = datetime(2026, 11, 23, 8, tzinfo=ZONE)  # due on Wednesday at 24:00
RATE = 1000.0


def sized(entry: ClipSeen, size_bytes: int) -> ClipSeen:
    """The same footage, of another size."""
    assert entry.asset is not None
    entry = replace(entry, clip=replace(entry.clip, size_bytes=size_bytes, readable_bytes=size_bytes))
    return replace(entry, asset=replace(entry.asset, expected_bytes=size_bytes))


async def here(served: Served, *, pulled: int) -> None:
    """A docking under way: three of Friday and one of today, each an hour of line; so many of them are held."""
    await served.journal.record(opened())
    days = (FRIDAY, FRIDAY, FRIDAY, TODAY)
    for number, made in enumerate(days, 1):
        await served.journal.record(sized(footage(served.config, f"c{number}", number, made), 3_600_000))
    await served.journal.record(listed(4))
    for number in range(1, pulled + 1):
        await served.journal.record(acquired(f"c{number}", number, size=3_600_000))


def known(served: Served, rate: float | None = RATE, slots: tuple[SlotProgress, ...] = ()) -> None:
    served.world.live = replace(served.world.live, store_rate_bytes_s=rate, slots=slots)
    served.world.version += 1


def reading(rate_bytes_s: float) -> SlotProgress:
    return SlotProgress("1", "V8", Phase.READING, rate_bytes_s=rate_bytes_s, docking_id="d1")


async def test_nothing_waits(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        forecast = await ask(served)
    assert forecast["zh"] == "没有等待入库的记录"
    assert forecast["all_by"] is None


async def ask(served: Served) -> dict[str, Any]:
    """The forecast, once the answer that was made before has grown old."""
    body = json.loads(await served.board._ask(lambda: served.board._make_status(served.world.look())[0]))
    found: dict[str, Any] = body["forecast"] | {"health": body["health"], "rows": body["at_risk"], "all": body}
    return found


async def test_as_long_as_nothing_moved_nothing_is_foretold(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        await here(served, pulled=4)
        forecast = await ask(served)
    assert "未知" in forecast["zh"]
    assert (forecast["files"], forecast["rate_bytes_s"], forecast["all_by"], forecast["missed"]) == (4, None, None, 0)
    assert [row["stored_by"] for row in forecast["rows"]] == [None] * 4
    assert not any("目前速度" in problem["zh"] for problem in forecast["health"]["problems"])


async def test_at_the_rate_of_the_store_everything_has_its_time(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        await here(served, pulled=4)
        known(served)
        forecast = await ask(served)
    assert forecast["all_by"] == (NOW + timedelta(hours=4)).isoformat(timespec="milliseconds")
    assert "11月23日 14:01 前入库" in forecast["zh"]
    assert {row["stored_by"] for row in forecast["rows"][:3]} == {
        (NOW + timedelta(hours=3)).isoformat(timespec="milliseconds")
    }
    text = summary(forecast["all"])
    assert "全部将于" in text
    assert "预计入库 (stored by) 2026-11-23T13:00" in text


async def test_what_will_not_be_in_time_is_a_problem_before_it_is_late(tmp_path: Path) -> None:
    """A fiftieth of the rate: the three of Friday take 150 hours, and 38 are left."""
    async with serve(tmp_path) as served:
        await here(served, pulled=4)
        known(served, RATE / 50)
        forecast = await ask(served)
        health = await served.board.health()
    assert forecast["missed"] == 3
    assert forecast["misses"][0]["files"] == 2, "the first of them is in time"
    assert "来不及 3 个" in forecast["zh"]
    assert "按目前速度，3 个记录来不及在期限前入库" in [problem["zh"] for problem in forecast["health"]["problems"]]
    assert health == "degraded"
    assert "不含" not in forecast["zh"]
    assert "来不及 (not in time): 2 files due" in summary(forecast["all"])
    assert "逾期" not in forecast["zh"], "that is only said of what is"


async def test_what_is_on_a_docked_recorder_counts_at_the_rate_of_its_slot(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        await here(served, pulled=2)
        known(served)
        unknown = await ask(served)
        known(served, RATE, (reading(500.0),))
        forecast = await ask(served)
    assert (unknown["files"], unknown["unknown_files"]) == (2, 2)
    assert "不含 2 个（正在采集、速度未知）" in unknown["zh"]
    assert (forecast["files"], forecast["unknown_files"]) == (4, 0)
    assert forecast["all_by"] == (NOW + timedelta(hours=5)).isoformat(timespec="milliseconds"), "read in 4, sent in 1"


async def test_what_is_not_docked_can_not_be_foretold(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        await here(served, pulled=3)
        await served.journal.record(DockingClosed("d1", "yanked"))
        known(served)
        forecast = await ask(served)
    assert (forecast["files"], forecast["absent_files"]) == (3, 1)
    assert "在未连接的记录仪上" in forecast["zh"]
    assert forecast["rows"][3]["stored_by"] is None
    assert forecast["rows"][3]["state"]["name"] == AssetState.WANTED


async def test_what_needs_a_person_is_never_called_nothing(tmp_path: Path) -> None:
    """Nobody knows when it will be stored; that nothing waits would be a lie."""
    async with serve(tmp_path) as served:
        await here(served, pulled=4)
        for number in range(1, 5):
            gave_up = AssetChanged(f"c{number}", Blocked("the store refuses it"))
            await served.journal.record(gave_up if number > 1 else confirmed("c1", 3_600_000))
        await served.journal.record(DockingClosed("d1", "unplugged"))
        known(served)
        forecast = await ask(served)
    assert (forecast["files"], forecast["stuck_files"], forecast["all_by"]) == (0, 3, None)
    assert forecast["zh"] == "没有其他等待入库的记录；不含 3 个（需要处理）"
    assert forecast["en"] == "nothing else waits to be stored; without 3 that need a person"


async def test_where_this_station_is_the_storage_only_what_is_not_here_waits(tmp_path: Path) -> None:
    text = '[deadline]\nsatisfied_by = "local"\n'
    async with serve(tmp_path, text) as served:
        await here(served, pulled=2)
        known(served, None, (reading(1000.0),))
        forecast = await ask(served)
    assert forecast["files"] == 2
    assert forecast["all_by"] == (NOW + timedelta(hours=2)).isoformat(timespec="milliseconds")
    assert forecast["rate_bytes_s"] is None


async def test_the_page_shows_it_in_both_languages(tmp_path: Path) -> None:
    async with serve(tmp_path) as served:
        await here(served, pulled=4)
        known(served)
        forecast = await ask(served)
        pages = [(await asyncio.to_thread(served.ask, f"/?lang={language}"))[2].decode() for language in ("zh", "en")]
    assert "目前速度" in forecast["zh"]
    assert [forecast["zh"] in page for page in pages] == [True, False]
    assert [forecast["en"] in page for page in pages] == [False, True]


async def test_beyond_what_is_looked_at_one_by_one_the_sum_is_true(tmp_path: Path) -> None:
    """250 due times: 200 of them are looked at, and the bytes of all count for the end."""
    files = 250
    async with serve(tmp_path) as served:
        await served.journal.record(opened())
        for number in range(1, files + 1):
            entry = sized(footage(served.config, f"c{number}", number, FRIDAY), 36_000)
            due = FRIDAY + timedelta(days=3, minutes=number)
            assert entry.recording is not None
            limit = replace(entry.recording.deadline, due_at=due, alarm_at=due)
            await served.journal.record(replace(entry, recording=replace(entry.recording, deadline=limit)))
        await served.journal.record(listed(files))
        for number in range(1, files + 1):
            await served.journal.record(acquired(f"c{number}", number, size=36_000))
        known(served)
        waiting = served.journal.reader.waiting()
        forecast = await ask(served)
    assert len(waiting.held) == 200
    assert forecast["files"] == files
    assert forecast["bytes"] == files * 36_000
    assert forecast["all_by"] == (NOW + timedelta(seconds=36 * files)).isoformat(timespec="milliseconds")
