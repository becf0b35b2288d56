"""The collecting service as a store: whatever happens, the right bytes are there and proven, or it is said."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import os
import random
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import agent.uploader.tus
from agent.errors import ConfigError, EvidenceError, StoreError
from agent.model import Held
from agent.pipeline.storing import StoreLane
from agent.uploader.base import Store, original_key
from agent.uploader.source import Source
from agent.uploader.tus import TusStore, _Reading
from agent.uploader.tus_protocol import TusOptions
from simulator.stores.certificates import Certificates
from simulator.stores.faults import Alter, Call, Cut, Replace, Side, Stall, Swallow, shift_date
from simulator.stores.http_stream import Answer
from simulator.stores.proxy import FaultProxy
from simulator.stores.tus import Misbehaviour, TusServer
from tests import stations
from tests.cards import stored
from tests.conftest import SettableClock
from tests.disks import tmpfs
from tests.fakes import FakeErrand, FakeRecorder
from tests.store_conformance import MIB, StoreConformance, held

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)
LIMIT = 320 * 1024
"""What one request carries here."""
SIZE = 5 * LIMIT - 7


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    return tmp_path / "vault"


@pytest.fixture
def original(vault: Path) -> Held:
    return held(vault, os.urandom(SIZE))


class Service:
    """The collecting service, and what somebody without this software finds there."""

    def __init__(self, server: TusServer) -> None:
        self.server = server
        self.port = server.port
        self.endpoint = server.endpoint.removesuffix("/files")
        shutil.rmtree(server.kept, ignore_errors=True)
        for path in server.folder.iterdir():
            path.unlink()

    def objects(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.server.kept.glob("originals/*/*")}

    def damage(self, blake3_hex: str) -> None:
        path = self._kept(blake3_hex)
        path.chmod(0o600)
        with path.open("r+b") as file:
            byte = file.read(1)[0]
            file.seek(0)
            file.write(bytes([byte ^ 1]))

    def lose(self, blake3_hex: str) -> None:
        kept = self._kept(blake3_hex)
        [upload] = [path for path in self.server.uploads() if path.samefile(kept)]
        upload.unlink()
        kept.unlink()

    def _kept(self, blake3_hex: str) -> Path:
        return self.server.kept / "originals" / blake3_hex[:2] / blake3_hex

    def under_way(self) -> Path:
        """The only upload."""
        [path] = self.server.uploads()
        return path

    def restart(self, *misbehaviour: Misbehaviour) -> None:
        self.server.kill()
        self.server.start(*misbehaviour)


@pytest.fixture
def tus(tus_server: TusServer) -> Service:
    return Service(tus_server)


@pytest.fixture
def proxy(tus: Service, fault_proxy: Callable[..., FaultProxy]) -> FaultProxy:
    return fault_proxy(tus.port)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(agent.uploader.tus, "pause_s", lambda _: 0.01)


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts go on for longer than the service needs to start."""
    monkeypatch.setattr(agent.uploader.tus, "pause_s", lambda _: 1.0)


@asynccontextmanager
async def opened(endpoint: str, vault: Path, **options: object) -> AsyncIterator[TusStore]:
    given = {"endpoint": f"{endpoint}/files", "request_limit_bytes": LIMIT, "stall_limit_s": 20, **options}
    store = TusStore("采集平台", given, vault_root=vault, clock=lambda: NOW)
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(proxy: FaultProxy, vault: Path) -> AsyncIterator[TusStore]:
    """A store beyond the proxy."""
    async with opened(proxy.endpoint, vault) as store:
        yield store


def content(original: Held) -> dict[str, bytes]:
    return {original.digests.blake3: original.path.read_bytes()}


def uploads(proxy: FaultProxy) -> int:
    return len(proxy.requests("POST"))


def with_header(name: str, value: str | None) -> Alter:
    def edit(answer: Answer) -> Answer:
        answer.headers.pop(name, None)
        if value is not None:
            answer.headers[name] = value
        return answer

    return Alter(edit)


def digest_of(some: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(some).digest()).decode()}:"


class TestTusStore(StoreConformance):
    """The suite every store must pass, on the real reference server with the example hook."""

    @pytest.fixture
    async def store(self, tus: Service, vault: Path) -> AsyncIterator[TusStore]:
        self.tus = tus
        async with opened(tus.endpoint, vault, request_limit_bytes=3 * MIB) as store:
            yield store

    def objects(self, store: Store) -> dict[str, bytes]:
        return self.tus.objects()

    def damage(self, store: Store, blake3_hex: str) -> None:
        self.tus.damage(blake3_hex)

    def lose(self, store: Store, blake3_hex: str) -> None:
        self.tus.lose(blake3_hex)


# Configuration.


