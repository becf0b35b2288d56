"""Brings one original into the bucket: in one piece or in parts, resumed if it was begun, and proven by its version."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Final

from blake3 import blake3

from agent.errors import EvidenceError, StoreError
from agent.medium_reader import Hasher
from agent.model import Held
from agent.turns import Gate
from agent.uploader.base import SAFE, Errand
from agent.uploader.network import CutError, pause_s
from agent.uploader.s3.answers import Version
from agent.uploader.s3.bucket import MAX_PARTS, Bucket
from agent.uploader.s3.client import TRIES, RefusedError
from agent.uploader.source import Source

PART_BYTES: Final = 8 * 1024 * 1024
_ONLY_NEW: Final[Mapping[str, str]] = {"If-None-Match": "*"}
"""Stores that understand it never get a second version; the others don't mind."""

_UPLOAD: Final = "upload"
_FOR: Final = "upload-for"
_PART: Final = "part-"


def part_bytes(size_bytes: int) -> int:
    """Size of the parts of an object: follows from its size alone, so that its ETag follows from its bytes alone.

    8 MiB, and so many times that for more than 8,000 MiB that there are at most 1,000 parts.
    """
    return PART_BYTES * max(1, -(-size_bytes // (PART_BYTES * MAX_PARTS)))


class Upload:
    """One original on its way; for one attempt. `headers` go with the object: its lock and what describes it."""

    def __init__(
        self, bucket: Bucket, key: str, held: Held, errand: Errand, gate: Gate, senders: int, headers: Mapping[str, str]
    ) -> None:
        self._bucket = bucket
        self._key = key
        self._held = held
        self._errand = errand
        self._gate = gate
        self._senders = senders
        self._headers = headers
        self._part_bytes = part_bytes(held.size_bytes)
        self._count = max(1, -(-held.size_bytes // self._part_bytes))
        self._done: dict[int, int] = {}
        self._md5s: list[str] = []

    async def run(self) -> Version:
        """Make sure that the bucket has the original, and give the version that proves it.

        Raises EvidenceError, before there is an object, if the original is not what it was; StoreError if the bucket
        can't be made to have it, or has other bytes under the key.
        """
        with Source(self._held) as source:
            send = self._in_one if self._count == 1 else self._in_parts
            return await self._there_already(source) or await send(source)

    # What is there.

    async def _there_already(self, source: Source) -> Version | None:
        """As `_find`, but the original is only read if there is something to compare it with."""
        if not await self._bucket.versions(self._key):
            return None
        await self._hash_all(source)
        return await self._find()

    async def _find(self) -> Version | None:
        """The version with our bytes; None if there is none at all. Raises StoreError if others have its place."""
        etag = etag_of(self._md5s)
        versions = await self._bucket.versions(self._key)
        ours = [one for one in versions if (one.size_bytes, one.etag) == (self._held.size_bytes, etag)]
        others = [one for one in versions if one not in ours]
        # Under a key that doesn't follow from the bytes somebody else's version must not go unnoticed beside ours.
        if not others or (ours and not self._held.key):
            return next(iter(ours), None)
        other = f"{others[0].size_bytes} bytes, ETag {others[0].etag[:80]}; ours would be {etag}"
        what = f"The store has other bytes under {self._key} than its name says, or no ETag that proves them ({other})."
        raise StoreError(what, safe=SAFE, do="Have the store checked; the agent never replaces an object.", retry=False)

    # In one piece.

    async def _in_one(self, source: Source) -> Version:
        await self._hash_all(source)
        body, headers = partial(self._body, source, 1), {**self._headers, **_ONLY_NEW}
        send = partial(self._bucket.put_object, self._key, body, self._held.size_bytes, self._md5s[0], headers)
        async with self._gate.slot(self._errand.due_at):
            return await self._until_there(send)

    async def _until_there(self, send: Callable[[], Awaitable[None]]) -> Version:
        """Ask once, and look: only if no version came of it, ask again."""
        what = "The store says that it has the original, but doesn't list it."
        failure = StoreError(what, safe=SAFE, do="Have the store checked.")
        for attempt in range(TRIES):
            try:
                await send()
            except CutError as error:
                failure = error
            except RefusedError as error:
                # A refusal that isn't open may follow an earlier attempt that was carried out.
                if not error.is_open and error.status not in {404, 412}:
                    raise
                failure = error
            if found := await self._find():
                return found
            if isinstance(failure, RefusedError) and not failure.is_open:
                break
            await asyncio.sleep(pause_s(attempt))
        raise failure

    # In parts.

    async def _in_parts(self, source: Source) -> Version:
        if found := await self._resume(source):
            return found
        upload_id = await self._bucket.create_upload(self._key, self._headers)
        await self._errand.note({_UPLOAD: upload_id, _FOR: self._purpose}, anew=True)
        return await self._finish(source, upload_id, {})

    async def _resume(self, source: Source) -> Version | None:
        """Go on with the upload that was begun; None if nothing comes of it.

        The store's word about its parts counts; our notes do where it doesn't tell, since Ceph answers 403 also for
        what is over. Then any error may mean that it is.
        """
        notes = await self._errand.recall()
        upload_id = notes.get(_UPLOAD, "")
        if not upload_id or notes.get(_FOR) != self._purpose:
            return None
        is_listed = True
        try:
            parts = await self._bucket.parts(self._key, upload_id)
            there = {part.number: part.etag for part in parts if part.size_bytes == self._size_of(part.number)}
        except RefusedError as error:
            if error.status not in {403, 404}:
                raise
            there = {int(name.removeprefix(_PART)): md5 for name, md5 in notes.items() if name.startswith(_PART)}
            if error.status == 404 or not there:
                # It may be over because a Complete of an earlier attempt was still at work when we looked.
                return await self._there_already(source)
            is_listed = False
        try:
            return await self._finish(source, upload_id, there)
        except RefusedError as error:
            if is_listed and error.status not in {400, 404}:
                raise
            return None

    async def _finish(self, source: Source, upload_id: str, there: Mapping[int, str]) -> Version:
        await self._send_all(source, upload_id, there)
        found = await self._find()  # another station may have been faster
        complete = partial(self._bucket.complete, self._key, upload_id, self._md5s, _ONLY_NEW)
        return found or await self._until_there(complete)

    @property
    def _purpose(self) -> str:
        """What an upload is for: it is never used for anything else."""
        return f"{self._bucket.client.place.url(self._key, {})} {self._held.size_bytes} {self._part_bytes}"

    async def _send_all(self, source: Source, upload_id: str, there: Mapping[int, str]) -> None:
        """Fingerprint the original from first to last, a few parts ahead of those who send what isn't there."""
        waiting: asyncio.Queue[int] = asyncio.Queue(self._senders)
        try:
            async with asyncio.TaskGroup() as group:
                senders = min(self._senders, self._count)
                for _ in range(senders):
                    group.create_task(self._sender(source, upload_id, waiting))
                async for number in self._hashed(source):
                    if there.get(number) == self._md5s[number - 1]:
                        self._errand.found(self._size_of(number))
                        self._sent(number, self._size_of(number))
                    else:
                        await waiting.put(number)
                for _ in range(senders):
                    await waiting.put(0)
        except BaseExceptionGroup as several:
            evidence, _ = several.split(EvidenceError)
            raise (evidence or several).exceptions[0] from several

    async def _sender(self, source: Source, upload_id: str, waiting: asyncio.Queue[int]) -> None:
        """Send parts; a slot is kept while the next part is ready, or it would be a stranger's in between."""
        while number := await waiting.get():
            async with self._gate.slot(self._errand.due_at) as turn:
                while number:
                    await self._gate.give_way(turn)
                    md5 = self._md5s[number - 1]
                    body = partial(self._body, source, number)
                    await self._bucket.put_part(self._key, upload_id, number, body, self._size_of(number), md5)
                    await self._errand.note({f"{_PART}{number}": md5})
                    if waiting.empty():
                        break
                    number = waiting.get_nowait()
                else:
                    return

    # Reading.

    async def _hash_all(self, source: Source) -> None:
        async for _ in self._hashed(source):
            self._errand.sent(0)

    async def _hashed(self, source: Source) -> AsyncIterator[int]:
        """Number of each part as soon as its MD5 is known; at the end the whole must have its fingerprint."""
        whole = blake3()
        done = 0
        self._md5s.clear()
        for number in range(1, self._count + 1):
            md5 = hashlib.md5(usedforsecurity=False)
            end = done + self._size_of(number)
            while done < end:
                got = await asyncio.to_thread(_feed, source, done, min(PART_BYTES, end - done), md5, whole)
                done += got
                if not got:
                    break
            self._md5s.append(md5.hexdigest())
            if number == self._count or done < end:
                source.compare(done, whole.hexdigest())
            yield number

    async def _body(self, source: Source, number: int) -> AsyncIterator[bytes]:
        done = 0
        async for piece in source.pieces((number - 1) * self._part_bytes, self._size_of(number)):
            yield piece
            done += len(piece)
            self._sent(number, done)

    def _size_of(self, number: int) -> int:
        return max(0, min(self._part_bytes, self._held.size_bytes - (number - 1) * self._part_bytes))

    def _sent(self, number: int, done_bytes: int) -> None:
        self._done[number] = done_bytes
        self._errand.sent(sum(self._done.values()))


def etag_of(md5s: Sequence[str], *, in_one: bool = True) -> str:
    """The ETag of an object: its MD5 if it came `in_one` piece, else the MD5 of its parts' MD5s, and their number."""
    if in_one and len(md5s) == 1:
        return md5s[0]
    joined = b"".join(bytes.fromhex(md5) for md5 in md5s)
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(md5s)}"


def _feed(source: Source, offset_bytes: int, size_bytes: int, *hashers: Hasher) -> int:
    done = 0
    for chunk in source.read(offset_bytes, size_bytes):
        for hasher in hashers:
            hasher.update(chunk)
        done += len(chunk)
    return done
