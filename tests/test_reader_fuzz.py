"""Thousands of mutated cards: the reader ends in time, raises only its own error, and every extent is on the card."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.drivers.source import Source
from simulator.card import Card
from simulator.content import Noise
from tests.parsing import Line, check_as_daemon, collect, lines_of_source, run_child, small_exfat, small_fat

MUTANTS = 1500
MUTANTS_IN_CHILD = 20
MUTANTS_IN_BATCH = 200
CPU_LIMIT_S = 2.0
TELLING = (0, 1, 2, 0xFF, 0x7FFFFFFF, 0x80000000, 0x0FFFFFF7, 0x0FFFFFF8, 0xFFFFFFFF)

Mutation = tuple[int, bytes]


def card(path: Path, kind: str, mbr: bool) -> Card:
    """A small card with everything a reader must understand."""
    make = small_fat if kind == "fat32" else small_exfat
    with make(path, size_bytes=6 << 20, mbr=mbr) as made:
        for number in range(40):
            name = f"MOVI{number:04d}.MP4" if number % 2 else f"执法_{number:04d}_20260131.mp4"
            made.add(f"DCIM/100MEDIA/{name}", Noise(200 * number, number), fragments=1 + number % 3)
            if number % 4 == 0:
                made.delete(f"DCIM/100MEDIA/{name}")
        for number in range(12):
            made.add(f"DCIM/101MEDIA/子目录/{number}.jpg", Noise(700, number))
        made.delete("DCIM/101MEDIA/子目录/3.jpg")
        made.set_dirty()
    return made


@dataclass(slots=True)
class Fuzzer:
    """Mutates an image in memory where the reader looks, and restores it afterwards."""

    image: bytes
    fd: int
    chance: random.Random
    spots: list[int]

    @classmethod
    def of(cls, path: Path, seed: int) -> Fuzzer:
        image = path.read_bytes()
        fd = os.memfd_create("mutant")
        os.write(fd, image)
        reads: list[tuple[int, int]] = []

        class Noting(Source):
            def read(self, offset: int, length: int) -> bytes:
                data = super().read(offset, length)
                reads.append((offset, len(data)))
                return data

        lines_of_source(Noting(fd, len(image)))
        spots = sorted({at for offset, length in reads for at in range(offset, offset + length) if image[at]})
        return cls(image, fd, random.Random(seed), spots)

    def mutation(self) -> Mutation:
        at = self.chance.choice(self.spots)
        match self.chance.randrange(6):
            case 0:
                return at, bytes((self.chance.randrange(256),))
            case 1:
                return at, bytes((self.image[at] ^ 1 << self.chance.randrange(8),))
            case 2:
                return at & ~3, self.chance.choice((*TELLING, self.chance.getrandbits(32))).to_bytes(4, "little")
            case 3:
                return at & ~31, self.slot(self.chance.choice(self.spots))
            case 4:
                return at & ~511, self.chance.randbytes(512)
        return at & ~511, bytes(512)

    def slot(self, at: int) -> bytes:
        return self.image[at & ~31 : (at & ~31) + 32]

    def mutants(self, count: int) -> Iterator[int]:
        """Sizes of successive mutants, each standing in the image while it is given out; some are cut off."""
        for _ in range(count):
            mutations = [self.mutation() for _ in range(self.chance.choice((1, 1, 1, 2, 4, 16)))]
            for at, data in mutations:
                os.pwrite(self.fd, data, at)
            size = len(self.image)
            yield self.chance.randrange(size) if self.chance.random() < 0.05 else size
            for at, data in mutations:
                os.pwrite(self.fd, self.image[at : at + len(data)], at)


def check(lines: list[Line], size: int) -> None:
    """Nothing is claimed that the device can't hold."""
    check_as_daemon(size, lines)
    parsed = collect(lines)
    assert bool(parsed.end) != bool(parsed.error)
    for clip in parsed.clips:
        extents = parsed.extents[clip["number"]]
        assert all(0 <= offset < offset + length <= size for offset, length in extents)
        expected = clip["readable"] if clip["zero_from"] is None else clip["zero_from"]
        assert sum(length for _, length in extents) == expected <= clip["readable"]
        assert len(set(extents)) == len(extents)
    assert sum(clip["readable"] for clip in parsed.clips) <= 2 * size
    numbers = sorted([clip["number"] for clip in parsed.clips] + [one["clip"]["number"] for one in parsed.refused])
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.parametrize("mbr", [False, True], ids=["plain", "mbr"])
@pytest.mark.parametrize("kind", ["fat32", "exfat"])
def test_mutants_are_listed_or_refused(tmp_path: Path, kind: str, mbr: bool) -> None:
    fuzzer = Fuzzer.of(card(tmp_path / "card.img", kind, mbr).path, seed=20260131)
    try:
        for size in fuzzer.mutants(MUTANTS):
            begun = time.process_time()
            check(lines_of_source(Source(fuzzer.fd, size)), size)
            assert time.process_time() - begun < CPU_LIMIT_S
    finally:
        os.close(fuzzer.fd)


