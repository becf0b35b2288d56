"""Decodes single key frames and bits of sound, apart from the recorder, into what can be judged and shown."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import av
import av.error
from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.codec.context import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from agent.rooms.noticing import BLOCKS, POINTS, Picture, Sound, sound_of

STILL_WIDTH: Final = 640
PIXELS_LIMIT: Final = 4096 * 4096
DAMAGED: Final = (
    av.error.InvalidDataError,
    av.error.ArgumentError,  # a header that describes an impossible picture
    av.error.NotImplementedError,  # a damaged header asks for what no encoder makes; as the next
    av.error.PatchWelcomeError,
    av.error.PermissionError,  # AAC's decoder says "-1" where it means that data is invalid
)
"""What FFmpeg's decoders raise for bytes that are not what an encoder wrote, as flipped bits and cuts showed."""

_SCALES: Final[Mapping[str, tuple[str, float]]] = {
    "u8": ("B", 128), "s16": ("h", 32768), "s32": ("i", 1 << 31), "flt": ("f", 1), "dbl": ("d", 1),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Coding:
    """What a decoder has to know before the first packet."""

    type: str
    codec: str
    extradata: bytes | None
    rate_hz: int = 0
    layout: str = ""


class Decoder:
    """Decodes what it is given, with a decoder for each coding it meets, and scales it; one thread's."""

    def __init__(self) -> None:
        self._coding: Coding | None = None
        self._decoder: CodecContext | None = None
        self._scales = (VideoReformatter(), VideoReformatter(), VideoReformatter())
        self._jpeg: VideoCodecContext | None = None

    def frames(self, coding: Coding, packets: tuple[bytes, ...]) -> list[VideoFrame | AudioFrame]:
        """Pictures or sounds but those that the decoder calls corrupt; raises one of DAMAGED, UnknownCodecError."""
        if coding != self._coding or self._decoder is None:
            self._decoder = _decoder(coding)
            self._coding = coding
        found: list[VideoFrame | AudioFrame] = []
        try:
            for packet in (*(av.Packet(data) for data in packets), None):
                found += [f for f in self._decoder.decode(packet) if isinstance(f, VideoFrame | AudioFrame)]  # type: ignore[attr-defined]
        finally:
            self._decoder.flush_buffers()
        return [frame for frame in found if not frame.is_corrupt]

    def picture(self, frame: VideoFrame) -> Picture:
        """How it is judged."""
        blocks = self._scales[0].reformat(frame, *BLOCKS, "gray", interpolation=Interpolation.AREA)
        points = self._scales[1].reformat(frame, *POINTS, "gray", interpolation=Interpolation.POINT)
        return Picture(_grey(blocks), _grey(points))

    def jpeg(self, frame: VideoFrame) -> bytes:
        """A small picture of it as JPEG, some 20 kB."""
        width = min(STILL_WIDTH, frame.width)
        height = max(2, frame.height * width // frame.width // 2 * 2)
        small = self._scales[2].reformat(frame, width, height, "yuvj420p", interpolation=Interpolation.AREA)
        if self._jpeg is None or (self._jpeg.width, self._jpeg.height) != (width, height):
            self._jpeg = VideoCodecContext.create("mjpeg", "w")
            self._jpeg.width, self._jpeg.height, self._jpeg.pix_fmt = width, height, "yuvj420p"
            self._jpeg.time_base, self._jpeg.thread_count = Fraction(1, 1000), 1
            self._jpeg.options = {"qmin": "5", "qmax": "5"}
        small.pts = None
        return b"".join(bytes(packet) for packet in self._jpeg.encode(small))


def _decoder(coding: Coding) -> CodecContext:
    made = CodecContext.create(coding.codec, "r")
    made.thread_count = 1
    made.extradata = coding.extradata
    made.options = {"skip_loop_filter": "all", "err_detect": "explode", "max_pixels": str(PIXELS_LIMIT)}
    if isinstance(made, AudioCodecContext):
        made.sample_rate, made.layout = coding.rate_hz, coding.layout
    return made


def _grey(frame: VideoFrame) -> bytes:
    plane = frame.planes[0]
    data = bytes(plane)
    if plane.line_size == frame.width:
        return data[: frame.width * frame.height]
    return b"".join(data[at : at + frame.width] for at in range(0, frame.height * plane.line_size, plane.line_size))


def sound_in(frames: list[AudioFrame]) -> Sound | None:
    """The first frame is left out where there are more: what overlaps with a packet before it is not whole."""
    heard: list[array[int] | array[float]] = []
    full = 1.0
    for frame in frames[1:] or frames:
        code, full = _SCALES.get(frame.format.name.removesuffix("p"), ("", 1.0))
        if not code or not frame.samples:
            return None
        channels = len(frame.layout.channels)
        for plane in frame.planes:
            samples: array[int] | array[float] = array(code, bytes(plane))
            step = 1 if frame.format.is_planar else channels
            samples = samples[: frame.samples * step]
            heard += [samples[channel::step] for channel in range(step)]
    return sound_of(heard, full) if heard else None
