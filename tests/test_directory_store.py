"""The folder as a store: a receipt only for what its own medium gave back, and no evidence in the wrong place."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace

import pytest

from agent import durable
from agent.errors import AgentError, ConfigError, EvidenceError, StoreError
from agent.model import Held
from agent.uploader import directory_share
from agent.uploader.base import Store
from agent.uploader.directory import DirectoryStore
from agent.uploader.directory_errors import MARKER
from agent.uploader.directory_share import Settings, Share
from tests.conftest import is_immutable, unseal
from tests.disks import MIB, ext4, run, tmpfs
from tests.fakes import FakeErrand
from tests.shares import OwnProcessStore, made
from tests.store_conformance import StoreConformance, held

NOW = datetime(2026, 11, 23, 2, 0, tzinfo=UTC)


def open_store(path: Path, tmp_path: Path, **options: object) -> OwnProcessStore:
    """A store whose every effect happens in this process, where a test can get at it."""
    return OwnProcessStore(
        "专用存储器", {"path": str(path), **options}, vault_root=tmp_path / "vault", clock=lambda: NOW
    )


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    (tmp_path / "vault").mkdir()
    return tmp_path / "vault"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return made(tmp_path / "store")


def objects_in(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place / "originals").glob("??/*")}


def left_in(place: Path) -> list[Path]:
    return list(place.glob(".incoming-*"))


class TestDirectoryStore(StoreConformance):
    """The suite every store must pass, with real helper processes."""

    @pytest.fixture
    async def store(self, tmp_path: Path, place: Path, vault: Path) -> AsyncIterator[DirectoryStore]:
        store = DirectoryStore("s", {"path": str(place)}, vault_root=vault, clock=lambda: NOW)
        yield store
        await store.close()
        await store.close()

    @pytest.fixture(autouse=True)
    def _root(self, place: Path) -> None:
        self._place = place

    def objects(self, store: Store) -> dict[str, bytes]:
        return objects_in(self._place)

    def damage(self, store: Store, blake3_hex: str) -> None:
        path = self._object(blake3_hex)
        path.chmod(0o600)
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])

    def lose(self, store: Store, blake3_hex: str) -> None:
        self._object(blake3_hex).unlink()

    def _object(self, blake3_hex: str) -> Path:
        return self._place / "originals" / blake3_hex[:2] / blake3_hex


def test_the_configuration_finds_it_by_name() -> None:
    [point] = entry_points(group="capture_agent.stores", name="directory")
    assert point.load() is DirectoryStore


async def test_nothing_but_objects_is_left_in_the_store(place: Path, vault: Path, tmp_path: Path) -> None:
    """`originals/<first two hex>/<blake3>`, read-only, and nothing else."""
    store = open_store(place, tmp_path)
    original = held(vault, b"footage")
    receipt = await store.put(original, FakeErrand())
    found = [path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()]
    assert sorted(found) == [MARKER, receipt.object]
    assert receipt.object == f"originals/{original.path.name[:2]}/{original.path.name}"
    assert (place / receipt.object).stat().st_mode & 0o777 == 0o440
    assert (receipt.store, receipt.confirmed_at) == ("专用存储器", NOW)


# The right place.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"path": "relative"}, "absolute"),
        ({"path": 5}, "absolute"),
        ({"seal": "yes"}, "true or false"),
        ({"seel": True}, "did you mean store.options.seal"),
        ({"stall_limit_s": 0}, "1..3600"),
        ({"require_mount": "/mnt"}, "no such option"),
        ({"seal": 1, "path": ""}, "(?s)absolute.*true or false|true or false.*absolute"),
    ],
)
def test_a_place_that_makes_no_sense_is_refused_with_the_option(
    place: Path, tmp_path: Path, options: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint) as caught:
        DirectoryStore("s", {"path": str(place), **options}, vault_root=tmp_path / "vault")
    assert str(caught.value).startswith("store.options.")


def test_without_a_path_it_is_the_default_folder(tmp_path: Path) -> None:
    assert "/srv/evidence" in DirectoryStore("s", {}, vault_root=tmp_path / "vault")._pool._arguments


async def test_what_is_no_store_is_said_in_words(place: Path, tmp_path: Path) -> None:
    (place / MARKER).unlink()
    store = open_store(place, tmp_path)
    with pytest.raises(StoreError, match=f"no file {MARKER}.*touch {place}/{MARKER}") as caught:
        await store.look()
    assert caught.value.retry
    (place / MARKER).mkdir()
    with pytest.raises(StoreError, match=f"no file {MARKER}"):
        await store.look()
    (place / MARKER).rmdir()
    place.rmdir()
    with pytest.raises(StoreError, match=r"store is missing"):
        await store.look()
    place.touch()
    with pytest.raises(StoreError, match=r"store is no folder"):
        await store.look()
    place.unlink()
    made(place)
    await store.look()


async def test_a_share_that_comes_after_the_start_is_waited_for(place: Path, vault: Path, tmp_path: Path) -> None:
    """Pulling must go on meanwhile: a folder that is not there yet is no mistake of the configuration."""
    (place / MARKER).unlink()
    place.rmdir()
    store = open_store(place, tmp_path, seal=False)
    with pytest.raises(StoreError, match="is missing") as caught:
        await store.put(held(vault, b"footage"), FakeErrand())
    assert caught.value.retry
    assert not place.exists()
    made(place)
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


@pytest.mark.parametrize("inside", ["", "vault", "vault/deep"])
def test_a_store_inside_the_vault_is_no_second_place(tmp_path: Path, vault: Path, inside: str) -> None:
    with pytest.raises(ConfigError, match="inside"):
        open_store(vault / inside, tmp_path)


async def test_a_link_into_the_vault_is_no_second_place_either(tmp_path: Path, vault: Path) -> None:
    """Links are only followed by the helper: one on a share that hangs would hang whoever follows it."""
    made(vault / "deep")
    (tmp_path / "link").symlink_to(vault / "deep")
    with pytest.raises(StoreError, match="inside this station's own storage"):
        await open_store(tmp_path / "link", tmp_path).put(held(vault, b"footage"), FakeErrand())
    assert sorted(os.listdir(vault / "deep")) == [MARKER]


@pytest.mark.root
async def test_a_mount_point_without_its_disk_is_never_filled(tmp_path: Path, vault: Path) -> None:
    """An unmounted share looks like an empty folder: evidence must not land on the root disk, and waits instead."""
    mount = tmp_path / "mnt"
    mount.mkdir()
    store = open_store(mount, tmp_path)
    original = held(vault, b"footage")
    for _ in range(2):
        with pytest.raises(StoreError, match="empty mount point") as caught:
            await store.put(original, FakeErrand())
        assert caught.value.retry
        assert list(mount.iterdir()) == []
        with tmpfs(mount, 64 * MIB):
            with pytest.raises(StoreError, match="empty mount point"):
                await store.put(original, FakeErrand())
            assert list(mount.iterdir()) == []
            made(mount)
            receipt = await store.put(original, FakeErrand())
        with pytest.raises(StoreError, match="empty mount point"):
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
        store = open_store(made(tmp_path / "disk"), tmp_path)
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
        store = open_store(made(tmp_path / "disk"), tmp_path)

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
            assert objects_in(tmp_path / "disk") == {}
            assert left_in(tmp_path / "disk") == []
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
        store = open_store(made(disk), tmp_path)
        kept = await store.put(held(vault, b"first"), FakeErrand())
        big = held(vault, os.urandom(60 * MIB))
        with pytest.raises(StoreError, match="full"):
            await store.put(big, FakeErrand())
        small = held(vault, os.urandom(30 * MIB))
        with monkeypatch.context() as patch:
            patch.setattr(durable, "start_writeback", lambda *_: fill(disk / "fill"))
            with pytest.raises(StoreError, match="No space"):
                await store.put(small, FakeErrand())
        assert set(objects_in(disk)) == {kept.digests.blake3}
        assert left_in(disk) == []
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
        ("fsync_dir", errno.EIO), ("start_writeback", errno.EDQUOT), ("finish_writeback", errno.EIO),
        ("make_read_only", errno.EPERM),
        ("rename_no_replace", errno.EXDEV), ("make_dir", errno.ESTALE), ("fsync_file", errno.EACCES),
    ],
)  # fmt: skip
async def test_every_refused_effect_is_an_error_that_can_be_tried_again(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: str, code: int
) -> None:
    store = open_store(place, tmp_path)
    original = held(vault, os.urandom(33 * MIB))

    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(durable, effect, refuse)
        with pytest.raises(StoreError, match=os.strerror(code)) as caught:
            await store.put(original, FakeErrand())
        assert caught.value.retry
    assert caught.value.what != f"The store 专用存储器 did not take the original: {os.strerror(code)}."
    assert caught.value.do != "Have the storage checked."
    assert left_in(place) == []
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
    assert sorted(os.listdir(place)) == [MARKER]


# Crashes.


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.root
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "effect",
    ["make_read_only", "fsync_file", "make_dir", "rename_no_replace", "remove_part", "make_immutable", "fsync_dir"],
)
def test_a_crash_around_any_effect_leaves_a_whole_object_or_none(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, effect: str, after: bool
) -> None:
    original = held(vault, b"footage")
    settings = Settings("s", place, vault, seal=True)
    real: Callable[..., object] = getattr(durable, effect)

    def crash(*arguments: object) -> None:
        if after:
            real(*arguments)
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(durable, effect, crash)
        if effect != "remove_part":
            patch.setattr(durable, "remove_part", lambda _: None)  # a dead process cleans nothing up
        with pytest.raises(Crash):
            Share(settings, lambda _: None).put(original, prepare=True)
    assert objects_in(place) in ({}, {original.path.name: b"footage"})
    found = Share(settings, lambda _: None).put(original, prepare=True)
    assert found == (original.size_bytes, original.digests)
    assert left_in(place) == [], "leftovers of the crash are gone"
    assert is_immutable(place / "originals" / original.path.name[:2] / original.path.name)
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
    assert sorted(path.name for path in place.iterdir() if path.is_file()) == [MARKER, "README.txt", "x.part"]


# Words.


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


# What only some filesystems offer.


async def test_where_a_name_can_only_be_given_by_a_link_nothing_is_replaced_and_nothing_left(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS refuses RENAME_NOREPLACE; a crash between the two names leaves one inode with both."""

    def refuse(*_: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    libc = SimpleNamespace(
        **{name: getattr(durable._libc, name) for name in ("sync_file_range", "mmap", "munmap", "mincore")}
    )
    monkeypatch.setattr(durable, "_libc", SimpleNamespace(**vars(libc), renameat2=refuse))
    original = held(vault, b"footage")
    store = open_store(place, tmp_path)
    receipt = await store.put(original, FakeErrand())
    assert left_in(place) == []
    os.link(place / receipt.object, place / ".incoming-crashed")
    fresh = open_store(place, tmp_path)
    await fresh.put(original, FakeErrand())
    assert left_in(place) == []
    await fresh.check(receipt, read=True)


@pytest.mark.root
async def test_a_sealed_object_never_loses_its_seal_to_the_removal_of_a_leftover(
    place: Path, vault: Path, tmp_path: Path
) -> None:
    original = held(vault, b"footage")
    receipt = await open_store(place, tmp_path).put(original, FakeErrand())
    os.link(place / receipt.object, place / ".incoming-crashed")
    await open_store(place, tmp_path, seal=True).put(original, FakeErrand())
    assert left_in(place) == [], "it was removed before the object was sealed"
    assert is_immutable(place / receipt.object)
    unseal(place)
    os.link(place / receipt.object, place / ".incoming-crashed")
    assert durable.make_immutable(place / receipt.object)
    await open_store(place, tmp_path, seal=True).put(original, FakeErrand())
    assert is_immutable(place / receipt.object)


async def test_without_locks_nobody_elses_copy_is_removed(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(directory_share.fcntl, "flock", refuse)
    (place / ".incoming-x").touch()
    await open_store(place, tmp_path).put(held(vault, b"footage"), FakeErrand())
    assert [path.name for path in left_in(place)] == [".incoming-x"]


async def test_a_copy_that_is_tidied_away_before_it_is_locked_is_begun_again(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, gone = directory_share.lock, iter((True, True))

    def late(fd: int) -> bool | None:
        if next(gone, False):
            for path in left_in(place):
                path.unlink()
        return lock(fd)

    monkeypatch.setattr(directory_share, "lock", late)
    await open_store(place, tmp_path).put(held(vault, b"footage"), FakeErrand())
    assert set(objects_in(place).values()) == {b"footage"}
    assert left_in(place) == []


# Proving again.


async def test_a_quick_check_sees_size_presence_and_rights(place: Path, vault: Path, tmp_path: Path) -> None:
    store = open_store(place, tmp_path)
    original = held(vault, b"footage")
    receipt = await store.put(original, FakeErrand())
    assert await store.check(receipt, read=False) is False
    assert await store.check(receipt, read=True) is True
    path = place / receipt.object
    path.chmod(0o640)
    with pytest.raises(EvidenceError, match="writable"):
        await store.check(receipt, read=False)
    await store.put(original, FakeErrand())
    assert path.stat().st_mode & 0o777 == 0o440, "putting it again proves it, and mends its rights"
    path.unlink()
    path.write_bytes(b"foot")
    path.chmod(0o440)
    with pytest.raises(EvidenceError, match="4 of 7 bytes"):
        await store.check(receipt, read=False)
    path.unlink()
    os.mkfifo(path, 0o440)
    with pytest.raises(EvidenceError, match="no regular file"):
        await store.check(receipt, read=False)


@pytest.mark.root
async def test_a_quick_check_sees_a_seal_that_was_taken_off(place: Path, vault: Path, tmp_path: Path) -> None:
    store = open_store(place, tmp_path, seal=True)
    receipt = await store.put(held(vault, b"footage"), FakeErrand())
    await store.check(receipt, read=False)
    unseal(place)
    with pytest.raises(EvidenceError, match="immutable"):
        await store.check(receipt, read=False)


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN])
async def test_a_share_that_is_away_has_lost_nothing(
    place: Path, vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = open_store(place, tmp_path)
    receipt = await store.put(held(vault, b"footage"), FakeErrand())

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Share, "_examine", refuse)
    with pytest.raises(StoreError, match=r"not there.*" + os.strerror(code)):
        await store.check(receipt, read=True)


async def test_a_receipt_of_another_store_is_not_checked_here(place: Path, vault: Path, tmp_path: Path) -> None:
    receipt = await open_store(place, tmp_path).put(held(vault, b"footage"), FakeErrand())
    other = OwnProcessStore("other", {"path": str(place)}, vault_root=vault)
    with pytest.raises(StoreError, match="this store is other") as caught:
        await other.check(receipt, read=True)
    assert not caught.value.retry


# What it can do.


async def test_a_survey_tells_everything_and_leaves_nothing(place: Path, vault: Path, tmp_path: Path) -> None:
    traits = {trait.name: trait for trait in await open_store(place, tmp_path).survey()}
    expected = "marker filesystem room writable speed clock locks folder_flush seal names"
    assert list(traits) == [name.replace("_", " ") for name in expected.split()]
    assert all(trait.good is not False or trait.do for trait in traits.values())
    assert traits["names"].what == "a name is never replaced, in one step"
    assert "MiB/s" in traits["speed"].what
    assert traits["clock"].good
    assert sorted(os.listdir(place)) == [MARKER]


@pytest.mark.root
async def test_a_survey_says_what_is_wrong(tmp_path: Path, vault: Path) -> None:
    with tmpfs(tmp_path / "disk", 8 * MIB) as disk:
        traits = {trait.name: trait for trait in await open_store(made(disk), tmp_path).survey()}
        assert not traits["writable"].good
        assert "full" in traits["writable"].what
        assert "room" in traits["writable"].do
        assert not traits["room"].good
        assert sorted(os.listdir(disk)) == [MARKER]
        run("mount", "-o", "remount,ro", disk)
        traits = {trait.name: trait for trait in await open_store(disk, tmp_path).survey()}
        assert "only be read" in traits["writable"].what
    with pytest.raises(StoreError, match="empty mount point"):
        await open_store(tmp_path / "disk", tmp_path).survey()
