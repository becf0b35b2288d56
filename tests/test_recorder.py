"""What a room's recorder keeps of real RTSP streams, to the picture, through the faults of cameras and networks."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import av
import pytest

from agent.rooms.protocol import Alive, Back, Begun, Cause, Closed, Lost, Opened, Transport, Why
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage
from simulator.cameras.frames import expect
from simulator.cameras.proxy import Proxy
from tests.recording import plan, recording

Pack = Callable[..., Path]
Start = Callable[..., Cameras]


@pytest.mark.parametrize("transport", list(Transport))
@pytest.mark.parametrize(
    ("video", "audio", "kind"), [("h264", "aac", "mp4"), ("hevc", "pcm_mulaw", "mov"), ("h264", "pcm_alaw", "mov")]
)
async def test_every_picture_and_sound_is_in_segments_without_a_seam(
    video: str, audio: str, kind: str, transport: Transport, cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack(Footage(video, audio, gop=12))
    server = cameras({"front": shown})
    async with recording(plan(tmp_path / "r", server.url("front"), transport=transport, segment_s=1.0)) as it:
        await it.wait(Closed, 3)
    expect(found := it.match(shown))
    closed = it.all(Closed)
    assert [one.number for one in closed] == list(range(1, len(closed) + 1))
    assert [one.why for one in closed] == [Why.LENGTH] * (len(closed) - 1) + [Why.STOPPED]
    assert [one.file for one in closed] == [path.name for path in it.files()]
    assert all(path.suffix == f".{kind}" for path in it.files())
    assert sum(one.media_us for one in closed) == pytest.approx(len(found.pictures) * 40_000, abs=80_000)
    assert [one.end_us for one in closed[:-1]] == [one.start_us for one in closed[1:]]
    assert found.sound > 20
    assert closed[0].tracks[0].codec == video
    assert closed[0].tracks[1].codec == audio
    assert not it.all(Lost)
    with av.open(str(it.files()[0])) as file:
        assert file.streams.video[0].codec_context.codec_tag == ("hvc1" if video == "hevc" else "avc1")
        assert next(file.demux(video=0)).is_keyframe


async def test_pictures_that_are_shown_in_another_order_than_they_come(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack(Footage(b_frames=2, gop=12))
    server = cameras({"front": shown})
    async with recording(plan(tmp_path / "r", server.url("front"), segment_s=1.0)) as it:
        await it.wait(Closed, 2)
    expect(it.match(shown))
    with av.open(str(it.files()[0])) as file:
        times = [frame.pts for frame in file.decode(video=0)]
    assert times == sorted(set(times))


async def test_a_wrong_password_is_told_as_such_and_is_tried_again_later(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    server = cameras({"front": pack()})
    urls = server.url("front", password="wrong"), server.url("front")
    async with recording(plan(tmp_path / "r", *urls)) as it:
        await it.wait(Lost)
        await it.wait(Begun)
    assert [(one.source, one.cause) for one in it.all(Lost)] == [("cam0", Cause.UNAUTHORISED)]
    assert "wrong" not in repr(it.all(Lost))
    expect(it.match(pack(), source="cam1"))


async def test_a_camera_that_loses_its_power_is_one_gap_and_recorded_again_by_itself(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack()
    server = cameras({"front": shown})
    async with recording(plan(tmp_path / "r", server.url("front"))) as it:
        await it.wait(Closed)
        server.kill()
        lost = await it.wait(Lost)
        server.start()
        back = await it.wait(Back)
        await it.wait(Closed, 3)
    found = it.match(shown)
    assert lost.cause is Cause.CLOSED
    assert len(it.all(Lost)) == len(it.all(Back)) == len(found.gaps) == 1
    assert (found.repeated, found.foreign_sound) == (0, 0)
    assert (back.at_us - lost.since_us) / 40_000 == pytest.approx(found.missing, abs=15)


async def test_a_stalled_connection_is_given_up_in_time_and_nothing_is_lost_by_a_short_stall(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack()
    server = cameras({"front": shown})
    with Proxy(server.port) as proxy:
        async with recording(plan(tmp_path / "r", server.url("front", proxy.port), stall_s=3.0)) as it:
            await it.wait(Closed)
            proxy.stall()
            await asyncio.sleep(1.5)
            proxy.resume()
            await it.wait(Closed, 2)
            assert not it.all(Lost)
            proxy.half_open()
            lost = await it.wait(Lost)
            await it.wait(Alive, when=lambda one: one.media_us > 0 and not one.connected)
            proxy.resume()
            await it.wait(Back)
            await it.wait(Closed, 4)
    found = it.match(shown)
    assert lost.cause is Cause.STALLED
    assert len(found.gaps) == 1
    assert len(found.damaged) <= 1


async def test_a_reset_connection_costs_one_gap_and_each_refusal_none_more(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack()
    server = cameras({"front": shown})
    with Proxy(server.port) as proxy:
        async with recording(plan(tmp_path / "r", server.url("front", proxy.port))) as it:
            await it.wait(Closed)
            proxy.refuse()
            proxy.rst()
            await it.wait(Lost)
            await asyncio.sleep(1.5)
            proxy.resume()
            await it.wait(Back)
            await it.wait(Closed, 3)
    assert it.causes() == ["closed"]
    assert len(it.match(shown).gaps) == 1


async def test_a_camera_that_answers_and_sends_nothing_is_told_as_stalled(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    server = cameras({"front": pack()})
    with Proxy(server.port) as proxy:
        proxy.deaf()
        async with recording(plan(tmp_path / "r", server.url("front", proxy.port))) as it:
            lost = await it.wait(Lost)
    assert lost.cause is Cause.STALLED
    assert it.files() == []


async def test_nobody_there_is_refused_and_stop_does_not_wait_for_cameras(tmp_path: Path) -> None:
    async with recording(plan(tmp_path / "r", "rtsp://127.0.0.1:9/x", "rtsp://192.0.2.1/x")) as it:
        assert (await it.wait(Lost)).cause is Cause.REFUSED
        before = asyncio.get_running_loop().time()
        await it.recorder.stop()
    assert asyncio.get_running_loop().time() - before < 10


@pytest.mark.parametrize("leap_s", [3600.0, -5.0, -7200.0])
async def test_time_stamps_that_leap_cost_no_picture_and_no_duration(
    leap_s: float, cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack()
    server = cameras({"front": shown})
    with Proxy(server.port, stamps=True) as proxy:
        async with recording(plan(tmp_path / "r", server.url("front", proxy.port), segment_s=3.0)) as it:
            await it.wait(Closed)
            proxy.jump(leap_s)
            await it.wait(Closed, when=lambda one: one.why is Why.JUMP)
            await it.wait(Closed, 3)
    expect(found := it.match(shown))
    assert not it.all(Lost)
    jumps = it.noticed("jump")
    assert {one.track for one in jumps} == {"video", "audio"}
    assert all(one.value / 1e6 == pytest.approx(leap_s, abs=1) for one in jumps)
    assert sum(one.media_us for one in it.all(Closed)) == pytest.approx(len(found.pictures) * 40_000, abs=500_000)


async def test_a_wrap_of_the_time_stamps_is_no_event(cameras: Start, pack: Pack, tmp_path: Path) -> None:
    shown = pack()
    server = cameras({"front": shown}, wrap_s=3.0)
    async with recording(plan(tmp_path / "r", server.url("front"), segment_s=2.0)) as it:
        await it.wait(Closed, 3)
    expect(it.match(shown))
    assert not it.noticed("jump")


async def test_parameters_that_change_begin_a_new_segment_that_has_them(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    small, large = pack(Footage(laps=5)), pack(Footage(laps=5, size="480x272"))
    server = cameras({"front": small})
    async with recording(plan(tmp_path / "r", server.url("front"), segment_s=30.0)) as it:
        await it.wait(Opened)
        await it.wait(Begun)
        server.switch("front", large)
        await it.wait(Closed, when=lambda one: one.why is Why.CHANGED)
        await it.wait(Begun, 2)
        await asyncio.sleep(1)
    sizes = []
    for path in it.files():
        with av.open(str(path)) as file:
            context = file.streams.video[0].codec_context
            frames = list(file.decode(video=0))
            assert {(frame.width, frame.height) for frame in frames} == {(context.width, context.height)}
            sizes.append((context.width, context.height))
    assert sizes == [(320, 180), (480, 272)]
    assert len(it.noticed("changed")) == 1


async def test_a_killed_recorder_is_replaced_and_what_it_left_is_told_as_it_is(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack()
    server = cameras({"front": shown})
    async with recording(plan(tmp_path / "r", server.url("front"), segment_s=30.0)) as it:
        await it.wait(Begun)
        await asyncio.sleep(2)
        before = it.recorder.pid
        os.kill(before, signal.SIGKILL)
        back = await it.wait(Back)
        await it.wait(Begun, 2)
        assert it.recorder.pid != before
    killed, stopped = it.all(Closed)
    assert (killed.why, stopped.why) == (Why.KILLED, Why.STOPPED)
    (lost,) = it.all(Lost)
    assert lost.cause is Cause.RECORDER
    assert lost.since_us <= back.at_us
    found = it.match(shown)
    assert killed.frames > 25
    assert len(found.gaps) == 1
    assert not found.damaged
    assert killed.media_us == pytest.approx(killed.frames * 40_000, abs=100)


async def test_a_recorder_that_hangs_is_noticed(cameras: Start, pack: Pack, tmp_path: Path) -> None:
    server = cameras({"front": pack()})
    async with recording(plan(tmp_path / "r", server.url("front"))) as it:
        await it.wait(Begun)
        os.kill(it.recorder.pid, signal.SIGSTOP)
        lost = await it.wait(Lost)
        await it.wait(Back)
    assert lost.cause is Cause.RECORDER
    assert "10 s" in lost.detail
