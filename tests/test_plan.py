"""What is to be done with an original: taken over only what every browser plays, and always a way that is surest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agent.access.encoders import SOFTWARE, WAYS
from agent.access.inspecting import Inspection, Track
from agent.access.made import OUTPUT, SOURCE
from agent.access.plan import NoCopyError, Plan, plans
from agent.config import AccessCopies, Overlay
from agent.media.formats import FORMATS
from agent.model import Facts, Integrity, Medium, StreamFacts

PLAYED = ("h264", "yuv420p", "High")


def track(kind: str, codec: str, *, frames: int = 10, bad: int = 0) -> Track:
    return Track(kind, codec, 10, 0, 400, frames, 0, bad, 0, (), ())


def facts(medium: Medium | None, codec: str = "h264", pixels: str = "yuv420p", profile: str = "High") -> Facts:
    stream = StreamFacts("video", codec, 160, 120, pixels=pixels, profile=profile)
    return Facts(medium, Integrity.COMPLETE, container="mov,mp4", streams=(stream,), stream_count=1)


def names(found: tuple[Plan, ...]) -> list[str]:
    return [plan.how for plan in found]


TRACKS = some.builds(
    track,
    some.sampled_from(["video", "audio", "subtitle", "data"]),
    some.sampled_from(["h264", "hevc", "mjpeg", "aac", "mp3float", "pcm_alaw", ""]),
    frames=some.integers(0, 10),
    bad=some.integers(0, 2),
)


@given(
    medium=some.sampled_from([*Medium, None]),
    pixels=some.sampled_from(["yuv420p", "yuvj420p", "yuv422p", "yuv420p10le", ""]),
    profile=some.sampled_from(["High", "Main", "Baseline", "High 10", ""]),
    tracks=some.lists(TRACKS, max_size=5),
    overlay=some.sampled_from(Overlay),
    encoder=some.sampled_from(sorted(WAYS)),
)
def test_only_what_plays_is_taken_over_and_the_last_way_is_the_surest(
    medium: Medium | None, pixels: str, profile: str, tracks: list[Track], overlay: Overlay, encoder: str
) -> None:
    known, source = facts(medium, "h264", pixels, profile), Inspection(tuple(tracks), ended=True)
    try:
        found = plans(known, source, AccessCopies(overlay=overlay), encoder)
    except NoCopyError:
        kinds = ("video",) if medium is Medium.PHOTO else ("video", "audio")
        assert medium in (None, Medium.OTHER) or not any(t.frames for t in tracks if t.kind in kinds)
        return
    for plan in found:
        words = list(plan.words)
        assert (words[-1], words[words.index("-i") + 1]) == (f"file:{OUTPUT}", f"file:{SOURCE}")
        before = words[: words.index("-i")]
        assert before[before.index("-format_whitelist") + 1] == FORMATS
        assert before[before.index("-protocol_whitelist") + 1] == "file"
        for kind, numbers in (("video", plan.pictures), ("audio", plan.sounds)):
            taken = [source.kind(kind)[number] for number in numbers]
            assert all(one.frames for one in taken)
            if kind not in plan.encoded:
                assert not any(one.bad for one in taken)
        if plan.pictures and "video" not in plan.encoded:
            video = source.kind("video")[plan.pictures[0]]
            assert (video.codec, overlay) == ("h264", Overlay.NOTHING)
            assert pixels in ("yuv420p", "yuvj420p")
            assert profile in ("High", "Main", "Baseline")
    last = found[-1]
    assert last.encoder in (SOFTWARE, "")
    assert last.encoded >= ({"video"} if last.pictures else set()) | ({"audio"} if last.sounds else set())


@pytest.mark.parametrize(
    ("codec", "pixels", "profile", "sound", "expected"),
    [
        (*PLAYED, "aac", ["remux", "encoded"]),
        (*PLAYED, "mp3float", ["remux", "encoded"]),
        (*PLAYED, "pcm_alaw", ["pictures kept", "encoded"]),
        ("h264", "yuv420p10le", "High 10", "aac", ["encoded"]),
        ("h264", "yuv444p", "High 4:4:4 Predictive", "aac", ["encoded"]),
        ("hevc", "yuv420p", "Main", "aac", ["encoded"]),
        ("mjpeg", "yuvj422p", "Baseline", "pcm_s16le", ["encoded"]),
    ],
)
def test_the_ladder(codec: str, pixels: str, profile: str, sound: str, expected: list[str]) -> None:
    source = Inspection((track("video", codec), track("audio", sound)), ended=True)
    assert names(plans(facts(Medium.VIDEO, codec, pixels, profile), source, AccessCopies())) == expected


def test_hardware_comes_before_the_processor() -> None:
    source = Inspection((track("video", "hevc"),), ended=True)
    found = plans(facts(Medium.VIDEO, "hevc"), source, AccessCopies(), "h264_qsv")
    assert [plan.encoder for plan in found] == ["h264_qsv", SOFTWARE]


def test_why_there_is_no_copy_is_said() -> None:
    with pytest.raises(NoCopyError, match="the reader of its content ended with -11"):
        plans(facts(Medium.VIDEO), Inspection(reason="the reader of its content ended with -11"), AccessCopies())
    with pytest.raises(NoCopyError, match="nothing in it can be decoded"):
        plans(facts(Medium.OTHER), Inspection((track("video", "h264"),), ended=True), AccessCopies())
