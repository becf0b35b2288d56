"""How a camera wants its password: asked before FFmpeg gives it away in whatever way the camera asks for it."""

from __future__ import annotations

import contextlib
import math
import re
import socket
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

RTSP_PORT: Final = 554
_LIMIT_BYTES: Final = 16384
_STATUS: Final = re.compile(rb"RTSP/1\.\d (\d{3})\b")
_SCHEME: Final = re.compile(rb"^www-authenticate:[ \t]*([a-z]{1,16})\b", re.IGNORECASE | re.MULTILINE)
_LENGTH: Final = re.compile(rb"^content-length:[ \t]*(\d{1,5})\b", re.IGNORECASE | re.MULTILINE)
_BASE: Final = re.compile(rb"^content-base:[ \t]*(\S{1,1000})", re.IGNORECASE | re.MULTILINE)
_TRACK: Final = re.compile(rb"^m=.*?^a=control:(\S{1,1000})", re.DOTALL | re.MULTILINE)
_SESSION: Final = re.compile(rb"^session:[ \t]*([^\s;]{1,200})", re.IGNORECASE | re.MULTILINE)
_UNAUTHORISED: Final = b"401"
_FAREWELL_S: Final = 1.0


class ReadableError(ValueError):
    """The camera takes the password only in a way in which everybody on the network can read it."""


def schemes(url: str, limit_s: float) -> frozenset[str]:
    """How a camera wants to be told who asks: `basic`, `digest` (RFC 2326, 14; RFC 7826, 18.54); nothing if it doesn't.

    Without user and password it is asked what FFmpeg asks until it plays: OPTIONS, DESCRIBE, SETUP of the first track.
    The first refusal counts, as it does for FFmpeg. Raises OSError, ValueError for no RTSP.
    """
    parts = urlsplit(url)
    until = time.monotonic() + limit_s
    stream = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl().encode("ascii")
    address = parts.hostname or "", parts.port or RTSP_PORT
    with socket.create_connection(address, limit_s) as connection:
        try:
            _ask_as_ffmpeg(_Camera(connection, until), stream)
        except _RefusedError as refusal:
            if refusal.status == _UNAUTHORISED:
                return frozenset(scheme.decode("ascii").lower() for scheme in _SCHEME.findall(refusal.head))
    return frozenset()


def is_readable(asked: frozenset[str]) -> bool:
    """Whether a password that is asked for so can be read by everybody in between."""
    return "basic" in asked and "digest" not in asked


def _ask_as_ffmpeg(camera: _Camera, stream: bytes) -> None:
    """Until it would play. Raises _RefusedError at the first answer but 2xx: there FFmpeg signs in or gives up."""
    camera.ask(b"OPTIONS", stream)
    head, told = camera.ask(b"DESCRIBE", stream, b"Accept: application/sdp\r\n")
    if (track := _TRACK.search(told)) is None:
        return
    base = found[1] if (found := _BASE.search(head)) else stream
    where = track[1] if b"://" in track[1] else base.rstrip(b"/") + b"/" + track[1]
    head, _ = camera.ask(b"SETUP", where, b"Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n")
    if (session := _SESSION.search(head)) is not None:
        with contextlib.suppress(OSError, ValueError, _RefusedError):
            camera.ask(b"TEARDOWN", stream, b"Session: " + session[1] + b"\r\n", limit_s=_FAREWELL_S)


class _RefusedError(Exception):
    """The camera doesn't do what it was asked for."""

    def __init__(self, status: bytes, head: bytes) -> None:
        super().__init__()
        self.status, self.head = status, head


class _Camera:
    """One connection, over which one thing is asked after the other until `until` (monotonic)."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self._connection, self._until = connection, until
        self._asked = 0
        self._come = b""

    def ask(self, method: bytes, url: bytes, header: bytes = b"", limit_s: float = math.inf) -> tuple[bytes, bytes]:
        """The head of its answer, and what follows it. Raises OSError, ValueError for no RTSP, _RefusedError."""
        self._asked += 1
        self._until = min(self._until, time.monotonic() + limit_s)
        self._connection.sendall(b"%b %b RTSP/1.0\r\nCSeq: %d\r\n%b\r\n" % (method, url, self._asked, header))
        self._receive(lambda: b"\r\n\r\n" in self._come)
        head, _, self._come = self._come.partition(b"\r\n\r\n")
        if (status := _STATUS.match(head)) is None:
            raise ValueError("not RTSP")
        if not status[1].startswith(b"2"):
            raise _RefusedError(status[1], head)
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        self._receive(lambda: len(self._come) >= length)
        body, self._come = self._come[:length], self._come[length:]
        return head, body

    def _receive(self, is_enough: Callable[[], bool]) -> None:
        """What comes until it is enough, ends, or is too much; within the time."""
        while not is_enough() and len(self._come) < _LIMIT_BYTES:
            left_s = self._until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("no answer")
            self._connection.settimeout(left_s)
            piece = self._connection.recv(_LIMIT_BYTES)
            if not piece:
                break
            self._come += piece