def test_the_configuration_finds_it_by_name() -> None:
    [point] = entry_points(group="capture_agent.stores", name="tus")
    assert point.load() is TusStore


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"endpoint": "ftp://host/files"},
        {"endpoint": "http://user:secret@host/files"},
        {"endpoint": "http://host/files#part"},
        {"endpoint": "http://["},
        {"endpoint": "http://host/files", "request_limit_bytes": 1},
        {"endpoint": "http://host/files", "token": "secret"},
        {"endpoint": "http://host/files", "token_file": "/nowhere/token"},
    ],
)
def test_options_that_make_no_sense_are_refused_in_words(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        TusStore("tus", options, vault_root=tmp_path)
    assert caught.value.safe
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("token", "mode"), [("secret", 0o644), ("two secrets", 0o600), ("", 0o600), ("s\r\nX: y", 0o600)]
)
def test_a_token_that_others_can_read_or_that_is_none_is_refused(token: str, mode: int, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    file.chmod(mode)
    with pytest.raises(ConfigError) as caught:
        TusStore("tus", {"endpoint": "http://host/files", "token_file": str(file)}, vault_root=tmp_path)
    assert "secret" not in str(caught.value).replace("a secret", "")


def test_the_guide_has_every_option_with_its_default() -> None:
    guide = (Path(__file__).parents[1] / "docs/store-tus.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", guide, re.MULTILINE))
    known = {option.name: option.default for option in fields(TusOptions)}
    assert rows.keys() == known.keys()
    numbers = {name: default for name, default in known.items() if type(default) in {int, float}}
    assert {name: float(rows[name]) for name in numbers} == numbers


# What the service is told, and what is believed.


