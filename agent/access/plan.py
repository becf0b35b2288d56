"""What is to be done to show an original in a browser: the words for ffmpeg, the surest way last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ffmpeg

from agent.access.encoders import SOFTWARE, WAYS
from agent.access.inspecting import Inspection, Track
from agent.access.made import OUTPUT, SOURCE
from agent.config import AccessCopies, Overlay
from agent.media.formats import FORMATS
from agent.model import Facts, Medium

FONTS: Final = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    "/usr/share/fonts/opentype/noto/NotoSerifCJK-Regular.ttc",
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",
)
"""Those that have Chinese characters; Debian's packages fonts-noto-cjk and fonts-wqy-microhei."""

BROWSER_PIXELS: Final = frozenset({"yuv420p", "yuvj420p"})
BROWSER_PROFILES: Final = frozenset({"Baseline", "Constrained Baseline", "Main", "High", "Constrained High"})
_SOUNDS: Final = frozenset({"aac", "mp3", "mp3float"})
_READING: Final[Mapping[str, object]] = {
    "protocol_whitelist": "file", "format_whitelist": FORMATS, "threads": 1,
}  # fmt: skip
_COMMON: Final[Mapping[str, object]] = {
    "max_error_rate": 1,
    "map_metadata": -1,
    "map_chapters": -1,
    "fflags": "+bitexact",
}
_MOVIE: Final[Mapping[str, object]] = {
    **_COMMON, "f": "mp4", "movflags": "+faststart", "max_muxing_queue_size": 4096, "sn": None, "dn": None,
}  # fmt: skip
_COPY_PICTURES: Final[Mapping[str, object]] = {"c:v": "copy"}
# Every picture keeps its own time, so that a variable frame rate and gaps stay as they are.
_PICTURE_TIMES: Final[Mapping[str, object]] = {
    "fps_mode": "passthrough", "enc_time_base": "1:90000", "video_track_timescale": 90000, "g": 50,
    "flags:v": "+bitexact",
}  # fmt: skip
_COPY_SOUND: Final[Mapping[str, object]] = {"c:a": "copy"}
# Where sound is missing there is silence, so that what follows stays with its pictures.
_ENCODE_SOUND: Final[Mapping[str, object]] = {
    "c:a": "aac", "b:a": "64k", "af": "aresample=async=1", "flags:a": "+bitexact", "threads:a": 1,
}  # fmt: skip
_PHOTO: Final[Mapping[str, object]] = {
    **_COMMON, "f": "mjpeg", "frames:v": 1, "c:v": "mjpeg", "q:v": 3, "pix_fmt": "yuvj420p",
    "threads:v": 1, "flags:v": "+bitexact",
}  # fmt: skip


class NoCopyError(Exception):
    """No copy of this can be made; the text says in English why."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to make a copy. `words` are for ffmpeg, with SOURCE and OUTPUT for the two paths.

    `how` names it; `pictures` and `sounds` are the numbers (from 0, among their kind) of the tracks that go into the
    copy; `encoded` are the kinds of them that are encoded anew. `remarks` say what was asked for and isn't done.
    """

    how: str
    words: tuple[str, ...]
    suffix: str
    pictures: tuple[int, ...] = ()
    sounds: tuple[int, ...] = ()
    encoded: frozenset[str] = frozenset()
    encoder: str = SOFTWARE
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Choice:
    """What there is to show, and how it is wished for."""

    facts: Facts
    pictures: tuple[int, ...]
    sounds: tuple[int, ...]
    settings: AccessCopies
    font: str

    def plan(self, how: str, picture: Mapping[str, object], sound: Mapping[str, object], encoder: str = "") -> Plan:
        """A film, or sound alone; with an encoder the pictures are encoded by it."""
        way = WAYS[encoder or SOFTWARE]
        source = _source(self.facts, way.opening() if encoder else {})
        streams = [source[f"V:{number}"] for number in self.pictures]
        options: dict[str, object] = {**_MOVIE}
        remarks: tuple[str, ...] = ()
        if self.pictures:
            options |= picture
            if encoder:
                streams, remarks = [way.filtered(self._drawn(streams[0]))], self._missing()
                options |= {"c:v": encoder, "profile:v": "high", **_PICTURE_TIMES, **way.options}
        if self.sounds:
            options |= sound
        output = ffmpeg.output(*streams, *(source[f"a:{n}"] for n in self.sounds), f"file:{OUTPUT}", **options)
        encoded = {"video"} if encoder else set()
        encoded |= {"audio"} if self.sounds and sound is _ENCODE_SOUND else set()
        return Plan(
            how, tuple(output.compile()[1:]), ".mp4" if self.pictures else ".m4a", self.pictures, self.sounds,
            frozenset(encoded), encoder, remarks,
        )  # fmt: skip

    def _drawn(self, stream: Any) -> Any:  # noqa: ANN401 - ffmpeg-python has no types
        """The pictures no higher than wished, with even sides, and what is to be written into them."""
        stream = stream.filter("scale", w=-2, h=f"trunc(min(ih,{self.settings.height_px_max})/2)*2")
        if self.settings.overlay is Overlay.NOTHING or not self.font:
            return stream
        look = {"fontfile": self.font, "fontsize": "h/20", "fontcolor": "white", "borderw": 2, "x": "h/40", "y": "h/40"}
        if self.settings.overlay is Overlay.TIME:
            return stream.filter("drawtext", text="%{pts:hms}", **look)
        return stream.filter("drawtext", text=self.settings.notice, expansion="none", **look)

    def _missing(self) -> tuple[str, ...]:
        if self.settings.overlay is Overlay.NOTHING or self.font:
            return ()
        return ("nothing is written into the pictures, for want of a font (fonts-noto-cjk)",)


