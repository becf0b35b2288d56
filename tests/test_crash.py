"""Crash injection: whatever the process was doing when it died, the next one loses nothing and doubles nothing."""

from __future__ import annotations

import errno
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.vault import Vault
from tests.conftest import SettableClock
from tests.crashing import BLOCK, VISIBLE, Place, World, check_complete, check_true, expected, live, state_of

BIG = bytes(range(251)) * 40
CARD = {"/BIG.MP4": BIG[: 2 * BLOCK + 100], "/A.WAV": b"voice", "/B.WAV": b"voice", "/C.JPG": b"photo"}


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory: what is tested here is order, and a disk would only make it slow."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def place(folder: Path, clock: SettableClock, *, in_memory: bool) -> Place:
    (folder / "place").mkdir()
    return Place(folder / "place", clock, dict(CARD), in_memory)


def crash_points(folder: Path, clock: SettableClock, fault: Callable[[int], World]) -> Iterator[tuple[Place, World]]:
    """A new place after a first process that something happened to, for every effect at which it can happen."""
    at = 0
    while True:
        here = place(folder, clock, in_memory=False)
        world = fault(at)
        live(here, world)
        if at >= len(world.log):
            return
        yield here, world
        shutil.rmtree(here.folder)
        at += 1


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_around_any_effect_loses_and_doubles_nothing(memory: Path, clock: SettableClock, after: bool) -> None:
    for here, world in crash_points(memory, clock, partial(World, after=after)):
        try:
            check_true(here)
            live(here, World())
            check_complete(here)
        except Exception as error:
            error.add_note(f"crash {'after' if after else 'before'} effect {world.at} of {world.log}")
            raise


FAULTS = {
    "full for a while": partial(World, error=errno.ENOSPC, lasting=True),
    "over quota once": partial(World, error=errno.EDQUOT),
    "failing once": partial(World, error=errno.EIO),
    "failing for a while": partial(World, error=errno.EIO, lasting=True),
    "done but told as failed": partial(World, error=errno.EIO, after=True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_refuses_any_effect_never_makes_a_claim_untrue(
    memory: Path, clock: SettableClock, fault: str
) -> None:
    """F21: the state stays true, and once the disk works again everything is made good without anybody's help."""
    for here, world in crash_points(memory, clock, FAULTS[fault]):
        try:
            check_complete(here, copies_left=True)
            live(here, World())
            check_complete(here)
        except Exception as error:
            error.add_note(f"{fault} at effect {world.at} of {world.log}")
            raise


CARDS = {
    "a big file": {"/BIG.MP4": BIG[: 2 * BLOCK + 100]},
    "a small file and its copy": {"/A.WAV": b"voice", "/B.WAV": b"voice"},
}


@pytest.mark.parametrize("card", CARDS)
def test_pairs_of_crashes_and_any_number_of_them(memory: Path, clock: SettableClock, card: str) -> None:
    """Explores every state that crashes can leave: from each, a crash before every effect; until no new state comes.

    What a process does follows from the state that it finds, so when no crash in any state leads to a new state, then
    all pairs, and all longer series of crashes, have been tried: from each state an undisturbed process ends well.
    """
    start = Place(memory / "0", clock, CARDS[card])
    start.folder.mkdir()
    Vault(start.root, seal=False)
    for digest in expected(start):
        (start.root / "vault" / digest[:2]).mkdir()
    waiting = [start]
    seen = {""}
    cases = 0
    while waiting:
        found = waiting.pop()
        for at in itertools.count():
            here = found.copy_to(memory / str(cases := cases + 1))
            world = World(at, counts=VISIBLE)
            live(here, world)
            if at >= len(world.log):
                check_complete(here)
                shutil.rmtree(here.folder)
                break
            check_true(here)
            if (state := state_of(here)) in seen:
                shutil.rmtree(here.folder)
            else:
                seen.add(state)
                waiting.append(here)
        shutil.rmtree(found.folder)
    assert len(seen) > 20, "the crashes come everywhere"
