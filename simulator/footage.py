"""Makes real footage with ffmpeg: H.264/AAC clips, sound, photos, and a clip whose recorder lost power."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import ffmpeg
from ffmpeg.nodes import Stream

PICTURES_PER_S: Final = 25
SAMPLES_PER_S: Final = 48_000
FFMPEG_LIMIT_S: Final = 120
AT_A_TIME: Final = 2


class FootageError(Exception):
    """ffmpeg could not make what was asked for; the text has its own words."""


class Kind(StrEnum):
    """What a recorder makes, by the ending of its files."""

    VIDEO = "mp4"
    SOUND = "wav"
    PHOTO = "jpg"


@dataclass(frozen=True, slots=True)
class Take:
    """One thing to film: equal takes give equal bytes, another `seed` gives other pictures and sound.

    `length_s` is ignored for photos. At 1920x1080 a second of video is about 30 MB: noise, because nobody wants to
    wait for an hour of film.
    """

    kind: Kind
    seed: int
    length_s: float = 0.0
    width: int = 1920
    height: int = 1080


def shoot(takes: Iterable[Take], folder: Path) -> dict[Take, Path]:
    """Make what `folder` does not hold yet, two at a time; raises FootageError."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = dict.fromkeys(takes)
    with ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="ffmpeg") as pool:
        return dict(zip(wanted, pool.map(lambda take: _shoot_one(take, folder), wanted), strict=True))


def _shoot_one(take: Take, folder: Path) -> Path:
    name = hashlib.sha256("\0".join(_command(take, "")).encode()).hexdigest()[:20]
    path = folder / f"{name}.{take.kind}"
    if not path.exists():
        part = folder / f"{name}.{os.getpid()}.part"
        done = subprocess.run(
            _command(take, str(part)),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=FFMPEG_LIMIT_S,
            check=False,
        )
        if done.returncode:
            part.unlink(missing_ok=True)
            raise FootageError(f"ffmpeg could not make {take}: {done.stderr.decode(errors='replace').strip()}")
        part.rename(path)
    return path


def _command(take: Take, path: str) -> list[str]:
    """The ffmpeg call that makes `take`; one thread and no time stamps, so that equal takes give equal bytes."""
    exact = {"fflags": "+bitexact", "flags:v": "+bitexact", "flags:a": "+bitexact", "threads": 1}
    streams = [stream(take) for stream in STREAMS[take.kind]]
    output = ffmpeg.output(*streams, path, **exact, **OPTIONS[take.kind])
    quiet = output.global_args("-nostdin", "-hide_banner", "-loglevel", "error")
    command: list[str] = quiet.overwrite_output().compile()
    return command


def _pictures(take: Take) -> Stream:
    scene = f"testsrc2=size={take.width}x{take.height}:rate={PICTURES_PER_S}"
    if take.kind is Kind.VIDEO:
        scene += f":duration={take.length_s}"
    return ffmpeg.input(scene, format="lavfi").filter("noise", all_seed=take.seed, c0s=30, c0f="t")


def _sound(take: Take) -> Stream:
    voice = f"anoisesrc=color=pink:amplitude=0.3:seed={take.seed}:sample_rate={SAMPLES_PER_S}:duration={take.length_s}"
    return ffmpeg.input(voice, format="lavfi")


STREAMS: Final[Mapping[Kind, tuple[Callable[[Take], Stream], ...]]] = {
    Kind.VIDEO: (_pictures, _sound),
    Kind.SOUND: (_sound,),
    Kind.PHOTO: (_pictures,),
}
OPTIONS: Final[Mapping[Kind, Mapping[str, object]]] = {
    Kind.VIDEO: {
        "format": "mp4", "vcodec": "libx264", "preset": "ultrafast", "qp": 18, "g": PICTURES_PER_S,
        "pix_fmt": "yuv420p", "acodec": "aac", "audio_bitrate": "128k",
    },
    Kind.SOUND: {"format": "wav", "acodec": "pcm_s16le"},
    Kind.PHOTO: {
        "format": "image2", "update": 1, "vframes": 1, "vcodec": "mjpeg", "qscale:v": 3, "pix_fmt": "yuvj420p",
    },
}  # fmt: skip


def cut_off(clip: Path, share: float) -> bytes:
    """The first part of an MP4 whose recorder lost power: media data, but no index (`moov`), which comes last."""
    with clip.open("rb") as source:
        return source.read(int(clip.stat().st_size * share))
