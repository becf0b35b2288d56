"""Promise: a session of thousands of gaps is read as quickly as one of few, and shows each of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent.access.playlist import Listed, m3u8
from agent.config.rooms import Room, Source
from agent.model import SessionNoted
from agent.status.rooms import ledger_view
from agent.status.session_strip import session_svg
from agent.status.sessions import _explained, _in_words, _Spans
from tests.journal_entries import segment_taken

BEGAN = datetime(2026, 11, 23, 9, tzinfo=UTC)
ROOM = Room("xunwen", "第一询问室", (Source("face", "正面"), Source("wide", "全景")))
SPANS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 30)).map(lambda ends: (min(ends), max(ends))), max_size=12
)


def at(second: float) -> datetime:
    return BEGAN + timedelta(seconds=second)


def gap(source: str, start: float, end: float | None, cause: str = "closed", kind: str = "gap") -> SessionNoted:
    return SessionNoted("s1", source, kind, at(start), None if end is None else at(end), cause)


def of_activity(number: int, source: str, start: float, end: float) -> dict[str, Any]:
    times = {"from": at(start).isoformat(), "to": at(end).isoformat()}
    return {"number": number, "source": source, "state": {"name": "open"}, "explanation": None, **times}


def view(notes: list[SessionNoted]) -> dict[str, Any]:
    sources = [
        {"source": "face", "title": "正面", "spans": [{"start": at(0).isoformat(), "end": at(9000).isoformat()}]}
    ]
    times = {"started_at": at(0).isoformat(), "ended_at": at(9000).isoformat()}
    return {"session_id": "s1", "sources": sources, "ledger": ledger_view(notes, ROOM, at(9000)), **times}


@given(SPANS, SPANS)
def test_spans_are_found_by_what_they_share(things: list[tuple[int, int]], asked: list[tuple[int, int]]) -> None:
    known = _Spans((at(start), at(end), number) for number, (start, end) in enumerate(things))
    for start, end in asked:
        shared = [number for number, (since, until) in enumerate(things) if since < end and start < until]
        assert sorted(known.meeting(at(start), at(end))) == shared


def test_each_line_knows_its_gaps_of_the_activity_and_each_of_these_its_causes() -> None:
    notes = [gap("face", 10, 20), gap("wide", 12, 18, "stalled"), gap("wide", 40, None, "refused"), gap("face", 60, 70)]
    activity = {"gaps": [of_activity(1, "", 12, 18), of_activity(2, "face", 10, 20), of_activity(3, "wide", 41, 50)]}
    _in_words(activity, ROOM, notes)
    assert [[cause["name"] for cause in one["causes"]] for one in activity["gaps"]] == [
        ["closed", "stalled"], ["closed"], ["refused"],
    ]  # fmt: skip
    assert [one["proposed"] for one in activity["gaps"]] == ["INT-12", "INT-12", "INT-12"]
    ledger = _explained(ledger_view([*notes[:2], notes[3]], ROOM, at(99)), [activity])
    assert [[one["number"] for one in line["gaps"]] for line in ledger] == [[1, 2], [1], []]


def test_a_camera_that_comes_and_goes_all_day_keeps_nobody_waiting() -> None:
    """Six thousand gaps are as many as an activity has recordings; each against each took minutes."""
    notes = [gap("face", 8 * number, 8 * number + 4) for number in range(6000)]
    activity = {"gaps": [of_activity(number, "face", 8 * number, 8 * number + 4) for number in range(6000)]}
    _in_words(activity, ROOM, notes)
    ledger = _explained(ledger_view(notes, ROOM, at(9000)), [activity])
    assert [[one["number"] for one in line["gaps"]] for line in ledger] == [[number] for number in range(6000)]


def test_gaps_are_drawn_before_all_else_that_was_noticed() -> None:
    noticed = [gap("face", number, number + 0.5, "", "dropped") for number in range(400)]
    drawn = session_svg(view([*noticed, gap("face", 8000, 8100)]), "en")
    assert drawn.count('class="gap"') == 1


@given(st.lists(st.tuples(st.integers(1, 90_000), st.integers(0, 90_000)), min_size=1, max_size=6))
def test_no_segment_of_a_playlist_is_longer_than_it_says(lengths_ms: list[tuple[int, int]]) -> None:
    """RFC 8216, 4.3.3.1: rounded, each is at most the target duration."""
    segments = []
    for number, (clock_ms, media_ms) in enumerate(lengths_ms):
        facts: Mapping[str, object] = {"media_us": 1000 * media_ms}
        start = at(100 * number)
        end = start + timedelta(milliseconds=clock_ms)
        taken = replace(segment_taken(f"k{number}"), start=start, end=end, facts=facts)
        segments.append((taken, taken.asset))
    lines = m3u8(Listed("face", "正面", segments, {}, None)).decode().splitlines()
    (target,) = (int(line.partition(":")[2]) for line in lines if line.startswith("#EXT-X-TARGETDURATION"))
    shown = [float(line.partition(":")[2].partition(",")[0]) for line in lines if line.startswith("#EXTINF")]
    assert len(shown) == len(segments)
    assert all(int(length_s + 0.5) <= target for length_s in shown)
