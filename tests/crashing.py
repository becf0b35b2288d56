"""A world in which every effect can be the last one: the process dies, or the disk refuses, before or after it.

An effect is whatever another process or the next start could see: each function of `agent.durable`, each commit of the
journal, each answer of the store, each write of the recorder's bytes into a part. After a crash nothing has an effect
any more, as if the process was gone; the folder, as it is at that moment, is what the next life starts with.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import inspect
import shutil
import sqlite3
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial, wraps
from pathlib import Path

import pytest

import agent.pipeline.acquire
import agent.pipeline.pull
import agent.read_back
import tests.fakes
from agent import durable
from agent.config import Runner as Pace
from agent.drivers.base import Failed, FetchReport, FetchRequest
from agent.errors import AgentError, JournalError, StoreError
from agent.journal import Reader, verify
from agent.journal.log import Job, Log
from agent.model import AssetState, Clock, FailReason, Held, Outcome, Phase, Receipt
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.uploader.base import Errand, Store
from agent.uploader.directory_errors import MARKER
from tests.fakes import FakeRecorder, FakeStore, digests_of
from tests.shares import OwnProcessStore, made
from tests.stations import opened

BLOCK = 4096
"""Size of a block in these tests, so that a file of several blocks costs nothing."""

SLOT = "slot 1"
_LIFE_LIMIT_S = 30.0
_DOCKINGS = 6
VISIBLE = frozenset(
    {"commit", "open part", "write part", "make_read_only", "rename_no_replace", "remove_part", "store"}
)
"""Effects that a later process can see, once all folders are there; a crash before any other leaves nothing else."""

_LOOKS_ONLY = {"cached_bytes", "is_immutable", "opened"}
_FULL = {errno.ENOSPC, errno.EDQUOT}


class Crash(BaseException):
    """The process ends here."""


@dataclass(slots=True)
class World:
    """Counts effects. At effect `at` the process crashes or, with `error` (an errno), the effect is refused.

    `after`: it has happened already then. `lasting`: everything is refused from then on, until `heal()`. `counts`: the
    effects that are counted, if not all.
    """

    at: int = -1
    after: bool = False
    error: int = 0
    lasting: bool = False
    counts: frozenset[str] | None = None
    dead: bool = False
    struck: bool = False
    log: list[str] = field(default_factory=list)
    refused: bool = False
    _under_way: int = 0
    _lock: threading.Condition = field(default_factory=threading.Condition)

    @contextmanager
    def effect(self, name: str) -> Iterator[None]:
        with self._lock:
            counted = self.counts is None or name in self.counts
            hit = counted and len(self.log) == self.at
            if counted:
                self.log.append(name)
            self._refuse_if_dead()
            if hit and not self.after:
                self._strike()
            if self.refused:
                raise OSError(self.error, "refused by the test")
            self._under_way += 1
        try:
            yield
        finally:
            with self._lock:
                self._under_way -= 1
                self._lock.notify_all()
        # A commit that failed left nothing to be seen: SQLite takes it back as long as the process lives.
        if hit and self.after and not (self.error and name == "commit"):
            with self._lock:
                self._strike()

    def _refuse_if_dead(self) -> None:
        if self.dead:
            raise Crash

    def _strike(self) -> None:
        self.struck = True
        if not self.error:
            self.dead = True
            raise Crash
        self.refused = self.lasting
        raise OSError(self.error, "refused by the test")

    def heal(self) -> None:
        """The disk works again."""
        with self._lock:
            self.refused = False

    def wait_until_quiet(self) -> None:
        """After a crash: wait for what other threads had begun when it came."""
        with self._lock:
            assert self._lock.wait_for(lambda: not self._under_way, timeout=10)


@contextmanager
def wired(world: World) -> Iterator[None]:
    """Let every effect of the agent go through `world`; blocks are small and nothing waits for a real disk."""

    def wrap(name: str, real: Callable[..., object]) -> Callable[..., object]:
        @wraps(real)
        def effect(*arguments: object) -> object:
            with world.effect(name):
                return real(*arguments)

        return effect

    commit = Log.commit

    def committing(log: Log, jobs: Sequence[Job]) -> list[list[int] | AgentError]:
        try:
            with world.effect("commit"):
                return commit(log, jobs)
        except OSError as error:
            raise sqlite3.OperationalError(f"disk I/O error: {error}") from error

    # On a folder in memory these would only cost time: a process that dies takes nothing from the page cache with it.
    instead = {
        "fsync_file": lambda _: None, "fsync_dir": lambda _: None, "fdatasync": lambda _: None,
        "drop_cache": lambda *_: None, "make_immutable": lambda _: True,
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, real in inspect.getmembers(durable, inspect.isfunction):
            if not name.startswith("_") and name not in _LOOKS_ONLY:
                patch.setattr(durable, name, wrap(name, instead.get(name, real)))
        patch.setattr(durable, "cached_bytes", lambda *_: 0)
        patch.setattr(Log, "commit", committing)
        for module in (agent.read_back, agent.pipeline.acquire, agent.pipeline.pull, tests.fakes):
            patch.setattr(module, "BLOCK_BYTES", BLOCK)
        patch.setattr("agent.pipeline.recover._CENSUS_PAUSE_S", 0.0)
        patch.setattr("agent.pipeline.room._SPACE_CHECK_S", 0.001)
        patch.setattr(threading, "excepthook", _unless_crash)  # the journal's thread has died with the process
        yield


def _unless_crash(told: threading.ExceptHookArgs) -> None:
    if told.exc_type is not Crash:
        threading.__excepthook__(told)


class WiredRecorder(FakeRecorder):
    """A recorder whose bytes reach the part through the world; the real puller turns a full disk into NO_SPACE."""

    world: World

    def _open(self, part: str) -> None:
        with self.world.effect("open part"):
            super()._open(part)

    def _write(self, part: str, index: int, block: bytes) -> None:
        with self.world.effect("write part"):
            super()._write(part, index, block)

    async def _fetch_one(self, request: FetchRequest) -> AsyncGenerator[FetchReport, None]:
        try:
            async for report in super()._fetch_one(request):
                yield report
        except OSError as error:
            reason = FailReason.NO_SPACE if error.errno in _FULL else FailReason.BROKEN
            yield Failed(request.clip.number, reason, str(error))


class WiredStore(FakeStore):
    """A store in memory whose answers go through the world."""

    world: World

    async def put(self, held: Held, errand: Errand) -> Receipt:
        try:
            with self.world.effect("store"):
                return await super().put(held, errand)
        except OSError as error:
            raise StoreError(str(error)) from error


@dataclass(slots=True)
class Place:
    """A folder with a station, perhaps its store, and what the card holds; it outlives every process.

    `past`: what the card held before, or gave with holes.
    """

    folder: Path
    clock: Clock
    card: dict[str, bytes]
    in_memory: bool = True
    kept: dict[str, bytes] = field(default_factory=dict)
    past: set[bytes] = field(default_factory=set)
    pace: Pace = field(default_factory=lambda: Pace(attempts=3, backoff_base_s=0, backoff_max_s=0))

    @property
    def root(self) -> Path:
        """What the station has on its disk."""
        return self.folder / "station"

    @property
    def journal(self) -> Path:
        """The journal."""
        return self.root / "journal.db"

    def store(self, world: World) -> Store:
        """The store as a new process finds it."""
        if self.in_memory:
            store = WiredStore(objects=self.kept)
            store.world = world
            return store
        path = made(self.folder / "store")
        return OwnProcessStore("store", {"path": str(path)}, vault_root=self.root, clock=self.clock)

    def stored(self) -> dict[str, bytes]:
        """What the store has, by name."""
        if self.in_memory:
            return self.kept
        return {path.name: path.read_bytes() for path in (self.folder / "store" / "originals").glob("??/*")}

    def copy_to(self, folder: Path) -> Place:
        """The same place elsewhere, as it is now."""
        shutil.copytree(self.folder, folder)
        return Place(folder, self.clock, self.card, self.in_memory, dict(self.kept), set(self.past), self.pace)


def live(place: Place, world: World) -> None:
    """One process: start, recover, dock, pull, store, until nothing is left to do; or until it crashes.

    A disk that refuses at start ends the process, and systemd starts another one; so does this.
    """
    with wired(world):
        for _ in range(_DOCKINGS):
            with contextlib.suppress(AgentError, BaseExceptionGroup):
                asyncio.run(_live(place, world))
                return
            if world.dead:
                return
            assert world.struck, "a process that nothing disturbed must not end by itself"
            world.heal()
    raise AssertionError("the process ended again and again")


async def _live(place: Place, world: World) -> None:
    async def work(station: Station) -> None:
        async with running(station) as (runner, lanes):
            try:
                await _work(place, world, station, runner, lanes)
            except asyncio.CancelledError as error:
                error.add_note(f"{runner.slots()} {asyncio.all_tasks()}")
                raise

    await process(place, world, work)


async def process(place: Place, world: World, work: Callable[[Station], Awaitable[None]]) -> None:
    """One process that does some work; if it crashes, the folder stays as it was at that moment."""
    left = place.folder.with_name(place.folder.name + " as left")
    try:
        async with asyncio.timeout(_LIFE_LIMIT_S), _station(place, world) as station:
            try:
                await work(station)
            except (Crash, AgentError, BaseExceptionGroup):
                if not world.dead:
                    raise
            if world.dead:
                station.disk.shutdown()
                world.wait_until_quiet()
                shutil.copytree(place.folder, left)  # before SQLite tidies up, which a dead process would not do
    except Crash:
        assert world.dead
    if left.exists():
        shutil.rmtree(place.folder)
        left.rename(place.folder)


@asynccontextmanager
async def _station(place: Place, world: World) -> AsyncIterator[Station]:
    async with opened(place.root, place.clock, store=place.store(world), seal=True) as station:
        station.limits = place.pace
        yield station


@asynccontextmanager
async def running(station: Station, workers: int = 1) -> AsyncIterator[tuple[Runner, asyncio.Task[None]]]:
    """All lanes at work; cancelled at the end, and whatever else ends them is raised there."""
    runner = Runner(station)
    ready = asyncio.Event()
    lanes = asyncio.create_task(runner.run(workers, ready.set))
    started = asyncio.create_task(ready.wait())
    await asyncio.wait([lanes, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        yield runner, lanes
    finally:
        lanes.cancel()
        await asyncio.wait([lanes, started])
    if not lanes.cancelled():
        lanes.result()


async def _work(place: Place, world: World, station: Station, runner: Runner, lanes: asyncio.Task[None]) -> None:
    for _ in range(_DOCKINGS):
        if lanes.done():  # it could not even recover
            return
        runner.dock("1", SLOT, partial(_recorder, place, world, station))
        while not (world.dead or lanes.done() or _is_idle(station, runner)):
            if world.refused:
                await _while_refused(world)
            await asyncio.sleep(0.001)
        if world.dead or lanes.done() or _phase(runner) is Phase.FINISHED:
            return
        runner.undock("1")
        while runner.slots() and _phase(runner) is not Phase.UNPLUGGED:
            await asyncio.sleep(0.001)
    raise AssertionError(f"after {_DOCKINGS} dockings there still is {runner.slots()}")


async def _while_refused(world: World) -> None:
    """Let the agent stumble for a while over a disk that refuses, then repair it."""
    until = len(world.log) + 25
    for _ in range(60):
        await asyncio.sleep(0.001)
        if len(world.log) > until:
            break
    world.heal()


def _recorder(place: Place, world: World, station: Station) -> FakeRecorder:
    recorder = WiredRecorder(place.card, station.vault.staging_dir)
    recorder.world = world
    return recorder


def _phase(runner: Runner) -> Phase:
    return runner.slots()[0].phase


def _is_idle(station: Station, runner: Runner) -> bool:
    """The docking has ended for good, and nothing waits for the store."""
    if _phase(runner) not in {Phase.FINISHED, Phase.FAILED}:
        return False
    newest = station.journal.reader.dockings(limit=1)
    ended = bool(newest) and newest[0].docking_id == runner.slots()[0].docking_id and newest[0].reason == "complete"
    return ended and not station.journal.reader.overview(station.clock()).assets[AssetState.HELD].files


# What must be true.


def check_true(place: Place) -> None:
    """Whatever happened: what is claimed is there, what is there is undamaged, and the journal follows from its log."""
    if not place.journal.exists():
        return
    report = verify(place.journal)
    assert report.consistent, report.differences
    vault = {path.name: path.read_bytes() for path in (place.root / "vault").glob("??/*")}
    contents = expected(place) | {digests_of(content).blake3: content for content in place.past}
    assert vault.items() <= contents.items(), "the vault has something else than whole originals under their names"
    stored = place.stored()
    assert stored.items() <= contents.items(), "the store has something else than whole originals under their names"
    with contextlib.closing(Reader(place.journal)) as reader:
        for view in reader.recordings(limit=1000):
            asset = view.asset
            if asset.state in {AssetState.HELD, AssetState.STORED}:
                assert asset.digests is not None
                assert asset.digests.blake3 in vault, "claimed to be held"
            assert asset.receipt is None or asset.receipt.digests.blake3 in stored, "claimed to be stored"
        for docking in reader.dockings(limit=1000):
            account = docking.accounting
            assert account.seen == sum(getattr(account, outcome.value) for outcome in Outcome)
            assert not (docking.closed_at and account.pending), "a closed docking has accounted for everything"


def check_complete(place: Place, *, copies_left: bool = False) -> None:
    """At the end: each content once in vault and store, each clip one recording, nothing under way, nothing stuck.

    `copies_left`: the store may have copies under way that it could not remove; the next start does.
    """
    check_true(place)
    contents = expected(place)
    assert {path.name for path in (place.root / "vault").glob("??/*")} == contents.keys()
    assert place.stored().keys() == contents.keys()
    assert not list((place.root / "staging").iterdir()), "a part is left over"
    assert not list((place.root / "damaged").iterdir())
    if not place.in_memory:
        others = {path.name for path in (place.folder / "store").glob("*")}
        assert copies_left or others == {MARKER, "originals"}
    with contextlib.closing(Reader(place.journal)) as reader:
        views = reader.recordings(limit=1000)
        found = sorted(view.clip.path for view in views if view.clip)
        assert found == sorted(place.card), "each clip is one recording"
        assert len(views) == len(found), "nothing was adopted that came from the card"
        states = [view.asset.state for view in views]
        assert states.count(AssetState.STORED) == len(contents)
        assert states.count(AssetState.MATCHED) == len(place.card) - len(contents)
        assert not reader.settled(), "a part is still noted as read back"
        assert not reader.open_dockings(), "a docking was never closed"
        assert not any(reader.blocks(view.asset.asset_id) for view in views)
        last = reader.dockings(limit=1)[0]
        assert last.reason == "complete"
        assert last.accounting.seen == len(place.card)
        assert last.accounting.pulled + last.accounting.already_held == len(place.card)


def expected(place: Place) -> dict[str, bytes]:
    """Every content of the card by its BLAKE3."""
    return {digests_of(content).blake3: content for content in place.card.values()}


def state_of(place: Place) -> str:
    """All that decides what later processes do, without names by chance: two places with equal states behave alike.

    Left out are closed dockings, whose clips are known by their assets, and counts of attempts, which only end a
    repetition after dozens.
    """
    files = (path for path in place.root.rglob("*") if path.is_file() and not path.name.startswith("journal"))
    if not place.journal.exists():
        return repr(sorted(str(path.relative_to(place.root)) for path in place.root.rglob("*")))
    try:
        reader = Reader(place.journal)
    except JournalError:
        return "no journal yet"
    with contextlib.closing(reader):
        views = reader.recordings(limit=1000)
        name_of = {view.asset.asset_id: view.clip.path if view.clip else "adopted" for view in views}

        def plain(path: Path) -> tuple[str, str, bytes]:
            stem = path.name.removesuffix(".part")
            return path.parent.name, name_of.get(stem, stem), path.read_bytes()

        assets = [
            (name_of[view.asset.asset_id], view.asset.state, reader.blocks(view.asset.asset_id)) for view in views
        ]
        notes = [(name_of[note.settled.asset_id], note.settled.digests) for note in reader.settled()]
        dockings = reader.open_dockings()
        clips = [(item.clip.path, item.mode) for docking in dockings for item in reader.next_clips(docking, 1000)]
        return repr((
            sorted(map(plain, files)), sorted(assets), sorted(notes), sorted(clips), len(dockings),
            sorted(place.stored()),
        ))  # fmt: skip
