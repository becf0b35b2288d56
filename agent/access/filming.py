"""Makes one film of a source's segments: copied one behind the other, a card where nothing was recorded, checked.

What ffmpeg says of its own success proves nothing: all packets of segments and film are counted, the film is decoded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from agent import durable
from agent.access.cards import Form, card_pictures, convert, form_of, make_card, scaled, stream_of
from agent.access.encoders import SOFTWARE
from agent.access.inspecting import Bounds as Reading
from agent.access.inspecting import Inspection, inspect
from agent.access.laying import Missing, Part, Piece, lay
from agent.access.made import Made
from agent.access.plan import NoCopyError
from agent.access.tool import Bounds, ToolError, run, version
from agent.config import AccessCopies
from agent.media.formats import FORMATS
from agent.model import Integrity, Role

Busy = Callable[[], bool]

COUNTING: Final = Reading(decode_s=0, total_s=3600, cpu_s=600)
_SECOND: Final = 1_000_000
_NEAR_MS: Final = 50
_SOUND_NEAR_MS: Final = 500
_DAMAGED_SHARE: Final = 50
"""One in so many pictures may be damaged as it came from the camera; more than that is the joining's fault."""
_PATHS_LIMIT: Final = 700
_TOTAL_S: Final = 48 * 3600.0
_OUTPUT_BYTES: Final = 1 << 40
_MP4: Final = (
    "-map_metadata", "-1", "-map_chapters", "-1", "-fflags", "+bitexact", "-movflags", "+faststart", "-f", "mp4",
)  # fmt: skip
_SOUND: Final = ("-c:a", "aac", "-b:a", "64k", "-flags:a", "+bitexact", "-threads:a", "1", "-af", "aresample=async=1")


@dataclass(frozen=True, slots=True)
class Film:
    """A film, where each segment is in it, and what was counted in the segments and in the film."""

    made: Made
    pieces: tuple[Piece, ...]
    seen: tuple[Inspection, ...]
    film: Inspection


@dataclass(frozen=True, slots=True)
class Footage:
    """What a film is made of: whose segments, where the ledger has gaps, from when to when the session was (us).

    `lacks` says of which segments it can't be made.
    """

    title: str
    parts: Sequence[Part]
    missing: Sequence[Missing]
    span_us: tuple[int, int]
    lacks: tuple[str, ...] = ()


async def make_film(
    footage: Footage, folder: Path, settings: AccessCopies, encoder: str = SOFTWARE, *, is_busy: Busy
) -> Film:
    """A film of a whole session in `folder`, with cards from its start and to its end.

    What is missing in it is in its remarks, and then it isn't complete. Raises NoCopyError if nothing can be shown,
    ToolError without ffmpeg, OSError if a segment can't be opened.
    """
    seen = tuple([await inspect(part.path, bounds=COUNTING, is_busy=is_busy) for part in footage.parts])
    reason, tool = "nothing in it can be decoded", await version()
    for is_last in (False, True):
        work = _Work(footage, seen, folder, settings, SOFTWARE if is_last else encoder, is_busy, encode_all=is_last)
        if not work.shown:
            break
        try:
            film, lacks = await work.film(tool)
        except ToolError as error:
            reason = str(error)
        else:
            if not lacks or (is_last and any(track.frames for track in film.film.tracks)):
                remarks = (*lacks, *film.made.remarks)
                return replace(film, made=replace(film.made, remarks=remarks, complete=not remarks))
            reason = "; ".join(lacks)
        durable.remove_work(folder)
        durable.make_dir(folder)
    raise NoCopyError(reason)


