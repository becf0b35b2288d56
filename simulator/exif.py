"""Puts an EXIF segment into a JPEG, as a camera does: when it was taken, in which zone, with what."""

from __future__ import annotations

import struct
from datetime import datetime
from typing import Final

_EXIF: Final = b"Exif\0\0"
_APP0: Final = 0xE0
_APP1: Final = 0xE1
_FRAME_HEADERS: Final = (0xC0, 0xC1, 0xC2)
_ASCII: Final = 2
_SHORT: Final = 3
_LONG: Final = 4
_RATIONAL: Final = 5
_UNDEFINED: Final = 7
_IFD_HEAD_BYTES: Final = 8

Tag = tuple[int, int, int, bytes]
"""(tag, type, count, value) of one EXIF field; the value in little-endian order."""


def with_exif(jpeg: bytes, taken: datetime, camera: str) -> bytes:
    """The photo with an EXIF segment (CIPA DC-008: APP1 directly after SOI) in place of its JFIF one.

    `taken` is aware: its local time becomes DateTimeOriginal and its zone OffsetTimeOriginal. Pixels stay as they are.
    """
    assert taken.tzinfo is not None
    assert jpeg[:2] == b"\xff\xd8", "not a JPEG"
    rest = jpeg[2:]
    if rest[:2] == bytes((0xFF, _APP0)):
        rest = rest[2 + int.from_bytes(rest[2:4], "big") :]
    body = _EXIF + _exif_body(taken, camera, *_dimensions(rest))
    return jpeg[:2] + struct.pack(">BBH", 0xFF, _APP1, 2 + len(body)) + body + rest


def _exif_body(taken: datetime, camera: str, width: int, height: int) -> bytes:
    """A little-endian TIFF structure of two directories; tags in rising order, as TIFF 6.0 asks."""
    local = taken.strftime("%Y:%m:%d %H:%M:%S")
    zone = taken.strftime("%z")
    zone = f"{zone[:3]}:{zone[3:5]}"
    pixels_per_inch = (_RATIONAL, 1, struct.pack("<II", 72, 1))
    about = [
        _text(0x010F, "CAPTURE"),
        _text(0x0110, camera),
        (0x011A, *pixels_per_inch),
        (0x011B, *pixels_per_inch),
        _short(0x0128, 2),  # ResolutionUnit: inch
        _text(0x0132, local),
        _short(0x0213, 1),  # YCbCrPositioning: centred
        (0x8769, _LONG, 1, bytes(4)),  # where the second directory is; filled in below
    ]
    shot = [
        (0x9000, _UNDEFINED, 4, b"0232"),
        _text(0x9003, local),
        _text(0x9004, local),
        _text(0x9010, zone),
        _text(0x9011, zone),
        _text(0x9012, zone),
        (0x9101, _UNDEFINED, 4, b"\x01\x02\x03\x00"),  # Y, Cb, Cr
        (0xA000, _UNDEFINED, 4, b"0100"),
        _short(0xA001, 1),  # sRGB
        (0xA002, _LONG, 1, struct.pack("<I", width)),
        (0xA003, _LONG, 1, struct.pack("<I", height)),
    ]
    second = _IFD_HEAD_BYTES + len(_directory(about, _IFD_HEAD_BYTES))
    about[-1] = (0x8769, _LONG, 1, struct.pack("<I", second))
    return (
        struct.pack("<2sHI", b"II", 42, _IFD_HEAD_BYTES) + _directory(about, _IFD_HEAD_BYTES) + _directory(shot, second)
    )


def _text(tag: int, text: str) -> Tag:
    raw = text.encode("ascii") + b"\0"
    return tag, _ASCII, len(raw), raw


def _short(tag: int, value: int) -> Tag:
    return tag, _SHORT, 1, struct.pack("<H", value)


def _directory(tags: list[Tag], offset: int) -> bytes:
    """One image file directory at `offset`, followed by the values that are longer than four bytes."""
    entries, values = b"", b""
    after = offset + 2 + 12 * len(tags) + 4
    for tag, kind, count, value in tags:
        stored = value.ljust(4, b"\0")
        if len(value) > 4:
            stored = struct.pack("<I", after + len(values))
            values += value + b"\0" * (len(value) % 2)  # values begin on even offsets
        entries += struct.pack("<HHI", tag, kind, count) + stored
    return struct.pack("<H", len(tags)) + entries + bytes(4) + values


def _dimensions(segments: bytes) -> tuple[int, int]:
    """(width, height) from the frame header of a baseline JPEG, given without its SOI."""
    at = 0
    while segments[at + 1] not in _FRAME_HEADERS:
        at += 2 + int.from_bytes(segments[at + 2 : at + 4], "big")
    height, width = struct.unpack_from(">HH", segments, at + 5)
    return width, height
