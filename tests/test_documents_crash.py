"""Crash injection for documents: whatever moment a process dies at, what was said is held once, or asked for again."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import AgentError
from agent.journal import Reader, verify
from agent.model import AssetState, Explanation, Said, Statement, Transcript, TranscriptKind
from agent.pipeline.documents import add_document
from agent.pipeline.recover import census, recover
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from tests.conftest import SettableClock
from tests.crashing import VISIBLE, Place, World, _recorder, check_true, expected, process, wired
from tests.fakes import digests_of
from tests.journal_entries import NOW
from tests.stations import dock

SEEN = VISIBLE | {"write_part"}
"""Effects that a later process can see; a crash before any other leaves nothing else."""

CARD = {"/A.WAV": b"voice", "/C.JPG": b"photo"}


class Paper(NamedTuple):
    """What somebody attaches, and whether it is about the second recording too."""

    said: Said
    content: bytes | None
    both: bool = False


PAPERS = (
    Paper(Statement("张三", "补充", NOW, {"place": "县城"}), None, both=True),
    Paper(Transcript(TranscriptKind.HUMAN, "李四", NOW, "a.txt"), b"a text"),
    Paper(Transcript(TranscriptKind.HUMAN, "王五", NOW, "b.txt"), b"a text", both=True),
    Paper(Explanation("act1", "张三", NOW, "gap1", "INT-01", "避让"), b"voice"),
)
"""Words alone; a file; a file with equal content; a file with the bytes of an original."""


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: what is tested here is order, and a disk would only make it slow."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def life(place: Place, world: World, papers: Sequence[Paper], *, insist: bool = False) -> None:
    """One process: recover, dock, attach what isn't entered yet (`insist`: whatever is), store; or until it crashes."""

    async def work(station: Station) -> None:
        await recover(station)
        if not station.journal.reader.recordings():
            await dock(station, _recorder(place, world, station))
        views = station.journal.reader.recordings()
        about = [view.recording.recording_id for path in CARD for view in views if view.clip and view.clip.path == path]
        for paper in papers:
            entered = [view.said for view in station.journal.reader.documents(about[0])] if about else []
            if about and (insist or paper.said not in entered):
                with contextlib.suppress(AgentError):
                    await add_document(station, paper.said, about if paper.both else about[:1], paper.content)
        await census(station)
        await store_all(station, world)

    async def until_dead(station: Station) -> None:
        working = asyncio.create_task(work(station))
        while not (working.done() or world.dead):
            await asyncio.sleep(0.001)
        working.cancel()  # the thread that it waits for may have died
        await asyncio.wait([working])
        if not working.cancelled():
            working.result()

    with wired(world), contextlib.suppress(AgentError):
        asyncio.run(process(place, world, until_dead))


async def store_all(station: Station, world: World) -> None:
    lane = StoreLane(station)
    while station.journal.reader.next_to_store(station.clock()) is not None and not world.refused:
        delivery = await lane.take()
        await lane.store(delivery)
        lane.give_back(delivery)


def check(place: Place, papers: Sequence[Paper], *, at_most: int = 1) -> None:
    """In the end every paper is entered, its bytes are in vault and store, no recording came of it, nothing is left."""
    report = verify(place.journal)
    assert report.consistent, report.differences
    with contextlib.closing(Reader(place.journal)) as reader:
        views = reader.recordings()
        assert sorted(view.clip.path for view in views if view.clip) == sorted(CARD)
        assert len(views) == len(CARD), "nothing was adopted"
        first = next(view for view in views if view.clip and view.clip.path == next(iter(CARD)))
        documents = reader.documents(first.recording.recording_id)
        for paper in papers:
            assert 1 <= [view.said for view in documents].count(paper.said) <= at_most
        assert {view.asset.state for view in documents} <= {AssetState.STORED, AssetState.MATCHED}
        held = {view.asset.digests.blake3 for view in (*views, *documents) if view.asset.digests}
        assert not reader.settled()
    assert {path.name for path in (place.root / "vault").glob("??/*")} == held == place.stored().keys()
    assert not list((place.root / "staging").iterdir()), "a part is left over"


