"""The real daemon, killed by SIGKILL again and again over one docking: nothing is lost, nothing is doubled."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from blake3 import blake3

from agent.errors import JournalError
from agent.journal import Reader
from agent.model import AssetState, Outcome
from simulator.card import Card
from simulator.content import Noise
from simulator.stage import Stage, prepare, tail
from tests.conftest import SettableClock

KILLS = 102
BIG = [Noise(48_000_000 + 1000 * seed, seed) for seed in range(6)]
SMALL = [Noise(1 + 4567 * (seed % 311), seed) for seed in range(100, 400)]
TWINS = 12
TOTAL_BYTES = sum(content.size_bytes for content in BIG + SMALL)
START_LIMIT_S = 60.0
AIM_LIMIT_S = 20.0
WORK_LIMIT_S = 1.0
FINISH_LIMIT_S = 120.0
LOOK_S = 0.01
EARLY_S = 0.7
SEED = 20261120

# The real command with one difference: an image counts as at rest after a moment, not after a second, 100 times over.
DAEMON = """
import sys
from agent.cli import main
from agent.drivers.image_dock import ImageDock
ImageDock.__init__.__kwdefaults__["settle_s"] = 0.02
sys.exit(main(sys.argv[1:]))
"""


def make_card(image: Path) -> set[str]:
    """An exFAT card of half a gigabyte, big and small files mixed, some of them twice; returns the BLAKE3 of each."""
    truth = set()
    with Card.exfat(image, TOTAL_BYTES + (64 << 20), cluster_bytes=32768) as card:
        for number, content in enumerate(BIG):
            card.add(f"DCIM/100ANDRO/{number:04}.MP4", content)
        for number, content in enumerate(SMALL):
            card.add(f"DCIM/{101 + number % 3}ANDRO/{number:04}.JPG", content)
        for number, content in enumerate(SMALL[:TWINS]):
            card.add(f"DCIM/IMPORTANT/{number:04}IMP.JPG", content)
    for content in BIG + SMALL:
        hasher = blake3()
        for chunk in content.chunks():
            hasher.update(chunk)
        truth.add(hasher.hexdigest())
    return truth


def sizes(folder: Path, pattern: str) -> Iterator[int]:
    for path in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):  # it has just got its final name
            yield path.stat().st_size


@dataclass(slots=True)
class Killer:
    """Starts the daemon and kills it, sooner or later; counts what was under way when it died, and how far it was."""

    stage: Stage
    dice: random.Random = field(default_factory=lambda: random.Random(SEED))
    hit: Counter[str] = field(default_factory=Counter)
    tenths: Counter[int] = field(default_factory=Counter)
    _docking: str = ""

    def done_bytes(self) -> int:
        """Bytes that came to the station and to the store: grows to twice the card."""
        station = self.stage.station
        vault = sum(sizes(station, "vault/??/*")) + sum(sizes(station, "staging/*"))
        return vault + sum(sizes(self.stage.store / "originals", "??/*"))

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """A life of the daemon, killed at its end at the latest."""
        command = [sys.executable, "-c", DAEMON, "--config", str(self.stage.config), "run"]
        with self.stage.log.open("ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def kill_once(self, left: int) -> None:
        """Some lives end after a random time, in start or recovery; most after a random share of what is left.

        Every tenth is aimed at a copy into the store: on a quick disk that is too short to be hit by luck.
        """
        if left % 10 == 0:
            self._kill_a_copy()
            return
        before = self.done_bytes()
        early = self.dice.random() < 0.25
        share = self.dice.random() * max(0, 2 * TOTAL_BYTES - before) / left
        end = time.monotonic() + (self.dice.random() * EARLY_S if early else START_LIMIT_S)
        works = False
        with self.daemon() as process:
            while time.monotonic() < end and (early or (done := self.done_bytes()) < before + share):
                assert process.poll() is None, f"it ended by itself:\n{tail(self.stage.log)}"
                if not early and not works and done != before:
                    works, end = True, time.monotonic() + WORK_LIMIT_S
                time.sleep(LOOK_S * self.dice.random())
        self._look()

    def _kill_a_copy(self) -> None:
        """Ends as soon as the store has an unfinished copy, or when none came in time."""
        end = time.monotonic() + AIM_LIMIT_S
        with self.daemon() as process:
            while time.monotonic() < end and not self._copies():
                assert process.poll() is None, f"it ended by itself:\n{tail(self.stage.log)}"
        self._look()

    def _copies(self) -> list[Path]:
        return list(self.stage.store.glob(".incoming-*"))

    def _look(self) -> None:
        """What did the kill hit?"""
        self.tenths[self.done_bytes() * 10 // (2 * TOTAL_BYTES + 1)] += 1
        for name in self._under_way():
            self.hit[name] += 1

    def _under_way(self) -> set[str]:
        found = {"a copy into the store"} if self._copies() else set()
        try:
            reader = Reader(self.stage.station / "journal.db")
        except JournalError:
            return {"start"}
        with contextlib.closing(reader):
            newest = next(iter(reader.dockings(limit=1)), None)
            if newest is None or newest.docking_id == self._docking:
                return found | {"start"}
            self._docking = newest.docking_id
            if newest.listed_at is None:
                return found | {"listing"}
            if reader.settled():
                found.add("between read back and held")
            parts = [path.stat().st_size for path in (self.stage.station / "staging").iterdir()]
            found.add("a big file" if any(size > 2_000_000 for size in parts) else "small files")
            if reader.overview(SettableClock()()).assets[AssetState.HELD].files:
                found.add("something to store")
        return found

    def finish(self) -> None:
        """Let one life go on until everything is stored."""
        end = time.monotonic() + FINISH_LIMIT_S
        with self.daemon() as process:
            while not self._is_done():
                assert process.poll() is None, f"it ended by itself:\n{tail(self.stage.log)}"
                assert time.monotonic() < end, f"it never got done:\n{tail(self.stage.log)}"
                time.sleep(0.1)

    def _is_done(self) -> bool:
        with contextlib.closing(Reader(self.stage.station / "journal.db")) as reader:
            newest = reader.dockings(limit=1)[0]
            waits = reader.overview(SettableClock()()).assets
            idle = not waits[AssetState.HELD].files and not waits[AssetState.WANTED].files
            return idle and newest.reason == "complete" and newest.docking_id != self._docking


def helpers_of(stage: Stage) -> list[str]:
    """Helper processes of any life that still work on our image."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes()
            if os.fsencode(stage.dock) in command:
                found.append(path.parent.name)
    return found


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@pytest.mark.root
@pytest.mark.timeout(400)
def test_a_hundred_kills_over_one_docking_lose_and_double_nothing(tmp_path: Path) -> None:
    stage = prepare(tmp_path / "stage")
    image = stage.dock / "card.img"
    truth = make_card(stage.recorders / "card.img")
    before = sha256_of(stage.recorders / "card.img")
    os.rename(stage.recorders / "card.img", image)
    killer = Killer(stage)
    for left in range(KILLS, 0, -1):
        killer.kill_once(left)
    killer.finish()

    assert killer.hit.total() >= KILLS
    assert len(killer.tenths) >= 8, f"the kills came all over the docking: {killer.tenths}"
    for what in ("start", "a big file", "small files", "something to store", "a copy into the store"):
        assert killer.hit[what] >= 3, f"{what} was hit: {killer.hit}"
    check_exact(stage, truth)
    assert sha256_of(image) == before, "the recorder is as it was"
    end = time.monotonic() + 10
    while helpers := helpers_of(stage):
        assert time.monotonic() < end, f"helpers outlived their daemon: {helpers}"
        time.sleep(LOOK_S)


