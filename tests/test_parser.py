"""The parser child speaks its protocol, reads the medium each time, changes nothing, and ends with a reason."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
from pathlib import Path

import pytest

from agent.drivers.names import PATH_LIMIT, join_path, safe_name
from agent.drivers.parser import FIRST_EXTENTS
from agent.drivers.source import BAD_SECTORS_LIMIT, FilesystemError, Source
from simulator.card import Card
from simulator.content import Noise
from tests.parsing import (
    CHILD,
    assert_matches,
    check_as_daemon,
    collect,
    lines_of_source,
    run_child,
    small_exfat,
    small_fat,
    source_of,
)


def ordinary(path: Path, make: type[Card]) -> Card:
    with make(path) as card:
        for number in range(30):
            card.add(f"DCIM/100MEDIA/MOVI{number:04d}.MP4", Noise(9000 + number, number), fragments=1 + number % 3)
        card.add("DCIM/执法/现场检查_20260131_093015.mp4", Noise(5000))
        card.delete("DCIM/100MEDIA/MOVI0007.MP4")
    return card


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_the_real_child_lists_a_card_and_leaves_every_byte_as_it_was(tmp_path: Path, make: type[Card]) -> None:
    path = tmp_path / "card.img"
    card = ordinary(path, make)
    before, times = path.read_bytes(), path.stat().st_mtime_ns
    code, lines, stderr = run_child(path)
    assert (code, stderr) == (0, "")
    status = path.stat()
    assert lines[0] == {
        "source": {"rdev": 0, "ino": status.st_ino, "dev": status.st_dev, "size": status.st_size, "diskseq": 0}
    }
    assert list(lines[1]) == ["volume"]
    assert lines[-1]["end"]["entries"] == 30
    parsed = collect(lines)
    assert_matches(parsed, card.truth())
    assert [detail["path"] for detail in parsed.found("deleted")] == ["DCIM/100MEDIA/MOVI0007.MP4"]
    size_bytes, free_bytes, lost_bytes = lines[-1]["end"]["space"]
    assert (size_bytes > free_bytes > 0, lost_bytes) == (True, 0)
    check_as_daemon(path.stat().st_size, lines[1:])
    assert (path.read_bytes(), status.st_mtime_ns) == (before, times)


@pytest.mark.root
def test_a_block_device_has_an_identity_that_tells_a_replug(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    ordinary(path, small_fat)
    seen = []
    for _ in range(2):
        found = subprocess.run(
            ["losetup", "--read-only", "--find", "--show", path], check=True, capture_output=True, text=True
        )
        loop = found.stdout.strip()
        try:
            _, lines, _ = run_child(Path(loop))
            seen.append(lines[0]["source"])
            assert (seen[-1]["rdev"], seen[-1]["size"]) == (os.stat(loop).st_rdev, path.stat().st_size)
            assert lines[-1]["end"]["entries"] == 30
        finally:
            subprocess.run(["losetup", "--detach", loop], check=True)
    assert seen[0]["diskseq"] != seen[1]["diskseq"]


@pytest.mark.root
def test_a_second_listing_reads_the_medium_again(tmp_path: Path) -> None:
    """The block device's own counter of sectors read grows by as much as at the first listing."""
    path = tmp_path / "card.img"
    ordinary(path, small_exfat)
    loop = subprocess.run(
        ["losetup", "--read-only", "--find", "--show", path], check=True, capture_output=True, text=True
    )
    device = loop.stdout.strip()
    try:
        counter = Path(f"/sys/block/{Path(device).name}/stat")
        counts = [int(counter.read_text().split()[2])]
        for _ in range(3):
            run_child(Path(device))
            counts.append(int(counter.read_text().split()[2]))
        assert counts[2] - counts[1] > 0
        assert counts[2] - counts[1] == counts[3] - counts[2]
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def test_the_fingerprint_of_the_metadata_tells_any_change_of_it(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    card = ordinary(path, small_fat)

    def fingerprint() -> str:
        with source_of(path) as source:
            digest: str = lines_of_source(source)[-1]["end"]["metadata_blake3"]
            return digest

    first = fingerprint()
    assert fingerprint() == first
    raw = bytearray(path.read_bytes())
    raw[card.node("DCIM/100MEDIA/MOVI0003.MP4").entry_offset + 14] ^= 1
    path.write_bytes(raw)
    assert fingerprint() != first


def test_long_lists_of_extents_are_split_over_lines(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        card.add("A.MP4", Noise(5000 * 512), fragments=5000)
        card.add("B.MP4", b"x")
    _, lines, _ = run_child(path)
    assert sum("more" in line for line in lines) == 5
    assert len(next(line for line in lines if "clip" in line)["extents"]) == FIRST_EXTENTS
    assert_matches(collect(lines), card.truth())
    check_as_daemon(path.stat().st_size, lines[1:])


def test_a_worst_case_path_still_fits_a_line(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    name = "\u202e" * 255
    with small_exfat(path) as card:
        card.add(("DCIM", *([name] * 20), name), Noise(1000 * 4096), fragments=1000)
    _, lines, _ = run_child(path)
    clip = collect(lines).clips[0]
    assert len(clip["path"]) <= PATH_LIMIT + 8
    assert clip["raw_name"] == name.encode("utf-16-le").hex()
    check_as_daemon(path.stat().st_size, lines[1:])


# What can't be listed.


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: None, "unreadable"),
        (lambda path: path.mkdir(), "not-a-device"),
        (os.mkfifo, "not-a-device"),
        (lambda path: path.write_bytes(b""), "no-filesystem"),
        (lambda path: path.write_bytes(os.urandom(1 << 16)), "no-filesystem"),
        (lambda path: path.write_bytes(b"\xeb\x52\x90NTFS    ".ljust(1 << 16, b"\0")), "unsupported"),
    ],
    ids=["missing", "folder", "fifo", "empty", "noise", "broken ntfs"],
)
def test_what_is_no_card_ends_with_a_reason(tmp_path: Path, make: object, kind: str) -> None:
    path = tmp_path / "card.img"
    make(path)  # type: ignore[operator]
    code, lines, stderr = run_child(path)
    assert (code, stderr) == (0, "")
    expected = {kind, "no-filesystem"} if kind == "unsupported" else {kind}
    assert lines[-1]["error"]["kind"] in expected


