"""When a recording was made: what container, EXIF and file name say, held against the time that its file bears.

Pure. A witness that contradicts the file's time makes the time of completion an interval and its limit 暂定; none of
them makes a limit later (requirement: 制作完成 is the end of the recording).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Final

from agent.deadline import CLOCK_TOLERANCE, ZONE, Rules, deadline_for, is_plausible
from agent.model import (
    Basis,
    CaptureTime,
    ClockTrust,
    Deadline,
    Declared,
    Facts,
    Recording,
    TimeBasis,
    TimeSource,
)

_LONGEST: Final = timedelta(days=7)
LONGEST_STEP_S: Final = 60 * 366 * 86400.0
"""From 1970 to here, and more: no step may lead out of the calendar."""
_NAME: Final = re.compile(
    r"(?<!\d)(20\d\d)[-_.]?(0[1-9]|1[0-2])[-_.]?([0-2]\d|3[01])"
    r"[-_T ]?([01]\d|2[0-3])[-_.:]?([0-5]\d)[-_.:]?([0-5]\d)(?!\d)",
    re.ASCII,
)
_EXIF: Final = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII)
_OFFSET: Final = re.compile(r"([+-])(\d\d):?(\d\d)", re.ASCII)
_LETTERS: Final = "%a %b %d %H:%M:%S %Y"  # as AVI writes it (asctime)

Span = tuple[datetime, datetime]
"""Begin and end of a recording as one reading gives them."""


def made(recording: Recording, facts: Facts, name: str, held_at: datetime) -> CaptureTime:
    """When the recording was made, by all witnesses; `name` is its file's, `held_at` when its bytes were here.

    The file's own time stands as `capture_interval` read it. A witness agrees if one of its readings (UTC or UTC+8,
    begin or end) is within five minutes of it.
    """
    lasted = _lasted(facts)
    earliest, latest = recording.captured_earliest, recording.captured_latest
    certain = earliest == latest and recording.clock_trust is ClockTrust.UNMEASURED
    told = [_weigh(*witness, latest if certain else None, held_at) for witness in _witnesses(facts, name, lasted)]
    sources = tuple(source for source, _ in told)
    apart = [at for source in sources if not source.agrees for at in source.readings]
    best, span = _best(told, (latest - lasted, latest) if certain else None)
    if not certain and span and earliest is not None and span[1] + CLOCK_TOLERANCE < earliest:
        best, span = TimeBasis.MTIME, None
    found = CaptureTime(
        earliest=min([earliest, *apart]) if earliest is not None else None,
        latest=latest,
        clock_trust=recording.clock_trust,
        made_start=span[0] if span else None,
        made_end=span[1] if span else None,
        basis=best,
        sources=sources,
    )
    if not certain:
        return found
    if apart:
        later = max(apart)
        return replace(found, clock_trust=ClockTrust.CONTRADICTED, later=later if later > latest else None)
    # The end that an agreeing container gives is the completion; a few seconds count only around midnight.
    return replace(found, earliest=min(latest, span[1])) if span else found


def by_comparison(
    interval: tuple[datetime | None, datetime, ClockTrust], ahead: timedelta
) -> tuple[datetime | None, datetime, ClockTrust]:
    """The interval of a recorder whose clock was found so far ahead at the dock: it may have been made so much earlier.

    A clock that is behind makes nothing later: it may have been right when the recording was made.
    """
    earliest, latest, trust = interval
    if trust is not ClockTrust.UNMEASURED or earliest is None or ahead < CLOCK_TOLERANCE:
        return interval
    return earliest - min(ahead, timedelta(seconds=LONGEST_STEP_S)), latest, ClockTrust.CONTRADICTED


def after_setting(time: CaptureTime, seen_at: datetime, set_by_s: float) -> CaptureTime:
    """The same, once the station's clock was set by so much: it was wrong when the clip was listed, at `seen_at`.

    What was bounded by the station's clock moves with it, though nothing gets less urgent; a recorder's time that only
    looked right because the station's clock was as wrong no longer counts.
    """
    step = timedelta(seconds=min(max(set_by_s, -LONGEST_STEP_S), LONGEST_STEP_S))
    if abs(step) < CLOCK_TOLERANCE or time.clock_trust is ClockTrust.STATED:
        return time
    if time.clock_trust is ClockTrust.UNTRUSTED:
        earliest = None if time.earliest is None else time.earliest + min(step, timedelta())
        return replace(time, earliest=earliest, latest=time.latest + step)
    if time.latest <= seen_at + step:
        return time
    return replace(time, earliest=None, latest=seen_at + step, clock_trust=ClockTrust.UNTRUSTED, later=None)


def limit_by(
    rules: Rules, time: CaptureTime, declared: Declared | None = None, ended: datetime | None = None
) -> Deadline:
    """The limit of a recording made at that time; 暂定 while a witness tells of a later completion with a later limit.

    So the limit is never later than by the file's time, and 逾期 is never said against a witness.
    """
    found = deadline_for(rules, time.earliest, time.latest, declared, ended)
    if time.later is None or found.basis is not Basis.OFFICIAL:
        return found
    other = deadline_for(rules, time.later, time.later, declared, ended)
    return replace(found, basis=Basis.PROVISIONAL) if other.due_at > found.due_at else found


def _lasted(facts: Facts) -> timedelta:
    lasted = timedelta(milliseconds=min(max(0, facts.duration_ms or 0), _LONGEST // timedelta(milliseconds=1) + 1))
    return lasted if lasted <= _LONGEST else timedelta()


def _witnesses(facts: Facts, name: str, lasted: timedelta) -> Iterator[tuple[TimeBasis, str, list[Span], list[Span]]]:
    """(who, what it says, its readings, other readings with which it still agrees)."""
    if times := _exif_times(facts.taken, facts.taken_zone):
        yield TimeBasis.EXIF, f"{facts.taken} {facts.taken_zone}".strip(), [(at, at) for at in times], []
    if times := _container_times(facts.created):
        # Some recorders write when they closed the file, not when they began.
        closed = [(at - lasted, at) for at in times]
        yield TimeBasis.CONTAINER, facts.created, [(at, at + lasted) for at in times], closed
    if match := _NAME.search(name):
        at = _time(*map(int, match.groups()))
        if at is not None:
            yield TimeBasis.FILENAME, match[0], [(at - lasted, at), (at, at + lasted)], []


def _weigh(
    basis: TimeBasis, raw: str, spans: list[Span], more: list[Span], file_time: datetime | None, held_at: datetime
) -> tuple[TimeSource, Span | None]:
    """The witness with its possible readings, and the span that it stands for."""
    possible = [span for span in spans if is_plausible(span[1], held_at)]
    readings = tuple(sorted({end for _, end in possible}))
    if file_time is None:
        return TimeSource(basis, raw, readings), possible[0] if possible else None
    near = [span for span in (*spans, *more) if abs(span[1] - file_time) <= CLOCK_TOLERANCE]
    nearest = min(near, key=lambda span: abs(span[1] - file_time), default=None)
    return TimeSource(basis, raw, readings, nearest is not None), nearest


def _best(told: list[tuple[TimeSource, Span | None]], by_file: Span | None) -> tuple[TimeBasis, Span | None]:
    """Whom to believe about begin and end: the file's time, told finer by the first witness that agrees with it."""
    for source, span in told:
        if span is not None and (source.agrees or by_file is None):
            return source.basis, span
    return TimeBasis.MTIME, by_file


