"""The folder as a store: a receipt only for what its own medium gave back, and no evidence in the wrong place."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import agent.uploader.directory
from agent import durable
from agent.errors import AgentError, ConfigError, EvidenceError, StoreError
from agent.model import Held
from agent.uploader.base import Store
from agent.uploader.directory import DirectoryStore
from tests.conftest import is_immutable, unseal
from tests.disks import MIB, ext4, tmpfs
from tests.fakes import FakeErrand
from tests.store_conformance import StoreConformance, held

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def open_store(path: Path, tmp_path: Path, **options: object) -> DirectoryStore:
    return DirectoryStore(
        "专用存储器", {"path": str(path), **options}, vault_root=tmp_path / "vault", clock=lambda: NOW
    )


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    return tmp_path / "vault"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


class TestDirectoryStore(StoreConformance):
    """The suite every store must pass."""

    @pytest.fixture
    def store(self, tmp_path: Path, place: Path, vault: Path) -> DirectoryStore:
        return open_store(place, tmp_path)

    def objects(self, store: Store) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in _root(store).glob("*/*")}

    def damage(self, store: Store, blake3_hex: str) -> None:
        path = _root(store) / blake3_hex[:2] / blake3_hex
        path.chmod(0o600)
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])

    def lose(self, store: Store, blake3_hex: str) -> None:
        (_root(store) / blake3_hex[:2] / blake3_hex).unlink()


def _root(store: Store) -> Path:
    assert isinstance(store, DirectoryStore)
    return store._root


def test_the_configuration_finds_it_by_name() -> None:
    [point] = entry_points(group="capture_agent.stores", name="directory")
    assert point.load() is DirectoryStore


async def test_nothing_but_objects_is_left_in_the_store(place: Path, vault: Path, tmp_path: Path) -> None:
    """`<first two hex>/<blake3>`, read-only, and nothing else."""
    store = open_store(place, tmp_path)
    original = held(vault, b"footage")
    receipt = await store.put(original, FakeErrand())
    found = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    assert found == [receipt.object] == [f"{original.path.name[:2]}/{original.path.name}"]
    assert (place / receipt.object).stat().st_mode & 0o777 == 0o440
    assert (receipt.store, receipt.confirmed_at) == ("专用存储器", NOW)


# The right place.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"path": "relative"}, "absolute"),
        ({"path": 5}, "absolute"),
        ({"seal": "yes"}, "true or false"),
        ({"seel": True}, "seel"),
        ({"require_mount": "relative"}, "absolute"),
        ({"require_mount": "/proc"}, "does not lie on"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused_with_the_option(
    place: Path, tmp_path: Path, options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        DirectoryStore("s", {"path": str(place), **options}, vault_root=tmp_path / "vault")
    assert str(caught.value).startswith("store.options.")


async def test_without_a_path_it_is_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent.uploader.directory, "_DEFAULT_PATH", str(tmp_path / "evidence"))
    store = DirectoryStore("s", {}, vault_root=tmp_path / "vault")
    with pytest.raises(StoreError, match=r"evidence is missing"):
        await store.look()
    (tmp_path / "evidence").touch()
    with pytest.raises(StoreError, match=r"evidence is no folder"):
        await store.look()
    (tmp_path / "evidence").unlink()
    (tmp_path / "evidence").mkdir()
    await store.look()


async def test_a_share_that_comes_after_the_start_is_waited_for(place: Path, vault: Path, tmp_path: Path) -> None:
    """Pulling must go on meanwhile: a folder that is not there yet is no mistake of the configuration."""
    place.rmdir()
    store = open_store(place, tmp_path, seal=False)
    with pytest.raises(StoreError, match="is missing") as caught:
        await store.put(held(vault, b"footage"), FakeErrand())
    assert caught.value.retry
    assert not place.exists()
    place.mkdir()
    await store.check(await store.put(held(vault, b"footage"), FakeErrand()), read=True)


async def test_only_putting_changes_anything_in_the_store(place: Path, vault: Path, tmp_path: Path) -> None:
    """`config check` and `verify` are run while another process stores: they leave its copies under way alone."""
    receipt = await open_store(place, tmp_path).put(held(vault, b"footage"), FakeErrand())
    left = place / ".incoming-left"
    left.touch()
    store = open_store(place, tmp_path)
    await store.look()
    await store.check(receipt, read=True)
    assert left.exists()
    await store.put(held(vault, b"other"), FakeErrand())
    assert not left.exists()


@pytest.mark.parametrize("inside", ["", "vault", "vault/deep", "../vault/link"])
def test_a_store_inside_the_vault_is_no_second_place(tmp_path: Path, vault: Path, inside: str) -> None:
    (vault / "vault" / "deep").mkdir(parents=True)
    (vault / "link").symlink_to(vault / "vault")
    with pytest.raises(ConfigError, match="inside"):
        open_store(vault / inside, tmp_path)


@pytest.mark.root
async def test_a_mount_point_without_its_disk_is_never_filled(tmp_path: Path, vault: Path) -> None:
    """An unmounted share looks like an empty folder: evidence must not land on the root disk, and waits instead."""
    mount = tmp_path / "mnt"
    mount.mkdir()
    (mount / "evidence").mkdir()
    store = open_store(mount / "evidence", tmp_path, require_mount=str(mount))
    original = held(vault, b"footage")
    for _ in range(2):
        with pytest.raises(StoreError, match="not mounted") as caught:
            await store.put(original, FakeErrand())
        assert caught.value.retry
        assert list((mount / "evidence").iterdir()) == []
        with tmpfs(mount, 64 * MIB):
            with pytest.raises(StoreError, match="is missing"):
                await store.put(original, FakeErrand())
            (mount / "evidence").mkdir()
            receipt = await store.put(original, FakeErrand())
        with pytest.raises(StoreError, match="not mounted"):
            await store.check(receipt, read=True)


async def test_a_folder_that_vanishes_is_missing_not_made_anew(place: Path, vault: Path, tmp_path: Path) -> None:
    store = open_store(place, tmp_path)
    place.rename(tmp_path / "elsewhere")
    with pytest.raises(StoreError) as caught:
        await store.put(held(vault, b"footage"), FakeErrand())
    assert caught.value.retry
    assert not place.exists()


# The medium.


@pytest.mark.root
async def test_a_receipt_means_written_to_and_read_from_the_stores_device(tmp_path: Path, vault: Path) -> None:
    """F2, for the store: its block device has counted the size as written and as read."""
    content = os.urandom(17 * MIB)
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 96 * MIB) as device:
        store = open_store(tmp_path / "disk", tmp_path)
        read_before, written_before = device.counters()
        await store.put(held(vault, content), FakeErrand())
        read, written = device.counters()
        assert read - read_before >= len(content)
        assert written - written_before >= len(content)


@pytest.mark.root
@pytest.mark.parametrize("moment", ["copying", "there already", "checking"])
async def test_a_store_whose_medium_changes_bytes_is_not_believed(
    tmp_path: Path, vault: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """F2: the store's page cache has the right bytes; only its medium hasn't."""
    content = os.urandom(256 * 1024)
    original = held(vault, content)
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 48 * MIB) as device:
        store = open_store(tmp_path / "disk", tmp_path)

        def spoil() -> None:
            at = device.image.read_bytes().find(content[8192:12288])
            with device.image.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), bytes([content[8192] ^ 1]), at)

        if moment == "copying":
            flush = durable.fsync_file

            def flush_badly(fd: int) -> None:
                flush(fd)
                spoil()

            monkeypatch.setattr(durable, "fsync_file", flush_badly)
            with pytest.raises(StoreError, match="give back"):
                await store.put(original, FakeErrand())
            assert [path for path in (tmp_path / "disk").rglob("*") if path.is_file()] == []
            return
        receipt = await store.put(original, FakeErrand())
        assert (tmp_path / "disk" / receipt.object).read_bytes() == content
        spoil()
        with pytest.raises(StoreError if moment == "there already" else EvidenceError):
            await (store.put(original, FakeErrand()) if moment == "there already" else store.check(receipt, read=True))


@pytest.mark.root
async def test_a_full_store_says_so_and_goes_on_when_there_is_room(
    tmp_path: Path, vault: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F21, F20: full is an error before the copy and in the middle of it; nothing half is left, nothing is removed."""
    with tmpfs(tmp_path / "disk", 64 * MIB) as disk:
        store = open_store(disk, tmp_path)
        kept = await store.put(held(vault, b"first"), FakeErrand())
        big = held(vault, os.urandom(60 * MIB))
        with pytest.raises(StoreError, match="full"):
            await store.put(big, FakeErrand())
        small = held(vault, os.urandom(30 * MIB))
        with monkeypatch.context() as patch:
            patch.setattr(durable, "start_writeback", lambda *_: fill(disk / "fill"))
            with pytest.raises(StoreError, match="No space"):
                await store.put(small, FakeErrand())
        assert [path.name for path in disk.rglob("*") if path.is_file()] == ["fill", kept.digests.blake3]
        fill(disk / "fill")
        await store.check(kept, read=True)
        assert (await store.put(held(vault, b"first"), FakeErrand())).digests == kept.digests, (
            "no room is needed to prove it"
        )
        (disk / "fill").unlink()
        await store.put(small, FakeErrand())
        await store.check(kept, read=True)


