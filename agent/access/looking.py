"""One pass of ffmpeg over an original: when it is black, frozen or silent, and pictures that show what is in it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import durable
from agent.access.certificate import AGENT
from agent.access.inspecting import Inspection, Track
from agent.access.made import OUTPUT, SOURCE, Made
from agent.access.timeline import COLUMNS, waveform_svg
from agent.access.tool import READING, Bounds, ToolError, run, version
from agent.access.watching import never
from agent.model import Facts, Medium, Role

BLACK_MS: Final = 2000
"""A passing hand, or a change of scene, is shorter."""
FROZEN_MS: Final = 5000
"""A scene in which nothing moves is not frozen: noise of the sensor and the encoder is seen as movement."""
FROZEN_NOISE: Final = 0.001
SILENT_MS: Final = 10_000
"""People pause for longer than a few seconds; a microphone that is off is silent to the end."""
SILENT_DB: Final = -50
"""Room tone of a recorder's microphone is louder."""
TILE_MS: Final = 60_000
TILES_LIMIT: Final = 60
_TILES_ACROSS: Final = 6
_POSTER_CANDIDATES: Final = 40
_BLACK_PERCENT: Final = 90
_RATE_HZ: Final = 8000
_WINDOW_LIMIT: Final = 1 << 20
"""Samples; of no recording that lasts as long as its time stamps say there are that many in a column."""
_EVENTS_BYTES: Final = 32 << 20
BOUNDS: Final = Bounds(output_bytes=2 * _EVENTS_BYTES)

_DETECT: Final = (
    # What a decoder says about a frame may come from the file, in the words of a detector: it is dropped first.
    # No multiple of 32 wide: for these it would write machine code, which the service's unit forbids.
    "scale=312:176:flags=fast_bilinear,format=yuv420p,metadata=mode=delete,"
    f"blackdetect,freezedetect=n={FROZEN_NOISE}:d={FROZEN_MS / 1000:g},metadata=mode=print:file=seen.txt"
)
_HEAR: Final = (
    f"ametadata=mode=delete,silencedetect=n={SILENT_DB}dB:d={SILENT_MS / 1000:g},"
    f"ametadata=mode=print:file=heard.txt,aformat=sample_rates={_RATE_HZ},asetnsamples=n={{window}},"
    "astats=metadata=1:reset=1:measure_perchannel=none:measure_overall=Peak_level,"
    "ametadata=mode=print:file=peaks.txt"
)
_TILE: Final = "pad=320:180:(ow-iw)/2:(oh-ih)/2:gray:eval=frame,setsar=1"
_BRIGHT: Final = (
    f"blackframe=amount=0,metadata=mode=select:key=lavfi.blackframe.pblack:value={_BLACK_PERCENT}:function=less"
)
_FULL: Final = "format=yuvj420p"
_JPEG: Final = (
    "-frames:v", "1", "-fps_mode", "passthrough", "-map_metadata", "-1", "-fflags", "+bitexact", "-flags", "+bitexact",
    "-c:v", "mjpeg", "-q:v", "4", "-f", "image2", "-update", "1",
)  # fmt: skip
_LINE: Final = re.compile(rb"frame:\d+ +pts:-?\d+ +pts_time:(\S+)|lavfi\.([a-zA-Z_.]+)=(\S+)")

Span = tuple[int, int]
"""From, to, in milliseconds since the first packet."""


@dataclass(frozen=True, slots=True)
class Detected:
    """When it is black, frozen and not black, and silent; in order."""

    black: tuple[Span, ...] = ()
    frozen: tuple[Span, ...] = ()
    silent: tuple[Span, ...] = ()


NOTHING_DETECTED: Final = Detected()


@dataclass(frozen=True, slots=True)
class Looked:
    """What was seen and heard, the pictures that were made, and what looked."""

    detected: Detected = NOTHING_DETECTED
    pictures: tuple[Made, ...] = ()
    tool: str = ""


