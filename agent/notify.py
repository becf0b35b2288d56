"""What the service and systemd tell each other: ready, in words, alive, ending (sd_notify(3)); the page's socket."""

from __future__ import annotations

import socket
from typing import Final

from systemd import daemon

STATUS_LIMIT: Final = 200
"""Characters of a status text: it is one line in `systemctl status`."""


def ready() -> None:
    """Start-up is complete. Like all of these, it does nothing when the service wasn't started by systemd."""
    daemon.notify("READY=1")


def stopping() -> None:
    """The service is ending in good order."""
    daemon.notify("STOPPING=1")


def alive() -> None:
    """Reset the watchdog. Only for a caller that knows that every lane has moved since the last call."""
    daemon.notify("WATCHDOG=1")


def status(text: str) -> None:
    """Say in one line what the service is doing; line breaks would be further assignments, so they become blanks."""
    daemon.notify("STATUS=" + " ".join(text.split())[:STATUS_LIMIT])


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
