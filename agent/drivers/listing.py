"""Checks every line of the parser: a wrong answer must stay a wrong answer about one recorder."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from agent.drivers.base import Listing, ListingEnd, RefusedEntry
from agent.errors import DeviceError
from agent.model import Clip, Extent, Finding, Stamp, Volume

MAX_CLIPS: Final = 400_000
MAX_EXTENTS: Final = 4_000_000
MAX_FINDINGS: Final = 200_000
_MAX_TEXT: Final = 8192
_MAX_BYTES: Final = 1 << 63


def _nonsense(why: str) -> DeviceError:
    return DeviceError(
        f"The reader of this recorder gave an impossible answer ({why}).",
        safe="Nothing on the recorder was changed; what was pulled before is safe.",
        do="Keep the recorder and call the administrator.",
    )


def _number(value: object, low: int, high: int, what: str) -> int:
    if type(value) is not int or not low <= value <= high:
        raise _nonsense(f"{what} is out of range")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise _nonsense(f"{what} is no text or too long")
    return value


def _mapping(value: object, what: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise _nonsense(f"{what} is no object")
    return value


def _list(value: object, limit: int, what: str) -> list[object]:
    if not isinstance(value, list) or len(value) > limit:
        raise _nonsense(f"{what} is no list or too long")
    return value


def _hex(value: object, limit: int, what: str) -> bytes:
    try:
        return bytes.fromhex(_text(value, what)[: 2 * limit])
    except ValueError:
        raise _nonsense(f"{what} is not hexadecimal") from None


def _stamp(value: object) -> Stamp:
    local, offset_min = _list(value, 2, "time")
    return Stamp(
        None if local is None else _text(local, "time"),
        None if offset_min is None else _number(offset_min, -1440, 1440, "zone"),
    )


@dataclass(frozen=True, slots=True)
class Source:
    """Identity of the file or block device that the parser opened; the puller must open the same one."""

    rdev: int
    ino: int
    dev: int
    size_bytes: int
    diskseq: int


@dataclass(slots=True)
class Layout:
    """Where the bytes of one clip lie on the device; `zero_from` is where zeros take over inside the file."""

    readable_bytes: int
    zero_from: int | None
    extents: array[int] = field(default_factory=lambda: array("Q"))
    covered_bytes: int = 0

    @property
    def wanted_bytes(self) -> int:
        """Bytes that must come from the device."""
        return self.readable_bytes if self.zero_from is None else min(self.zero_from, self.readable_bytes)

    def pairs(self) -> Iterator[Extent]:
        """(offset, length) on the device, in file order."""
        return zip(self.extents[::2], self.extents[1::2], strict=True)


class CheckedListing:
    """Turns parser lines into listing items, in order; raises DeviceError at the first line that can't be true."""

    def __init__(self) -> None:
        self.source: Source | None = None
        self.layouts: dict[int, Layout] = {}
        self._open: tuple[Clip, Layout] | None = None
        self._paths: dict[int, str] = {}
        self._numbered = 0
        self._extents = 0
        self._findings = 0
        self._claimed_bytes = 0

    def feed(self, line: object) -> list[Listing]:
        """Items that are complete with this line."""
        fields = _mapping(line, "line")
        if self.source is None and "error" not in fields:
            self.source = _source(_mapping(fields.get("source"), "source"))
            return []
        if "more" in fields:
            self._extend(fields["more"])
            return []
        done = self._settle()
        match next(iter(fields), ""):
            case "clip":
                self._open_clip(fields)
            case "volume":
                done.append(_volume(_mapping(fields["volume"], "volume")))
            case "refused":
                refused = _mapping(fields["refused"], "refused")
                clip = self._clip(_mapping(refused.get("clip"), "clip"))
                done.append(RefusedEntry(clip, _text(refused.get("reason"), "reason")))
            case "finding":
                done.append(self._finding(_mapping(fields["finding"], "finding")))
            case "end":
                end = _mapping(fields["end"], "end")
                _number(end.get("entries"), self._numbered, self._numbered, "number of entries")
                done += self.cross_links()
                done.append(ListingEnd(_hex(end.get("metadata_blake3"), 32, "digest").hex()))
            case "error":
                error = _mapping(fields["error"], "error")
                raise _unreadable(_text(error.get("kind"), "kind"), _text(error.get("message"), "message"))
            case other:
                raise _nonsense(f"unknown line {other[:20]!r}")
        return done

    def _clip(self, raw: Mapping[str, object]) -> Clip:
        self._numbered += 1
        if self._numbered > MAX_CLIPS:
            raise _nonsense("too many files")
        return Clip(
            number=_number(raw.get("number"), self._numbered, self._numbered, "clip number"),
            path=_text(raw.get("path"), "path"),
            raw_name=_hex(raw.get("raw_name"), 1024, "name"),
            size_bytes=_number(raw.get("size"), 0, _MAX_BYTES, "size"),
            readable_bytes=_number(raw.get("readable"), 0, _MAX_BYTES, "readable size"),
            created=_stamp(raw.get("created")),
            modified=_stamp(raw.get("modified")),
            flags=tuple(_text(flag, "flag") for flag in _list(raw.get("flags"), 32, "flags")),
            entry_offset=_number(raw.get("entry_offset"), -1, _MAX_BYTES, "entry offset"),
        )

    def _open_clip(self, fields: Mapping[str, object]) -> None:
        raw = _mapping(fields["clip"], "clip")
        clip = self._clip(raw)
        zero_from = raw.get("zero_from")
        if zero_from is not None:
            zero_from = _number(zero_from, 0, clip.readable_bytes, "valid length")
        self._open = clip, Layout(clip.readable_bytes, zero_from)
        self._extend(fields.get("extents"))

    def _extend(self, pairs: object) -> None:
        if self._open is None or self.source is None:
            raise _nonsense("extents without a file")
        layout = self._open[1]
        for pair in _list(pairs, MAX_EXTENTS, "extents"):
            offset, length = _list(pair, 2, "extent")
            offset = _number(offset, 0, self.source.size_bytes, "extent offset")
            length = _number(length, 1, self.source.size_bytes - offset, "extent length")
            layout.extents.extend((offset, length))
            layout.covered_bytes += length
            self._extents += 1
        if self._extents > MAX_EXTENTS:
            raise _nonsense("too many extents")

    def _settle(self) -> list[Listing]:
        if self._open is None or self.source is None:
            return []
        (clip, layout), self._open = self._open, None
        if layout.covered_bytes != layout.wanted_bytes:
            raise _nonsense("the extents do not add up to the file")
        # Hostile or damaged cards can list the same clusters under thousands of names.
        if self._claimed_bytes + layout.covered_bytes > 2 * self.source.size_bytes:
            refused = replace(clip, readable_bytes=0)
            return [RefusedEntry(refused, "cross-linked: more bytes listed than the card can hold")]
        self._claimed_bytes += layout.covered_bytes
        self.layouts[clip.number] = layout
        self._paths[clip.number] = clip.path
        return [clip]

    def _finding(self, raw: Mapping[str, object]) -> Finding:
        self._findings += 1
        if self._findings > MAX_FINDINGS:
            raise _nonsense("too many findings")
        return Finding(_text(raw.get("kind"), "kind"), _mapping(raw.get("detail"), "detail"))

    def cross_links(self) -> list[Listing]:
        """Findings for files that claim the same bytes of the device: at most one of each pair can be right."""
        spans = sorted(
            (offset, offset + length, number)
            for number, layout in self.layouts.items()
            for offset, length in layout.pairs()
        )
        clashes: set[int] = set()
        reach, owner = 0, 0
        for start, end, number in spans:
            if start < reach:
                clashes |= {owner, number}
            if end > reach:
                reach, owner = end, number
        return [Finding("cross-linked", {"number": number, "path": self._paths[number]}) for number in sorted(clashes)]


def _source(raw: Mapping[str, object]) -> Source:
    keys = ("rdev", "ino", "dev", "size", "diskseq")
    return Source(*(_number(raw.get(key), 0, _MAX_BYTES * 2, key) for key in keys))


def _volume(raw: Mapping[str, object]) -> Volume:
    return Volume(
        kind=_text(raw.get("kind"), "kind"),
        filesystem_id=_text(raw.get("filesystem_id"), "filesystem id"),
        label=_text(raw.get("label"), "label"),
        cluster_bytes=_number(raw.get("cluster_bytes"), 1, 1 << 32, "cluster size"),
        size_bytes=_number(raw.get("size_bytes"), 0, _MAX_BYTES, "volume size"),
        dirty=raw.get("dirty") is True,
    )


def _unreadable(kind: str, message: str) -> DeviceError:
    return DeviceError(
        f"This recorder's filesystem can't be read: {message} ({kind}).",
        safe="Nothing was changed on it and nothing was pulled.",
        do="Keep the recorder as it is, don't format it, and call the administrator.",
    )
