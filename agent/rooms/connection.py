"""One connection to a camera while it lasts: its packets become segments that begin at key frames, and what is told."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from agent.rooms.parameters import sets_before, size_of
from agent.rooms.protocol import Back, Begun, Cause, Closed, Kind, Lost, Noticed, Report, Why
from agent.rooms.stamps import Stamps
from agent.rooms.timing import SECOND_US, Arrival, Clock, Line, Odd, Oddity, Shifts
from agent.rooms.writer import FAILED, Flusher, Input, Segment, described, fits

_LOOK_US: Final = 100_000
_SOUND_LOOK_US: Final = 500_000
_TELL_US: Final = 1_000_000
_UNSEEN_US: Final = 10_000_000
_SETTLED_US: Final = 1_500_000
_TRY_DISK_US: Final = 2_000_000
_ROOM_BYTES: Final = 16 << 20
_REFUSED_LIMIT: Final = 250
_CLOCK_OFF_US: Final = 1_000_000
_PARSED: Final = frozenset({"h264", "hevc"})
"""FFmpeg gives such a picture out when the next one begins, with what the camera reported by then."""
_CLOCK_EACH_US: Final = 60_000_000
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG})

Say = Callable[[Report], None]
See: TypeAlias = "Callable[[Packet[Stream]], None]"


@dataclass(slots=True)
class Totals:
    """What a source has written in all, over its connections; `outage_us`: since when nothing is, if so."""

    number: int
    media_us: int = 0
    size_bytes: int = 0
    video_bytes: int = 0
    audio_bytes: int = 0
    outage_us: int | None = None


@dataclass(slots=True)
class _Begun:
    """What is known of the segment that is open: where it begins on the media's line, and by which clocks."""

    segment: Segment
    media_us: int
    start_us: int | None
    now_us: int
    is_told: bool = False


def wall_us() -> int:
    """Microseconds since 1970 by the station's clock."""
    return time.time_ns() // 1000


