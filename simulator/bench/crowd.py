"""Case d: many recorders at the speed of USB 2.0 at once, and what the daemon still does meanwhile."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from agent import control
from agent.journal import Reader
from agent.model import AssetState
from simulator.bench.daemon import STATUS, Asking, running
from simulator.bench.measure import Cost, PeakMemory, forget, run
from simulator.bench.place import Bench, contents, write_card
from simulator.bench.report import BenchError, Row
from simulator.bench.throttle import Slow, slowed
from simulator.stage import Stage

MIB: Final = 1 << 20
RATE_GOAL: Final = 0.95
P99_GOAL_MS: Final = 100
ONE_MEMORY_GOAL_MB: Final = 150
MEMORY_GOAL_MB: Final = 400
_CLIPS: Final = 4
_MEMORY_FOLDER: Final = Path("/dev/shm")  # noqa: S108 - memory on purpose
_SAMPLE_S: Final = 0.05
_MEMORY_SAMPLE_S: Final = 0.5
_LIMIT_S: Final = 30.0


@dataclass(slots=True)
class Seen:
    """What one crowd of recorders showed; without those below `held_mb_s`, what it showed to plain commands."""

    slowest_mb_s: float = 0.0
    first_byte_s: float = 0.0
    held_mb_s: float = 0.0
    p99_ms: float = 0.0
    peak_mb: float = 0.0
    ordered: int = 0


class Following:
    """Samples the counters of the devices on a thread: when each gave its first byte and when its last."""

    def __init__(self, slow: Slow, devices: int, size_bytes: int) -> None:
        self._slow = slow
        self._size_bytes = size_bytes
        self._before = slow.read_bytes()[:devices]
        self._began_s = time.perf_counter()
        self._first_s = [self._began_s] * devices
        self._last_s = [self._began_s] * devices
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="following")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            now_s = time.perf_counter()
            for number, (got, before) in enumerate(zip(self._slow.read_bytes(), self._before, strict=False)):
                if got == before:  # not even the first byte
                    self._first_s[number] = now_s
                if got - before < self._size_bytes:  # not yet the last one
                    self._last_s[number] = now_s

    @property
    def slowest_mb_s(self) -> float:
        """Rate at which the slowest device gave bytes, from the first of its listing on."""
        spans_s = (last - first for first, last in zip(self._first_s, self._last_s, strict=True))
        return self._size_bytes / 1e6 / max(spans_s)

    @property
    def first_byte_s(self) -> float:
        """Seconds until the last of the devices gave its first byte."""
        return max(self._first_s) - self._began_s


def crowd(bench: Bench) -> list[Row]:
    """One recorder, then all of them; the same devices read by `dd` are the reference."""
    recorders, clip_bytes, rate = (3, 6 * MIB, 8 * MIB) if bench.quick else (16, 75 * MIB, 30_000_000)
    bench.require_room(bench.root, 3 * recorders * _CLIPS * clip_bytes)
    bench.require_room(_MEMORY_FOLDER, 2 * recorders * _CLIPS * clip_bytes)
    folder = Path(tempfile.mkdtemp(prefix="capture-agent-bench-", dir=_MEMORY_FOLDER))
    try:
        bench.say(f"making {recorders} recorders of {_CLIPS * clip_bytes // MIB} MiB in memory")
        images = [folder / f"recorder-{number:02}.img" for number in range(recorders)]
        for number, image in enumerate(images):
            write_card(image, contents(_CLIPS, clip_bytes, seed=1000 * (number + 1)))
        alone, plain, nowhere, together, by_hand = [], [], [], [], []
        for _ in range(bench.rounds):
            with slowed(images, rate) as slow:
                plain.append(_by_dd(bench, slow, clip_bytes))
                nowhere.append(_all_by_dd(bench, slow, _CLIPS * clip_bytes, bench.root, "/dev/null")[0].slowest_mb_s)
                by_hand.append(_by_hand(bench, slow, clip_bytes))
                alone.append(_docked(bench, slow, slow.devices[:1], clip_bytes))
            with slowed(images, rate) as slow:
                together.append(_docked(bench, slow, slow.devices, clip_bytes))
                bench.say(f"{recorders} recorders: slowest {together[-1].slowest_mb_s:.1f} MB/s")
    finally:
        shutil.rmtree(folder)
    return _rows(recorders, rate, alone, plain, nowhere, together, by_hand)


def _rows(
    recorders: int,
    rate: int,
    alone: list[Seen],
    plain: list[float],
    nowhere: list[float],
    together: list[Seen],
    by_hand: list[Seen],
) -> list[Row]:
    crowded = f"{recorders} recorders, {rate / 1e6:.0f} MB/s each"
    slowest = tuple(seen.slowest_mb_s for seen in together)
    return [
        Row("d", f"{crowded}: the slowest", "MB/s", slowest, "dd of one of them alone", tuple(plain), RATE_GOAL, True),
        Row(
            "d", f"{crowded}: the slowest", "MB/s", slowest,
            "all at once by dd, kept nowhere: its slowest", tuple(nowhere),
        ),
        Row(
            "d", f"{crowded}: the slowest", "MB/s", slowest,
            "all at once by dd onto the disk, nothing flushed or read back: its slowest",
            tuple(seen.slowest_mb_s for seen in by_hand),
        ),
        Row(
            "d", f"{crowded}: sum until HELD", "MB/s", tuple(seen.held_mb_s for seen in together),
            "all at once by dd, then sync + b3sum of the copies", tuple(seen.held_mb_s for seen in by_hand),
        ),
        Row("d", "docking to the first byte of the last of them", "s", tuple(seen.first_byte_s for seen in together)),
        Row("d", "status meanwhile, p99", "ms", tuple(seen.p99_ms for seen in together), goal=P99_GOAL_MS),
        Row(
            "d", "recorders held in the order of deadlines", "", tuple(float(seen.ordered) for seen in together),
            goal=recorders, at_least=True,
        ),
        Row(
            "c", "peak memory of daemon and helpers, 1 recorder (PSS)", "MB", tuple(seen.peak_mb for seen in alone),
            goal=ONE_MEMORY_GOAL_MB,
        ),
        Row(
            "c", f"peak memory of daemon and helpers, {recorders} recorders (PSS)", "MB",
            tuple(seen.peak_mb for seen in together), goal=MEMORY_GOAL_MB,
        ),
    ]  # fmt: skip


def _by_dd(bench: Bench, slow: Slow, clip_bytes: int) -> float:
    """MB/s that the throttled device gives to dd."""
    forget()
    size = min(_CLIPS * clip_bytes, 4 * slow.rate_bytes_s)
    words = ["dd", f"if={slow.devices[0]}", "of=/dev/null", "bs=256K", f"count={size}", "iflag=count_bytes"]
    return size / 1e6 / run(slow.command(words), bench.log).wall_s


def _by_hand(bench: Bench, slow: Slow, clip_bytes: int) -> Seen:
    """Plain commands copy all devices at once, then read the copies from the medium."""
    copies = bench.root / "copies"
    copies.mkdir()
    size = _CLIPS * clip_bytes
    following, cost = _all_by_dd(bench, slow, size, copies, '"$0/${device##*/}"')
    cost += run(["sync", "--file-system", copies], bench.log)
    forget()
    cost += run(["sh", "-c", 'b3sum "$0"/* >/dev/null', copies], bench.log)
    shutil.rmtree(copies)
    return Seen(following.slowest_mb_s, following.first_byte_s, len(slow.devices) * size / 1e6 / cost.wall_s)


def _all_by_dd(bench: Bench, slow: Slow, size: int, folder: Path, out: str) -> tuple[Following, Cost]:
    """Read all devices at once into what the shell makes of `out`, where $0 is the folder."""
    copy = f'dd if="$device" of={out} bs=256K count={size} iflag=count_bytes status=none &'
    forget()
    with Following(slow, len(slow.devices), size) as following:
        cost = run(slow.command(["sh", "-c", f"for device; do {copy} done; wait", folder, *slow.devices]), bench.log)
    return following, cost


def _docked(bench: Bench, slow: Slow, devices: tuple[Path, ...], clip_bytes: int) -> Seen:
    """Dock the devices at once at a running daemon. The store's disk is not there: docking alone is measured."""
    seen = Seen()
    with bench.stage("crowd", {"runner.backoff_base_s": "600"}) as stage:
        take_the_store_away(stage)
        forget()
        with running(stage, slow.command(stage.command("run"))) as daemon:
            with PeakMemory(daemon.pid, sample_s=_MEMORY_SAMPLE_S) as peak, Asking(stage, daemon.token) as asking:
                with Following(slow, len(devices), _CLIPS * clip_bytes) as following:
                    began_s = time.perf_counter()
                    asyncio.run(_dock(stage, devices))
                    _until_held(stage, len(devices), began_s + 4 * _CLIPS * clip_bytes / slow.rate_bytes_s + _LIMIT_S)
                    held_s = time.perf_counter() - began_s
        if asking.trouble:
            raise BenchError(f"the status gave no answer: {asking.trouble}")
        seen.slowest_mb_s, seen.first_byte_s = following.slowest_mb_s, following.first_byte_s
        seen.held_mb_s = len(devices) * _CLIPS * clip_bytes / 1e6 / held_s
        seen.peak_mb = peak.peak_bytes / 1e6
        seen.p99_ms = 1e3 * statistics.quantiles(asking.times_s, n=100, method="inclusive")[98]
        seen.ordered = _ordered(stage)
    return seen


