"""The directory store's helper processes: a share may hang, fail or vanish, and a helper may die or lie."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from agent.child import Child
from agent.errors import EvidenceError, StoreError
from agent.model import Held
from agent.uploader import directory
from agent.uploader.base import original_key
from agent.uploader.directory import DirectoryStore
from agent.uploader.directory_errors import MARKER
from tests.disks import MIB, ext4, faulty_share, loop, mounted, run, tmpfs
from tests.fakes import FakeErrand
from tests.shares import made
from tests.store_conformance import held

STALL_S = 2.0
REAP_S = 0.5
LIMIT_S = 30.0
Open = Callable[..., DirectoryStore]


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    return tmp_path / "vault"


@pytest.fixture
async def open_store(vault: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Open]:
    """Opens stores that are closed at the end; a helper that can't be reaped is left behind sooner than in service."""
    monkeypatch.setattr("agent.child._REAP_LIMIT_S", REAP_S)
    opened: list[DirectoryStore] = []

    def opens(path: Path, name: str = "s", **options: object) -> DirectoryStore:
        opened.append(DirectoryStore(name, {"path": str(path), "stall_limit_s": STALL_S} | options, vault_root=vault))
        return opened[-1]

    yield opens
    async with asyncio.timeout(LIMIT_S):
        for store in opened:
            await store.close()
            while store._pool.abandoned():
                await asyncio.sleep(0.01)


def objects_in(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place / "originals").glob("??/*")}


def left_in(place: Path) -> list[str]:
    return [path.name for path in place.glob(".incoming-*")]


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not true():
            await asyncio.sleep(0.002)


def pids(store: DirectoryStore) -> list[int]:
    return [child.pid for child in store._pool._idle]


# One helper after the other.


async def test_a_helper_is_used_again_and_only_as_many_as_work_at_once(
    tmp_path: Path, vault: Path, open_store: Open
) -> None:
    store = open_store(made(tmp_path / "store"))
    assert pids(store) == [], "nothing is started before there is something to do"
    for number in range(4):
        await store.put(held(vault, bytes([number])), FakeErrand())
    assert len(first := pids(store)) == 1
    await asyncio.gather(*(store.put(held(vault, bytes([7, n])), FakeErrand()) for n in range(3)))
    assert len(pids(store)) == 3
    assert set(first) < set(pids(store))


async def test_a_helper_that_died_while_idle_is_replaced(tmp_path: Path, vault: Path, open_store: Open) -> None:
    store = open_store(made(tmp_path / "store"))
    await store.look()
    (pid,) = pids(store)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: store._pool._idle[0].ended)
    await store.put(held(vault, b"footage"), FakeErrand())
    assert pids(store) != [pid]


def test_a_helper_ends_with_its_parent(tmp_path: Path, vault: Path) -> None:
    made(tmp_path / "store")
    command = [sys.executable, "-I", "-m", "agent.uploader.directory_worker"]
    arguments = [str(tmp_path / "store"), str(vault), "s", "plain"]
    request = json.dumps({"number": 3, "look": True}) + "\n"
    done = subprocess.run([*command, *arguments], input=request, capture_output=True, text=True, check=True, timeout=30)
    assert json.loads(done.stdout) == {"number": 3, "there": True}
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as nobody:
        gone = subprocess.run([*command, *arguments], input=request.encode(), stdout=nobody, check=False, timeout=30)
    assert gone.returncode == 0


