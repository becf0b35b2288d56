"""Opens cameras and microphones that are attached to the station itself (V4L2, which UVC cameras are, and ALSA).

What a camera has coded itself (H.264, Motion JPEG) and what a microphone hears (PCM) is kept as it comes. Only pictures
that come raw are coded here: a minute of 720p25 would be 2 GB.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Final
from urllib.parse import parse_qsl

import av
import av.error
from av.container import InputContainer
from av.video.frame import PictureType, VideoFrame

from agent.rooms.decoding import DAMAGED

GOP_US: Final = 2_000_000
OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    "v4l2": frozenset({"input_format", "video_size", "framerate"}),
    "alsa": frozenset({"sample_rate", "channels"}),
}
"""What an address may say of how to open the device, as FFmpeg calls it: v4l2:/dev/video0?video_size=1280x720."""

_CODED: Final = ("h264", "mjpeg")
_TIME_BASE: Final = Fraction(1, 90_000)
_X264: Final[Mapping[str, str]] = {
    "preset": "veryfast", "tune": "zerolatency", "crf": "23", "maxrate": "6M", "bufsize": "6M",
}  # fmt: skip
_THREADS: Final = 2
_RATE: Final = 25


def opened(url: str) -> InputContainer:
    """A device as a container to read packets from: those of H.264, Motion JPEG or PCM.

    `url`: v4l2:/dev/video0 or alsa:hw:1, with options after a question mark. Raises FFmpegError and OSError.
    """
    kind, _, rest = url.partition(":")
    name, _, query = rest.partition("?")
    options = {key: value for key, value in parse_qsl(query) if key in OPTIONS[kind]}
    if kind == "alsa":
        return av.open(name, format="alsa", options=options)
    device = _camera(name, options)
    return device if device.streams.video[0].codec_context.name in _CODED else coded(device)


def coded(device: InputContainer) -> InputContainer:
    """Raw pictures of a device as H.264, which is made as it is read; nothing waits but for the next picture."""
    return av.open(_Coder(device), "r", format="nut", options={"fpsprobesize": "0"})


def _camera(name: str, options: Mapping[str, str]) -> InputContainer:
    """The best that a camera offers, unless the options name a format: H.264, Motion JPEG, then whatever there is."""
    for known in () if "input_format" in options else _CODED:
        with contextlib.suppress(av.error.ArgumentError):  # this camera has no such format
            return av.open(name, format="v4l2", options={**options, "input_format": known})
    return av.open(name, format="v4l2", options=dict(options))


class _Made:
    """What the muxer made and nobody has read yet. It knows no coder, so that who drops one lets its camera go."""

    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, data: bytes) -> int:
        """Keep some bytes; how many."""
        self.data += data
        return len(data)


class _Coder:
    """A file for FFmpeg, to be read once from its beginning: what the camera shows, as it comes, in NUT."""

    def __init__(self, device: InputContainer) -> None:
        self._pictures = self._decoded(device)
        self._made = _Made()
        self._key_us: int | None = None
        first = next(self._pictures, None)
        if first is None:
            raise OSError(errno.ENODATA, "the camera shows nothing")
        rate = device.streams.video[0].average_rate or Fraction(_RATE)
        self._container = av.open(self._made, "w", format="nut", options={"flush_packets": "1"})
        self._stream = self._container.add_stream("libx264", rate=rate, options=dict(_X264))
        context = self._stream.codec_context
        context.width, context.height, context.pix_fmt = first.width, first.height, "yuv420p"
        context.time_base, context.thread_count = _TIME_BASE, _THREADS
        context.gop_size = 1 << 16  # key frames come by time, whatever rate the camera really has
        self._code(first)

    def read(self, size: int) -> bytes:
        """Some bytes; none at the end of the device. Raises what reading the device does."""
        while not self._made.data:
            picture = next(self._pictures, None)
            if picture is None:
                return b""
            self._code(picture)
        piece = bytes(self._made.data[:size])
        del self._made.data[:size]
        return piece

    def _code(self, picture: VideoFrame) -> None:
        at_us = int((picture.pts or 0) * (picture.time_base or 0) * 1_000_000)
        is_key = self._key_us is None or not 0 <= at_us - self._key_us < GOP_US
        if is_key:
            self._key_us = at_us
        picture.pict_type = PictureType.I if is_key else PictureType.NONE
        self._container.mux(self._stream.encode(picture))

    @staticmethod
    def _decoded(device: InputContainer) -> Iterator[VideoFrame]:
        """Pictures; one that came incomplete is left out, which its time stamps tell."""
        with device:
            for packet in device.demux(device.streams.video[0]):
                with contextlib.suppress(*DAMAGED):
                    yield from packet.decode()
