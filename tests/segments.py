"""Segments as a room's recorder writes them: cut at key frames out of one stream, fragmented, at arbitrary times."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from agent.access.laying import Part
from agent.media.probing import probe

FRAGMENTED = {"movflags": "+empty_moov+default_base_moof", "frag_duration": "500000", "flush_packets": "1"}
RATE = 25
GOP = 25
H264 = ("-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "0")
H264_B = ("-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "2")
H265 = ("-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-x265-params", "log-level=none:bframes=0")
AAC = ("-c:a", "aac", "-ar", "16000", "-ac", "1")
G711 = ("-c:a", "pcm_alaw", "-ar", "8000", "-ac", "1")
SILENT = ("-an",)


@dataclass(frozen=True, slots=True)
class Stream:
    """What a camera sends, as a file, from which segments are cut."""

    path: Path
    suffix: str


def camera(
    folder: Path, name: str, seconds: float, video: Sequence[str] = H264, audio: Sequence[str] = AAC,
    size: str = "320x180",
) -> Stream:  # fmt: skip
    """A stream whose pictures all differ, with a tone; a key frame each second."""
    suffix, path = (".mov" if audio == G711 else ".mp4"), folder / f"{name}.stream.mov"
    pictures = ("-f", "lavfi", "-i", f"testsrc2=size={size}:rate={RATE}:duration={seconds}") if video else ()
    words = [
        *pictures, "-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=16000:duration={seconds}", *video, *audio,
        *(("-g", str(GOP), "-sc_threshold", "0", "-video_track_timescale", "90000") if video else ()), "-threads", "1",
    ]  # fmt: skip
    subprocess.run(["ffmpeg", "-nostdin", "-loglevel", "error", "-y", *words, str(path)], check=True, timeout=60)
    return Stream(path, suffix)


def cut(stream: Stream, target: Path, start_s: float, end_s: float, begins_s: float = 0.0) -> Path:
    """Copy the pictures and sound from a key frame to before another; the first picture has the time `begins_s`."""
    path = target.with_suffix(stream.suffix)
    with (
        av.open(stream.path) as source,
        av.open(path, "w", format=stream.suffix[1:], options=dict(FRAGMENTED)) as made,
    ):
        tracks = [one for one in source.streams if one.type in ("video", "audio")]
        copies: dict[int, Any] = {one.index: made.add_stream_from_template(one) for one in tracks}
        for packet in source.demux(tracks):
            if packet.dts is None or packet.pts is None or packet.size == 0:
                continue
            base = packet.time_base or Fraction(1)
            if start_s - 1e-6 <= float(packet.pts * base) < end_s - 1e-6:
                shift = round(Fraction(begins_s - start_s).limit_denominator(90_000) / base)
                packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                packet.stream = copies[packet.stream_index]
                made.mux(packet)
    return path


def killed(path: Path, lost_bytes: int) -> Path:
    """As SIGKILL leaves it: the file ends in the middle of a fragment."""
    os.truncate(path, path.stat().st_size - lost_bytes)
    return path


async def part(path: Path, start_s: float, end_s: float, zero_us: int) -> Part:
    """The segment as the station knows it, recorded from `start_s` to `end_s` after `zero_us`."""
    fd = os.open(path, os.O_RDONLY)
    try:
        facts = await probe(fd, gps=False)
    finally:
        os.close(fd)
    return Part(path.stem, path, facts, zero_us + round(start_s * 1e6), zero_us + round(end_s * 1e6))


def decoded(path: Path) -> list[tuple[float, bytes]]:
    """(seconds, picture in little) of all that a decoder gives, in the order in which it is shown."""
    found = []
    with av.open(path) as container, contextlib.suppress(av.InvalidDataError):  # where a file was cut
        for frame in container.decode(video=0):
            assert frame.time is not None
            plane = frame.reformat(width=64, height=36, format="gray").planes[0]
            found.append((frame.time, bytes(plane)))
    return found
