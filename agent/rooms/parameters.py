"""What a coded picture says of how it is to be decoded: its parameter sets (H.264 7.4.1, H.265 7.4.2), and its size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import av
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

SETS_LIMIT_BYTES: Final = 64 * 1024
"""Parameter sets are some hundred bytes; what claims more is taken as it is, and not looked at."""

_PIXELS_LIMIT: Final = 4096 * 4096
UNKNOWN_SIZE: Final = 16, 16
"""A file needs a size; players go by the parameter sets. Nothing that a camera says keeps us from recording it."""

_START: Final = re.compile(b"\0\0\1")
_BEGIN: Final = b"\0\0\0\1"
_SETS: Final[Mapping[str, frozenset[int]]] = {"h264": frozenset({7, 8}), "hevc": frozenset({32, 33, 34})}
_SLICES: Final[Mapping[str, range]] = {"h264": range(1, 6), "hevc": range(32)}


def sets_before(packet: Packet[Stream], codec: str, known: bytes = b"") -> bytes:
    """The parameter sets before the first slice of a key frame, as a byte stream (Annex B), each once, by their kinds.

    Who joins a stream in its middle, or lost a packet, has some of them only: the others are those of `known`, what
    this said last. Empty if there are none, or too few to decode anything.
    """
    if codec not in _SETS:
        return b""
    head, found, begun = bytes(memoryview(packet)[:SETS_LIMIT_BYTES]), list[bytes](), -1
    for match in _START.finditer(head):
        if begun >= 0:
            found.append(head[begun : match.start()].rstrip(b"\0"))
            begun = -1
        kind = _kind(head[match.end() : match.end() + 1], codec)
        if kind in _SLICES[codec]:
            return _whole(found, codec, known)
        if kind in _SETS[codec]:
            begun = match.end()
    return b""


def _kind(part: bytes, codec: str) -> int:
    first = part[0] if part else 0
    return first & 31 if codec == "h264" else first >> 1 & 63


def _whole(found: list[bytes], codec: str, known: bytes) -> bytes:
    missing = _SETS[codec] - {_kind(part, codec) for part in found}
    if not found or missing == _SETS[codec]:
        return b""
    found += [part for part in known.split(_BEGIN) if _kind(part, codec) in missing]
    if _SETS[codec] - {_kind(part, codec) for part in found}:
        return b""
    return b"".join(_BEGIN + part for part in sorted(dict.fromkeys(found), key=lambda part: _kind(part, codec)))


def size_of(packet: Packet[Stream], codec: str) -> tuple[int, int]:
    """Width and height of a key frame, which is decoded for it; `UNKNOWN_SIZE` if it can't be, or is too large."""
    context = av.CodecContext.create(codec, "r")
    assert isinstance(context, VideoCodecContext)
    context.options = {"max_pixels": str(_PIXELS_LIMIT)}
    context.thread_count = 1
    try:
        for part in (av.Packet(bytes(packet)), None):
            for frame in context.decode(part):
                if isinstance(frame, VideoFrame):
                    return frame.width, frame.height
    except FFmpegError:
        pass
    return UNKNOWN_SIZE
