"""What systemd tells the service through its environment, see systemd.exec(5)."""

from __future__ import annotations

import os
from pathlib import Path


def credential(name: str) -> Path:
    """Where systemd puts a credential of the service; for who asks beside it, where it is while the service runs."""
    return Path(os.environ.get("CREDENTIALS_DIRECTORY", "/run/credentials/capture-agent.service"), name)


def notify_socket() -> str:
    """Where the service tells how it is; empty if it wasn't started by systemd."""
    name = os.environ.get("NOTIFY_SOCKET", "")
    return f"\0{name[1:]}" if name.startswith("@") else name


def is_journald(fd: int) -> bool:
    """Whether what is written to this descriptor goes straight to journald."""
    try:
        found = os.fstat(fd)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
