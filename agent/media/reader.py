"""The probe child: locks itself in, then reads one open original with FFmpeg and prints its facts as JSON lines."""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Final

import av
import av.subtitles.codeccontext  # else FFmpeg's binding imports these when it meets a file: forbidden by then
import av.subtitles.stream
from av.container import InputContainer
from av.stream import Stream

from agent.drivers.sandbox import lock_parser, step_back
from agent.media.coded import SIGNED_PACKETS_LIMIT, is_void, missing_bytes, signer
from agent.media.formats import FORMATS
from agent.media.structure import TRUNCATED, damage_of, turns

OUTPUT_FD: Final = 1
STREAMS_LIMIT: Final = 32
TEXT_LIMIT: Final = 100
WHOLE_BYTES: Final = 1 << 30
TAIL_US: Final = 30_000_000
PACKETS_LIMIT: Final = 5_000_000
SIGN_S: Final = 5.0
BUFFER_BYTES: Final = 1 << 18
PASSED_BYTES: Final = 8 << 20
STILL: Final = frozenset({b"heic", b"heix", b"mif1", b"avif"})
# Of DVB (ETSI EN 300 468 annex A): the C library opens a file for each, so all are opened before the lock.
CHARSETS: Final = (
    b"ISO6937", *(b"ISO-8859-%d" % part for part in (5, 6, 7, 8, 9, 10, 11, 13, 14, 15)), b"UCS-2BE", b"UTF-16BE",
    b"KSC_5601", b"GB2312", b"BIG5",
)  # fmt: skip
COMPRESSED: Final = frozenset({"h264", "hevc", "mjpeg", "mpeg4"})
GPS_TAGS: Final = ("location", "com.apple.quicktime.location.ISO6709", "com.apple.quicktime.location.iso6709")

Line = Mapping[str, object]


class EnoughError(Exception):
    """Enough was read."""


class Span:
    """How many packets there are, and from when to when they play, in seconds."""

    def __init__(self) -> None:
        self.count, self.first, self.last = 0, math.inf, 0.0

    def add(self, begin: float, lasts: float) -> None:
        """One more packet."""
        self.count += 1
        self.first, self.last = min(self.first, begin), max(self.last, begin + lasts)

    def told(self) -> tuple[int, int]:
        """Their number, and microseconds from the first to the end of the last."""
        return self.count, min(max(0, round(1e6 * (self.last - self.first))), 1 << 60) if self.count else 0


def say(line: Line) -> None:
    """One line to the daemon, at once."""
    rest = json.dumps(line, ensure_ascii=True, separators=(",", ":")).encode("ascii") + b"\n"
    while rest:
        rest = rest[os.write(OUTPUT_FD, rest) :]


def text(value: object) -> str:
    """A short text without control characters; what a file says of itself may be anything."""
    kept = str(value)[:TEXT_LIMIT].encode("utf-8", "replace").decode()
    return "".join(c if c.isprintable() else "?" for c in kept).strip()


