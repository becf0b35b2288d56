"""The vault: nothing is called held that the medium did not give back, and nothing held is ever lost or replaced."""

from __future__ import annotations

import errno
import hashlib
import inspect
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agent.read_back
from agent import durable
from agent.changes import seen
from agent.errors import EvidenceError, StoreError
from agent.medium_reader import Hasher, MediumReader
from agent.model import BLOCK_BYTES, Digests, Held
from agent.vault import ReadBack, Settled, Vault, fingerprint
from tests.conftest import unseal
from tests.disks import MIB, ext4, fill, tmpfs

SMALL_BLOCK = 64 * 1024
EFFECTS = (
    "cut_part", "drop_cache", "enable_verity", "fdatasync", "finish_writeback", "free_original", "fsync_dir",
    "fsync_file", "keep_room", "make_dir", "make_immutable", "make_mutable", "make_read_only", "make_writable",
    "mark_seen", "name_finished", "remove_empty", "remove_part", "remove_still", "remove_work", "rename_no_replace",
    "replace_still", "start_writeback", "sync_filesystem", "write_part",
)  # fmt: skip


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "station", seal=False)


def digests_of(content: bytes) -> Digests:
    return Digests(blake3(content).hexdigest(), hashlib.sha256(content).hexdigest())


def blocks_of(content: bytes, size: int = BLOCK_BYTES) -> list[tuple[int, int, str]]:
    pieces = [content[at : at + size] for at in range(0, max(len(content), 1), size)]
    return [(index, len(piece), blake3(piece).hexdigest()) for index, piece in enumerate(pieces)]


def write_part(vault: Vault, asset_id: str, content: bytes) -> Path:
    path = vault.staging_dir / vault.part_name(asset_id)
    path.write_bytes(content)
    return path


def read_all_back(vault: Vault, asset_id: str, content: bytes, block_bytes: int = BLOCK_BYTES) -> Settled:
    with vault.read_back(asset_id) as back:
        back.replay(blocks_of(content, block_bytes))
        return back.finish(len(content))


def settle(vault: Vault, asset_id: str, content: bytes) -> Settled:
    write_part(vault, asset_id, content)
    return read_all_back(vault, asset_id, content)


def hold(vault: Vault, asset_id: str, content: bytes) -> Held:
    return vault.keep([settle(vault, asset_id, content)])[0]


def spoil(image: Path, wanted: bytes) -> None:
    """Flip one bit of the image under the filesystem's cache, in the sector that begins with these bytes."""
    at = image.read_bytes().find(wanted)
    assert at >= 0, "the bytes are not on the disk yet"
    with image.open("r+b", buffering=0) as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
        os.fsync(file.fileno())


# Reading back.


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 5 * SMALL_BLOCK), chunk=st.sampled_from([4096, 12288, 64 * 1024, 1024 * 1024]))
def test_fingerprints_are_those_of_the_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, chunk: int
) -> None:
    """Whatever the size: BLAKE3 and SHA-256 of the read-back are those that `b3sum` and `sha256sum` would print."""
    monkeypatch.setattr(agent.read_back, "BLOCK_BYTES", SMALL_BLOCK)
    monkeypatch.setattr(durable, "CHUNK_BYTES", chunk)
    vault = Vault(tmp_path / "station", seal=False)
    content = os.urandom(size)
    write_part(vault, "a", content)
    settled = read_all_back(vault, "a", content, SMALL_BLOCK)
    assert settled == Settled("a", size, digests_of(content))
    with (vault.staging_dir / vault.part_name("a")).open("rb") as file:
        assert fingerprint(file.fileno()) == (size, digests_of(content))


@pytest.mark.root
def test_held_bytes_were_written_to_the_device_and_read_from_it(tmp_path: Path) -> None:
    """F2: at Held, the block device has counted at least the size as written and as read."""
    content = os.urandom(BLOCK_BYTES + 3 * MIB)
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 96 * MIB) as device:
        vault = Vault(tmp_path / "disk" / "station", seal=False)
        read_before, written_before = device.counters()
        held = hold(vault, "a", content)
        read, written = device.counters()
        assert written - written_before >= len(content)
        assert read - read_before >= len(content)
        assert held.digests == digests_of(content)


