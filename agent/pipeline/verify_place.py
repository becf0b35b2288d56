"""Where an interrupted `verify` stood: one small file beside the vault, believed only while the log is the same."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent import durable
from agent.errors import JournalError
from agent.journal.codec import from_text, to_text

FILE: Final = f"verify{durable.PART_SUFFIX}"
_LIMIT_BYTES: Final = 4 << 20
_EACH_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Place:
    """All up to the asset `after` of a stage was checked, when the log had so many events and this root (in hex)."""

    scope: str
    stage: str
    after: str
    events: int
    root: str
    originals: int
    manifests: int
    stored: int
    read_back: int
    checked_bytes: int
    problems: tuple[str, ...]


class Places:
    """Keeps the place of one call; a folder that takes no file only means that nobody can go on there."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._next_s = time.monotonic() + _EACH_S

    def recall(self) -> Place | None:
        """Return the place that was kept last; None if there is none, or it is not whole."""
        try:
            with self._path.open("rb") as file:
                return from_text(Place, file.read(_LIMIT_BYTES).decode())
        except (OSError, UnicodeDecodeError, JournalError):
            return None

    def keep(self, place: Place) -> None:
        """Keep a place, but not more often than every few seconds."""
        if time.monotonic() < self._next_s:
            return
        self._next_s = time.monotonic() + _EACH_S
        with contextlib.suppress(OSError):
            durable.write_part(self._path, to_text(place).encode())

    def forget(self) -> None:
        """Everything is checked."""
        with contextlib.suppress(OSError):
            durable.remove_part(self._path)
