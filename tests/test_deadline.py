"""Promise: no alarm is later than the law, and 逾期 is never said on a calendar that is not official."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

import chinese_calendar
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.config.rules import read_calendars, read_profile
from agent.deadline import (
    CLOCK_TOLERANCE,
    ZONE,
    Calendars,
    Rules,
    Verdict,
    capture_interval,
    counted_days,
    coverage,
    deadline_for,
    is_official,
    is_working,
    may_be_working,
    verdict,
)
from agent.model import Basis, CalendarYear, Clip, ClockTrust, Profile, Rule, RuleKind, Stamp

CONFIG = Path(__file__).parent.parent / "config"
PROBLEMS: list[str] = []
CALENDARS = read_calendars([CONFIG / "calendar"], "", PROBLEMS)
SHANDONG = Rules(read_profile(CONFIG / "profiles", "shandong", PROBLEMS), CALENDARS)
NANCHANG = Rules(read_profile(CONFIG / "profiles", "nanchang", PROBLEMS), CALENDARS)
assert PROBLEMS == []

DAY = timedelta(days=1)
naive = datetime.fromisoformat


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


def days(first: date, last: date) -> list[date]:
    return [first + DAY * n for n in range((last - first).days + 1)]


def oracle(year: int) -> CalendarYear:
    """A notice made from chinesecalendar; what is behind 23 December counts as news of the next year's notice."""
    span = days(date(year - 1, 12, 24), date(year, 12, 23))
    off = frozenset(day for day in span if not chinese_calendar.is_workday(day))
    work = frozenset(day for day in span if chinese_calendar.is_workday(day) and day.weekday() > 4)
    return CalendarYear(year, complete=True, source="chinesecalendar", off=off, work=work)


def lawful_last_day(start: date, count: int) -> date:
    """The last day counted with hindsight."""
    while count:
        start += DAY
        count -= chinese_calendar.is_workday(start)
    return start


def profile(count: int) -> Profile:
    return Profile("test", "t", (Rule(RuleKind.WORKING_DAYS, "c", count),))


# Two working days.


@pytest.mark.parametrize(
    ("made", "last_day"),
    [
        ("2026-02-12", "2026-02-14"),  # the Saturday is worked
        ("2026-02-13", "2026-02-24"),
        ("2026-02-15", "2026-02-25"),
        ("2026-04-03", "2026-04-08"),
        ("2026-04-30", "2026-05-07"),
        ("2026-09-18", "2026-09-21"),  # the Sunday between is worked
        ("2026-09-30", "2026-10-09"),
        ("2026-10-08", "2026-10-10"),  # the Saturday is worked
        ("2026-10-09", "2026-10-12"),
        ("2026-11-20", "2026-11-24"),
        ("2026-11-22", "2026-11-24"),  # made on a day off
    ],
)
@pytest.mark.parametrize("hour", ["00:00:00", "08:00:00", "23:59:59"])
def test_two_working_days_by_the_notice_of_2026(made: str, last_day: str, hour: str) -> None:
    deadline = deadline_for(SHANDONG, at(f"{made}T{hour}"), at(f"{made}T{hour}"))
    assert deadline.due_at == at(last_day) + DAY, "24:00 of the last day"
    assert deadline.alarm_at == deadline.due_at
    assert deadline.basis is Basis.OFFICIAL
    assert deadline.rule == "working_days:2"
    assert "第二十一条" in deadline.citation


def test_the_end_of_the_year_is_provisional_without_the_next_notice() -> None:
    deadline = deadline_for(SHANDONG, at("2026-12-29T10:00"), at("2026-12-29T10:00"))
    assert (deadline.due_at, deadline.alarm_at) == (at("2027-01-01T00:00"), at("2027-01-01T00:00"))
    assert deadline.basis is Basis.PROVISIONAL


def test_the_earliest_bound_counts_every_unsettled_day_except_fixed_holidays() -> None:
    deadline = deadline_for(SHANDONG, at("2026-12-30T10:00"), at("2026-12-30T10:00"))
    assert deadline.alarm_at == at("2027-01-03T00:00"), "end of Saturday 2 January; the first is a holiday by law"
    assert deadline.due_at == at("2027-01-05T00:00"), "nominal: end of Monday the fourth"
    assert deadline.basis is Basis.PROVISIONAL