@pytest.mark.root
def test_small_files_are_read_from_the_device_too(tmp_path: Path) -> None:
    """F2, for the batch of small files."""
    contents = [os.urandom(64 * 1024) for _ in range(100)]
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 64 * MIB) as device:
        vault = Vault(tmp_path / "disk" / "station", seal=False)
        for number, content in enumerate(contents):
            write_part(vault, f"a{number}", content)
        read_before, written_before = device.counters()
        settled = vault.settle([(f"a{n}", len(c), blake3(c).hexdigest()) for n, c in enumerate(contents)])
        read, written = device.counters()
        assert [item.digests for item in settled] == [digests_of(content) for content in contents]
        total = sum(map(len, contents))
        assert read - read_before >= total
        assert written - written_before >= total


def by_block(vault: Vault, content: bytes) -> None:
    with vault.read_back("a") as back:
        back.block(*blocks_of(content)[0])


def by_batch(vault: Vault, content: bytes) -> None:
    vault.settle([("a", len(content), blake3(content).hexdigest())])


@pytest.mark.root
@pytest.mark.parametrize("read", [by_block, by_batch])
def test_a_sector_that_changes_under_the_cache_is_noticed(tmp_path: Path, read: Callable[[Vault, bytes], None]) -> None:
    """F2: the page cache still has the right bytes; only the medium hasn't."""
    content = os.urandom(256 * 1024)
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 48 * MIB) as device:
        vault = Vault(tmp_path / "disk" / "station", seal=False)
        spoil_under_cache(write_part(vault, "a", content), content, device.image)
        with pytest.raises(EvidenceError, match="Keep the recorder"):
            read(vault, content)


@pytest.mark.root
def test_damage_of_an_original_is_noticed_and_never_spreads(tmp_path: Path) -> None:
    """F2: a second pull of the same content is not dropped in favour of a damaged original; quarantine makes room."""
    content = os.urandom(256 * 1024)
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 48 * MIB) as device:
        vault = Vault(tmp_path / "disk" / "station", seal=True)
        held = hold(vault, "a", content)
        assert vault.reread(held) == held.digests
        spoil_under_cache(held.path, content, device.image)
        assert vault.reread(held) != held.digests
        told: list[str] = []
        assert vault.keep([settle(vault, "b", content)], told.append)[0].path.read_bytes() == content
        assert told == [held.digests.blake3]
        assert vault.reread(held) == held.digests, "healed"
        (aside,) = vault.damaged_dir.iterdir()
        assert aside.stat().st_size == len(content), "nothing is removed"
        assert vault.part_bytes("b") is None
        unseal(tmp_path / "disk")


def test_a_half_part_is_never_given_a_name(tmp_path: Path) -> None:
    """A retry had cut the part after it was settled, and then the process died."""
    vault = Vault(tmp_path, seal=False)
    settled = settle(vault, "a", b"footage")
    os.truncate(tmp_path / "staging" / "a.part", 3)
    with pytest.raises(EvidenceError, match="3 bytes instead of 7"):
        vault.keep([settled])
    assert list(vault.originals()) == []


def test_a_part_that_could_not_be_named_can_be_written_again(tmp_path: Path) -> None:
    vault = Vault(tmp_path, seal=False)
    settle(vault, "a", b"footage")
    part = tmp_path / "staging" / "a.part"
    durable.make_read_only(part)
    assert vault.ready_part("a") == "a.part"
    assert part.stat().st_mode & 0o777 == 0o600
    assert vault.ready_part("b") == "b.part"


