"""Sender reports move tracks to each other: no picture is moved for that, none is called lost, and sound follows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from itertools import islice, pairwise
from pathlib import Path

import av
import pytest
from av.packet import Packet
from hypothesis import given
from hypothesis import strategies as st

from agent.rooms.protocol import Closed
from agent.rooms.stamps import Stamps
from agent.rooms.timing import SECOND_US, Line, Oddity, Shifts
from agent.rooms.writer import Input, Segment
from simulator.cameras.camera import Cameras
from simulator.cameras.frames import Known, expect
from simulator.cameras.proxy import Proxy
from tests.recording import plan, recording

Pack = Callable[..., Path]
RATE, STEP, BEFORE = 90_000, 3600, 30
EARLIER_S = ((0, 0.3), (0, -0.3), (1, 0.3), (1, -0.3), (0, 0.015), (0, -0.015))
"""Of which track the camera says that it is so much earlier."""


def apart_us(folder: Path, closed: Closed, shown: Path) -> int:
    """By how much sound is later than pictures in a file, beyond what the camera shows."""
    with shown.open("rb") as file:
        head = json.loads(file.readline())
    starts = [row[2] // 1000 for row in head["packets"] if row[1]]
    (number, picture_us), (place, sound_us) = Known(shown).first(folder / closed.file)
    shown_us = (starts[place] - number % head["pictures"] * 40_000) % 16_000_000
    return (sound_us - picture_us - shown_us + 8_000_000) % 16_000_000 - 8_000_000


async def test_what_a_camera_reports_moves_sound_and_no_picture(
    cameras: Callable[..., Cameras], pack: Pack, tmp_path: Path
) -> None:
    """Which track FFmpeg moves depends on whose report comes first."""
    shown = pack()
    server = cameras({"front": shown})
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(server.port, stamps=True)) for _ in EARLIER_S]
        for proxy, (track, earlier_s) in zip(proxies, EARLIER_S, strict=True):
            proxy.misreport(track, earlier_s)
        urls = [server.url("front", proxy.port) for proxy in proxies]
        async with recording(plan(tmp_path / "r", *urls, segment_s=1.0)) as it:
            for name in (names := [f"cam{at}" for at in range(len(urls))]):
                await it.wait(Closed, when=lambda one, name=name: one.source == name and one.camera_us is not None)  # type: ignore[misc]
            for name in names:
                seen = len(it.all(Closed, name))
                await it.wait(Closed, seen + 2, when=lambda one, name=name: one.source == name)  # type: ignore[misc]
    assert not [one for one in it.noticed("dropped") if one.track == "video"]
    assert not it.noticed("jump")
    for name, (track, earlier_s) in zip(names, EARLIER_S, strict=True):
        expect(found := it.match(shown, source=name))
        closed = it.all(Closed, name)
        assert sum(one.media_us for one in closed) == pytest.approx(len(found.pictures) * 40_000, abs=10_000)
        later_us = earlier_s * SECOND_US * (1 if track == 0 else -1)
        assert apart_us(it.folder, closed[-2], shown) == pytest.approx(later_us, abs=2000)


def packet(dts: int | None) -> Packet:  # type: ignore[type-arg]
    made = Packet(b"picture")
    made.dts = made.pts = dts
    return made


class Track:
    """A line with its stamps; `at` places what comes at a time, `early_us` is what the arrival says of everything."""

    def __init__(self, rate: int, *others: Line, is_lead: bool = False, early_us: int = SECOND_US) -> None:
        self.line = Line(1, rate, Shifts())
        self.stamps = Stamps(
            self.line, is_reported=True, is_parsed=is_lead, others=others if is_lead else None,
            early_us=lambda _: early_us,
        )  # fmt: skip
        self.now_us = 1

    def take(self, *packets: Packet, report: int = BEFORE) -> list[int]:  # type: ignore[type-arg]
        """When they are placed; a report is known from that one on."""
        placed = []
        for at, one in enumerate(packets):
            self.now_us += 40_000
            for ready in self.stamps.ready(one, has_report=at >= report, has_waited=True):
                assert ready.dts is not None
                placed.append(self.line.place(ready.dts, self.now_us))
        return placed


def reported(by: int, *, missing: int = 0) -> list[Packet]:  # type: ignore[type-arg]
    """Pictures all of which but the first thirty are moved; FFmpeg says so at the one before."""
    return [packet((at + missing * (at >= BEFORE)) * STEP + by * (at >= BEFORE)) for at in range(2 * BEFORE)]


@given(st.integers(-80_000, 80_000))
def test_pictures_go_on_as_they_did_and_sound_is_moved_to_them(by: int) -> None:
    sound = Line(1, 16_000, Shifts())
    sound.place(16_000, 1)
    track = Track(RATE, sound, is_lead=True)
    assert track.take(*reported(by), report=BEFORE - 1) == [at * STEP for at in range(2 * BEFORE)]
    assert track.stamps.is_plain
    moved = sound.ticks(-track.line.us(by))
    assert sound.shift == moved
    assert sound.last == 16_000 + max(0, moved), "what is in between is not missing"
    assert not track.line.odd


def test_pictures_that_are_missing_at_the_report_are_told_as_missing() -> None:
    """They are not earlier than they should be: time passed by our clock, too."""
    track = Track(RATE, Line(1, 16_000, Shifts()), is_lead=True, early_us=0)
    times = track.take(*reported(0, missing=4), report=BEFORE - 1)
    assert times == [at * STEP for at in range(2 * BEFORE + 4) if not BEFORE <= at < BEFORE + 4]
    assert [(one.oddity, one.value) for one in track.line.odd] == [(Oddity.HOLE, 4)]


def test_what_is_no_correction_is_a_leap_as_ever() -> None:
    track = Track(RATE, Line(1, 16_000, Shifts()), is_lead=True)
    track.take(*reported(3600 * RATE), report=BEFORE - 1)
    assert [one.oddity for one in track.line.odd] == [Oddity.LEAP]


@pytest.mark.parametrize("by", [27_000, -27_000])
def test_pictures_in_another_order_wait_until_their_times_have_followed(by: int) -> None:
    """What FFmpeg says of the first after the report is its guess."""
    what = reported(by)
    for at, one in enumerate(what):
        assert one.dts is not None
        one.pts = one.dts + 2 * STEP
        if BEFORE <= at < BEFORE + 3 and by > 0:
            one.dts -= by // 2
    track = Track(RATE, Line(1, 16_000, Shifts()), is_lead=True)
    assert track.take(*what, report=BEFORE - 1) == [at * STEP for at in range(2 * BEFORE)]


@given(st.integers(-5000, 5000))
def test_sound_is_where_the_camera_says_and_none_is_missing(by: int) -> None:
    track = Track(16_000)
    what = [packet(at * 1024 + by * (at >= BEFORE)) for at in range(2 * BEFORE)]
    times = track.take(*what)
    assert times[:BEFORE] == [at * 1024 for at in range(BEFORE)]
    assert times[-1] == (2 * BEFORE - 1) * 1024 + by
    assert all(a < b for a, b in pairwise(times))
    assert not track.line.odd


def test_what_has_no_time_after_the_start_follows_the_one_before() -> None:
    track = Track(RATE, is_lead=True)
    assert track.take(packet(0), packet(STEP), packet(None), packet(3 * STEP))[-2:] == [STEP + 1, 3 * STEP]
    assert track.take(Packet()) == []


def test_sound_that_comes_after_the_pictures_went_on_to_the_next_file_is_kept(pack: Pack, tmp_path: Path) -> None:
    """As close together at its beginning as a file allows; but what is from before all pictures has no place."""
    clip = pack().with_suffix(".mkv")
    for number, is_first in ((1, True), (2, False)):
        with av.open(str(clip)) as source:
            (stream,) = source.streams.audio
            line = Line(1, 1000, Shifts())
            segment = Segment(tmp_path, "cam", number, [Input(stream, line)], 2 * SECOND_US, is_first=is_first)
            for at, one in enumerate(islice(source.demux(stream), 40)):
                segment.write(one, 2000 + (at - 20) * 64)
            segment.close()
            os.close(segment.fd)
        with av.open(str(segment.path)) as made:
            times = [float(one.dts * one.time_base) for one in made.demux() if one.dts is not None]
        assert segment.samples == len(times) == (20 if is_first else 40)
        assert all(a < b for a, b in pairwise(times))
        assert times[-19:] == pytest.approx([at * 0.064 for at in range(1, 20)])
