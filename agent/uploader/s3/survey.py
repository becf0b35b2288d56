"""Finds out what a bucket can do and what our rights are there, by trying it with probes that are no evidence."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from agent.errors import StoreError
from agent.uploader.base import Trait
from agent.uploader.layout import PROBES
from agent.uploader.s3 import answers
from agent.uploader.s3.answers import LockMode, Retention, Version
from agent.uploader.s3.bucket import Bucket, lock_headers
from agent.uploader.s3.client import RefusedError

_PROBE_BYTES: Final = 8 * 1024 * 1024
_SLICE_BYTES: Final = 256 * 1024
_LOCK_FOR: Final = timedelta(minutes=10)
_CLOCK_LIMIT_S: Final = 60.0
_RIGHTS: Final = "Take {action} from the uploader in the policy of the bucket: it only needs to write."


class Survey:
    """One survey. Its probes lie beneath `<prefix>probes/`, locked for minutes; the bucket's lifecycle removes them."""

    def __init__(self, bucket: Bucket, prefix: str, mode: LockMode) -> None:
        self._bucket = bucket
        self._client = bucket.client
        self._key = f"{prefix}{PROBES}/{self._client.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._mode = mode
        self._traits: list[Trait] = []

    async def traits(self) -> Sequence[Trait]:
        """Everything that was found; raises StoreError if the bucket can't be asked or written to at all."""
        can_lock = await self._configuration()
        self._connection()
        probe, wanted = await self._write(can_lock)
        if wanted is not None:
            await self._lock(probe, wanted)
        await self._parts(wanted)
        await self._rights(probe)
        return self._traits

    def _found(self, name: str, good: bool | None, what: str, do: str = "") -> None:
        self._traits.append(Trait(name, good, what, "" if good else do))

    def _connection(self) -> None:
        place = self._client.place
        safe = place.endpoint.startswith("https:")
        self._found("reachable", True, f"{place.endpoint} answers, and takes our credentials.")
        what = "The connection is encrypted, and the store's certificate trusted." if safe else "Anybody may listen."
        self._found("tls", safe, what, "Use an endpoint that begins with https://.")
        ahead_s = self._client.last_offset.total_seconds()
        good = abs(ahead_s) < _CLOCK_LIMIT_S
        what = f"The store's clock is {ahead_s:+.0f} s ahead of ours."
        self._found("clock", good, what, "Set the clocks; beyond 15 minutes requests need two attempts.")

    async def _configuration(self) -> bool:
        """Bucket, versions, locks: what the store says of itself."""
        mend = "Make a new bucket with Object Lock; it can't be switched on later everywhere."
        rule, versioned, locked = "", False, False
        try:
            configuration = await self._bucket.lock_configuration()
            locked, rule = answers.locks(configuration), answers.default_rule(configuration)
            versioned = await self._bucket.is_versioned()
        except RefusedError as error:
            if error.code == "NoSuchBucket" or error.status == 403:
                raise
        except answers.MalformedError:
            pass
        self._found("bucket", True, f"The bucket {self._client.place.bucket} is there.")
        self._found("versions", versioned, f"Versions are {'kept' if versioned else 'not kept'}.", mend)
        self._found("lock", locked, f"The bucket {'says that it locks' if locked else 'does not lock'} objects.", mend)
        what = (
            f"Default rule of the bucket: {rule}."
            if rule
            else "The bucket has no default rule; each object is locked by itself."
        )
        self._found("default lock", True if rule else None, what, "A default rule also locks what a crash leaves.")
        return locked and versioned

    async def _write(self, can_lock: bool) -> tuple[Version, Retention | None]:
        """Write a probe as an original is written, and say how fast that was."""
        wanted = Retention(self._mode, (self._client.now() + _LOCK_FOR).replace(microsecond=0)) if can_lock else None
        content = secrets.token_bytes(_PROBE_BYTES)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        key = f"{self._key}/whole"
        await self._bucket.put_object(key, partial(_sliced, content), len(content), md5, lock_headers(wanted))
        took_s = max(loop.time() - began_s, 1e-3)
        speed = f"{len(content) / took_s / 1e6:.1f} MB/s"
        self._found("write", True, f"A probe of {len(content) >> 20} MiB was written at {speed}: {key}.")
        return await self._version(key, len(content), md5), wanted

    async def _version(self, key: str, size_bytes: int, etag: str) -> Version:
        for version in await self._bucket.versions(key):
            if (version.size_bytes, version.etag) == (size_bytes, etag):
                self._found("proof", True, "The store lists it with its size and the digest of its bytes.")
                return version
        what = "The store does not list the probe with the MD5 of its bytes as ETag, so nothing can be proven there."
        raise StoreError(what, do="Switch off encryption with keys of your own (SSE-KMS, SSE-C), or use another store.")

    async def _lock(self, probe: Version, wanted: Retention) -> None:
        in_force = await self._bucket.retention(probe.key, probe.version)
        good = in_force is not None and in_force.covers(wanted)
        mend = "Use a store that locks; this one only says so."
        what = "The lock of the probe is in force." if good else "The probe was to be locked, and is not."
        self._found("lock in force", good, what, mend)
        if await self._bucket.remove_probe(probe.key, probe.version):
            self._found("lock holds", False, "The locked probe could be removed: the store does not lock.", mend)
        else:
            self._found("lock holds", True, "The locked probe could not be removed.")

    async def _parts(self, wanted: Retention | None) -> None:
        """Write a probe in parts, and see whether its lock was forgotten."""
        key, content = f"{self._key}/parts", secrets.token_bytes(1024)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        upload_id = await self._bucket.create_upload(key, lock_headers(wanted))
        await self._bucket.put_part(key, upload_id, 1, partial(_sliced, content), len(content), md5)
        await self._bucket.complete(key, upload_id, [md5], {})
        versions = await self._bucket.versions(key)
        self._found(
            "parts", bool(versions), f"Uploads in parts {'work' if versions else 'leave nothing'}.", "Check the store."
        )
        if versions and wanted is not None:
            in_force = await self._bucket.retention(key, versions[0].version)
            kept = in_force is not None and in_force.covers(wanted)
            what = "with" if kept else "without: the agent locks it afterwards"
            self._found(
                "lock of parts", True if kept else None, f"What was uploaded in parts has its lock at once: {what}."
            )

    async def _rights(self, probe: Version) -> None:
        """Least privilege: who may only write can't do harm."""
        may_read = await self._may_read(probe)
        what = f"We may {'' if may_read else 'not '}read what is stored."
        self._found("may read", None, what, "An uploader need not read; then audits only compare what is listed.")
        may_remove = await self._bucket.remove_probe(probe.key)
        what = f"We may {'' if may_remove else 'not '}remove objects."
        self._found("may remove", not may_remove, what, _RIGHTS.format(action="s3:DeleteObject"))

    async def _may_read(self, probe: Version) -> bool:
        async def ignore(_: bytes) -> None:
            return

        try:
            await self._bucket.read(probe.key, probe.version, ignore)
        except RefusedError as error:
            if error.status == 403:
                return False
            raise
        return True


async def _sliced(content: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(content), _SLICE_BYTES):
        yield content[at : at + _SLICE_BYTES]
