"""The store that is an S3 bucket with Object Lock: nothing counts as stored before its lock was seen in force."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from agent.config.options import choice, flag, integer, read_options, secret, text
from agent.errors import StoreError
from agent.model import Clock, Held, Receipt
from agent.turns import Gate
from agent.uploader.base import (
    DOUBT,
    SAFE,
    Errand,
    Trait,
    key_of,
    lost,
    may_not_read,
    misconfigured,
    not_ours,
    own_key,
    present,
)
from agent.uploader.network import Network, NetworkOptions, http_url
from agent.uploader.s3.answers import LockMode, Retention, Version
from agent.uploader.s3.bucket import Bucket, lock_headers
from agent.uploader.s3.client import Client, Place, RefusedError
from agent.uploader.s3.survey import Survey
from agent.uploader.s3.upload import Upload
from agent.uploader.source import taking

_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]")
_PREFIX: Final = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)*")
_REMEMBER_S: Final = 300.0


class Addressing(StrEnum):
    """Where the name of the bucket goes: into the path, or before the name of the host (most clouds want this)."""

    PATH = "path"
    VIRTUAL = "virtual"


@dataclass(frozen=True, slots=True)
class S3Options(NetworkOptions):
    """Options of an S3 store. `credentials_file` is of the kind that AWS tools share, without rights for others.

    `prefix` ends in a slash or is empty. `lock_days` count from the day the original is stored.
    """

    endpoint: str = text("", 256)
    region: str = text("us-east-1", 64, shortest=1)
    bucket: str = text("", 255)
    prefix: str = text("", 128)
    addressing: Addressing = choice(Addressing.PATH)
    credentials_file: Path | None = secret()
    credentials_profile: str = text("default", 64, shortest=1)
    lock_mode: LockMode = choice(LockMode.COMPLIANCE)
    lock_days: int = integer(180, 1, 36500, "days")
    allow_unlocked: bool = flag(default=False)
    parallel_parts: int = integer(4, 1, 32)


class S3Store:
    """Keeps originals as `<prefix>originals/<first two hex>/<BLAKE3>` in a bucket; options are those of S3Options.

    An object is believed to be there when the bucket lists a version with the size and the ETag that follow from the
    original's bytes, and locked when that version's own retention says so. Only PUT, POST, GET and HEAD are ever sent
    for originals.
    """

    def __init__(self, name: str, options: Mapping[str, object], *, vault_root: Path, clock: Clock = present) -> None:
        del vault_root  # nothing of it is changed: a store beyond the network can't lie inside
        self.name = name
        self._options = known = read_options(S3Options, options, "store.options")
        self.locks = not known.allow_unlocked
        place = _place(known)
        self._network = Network(known)
        assert known.credentials_file is not None
        self._client = Client(self._network, place, known.credentials_file, known.credentials_profile, clock)
        self._bucket = Bucket(self._client)
        self._gate = Gate(known.parallel_parts)
        self._busy: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._can_lock = False
        self._known_until_s = float("-inf")

    async def put(self, held: Held, errand: Errand) -> Receipt:
        """Store one original, or prove that it is there; raises StoreError or EvidenceError."""
        key = self._options.prefix + key_of(held)
        # Two uploads of the same bytes at the same time would make two versions.
        async with self._busy.setdefault(key, asyncio.Lock()):
            wanted = self._wanted() if await self._may_store() else None
            described = {"x-amz-meta-blake3": held.digests.blake3, "x-amz-meta-sha256": held.digests.sha256}
            headers = described | lock_headers(wanted)
            upload = Upload(self._bucket, key, held, errand, self._gate, self._options.parallel_parts, headers)
            found = await upload.run()
            if DOUBT in await errand.recall():
                await self._require_same(found, held)
            until = None if wanted is None else await self._locked(found, wanted)
        now = self._client.now()
        return Receipt(self.name, key, found.size_bytes, held.digests, now, until, found.version, found.etag)

    async def look(self) -> None:
        """Ask whether the bucket is there, takes our credentials and locks; raises StoreError."""
        self._known_until_s = float("-inf")
        await self._may_store()

    async def check(self, receipt: Receipt, *, read: bool) -> bool:
        """Look at the version and its lock again, and read it where we may; whether it was read."""
        stored = self._version(receipt)
        if stored not in await self._bucket.versions(receipt.object, receipt.version):
            raise lost(self.name, receipt.object, "no version with its size and ETag is listed")
        if receipt.locked_until is not None and receipt.locked_until > self._client.now():
            retention = await self._bucket.retention(receipt.object, receipt.version)
            if retention is None or retention.until < receipt.locked_until:
                why = f"its lock until {receipt.locked_until:%Y-%m-%d} is no longer in force"
                raise lost(self.name, receipt.object, why)
        given = await self._bucket.read(stored) if read else None
        if given is not None and given != (receipt.size_bytes, receipt.digests):
            raise lost(self.name, receipt.object, f"{given[0]} bytes were read back, with other fingerprints")
        return given is not None

    async def fetch(self, receipt: Receipt, part: Path) -> None:
        """Read a version back into a new file; raises as `Store.fetch`."""
        stored = self._version(receipt)
        with taking(part, receipt.size_bytes, receipt.digests, partial(lost, self.name, receipt.object)) as copy:
            if await self._bucket.read(stored, copy) is None:
                raise may_not_read(self.name, receipt.object)

    def _version(self, receipt: Receipt) -> Version:
        if receipt.store != self.name or own_key(receipt, self._options.prefix) is None:
            raise not_ours(receipt, self.name)
        return Version(receipt.object, receipt.version, receipt.etag, receipt.size_bytes)

    async def apart(self) -> bool:
        """It is beyond the network."""
        return True

    async def survey(self) -> Sequence[Trait]:
        """What the bucket can do and what our rights are, tried with probes; raises StoreError if it is away."""
        return await Survey(self._bucket, self._options.prefix, self._options.lock_mode).traits()

    async def close(self) -> None:
        """Close the connections."""
        await self._network.close()

    # Locks.

    async def _may_store(self) -> bool:
        """Whether the bucket can lock; raises StoreError if it must and can't. Asked again every few minutes."""
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._known_until_s:
            locks, _, is_versioned = await self._bucket.locking()
            self._can_lock = locks and is_versioned
            self._known_until_s = now_s + _REMEMBER_S
        if not self._can_lock and self.locks:
            self._known_until_s = float("-inf")
            raise self._unlocked(f"The bucket {self._options.bucket} does not lock objects.")
        return self._can_lock

    def _wanted(self) -> Retention:
        """The lock that an original stored now must have: full days, so that it is the same all day long."""
        day = self._client.now().astimezone(UTC) + timedelta(days=self._options.lock_days + 1)
        return Retention(self._options.lock_mode, day.replace(hour=0, minute=0, second=0, microsecond=0))

    async def _locked(self, found: Version, wanted: Retention) -> datetime:
        """Until when a version is locked, as the store tells of this very version; locked now if it wasn't."""
        in_force = await self._bucket.retention(found.key, found.version)
        if in_force is not None and in_force.covers(wanted):
            return in_force.until
        why = ""
        try:
            await self._bucket.lock(found.key, found.version, wanted)
        except RefusedError as error:
            if error.status != 403:
                raise
            why = f" {error.what}"  # governance can't be made compliance, for example
        in_force = await self._bucket.retention(found.key, found.version)
        if in_force is not None and in_force.covers(wanted):
            return in_force.until
        self._known_until_s = float("-inf")
        raise self._unlocked(f"The store took {found.key}, but its lock is {in_force}, not {wanted}.{why}")

    def _unlocked(self, what: str) -> StoreError:
        do = (
            "Use a bucket with versions, Object Lock and no weaker default rule than store.options.lock_mode,"
            " or allow an unlocked store: store.options.allow_unlocked."
        )
        return StoreError(f"{what} It is refused for originals.", safe=SAFE, do=do)

    # Reading back.

    async def _require_same(self, found: Version, held: Held) -> None:
        """Read what the store has, as far as we may: an audit saw other bytes than its ETag says."""
        if await self._bucket.read(found) not in (None, (held.size_bytes, held.digests)):
            what = f"The store gives back other bytes of {found.key}, version {found.version}, than its ETag says."
            do = "Have the store checked, and that version removed there; then let the agent try again."
            raise StoreError(what, safe=SAFE, do=do, retry=False)


def _place(options: S3Options) -> Place:
    """Where the bucket is; raises ConfigError with the first option that makes no sense."""
    url = http_url(options.endpoint)
    if url is None or url.user or url != url.origin():
        raise misconfigured("store.options.endpoint: must be https://host or https://host:port")
    if not _BUCKET.fullmatch(options.bucket):
        raise misconfigured("store.options.bucket: must be the name of a bucket")
    if not _PREFIX.fullmatch(options.prefix):
        must = "must be empty, or names of letters, digits, ., - and _, each with a slash behind it"
        raise misconfigured(f"store.options.prefix: {must}")
    if options.credentials_file is None:
        raise misconfigured("store.options.credentials_file: is needed")
    return Place(str(url.origin()), options.region, options.bucket, options.addressing is Addressing.VIRTUAL)