def _exif_times(taken: str, zone: str) -> list[datetime]:
    match, offset = _EXIF.match(taken), _OFFSET.fullmatch(zone)
    at = _time(*map(int, match.groups())) if match else None
    if at is None or offset is None:
        return [at] if at is not None else []  # a camera without zone stands in China
    minutes = int(offset[2]) * 60 + int(offset[3])
    if minutes >= 24 * 60:
        return [at]
    return [at.replace(tzinfo=timezone(timedelta(minutes=-minutes if offset[1] == "-" else minutes))).astimezone(ZONE)]


def _container_times(created: str) -> list[datetime]:
    """As UTC, which the standards ask for, and as UTC+8, which many recorders write there."""
    try:
        at = datetime.fromisoformat(created)
    except ValueError:
        try:
            at = datetime.strptime(created, _LETTERS).replace(tzinfo=UTC)
        except ValueError:
            return []
    if at.year in (1, 1904, 1970, 9999):
        return []  # a field that nobody filled in
    if at.utcoffset():
        return [at.astimezone(ZONE)]
    return [at.replace(tzinfo=UTC).astimezone(ZONE), at.replace(tzinfo=ZONE)]


def _time(*parts: int) -> datetime | None:
    try:
        year, month, day, hour, minute, second = parts
        return datetime(year, month, day, hour, minute, second, tzinfo=ZONE)
    except ValueError:
        return None
