"""On real stores: what is more urgent waits for one part of what is under way, and nothing is sent twice for it."""

from __future__ import annotations

import asyncio
import json
import os
import select
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agent.model import Held
from agent.uploader import directory_worker
from agent.uploader.base import Store
from agent.uploader.tus import TusStore
from simulator.stores.proxy import FaultProxy
from tests.buckets import MIB, Bucket
from tests.fakes import FakeErrand
from tests.shares import OwnProcessStore, made
from tests.store_conformance import held

if TYPE_CHECKING:
    from simulator.stores.ceph import Ceph
    from simulator.stores.tus import TusServer

SOON = datetime(2026, 11, 23, tzinfo=UTC)
LATER = SOON + timedelta(days=1)


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    return tmp_path / "vault"


class Watched(FakeErrand):
    """An errand that tells when it moves."""

    def __init__(self, due_at: datetime, log: list[str], name: str) -> None:
        super().__init__(due_at)
        self.log, self.name = log, name
        self.moved = asyncio.Event()

    def sent(self, done_bytes: int) -> None:
        self.log.append(self.name)
        if done_bytes:
            self.moved.set()


async def overtaken(store: Store, large: Held, urgent: Held) -> list[str]:
    """Put a large original, and one that is more urgent once it moves; returns who moved when."""
    log: list[str] = []
    slow, fast = Watched(LATER, log, "large"), Watched(SOON, log, "urgent")
    async with asyncio.TaskGroup() as group:
        first = group.create_task(store.put(large, slow))
        await slow.moved.wait()
        await group.create_task(store.put(urgent, fast))
        assert not first.done(), "else there was nothing to overtake"
    return log


def runs(names: list[str]) -> list[str]:
    """Each name as often as it comes anew."""
    return [name for at, name in enumerate(names) if at == 0 or names[at - 1] != name]


async def test_parts_to_a_bucket(
    ceph: Ceph, vault: Path, tmp_path: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    """Two parts at a time, slowly: once the first part of the urgent one goes, none of the other begins before its
    last.
    """
    proxy, bucket = fault_proxy(ceph.port), Bucket(ceph, tmp_path)
    large, urgent = held(vault, os.urandom(56 * MIB)), held(vault, os.urandom(32 * MIB), "b")
    async with bucket.store(proxy.endpoint, parallel_parts=2, rate_limit_bytes_s=30_000_000) as store:
        await overtaken(store, large, urgent)
    parts = [urgent.digests.blake3 in one.target for one in proxy.requests("PUT", "partNumber")]
    first, last = parts.index(True), len(parts) - parts[::-1].index(True)
    assert parts[first:last] == [True] * 4
    assert first < 7, "the large one was under way"
    assert parts.count(False) == 7, "each of its parts went once"
    assert len(bucket.versions()) == 2


async def test_requests_to_a_collecting_service(
    tus_server: TusServer, vault: Path, fault_proxy: Callable[..., FaultProxy]
) -> None:
    proxy = fault_proxy(tus_server.port)
    large, urgent = held(vault, os.urandom(24 * MIB)), held(vault, os.urandom(17 * MIB), "b")
    options = {"endpoint": f"{proxy.endpoint}/files", "request_limit_bytes": MIB, "rate_limit_bytes_s": 40_000_000}
    store = TusStore("s", options, vault_root=vault)
    try:
        await overtaken(store, large, urgent)
    finally:
        await store.close()
    sent = proxy.requests("PATCH")
    order = runs([one.target for one in sent])
    assert len(order) == 3
    assert order[0] == order[2], "the large one goes on where it was"
    assert len(sent) == 24 + 17
    assert sum(one.sent_bytes for one in sent) == large.size_bytes + urgent.size_bytes, "no byte went twice"


async def test_a_copy_to_a_folder(tmp_path: Path, vault: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory_worker, "_TELL_EACH_S", 0)
    place = made(tmp_path / "store")
    large, urgent = held(vault, os.urandom(48 * MIB)), held(vault, os.urandom(20 * MIB), "b")
    store = OwnProcessStore("s", {"path": str(place)}, vault_root=vault)
    try:
        log = await overtaken(store, large, urgent)
    finally:
        await store.close()
    assert runs(log) == ["large", "urgent", "large"]
    assert sorted(path.stat().st_size for path in place.glob("originals/*/*")) == [20 * MIB, 48 * MIB]


@pytest.mark.parametrize("ending", ["goes on", "parent gone"])
def test_the_helper_of_a_folder_stands_still_until_it_may_go_on(tmp_path: Path, vault: Path, ending: str) -> None:
    """After a line of progress it waits, as long as it takes; if nobody is left to tell it to go on, it ends."""
    place, original = made(tmp_path / "store"), held(vault, os.urandom(3 * MIB))
    told = {
        "path": str(original.path),
        "key": original.key,
        "size": original.size_bytes,
        "blake3": original.digests.blake3,
    }
    request = {"number": 1, "put": told | {"sha256": original.digests.sha256}, "prepare": True}
    code = "import sys, agent.uploader.directory_worker as w; w._TELL_EACH_S = 0; sys.exit(w.main(sys.argv[1:]))"
    command = [sys.executable, "-I", "-c", code, str(place), str(vault), "s", "plain"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as helper:
        assert helper.stdin is not None
        assert helper.stdout is not None
        helper.stdin.write(json.dumps(request).encode() + b"\n")
        line = json.loads(helper.stdout.readline())
        while "found" not in line:
            assert not select.select([helper.stdout], [], [], 0.05)[0], "it did not wait"
            assert not list(place.glob("originals/*/*"))
            if ending == "parent gone":
                helper.stdin.close()
                assert helper.wait(timeout=20) == 0
                return
            helper.stdin.write(b'{"go": true}\n')
            line = json.loads(helper.stdout.readline())
        assert line["found"]["size"] == original.size_bytes
