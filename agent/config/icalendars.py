"""Sessions out of an iCalendar file (RFC 5545): recurring, moved and cancelled events, and time zones.

Called in a process of its own, which has little time and memory: a rule may ask for more dates than there are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from itertools import groupby
from typing import Any, Final

import recurring_ical_events
from icalendar import Calendar, Timezone
from icalendar.prop import vBroken, vDDDTypes

from agent.model import Planned

Tell = Callable[[str], None]
Part = Any
"""A calendar or event: each of its properties may be of thirty kinds, broken ones among them."""

EVENTS_LIMIT: Final = 1000
_LATER: Final = timedelta(days=2)
_YEARS: Final = range(2000, 2101)
_BROKEN: Final = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError, AssertionError)
"""What the libraries raise of events that make no sense."""

_TIMES: Final = ("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID")
_DAYS: Final = frozenset({"DAILY", "WEEKLY", "MONTHLY", "YEARLY"})
_CLOCK: Final = ("BYHOUR", "BYMINUTE", "BYSECOND")
_SAID: Final[Mapping[str, str]] = {
    "case_number": "案号|case",
    "stage": "环节|stage",
    "participants": "参加人|参与人|participants",
}
"""Lines of an event's description that say more of the session."""


class _NoSessionError(Exception):
    """An event is no session; the text is the reason."""


def sessions(content: bytes, first: datetime, last: datetime, zone: tzinfo, tell: Tell) -> Iterator[Planned]:
    """The sessions that may be running from `first` to `last`; what is left out is told by its number and start.

    Times without a time zone are those of `zone`. Raises ValueError if it is no calendar.
    """
    try:
        calendars = Calendar.from_ical(content, multiple=True)
    except _BROKEN as error:
        raise ValueError(f"is no iCalendar file: {type(error).__name__}") from None
    events = [event for calendar in calendars for event in calendar.walk("VEVENT")]
    if not calendars or len(events) > EVENTS_LIMIT:
        raise ValueError(f"must have one calendar, of up to {EVENTS_LIMIT} events; it has {len(events)}")
    for calendar in calendars:
        yield from _of_calendar(calendar, first, last, zone, tell)


def _of_calendar(calendar: Part, first: datetime, last: datetime, zone: tzinfo, tell: Tell) -> Iterator[Planned]:
    zones = [part for part in calendar.subcomponents if isinstance(part, Timezone)]
    numbered = list(enumerate(calendar.walk("VEVENT"), 1))
    numbered.sort(key=lambda item: str(item[1].get("UID", "")))
    for uid, group in groupby(numbered, key=lambda item: str(item[1].get("UID", ""))):
        series = list(group)
        name = f"event {series[0][0]}"
        try:
            if not uid:
                raise _NoSessionError("has no UID, by which it is known when it is moved")
            for _, event in series:
                _check(event, zone)
            yield from _occurrences(calendar, zones, [event for _, event in series], (first, last), zone)
        except _NoSessionError as reason:
            tell(f"{name} {reason}")
        except _BROKEN as error:
            tell(f"{name} can't be understood ({type(error).__name__})")


def _check(event: Part, zone: tzinfo) -> None:
    """Raise _NoSessionError for what the libraries would take for something else, or never come to an end with."""
    for value in (value for name in _TIMES for value in _all(event, name)):
        if isinstance(value, vBroken):
            raise _NoSessionError("has a time or a rule that can't be read")
        for stated in getattr(value, "dts", [value]):
            at = getattr(stated, "dt", None)
            if isinstance(at, datetime) and at.tzinfo is None and "TZID" in value.params:
                raise _NoSessionError("names a time zone that nobody knows")
    if not isinstance(event.get("DTSTART"), vDDDTypes) or not isinstance(event["DTSTART"].dt, datetime):
        raise _NoSessionError("has no time of day at which it starts")
    if event["DTSTART"].dt.year not in _YEARS:
        raise _NoSessionError(f"starts before {_YEARS[0]} or after {_YEARS[-1]}")
    if "DTEND" not in event and "DURATION" not in event:
        raise _NoSessionError("has no end")
    start, end = _aware(event["DTSTART"].dt, zone), event.get("DTEND")
    lasts = event["DURATION"].dt if end is None else _aware(end.dt, zone) - start
    if lasts <= timedelta():
        raise _NoSessionError(f"of {start:%Y-%m-%d %H:%M} must end after it starts")
    for rule in _all(event, "RRULE"):
        if not {str(freq) for freq in rule.get("FREQ", "")} <= _DAYS or any(name in rule for name in _CLOCK):
            raise _NoSessionError("recurs within a day; only whole days, weeks, months and years are taken")
        if not all(step >= 1 for step in rule.get("INTERVAL", [])):
            raise _NoSessionError("recurs at once")


def _all(event: Part, name: str) -> Sequence[Any]:
    value = event.get(name)
    return value if isinstance(value, list) else [] if value is None else [value]


def _occurrences(
    calendar: Part, zones: Sequence[Timezone], series: Sequence[Any], span: tuple[datetime, datetime], zone: tzinfo
) -> Iterator[Planned]:
    alone = Calendar()
    if "X-WR-TIMEZONE" in calendar:
        alone.add("X-WR-TIMEZONE", str(calendar["X-WR-TIMEZONE"]))
    for part in (*zones, *series):
        alone.add_component(part)
    recurs = len(series) > 1 or any(name in series[0] for name in ("RRULE", "RDATE"))
    found = recurring_ical_events.of(alone).between(span[0] - _LATER, span[1] + _LATER)
    for event in found:
        start, end = _aware(event.start, zone), _aware(event.end, zone)
        if start >= span[1] or end <= span[0] or str(event.get("STATUS", "")).upper() == "CANCELLED":
            continue
        original = event.get("RECURRENCE-ID")
        at = _aware(original.dt, zone).isoformat() if recurs and original is not None else ""
        yield Planned(f"{event['UID']} {at}", start, end, **_described(event))


def _aware(stated: object, zone: tzinfo) -> datetime:
    if not isinstance(stated, datetime):
        raise _NoSessionError("has no time of day at which it ends")
    return (stated if stated.tzinfo is not None else stated.replace(tzinfo=zone)).astimezone(zone)


def _described(event: Part) -> dict[str, Any]:
    """Title, and what lines of the description say; whoever is invited takes part."""
    text = str(event.get("DESCRIPTION", "")).replace("\\n", "\n")
    said = {}
    for name, words in _SAID.items():
        found = re.search(rf"^\s*(?:{words})\s*[:：]([^\n]*)$", text, re.MULTILINE | re.IGNORECASE)
        said[name] = found[1].strip() if found else ""
    invited = [str(person.params.get("CN", "")) for person in _all(event, "ATTENDEE") if hasattr(person, "params")]
    people = [*re.split("[、,，;；]", said.pop("participants")), *invited]
    return {"title": str(event.get("SUMMARY", "")), "participants": tuple(people), **said}
