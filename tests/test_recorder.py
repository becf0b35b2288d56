"""What a room's recorder keeps of real RTSP streams, to the picture, through the faults of cameras and networks."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import av
import pytest

from agent import child
from agent.rooms import engine
from agent.rooms.protocol import Alive, Back, Begun, Cause, Closed, Lost, Noticed, Opened, Transport, Why
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage
from simulator.cameras.frames import Known, expect
from simulator.cameras.proxy import Proxy
from tests import disks
from tests.recording import plan, recording

Pack = Callable[..., Path]
Start = Callable[..., Cameras]


KINDS = (("h264", "aac", "mp4"), ("hevc", "pcm_mulaw", "mov"), ("h264", "pcm_alaw", "mov"))


async def test_every_picture_and_sound_is_in_segments_without_a_seam(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    """Each codec over TCP and over UDP, and pictures that are shown in another order than they come."""
    shown = [pack(Footage(video, audio, gop=12)) for video, audio, _ in KINDS] + [pack(Footage(b_frames=2, gop=12))]
    # Each has a camera of its own: gst-rtsp-server may forget its reports if TCP and UDP come to one at the same time.
    server = cameras({f"cam{at}": one for at, one in enumerate([*shown, *shown[:3]])})
    what = plan(tmp_path / "r", *(server.url(f"cam{at}") for at in range(7)), segment_s=1.0)
    udp = tuple(replace(one, transport=Transport.UDP) for one in what.sources[4:])
    async with recording(replace(what, sources=what.sources[:4] + udp)) as it:
        for source in what.sources:
            await it.wait(Closed, 3, when=lambda one, name=source.name: one.source == name)  # type: ignore[misc]
        for at in range(7):  # a camera says what time it is by and by
            await it.wait(Closed, when=lambda one, at=at: one.source == f"cam{at}" and one.camera_us is not None)  # type: ignore[misc]
    assert not [one for one in it.all(Lost) if one.source in {"cam0", "cam1", "cam2", "cam3"}]
    for at, one in enumerate([*shown, *shown[:3]]):
        name, closed = f"cam{at}", it.all(Closed, f"cam{at}")
        found = it.match(one, source=name)
        if at >= len(shown) and (found.gaps or found.damaged):  # UDP: a busy machine loses packets before we see them
            assert it.all(Noticed, name) or it.all(Lost, name)
            continue
        expect(found)
        assert [one.number for one in closed] == list(range(1, len(closed) + 1))
        assert [one.why for one in closed] == [Why.LENGTH] * (len(closed) - 1) + [Why.STOPPED]
        assert [one.file for one in closed] == [path.name for path in it.files(name)]
        assert sum(one.media_us for one in closed) == pytest.approx(len(found.pictures) * 40_000, abs=80_000)
        assert [one.end_us for one in closed[:-1]] == [one.start_us for one in closed[1:]]
        assert found.sound > 20
        assert all(abs(one.av_us) < 2_000_000 for one in closed if one.av_us is not None)
    for at, (video, audio, kind) in enumerate((*KINDS, ("h264", "aac", "mp4"), *KINDS)):
        closed = it.all(Closed, f"cam{at}")
        assert {tuple(track.codec for track in one.tracks) for one in closed} == {(video, audio)}
        assert {path.suffix for path in it.files(f"cam{at}")} == {f".{kind}"}
        with av.open(str(it.files(f"cam{at}")[0])) as file:
            assert file.streams.video[0].codec_context.codec_tag == ("hvc1" if video == "hevc" else "avc1")
            assert next(file.demux(video=0)).is_keyframe
    with av.open(str(it.files("cam3")[0])) as file:
        times = [frame.pts for frame in file.decode(video=0)]
    assert times == sorted(set(times))


async def test_sound_and_pictures_are_as_far_apart_in_the_file_as_the_camera_had_them(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    """By the numbers of the pictures and the place of each packet of sound in what the camera plays."""
    shown = pack()
    with shown.open("rb") as file:
        head = json.loads(file.readline())
    starts = [row[2] // 1000 for row in head["packets"] if row[1]]
    server = cameras({"front": shown})
    async with recording(plan(tmp_path / "r", server.url("front"))) as it:
        await it.wait(Closed, 2)
    known = Known(shown)
    for closed in it.all(Closed)[:2]:
        picture, sound = known.first(it.folder / closed.file)
        number, picture_us = picture
        place, sound_us = sound
        apart_us = (starts[place] - number % head["pictures"] * 40_000) % 16_000_000
        assert (sound_us - picture_us - apart_us + 8_000_000) % 16_000_000 - 8_000_000 == pytest.approx(0, abs=200)


async def test_each_trouble_is_one_gap_with_its_cause_and_no_source_waits_for_another(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    """A short stall, then a half-open connection; a reset and refusals; no answer; a wrong password; all is well."""
    shown = pack()
    server = cameras({"front": shown})
    with Proxy(server.port) as stalling, Proxy(server.port) as breaking, Proxy(server.port) as silent:
        silent.deaf()
        urls = [server.url("front", proxy.port) for proxy in (stalling, breaking, silent)]
        urls += [server.url("front", password="wrong"), server.url("front")]
        async with recording(plan(tmp_path / "r", *urls, stall_s=3.0)) as it:
            await it.wait(Closed, when=lambda one: one.source == "cam0")
            await it.wait(Closed, when=lambda one: one.source == "cam1")
            stalling.stall()
            breaking.refuse()
            breaking.rst()
            await it.wait(Lost, when=lambda one: one.source == "cam1")
            await asyncio.sleep(1.5)
            stalling.resume()
            breaking.resume()
            await it.wait(Back, when=lambda one: one.source == "cam1")
            await it.wait(Closed, 2, when=lambda one: one.source == "cam0")
            assert not it.all(Lost, "cam0")
            stalling.half_open()
            await it.wait(Lost, when=lambda one: one.source == "cam0")
            await it.wait(Alive, when=lambda one: one.source == "cam0" and one.media_us > 0 and not one.connected)
            stalling.resume()
            await it.wait(Back, when=lambda one: one.source == "cam0")
            await it.wait(Lost, when=lambda one: one.source == "cam2")
            closed = len(it.all(Closed, "cam0"))
            await it.wait(Closed, closed + 1, when=lambda one: one.source == "cam0")
    assert {(one.source, one.cause) for one in it.all(Lost)} == {
        ("cam0", Cause.STALLED), ("cam1", Cause.CLOSED), ("cam2", Cause.STALLED), ("cam3", Cause.UNAUTHORISED),
    }  # fmt: skip
    assert len(it.all(Lost)) == 4
    assert "wrong" not in repr(it.said)
    for name in ("cam0", "cam1"):
        found = it.match(shown, source=name)
        assert len(found.gaps) == 1
        assert len(found.damaged) <= 1
    expect(it.match(shown, source="cam4"))
    assert it.files("cam2") == it.files("cam3") == []


async def test_time_stamps_that_leap_drift_or_wrap_cost_no_picture_and_no_duration(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown, leaps = pack(), (3600.0, -5.0, -7200.0, 0.0)
    server, wrapping = cameras({"front": shown}), cameras({"front": shown}, wrap_s=3.0)
    with ExitStack() as stack:
        proxies = [stack.enter_context(Proxy(server.port, stamps=True)) for _ in leaps]
        proxies[3].drift(1.01)
        urls = [*(server.url("front", proxy.port) for proxy in proxies), wrapping.url("front")]
        async with recording(plan(tmp_path / "r", *urls, segment_s=3.0)) as it:
            for at in range(5):
                await it.wait(Closed, when=lambda one, name=f"cam{at}": one.source == name)  # type: ignore[misc]
            for proxy, leap_s in zip(proxies, leaps, strict=True):
                proxy.jump(leap_s)
            for at in range(3):
                await it.wait(
                    Closed,
                    when=lambda one, name=f"cam{at}": one.source == name and one.why is Why.JUMP,  # type: ignore[misc]
                )
            for at in range(5):
                await it.wait(Closed, 3, when=lambda one, name=f"cam{at}": one.source == name)  # type: ignore[misc]
    assert not it.all(Lost)
    jumps = it.noticed("jump")
    for at, leap_s in enumerate((*leaps, 0.0)):
        name = f"cam{at}"
        expect(found := it.match(shown, source=name))
        told = {(one.track, round(one.value / 1e6)) for one in jumps if one.source == name}
        assert {track for track, _ in told} == ({"video", "audio"} if leap_s else set())
        assert all(abs(value - leap_s) <= 1 for _, value in told)
        plays_us = sum(one.media_us for one in it.all(Closed, name))
        factor = 1.01 if at == 3 else 1.0
        assert plays_us == pytest.approx(len(found.pictures) * 40_000 * factor, abs=500_000 if leap_s else 10_000)


@pytest.mark.root
async def test_a_full_disk_keeps_what_is_there_and_recording_goes_on_when_there_is_room(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    server = cameras({"front": pack()})
    with disks.tmpfs(tmp_path / "disk", 48 << 20) as disk:
        async with recording(plan(disk / "r", server.url("front"), segment_s=60.0)) as it:
            await it.wait(Begun)
            await asyncio.sleep(1.5)
            filler = disks.fill(disk)
            lost = await it.wait(Lost)
            await it.wait(Closed)
            assert it.recorder.pid
            filler.unlink()
            await it.wait(Back)
            await it.wait(Begun, 2)
        found = it.match(pack())
        first, second = it.all(Closed)
    assert lost.cause is Cause.DISK
    assert (first.why, second.why) == (Why.DISK, Why.STOPPED)
    assert len(found.per_file[first.file]) > 20
    assert len(found.gaps) == 1
    assert len(found.damaged) <= 1, "at most the picture at which the disk was full is cut"


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


async def test_a_stall_right_after_a_camera_came_back_does_not_make_it_come_back_later(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = pack()
    server = cameras({"front": shown})
    with Proxy(server.port) as proxy:
        async with recording(plan(tmp_path / "r", server.url("front", proxy.port), stall_s=20.0)) as it:
            await it.wait(Closed)
            proxy.refuse()
            proxy.rst()
            lost = await it.wait(Lost)
            await asyncio.sleep(1)
            begun = len(it.all(Begun))
            proxy.resume()
            await it.wait(Begun, begun + 1)
            proxy.stall()
            await asyncio.sleep(5)
            proxy.resume()
            back = await it.wait(Back)
            await it.wait(Closed, 3)
    found = it.match(shown)
    assert len(found.gaps) == len(it.all(Lost)) == len(it.all(Back)) == 1
    assert (back.at_us - lost.since_us) / 40_000 == pytest.approx(found.missing, abs=15)


async def test_nobody_there_is_refused_and_stop_does_not_wait_for_cameras(tmp_path: Path) -> None:
    async with recording(plan(tmp_path / "r", "rtsp://127.0.0.1:9/x", "rtsp://192.0.2.1/x")) as it:
        assert (await it.wait(Lost)).cause is Cause.REFUSED
        before = asyncio.get_running_loop().time()
        await it.recorder.stop()
    assert asyncio.get_running_loop().time() - before < 10


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
    pictures = len(found.per_file[killed.file])
    assert pictures > 25
    assert len(found.gaps) == 1
    assert not found.damaged
    assert killed.start_us < killed.end_us <= lost.since_us
    assert killed.end_us - killed.start_us >= pictures * 40_000 - 500_000, "it ends when it was written last"
    assert (killed.frames, killed.media_us, killed.tracks) == (0, 0, ()), "who takes it counts"


async def test_a_recorder_that_starts_slowly_is_given_more_time_until_it_records(
    cameras: Start, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut on a busy computer: killed at each start, it would never record."""
    ready = child.command

    def slow(module: str) -> list[str]:
        *words, script = ready(module)
        return [*words, f"import time; time.sleep(2.5); {script}"]

    monkeypatch.setattr(engine, "_SILENT_LIMIT_S", 1.5)
    monkeypatch.setattr(child, "command", slow)
    server = cameras({"front": pack()})
    async with recording(plan(tmp_path / "r", server.url("front"))) as it:
        await it.wait(Begun)
    (lost,) = it.all(Lost)
    assert (lost.cause, lost.detail) == (Cause.RECORDER, "no answer for 1.5 s")
    assert it.all(Closed)


async def test_a_recorder_that_hangs_is_noticed(
    cameras: Start, pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_SILENT_LIMIT_S", 3.0)
    server = cameras({"front": pack()})
    async with recording(plan(tmp_path / "r", server.url("front"))) as it:
        await it.wait(Begun)
        os.kill(it.recorder.pid, signal.SIGSTOP)
        lost = await it.wait(Lost)
        await it.wait(Back)
    assert lost.cause is Cause.RECORDER
    assert "3 s" in lost.detail