class Original:
    """The open original as FFmpeg reads it: no name, no more bytes than a bound, a sign of life now and then."""

    def __init__(self, fd: int, whole_bytes: int = WHOLE_BYTES) -> None:
        self._fd = fd
        self.size_bytes = os.fstat(fd).st_size
        self._at = 0
        self._left = 2 * min(self.size_bytes, whole_bytes) + (64 << 20)
        self._told = time.monotonic()
        self._passed = 0

    def pread(self, offset: int, length: int) -> bytes:
        """Bytes at an offset; raises EnoughError when more was read than a whole reading takes."""
        piece = os.pread(self._fd, length, offset)
        self._left -= len(piece) + 512
        if self._left < 0:
            raise EnoughError("it was read over and over")
        self.sign()
        return piece

    def sign(self) -> None:
        """Tell that this lives, if nothing told it for a while."""
        if time.monotonic() - self._told > SIGN_S:
            self._told = time.monotonic()
            say({"read": self._at})

    def read(self, length: int) -> bytes:
        """The next bytes; the pages that were read are given back, so that they displace nobody's."""
        piece = self.pread(self._at, min(length, BUFFER_BYTES))
        self._at += len(piece)
        if self._at - self._passed > PASSED_BYTES or self._at < self._passed:
            os.posix_fadvise(self._fd, self._passed, max(0, self._at - self._passed), os.POSIX_FADV_DONTNEED)
            self._passed = self._at
        return piece

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to an offset from the beginning, from here, or from the end."""
        self._at = max(0, offset + (0, self._at, self.size_bytes)[whence])
        return self._at

    def tell(self) -> int:
        """Where it stands."""
        return self._at


def probe(original: Original, *, gps: bool, cpu_s: int) -> None:
    """Print what the structure proves, then what FFmpeg makes of it. Raises what FFmpeg raises."""
    damage = damage_of(original.pread, original.size_bytes)
    if damage is not None:
        say({"damage": damage})
    brand = original.pread(8, 4)
    options = {"format_whitelist": FORMATS}
    with av.open(original, mode="r", options=options, buffer_size=BUFFER_BYTES, metadata_errors="replace") as container:
        streams = list(container.streams)
        still = container.format.name.endswith("_pipe") or brand in STILL
        say(about(container, streams, still=still, gps=gps))
        turned = turns(original.pread, original.size_bytes) if "mov" in container.format.name else {}
        for stream in streams[:STREAMS_LIMIT]:
            say({"stream": {**track(stream), "rotation_deg": turned.get(stream.id, 0)}})
        if still:
            say({"photo": photo(container, gps=gps)})
        elif original.size_bytes <= WHOLE_BYTES or not container.duration:
            say({"packets": packets(container, "packets", cpu_s)})
        else:
            container.seek((container.start_time or 0) + max(0, container.duration - TAIL_US))
            say({"packets": packets(container, "tail", cpu_s)})


def about(container: InputContainer, streams: Sequence[Stream], *, still: bool, gps: bool) -> Line:
    """The line of the container."""
    tags = container.metadata
    created = tags.get("com.apple.quicktime.creationdate") or tags.get("creation_time", "")
    if not created:
        created = next((found for s in streams[:STREAMS_LIMIT] if (found := s.metadata.get("creation_time"))), "")
    if "date" in tags and len(created) <= len("hh:mm:ss"):  # a broadcast WAV has day and time apart
        created = f"{tags['date']} {created}"
    place = next((tags[tag] for tag in GPS_TAGS if tag in tags), "") if gps else ""
    return {
        "container": text(container.format.name),
        "header_ms": None if still or container.duration is None else container.duration // 1000,
        "medium": medium(streams, still=still),
        "streams": len(streams),
        "created": text(created),
        "gps": text(place),
    }


def medium(streams: Sequence[Stream], *, still: bool) -> str:
    """What the content is; a picture that belongs to sound (a cover) makes no video."""
    kinds = {s.type for s in streams if not int(s.disposition) & av.stream.Disposition.attached_pic}
    if still:
        return "photo"
    return next((kind for kind in ("video", "audio") if kind in kinds), "other")


def track(stream: Stream) -> Line:
    """The line of one track."""
    line: dict[str, object] = {"kind": text(stream.type)}
    known = stream.codec_context is not None  # what nobody can decode has no form that anybody knows
    if known:
        line["codec"] = text(stream.codec_context.name)
    if known and isinstance(stream, av.VideoStream):
        line |= {"width": stream.width, "height": stream.height, "fps": text(stream.average_rate or "")}
        line |= {"pixels": text(stream.pix_fmt or ""), "profile": text(stream.profile or "")}
    elif known and isinstance(stream, av.AudioStream):
        line |= {"rate_hz": stream.rate or 0, "channels": stream.channels or 0}
    if stream.duration is not None and stream.time_base is not None:
        line["duration_ms"] = int(1000 * stream.duration * stream.time_base)
    return line


def packets(container: InputContainer, way: str, cpu_s: int) -> Line:
    """From the first to the last packet, in milliseconds; how far that was read; and what the packets tell.

    `video` and `audio`: the number of packets, and how many microseconds they play.
    """
    every, kinds = Span(), {"video": Span(), "audio": Span()}
    broken, signed = "", ""
    ending = memoryview(b"")
    try:
        for packet in container.demux():
            if packet.size:
                broken, ending = broken or fault(packet), memoryview(packet)
            kind = packet.stream.type
            if kind == "video" and not signed and every.count < SIGNED_PACKETS_LIMIT:
                signed = signer(ending)
            at = packet.pts if packet.pts is not None else packet.dts
            if at is None or packet.time_base is None:
                continue
            begin, lasts = float(at * packet.time_base), float((packet.duration or 0) * packet.time_base)
            every.add(begin, lasts)
            if kind in kinds and packet.size:
                kinds[kind].add(begin, lasts)
            if every.count == PACKETS_LIMIT or (every.count % 1000 == 0 and time.process_time() > cpu_s):
                raise EnoughError("enough")
        if missing := missing_bytes(container.format.name, ending):
            say({"damage": (TRUNCATED, f"the file ends inside its last frame, {missing} bytes too early")})
    except EnoughError:
        way = "partial"
    except (av.FFmpegError, OSError) as error:
        broken = text(f"what follows can't be read: {error.strerror}")
    first = (container.start_time or 0) / 1e6 if way == "tail" else every.first
    span_ms = round(1000 * (every.last - first)) if every.count else None
    told = {kind: span.told() for kind, span in kinds.items()}
    return {"way": way, "count": every.count, "span_ms": span_ms, "broken": broken, "signed": signed, **told}


def fault(packet: av.Packet[Stream]) -> str:
    """What is wrong with a coded packet, or ""; it is not decoded."""
    if packet.is_corrupt:
        return "a packet is damaged"
    compressed = getattr(packet.stream.codec_context, "name", "") in COMPRESSED
    return "pictures are lost: their bytes are zero" if compressed and is_void(memoryview(packet)) else ""


def photo(container: InputContainer, *, gps: bool) -> Line:
    """EXIF of the first picture; it is decoded, so that what can't be shown is known."""
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1
    frame = next(iter(container.decode(stream)))
    turned = -round(frame.rotation) % 360
    tags = {name.rpartition("/")[2]: value for name, value in frame.metadata.items()}
    taken = tags.get("DateTimeOriginal") or tags.get("DateTimeDigitized") or tags.get("DateTime", "")
    zone = tags.get("OffsetTimeOriginal") or tags.get("0x9011", "")
    place = " ".join(f"{name[3:]} {value}" for name, value in places(tags)) if gps else ""
    return {"taken": text(taken), "zone": text(zone), "gps": text(place), "rotation_deg": turned}


