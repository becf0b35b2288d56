"""Finds the pictures of H.264, H.265 and Motion JPEG in media without an index, by the form that they must have.

In an MP4 H.264 and H.265 lie as NAL units behind their lengths (ISO/IEC 14496-15, 4.3.3), with sound between that has
no mark. A unit is believed by its length, header and parameter set (ITU-T H.264 and H.265, 7.3), by its last byte, and
because certain bytes can't be in one.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes, fewer only at the end of the file."""

UNIT_LIMIT: Final = 4 << 20
_WINDOW: Final = 8 << 20
_STEP: Final = 1 << 20
_HEAD: Final = 16
_SOUND_BYTES: Final = 1 << 16
_OTHERS_LIMIT: Final = 8
_CHAIN_LIMIT: Final = 8
_LEARNT: Final = 25
_NEVER: Final = re.compile(rb"\x00\x00[\x00-\x02]")  # in no NAL unit: emulation prevention (7.4.1)
_PHOTO: Final = re.compile(rb"\xff\xd8\xff")


class Unit(NamedTuple):
    """A NAL unit: where its bytes are, its type, and for a slice whether it is the first of its picture."""

    at: int
    length: int
    kind: int
    first: bool = False

    @property
    def end(self) -> int:
        """Where the next one would have its length."""
        return self.at + self.length


@dataclass(frozen=True, slots=True)
class Form:
    """What is particular to a codec: bytes of a header, types of slices, of key pictures, of PPS, and at the end."""

    codec: str
    header: int
    slices: frozenset[int]
    keys: frozenset[int]
    pps: int
    behind: frozenset[int]
    begins: re.Pattern[bytes]
    """The first byte of a length below UNIT_LIMIT before a header; the rest is looked ahead at: places may overlap."""

    def kind(self, header: bytes) -> int:
        """The type of a unit."""
        return header[0] & 31 if self.header == 1 else header[0] >> 1 & 63


