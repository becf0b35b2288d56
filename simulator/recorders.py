"""Two recorders after a day's work, as card images with a known truth: a body camera (FAT32), a site camera (exFAT)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from enum import StrEnum
from pathlib import Path
from typing import Final

from blake3 import blake3

from simulator.card import Card
from simulator.content import Content, chunks_of, size_of
from simulator.exif import with_exif
from simulator.footage import Kind, Take, cut_off, shoot

CHINA: Final = timezone(timedelta(hours=8), "CST")
NORMAL: Final = "DCIM/100ANDRO"
IMPORTANT: Final = "DCIM/101ANDRO"
FAT32_CLUSTER_BYTES: Final = 8192
FAT32_LEAST_BYTES: Final = 576 << 20
"""Fewer than 65,525 clusters would make it a FAT16."""
EXFAT_CLUSTER_BYTES: Final = 32768
SPARE_BYTES: Final = 64 << 20
WRITTEN_SHARE: Final = 0.4
"""How far a clip had come when its recorder lost power."""


class Fate(StrEnum):
    """What became of a file on the card."""

    KEPT = "kept"
    DELETED = "deleted"
    CUT = "cut"  # power lost: no index, the clip can't be played
    RESERVED = "reserved"  # power lost: space was reserved ahead, what was not written yet reads as zeros


@dataclass(frozen=True, slots=True)
class Shot:
    """One file as its recorder made it, `minute` minutes after it was switched on.

    The recorder names it `{officer}_{device}_{time}_{number}{mark}.{ending}` (GA/T 947 in the field), unless it was
    given a `name`; `{day}` in it becomes the date.
    """

    minute: int
    number: int
    content: Take | bytes
    folder: str = NORMAL
    mark: str = ""
    name: str = ""
    fate: Fate = Fate.KEPT


@dataclass(frozen=True, slots=True)
class Original:
    """What a true copy of one file of a card has."""

    path: str
    size_bytes: int
    stored_bytes: int
    blake3: str
    sha256: str
    fate: Fate


@dataclass(frozen=True, slots=True)
class Recorder:
    """A recorder's card and the truth about it: live files, deleted ones, numbers that are not there at all."""

    image: Path
    filesystem: str
    label: str
    originals: tuple[Original, ...]
    deleted: tuple[str, ...]
    missing_numbers: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all live files."""
        return sum(original.size_bytes for original in self.originals)

    @property
    def stored_bytes(self) -> int:
        """Bytes of all live files that are really on the card; the rest reads as zeros."""
        return sum(original.stored_bytes for original in self.originals)

    @property
    def twins(self) -> int:
        """How many live files have the bytes of another one."""
        return len(self.originals) - len({original.blake3 for original in self.originals})


def body_camera(image: Path, footage: Path, now: datetime, scale: float = 1.0) -> Recorder:
    """A body camera (FAT32), switched on five hours ago; at scale 1 some 330 MB.

    One clip was marked important, which copies it; two files were deleted; number 9 is not there; the last clip lost
    its power. `footage` is the folder where clips are kept for the next time.
    """
    shots = (
        Shot(0, 1, _video(101, 2.5 * scale)),
        Shot(9, 2, _video(102, 2.5 * scale)),
        Shot(9, 2, _video(102, 2.5 * scale), IMPORTANT, mark="IMP"),
        Shot(31, 3, _video(103, scale), fate=Fate.DELETED),
        Shot(48, 4, Take(Kind.SOUND, 104, 60 * scale)),
        *(Shot(60 + number, number, _photo(100 + number)) for number in (5, 6, 7, 8, 10, 11)),
        Shot(80, 12, _photo(112), fate=Fate.DELETED),
        Shot(95, 13, _video(113, 2.5 * scale)),
        Shot(120, 0, _video(120, scale), IMPORTANT, name="医保稽核_李四_{day}_购药现场.mp4"),
        Shot(140, 14, _video(114, 2.0 * scale), fate=Fate.CUT),
        Shot(141, 0, "电量低，自动关机\r\n".encode("gbk"), "LOG", name="{day}.TXT"),
    )
    began = now.astimezone(CHINA) - timedelta(hours=5)
    return _Build(shots, "001234_0000217", "DSJ-H7", began, footage).fat32(image, "BODYCAM")


def site_camera(image: Path, footage: Path, now: datetime, scale: float = 1.0, seed: int = 200) -> Recorder:
    """A site camera (exFAT), used yesterday; at scale 1 some 400 MB, half of them in one long clip.

    One clip lost its power while its space was reserved ahead. Another `seed` gives another recorder's footage.
    """
    shots = (
        Shot(0, 1, _video(seed + 1, 1.5 * scale)),
        Shot(12, 2, _video(seed + 2, 7.0 * scale)),
        Shot(40, 3, _video(seed + 3, 1.5 * scale)),
        *(Shot(50 + number, number, _photo(seed + number)) for number in range(4, 10)),
        Shot(70, 10, _video(seed + 10, 1.5 * scale), fate=Fate.RESERVED),
        Shot(85, 0, Take(Kind.SOUND, seed + 20, 60 * scale), "录音", name="医保稽核_李四_{day}_询问.wav"),
        Shot(90, 0, _video(seed + 21, 1.5 * scale), IMPORTANT, name="医保稽核_李四_{day}_药房盘点.mp4"),
        Shot(99, 0, _photo(seed + 22), IMPORTANT, name="医保稽核_王五_{day}_票据（复印件）.jpg"),
    )
    began = now.astimezone(CHINA) - timedelta(hours=25)
    return _Build(shots, f"005678_{seed:07}", "DSJ-X9", began, footage).exfat(image, "SITECAM")


def long_camera(image: Path, footage: Path, now: datetime, length_s: float, seed: int = 300) -> Recorder:
    """A camera (exFAT) with one long clip, of 30 MB per second, and a photo; another `seed` gives other footage."""
    shots = (Shot(0, 1, _video(seed + 1, length_s)), Shot(20, 2, _photo(seed + 2)))
    began = now.astimezone(CHINA) - timedelta(hours=2)
    return _Build(shots, f"009012_{seed:07}", "DSJ-L1", began, footage).exfat(image, "LONGCAM")


def _video(seed: int, length_s: float) -> Take:
    return Take(Kind.VIDEO, seed, max(0.08, round(length_s, 2)))


def _photo(seed: int) -> Take:
    return Take(Kind.PHOTO, seed, width=1280, height=720)


class _Build:
    """Names, dates and writes the shots of one recorder."""

    def __init__(self, shots: Sequence[Shot], stem: str, camera: str, began: datetime, footage: Path) -> None:
        self._shots = shots
        self._stem = stem
        self._camera = camera
        self._began = began.replace(second=14, microsecond=0)
        self._takes = shoot((shot.content for shot in shots if isinstance(shot.content, Take)), footage)
        self._contents = [self._content(shot) for shot in shots]

    def fat32(self, image: Path, label: str) -> Recorder:
        """The recorder with a FAT32 card."""
        size = max(FAT32_LEAST_BYTES, self._card_bytes())
        with Card.fat32(image, size, label, cluster_bytes=FAT32_CLUSTER_BYTES, mbr=True) as card:
            return self._fill(card, label)

    def exfat(self, image: Path, label: str) -> Recorder:
        """The recorder with an exFAT card."""
        with Card.exfat(image, self._card_bytes(), label, cluster_bytes=EXFAT_CLUSTER_BYTES, mbr=True) as card:
            return self._fill(card, label)

    def _card_bytes(self) -> int:
        needed = sum(map(size_of, self._contents)) + SPARE_BYTES
        return -(-needed // SPARE_BYTES) * SPARE_BYTES

    def _fill(self, card: Card, label: str) -> Recorder:
        originals = []
        for shot, content in zip(self._shots, self._contents, strict=True):
            path, taken = self._path(shot), self._taken(shot)
            valid = int(size_of(content) * WRITTEN_SHARE) if shot.fate is Fate.RESERVED else None
            created = taken.replace(tzinfo=None)
            card.add(path, content, created=created, modified=created + timedelta(seconds=46), valid_bytes=valid)
            originals.append(original_of(path, content, valid, shot.fate))
        deleted = tuple(original.path for original in originals if original.fate is Fate.DELETED)
        for path in deleted:
            card.delete(path)
        live = tuple(original for original in originals if original.fate is not Fate.DELETED)
        return Recorder(card.path, card.format.kind, label, live, deleted, self._missing())

    def _missing(self) -> tuple[int, ...]:
        numbers = {shot.number for shot in self._shots if shot.number}
        return tuple(number for number in range(min(numbers), max(numbers)) if number not in numbers)

    def _taken(self, shot: Shot) -> datetime:
        return self._began + timedelta(minutes=shot.minute)

    def _path(self, shot: Shot) -> str:
        taken = self._taken(shot)
        if shot.name:
            return f"{shot.folder}/{shot.name.format(day=f'{taken:%Y%m%d}')}"
        assert isinstance(shot.content, Take)
        return f"{shot.folder}/{self._stem}_{taken:%Y%m%d%H%M%S}_{shot.number:04}{shot.mark}.{shot.content.kind}"

    def _content(self, shot: Shot) -> Content:
        if isinstance(shot.content, bytes):
            return shot.content
        path = self._takes[shot.content]
        if shot.fate is Fate.CUT:
            return cut_off(path, WRITTEN_SHARE)
        return (
            with_exif(path.read_bytes(), self._taken(shot), self._camera) if shot.content.kind is Kind.PHOTO else path
        )


def original_of(path: str, content: Content, valid_bytes: int | None, fate: Fate) -> Original:
    """The truth about a file of which `valid_bytes` (None: all) are really on its card."""
    fast, slow = blake3(), hashlib.sha256()
    for chunk in _as_read(content, valid_bytes):
        fast.update(chunk)
        slow.update(chunk)
    size = size_of(content)
    stored = size if valid_bytes is None else valid_bytes
    return Original(path, size, stored, fast.hexdigest(), slow.hexdigest(), fate)


def _as_read(content: Content, valid_bytes: int | None) -> Iterator[bytes]:
    """The bytes that a reader must give: zeros behind the valid length (exFAT specification 7.6.5)."""
    left = size_of(content) if valid_bytes is None else valid_bytes
    for chunk in chunks_of(content):
        yield chunk[:left].ljust(len(chunk), b"\0")
        left = max(0, left - len(chunk))
