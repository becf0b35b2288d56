"""Promise: what a calendar plans for a room is what is planned here, and one that makes no sense harms nothing."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.child import command
from agent.config.schedules import CHINA, Schedule, read_schedule
from agent.errors import ConfigError
from agent.rooms import scheduled

FIRST = datetime(2026, 11, 1, tzinfo=CHINA)
LAST = datetime(2026, 12, 1, tzinfo=CHINA)
NEW_YORK = """BEGIN:VTIMEZONE
TZID:Dock Street
BEGIN:STANDARD
DTSTART:20001029T020000
TZOFFSETFROM:-0400
TZOFFSETTO:-0500
END:STANDARD
END:VTIMEZONE
"""


def event(*lines: str, uid: str = "a@x") -> str:
    return "\n".join(("BEGIN:VEVENT", f"UID:{uid}", *lines, "END:VEVENT", ""))


def calendar(*parts: str) -> str:
    return f"BEGIN:VCALENDAR\nVERSION:2.0\nPRODID:-//x//x//EN\n{''.join(parts)}END:VCALENDAR\n"


def read(folder: Path, text: str, name: str = "plan.ics") -> Schedule:
    (folder / name).write_text(text, "utf-8")
    return read_schedule(folder / name, FIRST, LAST)


def spans(schedule: Schedule) -> list[str]:
    return [f"{one.start:%m-%d %H:%M}-{one.end:%H:%M}" for one in schedule.sessions]


WEEKLY = event(
    "DTSTART;TZID=Asia/Shanghai:20261102T090000", "DTEND;TZID=Asia/Shanghai:20261102T110000",
    "RRULE:FREQ=WEEKLY;BYDAY=MO,TH;UNTIL=20261120T000000Z", "EXDATE;TZID=Asia/Shanghai:20261105T090000", "SUMMARY:听证",
)  # fmt: skip
MOVED = event(
    "RECURRENCE-ID;TZID=Asia/Shanghai:20261109T090000", "DTSTART;TZID=Asia/Shanghai:20261110T140000",
    "DURATION:PT90M", "SUMMARY:听证（改期）",
)  # fmt: skip
CANCELLED = event(
    "RECURRENCE-ID;TZID=Asia/Shanghai:20261116T090000", "DTSTART;TZID=Asia/Shanghai:20261116T090000",
    "DTEND;TZID=Asia/Shanghai:20261116T110000", "STATUS:CANCELLED",
)  # fmt: skip


def test_recurring_moved_left_out_and_cancelled_sessions_are_where_the_calendar_has_them(tmp_path: Path) -> None:
    found = read(tmp_path, calendar(WEEKLY, MOVED, CANCELLED))
    assert spans(found) == ["11-02 09:00-11:00", "11-10 14:00-15:30", "11-12 09:00-11:00", "11-19 09:00-11:00"]
    assert found.sessions[1].title == "听证（改期）"
    assert found.problems == ()


def test_a_session_keeps_its_name_when_it_is_moved(tmp_path: Path) -> None:
    before, after = read(tmp_path, calendar(WEEKLY)), read(tmp_path, calendar(WEEKLY, MOVED))
    assert [one.key for one in before.sessions] == [one.key for one in after.sessions]
    assert len({one.key for one in before.sessions}) == 5
    single = "DTSTART:202611{}T090000", "DURATION:PT1H"
    one, other = (read(tmp_path, calendar(event(single[0].format(day), single[1]))) for day in ("10", "11"))
    assert one.sessions[0].key == other.sessions[0].key


@pytest.mark.parametrize(
    ("start", "at"),
    [
        ("DTSTART:20261124T090000", "09:00"),
        ("DTSTART:20261124T010000Z", "09:00"),
        ("DTSTART;TZID=Asia/Shanghai:20261124T090000", "09:00"),
        ("DTSTART;TZID=China Standard Time:20261124T090000", "09:00"),
        ("DTSTART;TZID=Asia/Tokyo:20261124T090000", "08:00"),
        ("DTSTART;TZID=Dock Street:20261123T200000", "09:00"),
    ],
)
def test_times_of_every_time_zone_are_china_s_here(tmp_path: Path, start: str, at: str) -> None:
    (one,) = read(tmp_path, calendar(NEW_YORK, event(start, "DURATION:PT1H"))).sessions
    assert one.start.isoformat() == f"2026-11-24T{at}:00+08:00"
    assert one.end - one.start == timedelta(hours=1)


def test_what_is_said_of_a_session_comes_with_it(tmp_path: Path) -> None:
    text = event(
        "DTSTART:20261124T090000", "DTEND:20261124T100000", "SUMMARY:第一次询问",
        r"DESCRIPTION:请准时\n案号：鲁医保罚〔2026〕7号\n环节: S06\n参加人：张三、李四，王五\n",
        "ATTENDEE;CN=赵六:mailto:z@x", "ATTENDEE;CN=张三:mailto:y@x",
    )  # fmt: skip
    (one,) = read(tmp_path, calendar(text)).sessions
    assert (one.title, one.case_number, one.stage) == ("第一次询问", "鲁医保罚〔2026〕7号", "S06")
    assert one.participants == ("张三", "李四", "王五", "赵六")


START = "DTSTART:20261124T090000"


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([START], "event 1 has no end"),
        (["DURATION:PT1H"], "event 1 has no time of day at which it starts"),
        (["DTSTART;VALUE=DATE:20261124", "DURATION:P1D"], "event 1 has no time of day at which it starts"),
        (["DTSTART;TZID=Mars/Phobos:20261124T090000", "DURATION:PT1H"], "event 1 names a time zone that nobody knows"),
        ([START, "DURATION:PT1H", "EXDATE;TZID=Mars/Phobos:20261124T090000"], "names a time zone that nobody knows"),
        (["DTSTART:2026112490000", "DURATION:PT1H"], "event 1 has a time or a rule that can't be read"),
        ([START, "DURATION:PT1H", "RRULE:FREQ=SOMETIMES"], "event 1 has a time or a rule that can't be read"),
        ([START, "DURATION:PT1H", "RRULE:FREQ=SECONDLY"], "event 1 recurs within a day"),
        ([START, "DURATION:PT1H", "RRULE:FREQ=HOURLY;INTERVAL=24"], "event 1 recurs within a day"),
        ([START, "DURATION:PT1H", "RRULE:FREQ=DAILY;BYMINUTE=1,2,3"], "event 1 recurs within a day"),
        ([START, "DURATION:PT1H", "RRULE:FREQ=DAILY;INTERVAL=0"], "event 1 recurs at once"),
        (["DTSTART:19000101T090000", "DURATION:PT1H", "RRULE:FREQ=DAILY"], "event 1 starts before 2000"),
        ([START, "DTEND:20261124T080000"], "event 1 of 2026-11-24 09:00 must end after it starts"),
        ([START, "DTEND:20261124T090000"], "event 1 of 2026-11-24 09:00 must end after it starts"),
        ([START, "DURATION:-PT1H"], "event 1 of 2026-11-24 09:00 must end after it starts"),
        ([START, "DTEND;VALUE=DATE:20261125"], "event 1 has no time of day at which it ends"),
        ([START, "DURATION:P2D"], "session of 2026-11-24 09:00 must end after it starts, and within 24 hours"),
        ([START, "DURATION:PT1H", "DESCRIPTION:环节：S77"], "session of 2026-11-24 09:00 is of a stage that doesn't"),
        (["UID:", START, "DURATION:PT1H"], "event 1 "),
    ],
)
def test_an_event_that_makes_no_sense_is_left_out_and_told_without_naming_anybody(
    tmp_path: Path, lines: list[str], told: str
) -> None:
    good = event("DTSTART:20261125T090000", "DURATION:PT1H", uid="b@x")
    found = read(tmp_path, calendar(event(*lines, "SUMMARY:王五"), good))
    assert spans(found) == ["11-25 09:00-10:00"]
    (problem,) = found.problems
    assert problem.startswith(f"{tmp_path}/plan.ics: ")
    assert told in problem
    assert "王五" not in problem
    assert "@x" not in problem


def test_overlaps_in_one_room_are_told_and_back_to_back_is_none(tmp_path: Path) -> None:
    times = [("0900", "1200"), ("1000", "1100"), ("1130", "1300"), ("1300", "1400")]
    parts = [event(f"DTSTART:20261124T{start}00", f"DTEND:20261124T{end}00", uid=f"{start}") for start, end in times]
    found = read(tmp_path, calendar(*parts))
    assert len(found.sessions) == 4
    assert [text.partition("the ")[2] for text in found.problems] == [
        "session of 2026-11-24 10:00 begins before that of 11-24 09:00 ends",
        "session of 2026-11-24 11:30 begins before that of 11-24 09:00 ends",
    ]


@settings(max_examples=60)
@given(
    begins=st.integers(0, 80 * 1440).map(
        lambda minutes: datetime(2026, 9, 1, tzinfo=CHINA) + timedelta(minutes=minutes)
    ),
    minutes=st.integers(1, 600),
    weekdays=st.sets(st.integers(0, 6), min_size=1),
    interval=st.integers(1, 3),
    count=st.one_of(st.none(), st.integers(1, 30)),
    left_out=st.sets(st.integers(0, 90), max_size=5),
)
def test_a_weekly_session_is_on_the_days_that_a_plain_count_gives(
    tmp_path_factory: pytest.TempPathFactory, begins: datetime, minutes: int, weekdays: set[int], interval: int,
    count: int | None, left_out: set[int],
) -> None:  # fmt: skip
    weekdays = weekdays | {begins.weekday()}  # RFC 5545: else it is undefined whether the start itself counts
    days = ",".join(("MO", "TU", "WE", "TH", "FR", "SA", "SU")[day] for day in sorted(weekdays))
    rule = f"RRULE:FREQ=WEEKLY;BYDAY={days};INTERVAL={interval}" + (f";COUNT={count}" if count else "")
    gone = [begins + timedelta(days=days) for days in sorted(left_out)]
    exdates = [f"EXDATE:{at:%Y%m%dT%H%M%S}" for at in gone]
    lasts = timedelta(minutes=minutes)
    text = calendar(event(f"DTSTART:{begins:%Y%m%dT%H%M%S}", f"DURATION:PT{minutes}M", rule, *exdates))
    monday = begins - timedelta(days=begins.weekday())
    every_day = [begins + timedelta(days=days) for days in range(400)]
    of_rule = [at for at in every_day if at.weekday() in weekdays and (at - monday).days // 7 % interval == 0]
    expected = [at for at in of_rule[:count] if at not in gone and at < LAST and at + lasts > FIRST]
    path = tmp_path_factory.getbasetemp() / "weekly.ics"
    path.write_text(text)
    found = read_schedule(path, FIRST, LAST)
    assert [one.start for one in found.sessions] == expected
    assert all(one.end - one.start == lasts for one in found.sessions)


LINES = st.sampled_from(
    [line for part in (WEEKLY, MOVED, CANCELLED, NEW_YORK) for line in part.splitlines()]
    + ["RDATE:20261124T090000", "RRULE:FREQ=MONTHLY;BYSETPOS=-1;BYDAY=FR", "RDATE;VALUE=PERIOD:20261124T090000/PT1H"]
    + ["STATUS:", "ATTENDEE:", "RECURRENCE-ID;RANGE=THISANDFUTURE:20261109T090000", "DTSTART:00000000T000000Z"]
    + ["DTEND;VALUE=DATE:20261231", "DURATION:-PT1H", "EXDATE:", "RRULE:", "X-WR-TIMEZONE:Nowhere", "DTSTART;TZID=:x"]
)


@settings(max_examples=150)
@given(lines=st.lists(st.one_of(LINES, st.text(max_size=12)), max_size=14))
def test_any_lines_of_a_calendar_are_taken_or_told(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.ics"
    path.write_text(calendar(event(*lines)), "utf-8", "surrogatepass")
    try:
        found = read_schedule(path, FIRST, LAST)
    except ValueError:
        return
    assert all(one.start < one.end and FIRST < one.end and one.start < LAST for one in found.sessions)


# TOML

TABLE = """[[session]]
title = "第一次询问"
start = 2026-11-24T09:00:00
duration_min = 90
stage = "S06"
case_number = "7号"
participants = ["张三"]
[[session]]
start = 2026-11-24T03:00:00Z
end = 2026-11-24T12:00:00
"""


def test_sessions_may_be_planned_in_toml(tmp_path: Path) -> None:
    found = read(tmp_path, TABLE, "plan.toml")
    assert spans(found) == ["11-24 09:00-10:30", "11-24 11:00-12:00"]
    one = found.sessions[0]
    assert (one.title, one.stage, one.case_number, one.participants) == ("第一次询问", "S06", "7号", ("张三",))
    assert found.problems == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[[session]]\nstart = "2026-11-24"\nduration_min = 5\n', "start = …: must be a day and a time like"),
        ("[[session]]\nstart = 2026-11-24\nduration_min = 5\n", "start = …: must be a day and a time like"),
        ("[[session]]\nstart = 2026-11-24T09:00:00\n", "end = …: there must be end or duration_min, and not both"),
        ("[[session]]\nduration_min = 5\n", "start = …: is missing"),
        ("[[session]]\nstart = 2026-11-24T09:00:00\nduration_min = 0\n", "duration_min = …: must be integer, 1..1440"),
        ("[[session]]\nstart = 2026-11-24T09:00:00\nduration_min = 5\nwho = '王五'\n", "no such option"),
        (TABLE.replace("S06", "S77"), "2026-11-24 09:00 is of a stage"),
        (TABLE + TABLE, "the session of 2026-11-24 09:00 is there twice"),
        ("session = 3", "session = …: must be a list of tables"),
    ],
)
def test_a_wrong_session_in_toml_is_told_by_its_line_without_naming_anybody(
    tmp_path: Path, text: str, told: str
) -> None:
    found = read(tmp_path, text, "plan.toml")
    assert told in found.problems[0]
    assert found.problems[0].startswith(f"{tmp_path}/plan.toml: ")
    assert "王五" not in "".join(found.problems)


# Bounds, in the process that reads

IMPOSSIBLE = [
    event(START, "DURATION:PT1H", "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", uid=f"{number}")
    for number in range(200)
]  # fmt: skip


async def test_the_reader_s_process_tells_the_same(tmp_path: Path) -> None:
    found = read(tmp_path, calendar(WEEKLY, MOVED, CANCELLED, event(START, uid="b")))
    assert await scheduled.read(tmp_path / "plan.ics", FIRST, LAST) == found
    assert len(found.sessions) == 4
    assert len(found.problems) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must have one calendar"),
        (calendar(WEEKLY).removesuffix("END:VCALENDAR\n"), "must have one calendar"),
        ("\x00\xff", "is no iCalendar file"),
        ("x" * ((1 << 20) + 1), "is larger than 1048576 bytes"),
        (calendar(*[event(START, "DURATION:PT1H", uid=str(number)) for number in range(1001)]), "of up to 1000 events"),
        (
            calendar(*[event(START, "DURATION:PT1H", "RRULE:FREQ=DAILY", uid=str(number)) for number in range(400)]),
            "plans 2800 sessions",
        ),
        (None, "can't be read: No such file"),
    ],
    ids=["empty", "cut", "no calendar", "large", "events", "sessions", "none"],
)
async def test_a_file_that_makes_no_sense_as_a_whole_is_refused_in_words(
    tmp_path: Path, text: str | None, told: str
) -> None:
    path = tmp_path / "plan.ics"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        await scheduled.read(path, FIRST, LAST)
    assert caught.value.what.startswith(f"{path}: ")
    assert told in caught.value.what
    assert "stay planned" in caught.value.safe


async def test_a_calendar_that_never_comes_to_an_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plan.ics").write_text(calendar(*IMPOSSIBLE))
    monkeypatch.setattr(scheduled, "_CPU_LIMIT_S", 1)
    monkeypatch.setattr(scheduled, "_STALL_LIMIT_S", 1.0)
    with pytest.raises(ConfigError, match="can't be read within bounds: its reader no answer for 1 s"):
        await asyncio.wait_for(scheduled.read(tmp_path / "plan.ics", FIRST, LAST), 30)


def test_the_reader_stops_itself_when_its_time_is_up(tmp_path: Path) -> None:
    (tmp_path / "plan.ics").write_text(calendar(*IMPOSSIBLE))
    *python, code = command(scheduled.__name__)
    limited = code.replace("; gc.enable()", "; main.__globals__['_CPU_LIMIT_S'] = 1")
    words = [*python, limited, str(tmp_path / "plan.ics"), FIRST.isoformat(), LAST.isoformat()]
    ended = subprocess.run(words, check=False, capture_output=True, timeout=60)
    assert ended.returncode in {-signal.SIGXCPU, -signal.SIGKILL}
    assert ended.stdout == b""


async def test_many_mistakes_are_counted_not_told_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "plan.ics").write_text(calendar(*[event(START, uid=str(number)) for number in range(300)]))
    found = await scheduled.read(tmp_path / "plan.ics", FIRST, LAST)
    assert len(found.problems) == 21
    assert found.problems[-1].endswith("280 more mistakes")


def test_what_is_planned_at_any_hour_is_told_in_china_s_time(tmp_path: Path) -> None:
    midnight = datetime.combine(date(2026, 11, 24), time(16), UTC)
    (one,) = read(tmp_path, calendar(event(f"DTSTART:{midnight:%Y%m%dT%H%M%SZ}", "DURATION:PT1H"))).sessions
    assert f"{one.start:%Y-%m-%d %H:%M}" == "2026-11-25 00:00"
    assert json.dumps(one.start.isoformat()) == '"2026-11-25T00:00:00+08:00"'
