"""The store that is a collecting service: uploads over tus 1.0.0 that go on where they were cut, and are proven."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from blake3 import blake3

from agent.config.options import read_options
from agent.errors import StoreError
from agent.model import BLOCK_BYTES, Clock, Held, Receipt
from agent.turns import Gate
from agent.uploader.base import SAFE, Errand, Trait, key_of, lost, may_not_read, not_ours, own_key, present
from agent.uploader.network import Body, CutError, pause_s
from agent.uploader.source import Source, taking
from agent.uploader.tus_protocol import GUIDE, AgainError, Progress, TusOptions, TusServer
from agent.uploader.tus_survey import survey

_TRIES: Final = 6
_SMALL_AT_A_TIME: Final = 16
_NOTE: Final = "tus_upload"


class _UnderWay(asyncio.Lock):
    """What those who put the same bytes at the same time share: who is second only proves what the first did."""

    place = ""


class TusStore:
    """Keeps originals with a collecting service that speaks tus, which by itself neither locks nor compares.

    A receipt's `object` is the key under which the service keeps the original, `version` the upload's place there, and
    `etag` the digest if the service itself gave it; otherwise the upload was read back. See docs/store-tus.md.
    """

    def __init__(self, name: str, options: Mapping[str, object], *, vault_root: Path, clock: Clock = present) -> None:
        self._options = read_options(TusOptions, options, "store.options")
        self.name = name
        self.locks = False  # tus knows none, and what the service does behind it can't be asked for
        self._clock = clock
        self._server = TusServer(self._options)
        self._gate = Gate(_SMALL_AT_A_TIME)
        self._under_way: WeakValueDictionary[str, _UnderWay] = WeakValueDictionary()

    async def put(self, held: Held, errand: Errand) -> Receipt:
        """Store one original, or prove that it is there; raises StoreError or EvidenceError."""
        async with (shared := self._under_way.setdefault(key_of(held), _UnderWay())):
            delivery = _Delivery(self._server, self._gate, held, errand, shared.place or await self._noted(errand))
            with Source(held) as source:
                sha256 = await delivery.bring(_Reading(source, held, errand), self._options.request_limit_bytes)
            shared.place = delivery.place
        errand.sent(held.size_bytes)
        key, etag = key_of(held), f"sha-256={sha256}" if sha256 else ""
        now = self._clock()
        return Receipt(self.name, key, held.size_bytes, held.digests, now, version=delivery.place, etag=etag)

    async def look(self) -> None:
        """Ask the server what it can do; raises StoreError."""
        await self._server.offer()

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        """Prove again that the upload is there; raises EvidenceError or StoreError, returns whether it was read."""
        place = self._place(receipt)
        found = await self._server.progress(place)
        if found is None or not found.is_whole(receipt.size_bytes):
            raise lost(self.name, receipt.object, "it is no longer there")
        if found.sha256 not in {"", receipt.digests.sha256}:
            raise lost(self.name, receipt.object, f"its SHA-256 is {found.sha256} there")
        given = await self._server.read_back(place) if read else None
        if given is None and read and not (receipt.etag or found.sha256):
            what = f"{self._server.host} no longer lets us read back {receipt.object}, and gives no digest of it."
            raise StoreError(what, do=f"Have the collecting service do one of them, see {GUIDE}.", retry=False)
        if given is not None and given != (receipt.size_bytes, receipt.digests):
            raise lost(self.name, receipt.object, f"it gives back {given[0]} bytes with SHA-256 {given[1].sha256}")
        return given is not None

    async def fetch(self, receipt: Receipt, part: Path) -> None:
        """Read an upload back into a new file, where the service lets us; raises as `Store.fetch`."""
        place = self._place(receipt)
        await self.check(receipt, read=False)  # a GET that is refused does not tell whether there is anything to read
        with taking(part, receipt.size_bytes, receipt.digests, partial(lost, self.name, receipt.object)) as copy:
            if await self._server.read_back(place, copy) is None:
                raise may_not_read(self._server.host, receipt.object)

    def _place(self, receipt: Receipt) -> str:
        is_ours = receipt.store == self.name and own_key(receipt) is not None and receipt.version.startswith("/")
        if not is_ours:
            raise not_ours(receipt, self.name)
        return receipt.version

    async def apart(self) -> bool:
        """It is beyond the network."""
        return True

    async def survey(self) -> Sequence[Trait]:
        """Find out with a probe what the service does; raises StoreError if it can't be reached."""
        return await survey(self._server, self._options.request_limit_bytes, self._clock)

    async def close(self) -> None:
        """Close all connections; idempotent."""
        await self._server.close()

    async def _noted(self, errand: Errand) -> str:
        """Where an earlier attempt began; nothing if that was at another endpoint."""
        with contextlib.suppress(StoreError):
            return self._server.place((await errand.recall()).get(_NOTE, ""))
        return ""


