"""What was found in an original: facts with a time or byte range, put in order; pure, and never an accusation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from typing import Final

from agent.access import looking
from agent.access.certificate import canonical
from agent.access.inspecting import Inspection
from agent.access.looking import NOTHING_DETECTED, Detected, spans_of
from agent.access.scanner import REGION_BYTES
from agent.access.scanning import Scanned
from agent.checked import plain
from agent.model import Facts, FindingKind, Integrity, MediaFinding, Medium

SCHEMA: Final = "capture-agent.findings.1"
GAP_MS: Final = 1000
"""Time stamps that go on further than that, beyond the usual step; less is left out now and then by many recorders."""
BACKWARDS_MS: Final = 100
OFFSET_MS: Final = 500
"""A recorder's tracks begin and end within a fraction of a second."""
NEIGHBOURS_MS: Final = 1000
"""Undecodable ranges that are closer are told as one."""
UNPACKED_BYTES: Final = 1 << 20
"""Beside sound without compression, in which silence is zeros, only what is longer than a second of it."""
KIND_LIMIT: Final = 1000
_TEXT_LIMIT: Final = 200
_UNPACKED: Final = ("pcm_", "rawvideo")


def findings_of(
    facts: Facts, source: Inspection, scanned: Scanned, detected: Detected = NOTHING_DETECTED
) -> tuple[MediaFinding, ...]:
    """All findings by time, those without one first; of each kind so many, the last of which tells of how many more."""
    lasts_ms = looking.lasts(source)
    found = [*_cut(facts, lasts_ms), *_undecodable(facts, source)]
    if facts.medium is not Medium.PHOTO:
        found += _jumps(source)
        found += [*_seen(detected, found), *_offsets(source), *_zeros(facts, scanned)]
    told = [_within(one, lasts_ms) for one in found]
    return tuple(sorted(_bounded(_merged(told)), key=_order))


def findings_document(found: Sequence[MediaFinding], scanned: Scanned, tool: str) -> bytes:
    """Canonical JSON of all findings, with the thresholds at which something is one."""
    thresholds = {
        "black_ms": looking.BLACK_MS,
        "frozen_ms": looking.FROZEN_MS,
        "frozen_noise": looking.FROZEN_NOISE,
        "silent_ms": looking.SILENT_MS,
        "silent_db": looking.SILENT_DB,
        "gap_ms": GAP_MS,
        "backwards_ms": BACKWARDS_MS,
        "offset_ms": OFFSET_MS,
        "zeros_bytes": REGION_BYTES,
    }
    zeros = {"regions": scanned.regions, "bytes": scanned.zero_bytes}
    listed = [{name: value for name, value in asdict(one).items() if value not in (None, "")} for one in found]
    told = {"schema": SCHEMA, "blake3": scanned.blake3, "tool": tool, "thresholds": thresholds, "zeros": zeros}
    return canonical(told | {"findings": listed})


def _cut(facts: Facts, lasts_ms: int) -> Iterator[MediaFinding]:
    missing = facts.integrity is Integrity.SUSPECT and "missing" in facts.reason
    if facts.integrity is Integrity.TRUNCATED or missing:
        end = lasts_ms or None
        yield MediaFinding(FindingKind.CUT, end, end, detail=facts.reason)


def _undecodable(facts: Facts, source: Inspection) -> Iterator[MediaFinding]:
    if facts.integrity is Integrity.UNREADABLE:
        yield MediaFinding(FindingKind.UNDECODABLE, detail=facts.reason)
    elif not any(track.packets for track in source.tracks):
        yield MediaFinding(FindingKind.UNDECODABLE, detail=source.reason or "there is neither picture nor sound in it")
    elif not source.ended:
        yield MediaFinding(FindingKind.UNDECODABLE, detail=f"not decoded to its end: {source.reason}")
    for track in source.tracks:
        if track.kind not in ("video", "audio"):
            continue
        whole = track.packets and not track.frames
        for start, end in spans_of(track) if whole else track.undecodable:
            yield MediaFinding(FindingKind.UNDECODABLE, start, end, detail=track.kind)


