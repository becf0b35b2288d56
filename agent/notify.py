"""What the service and systemd tell each other: ready, in words, alive, ending (sd_notify(3)); the page's socket."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Final

from agent.config.environment import notify_socket
from systemd import daemon

_AGAIN_S: Final = 0.2
STATUS_LIMIT: Final = 200
"""Characters of a status text: it is one line in `systemctl status`."""


async def ready() -> None:
    """Start-up is complete; told until it is heard.

    Like all of these, it does nothing when the service wasn't started by systemd, and doesn't stop the event loop.
    """
    while not _is_heard("READY=1"):  # noqa: ASYNC110 - nobody tells when systemd reads on
        await asyncio.sleep(_AGAIN_S)


def stopping() -> None:
    """The service is ending in good order."""
    _is_heard("STOPPING=1")


def alive() -> None:
    """Reset the watchdog. Only for a caller that knows that every lane has moved since the last call."""
    _is_heard("WATCHDOG=1")


def status(text: str) -> None:
    """Say in one line what the service is doing; line breaks would be further assignments, so they become blanks."""
    _is_heard("STATUS=" + " ".join(text.split())[:STATUS_LIMIT])


def _is_heard(text: str) -> bool:
    """Send a datagram (sd_notify(3)), or not while the socket's queue is full: there systemd's own function waits."""
    if not (address := notify_socket()):
        return True
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sending,
    ):
        try:
            sending.sendto(text.encode(), address)
        except BlockingIOError:
            return False
    return True


def listening(host: str, port: int) -> tuple[socket.socket | None, tuple[str, ...]]:
    """The socket at which systemd listens for us, if it does, and the addresses of others, which are let go."""
    ours, others = None, []
    for passed in [socket.socket(fileno=fd) for fd in daemon.listen_fds()]:
        address = passed.getsockname()
        if ours is None and address[:2] == (host, port):
            ours = passed
        else:
            others.append(" port ".join(map(str, address[:2])) if isinstance(address, tuple) else str(address))
            passed.close()
    return ours, tuple(others)
