"""What a camera may say of its pictures costs the recorder neither memory nor the recording; a goodbye is an outage."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import av
import pytest

from agent.child import ChildError
from agent.rooms.engine import RoomRecorder
from agent.rooms.protocol import Alive, Back, Begun, Cause, Closed, Lost, Opened
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import STEP_S, Footage, encode, write_pack
from tests.recording import plan, recording

Pack = Callable[..., Path]
Start = Callable[..., Cameras]
LAPS = 5
HUGE_MB = 1024
"""Macroblocks each way: 16,384 x 16,384 pictures, of which one takes 400 MB."""


def bits_of(content: bytes) -> str:
    return "".join(f"{byte:08b}" for byte in content)


def ue(value: int) -> str:
    """Exp-Golomb (H.264 9.1)."""
    word = f"{value + 1:b}"
    return "0" * (len(word) - 1) + word


def read_ue(bits: str, at: int) -> tuple[int, int]:
    zeros = bits.index("1", at) - at
    end = at + 2 * zeros + 1
    return int(bits[at + zeros : end], 2) - 1, end


def claiming(sets: bytes, macroblocks: int) -> bytes:
    """A sequence parameter set of the baseline profile with another size, all else as it was (H.264 7.3.2.1.1)."""
    bits, at = bits_of(sets[1:].replace(b"\0\0\3", b"\0\0")), 24
    _, at = read_ue(bits, at)
    _, at = read_ue(bits, at)
    order, at = read_ue(bits, at)
    assert order == 2, "no reordering: ultrafast without B-frames"
    _, at = read_ue(bits, at)
    begins = at = at + 1
    for _ in range(2):
        _, at = read_ue(bits, at)
    changed = (bits[:begins] + 2 * ue(macroblocks - 1) + bits[at:]).rstrip("0")
    changed += "0" * (-len(changed) % 8)
    raw = bytes(int(changed[i : i + 8], 2) for i in range(0, len(changed), 8))
    return sets[:1] + re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", raw)


def boasting(clip: Path, into: Path) -> None:
    """The same pictures and sound under a parameter set that claims to be huge."""
    with av.open(str(clip)) as file, av.open(str(into), "w", format="matroska") as out:
        streams = {stream.index: out.add_stream_from_template(stream) for stream in file.streams}
        head = bytes(file.streams.video[0].codec_context.extradata or b"")
        length = int.from_bytes(head[6:8], "big")
        sets = claiming(head[8 : 8 + length], HUGE_MB)
        made = head[:6] + len(sets).to_bytes(2, "big") + sets + head[8 + length :]
        streams[file.streams.video[0].index].codec_context.extradata = made
        for packet in file.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                out.mux(packet)


@pytest.fixture
def huge(tmp_path: Path) -> Path:
    clip, boast, pack = tmp_path / "clip.mkv", tmp_path / "boast.mkv", tmp_path / "huge.pack"
    encode(Footage(laps=LAPS), clip)
    boasting(clip, boast)
    write_pack(boast, pack, Fraction(LAPS) * STEP_S)
    return pack


def peak_mb(pid: int) -> float:
    return int(re.findall(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0]) / 1024


@pytest.mark.parametrize("from_the_start", [False, True])
async def test_a_parameter_set_that_claims_a_huge_picture_costs_no_memory_and_no_recording(
    cameras: Start, pack: Pack, huge: Path, tmp_path: Path, from_the_start: bool
) -> None:
    """Watched, too: it is not decoded. What came is kept as it came."""
    server = cameras({"front": huge if from_the_start else pack(Footage(laps=LAPS))})
    what = plan(tmp_path / "r", server.url("front"))
    what = replace(what, sources=(replace(what.sources[0], watch=True),))
    async with recording(what) as it:
        await it.wait(Opened)
        await it.wait(Begun)
        if not from_the_start:
            server.switch("front", huge)
        seen = len(it.all(Alive))
        await it.wait(Alive, seen + 6)
        peak = peak_mb(it.recorder.pid)
        closed = len(it.all(Closed))
        await it.wait(Closed, closed + 1)
    assert peak < 150, "a picture of that size takes 400 MB"
    assert not it.all(Lost)
    assert len(it.all(Opened)) == 1, "the recorder lives"
    assert sum(one.frames for one in it.all(Closed)) > 100
    if not from_the_start:
        assert len(it.noticed("changed")) >= 1


async def test_a_camera_that_says_goodbye_is_one_gap_and_recorded_again(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    """RTCP BYE (RFC 3550 6.6): nothing more comes, though the connection stands."""
    shown = pack()
    server = cameras({"front": shown})
    async with recording(plan(tmp_path / "r", server.url("front"), stall_s=3.0)) as it:
        await it.wait(Closed)
        server.end("front")
        lost = await it.wait(Lost)
        await it.wait(Back)
        closed = len(it.all(Closed))
        await it.wait(Closed, closed + 1)
    found = it.match(shown)
    assert lost.cause in {Cause.CLOSED, Cause.STALLED}
    assert len(it.all(Lost)) == len(it.all(Back)) == 1
    assert len(found.gaps) == 1
    assert (found.damaged, found.repeated) == ([], 0)


def alive(second: int, media: int, size: int, *, connected: bool = True) -> Alive:
    return Alive("cam0", second * 1_000_000, media, size, size, 0, connected)


@pytest.mark.parametrize(
    ("media_grows", "bytes_grow", "is_believed"),
    [(True, True, True), (True, False, False), (False, True, False), (False, False, False)],
)
def test_a_recorder_that_says_it_records_is_believed_only_while_media_and_bytes_grow(
    tmp_path: Path, media_grows: bool, bytes_grow: bool, is_believed: bool
) -> None:
    recorder = RoomRecorder(plan(tmp_path, "rtsp://192.0.2.1/x"), lambda: datetime.now(UTC))

    def told() -> int:
        return sum(
            len(list(recorder._checked(alive(at, 1 + at * media_grows, 1 + at * bytes_grow)))) for at in range(30)
        )

    if is_believed:
        assert told() == 30
    else:
        with pytest.raises(ChildError, match="nothing grows"):
            told()


async def test_a_picture_that_a_killed_recorder_left_is_removed(tmp_path: Path) -> None:
    """Its camera may not answer for the rest of the session, and then nothing takes its place."""
    for name in ("cam0.jpg", "cam1.jpg", "cam0-000001.mp4"):
        (tmp_path / name).write_bytes(b"content")
    async with recording(plan(tmp_path, "rtsp://127.0.0.1:1/x")) as it:
        await it.wait(Lost)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cam0-000001.mp4", "cam1.jpg"], "that of its own"


def test_what_is_known_to_be_away_need_not_grow_on_the_disk(tmp_path: Path) -> None:
    """A full disk is told as an outage; the recorder tries again by itself, and media time goes on."""
    recorder = RoomRecorder(plan(tmp_path, "rtsp://192.0.2.1/x"), lambda: datetime.now(UTC))
    assert list(recorder._checked(Lost("cam0", 1, Cause.DISK)))
    for at in range(60):
        assert list(recorder._checked(alive(at, at, 7)))
        assert list(recorder._checked(alive(at, 7, 7, connected=False)))
