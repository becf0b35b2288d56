"""How requests are signed, repeated and understood; the library that AWS itself publishes is the oracle."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import boto3
import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.client import Config
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import ConfigError, StoreError
from agent.uploader.network import Answer, CutError, Network, NetworkOptions, pause_s
from agent.uploader.s3 import answers
from agent.uploader.s3.answers import LockMode, Retention
from agent.uploader.s3.client import TRIES, Ask, Client, Place, RefusedError, _Signer
from agent.uploader.s3.upload import PART_BYTES, etag_of, part_bytes
from agent.uploader.s3.words import explain
from simulator.stores.faults import s3_error
from tests.buckets import MIB, Bucket
from tests.fakes import FakeErrand
from tests.store_conformance import held

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph
    from simulator.stores.certificates import Certificates
    from simulator.stores.proxy import FaultProxy

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
PLACE = Place("https://s3.example.org", "cn-north-1", "evidence", virtual=False)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.touch(0o600)
    path.write_text("[default]\naws_access_key_id = KEY\naws_secret_access_key = secret\n")
    return path


# Signatures.


def signed_by_boto3(call: Callable[[Any], object], **config: object) -> AWSPreparedRequest:
    """The request that boto3 would send at NOW."""
    seen: list[AWSPreparedRequest] = []

    def keep(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, {}, mock.Mock(stream=lambda: iter([b""])))

    s3 = boto3.session.Session().client(
        "s3",
        endpoint_url=PLACE.endpoint,
        region_name=PLACE.region,
        aws_access_key_id="KEY",
        aws_secret_access_key="secret",
        config=Config(request_checksum_calculation="when_required", proxies={}, **config),
    )
    s3.meta.events.register("before-send.s3", keep)
    with mock.patch("botocore.auth.get_current_datetime", return_value=NOW.replace(tzinfo=None)):
        with contextlib.suppress(KeyError, ValueError):  # the reply is made up
            call(s3)
    s3.close()
    return seen[0]


def text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


@pytest.mark.parametrize(
    ("call", "key", "query", "body"),
    [
        (lambda s3: s3.list_object_versions(Bucket="evidence", Prefix="originals/ab/cd"), "",
         {"versions": "", "prefix": "originals/ab/cd", "encoding-type": "url"}, b""),
        (lambda s3: s3.get_object_retention(Bucket="evidence", Key="a/执法 记录~+&=.mp4", VersionId="v 1+/="),
         "a/执法 记录~+&=.mp4", {"retention": "", "versionId": "v 1+/="}, b""),
        (lambda s3: s3.create_multipart_upload(Bucket="evidence", Key="k", Metadata={"blake3": "ab"}), "k",
         {"uploads": ""}, b""),
        (lambda s3: s3.upload_part(Bucket="evidence", Key="k", UploadId="2~x/y", PartNumber=7, Body=b"bytes",
                                   ContentMD5=base64.b64encode(hashlib.md5(b"bytes").digest()).decode()),
         "k", {"uploadId": "2~x/y", "partNumber": "7"}, b"bytes"),
    ],
    ids=["versions", "retention", "create", "part"],
)  # fmt: skip
@pytest.mark.parametrize("virtual", [False, True])
def test_signatures_are_those_of_the_oracle(
    call: Callable[[Any], object], key: str, query: Mapping[str, str], body: bytes, virtual: bool
) -> None:
    """The same request, made by boto3: the same address, and with its headers the same signature."""
    style = {"addressing_style": "virtual" if virtual else "path", "payload_signing_enabled": True}
    theirs = signed_by_boto3(call, s3=style)
    place = Place(PLACE.endpoint, PLACE.region, PLACE.bucket, virtual)
    pairs = sorted(theirs.url.partition("?")[2].split("&"))
    url, _, ours = place.url(key, query).partition("?")
    assert url == theirs.url.partition("?")[0]
    assert [pair if "=" in pair else pair + "=" for pair in pairs] == ours.split("&")
    authorization = text(theirs.headers["Authorization"])
    covered = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    headers = {name: text(value) for name, value in theirs.headers.items() if name.lower() in covered}
    request = AWSRequest(method=theirs.method, url=f"{url}?{ours}", headers=headers)
    request.context["payload"] = hashlib.sha256(body).hexdigest()
    credentials = mock.Mock(access_key="KEY", secret_key="secret", token=None)
    _Signer(credentials, "s3", PLACE.region).sign(request, NOW.astimezone(timezone(timedelta(hours=8))))
    assert request.headers["Authorization"] == authorization


def test_large_bodies_are_covered_by_their_signed_md5(keys: Path) -> None:
    """They are read once, by the sender: the signature covers their MD5, and no file object is handed on."""
    client = Client(mock.Mock(), PLACE, keys, "default", lambda: NOW)
    ask = Ask("s3:PutObject", "PUT", "k", body=mock.Mock(), size_bytes=7, md5=hashlib.md5(b"content").hexdigest())
    headers = {name.lower(): value for name, value in client.signed(ask, PLACE.url("k", {})).items()}
    assert headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert headers["content-md5"] == base64.b64encode(hashlib.md5(b"content").digest()).decode()
    assert "content-md5" in headers["authorization"].split("SignedHeaders=")[1]
    assert headers["content-length"] == "7"


# Trying again.


class Script:
    """A network that answers what it is told, and keeps what it was asked."""

    def __init__(self, *answers_: Answer | Exception) -> None:
        self.answers = list(answers_)
        self.asked: list[Mapping[str, str]] = []

    async def ask(self, method: str, url: str, headers: Mapping[str, str], body: object, sink: object) -> Answer:
        self.asked.append(headers)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def error(status: int, code: str = "", date: str = "") -> Answer:
    return Answer(status, {"Date": date}, s3_error(status, code).body if code else b"")


GOOD = Answer(200, {}, b"")
CUT = CutError("cut")
ASK = Ask("s3:PutObject", "PUT", "k", body=b"x")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of the attempts that were waited after; nothing is waited for."""
    seen: list[int] = []
    monkeypatch.setattr("agent.uploader.s3.client.pause_s", lambda attempt: seen.append(attempt) or 0.0)
    return seen