@pytest.mark.parametrize("kind", ["fat32", "exfat"])
def test_mutants_in_the_real_child_end_orderly(tmp_path: Path, kind: str) -> None:
    """The sandbox kills at any call that isn't allowed: none of the reader's ways, errors included, needs one."""
    path = card(tmp_path / "card.img", kind, mbr=False).path
    fuzzer = Fuzzer.of(path, seed=7)
    try:
        for size in fuzzer.mutants(MUTANTS_IN_CHILD):
            path.write_bytes(os.pread(fuzzer.fd, size, 0))
            before = path.read_bytes()
            code, lines, stderr = run_child(path)
            assert (code, stderr) == (0, "")
            check(lines[1:], size)
            assert path.read_bytes() == before
    finally:
        os.close(fuzzer.fd)


BATCH = """
import sys
from agent.drivers import parser
from agent.drivers.source import FilesystemError, Source
output = parser.Output(1)
tsk = parser.load_tsk()
parser._lock(60, 768 << 20)
for pair in sys.argv[1:]:
    fd, size = map(int, pair.split(","))
    source, report = Source(fd, size), parser.Report(output)
    try:
        parser.list_source(source, report, tsk)
        report.end(source.metadata_blake3())
    except FilesystemError as error:
        output.line({"error": {"kind": error.kind, "message": error.what}})
output.flush()
"""


@pytest.mark.parametrize("kind", ["fat32", "exfat"])
def test_mutants_in_the_sandbox_end_orderly(tmp_path: Path, kind: str) -> None:
    """One locked process parses them all: whatever they make it do, it needs no system call that is forbidden."""
    fuzzer = Fuzzer.of(card(tmp_path / "card.img", kind, mbr=False).path, seed=8)
    mutants: list[tuple[int, int]] = []
    try:
        for size in fuzzer.mutants(MUTANTS_IN_BATCH):
            fd = os.memfd_create("mutant")
            mutants.append((fd, size))
            os.write(fd, os.pread(fuzzer.fd, size, 0))
        command = [sys.executable, "-I", "-c", BATCH, *(f"{fd},{size}" for fd, size in mutants)]
        fds = [fd for fd, _ in mutants]
        done = subprocess.run(command, capture_output=True, env={"TZ": "UTC"}, pass_fds=fds, timeout=60, check=False)
    finally:
        for fd, _ in [(fuzzer.fd, 0), *mutants]:
            os.close(fd)
    assert (done.returncode, done.stderr) == (0, b"")
    answers: list[list[Line]] = [[]]
    for line in map(json.loads, done.stdout.splitlines()):
        answers[-1].append(line)
        if "end" in line or "error" in line:
            answers.append([])
    assert len(answers) == MUTANTS_IN_BATCH + 1
    for (_, size), lines in zip(mutants, answers[:-1], strict=True):
        check(lines, size)


def test_pure_noise_is_no_filesystem() -> None:
    chance = random.Random(3)
    for _ in range(300):
        fd = os.memfd_create("noise")
        noise = bytearray(chance.randbytes(32 * 1024))
        noise[510:512] = b"\x55\xaa"
        os.write(fd, noise)
        check(lines_of_source(Source(fd, len(noise))), len(noise))
        os.close(fd)
