"""The service as systemd runs it, with recorders that are hostile, slow, cloned or swapped: it lives and is true."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from agent.journal import Reader
from agent.model import AssetState
from simulator.card import Card
from simulator.content import Noise
from simulator.layout import ChainEnd
from simulator.stage import Stage
from tests.cards import MIB, card, image
from tests.daemons import LIMIT_S, Daemon, call, running, stage
from tests.disks import NEVER, faulty_image
from tests.parsing import Parsed, parse, read_extents

FILES = {f"DCIM/{n:04}.MP4": Noise(60_000 + n, n) for n in range(1, 6)}
MEMORY_LIMIT_BYTES = 150 * MIB
ANSWER_LIMIT_S = 5.0
ENDED = ("finished", "failed", "unplugged", "unsupported")


# As systemd runs it.


@contextmanager
def notified(folder: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(folder / "notify"))
        listening.settimeout(30)
        yield listening


def test_systemd_is_told_ready_alive_and_stopping_and_the_exit_is_0(tmp_path: Path) -> None:
    made = stage(tmp_path)
    with notified(tmp_path) as manager, made.log.open("wb") as log:
        environment = os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"}
        service = subprocess.Popen(made.command("run"), stdout=log, stderr=log, env=environment)
        try:
            assert b"READY=1" in manager.recv(4096)
            assert made.ask("/healthz")["status"] in {"ok", "degraded"}, "ready means that it answers"
            told = b""
            while b"WATCHDOG=1" not in told:
                told = manager.recv(4096)
            service.terminate()
            while b"STOPPING=1" not in told:
                told = manager.recv(4096)
            assert service.wait(30) == 0
        finally:
            service.kill()
            service.wait()
    text = made.log.read_text()
    assert "Traceback" not in text
    assert "ready" in text


@pytest.mark.parametrize("phase", ["starting", "idle", "identifying", "reading", "finished", "failed"])
def test_sigterm_in_any_phase_ends_in_good_order_and_the_next_start_finishes(tmp_path: Path, phase: str) -> None:
    made = stage(tmp_path)
    big = {"BIG.MP4": Noise(40 * MIB, 1), **FILES}
    path = image(tmp_path / "card.img", dict(big))
    if phase == "starting":
        early = subprocess.Popen(made.command("run"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while not (made.station / "journal.db").exists():
            time.sleep(0.005)
        early.terminate()
        _, err = early.communicate(timeout=30)
        assert early.returncode in {0, -signal.SIGTERM}
        assert b"Traceback" not in err
    else:
        with running(made) as daemon:
            if phase == "failed":
                (made.dock / "noise.img").write_bytes(Noise(MIB, 1).read())
                daemon.until_phase("noise.img", "failed")
            elif phase != "idle":
                daemon.dock(path)
                daemon.until_phase("card.img", phase, "finished")
            began = time.monotonic()
            assert daemon.service.stop() == 0
            assert time.monotonic() - began < 20
    with running(made) as daemon:
        if path.exists():
            daemon.dock(path)
        slot = daemon.until_phase("card.img", "finished")
        assert slot["may_remove"]
        daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == len(big))
    assert call(made, "verify").returncode == 0
    assert {found.read_bytes() for found in (made.station / "vault").rglob("*") if found.is_file()} == {
        content.read() for content in big.values()
    }


# F9: swapped in the middle.


def test_a_clone_swapped_in_while_the_first_is_read_is_another_docking(tmp_path: Path) -> None:
    """F9: same file name, size, serial, names and times; at no time is either taken for the other."""
    made = stage(tmp_path)
    first = card(tmp_path / "card.img", {"BIG.MP4": Noise(97 * MIB, 1)}, size_bytes=128 * MIB)
    first.close()
    clone = tmp_path / "clone.img"
    shutil.copyfile(first.path, clone)
    with clone.open("r+b") as file:
        os.pwrite(file.fileno(), Noise(97 * MIB, 2).read(), first.extents(first.node("BIG.MP4"))[0][0])
    with running(made) as daemon:
        daemon.dock(first.path, "card.img")
        daemon.until(lambda: daemon.slot("card.img").get("bytes", {}).get("done", 0) > 0)
        dockings = len(daemon.status()["dockings"])
        os.rename(made.dock / "card.img", tmp_path / "pulled-out.img")
        daemon.dock(clone, "card.img")
        daemon.until(lambda: len(daemon.status()["dockings"]) > dockings)
        daemon.until_phase("card.img", "finished")
        assert daemon.slot("card.img")["may_remove"]
        daemon.dock(tmp_path / "pulled-out.img", "card-again.img")
        daemon.until_phase("card-again.img", "finished")
    with closing(Reader(made.station / "journal.db")) as reader:
        assert all(view.closed_at is not None for view in reader.dockings(limit=10))
    contents = {blake3(Noise(97 * MIB, seed).read()).hexdigest() for seed in (1, 2)}
    assert {found.name for found in (made.station / "vault").rglob("*") if found.is_file()} == contents
    assert call(made, "verify").returncode == 0


# A recorder that hangs.


@pytest.mark.root
def test_a_read_that_hangs_ends_its_docking_only_and_never_the_stop(tmp_path: Path) -> None:
    """The stall limit ends it; other slots go on; SIGTERM is obeyed while the kernel holds the helper."""
    made = stage(tmp_path, {"dock.stall_limit_s": "1", "dock.parser_limit_s": "5", "runner.backoff_max_s": "60"})
    slow = image(tmp_path / "slow.img", dict(FILES))
    fine = image(tmp_path / "fine.img", {"A.MP4": Noise(90_000, 50)})
    with faulty_image(slow, tmp_path / "fuse", threads=True) as served, running(made) as daemon:
        served.fail(stall_from=0)
        pull = subprocess.Popen(made.command("pull", str(served.path), "--json"), stdout=subprocess.PIPE)
        slot = f"by hand: {served.path}"
        daemon.until(lambda: daemon.slot(slot))
        daemon.dock(fine)
        assert daemon.until_phase("fine.img", "finished")["may_remove"]
        shown = daemon.until_phase(slot, "failed")
        assert not shown["may_remove"]
        out, _ = pull.communicate(timeout=LIMIT_S)
        assert pull.returncode != 0
        assert b'"may_remove": false' in out
        again = subprocess.Popen(made.command("pull", str(served.path)), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        daemon.until_phase(slot, "identifying")
        began = time.monotonic()
        assert daemon.service.stop() == 0
        assert time.monotonic() - began < 20
        served.fail(stall_from=NEVER)
        again.communicate(timeout=LIMIT_S)
        assert again.returncode != 0


@pytest.mark.root
def test_a_read_that_hangs_in_the_middle_is_a_failure_and_the_next_docking_finishes(tmp_path: Path) -> None:
    made = stage(tmp_path, {"dock.stall_limit_s": "1", "dock.parser_limit_s": "4", "runner.attempts": "2"})
    slow = image(tmp_path / "slow.img", {"BIG.MP4": Noise(40 * MIB, 1)})
    with faulty_image(slow, tmp_path / "fuse", threads=True) as served, running(made) as daemon:
        served.fail(stall_from=30 * MIB)
        told = call(made, "pull", str(served.path), "--json", timeout_s=100)
        assert told.returncode != 0
        assert not json.loads(told.stdout)["may_remove"]
        shown = daemon.slot(f"by hand: {served.path}")
        assert shown["hold"]["name"] == "ask"
        served.fail(stall_from=NEVER)
        told = call(made, "pull", str(served.path))
        assert told.returncode == 0, told.stdout + told.stderr


# Hostile cards.


def gpt(path: Path, volumes: list[bytes], volume_bytes: int) -> None:
    """One image with many volumes, so that one docking reads them all."""
    sectors = volume_bytes // 512
    entries = b"".join(
        b"\x01" * 16 + struct.pack("<16sQQ", bytes([number + 1]) * 16, first, first + sectors - 1) + bytes(80)
        for number, first in ((number, 2048 + number * sectors) for number in range(len(volumes)))
    ).ljust(128 * 128, b"\0")
    header = bytearray(struct.pack("<8sIIII", b"EFI PART", 0x10000, 92, 0, 0).ljust(92, b"\0"))
    struct.pack_into("<QII", header, 72, 2, 128, 128)
    struct.pack_into("<I", header, 16, zlib.crc32(header))
    with path.open("wb") as file:
        file.truncate(MIB + len(volumes) * volume_bytes)
        os.pwrite(file.fileno(), struct.pack("<B3xB3xII", 0, 0xEE, 1, 0xFFFFFFFF), 446)
        os.pwrite(file.fileno(), b"\x55\xaa", 510)
        os.pwrite(file.fileno(), bytes(header).ljust(512, b"\0") + entries, 512)
        for number, volume in enumerate(volumes):
            os.pwrite(file.fileno(), volume.rstrip(b"\0"), MIB + number * volume_bytes)


def base(folder: Path, kind: str) -> tuple[Card, int]:
    """A small card with folders, fragments and deletions; how many of its first bytes hold metadata."""
    size_bytes, cluster_bytes = (34 * MIB, 512) if kind == "fat32" else (4 * MIB, 4096)
    make = Card.fat32 if kind == "fat32" else Card.exfat
    with make(folder / f"{kind}.base", size_bytes, cluster_bytes=cluster_bytes) as made:
        for number in range(12):
            made.add(f"DCIM/100/MOV_{number:04}.MP4", Noise(5000 + number, number), fragments=1 + number % 3)
        made.add("执法/现场检查 第一段.mp4", Noise(3000, 90))
        made.delete("DCIM/100/MOV_0005.MP4")
    return made, made.format.data_offset + 64 * cluster_bytes


def mutated(whole: bytes, regions: list[tuple[int, int]], chance: random.Random) -> bytes:
    """Some bytes of the metadata are others now: single bits, bytes, and whole fields."""
    raw = bytearray(whole)
    for _ in range(chance.choice([1, 2, 5, 20, 60])):
        begin, length = chance.choice(regions)
        at = begin + chance.randrange(length)
        size = chance.choice([1, 1, 2, 4, 8, 32])
        raw[at : at + size] = chance.choice([chance.randbytes(size), b"\xff" * size, bytes(size)])
    return bytes(raw)


def mutants(folder: Path, kind: str, count: int, seed: int) -> tuple[list[bytes], int]:
    made, _ = base(folder, kind)
    whole = made.path.read_bytes()
    directories = [extent for name in ("DCIM", "DCIM/100", "执法") for extent in made.extents(made.node(name))]
    root = (made.cluster_offset(made.format.root.runs[0][0]), made.format.cluster_bytes)
    regions = [(0, 512), (made.format.data_offset - 4096 * 4, 4096 * 4), root, *directories, *directories]
    fat_begin = struct.unpack_from("<H", whole, 14)[0] * 512 if kind == "fat32" else whole[80] * 512
    regions.append((fat_begin, 512))
    chance = random.Random(seed)
    return [mutated(whole, regions, chance) for _ in range(count)], len(whole)


def hostile(folder: Path) -> Iterator[Path]:
    """Cards made to break a reader."""
    with Card.fat32(folder / "loops.img", 34 * MIB, cluster_bytes=512) as made:
        made.add("DCIM/A.MP4", Noise(9000, 1))
        made.add("DCIM/B.MP4", Noise(9000, 2))
        made.mkdir("DCIM/DEEP/LOOP")
        made.finish()
        made.corrupt_directory_loop("DCIM/DEEP/LOOP", "DCIM")
        made.corrupt_chain("DCIM/A.MP4", ChainEnd.LOOP, 3)
    yield made.path
    with Card.fat32(folder / "crossed.img", 34 * MIB, cluster_bytes=512) as made:
        made.add("A.MP4", Noise(90_000, 3))
        for number in range(40):
            made.add(f"X{number}.MP4", Noise(90_000, 10 + number))
            made.corrupt_cross_link(f"X{number}.MP4", "A.MP4")
    yield made.path
    with Card.exfat(folder / "names.img", 16 * MIB, cluster_bytes=4096) as made:
        names = [
            "..",
            ".",
            "../../../etc/passwd",
            "a/b",
            "\x1b[2J\x07",
            "gpj.\u202egpm",
            "\ud800\udfff\udc00",
            "x" * 255,
        ]
        names += ["执" * 255, "a\nb", "\ufeff", "可以取走"]
        for number, name in enumerate(names):
            made.add(("DCIM", name), Noise(3000, 100 + number))
    yield made.path
    with Card.fat32(folder / "larger.img", 34 * MIB, cluster_bytes=512) as made:
        for number in range(50):
            made.add(f"G{number}.MP4", Noise(2000, 200 + number))
            made.corrupt_size(f"G{number}.MP4", 0xFFFFFFFF)
    yield made.path
    with Card.exfat(folder / "endless.img", 16 * MIB, cluster_bytes=4096) as made:
        made.add("E.MP4", Noise(9000, 300))
        made.corrupt_size("E.MP4", 1 << 62)
    yield made.path
    whole = made.path.read_bytes()
    cut = folder / "cut.img"
    cut.write_bytes(whole[: 3 * MIB])
    yield cut


def watched(daemon: Daemon, true: Callable[[], bool], limit_s: float) -> None:
    """Wait, while the service must answer all the time and stay small."""
    end = time.monotonic() + limit_s
    while not true():
        began = time.monotonic()
        assert daemon.stage.ask("/healthz")["status"] in {"ok", "degraded"}
        assert time.monotonic() - began < ANSWER_LIMIT_S
        assert time.monotonic() < end, daemon.status()["slots"]
        daemon.service.alive()
        time.sleep(0.2)
    assert daemon.rss_bytes() < MEMORY_LIMIT_BYTES


def claims_are_true(made: Stage, images: dict[str, Path]) -> int:
    """Every clip that counts as pulled has exactly the bytes that the image gives; every docking adds up."""
    parsed: dict[str, Parsed] = {}
    claimed = 0
    with closing(Reader(made.station / "journal.db")) as reader:
        slots = {view.docking_id: view.slot for view in reader.dockings(limit=100)}
        for view in reader.dockings(limit=100):
            counts = view.accounting
            assert counts.pending == 0
            assert view.closed_at is not None
            known = parsed.setdefault(view.slot, parse(images[view.slot]))
            assert counts.seen == len(known.clips) + len(known.refused)
        after = ""
        while page := reader.recordings(after=after):
            after = page[-1].after
            for row in page:
                if row.clip is None or row.asset.state not in {AssetState.HELD, AssetState.STORED, AssetState.MATCHED}:
                    continue
                path = images[slots[row.docking_id]]
                extents = parsed[slots[row.docking_id]].extents[row.clip.number]
                content = read_extents(path, extents).ljust(row.clip.readable_bytes, b"\0")
                assert row.asset.digests is not None
                assert (row.asset.size_bytes, row.asset.digests.blake3) == (len(content), blake3(content).hexdigest())
                claimed += 1
    return claimed


def test_hundreds_of_mutated_and_hostile_cards_cost_the_service_nothing(tmp_path: Path) -> None:
    """The daemon lives and answers, memory and time are bounded, and no file is claimed that wasn't read."""
    made = stage(tmp_path)
    images = {path.name: path for path in hostile(tmp_path)}
    for kind, sets in (("fat32", 4), ("exfat", 3)):
        for number in range(sets):
            volumes, size = mutants(tmp_path, kind, 30, number)
            path = tmp_path / f"{kind}-{number}.img"
            gpt(path, volumes, size)
            images[path.name] = path
    for number, raw in enumerate(mutants(tmp_path, "exfat", 8, 99)[0]):
        path = tmp_path / f"whole-{number}.img"
        path.write_bytes(raw)
        images[path.name] = path
    with running(made) as daemon:
        for name, path in images.items():
            os.link(path, made.dock / name)
        watched(daemon, lambda: _rests(daemon, images), 100)
        (made.dock / "loops.img").unlink()
        text = call(made, "status").stdout
        assert "\x1b" not in text
    (made.dock / "loops.img").hardlink_to(images["loops.img"])
    assert claims_are_true(made, images) > 500
    assert call(made, "verify").returncode == 0
    outside = {path for path in made.station.rglob("*") if path.is_file()}
    assert all(len(path.name) == 64 for path in outside if path.is_relative_to(made.station / "vault"))


