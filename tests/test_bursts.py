"""The running service with a whole dock at once: 25 recorders that come together, and vanish at any moment."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from simulator.content import Content, Noise
from simulator.stage import Stage
from tests.cards import MIB, image
from tests.daemons import Daemon, call, running, stage

RECORDERS = 25
FOUND_WITHIN_S = 10.0
VANISHINGS = 60


def content(number: int) -> dict[str, Content]:
    """Something small, and every fifth recorder has a film of several blocks."""
    film = {"FILM.MP4": Noise(10 * MIB, 500 + number)} if number % 5 == 0 else {}
    return {f"{number:02}_{clip}.MP4": Noise(20_000 + clip, number * 10 + clip) for clip in range(3)} | film


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("cards")
    return [image(folder / f"{number:02}.img", content(number), size_bytes=34 * MIB) for number in range(RECORDERS)]


def assert_all_is_kept_once(made: Stage) -> None:
    wanted = sorted(one.read() for number in range(RECORDERS) for one in content(number).values())
    for folder in (made.station / "vault", made.store / "originals"):
        assert sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file()) == wanted
    assert call(made, "verify").returncode == 0


def all_done(daemon: Daemon) -> bool:
    shown = {slot["slot"]: slot["may_remove"] for slot in daemon.status()["slots"]}
    return len(shown) == RECORDERS and all(shown.values())


def until_all_is_stored(daemon: Daemon) -> None:
    files = sum(len(content(number)) for number in range(RECORDERS))
    daemon.until(lambda: all_done(daemon), 100)
    daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == files)


@pytest.mark.timeout(240)
def test_a_burst_of_25_recorders_is_seen_at_once_and_all_are_pulled(tmp_path: Path, cards: list[Path]) -> None:
    made = stage(tmp_path)
    with running(made) as daemon:
        for path in cards:
            os.link(path, made.dock / path.name)
        docked_at = time.monotonic()
        daemon.until(lambda: len(daemon.status()["slots"]) == RECORDERS, FOUND_WITHIN_S)
        assert time.monotonic() - docked_at < FOUND_WITHIN_S
        until_all_is_stored(daemon)
        assert [docking["reason"] for docking in daemon.status()["dockings"]].count("complete") >= 1
    assert_all_is_kept_once(made)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_recorders_that_vanish_at_any_moment_and_come_back_lose_and_double_nothing(
    tmp_path: Path, cards: list[Path], seed: int
) -> None:
    made = stage(tmp_path, {"dock.rescan_s": "1"})
    chance = random.Random(seed)
    with running(made) as daemon:
        for path in cards:
            os.link(path, made.dock / path.name)
        for _ in range(VANISHINGS):
            name = chance.choice(cards).name
            there, away = made.dock / name, tmp_path / name
            os.rename(*((there, away) if there.exists() else (away, there)))
            time.sleep(chance.choice((0.0, 0.02, 0.1, 0.4)))  # the moment is what is tried
            daemon.service.alive()
        for path in cards:
            if not (made.dock / path.name).exists():
                os.rename(tmp_path / path.name, made.dock / path.name)
        until_all_is_stored(daemon)
    assert_all_is_kept_once(made)
