"""Writes one segment: a fragmented MP4, or MOV where the sound fits no MP4; what is durable of it is never more than
half a second and one flush behind.

Fragments of 0.5 s go to the kernel as soon as they are complete, and to the medium right after. A thread of its own
flushes, so that a slow disk keeps no camera waiting.
"""

from __future__ import annotations

import contextlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import av
from av.container import OutputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext

from agent import durable
from agent.rooms.protocol import Track
from agent.rooms.timing import SQUEEZED_US, Line

FRAGMENT_US: Final = 500_000
_MP4_SOUND: Final = frozenset({"aac", "mp3", "opus", "ac3", "flac", "alac"})
_MOV_SOUND: Final = frozenset({"pcm_mulaw", "pcm_alaw", "pcm_s16le", "pcm_s16be"})
_PICTURES: Final[Mapping[str, str]] = {"h264": "avc1", "hevc": "hvc1", "mjpeg": "", "mpeg4": "", "av1": ""}
_OPTIONS: Final[Mapping[str, str]] = {
    # delay_moov: with the first fragment, so that tracks that begin apart stay apart; no trailer: nothing to lose.
    "movflags": "+empty_moov+delay_moov+default_base_moof+skip_trailer",
    "frag_duration": str(FRAGMENT_US),
    "flush_packets": "1",
    # A track that fell silent keeps the others from the disk no longer than this.
    "max_interleave_delta": "200000",
    "avoid_negative_ts": "disabled",
}
_FLUSHES_WAITING: Final = 64


def fits(stream: Stream) -> bool:
    """Whether a track can be kept as it is in what we write."""
    name = stream.codec_context.name
    return name in _PICTURES if stream.type == "video" else name in _MP4_SOUND | _MOV_SOUND


def described(stream: Stream) -> Track:
    """The track as reports tell of it."""
    context = stream.codec_context
    if isinstance(context, VideoCodecContext):
        return Track("video", context.name, context.width, context.height)
    return Track("audio", context.name, rate_hz=context.sample_rate, channels=context.channels)  # type: ignore[attr-defined]


@dataclass(frozen=True, slots=True)
class Input:
    """One track of a source as a segment takes it. `sets` and `size` replace what the stream said when opened."""

    stream: Stream
    line: Line
    sets: bytes = b""
    size: tuple[int, int] = (0, 0)


class Segment:
    """A file that grows. One thread writes; `flush` and what follows `close` are for the flusher.

    Raises FFmpegError and OSError (a full disk). `base_us` of the tracks' time lines is its beginning. `is_first`: what
    is from before that has no pictures in any file, and is left out; else it comes late and is kept at the beginning.
    """

    def __init__(
        self, folder: Path, source: str, number: int, inputs: Sequence[Input], base_us: int, *, is_first: bool
    ) -> None:
        is_mov = any(one.stream.codec_context.name in {*_MOV_SOUND, "mjpeg"} for one in inputs)
        kind = "mov" if is_mov else "mp4"
        while (path := folder / f"{source}-{number:06}.{kind}").exists() and path.stat().st_size:
            number += 1  # never into what is there
        self.path, self.number = path, number
        self.fd = -1
        self.frames = self.samples = 0
        self.tracks = tuple(described(one.stream) for one in inputs)
        self._container: OutputContainer = av.open(str(path), "w", format=kind, options=dict(_OPTIONS))
        self._to: dict[int, tuple[Stream, int, bool]] = {}
        self._is_first = is_first
        self._late: dict[int, int] = {}
        self._squeezed: dict[int, int] = {}
        self.flushed_bytes = 0
        for one in inputs:
            stream = self._container.add_stream_from_template(one.stream, opaque=True)
            self._describe(stream, one)
            is_video = stream.type == "video"
            self._to[one.stream.index] = stream, one.line.ticks(base_us), is_video
            self._squeezed[one.stream.index] = max(1, one.line.ticks(SQUEEZED_US))

    def _describe(self, stream: Stream, one: Input) -> None:
        context = stream.codec_context
        if not isinstance(context, VideoCodecContext):
            return
        context.codec_tag = _PICTURES[context.name] or context.codec_tag
        if one.sets:
            context.extradata = one.sets
        if all(one.size):
            context.width, context.height = one.size
            width, height = one.size
            self.tracks = tuple(
                replace(track, width=width, height=height) if track.type == "video" else track for track in self.tracks
            )

    def write(self, packet: Packet[Stream], placed: int) -> None:
        """Take a packet that belongs to `placed` on its track's line; it is changed."""
        stream, base, is_video = self._to[packet.stream_index]
        dts = placed - base
        if dts < 0 and self._is_first:
            return  # sound from before the first picture
        if dts < 0 or packet.stream_index in self._late:
            dts = self._kept_late(packet.stream_index, dts)
        pts = packet.pts
        packet.pts = dts if pts is None or packet.dts is None else max(pts - packet.dts, 0) + dts
        packet.dts = dts
        packet.stream = stream
        self._container.mux_one(packet)
        if is_video:
            self.frames += 1
        else:
            self.samples += 1

    def _kept_late(self, index: int, dts: int) -> int:
        """Sound that is behind by more than the file began: as close together at its beginning as a file allows."""
        step = self._squeezed[index]
        late = self._late[index] = self._late.get(index, -step) + step
        if dts <= late:
            return late
        del self._late[index]
        return dts

    def grown(self) -> bool:
        """Whether bytes came to the file since the last call: there is something to flush."""
        if self.fd < 0:
            with contextlib.suppress(FileNotFoundError):
                self.fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        before, self.flushed_bytes = self.flushed_bytes, self.size_bytes()
        return self.flushed_bytes > before

    def size_bytes(self) -> int:
        """What the file has by now."""
        return os.fstat(self.fd).st_size if self.fd >= 0 else 0

    def close(self) -> None:
        """Write what is left. Whatever it raises, what is on disk stays, and nothing more is written."""
        try:
            self._container.close()
        finally:
            self.grown()


class Flusher:
    """The thread of a recorder that makes durable what its segments wrote, in order.

    A flush that fails is complained of on standard error; the vault reads every closed file back from the medium.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: queue.Queue[tuple[Segment, Callable[[], None] | None, bool] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
        self._thread.start()

    def flush(self, segment: Segment, done: Callable[[], None] | None = None) -> None:
        """Have a segment flushed; with `done` its name too, and that is called then. Dropped if the disk is behind."""
        if done is not None or self._jobs.qsize() < _FLUSHES_WAITING:
            self._jobs.put((segment, done, False))

    def finish(self, segment: Segment, done: Callable[[], None]) -> None:
        """Flush a closed segment with its name, call `done`, then let go of it."""
        self._jobs.put((segment, done, True))

    def end(self, limit_s: float) -> bool:
        """Wait for what is asked for; False if the disk takes longer."""
        self._jobs.put(None)
        self._thread.join(limit_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            segment, done, is_last = job
            try:
                if segment.fd >= 0:
                    durable.fdatasync(segment.fd)
                    if done is not None:
                        durable.fsync_dir(self._folder)
            except OSError as error:
                sys.stderr.write(f"flush: {error.strerror}\n")
            if done is not None:
                done()
            if is_last and segment.fd >= 0:
                os.close(segment.fd)


FAILED: Final = (FFmpegError, OSError, ValueError)
"""What PyAV raises for what it is given, and the disk for what it gets."""
