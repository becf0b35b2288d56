"""When a recording was made: witnesses are weighed, none makes a limit later, and a contradiction is never decided."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.capture_time import limit_by, made
from agent.config import load
from agent.deadline import ZONE, Rules, Verdict, capture_interval, deadline_for, verdict
from agent.model import (
    Basis,
    CaptureTime,
    Clip,
    ClockTrust,
    Facts,
    Integrity,
    Medium,
    Recording,
    Stamp,
    TimeBasis,
)

CONFIG = load(Path(__file__).parent.parent / "config" / "agent.toml")
RULES = Rules(CONFIG.profile, CONFIG.calendars)
HELD = datetime(2026, 11, 23, 10, tzinfo=ZONE)
END = datetime(2026, 11, 20, 9, 20, tzinfo=ZONE)  # a Friday
LASTED = timedelta(minutes=20)


def recorded(
    end: datetime | None = END, *, earliest: datetime | None = None, trust: ClockTrust = ClockTrust.UNMEASURED
) -> Recording:
    """A recording whose file says `end`; None: whose recorder's clock can't be true, docked at HELD."""
    first, last, known = (end, end, trust) if end else (earliest, HELD, ClockTrust.UNTRUSTED)
    return Recording("r", "d", Medium.VIDEO, first, last, known, deadline_for(RULES, first, last))


def facts(created: str = "", *, taken: str = "", zone: str = "", lasted: timedelta = LASTED) -> Facts:
    medium = Medium.PHOTO if taken else Medium.VIDEO
    length = None if taken else lasted // timedelta(milliseconds=1)
    return Facts(medium, Integrity.COMPLETE, duration_ms=length, created=created, taken=taken, taken_zone=zone)


def utc(time: datetime) -> str:
    """As a container writes it."""
    return time.astimezone(UTC).isoformat().replace("+00:00", ".000000Z")


def local_as_utc(time: datetime) -> str:
    """As many recorders write it: the time of day in China, called UTC."""
    return time.replace(tzinfo=UTC).isoformat().replace("+00:00", ".000000Z")


def span(time: CaptureTime) -> tuple[datetime | None, datetime | None]:
    return time.made_start, time.made_end


@pytest.mark.parametrize("written", [utc, local_as_utc])
def test_the_end_of_the_recording_is_its_begin_in_the_container_and_its_length(written: object) -> None:
    """Whether the container has UTC or the local time in its UTC field."""
    assert callable(written)
    time = made(recorded(), facts(written(END - LASTED)), "V.MP4", HELD)
    assert span(time) == (END - LASTED, END)
    assert (time.basis, time.clock_trust, time.earliest, time.later) == (
        TimeBasis.CONTAINER, ClockTrust.UNMEASURED, END, None,
    )  # fmt: skip
    assert [source.agrees for source in time.sources] == [True]


def test_a_container_that_was_stamped_when_it_was_closed_agrees_too() -> None:
    time = made(recorded(), facts(utc(END)), "V.MP4", HELD)
    assert span(time) == (END - LASTED, END)
    assert time.clock_trust is ClockTrust.UNMEASURED


def test_five_minutes_agree_and_six_contradict() -> None:
    near = made(recorded(), facts(utc(END - LASTED + timedelta(minutes=5))), "V.MP4", HELD)
    far = made(recorded(), facts(utc(END - LASTED + timedelta(minutes=6))), "V.MP4", HELD)
    assert (near.clock_trust, far.clock_trust) == (ClockTrust.UNMEASURED, ClockTrust.CONTRADICTED)
    assert far.later == END + timedelta(minutes=6)
    assert far.latest == END


def test_a_contradiction_makes_an_interval_and_the_alarm_goes_by_its_earliest_end() -> None:
    time = made(recorded(), facts(utc(END - timedelta(days=3) - LASTED)), "V.MP4", HELD)
    assert time.earliest is not None
    assert time.earliest <= END - timedelta(days=3)
    assert (time.latest, time.basis) == (END, TimeBasis.MTIME)
    old, new = recorded().deadline, limit_by(RULES, time, None)
    assert new.alarm_at < old.alarm_at
    assert new.due_at == old.due_at
    between = new.alarm_at + timedelta(hours=1)
    assert verdict(new, between) is Verdict.UNDECIDED
    assert verdict(old, between) is not Verdict.UNDECIDED


def test_a_later_witness_makes_the_limit_provisional_and_never_later() -> None:
    """Not even years after it is called overdue, until a person has said what is true."""
    time = made(recorded(), facts(utc(HELD - timedelta(hours=1))), "V.MP4", HELD)
    old, new = recorded().deadline, limit_by(RULES, time, None)
    assert (new.due_at, new.alarm_at) == (old.due_at, old.alarm_at)
    assert (old.basis, new.basis) == (Basis.OFFICIAL, Basis.PROVISIONAL)
    assert verdict(new, new.due_at + timedelta(days=900)) is Verdict.UNDECIDED
    stated = CaptureTime(END, END, ClockTrust.STATED)
    assert verdict(limit_by(RULES, stated, None), new.due_at) is Verdict.OVERDUE


def test_a_contradiction_on_the_same_day_changes_no_limit() -> None:
    time = made(recorded(), facts(utc(END + timedelta(hours=1) - LASTED)), "V.MP4", HELD)
    assert time.clock_trust is ClockTrust.CONTRADICTED
    assert limit_by(RULES, time, None).basis is Basis.OFFICIAL


def test_a_file_name_that_lies_about_the_time_is_noticed() -> None:
    """The name gives begin or end; both agree with the file, a day before does not."""
    for right in ("DSJ_20261120090000_0001.MP4", "2026-11-20_09-20-00.MP4"):
        assert made(recorded(), facts(), right, HELD).clock_trust is ClockTrust.UNMEASURED, right
    time = made(recorded(), facts(), "DSJ_20261119090000_0001.MP4", HELD)
    assert (time.clock_trust, time.basis) == (ClockTrust.CONTRADICTED, TimeBasis.MTIME)
    assert [(source.basis, source.raw) for source in time.sources] == [(TimeBasis.FILENAME, "20261119090000")]
    assert limit_by(RULES, time, None).alarm_at < recorded().deadline.alarm_at


@pytest.mark.parametrize(
    "name", ["", "REC00001.MP4", "20261320090000.MP4", "x202611200900001.MP4", "20260230120000.MP4"]
)
def test_a_name_without_a_time_says_nothing(name: str) -> None:
    assert made(recorded(), facts(), name, HELD).sources == ()


def test_a_photo_was_made_when_its_exif_says() -> None:
    """EXIF without zone is taken as UTC+8; with zone as it says."""
    for taken, zone in (
        ("2026:11:20 09:19:30", ""),
        ("2026:11:20 10:19:30", "+09:00"),
        ("2026:11:19 20:19:30", "-05:00"),
    ):
        time = made(recorded(), facts(taken=taken, zone=zone), "P.JPG", HELD)
        at = datetime(2026, 11, 20, 9, 19, 30, tzinfo=ZONE)
        assert (span(time), time.basis) == ((at, at), TimeBasis.EXIF)
        assert time.clock_trust is ClockTrust.UNMEASURED


@pytest.mark.parametrize("taken", ["0000:00:00 00:00:00", "    :  :     :  :  ", "yesterday", "2026:02:30 10:00:00"])
def test_exif_that_says_nothing_is_no_witness(taken: str) -> None:
    time = made(recorded(), facts(taken=taken, zone="+99:99"), "P.JPG", HELD)
    assert (time.sources, time.basis, time.made_end) == ((), TimeBasis.MTIME, END)


@pytest.mark.parametrize(
    "created",
    [
        "1904-01-01T00:00:00.000000Z",
        "1970-01-01T00:00:00.000000Z",
        "",
        "soon",
        "9999-12-31T23:59:59Z",
        "0001-01-01T00:00:00",
    ],
)
def test_a_field_that_nobody_filled_in_contradicts_nothing(created: str) -> None:
    time = made(recorded(), facts(created), "V.MP4", HELD)
    assert (time.clock_trust, time.earliest, time.sources) == (ClockTrust.UNMEASURED, END, ())
    assert span(time) == (END - LASTED, END)


@pytest.mark.parametrize("year", [1980, 2015, 2099])
def test_a_time_that_can_t_be_true_moves_no_limit(year: int) -> None:
    """It is told, but gives no reading."""
    time = made(recorded(), facts(f"{year}-05-05T00:00:00Z"), "V.MP4", HELD)
    assert time.earliest == time.latest == END
    assert [source.readings for source in time.sources] == [()]


@pytest.mark.parametrize("stamp", ["1970-01-01T08:00:00", "2099-01-01T00:00:00"])
def test_with_a_clock_that_can_t_be_true_the_content_only_makes_the_alarm_earlier(stamp: str) -> None:
    clip = Clip(1, "V.MP4", b"V", 1, 1, modified=Stamp(stamp))
    out = HELD - timedelta(days=5)
    earliest, latest, trust = capture_interval(clip, docked_at=HELD, last_dock_out=out)
    row = Recording("r", "d", Medium.VIDEO, earliest, latest, trust, deadline_for(RULES, earliest, latest))
    inside = made(row, facts(utc(HELD - timedelta(days=2))), "V.MP4", HELD)
    assert (inside.earliest, inside.latest, inside.clock_trust) == (out, HELD, ClockTrust.UNTRUSTED)
    assert (inside.basis, inside.made_start) == (TimeBasis.CONTAINER, HELD - timedelta(days=2))
    before = made(row, facts(utc(HELD - timedelta(days=9))), "V.MP4", HELD)
    assert before.earliest is not None
    assert before.earliest < out
    assert span(before) == (None, None)


def test_nothing_known_stays_the_most_urgent() -> None:
    time = made(recorded(None), facts(utc(HELD - timedelta(days=2))), "V.MP4", HELD)
    assert time.earliest is None
    assert limit_by(RULES, time, None).alarm_at == recorded(None).deadline.alarm_at


def test_a_recorder_set_to_another_zone_is_noticed() -> None:
    """Its file says 10:20 of a clock in Tokyo, which is 09:20 here, as its container knows."""
    time = made(recorded(END + timedelta(hours=1)), facts(utc(END - LASTED)), "V.MP4", HELD)
    assert time.clock_trust is ClockTrust.CONTRADICTED
    assert any(END in source.readings for source in time.sources)
    assert time.latest == END + timedelta(hours=1)


def test_a_recording_over_midnight_is_not_overdue_by_its_first_day() -> None:
    """Written to the file at 00:01, ended at 23:58 by the container: the alarm takes the earlier day."""
    closed = datetime(2026, 11, 20, 0, 1, tzinfo=ZONE)
    time = made(recorded(closed), facts(utc(closed - timedelta(minutes=3) - LASTED)), "V.MP4", HELD)
    assert (time.earliest, time.latest) == (closed - timedelta(minutes=3), closed)
    new = limit_by(RULES, time, None)
    assert new.alarm_at == datetime(2026, 11, 24, tzinfo=ZONE)  # Friday 20 and Monday 23
    assert new.due_at == datetime(2026, 11, 25, tzinfo=ZONE)
    whole = made(
        recorded(closed + timedelta(minutes=30)),
        facts(utc(closed - timedelta(minutes=10)), lasted=timedelta(minutes=40)),
        "V.MP4",
        HELD,
    )
    assert limit_by(RULES, whole, None).alarm_at == limit_by(RULES, whole, None).due_at


def test_footage_of_31_december_keeps_its_provisional_limit() -> None:
    end, held = datetime(2026, 12, 31, 23, 59, 50, tzinfo=ZONE), datetime(2027, 1, 4, 9, tzinfo=ZONE)
    row = recorded(end)
    time = made(row, facts(utc(end - LASTED)), "20261231233950.MP4", held)
    assert limit_by(RULES, time, None) == row.deadline
    assert row.deadline.basis is Basis.PROVISIONAL
    assert span(time) == (end - LASTED, end)


def test_broadcast_wav_and_avi_tell_their_time_in_their_own_way() -> None:
    for created in ("2026-11-20 09:00:00", "Fri Nov 20 09:00:00 2026", "2026-11-20T09:00:00+0800"):
        time = made(recorded(), facts(created), "S.WAV", HELD)
        assert (span(time), time.basis) == ((END - LASTED, END), TimeBasis.CONTAINER), created


def test_what_was_adopted_without_a_name_has_witnesses_too() -> None:
    row = Recording("r", "", Medium.OTHER, None, HELD, ClockTrust.UNTRUSTED, deadline_for(RULES, None, HELD))
    assert made(row, facts(utc(END - LASTED)), "", HELD).made_end == END


TIMES = st.datetimes(datetime(2019, 1, 1), datetime(2027, 6, 1)).map(lambda at: at.replace(tzinfo=ZONE))  # noqa: DTZ001
OFFSETS = st.integers(-24 * 60, 24 * 60).map(lambda minutes: timedelta(minutes=minutes))
TEXTS = st.one_of(TIMES.map(utc), TIMES.map(local_as_utc), st.text(max_size=40))
NAMES = st.one_of(TIMES.map(lambda at: f"{at:%Y%m%d%H%M%S}.MP4"), st.text(max_size=30))
TAKEN = st.one_of(TIMES.map(lambda at: f"{at:%Y:%m:%d %H:%M:%S}"), st.text(max_size=30))
ZONES = st.one_of(st.sampled_from(["", "+08:00", "-11:00", "+99:99"]), st.text(max_size=7))


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.none(), TIMES),
    st.one_of(st.none(), TIMES),
    TEXTS,
    NAMES,
    TAKEN,
    ZONES,
    st.integers(-5, 10**12),
    OFFSETS,
)
def test_whatever_the_content_says_no_limit_becomes_later(
    end: datetime | None,
    out: datetime | None,
    created: str,
    name: str,
    taken: str,
    zone: str,
    length: int,
    skew: timedelta,
) -> None:
    """Due time and alarm are at most what the file's own times gave, and verdicts only become more careful."""
    stamp = Stamp((end + skew).replace(tzinfo=None).isoformat()) if end else Stamp()
    clip = Clip(1, name, b"", 1, 1, modified=stamp)
    earliest, latest, trust = capture_interval(clip, docked_at=HELD, last_dock_out=out)
    old = deadline_for(RULES, earliest, latest)
    said = Facts(None, Integrity.SUSPECT, duration_ms=length, created=created, taken=taken, taken_zone=zone)
    time = made(Recording("r", "d", Medium.VIDEO, earliest, latest, trust, old), said, name, HELD)
    new = limit_by(RULES, time, None)
    assert new.due_at == old.due_at
    assert new.alarm_at <= old.alarm_at
    assert time.latest == latest
    assert time.made_end is None or time.made_start is None or time.made_start <= time.made_end
    for moment in (old.alarm_at, old.due_at, old.due_at + timedelta(days=40)):
        assert verdict(new, moment) in (verdict(old, moment), Verdict.UNDECIDED)


@given(TIMES, st.integers(0, 86_400))
def test_a_container_that_tells_the_same_time_never_contradicts(end: datetime, length_s: int) -> None:
    """In whichever of the two ways it is written."""
    lasted = timedelta(seconds=length_s)
    for created in (utc(end - lasted), local_as_utc(end - lasted), utc(end)):
        time = made(recorded(end), facts(created, lasted=lasted), "V.MP4", end + timedelta(days=1))
        assert time.clock_trust is ClockTrust.UNMEASURED


def test_zones_of_the_containers_are_kept() -> None:
    at = datetime(2026, 11, 20, 10, tzinfo=timezone(timedelta(hours=9)))
    assert made(recorded(), facts(at.isoformat()), "V.MOV", HELD).made_start == END - LASTED
