"""Promise: what is said of a room is what is known of it: no recording without bytes, no more disk than there is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.rooms import Room, Source
from agent.model import SessionNoted, SessionTested
from agent.model.sessions import SourceLive
from agent.rooms.protocol import Cause, Kind, Why
from agent.status.rooms import Known, elapsed, ledger_view, level_percent, room_lines, rooms_view
from agent.status.words import WORDS, Check, Ended, Light, Line, named_as
from tests.room_station import BEGAN, MINUTE, session, source
from tests.status_station import NOW

FACE, WIDE = Source("face", "正面"), Source("wide", "全景")
ROOM = Room("xunwen", "第一询问室", (FACE, WIDE), planned_h=2, bitrate_kbit_s=4000)
GB = 1_000_000_000
LIVE = st.builds(
    SourceLive,
    name=st.just("face"),
    title=st.just("正面"),
    connected=st.booleans(),
    since=st.just(BEGAN),
    media_s=st.sampled_from([0.0, 5.0]),
    gaps=st.integers(0, 3),
)


def of(known: Known) -> dict[str, object]:
    (room,) = rooms_view({"xunwen": ROOM}, known, NOW)
    return room


@given(st.lists(LIVE, min_size=1, max_size=4))
def test_a_room_is_recorded_only_while_every_source_of_it_is(sources: list[SourceLive]) -> None:
    room = of(Known((session(*sources),)))
    light = room["light"]["name"]  # type: ignore[index]
    assert (light == Light.RECORDING) == all(one.connected for one in sources)
    assert (light == Light.LOST) == any(not one.connected and (one.media_s or one.gaps) for one in sources)
    assert light != Light.IDLE


def test_without_a_session_nothing_is_recorded_and_every_source_is_listed() -> None:
    room = of(Known())
    assert room["light"]["name"] == Light.IDLE  # type: ignore[index]
    assert [one["title"] for one in room["sources"]] == ["正面", "全景"]  # type: ignore[attr-defined]
    assert {one["light"]["name"] for one in room["sources"]} == {Light.IDLE}  # type: ignore[attr-defined]
    assert room["session"] is None
    assert room["problems"] == []


def test_what_runs_in_a_room_that_is_no_longer_configured_is_shown_all_the_same() -> None:
    rooms = rooms_view({}, Known((session(source("face", "正面")),)), NOW)
    assert [(room["room"], room["light"]["name"]) for room in rooms] == [("xunwen", "recording")]


@given(st.integers(0, 4000 * GB), st.integers(0, 100 * GB), st.integers(1, 4000), st.integers(0, 10 * GB))
def test_the_hours_that_are_promised_fit_onto_the_disk(free: int, reserve: int, mb: int, kept: int) -> None:
    running = session(source("face", "正面", size_bytes=mb * 1_000_000), reserved_bytes=kept)
    room = of(Known((running,), free, reserve))
    rate = mb * 1_000_000 / 600
    hours = room["disk_hours"]
    assert isinstance(hours, float)
    assert hours >= 0
    assert hours * 3600 * rate <= max(0, free - reserve + kept) * (1 + 1e-9)
    short = any("磁盘空间" in one["zh"] for one in room["problems"])  # type: ignore[attr-defined]
    assert short == (hours < 1), "it is to last an hour more"


def test_what_is_not_known_of_the_disk_is_not_said_and_what_others_write_counts() -> None:
    assert of(Known())["disk_hours"] is None
    assert of(Known(free_bytes=36 * GB))["disk_hours"] == 10.0, "1 MB/s as configured"
    other = session(source("hall", "会场", size_bytes=600_000_000), room="other", session_id="s2")
    rooms = rooms_view({"xunwen": ROOM}, Known((other,), 36 * GB), NOW)
    assert rooms[0]["disk_hours"] == 5.0


def test_a_line_of_the_ledger_is_one_line_with_its_end_however_often_it_was_told() -> None:
    begun = SessionNoted("s1", "face", "gap", BEGAN, cause="stalled")
    over = replace(begun, end=BEGAN + MINUTE)
    other = SessionNoted("s1", "", "late", BEGAN - MINUTE, detail={"who": "张三", "detail": "rtsp://10.1.2.3"})
    first, second = ledger_view([begun, over, other], ROOM, NOW)
    assert (first["kind"]["name"], first["title"], first["detail"]) == ("late", "", None)
    assert (second["title"], second["length_s"], second["cause"]["zh"]) == ("正面", 60.0, "摄像机不再传送数据")
    assert ledger_view([begun], None, NOW)[0]["length_s"] == 600.0, "so far"


def test_a_readiness_test_that_failed_is_a_problem_for_a_day() -> None:
    failed = SessionTested("s1", "xunwen", NOW - timedelta(hours=1), False, {"disk": "ok", "levels": "silent: face"})
    (problem,) = of(Known(tests={"xunwen": failed}))["problems"]  # type: ignore[misc]
    assert problem["zh"] == "第一询问室：开录前测试未通过（声音）"
    old = replace(failed, tested_at=NOW - timedelta(days=2))
    assert of(Known(tests={"xunwen": old}))["problems"] == []
    assert of(Known(tests={"xunwen": replace(failed, passed=True)}))["problems"] == []


def test_what_the_ledger_has_no_end_of_is_a_problem() -> None:
    lost = SessionNoted("s1", "face", "gap", BEGAN, cause="closed")
    lines = (
        lost,
        SessionNoted("s1", "wide", "missing", BEGAN),
        SessionNoted("s1", "", "overrun", NOW - MINUTE),
        SessionNoted("s1", "face", "black", BEGAN, NOW),
        SessionNoted("s1", "", "space", BEGAN, detail={"missing_bytes": 3 * GB}),
    )
    silent = source("wide", "全景", connected=False, media_s=0.0)
    running = session(source("face", "正面", connected=False), silent, planned_end=NOW - MINUTE)
    room = of(Known((running,), notes={"s1": lines}))
    assert room["session"]["over_s"] == 60  # type: ignore[index]
    assert [one["light"]["name"] for one in room["sources"]] == ["lost", "lost"]  # type: ignore[attr-defined]
    assert [one["zh"] for one in room["problems"]] == [  # type: ignore[attr-defined]
        "第一询问室 正面：09:50:00 起录制中断（摄像机断开了连接）",
        "第一询问室 全景：09:50:00 起一直没有信号",
        "第一询问室：09:50:00 起磁盘空间不够录完计划时长",
        "第一询问室：09:59:00 起超过计划结束时间",
    ]
    assert of(Known((running,), notes={"s1": [replace(one, end=NOW) for one in lines]}))["problems"] == []


def test_a_source_whose_gap_has_no_end_is_not_called_recorded_because_it_answers() -> None:
    lines = (SessionNoted("s1", "face", "gap", BEGAN, cause="recorder"),)
    room = of(Known((session(source("face", "正面")),), notes={"s1": lines}))
    assert room["light"]["name"] == Light.LOST  # type: ignore[index]


@pytest.mark.parametrize(
    ("kind", "detail", "told"),
    [
        ("jump", {"value": -5_000_000}, "-5.000 秒"),
        ("dropped", {"value": 7, "track": "video"}, "画面 7 个数据包"),
        ("silent", {"track": "audio"}, "声音"),
        ("space", {"missing_bytes": 3 * GB}, "缺 3.0 GB"),
        ("gap", {"detail": "rtsp://10.1.2.3 refused", "who": "x"}, None),
    ],
)
def test_what_more_is_known_of_a_line_is_told_in_words(kind: str, detail: dict[str, object], told: str | None) -> None:
    (line,) = ledger_view([SessionNoted("s1", "face", kind, BEGAN, detail=detail)], ROOM, NOW)
    assert (line["detail"]["zh"] if line["detail"] else None) == told


@pytest.mark.parametrize("kind", [Cause, Kind, Why, Light, Line, Ended, Check])
def test_every_name_has_its_words_and_an_unknown_one_says_so(kind: type) -> None:
    assert WORDS[kind].keys() == set(kind)  # type: ignore[call-overload]
    assert named_as("of a later version", kind) == {
        "name": "of a later version", "zh": "其他（of a later version）", "en": "of a later version",
    }  # fmt: skip


@given(st.floats(-200, 50))
def test_a_meter_is_never_fuller_than_full(level_db: float) -> None:
    assert 0 <= level_percent(level_db) <= 100
    assert level_percent(-30.0) == 50
    assert level_percent(None) == 0


def test_a_terminal_shows_each_room_and_what_it_records() -> None:
    lost = source("wide", "全景", connected=False, level_db=None, gaps=1)
    lines = list(
        room_lines(rooms_view({"xunwen": ROOM}, Known((session(source("face", "正面"), lost),), 36 * GB), NOW))
    )
    assert lines[0].startswith("room xunwen  信号中断 (no signal)  00:10:00  0 次中断")
    assert lines[1:] == ["  face  录制中 (recording)  300 MB  -23 dB", "  wide  信号中断 (no signal)  300 MB"]
    assert elapsed(36_061.9) == "10:01:01"