async def test_progress_is_told(tmp_path: Path, vault: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = FakeErrand()
    told: list[int] = []
    monkeypatch.setattr(FakeErrand, "sent", lambda _, done: told.append(done))
    _start(monkeypatch, "odd progress")
    await open_store(made(tmp_path / "store"), "odd progress").put(held(vault, b"footage"), slow)
    assert told == [0, 7], "never more than there is"


# Killed, and cancelled.


async def test_killed_at_random_moments_a_helper_leaves_a_whole_object_or_none(
    tmp_path: Path, vault: Path, open_store: Open
) -> None:
    place = made(tmp_path / "store")
    store = open_store(place, stall_limit_s=20)
    dice = random.Random(7)
    content = os.urandom(6 * MIB)
    original = held(vault, content)
    cut = 0
    for _ in range(25):
        await store.look()
        (pid,) = pids(store)
        task = asyncio.create_task(store.put(original, FakeErrand()))
        await asyncio.sleep(dice.random() * 0.05)
        os.kill(pid, signal.SIGKILL)
        (result,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(result, StoreError):
            assert result.retry
            cut += 1
        await until(lambda: all(child.ended for child in store._pool._idle))
        assert objects_in(place) in ({}, {original.path.name: content})
    assert cut
    await store.put(original, FakeErrand())
    assert objects_in(place) == {original.path.name: content}
    assert left_in(place) == []
    assert (place / original_key(original.digests)).stat().st_mode & 0o777 == 0o440


async def test_a_cancelled_copy_is_removed_by_the_next(tmp_path: Path, vault: Path, open_store: Open) -> None:
    place = made(tmp_path / "store")
    store = open_store(place)
    big = held(vault, os.urandom(64 * MIB))
    task = asyncio.create_task(store.put(big, FakeErrand()))
    await until(lambda: left_in(place))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert objects_in(place) == {}
    assert pids(store) == [], "its helper is gone"
    await store.put(held(vault, b"small"), FakeErrand())
    assert left_in(place) == []
    assert set(objects_in(place).values()) == {b"small"}


# A share that hangs.


@pytest.mark.root
async def test_a_share_that_hangs_is_an_error_in_time_and_the_rest_goes_on(
    tmp_path: Path, vault: Path, open_store: Open
) -> None:
    """A thread would hang for ever, and the end of the service with it."""
    behind = made(tmp_path / "behind")
    with faulty_share(behind, tmp_path / "share") as share:
        store = open_store(share.path)
        await store.put(held(vault, b"first"), FakeErrand())
        for operation in ("getattr", "create", "write", "fsync"):
            share.fail(hang=[operation])
            original = held(vault, operation.encode() * 1000)
            turns, began = 0, time.monotonic()
            task = asyncio.create_task(store.put(original, FakeErrand()))
            while not task.done():
                await asyncio.sleep(0.01)
                turns += 1
            with pytest.raises(StoreError, match="no answer for 2 s") as caught:
                await task
            assert caught.value.retry
            assert turns > 50, "nothing else was held up"
            assert time.monotonic() - began < LIMIT_S
            share.fail()
            await until(lambda: not store._pool.abandoned())
            await store.put(original, FakeErrand())
        # What the share did only after the helper had been given up is removed by the next service.
        await open_store(share.path).put(held(vault, b"last"), FakeErrand())
        assert left_in(behind) == []
        assert len(objects_in(behind)) == 6


@pytest.mark.root
async def test_not_more_helpers_hang_than_a_few(
    tmp_path: Path, vault: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "_MAX_ABANDONED", 3)
    with faulty_share(made(tmp_path / "behind"), tmp_path / "share") as share:
        store = open_store(share.path)
        share.fail(hang=["write"])
        originals = [held(vault, bytes([number]) * 9) for number in range(5)]
        puts = (store.put(original, FakeErrand()) for original in originals[:3])
        failed = await asyncio.gather(*puts, return_exceptions=True)
        assert all(isinstance(error, StoreError) for error in failed)
        assert len(store._pool.abandoned()) == 3
        with pytest.raises(StoreError, match="3 processes hang in it already") as caught:
            await store.put(originals[3], FakeErrand())
        assert caught.value.retry
        share.fail()
        await until(lambda: not store._pool.abandoned())
        await store.put(originals[4], FakeErrand())


# A share that fails.


@pytest.mark.root
@pytest.mark.parametrize(
    ("operation", "code", "words"),
    [
        ("write", errno.EDQUOT, "quota"), ("write", errno.ENOSPC, "full"), ("fsync", errno.EIO, "reading or writing"),
        ("create", errno.EROFS, "only be read"), ("create", errno.EACCES, "no right"), ("link", errno.EXDEV, "another"),
        ("getattr", errno.ESTALE, "no longer knows"), ("mkdir", errno.ESTALE, "no longer knows"),
        ("read", errno.EIO, "reading or writing"), ("statfs", errno.ETIMEDOUT, "does not answer"),
    ],
)  # fmt: skip
async def test_what_a_share_refuses_is_said_in_words_and_leaves_nothing(
    tmp_path: Path, vault: Path, open_store: Open, operation: str, code: int, words: str
) -> None:
    behind = made(tmp_path / "behind")
    with faulty_share(behind, tmp_path / "share") as share:
        store = open_store(share.path, stall_limit_s=30)
        original = held(vault, os.urandom(100_000))
        share.fail(**{operation: code})
        with pytest.raises(StoreError, match=words) as caught:
            await store.put(original, FakeErrand())
        assert caught.value.retry
        assert caught.value.do
        assert "safe" in caught.value.safe
        assert objects_in(behind) == {}
        assert left_in(behind) == []
        share.fail()
        await store.check(await store.put(original, FakeErrand()), read=True)


@pytest.mark.root
async def test_a_share_says_that_it_knows_no_naming_without_a_link(tmp_path: Path, open_store: Open) -> None:
    with faulty_share(made(tmp_path / "behind"), tmp_path / "share") as share:
        traits = {trait.name: trait for trait in await open_store(share.path, stall_limit_s=30).survey()}
        assert "RENAME_NOREPLACE" in traits["names"].what
        assert traits["names"].good
        assert traits["filesystem"].what.startswith("fuse")
        share.fail(link=errno.EPERM)
        traits = {trait.name: trait for trait in await open_store(share.path, stall_limit_s=30).survey()}
        assert not traits["names"].good
        assert traits["names"].do
    assert os.listdir(tmp_path / "behind") == [MARKER]


@pytest.mark.root
async def test_a_disk_that_may_only_be_read_says_so(tmp_path: Path, vault: Path, open_store: Open) -> None:
    with tmpfs(tmp_path / "disk", 32 * MIB) as disk:
        store = open_store(made(disk))
        receipt = await store.put(held(vault, b"footage"), FakeErrand())
        run("mount", "-o", "remount,ro", disk)
        with pytest.raises(StoreError, match="only be read"):
            await store.put(held(vault, b"more"), FakeErrand())
        assert await store.check(receipt, read=True)


@pytest.mark.root
async def test_a_share_that_is_unmounted_in_the_middle_gets_the_whole_copy_or_none(
    tmp_path: Path, vault: Path, open_store: Open
) -> None:
    """The folder under it must not get a byte, although its path is the same."""
    mount, image = tmp_path / "disk", tmp_path / "disk.img"
    content = os.urandom(64 * MIB)
    original = held(vault, content)
    with ext4(mount, image, 160 * MIB):
        made(mount)
    with loop(image) as device:
        run("mount", device.path, mount)
        store = open_store(mount, stall_limit_s=60)
        task = asyncio.create_task(store.put(original, FakeErrand()))
        await until(lambda: left_in(mount))
        run("umount", "-l", mount)
        await asyncio.wait([task])
        assert os.listdir(mount) == []
        with pytest.raises(StoreError, match="empty mount point"):
            await store.put(original, FakeErrand())
        assert os.listdir(mount) == []
    with loop(image) as device, mounted(mount, device.path):
        assert task.exception() is None, "it was open already, and went on where it belonged"
        assert objects_in(mount) == {original.path.name: content}


# A helper that lies.


def _start(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Let the hostile one be started instead of the real one; it takes the store's name for what to do."""

    async def start(_: str, arguments: Sequence[str], *, stall_limit_s: float) -> Child:
        assert how in arguments
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("hostile_worker.py")), *arguments,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        return Child(process, stall_limit_s)

    monkeypatch.setattr(directory.Child, "start", start)


LIES = (
    "another number", "size", "blake3", "sha256", "object", "not read", "nothing", "more", "a list", "another error",
    "an unknown error", "dies", "ends", "says nothing", "no json", "a long line", "the original is damaged",
)  # fmt: skip


@pytest.mark.parametrize("how", LIES)
async def test_no_receipt_is_made_of_what_is_not_proven(
    tmp_path: Path, vault: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    _start(monkeypatch, how)
    store = open_store(made(tmp_path / "store"), how)
    with pytest.raises(StoreError) as caught:
        await store.put(held(vault, b"footage"), FakeErrand())
    assert caught.value.retry
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("how", ["size", "sha256", "not read", "nothing", "a list", "dies"])
async def test_nothing_is_confirmed_that_was_not_read(
    tmp_path: Path, vault: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    place = made(tmp_path / "store")
    receipt = await open_store(place, how).put(held(vault, b"footage"), FakeErrand())
    _start(monkeypatch, how)
    with pytest.raises(StoreError):
        await open_store(place, how).check(receipt, read=True)


async def test_an_answer_too_many_is_not_taken_for_the_next_ones(
    tmp_path: Path, vault: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    _start(monkeypatch, "says it twice")
    store = open_store(made(tmp_path / "store"), "says it twice")
    original = held(vault, b"footage")
    await store.put(original, FakeErrand())
    with pytest.raises(StoreError, match="not asked"):
        await store.put(original, FakeErrand())


@pytest.mark.parametrize("how", ["wrong traits", "nothing"])
async def test_traits_that_are_none_are_refused(
    tmp_path: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    _start(monkeypatch, how)
    with pytest.raises(StoreError):
        await open_store(made(tmp_path / "store"), how).survey()


async def test_an_original_that_is_damaged_is_believed_only_after_another_look(
    tmp_path: Path, vault: Path, open_store: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows is that the original here is put aside: no helper's word is enough for that."""
    original = held(vault, b"footage")
    _start(monkeypatch, "the original is damaged")
    store = open_store(made(tmp_path / "store"), "the original is damaged")
    with pytest.raises(StoreError, match="as it was"):
        await store.put(original, FakeErrand())
    original.path.write_bytes(b"Footage")
    with pytest.raises(EvidenceError, match="no longer what it was"):
        await store.put(Held("a", original.path, 7, original.digests, sealed=False), FakeErrand())
