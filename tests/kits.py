"""Stations with something to hand over, and kits of it, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from agent.config import Config
from agent.config.manifests import Manifests
from agent.kit.contents import Wanted
from agent.kit.exporting import Exporter, Kit, Order
from agent.manifest import Background
from agent.model import Statement
from agent.pipeline import exporting
from agent.pipeline.checkpoints import begin, sign
from agent.pipeline.documents import add_document
from agent.pipeline.sealing import SealLane
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.signing import station_key
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.stations import SHIPPED, dock, opened

FILES = {"/DCIM/0001.MP4": b"one" * 999, "/DCIM/视频 2.MP4": b"two" * 99_999, "/DCIM/0003.JPG": b"\xff\xd8 three"}
CASE = "鲁医保案〔2026〕1号"
ALL = Wanted(case=CASE)
FIELDS = {
    "case_no": CASE,
    "proof_object": "证明药店未按处方销售药品",
    "makers": [{"name": "张三"}],
    "method": "body_camera",
}


@asynccontextmanager
async def filled(root: Path, clock: SettableClock, files: dict[str, bytes] | None = None) -> AsyncIterator[Station]:
    """A station with a key, the originals of one docking, held and stored, a statement, and a checkpoint over it."""
    async with opened(root, clock) as station:
        await begin(station, station_key(root, root / "no-credential"))
        await dock(station, FakeRecorder(dict(files or FILES), station.vault.staging_dir))
        names = [row.recording.recording_id for row in station.journal.reader.recordings()]
        await add_document(station, Statement("张三", "登记", clock(), FIELDS), names)
        lane = StoreLane(station)
        for _ in names:
            await lane.store(await lane.take())
        await sign(station)
        station.manifests, station.limits = Manifests(quiet_s=0), replace(station.limits, probe_pause_s=0)
        station.background = lambda: Background({"name": "采集站"}, {"agent": "1"}, lambda _: {"version": 1})
        await SealLane(station, lambda: False).step()
        await sign(station)
        yield station


def config_of(root: Path) -> Config:
    """The configuration as shipped, with a folder of its own."""
    return replace(SHIPPED, storage=replace(SHIPPED.storage, root=root))


async def export(station: Station, folder: Path, wanted: Wanted = ALL) -> Kit:
    """Export all of the case, or what is wanted, as the command line does."""
    order = Order(wanted, folder, "批〔2026〕7号", "李四", "移送", station.clock())
    parts = (station.journal.reader, station.vault, station.store, lambda *_: None)
    exporter = Exporter(order, config_of(station.vault.root), *parts)
    return await exporter.run(lambda asked: exporting.journal_export(station, asked))
