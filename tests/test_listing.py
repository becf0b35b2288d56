"""Nothing that the parser says is believed: every impossible line is refused, every possible one kept exactly."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.drivers.base import ListingEnd, RefusedEntry
from agent.drivers.listing import CheckedListing
from agent.errors import DeviceError
from agent.model import Clip, Finding, Stamp, Volume

DEVICE_BYTES = 1 << 20


def source(**changes: object) -> dict[str, Any]:
    return {"source": {"rdev": 0, "ino": 7, "dev": 1, "size": DEVICE_BYTES, "diskseq": 0} | changes}


def clip(number: int = 1, extents: list[list[int]] | None = None, **changes: object) -> dict[str, Any]:
    extents = [[4096, 100]] if extents is None else extents
    size = sum(length for _, length in extents)
    fields = {
        "number": number, "path": "/DCIM/执法_0001.MP4", "raw_name": "41", "size": size, "readable": size,
        "created": [None, None], "modified": ["2026-11-20T09:00:00", 480], "flags": [], "entry_offset": 64,
        "zero_from": None,
    } | changes  # fmt: skip
    return {"clip": fields, "extents": extents}


def end(entries: int) -> dict[str, Any]:
    return {"end": {"entries": entries, "metadata_blake3": "ab" * 32}}


def feed(*lines: object) -> list[object]:
    listing = CheckedListing()
    return [item for line in lines for item in listing.feed(line)]


def test_a_truthful_listing_comes_through_unchanged() -> None:
    volume = {
        "kind": "exfat",
        "filesystem_id": "1234",
        "label": "",
        "cluster_bytes": 4096,
        "size_bytes": 99,
        "dirty": True,
    }
    items = feed(source(), {"volume": volume}, clip(), {"finding": {"kind": "gap", "detail": {"missing": [3]}}}, end(1))
    assert items == [
        Volume("exfat", "1234", "", 4096, 99, dirty=True),
        Clip(1, "/DCIM/执法_0001.MP4", b"A", 100, 100, Stamp(), Stamp("2026-11-20T09:00:00", 480), (), 64),
        Finding("gap", {"missing": [3]}),
        ListingEnd("ab" * 32),
    ]


def test_extents_continued_over_lines_belong_to_the_clip_before() -> None:
    listing = CheckedListing()
    first = clip(extents=[[0, 10]], size=30, readable=30)
    for line in (source(), first, {"more": [[100, 10]]}, {"more": [[50, 10]]}, end(1)):
        listing.feed(line)
    assert list(listing.layouts[1].pairs()) == [(0, 10), (100, 10), (50, 10)]


def test_zeros_behind_the_valid_length_need_no_extents() -> None:
    listing = CheckedListing()
    for line in (source(), clip(extents=[[0, 10]], size=30, readable=30, zero_from=10), end(1)):
        listing.feed(line)
    assert listing.layouts[1].wanted_bytes == 10


IMPOSSIBLE = {
    "no source first": [clip()],
    "line is a list": [[1]],
    "extent behind the device": [source(), clip(extents=[[DEVICE_BYTES - 10, 11]])],
    "extent before the device": [source(), clip(extents=[[-1, 5]])],
    "empty extent": [source(), clip(extents=[[0, 0]])],
    "extents are fewer bytes than the file": [source(), clip(size=200, readable=200), end(1)],
    "extents are more bytes than the file": [source(), clip(extents=[[0, 10], [20, 10]], readable=10), end(1)],
    "numbers skip": [source(), clip(2)],
    "numbers repeat": [source(), clip(1), clip(1)],
    "negative size": [source(), clip(size=-1)],
    "size is true": [source(), clip(size=True)],
    "size is a float": [source(), clip(size=1.5)],
    "path is no text": [source(), clip(path=3)],
    "path is too long": [source(), clip(path="a" * 9000)],
    "name is not hexadecimal": [source(), clip(raw_name="zz")],
    "extents without a clip": [source(), {"more": [[0, 1]]}],
    "end counts other clips": [source(), clip(), end(2)],
    "digest is no hexadecimal": [source(), {"end": {"entries": 0, "metadata_blake3": "?"}}],
    "valid length behind the end": [source(), clip(zero_from=101)],
    "unknown line": [source(), {"surprise": 1}],
    "empty line": [source(), {}],
    "a zone of two days": [source(), clip(modified=["2026-11-20T09:00:00", 2880])],
    "a time of three parts": [source(), clip(modified=["a", 1, 2])],
}


@pytest.mark.parametrize("lines", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_an_impossible_line_is_refused_with_what_to_do(lines: list[object]) -> None:
    with pytest.raises(DeviceError) as refused:
        feed(*lines)
    assert refused.value.safe
    assert refused.value.do


def test_the_parsers_own_error_reaches_a_person_as_a_sentence() -> None:
    with pytest.raises(DeviceError, match="no filesystem") as refused:
        feed(source(), {"error": {"kind": "unsupported", "message": "no filesystem found"}})
    assert "don't format" in refused.value.do


def test_cross_linked_files_are_kept_and_reported() -> None:
    items = feed(
        source(),
        clip(1, [[0, 100]], path="/A"),
        clip(2, [[200, 100]], path="/B"),
        clip(3, [[50, 100]], path="/C"),
        end(3),
    )
    assert [item.number for item in items if isinstance(item, Clip)] == [1, 2, 3]
    reported = [item.detail["path"] for item in items if isinstance(item, Finding) and item.kind == "cross-linked"]
    assert reported == ["/A", "/C"]


def test_the_same_clusters_under_many_names_cannot_multiply_the_card() -> None:
    lines = [clip(number, [[0, DEVICE_BYTES]], path=f"/{number}") for number in range(1, 51)]
    items = feed(source(), *lines, end(50))
    assert sum(isinstance(item, Clip) for item in items) == 2
    refused = [item for item in items if isinstance(item, RefusedEntry)]
    assert len(refused) == 48
    assert all("cross-linked" in item.reason for item in refused)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
likely_keys = st.sampled_from(["clip", "extents", "more", "end", "volume", "finding", "refused", "source", "error"])


@given(st.lists(st.dictionaries(likely_keys, json_values, max_size=3) | json_values, max_size=6))
def test_whatever_json_comes_it_is_a_listing_or_a_device_error(lines: list[object]) -> None:
    listing = CheckedListing()
    listing.feed(source())
    for line in lines:
        try:
            listing.feed(line)
        except DeviceError:
            return


@given(
    st.lists(st.tuples(st.integers(-5, DEVICE_BYTES + 5), st.integers(-5, DEVICE_BYTES + 5)), max_size=5),
    st.integers(0, 1000),
)
def test_no_accepted_layout_reaches_outside_the_device(extents: list[tuple[int, int]], size: int) -> None:
    listing = CheckedListing()
    line = json.loads(json.dumps(clip(extents=[list(pair) for pair in extents], size=size, readable=size)))
    try:
        listing.feed(source())
        listing.feed(line)
        listing.feed(end(1))
    except DeviceError:
        return
    for layout in listing.layouts.values():
        assert sum(length for _, length in layout.pairs()) == size
        assert all(0 <= offset and offset + length <= DEVICE_BYTES for offset, length in layout.pairs())


def test_a_device_that_could_not_be_opened_is_told_as_that() -> None:
    with pytest.raises(DeviceError, match="Permission denied"):
        feed({"error": {"kind": "open", "message": "Permission denied"}})
