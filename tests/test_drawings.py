"""Promise: a drawn month or activity says in words what it shows, stays inside its frame, and claims nothing."""

from __future__ import annotations

import re
from collections import Counter
from datetime import date, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agent.deadline import ZONE
from agent.statistics.report import DECIDED, Timeliness
from agent.status.heat import heat_svg, month_view
from agent.status.strip import strip_svg

NINE = datetime(2026, 11, 20, 9, tzinfo=ZONE)
COUNTS = some.dictionaries(some.sampled_from(Timeliness), some.integers(0, 50)).map(Counter)
DAYS = some.dictionaries(some.dates(date(2026, 2, 1), date(2026, 3, 31)), COUNTS)


@given(DAYS, some.sampled_from((2, 3)))
def test_each_day_counts_what_was_completed_on_it_and_is_in_time_only_if_all_of_it_is(
    days: dict[date, Counter[str]], month: int
) -> None:
    shown = month_view(2026, month, days)
    assert [one["day"].day for one in shown] == list(range(1, 29 if month == 2 else 32))
    for one in shown:
        counted = days.get(one["day"], Counter())
        assert one["in_time"] + one["late"] == one["decided"] == sum(counted[kind] for kind in DECIDED)
        if one["look"] == "intime":
            assert one["in_time"] > 0
            assert one["late"] == one["open"] == 0, "what is open may still be late"
    for lang in ("zh", "en"):
        drawn = ET.fromstring(heat_svg(shown, lang))
        assert len(drawn.findall("{*}rect")) == len(shown)
        assert drawn.find("{*}title") is not None
        told = drawn.findtext("{*}desc") or ""
        assert told.count(";") == max(0, sum(one["look"] != "none" for one in shown) - 1)


def activity(parts: list[tuple[int, int]], gaps: list[tuple[int, int]]) -> dict[str, Any]:
    """An activity of an hour; minutes from its beginning."""

    def at(minute: int) -> str:
        return (NINE + timedelta(minutes=minute)).isoformat()

    state = {"name": "unexplained", "zh": "中断未说明", "en": "not explained"}
    return {
        "activity_id": '"><script>', "stage": {"zh": "<b>现场</b>", "en": "<b>site</b>"},
        "arrived_at": at(0), "left_at": at(60),
        "recordings": [{"from": at(start), "to": at(start + lasts), "placed": True} for start, lasts in parts],
        "gaps": [
            {"from": at(start), "to": at(start + lasts), "state": state, "source": ""}
            for start, lasts in gaps
        ],
    }  # fmt: skip


SPANS = some.lists(some.tuples(some.integers(-90, 90), some.integers(0, 90)), max_size=8)


@given(SPANS, SPANS)
def test_all_of_an_activity_is_drawn_inside_its_frame_and_told(
    parts: list[tuple[int, int]], gaps: list[tuple[int, int]]
) -> None:
    svg = strip_svg(activity(parts, gaps), "zh")
    drawn = ET.fromstring(svg)
    _, _, width, height = map(float, drawn.attrib["viewBox"].split())
    bars = drawn.findall("{*}rect")
    assert len(bars) == 1 + len(parts) + len(gaps)
    for bar in bars:
        x, y, wide, high = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert 0 <= x < x + wide <= width
        assert 0 <= y < y + high <= height
    assert (drawn.findtext("{*}desc") or "").count("中断 ") == len(gaps)
    assert "<script>" not in svg


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_drawing_brings_no_style_and_no_script_of_its_own(lang: str) -> None:
    for svg in (strip_svg(activity([(0, 10)], [(10, 5)]), lang), heat_svg(month_view(2026, 11, {}), lang)):
        assert re.findall(r"style|script|on\w+=|href", svg.replace("&lt;script&gt;", "")) == []
