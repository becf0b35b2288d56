"""Lays the segments of one source on a film's timeline, with cards where nothing was recorded; pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Final

from agent.access.timeline import clock
from agent.deadline import ZONE
from agent.model import Facts
from agent.rooms.protocol import Cause

CARD_US: Final = 500_000
"""What is missing for longer is told by a card; less is the time between two pictures of a camera that came back."""

CAUSES: Final[Mapping[str, str]] = {
    Cause.REFUSED: "摄像机拒绝连接 (refused)",
    Cause.UNAUTHORISED: "摄像机拒绝登录 (not authorised)",
    Cause.READABLE: "摄像机要求明文密码 (readable password wanted)",
    Cause.UNREACHABLE: "摄像机无法连通 (unreachable)",
    Cause.CLOSED: "摄像机断开连接 (connection closed)",
    Cause.STALLED: "摄像机停止发送 (nothing was sent)",
    Cause.GARBAGE: "收到的数据无法识别 (garbage)",
    Cause.DISK: "本机磁盘故障 (disk)",
    Cause.RECORDER: "录制程序中断 (recorder)",
}
"""Why nothing was recorded, in the words of cards and playlists."""

_WAITING: Final = "等待第一幅画面 (until the first picture came)"
_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A segment of a source: its file, what its content says, and from when to when by the station's clock (us)."""

    asset_id: str
    path: Path
    facts: Facts
    start_us: int
    end_us: int


@dataclass(frozen=True, slots=True)
class Missing:
    """From when to when the ledger says that nothing came, and why, for those who see the card.

    `is_said`: a person has explained it, with these words.
    """

    start_us: int
    end_us: int
    reason: str
    is_said: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What the film shows from `at_us` for `lasts_us`: the segment of this number, or (None) a card with `lines`."""

    at_us: int
    lasts_us: int
    part: int | None = None
    lines: tuple[str, ...] = ()


def lay(
    title: str, parts: Sequence[Part], lengths_us: Sequence[int], missing: Sequence[Missing], span_us: tuple[int, int]
) -> tuple[Piece, ...]:
    """The film of a session that lasts `span_us`: every segment whole, in order; `lengths_us` is how long each plays.

    Segments that follow each other without a gap are joined without a seam, though the camera's clock drifts away from
    the station's; a card ends when the next segment began.
    """
    zero_us, last_us = span_us
    known = _Known(missing)
    pieces: list[Piece] = []
    film_us, before_us = 0, zero_us
    for number, (part, lasts_us) in enumerate(zip(parts, lengths_us, strict=True)):
        if part.start_us - before_us >= CARD_US:
            until_us = max(part.start_us - zero_us, film_us + CARD_US)
            words = (title, before_us, part.start_us, known, *(() if number else (_WAITING,)))
            pieces.append(Piece(film_us, until_us - film_us, None, _lines(*words)))
            film_us = until_us
        pieces.append(Piece(film_us, lasts_us, number))
        film_us, before_us = film_us + lasts_us, part.end_us
    if last_us - before_us >= CARD_US:
        until_us = max(last_us - zero_us, film_us + CARD_US)
        pieces.append(Piece(film_us, until_us - film_us, None, _lines(title, before_us, last_us, known)))
    return tuple(pieces)


def places(pieces: Iterable[Piece], spans_ms: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """(segment, from, to): where in the segments a span of the film lies, in their own milliseconds."""
    spans = list(spans_ms)
    for piece in pieces:
        at_ms, until_ms = piece.at_us // 1000, (piece.at_us + piece.lasts_us) // 1000
        for start, end in spans if piece.part is not None else ():
            if start < until_ms and at_ms <= end:
                assert piece.part is not None, "as above"
                yield piece.part, max(0, start - at_ms), min(end, until_ms) - at_ms


def of_day(at_us: int, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """A time as people here read it."""
    return datetime.fromtimestamp(at_us / _SECOND, UTC).astimezone(ZONE).strftime(pattern)


class _Known:
    """What is known of times in which nothing was recorded; of thousands a card is asked for the few beside it."""

    def __init__(self, missing: Iterable[Missing]) -> None:
        self._all = sorted(missing, key=lambda one: one.start_us)
        self._starts = [one.start_us for one in self._all]
        self._reach = list(accumulate((one.end_us for one in self._all), max))

    def beside(self, start_us: int, end_us: int) -> list[tuple[int, Missing]]:
        """How long each shares with a card, and what it is, the most first; less than none for what is near it."""
        few = self._all[bisect_right(self._reach, start_us - CARD_US) : bisect_left(self._starts, end_us + CARD_US)]
        shared = [(min(end_us, one.end_us) - max(start_us, one.start_us), one) for one in few]
        return sorted((one for one in shared if one[0] > -CARD_US), key=lambda one: -one[0])


def _lines(title: str, start_us: int, end_us: int, known: _Known, unknown: str = "未知 (unknown)") -> tuple[str, ...]:
    """What a card says: whose picture is missing, from when to when, why, and what a person said of it, if any has."""
    near = known.beside(start_us, end_us)
    cause = next((one.reason for _, one in near if not one.is_said), unknown)
    said = next((one.reason for shared_us, one in near if one.is_said and shared_us > 0), "")
    same_day = of_day(start_us, "%Y-%m-%d") == of_day(end_us, "%Y-%m-%d")
    end = of_day(end_us, "%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S")
    lasts = clock((end_us - start_us) // 1000)
    return (
        title,
        "本时段无录像",
        "NOTHING WAS RECORDED",
        f"{of_day(start_us)} 至 {end}（{lasts}）",
        f"原因：{cause}",
        *([f"说明：{said}"] if said else []),
    )
