"""Case g: the store lane of the product in simulated time, against first come first served."""

from __future__ import annotations

import asyncio
import random
import selectors
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, ParamSpec, TypeVar, cast

from agent.config import Runner
from agent.journal import Reader
from agent.journal.rows import sortable
from agent.journal.schema import connect, migrate
from agent.model import BLOCK_BYTES, AssetState, Role
from agent.pipeline.station import Station
from agent.pipeline.storing import OVERTAKERS, Delivery, StoreLane
from agent.turns import Gate, Shares
from simulator.bench.place import Bench
from simulator.bench.report import Row

P = ParamSpec("P")
R = TypeVar("R")

_HOUR_S: Final = 3.6
"""A thousandth: what the lane does every few seconds while it waits would be nearly all of the simulation."""

RATE_BYTES_S: Final = 5_000_000_000
PART_BYTES: Final = 64 << 20
"""What one request to a collecting service carries."""

_NOW: Final = datetime(2026, 11, 23, tzinfo=UTC)
_FILLED: Final = 0.98
_FILES: Final = 40
_SMALL_AT_A_TIME: Final = 16


@dataclass(frozen=True, slots=True)
class Job:
    """One original: when it is held, when it is due (seconds from the beginning), how large, and of which recorder."""

    held_s: float
    due_s: float
    size_bytes: int
    device: str


def demand(jobs: Sequence[Job]) -> float:
    """How full the fullest stretch of time is: 1 is just possible.

    By the demand bound: between any time at which something is held and any at which something is due the line must
    carry all that is held and due between them, and at most one part of what is less urgent. If it can in every such
    stretch, the earliest deadline first meets all deadlines, and nothing else could meet more (Jeffay, Stanat, Martel,
    RTSS 1991).
    """
    worst = 0.0
    by_due = sorted(jobs, key=lambda job: job.due_s)
    for begin_s in {job.held_s for job in jobs}:
        size_bytes = PART_BYTES
        for job in by_due:
            if job.held_s >= begin_s:
                size_bytes += job.size_bytes
                worst = max(worst, size_bytes / RATE_BYTES_S / (job.due_s - begin_s))
    return worst


