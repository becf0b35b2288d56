"""Cards made to break a reader end in bounded time and memory, and claim nothing that the card can't hold."""

from __future__ import annotations

import random
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.drivers.filesystem import ENTRIES_LIMIT
from simulator.card import Card
from simulator.content import Noise
from simulator.layout import ChainEnd
from tests.parsing import CHILD, Parsed, check_as_daemon, collect, parse, run_child, small_exfat, small_fat

CPU_LIMIT_S = 30
MEMORY_LIMIT_KIB = 400 * 1024

Make = Callable[[Path], Card]


def child(path: Path) -> Parsed:
    """What the real child says; its lines must pass the daemon's checks and its end must be orderly."""
    code, lines, stderr = run_child(path)
    assert (code, stderr) == (0, "")
    check_as_daemon(path.stat().st_size, lines[1:])
    parsed = collect(lines)
    size = path.stat().st_size
    assert sum(clip["readable"] for clip in parsed.clips) <= 2 * size
    for extents in parsed.extents.values():
        assert all(0 <= offset < offset + length <= size for offset, length in extents)
    assert parsed.end.get("entries") == len(parsed.clips) + len(parsed.refused)
    return parsed


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_names_that_try_to_leave_or_to_deceive_are_only_names(tmp_path: Path, make: Make) -> None:
    names = [
        "..", ".", "../../etc/passwd", "a/b", "a\\b", "\x1b[2J", "gpj.\u202egpm.mp4", "nul\x01", "\ud800\udfff\udc00",
            "x" * 255,
        "执" * 255, "CON", "a\nb", "\ufeff", "\u200b",
    ]  # fmt: skip
    with make(tmp_path / "card.img") as card:
        for number, name in enumerate(names):
            card.add(("DCIM", name), Noise(100, number))
    parsed = child(card.path)
    shown = parsed.paths()
    assert len(shown) == len(names)
    assert all(path.count("/") == 1 and "\\" not in path for path in shown)
    assert all(path.isprintable() and path.split("/")[1] not in (".", "..") for path in shown)
    raw = {bytes.fromhex(clip["raw_name"]) for clip in parsed.clips}
    long_names = {name.encode("utf-16-le", "surrogatepass") for name in names if name != "CON"}
    assert raw >= long_names


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_a_folder_that_holds_itself_is_listed_once(tmp_path: Path, make: Make) -> None:
    with make(tmp_path / "card.img") as card:
        card.add("DCIM/A/real.mp4", Noise(100))
        card.mkdir("DCIM/A/LOOP")
        card.mkdir("DCIM/A/ROOT")
        card.finish()
        card.corrupt_directory_loop("DCIM/A/LOOP", "DCIM")
        card.corrupt_directory_loop("DCIM/A/ROOT", "")
    parsed = child(card.path)
    assert parsed.paths() == {"DCIM/A/real.mp4"}
    assert {loop["path"] for loop in parsed.found("directory-loop")} == {"DCIM/A/LOOP", "DCIM/A/ROOT"}


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_a_tree_deeper_than_any_recorder_makes_is_cut_and_told(tmp_path: Path, make: Make) -> None:
    with make(tmp_path / "card.img") as card:
        for depth in (5, 200):
            card.add("/".join(["D"] * depth + ["a.mp4"]), Noise(100))
    parsed = child(card.path)
    assert parsed.paths() == {"D/D/D/D/D/a.mp4"}
    assert len(parsed.found("too-deep")) == 1


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_thousands_of_entries_on_one_chain_are_refused_beyond_twice_the_card(tmp_path: Path, make: Make) -> None:
    with make(tmp_path / "card.img") as card:
        card.add("DCIM/ORIGINAL.MP4", Noise(2 << 20), fragments=3)
        for number in range(2000):
            name = f"DCIM/COPY{number:04d}.MP4"
            card.add(name, b"x", fragments=1)
            card.corrupt_cross_link(name, "DCIM/ORIGINAL.MP4")
            card.corrupt_size(name, 2 << 20)
            card.node(name).runs = card.node("DCIM/ORIGINAL.MP4").runs  # exFAT: a chain, too
    parsed = child(card.path)
    assert len(parsed.clips) + len(parsed.refused) == 2001
    assert parsed.clip("DCIM/ORIGINAL.MP4")["flags"] == []
    assert {refused["reason"] for refused in parsed.refused} <= {"cross-linked", "chain-not-followed"}
    assert len(parsed.refused) > 1000


def test_many_entries_on_an_endless_loop_cost_bounded_steps(tmp_path: Path) -> None:
    with small_fat(tmp_path / "card.img") as card:
        card.add("LOOP.BIN", Noise(40_000 * 512))
        card.corrupt_chain("LOOP.BIN", ChainEnd.LOOP, 40_000)
        card.corrupt_size("LOOP.BIN", 0xFFFFFFFF)
        for number in range(3000):
            card.add(f"L{number:04d}.BIN", b"")
            card.corrupt_cross_link(f"L{number:04d}.BIN", "LOOP.BIN")
            card.corrupt_size(f"L{number:04d}.BIN", 0xFFFFFFFF)
    parsed = child(card.path)
    assert parsed.clip("LOOP.BIN")["flags"] == ["size-exceeds-volume", "chain-loop"]
    assert len(parsed.clips) + len(parsed.refused) == 3001


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_files_larger_than_the_disk_are_never_claimed(tmp_path: Path, make: Make) -> None:
    with make(tmp_path / "card.img") as card:
        for number, size in enumerate((0xFFFFFFFF, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)):
            card.add(f"A{number}.MP4", b"x")
            card.corrupt_size(f"A{number}.MP4", min(size, 0xFFFFFFFF) if make is small_fat else size)
    parsed = child(card.path)
    assert len(parsed.clips) + len(parsed.refused) == 4
    assert all(clip["flags"] for clip in parsed.clips)


