"""What takes minutes: cameras with random faults, fifty crashes, and eight hours made short."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import av
import pytest

from agent.rooms.protocol import Alive, Back, Begun, Closed, Lost, Why
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage
from simulator.cameras.frames import Matched, expect
from simulator.cameras.proxy import Proxy
from tests.recording import Recording, plan, recording

pytestmark = [pytest.mark.soak, pytest.mark.timeout(3600)]

Pack = Callable[..., Path]
Start = Callable[..., Cameras]
FAULTS_S = float(os.environ.get("SOAK_FAULTS_S", "600"))
KILLS = int(os.environ.get("SOAK_KILLS", "50"))
HOURS = float(os.environ.get("SOAK_HOURS", "8"))
NEAR_S = 1.0
"""How far the ledger's times may be from the pictures' own: what waited in buffers when a connection broke."""


def say(*words: object) -> None:
    """What was measured, for whoever runs it with -s."""
    sys.stdout.write(" ".join(str(word) for word in words) + "\n")


def played(path: Path) -> int:
    """How many pictures of a file can be decoded."""
    with av.open(str(path)) as file:
        return sum(1 for _ in file.decode(video=0))


async def misbehave(proxy: Proxy, dice: random.Random, until_s: float) -> None:
    """A camera's worst ten minutes."""
    faults: list[tuple[Callable[[], None], float, float]] = [
        (proxy.stall, 1, 8),
        (proxy.rst, 0, 1),
        (proxy.half_open, 6, 9),
        (proxy.deaf, 0, 0),
        (lambda: (proxy.refuse(), proxy.rst())[0], 1, 6),  # type: ignore[func-returns-value]
        (lambda: (proxy.deaf(), proxy.rst())[0], 1, 6),  # type: ignore[func-returns-value]
        (lambda: proxy.jump(dice.choice([3600, -30, 7000, -3600])), 0, 0),
    ]
    while time.monotonic() < until_s:
        await asyncio.sleep(dice.uniform(4, 12))
        fault, least_s, most_s = dice.choice(faults)
        fault()
        await asyncio.sleep(dice.uniform(least_s, most_s))
        proxy.resume()


def ledger(it: Recording, source: str) -> list[tuple[float, float]]:
    """Outages and holes that were told, in seconds since 1970."""
    lost, back = it.all(Lost, source), it.all(Back, source)
    told = [(a.since_us / 1e6, b.at_us / 1e6) for a, b in zip(lost, back, strict=False)]
    return told + [
        (one.start_us / 1e6, (one.end_us or 0) / 1e6) for one in it.noticed("dropped") if one.source == source
    ]


def agree(found: Matched, told: list[tuple[float, float]], began: float) -> None:
    """Each hole between the pictures is an entry of the ledger, from its last picture to its next."""
    for first, missing in found.gaps:
        start, end = began + (first - 1) / 25, began + (first + missing) / 25
        near = [(a, b) for a, b in told if abs(a - start) < NEAR_S and abs(b - end) < NEAR_S]
        assert near, f"{missing} pictures from {start} to {end} are in no ledger: {told}"


