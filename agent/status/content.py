"""What the content of a recording says, as the screens and answers tell it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from agent.journal.views import RecordingView
from agent.model import CaptureTime, Facts
from agent.status.reasons import reason_words
from agent.status.words import at, named

Json = dict[str, Any]


def content_view(row: RecordingView) -> Json:
    """`facts` (null until the content was read), when it was made (制作时间) and who says so."""
    return {"facts": _facts(row.facts) if row.facts is not None else None, "made": made_view(row.time)}


def made_view(time: CaptureTime) -> Json:
    """Begin and end of the recording, null where nothing tells, and every witness with what it says."""
    return {
        "start": at(time.made_start),
        "end": at(time.made_end),
        "basis": named(time.basis),
        "later": at(time.later),
        "sources": [
            {
                "basis": named(source.basis),
                "raw": source.raw,
                "readings": [at(reading) for reading in source.readings],
                "agrees": source.agrees,
            }
            for source in time.sources
        ],
    }


def made_lines(made: Json) -> Iterator[str]:
    """The same as lines of an explanation."""
    if made["end"]:
        basis = f"{made['basis']['zh']} ({made['basis']['en']})"
        yield f"制作时间 made    {made['start'] or '（不明 unknown）'} … {made['end']}  来源 by {basis}"
    for source in made["sources"]:
        told = "一致 agrees" if source["agrees"] else "不一致 differs" if source["readings"] else "不采信 not plausible"
        ends = "：" + "、".join(source["readings"]) if source["readings"] else ""
        yield f"  {source['basis']['zh']} ({source['basis']['en']}) {source['raw']}  {told}{ends}"


def _facts(facts: Facts) -> Json:
    return {
        "integrity": named(facts.integrity) | {"reason": reason_words(facts.reason) if facts.reason else None},
        "container": facts.container,
        "duration_ms": facts.duration_ms,
        "measured": named(facts.measured),
        "header_ms": facts.header_ms,
        "streams": [asdict(stream) for stream in facts.streams],
        "stream_count": facts.stream_count,
        "created": facts.created,
        "exif": {"taken": facts.taken, "zone": facts.taken_zone} if facts.taken else None,
        "gps": facts.gps or None,
        "signed_stream": facts.signed_stream or None,
    }
