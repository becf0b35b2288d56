"""Segments on a film's timeline: each once, whole, in order; a card exactly where nothing was recorded."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from agent.access.laying import CARD_US, CAUSES, Missing, Part, lay, places
from agent.access.timeline import session_svg
from agent.model import Facts, FindingKind, Medium
from agent.model.facts import Integrity
from agent.rooms.protocol import Cause

ZERO_US = 1_780_000_000_000_000
FACTS = Facts(Medium.VIDEO, Integrity.COMPLETE)
MINUTE_US = 60_000_000


def parts(*spans: tuple[int, int]) -> list[Part]:
    return [Part(str(n), Path(str(n)), FACTS, ZERO_US + a, ZERO_US + b) for n, (a, b) in enumerate(spans)]


pauses = st.lists(
    st.tuples(st.integers(0, 20_000_000), st.integers(40_000, MINUTE_US), st.integers(-900_000, 900_000)), max_size=20
)
"""For each segment: the pause before it, how long it was recorded, by how much longer it plays (the camera's clock)."""


@given(pauses, st.integers(0, 20_000_000))
def test_each_segment_is_shown_once_and_each_gap_has_a_card(segments: list[tuple[int, int, int]], rest_us: int) -> None:
    spans, lengths, at = [], [], 0
    for pause, lasts, drift in segments:
        spans.append((at + pause, at + pause + lasts))
        lengths.append(max(1, lasts + drift))
        at += pause + lasts
    pieces = lay("", parts(*spans), lengths, (), (ZERO_US, ZERO_US + at + rest_us))
    assert [piece.part for piece in pieces if piece.part is not None] == list(range(len(segments)))
    assert [piece.lasts_us for piece in pieces if piece.part is not None] == lengths
    assert all(one.at_us + one.lasts_us == other.at_us for one, other in pairwise(pieces))
    assert not pieces or pieces[0].at_us == 0
    gaps = sum(pause >= CARD_US for pause, _, _ in segments) + (rest_us >= CARD_US)
    assert sum(piece.part is None for piece in pieces) == gaps
    assert all(piece.lasts_us >= CARD_US for piece in pieces if piece.part is None)


def test_after_a_gap_the_film_is_on_the_stations_clock_again() -> None:
    """A camera whose clock is 1 % slow plays 600 ms less each minute, until it is interrupted."""
    slow = MINUTE_US * 99 // 100
    spans = [(0, MINUTE_US), (MINUTE_US, 2 * MINUTE_US), (2 * MINUTE_US + 9_000_000, 3 * MINUTE_US)]
    pieces = lay("", parts(*spans), [slow] * 3, (), (ZERO_US, ZERO_US + 3 * MINUTE_US))
    assert [piece.part for piece in pieces] == [0, 1, None, 2]
    assert pieces[3].at_us == 2 * MINUTE_US + 9_000_000


def test_a_card_says_what_the_ledger_says_of_its_gap() -> None:
    missing = (
        Missing(ZERO_US + 1_000_000, ZERO_US + 3_000_000, "甲"),
        Missing(ZERO_US + 60_000_000, ZERO_US + 90_000_000, "乙"),
    )
    spans = [(5_000_000, 60_000_000), (90_000_000, 120_000_000)]
    first, _, second, _, last = lay(
        "前方", parts(*spans), [55_000_000, 30_000_000], missing, (ZERO_US, ZERO_US + 122_000_000)
    )
    assert first.lines[-1] == "原因：甲"
    assert second.lines == (
        "前方", "本时段无录像", "NOTHING WAS RECORDED", "2026-05-29 04:27:40 至 04:28:10（00:00:30）", "原因：乙",
    )  # fmt: skip
    assert last.lines[-1] == "原因：未知 (unknown)"
    assert set(CAUSES) == set(Cause), "each cause has words"


def test_a_card_says_what_a_person_said_of_the_gap_beside_what_the_ledger_knows() -> None:
    said = Missing(ZERO_US + 5_000_000, ZERO_US + 9_000_000, "INT-12 网络/供电中断", is_said=True)
    near = Missing(ZERO_US + 9_100_000, ZERO_US + 9_900_000, "说在别处", is_said=True)
    ledger = Missing(ZERO_US + 5_000_000, ZERO_US + 8_000_000, "断开")
    pieces = lay(
        "前方", parts((0, 5_000_000), (9_000_000, 14_000_000), (14_400_000, 15_000_000)),
        [5_000_000, 5_000_000, 600_000], [near, said, ledger], (ZERO_US, ZERO_US + 15_000_000),
    )  # fmt: skip
    (card,) = (piece for piece in pieces if piece.part is None)
    assert card.lines[-2:] == ("原因：断开", "说明：INT-12 网络/供电中断")


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20), st.booleans()), max_size=8))
def test_which_words_a_card_has_does_not_depend_on_how_many_there_are(known: list[tuple[int, int, bool]]) -> None:
    """Of all that shares the most time with it, as if each card looked at everything."""
    missing = [
        Missing(ZERO_US + begin * 250_000, ZERO_US + (begin + lasts) * 250_000, f"{number}", is_said=said)
        for number, (begin, lasts, said) in enumerate(known)
    ]
    first, _ = lay("", parts((5_000_000, 15_000_000)), [10_000_000], missing, (ZERO_US, ZERO_US + 15_000_000))
    shared = {one.reason: min(5_000_000, one.end_us - ZERO_US) - (one.start_us - ZERO_US) for one in missing}
    ledger = [shared[one.reason] for one in missing if not one.is_said and shared[one.reason] > -500_000]
    told = [line.removeprefix("原因：") for line in first.lines if line.startswith("原因：")]
    assert [shared[told[0]]] == [max(ledger)] if ledger else told == ["等待第一幅画面 (until the first picture came)"]
    said = [shared[one.reason] for one in missing if one.is_said and shared[one.reason] > 0]
    told = [line.removeprefix("说明：") for line in first.lines if line.startswith("说明：")]
    assert [shared[one] for one in told] == ([max(said)] if said else [])


def test_what_is_found_in_a_film_is_told_of_its_segments() -> None:
    pieces = lay(
        "", parts((0, 10_000_000), (20_000_000, 30_000_000)), [10_000_000] * 2, (), (ZERO_US, ZERO_US + 30_000_000)
    )
    assert list(places(pieces, [(9_000, 21_000), (15_000, 16_000)])) == [(0, 9_000, 10_000), (1, 0, 1_000)]


def test_the_time_axis_of_a_session_names_its_sources_whatever_they_are_called() -> None:
    hostile = "<script>&\"'"
    drawn = session_svg(60_000, [(hostile, {FindingKind.GAP: [(1000, 9000)], FindingKind.BLACK: []}), ("后方", {})])
    assert "<script>" not in drawn
    assert "00:00:01–00:00:09" in drawn
    assert drawn.count('class="l"') == 3
    assert ET.fromstring(drawn).tag.endswith("svg")
