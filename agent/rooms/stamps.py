"""What FFmpeg says of the times of a track's packets, made so that they can be placed.

The first have no time; and by the first sender report FFmpeg moves a track to where the camera says it belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median_low
from typing import Final, TypeAlias

from av.packet import Packet
from av.stream import Stream

from agent.rooms.timing import SECOND_US, Line

_TIMELESS_LIMIT: Final = 100
_REORDERED: Final = 3
"""So many pictures may be shown before one that came before them."""
_SETTLED: Final = 8
"""So many pictures later FFmpeg's DTS of pictures in another order has followed."""
_ASSUMED_STEP_US: Final = 40_000

Packets: TypeAlias = "list[Packet[Stream]]"
Early: TypeAlias = Callable[[int], int]


class Stamps:
    """The packets of one track on their way to its `line`; `is_plain`: none is held back any more if it has a time.

    `is_reported`: whether a sender report moves the track; FFmpeg does so if there are several. `is_parsed`: FFmpeg
    gives a picture out when the next one begins, with the next one's report. `others`: the tracks to be moved so that
    pictures go on as they did; sound has none. `early_us`: how much earlier than it should something of a time is here.
    """

    def __init__(
        self, line: Line, *, is_reported: bool, is_parsed: bool, others: Sequence[Line] | None, early_us: Early
    ) -> None:
        self._line, self._others, self._early_us = line, others, early_us
        self._is_reported, self._until_moved = is_reported, 1 + is_parsed
        self._held: Packets = []
        self.is_plain = False

    def ready(self, packet: Packet[Stream], *, has_report: bool, has_waited: bool) -> Packets:
        """Those that can be placed now that this one came, each with a time. `has_report`: FFmpeg knows one for it."""
        if not self._line.at_us:
            return self._started(packet)
        if packet.dts is None:
            if not packet.size:
                return []
            packet.dts = self._line.last - self._line.shift + max(1, self._line.typical)
        if self.is_plain or not self._is_reported:
            self.is_plain = True
            return [packet]
        if self._until_moved and has_report:
            self._until_moved -= 1
        return [packet] if self._until_moved else self._moved(packet, has_waited=has_waited)

    # The start.

    def _started(self, packet: Packet[Stream]) -> Packets:
        """FFmpeg knows no DTS of what comes first, which is the first key frame: it waits until one is known."""
        held = self._held
        if packet.dts is None:
            if packet.size and len(held) < _TIMELESS_LIMIT:
                held.append(packet)
            return []
        if held and held[0].pts is None and sum(one.dts is not None for one in held) < _REORDERED:
            held.append(packet)  # pictures that are shown before it may follow it
            return []
        self._held = []
        return self._timed(held, packet)

    def _timed(self, held: Packets, packet: Packet[Stream]) -> Packets:
        """Those that were held come one after the other before this packet, and are shown in its order."""
        assert packet.dts is not None
        shown = sorted(one.pts for one in (*held, packet) if one.pts is not None)
        # FFmpeg's guess of it may be wrong
        step = median_low([b - a for a, b in pairwise(shown)]) if len(shown) > 1 else 0
        if not 0 < step <= self._line.ticks(SECOND_US):
            step = packet.duration or self._line.ticks(_ASSUMED_STEP_US)
        for at, one in enumerate(held):
            one.dts = packet.dts - step * (len(held) - at)
            if one.pts is None:
                one.pts = min(shown, default=one.dts) - step
                shown.append(one.pts)
        return [*held, packet]

    # The first sender report.

    def _moved(self, packet: Packet[Stream], *, has_waited: bool) -> Packets:
        """The first packet that was moved is here. Of pictures in another order only later ones tell by how much."""
        assert packet.dts is not None
        line, held = self._line, self._held
        held.append(packet)
        if self._others is not None and held[0].pts != held[0].dts and len(held) < _SETTLED:
            return []
        self._held, self.is_plain = [], True
        step = line.typical or line.step
        by = packet.dts + line.shift - line.last - step * len(held)
        if not step or abs(line.us(by)) > SECOND_US:  # that is no correction
            return held
        # Pictures may be missing just here: then this one isn't earlier than its time says.
        if by > step // 2 and has_waited and self._early_us(line.us(packet.dts + line.shift)) < line.us(by) // 2:
            return held
        for at, one in enumerate(held):
            one.dts = packet.dts - step * (len(held) - 1 - at)
        if self._others is None:
            line.last += max(0, by)  # there is no sound in between; none is missing
            return held
        line.shift -= by
        for other in self._others:
            other.move(-line.us(by))
        return held