async def look(
    original: Path, facts: Facts, source: Inspection, folder: Path, *, is_busy: Callable[[], bool] = never,
    bounds: Bounds = BOUNDS,
) -> Looked:  # fmt: skip
    """Look at all that can be decoded, in sound and picture; a photo is a picture already. Raises ToolError."""
    kinds = {track.kind for track in source.tracks if track.frames}
    lasts_ms = lasts(source)
    if facts.medium is Medium.PHOTO or not lasts_ms or not kinds & {"video", "audio"}:
        return Looked()
    pictures, sound = "video" in kinds, "audio" in kinds
    words, tool = _words(lasts_ms, pictures=pictures, sound=sound), await version()
    here = [word.replace(SOURCE, str(original)) for word in words]
    await run(here, reads=original, folder=folder, bounds=bounds, is_busy=is_busy)
    detected = await asyncio.to_thread(_detected, folder, lasts_ms)
    made = [
        Made(role, folder / name, tool, tuple(OUTPUT if word == name else word for word in words))
        for role, name in ((Role.POSTER, _poster(folder)), (Role.CONTACT_SHEET, "sheet.jpg"))
        if (folder / name).is_file()
    ]
    if sound:
        heard = source.of("audio")
        begins_ms = heard.first_ms or 0 if heard else 0
        made.append(await asyncio.to_thread(_waveform, folder, begins_ms, lasts_ms))
    return Looked(detected, tuple(made), tool)


def lasts(source: Inspection) -> int:
    """Milliseconds from the first packet to the end of the last."""
    return max((0, *(end_ms for track in source.tracks for _, end_ms in spans_of(track))))


def spans_of(track: Track) -> tuple[Span, ...]:
    """From the first packet of a track to the end of its last; none if they have no times."""
    if track.first_ms is None or track.span_ms is None:
        return ()
    return ((track.first_ms, track.first_ms + track.span_ms),)


async def make_sheet(film: Path, lasts_ms: int, folder: Path, *, is_busy: Callable[[], bool] = never) -> Made:
    """A contact sheet of a film of hours, of its key pictures alone; raises ToolError."""
    path = folder / "sheet.jpg"
    words = ["-max_error_rate", "1", "-skip_frame", "nokey", "-reinit_filter:v", "0", "-threads", "1", *READING]
    words += ["-i", f"file:{SOURCE}", "-filter_complex", f"[0:V:0]{_tiles(lasts_ms)}[sheet]"]
    words += ["-map", "[sheet]", *_JPEG, path.name]
    here = [word.replace(SOURCE, str(film)) for word in words]
    await run(here, reads=film, folder=folder, bounds=BOUNDS, is_busy=is_busy)
    if not path.is_file():
        raise ToolError("ffmpeg made no contact sheet")
    told = tuple(OUTPUT if word == path.name else word for word in words)
    return Made(Role.CONTACT_SHEET, path, await version(), told)


