"""The puller as a child process: its protocol, its sandbox, its end, and what is left when it is killed."""

from __future__ import annotations

import errno
import json
import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from blake3 import blake3

from agent.drivers.source import Identity, identify
from agent.model import BLOCK_BYTES, Digests
from agent.vault import Vault
from tests.disks import MIB, faulty_image, loop

LINE_LIMIT = 64 * 1024
Line = dict[str, list[object]]


class Child:
    """A puller and the daemon's end of its pipes."""

    def __init__(self, device: Path, staging: Path, identity: Identity | None = None) -> None:
        found = identity or identified(device)
        staging_fd = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        numbers = (found.rdev, found.ino, found.size, found.diskseq, staging_fd)
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-m", "agent.drivers.puller", device, *map(str, numbers)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(staging_fd,), env={"TZ": "UTC"}, bufsize=0,
        )  # fmt: skip
        os.close(staging_fd)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = self.process.stdin
        self.stdout = self.process.stdout
        self._rest = b""

    def send(self, *values: object) -> None:
        self.stdin.write(b"".join(json.dumps(value).encode() + b"\n" for value in values))

    def order(
        self,
        number: int,
        part: str,
        extents: list[list[int]],
        *,
        first_block: int = 0,
        check: tuple[int, str] | None = None,
        rescue: bool = False,
    ) -> None:
        size = sum(length for _, length in extents)
        order = {"number": number, "part": part, "size": size, "zero_from": None}
        order |= {"first_block": first_block, "check": check, "rescue": rescue}
        self.send(
            *({"extents": extents[at : at + 1000]} for at in range(0, len(extents), 1000)),
            {"fetch": order, "extents": []},
        )

    def line(self, limit_s: float = 30.0) -> Line | None:
        """Next line, None at the end; fails when nothing comes."""
        while b"\n" not in self._rest:
            assert select.select([self.stdout], [], [], limit_s)[0], "the puller says nothing"
            data = os.read(self.stdout.fileno(), 65536)
            if not data:
                return None
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        assert len(line) < LINE_LIMIT
        line.decode("ascii")
        value: Line = json.loads(line)
        return value

    def is_silent(self) -> bool:
        return not self._rest and not select.select([self.stdout], [], [], 0.3)[0]

    def close(self) -> int:
        self.stdin.close()
        self.stdout.close()
        try:
            return self.process.wait(timeout=20)
        finally:
            self.process.kill()
            self.process.wait()


def identified(device: Path) -> Identity:
    with device.open("rb") as file:
        return identify(file.fileno())


@contextmanager
def puller(device: Path, staging: Path, identity: Identity | None = None) -> Iterator[Child]:
    child = Child(device, staging, identity)
    try:
        yield child
    finally:
        child.close()


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "card.img"
    path.write_bytes(os.urandom(3 * BLOCK_BYTES))
    return path


def test_clips_come_back_as_blocks_then_the_end(image: Path, staging: Path) -> None:
    content = image.read_bytes()
    fragments = [[at * 8192, 4096] for at in range(2500)]
    with puller(image, staging) as child:
        child.order(1, "a.part", [[4096, BLOCK_BYTES + 5]])
        child.order(2, "b.part", fragments)
        child.order(3, "", [[0, 100]])
        big = content[4096 : 4096 + BLOCK_BYTES + 5]
        assert child.line() == {"block": [1, 0, BLOCK_BYTES, blake3(big[:BLOCK_BYTES]).hexdigest(), []]}
        assert child.line() == {"block": [1, 1, 5, blake3(big[BLOCK_BYTES:]).hexdigest(), []]}
        assert child.line() == {"fetched": [1, len(big), [], ""]}
        small = b"".join(content[offset : offset + length] for offset, length in fragments)
        assert child.line() == {"block": [2, 0, len(small), blake3(small).hexdigest(), []]}
        assert child.line() == {"fetched": [2, len(small), [], ""]}
        assert child.line() == {"fetched": [3, 100, [], blake3(content[:100]).hexdigest()]}
        assert child.close() == 0
    assert (staging / "a.part").read_bytes() == big
    assert (staging / "b.part").read_bytes() == small


def test_it_never_runs_more_than_four_blocks_ahead(tmp_path: Path, staging: Path) -> None:
    """The daemon reads back and journals behind it; memory and staging stay bounded."""
    image = tmp_path / "long.img"
    with image.open("wb") as file:
        file.truncate(7 * BLOCK_BYTES)
    with puller(image, staging) as child:
        child.order(1, "a.part", [[0, 7 * BLOCK_BYTES]])
        for index in range(4):
            line = child.line()
            assert line is not None
            assert line["block"][1] == index
        assert child.is_silent()
        child.send({"ack": 1})
        line = child.line()
        assert line is not None
        assert line["block"][1] == 4
        assert child.is_silent()
        child.send({"ack": 2}, {"ack": 2})
        for name in ("block", "block", "fetched"):
            assert name in (child.line() or {})


