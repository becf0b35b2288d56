"""Legal time limits: when a recording must be stored, how certain that is, and when to raise the alarm.

Pure: rules and holiday notices come in as data. Days are civil days in China (UTC+8, no summer time since 1991).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from enum import StrEnum
from functools import lru_cache
from typing import Final

from agent.model import Basis, CalendarYear, Clip, ClockTrust, Deadline, Declared, Profile, Rule, RuleKind, Stamp

ZONE: Final = timezone(timedelta(hours=8), "Asia/Shanghai")
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""A recorder's clock that is wrong by no more than this is not called untrusted."""

_OLDEST_YEAR: Final = 2020
_FAT_RESOLUTION: Final = timedelta(seconds=2)
_DAY: Final = timedelta(days=1)
_SOON: Final = timedelta(hours=24)
_FAR: Final = datetime(9999, 1, 1, tzinfo=ZONE)
# Notices of the next year have changed days back to 29 December (2006, 2007, 2011, 2018).
_NEXT_NOTICE_FROM: Final = (12, 24)
_NEXT_NOTICE_EXPECTED: Final = (11, 1)
# 全国年节及纪念日放假办法 art. 2: the holidays with a fixed Gregorian date; 2 May since 2025-01-01.
_FIXED_HOLIDAYS: Final[Mapping[tuple[int, int], int]] = {
    (1, 1): 2000,
    (5, 1): 2000,
    (5, 2): 2025,
    (10, 1): 2000,
    (10, 2): 2000,
    (10, 3): 2000,
}

