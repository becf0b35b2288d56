"""Has the inspect child read a recording or a copy to its end, and checks every line of its answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from agent import durable
from agent.access.watching import never, watch
from agent.checked import count, number, places, text
from agent.child import Child, ChildError

TRACKS_LIMIT: Final = 32
PLACES_LIMIT: Final = 200
_LINES_LIMIT: Final = 100_000

Places = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Time without a sign of life and in all, not counting that in which it is stopped; processor time; memory.

    After `decode_s` of processor time packets are only counted.
    """

    stall_s: float = 120.0
    total_s: float = 6 * 3600.0
    decode_s: int = 2 * 3600
    cpu_s: int = 3 * 3600
    memory_bytes: int = 2 << 30


DEFAULT_BOUNDS: Final = Bounds()


@dataclass(frozen=True, slots=True)
class Track:
    """What is in a track. Times are in milliseconds since the first picture or sound of the file.

    `first_ms`, `span_ms`: its packets. `frames`, `shown_ms`: what they gave, and when that begins. `bad`: packets that
    gave nothing, and damaged pictures; `undecodable` (from, to) are the first places of these. `jumps` (at, by) are the
    first of `jumped` places where its time goes on further than it usually does, or back.
    """

    kind: str
    codec: str
    packets: int
    first_ms: int | None
    span_ms: int | None
    frames: int
    shown_ms: int | None
    bad: int
    jumped: int
    jumps: Places
    undecodable: Places


@dataclass(frozen=True, slots=True)
class Inspection:
    """All tracks (but covers, these are pictures on sound); if it is not `ended` there may be more than was read."""

    tracks: tuple[Track, ...] = ()
    ended: bool = False
    reason: str = ""

    @property
    def jumped(self) -> int:
        """At how many places time jumps, in all tracks."""
        return sum(track.jumped for track in self.tracks)

    def kind(self, kind: str) -> list[Track]:
        """All tracks of a kind."""
        return [track for track in self.tracks if track.kind == kind]

    def of(self, kind: str) -> Track | None:
        """The first track of a kind that has something in it."""
        return next((track for track in self.tracks if track.kind == kind and track.packets), None)

    @property
    def offset_ms(self) -> int | None:
        """How much later than its pictures its sound begins."""
        video, audio = self.of("video"), self.of("audio")
        if video is None or audio is None or video.shown_ms is None or audio.shown_ms is None:
            return None
        return audio.shown_ms - video.shown_ms


@dataclass(slots=True)
class _Answer:
    """What the child has said so far."""

    tracks: list[Track] = field(default_factory=list)
    reason: str = ""
    heard: int = 0

    async def listen(self, child: Child) -> None:
        """Take all lines; raises ChildError for what can't be an answer."""
        ended = False
        while (line := await child.line()) is not None:
            self.heard += 1
            match line:
                case _ if ended or self.heard > _LINES_LIMIT:
                    raise ChildError("went on after its end")
                case {"read": int()}:
                    pass
                case {"track": dict(track)} if len(self.tracks) < TRACKS_LIMIT:
                    self.tracks.append(_track(track))
                case {"end": reason}:
                    self.reason, ended = text(reason), True
                case _:
                    raise ChildError("reported something that was not asked")
        if not ended:
            raise ChildError("ended before it had told everything")


async def inspect(path: Path, *, bounds: Bounds = DEFAULT_BOUNDS, is_busy: Callable[[], bool] = never) -> Inspection:
    """What is in the file; never raises for what is wrong with it. Raises OSError if it can't be opened.

    A file at which the child died is read once more without decoding, so that its packets are known.
    """
    with durable.opened(path) as fd:
        try:
            return await _ask(fd, bounds, bounds.decode_s, is_busy)
        except ChildError as error:
            reason = f"the reader of its content {error}"
        try:
            again = await _ask(fd, bounds, 0, is_busy)
        except ChildError:
            return Inspection(reason=text(reason))
        return replace(again, ended=False, reason=text(reason))


async def _ask(fd: int, bounds: Bounds, decode_s: int, is_busy: Callable[[], bool]) -> Inspection:
    answer, words = _Answer(), [str(fd), str(decode_s), str(bounds.cpu_s), str(bounds.memory_bytes)]
    child = await Child.start("agent.access.inspector", words, stall_limit_s=math.inf, pass_fds=[fd])
    await watch(
        child, answer.listen(child), lambda: (answer.heard,),
        stall_s=bounds.stall_s, total_s=bounds.total_s, is_busy=is_busy,
    )  # fmt: skip
    return Inspection(_since_begin(answer.tracks), ended=not answer.reason, reason=answer.reason)


def _since_begin(tracks: list[Track]) -> tuple[Track, ...]:
    begins = [track.first_ms if track.shown_ms is None else track.shown_ms for track in tracks]
    zero = min((at for at in begins if at is not None), default=0)

    def since(at: int | None) -> int | None:
        return None if at is None else at - zero

    return tuple(
        replace(
            track,
            first_ms=since(track.first_ms),
            shown_ms=since(track.shown_ms),
            jumps=tuple((at - zero, by) for at, by in track.jumps),
            undecodable=tuple((begin - zero, end - zero) for begin, end in track.undecodable),
        )
        for track in tracks
        if track.kind != "cover"
    )


def _track(line: dict[str, object]) -> Track:
    return Track(
        kind=text(line.get("kind")),
        codec=text(line.get("codec")),
        packets=count(line.get("packets")),
        first_ms=_moment(line.get("first_ms")),
        span_ms=_moment(line.get("span_ms")),
        frames=count(line.get("frames")),
        shown_ms=_moment(line.get("shown_ms")),
        bad=count(line.get("bad")),
        jumped=count(line.get("jumped")),
        jumps=places(line.get("jumps"), PLACES_LIMIT),
        undecodable=places(line.get("undecodable"), PLACES_LIMIT),
    )


def _moment(value: object) -> int | None:
    return None if value is None else number(value)
