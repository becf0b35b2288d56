"""Everything that may go wrong between the station and the bucket: one right version comes of it, or a true refusal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.errors import EvidenceError, StoreError
from agent.model import Held, Receipt
from agent.uploader.base import DOUBT
from agent.uploader.s3 import S3Store
from simulator.stores.faults import Alter, Call, Cut, Fault, Replace, Side, Stall, Swallow, s3_error, slow_down
from simulator.stores.http_stream import Answer
from tests.buckets import MIB, Bucket, write_keys
from tests.fakes import FakeErrand
from tests.store_conformance import held

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph
    from simulator.stores.proxy import FaultProxy

PART = 8 * MIB
SENDERS = 2
COMPLETE = ("POST", "?uploadId=")
SEND_PART = ("PUT", "partNumber=")
LIST_PARTS = ("GET", "uploadId=")
VERSIONS = ("GET", "versions=")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between attempts are tested elsewhere; here they only take time."""
    for module in ("client", "upload"):
        monkeypatch.setattr(f"agent.uploader.s3.{module}.pause_s", lambda attempt: 0.02 * attempt)


@pytest.fixture
def bucket(ceph: Ceph, tmp_path: Path) -> Bucket:
    return Bucket(ceph, tmp_path)


@pytest.fixture
def proxy(ceph: Ceph, fault_proxy: Callable[..., FaultProxy]) -> Iterator[FaultProxy]:
    """Between store and Ceph; whatever happens, nothing that removes may pass."""
    proxy: FaultProxy = fault_proxy(ceph.port)
    yield proxy
    assert proxy.requests("DELETE") == []
    assert proxy.requests("POST", "delete=") == []


@pytest.fixture
async def store(bucket: Bucket, proxy: FaultProxy) -> AsyncIterator[S3Store]:
    async with bucket.store(proxy.endpoint, parallel_parts=SENDERS, stall_limit_s=1) as store:
        yield store


@pytest.fixture
def original(tmp_path: Path) -> Held:
    """In two parts, the last of three bytes."""
    return held(tmp_path, os.urandom(PART + 3))


@pytest.fixture
def small(tmp_path: Path) -> Held:
    """In one piece."""
    return held(tmp_path, os.urandom(3 * MIB))


async def refused(store: S3Store, original: Held, errand: FakeErrand, words: str, *, retry: bool = True) -> None:
    """Storing fails in these words, which also say that the evidence is safe and what to do."""
    with pytest.raises(StoreError, match=words) as caught:
        await store.put(original, errand)
    assert caught.value.retry is retry
    assert "safe" in caught.value.safe
    assert caught.value.do


# The network.


@pytest.mark.parametrize("seed", range(3))
async def test_connections_cut_at_random_bytes(
    ceph: Ceph, bucket: Bucket, original: Held, fault_proxy: Callable[..., FaultProxy], seed: int
) -> None:
    proxy = fault_proxy(ceph.port, seed=seed)
    proxy.on(Cut(), "PUT", "partNumber=", times=4)
    proxy.on(Cut(side=Side.DOWN), "", "", nth=9, times=1)
    async with bucket.store(proxy.endpoint) as store:
        bucket.only(original, await store.put(original, FakeErrand()))


@pytest.mark.parametrize("fault", [Cut(0), Cut(0, Side.DOWN), Stall(0), Stall(0, Side.DOWN), Swallow()], ids=str)
async def test_each_request_may_be_cut_or_stall_or_lose_its_reply(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, fault: Fault
) -> None:
    """Nobody closes a connection that stalls, neither while it takes our bytes nor while it owes a reply."""
    kinds = [("GET", "object-lock="), VERSIONS, ("POST", "uploads="), SEND_PART, COMPLETE, ("GET", "retention=")]
    rules = [proxy.on(fault, *kind) for kind in kinds]
    bucket.only(original, await store.put(original, FakeErrand()))
    assert [rule.happened for rule in rules] == [1] * len(kinds)


@pytest.mark.parametrize("after", [1, None])
async def test_a_peer_that_stops_reading_is_not_waited_for(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, after: int | None
) -> None:
    proxy.on(Stall(after), *SEND_PART, nth=2)
    bucket.only(original, await store.put(original, FakeErrand()))


