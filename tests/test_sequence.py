"""The counter in a file's name is told from dates and times, and a mark doesn't change it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sequence import counter_of, name_of

DCF = "DCIM/100MEDIA"


@pytest.mark.parametrize(
    ("folder", "name", "expected"),
    [
        (DCF, "MOVI0001.MP4", ("DCF", 1, 4, "")),
        (DCF, "FRAG0003.JPG", ("DCF", 3, 4, "")),
        (DCF, "?OVI0005.MP4", ("DCF", 5, 4, "")),
        ("DCIM/100MSDCF", "DSC09999.JPG", ("DCF", 9999, 4, "")),
        ("VIDEO", "MOVI0001.MP4", ("MOVI#", 1, 4, "")),
        (
            "V",
            "370100_张三_20260131_093015_医保定点机构现场检查_0007.MP4",
            ("370100_张三_<time>_医保定点机构现场检查_#", 7, 4, "20260131"),
        ),
        ("V", "DSJ-H7-00123_20260131093015_0042.mp4", ("DSJ-H7-00123_<time>_#", 42, 4, "20260131")),
        ("V", "DSJ-H7-00123_20260131093015_0042IMP.mp4", ("DSJ-H7-00123_<time>_#", 42, 4, "20260131")),
        ("V", "20150910070618-070619-M00_507.mov", ("<time>-070619-M00_#", 507, 3, "20150910")),
        ("V", "20260131-0005.wav", ("<date>-#", 5, 4, "20260131")),
        ("V", "2026-01-31 09-30-15.mp4", None),
        ("V", "20260131.mp4", None),
        ("V", "readme.txt", None),
        ("V", "a12.txt", None),
        ("V", "12345678901.bin", None),
    ],
)
def test_the_counter_is_told_from_dates_and_times(folder: str, name: str, expected: tuple[object, ...] | None) -> None:
    assert counter_of(f"{folder}/{name}") == expected


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_name_is_answered(folder: str, name: str) -> None:
    counter_of(f"{folder}/{name}")


@given(st.text(max_size=300))
def test_a_path_is_folder_stem_and_suffix(path: str) -> None:
    folder, stem, suffix = name_of(path.upper())
    assert path.upper() in (f"{folder}/{stem}{suffix}", stem + suffix)
