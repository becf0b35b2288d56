"""Looks at some pictures and listens to a little sound of a source while it records, beside it and cheaply.

Only key frames are decoded, and of them one in four seconds: two looks fit into the ten seconds in which black,
frozen, silent and flat are to be told. It looks more often while something may be wrong, and while stills are shown.
Where it can't judge, it says so: key frames further apart than eight seconds, damage, a codec that nobody decodes.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from av.audio.codeccontext import AudioCodecContext
from av.audio.frame import AudioFrame
from av.codec.codec import UnknownCodecError
from av.packet import Packet
from av.stream import Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from agent import durable
from agent.rooms.decoding import DAMAGED, Coding, Decoder, sound_in
from agent.rooms.noticing import SILENT_DB, Lasting, Moment, Picture, is_black, is_same, station_now
from agent.rooms.protocol import Kind, Noticed

LOOK_US: Final = 4_200_000
"""Between two looks at an unsuspicious picture: 4 s, and what key frames come late."""

LISTEN_US: Final = 1_000_000
APART_US: Final = 8_000_000
"""Looks further apart say nothing about the time between: then the track is told to be unwatched."""

BLACK_US: Final = 1_500_000
FROZEN_US: Final = 3_500_000
SOUND_US: Final = 5_000_000
_SHOWN_US: Final = 6_000_000
_UNSEEN_US: Final = 15_000_000
_GROUP_PACKETS: Final = 4
_LOOKS: Final = 8
_CLOSE_S: Final = 10.0
_UNTAKEN: Final = 1000


@dataclass(frozen=True, slots=True)
class _Look:
    """Packets that were copied: a key frame, or some of sound that follow each other."""

    at: Moment
    coding: Coding
    packets: tuple[bytes, ...]


class _Track:
    """Whether a track is judged often enough for what comes of it."""

    def __init__(self, tell: Callable[[Moment, Moment | None], None]) -> None:
        self.packets = 0
        self.came: Moment | None = None
        self._counted = 0
        self._tell = tell
        self._from: Moment | None = None
        self._judged: Moment | None = None
        self._unwatched: Moment | None = None

    def count(self, now: Moment) -> None:
        """See whether packets came since the last call."""
        if self.packets != self._counted:
            self._counted = self.packets
            if self.came is None or now.mono_us - self.came.mono_us > APART_US // 2:
                self._from = now
            self.came = now
        self._check(now)

    def judge(self, at: Moment) -> None:
        """A look succeeded; the second within the limit ends what is unwatched."""
        self._check(at)
        if self._unwatched and self._judged and at.mono_us - self._judged.mono_us <= APART_US:
            self._end(self._judged)
        self._judged = at

    def close(self) -> None:
        """Nothing comes any more."""
        if self.came:
            self._end(self.came)

    def _check(self, now: Moment) -> None:
        came, since = self.came, max((at for at in (self._from, self._judged) if at), default=None)
        if came is None or since is None:
            return
        if now.mono_us - came.mono_us > APART_US:  # what doesn't come can't be looked at
            self._end(came)
        elif self._unwatched is None and came.mono_us - since.mono_us > APART_US:
            self._unwatched = since
            self._tell(since, None)

    def _end(self, at: Moment) -> None:
        if self._unwatched:
            self._tell(self._unwatched, at)
        self._unwatched = None


class Watch:
    """Watches one source from its first packet to `close`; `see` is for the source's thread, the rest for another.

    `level_db` is dBFS (RMS, without offset) of the last second's sound, None without sound. `still` is the name of the
    newest still in `folder`: a JPEG 640 wide, replaced as a whole, every `still_s` as long as somebody looks at it
    (`durable.mark_seen`), else every 15 s or so; "" if there is none. It is removed in the end: a picture of a room
    belongs to the recording, or nowhere.
    """

    def __init__(self, source: str, folder: Path, still_s: float, now: Callable[[], Moment] = station_now) -> None:
        self.level_db: float | None = None
        self.still = ""
        self._source, self._now = source, now
        self._path = folder / f"{source}.jpg"
        self._still_us = min(int(still_s * 1_000_000), LOOK_US)
        self._noticed: deque[Noticed] = deque(maxlen=_UNTAKEN)
        # What the judging thread and `take` change, one at a time.
        self._state = threading.Lock()
        self._tracks = {kind: _Track(self._teller(kind)) for kind in ("video", "audio")}
        self._black = self._lasting(Kind.BLACK, "video", BLACK_US)
        self._frozen = self._lasting(Kind.FROZEN, "video", FROZEN_US)
        self._silent = self._lasting(Kind.SILENT, "audio", SOUND_US)
        self._flat = self._lasting(Kind.FLAT, "audio", SOUND_US)
        self._still_ns: int | None = None
        self._still_at_us = self._shown_us = -_UNSEEN_US
        # Of the judging thread.
        self._reference: Picture | None = None
        self._decoders = {kind: Decoder() for kind in self._tracks}
        # Of the source's thread.
        self._key_us = self._looked_us = self._heard_us = -APART_US
        self._pace_us = self._still_us
        self._listens = True
        self._group: list[bytes] = []
        self._looks: queue.Queue[_Look | None] = queue.Queue(_LOOKS)
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=f"watch-{source}", daemon=True)
        self._thread.start()

    def see(self, packet: Packet[Stream]) -> None:
        """One packet as the demuxer gave it, before anything is changed in it. Never waits; drops it when busy."""
        kind = packet.stream.type
        track = self._tracks.get(kind)
        if track is None:
            return
        track.packets += 1
        if kind == "audio":
            if self._listens:
                self._listen(packet)
        elif packet.is_keyframe:
            now = self._now()
            between_us, self._key_us = now.mono_us - self._key_us, now.mono_us
            if now.mono_us + between_us > self._looked_us + self._pace_us:  # else the next one comes soon enough
                self._looked_us = now.mono_us
                self._put(packet, now, (bytes(packet),))

    def take(self) -> list[Noticed]:
        """What was noticed since the last call, in the order it was; to be called once a second."""
        if not self._closing:
            self._look_at_the_clock(self._now())
        return [self._noticed.popleft() for _ in range(len(self._noticed))]

    def close(self) -> None:
        """End the thread, and all that goes on; what is left is to be taken."""
        self._closing = True
        with contextlib.suppress(queue.Full):
            self._looks.put_nowait(None)
        self._thread.join(_CLOSE_S)
        with self._state:
            for lasting in (self._black, self._frozen, self._silent, self._flat):
                lasting.close()
            for track in self._tracks.values():
                track.close()
            self.still = ""
            durable.remove_still(self._path)

    def _look_at_the_clock(self, now: Moment) -> None:
        with self._state:
            for lasting in (self._black, self._frozen, self._silent, self._flat):
                lasting.lapse(now)
            for track in self._tracks.values():
                track.count(now)
            came = self._tracks["audio"].came
            if came is None or now.mono_us - came.mono_us > APART_US:
                self.level_db = None
            self._see_whether_shown(now)
        self._listens = self._listens or now.mono_us - self._heard_us >= LISTEN_US

    def _listen(self, packet: Packet[Stream]) -> None:
        self._group.append(bytes(packet))
        if len(self._group) == _GROUP_PACKETS:
            now = self._now()
            self._heard_us = now.mono_us
            self._put(packet, now, tuple(self._group))
            self._group.clear()
            self._listens = False

    def _put(self, packet: Packet[Stream], at: Moment, packets: tuple[bytes, ...]) -> None:
        context = packet.stream.codec_context
        if isinstance(context, AudioCodecContext):
            coding = Coding("audio", context.name, context.extradata, context.sample_rate, context.layout.name)
        elif isinstance(context, VideoCodecContext):
            coding = Coding("video", context.name, context.extradata)
        else:  # a codec that nobody decodes: it stays unwatched
            return
        with contextlib.suppress(queue.Full):
            self._looks.put_nowait(_Look(at, coding, packets))

    def _see_whether_shown(self, now: Moment) -> None:
        if self._still_ns is None:
            return
        with contextlib.suppress(OSError):
            if self._path.stat().st_atime_ns != self._still_ns:
                self._still_ns, self._shown_us, self._pace_us = None, now.mono_us, self._still_us

    def _work(self) -> None:
        while not self._closing:
            look = self._looks.get()
            if look is not None:
                self._judge(look)
            self._looks.task_done()

    def _judge(self, look: _Look) -> None:
        if look.coding.type == "video":
            self._pace_us = self._still_us  # until it is known to be well
        try:
            frames = self._decoders[look.coding.type].frames(look.coding, look.packets)
            for frame in frames[:1]:
                if isinstance(frame, VideoFrame):
                    self._judge_picture(look.at, frame)
        except (*DAMAGED, UnknownCodecError):
            return
        sound = sound_in([frame for frame in frames if isinstance(frame, AudioFrame)])
        if sound is not None:
            with self._state:
                self._tracks["audio"].judge(look.at)
                self.level_db = round(sound.level_db, 1)
                self._flat.look(look.at, sound.flat)
                self._silent.look(look.at, sound.level_db < SILENT_DB and not sound.flat)

    def _judge_picture(self, at: Moment, frame: VideoFrame) -> None:
        picture = self._decoders["video"].picture(frame)
        black = is_black(picture)
        same = not black and self._reference is not None and is_same(self._reference, picture)
        if not same:
            self._reference = picture
        with self._state:
            self._tracks["video"].judge(at)
            self._black.look(at, black)
            if not same:
                self._frozen.look(at, False)
            if not black:
                self._frozen.look(at, True)  # as long as nothing differs from it
            shown = at.mono_us - self._shown_us < _SHOWN_US
            self._pace_us = self._still_us if black or same or shown else LOOK_US
        if shown or at.mono_us - self._still_at_us >= _UNSEEN_US:
            self._still_at_us = at.mono_us
            self._keep_still(self._decoders["video"].jpeg(frame))

    def _keep_still(self, jpeg: bytes) -> None:
        part = self._path.with_name(f"{self._path.name}{durable.PART_SUFFIX}")
        with self._state:
            if self._closing:  # a look that took too long to be waited for
                return
            try:
                durable.write_part(part, jpeg)
                durable.replace_still(part, self._path)
                self._still_ns = self._path.stat().st_atime_ns
                self.still = self._path.name
            except OSError:  # a full disk is the recorder's to tell; without a still the screens show none
                self._still_ns, self.still = None, ""

    def _lasting(self, kind: Kind, track: str, hold_us: int) -> Lasting:
        return Lasting(hold_us, APART_US, self._teller(track, kind))

    def _teller(self, track: str, kind: Kind = Kind.UNWATCHED) -> Callable[[Moment, Moment | None], None]:
        def tell(start: Moment, end: Moment | None) -> None:
            ended = None if end is None else end.wall_us
            self._noticed.append(Noticed(self._source, kind, start.wall_us, ended, track=track))

        return tell