def test_it_never_runs_more_than_512_files_ahead(image: Path, staging: Path) -> None:
    with puller(image, staging) as child:
        for number in range(1, 601):
            child.order(number, f"{number}.part", [[number * 512, 512]])
        reported = 0
        while not child.is_silent():
            reported += "block" in (child.line() or {})
        assert reported == 512
        child.send({"ack": 512})
        while reported < 600:
            reported += "block" in (child.line() or {})
    assert len(list(staging.iterdir())) == 600


@pytest.mark.parametrize("field", ["rdev", "ino", "size", "diskseq"])
def test_another_device_under_the_same_name_is_gone(image: Path, staging: Path, field: str) -> None:
    with image.open("rb") as file:
        known = identify(file.fileno())
    other = Identity(**{name: getattr(known, name) + (name == field) for name in Identity._fields})
    with puller(image, staging, other) as child:
        assert "gone" in (child.line() or {})
        assert child.line() is None
    assert list(staging.iterdir()) == []


def test_a_device_that_vanished_before_it_was_opened_is_gone(image: Path, staging: Path) -> None:
    with image.open("rb") as file:
        known = identify(file.fileno())
    child = Child(image, staging, known)
    child.close()
    image.rename(image.with_suffix(".old"))
    image.mkdir()
    with puller(image, staging, known) as child:
        assert "gone" in (child.line() or {})


@pytest.mark.parametrize("vanished", [True, False])
def test_only_a_path_that_is_not_there_is_gone(image: Path, staging: Path, vanished: bool) -> None:
    """What can't be opened may still be docked: calling it unplugged would be untrue."""
    known = identified(image)
    image.unlink()
    if not vanished:
        image.symlink_to(image)  # ELOOP, which even root gets
    child = Child(image, staging, known)
    assert ("gone" in (child.line() or {})) == vanished
    assert child.close() == (0 if vanished else 1)


@pytest.mark.parametrize("moment", ["idle", "waiting for acknowledgements", "reading"])
def test_it_ends_when_its_parent_does(tmp_path: Path, staging: Path, moment: str) -> None:
    """A puller that speaks to nobody reads nothing more and leaves no process."""
    image = tmp_path / "long.img"
    with image.open("wb") as file:
        file.truncate(40 * BLOCK_BYTES)
    child = Child(image, staging)
    if moment != "idle":
        child.order(1, "a.part", [[0, 40 * BLOCK_BYTES]])
        child.send({"ack": 3})
    if moment == "waiting for acknowledgements":
        for _ in range(7):
            child.line()
        assert child.is_silent()
    assert child.close() == 0
    assert sum(path.stat().st_size for path in staging.iterdir()) < 20 * BLOCK_BYTES


def test_a_parent_that_stops_reading_stops_it_and_then_ends_it(image: Path, staging: Path) -> None:
    child = Child(image, staging)
    child.stdout.close()
    child.order(1, "a.part", [[0, BLOCK_BYTES]])
    assert child.process.wait(timeout=20) == 0
    child.close()


def test_nonsense_from_the_parent_ends_it(image: Path, staging: Path) -> None:
    """It trusts its parent, but a bug there must not become a wrong part."""
    with puller(image, staging) as child:
        order = {"number": 1, "part": "a.part", "size": 100, "zero_from": None}
        child.send({"fetch": order | {"first_block": 0, "check": None, "rescue": False}, "extents": [[0, 99]]})
        assert child.line() is None
        assert child.process.wait(timeout=20) != 0
    assert list(staging.iterdir()) == []


@pytest.mark.root
def test_a_block_device_is_known_by_its_number_and_sequence(image: Path, staging: Path) -> None:
    """A re-plugged disk gets the same name and another sequence number."""
    with loop(image, read_only=True) as device:
        with device.path.open("rb") as file:
            known = identify(file.fileno())
        with puller(device.path, staging) as child:
            child.order(1, "", [[0, 4096]])
            assert child.line() == {"fetched": [1, 4096, [], blake3(image.read_bytes()[:4096]).hexdigest()]}
        assert known.diskseq > 0
    with loop(image, read_only=True) as device:
        with puller(device.path, staging, known) as child:
            assert "gone" in (child.line() or {})


# Killed at any moment.


