"""Says exactly which pictures of a camera a set of recorded files has, lacks or has damaged, and what of its sound."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import av
from av.error import FFmpegError

MARK: Final = b"capture-agent-no"
"""As in serve.py, which can't import it."""
_SAID: Final = re.compile(re.escape(MARK) + rb"([0-9a-f]{16})")
_START: Final = re.compile(b"\0\0\1")
_SLICES: Final[Mapping[str, range]] = {"h264": range(1, 6), "hevc": range(32)}


def _type(unit: int, codec: str) -> int:
    return unit & 31 if codec == "h264" else unit >> 1 & 63


def first_slice(data: bytes, codec: str) -> int:
    """Where, in a byte stream (Annex B), the start code before the first slice of a picture is."""
    for match in _START.finditer(data):
        if _type(data[match.end()], codec) in _SLICES[codec]:
            return match.start() - (data[match.start() - 1 : match.start()] == b"\0")
    raise ValueError("no slice")


def _units(data: bytes, *, annex_b: bool) -> Iterator[bytes]:
    if annex_b:
        ends = [*(m.start() for m in _START.finditer(data)), len(data)]
        yield from (data[a + 3 : b].rstrip(b"\0") for a, b in itertools.pairwise(ends))
        return
    at = 0
    while at + 4 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + size]
        at += 4 + size


def _hash(data: bytes, codec: str, *, annex_b: bool) -> bytes:
    """Of the slices of a picture, whatever lies between them."""
    said = hashlib.blake2b(digest_size=12)
    for unit in _units(data, annex_b=annex_b):
        if unit and _type(unit[0], codec) in _SLICES[codec]:
            said.update(unit.rstrip(b"\0"))
    return said.digest()


@dataclass(slots=True)
class Matched:
    """What a set of files has: numbers of pictures in the order of the files, and of packets of AAC or bytes of G.711.

    `damaged`: pictures whose slices are not the camera's, and packets that say no number. `foreign_sound`: packets that
    the camera never sent. `unreadable`: files that don't open.
    """

    pictures: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    sound: int = 0
    foreign_sound: int = 0
    unreadable: list[str] = field(default_factory=list)
    per_file: dict[str, list[int]] = field(default_factory=dict)

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """First missing number and how many are missing, between the first and the last picture that is there."""
        return [(a + 1, b - a - 1) for a, b in itertools.pairwise(self.pictures) if b - a > 1]

    @property
    def missing(self) -> int:
        """How many pictures are missing between the first and the last that is there."""
        return sum(count for _, count in self.gaps)

    @property
    def repeated(self) -> int:
        """How many pictures are there again, or after a later one."""
        return sum(b <= a for a, b in itertools.pairwise(self.pictures))


class Known:
    """All that a camera shows, by the packs it shows them from; a picture's number counts on over the laps."""

    def __init__(self, *packs: Path) -> None:
        self._pictures: dict[bytes, int] = {}
        self._sound: dict[bytes, int] = {}
        self._waves = b""
        for pack in packs:
            with pack.open("rb") as file:
                head, body = json.loads(file.readline()), file.read()
            self._count: int = head["pictures"]
            for _, track, _, at, size, _, _, number in head["packets"]:
                data = body[at : at + size]
                if not track:
                    self._pictures[_hash(data, head["video"], annex_b=True)] = number
                elif head["audio"] == "aac":
                    self._sound.setdefault(data, len(self._sound))
                else:
                    self._waves += data
        self._waves += self._waves[:4096]

    def match(self, files: Iterable[Path]) -> Matched:
        """Compare recorded files, in their order."""
        found = Matched()
        for path in files:
            before = len(found.pictures)
            try:
                with av.open(str(path)) as container:
                    self._file(container, found)
            except FFmpegError:
                found.unreadable.append(path.name)
            found.per_file[path.name] = found.pictures[before:]
        return found

    def first(self, path: Path) -> tuple[tuple[int, int], tuple[int, int]]:
        """Number of the first picture and place of the first AAC packet in a file, each with its microseconds there."""
        found: dict[str, tuple[int, int]] = {}
        with av.open(str(path)) as container:
            for packet in container.demux():
                kind, data = packet.stream.type, bytes(packet)
                if not packet.size or kind in found or packet.pts is None:
                    continue
                said = _SAID.search(data)
                place = self._sound.get(data, -1) if kind == "audio" else int(said[1], 16) if said else -1
                found[kind] = place, int(packet.pts * packet.time_base * 1_000_000)
        return found["video"], found["audio"]

    def _file(self, container: av.container.InputContainer, found: Matched) -> None:
        for packet in container.demux():
            if not packet.size:
                continue
            data = bytes(packet)
            if packet.stream.type == "audio":
                is_ours = data in self._sound or data in self._waves
                found.sound += is_ours and (1 if self._sound else len(data))
                found.foreign_sound += not is_ours
            elif packet.stream.type == "video":
                context = packet.stream.codec_context
                annex_b = bytes(context.extradata or b"")[:1] != b"\1"
                said = _SAID.search(data)
                number = int(said[1], 16) if said else -1
                if said and self._pictures.get(_hash(data, context.name, annex_b=annex_b)) == number % self._count:
                    found.pictures.append(number)
                else:
                    found.damaged.append(number)


def expect(matched: Matched, gaps: Sequence[tuple[int, int]] = ()) -> None:
    """Assert that nothing is missing but `gaps`, and that nothing is damaged, repeated or foreign."""
    assert matched.pictures, "no picture was recorded"
    assert (matched.gaps, matched.damaged, matched.repeated) == (list(gaps), [], 0)
    assert (matched.foreign_sound, matched.unreadable) == (0, [])