def plans(
    facts: Facts, source: Inspection, settings: AccessCopies, encoder: str = SOFTWARE, fonts: tuple[str, ...] = FONTS
) -> tuple[Plan, ...]:
    """All ways to show it, the last is the surest: streams are taken over as they are where a browser plays them.

    Raises NoCopyError if nothing in it can be shown.
    """
    pictures = _shown(source, "video")[:1]
    sounds = () if facts.medium is Medium.PHOTO else _shown(source, "audio")
    if facts.medium in (None, Medium.OTHER) or not pictures + sounds:
        raise NoCopyError(source.reason or facts.reason or "nothing in it can be decoded")
    if facts.medium is Medium.PHOTO:
        return (_photo(facts, settings, pictures),)
    font = next((font for font in fonts if Path(font).exists()), "")
    choice = _Choice(facts, pictures, sounds, settings, font)
    sound = _COPY_SOUND if all(_plays_sound(source.kind("audio")[number]) for number in sounds) else _ENCODE_SOUND
    ways = []
    if not pictures:
        ways = [choice.plan("sound", {}, _COPY_SOUND)] if sound is _COPY_SOUND else []
        return (*ways, choice.plan("sound encoded", {}, _ENCODE_SOUND))
    if settings.overlay is Overlay.NOTHING and _plays(facts, source.kind("video")[pictures[0]]):
        ways.append(choice.plan("remux" if sound is _COPY_SOUND else "pictures kept", _COPY_PICTURES, sound))
    names = dict.fromkeys((encoder, SOFTWARE))
    return (*ways, *(choice.plan("encoded", {}, _ENCODE_SOUND, name) for name in names))


def _photo(facts: Facts, settings: AccessCopies, pictures: tuple[int, ...]) -> Plan:
    side = settings.photo_px_max
    picture = _source(facts, {})[f"V:{pictures[0]}"]
    size = {"w": f"min(iw,{side})", "h": f"min(ih,{side})", "force_original_aspect_ratio": "decrease"}
    output = picture.filter("scale", **size).output(f"file:{OUTPUT}", **_PHOTO)
    return Plan("photo", tuple(output.compile()[1:]), ".jpg", pictures, (), frozenset({"video"}))


def _source(facts: Facts, before: Mapping[str, str]) -> Any:  # noqa: ANN401 - as above
    """The original as input: read as the format that its content was found to be, whatever its name."""
    return ffmpeg.input(f"file:{SOURCE}", f=facts.container.partition(",")[0], **before, **_READING)


def _shown(source: Inspection, kind: str) -> tuple[int, ...]:
    """Numbers of the tracks that give anything."""
    return tuple(number for number, track in enumerate(source.kind(kind)) if track.frames)


def _plays(facts: Facts, track: Track) -> bool:
    """Whether browsers play the pictures as they are; damaged ones they may refuse, while ffmpeg shows the rest."""
    stream = next((stream for stream in facts.streams if stream.codec == track.codec), None)
    plain = stream is not None and stream.pixels in BROWSER_PIXELS and stream.profile in BROWSER_PROFILES
    return track.codec == "h264" and plain and not track.bad


def _plays_sound(track: Track) -> bool:
    return track.codec in _SOUNDS and not track.bad
