"""What is in a recording is read to its end by a locked child; nothing that the child says is believed unchecked."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agent.access import inspecting
from agent.access.inspecting import Bounds, Inspection, inspect
from agent.child import ChildError
from tests.damage import AAC, CASES, H264, clip, damaged
from tests.media import film

QUICK = Bounds(decode_s=30, cpu_s=60)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


async def seen(files: Path, name: str) -> Inspection:
    return await inspect(damaged(files, name), bounds=QUICK)


# Name of the case: (packets, frames) of pictures, and of sound; None where there is no such track.
WHOLE: Mapping[str, tuple[tuple[int, int] | None, tuple[int, int] | None]] = {
    "whole": ((150, 150), (95, 94)),
    "vfr": ((70, 70), (95, 94)),
    "rotated": ((150, 150), (95, 94)),
    "b-frames": ((150, 150), (95, 94)),
    "h265": ((150, 150), (95, 94)),
    "mjpeg-avi": ((150, 150), (94, 94)),
    "odd": ((150, 150), (95, 94)),
    "ten-bit": ((150, 150), (95, 94)),
    "large": ((150, 150), (95, 94)),
    "no-audio": ((150, 150), None),
    "audio-only": (None, (95, 94)),
    "wav": (None, (94, 94)),
    "amr": (None, (301, 301)),
    "fmp4": ((150, 150), (95, 95)),
    "ts": ((75, 75), (48, 48)),
    "photo": ((1, 1), None),
    "bad-exif": ((1, 1), None),
    "heic": ((1, 1), None),
}


@pytest.mark.parametrize("name", WHOLE)
async def test_what_is_whole_is_counted_and_nothing_is_found(name: str, files: Path) -> None:
    told = await seen(files, name)
    assert (told.ended, told.reason) == (True, "")
    for kind, expected in zip(("video", "audio"), WHOLE[name], strict=True):
        track = told.of(kind)
        assert (track and (track.packets, track.frames)) == expected
    assert [(t.bad, t.jumped, t.jumps, t.undecodable) for t in told.tracks] == [(0, 0, (), ())] * len(told.tracks)
    assert json.loads(json.dumps(asdict(told)))["ended"] is True


async def test_spans_and_the_offset_of_sound_are_those_that_are_played(files: Path) -> None:
    told = await seen(files, "whole")
    video, audio = told.of("video"), told.of("audio")
    assert video is not None
    assert audio is not None
    assert (video.first_ms, video.span_ms, video.shown_ms) == (0, 6000, 0)
    assert (audio.span_ms, audio.shown_ms) == (6064, 0)  # what an encoder puts before the beginning isn't heard
    assert told.offset_ms == 0


async def test_an_offset_of_sound_is_told(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    path.write_bytes(
        film(tmp_path, "mkv", seconds=2, options=("-af", "adelay=0,asetpts=PTS+0.5/TB", "-c:a", "pcm_s16le"))
    )
    told = await inspect(path, bounds=QUICK)
    assert told.offset_ms is not None
    assert 480 <= told.offset_ms <= 520


# Name of the case: frames of pictures, places that can't be decoded (from and to, at most so far away), of both tracks.
BROKEN: Mapping[str, tuple[range, tuple[int, int] | None]] = {
    "half": (range(74, 77), (3000, 3040)),
    "gop-edge": (range(75, 76), None),
    "hole": (range(150, 175), (3960, 5120)),
    "zero-tail": (range(85, 95), (3560, 6000)),
    "avi-half": (range(75, 77), (3000, 3040)),
    "insane": (range(40), (0, 6000)),
    "fmp4-half": (range(74, 77), (3040, 3080)),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_can_not_be_decoded_has_a_place(name: str, files: Path) -> None:
    frames, place = BROKEN[name]
    video = (await seen(files, name)).of("video")
    assert video is not None
    assert video.frames in frames
    if place is None:
        assert (video.bad, video.undecodable) == (0, ())
    else:
        assert video.bad > 0
        assert all(abs(a - b) < 60 for a, b in zip(video.undecodable[0], place, strict=True))


@pytest.mark.parametrize(
    ("name", "at_ms", "by_ms"),
    [("jump-forward", 2000, 5000), ("ts-jump-forward", 3064, 99_936), ("ts-jump-back", 63_000, -62_936)],
)
async def test_time_that_jumps_has_a_place(name: str, at_ms: int, by_ms: int, files: Path) -> None:
    video = (await seen(files, name)).of("video")
    assert video is not None
    assert video.jumped == 1
    ((at, by),) = video.jumps
    assert abs(at - at_ms) < 100
    assert abs(by - by_ms) < 100


@pytest.mark.parametrize(
    "name",
    ["empty", "one-byte", "text", "random", "no-moov", "half-index-behind", "m3u8", "m3u8-as-mp4", "ffconcat", "mpd",
     "mov-alias", "png-bomb", "jpeg-bomb"],
)  # fmt: skip
async def test_where_nothing_can_be_read_nothing_is_told(name: str, files: Path) -> None:
    told = await seen(files, name)
    assert [track.frames for track in told.tracks if track.frames] == []
    assert told.reason or not told.ended or all(track.bad or not track.packets for track in told.tracks)


async def test_a_reader_that_runs_out_of_time_says_how_far_it_came(files: Path) -> None:
    told = await inspect(damaged(files, "slow"), bounds=Bounds(decode_s=2, cpu_s=60))
    (video,) = told.tracks
    assert 0 < video.frames < video.packets == 998  # packets are counted all the same
    assert not told.ended
    assert "decoded only as far as" in told.reason


async def test_a_reader_that_is_killed_costs_what_is_decoded_only(files: Path) -> None:
    """A decoder that spins is ended by the kernel; then the packets are read without it."""
    told = await inspect(damaged(files, "slow"), bounds=Bounds(decode_s=60, cpu_s=2))
    (video,) = told.tracks
    assert (video.packets, video.frames) == (998, 0)
    assert told.reason == f"the reader of its content ended with {-int(signal.SIGKILL)}"


async def test_a_reader_without_memory_is_told(files: Path) -> None:
    told = await inspect(damaged(files, "slow"), bounds=Bounds(memory_bytes=150 << 20, cpu_s=60))
    assert not told.ended or all(track.bad for track in told.tracks)


async def test_it_waits_while_others_need_the_station(files: Path) -> None:
    path, asked = damaged(files, "whole"), 0

    def busy() -> bool:
        nonlocal asked
        asked += 1
        return asked < 8  # longer than it may be silent or take

    told = await inspect(path, bounds=Bounds(stall_s=0.5, total_s=5), is_busy=busy)
    assert told.ended
    assert asked >= 8


async def test_where_the_order_of_decoding_is_told_late_time_does_not_go_back(tmp_path: Path) -> None:
    path = tmp_path / "b-frames.mkv"
    path.write_bytes(clip("mkv", codec=(*H264, "-bf", "2", *AAC)))
    told = await inspect(path, bounds=QUICK)
    assert told.ended
    assert [track.jumps for track in told.tracks] == [(), ()]


async def test_a_reader_that_stands_still_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    keeper = os.open(path, os.O_RDWR)
    try:
        told = await inspect(path, bounds=Bounds(stall_s=0.5))
    except OSError:
        return  # a pipe is no original: it isn't even opened
    finally:
        os.close(keeper)
    assert "no progress" in told.reason or not told.tracks


TRACK: Mapping[str, Any] = {
    "kind": "video", "codec": "h264", "packets": 1, "first_ms": 0, "span_ms": 40, "frames": 1, "shown_ms": 0, "bad": 0,
    "jumped": 0, "jumps": [], "undecodable": [],
}  # fmt: skip


class Talker:
    """A child that says these lines."""

    def __init__(self, *lines: object) -> None:
        self.lines = list(lines)

    async def line(self) -> object | None:
        return self.lines.pop(0) if self.lines else None


@pytest.mark.parametrize(
    "lines",
    [
        (),
        ({"track": dict(TRACK)},),
        ({"end": ""}, {"end": ""}),
        ({"end": 1},),
        ("text", {"end": ""}),
        *[({"track": {**TRACK, "packets": value}}, {"end": ""}) for value in (-1, 1.5, "1", None, True, 1 << 60)],
        *[
            ({"track": {**TRACK, "jumps": value}}, {"end": ""})
            for value in (None, [[1]], [[0, 1 << 60]], [[0, 0]] * 201)
        ],
        (*[{"track": dict(TRACK)}] * 33, {"end": ""}),
    ],
)
async def test_what_is_no_answer_is_refused(lines: tuple[object, ...]) -> None:
    with pytest.raises(ChildError):
        await inspecting._Answer().listen(Talker(*lines))  # type: ignore[arg-type]


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats(allow_nan=False) | some.text(max_size=5),
    lambda inner: some.lists(inner, max_size=3) | some.dictionaries(some.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(lines=some.lists(JSON | some.fixed_dictionaries({"track": some.fixed_dictionaries(dict.fromkeys(TRACK, JSON))})))
async def test_whatever_the_child_says_it_is_an_answer_or_an_error(lines: list[object]) -> None:
    answer = inspecting._Answer()
    try:
        await answer.listen(Talker(*lines, {"end": ""}))  # type: ignore[arg-type]
    except ChildError:
        return
    assert len(answer.tracks) <= inspecting.TRACKS_LIMIT


def test_all_cases_are_known() -> None:
    assert set(WHOLE) | set(BROKEN) <= set(CASES)
