"""Promise: the screens never show success for something that did not happen."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clocks import ClockState
from agent.config import Config, Milestone
from agent.deadline import ZONE, Rules, Verdict, coverage
from agent.journal.views import Overview, RecordingView, Tally
from agent.model import (
    AssetState,
    AuditProgress,
    Basis,
    ClockTrust,
    Device,
    Medium,
    Outcome,
    Phase,
    RecorderKind,
    SlotProgress,
)
from agent.status.health import Live, health_view, hold_of, pulls
from agent.status.views import _facts, recording_view, slot_view, to_json
from agent.status.words import WORDS, Hold, Whereabouts, named
from tests.journal_entries import receipt, wanted
from tests.status_station import HOSTILE, NOW, configured, footage, slot

ENUMS: list[type[StrEnum]] = [
    *(Phase, Hold, AssetState, Outcome, Verdict, Basis, ClockTrust, Medium),
    *(Whereabouts, RecorderKind),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return configured(tmp_path_factory.mktemp("station"))


@pytest.mark.parametrize("kind", ENUMS)
def test_every_machine_name_has_its_words(kind: type[StrEnum]) -> None:
    for member in kind:
        words = named(member)
        assert words["name"] == member.value
        assert words["zh"]
        assert words["en"]


def test_the_forbidden_words_are_nowhere_on_the_screens() -> None:
    screens = Path(__file__).parent.parent / "agent" / "screens"
    pages = [path.read_text() for kind in ("*.html", "*.js", "*.css") for path in sorted(screens.rglob(kind))]
    assert len(pages) > 10
    words = [text for group in WORDS.values() for pair in group.values() for text in pair]
    for text in [*pages, *words]:
        for forbidden in ("删除", "导入/下载", "下载", "格式化", "delete"):
            assert forbidden not in text.lower()


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (Live(store_locks=True), "已连接 已锁定"),
        (Live(store_locks=False), "已连接 未锁定"),
        (Live(store_locks=True, store_error="It is away."), "未连接（数据已在本机安全保存）"),
    ],
)
def test_whether_the_store_locks_is_only_said_while_it_answers(config: Config, live: Live, words: str) -> None:
    facts = [fact["zh"] for fact in _facts(config, live, coverage(config.calendars, date(2026, 11, 22)))]
    assert f"{config.store.name} {words}" in facts


# What an officer may do with the recorder.

progress = st.builds(
    SlotProgress,
    slot=st.just("1"),
    device_label=st.just("x"),
    phase=st.sampled_from(Phase),
    files_total=st.integers(0, 9),
    outcomes=st.dictionaries(st.sampled_from(Outcome), st.integers(0, 4)),
    may_remove=st.booleans(),
)


@given(slot=progress)
def test_a_recorder_may_only_be_taken_when_all_of_it_is_here_and_was_read_back(slot: SlotProgress) -> None:
    view = slot_view(slot, "")
    here = slot.outcomes.get(Outcome.PULLED, 0) + slot.outcomes.get(Outcome.ALREADY_HELD, 0)
    whole = slot.phase is Phase.FINISHED and slot.may_remove
    whole = whole and here >= slot.files_total and here == sum(slot.outcomes.values())
    assert view["may_remove"] == whole
    assert ("可以取走" in json.dumps(view, ensure_ascii=False)) == whole


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.UNSUPPORTED, Phase.NO_SPACE])
def test_a_docking_that_failed_never_shows_that_it_may_be_taken(phase: Phase) -> None:
    failed = slot(phase, total=3, may_remove=True, pulled=3)
    assert hold_of(failed) is Hold.ASK
    assert "请勿反复插拔，联系管理员 0531-12345" in slot_view(failed, "0531-12345")["hold"]["zh"]


@pytest.mark.parametrize("outcome", [Outcome.PENDING, Outcome.REFUSED, Outcome.UNREADABLE, Outcome.LEFT])
def test_one_clip_that_is_not_here_is_enough_to_ask_a_person(outcome: Outcome) -> None:
    view = slot_view(slot(Phase.FINISHED, total=3, may_remove=True, pulled=2, **{outcome.value: 1}), "")
    assert view["hold"]["name"] == "ask"
    assert "已采集的 2 个文件安全" in view["hold"]["zh"]


@pytest.mark.parametrize("phase", [Phase.IDENTIFYING, Phase.READING, Phase.VERIFYING])
def test_while_a_recorder_is_read_it_must_stay(phase: Phase) -> None:
    assert slot_view(slot(phase, total=3, may_remove=True, pulled=3), "")["hold"]["zh"] == "请勿拔出"


def test_all_read_back_may_be_taken() -> None:
    view = slot_view(slot(Phase.FINISHED, total=3, may_remove=True, pulled=2, already_held=1), "")
    assert (view["hold"]["zh"], view["hold"]["en"]) == ("可以取走", "may be taken away")
    assert view["eta_s"] == 177


def test_a_yank_tells_how_many_were_not_pulled() -> None:
    assert slot_view(slot(Phase.UNPLUGGED, total=12, pulled=3), "")["hold"]["zh"] == "已拔出，剩余 9 个未采集"
    assert slot_view(slot(Phase.UNPLUGGED, total=0), "")["hold"]["zh"] == "已拔出，尚未采集"


# Recordings and their time limit.


def row(config: Config, made: datetime, state: AssetState = AssetState.WANTED, *, exact: bool = True) -> RecordingView:
    seen = footage(config, "a", 1, made, path=HOSTILE, exact=exact)
    assert seen.recording is not None
    return RecordingView(seen.recording, replace(wanted("a"), state=state), seen.clip, "d1", after="")


def view_of(
    config: Config, row: RecordingView, now: datetime = NOW, by: Milestone = Milestone.CENTRAL
) -> dict[str, object]:
    return recording_view(row, Rules(config.profile, config.calendars), by, {"device": Device("x", label="卡")}, now)


FRIDAY = datetime(2026, 11, 20, 16, tzinfo=ZONE)
DUE = datetime(2026, 11, 25, tzinfo=ZONE)


def test_the_due_time_is_told_as_the_field_says_it_with_its_article(config: Config) -> None:
    view = view_of(config, row(config, FRIDAY))
    assert view["due_text"] == {"zh": "应于 11月24日（周二）24:00 前入库", "en": "store before 24:00 on Tue 24 Nov"}
    assert "第二十一条" in str(view["citation"])
    assert view["counted_days"] == ["2026-11-23", "2026-11-24"]
    assert view["device"] == "卡"


@pytest.mark.parametrize(
    ("now", "words"),
    [(DUE - timedelta(days=2), "期限内"), (DUE - timedelta(hours=24), "即将到期"), (DUE, "逾期")],
)
def test_the_verdict_is_in_words(config: Config, now: datetime, words: str) -> None:
    verdict = view_of(config, row(config, FRIDAY), now)["verdict"]
    assert isinstance(verdict, dict)
    assert verdict["zh"] == words


@pytest.mark.parametrize(("late_s", "words"), [(-1, "按期入库"), (0, "逾期入库")])
def test_what_is_stored_is_judged_by_when_the_store_had_it(config: Config, late_s: int, words: str) -> None:
    plain = row(config, FRIDAY, AssetState.STORED)
    proof = replace(receipt("a"), confirmed_at=DUE + timedelta(seconds=late_s))
    verdict = view_of(config, replace(plain, asset=replace(plain.asset, receipt=proof)), DUE + timedelta(days=9))[
        "verdict"
    ]
    assert isinstance(verdict, dict)
    assert verdict["zh"] == words


def test_overdue_is_never_said_on_a_provisional_calendar(config: Config) -> None:
    view = view_of(config, row(config, datetime(2026, 12, 30, 9, tzinfo=ZONE)), datetime(2028, 1, 1, tzinfo=ZONE))
    text = json.dumps(view, ensure_ascii=False)
    assert "逾期" not in text
    assert "暂定：暂按最早可能期限提醒，1月2日（周六）24:00 前入库" in text


def test_an_unknown_time_is_said_to_be_unknown(config: Config) -> None:
    view = view_of(config, row(config, NOW, exact=False))
    assert view["due_text"] == {"zh": "时间待核，请尽快入库", "en": "time to be checked, store as soon as possible"}
    assert view["verdict"] == named(Verdict.UNDECIDED)


def test_no_verdict_is_given_where_another_recording_keeps_the_bytes(config: Config) -> None:
    assert view_of(config, row(config, FRIDAY, AssetState.MATCHED))["verdict"] is None
    held = row(config, FRIDAY, AssetState.HELD)
    assert view_of(config, held, DUE)["verdict"] == named(Verdict.OVERDUE), "held here is not stored there"


@pytest.mark.parametrize(
    ("state", "late_s", "expected"),
    [
        (AssetState.HELD, -1, Verdict.IN_TIME),
        (AssetState.HELD, 0, Verdict.LATE),
        (AssetState.STORED, -1, Verdict.IN_TIME),
        (AssetState.WANTED, -1, Verdict.OVERDUE),  # held once, and found damaged since
    ],
)
def test_where_this_station_is_the_designated_storage_it_counts_when_it_was_held(
    config: Config, state: AssetState, late_s: int, expected: Verdict
) -> None:
    """山东 art. 21: 执法信息系统或者本单位专用存储器."""
    held = replace(row(config, FRIDAY, state), held_at=DUE + timedelta(seconds=late_s))
    assert view_of(config, held, DUE + timedelta(days=9), Milestone.LOCAL)["verdict"] == named(expected)


@given(name=st.text(st.characters(codec=None)))
def test_any_name_a_recorder_has_becomes_valid_json(name: str) -> None:
    assert json.loads(to_json({"name": name}).decode("utf-8"))["name"] == name


# Health.


def problems(config: Config, live: Live, today: date, stuck: int = 0, doubted: int = 0) -> list[str]:
    assets = dict.fromkeys(AssetState, Tally()) | {AssetState.STUCK: Tally(stuck, 1)}
    overview = Overview(assets, {}, 0, doubted, 0, 0, "")
    view = health_view(config, live, coverage(config.calendars, today), overview)
    assert view["name"] == ("ok" if not view["problems"] else "degraded" if pulls(config, live) else "failed")
    return [problem["zh"] for problem in view["problems"]]


def test_a_station_in_order_has_no_problems(config: Config) -> None:
    """Also if its store once lost something that is stored again by now."""
    live = Live(free_bytes=1 << 40, clock=ClockState(synced=True), audit=AuditProgress(checked=40, read=4, lost=2))
    assert problems(config, live, date(2026, 10, 31)) == []


def test_every_problem_is_told(config: Config) -> None:
    live = Live(free_bytes=1, store_error="no route", clock=ClockState(synced=False), problems=("the journal is slow",))
    assert problems(config, live, date(2026, 11, 1), stuck=13, doubted=2) == [
        "请联系管理员：the journal is slow",
        "存储空间不足，已停止采集",
        "专用存储器不可用（已采集的数据在本机安全保存）：no route",
        "专用存储器中有 2 个记录复核不符，正在由本机重新上传",
        "13 个记录需要处理",
        "时钟未校准",
        "缺少 2027 年放假安排，期限暂按最早可能提醒",
    ]


@pytest.mark.parametrize(
    "live",
    [
        Live(free_bytes=1),
        Live(free_bytes=None),
        Live(free_bytes=1 << 40, writes=False, problems=("本机磁盘无法写入",)),
        Live(free_bytes=1 << 40, moves=False),
        Live((slot(Phase.NO_SPACE),), free_bytes=1 << 40),
    ],
)
def test_where_nothing_can_be_pulled_the_station_is_out_of_order_and_says_why(config: Config, live: Live) -> None:
    overview = Overview(dict.fromkeys(AssetState, Tally()), {}, 0, 0, 0, 0, "")
    view = health_view(config, live, coverage(config.calendars, date(2026, 10, 31)), overview)
    assert (view["name"], view["zh"]) == ("failed", "故障")
    assert view["problems"]


def test_a_recorder_that_needs_a_person_is_a_reason_and_one_that_is_read_is_none(config: Config) -> None:
    overview = Overview(dict.fromkeys(AssetState, Tally()), {}, 0, 0, 0, 0, "")
    known = coverage(config.calendars, date(2026, 10, 31))
    for phase in Phase:
        live = Live((slot(phase),), 1 << 40, clock=ClockState(synced=True))
        view = health_view(config, live, known, overview)
        assert (view["name"] == "ok") == (hold_of(live.slots[0]) in (Hold.KEEP, Hold.GONE)), phase