def place_in(folder: Path, clock: SettableClock, *, in_memory: bool) -> Place:
    (folder / "place").mkdir()
    here = Place(folder / "place", clock, dict(CARD), in_memory)
    here.past.update(paper.content for paper in PAPERS if paper.content is not None)
    return here


def crash_points(folder: Path, clock: SettableClock, fault: Callable[[int], World]) -> Iterator[tuple[Place, World]]:
    """A new place for every effect of attaching all papers to a station that holds the recordings already."""
    start = place_in(folder, clock, in_memory=True)
    life(start, World(), ())
    at = 0
    while True:
        here = start.copy_to(folder / f"at {at}")
        world = fault(at)
        life(here, world, PAPERS)
        if at >= len(world.log):
            assert at > (12 if world.counts else 40), "every effect had its turn"
            return
        yield here, world
        shutil.rmtree(here.folder)
        at += 1


def noted(error: Exception, what: str, world: World) -> None:
    error.add_note(f"{what} effect {world.at} of {world.log}")


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_around_any_effect_loses_and_doubles_nothing(memory: Path, clock: SettableClock, after: bool) -> None:
    for here, world in crash_points(memory, clock, partial(World, after=after)):
        try:
            life(here, World(), PAPERS)
            check(here, PAPERS)
        except Exception as error:
            noted(error, f"crash {'after' if after else 'before'}", world)
            raise


def test_who_attaches_again_after_a_crash_makes_a_second_entry_and_no_second_copy(
    memory: Path, clock: SettableClock
) -> None:
    for here, world in crash_points(memory, clock, partial(World, counts=SEEN)):
        try:
            life(here, World(), PAPERS, insist=True)
            check(here, PAPERS, at_most=2)
        except Exception as error:
            noted(error, "crash before", world)
            raise


FAULTS = {
    "full for a while": partial(World, error=errno.ENOSPC, lasting=True),
    "failing once": partial(World, error=errno.EIO, counts=SEEN),
    "done but told as failed": partial(World, error=errno.EIO, after=True, counts=SEEN),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_refuses_any_effect_never_makes_a_claim_untrue(
    memory: Path, clock: SettableClock, fault: str
) -> None:
    for here, world in crash_points(memory, clock, FAULTS[fault]):
        try:
            life(here, World(), PAPERS)
            check(here, PAPERS)
        except Exception as error:
            noted(error, fault, world)
            raise


def test_documents_go_to_a_folder_of_originals_and_are_proved_there(memory: Path, clock: SettableClock) -> None:
    """The store of a directory, in its own process, with everything between."""
    here = place_in(memory, clock, in_memory=False)
    papers = (*PAPERS, Paper(Transcript(TranscriptKind.HUMAN, "李四", NOW, "empty.txt"), b""))
    life(here, World(), papers)
    check(here, papers)
    assert digests_of(b"").blake3 in here.stored()
    assert expected(here).items() <= here.stored().items()
    check_true_of_originals(here)


def check_true_of_originals(place: Place) -> None:
    """`check_true` knows the bytes of the card and of `past`; the words of statements come on top."""
    for path in (place.root / "vault").glob("??/*"):
        content = path.read_bytes()
        assert digests_of(content).blake3 == path.name
        place.past.add(content)
    check_true(place)


STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(0, len(PAPERS) - 1), max_size=3, unique=True),
        st.integers(0, 60),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_any_series_of_attachments_and_crashes_ends_well(
    clock: SettableClock, steps: list[tuple[list[int], int, bool, bool]]
) -> None:
    """Processes that attach something, twice or not, and die anywhere; the last one is left alone."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        here = place_in(Path(folder), clock, in_memory=True)
        life(here, World(), ())
        for chosen, at, after, insist in steps:
            life(here, World(at, after=after), [PAPERS[number] for number in chosen], insist=insist)
        everything = [PAPERS[number] for number in {number for chosen, *_ in steps for number in chosen}]
        life(here, World(), everything)
        check(here, everything, at_most=len(steps) + 1)