async def test_it_is_told_the_key_and_what_to_compare(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    receipt = await store.put(original, FakeErrand())
    [post] = proxy.requests("POST")
    pairs = dict(pair.split(" ") for pair in post.headers["upload-metadata"].split(","))
    key = original_key(original.digests)
    assert {name: base64.b64decode(value).decode() for name, value in pairs.items()} == {
        "key": key, "blake3": original.digests.blake3, "sha256": original.digests.sha256, "size": str(SIZE),
    }  # fmt: skip
    assert (receipt.object, receipt.confirmed_at, receipt.locked_until) == (key, NOW, None)
    assert receipt.etag == f"sha-256={original.digests.sha256}"
    assert not store.locks


async def test_no_request_carries_more_than_its_limit_and_progress_is_told(
    store: TusStore, proxy: FaultProxy, original: Held
) -> None:
    errand = FakeErrand()
    await store.put(original, errand)
    assert [one.sent_bytes for one in proxy.requests("PATCH")] == [LIMIT] * 4 + [LIMIT - 7]
    assert errand.progress == sorted(errand.progress)
    assert errand.progress[-1] == SIZE


async def test_where_it_goes_is_noted_before_the_first_byte(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    errand = FakeErrand(notes={"of_another_store": "x"})
    proxy.on(Cut(0), "PATCH", times=None)
    with pytest.raises(StoreError):
        await store.put(original, errand)
    assert list(errand.notes) == ["tus_upload"]
    assert proxy.sent_bytes("PATCH") == 0


async def test_the_same_bytes_from_two_sides_are_sent_once(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service
) -> None:
    await asyncio.gather(*(store.put(original, FakeErrand()) for _ in range(4)))
    assert proxy.sent_bytes("PATCH") == SIZE
    assert uploads(proxy) == 1
    assert store._under_way == {}, "nothing is kept of what is over"


async def test_no_original_is_ever_asked_to_be_removed(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    proxy.on(with_header("repr-digest", digest_of(b"other")), "PATCH", nth=5)
    with pytest.raises(StoreError):
        await store.put(original, FakeErrand())
    receipt = await store.put(original, FakeErrand())
    await store.check(receipt, read=True)
    assert proxy.requests("DELETE") == []


@pytest.mark.parametrize("answer", [405, 404, 403, 501])
async def test_without_digest_and_without_reading_back_nothing_is_stored(
    store: TusStore, proxy: FaultProxy, original: Held, answer: int
) -> None:
    """And it is said what the service must learn; when it has, the same upload is proven without sending it again."""
    errand = FakeErrand()
    quiet = proxy.on(with_header("repr-digest", None), "PATCH", times=None)
    silent = proxy.on(with_header("repr-digest", None), "HEAD", times=None)
    proxy.on(Replace(Answer(answer)), "GET", times=None)
    with pytest.raises(StoreError) as caught:
        await store.put(original, errand)
    assert caught.value.retry
    assert "safe" in caught.value.safe
    assert "Repr-Digest" in caught.value.what
    assert "docs/store-tus.md" in caught.value.do
    assert quiet.happened
    assert silent.happened
    proxy.clear()
    await store.put(original, errand)
    assert proxy.sent_bytes("PATCH") == SIZE


async def test_without_digest_it_is_read_back(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    for method in ("PATCH", "HEAD"):
        proxy.on(with_header("repr-digest", None), method, times=None)
    receipt = await store.put(original, FakeErrand())
    assert receipt.etag == ""
    assert len(proxy.requests("GET")) == 1


@pytest.mark.parametrize(
    "value",
    [
        "sha-256=:AAAA:",
        "sha-256=::",
        "sha-256=" + "A" * 44,
        "sha-512=:" + "A" * 43 + "=:",
        "x-sha-256=:" + "A" * 43 + "=:",
        "\x7f\xff",
        "," * 5000,
    ],
)
async def test_a_digest_that_is_none_counts_as_none(
    store: TusStore, proxy: FaultProxy, original: Held, value: str
) -> None:
    for method in ("PATCH", "HEAD"):
        proxy.on(with_header("repr-digest", value), method, times=None)
    assert (await store.put(original, FakeErrand())).etag == ""
    assert len(proxy.requests("GET")) == 1


async def test_a_digest_among_others_is_found(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    value = f"md5=:AAAA:, {digest_of(original.path.read_bytes())}"
    proxy.on(with_header("repr-digest", value), "PATCH", times=None)
    assert (await store.put(original, FakeErrand())).etag


async def test_a_service_that_says_other_bytes_is_believed(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    proxy.on(with_header("repr-digest", digest_of(b"other")), "PATCH", times=None)
    with pytest.raises(StoreError) as caught:
        await store.put(original, FakeErrand())
    assert not caught.value.retry
    assert "other bytes" in caught.value.what
    assert "safe" in caught.value.safe


# Faults on the way.


async def send_half(store: TusStore, proxy: FaultProxy, original: Held, errand: FakeErrand) -> None:
    """An attempt that ends after two requests."""
    proxy.on(Cut(0), "PATCH", nth=3, times=None)
    with pytest.raises(StoreError):
        await store.put(original, errand)
    proxy.clear()


async def finish(store: TusStore, original: Held, errand: FakeErrand, tus: Service) -> None:
    """Store it, and look behind the service."""
    receipt = await store.put(original, errand)
    assert tus.objects() == content(original)
    assert await store.check(receipt, read=True)


@pytest.mark.usefixtures("patient")
async def test_a_service_that_is_killed_and_comes_back_goes_on(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service
) -> None:
    proxy.on(Call(tus.restart, 200_000), "PATCH", nth=3)
    await finish(store, original, FakeErrand(), tus)
    assert uploads(proxy) == 1
    assert proxy.sent_bytes("PATCH") <= SIZE + LIMIT


async def test_killed_ourselves_the_next_process_goes_on(
    proxy: FaultProxy, original: Held, tus: Service, vault: Path
) -> None:
    """What the journal remembers is enough, wherever we stopped."""
    errand = FakeErrand()
    for turn in range(8):
        async with opened(proxy.endpoint, vault) as store:
            task = asyncio.create_task(store.put(original, errand))
            while not task.done() and proxy.sent_bytes("PATCH") < turn * SIZE // 8:
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
    async with opened(proxy.endpoint, vault) as store:
        await finish(store, original, errand, tus)
    assert uploads(proxy) <= 3, "one may have been created that we were not told about"
    assert proxy.sent_bytes("PATCH") < SIZE + 8 * LIMIT


@pytest.mark.parametrize("seed", range(6))
async def test_cut_at_random_bytes_it_goes_on(
    tus: Service, fault_proxy: Callable[..., FaultProxy], vault: Path, original: Held, seed: int
) -> None:
    proxy = fault_proxy(tus.port, seed=seed)
    rules = [proxy.on(Cut(), "PATCH", nth=nth, times=times) for nth, times in ((1, 2), (4, 1), (7, 3))]
    rules.append(proxy.on(Cut(side=Side.DOWN), "HEAD", nth=1 + seed % 3, times=2))
    async with opened(proxy.endpoint, vault) as store:
        await finish(store, original, FakeErrand(), tus)
    assert sum(rule.happened for rule in rules) >= 5


@pytest.mark.parametrize("side", list(Side))
async def test_a_stall_without_close_ends(
    proxy: FaultProxy, vault: Path, original: Held, tus: Service, side: Side
) -> None:
    after = 200_000 if side is Side.UP else 0
    proxy.on(Stall(after, side), "PATCH", nth=2)
    async with opened(proxy.endpoint, vault, stall_limit_s=1) as store:
        await finish(store, original, FakeErrand(), tus)
    assert uploads(proxy) == 1


async def test_what_stalls_for_ever_is_told(proxy: FaultProxy, vault: Path, original: Held) -> None:
    proxy.on(Stall(0), "PATCH", times=None)
    async with opened(proxy.endpoint, vault, stall_limit_s=1) as store:
        with pytest.raises(StoreError) as caught:
            await store.put(original, FakeErrand())
    assert caught.value.retry
    assert "no byte" in caught.value.what


async def test_a_lost_answer_to_the_last_piece_sends_nothing_again(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service
) -> None:
    proxy.on(Swallow(), "PATCH", nth=5)
    await finish(store, original, FakeErrand(), tus)
    assert proxy.sent_bytes("PATCH") == SIZE


@pytest.mark.parametrize("size", [0, SIZE])
@pytest.mark.parametrize("fault", [Swallow(), Replace(Answer(500), forward=True)])
async def test_a_lost_answer_to_the_creation_leaves_one_object(
    store: TusStore, proxy: FaultProxy, vault: Path, tus: Service, fault: Swallow | Replace, size: int
) -> None:
    proxy.on(fault, "POST")
    await finish(store, held(vault, os.urandom(size)), FakeErrand(), tus)
    assert uploads(proxy) == 2
    assert proxy.sent_bytes("PATCH") == size


@pytest.mark.parametrize("size", [1, LIMIT, SIZE])
async def test_a_hook_that_fails_is_asked_again(
    store: TusStore, proxy: FaultProxy, vault: Path, tus: Service, size: int
) -> None:
    """All bytes are there, but the service did not finish: nothing is sent again, and it is asked to."""
    tus.restart(Misbehaviour.FAIL_ONCE)
    await finish(store, held(vault, os.urandom(size)), FakeErrand(), tus)
    assert proxy.sent_bytes("PATCH") == size


async def test_a_hook_that_fails_for_good_is_told_and_mended_later(
    store: TusStore, original: Held, tus: Service, proxy: FaultProxy
) -> None:
    errand = FakeErrand()
    proxy.on(Replace(Answer(500, {}, b"the hook failed"), forward=True), "PATCH", nth=5, times=None)
    proxy.on(with_header("repr-digest", None), "HEAD", times=None)
    with pytest.raises(StoreError) as caught:
        await store.put(original, errand)
    assert caught.value.retry
    assert "the hook failed" in caught.value.what
    proxy.clear()
    await finish(store, original, errand, tus)
    assert proxy.sent_bytes("PATCH") == SIZE


async def test_a_hook_that_finds_other_bytes_is_believed(store: TusStore, original: Held, tus: Service) -> None:
    """Nothing is kept there, and no other attempt made: somebody must look."""
    tus.restart(Misbehaviour.FLIP_EARLY)
    with pytest.raises(StoreError, match="other bytes") as caught:
        await store.put(original, FakeErrand())
    assert not caught.value.retry
    assert tus.objects() == {}


async def test_other_bytes_that_nobody_noticed_are_found_by_reading_back(
    store: TusStore, original: Held, tus: Service
) -> None:
    tus.restart(Misbehaviour.FLIP_LATE, Misbehaviour.NO_DIGEST)
    with pytest.raises(StoreError, match="gave back") as caught:
        await store.put(original, FakeErrand())
    assert not caught.value.retry


@pytest.mark.parametrize("status", [404, 410])
async def test_an_upload_that_is_gone_begins_anew(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service, status: int
) -> None:
    errand = FakeErrand()
    await send_half(store, proxy, original, errand)
    before = dict(errand.notes)
    proxy.on(Replace(Answer(status, {"tus-resumable": "1.0.0"})), "HEAD")
    await finish(store, original, errand, tus)
    assert uploads(proxy) == 2
    assert errand.notes != before


@pytest.mark.usefixtures("patient")
async def test_what_the_service_lost_is_sent_again_and_hashed_again(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service
) -> None:
    """The reference server flushes nothing: after a power cut it has less than it said."""

    def power_cut() -> None:
        tus.server.kill()
        os.truncate(tus.under_way(), LIMIT // 2)
        tus.server.start()

    proxy.on(Call(power_cut, 1000), "PATCH", nth=4)
    await finish(store, original, FakeErrand(), tus)
    assert uploads(proxy) == 1


async def test_another_writer_is_noticed(store: TusStore, proxy: FaultProxy, original: Held, tus: Service) -> None:
    """409: the offset is not what we thought."""
    proxy.on(Replace(Answer(409)), "PATCH", nth=2)
    proxy.on(Replace(Answer(423)), "HEAD", nth=2)
    await finish(store, original, FakeErrand(), tus)
    assert uploads(proxy) == 1


BAD_NUMBERS = ["-1", "1e3", "9" * 40, "\xd9\xa3", "1, 2", str(SIZE + 1)]


@pytest.mark.parametrize("name", ["upload-offset", "upload-length"])
@pytest.mark.parametrize("value", BAD_NUMBERS)
async def test_a_noted_upload_whose_numbers_make_no_sense_begins_anew(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service, name: str, value: str
) -> None:
    errand = FakeErrand()
    await send_half(store, proxy, original, errand)
    proxy.on(with_header(name, value), "HEAD")
    await finish(store, original, errand, tus)
    assert uploads(proxy) == 2


@pytest.mark.parametrize("name", ["upload-offset", "upload-length"])
@pytest.mark.parametrize("value", [*BAD_NUMBERS, None])
async def test_a_server_that_only_talks_nonsense_gets_no_footage(
    store: TusStore, proxy: FaultProxy, original: Held, name: str, value: str | None
) -> None:
    proxy.on(with_header(name, value), "HEAD", times=None)
    with pytest.raises(StoreError) as caught:
        await store.put(original, FakeErrand())
    assert "safe" in caught.value.safe
    assert proxy.sent_bytes("PATCH") == 0


@pytest.mark.parametrize("value", [*BAD_NUMBERS, None])
async def test_an_answer_with_a_wrong_offset_is_asked_about(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service, value: str | None
) -> None:
    proxy.on(with_header("upload-offset", value), "PATCH", nth=2, times=2)
    await finish(store, original, FakeErrand(), tus)
    assert proxy.sent_bytes("PATCH") == SIZE


@pytest.mark.parametrize(
    "location",
    [None, "", "http://elsewhere/files/1", "//elsewhere/files/1", "http://u@127.0.0.1/x", "http://[", "http://[]@",
     "x" * 2000, "file:///etc/passwd", "\xff\xfe", "javascript:1"],
)  # fmt: skip
async def test_an_upload_address_elsewhere_gets_neither_footage_nor_token(
    store: TusStore, proxy: FaultProxy, original: Held, location: str | None
) -> None:
    errand = FakeErrand()
    proxy.on(with_header("location", location), "POST", times=None)
    with pytest.raises(StoreError) as caught:
        await store.put(original, errand)
    assert "relative addresses" in caught.value.do
    assert errand.notes == {}
    assert {one.method for one in proxy.exchanges} == {"OPTIONS", "POST"}


async def test_a_relative_address_is_fine(store: TusStore, proxy: FaultProxy, original: Held, tus: Service) -> None:
    def relative(answer: Answer) -> Answer:
        answer.headers["location"] = "files/" + answer.headers["location"].rpartition("/")[2]
        return answer

    proxy.on(Alter(relative), "POST")
    await finish(store, original, FakeErrand(), tus)


async def test_an_address_that_begins_with_two_slashes_stays_here(
    store: TusStore, proxy: FaultProxy, original: Held
) -> None:
    """As a path it would mean another host."""

    def doubled(answer: Answer) -> Answer:
        answer.headers["location"] = f"{proxy.endpoint}//files/{answer.headers['location'].rpartition('/')[2]}"
        return answer

    proxy.on(Alter(doubled), "POST")
    receipt = await store.put(original, FakeErrand())
    assert receipt.version.startswith("//files/")
    assert await store.check(receipt, read=True)


async def test_a_note_of_another_endpoint_begins_anew(store: TusStore, original: Held, tus: Service) -> None:
    await finish(store, original, FakeErrand(notes={"tus_upload": "http://elsewhere/files/1"}), tus)


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (Answer(204, {"tus-version": "0.2.2", "tus-extension": "creation"}), "tus 1.0.0"),
        (Answer(200, {}, b"<html>"), "tus 1.0.0"),
        (Answer(204, {"tus-version": "1.0.0", "tus-extension": "termination"}), "create"),
        (Answer(204, {"tus-version": "1.0.0,0.2.2", "tus-extension": "creation", "tus-max-size": "1000"}), "at most"),
        (Answer(204, {"tus-version": "1.0.0", "tus-extension": "creation", "tus-max-size": "lots"}), "at most"),
        (Answer(301, {"location": "http://elsewhere/"}), "301"),
    ],
)
async def test_what_can_not_take_it_is_found_out_before(
    store: TusStore, proxy: FaultProxy, original: Held, answer: Answer, word: str
) -> None:
    proxy.on(Replace(answer), "OPTIONS", times=None)
    with pytest.raises(StoreError) as caught:
        await store.put(original, FakeErrand())
    assert word in caught.value.what
    assert caught.value.do
    assert {one.method for one in proxy.exchanges} == {"OPTIONS"}


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (401, "token_file"),
        (403, "rights"),
        (413, "request_limit_bytes"),
        (507, "room"),
        (412, "endpoint"),
        (503, "service"),
        (302, "service"),
    ],
)
@pytest.mark.parametrize("method", ["POST", "PATCH", "HEAD"])
async def test_a_refusal_says_what_to_do(
    store: TusStore, proxy: FaultProxy, original: Held, method: str, status: int, word: str
) -> None:
    errand = FakeErrand()
    proxy.on(
        Replace(Answer(status, {"content-type": "text/plain"}, b"\x1b[31mno\r\n" + b"x" * 5000)), method, times=None
    )
    with pytest.raises(StoreError) as caught:
        await store.put(original, errand)
    assert word in caught.value.do
    assert str(status) in caught.value.what
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert caught.value.retry
    proxy.clear()
    await store.put(original, errand)


async def test_a_service_that_is_away_is_told(proxy: FaultProxy, store: TusStore, original: Held) -> None:
    proxy.refusing = True
    with pytest.raises(StoreError) as caught:
        await store.put(original, FakeErrand())
    assert caught.value.retry
    with pytest.raises(StoreError):
        await store.look()


# The original itself.


@pytest.mark.parametrize("at", [0, LIMIT, SIZE - 1])
async def test_a_damaged_original_never_becomes_a_finished_upload(
    store: TusStore, original: Held, tus: Service, at: int
) -> None:
    with original.path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
    errand = FakeErrand()
    with pytest.raises(EvidenceError):
        await store.put(original, errand)
    assert tus.objects() == {}
    assert tus.under_way().stat().st_size < SIZE


async def test_damage_before_the_place_where_it_goes_on_is_noticed(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service
) -> None:
    errand = FakeErrand()
    await send_half(store, proxy, original, errand)
    with original.path.open("r+b") as file:
        file.write(b"damage")
    with pytest.raises(EvidenceError):
        await store.put(original, errand)
    assert tus.objects() == {}
    assert tus.under_way().stat().st_size < SIZE


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_is_given_up_or_sent_again_there_is_no_false_alarm(original: Held, seed: int) -> None:
    """Bodies that stop anywhere, even such that go on while the next one is made, and offsets that go back."""
    luck = random.Random(seed)
    with Source(original) as source:
        reading = _Reading(source, original, FakeErrand())
        left: list[AsyncIterator[bytes]] = []
        for _ in range(20):
            offset = luck.randrange(SIZE)
            await reading.go_to(offset)
            body = reading.body(offset, luck.randint(offset + 1, SIZE))()
            left.append(body)
            for late in luck.sample(left, min(3, len(left))):
                async for _piece in late:
                    if luck.random() < 0.5:
                        break
        await reading.go_to(0)
        sent = [piece async for piece in reading.body(0, SIZE)()]
    assert b"".join(sent) == original.path.read_bytes()


async def test_a_request_that_was_given_up_spoils_no_hash(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service
) -> None:
    """It may still be reading while the next one goes on."""
    proxy.on(Cut(LIMIT - 1, Side.UP), "PATCH", nth=2, times=3)
    proxy.on(Stall(LIMIT // 2), "PATCH", nth=8)
    await finish(store, original, FakeErrand(), tus)


# Token and encryption.


async def test_a_wrong_token_is_told_and_a_mended_one_needs_no_restart(
    tus_server: TusServer, vault: Path, tmp_path: Path, original: Held, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    file = tmp_path / "token"
    file.touch(0o600)
    file.write_text("wrong-token\n")
    errand = FakeErrand()
    with TusServer(tmp_path / "guarded", token="right-token") as server:
        tus = Service(server)
        async with opened(tus.endpoint, vault, token_file=str(file)) as store:
            with pytest.raises(StoreError) as caught:
                await store.put(original, errand)
            assert caught.value.retry
            assert "token_file" in caught.value.do
            assert "wrong-token" not in str(caught.value)
            file.write_text("right-token\n")
            await finish(store, original, errand, tus)
            file.chmod(0o604)
            with pytest.raises(StoreError, match="everybody"):
                await store.look()
    assert "-token" not in caplog.text
    assert "-token" not in str(errand.notes)


async def test_with_tls_and_a_client_certificate(
    tus: Service, fault_proxy: Callable[..., FaultProxy], certificates: Certificates, vault: Path, original: Held
) -> None:
    proxy = fault_proxy(tus.port, tls=True, mutual=True)

    def https(answer: Answer) -> Answer:
        answer.headers["location"] = answer.headers["location"].replace("http:", "https:")
        return answer

    proxy.on(Alter(https), "POST", times=None)
    shown = {"ca_file": str(certificates.ca_file), "client_certificate": str(certificates.client_file)}
    async with opened(proxy.endpoint, vault, **shown) as store:
        await finish(store, original, FakeErrand(), tus)
        assert {trait.name: trait.good for trait in await store.survey()}["connection"]
    async with opened(proxy.endpoint, vault, ca_file=str(certificates.ca_file)) as store:
        with pytest.raises(StoreError):
            await store.look()


# A full disk there.


@pytest.mark.root
async def test_a_service_whose_disk_is_full_is_told_and_goes_on_when_there_is_room(
    tus_server: TusServer, tmp_path: Path, vault: Path, original: Held
) -> None:
    errand = FakeErrand()
    with tmpfs(tmp_path / "disk", SIZE + 2 * MIB) as disk, TusServer(disk / "uploads") as server:
        tus = Service(server)
        filler = disk / "somebody-elses-file"
        filler.write_bytes(bytes(2 * MIB + LIMIT))
        async with opened(tus.endpoint, vault) as store:
            with pytest.raises(StoreError) as caught:
                await store.put(original, errand)
            assert caught.value.retry
            assert tus.objects() == {}
            filler.unlink()
            await finish(store, original, errand, tus)


# Proving it again.


async def test_checking_reads_back_only_when_asked(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    receipt = await store.put(original, FakeErrand())
    assert not await store.check(receipt, read=False)
    assert proxy.requests("GET") == []
    assert await store.check(receipt, read=True)
    assert len(proxy.requests("GET")) == 1


@pytest.mark.parametrize("status", [404, 410])
async def test_what_is_gone_is_evidence_trouble(
    store: TusStore, proxy: FaultProxy, original: Held, status: int
) -> None:
    receipt = await store.put(original, FakeErrand())
    proxy.on(Replace(Answer(status, {"tus-resumable": "1.0.0"})), "HEAD")
    with pytest.raises(EvidenceError, match="no longer there"):
        await store.check(receipt, read=False)


@pytest.mark.parametrize("status", [404, 410, 200])
async def test_what_a_gateway_says_while_the_service_is_away_makes_nothing_look_lost(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service, status: int
) -> None:
    """Neither what is stored nor what is under way: answers of the service itself bear its protocol's header."""
    receipt = await store.put(original, FakeErrand())
    proxy.on(Replace(Answer(status)), "HEAD")
    with pytest.raises(StoreError, match="not as a server that speaks tus"):
        await store.check(receipt, read=False)
    assert await store.check(receipt, read=True)


async def test_an_upload_goes_on_behind_a_gateway_that_said_it_was_gone(
    store: TusStore, proxy: FaultProxy, original: Held, tus: Service
) -> None:
    errand = FakeErrand()
    await send_half(store, proxy, original, errand)
    proxy.on(Replace(Answer(404)), "HEAD")
    await finish(store, original, errand, tus)
    assert uploads(proxy) == 1


@pytest.mark.parametrize("name", ["upload-offset", "upload-length"])
@pytest.mark.parametrize("value", [*BAD_NUMBERS, "5", None])
async def test_what_became_another_size_is_evidence_trouble(
    store: TusStore, proxy: FaultProxy, original: Held, name: str, value: str | None
) -> None:
    receipt = await store.put(original, FakeErrand())
    proxy.on(with_header(name, value), "HEAD")
    with pytest.raises(EvidenceError):
        await store.check(receipt, read=False)


async def test_another_digest_is_evidence_trouble(store: TusStore, proxy: FaultProxy, original: Held) -> None:
    receipt = await store.put(original, FakeErrand())
    proxy.on(with_header("repr-digest", digest_of(b"other")), "HEAD")
    with pytest.raises(EvidenceError, match="SHA-256"):
        await store.check(receipt, read=False)


@pytest.mark.parametrize("status", [403, 404])
async def test_what_may_no_longer_be_read_back_is_not_called_lost(
    store: TusStore, proxy: FaultProxy, original: Held, status: int, tmp_path: Path
) -> None:
    """Rights may change; a receipt that stands on reading back then can't be proven, and a person is told."""
    told = await store.put(original, FakeErrand())
    for method in ("PATCH", "HEAD"):
        proxy.on(with_header("repr-digest", None), method, times=None)
    read = await store.put(original, FakeErrand())
    proxy.on(Replace(Answer(status)), "GET", times=None)
    assert not await store.check(told, read=True)
    with pytest.raises(StoreError, match="no longer lets us read back") as caught:
        await store.check(read, read=True)
    assert not caught.value.retry
    with pytest.raises(StoreError, match="does not let this station read"):
        await store.fetch(read, tmp_path / "back.part")


async def test_a_service_that_is_away_or_fails_says_nothing_about_evidence(
    store: TusStore, proxy: FaultProxy, original: Held, tmp_path: Path
) -> None:
    receipt = await store.put(original, FakeErrand())
    for fault in (Replace(Answer(500)), Replace(Answer(401)), Cut(0)):
        proxy.on(fault, "HEAD", times=None)
        with pytest.raises(StoreError):
            await store.check(receipt, read=True)
        proxy.clear()
    proxy.on(Cut(1000, Side.DOWN), "GET", times=None)
    with pytest.raises(StoreError):
        await store.check(receipt, read=True)
    with pytest.raises(StoreError):
        await store.fetch(receipt, tmp_path / "back.part")


@pytest.mark.parametrize(
    "change", [{"store": "another"}, {"object": "originals/00/00"}, {"version": "http://elsewhere/files/1"}]
)
async def test_a_receipt_of_another_store_is_refused(store: TusStore, original: Held, change: dict[str, str]) -> None:
    receipt = await store.put(original, FakeErrand())
    with pytest.raises(StoreError) as caught:
        await store.check(replace(receipt, **change), read=False)  # type: ignore[arg-type]
    assert not caught.value.retry, "an audit must go on with the next"


# What the service can do.


async def traits(store: TusStore) -> dict[str, bool | None]:
    found = await store.survey()
    assert all(trait.what for trait in found)
    assert all(trait.do for trait in found if trait.good is False)
    return {trait.name: trait.good for trait in found}


async def test_a_survey_tells_what_was_tried(proxy: FaultProxy, vault: Path, tus: Service) -> None:
    store = TusStore("s", {"endpoint": f"{proxy.endpoint}/files"}, vault_root=vault)
    assert await traits(store) == {
        "protocol": True, "connection": False, "clock": True, "lock": None, "digest": True, "reading back": True,
        "speed": None, "removal": True,
    }  # fmt: skip
    await store.close()
    assert tus.objects() == {}
    assert len(list(tus.server.kept.glob("probes/*/*"))) == 1
    [post], [removal] = proxy.requests("POST"), proxy.requests("DELETE")
    probe = tus.under_way().name
    assert removal.target == f"/files/{probe}"
    assert base64.b64encode(b"probes/")[:8].decode() in post.headers["upload-metadata"]


async def test_a_survey_finds_what_is_wrong(store: TusStore, proxy: FaultProxy, tus: Service) -> None:
    tus.restart(Misbehaviour.NO_DIGEST, Misbehaviour.NO_GET)
    proxy.on(Replace(Answer(204)), "DELETE", times=None)
    proxy.on(shift_date(timedelta(hours=1)), "OPTIONS")
    found = await traits(store)
    assert (found["digest"], found["reading back"], found["clock"]) == (None, False, False)
    assert "removal" not in found, "what was not proven to be our probe is not touched"
    tus.restart(Misbehaviour.NO_DIGEST)
    assert not (await traits(store))["removal"]
    tus.restart(Misbehaviour.NO_DIGEST, Misbehaviour.FLIP_LATE)
    assert not (await traits(store))["reading back"]
    tus.restart(Misbehaviour.FLIP_EARLY)
    assert (await traits(store))["probe"] is False


async def test_a_survey_of_a_service_that_is_away_says_so(store: TusStore, proxy: FaultProxy) -> None:
    proxy.refusing = True
    with pytest.raises(StoreError):
        await store.survey()


async def test_looking_changes_nothing(store: TusStore, proxy: FaultProxy, tus: Service) -> None:
    await store.look()
    assert [one.method for one in proxy.exchanges] == ["OPTIONS"]
    assert tus.server.uploads() == []


# With the rest of the agent.


async def test_the_lane_stores_and_proves_again_through_a_fault_and_a_new_process(
    proxy: FaultProxy, tmp_path: Path, vault: Path, tus: Service, clock: SettableClock
) -> None:
    """What is noted on the way and the receipt go through the real journal."""
    footage = os.urandom(SIZE)
    async with (
        opened(proxy.endpoint, vault) as store,
        stations.opened(tmp_path / "root", clock, store=store) as station,
    ):
        await stations.dock(station, FakeRecorder({"/DCIM/0001.MP4": footage}, station.vault.staging_dir))
        proxy.on(Cut(0), "PATCH", nth=3, times=None)
        lane = StoreLane(station)
        delivery = await lane.take()
        await lane.store(delivery)
        lane.give_back(delivery)
        assert "127.0.0.1" in lane.error
    proxy.clear()
    async with (
        opened(proxy.endpoint, vault) as store,
        stations.opened(tmp_path / "root", clock, store=store) as station,
    ):
        await stored(station)
        asset = station.journal.reader.asset(delivery.asset.asset_id)
        assert asset is not None
        assert asset.receipt is not None
        assert await store.check(asset.receipt, read=True)
    assert list(tus.objects().values()) == [footage]
    assert uploads(proxy) == 1
    assert proxy.sent_bytes("PATCH") == SIZE
