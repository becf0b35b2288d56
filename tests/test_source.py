"""An original on its way is read whole and unchanged, or it is evidence trouble."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
from pathlib import Path

import pytest

from agent.errors import EvidenceError, StoreError
from agent.model import Held
from agent.uploader.source import SLICE_BYTES, Source, chunks
from tests.store_conformance import held

SIZES = [0, 1, SLICE_BYTES - 1, SLICE_BYTES, 3 * SLICE_BYTES + 5]


@pytest.mark.parametrize("size", SIZES)
def test_all_bytes_come_in_order(tmp_path: Path, size: int) -> None:
    original = held(tmp_path, os.urandom(size))
    assert b"".join(bytes(chunk) for chunk in chunks(original)) == original.path.read_bytes()


@pytest.mark.parametrize("size", SIZES)
async def test_a_range_can_be_read_by_several_at_once(tmp_path: Path, size: int) -> None:
    original = held(tmp_path, os.urandom(size))
    content = original.path.read_bytes()

    async def part(source: Source, start: int, end: int) -> bytes:
        return b"".join([piece async for piece in source.pieces(start, end - start)])

    with Source(original) as source:
        halves = await asyncio.gather(part(source, 0, size // 2), part(source, size // 2, size))
        assert (
            b"".join(bytes(chunk) for chunk in source.read(size // 3, size // 3)) == content[size // 3 :][: size // 3]
        )
    assert b"".join(halves) == content


def spoil(original: Held, how: str) -> None:
    match how:
        case "flipped":
            with original.path.open("r+b") as file:
                file.write(b"\0\0\0\0\0\0\0\0")
        case "shorter":
            os.truncate(original.path, original.size_bytes - 1)
        case "longer":
            os.truncate(original.path, original.size_bytes + 1)
        case "missing":
            original.path.unlink()
        case "a folder":
            original.path.unlink()
            original.path.mkdir()
        case "a link":
            original.path.rename(original.path.with_suffix(".other"))
            original.path.symlink_to(original.path.with_suffix(".other"))


@pytest.mark.parametrize("how", ["flipped", "shorter", "longer", "missing", "a folder", "a link"])
def test_an_original_that_is_not_what_it_was_is_noticed(tmp_path: Path, how: str) -> None:
    original = held(tmp_path, b"footage" * 100_000)
    spoil(original, how)
    with pytest.raises(EvidenceError, match="no longer what it was") as caught:
        for _ in chunks(original):
            pass
    assert "Nothing was stored" in caught.value.safe


async def test_an_original_that_shrinks_while_it_is_sent_never_gives_fewer_bytes(tmp_path: Path) -> None:
    """A body that is too short would leave the other side waiting."""
    original = held(tmp_path, b"footage" * 100_000)
    with Source(original) as source:
        os.truncate(original.path, 10)
        with pytest.raises(EvidenceError, match="ends at byte 10"):
            async for _ in source.pieces(0, original.size_bytes):
                pass


async def test_trouble_of_this_process_says_nothing_about_the_original(tmp_path: Path) -> None:
    """With every descriptor in use a sound original can't be opened: it must not be called damaged for that."""
    original = held(tmp_path, b"footage")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    fillers: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        with pytest.raises(StoreError, match="Too many open files") as caught:
            Source(original).__enter__()
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.retry
    with Source(original) as source:
        assert b"".join(map(bytes, source.read(0, original.size_bytes))) == b"footage"
