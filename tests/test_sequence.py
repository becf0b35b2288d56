"""Numbering gaps are found where a recorder counts, and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.sequence import RANGES_LIMIT, find_gaps, split_counter

DCF = "DCIM/100MEDIA"


@pytest.mark.parametrize(
    ("folder", "name", "expected"),
    [
        (DCF, "MOVI0001.MP4", ("DCF", 1)),
        (DCF, "FRAG0003.JPG", ("DCF", 3)),
        ("DCIM/100MSDCF", "DSC09999.JPG", ("DCF", 9999)),
        ("VIDEO", "MOVI0001.MP4", ("MOVI#", 1)),
        (
            "V",
            "370100_张三_20260131_093015_医保定点机构现场检查_0007.MP4",
            ("370100_张三_<time>_医保定点机构现场检查_#", 7),
        ),
        ("V", "DSJ-H7-00123_20260131093015_0042.mp4", ("DSJ-H7-00123_<time>_#", 42)),
        ("V", "20150910070618-070619-M00_507.mov", ("<time>-070619-M00_#", 507)),
        ("V", "20260131-0005.wav", ("<date>-#", 5)),
        ("V", "2026-01-31 09-30-15.mp4", None),
        ("V", "20260131.mp4", None),
        ("V", "readme.txt", None),
        ("V", "a12.txt", None),
        ("V", "12345678901.bin", None),
    ],
)
def test_the_counter_is_told_from_dates_and_times(folder: str, name: str, expected: tuple[str, int] | None) -> None:
    assert split_counter(folder, name) == expected


def test_in_a_dcf_folder_a_number_is_one_object_whatever_its_prefix() -> None:
    names = [(DCF, "MOVI0001.MP4"), (DCF, "FRAG0002.MP4"), (DCF, "MOVI0003.JPG"), (DCF, "MOVI0003.MP4")]
    assert find_gaps(names) == []


def test_missing_numbers_are_ranges_and_tombstones_explain_some() -> None:
    live = [(DCF, f"MOVI{number:04d}.MP4") for number in (1, 2, 5, 9)]
    (gap,) = find_gaps(live, [(DCF, "MOVI0003.MP4"), (DCF, "MOVI0012.MP4"), ("other", "MOVI0004.MP4")])
    assert (gap.first, gap.last, gap.ranges, gap.missing, gap.deleted) == (1, 9, ((3, 4), (6, 8)), 5, 1)


def test_folders_and_patterns_are_counted_apart() -> None:
    assert find_gaps([("a", "x001"), ("b", "x003"), ("a", "y005")]) == []


def test_numbers_too_sparse_for_a_counter_are_none() -> None:
    assert find_gaps([("a", "id_1000.mp4"), ("a", "id_9000.mp4")]) == []


def test_a_report_is_bounded() -> None:
    (gap,) = find_gaps([("a", f"x{number:06d}.mp4") for number in range(0, 4000, 2)])
    assert (len(gap.ranges), gap.missing) == (RANGES_LIMIT, 1999)


@given(st.sets(st.integers(1, 400), min_size=2))
def test_present_and_missing_numbers_make_up_the_whole(numbers: set[int]) -> None:
    gaps = find_gaps(("V", f"MOVI{number:04d}.MP4") for number in numbers)
    span = set(range(min(numbers), max(numbers) + 1))
    if not gaps:
        assert span == numbers or len(span) > 50 * len(numbers)
        return
    (gap,) = gaps
    listed = {number for low, high in gap.ranges for number in range(low, high + 1)}
    assert gap.missing == len(span - numbers)
    assert listed <= span - numbers
    assert listed == span - numbers or len(gap.ranges) == RANGES_LIMIT


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_name_is_answered(folder: str, name: str) -> None:
    split_counter(folder, name)
