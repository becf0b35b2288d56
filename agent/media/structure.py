"""Whether a file is all there, by the lengths that its own format writes into it; nothing is decoded.

ISO/IEC 14496-12 boxes (MP4, MOV, 3GP, HEIF), RIFF (WAV, AVI; EBU Tech 3306 for RF64), JPEG (ITU-T T.81), PNG
and transport streams (MPEG-TS).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final

Read = Callable[[int, int], bytes]
"""(offset, length) -> bytes, fewer only at the end of the file."""

Damage = tuple[str, str]
"""TRUNCATED or SUSPECT, and the words for it."""

# As `Integrity` has them; the model itself takes longer to import than this child works.
TRUNCATED: Final = "truncated"
SUSPECT: Final = "suspect"

_PARTS_LIMIT: Final = 200_000
_PIECE_BYTES: Final = 1 << 16
_NO_SIZE: Final = 0xFFFFFFFF
_SYNC: Final = b"\x47"
_TRANSPORT_BYTES: Final = 188
_TRACKS_LIMIT: Final = 64
_BOXES: Final = frozenset({b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"uuid"})


def damage_of(read: Read, size_bytes: int) -> Damage | None:
    """What the structure proves to be missing; None if nothing, or if the format is not one of those above."""
    head = read(0, 16)
    if head[4:8] in _BOXES:
        return _boxes(read, size_bytes)
    if head[:4] in (b"RIFF", b"RF64", b"RIFX"):
        return _riff(read, size_bytes, head)
    if head[:3] == b"\xff\xd8\xff":
        return _jpeg(read, size_bytes)
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return _png(read, size_bytes)
    if head[:1] == _SYNC:
        return _transport(read, size_bytes)
    return None


def turns(read: Read, size_bytes: int) -> dict[int, int]:
    """How far the tracks of an MP4 or MOV are to be turned clockwise: track -> degrees (the matrix of their tkhd)."""
    found: dict[int, int] = {}
    for at in _inside(read, 0, size_bytes, (b"moov", b"trak", b"tkhd")):
        tkhd = read(at, 92)
        late = 12 * (tkhd[:1] == b"\1")  # version 1 has longer times
        if len(tkhd) > 56 + late and len(found) < _TRACKS_LIMIT:
            track, a, b = (int.from_bytes(tkhd[n + late : n + late + 4], "big", signed=True) for n in (12, 40, 44))
            found[track] = round(math.degrees(math.atan2(b, a))) % 360
    return found


def _inside(read: Read, at: int, end: int, path: tuple[bytes, ...]) -> Iterator[int]:
    """Where the content of each box at `path` begins, between two offsets."""
    for _ in range(_PARTS_LIMIT):
        head = read(at, 16)
        length, start = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        if len(head) < 8 or length < start or at + length > end:
            return
        if head[4:8] == path[0] and len(path) == 1:
            yield at + start
        elif head[4:8] == path[0]:
            yield from _inside(read, at + start, at + length, path[1:])
        at += length


def _transport(read: Read, size_bytes: int) -> Damage | None:
    """MPEG transport streams (ISO/IEC 13818-1) are packets of 188 bytes that begin with 0x47."""
    whole = size_bytes // _TRANSPORT_BYTES * _TRANSPORT_BYTES
    places = (_TRANSPORT_BYTES, 2 * _TRANSPORT_BYTES, 3 * _TRANSPORT_BYTES, whole)
    if whole == size_bytes or any(read(at, 1) != _SYNC for at in places):
        return None
    missing = whole + _TRANSPORT_BYTES - size_bytes
    return TRUNCATED, f"the file ends inside a packet of its transport stream, {missing} bytes too early"


def _boxes(read: Read, size_bytes: int) -> Damage | None:
    seen: set[bytes] = set()
    at, cut = 0, ""
    for _ in range(_PARTS_LIMIT):
        head = read(at, 16)
        name = head[4:8]
        if len(head) < 8 or not name.isalnum():
            break  # the end, or padding behind the last box
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        seen.add(name)
        at = size_bytes if length == 0 else at + length
        if length < 8 and length != 0:
            return SUSPECT, f"the {name.decode()} box has an impossible length"
        if at > size_bytes:
            cut = f"the file ends inside its {name.decode()} box, {at - size_bytes} bytes too early"
        if at >= size_bytes:
            break
    if not seen & {b"moov", b"meta"}:
        return TRUNCATED, "; ".join(filter(None, (cut, "the index (moov) is missing")))
    return (TRUNCATED, cut) if cut else None


def _chunks(read: Read, at: int, order: str) -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of the content, length) of RIFF chunks from `at` on."""
    for _ in range(_PARTS_LIMIT):
        head = read(at, 8)
        if len(head) < 8:
            return
        length = int.from_bytes(head[4:], "little" if order == "little" else "big")
        yield head[:4], at + 8, length
        at += 8 + length + length % 2


def _riff(read: Read, size_bytes: int, head: bytes) -> Damage | None:
    order = "big" if head[:4] == b"RIFX" else "little"
    names: list[bytes] = []
    large = 0  # RF64 keeps sizes that don't fit into 32 bits in its ds64 chunk
    for name, at, length in _chunks(read, 12, order):
        names.append(name)
        if name == b"ds64":
            large = int.from_bytes(read(at + 8, 8), "little")
        if name == b"data" and length in (0, _NO_SIZE) and not large:
            if size_bytes > at:
                return TRUNCATED, "the length of the sound was never written: recording was interrupted"
            return None
        end = at + (large if name == b"data" and large else length)
        if end > size_bytes:
            shown = name.decode("ascii", "replace").strip()
            return TRUNCATED, f"the {shown} chunk is {end - size_bytes} bytes shorter than its header says"
        if name == b"data":
            return None
    if head[8:12] == b"AVI ":
        return None if b"idx1" in names else (SUSPECT, "the index (idx1) is missing")
    return (TRUNCATED, "the data chunk is missing") if head[8:12] == b"WAVE" else None


def _jpeg(read: Read, size_bytes: int) -> Damage | None:
    at = 2
    for _ in range(_PARTS_LIMIT):
        head = read(at, 4)
        if len(head) < 4:
            return TRUNCATED, "the file ends before the picture begins"
        if head[0] != 0xFF:
            return SUSPECT, "a segment of the picture is damaged"
        if head[1] == 0xFF:
            at += 1
            continue
        at += 2 + int.from_bytes(head[2:4], "big")
        if head[1] == 0xDA:
            break
    # In coded data no FF is followed by D9, so the first one behind the header is the end.
    before = b""
    while at < size_bytes:
        piece = read(at, _PIECE_BYTES)
        if b"\xff\xd9" in before + piece:
            return None
        at += len(piece)
        before = piece[-1:]
        if not piece:
            break
    return TRUNCATED, "the picture has no end mark (EOI)"


def _png(read: Read, size_bytes: int) -> Damage | None:
    at = 8
    for _ in range(_PARTS_LIMIT):
        head = read(at, 8)
        at += 12 + int.from_bytes(head[:4], "big")
        if len(head) < 8 or at > size_bytes:
            break
        if head[4:8] == b"IEND":
            return None
    return TRUNCATED, "the picture has no end (IEND)"