def fill(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.write_bytes(bytes(64 * MIB))


@pytest.mark.parametrize(
    ("effect", "code"),
    [
        ("fsync_file", errno.EIO), ("make_dir", errno.ENOSPC), ("rename_no_replace", errno.EROFS),
        ("fsync_dir", errno.EIO), ("start_writeback", errno.EDQUOT), ("make_read_only", errno.EPERM),
    ],
)  # fmt: skip
async def test_every_refused_effect_is_an_error_that_can_be_tried_again(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: str, code: int
) -> None:
    store = open_store(place, tmp_path)
    original = held(vault, os.urandom(17 * MIB))

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(durable, effect, refuse)
        with pytest.raises(StoreError, match=os.strerror(code)) as caught:
            await store.put(original, FakeErrand())
        assert caught.value.retry
    assert list(place.glob(".incoming-*")) == []
    await store.check(await store.put(original, FakeErrand()), read=True)


# Sealing.


@pytest.mark.root
async def test_a_sealed_object_withstands_root(place: Path, vault: Path, tmp_path: Path) -> None:
    store = open_store(place, tmp_path, seal=True)
    receipt = await store.put(held(vault, b"footage"), FakeErrand())
    with pytest.raises(PermissionError):
        (place / receipt.object).unlink()
    await store.put(held(vault, b"footage"), FakeErrand())


async def test_where_sealing_is_impossible_nothing_is_stored_until_the_option_is_corrected(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durable, "make_immutable", lambda _: False)
    store = open_store(place, tmp_path, seal=True)
    with pytest.raises(StoreError, match="immutable") as caught:
        await store.put(held(vault, b"footage"), FakeErrand())
    assert caught.value.retry
    assert list(place.iterdir()) == []


# Crashes.


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.root
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "effect", ["make_read_only", "fsync_file", "make_dir", "rename_no_replace", "make_immutable", "fsync_dir"]
)
def test_a_crash_around_any_effect_leaves_a_whole_object_or_none(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: str, after: bool
) -> None:
    original = held(vault, b"footage")
    store = open_store(place, tmp_path, seal=True)
    real: Callable[..., object] = getattr(durable, effect)

    def crash(*arguments: object) -> None:
        if after:
            real(*arguments)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(durable, effect, crash)
        patch.setattr(durable, "remove_part", lambda _: None)  # a dead process cleans nothing up
        with pytest.raises(Crash):
            store._put(original, threading.Event())
    found = [path.read_bytes() for path in place.glob("*/*")]
    assert found in ([], [b"footage"])
    receipt = open_store(place, tmp_path, seal=True)._put(original, threading.Event())
    assert list(place.glob(".incoming-*")) == [], "leftovers of the crash are gone"
    assert is_immutable(place / receipt.object)
    unseal(place)


