"""Findings are facts in order, within the recording, so many and no more; each means one thing only."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.access import looking
from agent.access.findings import KIND_LIMIT, findings_document, findings_of
from agent.access.inspecting import Inspection, Track
from agent.access.looking import NOTHING_DETECTED, Detected
from agent.access.scanning import Scanned
from agent.model import Facts, FindingKind, Integrity, MediaFinding, Medium, StreamFacts

WHOLE = Facts(Medium.VIDEO, Integrity.COMPLETE, streams=(StreamFacts("video", "h264"), StreamFacts("audio", "aac")))
NOTHING = Scanned("0" * 64)
TRACK = Track("video", "h264", 60, 0, 60_000, frames=60, shown_ms=0, bad=0, jumped=0, jumps=(), undecodable=())
SOUND = replace(TRACK, kind="audio", codec="aac")
TRACKS = (TRACK, SOUND)


def found(
    *tracks: Track, facts: Facts = WHOLE, scanned: Scanned = NOTHING, detected: Detected = NOTHING_DETECTED
) -> list[MediaFinding]:
    return list(findings_of(facts, Inspection(tracks or TRACKS, ended=True), scanned, detected))


def test_a_whole_recording_has_none() -> None:
    assert found() == []


def test_what_was_seen_and_heard_comes_by_time() -> None:
    detected = Detected(black=((5000, 8000), (20_000, 61_000)), frozen=((8000, 20_000),), silent=((1000, 60_000),))
    assert [(one.kind, one.start_ms, one.end_ms) for one in found(detected=detected)] == [
        ("silent", 1000, 60_000),
        ("black", 5000, 8000),
        ("frozen", 8000, 20_000),
        ("black", 20_000, 60_000),
    ]


def test_time_stamps_that_jump_are_a_gap_or_go_back() -> None:
    picture = replace(TRACK, span_ms=60_000, jumps=((10_000, 5000), (20_000, 900), (30_000, -4000), (40_000, -50)))
    assert found(picture, TRACKS[1]) == [
        MediaFinding(FindingKind.GAP, 10_000, 15_000, detail="video"),
        MediaFinding(FindingKind.BACKWARDS, 26_000, 30_000, detail="video"),
    ]


def test_tracks_that_begin_or_end_apart_are_told() -> None:
    assert found(TRACKS[0], replace(SOUND, first_ms=700, span_ms=50_000)) == [
        MediaFinding(FindingKind.OFFSET, 0, 700, detail="the sound begins later"),
        MediaFinding(FindingKind.OFFSET, 50_700, 60_000, detail="the sound ends earlier"),
    ]
    assert found(TRACKS[0], replace(SOUND, first_ms=300, span_ms=59_300)) == []
    assert found(TRACKS[0]) == []


def test_undecodable_ranges_close_to_each_other_are_one_and_a_dead_track_is_all_of_it() -> None:
    picture = replace(TRACK, span_ms=60_000, undecodable=((1000, 1100), (1500, 1600), (9000, 9100)))
    dead = replace(SOUND, packets=5, frames=0, span_ms=60_000)
    assert found(picture, dead) == [
        MediaFinding(FindingKind.UNDECODABLE, 0, 60_000, detail="audio"),
        MediaFinding(FindingKind.UNDECODABLE, 1000, 1600, detail="video"),
        MediaFinding(FindingKind.UNDECODABLE, 9000, 9100, detail="video"),
    ]


def test_zeros_are_told_where_they_can_t_be_content() -> None:
    zeros = Scanned("0" * 64, ((0, 100_000), (1 << 21, 2 << 20)), 2, 100_000 + (2 << 20))

    def places(*codecs: str) -> list[int | None]:
        facts = Facts(Medium.VIDEO, Integrity.COMPLETE, streams=tuple(StreamFacts("", codec) for codec in codecs))
        return [one.offset_bytes for one in found(facts=facts, scanned=zeros) if one.kind is FindingKind.ZEROS]

    assert places("h264", "aac") == [0, 1 << 21]
    assert places("mjpeg", "pcm_s16le") == [1 << 21]
    assert places("pcm_s16le") == []
    assert places() == [0, 1 << 21]


@pytest.mark.parametrize(
    ("integrity", "reason", "kinds"),
    [
        (Integrity.COMPLETE, "", []),
        (Integrity.TRUNCATED, "the index (moov) is missing", ["cut"]),
        (Integrity.SUSPECT, "the last 9.0 s that its header tells of are missing", ["cut"]),
        (Integrity.SUSPECT, "a packet is damaged", []),
        (Integrity.UNREADABLE, "Invalid data", ["undecodable"]),
    ],
)
def test_what_is_missing_or_not_to_be_understood_is_said(integrity: Integrity, reason: str, kinds: list[str]) -> None:
    told = found(facts=Facts(Medium.VIDEO, integrity, reason))
    assert [one.kind for one in told] == kinds
    assert all(one.detail == reason for one in told)


def test_what_could_not_be_read_to_its_end_is_said() -> None:
    (one,) = findings_of(WHOLE, Inspection(TRACKS, ended=False, reason="it takes too long"), NOTHING)
    assert (one.kind, one.start_ms) == (FindingKind.UNDECODABLE, None)
    assert "it takes too long" in one.detail


def test_a_photo_is_never_black_or_silent() -> None:
    facts = Facts(Medium.PHOTO, Integrity.TRUNCATED, "no end mark", streams=(StreamFacts("video", "mjpeg"),))
    zeros = Scanned("0" * 64, ((0, 100_000),), 1, 100_000)
    kinds = {one.kind for one in found(facts=facts, scanned=zeros, detected=Detected(black=((0, 5000),)))}
    assert kinds == {FindingKind.CUT}


NUMBERS = st.integers(-(1 << 40), 1 << 40)
PAIRS = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20).map(tuple)
SPANS = st.lists(st.tuples(NUMBERS, NUMBERS).map(lambda ends: (min(ends), max(ends))), max_size=20).map(tuple)
ANY_TRACK = st.builds(
    Track, st.sampled_from(["video", "audio", "data"]), st.just("h264"), packets=st.integers(0, 5),
    first_ms=st.none() | NUMBERS, span_ms=st.none() | NUMBERS, frames=st.integers(0, 5), shown_ms=st.none(),
    bad=st.just(0), jumped=st.just(0), jumps=PAIRS, undecodable=SPANS,
)  # fmt: skip


@given(st.lists(ANY_TRACK, max_size=4).map(tuple), SPANS, SPANS, st.sampled_from(Integrity), st.text(max_size=300))
def test_findings_are_in_order_and_within_the_recording(
    tracks: tuple[Track, ...],
    black: tuple[tuple[int, int], ...],
    silent: tuple[tuple[int, int], ...],
    integrity: Integrity,
    reason: str,
) -> None:
    source = Inspection(tracks, ended=not reason, reason=reason)
    told = findings_of(Facts(Medium.VIDEO, integrity, reason), source, NOTHING, Detected(black, silent=silent))
    lasts_ms = looking.lasts(source)
    assert [one.start_ms for one in told if one.start_ms is not None] == sorted(
        one.start_ms for one in told if one.start_ms is not None
    )
    for one in told:
        assert one.detail.isprintable()
        assert len(one.detail) <= 250
        if one.start_ms is not None:
            assert one.end_ms is not None
            assert 0 <= one.start_ms <= one.end_ms <= lasts_ms
    for kind in (FindingKind.BLACK, FindingKind.SILENT):
        mine = [one for one in told if one.kind is kind]
        assert all(a.end_ms < b.start_ms for a, b in pairwise(mine) if a.end_ms and b.start_ms)
    assert told == findings_of(Facts(Medium.VIDEO, integrity, reason), source, NOTHING, Detected(black, silent=silent))
    json.loads(findings_document(told, NOTHING, "ffmpeg 5"))


def test_so_many_of_a_kind_are_told_and_how_many_more_there_are() -> None:
    jumps = tuple((at * 10_000, -500) for at in range(1, 2 * KIND_LIMIT + 1))
    told = found(replace(TRACK, span_ms=1 << 40, jumps=jumps))
    assert len(told) == KIND_LIMIT
    assert told[-1].detail == f"video, and {KIND_LIMIT} more"


def test_the_document_is_canonical_and_tells_how_it_was_found() -> None:
    told = (
        MediaFinding(FindingKind.BLACK, 1, 2000),
        MediaFinding(FindingKind.ZEROS, offset_bytes=0, length_bytes=65536),
    )
    text = findings_document(told, Scanned("ab" * 32, ((0, 65536),), 1, 65536), "ffmpeg 5.1")
    document = json.loads(text)
    assert text == (json.dumps(document, sort_keys=True, separators=(",", ":")) + "\n").encode()
    assert document["findings"] == [
        {"kind": "black", "start_ms": 1, "end_ms": 2000},
        {"kind": "zeros", "offset_bytes": 0, "length_bytes": 65536},
    ]
    assert (document["tool"], document["thresholds"]["black_ms"], document["blake3"]) == ("ffmpeg 5.1", 2000, "ab" * 32)


def test_what_stands_still_because_time_leaps_or_nothing_can_be_decoded_is_not_frozen() -> None:
    picture = replace(TRACK, jumps=((10_000, 9000),), undecodable=((30_000, 40_000),))
    detected = Detected(frozen=((9900, 19_100), (30_100, 39_900), (40_000, 50_000)), silent=((9900, 39_900),))
    assert [(one.kind, one.start_ms, one.end_ms) for one in found(picture, SOUND, detected=detected)] == [
        ("silent", 9900, 39_900),
        ("gap", 10_000, 19_000),
        ("undecodable", 30_000, 40_000),
        ("frozen", 40_000, 50_000),
    ]
