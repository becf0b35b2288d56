"""An original is read once before anything is made from it: its digest, its zeros, and whether it is what was held."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from agent.access import watching
from agent.access.scanner import BLOCK_BYTES, PIECE_BYTES, REGION_BYTES, REGIONS_LIMIT, STRETCH_BYTES, Zeros
from agent.access.scanning import ChangedError, ScanError, Scanned, scan
from agent.child import Child
from tests.media import film

NOISE = os.urandom(PIECE_BYTES)


def written(path: Path, *pieces: bytes | int) -> tuple[Path, int, str]:
    """A file of these pieces (a number: so many zero bytes, as a hole), its size and its BLAKE3."""
    hasher = blake3()
    with path.open("wb") as file:
        for piece in pieces:
            if isinstance(piece, bytes):
                file.write(piece)
                hasher.update(piece)
                continue
            file.seek(piece, os.SEEK_CUR)
            for at in range(0, piece, len(NOISE)):
                hasher.update(bytes(min(len(NOISE), piece - at)))
        file.truncate()
    return path, path.stat().st_size, hasher.hexdigest()


async def test_a_real_recording_has_its_digest_and_no_zeros(tmp_path: Path) -> None:
    original = written(tmp_path / "a", film(tmp_path, "mp4"))
    assert await scan(*original) == Scanned(original[2])


async def test_a_hole_is_found_where_it_is(tmp_path: Path) -> None:
    clip = film(tmp_path, "mp4", 4).ljust(3 << 20, b"x")
    original = written(tmp_path / "a", clip, 1 << 20, NOISE, 100_000)
    tail = (5 << 20, 100_000)
    assert await scan(*original) == Scanned(original[2], ((3 << 20, 1 << 20), tail), 2, (1 << 20) + 100_000)


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES, REGION_BYTES - 1, REGION_BYTES, STRETCH_BYTES, STRETCH_BYTES + 1])
async def test_files_of_any_size_are_read_to_their_end(size: int, tmp_path: Path) -> None:
    original = written(tmp_path / "a", size)
    found = ((0, size),) if size >= REGION_BYTES else ()
    assert await scan(*original) == Scanned(original[2], found, len(found), sum(length for _, length in found))


async def test_a_file_of_more_than_four_gibibytes_is_counted_right(tmp_path: Path) -> None:
    gap = (1 << 32) + 8192
    original = written(tmp_path / "a", NOISE, gap, NOISE)
    assert await scan(*original) == Scanned(original[2], ((PIECE_BYTES, gap),), 1, gap)


async def test_the_list_of_regions_is_bounded_and_their_sum_is_not(tmp_path: Path) -> None:
    count = REGIONS_LIMIT + 5
    original = written(tmp_path / "a", *(piece for _ in range(count) for piece in (REGION_BYTES, NOISE[:BLOCK_BYTES])))
    scanned = await scan(*original)
    assert (len(scanned.zeros), scanned.regions, scanned.zero_bytes) == (REGIONS_LIMIT, count, count * REGION_BYTES)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3 * REGION_BYTES)), max_size=12), st.integers(1, 40))
def test_regions_are_those_that_a_naive_reader_finds(runs: list[tuple[bool, int]], blocks: int) -> None:
    content = b"".join(bytes(length) if zero else b"\x01" * length for zero, length in runs)
    told: list[tuple[int, int]] = []
    zeros = Zeros(lambda offset, length: told.append((offset, length)))
    for at in range(0, len(content), blocks * BLOCK_BYTES):
        zeros.feed(at, content[at : at + blocks * BLOCK_BYTES])
    zeros.end(len(content))
    is_zero = "".join(
        "0" if not any(content[at : at + BLOCK_BYTES]) else "1" for at in range(0, len(content), BLOCK_BYTES)
    )
    spans = [
        (run.start() * BLOCK_BYTES, min(run.end() * BLOCK_BYTES, len(content))) for run in re.finditer("0+", is_zero)
    ]
    expected = [(start, end - start) for start, end in spans if end - start >= REGION_BYTES]
    assert told == expected
    assert (zeros.regions, zeros.bytes) == (len(expected), sum(length for _, length in expected))


async def test_content_that_is_not_what_was_held_is_an_error_of_its_own(tmp_path: Path) -> None:
    path, size, digest = written(tmp_path / "a", NOISE)
    path.write_bytes(NOISE[:-1] + bytes([NOISE[-1] ^ 1]))
    with pytest.raises(ChangedError, match=f"not {digest}"):
        await scan(path, size, digest)


@pytest.mark.parametrize("size", [len(NOISE) - 1, len(NOISE) + 1, 0])
async def test_a_file_of_another_size_is_too(size: int, tmp_path: Path) -> None:
    path, _, digest = written(tmp_path / "a", NOISE)
    with pytest.raises(ChangedError, match="bytes, not"):
        await scan(path, size, digest)


async def test_a_file_that_is_much_longer_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.touch()
    os.truncate(path, 1 << 43)
    with pytest.raises(ChangedError, match="more than"):
        await scan(path, 1000)


@pytest.mark.parametrize("what", ["missing", "link", "folder", "pipe"])
async def test_what_is_no_file_to_be_read_is_said(what: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    match what:
        case "link":
            path.symlink_to("/etc/hostname")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(ScanError):
        await scan(path, 1000, "0" * 64)


async def test_a_file_that_shrinks_meanwhile_is_another_one(tmp_path: Path) -> None:
    path, size, digest = written(tmp_path / "a", 2 * STRETCH_BYTES)

    def shrink() -> bool:
        os.truncate(path, STRETCH_BYTES)
        return False

    with pytest.raises(ChangedError, match="bytes, not"):
        await scan(path, size, digest, is_busy=shrink)


async def test_while_others_need_the_disk_it_waits_and_is_not_taken_for_stuck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_BUSY_PAUSE_S", 0.3)
    original = written(tmp_path / "a", STRETCH_BYTES + 1)
    asked = iter([True, True, True, True, False])
    scanned = await scan(*original, is_busy=lambda: next(asked), stall_s=1.0)
    assert (scanned.blake3, next(asked, None)) == (original[2], None)


async def test_a_child_that_is_killed_says_nothing_about_the_content(tmp_path: Path) -> None:
    original = written(tmp_path / "a", 2 * STRETCH_BYTES)

    def kill() -> bool:
        for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split():
            if b"agent.access.scanner" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(int(pid), 9)
        return False

    with pytest.raises(ScanError, match="that reads it") as caught:
        await scan(*original, is_busy=kill)
    assert not isinstance(caught.value, ChangedError)


async def test_who_gives_up_leaves_no_child(tmp_path: Path) -> None:
    original = written(tmp_path / "a", 2 * STRETCH_BYTES)
    busy = asyncio.Event()

    def is_busy() -> bool:
        busy.set()
        return True

    task = asyncio.create_task(scan(*original, is_busy=is_busy))
    await busy.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


END = {"bytes": 1000, "blake3": "0" * 64, "regions": 0, "zero_bytes": 0}
ZEROS = {"zeros": [0, REGION_BYTES]}
LIES: dict[str, tuple[int, list[object]]] = {
    "nothing": (1000, []),
    "no JSON object": (1000, [3]),
    "another word": (1000, [{"hello": 1}]),
    "a digest that is none": (1000, [END | {"blake3": "x" * 64}]),
    "a digest that is too short": (1000, [END | {"blake3": "0" * 63}]),
    "a stretch that was not read": (1000, [{"read": 1}]),
    "a region behind the end": (1000, [ZEROS, END | {"regions": 1, "zero_bytes": REGION_BYTES}]),
    "a region twice": (1 << 20, [ZEROS, ZEROS]),
    "a region before the beginning": (1 << 20, [{"zeros": [-REGION_BYTES, REGION_BYTES]}]),
    "a region that is too small": (1 << 20, [{"zeros": [0, 4096]}]),
    "a region that was not told": (1000, [END | {"regions": 1}]),
    "fewer regions than were told": (1 << 20, [ZEROS, END | {"bytes": 1 << 20, "zero_bytes": REGION_BYTES}]),
    "another sum": (1 << 20, [ZEROS, END | {"bytes": 1 << 20, "regions": 1, "zero_bytes": 5}]),
    "more regions than there may be": (
        1 << 40,
        [{"zeros": [2 * n * REGION_BYTES, REGION_BYTES]} for n in range(REGIONS_LIMIT + 1)],
    ),
}


@pytest.mark.parametrize(("size", "lines"), LIES.values(), ids=LIES)
async def test_a_child_that_lies_is_not_believed(
    size: int, lines: list[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    path.touch()
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "lying.py").write_text(f"import os\ndef main(_):\n    os.write(1, {text.encode()!r})\n    return 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    start = Child.start

    async def lying(_: str, *arguments: object, **options: object) -> Child:
        return await start("lying", *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Child, "start", lying)
    with pytest.raises(ScanError, match="the child that reads it") as caught:
        await scan(path, size)
    assert not isinstance(caught.value, ChangedError)


async def test_it_waits_at_every_stretch_of_a_long_recording(tmp_path: Path) -> None:
    """What answers the child is used up by one wait: else it runs ahead, and is gone when it is told to go on."""
    path = tmp_path / "a"
    path.touch()
    os.truncate(path, size := 4 * STRETCH_BYTES + 1)
    asked: list[int] = []

    def is_busy() -> bool:
        asked.append(1)
        return len(asked) % 2 == 1

    assert (await scan(path, size, is_busy=is_busy)).zero_bytes == size
    assert len(asked) == 8
