"""Promise: with a clock of 1970, a clock that is set by days, or nobody who keeps it, the running service goes on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.deadline import ZONE
from agent.journal import Reader, verify
from simulator.content import Noise
from simulator.stage import Stage
from tests.cards import card
from tests.daemons import Daemon, running, stage

LIBRARY = Path(f"/usr/lib/{os.uname().machine}-linux-gnu/faketime/libfaketimeMT.so.1")


@dataclass
class FakeTime:
    """The clock that the service is shown: the real one, and so much more."""

    file: Path

    def set(self, by: timedelta) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{by.total_seconds():+.0f}\n")
        new.rename(self.file)


@pytest.fixture
def fake_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTime]:
    """Only the wall clock of what is started from now on; not the time since boot, not the times of files."""
    if not LIBRARY.exists():
        reason = "needs Debian's package faketime"
        pytest.fail(reason) if os.environ.get("CAPTURE_AGENT_CI") else pytest.skip(reason)
    fake = FakeTime(tmp_path / "faketime")
    fake.set(timedelta())
    for name, value in {
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(fake.file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }.items():
        monkeypatch.setenv(name, value)
    yield fake
    shutil.rmtree(fake.file, ignore_errors=True)


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    return stage(tmp_path)


def filmed(path: Path, seed: int, at: datetime) -> Path:
    """A card with one clip that was completed then, as its recorder writes it: China's time without a zone."""
    image = card(path, {})
    image.add(f"DCIM/CLIP{seed}.MP4", Noise(5000, seed), modified=at.astimezone(ZONE).replace(tzinfo=None))
    image.finish()
    image.close()
    return path


def recordings(daemon: Daemon) -> dict[str, dict[str, Any]]:
    rows = daemon.stage.ask("/api/v1/recordings")["recordings"]
    return {Path(row["name"]).stem: row for row in rows}


def until_stored(daemon: Daemon, name: str) -> None:
    daemon.until(lambda: recordings(daemon).get(name, {}).get("state", {}).get("name") == "stored")


def steps(made: Stage) -> list[dict[str, Any]]:
    """The steps that the journal tells of; it must be whole."""
    report = verify(made.station / "journal.db")
    assert report.consistent, report.differences
    with closing(Reader(made.station / "journal.db")) as reader:
        return [json.loads(event.detail) for event in reader.events(limit=10_000) if event.kind == "clock_stepped"]


def now() -> datetime:
    return datetime.fromtimestamp(time.time(), ZONE)


def test_from_1970_to_today_and_back_nothing_is_stuck(made: Stage, fake_time: FakeTime, tmp_path: Path) -> None:
    """Each recorder is pulled and stored at once, whatever time it is, and every step is in the journal."""
    since_1970 = timedelta(seconds=time.time() - 60)
    offsets = [-since_1970, timedelta(), timedelta(days=1), timedelta(days=-1), timedelta(hours=-1), -since_1970]
    fake_time.set(offsets[0])
    with running(made) as daemon:
        for seed, offset in enumerate(offsets):
            fake_time.set(offset)
            told = len(offsets[: seed + 1]) - 1
            daemon.until(lambda told=told: len(steps(made)) == told)
            daemon.until_phase(daemon.dock(filmed(tmp_path / f"{seed}.img", seed, now())), "finished")
            until_stored(daemon, f"CLIP{seed}")
        stepped = daemon.status()["clock"]["stepped"]
        assert stepped["seconds"] == pytest.approx(-since_1970.total_seconds() + 3600, abs=60)
    sizes = [one["step_ms"] / 1000 for one in steps(made)]
    expected = [(new - old).total_seconds() for old, new in itertools.pairwise(offsets)]
    assert sizes == pytest.approx(expected, abs=5)
