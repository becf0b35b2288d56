"""Footage for cameras: encoded once by ffmpeg, of a length that picture and sound both divide, laid out in a pack."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
from av.bitstream import BitStreamFilterContext
from av.packet import Packet
from av.stream import Stream

from simulator.cameras.frames import first_slice

STEP_S: Final = Fraction(8, 25)
"""Pictures at 25/s, AAC frames at 16 kHz and blocks of G.711 all end at multiples of this."""
_BLOCK_BYTES: Final = 320
_RATE: Final[Mapping[str, int]] = {"aac": 16_000, "pcm_mulaw": 8000, "pcm_alaw": 8000, "": 0}
_ENCODER: Final[Mapping[str, tuple[str, ...]]] = {
    "h264": ("libx264", "-preset", "ultrafast", "-x264-params", "scenecut=0"),
    "hevc": ("libx265", "-preset", "ultrafast", "-x265-params", "log-level=none:scenecut=0:open-gop=0"),
}


@dataclass(frozen=True, slots=True)
class Footage:
    """What a camera shows: codecs as FFmpeg calls them (empty: no such track), and what lavfi makes as picture, sound.

    25 pictures a second. `laps` of 0.32 s make its length; a group of pictures is `gop` long.
    """

    video: str = "h264"
    audio: str = "aac"
    laps: int = 50
    size: str = "320x180"
    kbit_s: int = 300
    gop: int = 25
    b_frames: int = 0
    picture: str = "testsrc2=size={size}:rate=25,noise=alls=8:allf=t"
    sound: str = "sine=frequency=440:sample_rate={rate},volume=0.5[t];anoisesrc=r={rate}:a=0.02:seed=7[n];[t][n]amix"

    @property
    def seconds(self) -> Fraction:
        """How long it is."""
        return self.laps * STEP_S


def made(footage: Footage, folder: Path) -> Path:
    """The pack of `footage` in `folder`, encoded unless it is there already."""
    name = hashlib.blake2b(repr(astuple(footage)).encode(), digest_size=8).hexdigest()
    pack = folder / f"{name}.pack"
    if not pack.exists():
        folder.mkdir(parents=True, exist_ok=True)
        encode(footage, clip := folder / f"{name}.mkv")
        part = pack.with_suffix(".new")
        write_pack(clip, part, footage.seconds)
        part.rename(pack)
    return pack


def encode(footage: Footage, clip: Path) -> None:
    """Make the clip that a pack is written from, as Matroska."""
    rate, codec, parts = _RATE[footage.audio], "", list[str]()
    if footage.video:
        parts += ["-filter_complex", footage.picture.format(size=footage.size) + "[v]", "-map", "[v]"]
        codec, rate_k = footage.video, f"{footage.kbit_s}k"
        parts += ["-c:v", *_ENCODER[codec], "-pix_fmt", "yuv420p", "-g", str(footage.gop), "-bf", str(footage.b_frames)]
        parts += [
            "-frames:v",
            str(int(footage.seconds * 25)),
            "-b:v",
            rate_k,
            "-maxrate",
            rate_k,
            "-bufsize",
            rate_k,
            "-threads",
            "2",
        ]
    if footage.audio:
        parts += ["-filter_complex", footage.sound.format(rate=rate) + "[a]", "-map", "[a]", "-c:a", footage.audio]
        parts += ["-ar", str(rate), "-ac", "1"]
    length = str(float(footage.seconds) + 0.2)
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", *parts, "-t", length, "-y", str(clip)], check=True)


def write_pack(clip: Path, pack: Path, seconds: Fraction) -> None:
    """Lay out what a clip shows before `seconds`, in order of time, for `serve.py`."""
    with av.open(str(clip)) as file:
        video = next(iter(file.streams.video), None)
        audio = next(iter(file.streams.audio), None)
        video_codec = video.codec_context.name if video else ""
        audio_codec = audio.codec_context.name if audio else ""
        rows: list[tuple[int, int, int, bytes, bool]] = []
        began: Fraction | None = None  # Matroska moves all by the priming of AAC
        for track, packet in _packets(file, video, video_codec):
            assert packet.pts is not None
            if began is None:
                if track and video:
                    continue
                began = packet.pts * packet.time_base
            pts_ns, dts_ns = (int(((t or 0) * packet.time_base - began) * 10**9) for t in (packet.pts, packet.dts))
            if 0 <= pts_ns < seconds * 10**9:
                data = bytes(packet)
                if track and audio_codec != "aac":
                    rows += _blocks(pts_ns, data)
                else:
                    rows.append((max(0, dts_ns), track, pts_ns, data, bool(track) or packet.is_keyframe))
        extra = bytes(audio.codec_context.extradata or b"").hex() if audio else ""
        rate = audio.rate if audio else 0
    rows.sort(key=lambda row: (row[0], row[1]))
    packets, at, number = [], 0, 0
    for t_ns, track, pts_ns, data, is_key in rows:
        cut = 0 if track else first_slice(data, video_codec)
        packets.append([t_ns, track, pts_ns, at, len(data), int(is_key), cut, -1 if track else number])
        at, number = at + len(data), number + (not track)
    head = {
        "video": video_codec, "audio": audio_codec, "rate": rate, "extra": extra, "pictures": number,
        "length_ns": int(seconds * 10**9), "packets": packets,
    }  # fmt: skip
    pack.write_bytes(json.dumps(head).encode() + b"\n" + b"".join(row[3] for row in rows))


def _packets(
    file: av.container.InputContainer, video: av.VideoStream | None, codec: str
) -> Iterator[tuple[int, Packet[Stream]]]:
    """Each packet with its track: 0 is video, as a byte stream (Annex B), 1 is audio."""
    annex_b = BitStreamFilterContext(f"{codec}_mp4toannexb", video) if video else None
    for packet in file.demux():
        if not packet.size:
            continue
        if annex_b is not None and packet.stream is video:
            yield from ((0, made) for made in annex_b.filter(packet))
        else:
            yield 1, packet


def _blocks(pts_ns: int, data: bytes) -> Iterator[tuple[int, int, int, bytes, bool]]:
    """G.711 in blocks of 40 ms; a byte is 1/8000 s."""
    for at in range(0, len(data), _BLOCK_BYTES):
        t_ns = pts_ns + at * 125_000
        yield t_ns, 1, t_ns, data[at : at + _BLOCK_BYTES], True
