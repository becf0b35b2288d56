"""What a session consists of: a list of all segments, gaps and clocks as JSON, and a playlist of each source as M3U8.

Originals stay what they are: whoever wants them one behind the other plays the list.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from agent.access.certificate import AGENT, canonical
from agent.access.laying import CARD_US, CAUSES
from agent.model import Asset, Digests, SegmentTaken, SessionEnded, SessionNoted, SessionStarted

SCHEMA: Final = "capture-agent.session.1"


@dataclass(frozen=True, slots=True)
class Listed:
    """A source with its segments in order, the original of each, where each is in its film (ms), and that film."""

    name: str
    title: str
    segments: Sequence[tuple[SegmentTaken, Asset]]
    film_ms: Mapping[str, int]
    film: Asset | None


def session_list(
    started: SessionStarted, ended: SessionEnded, notes: Sequence[SessionNoted], sources: Sequence[Listed],
    mosaic: tuple[int, Digests] | None,
) -> bytes:  # fmt: skip
    """Canonical JSON; times are ISO 8601, `film_ms` counts from the beginning of the film of the source."""
    told = {
        "schema": SCHEMA,
        "agent": AGENT,
        "session_id": started.session_id,
        "room": started.room,
        "stage": started.stage,
        "started_at": started.started_at.isoformat(),
        "ended_at": ended.ended_at.isoformat(),
        "ended": ended.reason,
        "mosaic": {"size_bytes": mosaic[0], **asdict(mosaic[1])} if mosaic else None,
        "sources": [_source_of(one, notes) for one in sources],
        "notes": [_note_of(note) for note in notes if not note.source],
    }
    return canonical(told)


def m3u8(source: Listed) -> bytes:
    """A playlist (RFC 8216) of the originals, by their place in vault and store: two hexadecimal digits, BLAKE3."""
    lengths = [_plays_s(one) for one, _ in source.segments]
    longest_s = max((math.floor(length_s + 0.5) for length_s in lengths), default=0)
    lines = ["#EXTM3U", "#EXT-X-VERSION:7", f"#EXT-X-TARGETDURATION:{longest_s or 1}"]
    lines += ["#EXT-X-PLAYLIST-TYPE:VOD", f"# {source.name}"]
    before = None
    for (one, asset), length_s in zip(source.segments, lengths, strict=True):
        if before is not None and (missing_s := (one.start - before).total_seconds()) * 1_000_000 >= CARD_US:
            lines += [f"# nothing for {missing_s:.3f} s from {before.isoformat()}"]
        lines += ["#EXT-X-DISCONTINUITY"] if before is not None else []
        lines += [f"#EXT-X-PROGRAM-DATE-TIME:{one.start.isoformat()}", f"#EXTINF:{length_s:.3f},{one.file}"]
        digest = asset.digests.blake3 if asset.digests else ""
        lines.append(f"{digest[:2]}/{digest}")
        before = one.end
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode("utf-8")


def _plays_s(one: SegmentTaken) -> float:
    """How long it plays, by what the recorder counted, else by the station's clock."""
    return int(str(one.facts.get("media_us", 0))) / 1e6 or (one.end - one.start).total_seconds()


def _source_of(source: Listed, notes: Sequence[SessionNoted]) -> dict[str, object]:
    return {
        "name": source.name,
        "title": source.title,
        "film": _file_of(source.film),
        "segments": list(_segments_of(source)),
        "notes": [_note_of(note) for note in notes if note.source == source.name],
    }


def _segments_of(source: Listed) -> Iterator[dict[str, object]]:
    for one, asset in source.segments:
        yield {
            "number": one.number,
            "file": one.file,
            "recording_id": asset.recording_id,
            "start": one.start.isoformat(),
            "end": one.end.isoformat(),
            "camera_start": one.camera_start.isoformat() if one.camera_start else None,
            "film_ms": source.film_ms.get(asset.recording_id),
            "recorded": dict(one.facts),
            "original": _file_of(asset),
        }


def _note_of(note: SessionNoted) -> dict[str, object]:
    told = CAUSES.get(note.cause, note.cause)
    times = {"start": note.start.isoformat(), "end": note.end.isoformat() if note.end else None}
    return {"kind": note.kind, "cause": note.cause, "told": told, "detail": dict(note.detail), **times}


def _file_of(asset: Asset | None) -> dict[str, object] | None:
    if asset is None or asset.digests is None:
        return None
    return {"asset_id": asset.asset_id, "size_bytes": asset.expected_bytes, **asdict(asset.digests)}
