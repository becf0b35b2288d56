"""What belongs to a recording, by the listing that brought it: sidecars, pairs, bursts, and the parts of a long one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

from agent.access.parts import Part
from agent.deadline import instant
from agent.families import Because, Family, Filed, Kin, families
from agent.journal import Reader
from agent.journal.views import RecordingView
from agent.media.kinds import medium_of
from agent.model import Clip, Medium, NamingRule
from agent.naming import proposed
from agent.status.words import words

Json = dict[str, Any]

MEMBERS_SHOWN: Final = 100
LISTED_MAX: Final = 20_000
"""Of a card with more files nothing is said: it would take seconds, and a hundred megabytes."""

BATCHES_BESIDE: Final = 50
"""Of an inbox: in how many batches before one and behind it what belongs to its files is looked for."""

_Place = tuple[str, int]
"""A docking, and a clip's number in it."""

_Families = Mapping[int, Sequence[tuple[Family, tuple[_Place, ...]]]]

_BY_NAME: Final = (Kin.SIDECAR, Kin.PAIR)
_EXIF_ASKED: Final = 50
_SHOTS: Final = timedelta(seconds=2)
_KIN: Final[Mapping[Kin, tuple[str, str]]] = {
    Kin.SIDECAR: ("附属文件", "sidecar files"),
    Kin.PAIR: ("原始图像与成像照片", "RAW and developed photo"),
    Kin.BURST: ("连拍", "burst"),
    Kin.PARTS: ("同一次录制的分段", "parts of one recording"),
}
_BECAUSE: Final[Mapping[str, tuple[str, str]]] = {
    Because.NAMES: ("文件名", "names"),
    Because.TIMES: ("时间", "times"),
    Because.SIZES: ("大小", "sizes"),
    "exif": ("EXIF", "EXIF"),
}
_EXIF: Final = "%Y:%m:%d %H:%M:%S"
_TAKEN: Final = re.compile(r"\d{4}:\d\d:\d\d \d\d:\d\d:\d\d", re.ASCII)


def related(reader: Reader, row: RecordingView, names: tuple[NamingRule, ...]) -> list[Json]:
    """What belongs to a recording, `place` its own from 1 among the members, of which the first 100 are told.

    A link by names, times and sizes, nothing more: each file stays an original of its own. A burst that EXIF
    contradicts is none.
    """
    if row.clip is None:
        return []
    found, own = [], (row.docking_id, row.clip.number)
    for family, places in _of_docking(reader, row.docking_id, names).get(row.clip.number, ()):
        members = _listed(reader, places[:MEMBERS_SHOWN])
        by = _by(reader, family, [name for _, name in members])
        if by:
            found.append(_view(family, places.index(own) + 1, by, members))
    return found


def parts_of(reader: Reader, row: RecordingView, names: tuple[NamingRule, ...]) -> list[RecordingView]:
    """The parts of the long recording that this one is of, in order; only itself if it is whole."""
    if row.clip is not None:
        for family, places in _of_docking(reader, row.docking_id, names).get(row.clip.number, ()):
            if family.kin is Kin.PARTS:
                return [reader.recording(name) for _, name in _listed(reader, places) if name]
    return [row]


def playlist(reader: Reader, row: RecordingView, names: tuple[NamingRule, ...]) -> list[Part]:
    """The parts of a recording by the places of their originals in vault and store: two digits, BLAKE3."""
    found = []
    for one in parts_of(reader, row, names):
        kept = reader.asset(one.asset.same_as) if one.asset.same_as else one.asset
        digest = kept.digests.blake3 if kept.digests is not None else ""
        lasts_ms = one.facts.duration_ms if one.facts is not None else None
        found.append(Part(one.name, f"{digest[:2]}/{digest}" if digest else "", lasts_ms))
    return found


