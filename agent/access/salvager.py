"""The salvage child: locks itself in, finds the pictures in an MP4 without an index, writes those into a new one."""

from __future__ import annotations

import itertools
import json
import os
import sys
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

import av
from av.stream import Stream

from agent.access.nal import FORMS, Form, Read, Unit, Units, parameter_sets, photos, pictures
from agent.drivers.sandbox import lock_tool, step_back
from agent.media.formats import FORMATS
from agent.media.reader import Original

STRETCH: Final = 500
PICTURES_LIMIT: Final = 2_000_000
_PROBED_BYTES: Final = 16 << 20
_PROBED_PICTURES: Final = 3
_START: Final = b"\0\0\0\1"
_ORDER_LIMIT: Final = 16
_ASSUMED_RATE: Final = Fraction(25)
_BOXES_LIMIT: Final = 10_000


class NothingError(Exception):
    """No picture can be got; the text says why."""


@dataclass(slots=True)
class Source:
    """The media of an original without an index, and what the pictures in it are read with."""

    read: Read
    at: int
    end: int
    sets: list[bytes] = field(default_factory=list)
    codec: str = ""
    rate: Fraction | None = None

    def media(self, form: Form | None, end: int) -> Iterator[list[Unit]]:
        """The pictures up to an offset; Motion JPEG without a form."""
        if form is None:
            return photos(self.read, self.at, end)
        units = Units(self.read, form, self.at, end)
        for parameters in self.sets:
            units.learn(parameters)
        return pictures(units)

    def form(self) -> Form | None:
        """The form of which there are pictures near the beginning, None if that is Motion JPEG."""
        for form in (*FORMS, None):
            if self.codec and self.codec != (form.codec if form else "mjpeg"):
                continue
            near = self.media(form, min(self.end, self.at + _PROBED_BYTES))
            if len(list(itertools.islice(near, _PROBED_PICTURES))) == _PROBED_PICTURES:
                return form
        raise NothingError("no pictures are in it whose codec is known, by themselves or by another recording")

    def coded(self, picture: Sequence[Unit], form: Form | None) -> bytes:
        """The bytes of a picture as a decoder takes them."""
        parts = [self.read(unit.at, unit.length) for unit in picture]
        return _START + _START.join(parts) if form else b"".join(parts)


@dataclass(slots=True)
class Found:
    """The pictures: offset and length of each unit, how many units each has, and which is shown when."""

    form: Form | None
    units: array[int] = field(default_factory=lambda: array("Q"))
    counts: array[int] = field(default_factory=lambda: array("H"))
    keys: set[int] = field(default_factory=set)
    shown: list[int] = field(default_factory=list)
    media_bytes: int = 0
    width: int = 0
    height: int = 0
    rate: Fraction | None = None


def say(line: object) -> None:
    """One line to the daemon."""
    os.write(1, json.dumps(line).encode("ascii") + b"\n")


def wait(at: int) -> None:
    """Say how far it has come and wait until it may go on: others may need the disk."""
    say({"at": at})
    os.read(0, len("0\n"))


def media_range(read: Read, size_bytes: int) -> tuple[int, int]:
    """Where the first media box of an MP4 begins and ends, as far as it is there; without one the whole file."""
    at = 0
    for _ in range(_BOXES_LIMIT):
        head = read(at, 16)
        length, start = int.from_bytes(head[:4], "big"), 8
        if length == 1:
            length, start = int.from_bytes(head[8:16], "big"), 16
        if head[4:8] == b"mdat":
            end = at + length if length > start else size_bytes
            return at + start, min(end, size_bytes)
        if len(head) < 8 or length < start or not head[4:8].isalnum():
            break
        at += length
    return 0, size_bytes


def take_reference(source: Source, reference: Original) -> None:
    """Learn from a whole recording of the same recorder; raises NothingError if it tells nothing."""
    with av.open(reference, mode="r", options={"format_whitelist": FORMATS}) as container:
        if not container.streams.video:
            raise NothingError("the recording to compare with has no pictures")
        stream = container.streams.video[0]
        source.codec, source.rate = stream.codec_context.name, stream.average_rate
        if source.codec != "mjpeg":
            source.sets = parameter_sets(stream.codec_context.extradata or b"")


