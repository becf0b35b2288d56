"""Freeing with everything real but the clock: service, lanes, signed manifests, a store on another filesystem."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from agent.config import load
from agent.model import AssetState, Role
from agent.opening import opened
from agent.pipeline.asked import VERBS
from agent.pipeline.auditing import AuditLane
from agent.pipeline.checkpoints import sign
from agent.pipeline.releasable import plan, rule_of
from agent.pipeline.releasing import ReleaseLane
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.pipeline.verify import verify
from agent.service import Service
from tests.conftest import SettableClock
from tests.crashing import running
from tests.fakes import FakeRecorder
from tests.releasing import DAY_S, agree, originals, states, vault_files
from tests.shares import made

ROOT = Path(__file__).resolve().parents[1]
CARD = {"/A.MP4": b"a film " * 5000, "/B.WAV": b"a voice " * 5000}
OPTIONS = """
[storage]
root = "{root}"
reserve_bytes = 0
[store.options]
path = "{store}"
[manifest]
quiet_s = 0
[access]
enabled = false
[runner]
probe_pause_s = 0.01
audit_pause_s = 0
audit_read_each = 1
[release]
when = "when_done"
retention_days = 2
lock_days = 0
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder on another filesystem than that of the tests."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield made(Path(folder) / "store")


@pytest.fixture
async def working(tmp_path: Path, elsewhere: Path, clock: SettableClock) -> AsyncIterator[tuple[Station, Runner]]:
    """A service at work, with the shipped rules."""
    shutil.copytree(ROOT / "config", tmp_path / "etc")
    path = tmp_path / "etc" / "agent.toml"
    path.write_text(OPTIONS.format(root=tmp_path / "station", store=elsewhere), "utf-8")
    config = load(path)
    async with opened(config, clock) as station, running(station, 2) as (runner, _):
        service = Service(config, station, runner)
        await service.start()
        station.clock_is_kept = lambda: True
        yield station, runner


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.05)


def is_sealed(station: Station) -> bool:
    """Whether every recording has a manifest at the centre, and nothing waits."""
    about = [station.journal.reader.all_of({asset.recording_id}) for asset in originals(station)]
    roles = [{asset.role for _, asset in one if asset.receipt is not None} for one in about]
    waits = station.journal.reader.next_to_store(station.clock()) is not None
    return not waits and len(roles) == len(CARD) and all({Role.MANIFEST, Role.ORIGINAL} <= found for found in roles)


async def test_a_station_frees_what_it_may_and_everything_still_verifies(
    working: tuple[Station, Runner], clock: SettableClock, elsewhere: Path
) -> None:
    station, runner = working
    runner.dock("1", "slot 1", lambda: FakeRecorder(dict(CARD), station.vault.staging_dir), once=True)
    await until(lambda: is_sealed(station))
    ids = " ".join(asset.recording_id for asset in originals(station))
    form = '{"proof_object": "现场检查的情况", "place_text": "县城"}'
    await VERBS["metadata_set"](station, {"ids": ids, "fields": form, "who": "张三", "why": "补充"})
    for _ in range(4):
        clock.advance(DAY_S)
        station.held_news.set()
        await asyncio.sleep(0.3)
        await sign(station)
    await until(lambda: is_sealed(station))
    await until(lambda: plan(station.journal.reader, rule_of(station)).goes.files == len(CARD))
    await agree(station)
    await sign(station)
    lane = ReleaseLane(station, lambda: False, pause_s=0)
    async with asyncio.timeout(60):  # what is sealed anew meanwhile is stored first
        while states(station) != [AssetState.RELEASED] * len(CARD):
            await lane.step()
            await sign(station)
    assert lane.trouble == ""
    assert not set(CARD.values()) & vault_files(station)
    assert set(CARD.values()) <= {path.read_bytes() for path in elsewhere.glob("originals/??/*")}
    report = await verify(station.vault.root / "journal.db", station.vault, station.store, lambda *_: None)
    assert report.problems == []
    assert station.journal.reader.alarms()[0] == [], "the guard knows its own"
    audit = AuditLane(station)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while not audit.progress.rounds:
                await audit.step()
    assert (audit.progress.lost, audit.progress.error) == (0, "")
