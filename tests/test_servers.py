"""The real servers and the fault proxy are what the tests of the stores take them for."""

from __future__ import annotations

import hashlib
import http.client
import os
import signal
import ssl
import subprocess
import sys
import time
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError

from simulator.stores.ceph import Ceph, LockMode
from simulator.stores.certificates import Certificates
from simulator.stores.faults import Alter, Call, Cut, Replace, Side, Stall, Swallow, s3_error, shift_date, slow_down
from simulator.stores.http_stream import Answer, unchunked
from simulator.stores.oracle import Identity
from simulator.stores.processes import HOST, listens, program
from simulator.stores.proxy import FaultProxy
from simulator.stores.rclone import RcloneS3
from simulator.stores.tinyproxy import ForwardProxy
from simulator.stores.tus import Misbehaviour, TusServer
from tests.servers import installed

PART_BYTES = 5 << 20
MakeProxy = Callable[..., FaultProxy]


@pytest.fixture
def bucket(ceph: Ceph) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    ceph.make_bucket(name)
    return name


def refused(code: str) -> object:
    return pytest.raises(ClientError, match=rf"\({code}\)")


def put(ceph: Ceph, bucket: str, body: bytes = b"evidence", key: str = "key", **more: object) -> str:
    with ceph.client(ceph.uploader_keys) as s3:
        version = s3.put_object(Bucket=bucket, Key=key, Body=body, **more)["VersionId"]
    assert isinstance(version, str)
    return version


# Ceph


def test_ceph_keeps_a_locked_version_from_everybody_but_the_administrator_of_the_storage(
    ceph: Ceph, bucket: str
) -> None:
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    version = put(ceph, bucket, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until)
    for user in (ceph.admin_keys, ceph.uploader_keys, ceph.auditor_keys):
        with ceph.client(user) as s3, refused("AccessDenied"):
            s3.delete_object(Bucket=bucket, Key="key", VersionId=version)
    assert ceph.retention(bucket, "key", version) == (LockMode.COMPLIANCE, until)
    ceph.remove_version(bucket, "key", version)
    assert ceph.versions(bucket) == []


def test_ceph_locks_by_default_where_the_bucket_says_so(ceph: Ceph) -> None:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    ceph.make_bucket(name, default_days=3, mode=LockMode.GOVERNANCE)
    found = ceph.retention(name, "key", put(ceph, name))
    assert found is not None
    assert found.mode is LockMode.GOVERNANCE
    assert timedelta(days=2) < found.until - datetime.now(UTC) <= timedelta(days=3)


def test_ceph_ignores_the_lock_asked_for_at_the_start_of_a_multipart_upload(ceph: Ceph, bucket: str) -> None:
    until = datetime.now(UTC) + timedelta(days=1)
    with ceph.client(ceph.uploader_keys) as s3:
        lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": until}
        upload = s3.create_multipart_upload(Bucket=bucket, Key="key", **lock)["UploadId"]
        named = {"Bucket": bucket, "Key": "key", "UploadId": upload}
        etag = s3.upload_part(**named, PartNumber=1, Body=b"whole")["ETag"]
        assert [one["ETag"] for one in s3.list_parts(**named)["Parts"]] == [etag]
        parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        first = s3.complete_multipart_upload(**named, MultipartUpload=parts)
        again = s3.complete_multipart_upload(**named, MultipartUpload=parts)
        assert ceph.retention(bucket, "key", first["VersionId"]) is None
        s3.put_object_retention(
            Bucket=bucket, Key="key", VersionId=first["VersionId"],
            Retention={"Mode": "COMPLIANCE", "RetainUntilDate": until},
        )  # fmt: skip
        with refused("AccessDenied"):
            s3.list_parts(**named)
    assert ceph.retention(bucket, "key", first["VersionId"]) is not None
    (version,) = ceph.versions(bucket)
    composite = hashlib.md5(hashlib.md5(b"whole").digest()).hexdigest() + "-1"
    assert (first["ETag"], again["ETag"].strip('"'), "VersionId" in again) == ("", composite, False)
    assert version.etag == composite