def test_a_time_in_another_zone_counts_on_its_day_in_china() -> None:
    utc = datetime.fromisoformat("2026-11-19T16:30+00:00")
    assert deadline_for(SHANDONG, utc, utc) == deadline_for(SHANDONG, at("2026-11-20T00:30"), at("2026-11-20T00:30"))


def test_the_days_are_counted_one_by_one() -> None:
    (rule,) = SHANDONG.profile.rules
    assert counted_days(rule, date(2026, 9, 18), CALENDARS) == (
        date(2026, 9, 20),
        date(2026, 9, 21),
    )


# Same day.


@pytest.mark.parametrize("hour", ["00:00:00", "08:00:00", "23:59:59"])
@pytest.mark.parametrize("day", ["2026-11-20", "2026-10-03", "2026-12-31", "2031-01-01"])
def test_same_day_ends_at_midnight_whatever_the_calendar(day: str, hour: str) -> None:
    deadline = deadline_for(NANCHANG, at(f"{day}T{hour}"), at(f"{day}T{hour}"))
    assert deadline.due_at == deadline.alarm_at == at(day) + DAY
    assert deadline.basis is Basis.OFFICIAL
    assert deadline.rule == "same_day"


# Calendars.


@pytest.mark.parametrize("year", sorted(CALENDARS))
def test_every_day_of_the_packaged_years_is_as_chinesecalendar_says(year: int) -> None:
    wrong = [
        day
        for day in days(date(year, 1, 1), date(year, 12, 31))
        if is_working(day, CALENDARS) != chinese_calendar.is_workday(day)
    ]
    assert wrong == []


def test_late_december_is_settled_only_by_the_next_notice() -> None:
    assert is_official(date(2026, 12, 23), CALENDARS)
    assert not is_official(date(2026, 12, 24), CALENDARS)
    assert is_official(date(2025, 12, 31), CALENDARS)
    assert not is_official(date(2027, 5, 1), CALENDARS)
    partial = {**CALENDARS, 2027: CalendarYear(2027, complete=False, source="s", off=frozenset({date(2026, 12, 25)}))}
    assert not is_official(date(2026, 12, 25), partial)
    assert not is_working(date(2026, 12, 25), partial)
    assert may_be_working(date(2026, 12, 25), partial), "an incomplete notice never moves the alarm"


def test_the_next_notice_may_change_december() -> None:
    years = {year: oracle(year) for year in (2018, 2019)}
    assert is_working(date(2018, 12, 29), years)
    assert not is_working(date(2018, 12, 31), years)


def test_the_second_of_may_is_a_fixed_holiday_only_since_2025() -> None:
    assert may_be_working(date(2024, 5, 2), {})
    assert not may_be_working(date(2025, 5, 2), {})


@given(
    removed=st.sets(st.sampled_from([2024, 2025, 2026])),
    start=st.dates(date(2023, 12, 25), date(2026, 12, 15)),
    count=st.integers(1, 5),
)
@example(removed={2026}, start=date(2026, 2, 12), count=2)
@example(removed={2026}, start=date(2025, 12, 30), count=2)
def test_the_alarm_is_never_later_than_the_law_whatever_notice_is_missing(
    removed: set[int], start: date, count: int
) -> None:
    calendars = {year: notice for year, notice in CALENDARS.items() if year not in removed}
    made = datetime(start.year, start.month, start.day, 10, tzinfo=ZONE)
    deadline = deadline_for(Rules(profile(count), calendars), made, made)
    lawful = datetime.combine(lawful_last_day(start, count) + DAY, datetime.min.time(), ZONE)
    assert deadline.alarm_at <= lawful
    assert deadline.alarm_at <= deadline.due_at
    if deadline.basis is Basis.OFFICIAL:
        assert deadline.alarm_at == deadline.due_at == lawful