def client(script: Script, keys: Path, clock: Callable[[], datetime] = lambda: NOW) -> Client:
    network: Any = script
    return Client(network, PLACE, keys, "default", clock)


@pytest.mark.parametrize(
    "trouble",
    [CUT, error(500), error(502), error(503, "SlowDown"), error(503), error(504), error(500, "InternalError"),
     error(400, "RequestTimeout"), error(400, "BadDigest"), error(409, "OperationAborted"),
     error(200, "InternalError")],
    ids=str,
)  # fmt: skip
async def test_what_may_pass_is_tried_again_within_bounds(
    keys: Path, pauses: list[int], trouble: Answer | Exception
) -> None:
    script = Script(trouble, trouble, GOOD)
    assert await client(script, keys).call(ASK) is GOOD
    assert pauses == [0, 1]
    for_ever = Script(trouble)
    with pytest.raises(StoreError):
        await client(for_ever, keys).call(ASK)
    assert len(for_ever.asked) == TRIES


@pytest.mark.parametrize(
    "trouble",
    [error(403, "AccessDenied"), error(403, "QuotaExceeded"), error(403, "UserSuspended"), error(404, "NoSuchBucket"),
     error(501, "NotImplemented"), error(400, "InvalidPart"), error(301, "PermanentRedirect"), error(412), error(507)],
    ids=str,
)  # fmt: skip
async def test_what_will_not_pass_is_told_at_once(keys: Path, pauses: list[int], trouble: Answer) -> None:
    script = Script(trouble)
    with pytest.raises(RefusedError) as caught:
        await client(script, keys).call(ASK)
    assert len(script.asked) == 1
    assert caught.value.retry, "the store may be mended"
    assert "safe" in caught.value.safe
    assert caught.value.do


@given(st.integers(0, 200))
def test_pauses_grow_are_random_and_have_an_end(attempt: int) -> None:
    """Full jitter: many stations that were refused together don't come back together."""
    assert 0 <= pause_s(attempt) <= min(20, 0.25 * 2**attempt)
    assert len({pause_s(3) for _ in range(20)}) > 10


async def test_each_attempt_is_signed_anew(keys: Path, pauses: list[int]) -> None:
    """A part that waits for minutes would be refused for its old signature."""
    times = iter(NOW + timedelta(minutes=number) for number in range(20))
    script = Script(CUT, CUT, GOOD)
    await client(script, keys, lambda: next(times)).call(ASK)
    assert len({headers["X-Amz-Date"] for headers in script.asked}) == 3
    assert len({headers["Authorization"] for headers in script.asked}) == 3