class Connection:
    """Takes each packet of one connection. One thread uses it, or another one under the source's lock.

    `segment_us`: how long a segment is at least. `see` looks at pictures and sound, if anything does.
    """

    def __init__(
        self, source: str, folder: Path, container: InputContainer, totals: Totals, say: Say, flusher: Flusher,
        *, segment_us: int, stall_us: int, see: See | None,
    ) -> None:  # fmt: skip
        self._source, self._folder, self._totals, self._say, self._flusher = source, folder, totals, say, flusher
        self._segment_us, self._stall_us, self._see = segment_us, stall_us, see
        pictures = [stream for stream in container.streams.video if fits(stream)][:1]
        sound = [stream for stream in container.streams.audio if fits(stream)][:1]
        self.streams: tuple[Stream, ...] = (*pictures, *sound)
        if not self.streams:
            raise ValueError("no track that can be kept")
        self.left_out = len(container.streams.audio) > len(sound)
        shifts = Shifts()
        self._lines = {
            s.index: Line((s.time_base or 1).numerator, (s.time_base or 1).denominator, shifts) for s in self.streams
        }
        self._lead_index, self._last_index = self.streams[0].index, self.streams[-1].index
        self._lead = self._lines[self._lead_index]
        self._codec = self.streams[0].codec_context.name if pictures else ""
        self._clock, self._arrival = Clock(), Arrival()
        is_reported = len(container.streams) > 1  # what can't be kept counts for FFmpeg, too
        self._stamps = {s.index: self._stamps_of(s, is_reported=is_reported) for s in self.streams}
        self._open: _Begun | None = None
        self._sets, self._size = b"", (0, 0)
        self._is_undescribed = bool(self._codec) and not described(self.streams[0]).width  # it was opened too soon
        self._cut_for: Why | None = None
        self._tell_us = self._seen_us = self._full_until_us = self._end_us = 0
        self._look_us = dict.fromkeys(self._lines, 0)
        self._began_us = wall_us()
        self._damaged = self._refused = 0
        self._camera_us: dict[int, int] = {}
        self._lag_us: dict[int, int] = {}
        self._clock_told_us = self._clock_next_us = 0
        self._still: dict[int, int] = {}

    def take(self, packet: Packet[Stream], now_us: int, *, has_waited: bool = True) -> None:
        """A packet came at `now_us` (monotonic). Raises what `FAILED` has if that can't go on.

        `has_waited`: we for it, not it for us; only then is it known when it arrived.
        """
        stamps = self._stamps[packet.stream_index]
        if stamps.is_plain and packet.dts is not None:
            self._take(packet, now_us, has_waited=has_waited)
            return
        has_report = packet.has_sidedata("prft")
        for one in (ready := stamps.ready(packet, has_report=has_report, has_waited=has_waited)):
            self._take(one, now_us, has_waited=has_waited and one is ready[-1])

    def _take(self, packet: Packet[Stream], now_us: int, *, has_waited: bool) -> None:
        index = packet.stream_index
        line = self._lines[index]
        assert packet.dts is not None
        placed = line.place(packet.dts, now_us)
        if self._see is not None:
            self._see(packet)
        if line is self._lead and packet.is_keyframe:
            self._at_key(packet, placed, now_us, has_waited=has_waited)
        begun = self._open
        if begun is None:
            return
        if packet.is_corrupt:
            self._damaged += 1
        size = packet.size
        try:
            begun.segment.write(packet, placed)
        except FAILED as error:
            self._cant_write(error, now_us)
            return
        if self._codec and line is self._lead:
            self._totals.video_bytes += size
        else:
            self._totals.audio_bytes += size
        look_us = self._look_us[index]
        if now_us >= look_us and (has_waited or now_us >= look_us + _TELL_US):
            self._look(packet, index, now_us, has_waited=has_waited)

    def _stamps_of(self, stream: Stream, *, is_reported: bool) -> Stamps:
        is_lead = stream.index == self._lead_index
        return Stamps(
            self._lines[stream.index], is_reported=is_reported,
            is_parsed=stream.codec_context.name in _PARSED, early_us=self._early_us,
            others=[line for line in self._lines.values() if line is not self._lead] if is_lead else None,
        )  # fmt: skip

    def _early_us(self, media_us: int) -> int:
        return SECOND_US if self._arrival.offset_us is None else self._arrival.wall_us(media_us) - wall_us()

    def is_due(self, now_us: int) -> bool:
        """Whether a track is to be looked at: its next packet is worth waiting for, unless it is a second late."""
        return any(0 <= now_us - look_us < _TELL_US for look_us in self._look_us.values())

    @property
    def has_recorded(self) -> bool:
        """Whether a file was ever begun."""
        return self._arrival.offset_us is not None

    def written(self) -> tuple[int, int]:
        """How long the open file plays so far, and its size; from any thread, roughly."""
        begun = self._open
        if begun is None:
            return 0, 0
        return max(0, self._lead.us(self._lead.last) - begun.media_us), begun.segment.flushed_bytes

    def end(self, why: Why) -> int:
        """Close the segment that is open, if one is; when the last that was recorded arrived."""
        line = self._lead
        end_media_us = line.us(line.last + line.typical)
        if self._open is not None:
            self._tell(line.at_us)
            self._close(why, end_media_us)
        return self._arrival.wall_us(end_media_us) if self._arrival.offset_us is not None else self._began_us

    # Segments.

    def _at_key(self, packet: Packet[Stream], placed: int, now_us: int, *, has_waited: bool) -> None:
        media_us, begun = self._lead.us(placed), self._open
        sets = sets_before(packet, self._codec, self._sets)
        if sets and self._sets and sets != self._sets:
            self._cut_for = Why.CHANGED
            self._size = size_of(packet, self._codec)
            self._say(Noticed(self._source, Kind.CHANGED, wall_us(), wall_us(), track="video"))
        elif self._is_undescribed:
            self._is_undescribed, self._size = False, size_of(packet, self._codec)
        self._sets = sets or self._sets
        if begun is not None:
            if self._cut_for is None and media_us - begun.media_us < self._segment_us:
                return
            self._see_arrival(media_us, now_us, has_waited=has_waited)
            self._close(self._cut_for or Why.LENGTH, media_us)
        elif now_us < self._full_until_us or not self._has_room(now_us):
            return
        else:
            self._see_arrival(media_us, now_us, has_waited=has_waited)
        self._begin(media_us, now_us, is_first=begun is None)

    def _see_arrival(self, media_us: int, now_us: int, *, has_waited: bool) -> None:
        """When media arrives; what waited for us tells that only if nothing else does."""
        if has_waited or self._arrival.offset_us is None or now_us - self._seen_us > _UNSEEN_US:
            self._arrival.look(media_us, wall_us(), now_us)
            self._seen_us = now_us

    def _begin(self, media_us: int, now_us: int, *, is_first: bool) -> None:
        """Open the next file. Sound that belongs before the key frame is kept, but not from before the first one."""
        self._cut_for = None
        base_us = media_us
        if not is_first:
            others = (line.us(line.last + line.typical) for line in self._lines.values() if line.last)
            base_us = min((media_us, *(us for us in others if media_us - us < _TELL_US)))
        said = {self._lead_index: (self._sets, self._size)}
        inputs = [Input(s, self._lines[s.index], *said.get(s.index, ())) for s in self.streams]
        segment = Segment(self._folder, self._source, self._totals.number, inputs, base_us, is_first=is_first)
        self._totals.number = segment.number + 1
        start_us = None if is_first else self._end_us
        self._open = _Begun(segment, media_us, start_us, now_us)
        self._lag_us.clear()
        self._look_us = dict.fromkeys(self._lines, now_us)

    def _close(self, why: Why, end_media_us: int) -> None:
        """Close the file; how long it plays counts from its first key frame."""
        begun, self._open = self._open, None
        assert begun is not None
        segment = begun.segment
        self._settle(begun)
        media_us = max(0, end_media_us - begun.media_us)
        end_us = self._end_us = max(begun.start_us or 0, self._arrival.wall_us(end_media_us))
        try:
            segment.close()
        except FAILED:
            why = Why.DISK
        self._settle(begun)
        self._totals.media_us += media_us
        self._totals.size_bytes += segment.size_bytes()
        camera = self._camera_us.get(self._lead_index)
        av_us = None
        if len(self._lag_us) > 1:  # a picture is complete when the next one begins
            picture_us = self._lead.us(self._lead.typical) if self._codec in {"h264", "hevc"} else 0
            av_us = self._lag_us[self._last_index] - self._lag_us[self._lead_index] + picture_us

        def say() -> None:
            start_us = begun.start_us or self._began_us
            if segment.size_bytes():
                self._say(
                    Closed(
                        self._source, segment.number, segment.path.name, why, start_us, end_us, media_us,
                        segment.size_bytes(), segment.frames, segment.samples, segment.tracks,
                        None if camera is None else camera + begun.media_us, av_us,
                    )
                )  # fmt: skip

        self._flusher.finish(segment, say)

    def _settle(self, begun: _Begun) -> None:
        """Now it is known when the file's first picture arrived; if that ends an outage, say so."""
        if begun.start_us is None:
            begun.start_us = self._arrival.wall_us(begun.media_us)
        if self._totals.outage_us is not None and begun.segment.size_bytes():
            self._say(Back(self._source, max(begun.start_us, self._totals.outage_us)))
            self._totals.outage_us = None

    # The disk.

    def _cant_write(self, error: BaseException, now_us: int) -> None:
        """A full disk ends the file and is tried again; a packet that the muxer refuses is damaged."""
        if getattr(error, "errno", None) not in _FULL:
            self._damaged += 1
            self._refused += 1
            self._cut_for = Why.LOST
            if self._refused > _REFUSED_LIMIT:
                raise error
            return
        self._full_until_us = now_us + _TRY_DISK_US
        assert self._open is not None
        begun = self._open
        self._settle(begun)
        since_us = self._arrival.wall_us(self._lead.us(self._lead.last))
        self._close(Why.DISK, self._lead.us(self._lead.last))
        self._totals.outage_us = since_us
        self._say(Lost(self._source, since_us, Cause.DISK, os.strerror(getattr(error, "errno", 0))))

    def _has_room(self, now_us: int) -> bool:
        """Whether a file may be begun; only after the disk was full it is asked."""
        if not self._full_until_us:
            return True
        found = os.statvfs(self._folder)
        if found.f_bavail * found.f_frsize >= _ROOM_BYTES:
            self._full_until_us = 0
            return True
        self._full_until_us = now_us + _TRY_DISK_US
        return False

    # What is told.

    def _look(self, packet: Packet[Stream], index: int, now_us: int, *, has_waited: bool) -> None:
        """Some times a second: have flushed what is written; by and by see what time it is."""
        begun, line = self._open, self._lines[index]
        self._look_us[index] = now_us + (_LOOK_US if line is self._lead else _SOUND_LOOK_US)
        assert begun is not None
        if begun.segment.grown():
            self._flusher.flush(begun.segment, self._begun(begun))
        self._ask_camera(packet, index, wall_us(), has_waited=has_waited)
        if (begun.start_us is None or self._totals.outage_us is not None) and now_us - begun.now_us >= _SETTLED_US:
            self._settle(begun)  # before a stall that ends now makes all of it look late
        if has_waited:
            line.seen(now_us)
        if has_waited and line is self._lead:
            media_us = line.us(line.last)
            self._see_arrival(media_us, now_us, has_waited=True)
            drift_us = self._clock.look(media_us, now_us)
            if drift_us is not None:
                self._say(Noticed(self._source, Kind.DRIFT, self._began_us, wall_us(), drift_us, "video"))
        if now_us >= self._tell_us:
            self._tell_us = now_us + _TELL_US
            self._tell(now_us)

    def _begun(self, begun: _Begun) -> Callable[[], None] | None:
        if begun.is_told:
            return None
        begun.is_told, file = True, begun.segment.path.name
        at_us = wall_us() - (time.monotonic_ns() // 1000 - begun.now_us)
        return lambda: self._say(Begun(self._source, begun.segment.number, file, at_us))

    def _ask_camera(self, packet: Packet[Stream], index: int, wall: int, *, has_waited: bool) -> None:
        """What the camera's own clock said at this packet (RTCP sender report); how far off, unless that waited."""
        if not packet.has_sidedata("prft"):
            return
        (camera_us,) = struct.unpack_from("<q", bytes(packet.get_sidedata("prft")))
        line = self._lines[index]
        self._camera_us[index] = camera_us - line.us(line.last)
        if not has_waited:
            return
        self._lag_us[index] = min(self._lag_us.get(index, wall - camera_us), wall - camera_us)
        off_us = camera_us - wall
        if line is self._lead and abs(off_us - self._clock_told_us) >= _CLOCK_OFF_US and wall >= self._clock_next_us:
            self._clock_told_us, self._clock_next_us = off_us, wall + _CLOCK_EACH_US
            self._say(Noticed(self._source, Kind.CLOCK, wall, wall, off_us))

    def _tell(self, now_us: int) -> None:
        """Say what was odd since the last time; see whether one track alone stands still."""
        for stream in self.streams:
            line = self._lines[stream.index]
            if line.odd:
                odd, line.odd = line.odd, []
                self._tell_odd(odd, stream.type, now_us)
            self._see_still(stream, line, now_us)
        if self._damaged:
            self._say(Noticed(self._source, Kind.DAMAGED, wall_us(), wall_us(), self._damaged))
            self._damaged = 0

    def _tell_odd(self, odd: list[Odd], track: str, now_us: int) -> None:
        to_wall = wall_us() - now_us
        for one in odd:
            if one.oddity is Oddity.LEAP:
                at_us = one.at_us + to_wall
                self._say(Noticed(self._source, Kind.JUMP, at_us, at_us, one.value, track))
                self._cut_for = self._cut_for or Why.JUMP
                self._clock.moved()
        holes = [one for one in odd if one.oddity is Oddity.HOLE]
        if holes:
            start_us = holes[0].at_us - holes[0].for_us + to_wall
            missing = sum(one.value for one in holes)
            self._say(Noticed(self._source, Kind.DROPPED, start_us, holes[-1].at_us + to_wall, missing, track))

    def _see_still(self, stream: Stream, line: Line, now_us: int) -> None:
        """A track that stands still while the other goes on; pictures that do are a reason to connect again."""
        since_us = self._still.get(stream.index)
        if not line.at_us or len(self.streams) == 1:
            return
        to_wall = wall_us() - now_us
        if since_us is None and now_us - line.at_us > self._stall_us:
            self._still[stream.index] = line.at_us + to_wall
            self._say(Noticed(self._source, Kind.TRACK, line.at_us + to_wall, None, track=stream.type))
            if line is self._lead:
                raise StandsStillError
        elif since_us is not None and now_us - line.at_us < self._stall_us:
            del self._still[stream.index]
            self._say(Noticed(self._source, Kind.TRACK, since_us, line.at_us + to_wall, track=stream.type))


class StandsStillError(ValueError):
    """Nothing came for too long, from the camera or of its pictures."""