@pytest.mark.parametrize("year", range(2010, 2027))
def test_with_one_years_notice_missing_no_day_of_it_has_a_late_alarm(year: int) -> None:
    calendars: Calendars = {other: oracle(other) for other in (year - 1, year + 1) if 2005 < other < 2027}
    last = date(year, 12, 15 if year == 2026 else 31)
    for day in days(date(year - 1, 12, 20), last):
        alarm = counted_days(profile(2).rules[0], day, calendars, may_be_working)[-1]
        assert alarm <= lawful_last_day(day, 2), day


# Capture time.

DOCKED = at("2026-11-22T18:00")


def clip(modified: str | None, created: str | None = None, offset_min: int | None = None) -> Clip:
    return Clip(1, "a.mp4", b"a.mp4", 1, 1, created=Stamp(created, offset_min), modified=Stamp(modified, offset_min))


def interval(clip: Clip, last_out: str | None = None) -> tuple[datetime | None, datetime, ClockTrust]:
    return capture_interval(clip, docked_at=DOCKED, last_dock_out=at(last_out) if last_out else None)


def test_a_fat_time_is_taken_as_china_time() -> None:
    made = at("2026-11-20T10:00:02")
    assert interval(clip("2026-11-20T10:00:02", "2026-11-20T09:50:00")) == (made, made, ClockTrust.UNMEASURED)


def test_an_exfat_time_keeps_its_own_offset() -> None:
    _, latest, trust = interval(clip("2026-11-20T02:00:00", offset_min=0))
    assert (latest, trust) == (at("2026-11-20T10:00"), ClockTrust.UNMEASURED)


@pytest.mark.parametrize("stamp", ["1980-01-01T00:00:00", "2000-01-01T00:00:00", "2019-12-31T23:59:58", None, "x"])
@pytest.mark.parametrize("last_out", ["2026-11-19T09:00", None])
def test_an_impossible_clock_leaves_the_time_between_two_dockings(stamp: str | None, last_out: str | None) -> None:
    expected = at(last_out) if last_out else None
    assert interval(clip(stamp), last_out) == (expected, DOCKED, ClockTrust.UNTRUSTED)


def test_a_time_in_the_future_is_untrusted_beyond_the_tolerance() -> None:
    ahead = (DOCKED + CLOCK_TOLERANCE).replace(tzinfo=None).isoformat()
    assert interval(clip(ahead)) == (DOCKED, DOCKED, ClockTrust.UNMEASURED)
    assert interval(clip("2026-11-22T18:05:02"))[2] is ClockTrust.UNTRUSTED
    assert interval(clip("2107-12-31T23:59:58"))[2] is ClockTrust.UNTRUSTED


def test_an_unset_creation_time_does_not_spoil_a_good_end() -> None:
    assert interval(clip("2026-11-20T10:00:00", "1980-01-01T00:00:00"))[2] is ClockTrust.UNMEASURED


def test_without_an_end_the_clip_was_completed_after_its_creation() -> None:
    expected = (at("2026-11-20T10:00"), DOCKED, ClockTrust.UNMEASURED)
    assert interval(clip(None, "2026-11-20T10:00:00")) == expected


def test_a_clock_that_went_back_is_untrusted_and_alarms_from_the_earlier_time() -> None:
    expected = (at("2026-11-18T10:00"), DOCKED, ClockTrust.UNTRUSTED)
    assert interval(clip("2026-11-18T10:00:00", "2026-11-20T10:00:00")) == expected
    assert interval(clip("2026-11-18T10:00:00", "2026-11-18T10:00:01.5"))[2] is ClockTrust.UNMEASURED, "FAT's 2 s"


def test_new_footage_from_before_the_last_docking_is_untrusted_and_alarms_early() -> None:
    expected = (at("2026-11-18T10:00"), DOCKED, ClockTrust.UNTRUSTED)
    assert interval(clip("2026-11-18T10:00:00"), "2026-11-19T09:00") == expected


def test_our_own_clock_going_back_loses_no_recording() -> None:
    booted = datetime(1970, 1, 1, tzinfo=ZONE)
    result = capture_interval(clip("2026-11-20T10:00:00"), docked_at=booted, last_dock_out=at("2026-11-19T09:00"))
    assert result == (None, booted, ClockTrust.UNTRUSTED)
    assert deadline_for(SHANDONG, *result[:2]).alarm_at == booted


