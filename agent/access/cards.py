"""Makes what stands between the segments of a film: cards that say why nothing was recorded; and fits odd segments."""

from __future__ import annotations

import math
import struct
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import ffmpeg

from agent import durable
from agent.access.encoders import SOFTWARE, WAYS
from agent.access.laying import Part
from agent.access.plan import BROWSER_PIXELS, BROWSER_PROFILES, FONTS
from agent.config import AccessCopies
from agent.media.formats import FORMATS
from agent.model import StreamFacts

HEIGHT_PX: Final = 720
"""What has to be encoded is made no higher than this: hours of several cameras have to be done in a night."""
_HEAD_BYTES: Final = 1 << 16
_CARD_KEYS: Final = 10
_MOVIE: Final = ("-fflags", "+bitexact", "-f", "mov")

Run = Callable[[Sequence[str], Sequence[Path], Sequence[Path]], Awaitable[object]]
"""Runs ffmpeg with these words; it may read these files and compute on these devices."""


@dataclass(frozen=True, slots=True)
class Form:
    """What the tracks of a segment are like; 0 and "" for a track that isn't there. `plays`: a browser shows it."""

    width: int
    height: int
    plays: bool
    timescale: int
    sound: str
    rate_hz: int
    channels: int

    @property
    def joins(self) -> tuple[object, ...]:
        """What has to be the same in all that is joined; pictures may be of another size."""
        return self.plays, self.timescale, self.sound, self.rate_hz, self.channels

    @property
    def silence(self) -> str:
        """ffmpeg's name of a source of such silence."""
        return f"anullsrc=r={self.rate_hz}:cl={'mono' if self.channels == 1 else f'{self.channels}c'}"


def form_of(part: Part) -> Form:
    """The form of a segment; raises OSError if it can't be opened."""
    picture, sound = (stream_of(part, kind) or StreamFacts(kind) for kind in ("video", "audio"))
    plays = picture.codec == "h264" and picture.pixels in BROWSER_PIXELS and picture.profile in BROWSER_PROFILES
    scale = _timescale(part.path) if picture.codec else 0
    return Form(picture.width, picture.height, plays, scale, sound.codec, sound.rate_hz, sound.channels)


def stream_of(part: Part, kind: str) -> StreamFacts | None:
    """Its first track of a kind."""
    return next((stream for stream in part.facts.streams if stream.kind == kind), None)


def _timescale(path: Path) -> int:
    """Units in a second of the first picture track: `mdhd` before a `hdlr` of pictures (ISO/IEC 14496-12); 0: unknown.

    What is joined must have the same: ffmpeg's concat demuxer doesn't convert.
    """
    with durable.opened(path) as fd, open(fd, "rb", closefd=False) as file:
        head = file.read(_HEAD_BYTES)
    at = head.find(b"mdhd")
    while at > 0:
        handler = head.find(b"hdlr", at)
        if head[handler + 12 : handler + 16] == b"vide" and len(head) > at + 28:
            return int(struct.unpack_from(">I", head, at + (24 if head[at + 4] else 16))[0])
        at = head.find(b"mdhd", at + 4)
    return 0


def scaled(form: Form, settings: AccessCopies) -> Form:
    """As large as its pictures are when they were encoded."""
    height = min(form.height, HEIGHT_PX, settings.height_px_max) // 2 * 2
    return replace(form, width=2 * round(form.width * height / (2 * form.height)), height=height)


def font_of() -> str:
    """A font that has Chinese characters; empty if none is installed."""
    return next((font for font in FONTS if Path(font).exists()), "")


def card_pictures(lasts_us: int) -> int:
    """How many pictures a card has: one each second, so that a browser can begin anywhere."""
    return math.ceil(lasts_us / 1e6)


async def make_card(lines: Sequence[str], lasts_us: int, form: Form, path: Path, run: Run) -> None:
    """A card with its words and silence, of a form to which segments fit. Raises what `run` raises."""
    words: list[str] = []
    options: list[str] = []
    lasts_s = f"{lasts_us // 1000 / 1000:.3f}"
    if form.width:
        pictures = card_pictures(lasts_us)
        color = f"color=c=0x202428:size={form.width}x{form.height}:rate={pictures}000/{lasts_us // 1000}:d={lasts_s}"
        words += ["-f", "lavfi", "-i", ",".join([color, *_drawn(lines, path.parent)])]
        options += ["-c:v", SOFTWARE, "-preset", "veryfast", "-pix_fmt", "yuv420p"]
        options += ["-bf", "0", "-g", str(_CARD_KEYS), "-threads:v", "1"]
        options += ["-video_track_timescale", str(form.timescale)]
    if form.sound:
        words += ["-f", "lavfi", "-t", lasts_s, "-i", form.silence]
        options += ["-c:a", form.sound]
    await run([*words, *options, *_MOVIE, f"file:{path}"], [], [])


def _drawn(lines: Sequence[str], folder: Path) -> Iterator[str]:
    """Filters that write the lines, each of which is put into a file; none where no font has Chinese characters."""
    font = font_of()
    for number, line in enumerate(lines if font else ()):
        (folder / f"line{number}.txt").write_text(line, "utf-8")
        yield (
            f"drawtext=fontfile={font}:textfile=line{number}.txt:expansion=none:fontcolor=white:"
            f"fontsize=min(h/14\\,w/26):x=(w-tw)/2:y=h/4+{number}*h/9"
        )


async def convert(
    part: Part, form: Form, wanted: Form, lasts_s: float, path: Path, settings: AccessCopies, encoder: str, run: Run
) -> None:
    """A segment in another form: its pictures are encoded only if browsers don't show them, or `encoder` must."""
    given = ffmpeg.input(
        f"file:{part.path}", protocol_whitelist="file", format_whitelist=FORMATS, threads=1,
        fflags="+discardcorrupt", **WAYS[encoder].opening(),
    )  # fmt: skip
    options: dict[str, Any] = {"f": "mov", "map_metadata": -1, "fflags": "+bitexact", "max_error_rate": 1}
    tracks, way = [], WAYS[encoder]
    if wanted.width:
        options |= {"video_track_timescale": wanted.timescale}
        if form.plays and wanted.plays:
            tracks, options = [given["V:0"]], options | {"c:v": "copy"}
        else:
            height = min(HEIGHT_PX, settings.height_px_max)
            tracks = [way.filtered(given["V:0"].filter("scale", w=-2, h=f"trunc(min(ih,{height})/2)*2"))]
            options |= {"c:v": encoder, "profile:v": "high", "fps_mode": "passthrough", "enc_time_base": "1:90000"}
            options |= {"g": 50, "bf": 0, **way.options}
    if wanted.sound:
        tracks.append(given["a:0"] if form.sound else ffmpeg.input(wanted.silence, f="lavfi", t=f"{lasts_s:.3f}"))
        options |= {"c:a": wanted.sound, "ar": wanted.rate_hz, "ac": wanted.channels, "af": "aresample=async=1"}
    words = ffmpeg.output(*tracks, f"file:{path}", **options).compile()[1:]
    await run(words, [part.path], way.devices())