def test_the_uploader_may_put_and_prove_and_nothing_else(ceph: Ceph, bucket: str) -> None:
    version = put(ceph, bucket)
    with ceph.client(ceph.uploader_keys) as s3:
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        lock = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
        assert lock["ObjectLockEnabled"] == "Enabled"
        assert [one["VersionId"] for one in s3.list_object_versions(Bucket=bucket)["Versions"]] == [version]
        upload = s3.create_multipart_upload(Bucket=bucket, Key="other")["UploadId"]
        with refused("AccessDenied"):
            s3.get_object(Bucket=bucket, Key="key")
        with refused("403"):
            s3.head_object(Bucket=bucket, Key="key")
        with refused("AccessDenied"):
            s3.delete_object(Bucket=bucket, Key="key")
        with refused("AccessDenied"):
            s3.put_object_acl(Bucket=bucket, Key="key", ACL="public-read")
        with refused("AccessDenied"):
            s3.get_object_acl(Bucket=bucket, Key="key")
        with refused("AccessDenied"):
            s3.abort_multipart_upload(Bucket=bucket, Key="other", UploadId=upload)
        with refused("AccessDenied"):
            s3.create_bucket(Bucket="of-the-uploader")
    assert ceph.read(bucket, "key", version) == b"evidence"
    assert ceph.uploads(bucket) == [("other", upload)]


def test_ceph_keeps_everything_when_its_gateway_is_killed(ceph: Ceph, bucket: str) -> None:
    version = put(ceph, bucket)
    pid = ceph.gateway_pid
    ceph.kill_gateway()
    assert ceph.gateway_pid is None
    with pytest.raises(EndpointConnectionError):
        put(ceph, bucket)
    ceph.start_gateway()
    assert ceph.gateway_pid not in {None, pid}
    assert ceph.read(bucket, "key", version) == b"evidence"


def test_ceph_refuses_for_real_when_it_is_told_to(ceph: Ceph, bucket: str) -> None:
    ceph.suspend(ceph.uploader_keys)
    with refused("UserSuspended"):
        put(ceph, bucket)
    ceph.resume(ceph.uploader_keys)
    ceph.set_quota(bucket, 1000)
    with refused("QuotaExceeded"):
        put(ceph, bucket, bytes(2000))
    ceph.set_quota(bucket, -1)
    put(ceph, bucket, bytes(2000))
    with ceph.client(Identity("stranger", "NOKEY", "nosecret")) as s3, refused("InvalidAccessKeyId"):
        s3.list_buckets()


def test_ceph_can_be_too_busy(ceph: Ceph, bucket: str, fault_proxy: MakeProxy) -> None:
    def too_many() -> None:
        with refused("SlowDown"):
            put(ceph, bucket)
        told.append("SlowDown")

    told: list[str] = []
    ceph.stop_gateway()
    ceph.start_gateway(rgw_max_concurrent_requests=1)
    try:
        proxy = fault_proxy(ceph.port)
        proxy.on(Call(too_many, after_bytes=4))
        with ceph.client(ceph.uploader_keys, proxy.endpoint) as s3:
            s3.put_object(Bucket=bucket, Key="key", Body=b"evidence")
        assert told == ["SlowDown"]
    finally:
        ceph.stop_gateway()
        ceph.start_gateway()


def test_ceph_speaks_tls(ceph: Ceph, bucket: str) -> None:
    version = put(ceph, bucket)
    with ceph.client(ceph.auditor_keys, ceph.tls_endpoint) as s3:
        with closing(s3.get_object(Bucket=bucket, Key="key")["Body"]) as body:
            assert body.read() == b"evidence"
    assert ceph.versions(bucket)[0].version_id == version


