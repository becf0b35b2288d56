"""Finds out what a bucket can do and what our rights are there, by trying it with probes that are no evidence."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from agent.uploader.base import PROBES, Trait, clock_trait, trait
from agent.uploader.network import sliced
from agent.uploader.s3 import answers
from agent.uploader.s3.answers import LockMode, Retention, Version
from agent.uploader.s3.bucket import Bucket, lock_headers
from agent.uploader.s3.client import RefusedError
from agent.uploader.s3.upload import etag_of

_PROBE_BYTES: Final = 8 * 1024 * 1024
_LOCK_FOR: Final = timedelta(minutes=10)
_NEW_BUCKET: Final = "Make a new bucket with Object Lock; it can't be switched on later everywhere."
_NO_LOCK: Final = "Use a store that locks; this one only says so."


class Survey:
    """One survey. Its probes lie beneath `<prefix>probes/`, locked for minutes; the bucket's lifecycle removes them."""

    def __init__(self, bucket: Bucket, prefix: str, mode: LockMode) -> None:
        self._bucket = bucket
        self._client = bucket.client
        self._key = f"{prefix}{PROBES}/{self._client.now():%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        self._mode = mode
        self._traits: list[Trait] = []

    async def traits(self) -> Sequence[Trait]:
        """Everything that was found, up to the first refusal that leaves nothing more to try.

        Raises StoreError if the store can't be reached.
        """
        try:
            wanted = None
            if await self._configuration():
                wanted = Retention(self._mode, (self._client.now() + _LOCK_FOR).replace(microsecond=0))
            probe = await self._write(wanted)
            if probe is not None and wanted is not None:
                await self._lock(probe, wanted)
            await self._parts(wanted)
            if probe is not None:
                await self._rights(probe)
        except (RefusedError, answers.MalformedError) as error:
            self._found("refused", False, error.what, error.do)
        endpoint = self._client.place.endpoint
        self._found("reachable", True, f"{endpoint} answers.")
        safe = endpoint.startswith("https:")
        what = "The connection is encrypted, and the store's certificate trusted." if safe else "Anybody may listen."
        self._found("tls", safe, what, "Use an endpoint that begins with https://.")
        return [*self._traits, clock_trait(self._client.last_offset.total_seconds())]

    def _found(self, name: str, good: bool | None, what: str, do: str = "") -> None:
        self._traits.append(trait(name, good, what, do))

    async def _configuration(self) -> bool:
        """Bucket, versions, locks: what the store says of itself; whether it says that it locks."""
        locked, rule, versioned = await self._bucket.locking()
        self._found("bucket", True, f"The bucket {self._client.place.bucket} is there, and takes our credentials.")
        self._found("versions", versioned, f"Versions are {'kept' if versioned else 'not kept'}.", _NEW_BUCKET)
        what = "The bucket says that it locks objects." if locked else "The bucket does not lock objects."
        self._found("lock", locked, what, _NEW_BUCKET)
        what = f"By itself the bucket locks objects for: {rule or 'no time'}."
        self._found("default lock", bool(rule) or None, what, "A default rule also locks what a crash leaves.")
        return locked and versioned

    async def _write(self, wanted: Retention | None) -> Version | None:
        """Write a probe as an original is written, and say how fast that was and whether it can be proven."""
        key, content = f"{self._key}/whole", secrets.token_bytes(_PROBE_BYTES)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        await self._bucket.put_object(key, sliced(content), len(content), md5, lock_headers(wanted))
        speed = len(content) / max(loop.time() - began_s, 1e-3) / 1e6
        self._found("write", True, f"A probe of {len(content) >> 20} MiB was written at {speed:.1f} MB/s: {key}.")
        versions = await self._bucket.versions(key)
        found = next((one for one in versions if (one.size_bytes, one.etag) == (len(content), md5)), None)
        what = f"The store {'lists' if found else 'does not list'} it with its size and the MD5 of its bytes as ETag."
        self._found("proof", found is not None, what, "Switch off SSE-KMS and SSE-C, or use another store.")
        return found

    async def _lock(self, probe: Version, wanted: Retention) -> None:
        in_force = await self._bucket.retention(probe.key, probe.version)
        good = in_force is not None and in_force.covers(wanted)
        self._found("lock in force", good, f"The probe is locked: {in_force or 'not at all'}.", _NO_LOCK)
        removed = await self._bucket.remove_probe(probe.key, probe.version)
        what = f"The locked probe {'could' if removed else 'could not'} be removed by us."
        self._found("lock holds", not removed, what, _NO_LOCK)

    async def _parts(self, wanted: Retention | None) -> None:
        """Write a probe in parts, and see whether its lock was forgotten."""
        key, content = f"{self._key}/parts", secrets.token_bytes(1024)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        upload_id = await self._bucket.create_upload(key, lock_headers(wanted))
        await self._bucket.put_part(key, upload_id, 1, sliced(content), len(content), md5)
        listed = bool(await self._bucket.parts(key, upload_id))
        await self._bucket.complete(key, upload_id, [md5], {})
        versions = await self._bucket.versions(key)
        good = listed and bool(versions) and versions[0].etag == etag_of([md5], in_one=False)
        what = f"Uploads in parts {'work' if good else 'can not be resumed, or not be proven by their ETag'}."
        self._found("parts", good, what, "Allow s3:ListMultipartUploadParts, or use another store.")
        if versions and wanted is not None:
            in_force = await self._bucket.retention(key, versions[0].version)
            kept = in_force is not None and in_force.covers(wanted)
            what = "at once" if kept else "not at once: the agent locks it afterwards"
            self._found("lock of parts", kept or None, f"What comes in parts is locked {what}.")

    async def _rights(self, probe: Version) -> None:
        """Least privilege: who may only write can't do harm."""
        reads = await self._bucket.read(probe) is not None
        what = f"We may {'' if reads else 'not '}read what is stored."
        self._found("may read", None, what, "An uploader need not read; then audits only compare what is listed.")
        removes = await self._bucket.remove_probe(probe.key)
        what = f"We may {'' if removes else 'not '}remove objects."
        self._found("may remove", not removes, what, "Take s3:DeleteObject from the uploader: it only needs to write.")
