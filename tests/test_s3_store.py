"""The S3 store on a real Ceph: what every store must prove, locks, rights, and audits."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import ConfigError, EvidenceError, StoreError
from agent.uploader.base import Store, Trait
from agent.uploader.s3 import S3Store
from tests.buckets import MIB, Bucket, write_keys
from tests.fakes import FakeErrand
from tests.store_conformance import StoreConformance, held

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph
    from simulator.stores.rclone import RcloneS3


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    folder = tmp_path / "vault"
    folder.mkdir()
    return folder


@pytest.fixture
def bucket(ceph: Ceph, tmp_path: Path) -> Bucket:
    """A bucket that the uploader may only write to and look at."""
    return Bucket(ceph, tmp_path)


@pytest.fixture
async def store(bucket: Bucket) -> AsyncIterator[S3Store]:
    async with bucket.store() as store:
        yield store


def midnight_after(days: int) -> datetime:
    day = datetime.now(UTC) + timedelta(days=days + 1)
    return day.replace(hour=0, minute=0, second=0, microsecond=0)


class TestConformance(StoreConformance):
    """The write-only uploader keeps every promise of a store."""

    reads = False

    @pytest.fixture(autouse=True)
    def _behind(self, bucket: Bucket) -> None:
        self.bucket = bucket

    def objects(self, store: Store) -> dict[str, bytes]:
        ceph, name = self.bucket.ceph, self.bucket.name
        return {
            version.key.rpartition("/")[2]: ceph.read(name, version.key, version.version_id)
            for version in self.bucket.versions()
        }

    def damage(self, store: Store, blake3_hex: str) -> None:
        """As the storage's own administrator, since nobody else can touch a locked version."""
        content = bytearray(self.objects(store)[blake3_hex])
        content[0] ^= 1
        self.lose(store, blake3_hex)
        with self.bucket.ceph.client(self.bucket.ceph.admin_keys) as s3:
            s3.put_object(Bucket=self.bucket.name, Key=f"originals/{blake3_hex[:2]}/{blake3_hex}", Body=bytes(content))

    def lose(self, store: Store, blake3_hex: str) -> None:
        for version in self.bucket.versions():
            if version.key.endswith(blake3_hex):
                self.bucket.ceph.remove_version(self.bucket.name, version.key, version.version_id)


async def test_who_may_read_gets_this_very_version_back(ceph: Ceph, tmp_path: Path, vault: Path) -> None:
    bucket, original = Bucket(ceph, tmp_path, policy=False), held(vault, os.urandom(9 * MIB))
    async with bucket.store() as store:
        receipt = await store.put(original, FakeErrand())
        with ceph.client(ceph.admin_keys) as s3:
            s3.put_object(Bucket=bucket.name, Key=receipt.object, Body=b"a newer version")
        await store.fetch(receipt, vault / "back.part")
        assert (vault / "back.part").read_bytes() == original.path.read_bytes()
        with pytest.raises(EvidenceError):
            await store.fetch(replace(receipt, version="none"), vault / "none.part")


@pytest.mark.parametrize("size", [5, 8 * MIB, 8 * MIB + 1, 20 * MIB])
async def test_what_is_stored_is_locked_and_says_what_it_is(
    bucket: Bucket, store: S3Store, vault: Path, size: int
) -> None:
    """In one piece or in parts: one version, locked until the midnight after the configured days, with both digests."""
    original = held(vault, os.urandom(size))
    errand = FakeErrand()
    receipt = await store.put(original, errand)
    bucket.only(original, receipt)
    assert receipt.locked_until == midnight_after(2)
    assert errand.progress[-1] == size
    assert errand.progress == sorted(errand.progress)
    with bucket.ceph.client(bucket.ceph.auditor_keys) as s3:
        described = s3.head_object(Bucket=bucket.name, Key=receipt.object)["Metadata"]
    assert described == {"blake3": original.digests.blake3, "sha256": original.digests.sha256}
    with pytest.raises(Exception, match="AccessDenied"), bucket.ceph.client(bucket.ceph.admin_keys) as s3:
        s3.delete_object(Bucket=bucket.name, Key=receipt.object, VersionId=receipt.version)


async def test_what_was_there_without_a_lock_is_locked_before_it_counts(
    bucket: Bucket, store: S3Store, vault: Path
) -> None:
    """The same bytes, put there by somebody else in the same parts: proven and locked, not sent again."""
    original = held(vault, b"footage")
    key = f"originals/{original.digests.blake3[:2]}/{original.digests.blake3}"
    with bucket.ceph.client(bucket.ceph.admin_keys) as s3:
        s3.put_object(Bucket=bucket.name, Key=key, Body=b"footage")
    receipt = await store.put(original, FakeErrand())
    bucket.only(original, receipt)
    assert receipt.locked_until == midnight_after(2)