def places(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The EXIF fields of a position."""
    names = ("GPSLatitudeRef", "GPSLatitude", "GPSLongitudeRef", "GPSLongitude")
    return ((name, " ".join(tags[name].split())) for name in names if name in tags)


def open_charsets() -> None:
    """Have the C library load what it turns the names of broadcasts with; the binding knows nothing of it."""
    libc = ctypes.CDLL(None)
    libc.iconv_open.restype = ctypes.c_void_p
    for charset in CHARSETS:
        libc.iconv_open(b"UTF-8", charset)


def report_bug(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    """Say what broke without a traceback, which would open source files and be killed for it."""
    os.write(2, f"{kind.__name__}: {error}\n".encode("ascii", "backslashreplace")[:1000])


def main(arguments: Sequence[str]) -> int:
    """Entry point: `agent.media.reader <descriptor> <CPU seconds> <bytes of memory> <0|1 for GPS>`."""
    sys.excepthook = report_bug
    fd, cpu_s, memory_bytes, gps = map(int, arguments)
    step_back()
    open_charsets()
    av.logging.set_level(None)
    original = Original(fd)
    lock_parser(memory_bytes=memory_bytes, cpu_s=cpu_s)
    try:
        probe(original, gps=bool(gps), cpu_s=cpu_s // 2)
        say({"end": True})
    except EnoughError as limit:
        say({"error": str(limit)})
    except MemoryError:
        say({"error": "it needs too much memory"})
    except (av.FFmpegError, OSError, StopIteration, ValueError, IndexError) as error:
        say({"error": text(getattr(error, "strerror", None) or type(error).__name__)})
    return 0
