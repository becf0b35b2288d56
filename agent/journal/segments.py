"""What a recording is to the activity it belongs to: a span of time, as sure as its recorder's clock allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from agent.continuity import Continuity, Segment, join
from agent.deadline import CLOCK_TOLERANCE, instant
from agent.journal.views import ActivityView, RecordingView
from agent.model import ClockTrust

_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LONGEST: Final = timedelta(days=1)
_TRUSTED: Final = (ClockTrust.UNMEASURED, ClockTrust.STATED)


def segment_of(row: RecordingView) -> Segment:
    """The span of a recording; without a place if the clock can't be trusted or its beginning isn't known."""
    recording = row.recording
    earliest, latest, trust = row.captured
    lasts = _lasts(row)
    if trust in _TRUSTED and earliest is not None and lasts is not None:
        return Segment(recording.recording_id, recording.device_id, latest - lasts, latest, slack=CLOCK_TOLERANCE)
    since = _LONG_AGO if earliest is None or lasts is None else earliest - lasts
    return Segment(recording.recording_id, recording.device_id, since, latest, placed=False, lasts=lasts)


def continuity_of(view: ActivityView) -> Continuity:
    """What the recordings of an activity cover of the time on site."""
    return join(view.stated.arrived_at, view.stated.left_at, map(segment_of, view.recordings))


def _lasts(row: RecordingView) -> timedelta | None:
    """How long it lasts, by the recorder's own stamps of its file: the clock may be wrong, and cancels out."""
    if row.clip is None:
        return None
    created, modified = instant(row.clip.created), instant(row.clip.modified)
    if created is None or modified is None:
        return None
    lasts = modified - created
    return lasts if timedelta() <= lasts <= _LONGEST else None