async def test_four_cameras_with_random_faults_and_the_ledger_agrees_with_the_files(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    shown = [
        pack(Footage()),
        pack(Footage("hevc", "pcm_alaw")),
        pack(Footage(audio="pcm_mulaw")),
        pack(Footage(audio="")),
    ]
    server = cameras({f"cam{at}": one for at, one in enumerate(shown)})
    began = time.time() - (time.monotonic() - server.began)
    with ExitStack() as stack:
        proxies = [
            stack.enter_context(Proxy(server.port, stamps=True, audio_rate=rate)) for rate in (16_000, 8000, 8000, 1)
        ]
        urls = [server.url(f"cam{at}", proxy.port) for at, proxy in enumerate(proxies)]
        async with recording(plan(tmp_path / "r", *urls, segment_s=20.0)) as it:
            await asyncio.gather(*(it.wait(Begun, when=lambda one, n=name: one.source == n) for name in it.sources))
            until_s = time.monotonic() + FAULTS_S
            await asyncio.gather(*(misbehave(p, random.Random(at), until_s) for at, p in enumerate(proxies)))
            well_us = time.monotonic_ns() // 1000 + 8_000_000
            for name in it.sources:
                await it.wait(
                    Alive, when=lambda one, n=name: one.source == n and one.connected and one.mono_us > well_us
                )
    for at, name in enumerate(it.sources):
        found = it.match(shown[at], source=name)
        lost = it.all(Lost, name)
        say(name, len(found.pictures), "pictures", len(found.gaps), "gaps", found.missing, "missing,",
              len(found.damaged), "cut,", len(lost), "outages", {one.cause.value for one in lost})  # fmt: skip
        assert found.repeated == 0
        assert not found.unreadable
        assert len(found.damaged) <= len(lost)
        assert len(lost) == len(it.all(Back, name))
        agree(found, ledger(it, name), began)


async def test_fifty_crashes_of_the_recorder_lose_at_most_a_second_each_and_all_that_is_there_plays(
    cameras: Start, pack: Pack, tmp_path: Path
) -> None:
    server, dice = cameras({"front": pack(Footage())}), random.Random(1)
    shown: list[int] = []
    async with recording(plan(tmp_path / "r", server.url("front"), segment_s=60.0)) as it:
        for crash in range(KILLS):
            await it.wait(Begun, crash + 1)
            await asyncio.sleep(dice.uniform(1.5, 4))
            os.kill(it.recorder.pid, signal.SIGKILL)
            shown.append(int((time.monotonic() - server.began) * 25))
            await it.wait(Closed, crash + 1)
    found = it.match(pack(Footage()))
    killed = [one for one in it.all(Closed) if one.why is Why.KILLED]
    assert len(killed) == KILLS
    lost = [at - found.per_file[one.file][-1] for at, one in zip(shown, killed, strict=True)]
    say("pictures lost by each crash:", sorted(lost))
    assert max(lost) <= 25
    assert len(found.damaged) <= KILLS // 10, "a picture at which the crash came is cut, and is the last of its file"
    assert len(found.gaps) >= KILLS - 1
    assert all(played(it.folder / name) >= len(pictures) - 1 for name, pictures in found.per_file.items())


async def test_eight_hours_leave_no_seam_and_memory_flat(cameras: Start, pack: Pack, tmp_path: Path) -> None:
    """Sixty times as fast: the camera shows more, and a proxy stretches its time stamps to what that would take."""
    speed, memory_mb = 60.0, list[float]()
    shown = pack(Footage(size="160x90", kbit_s=40, gop=50, laps=100))
    server = cameras({"front": shown}, speed=speed)
    with Proxy(server.port, stamps=True) as proxy:
        proxy.drift(speed)
        async with recording(plan(tmp_path / "r", server.url("front", proxy.port), segment_s=60.0)) as it:
            await it.wait(Begun)
            while sum(one.media_us for one in it.all(Closed)) < HOURS * 3.6e9:  # a busy machine is slower
                await asyncio.sleep(2)
                resident = Path(f"/proc/{it.recorder.pid}/statm").read_text().split()[1]
                memory_mb.append(int(resident) * os.sysconf("SC_PAGE_SIZE") / 1e6)
    found, closed = it.match(shown), it.all(Closed)
    hours = sum(one.media_us for one in closed) / 3.6e9
    say(f"{hours:.2f} h in {len(closed)} segments, memory {memory_mb[5]:.1f} to {max(memory_mb[5:]):.1f} MB")
    expect(found)
    assert hours * 3600 == pytest.approx(len(found.pictures) / 25, rel=1e-3)
    assert {one.why for one in closed[:-1]} == {Why.LENGTH}
    assert not it.all(Lost)
    assert max(memory_mb[5:]) - memory_mb[5] < 8