async def test_a_copy_that_somebody_still_works_on_is_left_alone(place: Path, vault: Path, tmp_path: Path) -> None:
    """Two stations may share one store: only what nobody holds is a leftover."""
    busy, dead = place / ".incoming-busy", place / ".incoming-dead"
    dead.write_bytes(b"half")
    with busy.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        await open_store(place, tmp_path).put(held(vault, b"footage"), FakeErrand())
        assert busy.exists()
        assert not dead.exists()
    await open_store(place, tmp_path).put(held(vault, b"footage"), FakeErrand())
    assert not busy.exists()


async def test_other_files_in_the_folder_are_nobodys_business(place: Path, vault: Path, tmp_path: Path) -> None:
    (place / "README.txt").touch()
    (place / "x.part").touch()
    await open_store(place, tmp_path).put(held(vault, b"footage"), FakeErrand())
    assert sorted(path.name for path in place.iterdir() if path.is_file()) == ["README.txt", "x.part"]


# Cancelling.


@pytest.mark.parametrize("moment", ["_copy", "_publish", "_settle"])
async def test_cancelling_waits_until_nothing_half_is_left(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    store = open_store(place, tmp_path)
    original = held(vault, os.urandom(MIB))
    begun, go_on = threading.Event(), threading.Event()
    real: Callable[..., object] = getattr(DirectoryStore, moment)

    def slow(self: DirectoryStore, *arguments: object) -> object:
        begun.set()
        go_on.wait(10)
        return real(self, *arguments)

    monkeypatch.setattr(DirectoryStore, moment, slow)
    task = asyncio.create_task(store.put(original, FakeErrand()))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert list(place.glob(".incoming-*")) == []
    assert len(list(place.glob("*/*"))) == (moment == "_settle")


async def test_a_store_that_hangs_does_not_hold_up_the_end_for_ever(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent.uploader.directory, "_CANCEL_LIMIT_S", 0.01)
    store = open_store(place, tmp_path)
    hung, begun = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        begun.set()
        hung.wait(10)

    monkeypatch.setattr(durable, "fsync_file", hang)
    task = asyncio.create_task(store.put(held(vault, b"footage"), FakeErrand()))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hung.set()


async def test_errors_say_what_is_safe_and_what_to_do(place: Path, vault: Path, tmp_path: Path) -> None:
    store = open_store(place, tmp_path)
    original = held(vault, b"footage")
    place.rename(tmp_path / "elsewhere")
    original_gone = Held("a", vault / "none", 1, original.digests, sealed=False)
    for put in (original, original_gone):
        with pytest.raises(AgentError) as caught:
            await store.put(put, FakeErrand())
        assert caught.value.what
        assert caught.value.safe
        assert caught.value.do
