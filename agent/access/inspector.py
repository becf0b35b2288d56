"""The inspect child: locks itself in, then demuxes and decodes one open file to its end and prints what was in it."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import av
from av import AudioFrame, AudioStream, Packet, VideoFrame, VideoStream
from av.stream import Disposition, Stream

from agent.drivers.sandbox import lock_parser, step_back
from agent.media.formats import FORMATS
from agent.media.reader import BUFFER_BYTES, EnoughError, Original, open_charsets, report_bug, say, text

TRACKS_LIMIT: Final = 32
PLACES_LIMIT: Final = 200
"""So many jumps, and as many undecodable ranges, are told of a track; all are counted."""
PACKETS_LIMIT: Final = 50_000_000
JUMP_MS: Final = 1000
BACK_MS: Final = 100
NEAR_MS: Final = 500
KINDS: Final = ("video", "audio")


@dataclass(slots=True)
class Track:
    """What was read of one track so far; milliseconds are those of the file."""

    stream: Stream
    kind: str
    packets: int = 0
    first: float | None = None
    last: float = 0.0
    frames: int = 0
    shown: float | None = None
    bad: int = 0
    jumped: int = 0
    jumps: list[tuple[int, int]] = field(default_factory=list)
    undecodable: list[tuple[int, int]] = field(default_factory=list)
    previous: float | None = None
    usual: float | None = None

    def take(self, packet: Packet[Stream]) -> None:
        """Count a packet, and see if its time follows that of the packet before."""
        self.packets += 1
        at = packet.pts if packet.pts is not None else packet.dts
        if at is None or packet.time_base is None:
            return
        begin = 1000 * float(at * packet.time_base)
        length = 1000 * float((packet.duration or 0) * packet.time_base)
        self.first = begin if self.first is None else min(self.first, begin)
        self.last = max(self.last, begin + length)
        if self.kind in KINDS and packet.dts is not None:  # Matroska doesn't tell the first before they are shown
            self._follow(1000 * float(packet.dts * packet.time_base))

    def _follow(self, order: float) -> None:
        """Compare with the usual step: the length that a container gives a packet may be stretched over a gap."""
        if self.previous is not None:
            step = order - self.previous
            usual = step if self.usual is None else self.usual
            if step < -BACK_MS or step - usual > max(JUMP_MS, 2 * usual):
                self.jumped += 1
                if len(self.jumps) < PLACES_LIMIT:
                    self.jumps.append((round(self.previous + usual), round(step - usual)))
            else:
                self.usual = usual + (step - usual) / 16
        self.previous = order

    def decode(self, packet: Packet[Stream] | None) -> None:
        """Decode what a packet holds, or at the end what the decoder still has."""
        assert isinstance(self.stream, VideoStream | AudioStream), "no others are decoded"
        try:
            frames: Sequence[VideoFrame | AudioFrame] = self.stream.decode(packet)
        except (av.FFmpegError, ValueError):
            self.spoil(packet)
            return
        for frame in frames:
            self.frames += 1
            at = None if frame.pts is None or frame.time_base is None else 1000 * float(frame.pts * frame.time_base)
            if at is not None:
                self.shown = at if self.shown is None else min(self.shown, at)
            if frame.is_corrupt:
                self.bad += 1
                self._unfit(at, self.usual or 0)
        if packet is not None and packet.is_corrupt:
            self.spoil(packet)

    def spoil(self, packet: Packet[Stream] | None) -> None:
        """Count a packet that gives nothing."""
        self.bad += 1
        if packet is not None and packet.time_base is not None:
            at = packet.pts if packet.pts is not None else packet.dts
            length = 1000 * float((packet.duration or 0) * packet.time_base)
            self._unfit(None if at is None else 1000 * float(at * packet.time_base), length)

    def _unfit(self, at: float | None, length: float) -> None:
        if at is None:
            return
        begin, end = round(at), round(at + length)
        if self.undecodable and self.undecodable[-1][0] - NEAR_MS <= begin <= self.undecodable[-1][1] + NEAR_MS:
            first, last = self.undecodable[-1]
            self.undecodable[-1] = min(first, begin), max(last, end)
        elif len(self.undecodable) < PLACES_LIMIT:
            self.undecodable.append((begin, end))

    def line(self) -> dict[str, object]:
        """All of it, for the daemon."""
        name = ""
        if (codec := self.stream.codec_context) is not None:
            name = text(codec.name)
        return {
            "kind": self.kind,
            "codec": name,
            "packets": self.packets,
            "first_ms": None if self.first is None else round(self.first),
            "span_ms": None if self.first is None else round(self.last - self.first),
            "frames": self.frames,
            "shown_ms": None if self.shown is None else round(self.shown),
            "bad": self.bad,
            "jumped": self.jumped,
            "jumps": self.jumps,
            "undecodable": self.undecodable,
        }


def inspect(original: Original, *, decode_s: int, reasons: list[str]) -> list[Track]:
    """Read everything, decode for at most `decode_s` of processor time; why that isn't all goes into `reasons`."""
    options = {"format_whitelist": FORMATS}
    with av.open(original, mode="r", options=options, buffer_size=BUFFER_BYTES, metadata_errors="replace") as container:
        tracks = [_track(stream) for stream in list(container.streams)[:TRACKS_LIMIT]]
        decoding = {track.stream.index for track in tracks if track.kind in KINDS} if decode_s else set()
        try:
            for packet in container.demux([track.stream for track in tracks]):
                track = next(track for track in tracks if track.stream.index == packet.stream.index)
                if packet.size or packet.dts is not None or packet.pts is not None:
                    track.take(packet)
                    if track.packets > PACKETS_LIMIT:
                        raise EnoughError("it has too many packets")
                if track.stream.index in decoding:
                    track.decode(packet)
                    original.sign()
                    if time.process_time() > decode_s:
                        decoding.clear()
                        reasons.append(f"decoded only as far as {round(track.last)} ms: that took all its time")
        except (av.FFmpegError, OSError, EnoughError) as error:
            reasons.append(text(getattr(error, "strerror", None) or error))
            for track in tracks:
                if track.stream.index in decoding:
                    track.decode(None)
        return tracks


def _track(stream: Stream) -> Track:
    """A picture that belongs to sound is no video."""
    if stream.codec_context is not None:
        stream.codec_context.thread_count = 1
    cover = int(stream.disposition) & Disposition.attached_pic
    return Track(stream, "cover" if cover else text(stream.type))


def main(arguments: Sequence[str]) -> int:
    """Entry point: `agent.access.inspector <descriptor> <seconds to decode> <CPU seconds> <bytes of memory>`."""
    sys.excepthook = report_bug
    fd, decode_s, cpu_s, memory_bytes = map(int, arguments)
    step_back()
    open_charsets()
    av.logging.set_level(None)
    original = Original(fd, sys.maxsize)
    lock_parser(memory_bytes=memory_bytes, cpu_s=cpu_s)
    reasons: list[str] = []
    try:
        tracks = inspect(original, decode_s=decode_s, reasons=reasons)
        for track in tracks:
            say({"track": track.line()})
    except MemoryError:
        reasons.append("it needs too much memory")
    except (av.FFmpegError, OSError, ValueError, IndexError, EnoughError) as error:
        reasons.append(text(getattr(error, "strerror", None) or str(error) or type(error).__name__))
    say({"end": reasons[0] if reasons else ""})
    return 0