def test_a_valid_length_cannot_make_zeros_out_of_nothing(tmp_path: Path) -> None:
    """Zeros behind the valid length only reach as far as clusters are allocated."""
    with small_exfat(tmp_path / "card.img") as card:
        card.add("A.MP4", Noise(5000), valid_bytes=0)
        card.corrupt_size("A.MP4", 1 << 50)
        card.add("B.MP4", Noise(9000), fragments=2, valid_bytes=0)
        card.corrupt_size("B.MP4", 1 << 50)
    parsed = child(card.path)
    assert sum(clip["readable"] for clip in parsed.clips) <= 2 * card.path.stat().st_size


def big(path: Path) -> subprocess.CompletedProcess[bytes]:
    """The real child with its CPU time and memory limited from outside as well."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_LIMIT_S, CPU_LIMIT_S))

    measure = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run(sys.argv[1:], stdout=sys.stdout)\n"
        "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))\n"
        "sys.exit(done.returncode)"
    )
    command = [sys.executable, "-c", measure, *CHILD, str(path)]
    return subprocess.run(command, capture_output=True, env={"TZ": "UTC"}, check=True, timeout=100, preexec_fn=limit)


def test_a_hundred_thousand_files_in_one_folder(tmp_path: Path) -> None:
    with Card.exfat(tmp_path / "card.img", 1 << 30, cluster_bytes=4096) as card:
        for number in range(100_000):
            card.add(f"DCIM/{number:06d}.JPG")
    done = big(card.path)
    assert done.stdout.count(b'{"clip"') == 100_000
    assert b'"end":{"entries":100000' in done.stdout
    assert int(done.stderr) < MEMORY_LIMIT_KIB


def test_millions_of_entries_end_at_the_limit(tmp_path: Path) -> None:
    with small_fat(tmp_path / "card.img", cluster_bytes=4096) as card:
        slot = struct.pack("<11sB14xHI", b"MOVI0001MP4", 0x20, 0, 0)
        for number in range(8):
            folder = card.mkdir(f"DCIM{number}")
            folder.runs = [(100 + 600 * number, 512)]
            card.format.link(folder)
            card.poke(card.extents(folder)[0][0], slot * 65_536)
    done = big(card.path)
    lines = done.stdout.splitlines()
    assert b'"error":{"kind":"limit"' in lines[-1]
    assert len(lines) <= ENTRIES_LIMIT + 10
    assert int(done.stderr) < MEMORY_LIMIT_KIB


def test_a_folder_larger_than_the_format_allows_is_cut_and_told(tmp_path: Path) -> None:
    with small_fat(tmp_path / "card.img", cluster_bytes=4096) as card:
        folder = card.mkdir("DCIM")
        folder.runs = [(100, 600)]
        card.format.link(folder)
        card.poke(card.extents(folder)[0][0], struct.pack("<11sB14xHI", b"MOVI0001MP4", 0x20, 0, 0) * 76_800)
    parsed = child(card.path)
    assert len(parsed.clips) == 65_536
    assert parsed.found("directory-damaged") == [{"path": "DCIM", "flags": ["too-large"]}]


def test_tens_of_thousands_of_large_tombstones_end_in_time(tmp_path: Path) -> None:
    with Card.fat32(tmp_path / "card.img", 2 << 30, cluster_bytes=4096) as card:
        for number in range(20_000):
            card.add(f"DCIM/OVER{number:04d}.MP4" if number < 10_000 else f"DCIN/OVER{number - 10_000:04d}.MP4")
            node = card.node(f"DCIM/OVER{number:04d}.MP4" if number < 10_000 else f"DCIN/OVER{number - 10_000:04d}.MP4")
            node.claimed_start, node.claimed_bytes, node.deleted = 100 + number, 1 << 30, True
    done = big(card.path)
    assert done.stdout.count(b'"kind":"deleted"') == 20_000
    assert b'"state":"unknown"' in done.stdout
    assert int(done.stderr) < MEMORY_LIMIT_KIB


def test_a_fully_fragmented_file_is_listed_whole(tmp_path: Path) -> None:
    with small_fat(tmp_path / "card.img") as card:
        card.add("A.MP4", Noise(40_000 * 512), fragments=40_000)
    parsed = child(card.path)
    assert len(parsed.where("A.MP4")) == 40_000
    assert parsed.clip("A.MP4")["flags"] == []


@pytest.mark.parametrize("make", [small_fat, small_exfat])
def test_a_table_of_noise_costs_files_not_the_listing(tmp_path: Path, make: Make) -> None:
    with make(tmp_path / "card.img") as card:
        for number in range(50):
            card.add(f"DCIM/{number}.mp4", Noise(50_000, number), fragments=4)
        card.finish()
        boot = card.image.read(0, 512)
        table = (
            struct.unpack_from("<H", boot, 14)[0] * 512
            if make is small_fat
            else struct.unpack_from("<I", boot, 80)[0] * 512
        )
        card.poke(table + 4 * 64, random.Random(1).randbytes(4096))
    parsed = child(card.path)
    assert len(parsed.clips) + len(parsed.refused) == 50


def test_in_process_and_in_the_sandbox_the_answer_is_the_same(tmp_path: Path) -> None:
    with small_fat(tmp_path / "card.img") as card:
        for number in range(50):
            card.add(f"DCIM/执法{number}.mp4", Noise(5000, number), fragments=2)
        card.corrupt_chain("DCIM/执法7.mp4", ChainEnd.LOOP, 3)
        card.corrupt_cross_link("DCIM/执法8.mp4", "DCIM/执法9.mp4")
        card.delete("DCIM/执法10.mp4")
    assert child(card.path) == parse(card.path)
