"""What an ext4 disk has of a running recording at the moment its power fails: at most a second is missing, all plays.

The disk is a loop device; its backing file is what reached the medium, and a copy of it is what a cut leaves. A whole
machine is cut in vm_rooms.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import pytest

from agent.rooms.protocol import Begun
from simulator.cameras.camera import Cameras
from simulator.cameras.frames import _SAID, Known, expect
from tests.disks import MIB, ext4, loop, mounted
from tests.recording import plan, recording

pytestmark = pytest.mark.root

CUTS = 5
RATE = 25
EACH_S = 0.87
"""Between cuts: each falls into another part of fragments, flushes and groups of pictures."""


class Onlooker:
    """Somebody else who looks at the camera: which picture it shows now."""

    def __init__(self, url: str) -> None:
        self.number = -1
        self._ending = False
        self._thread = threading.Thread(target=self._look, args=(url,))
        self._thread.start()

    def _look(self, url: str) -> None:
        with av.open(url, options={"rtsp_transport": "tcp"}, timeout=(10, 10)) as container:
            for packet in container.demux(video=0):
                said = _SAID.search(bytes(packet))
                self.number = int(said[1], 16) if said else self.number
                if self._ending:
                    return

    def end(self) -> None:
        self._ending = True
        self._thread.join(20)


@contextlib.contextmanager
def standing_still() -> Iterator[None]:
    """All processes that this one has started stop for a moment, as with the power."""
    pids = [int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_power_cut_takes_a_second_at_most_and_what_is_left_plays(
    tmp_path: Path, pack: Callable[..., Path], cameras: Callable[..., Cameras], record_property: Callable[..., None]
) -> None:
    footage = pack()
    url = cameras({"front": footage}).url("front")
    disk, image = tmp_path / "disk", tmp_path / "disk.img"
    disk.mkdir()
    shown: list[int] = []
    with ext4(disk, image, 48 * MIB):
        async with recording(plan(disk / "session", url, segment_s=4.0)) as it:
            onlooker = await asyncio.to_thread(Onlooker, url)
            try:
                await it.wait(Begun)
                for cut in range(CUTS):
                    await asyncio.sleep(EACH_S)
                    with standing_still():
                        shown.append(onlooker.number)
                        shutil.copyfile(image, tmp_path / f"cut{cut}.img")
            finally:
                await asyncio.to_thread(onlooker.end)
    lost_s = [_lost(tmp_path / f"cut{cut}.img", tmp_path, footage, number) for cut, number in enumerate(shown)]
    record_property("lost_s", str(lost_s))
    assert sorted(lost_s)[CUTS // 2] <= 1.0, f"lost {lost_s} s"  # the others may have met a busy machine


def _lost(image: Path, folder: Path, footage: Path, shown: int) -> float:
    """Seconds between what the camera showed at the cut and the last that is on the disk; all before is there."""
    left = folder / f"{image.stem}-disk"
    left.mkdir()
    with loop(image) as device, mounted(left, device.path):
        files = sorted((left / "session").glob("cam0-*.mp4"))
        known = Known(footage).match(files)
    if known.unreadable == [files[-1].name]:  # begun so shortly before that it has no fragment yet
        known.unreadable.clear()
    expect(known)
    return round((shown - known.pictures[-1]) / RATE, 2)
