"""The effects on disk: each does what its name says, and nothing that could lose an original."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import multiprocessing
import os
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import durable
from agent.model import Receipt, Releasable
from tests.conftest import is_immutable
from tests.disks import MIB
from tests.fakes import digests_of


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


def test_rename_moves_the_name_and_keeps_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"original")
    durable.rename_no_replace(tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "b").read_bytes() == b"original"


def test_rename_never_replaces(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    (tmp_path / "b").write_bytes(b"original")
    with pytest.raises(FileExistsError):
        durable.rename_no_replace(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert (tmp_path / "b").read_bytes() == b"original"


def test_rename_of_nothing_is_an_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        durable.rename_no_replace(tmp_path / "a", tmp_path / "b")
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "a"), str(tmp_path / "b"))


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS])
def test_rename_falls_back_to_a_link_where_noreplace_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> int:
        ctypes.set_errno(code)
        return -1

    monkeypatch.setattr(durable, "_libc", SimpleNamespace(renameat2=refuse))
    (tmp_path / "a").write_bytes(b"original")
    durable.rename_no_replace(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"original"
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").write_bytes(b"new")
    with pytest.raises(FileExistsError):
        durable.rename_no_replace(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"original"


@pytest.mark.parametrize("name", ["x.part", ".incoming-1f"])
def test_unfinished_copies_can_be_removed_also_twice(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    durable.remove_part(tmp_path / name)
    durable.remove_part(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a" * 64, "MOVI0001.MP4", "x.part.mp4", "journal.db", "incoming-1"])
def test_nothing_else_can_be_removed(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(AssertionError):
        durable.remove_part(tmp_path / name)
    assert (tmp_path / name).exists()


def original(folder: Path, content: bytes) -> tuple[Path, Releasable]:
    """A file of a vault, and the proof that it may go."""
    digests = digests_of(content)
    path = folder / digests.blake3[:2] / digests.blake3
    path.parent.mkdir()
    path.write_bytes(content)
    proven = Receipt("store", "o", len(content), digests, datetime(2026, 11, 23, tzinfo=UTC))
    return path, Releasable(path, digests.blake3, identity(path), (("a", proven),))


def identity(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns


def test_an_original_goes_with_its_proof_and_once(tmp_path: Path) -> None:
    path, proof = original(tmp_path, b"a film")
    durable.free_original(proof)
    assert not path.exists()
    durable.free_original(proof)


@pytest.mark.parametrize("harm", ["written", "other rights", "another file", "a link"])
def test_no_other_file_goes_by_the_proof_of_an_original(tmp_path: Path, harm: str) -> None:
    path, proof = original(tmp_path, b"a film")
    if harm == "written":
        path.write_bytes(b"a filM")
    elif harm == "other rights":
        path.chmod(0o400)
    else:
        path.rename(tmp_path / "aside")
        path.write_bytes(b"a film") if harm == "another file" else path.symlink_to(tmp_path / "aside")
    with pytest.raises(OSError, match="not the file that was read"):
        durable.free_original(proof)
    assert path.read_bytes()


def test_without_a_receipt_or_the_name_of_an_original_nothing_goes(tmp_path: Path) -> None:
    path, proof = original(tmp_path, b"a film")
    for changes in ({"receipts": ()}, {"path": tmp_path / "journal.db"}, {"blake3": "ab" * 32}):
        with pytest.raises(AssertionError):
            durable.free_original(replace(proof, **changes))  # type: ignore[arg-type]
    assert path.exists()


@pytest.mark.root
def test_a_sealed_original_goes_with_its_proof_and_its_neighbours_stay_sealed(tmp_path: Path) -> None:
    path, proof = original(tmp_path, b"a film")
    neighbour = path.with_name("f" * 64)
    neighbour.write_bytes(b"another")
    assert durable.make_immutable(path)
    assert durable.make_immutable(neighbour)
    durable.free_original(replace(proof, identity=identity(path)))
    assert not path.exists()
    assert is_immutable(neighbour)


def test_a_folder_is_made_once(tmp_path: Path) -> None:
    durable.make_dir(tmp_path / "ab")
    durable.make_dir(tmp_path / "ab")
    assert (tmp_path / "ab").is_dir()
    (tmp_path / "cd").touch()
    with pytest.raises(FileExistsError):
        durable.make_dir(tmp_path / "cd")
    with pytest.raises(FileNotFoundError):
        durable.make_dir(tmp_path / "none" / "ab")


def test_dropping_the_cache_needs_a_flush_and_is_provable(file: int) -> None:
    """F2: DONTNEED without a flush drops nothing, so reading would only have asked the memory."""
    os.write(file, os.urandom(MIB))
    durable.drop_cache(file, 0, MIB)
    assert durable.cached_bytes(file, 0, MIB) == MIB
    durable.fdatasync(file)
    assert durable.cached_bytes(file, 0, MIB) == MIB
    durable.drop_cache(file, 0, MIB)
    assert durable.cached_bytes(file, 0, MIB) == 0
    os.pread(file, 1, MIB - 1)
    assert durable.cached_bytes(file, 0, MIB) > 0


def test_an_empty_range_is_not_cached_and_drops_nothing(file: int) -> None:
    os.write(file, b"x" * 8192)
    durable.fsync_file(file)
    durable.drop_cache(file, 0, 0)
    assert durable.cached_bytes(file, 0, 8192) == 8192
    assert durable.cached_bytes(file, 0, 0) == 0


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 40_000), st.integers(0, 40_000), st.integers(0, 40_000))
def test_dropping_and_early_writing_never_change_bytes(file: int, size: int, offset: int, length: int) -> None:
    content = os.urandom(size)
    durable.cut_part(file, 0)
    os.pwrite(file, content, 0)
    durable.start_writeback(file, offset, length)
    durable.drop_cache(file, offset, length)
    assert os.pread(file, 50_000, 0) == content


def test_a_bad_descriptor_is_an_error_not_a_silence() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.start_writeback(99_999, 0, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        durable.cached_bytes(99_999, 0, 1)


def test_read_only_means_for_everybody(tmp_path: Path) -> None:
    (tmp_path / "original").touch()
    durable.make_read_only(tmp_path / "original")
    assert (tmp_path / "original").stat().st_mode & 0o777 == 0o440


@pytest.mark.root
def test_an_immutable_file_withstands_root(tmp_path: Path) -> None:
    path = tmp_path / "original"
    path.write_bytes(b"evidence")
    before = _flags(path)
    assert durable.make_immutable(path)
    assert durable.make_immutable(path)
    assert is_immutable(path)
    for attempt in (path.unlink, lambda: path.write_bytes(b""), lambda: path.rename(tmp_path / "other")):
        with pytest.raises(PermissionError):
            attempt()
    assert _flags(path) & ~0x10 == before, "the other flags must stay"
    assert durable.make_mutable(path)
    assert not is_immutable(path)
    path.unlink()


@pytest.mark.root
def test_without_the_right_to_seal_it_says_so(tmp_path: Path) -> None:
    path = tmp_path / "original"
    path.touch()
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o755)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_seal_as_nobody, (path,)) is False
        pool.close()
        pool.join()
    assert not is_immutable(path)


def _seal_as_nobody(path: Path) -> bool:
    os.chown(path, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    return durable.make_immutable(path)


def test_only_regular_files_are_sealed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("fifo", "link"):
        with pytest.raises(OSError, match=r"regular|symbolic"):
            durable.make_immutable(tmp_path / name)


def _flags(path: Path) -> int:
    with path.open("rb") as file:
        (flags,) = struct.unpack("l", fcntl.ioctl(file, 0x80086601, bytes(8)))
    return int(flags)


@pytest.mark.parametrize("code", [0, errno.EEXIST])
def test_verity_is_asked_for_with_what_the_kernel_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """As `struct fsverity_enable_arg` of linux/fsverity.h: version, SHA-256, blocks of 4 KiB, and nothing else."""
    asked: list[tuple[int, bytes]] = []

    def ioctl(_: int, request: int, argument: bytes) -> int:
        asked.append((request, argument))
        if code:
            raise OSError(code, os.strerror(code))
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    (tmp_path / "file").write_bytes(b"footage")
    assert durable.enable_verity(tmp_path / "file")
    assert asked == [(0x40806685, struct.pack("<IIII", 1, 1, 4096, 0) + bytes(112))]


@pytest.mark.parametrize(
    "code", [errno.EOPNOTSUPP, errno.ENOTTY, errno.EPERM, errno.EACCES, errno.ETXTBSY, errno.EBUSY]
)
def test_without_verity_it_says_so_and_nothing_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    (tmp_path / "file").write_bytes(b"footage")
    assert not durable.enable_verity(tmp_path / "file")


def test_a_part_is_written_anew_as_a_whole_and_is_nobody_else_s(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    part.write_bytes(b"longer than what comes")
    durable.write_part(part, b"new")
    assert part.read_bytes() == b"new"
    part.unlink()
    durable.write_part(part, b"")
    assert (part.read_bytes(), part.stat().st_mode & 0o777) == (b"", 0o600)


def test_only_a_part_is_written_and_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "original").write_bytes(b"original")
    with pytest.raises(AssertionError):
        durable.write_part(tmp_path / "original", b"new")
    (tmp_path / "a.part").symlink_to(tmp_path / "original")
    with pytest.raises(OSError, match="symbolic links"):
        durable.write_part(tmp_path / "a.part", b"new")
    assert (tmp_path / "original").read_bytes() == b"original"


def test_room_is_really_kept_given_back_and_never_half(tmp_path: Path) -> None:
    part = tmp_path / "reserved.part"
    durable.keep_room(part, 8 * MIB)
    assert (part.stat().st_size, part.stat().st_blocks * 512 >= 8 * MIB) == (8 * MIB, True)
    durable.keep_room(part, 3 * MIB)
    assert part.stat().st_size == 3 * MIB
    assert part.stat().st_blocks * 512 < 4 * MIB
    with pytest.raises(OSError, match=r"space|large"):
        durable.keep_room(part, 1 << 60)
    assert part.stat().st_size == 3 * MIB
    with pytest.raises(AssertionError):
        durable.keep_room(tmp_path / "front-000001.mp4", 0)


def test_a_folder_goes_only_when_nothing_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    folder.mkdir()
    (folder / "front-000001.mp4").write_bytes(b"film")
    assert not durable.remove_empty(folder)
    assert (folder / "front-000001.mp4").read_bytes() == b"film"
    (folder / "front-000001.mp4").unlink()
    assert durable.remove_empty(folder)
    with pytest.raises(FileNotFoundError):
        durable.remove_empty(folder)


def test_a_file_goes_only_without_a_byte(tmp_path: Path) -> None:
    path = tmp_path / "front-000001.mp4"
    path.write_bytes(b"f")
    assert not durable.remove_empty(path)
    assert path.read_bytes() == b"f"
    path.write_bytes(b"")
    assert durable.remove_empty(path)
    assert not path.exists()