async def test_a_stronger_lock_is_left_as_it_is(bucket: Bucket, vault: Path) -> None:
    """A shorter wish never shortens a lock, and governance is content with compliance."""
    original = held(vault, b"footage")
    async with bucket.store(lock_days=9) as first, bucket.store(lock_days=3, lock_mode="governance") as second:
        longer, again = await first.put(original, FakeErrand()), await second.put(original, FakeErrand())
    assert longer.locked_until == again.locked_until == midnight_after(9)
    bucket.only(original, again)


async def test_a_longer_wish_makes_a_lock_longer(bucket: Bucket, vault: Path) -> None:
    original = held(vault, b"footage")
    async with bucket.store(lock_days=2) as first, bucket.store(lock_days=5) as second:
        await first.put(original, FakeErrand())
        receipt = await second.put(original, FakeErrand())
    assert receipt.locked_until == midnight_after(5)
    bucket.only(original, receipt)


async def test_a_bucket_that_does_not_lock_is_refused_for_originals(ceph: Ceph, tmp_path: Path, vault: Path) -> None:
    """Nothing is sent there; only a switch in the configuration allows it, and then the receipt tells of no lock."""
    bucket = Bucket(ceph, tmp_path, lock=False)
    original = held(vault, b"footage")
    async with bucket.store() as store:
        assert store.locks
        for refused in (store.look, lambda: store.put(original, FakeErrand())):
            with pytest.raises(StoreError, match="does not lock") as caught:
                await refused()
            assert caught.value.retry
            assert "safe" in caught.value.safe
            assert "allow_unlocked" in caught.value.do
    assert bucket.versions() == []
    async with bucket.store(allow_unlocked=True) as store:
        assert not store.locks
        await store.look()
        receipt = await store.put(original, FakeErrand())
        assert receipt.locked_until is None
        await store.check(receipt, read=True)
    bucket.only(original, receipt)


async def test_a_weaker_lock_that_nobody_may_make_stronger_does_not_count(bucket: Bucket, vault: Path) -> None:
    """Governance can't be made compliance by who may only write: the object is there, and still not called stored."""
    original = held(vault, b"footage")
    async with bucket.store(lock_mode="governance") as weak, bucket.store() as strong:
        await weak.put(original, FakeErrand())
        with pytest.raises(StoreError, match="governance until") as caught:
            await strong.put(original, FakeErrand())
    assert caught.value.retry
    assert len(bucket.versions()) == 1


async def test_a_prefix_goes_before_every_key(bucket: Bucket, vault: Path) -> None:
    original = held(vault, b"footage")
    async with bucket.store(prefix="station-7/") as store:
        receipt = await store.put(original, FakeErrand())
        assert await store.check(receipt, read=False) is False
    assert receipt.object.startswith("station-7/originals/")
    assert [version.key for version in bucket.ceph.versions(bucket.name)] == [receipt.object]


