"""Promise: what was signed is at the centre under its number, and a log that was set back or made anew shows there."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agent.errors import StoreError
from agent.journal import verify
from agent.model import Held, Receipt
from agent.pipeline.checkpoint_store import CheckpointStoreLane
from agent.pipeline.checkpoints import sign
from agent.pipeline.station import Station
from agent.signing import FILE
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.note import Note
from agent.uploader.base import CHECKPOINT_KEY, Errand
from agent.uploader.directory import DirectoryStore
from tests.fakes import FakeErrand, FakeStore
from tests.test_checkpoints import signing, ticks


async def signed(station: Station, *counts: int) -> None:
    for count in counts:
        await ticks(station, count)
        assert await sign(station) is not None


async def stored(station: Station, steps: int) -> None:
    """So many steps of the lane, none of which may wait."""
    lane = CheckpointStoreLane(station)
    for _ in range(steps):
        await asyncio.wait_for(lane.step(), 30)


def incidents(station: Station) -> list[str]:
    events = station.journal.reader.events(limit=1000)
    return [event.detail for event in events if event.kind == "incident" and "checkpoint-refused" in event.detail]


async def test_each_is_stored_once_as_it_was_signed_the_oldest_first(tmp_path: Path) -> None:
    store = FakeStore()
    async with signing(tmp_path) as station:
        station.store = store
        await signed(station, 1, 2, 3)
        await stored(station, 3)
        views, folder = station.journal.reader.checkpoints(), station.custody.origin.replace("/", "-")
        assert station.journal.reader.checkpoint_to_store() is None
        assert [view.receipt.object for view in views if view.receipt] == [
            f"checkpoints/{folder}/0000000{number}" for number in (1, 2, 3)
        ]
        assert store.objects == {view.receipt.object: view.signed.encode() for view in views if view.receipt}
        assert all(CHECKPOINT_KEY.fullmatch(key) for key in store.objects)
        assert not list(station.vault.staging_dir.iterdir()), "nothing is left of it here"
    assert verify(tmp_path / "journal.db").consistent


async def test_a_store_that_is_away_is_tried_until_it_is_back(tmp_path: Path) -> None:
    store = FakeStore(fail_before=3, fail_after=2)
    async with signing(tmp_path) as station:
        station.store = store
        await signed(station, 1)
        await stored(station, 6)
        assert store.order == ["checkpoint-1"] * 3, "a reply that was lost leads to the same object"
        assert len(store.objects) == 1
        assert not station.custody.problems()[1:]
        assert not list(station.vault.staging_dir.iterdir())


async def test_a_store_that_stays_away_is_told_until_it_is_back(tmp_path: Path) -> None:
    async with signing(tmp_path) as station:
        station.store = FakeStore(fail_before=12)
        await signed(station, 1)
        lane = CheckpointStoreLane(station)
        for step in range(13):
            assert any("尚未送达中心" in problem for problem in station.custody.problems()) == (step >= 10)
            await lane.step()
        assert station.custody.problems() == ("",)


async def test_it_goes_behind_every_original(tmp_path: Path) -> None:
    @dataclass(slots=True)
    class Asked(FakeStore):
        errands: list[Errand] = field(default_factory=list)

        async def put(self, held: Held, errand: Errand) -> Receipt:
            self.errands.append(errand)
            return await FakeStore.put(self, held, errand)

    store = Asked()
    async with signing(tmp_path) as station:
        station.store = store
        await signed(station, 1)
        await stored(station, 1)
    assert store.errands[0].due_at > FakeErrand().due_at.replace(year=2999)


async def test_an_older_copy_of_the_journal_is_exposed_by_the_number_that_is_taken(tmp_path: Path) -> None:
    """Everything in the copy is right, so that nothing here can tell."""
    store = FakeStore()
    async with signing(tmp_path) as station:
        station.store = store
        await signed(station, 1)
    copy = shutil.copy(tmp_path / "journal.db", tmp_path / "copy.db")
    async with signing(tmp_path) as station:
        station.store = store
        await signed(station, 5, 5)
        await stored(station, 3)
    kept = dict(store.objects)
    shutil.copy(copy, tmp_path / "journal.db")
    assert verify(tmp_path / "journal.db").consistent
    async with signing(tmp_path) as station:
        station.store = store
        await signed(station, 3, 3, 3)
        await stored(station, 4)
        assert len(incidents(station)) == 1, "told once"
        assert '"number":2' in incidents(station)[0]
        assert any("第 3 号" in problem for problem in station.custody.problems())
        assert {key: store.objects[key] for key in kept} == kept, "what is at the centre stays"
        fourth = station.journal.reader.checkpoint(4)
        assert fourth is not None
        assert fourth.receipt is not None, "what follows is taken, so that it can be compared"


async def test_a_log_made_anew_with_the_stolen_key_is_exposed_too(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "forged").mkdir()
    store = FakeStore()
    async with signing(tmp_path / "ours") as station:
        station.store = store
        await signed(station, 5)
        await stored(station, 1)
        origin = station.custody.origin
    shutil.copy(tmp_path / "ours" / FILE, tmp_path / "forged" / FILE)
    async with signing(tmp_path / "forged", origin=origin) as station:
        station.store = store
        await signed(station, 4)
        view = station.journal.reader.newest_checkpoint()
        assert view is not None
        assert Checkpoint.parse(Note.parse(view.note.encode()).text).origin == origin
        await stored(station, 1)
        assert len(incidents(station)) == 1
        assert any("the centre refuses checkpoint 1" in problem for problem in station.custody.problems())


@pytest.mark.parametrize("tampered", [b"", b"another checkpoint\n"])
async def test_in_a_real_folder_a_changed_one_is_never_replaced(tmp_path: Path, tampered: bytes) -> None:
    place = tmp_path / "store"
    place.mkdir()
    (place / ".capture-agent-store").touch()
    (tmp_path / "station").mkdir()
    async with signing(tmp_path / "station") as station:
        station.store = store = DirectoryStore("folder", {"path": str(place)}, vault_root=station.vault.root)
        try:
            await signed(station, 1)
            await stored(station, 1)
            [path] = place.glob("checkpoints/*/00000001")
            view = station.journal.reader.checkpoint(1)
            assert view is not None
            assert view.receipt is not None
            assert path.read_bytes() == view.signed.encode()
            assert await store.check(view.receipt, read=True)
            path.chmod(0o600)
            path.write_bytes(tampered)
            held = station.vault.lend("checkpoint-1", view.signed.encode(), view.receipt.object)
            with pytest.raises(StoreError) as refused:
                await store.put(held, FakeErrand())
            assert not refused.value.retry
            assert path.read_bytes() == tampered
        finally:
            await store.close()
