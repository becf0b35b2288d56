"""Runs the parser on an image, in this process or as the real sandboxed child, and holds what it said."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agent.drivers.listing import CheckedListing
from agent.drivers.parser import Output, Report, list_source
from agent.drivers.source import FilesystemError, Source, open_read_only
from simulator.card import Card, Truth

CHILD: Final = (sys.executable, "-I", "-m", "agent.drivers.parser")

Line = dict[str, Any]


@dataclass(slots=True)
class Parsed:
    """What the parser said, sorted by kind of line; `extents` are by clip number."""

    volumes: list[Line] = field(default_factory=list)
    clips: list[Line] = field(default_factory=list)
    refused: list[Line] = field(default_factory=list)
    findings: list[Line] = field(default_factory=list)
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    end: Line = field(default_factory=dict)
    error: Line = field(default_factory=dict)

    def clip(self, path: str) -> Line:
        return next(clip for clip in self.clips if clip["path"] == path)

    def where(self, path: str) -> list[tuple[int, int]]:
        return self.extents[self.clip(path)["number"]]

    def paths(self) -> set[str]:
        return {clip["path"] for clip in self.clips}

    def found(self, kind: str) -> list[Line]:
        return [finding["detail"] for finding in self.findings if finding["kind"] == kind]

    def deleted(self, path: str) -> Line:
        return next(detail for detail in self.found("deleted") if detail["path"] == path)

    def refusals(self) -> dict[str, str]:
        return {refused["clip"]["path"]: refused["reason"] for refused in self.refused}


def collect(lines: Iterable[Line]) -> Parsed:
    parsed = Parsed()
    number = 0
    for line in lines:
        match line:
            case {"volume": volume}:
                parsed.volumes.append(volume)
            case {"clip": clip, "extents": extents}:
                number = clip["number"]
                parsed.clips.append(clip)
                parsed.extents[number] = [tuple(extent) for extent in extents]
            case {"more": extents}:
                parsed.extents[number] += [tuple(extent) for extent in extents]
            case {"refused": refused}:
                parsed.refused.append(refused)
            case {"finding": finding}:
                parsed.findings.append(finding)
            case {"end": end}:
                parsed.end = end
            case {"error": error}:
                parsed.error = error
    return parsed


class Collector(Output):
    """Keeps lines, in the form they would have on the wire."""

    def __init__(self) -> None:
        super().__init__(-1)
        self.lines: list[Line] = []

    def line(self, line: Mapping[str, object]) -> None:
        text = json.dumps(line, ensure_ascii=True, separators=(",", ":"))
        assert len(text) < 64 * 1024
        self.lines.append(json.loads(text))


def parse(path: Path) -> Parsed:
    """List an image in this process; a FilesystemError becomes `error`, anything else is a bug of the reader."""
    return collect(lines_of(path))


def lines_of(path: Path) -> list[Line]:
    fd, identity = open_read_only(str(path))
    try:
        return lines_of_source(Source(fd, identity.size))
    finally:
        os.close(fd)


def lines_of_source(source: Source) -> list[Line]:
    output = Collector()
    report = Report(output)
    try:
        list_source(source, report, None)
        report.end(source.metadata_blake3())
    except FilesystemError as error:
        output.line({"error": {"kind": error.kind, "message": error.what}})
    return output.lines


def run_child(path: Path) -> tuple[int, list[Line], str]:
    """(exit code, lines, stderr) of the real child."""
    done = subprocess.run([*CHILD, str(path)], capture_output=True, env={"TZ": "UTC"}, timeout=60, check=False)
    lines = done.stdout.splitlines()
    assert all(len(line) < 64 * 1024 for line in lines)
    return done.returncode, [json.loads(line) for line in lines], done.stderr.decode()


def check_as_daemon(size_bytes: int, lines: Iterable[Line]) -> None:
    """The daemon's own checker accepts the lines (without the first, which tells the source)."""
    checker = CheckedListing()
    checker.feed({"source": {"rdev": 0, "ino": 1, "dev": 1, "size": size_bytes, "diskseq": 0}})
    for line in lines:
        if "error" not in line:
            checker.feed(line)


def read_extents(path: Path, extents: Iterable[tuple[int, int]]) -> bytes:
    with path.open("rb", buffering=0) as image:
        return b"".join(os.pread(image.fileno(), length, offset) for offset, length in extents)


def assert_matches(parsed: Parsed, truth: Iterable[Truth]) -> None:
    """Live files are listed once each with exactly their extents; deleted ones are found by name and size."""
    live = {one.path: one for one in truth if not one.deleted}
    assert parsed.error == {}
    assert sorted(clip["path"] for clip in parsed.clips) == sorted(live)
    for clip in parsed.clips:
        one = live[clip["path"]]
        assert (clip["size"], clip["readable"], clip["flags"]) == (one.size_bytes, one.size_bytes, [])
        assert parsed.extents[clip["number"]] == list(one.extents)


@contextlib.contextmanager
def source_of(path: Path) -> Iterator[Source]:
    fd, identity = open_read_only(str(path))
    try:
        yield Source(fd, identity.size)
    finally:
        os.close(fd)


def wall(text: str) -> datetime:
    """A naive wall-clock time, as cards store it."""
    return datetime.fromisoformat(text)


def small_fat(path: Path, *, size_bytes: int = 64 << 20, cluster_bytes: int = 512, mbr: bool = False) -> Card:
    """A FAT32 card that is quick to make and to read."""
    return Card.fat32(path, size_bytes, cluster_bytes=cluster_bytes, mbr=mbr)


def small_exfat(path: Path, *, size_bytes: int = 16 << 20, cluster_bytes: int = 4096, mbr: bool = False) -> Card:
    """An exFAT card that is quick to make and to read."""
    return Card.exfat(path, size_bytes, cluster_bytes=cluster_bytes, mbr=mbr)