def _tiles(lasts_ms: int) -> str:
    """Filters that put a picture of each minute, or fewer, on one sheet."""
    tiles = min(TILES_LIMIT, -(-lasts_ms // TILE_MS))
    across = min(tiles, _TILES_ACROSS)
    layout = f"tile={across}x{-(-tiles // across)}:padding=4:color=white"
    return f"{_each(max(TILE_MS, lasts_ms // TILES_LIMIT))},{_fit(320, 180)},{_TILE},{layout},{_FULL}"


def _graph(lasts_ms: int, *, pictures: bool, sound: bool) -> str:
    """The filters that look, listen, and make pictures."""
    graph = []
    if pictures:
        graph += [
            "[0:V:0]split=3[a][b][c]",
            f"[a]{_DETECT}[seen]",
            f"[b]{_tiles(lasts_ms)}[sheet]",
            f"[c]{_each(lasts_ms // _POSTER_CANDIDATES)},{_fit(640, 360)},setsar=1,metadata=mode=delete,split[d][e]",
            f"[d]{_BRIGHT},thumbnail=n={_POSTER_CANDIDATES},{_FULL}[poster]",
            f"[e]{_FULL}[first]",
        ]
    if sound:
        window = min(_WINDOW_LIMIT, _RATE_HZ * max(1, lasts_ms // COLUMNS) // 1000)
        graph.append(f"[0:a:0]{_HEAR.replace('{window}', str(window))}[heard]")
    return ";".join(graph)


def _each(step_ms: int) -> str:
    return f"select='isnan(prev_selected_t)+gte(t-prev_selected_t,{step_ms / 1000:.3f})'"


def _fit(width: int, height: int) -> str:
    """As it is to be shown, within these pixels."""
    return f"scale=w='max(2,2*trunc(min({width},{height}*dar)/2))':h='max(2,2*trunc(min({height},{width}/dar)/2))'"


def _words(lasts_ms: int, *, pictures: bool, sound: bool) -> list[str]:
    """ffmpeg's words, with a place for the source; what it writes has plain names in the folder in which it runs."""
    # Time stamps as they are, else what jumps is put right before it is looked at.
    words = ["-max_error_rate", "1", "-copyts", "-start_at_zero", "-reinit_filter:v", "0", "-threads", "1"]
    words += [*READING, "-i", f"file:{SOURCE}"]
    words += ["-filter_complex", _graph(lasts_ms, pictures=pictures, sound=sound)]
    for label, wanted in (("[seen]", pictures), ("[heard]", sound)):
        words += ["-map", label] if wanted else []
    words += ["-fps_mode", "passthrough", "-f", "null", "-"]
    for name in ("poster", "first", "sheet") if pictures else ():
        words += ["-map", f"[{name}]", *_JPEG, f"{name}.jpg"]
    return words


def _poster(folder: Path) -> str:
    return "poster.jpg" if (folder / "poster.jpg").is_file() else "first.jpg"


def _events(path: Path) -> Iterator[tuple[int, str, float]]:
    """(milliseconds of the frame, name, value) as a filter wrote them; raises ToolError if it wrote something else."""
    at_ms = 0
    for line in _lines(path):
        match = _LINE.fullmatch(line)
        try:
            if match and match[1]:
                at_ms = round(float(match[1]) * 1000)
            elif match:
                yield at_ms, match[2].decode(), float(match[3])
            else:
                raise ValueError
        except (ValueError, OverflowError):
            raise ToolError("ffmpeg told its findings in words that are not known") from None


def _lines(path: Path) -> list[bytes]:
    """What a filter wrote, up to a bound; nothing if it never began to write."""
    try:
        with durable.opened(path) as fd, open(fd, "rb", closefd=False) as file:
            return file.read(_EVENTS_BYTES).splitlines()
    except FileNotFoundError:
        return []


def _detected(folder: Path, lasts_ms: int) -> Detected:
    seen, heard = list(_events(folder / "seen.txt")), list(_events(folder / "heard.txt"))
    black = long_enough(_spans(seen, "black_start", "black_end", lasts_ms), BLACK_MS)
    frozen = _spans(seen, "freezedetect.freeze_start", "freezedetect.freeze_end", lasts_ms)
    silent = _spans(heard, "silence_start", "silence_end", lasts_ms)
    return Detected(black, long_enough(without(frozen, black), FROZEN_MS), long_enough(silent, SILENT_MS))


def _spans(events: Iterable[tuple[int, str, float]], start: str, end: str, lasts_ms: int) -> list[Span]:
    """From each start to the next end, or to the end of the recording."""
    found: list[Span] = []
    since: int | None = None
    for _, name, value in events:
        if name == start:
            since = max(0, round(value * 1000))
        elif name == end and since is not None:
            found.append((since, round(value * 1000)))
            since = None
    return [*found, (since, lasts_ms)] if since is not None else found


def without(spans: Iterable[Span], others: Iterable[Span]) -> Iterator[Span]:
    """What of spans is in none of the others."""
    for start, end in spans:
        since = start
        for other_start, other_end in sorted(others):
            if since < other_end and other_start < end:
                yield since, other_start
                since = other_end
        yield since, end


def long_enough(spans: Iterable[Span], least_ms: int) -> tuple[Span, ...]:
    """Those that last as long, in order."""
    return tuple(sorted((start, end) for start, end in spans if end - start >= least_ms))


def _waveform(folder: Path, begins_ms: int, lasts_ms: int) -> Made:
    """How loud it is at most, in each part of the recording."""
    path = folder / "waveform.svg"
    loud = [(at_ms, value) for at_ms, name, value in _events(folder / "peaks.txt") if name.endswith("Peak_level")]
    path.write_text(waveform_svg(lasts_ms, loud), "utf-8")
    late_ms = loud[0][0] - begins_ms if loud else 0
    if late_ms <= SILENT_MS:
        return Made(Role.WAVEFORM, path, AGENT)
    # ffmpeg begins anew where samples or channels change in number, and its filters forget what was before.
    remark = f"its sound changes its form after {late_ms} ms: what is before was not listened to"
    return Made(Role.WAVEFORM, path, AGENT, complete=False, remarks=(remark,))
