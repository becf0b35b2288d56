"""A recorder and a store in memory, with switches for everything that goes wrong in the field."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from blake3 import blake3

from agent.drivers.base import (
    BlockWritten,
    Failed,
    FailReason,
    Fetched,
    FetchReport,
    FetchRequest,
    Listing,
    ListingEnd,
    Progress,
    RefusedEntry,
)
from agent.errors import DeviceError, EvidenceError, StoreError
from agent.model import BLOCK_BYTES, Clip, Device, Digests, Extent, Finding, Held, Receipt, Stamp, Volume
from agent.uploader.base import Errand, Trait

CAPTURED = Stamp("2026-11-20T09:00:00", 480)


@dataclass(slots=True)
class FakeRecorder:
    """Implements `Docked`. `files` maps path to content; the switches say what goes wrong, and how often.

    `gone_after_bytes`: the recorder is unplugged when so many bytes were read. `bad`: path to the block that can't be
    read. `broken`: path to how many times the helper dies at it. `read_bytes` counts what was read from the card.
    """

    files: dict[str, bytes]
    staging: Path
    serial: str = "SN1"
    filesystem_id: str = "F00D"
    stamps: dict[str, Stamp] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    gone_after_bytes: int | None = None
    bad: dict[str, int] = field(default_factory=dict)
    broken: dict[str, int] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    unlistable: str = ""
    metadata_blake3: str = "00" * 32
    read_bytes: int = 0
    order: list[str] = field(default_factory=list)
    closed: bool = False
    hangs: bool = False
    _gone: bool = False

    @property
    def device(self) -> Device:
        return Device("fake", "ACME", "V8", self.serial, "port1", (f"fat32:{self.filesystem_id}",), "V8")

    async def clips(self) -> AsyncGenerator[Listing, None]:
        if self.unlistable:
            raise DeviceError(self.unlistable, safe="Nothing was changed.", do="Call the administrator.")
        yield Volume("fat32", self.filesystem_id, "CARD", 4096, 1 << 30, dirty=False)
        for number, (path, content) in enumerate(self.files.items(), 1):
            yield self._clip(number, path, len(content))
        for number, (path, reason) in enumerate(self.refused.items(), len(self.files) + 1):
            yield RefusedEntry(replace(self._clip(number, path, 0), size_bytes=1 << 40), reason)
        for finding in self.findings:
            yield finding
        yield ListingEnd(self.metadata_blake3)

    def _clip(self, number: int, path: str, size: int) -> Clip:
        name = path.rpartition("/")[2].encode("utf-16-le", "surrogatepass")
        return Clip(number, path, name, size, size, modified=self.stamps.get(path, CAPTURED), entry_offset=32 * number)

    async def fetch(self, requests: Sequence[FetchRequest]) -> AsyncGenerator[FetchReport, None]:
        for request in requests:
            async for report in self._fetch_one(request):
                await asyncio.sleep(0)
                yield report

    async def _fetch_one(self, request: FetchRequest) -> AsyncGenerator[FetchReport, None]:
        path, number = request.clip.path, request.clip.number
        self.order.append(path)
        if refusal := self._refusal(request):
            yield refusal
            return
        if request.part:
            self._open(request.part)
        content = self.files[path]
        whole = blake3()
        unread: tuple[Extent, ...] = ()
        for index in range(request.first_block, max(1, -(-len(content) // BLOCK_BYTES))):
            block = self._read(_block(content, index))
            if self._gone:
                yield Failed(number, FailReason.GONE)
                return
            holes: tuple[Extent, ...] = ()  # of this block
            if self.bad.get(path) == index:
                if not request.rescue:
                    yield Failed(number, FailReason.UNREADABLE, "read error")
                    return
                holes = ((index * BLOCK_BYTES, min(512, len(block))),)
                block = bytes(holes[0][1]) + block[holes[0][1] :]
                unread += holes
            whole.update(block)
            if request.part:
                self._write(request.part, index, block)
                yield BlockWritten(number, index, len(block), blake3(block).hexdigest(), holes)
            else:
                yield Progress(number, index * BLOCK_BYTES + len(block))
        if path in self.changed:
            yield Failed(number, FailReason.CHANGED, "fewer bytes than listed")
        else:
            yield Fetched(number, len(content), *(((), "") if request.part else (unread, whole.hexdigest())))

    def _refusal(self, request: FetchRequest) -> Failed | None:
        path, number = request.clip.path, request.clip.number
        if self._gone:
            return Failed(number, FailReason.GONE)
        if self.broken.get(path, 0) > 0:
            self.broken[path] -= 1
            return Failed(number, FailReason.BROKEN, "the helper died")
        if request.check is not None:
            index, digest = request.check
            if blake3(self._read(_block(self.files[path], index))).hexdigest() != digest:
                return Failed(number, FailReason.DIFFERENT)
        return None

    def _read(self, block: bytes) -> bytes:
        if self.gone_after_bytes is not None and self.read_bytes + len(block) > self.gone_after_bytes:
            self._gone = True
        self.read_bytes += len(block)
        return block

    def _open(self, part: str) -> None:
        (self.staging / part).touch()

    def _write(self, part: str, index: int, block: bytes) -> None:
        with (self.staging / part).open("r+b") as file:
            file.seek(index * BLOCK_BYTES)
            file.write(block)

    async def unplugged(self) -> None:
        self._gone = True

    async def close(self) -> None:
        self.closed = True


def _block(content: bytes, index: int) -> bytes:
    return content[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]


@dataclass(slots=True)
class FakeStore:
    """Implements `Store`. `fail_before` / `fail_after`: so many calls fail before / after the bytes are there."""

    name: str = "fake"
    objects: dict[str, bytes] = field(default_factory=dict)
    fail_before: int = 0
    fail_after: int = 0
    refuse: bool = False
    order: list[str] = field(default_factory=list)

    locks: bool = False
    elsewhere: bool = True

    async def put(self, held: Held, errand: Errand) -> Receipt:
        await asyncio.sleep(0)
        if self.refuse:
            raise StoreError("The store refuses for good.", retry=False)
        if self.fail_before > 0:
            self.fail_before -= 1
            raise StoreError("The store is away.")
        content = held.path.read_bytes()
        if blake3(content).hexdigest() != held.digests.blake3:
            raise EvidenceError("The original in the vault is damaged.")
        place = held.key or held.digests.blake3
        if self.objects.setdefault(place, content) != content:
            raise StoreError("The store has other bytes there.", retry=False)
        self.order.append(held.asset_id)
        if self.fail_after > 0:
            self.fail_after -= 1
            raise StoreError("The reply was lost.")
        confirmed = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
        return Receipt(self.name, place, len(content), held.digests, confirmed)

    async def look(self) -> None:
        return

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        content = self.objects.get(receipt.object)
        if content is None or blake3(content).hexdigest() != receipt.digests.blake3:
            raise EvidenceError("The store has other bytes.")
        return read

    async def fetch(self, receipt: Receipt, part: Path) -> None:
        await self.check(receipt, read=True)
        with part.open("xb") as file:
            file.write(self.objects[receipt.object])

    async def apart(self) -> bool:
        return self.elsewhere

    async def survey(self) -> Sequence[Trait]:
        return ()

    async def close(self) -> None:
        return


@dataclass(slots=True)
class FakeErrand:
    """Implements `Errand`: what is noted stays in memory, also when the attempt it was noted by is over."""

    due_at: datetime = datetime(2026, 11, 25, tzinfo=UTC)
    notes: dict[str, str] = field(default_factory=dict)
    progress: list[int] = field(default_factory=list)
    found_bytes: int = 0

    async def recall(self) -> Mapping[str, str]:
        await asyncio.sleep(0)
        return dict(self.notes)

    async def note(self, notes: Mapping[str, str], *, anew: bool = False) -> None:
        await asyncio.sleep(0)
        if anew:
            self.notes.clear()
        self.notes.update(notes)

    def found(self, size_bytes: int) -> None:
        self.found_bytes += size_bytes

    def sent(self, done_bytes: int) -> None:
        self.progress.append(done_bytes)


def digests_of(content: bytes) -> Digests:
    """Both fingerprints of some bytes."""
    return Digests(blake3(content).hexdigest(), sha256(content).hexdigest())