@given(
    modified=st.one_of(st.none(), st.text(), st.datetimes().map(datetime.isoformat)),
    created=st.one_of(st.none(), st.text(), st.datetimes().map(datetime.isoformat)),
    offset=st.one_of(st.none(), st.integers()),
    docked=st.datetimes(naive("1971-01-01"), naive("2200-01-01")),
    last_out=st.one_of(st.none(), st.datetimes(naive("1971-01-01"), naive("2200-01-01"))),
)
def test_whatever_a_recorder_writes_gives_an_interval_that_ends_by_the_docking(
    modified: str | None, created: str | None, offset: int | None, docked: datetime, last_out: datetime | None
) -> None:
    docked_at = docked.replace(tzinfo=ZONE)
    out = last_out.replace(tzinfo=ZONE) if last_out else None
    earliest, latest, _ = capture_interval(clip(modified, created, offset), docked_at=docked_at, last_dock_out=out)
    assert latest <= docked_at
    assert earliest is None or earliest <= latest
    deadline = deadline_for(SHANDONG, earliest, latest)
    assert deadline.alarm_at <= deadline.due_at


def test_nothing_known_about_the_time_is_the_most_urgent() -> None:
    deadline = deadline_for(SHANDONG, None, DOCKED)
    assert deadline.alarm_at == DOCKED
    assert deadline.due_at == at("2026-11-25T00:00")


# Verdicts.

MADE = at("2026-11-20T10:00")
DUE = at("2026-11-25T00:00")


@pytest.mark.parametrize(
    ("now", "stored", "expected"),
    [
        (DUE - 3 * DAY, None, Verdict.OPEN),
        (DUE - DAY, None, Verdict.DUE_SOON),
        (DUE, None, Verdict.OVERDUE),
        (DUE, DUE - timedelta(seconds=1), Verdict.IN_TIME),
        (DUE + DAY, DUE, Verdict.LATE),
    ],
)
def test_a_verdict_on_an_official_calendar(now: datetime, stored: datetime | None, expected: Verdict) -> None:
    assert verdict(deadline_for(SHANDONG, MADE, MADE), now, stored) is expected


def test_between_the_earliest_and_the_latest_limit_nothing_is_decided() -> None:
    deadline = deadline_for(SHANDONG, at("2026-11-16T10:00"), MADE)
    assert verdict(deadline, at("2026-11-19T00:00")) is Verdict.UNDECIDED
    assert verdict(deadline, DUE) is Verdict.OVERDUE, "the latest time is certain"


@given(
    late=st.timedeltas(timedelta(), timedelta(days=3000)),
    made=st.datetimes(naive("2027-01-01"), naive("2999-01-01")),
    stored=...,
)
def test_overdue_is_never_said_on_a_provisional_calendar(late: timedelta, made: datetime, stored: bool) -> None:
    moment = made.replace(tzinfo=ZONE)
    deadline = deadline_for(SHANDONG, moment, moment)
    now = deadline.due_at + late
    assert verdict(deadline, now, now if stored else None) is Verdict.UNDECIDED


# Coverage.


@pytest.mark.parametrize(
    ("today", "until", "missing"),
    [
        ("2025-06-01", "2026-12-23", None),
        ("2026-10-31", "2026-12-23", None),
        ("2026-11-01", "2026-12-23", 2027),
        ("2026-12-24", None, 2027),
        ("2027-01-01", None, 2027),
    ],
)
def test_the_next_years_notice_is_missed_from_november(today: str, until: str | None, missing: int | None) -> None:
    found = coverage(CALENDARS, date.fromisoformat(today))
    assert (found.official_until and found.official_until.isoformat()) == until
    assert found.missing == missing
    assert [notice.year for notice in found.years] == [2024, 2025, 2026]


def test_the_digest_names_the_calendar_a_verdict_was_made_with() -> None:
    today = date(2026, 11, 22)
    digest = coverage(CALENDARS, today).digest
    changed = {**CALENDARS, 2026: oracle(2026)}
    assert len(digest) == 64
    assert digest == coverage({year: CALENDARS[year] for year in (2026, 2025, 2024)}, today).digest
    assert digest != coverage(changed, today).digest
