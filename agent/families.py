"""Which files of a recorder belong together: sidecars, pairs, bursts, parts of a long recording. Joins nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from typing import Final, TypeVar

from agent.media.kinds import RAW
from agent.model import Medium, Proposal
from agent.sequence import counter_of, name_of

K = TypeVar("K")

_BESIDE: Final = "THM LRF LRV SRT SUB IDX GPX NMEA KML XML XMP BIM CPI AAE SCR KLV TXT JSON LOG"
SIDECARS: Final = frozenset(f".{ending}" for ending in _BESIDE.split())
"""Endings of what recorders put beside a recording: thumbnails, small copies, texts, tracks, descriptions."""

_SEAM: Final = timedelta(seconds=3)
"""FAT keeps even seconds only, and a file's time is that of its last write."""

_SHOTS: Final = timedelta(seconds=2)
_SHOTS_S_MAX: Final = 60
_SHOTS_LEAST: Final = 3
_GIB: Final = 1 << 30
_FULL_BYTES: Final = tuple((limit * _GIB - limit * _GIB // 32, limit * _GIB) for limit in (2, 4, 16))
_PIECES: Final = tuple(timedelta(minutes=minutes) for minutes in (1, 2, 3, 5, 10, 15, 20, 30, 60))
_FIRST_YEAR: Final = 2000


class Kin(StrEnum):
    """How files belong together.

    SIDECAR: the first is a recording, the others were put beside it. PAIR: one photo twice, as the sensor saw it and
    developed. BURST: photos taken with one press. PARTS: a recording that its recorder cut into files, in order.
    """

    SIDECAR = "sidecar"
    PAIR = "pair"
    BURST = "burst"
    PARTS = "parts"


class Because(StrEnum):
    """What tells that files belong together: their names, their times, their sizes."""

    NAMES = "names"
    TIMES = "times"
    SIZES = "sizes"


@dataclass(frozen=True, slots=True)
class Filed:
    """A file of a listing: its number in it, what its name suggests, begin and end as far as its times tell them."""

    number: int
    path: str
    size_bytes: int
    medium: Medium
    start: datetime | None = None
    end: datetime | None = None
    said: Proposal | None = None


@dataclass(frozen=True, slots=True)
class Family:
    """Files that belong together, by their numbers in the listing."""

    kin: Kin
    members: tuple[int, ...]
    by: tuple[Because, ...]


Link = Callable[[Filed, Filed], bool]


def families(files: Iterable[Filed]) -> tuple[Family, ...]:
    """All families of a listing, those of a folder together; a file may be in several."""
    found: list[Family] = []
    for _, here in _grouped(files, lambda one: name_of(one.path).folder):
        objects = _objects(here)
        for same in objects.values():
            found += _beside(same)
        photos = [min(same, key=_path) for same in (_of(each, Medium.PHOTO) for each in objects.values()) if same]
        found += _bursts(photos)
        found += _parts([one for one in here if one.medium in (Medium.VIDEO, Medium.AUDIO) and not _is_sidecar(one)])
    return tuple(found)


def _path(one: Filed) -> tuple[str, int]:
    return one.path, one.number


def _of(same: Iterable[Filed], medium: Medium) -> list[Filed]:
    return [one for one in same if one.medium is medium and not _is_sidecar(one)]


def _is_sidecar(one: Filed) -> bool:
    return name_of(one.path).suffix in SIDECARS


def _objects(here: Sequence[Filed]) -> dict[str, list[Filed]]:
    """By stem in capitals: one object each, whatever its endings, as DCF has it (CIPA DC-009)."""
    stems = {name_of(one.path).stem.upper() for one in here if not _is_sidecar(one)}
    found: defaultdict[str, list[Filed]] = defaultdict(list)
    for one in sorted(here, key=_path):
        _, stem, suffix = name_of(one.path.upper())
        of = [stem]
        if suffix == ".LRV" and stem.startswith("GL"):  # GoPro: GL010001.LRV beside GX010001.MP4 or GH010001.MP4
            of = [f"GX{stem[2:]}", f"GH{stem[2:]}"]
        elif suffix in {".XML", ".KLV"} and stem[-3:-2] == "M":  # Sony: C0001M01.XML beside C0001.MP4
            of.append(stem[:-3])
        found[next((other for other in of if other in stems), stem)].append(one)
    return found


_RANK: Final = (Medium.VIDEO, Medium.PHOTO, Medium.AUDIO)


def _beside(same: Sequence[Filed]) -> Iterator[Family]:
    """Of one object: the pair of a photo, and what was put beside its recording."""
    media = next((found for medium in _RANK if (found := _of(same, medium))), [])
    if not media or len(same) < 2:
        return
    raw = [one for one in media if name_of(one.path).suffix in RAW]
    if raw and len(raw) < len(media):
        developed = [one for one in media if one not in raw]
        yield Family(Kin.PAIR, _numbers([*developed, *raw]), (Because.NAMES,))
    main = max(media, key=lambda one: (one not in raw, one.size_bytes))
    others = [one for one in same if _is_sidecar(one) or (one.medium in _RANK and one.medium is not main.medium)]
    if others:
        yield Family(Kin.SIDECAR, _numbers([main, *others]), (Because.NAMES,))


def _numbers(members: Iterable[Filed]) -> tuple[int, ...]:
    return tuple(one.number for one in members)


def _bursts(photos: Sequence[Filed]) -> Iterator[Family]:
    named = [one for one in photos if one.said is not None and one.said.part]
    for _, same in _grouped(named, _take):
        if len(same) > 1:
            yield Family(Kin.BURST, _numbers(sorted(same, key=_part)), (Because.NAMES,))
    for chain in _chains([one for one in photos if one not in named], _is_next_shot):
        if len(chain) >= _SHOTS_LEAST and _is_shot_so_fast(chain):
            yield Family(Kin.BURST, _numbers(chain), (Because.NAMES, Because.TIMES))


def _is_next_shot(low: Filed, high: Filed) -> bool:
    if low.end is None or high.end is None or low.end.year < _FIRST_YEAR:
        return False
    return timedelta() <= high.end - low.end <= _SHOTS


def _is_shot_so_fast(chain: Sequence[Filed]) -> bool:
    """No camera takes more a second; with a clock that stands still all photos of a card look like one burst."""
    first, last = chain[0].end, chain[-1].end
    span = last - first if first is not None and last is not None else timedelta()
    return len(chain) <= _SHOTS_S_MAX * (span + _SHOTS).total_seconds()


def _parts(recordings: Sequence[Filed]) -> Iterator[Family]:
    by_name: set[int] = set()
    for _, same in _grouped([one for one in recordings if one.said is not None], _take):
        if any(one.said and one.said.part for one in same):
            for chain in _linked(sorted(same, key=_part), _is_next_part):
                by_name.update(_numbers(chain))
                yield Family(Kin.PARTS, _numbers(chain), (Because.NAMES,))
    for chain in _chains([one for one in recordings if one.number not in by_name], _goes_on):
        by_size = (Because.SIZES,) if any(map(_is_full, chain[:-1])) else ()
        yield Family(Kin.PARTS, _numbers(chain), (Because.NAMES, Because.TIMES, *by_size))


def _take(one: Filed) -> tuple[str, ...]:
    """What is the same in the names of the parts of one recording, or of the photos of one burst."""
    said = one.said
    assert said is not None, "only what a rule reads has such a key"
    whole = (said.rule_id, said.officer, said.device, str(said.time or ""), said.number, said.channel)
    return *whole, name_of(one.path).suffix


def _part(one: Filed) -> int:
    return int(one.said.part) if one.said is not None and one.said.part.isdecimal() else 0


def _is_next_part(low: Filed, high: Filed) -> bool:
    """The first part may have no number, and the second then the 1 or the 2."""
    follows = _part(high) - _part(low) == 1 or (_part(low), _part(high)) == (0, 2)
    return follows and (low.end is None or high.end is None or low.end <= high.end)


def _goes_on(low: Filed, high: Filed) -> bool:
    """Whether a recorder ended a file because it was full, or long enough, and went on in the next one."""
    if low.end is None or high.start is None or abs(high.start - low.end) > _SEAM:
        return False
    if _is_full(low):
        return True
    lasted = low.end - low.start if low.start is not None else timedelta()
    is_piece = any(abs(lasted - piece) <= _SEAM for piece in _PIECES)
    return is_piece and high.end is not None and high.end - high.start <= lasted + _SEAM


def _is_full(one: Filed) -> bool:
    return any(least <= one.size_bytes <= most for least, most in _FULL_BYTES)


def _chains(files: Iterable[Filed], goes_on: Link) -> Iterator[Sequence[Filed]]:
    """Those that follow each other by their counter, or without one by their begin, and are linked."""
    series: defaultdict[tuple[str, int, str], list[tuple[int, str, int, Filed]]] = defaultdict(list)
    for one in files:
        counter, suffix = counter_of(one.path), name_of(one.path.upper()).suffix
        if counter is not None:
            series[counter.pattern, counter.width, suffix].append((counter.number, *_path(one), one))
        elif one.start is not None:
            series["", 0, suffix].append((int(one.start.timestamp()), *_path(one), one))
    for (_, width, _), numbered in series.items():
        numbered.sort(key=lambda place: place[:3])
        places = {one.number: number for number, *_, one in numbered}
        follows = _after(places, goes_on) if width else goes_on
        yield from _linked([one for *_, one in numbered], follows)


def _after(places: Mapping[int, int], goes_on: Link) -> Link:
    return lambda low, high: places[high.number] - places[low.number] == 1 and goes_on(low, high)


def _linked(ordered: Sequence[Filed], goes_on: Link) -> Iterator[Sequence[Filed]]:
    """The runs of at least two of which each goes on in the next."""
    chain = list(ordered[:1])
    for low, high in pairwise(ordered):
        if goes_on(low, high):
            chain.append(high)
            continue
        if len(chain) > 1:
            yield chain
        chain = [high]
    if len(chain) > 1:
        yield chain


def _grouped(files: Iterable[Filed], key: Callable[[Filed], K]) -> Iterator[tuple[K, list[Filed]]]:
    found: defaultdict[K, list[Filed]] = defaultdict(list)
    for one in files:
        found[key(one)].append(one)
    yield from found.items()
