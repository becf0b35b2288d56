"""One camera or microphone: connects, records while it comes, tells why it stopped, and connects again, for ever."""

from __future__ import annotations

import errno
import socket
import threading
import time
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import urlsplit

import av
import av.error
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream

from agent.rooms import attached
from agent.rooms.challenge import RTSP_PORT, ReadableError, is_readable, schemes
from agent.rooms.connection import Connection, Say, StandsStillError, Totals, wall_us
from agent.rooms.protocol import Alive, Cause, Kind, Lost, Noticed, Opened, Plan, Transport, Why
from agent.rooms.writer import FAILED, Flusher, described

OPEN_LIMIT_S: Final = 8.0
"""From the first byte to the description of the tracks; who takes longer is asked anew."""

_HUNG_S: Final = 20.0
_HUNG_LIMIT: Final = 3
_FIRST_PAUSE_S: Final = 0.25
_LAST_PAUSE_S: Final = 1.0
"""With a second for opening and a group of pictures, what is recorded begins within three of the camera's answer."""
_WAITED_US: Final = 3000
_FRESH_US: Final = 20_000
"""What follows at once on a packet that was waited for came after it."""
_NAP_S: Final = 0.15
"""TCP's buffers hold far more; UDP's would lose packets."""
_LOCKED_OUT_S: Final = 60.0
"""Cameras lock an account after some wrong passwords; a right one is seldom far from it."""
_DETAIL_CHARS: Final = 80


class Watch(Protocol):
    """What looks at a source's pictures and sound while it records: `agent.rooms.watching.Watch`."""

    level_db: float | None
    still: str

    def see(self, packet: Packet[Stream]) -> None:
        """Look at a packet, or let it go; never waits."""

    def take(self) -> list[Noticed]:
        """What was noticed since the last call."""

    def close(self) -> None:
        """End its thread."""


class _StoppedError(ValueError):
    """The source is to end."""