def _rests(daemon: Daemon, images: dict[str, Path]) -> bool:
    """Every card has been read as far as it can be."""
    slots = {slot["slot"]: slot["phase"]["name"] for slot in daemon.status()["slots"]}
    return slots.keys() >= images.keys() and all(slots[name] in ENDED for name in images)


def test_a_hundred_thousand_entries_are_accounted_for_while_the_service_answers(tmp_path: Path) -> None:
    made = stage(tmp_path)
    with Card.exfat(tmp_path / "crowd.img", 256 * MIB, cluster_bytes=4096) as crowd:
        crowd.add("DCIM/REAL.MP4", Noise(9000, 1))
        for number in range(100_000):
            crowd.add(f"DCIM/{number:06}.JPG").claimed_bytes = 4096  # a size, and nowhere to have it
    with running(made) as daemon:
        daemon.dock(crowd.path)
        watched(daemon, lambda: daemon.slot("crowd.img").get("phase", {}).get("name") in ENDED, 110)
        (docking,) = daemon.status()["dockings"]
        assert docking["accounting"]["seen"] == 100_001
        assert docking["accounting"]["pending"] == 0
        assert docking["accounting"]["pulled"] >= 1
        assert not daemon.slot("crowd.img")["may_remove"] or docking["accounting"]["refused"] == 0