def take_the_store_away(stage: Stage) -> None:
    """Configure a store that is not there: nothing is uploaded meanwhile."""
    away = stage.root / "not-mounted"
    options = f'path = "{away}"\n'
    text = stage.config.read_text("utf-8")
    stage.config.write_text(text.replace(f'path = "{stage.store}"\n', options), "utf-8")


async def _dock(stage: Stage, devices: tuple[Path, ...]) -> None:
    await asyncio.gather(*(control.ask(stage.station, "dock", {"path": str(device)}) for device in devices))


def _until_held(stage: Stage, recorders: int, end_s: float) -> None:
    """Return when every clip is held; raises BenchError at `end_s`."""
    with closing(Reader(stage.station / "journal.db")) as reader:
        while reader.overview(datetime.now(UTC)).assets[AssetState.HELD].files < recorders * _CLIPS:
            if time.perf_counter() > end_s:
                raise BenchError(f"the recorders are not held in time: {stage.ask(STATUS)['slots']}")
            time.sleep(_SAMPLE_S)


def _ordered(stage: Stage) -> int:
    """Dockings whose originals became held in the order of their deadlines."""
    with closing(Reader(stage.station / "journal.db")) as reader:
        views = {view.asset.asset_id: view for view in reader.recordings(limit=1 << 20)}
        held = [event.subject for event in reader.events(limit=1 << 30) if event.kind == "acquired"]
    alarms = defaultdict(list)
    for asset_id in held:
        alarms[views[asset_id].docking_id].append(views[asset_id].recording.deadline.alarm_at)
    return sum(times == sorted(times) for times in alarms.values())
