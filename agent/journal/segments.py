"""What a recording is to the activity it belongs to: a span of time, as sure as its recorder's clock allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from agent.continuity import GAP_LIMIT, START_LIMIT, Continuity, Expected, Segment, join
from agent.deadline import CLOCK_TOLERANCE, instant
from agent.journal.views import ActivityView, RecordingView, SessionView
from agent.model import ClockTrust, FindingKind, Integrity, Measured, MediaFinding, Medium, SegmentTaken, source_id

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST: Final = timedelta(days=1)
_TRUSTED: Final = (ClockTrust.UNMEASURED, ClockTrust.STATED)


def segment_of(row: RecordingView) -> Segment:
    """The span of a recording by its content, or by its file's stamps until that was read.

    Without a place if its clock can't be trusted, or if nothing tells how long it lasts.
    """
    recording, time = row.recording, row.time
    if row.segment is not None and time.clock_trust is ClockTrust.UNMEASURED and time.earliest is not None:
        return _recorded_here(row, row.segment)
    facts, lasts = row.facts, _lasts(row)
    end = time.made_end or time.latest
    cut = facts is not None and facts.integrity is Integrity.TRUNCATED
    segment = Segment(recording.recording_id, recording.device_id, end, end, slack=CLOCK_TOLERANCE, truncated=cut)
    if time.clock_trust in _TRUSTED and time.earliest is not None:
        if lasts is not None:
            return _with_holes(replace(segment, start=end - lasts), row.findings)
        stamped = _stamped(row)
        since = time.earliest - stamped if stamped is not None else _LONG_AGO
        return replace(segment, start=since, placed=False)
    since = _LONG_AGO if time.earliest is None or lasts is None else time.earliest - lasts
    until = max(time.latest, time.later or time.latest)
    return replace(segment, start=since, end=until, placed=False, lasts=lasts)


def _recorded_here(row: RecordingView, segment: SegmentTaken) -> Segment:
    """All sources of a room have this station's clock, which the recorder noted at each end of the file."""
    cut = row.facts is not None and row.facts.integrity is Integrity.TRUNCATED
    recording = row.recording
    span = (recording.recording_id, recording.device_id, segment.start, segment.end)
    return _with_holes(Segment(*span, truncated=cut), row.findings)


def _with_holes(segment: Segment, findings: Iterable[MediaFinding]) -> Segment:
    """With the times that its own time stamps leave out, if that is more than a recorder loses by itself."""
    holes = []
    for one in findings:
        if one.kind is FindingKind.GAP and one.start_ms is not None and one.end_ms is not None:
            start, end = (segment.start + timedelta(milliseconds=at_ms) for at_ms in (one.start_ms, one.end_ms))
            if end - start > GAP_LIMIT:
                holes.append((min(start, segment.end), min(end, segment.end)))
    return replace(segment, holes=tuple(sorted(holes)))


def continuity_of(view: ActivityView) -> Continuity:
    """What the recordings of an activity cover of the time on site, and what each source of a room has not."""
    parts = map(segment_of, view.recordings)
    return join(view.stated.arrived_at, view.stated.left_at, parts, expected_of(view.sessions))


def expected_of(sessions: Iterable[SessionView]) -> Iterator[Expected]:
    """The sources of sessions in rooms, each from the start of its session to the end, if that has come."""
    for started, ended in ((one.started, one.ended) for one in sessions):
        until, due = ended.ended_at if ended else None, started.started_at + START_LIMIT
        for source in started.sources:
            yield Expected(source_id(started.room, source), started.started_at, until, due)


def _lasts(row: RecordingView) -> timedelta | None:
    """How long it lasts: as its content says; until that was read, as the recorder's own stamps of its file do.

    What only a header claims is believed no further than the stamps.
    """
    facts, stamped = row.facts, _stamped(row)
    if facts is None:
        return stamped if row.segment is None else row.segment.end - row.segment.start
    if facts.medium is Medium.PHOTO:
        return timedelta()
    if facts.duration_ms is None or not 0 <= facts.duration_ms <= _LONGEST // timedelta(milliseconds=1):
        return None
    lasts = timedelta(milliseconds=facts.duration_ms)
    return min(lasts, stamped) if facts.measured is Measured.HEADER and stamped is not None else lasts


def _stamped(row: RecordingView) -> timedelta | None:
    """From the first stamp of its file to the last: the clock may be wrong, and cancels out."""
    if row.clip is None:
        return None
    created, modified = instant(row.clip.created), instant(row.clip.modified)
    if created is None or modified is None:
        return None
    lasts = modified - created
    return lasts if timedelta() <= lasts <= _LONGEST else None
