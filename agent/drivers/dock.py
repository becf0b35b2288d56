"""What detection tells: a recorder is docked, has gone, or must not be touched; found by looks, never by events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agent.drivers.folder import Batch
from agent.model import Device


@dataclass(frozen=True, slots=True)
class DockedPath:
    """A path under which a recorder can be opened, and who it seems to be from outside.

    `key` names this docking: a recorder plugged in again, or an image file that changed, has another one.
    `slot` is the socket it sits in, as stable as the hardware allows; `link_mbit_s` how fast that is, 0 if not known.
    Of an inbox, `batch` is what is taken over now.
    """

    key: str
    path: Path
    slot: str
    device: Device
    link_mbit_s: float = 0.0
    batch: Batch | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found at a path; a `refusal` says why it must not be read."""

    docked: DockedPath
    refusal: str = ""


class Dockings(Protocol):
    """Hears about dockings, on the event loop; calls must return at once.

    For each key: `on_docked` once, later `on_gone` once. `on_refused` comes once per key and reason; a refused recorder
    may be docked later, when the reason has gone, and is told as gone when it is.
    """

    def on_docked(self, docked: DockedPath) -> None:
        """A recorder can be read."""

    def on_gone(self, key: str) -> None:
        """The recorder is no longer there, or no longer the same."""

    def on_refused(self, docked: DockedPath, reason: str) -> None:
        """A recorder is there but must not be read."""


class DockListener(Dockings, Protocol):
    """The same, and what hinders detection now; empty text means that it works again."""

    def on_trouble(self, what: str) -> None:
        """Detection is hindered; empty: no longer."""


class Heard:
    """What one of several kinds of detection tells: the recovery of one must not hide another's trouble."""

    def __init__(self, dockings: Dockings, on_trouble: Callable[[str], None]) -> None:
        self.on_docked = dockings.on_docked
        self.on_gone = dockings.on_gone
        self.on_refused = dockings.on_refused
        self._on_trouble = on_trouble

    def on_trouble(self, what: str) -> None:
        """Detection is hindered; empty: no longer."""
        self._on_trouble(what)


class Presence:
    """Compares each look with the one before and tells the listener the difference, those gone first."""

    def __init__(self, listener: DockListener) -> None:
        self._listener = listener
        self._docked: frozenset[str] = frozenset()
        self._refused: frozenset[tuple[str, str]] = frozenset()
        self._trouble = ""

    def update(self, seen: Sequence[Seen]) -> None:
        """Take what is there now."""
        before = self._docked
        self._docked = frozenset(one.docked.key for one in seen if not one.refusal)
        refused_before = self._refused
        self._refused = frozenset((one.docked.key, one.refusal) for one in seen if one.refusal)
        let_go = {key for key, _ in refused_before} - {key for key, _ in self._refused}
        for key in sorted((before | let_go) - self._docked):
            self._listener.on_gone(key)
        for one in seen:
            if one.refusal and (one.docked.key, one.refusal) not in refused_before:
                self._listener.on_refused(one.docked, one.refusal)
            elif not one.refusal and one.docked.key not in before:
                self._listener.on_docked(one.docked)

    def trouble(self, what: str) -> None:
        """Tell what hinders detection, when it changes."""
        if what != self._trouble:
            self._trouble = what
            self._listener.on_trouble(what)


async def news_or_timeout(news: asyncio.Event, timeout_s: float) -> None:
    """Wait until there is news, at most `timeout_s`; the news is taken."""
    try:
        async with asyncio.timeout(timeout_s):
            await news.wait()
    except TimeoutError:
        return
    news.clear()
