"""Small real recordings made with ffmpeg, and how they are damaged in the field."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

from agent.media.probing import DEFAULT_LIMITS, Limits, probe
from agent.model import Facts

PICTURES = ("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25:duration={s}")
SOUND = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=8000:duration={s}")
QUICK = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-g", "25", "-threads", "1")
# H.264 for mp4, mov, mkv and ts; Motion JPEG for avi.
KINDS = {
    "mp4": (*PICTURES, *SOUND, *QUICK, "-c:a", "aac"),
    "mov": (*PICTURES, *SOUND, *QUICK, "-c:a", "aac"),
    "mkv": (*PICTURES, *SOUND, *QUICK, "-c:a", "aac"),
    "ts": (*PICTURES, *SOUND, *QUICK, "-c:a", "aac"),
    "avi": (*PICTURES, *SOUND, "-c:v", "mjpeg", "-q:v", "5", "-c:a", "pcm_s16le", "-threads", "1"),
    "wav": (*SOUND, "-c:a", "pcm_s16le"),
    "mp3": (*SOUND, "-c:a", "libmp3lame"),
    "jpg": (*PICTURES, "-frames:v", "1", "-f", "image2", "-c:v", "mjpeg", "-pix_fmt", "yuvj420p"),
    "png": (*PICTURES, "-frames:v", "1", "-f", "image2", "-c:v", "png"),
}


def film(folder: Path, kind: str, seconds: float = 4, options: Sequence[str] = ()) -> bytes:
    """A recording of that kind; `options` go to ffmpeg, like `-metadata creation_time=…`."""
    path = folder / f"made.{kind}"
    inputs = [word.format(s=seconds) for word in KINDS[kind]]
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *inputs, "-fflags", "+bitexact", *options, str(path)]
    subprocess.run(command, check=True, timeout=60)
    made = path.read_bytes()
    path.unlink()
    return made


def box(name: bytes, body: bytes) -> bytes:
    """One MP4 box."""
    return struct.pack(">I4s", 8 + len(body), name) + body


def with_position(jpeg: bytes) -> bytes:
    """The photo with an EXIF segment that holds nothing but a position (CIPA DC-008, GPS IFD)."""

    def degrees(*numbers: int) -> bytes:
        return b"".join(struct.pack("<II", number, 1) for number in numbers)

    def directory(offset: int, *fields: tuple[int, int, int, bytes]) -> bytes:
        entries, values = b"", b""
        for tag, kind, count, value in fields:
            stored = value.ljust(4, b"\0")
            if len(value) > 4:
                stored = struct.pack("<I", offset + 6 + 12 * len(fields) + len(values))
                values += value
            entries += struct.pack("<HHI", tag, kind, count) + stored
        return struct.pack("<H", len(fields)) + entries + bytes(4) + values

    first = directory(8, (0x8825, 4, 1, struct.pack("<I", 26)))
    east, north = degrees(117, 7, 12), degrees(36, 39, 0)
    second = directory(26, (1, 2, 2, b"N\0"), (2, 5, 3, north), (3, 2, 2, b"E\0"), (4, 5, 3, east))
    body = b"Exif\0\0" + struct.pack("<2sHI", b"II", 42, 8) + first + second
    return jpeg[:2] + struct.pack(">HH", 0xFFE1, 2 + len(body)) + body + jpeg[2:]


async def facts_of(
    content: bytes, folder: Path, *, gps: bool = False, limits: Limits = DEFAULT_LIMITS, size_bytes: int = 0
) -> Facts:
    """What a real child tells of these bytes, followed by zeros up to a size; the file's name says nothing."""
    path = folder / "original"
    path.write_bytes(content)
    if size_bytes:
        os.truncate(path, size_bytes)
    fd = os.open(path, os.O_RDONLY)
    try:
        return await probe(fd, gps=gps, limits=limits)
    finally:
        os.close(fd)
