"""Tells systemd how the service is doing: ready, in words, alive, ending; see sd_notify(3)."""

from __future__ import annotations

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
