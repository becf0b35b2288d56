"""Real FAT32 and exFAT cards through the real helpers keep the contract of a driver."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agent.child import ChildError
from agent.drivers.base import Docked, Fetched, FetchRequest
from agent.drivers.listing import Layout
from agent.drivers.mass_storage import MassStorage
from agent.errors import DeviceError, UnpluggedError
from agent.model import Clip, Device, Stamp
from simulator.card import Card
from tests.disks import loop
from tests.driver_conformance import CARD, DriverConformance


def filled(card: Card) -> Path:
    with card:
        for path, content in CARD.items():
            card.add(path, content)
        return card.path


class TestFat32(DriverConformance):
    """The conformance suite against a FAT32 card."""

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        image = filled(Card.fat32(tmp_path / "fat32.img", 160 << 20))
        return MassStorage(image, Device("mass_storage"), staging)


class TestExFat(DriverConformance):
    """The conformance suite against an exFAT card."""

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        image = filled(Card.exfat(tmp_path / "exfat.img", 160 << 20))
        return MassStorage(image, Device("mass_storage"), staging)


async def test_a_helper_that_dies_after_its_last_answer_has_failed_nobody(tmp_path: Path) -> None:
    class Dying:
        async def line(self) -> object:
            return {"fetched": [1, 0, [], ""]}

        async def send(self, *_: object) -> None:
            raise ChildError("closed its input")

        async def stop(self) -> None:
            pass

    storage = MassStorage(tmp_path, Device("mass_storage"), tmp_path)
    storage._layouts, storage._puller = {1: Layout(0, None)}, Dying()
    clip = Clip(1, "a.mp4", b"a", 0, 0, Stamp(), Stamp())
    assert [report async for report in storage.fetch([FetchRequest(clip, "")])] == [Fetched(1, 0)]


async def test_a_killed_helper_that_the_kernel_still_holds_is_told_until_it_is_gone(tmp_path: Path) -> None:
    class Held:
        """In an uninterruptible read: killed, but not gone."""

        ended = False

        async def stop(self) -> None:
            pass

    storage, held = MassStorage(tmp_path, Device("mass_storage"), tmp_path), Held()
    assert not storage.hangs
    storage._puller = held  # type: ignore[assignment]
    await storage.close()
    await storage.close()
    assert storage.hangs
    held.ended = True
    assert not storage.hangs


@pytest.mark.root
@pytest.mark.parametrize("stays", [False, True])
async def test_a_disk_that_can_not_be_listed_and_is_gone_soon_was_unplugged(tmp_path: Path, stays: bool) -> None:
    """While it goes away its reads fail, so that the filesystem looks damaged."""
    (tmp_path / "card").write_bytes(bytes(1 << 20))
    with loop(tmp_path / "card") as disk:
        node = tmp_path / "sda"
        node.symlink_to(disk.path)
        storage = MassStorage(node, Device("mass_storage"), tmp_path)
        removal = asyncio.create_task(vanished(node, storage)) if not stays else None
        with pytest.raises(DeviceError) as caught:
            async for _ in storage.clips():
                pass
        assert isinstance(caught.value, UnpluggedError) is not stays
        if removal is not None:
            await removal


async def vanished(node: Path, storage: MassStorage) -> None:
    """Takes the node away once its reader has ended."""
    while storage._parser is None:
        await asyncio.sleep(0.01)
    while storage._parser is not None:
        await asyncio.sleep(0.01)
    node.unlink()