def find(source: Source) -> Found:
    """Find all pictures and decode them, which tells in which order they are shown. Raises NothingError."""
    found = Found(source.form())
    decoder = av.CodecContext.create(found.form.codec if found.form else "mjpeg", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    decoder.thread_count = 1
    for picture in itertools.islice(source.media(found.form, source.end), PICTURES_LIMIT):
        number, is_key = len(found.counts), not found.form or any(u.kind in found.form.keys for u in picture)
        if not found.counts and not is_key:
            continue  # nothing can be shown before the first key picture
        packet = av.Packet(_front(source, number) + source.coded(picture, found.form))
        packet.pts = packet.dts = number
        _decode(decoder, packet, found)
        found.counts.append(len(picture))
        for unit in picture:
            found.units.extend((unit.at, unit.length))
            found.media_bytes += unit.length + 4 * bool(found.form)
        if is_key:
            found.keys.add(number)
        if number % STRETCH == STRETCH - 1:
            wait(picture[-1].end)
    _decode(decoder, None, found)
    if 2 * len(found.shown) <= len(found.counts):
        raise NothingError("what looks like pictures can't be decoded")
    found.rate = source.rate or decoder.framerate
    return found


def _front(source: Source, number: int) -> bytes:
    return b"".join(_START + parameters for parameters in source.sets) if number == 0 else b""


def _decode(decoder: av.VideoCodecContext, packet: av.Packet[Stream] | None, found: Found) -> None:
    try:
        for frame in decoder.decode(packet):
            found.width, found.height = frame.width, frame.height
            if frame.pts is not None:
                found.shown.append(frame.pts)
    except av.FFmpegError:
        pass  # it stays among the pictures that were found, and isn't among those that can be shown


def write(source: Source, found: Found, output_fd: int) -> None:
    """Write the pictures as an MP4. Raises what FFmpeg raises."""
    rate = found.rate or _ASSUMED_RATE
    places = dict(zip(found.shown, sorted(found.shown), strict=True))
    delay = min(_ORDER_LIMIT, max(number - place for number, place in places.items()))
    with open(output_fd, "wb", closefd=False) as file, av.open(file, "w", format="mp4") as container:
        codec = found.form.codec if found.form else "mjpeg"
        stream = container.add_mux_stream(codec, rate=rate, width=found.width, height=found.height)
        at = 0
        for number, count in enumerate(found.counts):
            units = [Unit(found.units[2 * n], found.units[2 * n + 1], 0) for n in range(at, at + count)]
            at += count
            packet = av.Packet(_front(source, number) + source.coded(units, found.form))
            packet.stream, packet.time_base = stream, 1 / rate
            packet.dts, packet.is_keyframe = number, number in found.keys
            packet.pts = max(number, places.get(number, number) + delay)
            container.mux(packet)
            if number % STRETCH == STRETCH - 1:
                wait(units[-1].end)


def salvage(source: Source, reference: Original | None, output_fd: int) -> None:
    """Find, write, and say what was found. Raises NothingError and what FFmpeg raises."""
    if reference is not None:
        take_reference(source, reference)
    found = find(source)
    write(source, found, output_fd)
    say({
        "codec": found.form.codec if found.form else "mjpeg",
        "width": found.width,
        "height": found.height,
        "rate": str(found.rate or ""),
        "pictures": len(found.counts),
        "shown": len(found.shown),
        "used_bytes": found.media_bytes,
        "skipped_bytes": source.end - source.at - found.media_bytes,
    })  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    """Entry point: `agent.access.salvager <original> <reference or -1> <output> <limits>`: descriptors and JSON."""
    original_fd, reference_fd, output_fd = map(int, arguments[:3])
    av.logging.set_level(None)
    step_back()

    def read(at: int, length: int) -> bytes:
        return os.pread(original_fd, length, at)

    source = Source(read, *media_range(read, os.fstat(original_fd).st_size))
    reference = Original(reference_fd) if reference_fd >= 0 else None
    lock_tool((), **json.loads(arguments[3]))
    try:
        salvage(source, reference, output_fd)
    except NothingError as error:
        say({"nothing": str(error)})
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        say({"nothing": f"it can't be read: {getattr(error, 'strerror', None) or type(error).__name__}"[:200]})
    sys.stdout.flush()
    return 0