def spoil_under_cache(path: Path, content: bytes, image: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        assert file.read() == content
        spoil(image, content[4096:8192])
        file.seek(0)
        assert file.read() == content, "memory doesn't know it"


@pytest.mark.root
@pytest.mark.parametrize("lost", range(1, 20, 3))
def test_pages_that_somebody_keeps_in_memory_are_read_from_the_medium_anyway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    """If the cache can't be dropped, O_DIRECT goes around it."""
    content = os.urandom(20 * 4096 + 77)
    with ext4(tmp_path / "disk", tmp_path / "disk.img", 48 * MIB) as device:
        vault = Vault(tmp_path / "disk" / "station", seal=False)
        path = write_part(vault, "a", content)
        monkeypatch.setattr(durable, "drop_cache", lambda *_: None)
        by_block(vault, content)
        spoil(device.image, content[lost * 4096 : (lost + 1) * 4096])
        assert path.read_bytes() == content
        with pytest.raises(EvidenceError):
            by_block(vault, content)


@pytest.mark.parametrize("keep_bytes", [0, 1, 4096, SMALL_BLOCK, 3 * SMALL_BLOCK - 1])
@pytest.mark.parametrize("moment", ["fdatasync", "drop_cache", "cached_bytes"])
def test_a_file_that_shrinks_while_it_is_hashed_is_an_error(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, keep_bytes: int, moment: str
) -> None:
    """F5: reading a shrunken file gives a valid fingerprint of too few bytes; the agent lives, and says no."""
    monkeypatch.setattr(agent.read_back, "BLOCK_BYTES", SMALL_BLOCK)
    content = os.urandom(3 * SMALL_BLOCK)
    path = write_part(vault, "a", content)
    real = getattr(durable, moment)

    def shrink(*arguments: int) -> object:
        result = real(*arguments)
        os.truncate(path, keep_bytes)
        return result

    monkeypatch.setattr(durable, moment, shrink)
    with pytest.raises(EvidenceError):
        read_all_back(vault, "a", content, SMALL_BLOCK)


def test_a_file_that_shrinks_at_any_moment_never_has_a_wrong_fingerprint(vault: Vault) -> None:
    """F5, with a real race: either the whole file was read, or it is an error."""
    content = os.urandom(8 * MIB)
    for _ in range(20):
        path = write_part(vault, "a", content)
        barrier = threading.Barrier(2)

        def shrink(path: Path = path, barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            os.truncate(path, MIB)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(shrink)
            barrier.wait()
            try:
                [settled] = vault.settle([("a", len(content), blake3(content).hexdigest())])
            except EvidenceError:
                continue
            assert settled.digests == digests_of(content)


@pytest.mark.parametrize("expected", [-1, 1])
def test_a_size_that_was_not_expected_is_an_error(vault: Vault, expected: int) -> None:
    content = b"x" * 1000
    write_part(vault, "a", content)
    with vault.read_back("a") as back:
        back.replay(blocks_of(content))
        with pytest.raises(EvidenceError):
            back.finish(len(content) + expected)


def test_bytes_behind_the_last_block_are_an_error(vault: Vault) -> None:
    content = b"x" * 1000
    write_part(vault, "a", content + b"more")
    with pytest.raises(EvidenceError):
        vault.settle([("a", len(content), blake3(content).hexdigest())])


def test_a_wrong_block_is_an_error_and_the_part_stays(vault: Vault) -> None:
    path = write_part(vault, "a", b"what the disk made of it")
    with pytest.raises(EvidenceError):
        vault.settle([("a", 24, blake3(b"what the recorder gave..").hexdigest())])
    assert path.exists()


def test_blocks_come_in_order(vault: Vault) -> None:
    write_part(vault, "a", b"x")
    with vault.read_back("a") as back, pytest.raises(AssertionError):
        back.block(1, 1, blake3(b"x").hexdigest())


def test_one_flush_covers_all_blocks_that_were_written(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """A puller that is ahead costs no extra flushes, and each new byte still gets one."""
    monkeypatch.setattr(agent.read_back, "BLOCK_BYTES", SMALL_BLOCK)
    content = os.urandom(3 * SMALL_BLOCK)
    flushed: list[int] = []
    monkeypatch.setattr(durable, "fdatasync", lambda fd: flushed.append(os.fstat(fd).st_size))
    blocks = blocks_of(content, SMALL_BLOCK)
    path = write_part(vault, "a", content[: 2 * SMALL_BLOCK])
    with vault.read_back("a") as back:
        back.replay(blocks[:2])
        with path.open("ab") as file:
            file.write(content[2 * SMALL_BLOCK :])
        back.block(*blocks[2])
        back.finish(len(content))
    assert flushed == [2 * SMALL_BLOCK, 3 * SMALL_BLOCK]


@pytest.mark.parametrize("fails", [False, True])
def test_a_block_is_read_back_only_after_a_flush_that_began_when_it_was_written(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """The disk flushes ahead while a block is hashed; that counts once it has ended well, and not before."""
    monkeypatch.setattr(agent.read_back, "BLOCK_BYTES", SMALL_BLOCK)
    content = os.urandom(6 * SMALL_BLOCK)
    path = write_part(vault, "a", content[:SMALL_BLOCK])
    flushed_bytes = 0
    ahead: list[bool] = []
    feed = MediumReader.feed

    def fdatasync(fd: int) -> None:
        nonlocal flushed_bytes
        written = os.fstat(fd).st_size
        ahead.append(threading.current_thread() is not threading.main_thread())
        with path.open("ab") as file:  # the puller goes on meanwhile
            file.write(content[written : written + SMALL_BLOCK])
        if fails and ahead[-1]:
            raise OSError(errno.EIO, "Input/output error")
        flushed_bytes = written

    def checked(reader: MediumReader, fd: int, offset: int, size: int, *hashers: Hasher) -> int:
        assert offset + size <= flushed_bytes
        return feed(reader, fd, offset, size, *hashers)

    monkeypatch.setattr(durable, "fdatasync", fdatasync)
    monkeypatch.setattr(MediumReader, "feed", checked)
    with vault.read_back("a") as back, pytest.raises(StoreError) if fails else nullcontext():
        back.replay(blocks_of(content, SMALL_BLOCK))
        assert back.finish(len(content)).digests == digests_of(content)
    assert any(ahead)


def test_a_missing_part_is_an_error_of_the_disk(vault: Vault) -> None:
    with pytest.raises(StoreError):
        vault.read_back("a")
    assert vault.part_bytes("a") is None


# Keeping.


def test_an_original_is_named_by_its_fingerprint_and_read_only(vault: Vault) -> None:
    held = hold(vault, "a", b"footage")
    assert held == Held("a", vault.address(held.digests.blake3), 7, digests_of(b"footage"), sealed=False)
    assert held.path == vault.root / "vault" / held.path.name[:2] / blake3(b"footage").hexdigest()
    assert held.path.stat().st_mode & 0o777 == 0o440
    assert list(vault.staging_dir.iterdir()) == []
    assert list(vault.originals()) == [(held.path.name, held.path, 7)]


@pytest.mark.root
def test_a_sealed_original_withstands_root(tmp_path: Path) -> None:
    vault = Vault(tmp_path / "station", seal=True)
    held = hold(vault, "a", b"footage")
    assert held.sealed
    for attempt in (held.path.unlink, lambda: held.path.write_bytes(b""), lambda: os.truncate(held.path, 0)):
        with pytest.raises(PermissionError):
            attempt()


def test_a_filesystem_that_cannot_seal_is_told_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "make_immutable", lambda _: False)
    assert not hold(Vault(tmp_path / "station", seal=True), "a", b"footage").sealed


def test_equal_content_exists_once_and_both_names_are_held(vault: Vault) -> None:
    parts = [settle(vault, name, b"same") for name in ("a", "b")]
    first, second = vault.keep(parts)
    third = hold(vault, "c", b"same")
    assert [held.asset_id for held in (first, second, third)] == ["a", "b", "c"]
    assert first.path == second.path == third.path
    assert len(list(vault.originals())) == 1
    assert list(vault.staging_dir.iterdir()) == []


def test_two_dockings_with_the_same_content_at_the_same_time(vault: Vault) -> None:
    parts = [settle(vault, f"a{number}", b"same") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        held = list(pool.map(lambda part: vault.keep([part])[0], parts))
    assert {item.path for item in held} == {vault.address(blake3(b"same").hexdigest())}
    assert held[0].path.read_bytes() == b"same"
    assert list(vault.staging_dir.iterdir()) == []


class Crash(BaseException):
    """The process ends here."""


@contextmanager
def crash_at(count: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> Iterator[list[str]]:
    """Let the process crash before or after its n-th effect; gives the names of the effects that happened."""
    log: list[str] = []

    def wrap(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def effect(*arguments: object) -> object:
            this = len(log)
            if this == count and not after:
                raise Crash
            log.append(name)
            try:
                return real(*arguments)
            finally:
                if this == count and after:
                    raise Crash

        return effect

    with monkeypatch.context() as patch:
        for name in EFFECTS:
            patch.setattr(durable, name, wrap(name, getattr(durable, name)))
        yield log


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", range(18))
def test_a_crash_around_any_effect_loses_and_doubles_nothing(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, count: int, after: bool
) -> None:
    """Repeating `keep` after a crash anywhere gives the same proofs, one file for each content, and no part left."""
    contents = {"a": b"one", "b": b"two", "c": b"one"}
    hold(vault, "before", b"two")
    settled = [settle(vault, name, content) for name, content in contents.items()]
    with crash_at(count, monkeypatch, after=after) as log:
        try:
            vault.keep(settled)
        except Crash:
            pass
        else:
            assert len(log) <= count, "the crash must come at every effect"
    for content in contents.values():
        places = [*vault.staging_dir.iterdir(), *(path for _, path, _ in vault.originals())]
        assert content in [path.read_bytes() for path in places], "lost"
    held = Vault(vault.root, seal=False).keep(settled)
    assert [(item.asset_id, item.path.read_bytes()) for item in held] == list(contents.items())
    assert len(list(vault.originals())) == 2
    assert list(vault.staging_dir.iterdir()) == []


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("count", [0, 1, 40, 79, 80, 81, 120, 121, 122, 123, 124])
def test_a_crash_in_a_big_batch_loses_and_doubles_nothing(
    vault: Vault, monkeypatch: pytest.MonkeyPatch, count: int, after: bool
) -> None:
    """Many files are flushed together, and still each of them is either a part or an original."""
    contents = {f"a{number}": os.urandom(100) for number in range(40)}
    for name, content in contents.items():
        write_part(vault, name, content)
    batch = [(name, len(content), blake3(content).hexdigest()) for name, content in contents.items()]
    with crash_at(count, monkeypatch, after=after), suppress(Crash):
        vault.keep(vault.settle(batch))
    places = [*vault.staging_dir.iterdir(), *(path for _, path, _ in vault.originals())]
    assert sorted(path.read_bytes() for path in places) == sorted(contents.values())
    digests = [Settled(name, len(content), digests_of(content)) for name, content in contents.items()]
    held = Vault(vault.root, seal=False).keep(digests)
    assert [item.path.read_bytes() for item in held] == list(contents.values())


def test_effects_come_in_the_order_that_makes_the_promise(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flush, forget, read; then protect, name, and make the name durable."""
    write_part(vault, "a", b"footage")
    with crash_at(10**6, monkeypatch, after=False) as log:
        vault.keep(vault.settle([("a", 7, blake3(b"footage").hexdigest())]))
    log = [name for name in log if name != "fsync_dir" or "rename_no_replace" not in log]
    assert [name for name in log if name != "make_dir"] == [
        "fdatasync", "drop_cache", "make_read_only", "rename_no_replace"
    ]  # fmt: skip


def test_the_effects_listed_here_are_all_there_are() -> None:
    public = {name for name, _ in inspect.getmembers(durable, inspect.isfunction) if not name.startswith("_")}
    assert public - {"cached_bytes", "is_immutable", "opened"} == set(EFFECTS)


def test_verity_is_asked_for_before_the_name_and_its_absence_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, bool]] = []

    def refuse(path: Path) -> bool:
        asked.append((path.name, bool(path.stat().st_mode & 0o200)))
        return False

    monkeypatch.setattr(durable, "enable_verity", refuse)
    vault = Vault(tmp_path / "station", seal=False, verity=True)
    held = hold(vault, "a", b"footage")
    assert asked == [("a.part", True)], "the kernel wants the right to write"
    assert vault.reread(held) == held.digests


def test_a_part_under_verity_that_is_not_named_gives_way(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    part = write_part(vault, "a", b"footage")
    found = seen(part)
    assert found is not None
    assert vault.ready_part("a") == "a.part"
    assert part.exists()
    monkeypatch.setattr("agent.vault.seen", lambda _: found._replace(verity=True))
    assert vault.ready_part("a") == "a.part"
    assert not part.exists()


# What is there.


def test_a_claim_needs_the_file_with_its_size(vault: Vault) -> None:
    held = hold(vault, "a", b"footage")
    assert vault.claim("a", 7, held.digests) == held
    with pytest.raises(EvidenceError):
        vault.claim("a", 8, held.digests)
    with pytest.raises(EvidenceError):
        vault.claim("a", 7, digests_of(b"other"))
    with pytest.raises(EvidenceError):
        vault.keep([Settled("gone", 7, digests_of(b"other"))])


def test_a_missing_or_shortened_original_is_an_incident(vault: Vault) -> None:
    held = hold(vault, "a", b"footage")
    os.truncate(held.path, 3)
    with pytest.raises(EvidenceError, match="3 bytes"):
        vault.reread(held)
    held.path.unlink()
    with pytest.raises(EvidenceError):
        vault.reread(held)


@pytest.mark.parametrize("seal", [False, pytest.param(True, marks=pytest.mark.root)])
def test_quarantine_moves_aside_and_never_removes(tmp_path: Path, seal: bool) -> None:
    vault = Vault(tmp_path / "station", seal=seal)
    moved = []
    for _ in range(3):
        held = hold(vault, "a", b"footage")
        moved.append(vault.quarantine("a", held.digests))
    assert vault.quarantine("a", held.digests) is None
    assert len(set(moved)) == 3
    assert [path.read_bytes() for path in moved if path] == [b"footage"] * 3
    assert list(vault.originals()) == []


def test_what_is_no_original_is_not_listed(vault: Vault) -> None:
    held = hold(vault, "a", b"footage")
    (held.path.parent / "README").touch()
    (held.path.parent / ("0" * 64)).touch()
    (vault.originals_dir / "lost+found").mkdir()
    assert [name for name, _, _ in vault.originals()] == [held.path.name]


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a\0b", "a" * 200])
def test_a_part_name_never_leaves_the_staging_folder(vault: Vault, name: str) -> None:
    with pytest.raises(AssertionError):
        vault.part_name(name)


def test_opening_a_vault_again_changes_nothing(vault: Vault) -> None:
    held = hold(vault, "a", b"footage")
    write_part(vault, "b", b"half")
    again = Vault(vault.root, seal=False)
    assert again.part_bytes("b") == 4
    assert again.reread(held) == held.digests


# A disk that refuses.


@pytest.mark.root
def test_a_full_disk_removes_nothing_and_recovers_by_itself(tmp_path: Path) -> None:
    """F20, F21: with the disk full from outside, everything stays, is told, and goes on when there is room."""
    disk = tmp_path / "disk"
    with ext4(disk, tmp_path / "disk.img", 16 * MIB):
        vault = Vault(disk / "station", seal=False)
        held = hold(vault, "a", b"footage")
        settled = settle(vault, "b", b"more")
        filler = fill(disk)
        assert vault.free_bytes() == 0
        with pytest.raises(StoreError, match="No space"):
            vault.keep([settled])
        assert vault.part_bytes("b") == 4
        assert vault.reread(held) == held.digests
        filler.unlink()
        assert vault.keep([settled])[0].path.read_bytes() == b"more"


@pytest.mark.root
def test_bytes_that_the_disk_could_not_write_are_never_held(tmp_path: Path) -> None:
    """F21: the filesystem takes the bytes, the device under it doesn't (EIO at the flush)."""
    with tmpfs(tmp_path / "ram", 24 * MIB) as ram:
        with ext4(tmp_path / "disk", ram / "disk.img", 96 * MIB):
            vault = Vault(tmp_path / "disk" / "station", seal=False)
            (ram / "fill").write_bytes(bytes(os.statvfs(ram).f_bavail * 4096 - MIB))
            content = os.urandom(8 * MIB)
            write_part(vault, "a", content)
            for _ in range(2):  # the kernel reports a failed write only once
                with pytest.raises((StoreError, EvidenceError)):
                    vault.settle([("a", len(content), blake3(content).hexdigest())])
            (ram / "fill").unlink()


def test_the_reader_feeds_exactly_the_range(tmp_path: Path) -> None:
    content = os.urandom(3 * MIB + 5)
    (tmp_path / "file").write_bytes(content)
    hasher = blake3()
    with (tmp_path / "file").open("r+b") as file:
        os.fsync(file.fileno())
        assert MediumReader().feed(file.fileno(), MIB, MIB + 3, hasher) == MIB + 3
        assert MediumReader().feed(file.fileno(), 3 * MIB, MIB, blake3()) == 5
    assert hasher.hexdigest() == blake3(content[MIB : 2 * MIB + 3]).hexdigest()


def test_closing_twice_is_fine(vault: Vault) -> None:
    write_part(vault, "a", b"")
    back: ReadBack = vault.read_back("a")
    back.close()
    back.close()
