"""Puts the films of a session side by side, on one clock, so that all cameras are seen at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent import durable
from agent.access.cards import font_of
from agent.access.encoders import SOFTWARE
from agent.access.inspecting import inspect
from agent.access.made import Made
from agent.access.plan import NoCopyError
from agent.access.tool import READING, Bounds, run, version
from agent.deadline import ZONE
from agent.model import Role

WIDTH_PX: Final = 1280
RATE: Final = 12.5
TILES_LIMIT: Final = 9
_NEAR_MS: Final = 1000
_TOTAL_S: Final = 48 * 3600.0
_OUTPUT_BYTES: Final = 1 << 38
_ENCODED: Final = (
    "-c:v", SOFTWARE, "-preset", "superfast", "-crf", "28", "-maxrate", "1500k", "-bufsize", "3M",
    "-pix_fmt", "yuv420p", "-g", "25", "-threads:v", "1",
    "-map_metadata", "-1", "-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tile:
    """A film with pictures, and whose it is; `sounds`: it has sound."""

    title: str
    path: Path
    sounds: bool


async def make_mosaic(
    tiles: Sequence[Tile], zero_us: int, lasts_ms: int, folder: Path, *, is_busy: Callable[[], bool]
) -> Made:
    """All films beside each other with the station's time; the sound is that of the first film that has any.

    Raises NoCopyError if it isn't as long as they are, ToolError.
    """
    shown = tiles[:TILES_LIMIT]
    across = math.ceil(math.sqrt(len(shown)))
    width = WIDTH_PX // across // 2 * 2
    height = width * 9 // 16 // 2 * 2
    font, graph = font_of(), []
    for number, tile in enumerate(shown):
        drawn = _text(folder, f"title{number}", tile.title, font, "x=h/40:y=h-th-h/40") if font else ""
        graph.append(
            f"[{number}:V:0]fps={RATE},scale={width}:{height}:force_original_aspect_ratio=decrease:flags=fast_bilinear,"
            f"pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,setsar=1{drawn}[t{number}]"
        )
    layout = "|".join(f"{n % across * width}_{n // across * height}" for n in range(len(shown)))
    joined = "".join(f"[t{number}]" for number in range(len(shown)))
    stacked = f"{joined}xstack=inputs={len(shown)}:layout={layout}:fill=black" if len(shown) > 1 else f"{joined}null"
    told = _text(folder, "clock", _clock(zero_us), font, "x=w-tw-h/40:y=h/40", "normal") if font else ""
    graph.append(f"{stacked}{told}[mosaic]")
    words = [word for tile in shown for word in ("-reinit_filter:v", "0", *READING, "-i", f"file:{tile.path}")]
    words += ["-filter_complex", ";".join(graph), "-map", "[mosaic]"]
    sound = next((number for number, tile in enumerate(tiles) if tile.sounds and number < len(shown)), None)
    words += ["-map", f"{sound}:a:0", "-c:a", "copy"] if sound is not None else []
    path, part, tool = folder / "mosaic.mp4", folder / f"mosaic{durable.PART_SUFFIX}", await version()
    bounds = Bounds(total_s=_TOTAL_S, cpu_s=int(_TOTAL_S), output_bytes=_OUTPUT_BYTES)
    reads = [tile.path for tile in shown]
    await run([*words, *_ENCODED, f"file:{part}"], reads=reads, folder=folder, bounds=bounds, is_busy=is_busy)
    seen = await inspect(part, is_busy=is_busy)
    video = seen.of("video")
    if not seen.ended or video is None or video.bad or abs((video.span_ms or 0) - lasts_ms) > _NEAR_MS:
        raise NoCopyError(f"the mosaic lasts {video.span_ms if video else 0} ms, not {lasts_ms} ms: {seen.reason}")
    durable.rename_no_replace(part, path)
    remarks = [f"{len(tiles) - len(shown)} sources are not in it"] if len(tiles) > len(shown) else []
    remarks += [] if font else ["no time and no names are written into it, for want of a font (fonts-noto-cjk)"]
    counts = {"mosaic": [asdict(track) for track in seen.tracks], "sound_of": sound}
    return Made(Role.MOSAIC, path, tool, (*words, *_ENCODED), False, not remarks, tuple(remarks), counts)


def _text(folder: Path, name: str, words: str, font: str, place: str, expansion: str = "none") -> str:
    (folder / f"{name}.txt").write_text(words, "utf-8")
    look = f"expansion={expansion}:fontcolor=white:fontsize=20:borderw=2:{place}"
    return f",drawtext=fontfile={font}:textfile={name}.txt:{look}"


def _clock(zero_us: int) -> str:
    """What drawtext writes as the time of each picture, in this station's zone: the cage has none."""
    zone = datetime.fromtimestamp(zero_us / 1e6, UTC).astimezone(ZONE).utcoffset()
    assert zone is not None, "it is aware"
    local_s = zero_us // 1_000_000 + round(zone.total_seconds())
    return f"%{{pts:gmtime:{local_s}:%Y-%m-%d %H\\:%M\\:%S}}"