async def test_the_clock_of_the_store_counts_once_it_refused_ours(keys: Path, pauses: list[int]) -> None:
    skewed = error(403, "RequestTimeTooSkewed", date="Mon, 23 Nov 2026 03:00:00 GMT")
    script = Script(skewed, GOOD)
    speaker = client(script, keys)
    await speaker.call(ASK)
    assert [headers["X-Amz-Date"] for headers in script.asked] == ["20261123T020000Z", "20261123T030000Z"]
    assert speaker.now() == NOW + timedelta(hours=1)
    stubborn = Script(skewed)
    with pytest.raises(RefusedError, match="time"):
        await client(stubborn, keys).call(ASK)
    assert len(stubborn.asked) == TRIES


async def test_keys_are_read_again_only_when_they_are_refused(keys: Path, pauses: list[int]) -> None:
    class Changing(Script):
        async def ask(self, method: str, url: str, headers: Mapping[str, str], body: object, sink: object) -> Answer:
            answer = await super().ask(method, url, headers, body, sink)
            keys.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = s\naws_session_token = t\n")
            return answer

    script = Changing(error(403, "ExpiredToken"), GOOD)
    await client(script, keys).call(ASK)
    assert [headers["Authorization"].split("Credential=")[1][:3] for headers in script.asked] == ["KEY", "NEW"]
    assert script.asked[1]["X-Amz-Security-Token"] == "t"
    same = Script(error(403, "InvalidAccessKeyId"))
    with pytest.raises(RefusedError, match="access key"):
        await client(same, keys).call(ASK)
    assert len(same.asked) == 1, "the same keys would be refused again"


async def test_senders_that_are_refused_together_all_go_on_with_the_new_keys(keys: Path, pauses: list[int]) -> None:
    class Together(Script):
        async def ask(self, method: str, url: str, headers: Mapping[str, str], body: object, sink: object) -> Answer:
            self.asked.append(headers)
            if len(self.asked) == 2:
                keys.write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = s\n")
                both.set()
            await both.wait()
            return error(403, "InvalidAccessKeyId") if "Credential=KEY" in headers["Authorization"] else GOOD

    both = asyncio.Event()
    speaks = client(Together(), keys)
    done = await asyncio.gather(speaks.call(ASK), speaks.call(ASK))
    assert [answer.status for answer in done] == [200, 200]


# Words.


@given(st.integers(100, 599), st.text(max_size=30), st.text(max_size=30), st.sampled_from(["s3:PutObject"]))
def test_every_refusal_has_words(status: int, code: str, message: str, action: str) -> None:
    what, do = explain(status, code, message, action)
    assert what.startswith("The store ")
    assert str(status) in what
    assert do
    assert "{action}" not in do


# Answers.


@given(st.binary(max_size=400))
def test_any_bytes_are_understood_or_refused(body: bytes) -> None:
    """Nothing but a true answer gets through, and nothing breaks."""
    for read in (answers.versions, answers.parts, answers.upload_id, answers.retention, answers.locks):
        with contextlib.suppress(answers.MalformedError):
            pytest.fail(f"{read.__name__} believed {body!r}: {read(body)}")
    assert answers.error(body) is None


def test_a_document_type_is_refused_before_it_is_read() -> None:
    with pytest.raises(answers.MalformedError, match="document type"):
        answers.locks(b'<?xml version="1.0"?><!DOCTYPE a><ObjectLockConfiguration/>')
    with pytest.raises(answers.MalformedError, match="document type"):
        answers.locks('<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE a><ObjectLockConfiguration/>'.encode("utf-16"))


@pytest.mark.parametrize(
    ("have", "want", "enough"),
    [
        (("compliance", 5), ("compliance", 5), True),
        (("compliance", 4), ("compliance", 5), False),
        (("compliance", 6), ("governance", 5), True),
        (("governance", 6), ("compliance", 5), False),
        (("governance", 5), ("governance", 5), True),
    ],
)
def test_a_lock_is_enough_if_it_is_as_strong_and_as_long(
    have: tuple[str, int], want: tuple[str, int], enough: bool
) -> None:
    in_force, wanted = (Retention(LockMode(mode), NOW + timedelta(days=days)) for mode, days in (have, want))
    assert in_force.covers(wanted) is enough


# Parts.