def load(dice: random.Random) -> list[Job]:
    """Films, recordings and photos of two days of a bureau, made as large as they can be for all to be in time."""
    jobs = []
    for _ in range(_FILES):
        held_s = dice.uniform(0, 48 * _HOUR_S)
        midnight = (held_s // (24 * _HOUR_S) + 1) * 24 * _HOUR_S
        due_s = dice.choice([midnight, midnight + 24 * _HOUR_S, midnight + 48 * _HOUR_S, held_s + 24 * _HOUR_S])
        size_bytes = round(10 ** dice.uniform(6.5, 10))
        jobs.append(Job(held_s, max(due_s, held_s + _HOUR_S), size_bytes, f"recorder {dice.randrange(6)}"))
    low, high = 0.0, 1000.0
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if demand(_scaled(jobs, middle)) <= _FILLED else (low, middle)
    return _scaled(jobs, low)


def _scaled(jobs: Iterable[Job], factor: float) -> list[Job]:
    return [replace(job, size_bytes=max(1, round(job.size_bytes * factor))) for job in jobs]


class _ById(Shares):
    """Nobody's turn: of equals the one whose name comes first, as a plain query would give them."""

    def first(self, names: Iterable[str]) -> str:
        return min(names)


class _SimulatedTime(asyncio.SelectorEventLoop):
    """An event loop that never waits: when nothing is left to do now, it is later."""

    def __init__(self) -> None:
        super().__init__(_Hurry(self))
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s


class _Hurry(selectors.DefaultSelector):
    def __init__(self, loop: _SimulatedTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.now_s += timeout or 0.0
        return super().select(0)


class World:
    """A journal of jobs, the product's lane over it, and a line of a fixed rate behind the product's gate."""

    def __init__(self, path: Path, jobs: Sequence[Job], shares: Shares, *, by_deadline: bool) -> None:
        self._jobs = {f"asset-{number:06}": job for number, job in enumerate(jobs)}
        self._db = connect(path, write=True)
        migrate(self._db, path)
        self._db.execute("PRAGMA synchronous = OFF")
        _fill(self._db, self._jobs, by_deadline=by_deadline)
        self._reader = Reader(path)
        self._gate = Gate(_SMALL_AT_A_TIME)
        self._line = asyncio.Lock()
        self._news, self._over = asyncio.Event(), asyncio.Event()
        journal = SimpleNamespace(reader=self._reader)
        station = SimpleNamespace(
            journal=journal, on_disk=_at_once, clock=self._clock, limits=Runner(), hours=(), held_news=self._news,
            longest_pause=timedelta(seconds=Runner().backoff_max_s),
        )  # fmt: skip
        self._lane = StoreLane(cast("Station", station))
        self._lane._shares = shares  # noqa: SLF001 - the other order is not the product's
        self.stored_s: dict[str, float] = {}
        self.parts: list[str] = []

    @property
    def stored(self) -> list[tuple[Job, float]]:
        """Every job, and when it was stored."""
        return [(job, self.stored_s[name]) for name, job in self._jobs.items()]

    async def run(self) -> None:
        """Until everything is stored."""
        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(self._work()) for _ in range(Runner().store_workers + OVERTAKERS)]
            await self._hold()
            await self._over.wait()
            for worker in workers:
                worker.cancel()
        self._reader.close()
        self._db.close()

    async def _hold(self) -> None:
        for name, job in sorted(self._jobs.items(), key=lambda item: item[1].held_s):
            await asyncio.sleep(max(0.0, job.held_s - self._time_s()))
            self._become(name, AssetState.HELD)
            self._news.set()

    async def _work(self) -> None:
        while True:
            delivery = await self._lane.take()
            await self._send(delivery)
            self._become(delivery.asset.asset_id, AssetState.STORED)
            self._lane.give_back(delivery)
            self._news.set()
            self.stored_s[delivery.asset.asset_id] = self._time_s()
            if len(self.stored_s) == len(self._jobs):
                self._over.set()

    async def _send(self, delivery: Delivery) -> None:
        """As a store does it: part after part, a large original alone."""
        left = delivery.asset.expected_bytes
        async with self._gate.slot(delivery.due_at, alone=left > BLOCK_BYTES) as turn:
            while left:
                await self._gate.give_way(turn)
                part = min(left, PART_BYTES)
                self.parts.append(delivery.asset.asset_id)
                async with self._line:
                    await asyncio.sleep(part / RATE_BYTES_S)
                left -= part
                delivery.sent(delivery.asset.expected_bytes - left)

    def _become(self, name: str, state: AssetState) -> None:
        self._db.execute("UPDATE asset SET state = ? WHERE asset_id = ?", (state, name))

    def _clock(self) -> datetime:
        return _NOW + timedelta(seconds=self._time_s())

    def _time_s(self) -> float:
        return asyncio.get_running_loop().time()


async def _at_once(work: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    return work(*arguments, **options)


def _fill(db: sqlite3.Connection, jobs: dict[str, Job], *, by_deadline: bool) -> None:
    """Rows as the journal has them; first come first served is the order of deadlines if each is due as it comes."""
    db.execute("BEGIN")
    for name, job in jobs.items():
        due_at = sortable(_NOW + timedelta(seconds=job.due_s if by_deadline else job.held_s))
        db.execute("INSERT INTO recording (recording_id, device_id, seq) VALUES (?, ?, 1)", (name, job.device))
        row: dict[str, Any] = {
            "asset_id": name, "recording_id": name, "role": Role.ORIGINAL, "state": AssetState.WANTED,
            "expected_bytes": job.size_bytes, "blake3": name, "sha256": name, "reason": "", "same_as": "",
            "alarm_at": due_at, "device_id": job.device,
        }  # fmt: skip
        db.execute(f"INSERT INTO asset ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", [*row.values()])  # noqa: S608
    db.execute("COMMIT")


def simulated(folder: Path, jobs: Sequence[Job], shares: Shares | None = None, *, by_deadline: bool = True) -> World:
    """What the product would have done with the jobs, at its end."""

    async def run() -> World:
        world = World(path, jobs, shares or Shares(), by_deadline=by_deadline)
        await world.run()
        return world

    path = folder / "simulated.db"
    with closing(_SimulatedTime()) as loop:
        try:
            return loop.run_until_complete(run())
        finally:
            for one in folder.glob("simulated.db*"):
                one.unlink()


def crowd(photos_taken: int = 2000) -> list[Job]:
    """A camera with many photos, and nine recorders with ten recordings each, all due at midnight, all held now."""
    photos = [Job(0, 24 * _HOUR_S, 8_000_000, "a camera") for _ in range(photos_taken)]
    return photos + [Job(0, 24 * _HOUR_S, 30_000_000, f"recorder {at % 9}") for at in range(90)]


def longest_wait(stored: Sequence[tuple[Job, float]]) -> float:
    """How many times as long as with an equal share of the line a recorder waited for its last original, at worst."""
    sizes: dict[str, int] = defaultdict(int)
    ends: dict[str, float] = defaultdict(float)
    for job, end_s in stored:
        sizes[job.device] += job.size_bytes
        ends[job.device] = max(ends[job.device], end_s)
    fair_s, before, carried = {}, 0, 0.0
    for place, (device, size) in enumerate(sorted(sizes.items(), key=lambda item: item[1])):
        carried += (size - before) * (len(sizes) - place) / RATE_BYTES_S
        fair_s[device], before = carried, size
    return max(ends[device] / fair_s[device] for device in sizes)


def schedule(bench: Bench) -> list[Row]:
    """Misses on loads that can be met, and who waits how long among equals."""
    missed: dict[bool, list[float]] = {True: [], False: []}
    worst_h: dict[bool, float] = {True: 0.0, False: 0.0}
    loads = 3 if bench.quick else 100
    for seed in range(loads):
        jobs = load(random.Random(seed))
        for by_deadline in (True, False):
            stored = simulated(bench.root, jobs, by_deadline=by_deadline).stored
            late_s = [end_s - job.due_s for job, end_s in stored if end_s > job.due_s]
            missed[by_deadline].append(len(late_s))
            worst_h[by_deadline] = max([worst_h[by_deadline], *(each / _HOUR_S for each in late_s)])
    bench.say(f"{loads} loads simulated")
    waits = {fair: longest_wait(simulated(bench.root, crowd(), Shares() if fair else _ById()).stored)
             for fair in (True, False)}  # fmt: skip
    what = f"{loads} loads of {_FILES} originals that fill a line to {_FILLED:.0%}, all of which can be in time"
    other = "first come, first served"
    return [
        Row("g", f"{what}: originals late", "", (sum(missed[True]),), goal=0),
        Row("g", f"the same, {other}: originals late", "", (sum(missed[False]),)),
        Row("g", f"the same, {other}: loads with a late one", "", (float(sum(each > 0 for each in missed[False])),)),
        Row("g", f"the same, {other}: latest", "h", (worst_h[False],)),
        Row("g", "2,000 photos and nine recorders, equally urgent: longest wait by an equal share", "x",
            (waits[True],), goal=1.1),
        Row("g", "the same in the order of ids", "x", (waits[False],)),
    ]  # fmt: skip
