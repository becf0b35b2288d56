"""What any store must prove: a suite of tests for implementations of `agent.uploader.base.Store`."""

from __future__ import annotations

import asyncio
import hashlib
import os
from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from agent.errors import EvidenceError, StoreError
from agent.model import Digests, Held
from agent.uploader.base import Store
from tests.fakes import FakeErrand

MIB = 1024 * 1024


def held(folder: Path, content: bytes, asset_id: str = "a") -> Held:
    """A file as the vault would hand it over."""
    digests = Digests(blake3(content).hexdigest(), hashlib.sha256(content).hexdigest())
    path = folder / digests.blake3
    path.write_bytes(content)
    return Held(asset_id, path, len(content), digests, sealed=False)


class StoreConformance(ABC):
    """Inherit, give the fixtures `store` (a Store) and `vault` (a folder), and say how to look behind the store."""

    reads = True
    """Whether the store lets this station read what it stored; else fetching is refused in words."""

    @abstractmethod
    def objects(self, store: Store) -> dict[str, bytes]:
        """All stored objects by BLAKE3, as somebody without this software would find them."""

    @abstractmethod
    def damage(self, store: Store, blake3_hex: str) -> None:
        """Change one byte of an object behind the store's back."""

    @abstractmethod
    def lose(self, store: Store, blake3_hex: str) -> None:
        """Remove an object behind the store's back."""

    @pytest.mark.parametrize("size", [0, 1, 4095, 512 * 1024, 17 * MIB + 3])
    async def test_what_was_put_is_there_and_the_receipt_says_so(self, store: Store, vault: Path, size: int) -> None:
        content = os.urandom(size)
        original = held(vault, content)
        receipt = await store.put(original, FakeErrand())
        assert self.objects(store) == {original.digests.blake3: content}
        assert (receipt.store, receipt.size_bytes, receipt.digests) == (store.name, size, original.digests)
        assert receipt.confirmed_at.tzinfo is not None
        await store.check(receipt, read=True)
        assert original.path.read_bytes() == content, "the original is only read"

    async def test_putting_again_only_proves(self, store: Store, vault: Path) -> None:
        original = held(vault, b"footage")
        first, second = await store.put(original, FakeErrand()), await store.put(original, FakeErrand())
        assert (first.object, first.digests) == (second.object, second.digests)
        assert list(self.objects(store).values()) == [b"footage"]

    async def test_many_at_the_same_time(self, store: Store, vault: Path) -> None:
        originals = [held(vault, os.urandom(100_000 + number), f"a{number}") for number in range(8)]
        receipts = await asyncio.gather(*(store.put(original, FakeErrand()) for original in originals))
        assert [receipt.digests for receipt in receipts] == [original.digests for original in originals]
        assert len(self.objects(store)) == 8

    async def test_the_same_content_at_the_same_time_exists_once(self, store: Store, vault: Path) -> None:
        original = held(vault, os.urandom(MIB))
        receipts = await asyncio.gather(*(store.put(original, FakeErrand()) for _ in range(6)))
        assert len({receipt.object for receipt in receipts}) == 1
        assert len(self.objects(store)) == 1

    @pytest.mark.parametrize("change", ["flipped", "shorter", "longer", "missing"])
    async def test_an_original_that_changed_is_evidence_trouble_and_not_stored(
        self, store: Store, vault: Path, change: str
    ) -> None:
        original = held(vault, b"footage" * 1000)
        match change:
            case "flipped":
                original.path.write_bytes(b"F" + b"footage" * 1000)
                os.truncate(original.path, original.size_bytes)
            case "shorter":
                os.truncate(original.path, 100)
            case "longer":
                os.truncate(original.path, 10_000)
            case "missing":
                original.path.unlink()
        with pytest.raises(EvidenceError):
            await store.put(original, FakeErrand())
        assert self.objects(store) == {}

    async def test_a_damaged_object_is_never_replaced_nor_confirmed(self, store: Store, vault: Path) -> None:
        original = held(vault, b"footage")
        receipt = await store.put(original, FakeErrand())
        self.damage(store, original.digests.blake3)
        damaged = self.objects(store)
        with pytest.raises(StoreError) as caught:
            await store.put(original, FakeErrand())
        assert not caught.value.retry
        assert "safe" in caught.value.safe
        with pytest.raises(EvidenceError):
            await store.check(receipt, read=True)
        assert self.objects(store) == damaged

    async def test_a_lost_object_is_noticed_and_can_be_stored_again(self, store: Store, vault: Path) -> None:
        original = held(vault, b"footage")
        receipt = await store.put(original, FakeErrand())
        self.lose(store, original.digests.blake3)
        with pytest.raises(EvidenceError):
            await store.check(receipt, read=True)
        await store.check(await store.put(original, FakeErrand()), read=True)

    async def test_what_was_put_comes_back_as_it_was_or_not_at_all(self, store: Store, vault: Path) -> None:
        content = os.urandom(3 * MIB + 1)
        original, back = held(vault, content), vault / "back.part"
        receipt = await store.put(original, FakeErrand())
        if not self.reads:
            with pytest.raises(StoreError, match="does not let this station read"):
                await store.fetch(receipt, back)
            return
        await store.fetch(receipt, back)
        assert back.read_bytes() == content
        with pytest.raises(FileExistsError):
            await store.fetch(receipt, original.path)
        assert original.path.read_bytes() == content, "what is there is never written to"
        for number, harm in enumerate((self.damage, self.lose)):
            harm(store, original.digests.blake3)
            with pytest.raises(EvidenceError):
                await store.fetch(receipt, vault / f"{number}.part")
            assert sum(part.stat().st_size for part in vault.glob(f"{number}.part")) <= original.size_bytes

    async def test_looking_finds_it_there(self, store: Store) -> None:
        before = self.objects(store)
        await store.look()
        assert self.objects(store) == before

    @pytest.mark.parametrize("turns", [0, 1, 2, 5, 20, 100])
    async def test_cancelled_at_any_point_it_leaves_a_whole_object_or_none(
        self, store: Store, vault: Path, turns: int
    ) -> None:
        content = os.urandom(6 * MIB)
        original = held(vault, content)
        task = asyncio.create_task(store.put(original, FakeErrand()))
        for _ in range(turns):
            await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.wait([task])
        assert self.objects(store) in ({}, {original.digests.blake3: content})
        await store.put(original, FakeErrand())
        assert self.objects(store) == {original.digests.blake3: content}

    async def test_a_text_of_the_station_lies_under_its_own_key_and_no_other_takes_its_place(
        self, store: Store, vault: Path
    ) -> None:
        key = "checkpoints/capture-agent-0123456789abcdef/00000007"
        ours, others = (replace(held(vault, content), key=key) for content in (b"signed\n", b"forged\n"))
        receipt = await store.put(ours, FakeErrand())
        assert receipt.object.endswith(key)
        assert (await store.put(ours, FakeErrand())).object == receipt.object
        with pytest.raises(StoreError) as caught:
            await store.put(others, FakeErrand())
        assert not caught.value.retry
        assert await store.check(receipt, read=self.reads) is self.reads
        assert self.objects(store).get("00000007", b"signed\n") == b"signed\n"
        original = held(vault, b"signed\n")
        assert (await store.put(original, FakeErrand())).object != receipt.object, "it is no original"
        for elsewhere in ("checkpoints/../00000007", "checkpoints/x/y/1", "keys/1"):
            with pytest.raises(StoreError):
                await store.check(replace(receipt, object=elsewhere), read=False)

    async def test_a_store_has_no_verb_that_removes(self, store: Store) -> None:
        verbs = {name for name in dir(store) if not name.startswith("_")}
        assert verbs == {"name", "locks", "put", "check", "fetch", "look", "apart", "survey", "close"}