@pytest.mark.parametrize("fault", [Swallow(), Cut(None), Stall(MIB), Cut(0, Side.DOWN)], ids=str)
async def test_a_lost_reply_to_a_single_put_leaves_one_version(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, small: Held, fault: Fault
) -> None:
    """Before it is sent again somebody looks whether it arrived."""
    proxy.on(fault, "PUT", "/originals/")
    bucket.only(small, await store.put(small, FakeErrand()))
    arrived = fault in (Swallow(), Cut(0, Side.DOWN))
    assert len(proxy.requests("PUT", "/originals/")) == (1 if arrived else 2)


async def test_a_store_that_is_away_is_told_in_words_and_may_come_back(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    proxy.refusing = True
    errand = FakeErrand()
    await refused(store, original, errand, "connection to 127.0.0.1 failed")
    with pytest.raises(StoreError):
        await store.look()
    proxy.refusing = False
    await store.look()
    bucket.only(original, await store.put(original, errand))


# The server dies.


@pytest.mark.parametrize("request_", [SEND_PART, COMPLETE, ("PUT", "retention=")], ids=str)
async def test_the_gateway_is_killed_and_started_again_in_the_middle(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, request_: tuple[str, str]
) -> None:
    def restart() -> None:
        bucket.ceph.kill_gateway()
        bucket.ceph.start_gateway()

    proxy.on(Call(restart), *request_)
    errand = FakeErrand()
    receipt = await until_stored(store, original, errand)
    bucket.only(original, receipt)


async def until_stored(store: S3Store, original: Held, errand: FakeErrand) -> Receipt:
    """As the store lane does it: again and again, with the same notes."""
    for _ in range(20):
        try:
            return await store.put(original, errand)
        except StoreError as error:
            if not error.retry:
                raise
            await asyncio.sleep(0.1)
    raise AssertionError("never stored")


# Resuming.


@pytest.mark.parametrize("kept", [True, False])
async def test_an_upload_goes_on_after_the_agent_died(
    bucket: Bucket, proxy: FaultProxy, tmp_path: Path, kept: bool
) -> None:
    """With its notes another process sends at most one part for each sender again; without them all."""
    original = held(tmp_path, os.urandom(5 * PART))
    errand = FakeErrand()
    died = asyncio.Event()
    loop = asyncio.get_running_loop()
    proxy.on(Call(lambda: loop.call_soon_threadsafe(died.set), after_bytes=MIB), *SEND_PART, nth=4)
    async with bucket.store(proxy.endpoint, parallel_parts=SENDERS) as store:
        putting = asyncio.create_task(store.put(original, errand))
        await died.wait()
        putting.cancel()
        await asyncio.wait([putting])
    assert bucket.versions() == []
    before = proxy.sent_bytes(*SEND_PART)
    if not kept:
        errand.notes.clear()
    async with bucket.store(proxy.endpoint, parallel_parts=SENDERS) as store:
        bucket.only(original, await store.put(original, errand))
    sent = proxy.sent_bytes(*SEND_PART)
    assert sent - original.size_bytes <= SENDERS * PART if kept else sent - before >= original.size_bytes
    assert len(proxy.requests("POST", "uploads=")) == (1 if kept else 2)


async def test_parts_may_be_many_pages(store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held) -> None:
    """ListParts answers in pages; here of one part each."""
    errand = await died_before_complete(store, proxy, original)

    def one_at_a_time(answer: Answer) -> Answer:
        before, first, *others = re.split(rb"(?=<Part>)|</ListPartsResult>", answer.body.rstrip())
        pages.append(first)
        if others[0]:
            number = re.search(rb"<PartNumber>.*?</PartNumber>", first)
            assert number is not None
            marker = number[0].replace(b"PartNumber", b"NextPartNumberMarker")
            before = re.sub(
                rb"<NextPartNumberMarker>.*</IsTruncated>", marker + b"<IsTruncated>true</IsTruncated>", before
            )
        return Answer(200, answer.headers, before + first + b"</ListPartsResult>")

    pages: list[bytes] = []
    proxy.on(Alter(one_at_a_time), *LIST_PARTS, times=None)
    before = proxy.sent_bytes(*SEND_PART)
    bucket.only(original, await store.put(original, errand))
    assert len(pages) == 2
    assert proxy.sent_bytes(*SEND_PART) == before


async def died_before_complete(store: S3Store, proxy: FaultProxy, original: Held) -> FakeErrand:
    """Notes of an attempt that had sent all parts, and nothing more."""
    errand = FakeErrand()
    proxy.on(Replace(s3_error(403, "AccessDenied")), *COMPLETE)
    await refused(store, original, errand, "does not allow")
    return errand


async def test_a_part_that_the_store_has_wrong_is_sent_again(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    """The list of the store counts more than our notes, and our bytes more than both."""
    errand = await died_before_complete(store, proxy, original)
    with bucket.ceph.client(bucket.ceph.admin_keys) as s3:
        s3.upload_part(
            Bucket=bucket.name,
            Key=f"originals/{original.digests.blake3[:2]}/{original.digests.blake3}",
            UploadId=errand.notes["upload"],
            PartNumber=1,
            Body=bytes(PART),
        )
    before = proxy.sent_bytes(*SEND_PART)
    bucket.only(original, await store.put(original, errand))
    assert proxy.sent_bytes(*SEND_PART) - before == PART


async def test_where_parts_may_not_be_listed_our_notes_count(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    errand = await died_before_complete(store, proxy, original)
    proxy.on(Replace(s3_error(403, "AccessDenied")), *LIST_PARTS, times=None)
    before = proxy.sent_bytes(*SEND_PART)
    bucket.only(original, await store.put(original, errand))
    assert proxy.sent_bytes(*SEND_PART) == before


@pytest.mark.parametrize("hidden", [False, True])
async def test_an_upload_that_the_store_removed_begins_anew(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, hidden: bool
) -> None:
    """As the bucket's lifecycle does with what lies too long; also where the store doesn't tell."""
    errand = await died_before_complete(store, proxy, original)
    with bucket.ceph.client(bucket.ceph.admin_keys) as s3:
        s3.abort_multipart_upload(
            Bucket=bucket.name,
            Key=f"originals/{original.digests.blake3[:2]}/{original.digests.blake3}",
            UploadId=errand.notes["upload"],
        )
    if hidden:
        proxy.on(Replace(s3_error(403, "AccessDenied")), *LIST_PARTS, times=None)
    bucket.only(original, await store.put(original, errand))
    assert bucket.ceph.uploads(bucket.name) == []


async def test_notes_of_another_upload_are_never_used(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, tmp_path: Path
) -> None:
    """An upload id belongs to one file, one place and one size of parts."""
    errand = await died_before_complete(store, proxy, original)
    other = held(tmp_path, os.urandom(original.size_bytes))
    bucket.only(other, await store.put(other, errand))
    assert len(proxy.requests("POST", "uploads=")) == 2


# Answers that can't be believed.


@pytest.mark.parametrize("done", [True, False])
async def test_complete_answers_200_with_an_error(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, done: bool
) -> None:
    proxy.on(Replace(s3_error(200, "InternalError"), forward=done), *COMPLETE)
    bucket.only(original, await store.put(original, FakeErrand()))
    assert len(proxy.requests(*COMPLETE)) == (1 if done else 2)


async def test_replies_without_etags(store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held) -> None:
    """Ceph leaves the ETag of the first Complete empty; here it is missing in all replies to parts too."""

    def without(answer: Answer) -> Answer:
        return Answer(answer.status, {name: value for name, value in answer.headers.items() if name != "etag"}, b"")

    proxy.on(Alter(without), "PUT", times=None)
    bucket.only(original, await store.put(original, FakeErrand()))


async def test_a_wrong_etag_of_a_part_is_noticed(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    def wrong(answer: Answer) -> Answer:
        answer.headers["etag"] = f'"{"0" * 32}"'
        return answer

    proxy.on(Alter(wrong), *SEND_PART)
    await refused(store, original, FakeErrand(), "digest")
    assert bucket.versions() == []


@pytest.mark.parametrize("etag", ["", "&quot;0123456789abcdef0123456789abcdef-3&quot;"])
async def test_complete_answers_200_and_did_nothing(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, etag: str
) -> None:
    """A 200 proves nothing, whatever it says; only the list of versions does."""
    body = f"<CompleteMultipartUploadResult><ETag>{etag}</ETag></CompleteMultipartUploadResult>".encode()
    proxy.on(Replace(Answer(200, {"x-amz-version-id": "made-up"}, body)), *COMPLETE, times=None)
    errand = FakeErrand()
    await refused(store, original, errand, "doesn't list it")
    assert bucket.versions() == []
    proxy.clear()
    bucket.only(original, await store.put(original, errand))


async def test_an_unknown_upload_is_completed_with_200_where_other_bytes_are(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    """Ceph answers so with the ETag of what is there: other bytes under our key stay what they are, and are told."""
    errand = await died_before_complete(store, proxy, original)
    key = f"originals/{original.digests.blake3[:2]}/{original.digests.blake3}"
    with bucket.ceph.client(bucket.ceph.admin_keys) as s3:
        s3.put_object(Bucket=bucket.name, Key=key, Body=b"other bytes")
        s3.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=errand.notes["upload"])
    hide_versions(proxy, 1)
    await refused(store, original, errand, "other bytes", retry=False)
    assert [version.size_bytes for version in bucket.versions()] == [11]


def hide_versions(proxy: FaultProxy, times: int) -> None:
    empty = b"<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"
    proxy.on(Replace(Answer(200, {}, empty)), *VERSIONS, times=times)


@pytest.mark.parametrize(
    "listed", [None, s3_error(404, "NoSuchKey"), s3_error(404, "NoSuchUpload"), s3_error(403, "AccessDenied")], ids=str
)
async def test_the_agent_died_after_complete_and_before_it_knew(
    bucket: Bucket, proxy: FaultProxy, original: Held, listed: Answer | None
) -> None:
    """ListParts then says 403 or 404, each server in its own way; the version is found, nothing is sent again."""
    errand = FakeErrand()
    proxy.on(Swallow(), *COMPLETE)
    proxy.on(Cut(0), *VERSIONS, nth=3, times=None)
    async with bucket.store(proxy.endpoint) as store:
        with pytest.raises(StoreError):
            await store.put(original, errand)
    proxy.clear()
    assert len(bucket.versions()) == 1
    hide_versions(proxy, 1)  # as if Complete were still at work while the next attempt begins
    if listed is not None:
        proxy.on(Replace(listed), *LIST_PARTS)
    before = proxy.sent_bytes(*SEND_PART)
    async with bucket.store(proxy.endpoint) as store:
        bucket.only(original, await store.put(original, errand))
    assert proxy.sent_bytes(*SEND_PART) == before


BOMB = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><ListVersionsResult>&b;</ListVersionsResult>'
HOSTILE = [
    b"",
    b"<html><body>Welcome</body></html>",
    b"<ListVersionsResult><Version>",
    BOMB,
    b"<ListVersionsResult>" + b" " * (2 * MIB) + b"</ListVersionsResult>",
    b"<a>" * 20_000,
    b"<ListVersionsResult><Version><Key>KEY</Key><Size>-1</Size></Version></ListVersionsResult>",
    bytes(range(256)),
]


async def test_hostile_answers_are_refused(store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held) -> None:
    """Nothing is believed, nothing grows without bound, and the original is stored when the answers make sense."""
    errand = FakeErrand()
    key = f"originals/{original.digests.blake3[:2]}/{original.digests.blake3}"
    for request in (VERSIONS, ("POST", "uploads="), ("GET", "retention=")):
        for body in HOSTILE:
            rule = proxy.on(Replace(Answer(200, {}, body.replace(b"KEY", key.encode()))), *request, times=None)
            with pytest.raises(StoreError) as caught:
                await store.put(original, errand)
            assert caught.value.retry
            assert rule.happened <= 2
            proxy.clear()
    bucket.only(original, await store.put(original, errand))


async def test_a_store_that_forgets_the_lock_is_noticed(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    """Ceph forgets the lock of what comes in parts; here also the wish that follows, which it answers with 200."""
    proxy.on(Replace(Answer(200)), "PUT", "retention=", times=None)
    errand = FakeErrand()
    await refused(store, original, errand, "its lock is None")
    proxy.clear()
    bucket.only(original, await store.put(original, errand))


async def test_versions_that_may_not_be_listed_are_looked_at_one_by_one(
    ceph: Ceph, proxy: FaultProxy, tmp_path: Path, original: Held
) -> None:
    """An identity that may read but not list; who may do neither is told what is missing."""
    bucket = Bucket(ceph, tmp_path, policy=False)
    proxy.on(Replace(s3_error(403, "AccessDenied")), *VERSIONS, times=None)
    async with bucket.store(proxy.endpoint) as store:
        receipt = await store.put(original, FakeErrand())
        bucket.only(original, receipt)
        assert await store.check(receipt, read=True)
        proxy.on(Replace(Answer(403)), "HEAD", times=None)
        with pytest.raises(StoreError, match="s3:ListBucketVersions"):
            await store.put(original, FakeErrand())


# What the administrator of the store did.


async def test_the_store_asks_for_fewer_requests(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    proxy.on(slow_down(), "PUT", nth=1, times=3)
    bucket.only(original, await store.put(original, FakeErrand()))


async def test_a_gateway_that_takes_one_request_at_a_time(bucket: Bucket, tmp_path: Path) -> None:
    """Real SlowDown, with four senders: all wait for their turn."""
    original = held(tmp_path, os.urandom(3 * PART))
    ceph = bucket.ceph
    ceph.kill_gateway()
    ceph.start_gateway(rgw_max_concurrent_requests=1)
    try:
        async with bucket.store(parallel_parts=4) as store:
            receipt = await until_stored(store, original, FakeErrand())
    finally:
        ceph.kill_gateway()
        ceph.start_gateway()
    bucket.only(original, receipt)


async def test_a_quota_is_told_and_the_upload_goes_on_when_it_is_raised(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    bucket.ceph.set_quota(bucket.name, 4 * MIB)
    errand = FakeErrand()
    await refused(store, original, errand, "quota")
    assert bucket.versions() == []
    bucket.ceph.set_quota(bucket.name, -1)
    bucket.only(original, await until_stored(store, original, errand))
    assert len(proxy.requests("POST", "uploads=")) == 1


async def test_a_suspended_user_is_told(store: S3Store, bucket: Bucket, original: Held) -> None:
    ceph = bucket.ceph
    ceph.suspend(ceph.uploader_keys)
    try:
        await refused(store, original, FakeErrand(), "suspended")
    finally:
        ceph.resume(ceph.uploader_keys)
    bucket.only(original, await store.put(original, FakeErrand()))


@pytest.mark.parametrize("wrong", ["secret", "key", "missing", "empty", "open", "partial"])
async def test_wrong_credentials_are_told_and_mended_without_a_restart(
    store: S3Store, bucket: Bucket, original: Held, wrong: str
) -> None:
    words = {"secret": "signature", "key": "access key", "missing": "can't be read", "empty": "has no keys"}
    words |= {"open": "everybody", "partial": "incomplete"}
    match wrong:
        case "secret":
            write_keys(bucket.keys, bucket.ceph.uploader_keys, secret="wrong")
        case "key":
            write_keys(bucket.keys, bucket.ceph.uploader_keys._replace(access_key="NOBODY"))
        case "missing":
            bucket.keys.unlink()
        case "empty":
            bucket.keys.write_text("[other]\n")
        case "open":
            bucket.keys.chmod(0o644)
        case "partial":
            bucket.keys.write_text("[default]\naws_access_key_id = UPKEY\n")
    await refused(store, original, FakeErrand(), words[wrong])
    bucket.keys.unlink(missing_ok=True)
    write_keys(bucket.keys, bucket.ceph.uploader_keys)
    bucket.only(original, await store.put(original, FakeErrand()))


async def test_a_bucket_that_is_not_there_is_told(bucket: Bucket, original: Held) -> None:
    async with bucket.store(bucket="nowhere") as store:
        await refused(store, original, FakeErrand(), "no such bucket|does not allow")


@pytest.mark.parametrize("hours", [1, -24 * 365])
async def test_a_clock_that_is_off_is_corrected_by_the_answers(bucket: Bucket, original: Held, hours: int) -> None:
    """Also the lock is counted by the clock of the store: a station in last year would ask for one that is over."""
    async with bucket.store(clock=lambda: datetime.now(UTC) + timedelta(hours=hours)) as store:
        receipt = await store.put(original, FakeErrand())
        await store.check(receipt, read=False)
    bucket.only(original, receipt)
    assert receipt.locked_until is not None
    assert timedelta(days=2) < receipt.locked_until - datetime.now(UTC) <= timedelta(days=3)


# Our own disk.


@pytest.mark.parametrize("at", [0, PART + 2])
async def test_a_damaged_original_never_becomes_an_object(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, at: int
) -> None:
    """The parts before the damage are on their way already; Complete is never asked for."""
    with original.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(EvidenceError):
        await store.put(original, FakeErrand())
    assert bucket.versions() == []
    assert proxy.requests(*COMPLETE) == []


async def test_an_original_that_changes_while_it_is_sent_is_noticed(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    """Damage between fingerprint and wire: the store refuses the part by its MD5, and no object comes of it."""

    def spoil() -> None:
        with original.path.open("r+b") as file:
            file.seek(PART - 100)
            file.write(b"spoilt")

    proxy.on(Call(spoil, after_bytes=1), *SEND_PART)
    errand = FakeErrand()
    for _ in range(2):
        with pytest.raises((EvidenceError, StoreError)):
            await store.put(original, errand)
    assert bucket.versions() == []


async def test_damage_in_what_was_sent_before_a_kill_is_noticed(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held
) -> None:
    """Resuming reads the original from its first byte, also where nothing needs to be sent."""
    errand = await died_before_complete(store, proxy, original)
    with original.path.open("r+b") as file:
        file.write(b"spoilt")
    with pytest.raises(EvidenceError):
        await store.put(original, errand)
    assert bucket.versions() == []


# What is asserted by looking at the requests.


async def test_every_body_goes_with_its_md5_in_signed_headers(
    store: S3Store, bucket: Bucket, proxy: FaultProxy, original: Held, small: Held
) -> None:
    """Object Lock asks for Content-MD5 on objects and parts; this Ceph would not miss it, others do."""
    await store.put(original, FakeErrand())
    await store.put(small, FakeErrand())
    sent = [one for one in proxy.requests("PUT") if one.sent_bytes]
    assert len(sent) == 4, "two parts, a lock, an object"
    for one in sent:
        assert one.headers["content-md5"]
        assert "content-md5" in one.headers["authorization"]
        assert "transfer-encoding" not in one.headers


async def test_bytes_that_an_audit_found_spoiled_are_not_stored_because_their_etag_is_right(
    ceph: Ceph, tmp_path: Path, fault_proxy: Callable[..., FaultProxy], small: Held
) -> None:
    """The disk of the store rots, and its list still tells the ETag of before; what it gives back decides."""
    bucket, proxy = Bucket(ceph, tmp_path, policy=False), fault_proxy(ceph.port)
    errand = FakeErrand()

    def spoil(answer: Answer) -> Answer:
        body = bytes([answer.body[0] ^ 1]) + answer.body[1:] if len(answer.body) == small.size_bytes else answer.body
        return Answer(answer.status, answer.headers, body)

    async with bucket.store(proxy.endpoint) as store:
        receipt = await store.put(small, errand)
        proxy.on(Alter(spoil), "GET", "versionId=", times=3)  # the lock once, and the bytes twice
        with pytest.raises(EvidenceError, match="fingerprints"):
            await store.check(receipt, read=True)
        await errand.note({DOUBT: "as the audit notes it"})
        await refused(store, small, errand, "other bytes of originals/", retry=False)
        again = await store.put(small, errand)
        assert again.version == receipt.version, "it was not the disk: now the bytes are right"
        bucket.only(small, again)


async def test_who_may_not_read_stores_what_was_in_doubt_as_far_as_it_can_be_proven(
    store: S3Store, bucket: Bucket, small: Held
) -> None:
    bucket.only(small, await store.put(small, FakeErrand(notes={DOUBT: "its lock was gone"})))


@pytest.mark.parametrize(
    "answer",
    [
        s3_error(403, "AccessDenied"),
        s3_error(403, "InvalidAccessKeyId"),
        s3_error(404, "NoSuchBucket"),
        s3_error(503, "SlowDown"),
        Answer(404, {"content-type": "text/html"}, b"<html>no such page</html>"),
        Answer(403),
        Answer(200, {"content-type": "text/html"}, b"<html>please log in</html>"),
    ],
    ids=["rights", "keys", "bucket", "busy", "gateway 404", "gateway 403", "gateway 200"],
)
@pytest.mark.parametrize("asked", ["list", "lock", "bytes"])
async def test_an_audit_calls_nothing_lost_because_of_rights_or_gateways(
    ceph: Ceph, tmp_path: Path, fault_proxy: Callable[..., FaultProxy], small: Held, asked: str, answer: Answer
) -> None:
    """Keys expire, policies change, a proxy asks for a login: that is no word of the store about an object."""
    bucket, proxy = Bucket(ceph, tmp_path, policy=False), fault_proxy(ceph.port)
    async with bucket.store(proxy.endpoint) as store:
        receipt = await store.put(small, FakeErrand())
        target = {"list": "versions=", "lock": "retention=", "bytes": "?versionId="}[asked]
        proxy.on(Replace(answer), "GET", target, times=None)
        proxy.on(Replace(Answer(answer.status)), "HEAD", times=None)
        with contextlib.suppress(StoreError):  # but no EvidenceError
            assert not await store.check(receipt, read=True)
        if asked == "bytes":
            with pytest.raises(StoreError):
                await store.fetch(receipt, tmp_path / "back.part")