def test_a_reader_that_went_away_ends_the_child(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    with small_fat(path) as card:
        for number in range(3000):
            card.add(f"A{number}.MP4", b"x")
    child = subprocess.Popen([*CHILD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={"TZ": "UTC"})
    assert child.stdout is not None
    child.stdout.close()
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 1
    assert stderr.startswith(b"BrokenPipeError")


# A medium with bad sectors.


class BadSectors:
    """Stands in for os.pread: ranges that touch one of the offsets fail as a dying card does."""

    def __init__(self, offsets: set[int], code: int = errno.EIO) -> None:
        self.offsets = offsets
        self.code = code
        self.pread = os.pread

    def __call__(self, fd: int, length: int, offset: int) -> bytes:
        if any(offset < bad + 512 and bad < offset + length for bad in self.offsets):
            raise OSError(self.code, os.strerror(self.code))
        return self.pread(fd, length, offset)


def test_a_bad_sector_in_a_folder_costs_only_its_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "card.img"
    with small_fat(path, cluster_bytes=4096) as card:
        for number in range(100):
            card.add(f"DCIM/MOVI{number:04d}.MP4", Noise(100, number))
    bad = card.cluster_offset(card.node("DCIM").start) + 512
    with source_of(path) as source:
        monkeypatch.setattr(os, "pread", BadSectors({bad}))
        parsed = collect(lines_of_source(source))
    assert parsed.paths() == {f"DCIM/MOVI{number:04d}.MP4" for number in range(100) if not 14 <= number < 30}
    assert parsed.found("metadata-unreadable") == [{"offset": bad, "length": 512}]


@pytest.mark.parametrize("code", [errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM])
def test_a_recorder_that_was_pulled_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    path = tmp_path / "card.img"
    ordinary(path, small_fat)
    with source_of(path) as source:
        monkeypatch.setattr(os, "pread", BadSectors({0}, code))
        assert collect(lines_of_source(source)).error["kind"] == "gone"


def test_a_dying_card_is_given_up_after_a_bounded_number_of_sectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "card.img"
    path.write_bytes(bytes(1 << 20))
    with source_of(path) as source, contextlib.suppress(FilesystemError):
        monkeypatch.setattr(os, "pread", BadSectors(set(range(0, 1 << 20, 512))))
        source.read(0, 1 << 20)
        pytest.fail("every sector is bad")
    assert len(source.bad) == BAD_SECTORS_LIMIT + 1


def test_reading_is_bounded_by_the_device(tmp_path: Path) -> None:
    path = tmp_path / "card.img"
    path.write_bytes(b"x" * 1000)
    with path.open("rb") as image:
        source = Source(image.fileno(), 1000)
        assert source.read(990, 100) == b"x" * 10
        assert source.read(1000, 1) == source.read(-1, 5) == source.read(0, 0) == b""


# Names that are safe to show.


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("现场检查 0001.mp4", "现场检查 0001.mp4"),
        ("..", "<U+002E><U+002E>"),
        (".", "<U+002E>"),
        ("", "<empty>"),
        ("a/b", "a<U+002F>b"),
        ("a\\b", "a<U+005C>b"),
        ("\x1b[31mred", "<U+001B>[31mred"),
        ("gpj.\u202e4pm", "gpj.<U+202E>4pm"),
        ("a\ud800b", "a<U+D800>b"),
        ("line\u2028end\n", "line<U+2028>end<U+000A>"),
        ("full\u3000width", "full\u3000width"),
    ],
)
def test_names_are_made_safe_to_show(name: str, shown: str) -> None:
    assert safe_name(name) == shown


def test_paths_are_bounded() -> None:
    path = ""
    for _ in range(40):
        path = join_path(path, "x" * 255)
    assert len(path) <= PATH_LIMIT + 8
