"""Whether a file is all there, by the lengths that its own format writes into it; nothing is decoded.

ISO/IEC 14496-12 boxes (MP4, MOV, 3GP, HEIF), RIFF (WAV, AVI; EBU Tech 3306 for RF64), JPEG (ITU-T T.81) and PNG.
"""

from __future__ import annotations

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
    return None


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
