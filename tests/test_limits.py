"""Promise: a limit changes only by an event that says who, why, old and new; never to one later than the law."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import chinese_calendar
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config import Milestone, load, reloaded
from agent.config.rules import read_profile
from agent.deadline import ZONE, Rules, Verdict, deadline_for, limits, verdict, winner
from agent.errors import ConfigError, JournalError
from agent.journal import rebuild, verify
from agent.model import Basis, CalendarYear, ClipSeen, ClockTrust, Declared, Stated
from agent.pipeline.limits import declare, moment, recompute, state_time
from agent.pipeline.station import Station
from agent.status.explain import explain, explanation
from tests.conftest import SettableClock
from tests.journal_entries import acquired, assert_consistent, confirmed, listed, opened, seen, seen_again
from tests.stations import SHIPPED
from tests.stations import opened as station_opened
from tests.test_deadline import CALENDARS, CONFIG, at, lawful_last_day, oracle, profile

DAY = timedelta(days=1)
SHANDONG = Rules(SHIPPED.profile, SHIPPED.calendars)
PROBLEMS: list[str] = []
PROFILES = {
    name: read_profile(CONFIG / "profiles", name, PROBLEMS)
    for name in ("shandong", "nanchang", "wenshang", "qilin", "jiange", "custom")
}
NOTICE_2027 = CalendarYear(
    2027, complete=True, source="国办发明电〔2026〕测试号",
    off=frozenset({date(2027, 1, 1), date(2027, 1, 2), date(2027, 1, 3)}),
)  # fmt: skip
assert PROBLEMS == []


def footage(rules: Rules, name: str, number: int, earliest: datetime | None, latest: datetime) -> ClipSeen:
    """New footage with its real limit."""
    plain = seen(name, number)
    assert plain.recording is not None
    trust = ClockTrust.UNMEASURED if earliest == latest else ClockTrust.UNTRUSTED
    limit = deadline_for(rules, earliest, latest)
    recording = replace(
        plain.recording, captured_earliest=earliest, captured_latest=latest, clock_trust=trust, deadline=limit
    )
    return replace(plain, recording=recording)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(at("2026-11-23T10:00"))


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with station_opened(tmp_path, clock) as made:
        yield made
    assert_consistent(tmp_path / "journal.db")
    before = verify(tmp_path / "journal.db").head_hash
    rebuild(tmp_path / "journal.db")
    assert_consistent(tmp_path / "journal.db")
    assert verify(tmp_path / "journal.db").head_hash == before


def columns(station: Station, asset_id: str) -> tuple[datetime, datetime | None]:
    """alarm_at and late_at as the lanes see them."""
    row = station.journal.reader._db.one("SELECT alarm_at, late_at FROM asset WHERE asset_id = ?", asset_id)
    assert row is not None
    return datetime.fromisoformat(row[0]), datetime.fromisoformat(row[1]) if row[1] else None


def told_of(station: Station, name: str, now: datetime | None = None) -> dict[str, Any]:
    row = station.journal.reader.recording(name)
    return explain(row, station.rules, Milestone.CENTRAL, now or station.clock())


# A person states a time.


async def test_a_stated_time_decides_what_the_clock_could_not(station: Station, clock: SettableClock) -> None:
    docked = at("2026-11-23T09:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, None, docked))
    assert told_of(station, "a")["verdict"]["name"] == "undecided"
    limit = await state_time(station, "a", Stated(at("2026-11-20T16:30"), "张三", "设备时钟复位为1970年"))
    assert limit.due_at == limit.alarm_at == at("2026-11-25T00:00")
    assert columns(station, "a") == (limit.due_at, limit.due_at)
    told = told_of(station, "rec-a")
    assert told["verdict"]["name"] == "open"
    assert told["completed"]["stated"]["who"] == "张三"
    clock.now = limit.due_at
    assert told_of(station, "a")["verdict"]["name"] == "overdue"


async def test_a_stated_time_is_never_behind_what_the_clocks_allow(station: Station) -> None:
    made = at("2026-11-20T16:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, made, made))
    with pytest.raises(JournalError, match="at the latest"):
        await state_time(station, "a", Stated(made + timedelta(seconds=1), "张三", "later"))
    earlier = await state_time(station, "a", Stated(at("2026-11-19T16:00"), "张三", "the clock was a day ahead"))
    assert earlier.due_at == at("2026-11-24T00:00")


@pytest.mark.parametrize(("who", "why"), [("", "x"), ("x", " "), ("x" * 501, "x"), ("x", "a\nb"), ("\u202ex", "x")])
async def test_who_and_why_are_words_that_can_be_shown(station: Station, who: str, why: str) -> None:
    with pytest.raises(JournalError, match="visible"):
        await state_time(station, "a", Stated(at("2026-11-19T16:00"), who, why))


def test_a_time_without_zone_is_of_china() -> None:
    assert moment("2026-11-20 16:30") == at("2026-11-20T16:30")
    assert moment("2026-11-20T08:30Z") == at("2026-11-20T16:30")
    for text in ("tomorrow", "", "0001-01-01T00:00+23:59"):
        with pytest.raises(JournalError):
            moment(text)


# A person declares an event: 南昌 art. 22, second paragraph.

NANCHANG = Rules(PROFILES["nanchang"], CALENDARS)


@pytest.fixture
async def nanchang(station: Station) -> Station:
    station.rules = NANCHANG
    made = at("2026-11-20T16:00")
    await station.journal.record(opened(), footage(NANCHANG, "a", 1, made, made))
    return station


def returned(time: str = "2026-11-22T18:00", cause: str = "LATE-02", event: str = "return_to_unit") -> Declared:
    return Declared(event, at(time), cause, "李四", "赴九江异地检查")


async def test_a_declared_return_gives_24_hours_and_skips_no_day_off(nanchang: Station) -> None:
    limit = await declare(nanchang, "a", returned())
    assert (limit.due_at, limit.rule) == (at("2026-11-23T18:00"), "hours_after:24:return_to_unit")
    assert "第二款" in limit.citation
    assert columns(nanchang, "a") == (limit.due_at, limit.due_at)
    text = explanation(told_of(nanchang, "a"))
    assert "李四" in text
    assert "LATE-02" in text
    assert "由已申报的事由条款代替" in text


@pytest.mark.parametrize(
    "declared",
    [
        returned(cause="LATE-05"),  # the network: explains, extends nothing
        returned(cause=""),
        returned(event="return_home"),
        returned("2026-11-20T15:59"),  # before the recording
        returned("2026-11-23T10:06"),  # in the future
    ],
)
async def test_nothing_but_the_three_causes_of_the_article_makes_a_limit_later(
    nanchang: Station, declared: Declared
) -> None:
    with pytest.raises(JournalError):
        await declare(nanchang, "a", declared)
    assert nanchang.journal.reader.recording("a").recording.deadline.due_at == at("2026-11-21T00:00")


async def test_shandong_knows_no_event_that_extends(station: Station) -> None:
    made = at("2026-11-20T16:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, made, made))
    with pytest.raises(JournalError, match="events: none"):
        await declare(station, "a", returned())


@given(back_h=st.floats(0, 500), cause=st.sampled_from(["LATE-01", "LATE-02", "LATE-03", "LATE-04", "", "x"]))
def test_a_declaration_can_only_make_what_the_article_says(back_h: float, cause: str) -> None:
    made = at("2026-11-20T16:00")
    declared = Declared("return_to_unit", made + timedelta(hours=back_h), cause, "w", "y")
    limit = deadline_for(NANCHANG, made, made, declared)
    valid = cause in ("LATE-01", "LATE-02", "LATE-03")
    assert limit.due_at == (declared.at + DAY if valid else at("2026-11-21T00:00"))


# The other jurisdictions.


def test_wenshang_has_no_clock_of_its_own_so_the_province_rules() -> None:
    made = at("2026-11-20T16:00")
    county = deadline_for(Rules(PROFILES["wenshang"], CALENDARS), made, made)
    assert replace(county, profile="shandong") == deadline_for(SHANDONG, made, made)
    assert any("没有规定存储期限" in line for line in PROFILES["wenshang"].computation)


@pytest.mark.parametrize("name", ["qilin", "jiange", "custom"])
def test_without_a_number_in_the_law_nothing_is_ever_overdue(name: str) -> None:
    made = at("2026-11-20T16:00")
    limit = deadline_for(Rules(PROFILES[name], CALENDARS), made, made)
    assert limit.basis is Basis.TARGET
    for late in (timedelta(), DAY * 3000):
        for stored in (None, limit.due_at + late):
            assert verdict(limit, limit.due_at + late, stored) is Verdict.PAST_TARGET
    assert verdict(limit, made) is Verdict.NO_LIMIT


def test_of_several_rules_the_earliest_wins_and_a_target_never_beats_the_law() -> None:
    rules = (*PROFILES["shandong"].rules, *PROFILES["qilin"].rules, *PROFILES["nanchang"].rules)
    made = at("2026-11-20T16:00")
    several = limits(Rules(replace(PROFILES["shandong"], rules=rules), CALENDARS), made, made)
    assert [limit.start is not None for limit in several] == [True, True, True, False]
    assert winner(several).rule == PROFILES["nanchang"].rules[0]
    assert winner(several[:2]).rule == PROFILES["shandong"].rules[0], "the target is earlier, and binds nobody"


# Other notices.


async def test_when_the_notice_arrives_each_changed_limit_is_an_event(station: Station) -> None:
    december, november = at("2026-12-30T10:00"), at("2026-11-20T10:00")
    await station.journal.record(
        opened(), footage(SHANDONG, "a", 1, december, december), footage(SHANDONG, "b", 2, november, november)
    )
    assert columns(station, "a") == (at("2027-01-03T00:00"), None)
    head = station.journal.reader.overview(december).head_seq
    assert await recompute(station) == 0, "nothing has changed"
    station.rules = replace(SHANDONG, calendars={**CALENDARS, 2027: NOTICE_2027})
    assert await recompute(station) == 1
    assert await recompute(station) == 0
    assert columns(station, "a") == (at("2027-01-05T00:00"), at("2027-01-05T00:00"))
    (event,) = station.journal.reader.events(head)
    assert (event.kind, event.subject) == ("deadline_recomputed", "a")
    detail = json.loads(event.detail)
    assert detail["old"]["basis"] == "provisional"
    assert detail["new"]["calendar"] != detail["old"]["calendar"]
    assert detail["new"]["due_at"] == "2027-01-05T00:00:00+08:00"


async def test_what_was_stored_on_a_provisional_calendar_is_decided_when_data_arrives(station: Station) -> None:
    made = at("2026-12-30T10:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, made, made), listed(1), acquired("a"))
    await station.journal.record(confirmed("a"))
    station.rules = replace(SHANDONG, calendars={**CALENDARS, 2027: NOTICE_2027})
    assert await recompute(station) == 1
    assert told_of(station, "a")["basis"]["name"] == "official"


async def test_what_is_stored_and_decided_stays_as_it_was_judged(station: Station) -> None:
    made = at("2026-11-20T10:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, made, made), listed(1), acquired("a"))
    await station.journal.record(confirmed("a"))
    station.rules = NANCHANG
    assert await recompute(station) == 0


async def test_a_statement_and_a_declaration_outlive_a_recomputation(nanchang: Station) -> None:
    await state_time(nanchang, "a", Stated(at("2026-11-19T16:00"), "张三", "why"))
    await declare(nanchang, "a", returned())
    await recompute(nanchang)
    nanchang.rules = Rules(PROFILES["shandong"], CALENDARS)
    assert await recompute(nanchang) == 1
    row = nanchang.journal.reader.recording("a")
    assert row.recording.deadline.due_at == at("2026-11-24T00:00"), "two working days after the stated time"
    assert row.declared == returned()


async def test_who_keeps_the_bytes_of_two_recordings_hurries_for_the_earlier(station: Station) -> None:
    first, second = at("2026-11-20T10:00"), at("2026-11-19T10:00")
    kept, twin = footage(SHANDONG, "a", 1, first, first), footage(SHANDONG, "b", 2, second, second)
    await station.journal.record(opened(), kept, twin, acquired("a"))
    from agent.model import AssetChanged, Matched, Outcome
    from tests.journal_entries import digests_of

    await station.journal.record(AssetChanged("b", Matched("a", digests_of("a")), "d1", 2, Outcome.ALREADY_HELD))
    assert columns(station, "a")[0] == at("2026-11-24T00:00")
    await state_time(station, "b", Stated(at("2026-11-18T10:00"), "张三", "why"))
    assert columns(station, "a") == (at("2026-11-21T00:00"), at("2026-11-21T00:00"))
    station.rules = NANCHANG
    assert await recompute(station) == 2
    assert columns(station, "a")[0] == at("2026-11-19T00:00")


async def test_a_limit_that_changed_meanwhile_is_not_overwritten(station: Station) -> None:
    from agent.model import DeadlineRecomputed

    made = at("2026-11-20T10:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, made, made))
    other = deadline_for(SHANDONG, made - DAY, made - DAY)
    with pytest.raises(JournalError, match="no longer what it was"):
        await station.journal.record(DeadlineRecomputed("a", other, other))


async def test_the_order_of_a_docking_under_way_follows(station: Station) -> None:
    made = at("2026-11-20T10:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, made, made), footage(SHANDONG, "b", 2, made, made))
    assert [clip.asset_id for clip in station.journal.reader.next_clips("d1", 9)] == ["a", "b"]
    await state_time(station, "b", Stated(made - DAY, "张三", "why"))
    assert [clip.asset_id for clip in station.journal.reader.next_clips("d1", 9)] == ["b", "a"]
    assert seen_again("a").asset is None


@settings(deadline=None)
@given(
    start=st.dates(date(2015, 12, 20), date(2026, 12, 15)),
    count=st.integers(1, 4),
    missing=st.sets(st.integers(2016, 2026)),
    arrives=st.lists(st.integers(2016, 2026), max_size=4),
)
def test_however_notices_arrive_no_alarm_is_ever_later_than_the_law(
    start: date, count: int, missing: set[int], arrives: list[int]
) -> None:
    """From provisional to official: early alarms may move, but never behind the end that the law turns out to have."""
    years = {year: oracle(year) for year in range(2015, 2027)}
    known = {year: notice for year, notice in years.items() if year not in missing}
    made = datetime(start.year, start.month, start.day, 23, 59, tzinfo=ZONE)
    lawful = datetime.combine(lawful_last_day(start, count) + DAY, datetime.min.time(), ZONE)
    for year in [0, *arrives]:
        known |= {year: years[year]} if year else {}
        limit = deadline_for(Rules(profile(count), known), made, made)
        assert limit.alarm_at <= lawful
        if limit.basis is Basis.OFFICIAL:
            assert limit.due_at == lawful
        elif verdict(limit, limit.due_at + 9 * DAY) is not Verdict.UNDECIDED:
            pytest.fail("decided on a provisional calendar")


# What a lawyer reads.


async def test_the_explanation_counts_every_day_and_names_the_notice(station: Station) -> None:
    made = at("2026-09-30T17:00")
    await station.journal.record(opened(), footage(SHANDONG, "a", 1, made, made))
    told = told_of(station, "a", at("2026-10-03T09:00"))
    assert [day["number"] for day in told["days"]] == [None] * 8 + [1, 2]
    assert "国办发明电〔2025〕7号" in told["days"][1]["why"]["zh"]
    assert told["due_at"].startswith("2026-10-10T00:00")
    assert told["internal_target_at"].startswith("2026-10-08T17:00")
    text = explanation(told)
    for part in ("10月9日（周五）24:00", "第二十一条", "第二百零一条", "开始的当日不计入", "国办发明电〔2025〕7号",
                 "未涵盖", told["calendar"]["digest"], "期限内"):  # fmt: skip
        assert part in text, part


async def test_the_explanation_says_make_up_days_weekends_and_what_is_not_known(station: Station) -> None:
    rows = {"a": at("2026-09-18T10:00"), "b": at("2026-11-20T10:00"), "c": at("2026-12-30T10:00")}
    entries = [footage(SHANDONG, name, number, made, made) for number, (name, made) in enumerate(rows.items(), 1)]
    await station.journal.record(opened(), *entries)
    assert "调休上班（国办发明电〔2025〕7号）" in explanation(told_of(station, "a"))
    assert "周休息日，不计" in explanation(told_of(station, "b"))
    provisional = explanation(told_of(station, "c", at("2028-01-01T00:00")))
    assert "放假安排未公布" in provisional
    assert "逾期" not in provisional.replace("不得认定逾期", "").replace("逾期的原因只作说明，不延长期限", "")


async def test_a_hostile_name_cannot_steer_the_terminal(station: Station) -> None:
    made = at("2026-09-18T10:00")
    seen_clip = footage(SHANDONG, "a", 1, made, made)
    await station.journal.record(opened(), replace(seen_clip, clip=replace(seen_clip.clip, path="\x1b[2J\u202e\n逾期")))
    text = explanation(told_of(station, "a"))
    assert all(line.isprintable() for line in text.split("\n"))


async def test_every_lawful_vector_is_explained_as_it_was_counted(station: Station) -> None:
    """The days of the explanation are those of the limit, for every start in a year."""
    for offset in range(0, 349, 3):
        made = at("2026-01-01T10:00") + DAY * offset
        limit = deadline_for(SHANDONG, made, made)
        assert (limit.due_at - DAY).date() == lawful_last_day(made.date(), 2)
        assert chinese_calendar.is_workday((limit.due_at - DAY).date())


# Reload.


def test_bad_rules_are_refused_and_the_last_good_ones_stay(tmp_path: Path) -> None:
    shutil.copytree(CONFIG, tmp_path / "etc")
    config = load(tmp_path / "etc" / "agent.toml")
    (tmp_path / "etc" / "calendar.d").mkdir()
    bad = tmp_path / "etc" / "calendar.d" / "cn-2027.toml"
    for text in ("year = 2027\n[x\ny = 1", "year = 2027\ncomplete = true\nsource = 's'\noff = ['2027-13-01']"):
        bad.write_text(text)
        with pytest.raises(ConfigError, match=r"cn-2027\.toml.*line \d") as caught:
            reloaded(config)
        assert "stay in force" in caught.value.safe
    bad.write_text("year = 2027\ncomplete = true\nsource = 's'\n")
    assert sorted(reloaded(config)[0].calendars) == [2024, 2025, 2026, 2027]
    (tmp_path / "etc" / "agent.toml").write_text("[storage\n")
    with pytest.raises(ConfigError, match=r"agent\.toml: is not a TOML file"):
        reloaded(config)