@dataclass(frozen=True, slots=True)
class _Work:
    """One attempt at a film. `encode_all` is the surest way."""

    footage: Footage
    seen: tuple[Inspection, ...]
    folder: Path
    settings: AccessCopies
    encoder: str
    is_busy: Busy
    encode_all: bool

    @property
    def kind(self) -> str:
        """What is shown: video, or sound alone."""
        return "video" if any(one.of("video") for one in self.seen) else "audio"

    @property
    def shown(self) -> list[int]:
        """Numbers of the segments that have it."""
        return [number for number in range(len(self.seen)) if self.length_us(number)]

    def length_us(self, number: int) -> int:
        """How long a segment plays; its last picture lasts as long as the others, whatever its file says."""
        track = self.seen[number].of(self.kind)
        if track is None or not track.span_ms:
            return 0
        stream = stream_of(self.footage.parts[number], self.kind)
        over, _, under = (stream.fps if stream else "").partition("/")
        step_ms = 1000 * int(under or 1) / int(over) if over.isdigit() and int(over) else 0.0
        is_short = abs(track.span_ms - (track.packets - 1) * step_ms) < step_ms / 2
        return round(1000 * (track.span_ms + (step_ms if is_short else 0)))

    async def film(self, tool: str) -> tuple[Film, list[str]]:
        """The film, and what is not in it though it ought to be."""
        parts, shown = self.footage.parts, self.shown
        laid = lay(
            self.footage.title, [parts[number] for number in shown], [self.length_us(number) for number in shown],
            self.footage.missing, self.footage.span_us,
        )  # fmt: skip
        pieces = tuple(piece if piece.part is None else replace(piece, part=shown[piece.part]) for piece in laid)
        forms = {number: form_of(parts[number]) for number in shown}
        form = self._form(forms)
        files = {number: await self._fitting(number, forms[number], form) for number in shown}
        words = await self._joining(pieces, files, form)
        path, part = self.folder / "film.mp4", self.folder / f"film{durable.PART_SUFFIX}"
        reads = list(files.values()) if len(files) <= _PATHS_LIMIT else [parts[0].path.parents[1]]
        await self._run([*words, f"file:{part}"], reads, [])
        film = await inspect(part, is_busy=self.is_busy)
        durable.rename_no_replace(part, path)
        converted = [number for number in shown if files[number] != parts[number].path]
        counts = {
            "film": [asdict(track) for track in film.tracks], "offset_ms": film.offset_ms, "converted": len(converted),
            "pieces": [[piece.at_us, piece.lasts_us, piece.part] for piece in pieces],
        }  # fmt: skip
        losses = tuple(self._losses(film))
        made = Made(Role.ACCESS_COPY, path, tool, tuple(words), False, not losses, losses, counts)
        return Film(made, pieces, self.seen, film), list(self._lacks(pieces, film, form))

    def _form(self, forms: Mapping[int, Form]) -> Form:
        """The form of most of them; what is encoded is H.264, and then AAC."""
        most = Counter(form.joins for form in forms.values()).most_common(1)[0][0]
        form = next(form for form in forms.values() if form.joins == most)
        if self.kind == "video" and (self.encode_all or not form.plays):
            wanted = replace(form, plays=not self.encode_all, timescale=90_000, sound=form.sound and "aac")
            return scaled(wanted, self.settings)
        return replace(form, sound="aac") if form.sound and self.kind == "audio" else form

    async def _fitting(self, number: int, form: Form, wanted: Form) -> Path:
        """The segment itself if it has the wanted form, else a converted one."""
        part, path = self.footage.parts[number], self.folder / f"{number}.mov"
        is_whole = part.facts.integrity is Integrity.COMPLETE  # else reading it would end the whole list
        if is_whole and form.joins == wanted.joins and not self.encode_all:
            return part.path
        lasts_s = self.length_us(number) / _SECOND
        await convert(part, form, wanted, lasts_s, path, self.settings, self.encoder, self._run)
        return path

    async def _joining(self, pieces: Sequence[Piece], files: Mapping[int, Path], form: Form) -> list[str]:
        """Make the cards and the list of all files with their places; ffmpeg's words for it, but for the film's name.

        A file's place is that of its first packet, which may be sound that is earlier than the first picture.
        """
        leads = {number: 1000 * (track.first_ms or 0) for number in files if (track := self.seen[number].of(self.kind))}
        first_us = next(leads[piece.part] for piece in pieces if piece.part is not None)
        names, starts = [], []
        for number, piece in enumerate(pieces):
            lead_us = 0 if piece.part is None else leads[piece.part]
            starts.append(piece.at_us + first_us - lead_us)
            names.append(str(files[piece.part]) if piece.part is not None else f"card{number}.mov")
            if piece.part is None:
                await make_card(piece.lines, piece.lasts_us, form, self.folder / names[-1], self._run)
        ends = [*starts[1:], pieces[-1].at_us + pieces[-1].lasts_us + first_us]
        lines = ["ffconcat version 1.0"]
        for name, start, end in zip(names, starts, ends, strict=True):
            lines += ["file '" + name.replace("'", "'\\''") + "'", f"duration {(end - start) / _SECOND:.6f}"]
        (self.folder / "list.ffconcat").write_text("\n".join([*lines, ""]), "utf-8")
        words = ["-max_error_rate", "1", "-protocol_whitelist", "file", "-format_whitelist", f"concat,{FORMATS}"]
        words += ["-f", "concat", "-safe", "0", "-i", "file:list.ffconcat"]
        words += ["-map", "0:V:0", "-c:v", "copy"] if self.kind == "video" else []
        words += ["-map", "0:a:0", *(("-c:a", "copy") if self._sound_kept(pieces, form) else _SOUND)] * bool(form.sound)
        return [*words, *_MP4]

    def _sound_kept(self, pieces: Sequence[Piece], form: Form) -> bool:
        """Where something is missing there has to be silence: a browser would go on with what comes next."""
        return form.sound == "aac" and all(piece.part is not None for piece in pieces) and not any(
            one.jumped for one in self.seen
        )  # fmt: skip

    async def _run(self, words: Sequence[str], reads: Sequence[Path], devices: Sequence[Path]) -> None:
        bounds = Bounds(total_s=_TOTAL_S, cpu_s=int(_TOTAL_S), output_bytes=_OUTPUT_BYTES)
        await run(words, reads=reads, folder=self.folder, bounds=bounds, is_busy=self.is_busy, devices=devices)

    def _lacks(self, pieces: Sequence[Piece], film: Inspection, form: Form) -> Iterator[str]:
        """What is not in the film though it is in the segments, or can't be decoded."""
        if not film.ended:
            yield f"the film can't be read to its end: {film.reason}"
        lasts_ms = (pieces[-1].at_us + pieces[-1].lasts_us) // 1000
        own = [track for number in self.shown if (track := self.seen[number].of(self.kind))]
        track = film.of(self.kind)
        if track is None:
            yield "there is nothing in the film"
        elif self.kind == "video":
            cards = sum(card_pictures(piece.lasts_us) for piece in pieces if piece.part is None)
            whole = sum(one.packets for one in own) + cards
            cut = sum(part.facts.integrity is not Integrity.COMPLETE for part in self.footage.parts)
            if not whole - cut <= track.packets <= whole:  # where a file ends, half a picture may be left
                yield f"{track.packets} of {whole} pictures are in the film"
            if track.bad * _DAMAGED_SHARE > track.packets:
                yield f"{track.bad} packets of the film's video can't be decoded"
            if abs((track.span_ms or 0) - lasts_ms) > _NEAR_MS:
                yield f"the film's video lasts {track.span_ms} ms, not {lasts_ms} ms"
        sound = film.of("audio")
        if form.sound and (sound is None or abs((sound.span_ms or 0) - lasts_ms) > _SOUND_NEAR_MS):
            yield f"the film's audio lasts {sound.span_ms if sound else 0} ms, not {lasts_ms} ms"

    def _losses(self, film: Inspection) -> Iterator[str]:
        """What is wrong with the segments, so that no film of them can be whole."""
        yield from self.footage.lacks
        for number, part in enumerate(self.footage.parts):
            if number not in self.shown:
                yield f"segment {number + 1} has no {self.kind}"
            elif part.facts.integrity is not Integrity.COMPLETE:
                yield f"segment {number + 1} is {part.facts.integrity}: {part.facts.reason}"
        for track in film.tracks:
            if track.bad:
                yield f"{track.bad} packets of the film's {track.kind} can't be decoded"
