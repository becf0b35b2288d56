"""Asks the probe child what an original says of itself, checks every line of the answer, and judges if it is whole."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from agent.checked import number, plain, text
from agent.child import Child, ChildError
from agent.model import Facts, Integrity, Measured, Medium, StreamFacts

ATTEMPTS: Final = 2
STREAMS_LIMIT: Final = 32
_text: Final = partial(text, limit=100)
_number: Final = partial(number, limit=1 << 62)
_LINES_LIMIT: Final = 10_000
_MISSING_MS: Final = 2000
# Containers whose header states the duration; for others FFmpeg guesses it from the bit rate.
_STATED_BY: Final = frozenset({"mov", "avi", "matroska", "flv", "asf"})
_LAST: Final[Mapping[str, Measured]] = {way.value: way for way in (Measured.PACKETS, Measured.TAIL, Measured.PARTIAL)}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one reading: silence and time in all, processor time, memory."""

    stall_s: float = 120.0
    total_s: float = 1800.0
    cpu_s: int = 60
    memory_bytes: int = 1 << 30


DEFAULT_LIMITS: Final = Limits()


@dataclass(slots=True)
class Answer:
    """What the child has said so far, checked line by line; `facts` is what that means.

    `counted`: packets of video and of audio, and how many microseconds they play; empty unless all were read.
    """

    medium: Medium | None = None
    container: str = ""
    header_ms: int | None = None
    created: str = ""
    gps: str = ""
    stream_count: int = 0
    streams: list[StreamFacts] = field(default_factory=list)
    damage: tuple[Integrity, str] | None = None
    span_ms: int | None = None
    way: Measured = Measured.NOTHING
    broken: str = ""
    signed: str = ""
    counted: dict[str, tuple[int, int]] = field(default_factory=dict)
    taken: tuple[str, str] = ("", "")
    error: str = ""
    ended: bool = False

    def feed(self, line: object) -> None:
        """Take one line; raises ChildError for what can't be an answer."""
        if self.ended:
            raise ChildError("went on after its end")
        match line:
            case {"read": int()}:
                pass
            case {"damage": [str(kind), str(reason)]} if kind in ("truncated", "suspect"):
                self.damage = Integrity(kind), text(reason)
            case {"container": str(name), "medium": str(medium), **rest}:
                self._container(name, medium, rest)
            case {"stream": dict(track)} if len(self.streams) < STREAMS_LIMIT:
                self.streams.append(_stream(track))
            case {"packets": {"way": str(way), "count": count, "span_ms": span, **rest}} if way in _LAST:
                self.way, self.broken, self.signed = _LAST[way], _text(rest.get("broken")), _text(rest.get("signed"))
                self.span_ms = _number(span) if span is not None else None
                if self.way is Measured.PACKETS:
                    self.counted = {kind: _counted(rest.get(kind)) for kind in ("video", "audio")}
                if _number(count) == 0:
                    self.broken = self.broken or "it holds neither picture nor sound"
            case {"photo": {"taken": taken, "zone": zone, "gps": gps, "rotation_deg": turned}} if self.streams:
                self.taken, self.gps = (_text(taken), _text(zone)), _text(gps)
                self.streams[0] = replace(self.streams[0], rotation_deg=_number(turned))
            case {"error": reason}:
                self.error, self.ended = _text(reason) or "unreadable", True
            case {"end": True}:
                self.ended = True
            case _:
                raise ChildError("reported something that was not asked")

    def _container(self, name: str, medium: str, line: Mapping[object, object]) -> None:
        if medium not in list(Medium):
            raise ChildError("reported a medium that there is not")
        header = line.get("header_ms")
        self.medium, self.container = Medium(medium), _text(name)
        self.header_ms = _number(header) if header is not None else None
        self.stream_count = _number(line.get("streams"))
        self.created, self.gps = _text(line.get("created")), _text(line.get("gps"))

    def facts(self) -> Facts:
        """What all lines together say."""
        measured, duration_ms = self.way, self.span_ms
        if (duration_ms is None or measured is Measured.PARTIAL) and self.header_ms is not None:
            measured, duration_ms = Measured.HEADER, self.header_ms
        integrity, reason = self._integrity()
        taken, zone = self.taken
        return Facts(
            medium=self.medium,
            integrity=integrity,
            reason=reason,
            container=self.container,
            duration_ms=duration_ms,
            measured=measured if duration_ms is not None else Measured.NOTHING,
            header_ms=self.header_ms,
            streams=tuple(self.streams),
            stream_count=self.stream_count,
            created=self.created,
            taken=taken,
            taken_zone=zone,
            gps=self.gps,
            signed_stream=self.signed,
        )

    def _integrity(self) -> tuple[Integrity, str]:
        if self.damage is not None:
            return self.damage
        if self.error:
            return Integrity.UNREADABLE, self.error
        if self.broken:
            return Integrity.SUSPECT, self.broken
        if self.way is Measured.PARTIAL:
            return Integrity.SUSPECT, "it has too much in it to be read to its end"
        stated = self.header_ms if _STATED_BY & set(self.container.split(",")) else None
        if stated is not None and self.way is not Measured.NOTHING:
            missing_ms = stated - (self.span_ms or 0)
            if missing_ms > max(_MISSING_MS, stated // 100):
                return Integrity.SUSPECT, f"the last {missing_ms / 1000:.1f} s that its header tells of are missing"
        return Integrity.COMPLETE, ""


async def probe(fd: int, *, gps: bool, limits: Limits = DEFAULT_LIMITS) -> Facts:
    """The facts of the original that is open read-only as `fd`; a child that dies or lies twice is a fact, too."""
    return (await asked(fd, gps=gps, limits=limits)).facts()


async def asked(fd: int, *, gps: bool, limits: Limits = DEFAULT_LIMITS) -> Answer:
    """As `probe`, with what was counted."""
    answer, error = Answer(), ""
    for _ in range(ATTEMPTS):
        answer = Answer()
        try:
            async with asyncio.timeout(limits.total_s):
                await _ask(answer, fd, gps, limits)
            return answer
        except ChildError as failure:
            error = f"the reader of its content {failure}"
        except TimeoutError:
            error = f"the reader of its content did not end within {limits.total_s:g} s"
    answer.error = plain(error)
    return answer


async def _ask(answer: Answer, fd: int, gps: bool, limits: Limits) -> None:
    arguments = [str(fd), str(limits.cpu_s), str(limits.memory_bytes), str(int(gps))]
    child = await Child.start("agent.media.reader", arguments, stall_limit_s=limits.stall_s, pass_fds=[fd])
    try:
        for _ in range(_LINES_LIMIT):
            line = await child.line()
            if line is None:
                break
            answer.feed(line)
        if not answer.ended:
            raise ChildError("ended before it had told everything")
    finally:
        await child.stop()


def _counted(told: object) -> tuple[int, int]:
    match told:
        case [number, span_us]:
            return _number(number), _number(span_us)
    raise ChildError("reported something that is no count")


def _stream(track: dict[str, object]) -> StreamFacts:
    duration = track.get("duration_ms")
    return StreamFacts(
        kind=_text(track.get("kind")),
        codec=_text(track.get("codec", "")),
        width=_number(track.get("width", 0)),
        height=_number(track.get("height", 0)),
        fps=_text(track.get("fps", "")),
        rate_hz=_number(track.get("rate_hz", 0)),
        channels=_number(track.get("channels", 0)),
        duration_ms=_number(duration) if duration is not None else None,
        pixels=_text(track.get("pixels", "")),
        profile=_text(track.get("profile", "")),
        rotation_deg=_number(track.get("rotation_deg", 0)),
    )