def _listed(reader: Reader, places: Sequence[_Place]) -> list[tuple[Clip, str]]:
    """The clips at these places, each with its recording's id."""
    found: dict[_Place, tuple[Clip, str]] = {}
    for docking_id in {at for at, _ in places}:
        for clip, name in reader.listing(docking_id, [number for at, number in places if at == docking_id]):
            found[docking_id, clip.number] = clip, name
    return [found[place] for place in places]


def _view(family: Family, place: int, by: Sequence[str], members: Sequence[tuple[Clip, str]]) -> Json:
    return {
        "kind": {"name": family.kin.value, **words(*_KIN[family.kin])},
        "place": place,
        "count": len(family.members),
        "members": [{"path": clip.path, "recording_id": name, "size_bytes": clip.size_bytes} for clip, name in members],
        "by": [{"name": one, **words(*_BECAUSE[one])} for one in by],
    }


def _of_docking(reader: Reader, docking_id: str, names: tuple[NamingRule, ...]) -> _Families:
    """The families of each clip; while the card is still being listed only of what is known so far."""
    if not reader.is_listed(docking_id):
        return _found(reader, docking_id, (), names)
    return _kept(reader, docking_id, reader.batches_beside(docking_id, BATCHES_BESIDE), names)


def _found(reader: Reader, docking_id: str, beside: Sequence[str], names: tuple[NamingRule, ...]) -> _Families:
    """Of one docking all families; of the batches beside it what names alone tell, by the nearest file of a name."""
    listing = reader.listing(docking_id, limit=LISTED_MAX + 1)
    if len(listing) > LISTED_MAX:
        return {}
    clips = [((docking_id, clip.number), clip) for clip, _ in listing]
    paths = {clip.path for clip, _ in listing}
    for other in beside:
        more = reader.listing(other, limit=LISTED_MAX - len(clips) + 1)
        if len(clips) + len(more) > LISTED_MAX:
            break
        clips += [((other, clip.number), clip) for clip, _ in more if clip.path not in paths]
        paths |= {clip.path for clip, _ in more}
    files = [replace(_filed(clip, names), number=index) for index, (_, clip) in enumerate(clips)]
    kin = list(families(files[: len(listing)]))
    if len(files) > len(listing):
        kin = [
            *(one for one in kin if one.kin not in _BY_NAME),
            *(one for one in families(files) if one.kin in _BY_NAME),
        ]
    found: dict[int, list[tuple[Family, tuple[_Place, ...]]]] = {}
    for family in kin:
        places = tuple(clips[index][0] for index in family.members)
        for at, number in places:
            if at == docking_id:
                found.setdefault(number, []).append((family, places))
    return found


_kept: Final = lru_cache(maxsize=4)(_found)
"""What dockings listed doesn't change, and manifests of all their recordings ask for it."""


def _filed(clip: Clip, names: tuple[NamingRule, ...]) -> Filed:
    medium, said = medium_of(clip.path), proposed(names, clip.path)
    start, end = instant(clip.created), instant(clip.modified)
    if medium is Medium.PHOTO:
        start = end
    elif start is None or end is None or start >= end:
        start = said.time if said is not None else None
    return Filed(clip.number, clip.path, clip.size_bytes, medium, start, end, said)


def _by(reader: Reader, family: Family, recordings: Sequence[str]) -> Sequence[str]:
    """By what they belong together; nothing if what their content tells denies it."""
    if family.kin is not Kin.BURST:
        return family.by
    taken = sorted(_taken(reader, [name for name in recordings[:_EXIF_ASKED] if name]))
    if any(high - low > _SHOTS for low, high in pairwise(taken)):
        return ()
    return (*family.by, "exif") if len(taken) > 1 else family.by


def _taken(reader: Reader, recordings: Sequence[str]) -> Iterator[datetime]:
    for name in recordings:
        facts = reader.recording(name).facts
        if facts is not None and _TAKEN.match(facts.taken):
            try:
                yield datetime.strptime(facts.taken[:19], _EXIF)  # noqa: DTZ007 - only compared with each other
            except ValueError:
                continue
