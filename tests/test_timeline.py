"""The strip shows each finding where it is, by words and pattern, whatever the numbers are."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.access.timeline import NAMES, timeline_svg
from agent.model import FindingKind, MediaFinding

SVG = "{http://www.w3.org/2000/svg}"
LEFT, RIGHT = 220, 940
TIMES = st.none() | st.integers(-(1 << 40), 1 << 40)
FINDINGS = st.builds(MediaFinding, st.sampled_from(FindingKind), TIMES, TIMES, detail=st.just("<script>"))


def bars(text: str) -> dict[str, list[tuple[int, int]]]:
    """(from, to) in pixels of each kind's marks."""
    found: dict[str, list[tuple[int, int]]] = {}
    for rect in ET.fromstring(text).iter(f"{SVG}rect"):
        if (fill := rect.get("fill", "")).startswith("url(#"):
            x = int(rect.attrib["x"])
            found.setdefault(fill[5:-1], []).append((x, x + int(rect.attrib["width"])))
    return found


def test_findings_are_where_they_were_found() -> None:
    text = timeline_svg(
        720_000,
        [
            MediaFinding(FindingKind.SILENT, 360_000, 720_000),
            MediaFinding(FindingKind.BLACK, 0, 100_000),
            MediaFinding(FindingKind.BLACK, 200_000, 300_000),
            MediaFinding(FindingKind.BACKWARDS, 400_000),
            MediaFinding(FindingKind.ZEROS, offset_bytes=5, length_bytes=7),
        ],
    )
    assert bars(text) == {"black": [(220, 320), (420, 520)], "silent": [(580, 940)], "backwards": [(620, 622)]}
    told = ET.fromstring(text).findtext(f"{SVG}desc")
    assert told is not None
    assert "黑屏 black picture：00:00:00–00:01:40、00:03:20–00:05:00" in told
    assert "无声 silent：00:06:00–00:12:00" in told


def test_nothing_found_is_said_in_words() -> None:
    text = timeline_svg(5000, [])
    assert "未检出异常 nothing was found" in text
    assert bars(text) == {}


@pytest.mark.parametrize("kind", FindingKind)
def test_every_kind_is_known_without_its_colour(kind: FindingKind) -> None:
    found = [MediaFinding(one, 10, 20) for one in FindingKind]
    text = timeline_svg(100, found)
    root = ET.fromstring(text)
    assert " ".join(NAMES[kind]) in [node.text for node in root.iter(f"{SVG}text")]
    patterns = {node.attrib["id"]: node[1].attrib["d"] for node in root.iter(f"{SVG}pattern")}
    assert len(set(patterns.values())) == len(FindingKind)


@given(st.integers(0, 1 << 40), st.lists(FINDINGS, max_size=60))
def test_any_findings_give_one_small_picture_that_is_the_same_again(duration: int, found: list[MediaFinding]) -> None:
    text = timeline_svg(duration, found)
    assert text == timeline_svg(duration, reversed(found))
    assert len(text) < 40_000
    assert "script" not in text
    assert set(bars(text)) == {one.kind for one in found if one.start_ms is not None}
    for marks in bars(text).values():
        assert all(LEFT <= start < end <= RIGHT for start, end in marks)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(marks))


def test_a_thousand_findings_stay_a_picture() -> None:
    found = [MediaFinding(kind, at * 7, at * 7 + 1) for at in range(20_000) for kind in FindingKind]
    assert len(timeline_svg(140_000, found)) < 200_000