def check_exact(stage: Stage, truth: set[str]) -> None:
    """What any tool sees, what `capture-agent verify` says, and what the journal has, are all exactly the card."""
    for folder in (stage.station / "vault", stage.store / "originals"):
        files = {path.name: path for path in folder.glob("??/*")}
        assert files.keys() == truth
        for name, path in files.items():
            assert blake3(path.read_bytes()).hexdigest() == name
    assert not list((stage.station / "staging").iterdir()), "a part is left over"
    assert not list((stage.station / "damaged").iterdir())
    told = subprocess.run(stage.command("verify", "--json"), capture_output=True, check=False, timeout=120)
    report = json.loads(told.stdout)
    assert (told.returncode, report["sound"], report["problems"]) == (0, True, [])
    assert report["originals"] == report["stored"] == len(truth)
    with contextlib.closing(Reader(stage.station / "journal.db")) as reader:
        overview = reader.overview(SettableClock()())
        states = {state: tally.files for state, tally in overview.assets.items() if tally.files}
        assert states == {AssetState.STORED: len(truth), AssetState.MATCHED: TWINS}, "each clip is one recording"
        accounts = [docking.accounting for docking in reader.dockings(limit=10_000)]
    for account in accounts:
        assert account.seen == sum(getattr(account, outcome.value) for outcome in Outcome)
        assert not account.pending
    assert accounts[0].pulled + accounts[0].already_held == len(truth) + TWINS