@given(st.integers(0, 1 << 50))
def test_parts_are_at_most_1000_and_their_size_follows_from_that_of_the_object(size: int) -> None:
    part = part_bytes(size)
    assert part % PART_BYTES == 0
    assert -(-size // part) <= 1000
    assert part == PART_BYTES or -(-size // (part - PART_BYTES)) > 1000, "no larger than needed"


def test_an_etag_follows_from_the_bytes() -> None:
    one, two = (hashlib.md5(part).hexdigest() for part in (b"one", b"two"))
    assert etag_of([one]) == one
    joined = hashlib.md5(bytes.fromhex(one) + bytes.fromhex(two)).hexdigest()
    assert etag_of([one, two]) == f"{joined}-2"


# Connections.


async def test_a_client_certificate_is_shown(
    ceph: Ceph, tmp_path: Path, fault_proxy: Callable[..., FaultProxy], certificates: Certificates, pauses: list[int]
) -> None:
    """With mTLS a station without its certificate is turned away, in words; with it it stores."""
    bucket = Bucket(ceph, tmp_path)
    proxy = fault_proxy(ceph.port, tls=True, mutual=True)
    original = held(tmp_path, b"footage")
    ca = {"ca_file": str(certificates.ca_file)}
    async with bucket.store(proxy.endpoint, **ca) as store:
        with pytest.raises(StoreError, match=r"secure connection|connection to"):
            await store.put(original, FakeErrand())
    shown = {"client_certificate": str(certificates.client_file), "client_key": str(certificates.client_file)}
    async with bucket.store(proxy.endpoint, **ca, **shown) as store:
        bucket.only(original, await store.put(original, FakeErrand()))


async def test_a_server_that_nobody_vouches_for_is_not_trusted(
    ceph: Ceph, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    bucket = Bucket(ceph, tmp_path)
    proxy = fault_proxy(ceph.port, tls=True)
    async with bucket.store(proxy.endpoint) as store:
        with pytest.raises(StoreError, match="not trusted") as caught:
            await store.look()
    assert "ca_file" in caught.value.do
    assert proxy.exchanges == []


@contextlib.asynccontextmanager
async def tunnel(seen: list[str]) -> AsyncIterator[int]:
    """A proxy that lets CONNECT through if it comes with the right credentials."""
    wanted = "Basic " + base64.b64encode(b"station:p:w").decode()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65536):
                writer.write(piece)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        seen.append(head.splitlines()[0])
        if f"Proxy-Authorization: {wanted}" not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        host, _, port = head.split()[1].partition(":")
        there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pump(reader, there[1]), pump(there[0], writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_proxy_is_used_with_its_credentials(ceph: Ceph, tmp_path: Path, pauses: list[int]) -> None:
    """From a file; without them the refusal says so, and never shows them."""
    bucket = Bucket(ceph, tmp_path)
    seen: list[str] = []
    secret = tmp_path / "proxy"
    secret.touch(0o600)
    secret.write_text("station:p:w\n")
    original = held(tmp_path, b"footage")
    ca = {"ca_file": str(ceph.certificates.ca_file)}
    async with tunnel(seen) as port:
        address = f"http://127.0.0.1:{port}"
        async with bucket.store(ceph.tls_endpoint, proxy=address, **ca) as store:
            with pytest.raises(StoreError, match="proxy"):
                await store.look()
        more = {"proxy": address, "proxy_credentials": str(secret)}
        async with bucket.store(ceph.tls_endpoint, **ca, **more) as store:
            bucket.only(original, await store.put(original, FakeErrand()))
    assert {line.split()[0] for line in seen} == {"CONNECT"}


async def test_a_limit_of_bytes_per_second_is_kept(ceph: Ceph, tmp_path: Path) -> None:
    """Shared by all that is sent at the same time."""
    bucket = Bucket(ceph, tmp_path)
    loop = asyncio.get_running_loop()
    originals = [held(tmp_path, bytes([number]) * 2 * MIB) for number in range(3)]
    async with bucket.store(rate_limit_bytes_s=4 * MIB) as store:
        began_s = loop.time()
        await asyncio.gather(*(store.put(original, FakeErrand()) for original in originals))
        took_s = loop.time() - began_s
    assert took_s >= 6 / 4 - 0.3, "faster than allowed"


def test_an_open_key_file_is_refused(certificates: Certificates, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(certificates.client_file.read_bytes())
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="everybody"):
        Network(NetworkOptions(client_certificate=certificates.client_file, client_key=key))
