"""Crash injection into an upload to a real Ceph: whatever the process had done when it died, the next one goes on."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.model import Held, Receipt
from agent.uploader.network import Answer, Network
from agent.uploader.s3 import S3Store
from tests.crashing import Crash, World
from tests.fakes import FakeErrand
from tests.store_conformance import held

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph

PART_BYTES = 5000
DAYS = 30
EFFECTS = frozenset({"create", "note", "put", "part", "complete", "lock"})
"""What the store or a later process can see; a crash around anything else leaves what the one before left."""

_ASKS = {"uploads": "create", "partNumber": "part", "uploadId": "complete", "retention": "lock"}


class WiredErrand(FakeErrand):
    """An errand whose notes outlive the crash."""

    world: World

    async def note(self, notes: Mapping[str, str], *, anew: bool = False) -> None:
        with self.world.effect("note"):
            await super().note(notes, anew=anew)


@dataclass(slots=True)
class Place:
    """An original, where it goes, and what is noted of its way; it outlives every process."""

    ceph: Ceph
    bucket: str
    folder: Path
    original: Held
    content: bytes
    senders: int
    notes: dict[str, str] = field(default_factory=dict)
    effects: Counter[str] = field(default_factory=Counter)

    @property
    def key(self) -> str:
        blake3 = self.original.digests.blake3
        return f"originals/{blake3[:2]}/{blake3}"

    def check_true(self) -> None:
        """There is nothing under the key, or one version with all bytes."""
        versions = self.ceph.versions(self.bucket, self.key)
        assert len(versions) <= 1
        for version in versions:
            assert self.ceph.read(self.bucket, self.key, version.version_id) == self.content

    def check_complete(self, receipt: Receipt | None, crashes: int) -> None:
        """One version, locked, as the receipt says; what was there was not sent again."""
        (version,) = self.ceph.versions(self.bucket, self.key)
        assert receipt is not None
        assert (receipt.version, receipt.etag, receipt.size_bytes) == (
            version.version_id, version.etag, len(self.content),
        )  # fmt: skip
        assert self.ceph.read(self.bucket, self.key, version.version_id) == self.content
        lock = self.ceph.retention(self.bucket, self.key, version.version_id)
        assert lock is not None
        assert (lock.mode, lock.until) == ("COMPLIANCE", receipt.locked_until)
        parts = -(-len(self.content) // PART_BYTES)
        assert self.effects["part"] + self.effects["put"] <= parts + crashes * self.senders, self.effects
        orphans = [key for key, _ in self.ceph.uploads(self.bucket) if key == self.key]
        assert len(orphans) <= min(crashes, max(0, self.effects["create"] - 1)), "only a Create without its note"


class Places:
    """Places in a bucket of their own, as many as a test asks for."""

    def __init__(self, ceph: Ceph, folder: Path) -> None:
        self._ceph = ceph
        self._folder = folder
        self._number = itertools.count()
        self._bucket = f"crashes-{secrets.token_hex(4)}"
        ceph.make_bucket(self._bucket)
        user = ceph.uploader_keys
        credentials = folder / "credentials"
        credentials.touch(mode=0o600)
        credentials.write_text(
            f"[default]\naws_access_key_id = {user.access_key}\naws_secret_access_key = {user.secret_key}\n"
        )

    def new(self, size_bytes: int, senders: int = 1) -> Place:
        content = (f"{self._folder} {next(self._number)} ".encode() * size_bytes)[:size_bytes]
        return Place(self._ceph, self._bucket, self._folder, held(self._folder, content), content, senders)


@pytest.fixture(scope="module")
def small_parts(running_ceph: Ceph) -> Iterator[Ceph]:
    """A gateway that makes an object of parts of any size."""
    running_ceph.kill_gateway()
    running_ceph.start_gateway(rgw_multipart_min_part_size=1)
    yield running_ceph
    running_ceph.kill_gateway()
    running_ceph.start_gateway()


@pytest.fixture
def places(small_parts: Ceph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    """Makes places, each with an original of its own, of parts small enough to die hundreds of times."""
    monkeypatch.setattr("agent.uploader.s3.upload.PART_BYTES", PART_BYTES)
    monkeypatch.setattr("agent.uploader.s3.client.pause_s", lambda *_: 0.0)
    return Places(small_parts, tmp_path)


async def live(place: Place, world: World, monkeypatch: pytest.MonkeyPatch) -> Receipt | None:
    """One process that puts the original; None if it crashed."""
    ask = Network.ask

    async def asking(network: Network, method: str, url: str, *arguments: object) -> Answer:
        with world.effect(_name(method, url)):
            return await ask(network, method, url, *arguments)

    options = {
        "endpoint": place.ceph.endpoint, "bucket": place.bucket, "credentials_file": str(place.folder / "credentials"),
        "lock_days": DAYS, "parallel_parts": place.senders,
    }  # fmt: skip
    store = S3Store("s3", options, vault_root=place.folder)
    errand = WiredErrand(notes=place.notes)
    errand.world = world
    with monkeypatch.context() as patch, suppress(Crash):
        patch.setattr(Network, "ask", asking)
        try:
            async with asyncio.timeout(30):
                return await store.put(place.original, errand)
        finally:
            place.effects.update(world.log)
            await store.close()
    assert world.dead
    return None


def _name(method: str, url: str) -> str:
    query = parse_qs(urlsplit(url).query, keep_blank_values=True)
    name = next((name for word, name in _ASKS.items() if word in query), "put")
    return f"look: {' '.join(query)}" if method == "GET" else name


SHAPES = {"three parts": (2 * PART_BYTES + 1, 1), "six parts at once": (5 * PART_BYTES + 1, 4), "one piece": (100, 1)}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_crash_around_any_request_or_note_doubles_and_loses_nothing(
    places: Places, monkeypatch: pytest.MonkeyPatch, shape: str, after: bool
) -> None:
    for at in itertools.count():
        place = places.new(*SHAPES[shape])
        world = World(at, after=after, counts=EFFECTS if after else None)
        receipt = await live(place, world, monkeypatch)
        if not world.struck:
            assert EFFECTS & {*world.log} == ({"put"} if shape == "one piece" else EFFECTS - {"put"})
            place.check_complete(receipt, crashes=0)
            return
        try:
            assert receipt is None, "the lock was seen in force before there is a receipt"
            place.check_true()
            place.check_complete(await live(place, World(), monkeypatch), crashes=1)
        except Exception as error:
            error.add_note(f"crash {'after' if after else 'before'} effect {at} of {world.log}")
            raise


@pytest.mark.timeout(300)
async def test_crashes_after_any_two_effects_double_and_lose_nothing(
    places: Places, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process crashes after any effect of its own, whatever the first one has left."""
    for first in itertools.count():
        for second in itertools.count():
            place = places.new(*SHAPES["three parts"])
            worlds = [World(at, after=True, counts=EFFECTS) for at in (first, second)]
            receipts = [await live(place, world, monkeypatch) for world in worlds]
            try:
                place.check_true()
                if not worlds[1].struck:
                    place.check_complete(receipts[1], crashes=1)
                    break
                place.check_complete(await live(place, World(), monkeypatch), crashes=2)
            except Exception as error:
                error.add_note(f"crashes after effects {first}, {second} of {[world.log for world in worlds]}")
                raise
        if not worlds[0].struck:
            return


@pytest.mark.parametrize("shape", ["three parts", "six parts at once"])
async def test_processes_that_live_for_two_effects_only_bring_it_to_its_end(
    places: Places, monkeypatch: pytest.MonkeyPatch, shape: str
) -> None:
    """Each one dies after a request and its note, and each brings the upload on."""
    place = places.new(*SHAPES[shape])
    for lives in itertools.count(1):
        world = World(1, after=True, counts=EFFECTS)
        receipt = await live(place, world, monkeypatch)
        place.check_true()
        if not world.struck:
            break
        assert lives < 20, place.notes
    place.check_complete(receipt, crashes=lives - 1)
