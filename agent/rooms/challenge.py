"""How a camera wants its password: asked before FFmpeg gives it away in whatever way the camera asks for it."""

from __future__ import annotations

import re
import socket
import time
from typing import Final
from urllib.parse import urlsplit

RTSP_PORT: Final = 554
_HEAD_LIMIT_BYTES: Final = 8192
_STATUS: Final = re.compile(rb"RTSP/1\.\d (\d{3})\b")
_SCHEME: Final = re.compile(rb"^www-authenticate:[ \t]*([a-z]{1,16})\b", re.IGNORECASE | re.MULTILINE)
_REFUSED: Final = b"401"


class ReadableError(ValueError):
    """The camera takes the password only in a way in which everybody on the network can read it."""


def schemes(url: str, limit_s: float) -> frozenset[str]:
    """How a camera wants to be told who asks: `basic`, `digest` (RFC 2326, 14; RFC 7826, 18.54); nothing if it doesn't.

    Asked is for the description of the stream, without user and password. Raises OSError, ValueError for no RTSP.
    """
    parts = urlsplit(url)
    until = time.monotonic() + limit_s
    asked = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    address = parts.hostname or "", parts.port or RTSP_PORT
    with socket.create_connection(address, limit_s) as connection:
        connection.sendall(f"DESCRIBE {asked} RTSP/1.0\r\nCSeq: 1\r\nAccept: application/sdp\r\n\r\n".encode("ascii"))
        head = _head(connection, until)
    if (status := _STATUS.match(head)) is None:
        raise ValueError("not RTSP")
    if status[1] != _REFUSED:
        return frozenset()
    return frozenset(scheme.decode("ascii").lower() for scheme in _SCHEME.findall(head))


def is_readable(asked: frozenset[str]) -> bool:
    """Whether a password that is asked for so can be read by everybody in between."""
    return "basic" in asked and "digest" not in asked


def _head(connection: socket.socket, until: float) -> bytes:
    """What comes in front of the first empty line, within a time and a size."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < _HEAD_LIMIT_BYTES:
        left_s = until - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no answer")
        connection.settimeout(left_s)
        piece = connection.recv(_HEAD_LIMIT_BYTES)
        if not piece:
            break
        head += piece
    return head.partition(b"\r\n\r\n")[0]
