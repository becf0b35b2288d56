"""Case l: recording rooms. CPU and memory for each stream against ffmpeg on the same streams at the same time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.rooms.engine import RoomRecorder
from agent.rooms.protocol import Begun, Closed, Lost, Noticed, Plan, Report, SourcePlan
from simulator.bench.measure import family
from simulator.bench.place import Bench
from simulator.bench.report import BenchError, Row
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage, made
from simulator.cameras.frames import Known

CPU_GOAL: Final = 1.1
MEMORY_GOAL_MB: Final = 60.0
FULL_HD: Final = Footage(
    size="1920x1080", kbit_s=4000, gop=50, laps=50, picture="testsrc2=size={size}:rate=25,noise=alls=12:allf=t"
)
SMALL: Final = Footage(laps=25)
_SETTLE_S: Final = 4.0
_SEGMENT_S: Final = 10
_START_LIMIT_S: Final = 120.0
_CAMERAS: Final = 2
"""Whoever asks the same camera gets the same packets: serving more of them would take the cores."""
_STOP_LIMIT_S: Final = 60.0
_PLAIN: Final = "ffmpeg -c copy -f segment: no fragments, nothing flushed, all lost in a crash"
_SAME: Final = "ffmpeg with the same fragments, flushed each second by another process, which isn't counted"
_FRAGMENTS: Final = "movflags=+empty_moov+default_base_moof:frag_duration=500000:flush_packets=1"


def rooms(bench: Bench) -> list[Row]:
    """Alone and eight at once; then as many as two cores carry."""
    pack = made(SMALL if bench.quick else FULL_HD, bench.root / "rooms")
    seconds, times = (2.0, 1) if bench.quick else (40.0, max(1, bench.rounds - 2))
    rows: list[Row] = []
    for streams in (1,) if bench.quick else (1, 8):
        measured = [_compared(bench, pack, streams, seconds) for _ in range(times)]
        rows += _rows(streams, measured)
    return [*rows, *_carried(bench, pack, 2.0 if bench.quick else 60.0)]


def _rows(streams: int, measured: list[dict[str, tuple[float, float]]]) -> list[Row]:
    def cpu(name: str) -> tuple[float, ...]:
        return tuple(100 * one[name][0] / streams for one in measured)

    what = f"CPU of each of {streams} streams, 1080p25, 4 Mbit/s, AAC: per cent of a core"
    ours, watched = cpu("ours"), cpu("watched")
    memory = tuple(one["ours"][1] / streams for one in measured)
    theirs = tuple(one["plain"][1] / streams for one in measured)
    return [
        Row("l", what, "%", ours, _PLAIN, cpu("plain"), CPU_GOAL),
        Row("l", what, "%", ours, _SAME, cpu("same")),
        Row("l", "the same, pictures and sound watched as well", "%", watched, _PLAIN, cpu("plain")),
        Row("l", f"memory of each of {streams} (resident)", "MB", memory, goal=MEMORY_GOAL_MB),
        Row("l", f"memory of each of {streams} (resident)", "MB", memory, "ffmpeg", theirs),
    ]


def _compared(bench: Bench, pack: Path, streams: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Cores used and megabytes resident by each way of recording the same streams at the same time."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Cameras({f"cam{at}": pack for at in range(_CAMERAS)}))
        urls = [server.url(f"cam{at % _CAMERAS}") for at in range(streams)]
        folder = bench.root / "recorded"
        pids: dict[str, Callable[[], list[int]]] = {}
        for name, options in (("plain", ()), ("same", ("-segment_format_options", _FRAGMENTS))):
            pids[name] = stack.enter_context(_ffmpeg(folder / name, urls, options))
        for name in ("ours", "watched"):
            pids[name] = stack.enter_context(_recorder(folder / name, urls, watch=name == "watched"))
        for name in pids:
            _wait_for(folder / name, streams)
        time.sleep(_SETTLE_S)
        before, began_s = {name: _cpu_s(of()) for name, of in pids.items()}, time.monotonic()
        time.sleep(seconds)
        used = {name: (_cpu_s(of()) - before[name]) / (time.monotonic() - began_s) for name, of in pids.items()}
        resident = {name: sum(map(_resident_mb, of())) for name, of in pids.items()}
    shutil.rmtree(folder)
    return {name: (used[name], resident[name]) for name in pids}


@contextlib.contextmanager
def _ffmpeg(folder: Path, urls: list[str], options: tuple[str, ...]) -> Iterator[Callable[[], list[int]]]:
    folder.mkdir(parents=True)
    words = ["-f", "segment", "-segment_time", str(_SEGMENT_S), *options, "-reset_timestamps", "1"]
    running = [
        subprocess.Popen(
            ["ffmpeg", "-v", "quiet", "-nostdin", "-rtsp_transport", "tcp", "-i", url, "-map", "0", "-c", "copy",
             *words, str(folder / f"{at}-%03d.mp4")]
        )
        for at, url in enumerate(urls)
    ]  # fmt: skip
    flushing = (
        subprocess.Popen(["sh", "-c", f"while sleep 1; do sync -d {folder}/*.mp4 2>/dev/null; done"])
        if options
        else None
    )
    try:
        yield lambda: [one.pid for one in running]
    finally:
        for one in [*running, *([flushing] if flushing else [])]:
            one.kill()
            one.wait()


@contextlib.contextmanager
def _recorder(
    folder: Path, urls: list[str], *, watch: bool, said: list[Report] | None = None
) -> Iterator[Callable[[], list[int]]]:
    """Our recorder, by the daemon's side of it, which runs here."""
    folder.mkdir(parents=True)
    sources = tuple(SourcePlan(f"cam{at}", url, watch=watch) for at, url in enumerate(urls))
    recorder = RoomRecorder(
        Plan("bench", str(folder), sources, (1,) * len(urls), segment_s=_SEGMENT_S), lambda: datetime.now(UTC)
    )
    heard: list[Report] = [] if said is None else said

    async def listen() -> None:
        async for report in recorder.reports():
            if not isinstance(report, Lost | Begun | Closed | Noticed):
                continue
            heard.append(report)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    listening = asyncio.run_coroutine_threadsafe(listen(), loop)
    try:
        yield lambda: list(family(recorder.pid)) if recorder.pid else []
    finally:
        asyncio.run_coroutine_threadsafe(recorder.stop(), loop).result(_STOP_LIMIT_S)
        listening.result(_STOP_LIMIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def _carried(bench: Bench, pack: Path, seconds: float) -> list[Row]:
    """How many streams one recorder takes without losing a packet, twice as many each time."""
    carried, share, streams = 0, 0.0, 2 if bench.quick else 8
    while streams <= 128:
        folder, said = bench.root / "many", list[Report]()
        with Cameras({"cam": pack}) as server:
            urls = [server.url("cam")] * streams
            with _recorder(folder, urls, watch=False, said=said) as pids:
                _wait_for(folder, streams)
                time.sleep(_SETTLE_S)
                before, all_before, began_s = _cpu_s(pids()), _busy_s(), time.monotonic()
                time.sleep(seconds)
                wall_s = time.monotonic() - began_s
                used, busy = (_cpu_s(pids()) - before) / wall_s, (_busy_s() - all_before) / wall_s
        lost = _missing(folder, streams, pack) + sum(isinstance(one, Lost) for one in said)
        bench.say(f"{streams} streams: {lost} pictures lost, recorder {used:.2f} cores, all {busy:.2f} cores")
        shutil.rmtree(folder)
        if lost:
            break
        carried, share = streams, 100 * used / streams
        if bench.quick:
            break
        streams *= 2
    if not carried:
        raise BenchError(f"the recorder lost pictures of {streams} streams")
    by_cpu = 100 * (os.cpu_count() or 1) / share
    return [
        Row("l", "streams without a picture lost; the cameras are served by the same cores", "", (float(carried),)),
        Row("l", "streams that this machine's cores would carry by the recorder's CPU alone", "", (by_cpu,)),
    ]


def _missing(folder: Path, streams: int, pack: Path) -> int:
    known, lost = Known(pack), 0
    for at in range(streams):
        found = known.match(sorted(folder.glob(f"cam{at}-*.mp4")))
        lost += found.missing + len(found.damaged) + (not found.pictures)
    return lost


def _wait_for(folder: Path, streams: int) -> None:
    """Until each stream is being written."""
    until_s = time.monotonic() + _START_LIMIT_S
    while sum(path.stat().st_size > 0 for path in folder.glob("*.mp4")) < streams:
        if time.monotonic() > until_s:
            raise BenchError(f"{folder.name}: not every stream began")
        time.sleep(0.2)


def _cpu_s(pids: list[int]) -> float:
    """Processor time of all threads, to the nanosecond; /proc/pid/stat counts in hundredths."""
    total = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def _busy_s() -> float:
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return (sum(map(int, fields[:3])) + sum(map(int, fields[5:8]))) / os.sysconf("SC_CLK_TCK")


def _resident_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
