"""Parts for tests of the S3 store: a bucket of the real Ceph, stores that write to it, and a look behind it."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from agent.model import Held, Receipt
from agent.uploader.s3 import S3Store

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph, Identity, Version

MIB = 1024 * 1024
_NUMBERS = itertools.count(1)


def write_keys(path: Path, identity: Identity, secret: str = "") -> Path:
    """A credentials file of the kind that AWS tools share."""
    keys = f"aws_access_key_id = {identity.access_key}\naws_secret_access_key = {secret or identity.secret_key}\n"
    path.touch(0o600)
    path.write_text(f"[default]\n{keys}")
    return path


@dataclass
class Bucket:
    """A new bucket of a Ceph; `keys` is the file that the store reads its credentials from."""

    ceph: Ceph
    folder: Path
    lock: bool = True
    policy: bool = True
    name: str = field(default_factory=lambda: f"evidence-{next(_NUMBERS)}")

    def __post_init__(self) -> None:
        self.ceph.make_bucket(self.name, lock=self.lock, policy=self.policy)
        identity = self.ceph.uploader_keys if self.policy else self.ceph.admin_keys
        self.keys = write_keys(self.folder / "keys", identity)

    @asynccontextmanager
    async def store(
        self, endpoint: str = "", *, clock: Callable[[], datetime] = lambda: datetime.now(UTC), **options: object
    ) -> AsyncIterator[S3Store]:
        """A store like the daemon makes it, closed at the end."""
        known = {
            "endpoint": endpoint or self.ceph.endpoint,
            "bucket": self.name,
            "credentials_file": str(self.keys),
            "lock_days": 2,
            "stall_limit_s": 10,
        }
        store = S3Store("centre", known | options, vault_root=self.folder, clock=clock)
        try:
            yield store
        finally:
            await store.close()

    def versions(self) -> list[Version]:
        """All versions of originals."""
        return self.ceph.versions(self.name, "originals/")

    def only(self, original: Held, receipt: Receipt) -> None:
        """Assert that there is exactly one version, with the right bytes, locked as the receipt says."""
        (version,) = self.versions()
        assert version.version_id == receipt.version
        assert version.etag == receipt.etag
        assert version.key == receipt.object == f"originals/{original.digests.blake3[:2]}/{original.digests.blake3}"
        assert self.ceph.read(self.name, version.key, version.version_id) == original.path.read_bytes()
        if receipt.locked_until is not None or self.lock:
            retention = self.ceph.retention(self.name, version.key, version.version_id)
            assert retention is not None
            assert retention.until == receipt.locked_until
