"""Cameras without a coder of their own: raw pictures become H.264 of which no picture is missing."""

from __future__ import annotations

import itertools
import os
from fractions import Fraction
from pathlib import Path

import av
import pytest
from av.container import InputContainer

from agent.rooms import attached
from agent.rooms.connection import Connection, Totals
from agent.rooms.protocol import Closed, Kind, Noticed, Report, Why
from agent.rooms.writer import Flusher


def camera(rate: str, seconds: int, pixels: str = "yuyv422") -> InputContainer:
    """FFmpeg's own device of test pictures, which come raw as from a camera, only faster."""
    graph = f"testsrc2=size=320x180:rate={rate}:duration={seconds},format={pixels}"
    device = av.open(graph, format="lavfi")
    assert isinstance(device, InputContainer)
    return device


def times(container: InputContainer) -> tuple[list[Fraction], list[Fraction]]:
    """When each picture is to be shown, in seconds, and those of key frames."""
    every, keys = [], []
    for packet in container.demux(container.streams.video[0]):
        if packet.pts is not None and packet.time_base is not None:
            every.append(packet.pts * packet.time_base)
            if packet.is_keyframe:
                keys.append(every[-1])
    return every, keys


@pytest.mark.parametrize(("rate", "pixels"), [("25", "yuyv422"), ("5", "nv12"), ("30000/1001", "gray")])
def test_raw_pictures_become_h264_with_all_pictures_at_their_times(rate: str, pixels: str) -> None:
    with attached.coded(camera(rate, 7, pixels)) as container:
        (stream,) = container.streams
        assert stream.codec_context.name == "h264"
        every, keys = times(container)
    step = 1 / Fraction(rate)
    assert len(every) == -(-7 // step)
    assert all(abs(at - number * step) < Fraction(1, 10_000) for number, at in enumerate(every))
    assert keys[0] == 0
    assert len(keys) == 4
    assert all(2 <= later - sooner <= 2 + step + Fraction(1, 1000) for sooner, later in itertools.pairwise(keys))


def test_what_is_made_can_be_kept_and_played(tmp_path: Path) -> None:
    with attached.coded(camera("25", 3)) as container, av.open(str(tmp_path / "a.mp4"), "w") as kept:
        stream = kept.add_stream_from_template(container.streams.video[0])
        for packet in container.demux(container.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                kept.mux(packet)
    with av.open(str(tmp_path / "a.mp4")) as played, camera("25", 3) as shown:
        pairs = zip(played.decode(video=0), shown.decode(video=0), strict=True)
        for mine, theirs in pairs:
            levels = [bytes(frame.reformat(32, 18, "gray").planes[0]) for frame in (mine, theirs)]
            assert sum(abs(a - b) for a, b in zip(*levels, strict=True)) / len(levels[0]) < 8


def raw_camera(path: Path, pictures: int) -> InputContainer:
    path.write_bytes(os.urandom(64 * 48 * 3 // 2) * pictures + b"half a picture")
    device = av.open(str(path), format="rawvideo", options={"video_size": "64x48", "framerate": "5"})
    assert isinstance(device, InputContainer)
    return device


def test_a_camera_is_let_go_with_its_container(tmp_path: Path) -> None:
    """Else connecting again would find it busy with ourselves."""

    def is_open() -> bool:
        return any(link.readlink() == tmp_path / "raw" for link in Path("/proc/self/fd").iterdir() if link.is_symlink())

    container = attached.coded(raw_camera(tmp_path / "raw", 100))
    next(container.demux())
    assert is_open()
    container.close()
    del container
    assert not is_open()


def test_a_picture_that_comes_incomplete_is_left_out(tmp_path: Path) -> None:
    """What follows it is kept, and the time stamps show the hole; the end of the device is the end of the file."""
    with attached.coded(raw_camera(tmp_path / "raw", 5)) as container:
        assert len(times(container)[0]) == 5


def test_a_device_that_is_not_there_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        attached.opened("v4l2:/dev/video99?video_size=640x480")
    with pytest.raises((OSError, av.error.FFmpegError)):
        attached.opened("alsa:hw:99")


def test_an_address_can_say_nothing_but_how_the_device_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, dict[str, str]]] = []
    monkeypatch.setattr(av, "open", lambda name, **how: asked.append((name, how["options"])))
    attached.opened("alsa:hw:1,0?channels=1&sample_rate=16000&protocol_whitelist=file")
    assert asked == [("hw:1,0", {"channels": "1", "sample_rate": "16000"})]


def test_sound_whose_time_stamps_stumble_is_kept_whole(tmp_path: Path) -> None:
    """A busy machine reads a sound card's clock: stamps overtake each other by milliseconds, and nothing is refused."""
    card = av.open("sine=frequency=440:duration=6,aformat=s16:channel_layouts=stereo,asettb=AVTB", format="lavfi")
    assert isinstance(card, InputContainer)
    said: list[Report] = []
    flusher = Flusher(tmp_path)
    with card:
        totals = Totals(1)
        connection = Connection(
            "mic", tmp_path, card, totals, said.append, flusher, segment_us=10**7, stall_us=10**7, see=None
        )  # fmt: skip
        for number, packet in enumerate(card.demux(connection.streams)):
            if packet.dts is not None and packet.time_base is not None:
                late = number % 5 == 3
                packet.dts = packet.pts = packet.dts - late * int(Fraction(30, 1000) / packet.time_base)
                connection.take(packet, number * 23_000)
        connection.end(Why.STOPPED)
    assert flusher.end(30)
    (closed,) = (report for report in said if isinstance(report, Closed))
    assert not [report for report in said if isinstance(report, Noticed) and report.kind is Kind.DAMAGED]
    with av.open(str(tmp_path / closed.file)) as kept:
        assert sum(frame.samples for frame in kept.decode(audio=0)) >= 6 * 44_100