Calendars = Mapping[int, CalendarYear]
"""Holiday notices by the year they are for."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The jurisdiction's rules and the holiday notices that are known; `calendar` is the digest of the notices."""

    profile: Profile
    calendars: Calendars
    calendar: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once: every clip of a card gets a limit, and a card may have tens of thousands.
        object.__setattr__(self, "calendar", calendar_digest(self.calendars))

    @property
    def digest(self) -> str:
        """SHA-256 of everything a limit depends on besides the recording."""
        return hashlib.sha256(f"{self.profile} {self.calendar}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Limit:
    """What one rule says of a recording: from when it counts and until when; without `start` it doesn't apply."""

    rule: Rule
    start: datetime | None = None
    due_at: datetime = _FAR
    alarm_at: datetime = _FAR
    basis: Basis = Basis.OFFICIAL


class Verdict(StrEnum):
    """What may be said about a recording and its time limit; LATE and IN_TIME only once it is stored.

    NO_LIMIT and PAST_TARGET where no law gives a number: never 逾期.
    """

    OPEN = "open"
    DUE_SOON = "due_soon"
    UNDECIDED = "undecided"
    OVERDUE = "overdue"
    IN_TIME = "in_time"
    LATE = "late"
    NO_LIMIT = "no_limit"
    PAST_TARGET = "past_target"


@dataclass(frozen=True, slots=True)
class Coverage:
    """Which years are known, until which day verdicts are final, and which year's notice is missing by now."""

    years: tuple[CalendarYear, ...]
    official_until: date | None
    missing: int | None
    digest: str


def is_official(day: date, calendars: Calendars) -> bool:
    """Whether it is settled that `day` is worked or not: its year is known, late December needs the next year too."""
    return _complete(day.year, calendars) and (
        (day.month, day.day) < _NEXT_NOTICE_FROM or _complete(day.year + 1, calendars)
    )


def is_working(day: date, calendars: Calendars) -> bool:
    """Whether `day` is worked as far as is known (nominal); Monday to Friday where nothing is known.

    国务院关于职工工作时间的规定 art. 7 and the yearly notice; a make-up day (调休上班) is a working day.
    """
    for year in (day.year + 1, day.year):
        notice = calendars.get(year)
        if notice is not None and day in notice.off:
            return False
        if notice is not None and day in notice.work:
            return True
    return day.weekday() < 5 and not _is_fixed_holiday(day)


def may_be_working(day: date, calendars: Calendars) -> bool:
    """Whether `day` could turn out to be worked; a limit counted with this is never later than the law."""
    return is_working(day, calendars) if is_official(day, calendars) else not _is_fixed_holiday(day)


def source_of(day: date, calendars: Calendars) -> str:
    """The notice that makes `day` a day off or a make-up day; empty if none speaks of it."""
    for year in (day.year + 1, day.year):
        notice = calendars.get(year)
        if notice is not None and day in notice.off | notice.work:
            return notice.cited.get(day, notice.source)
    return ""


def counted_days(
    rule: Rule, start: date, calendars: Calendars, counts: Callable[[date, Calendars], bool] = is_working
) -> tuple[date, ...]:
    """The days that count, one by one; the last one is the day at whose end the limit runs out.

    民法典 art. 201: the day of the event is not counted, so day one is the first working day after it.
    """
    if rule.kind is RuleKind.SAME_DAY:
        return (start,)
    days: list[date] = []
    day = start
    while len(days) < rule.days:
        day += _DAY
        if counts(day, calendars):
            days.append(day)
    return tuple(days)


def limits(
    rules: Rules,
    earliest: datetime | None,
    latest: datetime,
    declared: Declared | None = None,
    ended: datetime | None = None,
) -> tuple[Limit, ...]:
    """What each rule of the jurisdiction says of a recording that was completed between the two times.

    `ended`: when its activity ended, if that was on a later day (当天执法活动结束后).
    """
    found = []
    for rule in rules.profile.rules:
        if rule.kind is RuleKind.HOURS_AFTER:
            found.append(_hours_after(rule, declared))
        elif rule.kind is RuleKind.SAME_DAY and ended is not None:
            found.append(_in_days(rule, rules.calendars, ended, ended))
        else:
            found.append(_in_days(rule, rules.calendars, earliest, latest))
    replaced = {limit.rule.instead_of for limit in found if limit.start is not None}
    return tuple(Limit(limit.rule) if limit.rule.kind.value in replaced else limit for limit in found)


def winner(found: tuple[Limit, ...]) -> Limit:
    """The earliest of the limits that apply; a target of the bureau's own only where no law gives a number."""
    return min(
        (limit for limit in found if limit.start is not None), key=lambda limit: (not limit.rule.binding, limit.due_at)
    )


def deadline_for(
    rules: Rules,
    earliest: datetime | None,
    latest: datetime,
    declared: Declared | None = None,
    ended: datetime | None = None,
) -> Deadline:
    """The limit of a recording that was completed (制作完成) between the two times.

    `due_at` is 24:00 of the last day (民法典 art. 203) counted from the latest time; `alarm_at` is counted from the
    earliest time with every unsettled day as worked. Nothing known about the earliest time: the alarm is `latest`
    itself, the most urgent there is. `ended` as for `limits`.
    """
    found = limits(rules, earliest, latest, declared, ended)
    first = winner(found)
    assert first.start is not None, "a limit that applies has a start"
    alarms = [limit.alarm_at for limit in found if limit.rule.binding >= first.rule.binding]
    return Deadline(
        profile=rules.profile.name,
        rule=first.rule.name,
        citation=first.rule.citation,
        start=first.start,
        due_at=first.due_at,
        alarm_at=min(alarms),
        basis=first.basis,
        calendar=rules.calendar,
    )


def internal_target(rules: Rules, deadline: Deadline) -> datetime | None:
    """When the bureau wants it stored: the end of the office hours of day one; None if that is no earlier than due."""
    rule = next((rule for rule in rules.profile.rules if rule.name == deadline.rule), None)
    if rule is None or not rule.binding or rule.kind is RuleKind.HOURS_AFTER:
        return None
    first = counted_days(rule, deadline.start.astimezone(ZONE).date(), rules.calendars)[0]
    target = datetime.combine(first, rules.profile.office_closes, ZONE)
    return target if deadline.start < target < deadline.due_at else None


def _in_days(rule: Rule, calendars: Calendars, earliest: datetime | None, latest: datetime) -> Limit:
    start = latest.astimezone(ZONE)
    last = counted_days(rule, start.date(), calendars)[-1]
    alarm_at = start
    if earliest is not None:
        first = earliest.astimezone(ZONE).date()
        alarm_at = _end_of(counted_days(rule, first, calendars, may_be_working)[-1])
    return Limit(rule, start, _end_of(last), alarm_at, _basis(rule, start.date(), last, calendars))


def _hours_after(rule: Rule, declared: Declared | None) -> Limit:
    """民法典 art. 201(2): hours count from the event on; days off are not skipped."""
    if declared is None or declared.event != rule.event or declared.cause not in codes_of(rule):
        return Limit(rule)
    start = declared.at.astimezone(ZONE)
    end = start + timedelta(hours=rule.hours)
    return Limit(rule, start, end, end, Basis.OFFICIAL if rule.binding else Basis.TARGET)


def codes_of(rule: Rule) -> tuple[str, ...]:
    """The codes of the causes for which the rule applies."""
    return tuple(cause.split()[0] for cause in rule.causes)


def is_plausible(stamp: datetime, docked_at: datetime) -> bool:
    """Whether a recorder that was docked then can have written this time: no earlier than 2020, not in the future."""
    return stamp.year >= _OLDEST_YEAR and stamp <= docked_at + CLOCK_TOLERANCE


def capture_interval(
    clip: Clip, *, docked_at: datetime, last_dock_out: datetime | None
) -> tuple[datetime | None, datetime, ClockTrust]:
    """Between which times the clip was completed, by what the recorder wrote, and whether its clock makes sense.

    The end of a recording is its last modification; a stamp without zone (FAT) is taken as UTC+8. `last_dock_out` is
    when this recorder last left the dock after a complete listing. With an impossible clock the recording was made
    after that and before `docked_at`; no earliest time means that nothing bounds it.
    """
    modified, created = instant(clip.modified), instant(clip.created)
    if last_dock_out is not None and last_dock_out > docked_at:
        last_dock_out = None
    if modified is None and created is not None and is_plausible(created, docked_at):
        return min(created, docked_at), docked_at, ClockTrust.UNMEASURED
    if modified is None or not is_plausible(modified, docked_at):
        return last_dock_out, docked_at, ClockTrust.UNTRUSTED
    completed = min(modified, docked_at)
    went_back = created is not None and created > modified + _FAT_RESOLUTION
    before_last_listing = last_dock_out is not None and completed + CLOCK_TOLERANCE < last_dock_out
    if went_back or before_last_listing:
        return completed, docked_at, ClockTrust.UNTRUSTED
    return completed, completed, ClockTrust.UNMEASURED


def verdict(deadline: Deadline, now: datetime, stored_at: datetime | None = None) -> Verdict:
    """What may be said now: OVERDUE and LATE only on an official calendar, UNDECIDED while it could be either.

    Also with an untrusted clock `due_at` is certain: it counts from the latest time at which the clip can have been
    completed. Between `alarm_at` and `due_at` only a person can tell.
    """
    moment = now if stored_at is None else stored_at
    if deadline.basis is Basis.TARGET:
        return Verdict.PAST_TARGET if moment >= deadline.due_at else Verdict.NO_LIMIT
    if moment >= deadline.due_at and deadline.basis is Basis.OFFICIAL:
        return Verdict.OVERDUE if stored_at is None else Verdict.LATE
    if moment >= deadline.alarm_at:
        return Verdict.UNDECIDED
    if stored_at is not None:
        return Verdict.IN_TIME
    return Verdict.DUE_SOON if deadline.alarm_at - now <= _SOON else Verdict.OPEN


def coverage(calendars: Calendars, today: date) -> Coverage:
    """What is known about working days from `today` on; the next year's notice is missed from 1 November."""
    official_until = None
    if is_official(today, calendars):
        year = today.year
        while _complete(year + 1, calendars):
            year += 1
        official_until = date(year, *_NEXT_NOTICE_FROM) - _DAY
    wanted = [today.year]
    if (today.month, today.day) >= _NEXT_NOTICE_EXPECTED:
        wanted.append(today.year + 1)
    missing = next((year for year in wanted if not _complete(year, calendars)), None)
    years = tuple(calendars[year] for year in sorted(calendars))
    return Coverage(years, official_until, missing, calendar_digest(calendars))


def calendar_digest(calendars: Calendars) -> str:
    """SHA-256 of the merged notices, so that a verdict can name the calendar it was made with."""
    digest = hashlib.sha256()
    for _, notice in sorted(calendars.items()):
        days = [f"-{day}" for day in sorted(notice.off)] + [f"+{day}" for day in sorted(notice.work)]
        digest.update(f"{notice.year} {notice.complete} {notice.source} {' '.join(days)}\n".encode())
    return digest.hexdigest()


def _complete(year: int, calendars: Calendars) -> bool:
    notice = calendars.get(year)
    return notice is not None and notice.complete


def _is_fixed_holiday(day: date) -> bool:
    since = _FIXED_HOLIDAYS.get((day.month, day.day))
    return since is not None and day.year >= since


def _end_of(day: date) -> datetime:
    return datetime.combine(day + _DAY, time(), ZONE)


def _basis(rule: Rule, start: date, last: date, calendars: Calendars) -> Basis:
    """Official if no day between start and end can still turn out to be something else."""
    if not rule.binding:
        return Basis.TARGET
    if rule.kind is RuleKind.SAME_DAY:
        return Basis.OFFICIAL
    days = (start + _DAY * n for n in range(1, (last - start).days + 1))
    return Basis.OFFICIAL if all(is_official(day, calendars) for day in days) else Basis.PROVISIONAL


def instant(stamp: Stamp) -> datetime | None:
    """The time that a recorder wrote, without zone taken as China's; None if it is no time."""
    if stamp.local is None:
        return None
    try:
        local = datetime.fromisoformat(stamp.local)
        zone = ZONE if stamp.offset_min is None else _zone(stamp.offset_min)
    except (ValueError, OverflowError):
        return None
    return local.replace(tzinfo=zone)


@lru_cache(maxsize=256)
def _zone(offset_min: int) -> timezone:
    """One object for all times of a card: a hundred thousand of them are kept at once."""
    return timezone(timedelta(minutes=offset_min))