def _begins(headers: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\x00(?=[\x00-\x3f].." + headers + rb")", re.DOTALL)


FORMS: Final = (
    Form(
        "h264", 1, frozenset({1, 5}), frozenset({5}), 8, frozenset({10, 11, 12}),
        _begins(rb"[\x01\x21\x41\x61\x25\x45\x65\x06\x27\x47\x67\x28\x48\x68\x09-\x0c]"),
    ),
    Form(
        "hevc", 2, frozenset({*range(10), *range(16, 22)}), frozenset(range(16, 22)), 34, frozenset({36, 37, 38, 40}),
        _begins(rb"[\x00\x02\x04\x06\x08\x0a\x0c\x0e\x10\x12\x20-\x2a\x40\x42\x44\x46\x48\x4a\x4c\x4e\x50][\x01-\x07]"),
    ),
)  # fmt: skip


def parameter_sets(extradata: bytes) -> list[bytes]:
    """The NAL units in an avcC or hvcC (ISO/IEC 14496-15, 5.3.3 and 8.3.3); raises ValueError for another form."""
    at, sets = 0, []

    def number(length: int) -> int:
        nonlocal at
        at += length
        if at > len(extradata):
            raise ValueError("its decoder configuration is cut off")
        return int.from_bytes(extradata[at - length : at], "big")

    def take(count: int) -> None:
        nonlocal at
        for _ in range(count):
            length = number(2)
            sets.append(extradata[at : at + length])
            at += length

    if len(extradata) < 23 or extradata[0] != 1:  # an avcC with both sets in it isn't shorter either
        raise ValueError("its decoder configuration has no known form")
    is_avc = extradata[5] >> 5 == 7 and extradata[4] >> 2 == 63
    if extradata[4 if is_avc else 21] & 3 != 3:
        raise ValueError("its NAL units don't have lengths of four bytes")
    if is_avc:
        at = 5
        take(number(1) & 31)
        take(number(1))
    else:
        at = 22
        for _ in range(number(1)):
            number(1)
            take(number(2))
    return sets


@dataclass(slots=True)
class Units:
    """The NAL units between two offsets, one behind the other; what lies between them is skipped."""

    read: Read
    form: Form
    at: int
    end: int
    pps: set[int] = field(default_factory=set)
    _buffer: bytes = b""
    _base: int = 0
    _largest: int = 0
    _taken: int = 0

    def get(self, at: int, length: int) -> bytes:
        """Bytes, by large reads."""
        if at < self._base or at + length > self._base + len(self._buffer):
            self._buffer, self._base = self.read(at, max(length, min(_WINDOW, self.end - at))), at
        return self._buffer[at - self._base : at - self._base + length]

    def learn(self, unit: bytes) -> None:
        """Take what is to be known of a parameter set."""
        if self.form.kind(unit) == self.form.pps:
            self.pps.add(_exp_golomb(unit[self.form.header : self.form.header + 8], 0)[0])

    def unit(self, at: int) -> Unit | None:
        """The NAL unit whose length stands at an offset, if all of it can be one."""
        head = self.get(at, 4 + _HEAD)
        length, header = int.from_bytes(head[:4], "big"), self.form.header
        limit = max(1 << 19, 4 * self._largest) if self._taken > _LEARNT else UNIT_LIMIT
        if not header + 1 < length <= limit or at + 4 + length > self.end or not self.form.begins.match(head):
            return None
        kind, first = self.form.kind(head[4:]), False
        if kind in self.form.slices:
            first = bool(head[4 + header] & 0x80)
            if self._pps(head[4 + header :], kind) not in self.pps:
                return None
        body = self.get(at + 4, length)
        if len(body) < length or body[-1] == 0 or _NEVER.search(body):
            return None
        return Unit(at + 4, length, kind, first)

    def _pps(self, slice_header: bytes, kind: int) -> int:
        """The parameter set that a slice names, or -1; of one that isn't the first of its picture any that is known."""
        if not slice_header[0] & 0x80 and self.form.codec == "hevc":
            return next(iter(self.pps), -1)  # where it begins depends on the size of the picture
        if self.form.codec == "hevc":
            return _exp_golomb(slice_header, 2 if kind in self.form.keys else 1)[0]
        _, at = _exp_golomb(slice_header, 0)
        slice_type, at = _exp_golomb(slice_header, at)
        return _exp_golomb(slice_header, at)[0] if 0 <= slice_type <= 9 else -1

    def __iter__(self) -> Iterator[Unit]:
        """All units; may be stopped and begun anew from `at`."""
        while (unit := self.unit(self.at) or self._search()) is not None:
            self._taken += 1
            self._largest = max(self._largest, unit.length)
            if unit.kind not in self.form.slices:
                self.learn(self.get(unit.at, unit.length))
            self.at = unit.end
            yield unit

    def _search(self) -> Unit | None:
        """The next place where pictures go on.

        Of several that can be, the one that leaves the fewest bytes unused; a long one must be a little better, since
        what sound looks like is as often a long as a short length, and true pictures may have a megabyte.
        """
        first = next(self._beginnings(self.at, self.end), None)
        if first is None:
            return None
        others = itertools.islice(
            self._beginnings(first.at - 3, min(first.end, first.at + _SOUND_BYTES)), _OTHERS_LIMIT
        )
        return min([first, *others], key=lambda unit: unit.at + self._unused(unit.end) + unit.length // 64)

    def _unused(self, at: int) -> int:
        """How many bytes there are from the end of a unit to the next beginning, as far as that matters."""
        if self.unit(at) is not None:
            return 0
        end = min(self.end, at + _STEP)
        return next((unit.at for unit in self._beginnings(at, end)), end) - at

    def _beginnings(self, at: int, end: int) -> Iterator[Unit]:
        """The units between two offsets with which a picture may begin."""
        while at < end:
            window = self.get(at, min(_STEP + _HEAD, self.end - at))
            if window.strip(b"\0"):  # a reserve that was never written may be long
                for match in self.form.begins.finditer(window, 0, min(_STEP, end - at) + 5):
                    unit = self.unit(at + match.start())
                    if unit is not None and self._goes_on(unit):
                        yield unit
            at += _STEP

    def _goes_on(self, unit: Unit) -> bool:
        """Whether it begins a picture: a first slice, or what leads to one."""
        for _ in range(_CHAIN_LIMIT):
            if unit.kind in self.form.slices:
                return unit.first
            if unit.kind == self.form.pps:
                self.learn(self.get(unit.at, unit.length))
            following = self.unit(unit.end)
            if following is None:
                return False
            unit = following
        return False


def pictures(units: Units) -> Iterator[list[Unit]]:
    """The units of one picture after another (H.264 7.4.1.2.3, H.265 7.4.2.4.4), as far as they are there."""
    gathered: list[Unit] = []
    seen = False
    for unit in units:
        is_slice = unit.kind in units.form.slices
        if seen and (unit.first if is_slice else unit.kind not in units.form.behind):
            yield gathered
            gathered, seen = [], False
        gathered.append(unit)
        seen = seen or is_slice
    if seen:
        yield gathered


def photos(read: Read, at: int, end: int) -> Iterator[list[Unit]]:
    """The JPEG pictures of Motion JPEG, from their beginning to their end mark."""
    while at < end:
        window = read(at, min(UNIT_LIMIT, end - at))
        begin = _PHOTO.search(window)
        stop = window.find(b"\xff\xd9", begin.start() + 3) if begin else -1
        if begin and stop > 0:
            yield [Unit(at + begin.start(), stop + 2 - begin.start(), 0, first=True)]
            at += stop + 2
        elif begin and begin.start() > 0:
            at += begin.start()
        else:
            at += max(1, len(window) - 2)


def _exp_golomb(content: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a bit (H.264 9.1), and where the next begins; -1 if there is none."""
    bits, length = int.from_bytes(content, "big"), 8 * len(content)
    zeros = 0
    while at + zeros < length and not bits >> length - 1 - at - zeros & 1:
        zeros += 1
    stop = at + 2 * zeros + 1
    if stop > length:
        return -1, length
    return (bits >> length - stop & (1 << zeros + 1) - 1) - 1, stop
