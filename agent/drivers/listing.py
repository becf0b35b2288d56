"""Checks every line of the parser: a wrong answer must stay a wrong answer about one recorder."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from agent.drivers.base import Listing, ListingEnd, RefusedEntry
from agent.drivers.source import Identity
from agent.errors import DeviceError, UnpluggedError
from agent.model import Clip, Extent, Finding, Space, Stamp, Volume

MAX_CLIPS: Final = 400_000
MAX_EXTENTS: Final = 4_000_000
MAX_FINDINGS: Final = 200_000
_MAX_TEXT: Final = 8192
_MAX_BYTES: Final = 1 << 63
_Kind = TypeVar("_Kind", str, list[Any], dict[str, Any])


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


def _typed(kind: type[_Kind], value: object, what: str, limit: int = _MAX_TEXT) -> _Kind:
    if not isinstance(value, kind) or len(value) > limit:
        raise _nonsense(f"{what} is no {kind.__name__} or too long")
    return value


def _pair(value: object, what: str) -> list[object]:
    pair: list[object] = _typed(list, value, what, 2)
    if len(pair) < 2:
        raise _nonsense(f"{what} is no pair")
    return pair


def _hex(value: object, limit: int, what: str) -> bytes:
    try:
        return bytes.fromhex(_typed(str, value, what)[: 2 * limit])
    except ValueError:
        raise _nonsense(f"{what} is not hexadecimal") from None


def _stamp(value: object) -> Stamp:
    local, offset_min = _pair(value, "time")
    return Stamp(
        None if local is None else _typed(str, local, "time"),
        None if offset_min is None else _number(offset_min, -1440, 1440, "zone"),
    )


@dataclass(slots=True)
class Layout:
    """Where the bytes of one clip lie on the device; `zero_from` is where zeros take over inside the file."""

    readable_bytes: int
    zero_from: int | None
    extents: array[int] = field(default_factory=lambda: array("Q"))

    @property
    def wanted_bytes(self) -> int:
        """Bytes that must come from the device."""
        return self.readable_bytes if self.zero_from is None else self.zero_from

    def pairs(self) -> Iterator[Extent]:
        """(offset, length) on the device, in file order."""
        return zip(self.extents[::2], self.extents[1::2], strict=True)


class CheckedListing:
    """Turns parser lines into listing items, in order; raises DeviceError at the first line that can't be true."""

    def __init__(self) -> None:
        self.source: Identity | None = None
        self.layouts: dict[int, Layout] = {}
        self._open: tuple[Clip, Layout] | None = None
        self._paths: dict[int, str] = {}
        self._numbered = 0
        self._extents = 0
        self._findings = 0
        self._claimed_bytes = 0

    def feed(self, line: object) -> list[Listing]:
        """Items that are complete with this line."""
        fields = _typed(dict, line, "line")
        kind = next(iter(fields), "")
        if self.source is None and kind != "error":
            raw = _typed(dict, fields.get("source"), "source")
            self.source = Identity(*(_number(raw.get(name), 0, _MAX_BYTES * 2, name) for name in Identity._fields))
            return []
        if kind == "more":
            self._extend(fields["more"])
            return []
        return [*self._settle(), *self._item(kind, fields)]

    def _item(self, kind: str, fields: Mapping[str, object]) -> Sequence[Listing]:
        value = _typed(dict, fields.get(kind), "line")
        match kind:
            case "clip":
                self._open_clip(value, fields.get("extents"))
                return ()
            case "volume":
                return (_volume(value),)
            case "refused":
                clip = self._clip(_typed(dict, value.get("clip"), "clip"))
                return (RefusedEntry(clip, _typed(str, value.get("reason"), "reason")),)
            case "finding":
                return (self._finding(value),)
            case "end":
                _number(value.get("entries"), self._numbered, self._numbered, "number of entries")
                digest = _hex(value.get("metadata_blake3"), 32, "digest").hex()
                return (*self._cross_links(), ListingEnd(digest, _space(value.get("space"))))
            case "error":
                raise _unreadable(_typed(str, value.get("kind"), "kind"), _typed(str, value.get("message"), "message"))
        raise _nonsense(f"unknown line {kind[:20]!r}")

    def _clip(self, raw: Mapping[str, object]) -> Clip:
        self._numbered += 1
        if self._numbered > MAX_CLIPS:
            raise _nonsense("too many files")
        return Clip(
            number=_number(raw.get("number"), self._numbered, self._numbered, "clip number"),
            path=_typed(str, raw.get("path"), "path"),
            raw_name=_hex(raw.get("raw_name"), 1024, "name"),
            size_bytes=_number(raw.get("size"), 0, _MAX_BYTES, "size"),
            readable_bytes=_number(raw.get("readable"), 0, _MAX_BYTES, "readable size"),
            created=_stamp(raw.get("created")),
            modified=_stamp(raw.get("modified")),
            flags=tuple(_typed(str, flag, "flag") for flag in _typed(list, raw.get("flags"), "flags", 32)),
            entry_offset=_number(raw.get("entry_offset"), -1, _MAX_BYTES, "entry offset"),
        )

    def _open_clip(self, raw: Mapping[str, object], extents: object) -> None:
        clip = self._clip(raw)
        zero_from = raw.get("zero_from")
        if zero_from is not None:
            zero_from = _number(zero_from, 0, clip.readable_bytes, "valid length")
        self._open = clip, Layout(clip.readable_bytes, zero_from)
        self._extend(extents)

    def _extend(self, pairs: object) -> None:
        if self._open is None or self.source is None:
            raise _nonsense("extents without a file")
        for pair in _typed(list, pairs, "extents", MAX_EXTENTS - self._extents):
            offset, length = _pair(pair, "extent")
            offset = _number(offset, 0, self.source.size, "extent offset")
            length = _number(length, 1, self.source.size - offset, "extent length")
            self._open[1].extents.extend((offset, length))
            self._extents += 1

    def _settle(self) -> list[Listing]:
        if self._open is None or self.source is None:
            return []
        (clip, layout), self._open = self._open, None
        covered = sum(layout.extents[1::2])
        if covered != layout.wanted_bytes:
            raise _nonsense("the extents do not add up to the file")
        # Hostile or damaged cards can list the same clusters under thousands of names.
        if self._claimed_bytes + covered > 2 * self.source.size:
            refused = replace(clip, readable_bytes=0)
            return [RefusedEntry(refused, "cross-linked: more bytes listed than the card can hold")]
        self._claimed_bytes += covered
        self.layouts[clip.number] = layout
        self._paths[clip.number] = clip.path
        return [clip]

    def _finding(self, raw: Mapping[str, object]) -> Finding:
        self._findings += 1
        if self._findings > MAX_FINDINGS:
            raise _nonsense("too many findings")
        return Finding(_typed(str, raw.get("kind"), "kind"), _typed(dict, raw.get("detail"), "detail"))

    def _cross_links(self) -> list[Listing]:
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