def test_all_servers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    with installed():
        Ceph(tmp_path)
    command = [sys.executable, "-m", "simulator.stores.ceph", "--folder", tmp_path / "ceph", "--on-disk"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        head = child.stdout.readline().split()
        assert head[0] == "endpoint"
        port = int(head[1].rpartition(":")[2])
        assert len(processes(tmp_path)) == 3 + 1
        child.kill()
    ended(lambda: not processes(tmp_path) and not listens(port))


def test_a_person_can_kill_the_gateway_and_start_it_again(tmp_path: Path) -> None:
    with installed():
        Ceph(tmp_path)
    command = [sys.executable, "-m", "simulator.stores.ceph", "--folder", tmp_path / "ceph"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        said = [child.stdout.readline()]
        port = int(said[0].rpartition(":")[2])
        while not said[-1].startswith("Type"):
            said.append(child.stdout.readline())
        assert child.stdout.readline() == "\n"
        assert "evidence" in "".join(said)
        for word, answer in (
            ("kill", "killed"),
            ("help", "type"),
            ("start", "answers again"),
            ("start", "it is running"),
        ):
            child.stdin.write(f"{word}\n")
            child.stdin.flush()
            assert child.stdout.readline().startswith(answer)
            assert listens(port) == (word == "start")
        child.send_signal(signal.SIGINT)
        assert child.stdout.readline() == "ended\n"
    assert child.returncode == 0
    ended(lambda: not processes(tmp_path))


def test_what_is_not_installed_is_skipped_with_the_reason_but_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome() -> str:
        with pytest.raises((pytest.skip.Exception, pytest.fail.Exception)) as ending, installed():
            program("no-such-server")
        assert "no-such-server is not installed" in str(ending.value)
        return ending.type.__name__

    monkeypatch.delenv("CAPTURE_AGENT_CI", raising=False)
    assert outcome() == "Skipped"
    monkeypatch.setenv("CAPTURE_AGENT_CI", "1")
    assert outcome() == "Failed"


def processes(folder: Path) -> list[str]:
    """Command lines that name a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if os.fsencode(folder) in line:
                found.append(line.decode())
    return found


def ended(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


# The fault proxy


@contextmanager
def through(ceph: Ceph, proxy: FaultProxy) -> Iterator[object]:
    with ceph.client(ceph.uploader_keys, proxy.endpoint) as s3:
        yield s3


def test_the_proxy_changes_nothing_by_itself_and_counts(ceph: Ceph, bucket: str, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(ceph.port)
    body = os.urandom(PART_BYTES)
    with ceph.client(ceph.admin_keys, proxy.endpoint) as s3:
        for _ in range(2):
            s3.put_object(Bucket=bucket, Key="文 件", Body=body, ContentMD5=md5(body))
        assert s3.get_object(Bucket=bucket, Key="文 件")["Body"].read() == body
        assert s3.head_object(Bucket=bucket, Key="文 件")["ContentLength"] == PART_BYTES
        assert len(s3.list_object_versions(Bucket=bucket)["Versions"]) == 2
    assert proxy.connections == 1
    assert proxy.sent_bytes() == proxy.sent_bytes("PUT", bucket) == 2 * PART_BYTES
    assert [one.status for one in proxy.requests("GET")] == [200, 200]
    assert proxy.requests("PUT")[0].headers["content-md5"] == md5(body)


def md5(body: bytes) -> str:
    return b64encode(hashlib.md5(body).digest()).decode()


@pytest.mark.parametrize("after_bytes", [0, 1, 65537, PART_BYTES, None])
def test_a_connection_is_cut_at_the_byte_that_was_named(
    ceph: Ceph, bucket: str, fault_proxy: MakeProxy, after_bytes: int | None
) -> None:
    proxy = fault_proxy(ceph.port, seed=1)
    cut = proxy.on(Cut(after_bytes), "PUT", bucket)
    with through(ceph, proxy) as s3:
        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket=bucket, Key="key", Body=bytes(PART_BYTES))
        assert (cut.happened, proxy.requests("PUT")[0].status) == (1, None)
        s3.put_object(Bucket=bucket, Key="key", Body=bytes(PART_BYTES))
    assert proxy.connections == 2
    assert (after_bytes or 0) <= proxy.sent_bytes() - PART_BYTES <= PART_BYTES


def test_a_reply_is_cut_too(ceph: Ceph, bucket: str, fault_proxy: MakeProxy) -> None:
    put(ceph, bucket, bytes(PART_BYTES))
    proxy = fault_proxy(ceph.port)
    proxy.on(Cut(1000, Side.DOWN), "GET")
    proxy.on(Cut(0, Side.DOWN), "GET", nth=2)
    with closing(http.client.HTTPConnection(HOST, proxy.port, timeout=10)) as client:
        client.request("GET", signed_target(ceph, proxy, bucket))
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            client.getresponse().read()
        assert proxy.exchanges[0].status == 200
        client.close()
        client.request("GET", signed_target(ceph, proxy, bucket))
        with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
            client.getresponse()
        assert proxy.exchanges[1].status is None


def signed_target(ceph: Ceph, proxy: FaultProxy, bucket: str) -> str:
    with ceph.client(ceph.auditor_keys, proxy.endpoint) as s3:
        url = s3.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "key"})
    return "/" + url.split("/", 3)[3]


@pytest.mark.parametrize("side", Side)
def test_a_stalled_connection_stays_open_and_silent(
    ceph: Ceph, bucket: str, fault_proxy: MakeProxy, side: Side
) -> None:
    proxy = fault_proxy(ceph.port)
    proxy.on(Stall(0, side))
    with closing(http.client.HTTPConnection(HOST, proxy.port, timeout=0.3)) as client:
        client.request("GET", "/")
        with pytest.raises(TimeoutError):
            client.getresponse()
    assert [one.status for one in proxy.exchanges] == [None]


def test_a_swallowed_reply_belongs_to_a_request_that_was_done(ceph: Ceph, bucket: str, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(ceph.port)
    proxy.on(Swallow(), "PUT", "key", nth=2)
    with through(ceph, proxy) as s3:
        s3.put_object(Bucket=bucket, Key="key", Body=b"one")
        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket=bucket, Key="key", Body=b"three")
    assert sorted(one.size_bytes for one in ceph.versions(bucket)) == [3, 5]


def test_a_reply_is_replaced_with_or_without_the_request_being_done(
    ceph: Ceph, bucket: str, fault_proxy: MakeProxy
) -> None:
    proxy = fault_proxy(ceph.port)
    proxy.on(slow_down(), "PUT", times=2)
    proxy.on(Replace(s3_error(200, "InternalError"), forward=True), "PUT", nth=3)
    with through(ceph, proxy) as s3:
        for _ in range(2):
            with refused("SlowDown"):
                s3.put_object(Bucket=bucket, Key="key", Body=bytes(PART_BYTES))
        assert ceph.versions(bucket) == []
        with refused("InternalError"):
            s3.put_object(Bucket=bucket, Key="key", Body=b"done")
    assert proxy.connections == 1
    assert len(ceph.versions(bucket)) == 1
    assert [one.status for one in proxy.exchanges] == [503, 503, 200]


def test_a_reply_is_altered(ceph: Ceph, bucket: str, fault_proxy: MakeProxy) -> None:
    proxy = fault_proxy(ceph.port)
    proxy.on(shift_date(timedelta(hours=1)), "GET")
    proxy.on(Alter(lambda answer: Answer(answer.status, answer.headers, answer.body.replace(b"Name", b"N"))), nth=2)
    with closing(http.client.HTTPConnection(HOST, proxy.port, timeout=10)) as client:
        client.request("GET", "/")
        reply = client.getresponse()
        assert reply.read()
        ahead = parsedate_to_datetime(reply.headers["Date"]) - datetime.now(UTC)
        assert abs(ahead - timedelta(hours=1)) < timedelta(seconds=60)
        client.request("GET", "/")
        assert b"<DisplayN>" in client.getresponse().read()


def test_what_comes_in_chunks_is_read_as_one() -> None:
    assert unchunked(b"3\r\nabc\r\n2;x=1\r\nde\r\n0\r\n\r\n") == b"abcde"


def test_the_proxy_can_call_in_the_middle_of_a_request_and_can_refuse(
    ceph: Ceph, bucket: str, fault_proxy: MakeProxy
) -> None:
    proxy = fault_proxy(ceph.port)
    proxy.on(Call(ceph.kill_gateway, PART_BYTES // 2), "PUT")
    with through(ceph, proxy) as s3:
        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket=bucket, Key="key", Body=bytes(PART_BYTES))
        ceph.start_gateway()
        proxy.refusing = True
        with pytest.raises(ConnectionClosedError):
            s3.put_object(Bucket=bucket, Key="key", Body=b"")
        proxy.refusing = False
        s3.put_object(Bucket=bucket, Key="key", Body=b"")
    assert [one.size_bytes for one in ceph.versions(bucket)] == [0]


def test_the_proxy_demands_a_client_certificate(ceph: Ceph, fault_proxy: MakeProxy, certificates: Certificates) -> None:
    proxy = fault_proxy(ceph.port, mutual=True)
    assert proxy.endpoint.startswith("https://")
    for mutual, served in ((False, False), (True, True)):
        context = certificates.client_context(mutual=mutual)
        with closing(http.client.HTTPSConnection(HOST, proxy.port, timeout=10, context=context)) as client:
            try:
                client.request("GET", "/")
                assert client.getresponse().status == 200
            except (ssl.SSLError, ConnectionError):
                assert not served
            else:
                assert served
    assert len(proxy.exchanges) == 1


# tus


class TusClient:
    """As little of a tus client as shows what the server does; answers are (status, headers, body)."""

    def __init__(self, port: int) -> None:
        self._port = port

    def __call__(
        self, method: str, target: str, body: bytes = b"", **more: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        headers = {"Tus-Resumable": "1.0.0"} | {name.replace("_", "-"): value for name, value in more.items()}
        with closing(http.client.HTTPConnection(HOST, self._port, timeout=20)) as client:
            client.request(method, target, body, headers)
            reply = client.getresponse()
            return reply.status, reply.headers, reply.read()

    def create(self, size: int, sha256: str = "") -> str:
        metadata = f"sha256 {b64encode(sha256.encode()).decode()}" if sha256 else "name eA=="
        status, headers, _ = self("POST", "/files", Upload_Length=str(size), Upload_Metadata=metadata)
        assert status == 201
        return headers["Location"]

    def append(self, target: str, offset: int, body: bytes) -> tuple[int, str | None]:
        kind = "application/offset+octet-stream"
        status, headers, _ = self("PATCH", target, body, Upload_Offset=str(offset), Content_Type=kind)
        return status, headers["Repr-Digest"]

    def offset(self, target: str) -> int:
        return int(self("HEAD", target)[1]["Upload-Offset"])


def digest_of(body: bytes) -> str:
    return f"sha-256=:{b64encode(hashlib.sha256(body).digest()).decode()}:"


@pytest.fixture
def tus(tus_server: TusServer) -> TusClient:
    return TusClient(tus_server.port)


def test_tus_resumes_at_the_offset_and_answers_with_the_digest(
    tus: TusClient, tus_server: TusServer, fault_proxy: MakeProxy
) -> None:
    body = os.urandom(PART_BYTES)
    target = tus.create(len(body), hashlib.sha256(body).hexdigest())
    proxy = fault_proxy(tus_server.port)
    proxy.on(Cut(PART_BYTES // 2), "PATCH", target)
    with pytest.raises(ConnectionError):
        TusClient(proxy.port).append(target, 0, body)
    ended(lambda: tus.offset(target) > 0)
    tus_server.kill()
    tus_server.start()
    offset = tus.offset(target)
    assert 0 < offset <= PART_BYTES // 2
    assert tus.append(target, offset + 1, body[offset + 1 :]) == (409, None)
    assert tus.append(target, offset, body[offset:]) == (204, digest_of(body))
    # Who missed the answer asks again by appending nothing.
    assert tus.append(target, PART_BYTES, b"") == (204, digest_of(body))
    assert tus("GET", target)[2] == body
    assert tus("DELETE", target)[0] == 400
    assert (tus_server.folder / target.rpartition("/")[2]).read_bytes() == body


def test_tus_refuses_bytes_that_were_not_announced(tus: TusClient) -> None:
    target = tus.create(3, hashlib.sha256(b"abc").hexdigest())
    assert tus.append(target, 0, b"abd") == (460, None)
    empty = tus("POST", "/files", Upload_Length="0")
    assert (empty[0], empty[1]["Repr-Digest"]) == (201, digest_of(b""))


def test_tus_misbehaves_when_told_to(tus: TusClient, tus_server: TusServer) -> None:
    def misbehave(*how: Misbehaviour) -> str:
        tus_server.kill()
        tus_server.start(*how)
        return tus.create(3, hashlib.sha256(b"abc").hexdigest())

    target = misbehave(Misbehaviour.NO_DIGEST, Misbehaviour.NO_GET)
    assert tus.append(target, 0, b"abc") == (204, None)
    assert tus("GET", target)[0] == 403
    target = misbehave(Misbehaviour.FAIL_ONCE, Misbehaviour.FLIP_LATE)
    assert tus.append(target, 0, b"abc") == (500, None)
    assert tus.append(target, 3, b"") == (204, digest_of(b"abc"))
    assert tus("GET", target)[2] == b"`bc"
    assert tus.append(misbehave(Misbehaviour.FLIP_EARLY), 0, b"abc") == (460, None)


def test_tus_may_demand_a_token(tmp_path: Path) -> None:
    with installed():
        server = TusServer(tmp_path / "uploads", token="T")
    with server:
        client = TusClient(server.port)
        assert client("POST", "/files", Upload_Length="0")[0] == 401
        assert client("POST", "/files", Upload_Length="0", Authorization="Bearer T")[0] == 201
        assert len(server.uploads()) == 1


# rclone and tinyproxy


def test_rclone_only_pretends_to_lock(fake_lock_s3: RcloneS3) -> None:
    fake_lock_s3.make_bucket("bucket")
    with fake_lock_s3.client() as s3:
        until = datetime.now(UTC) + timedelta(days=1)
        put = s3.put_object(
            Bucket="bucket", Key="key", Body=b"x", ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=until
        )
        assert put["ResponseMetadata"]["HTTPStatusCode"] == 200
        assert s3.get_object_lock_configuration(Bucket="bucket")["ObjectLockConfiguration"] == {}
        s3.delete_object(Bucket="bucket", Key="key")
        assert "Contents" not in s3.list_objects_v2(Bucket="bucket")


def test_the_forward_proxy_takes_requests_and_tunnels(ceph: Ceph, forward_proxy: ForwardProxy, tmp_path: Path) -> None:
    with closing(http.client.HTTPConnection(HOST, forward_proxy.port, timeout=10)) as client:
        client.request("GET", f"{ceph.endpoint}/")
        assert client.getresponse().status == 200
    context = ceph.certificates.client_context()
    with closing(http.client.HTTPSConnection(HOST, forward_proxy.port, timeout=10, context=context)) as client:
        client.set_tunnel(HOST, ceph.tls_port)
        client.request("GET", "/")
        assert client.getresponse().status == 200
    assert forward_proxy.requests() == [
        f"GET {ceph.endpoint}/ HTTP/1.1",
        f"CONNECT {HOST}:{ceph.tls_port} HTTP/1.0",
    ]
    with installed():
        strict = ForwardProxy(tmp_path / "proxy", credentials=("station", "word"))
    with strict, closing(http.client.HTTPConnection(HOST, strict.port, timeout=10)) as client:
        for word, status in (("wrong", 401), ("word", 200)):
            basic = b64encode(f"station:{word}".encode()).decode()
            client.request("GET", f"{ceph.endpoint}/", headers={"Proxy-Authorization": f"Basic {basic}"})
            assert client.getresponse().status == status
            client.close()