def attempt(
    device: Path, vault: Vault, size: int, durable: list[tuple[int, int, str]], kill_at_bytes: int
) -> Digests | None:
    """Pull on behind the durable blocks, adding to them; SIGKILL when the part has grown so far. Digests at the end."""
    check = (durable[-1][0], durable[-1][2]) if durable else None
    part = vault.staging_dir / vault.part_name("a")
    with puller(device, vault.staging_dir) as child:
        child.order(1, part.name, [[0, size]], first_block=len(durable), check=check)
        end = time.monotonic() + 30
        while child.process.poll() is None and not select.select([child.stdout], [], [], 0)[0]:
            assert time.monotonic() < end
            if part.exists() and part.stat().st_size >= kill_at_bytes:
                child.process.kill()
        with vault.read_back("a") as back:
            back.replay(durable)
            while (line := child.line()) is not None:
                if "fetched" in line:
                    return back.finish(size).digests
                match line["block"]:
                    case [1, int(index), int(length), str(digest), []]:
                        back.block(index, length, digest)
                        durable.append((index, length, digest))
                if part.stat().st_size >= kill_at_bytes:
                    child.process.kill()
                else:
                    child.send({"ack": 1})
    return None


@pytest.mark.root
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_goes_on_and_reads_no_durable_block_twice(tmp_path: Path, seed: int) -> None:
    """The end is exact. Each kill costs the check block, the block it was at, and what was read ahead; nothing else."""
    rng = random.Random(seed)
    size = 5 * BLOCK_BYTES + 12345
    image = tmp_path / "card.img"
    image.write_bytes(rng.randbytes(size + 512 - size % 512))
    vault = Vault(tmp_path / "station", seal=False)
    kills = sorted(rng.randrange(size) for _ in range(3))
    durable: list[tuple[int, int, str]] = []
    with loop(image, read_only=True) as device:
        read_before = device.counters()[0]
        digests = None
        for kill_at_bytes in [*kills, 1 << 40]:  # a kill may come too late
            digests = digests or attempt(device.path, vault, size, durable, kill_at_bytes)
        assert device.counters()[0] - read_before <= size + len(kills) * 3 * BLOCK_BYTES + 8 * MIB
    content = image.read_bytes()[:size]
    assert digests is not None
    assert digests.blake3 == blake3(content).hexdigest()
    assert [block[0] for block in durable] == list(range(6))
    assert (vault.staging_dir / vault.part_name("a")).read_bytes() == content


# A card that fails, through FUSE.


@pytest.mark.root
def test_bad_sectors_are_told_first_and_mapped_in_the_rescue(tmp_path: Path, image: Path, staging: Path) -> None:
    """Two passes: the clip with bad sectors stops and the next one goes on; then all but the bad sectors is saved."""
    bad = [[BLOCK_BYTES + 512 * 7, 512], [BLOCK_BYTES + MIB, 3 * 512]]
    content = bytearray(image.read_bytes()[: 2 * BLOCK_BYTES])
    with faulty_image(image, tmp_path / "mnt") as card:
        card.fail(bad=bad)
        with puller(card.path, staging) as child:
            child.order(1, "a.part", [[0, 2 * BLOCK_BYTES]])
            child.order(2, "b.part", [[2 * BLOCK_BYTES, 4096]])
            first = {"block": [1, 0, BLOCK_BYTES, blake3(content[:BLOCK_BYTES]).hexdigest(), []]}
            assert child.line() == first
            failed = child.line() or {}
            assert failed["failed"][:2] == [1, "unreadable"]
            assert "block" in (child.line() or {})
            assert child.line() == {"fetched": [2, 4096, [], ""]}
            check = (0, str(first["block"][3]))
            child.order(1, "a.part", [[0, 2 * BLOCK_BYTES]], first_block=1, check=check, rescue=True)
            for offset, length in bad:
                content[offset : offset + length] = bytes(length)
            digest = blake3(content[BLOCK_BYTES:]).hexdigest()
            assert child.line() == {"block": [1, 1, BLOCK_BYTES, digest, bad]}
            assert child.line() == {"fetched": [1, 2 * BLOCK_BYTES, [], ""]}
    assert (staging / "a.part").read_bytes() == content


@pytest.mark.root
@pytest.mark.parametrize("fault", [{"code": errno.ENODEV}, {"code": errno.EIO, "missing": True}])
@pytest.mark.parametrize("rescue", [False, True])
def test_a_yank_is_gone_and_ends_the_puller(
    tmp_path: Path, image: Path, staging: Path, fault: dict[str, int], rescue: bool
) -> None:
    """After a yank reads give ENODEV, or EIO while nothing is at the path: no bad sector, and no zeros instead."""
    with faulty_image(image, tmp_path / "mnt") as card:
        with puller(card.path, staging) as child:
            child.order(1, "a.part", [[0, BLOCK_BYTES]])
            assert "block" in (child.line() or {})
            assert "fetched" in (child.line() or {})
            card.fail(**fault)
            child.order(2, "b.part", [[BLOCK_BYTES, 2 * BLOCK_BYTES]], rescue=rescue)
            line = child.line() or {}
            assert line["failed"][:2] == [2, "gone"]
            assert child.line() is None
            assert child.process.wait(timeout=20) == 0
    assert (staging / "a.part").read_bytes() == image.read_bytes()[:BLOCK_BYTES]