class Source:
    """A source with its thread. `at` is its place in the plan."""

    def __init__(self, plan: Plan, at: int, say: Say, flusher: Flusher, watch: Watch | None) -> None:
        self._plan, self._source, self._say, self._flusher = plan, plan.sources[at], say, flusher
        self.watch = watch
        self.totals = Totals(plan.first_numbers[at])
        self.is_connected = False
        self._began_us = wall_us()
        self._connection: Connection | None = None
        self._last_us: int | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._opening_since: float | None = None
        self._hung = 0
        self._is_asked_well = False
        self._thread = self._started()

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name=f"source-{self._source.name}", daemon=True)
        self._thread = thread
        thread.start()
        return thread

    # For the recorder's main thread.

    def alive(self) -> Alive:
        """How it is now."""
        totals, connection, watch = self.totals, self._connection, self.watch
        media_us, size_bytes = connection.written() if connection is not None else (0, 0)
        return Alive(
            self._source.name, time.monotonic_ns() // 1000, totals.media_us + media_us, totals.size_bytes + size_bytes,
            totals.video_bytes, totals.audio_bytes, self.is_connected,
            watch.level_db if watch else None, watch.still if watch else "",
        )  # fmt: skip

    def check(self) -> bool:
        """Replace a thread that a camera, or a name server, holds in `open`; False if that doesn't help any more."""
        since = self._opening_since
        if since is not None and time.monotonic() - since > _HUNG_S and not self._stopping.is_set():
            self._hung += 1
            self._opening_since = None
            self._lost(Cause.UNREACHABLE, "hangs", wall_us())
            self._started()
        return self._hung <= _HUNG_LIMIT and self._thread.is_alive()

    def stop(self) -> None:
        """Have it end with the next packet."""
        self._stopping.set()

    def join(self, limit_s: float) -> None:
        """Wait for its end, then end what is open over its head: whoever hangs in a read never writes again."""
        self._thread.join(max(0.0, limit_s))
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.end(Why.STOPPED)

    # Its own thread.

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stopping.is_set() and self._thread is threading.current_thread():
            began_us = wall_us()
            self._last_us = None
            try:
                self._record()
            except _StoppedError:
                return
            except FAILED as error:
                if self._thread is not threading.current_thread():
                    return
                cause, detail = self._why(error)
            else:
                cause, detail = Cause.CLOSED, "ended"
            last_us = self._recorded_until()
            self._lost(cause, detail, began_us if last_us is None else last_us)
            pause_s = min(2 * pause_s, _LAST_PAUSE_S) if last_us is None else _FIRST_PAUSE_S
            is_locked = cause in {Cause.UNAUTHORISED, Cause.READABLE}
            self._stopping.wait(_LOCKED_OUT_S if is_locked else pause_s)

    def _record(self) -> None:
        """One connection from its beginning to its end. Returns if the camera ended it; raises `FAILED` else."""
        began = self._opening_since = time.monotonic()
        with self._open() as container:
            if self._thread is not threading.current_thread():
                raise _StoppedError
            self._opening_since = None
            plan = self._plan
            connection = Connection(
                self._source.name, Path(plan.folder), container, self.totals, self._say, self._flusher,
                segment_us=int(plan.segment_s * 1e6), stall_us=int(plan.stall_s * 1e6),
                see=self.watch.see if self.watch else None,
            )  # fmt: skip
            self.is_connected = True
            took_ms = int(1000 * (time.monotonic() - began))
            self._say(Opened(self._source.name, wall_us(), tuple(described(s) for s in connection.streams), took_ms))
            if connection.left_out:
                self._say(Noticed(self._source.name, Kind.TRACK, wall_us(), None, track="audio"))
            with self._lock:
                self._connection = connection
            try:
                self._follow(container, connection)
            finally:  # before the connection is closed, for which a camera may take its time
                self._end(connection)

    def _follow(self, container: InputContainer, connection: Connection) -> None:
        """The loop that all the work is in: as little as possible for each packet.

        Who had to wait for a packet lets some more come before it reads on: waking up costs more than a packet does. So
        it isn't the same track's packet each time that was waited for, it stays awake for the tracks that are due.
        """
        monotonic, lock, stopping = time.monotonic_ns, self._lock, self._stopping.is_set
        stall_us = int(self._plan.stall_s * 1e6)
        nap_s = _NAP_S if self._source.transport is Transport.TCP else 0.0
        last_us = monotonic() // 1000
        fresh_until_us = 0
        for packet in container.demux(connection.streams):
            now_us = monotonic() // 1000
            if _WAITED_US < now_us - last_us <= stall_us:
                fresh_until_us = now_us + _FRESH_US
            has_waited = now_us <= fresh_until_us
            with lock:
                if self._connection is not connection:
                    raise _StoppedError
                if stopping():
                    self._connection = None
                    connection.end(Why.STOPPED)
                    raise _StoppedError
                connection.take(packet, now_us, has_waited=has_waited)
            if now_us - last_us > stall_us:  # the read was given up; this is what there was of a picture
                raise StandsStillError
            if has_waited and not connection.is_due(now_us):
                time.sleep(nap_s)
            last_us = monotonic() // 1000  # a disk that held us up is no camera that stalls
            if last_us - now_us > _WAITED_US:
                fresh_until_us = 0  # what comes next may have waited for us

    def _open(self) -> InputContainer:
        """Ask for the source. Neither the address nor what it answered gets into an error of ours."""
        url, timeout = self._source.url, (OPEN_LIMIT_S, self._plan.stall_s)
        if url.partition(":")[0] in attached.OPTIONS:
            return attached.opened(url)
        options = {
            "rtsp_transport": self._source.transport.value,
            "allowed_media_types": "video+audio",
            "analyzeduration": "100000",
            "probesize": "32768",
        }
        if self._source.transport is Transport.UDP:
            options["buffer_size"] = str(4 << 20)
        self._ask_first()
        return av.open(url, options=options, timeout=timeout)

    def _ask_first(self) -> None:
        """Before a password is given away: does the camera want it in a way that nobody else can read?

        Once it has asked so, it isn't asked again: each connection would cost another one.
        """
        if self._is_asked_well or self._source.plain_password or "@" not in urlsplit(self._source.url).netloc:
            return
        asks = schemes(self._source.url, OPEN_LIMIT_S)
        if is_readable(asks):
            raise ReadableError
        self._is_asked_well = "digest" in asks

    def _end(self, connection: Connection) -> None:
        """Close what is open, unless somebody did it for us."""
        self.is_connected = False
        with self._lock:
            if self._connection is connection:
                self._connection = None
                since_us = connection.end(Why.LOST)
                self._last_us = since_us if connection.has_recorded else None

    def _recorded_until(self) -> int | None:
        return self._last_us

    def _lost(self, cause: Cause, detail: str, since_us: int) -> None:
        """Tell of an outage, once."""
        if self.totals.outage_us is None and not self._stopping.is_set():
            self.totals.outage_us = since_us
            self._say(Lost(self._source.name, since_us, cause, detail[:_DETAIL_CHARS]))

    def _why(self, error: BaseException) -> tuple[Cause, str]:
        """The cause of an error, and FFmpeg's words for it, in which there is no address."""
        detail = getattr(error, "strerror", None) or type(error).__name__
        code = getattr(error, "errno", None)
        if isinstance(error, ReadableError):
            return Cause.READABLE, ""
        if isinstance(error, StandsStillError):
            return Cause.STALLED, ""
        if isinstance(error, av.error.HTTPUnauthorizedError | av.error.HTTPForbiddenError):
            return Cause.UNAUTHORISED, detail
        since = self._opening_since
        is_late = since is not None and time.monotonic() - since > OPEN_LIMIT_S - 0.5
        if is_late or isinstance(error, av.error.ExitError | TimeoutError):
            return (Cause.STALLED if self._answers() else Cause.UNREACHABLE), detail
        if isinstance(error, av.error.HTTPClientError | av.error.HTTPServerError) or code == errno.ECONNREFUSED:
            return Cause.REFUSED, detail
        if code in {errno.ECONNRESET, errno.EPIPE} or isinstance(error, EOFError):
            return Cause.CLOSED, detail
        if code in {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENODEV, errno.ENOENT, errno.EIO, errno.ETIMEDOUT}:
            return Cause.UNREACHABLE, detail
        if code in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
            return Cause.DISK, detail
        return Cause.GARBAGE, detail

    def _answers(self) -> bool:
        """Whether anything takes a connection where the source should be."""
        try:
            parts = urlsplit(self._source.url)
            with socket.create_connection((parts.hostname or "", parts.port or RTSP_PORT), 1.0):
                return True
        except (OSError, ValueError):
            return False
