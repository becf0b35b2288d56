"""A station in which local copies may go: all is stored, described, sealed, old enough, and two persons agreed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from agent import signing
from agent.model import Asset, AssetState, Derived, FreeWhen, Role, Sealing, Statement, Terms
from agent.pipeline import allowing
from agent.pipeline.checkpoints import begin, sign
from agent.pipeline.documents import add_document
from agent.pipeline.releasing import ReleaseLane
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder, FakeStore
from tests.journal_entries import probed
from tests.stations import dock

CARD = {"/A.MP4": b"a film", "/B.MP4": b"another film", "/C.MP4": b"a third film"}
DAYS = 2
TERMS = Terms(FreeWhen.DONE, DAYS, (Role.MANIFEST, Role.STATEMENT), True, 0, True, 100, 100)
DAY_S = 86400.0


async def stored(station: Station, card: Mapping[str, bytes] = CARD, terms: Terms = TERMS) -> None:
    """Everything on a card is pulled, read, described, sealed and stored; nobody has waited yet."""
    station.terms, station.clock_is_kept = terms, lambda: True
    if station.custody.key is None:
        await begin(station, signing.station_key(station.vault.root, Path("/nowhere")))
    await dock(station, FakeRecorder(dict(card), station.vault.staging_dir))
    await read(station)
    for asset in originals(station):
        await describe(station, asset)
    await store_all(station)


async def read(station: Station) -> None:
    """The probe lane and the derive lane have done their work."""
    reader = station.journal.reader
    while (asset := reader.next_to_probe()) is not None:
        limit = reader.recording(asset.asset_id).recording.deadline
        await station.journal.record(replace(probed(asset.asset_id, old=limit)))
    while (asset := reader.next_to_derive()) is not None:
        await station.journal.record(Derived(asset.asset_id, reason="no copy in this test"))


async def describe(station: Station, asset: Asset) -> None:
    """A statement and a manifest of a recording, if it has none."""
    about = [asset.recording_id]
    if station.journal.reader.documents(asset.recording_id):
        return
    said = Statement("张三", "补充", station.clock(), {"proof_object": f"现场 {asset.asset_id}"})
    await add_document(station, said, about)
    await seal(station, asset)


async def seal(station: Station, asset: Asset) -> None:
    """The next manifest of a recording says all there is by now."""
    reader = station.journal.reader
    known = reader.belongings(asset.recording_id)
    said = Sealing(known.number, known.covers, known.previous)
    content = f"manifest {known.number} of {asset.recording_id}".encode()
    await add_document(station, said, [asset.recording_id], content)


async def store_all(station: Station) -> None:
    """The store lane has done its work."""
    lane = StoreLane(station)
    while station.journal.reader.next_to_store(station.clock()) is not None:
        delivery = await lane.take()
        await lane.store(delivery)
        lane.give_back(delivery)


async def wait_days(station: Station, clock: SettableClock, days: int = DAYS + 1) -> None:
    """The service ran on so many days."""
    for _ in range(days):
        clock.advance(DAY_S)
        await sign(station)


async def agree(station: Station) -> None:
    """Two persons want the terms that are configured."""
    await allowing.ask(station, {"who": "张三", "why": "磁盘将满"})
    await allowing.confirm(station, {"who": "李四", "why": "已核对"})


async def ready(station: Station, clock: SettableClock, card: Mapping[str, bytes] = CARD, terms: Terms = TERMS) -> None:
    """Everything at once."""
    await stored(station, card, terms)
    await wait_days(station, clock)
    await agree(station)
    await sign(station)


async def one_round(station: Station) -> ReleaseLane:
    """The lane looks once."""
    lane = ReleaseLane(station, lambda: False, pause_s=0)
    await lane.step()
    return lane


def originals(station: Station) -> list[Asset]:
    """Every recording's original, in the order of their names on the card."""
    views = station.journal.reader.recordings(limit=1000)
    return [view.asset for view in sorted(views, key=lambda view: view.clip.path if view.clip else "")]


def states(station: Station) -> list[AssetState]:
    """Their states."""
    return [asset.state for asset in originals(station)]


def vault_files(station: Station) -> set[bytes]:
    """The contents of all files in the vault."""
    return {path.read_bytes() for path in station.vault.originals_dir.glob("??/*")}


def store_of(station: Station) -> FakeStore:
    """The store in memory."""
    assert isinstance(station.store, FakeStore)
    return station.store