def _volume(raw: Mapping[str, object]) -> Volume:
    return Volume(
        kind=_typed(str, raw.get("kind"), "kind"),
        filesystem_id=_typed(str, raw.get("filesystem_id"), "filesystem id"),
        label=_typed(str, raw.get("label"), "label"),
        cluster_bytes=_number(raw.get("cluster_bytes"), 1, 1 << 32, "cluster size"),
        size_bytes=_number(raw.get("size_bytes"), 0, _MAX_BYTES, "volume size"),
        dirty=raw.get("dirty") is True,
    )


def _space(raw: object) -> Space | None:
    if raw is None:
        return None
    numbers: list[object] = _typed(list, raw, "space", 3)
    if len(numbers) < 3:
        raise _nonsense("space is incomplete")
    return Space(*(_number(number, 0, _MAX_BYTES, "space") for number in numbers))


def unplugged(message: str) -> UnpluggedError:
    """The recorder went while it was listed."""
    return UnpluggedError(
        f"This recorder was unplugged while it was listed: {message}.",
        safe="Nothing was changed on it.",
        do="Dock it again.",
    )


def _unreadable(kind: str, message: str) -> DeviceError:
    match kind:
        case "gone":
            return unplugged(message)
        case "no-storage":
            return DeviceError(
                "This recorder shows no storage.",
                safe="Nothing was changed on it and nothing was pulled.",
                do="Unlock it, and choose file transfer (MTP) on its screen.",
            )
        case "mtp":
            return DeviceError(
                f"This recorder can't be read by MTP: {message}.",
                safe="Nothing was changed on it and nothing was pulled.",
                do="Dock it again; if it happens again, keep it and call the administrator.",
            )
    return DeviceError(
        f"This recorder's filesystem can't be read: {message} ({kind}).",
        safe="Nothing was changed on it and nothing was pulled.",
        do="Keep the recorder as it is, don't format it, and call the administrator.",
    )