class _Reading:
    """Reads an original from first to last, and hashes all of it whatever had to be sent again or not at all.

    The hash of so many first bytes is kept and never changes: a request that was given up may still be reading.
    """

    def __init__(self, source: Source, held: Held, errand: Errand) -> None:
        self._source = source
        self._held = held
        self._errand = errand
        self._hashes = {0: blake3()}

    async def go_to(self, offset_bytes: int) -> None:
        """Read up to what the server has; raises EvidenceError."""
        done = max(known for known in self._hashes if known <= offset_bytes)
        hasher = self._hashes[done].copy()
        async for piece in self._source.pieces(done, offset_bytes - done):
            await asyncio.to_thread(hasher.update, piece)
        self._hashes = {0: blake3(), offset_bytes: hasher}

    def body(self, offset_bytes: int, end_bytes: int) -> Body:
        """What follows from there; the last piece of all only if the whole is what it was, else EvidenceError."""
        return partial(self._pieces, offset_bytes, end_bytes, self._hashes[offset_bytes])

    async def _pieces(self, offset_bytes: int, end_bytes: int, earlier: blake3) -> AsyncIterator[bytes]:
        done, hasher = offset_bytes, earlier.copy()
        async for piece in self._source.pieces(offset_bytes, end_bytes - offset_bytes):
            await asyncio.to_thread(hasher.update, piece)
            done += len(piece)
            if done == self._held.size_bytes:
                self._source.compare(done, hasher.hexdigest())
            if done == end_bytes:
                self._hashes[done] = hasher
            yield piece
            self._errand.sent(done)


class _Delivery:
    """Brings one original to the server; `place` is where its upload is."""

    def __init__(self, server: TusServer, gate: Gate, held: Held, errand: Errand, place: str) -> None:
        self._server = server
        self._gate = gate
        self._held = held
        self._errand = errand
        self._farthest = 0
        self._failures = 0
        self.place = place

    async def bring(self, reading: _Reading, limit_bytes: int) -> str:
        """Send what is missing and prove the whole; returns the SHA-256 if the server gave it.

        Raises what the last attempt did after `_TRIES` that brought nothing more; EvidenceError; StoreError.
        """
        while True:
            try:
                return await self._prove(await self._send(reading, limit_bytes))
            except (CutError, AgainError):
                self._failures += 1
                if self._failures >= _TRIES:
                    raise
            await asyncio.sleep(pause_s(self._failures))

    async def _send(self, reading: _Reading, limit_bytes: int) -> str:
        size = self._held.size_bytes
        found = await self._open()
        if not self._farthest:
            self._errand.found(found.offset_bytes)
        self._reached(found.offset_bytes)
        if found.offset_bytes == size:  # whether the service finished it we were not told
            return found.sha256 or await self._server.append(self.place, size, 0, b"", size)
        sha256, offset = "", found.offset_bytes
        await reading.go_to(offset)
        # A large one has the line to itself, or what is less urgent would share it: it is only one stream.
        async with self._gate.slot(self._errand.due_at, alone=size > BLOCK_BYTES) as turn:
            while offset < size:
                await self._gate.give_way(turn)
                end = min(offset + limit_bytes, size)
                body = reading.body(offset, end)
                sha256 = await self._server.append(self.place, offset, end - offset, body, size)
                offset = end
                self._reached(offset)
                await reading.go_to(offset)
        return sha256

    async def _open(self) -> Progress:
        """The upload of earlier, or a new one, noted before its first byte."""
        size = self._held.size_bytes
        if self.place:
            found = await self._server.progress(self.place)
            if found is not None and 0 <= found.offset_bytes <= size == found.length_bytes:
                return found
            self.place = ""
        offer = await self._server.offer()
        if offer.max_bytes is not None and size > offer.max_bytes:
            what = f"{self._server.host} takes at most {offer.max_bytes} bytes; the original has {size}."
            raise StoreError(what, safe=SAFE, do="Raise the limit of the collecting service.")
        place, sha256 = await self._server.create(size, key_of(self._held), self._held.digests)
        await self._errand.note({_NOTE: self._server.url(place)}, anew=True)
        self.place = place
        found = await self._server.progress(place)
        if found is None or (found.offset_bytes, found.length_bytes) != (0, size):
            what = f"{self._server.host} does not know the upload that it has just created."
            raise StoreError(what, safe=SAFE, do="Have the collecting service checked.")
        return replace(found, sha256=sha256 or found.sha256)

    async def _prove(self, sha256: str) -> str:
        """Compare what the server says, now and before, or else gives back; returns the SHA-256 if it said one."""
        found = await self._server.progress(self.place)
        if found is None or not found.is_whole(self._held.size_bytes):
            what = f"{self._server.host} no longer has all that it took."
            raise AgainError(what, safe=SAFE, do="Have its disks checked.")
        if told := {sha256, found.sha256} - {""}:
            if told != {self._held.digests.sha256}:
                raise self._other(f"it says that their SHA-256 is {' and '.join(sorted(told))}")
            return self._held.digests.sha256
        given = await self._server.read_back(self.place)
        if given is None:
            what = f"{self._server.host} took the original, but proves nothing: no Repr-Digest, no reading back."
            raise StoreError(what, safe=SAFE, do=f"Have the collecting service do one of them, see {GUIDE}.")
        if given != (self._held.size_bytes, self._held.digests):
            raise self._other(f"it gave back {given[0]} with SHA-256 {given[1].sha256}")
        return ""

    def _other(self, why: str) -> StoreError:
        what = f"{self._server.host} has other bytes than the original {self._held.digests.blake3}: {why}."
        do = f"Have {self.place} checked there; once it is gone, storing can begin anew."
        return StoreError(what, safe=SAFE, do=do, retry=False)

    def _reached(self, offset_bytes: int) -> None:
        """Only what is more than ever before lets us go on trying."""
        if offset_bytes > self._farthest:
            self._farthest, self._failures = offset_bytes, 0
        self._errand.sent(offset_bytes)