async def test_the_bucket_may_be_in_the_name_of_the_host(
    bucket: Bucket, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Virtual-host addressing, as most clouds want it."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more))
    endpoint = f"http://localhost:{bucket.ceph.port}"
    original = held(vault, os.urandom(9 * MIB))
    async with bucket.store(endpoint, addressing="virtual") as store:
        receipt = await store.put(original, FakeErrand())
    bucket.only(original, receipt)


# Audits.


async def test_an_audit_reads_back_where_our_rights_allow_it(ceph: Ceph, tmp_path: Path, vault: Path) -> None:
    """The owner of the bucket may read, so it is read; the write-only uploader only looks, and says so."""
    bucket = Bucket(ceph, tmp_path, policy=False)
    original = held(vault, os.urandom(9 * MIB))
    async with bucket.store() as store:
        receipt = await store.put(original, FakeErrand())
        assert await store.check(receipt, read=True) is True
        assert await store.check(receipt, read=False) is False


async def test_an_audit_notices_a_lock_that_was_lifted(ceph: Ceph, tmp_path: Path, vault: Path) -> None:
    """A governance lock, lifted by somebody with that right, is no longer what the receipt says."""
    bucket = Bucket(ceph, tmp_path, policy=False)
    original = held(vault, b"footage")
    async with bucket.store(lock_mode="governance") as store:
        receipt = await store.put(original, FakeErrand())
        await store.check(receipt, read=False)
        with ceph.client(ceph.admin_keys) as s3:
            s3.put_object_retention(
                Bucket=bucket.name,
                Key=receipt.object,
                VersionId=receipt.version,
                Retention={"Mode": "GOVERNANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(minutes=5)},
                BypassGovernanceRetention=True,
            )
        with pytest.raises(EvidenceError, match="lock"):
            await store.check(receipt, read=False)


async def test_an_audit_is_not_fooled_by_a_mark_of_deletion_or_a_newer_version(
    bucket: Bucket, store: S3Store, vault: Path
) -> None:
    """The version that the receipt names is still there, whatever was put over it."""
    original = held(vault, b"footage")
    receipt = await store.put(original, FakeErrand())
    with bucket.ceph.client(bucket.ceph.admin_keys) as s3:
        s3.delete_object(Bucket=bucket.name, Key=receipt.object)
        s3.put_object(Bucket=bucket.name, Key=receipt.object, Body=b"other")
    await store.check(receipt, read=False)
    assert (await store.put(original, FakeErrand())).version == receipt.version


async def test_a_receipt_of_another_store_is_not_checked_here(bucket: Bucket, store: S3Store, vault: Path) -> None:
    receipt = await store.put(held(vault, b"footage"), FakeErrand())
    async with bucket.store(prefix="elsewhere/") as other:
        with pytest.raises(StoreError, match="receipt"):
            await other.check(receipt, read=False)


# What `store check` tells.


def trait(traits: object, name: str) -> Trait:
    assert isinstance(traits, list)
    (found,) = [one for one in traits if one.name == name]
    assert isinstance(found, Trait)
    return found


async def test_a_survey_of_a_good_bucket_finds_nothing_to_mend(bucket: Bucket) -> None:
    endpoint = bucket.ceph.tls_endpoint
    async with bucket.store(endpoint, ca_file=str(bucket.ceph.certificates.ca_file)) as store:
        traits = await store.survey()
    assert [one for one in traits if one.good is False] == []
    assert {"reachable", "tls", "clock", "bucket", "versions", "lock", "write", "proof", "lock in force"} <= {
        one.name for one in traits
    }
    assert "MB/s" in trait(traits, "write").what
    assert "afterwards" in trait(traits, "lock of parts").what, "this Ceph forgets the lock of what comes in parts"
    assert bucket.versions() == [], "probes are not among the originals"


async def test_a_survey_tells_of_missing_locks_of_too_many_rights_and_of_an_open_line(
    ceph: Ceph, tmp_path: Path
) -> None:
    bucket = Bucket(ceph, tmp_path, lock=False, policy=False)
    async with bucket.store() as store:
        traits = await store.survey()
    bad = {one.name for one in traits if one.good is False}
    assert bad == {"tls", "versions", "lock", "may remove"}
    assert all(one.do for one in traits if one.good is False)


async def test_a_survey_tells_how_far_the_clocks_are_apart(bucket: Bucket) -> None:
    async with bucket.store(clock=lambda: datetime.now(UTC) - timedelta(hours=1)) as store:
        clock = trait(await store.survey(), "clock")
    assert clock.good is False
    assert "+36" in clock.what or "+359" in clock.what


# Options.


async def test_a_survey_tells_what_was_refused(bucket: Bucket) -> None:
    """Wrong keys, no such bucket: also that is found out about a store."""
    async with bucket.store(bucket="nowhere") as store:
        refused = trait(await store.survey(), "refused")
    assert refused.good is False
    assert refused.do
    write_keys(bucket.keys, bucket.ceph.uploader_keys, secret="wrong")
    async with bucket.store() as store:
        assert "signature" in trait(await store.survey(), "refused").what


async def test_a_store_that_only_pretends_to_lock_is_refused(
    fake_lock_s3: RcloneS3, tmp_path: Path, vault: Path
) -> None:
    """It says 200 to everything about locks, and would remove what it locked; nothing is sent there."""
    with fake_lock_s3.client() as s3:
        s3.create_bucket(Bucket="pretends")
    keys = write_keys(tmp_path / "pretender", fake_lock_s3.admin_keys)
    options = {"endpoint": fake_lock_s3.endpoint, "bucket": "pretends", "credentials_file": str(keys)}
    store = S3Store("centre", options, vault_root=vault)
    try:
        with pytest.raises(StoreError, match="does not lock"):
            await store.put(held(vault, b"footage"), FakeErrand())
        assert trait(await store.survey(), "lock").good is False
    finally:
        await store.close()
    with fake_lock_s3.client() as s3:
        stored = [one["Key"] for one in s3.list_objects_v2(Bucket="pretends").get("Contents", [])]
    assert not [key for key in stored if "originals" in key]


async def test_a_store_without_versions_can_be_allowed(fake_lock_s3: RcloneS3, tmp_path: Path, vault: Path) -> None:
    """It can't list versions: the object itself is looked at. The receipt tells of no lock.

    The ETag it gives to what came in parts proves nothing, so that is not believed.
    """
    with fake_lock_s3.client() as s3:
        s3.create_bucket(Bucket="plain")
    keys = write_keys(tmp_path / "keys", fake_lock_s3.admin_keys)
    options = {"endpoint": fake_lock_s3.endpoint, "bucket": "plain", "credentials_file": str(keys)}
    store = S3Store("centre", options | {"allow_unlocked": True}, vault_root=vault)
    original = held(vault, b"footage")
    try:
        receipt = await store.put(original, FakeErrand())
        assert (receipt.locked_until, receipt.version) == (None, "")
        assert await store.check(receipt, read=True) is True
        with pytest.raises(StoreError, match="no ETag that proves"):
            await store.put(held(vault, os.urandom(9 * MIB)), FakeErrand())
        assert trait(await store.survey(), "parts").good is False
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"endpoint": "ftp://host"}, "endpoint"),
        ({"endpoint": "https://user:secret@host"}, "endpoint"),
        ({"endpoint": "https://host/path"}, "endpoint"),
        ({"endpoint": "https://host:99999"}, "endpoint"),
        ({"bucket": ""}, "bucket"),
        ({"bucket": "a/../b"}, "bucket"),
        ({"prefix": "no-slash"}, "prefix"),
        ({"prefix": "../"}, "prefix"),
        ({"credentials_file": ""}, "credentials_file"),
        ({"lock_mode": "weak"}, "lock_mode"),
        ({"lock_days": 0}, "lock_days"),
        ({"parallel_parts": 0}, "parallel_parts"),
        ({"adressing": "path"}, "addressing"),
        ({"ca_file": "/nonexistent"}, "ca_file"),
        ({"client_certificate": "/nonexistent"}, "client_certificate"),
        ({"client_key": "/nonexistent"}, "client_key"),
        ({"proxy": "socks5://secret@host"}, "proxy"),
        ({"proxy": "http://host[]@"}, "proxy"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_their_name(options: dict[str, object], named: str) -> None:
    good = {"endpoint": "https://s3.example.org", "bucket": "evidence", "credentials_file": "/etc/keys"}
    S3Store("centre", good, vault_root=Path("/v"))
    with pytest.raises(ConfigError, match=named) as caught:
        S3Store("centre", good | options, vault_root=Path("/v"))
    assert "secret" not in str(caught.value)


async def test_two_stations_with_the_same_footage_leave_the_right_bytes_only(bucket: Bucket, vault: Path) -> None:
    """They don't know of each other; each gets a receipt for a version with its bytes and a lock in force."""
    original = held(vault, os.urandom(17 * MIB))
    async with bucket.store() as one, bucket.store() as two:
        receipts = await asyncio.gather(one.put(original, FakeErrand()), two.put(original, FakeErrand()))
        for receipt in receipts:
            await one.check(receipt, read=True)
    versions = {version.version_id: version for version in bucket.versions()}
    assert {receipt.version for receipt in receipts} <= set(versions)
    for version in versions.values():
        assert bucket.ceph.read(bucket.name, version.key, version.version_id) == original.path.read_bytes()


async def test_keys_may_change_while_the_agent_runs(bucket: Bucket, store: S3Store, vault: Path) -> None:
    """Keys that are no longer taken are read again from their file; nobody restarts anything."""
    await store.look()
    ceph = bucket.ceph
    fresh = ceph.uploader_keys._replace(access_key="FRESHKEY", secret_key="freshsecret")
    ceph.admin(
        "key", "create", f"--uid={fresh.name}", "--key-type=s3", f"--access-key={fresh.access_key}",
        f"--secret={fresh.secret_key}",
    )  # fmt: skip
    ceph.admin("key", "rm", f"--uid={fresh.name}", "--key-type=s3", f"--access-key={ceph.uploader_keys.access_key}")
    try:
        write_keys(bucket.keys, fresh)
        original = held(vault, b"footage")
        bucket.only(original, await store.put(original, FakeErrand()))
    finally:
        ceph.admin(
            "key", "create", f"--uid={fresh.name}", "--key-type=s3",
            f"--access-key={ceph.uploader_keys.access_key}", f"--secret={ceph.uploader_keys.secret_key}",
        )  # fmt: skip
        ceph.admin("key", "rm", f"--uid={fresh.name}", "--key-type=s3", f"--access-key={fresh.access_key}")
