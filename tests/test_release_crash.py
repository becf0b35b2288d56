"""Freeing local copies in a world in which every effect can be the last one: a copy too many, never one too few."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent import signing
from agent.errors import AgentError
from agent.journal import Reader
from agent.model import AssetState
from agent.pipeline.checkpoints import begin, sign
from agent.pipeline.recover import census, recover
from agent.pipeline.releasing import ReleaseLane
from agent.pipeline.station import Station
from tests.conftest import SettableClock
from tests.crashing import Place, World, check_true, expected, process, wired
from tests.releasing import TERMS, ready

CARD = {"/A.MP4": b"a film", "/B.MP4": b"another film"}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: what is tested here is order, and a disk would only make it slow."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def lived(place: Place, world: World, work: Callable[[Station], Awaitable[None]]) -> None:
    """One process that does some work, or begins to."""
    with wired(world), contextlib.suppress(AgentError) if world.error else contextlib.nullcontext():
        asyncio.run(process(place, world, work))


async def freeing(station: Station, rounds: int = 1) -> None:
    """What a service does that comes up and has terms."""
    station.terms, station.clock_is_kept = TERMS, lambda: True
    await recover(station)
    await begin(station, signing.station_key(station.vault.root, Path("/nowhere")))
    await sign(station)
    await census(station)
    lane = ReleaseLane(station, lambda: False, pause_s=0)
    for _ in range(rounds):
        await lane.step()


def told(place: Place) -> dict[str, AssetState]:
    """The state of each original by its BLAKE3."""
    with contextlib.closing(Reader(place.journal)) as reader:
        assets = [view.asset for view in reader.recordings(limit=10)]
    return {asset.digests.blake3: asset.state for asset in assets if asset.digests}


def check(place: Place) -> None:
    """Nothing is claimed that isn't, what the log calls freed is at the centre, and the rest is where it was."""
    check_true(place)
    states, contents = told(place), expected(place)
    vault = {path.name: path.read_bytes() for path in (place.root / "vault").glob("??/*")}
    assert states.keys() == contents.keys()
    for digest, state in states.items():
        assert place.stored()[digest] == contents[digest]
        assert state is AssetState.RELEASED or vault[digest] == contents[digest]


@pytest.fixture
def start(memory: Path, clock: SettableClock) -> Place:
    """Two recordings that may go."""
    place = Place(memory / "0", clock, CARD)
    place.folder.mkdir()
    lived(place, World(), partial(ready, clock=clock, card=CARD))
    for path in (place.root / "vault").glob("??/*"):  # documents: what check_true may find besides
        place.past.add(path.read_bytes())
    check(place)
    return place


def points(start: Place, folder: Path, fault: Callable[[int], World]) -> Iterator[tuple[Place, World]]:
    """A copy of the place after a process that something happened to, for every effect at which it can happen."""
    at = 0
    while True:
        place, world = start.copy_to(folder / f"{at + 1}"), fault(at)
        lived(place, world, freeing)
        if at >= len(world.log):
            return
        yield place, world
        at += 1


FAULTS: dict[str, Callable[[int], World]] = {
    "crash before": partial(World),
    "crash after": partial(World, after=True),
    "full for a while": partial(World, error=errno.ENOSPC, lasting=True),
    "failing once": partial(World, error=errno.EIO),
    "read-only from then on": partial(World, error=errno.EROFS, lasting=True),
    "done but told as failed": partial(World, error=errno.EIO, after=True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_happens_at_any_effect_no_copy_is_one_too_few(start: Place, memory: Path, fault: str) -> None:
    tried: set[str] = set()
    for place, world in points(start, memory, FAULTS[fault]):
        try:
            check(place)
            lived(place, World(), partial(freeing, rounds=2))
            check(place)
            assert set(told(place).values()) == {AssetState.RELEASED}
            left = {path.read_bytes() for path in (place.root / "vault").glob("??/*")}
            assert not left & set(CARD.values()), "and none too many for long"
        except Exception as error:
            error.add_note(f"{fault} at effect {world.at} of {world.log}")
            raise
        tried |= set(world.log)
    assert {"commit", "free_original", "make_mutable", "fsync_dir"} <= tried


def test_what_the_centre_loses_while_the_process_is_dead_is_taken_in_again(start: Place, memory: Path) -> None:
    """After every crash in which the file was left though the log says freed, the store has lost it."""
    saved = 0
    for place, world in points(start, memory, FAULTS["crash before"]):
        here = {path.name for path in (place.root / "vault").glob("??/*")}
        for digest, state in told(place).items():
            if state is AssetState.RELEASED and digest in here:
                content = place.kept.pop(digest)
                lived(place, World(), freeing)
                assert told(place)[digest] is AssetState.HELD
                assert (place.root / "vault" / digest[:2] / digest).read_bytes() == content
                saved += 1
        assert world.struck or world.dead
    assert saved