def _seen(detected: Detected, others: Sequence[MediaFinding]) -> Iterator[MediaFinding]:
    """A picture that stands while time leaps, or while none can be decoded, is no frozen picture; and so on."""
    for kind, track, spans, least_ms in (
        (FindingKind.BLACK, "video", detected.black, looking.BLACK_MS),
        (FindingKind.FROZEN, "video", detected.frozen, looking.FROZEN_MS),
        (FindingKind.SILENT, "audio", detected.silent, looking.SILENT_MS),
    ):
        nothing = [
            (one.start_ms, one.end_ms)
            for one in others
            if one.detail == track and one.start_ms is not None and one.end_ms is not None
        ]
        for start, end in looking.long_enough(looking.without(spans, nothing), least_ms):
            yield MediaFinding(kind, start, end)


def _jumps(source: Inspection) -> Iterator[MediaFinding]:
    for track in source.tracks:
        for at_ms, by_ms in track.jumps:
            if by_ms >= GAP_MS:
                yield MediaFinding(FindingKind.GAP, at_ms, at_ms + by_ms, detail=track.kind)
            elif by_ms <= -BACKWARDS_MS:
                yield MediaFinding(FindingKind.BACKWARDS, at_ms + by_ms, at_ms, detail=track.kind)


def _offsets(source: Inspection) -> Iterator[MediaFinding]:
    """Where the first track of one kind begins before the other, or goes on behind it."""
    picture, sound = source.of("video"), source.of("audio")
    if picture is None or sound is None:
        return
    for seen, heard in zip(spans_of(picture), spans_of(sound), strict=False):
        for at, words in enumerate(("begins later", "ends earlier")):
            first, last = sorted((seen[at], heard[at]))
            if last - first >= OFFSET_MS:
                kind = "sound" if (seen[at] < heard[at]) is (at == 0) else "picture"
                yield MediaFinding(FindingKind.OFFSET, first, last, detail=f"the {kind} {words}")


def _zeros(facts: Facts, scanned: Scanned) -> Iterator[MediaFinding]:
    """Silence and black are zeros where nothing is compressed; among such tracks alone, zeros prove nothing."""
    unpacked = [stream.codec.startswith(_UNPACKED) for stream in facts.streams]
    if unpacked and all(unpacked):
        return
    least_bytes = UNPACKED_BYTES if any(unpacked) else 0
    for offset, length in scanned.zeros:
        if length >= least_bytes:
            yield MediaFinding(FindingKind.ZEROS, offset_bytes=offset, length_bytes=length)


def _within(one: MediaFinding, lasts_ms: int) -> MediaFinding:
    """Within the recording, whatever a damaged file says."""
    detail = plain(one.detail, _TEXT_LIMIT)
    if one.start_ms is None or one.end_ms is None:
        return replace(one, detail=detail)
    start, end = (min(max(0, at_ms), lasts_ms) for at_ms in (one.start_ms, one.end_ms))
    return replace(one, start_ms=start, end_ms=max(start, end), detail=detail)


def _merged(found: Iterable[MediaFinding]) -> list[MediaFinding]:
    """What is the same and touches, or is undecodable close by, as one."""
    merged: list[MediaFinding] = []
    for one in sorted(found, key=lambda one: (one.kind, one.detail, _order(one))):
        if merged and _touch(last := merged[-1], one):
            assert last.end_ms is not None and one.end_ms is not None, "they touch"  # noqa: PT018
            merged[-1] = replace(last, end_ms=max(last.end_ms, one.end_ms))
        else:
            merged.append(one)
    return merged


def _touch(last: MediaFinding, one: MediaFinding) -> bool:
    if (one.kind, one.detail) != (last.kind, last.detail) or one.kind is FindingKind.BACKWARDS:
        return False
    if last.end_ms is None or one.start_ms is None:
        return False
    distance = NEIGHBOURS_MS if one.kind is FindingKind.UNDECODABLE else 0
    return one.start_ms - last.end_ms <= distance


def _bounded(found: Iterable[MediaFinding]) -> Iterator[MediaFinding]:
    for _, listed in groupby(found, key=lambda one: one.kind):
        ordered = sorted(listed, key=_order)
        if more := ordered[KIND_LIMIT:]:
            last = ordered[KIND_LIMIT - 1]
            ordered[KIND_LIMIT - 1 :] = [replace(last, detail=f"{last.detail}, and {len(more)} more")]
        yield from ordered


def _order(one: MediaFinding) -> tuple[int, int, int, str, str]:
    """By time, those without one first."""
    start, end = (-1 if at_ms is None else at_ms for at_ms in (one.start_ms, one.end_ms))
    return start, end, one.offset_bytes or 0, one.kind, one.detail
