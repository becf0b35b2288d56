"""Random lives of a station: dockings, yanks, crashes, retries, cards that change, bad sectors, a store that fails."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.errors import AgentError
from agent.journal import Reader
from agent.model import AssetState
from agent.pipeline.acquire import End
from agent.pipeline.recover import recover
from agent.pipeline.station import Station
from agent.pipeline.storing import Delivery, StoreLane
from tests.conftest import SettableClock
from tests.crashing import BLOCK, Place, WiredRecorder, WiredStore, World, check_true, process, wired
from tests.fakes import digests_of
from tests.stations import dock

SIZES = (0, 1, 100, BLOCK, BLOCK + 1, 3 * BLOCK + 7, 4 * BLOCK)
PATHS = [f"/DCIM/{n:04}.MP4" for n in range(4)]
Work = Callable[[World, Station], Awaitable[None]]
_KEPT = {AssetState.HELD, AssetState.STORED}


def content_of(seed: int, size: int) -> bytes:
    """Few contents of few sizes: so that equal ones, and others under the same name and size, are common."""
    return bytes((seed * 31 + at * (seed + 1)) % 251 for at in range(size))


def with_hole(content: bytes, index: int) -> bytes:
    """What the recorder gives of a file whose block `index` begins with a bad sector."""
    at = index * BLOCK
    return content[:at] + bytes(min(512, len(content) - at)) + content[at + 512 :]


class Lives(RuleBasedStateMachine):
    """Every rule is one process: it starts, recovers, works, and ends or dies."""

    def __init__(self) -> None:
        super().__init__()
        self._undo = contextlib.ExitStack()
        folder = Path(self._undo.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        self.place = Place(folder / "place", SettableClock(), {})
        self.place.folder.mkdir()
        self.bad: dict[str, int] = {}
        self.lost_replies = 0
        self.away = 0

    @initialize(sizes=st.lists(st.sampled_from(SIZES), max_size=2))
    def fill(self, sizes: list[int]) -> None:
        for path, size in zip(PATHS, [3 * BLOCK + 7, *sizes], strict=False):
            self._put(path, content_of(1, size))

    def _put(self, path: str, content: bytes) -> None:
        self.place.card[path] = content
        self.place.past.add(content)
        self.bad.pop(path, None)

    # The card changes while it is away.

    @rule(path=st.sampled_from(PATHS), size=st.sampled_from(SIZES), seed=st.integers(1, 3))
    def record(self, path: str, size: int, seed: int) -> None:
        """A new clip, or another one under a name that was there."""
        self._put(path, content_of(seed, size))

    @precondition(lambda self: self.place.card)
    @rule(data=st.data())
    def replace(self, data: st.DataObject) -> None:
        """The recorder was reset, or the card swapped for its twin: all is the same, but not the content."""
        path = data.draw(st.sampled_from(sorted(self.place.card)))
        size = len(self.place.card[path])
        contents = [content_of(seed, size) for seed in (1, 2, 3)]
        self._put(path, data.draw(st.sampled_from([it for it in contents if it != self.place.card[path]] or contents)))

    @precondition(lambda self: self.place.card)
    @rule(data=st.data(), to=st.sampled_from(PATHS))
    def copy(self, data: st.DataObject, to: str) -> None:
        """Marking a clip copies it to another name."""
        self._put(to, self.place.card[data.draw(st.sampled_from(sorted(self.place.card)))])

    @precondition(lambda self: self.place.card)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.place.card)))
        del self.place.card[path]
        self.bad.pop(path, None)

    @precondition(lambda self: any(self.place.card.values()))
    @rule(data=st.data())
    def wear_out(self, data: st.DataObject) -> None:
        """A sector of a file becomes unreadable."""
        path = data.draw(st.sampled_from(sorted(path for path, content in self.place.card.items() if content)))
        content = self.place.card[path]
        self.bad[path] = data.draw(st.integers(0, (len(content) - 1) // BLOCK))
        self.place.past.add(with_hole(content, self.bad[path]))

    # The store.

    @rule(away=st.integers(0, 3), lost_replies=st.integers(0, 3))
    def disturb_store(self, away: int, lost_replies: int) -> None:
        self.away, self.lost_replies = away, lost_replies

    @rule()
    def store_all(self) -> None:
        """The store works, and takes all that is held."""
        self.away = self.lost_replies = 0
        self._live(World(), self._drain)
        with contextlib.closing(Reader(self.place.journal)) as reader:
            assert not reader.overview(self.place.clock()).assets[AssetState.HELD].files
            assert not reader.overview(self.place.clock()).assets[AssetState.STUCK].files
        assert self.place.kept.keys() == self._vault()

    # Dockings.

    @rule()
    def dock_fully(self) -> None:
        """Nothing disturbs it: afterwards everything on the card is held, or told as not wholly readable."""
        self._live(World(), self._dock_fully)

    @rule(gone_after_bytes=st.integers(0, 5 * BLOCK))
    def dock_and_yank(self, gone_after_bytes: int) -> None:
        self._live(World(), partial(self._dock, gone_after_bytes=gone_after_bytes))

    @rule(at=st.integers(0, 120), after=st.booleans())
    def dock_and_crash(self, at: int, after: bool) -> None:
        self._live(World(at, after), self._dock_and_drain)

    @rule(at=st.integers(0, 60), error=st.sampled_from([5, 28]))
    def dock_while_the_disk_refuses_once(self, at: int, error: int) -> None:
        self._live(World(8 + at, error=error), self._dock_and_drain)

    def _live(self, world: World, work: Work) -> None:
        # What the disk refuses at start ends the process: systemd starts another one, as the next rule does.
        refusals = (AgentError,) if world.error else ()
        with wired(world), contextlib.suppress(*refusals):
            asyncio.run(process(self.place, world, partial(self._life, world, work)))

    async def _life(self, world: World, work: Work, station: Station) -> None:
        assert isinstance(station.store, WiredStore)
        station.store.fail_before, station.store.fail_after = self.away, self.lost_replies
        await recover(station)
        await work(world, station)

    def _recorder(self, world: World, station: Station, gone_after_bytes: int | None = None) -> WiredRecorder:
        recorder = WiredRecorder(
            dict(self.place.card), station.vault.staging_dir, bad=dict(self.bad), gone_after_bytes=gone_after_bytes
        )
        recorder.world = world
        return recorder

    async def _dock(self, world: World, station: Station, gone_after_bytes: int | None = None) -> None:
        await dock(station, self._recorder(world, station, gone_after_bytes))

    async def _dock_fully(self, world: World, station: Station) -> None:
        assert await dock(station, self._recorder(world, station)) is End.COMPLETE
        account = station.journal.reader.dockings(limit=1)[0].accounting
        assert account.seen == len(self.place.card)
        assert account.left == account.refused == account.pending == 0
        assert account.unreadable <= len(self.bad)
        whole = {content for path, content in self.place.card.items() if path not in self.bad}
        assert {digests_of(content).blake3 for content in whole} <= self._vault()

    async def _drain(self, world: World, station: Station) -> None:
        lane = StoreLane(station)
        for _ in range(200):
            due = station.journal.reader.next_to_store(station.clock())
            if due is None or world.dead:
                return
            await lane.store(Delivery(station, due, lambda: None, lambda: None))
        raise AssertionError("the store lane never comes to an end")

    async def _dock_and_drain(self, world: World, station: Station) -> None:
        await self._dock(world, station)
        if not world.dead:
            await self._drain(world, station)

    # What is always true.

    def _vault(self) -> set[str]:
        return {path.name for path in (self.place.root / "vault").glob("??/*")}

    @invariant()
    def every_claim_is_true(self) -> None:
        check_true(self.place)

    @invariant()
    def nothing_is_doubled(self) -> None:
        if not self.place.journal.exists():
            return
        with contextlib.closing(Reader(self.place.journal)) as reader:
            views = reader.recordings(limit=1000)
            kept = Counter(view.asset.digests for view in views if view.asset.state in _KEPT)
            assert all(count == 1 for count in kept.values()), "equal content is kept by one asset"
            assert all(view.clip is not None for view in views), "nothing came from the vault alone"
            wanted = {view.asset.asset_id for view in views if view.asset.state is AssetState.WANTED}
            noted = {note.settled.asset_id for note in reader.settled()}
            stuck = {view.asset.asset_id for view in views if view.asset.state is AssetState.STUCK}
        parts = {path.name.removesuffix(".part") for path in (self.place.root / "staging").iterdir()}
        assert parts <= wanted | stuck | noted, "a part belongs to what is still to be had"

    def teardown(self) -> None:
        self._undo.close()


Lives.TestCase.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestLives = Lives.TestCase
