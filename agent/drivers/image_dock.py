"""A folder as a dock: an image file that appears there and has stopped growing counts as a docked recorder."""

from __future__ import annotations

import asyncio
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from watchdog.events import (
    DirDeletedEvent,
    DirMovedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

from agent.drivers.dock import DockedPath, DockListener, Presence, Seen, news_or_timeout
from agent.model import Device

MAX_IMAGES: Final = 256
"""More files than this in the folder are not looked at, and that is told."""

_STOP_LIMIT_S: Final = 5.0
_HINTS: Final = (
    FileCreatedEvent, FileClosedEvent, FileDeletedEvent, FileMovedEvent, DirDeletedEvent, DirMovedEvent,
)  # fmt: skip


class _Hint(FileSystemEventHandler):
    """Runs on the observer's thread: only wakes the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, news: asyncio.Event) -> None:
        self._loop = loop
        self._news = news

    def on_any_event(self, event: FileSystemEvent) -> None:
        """Ask for a look; `event` itself is not trusted."""
        self._loop.call_soon_threadsafe(self._news.set)


def image_device(path: Path, size_bytes: int = 0) -> Device:
    """Who an image file is before its filesystem is read: the same wherever it lies."""
    return Device(driver="mass_storage", product="image", port=path.name, size_bytes=size_bytes)


class ImageDock:
    """Detection of image files in `folder` (not below it).

    A file is docked after its size and modification time were the same in two looks `settle_s` apart, so a slow copy
    isn't read early; a file that changes afterwards is gone, and docked anew when it rests. Links, hidden files, empty
    files and everything that isn't a plain file are left alone.
    """

    def __init__(
        self,
        folder: Path,
        listener: DockListener,
        *,
        rescan_s: float = 5.0,
        settle_s: float = 1.0,
        now_s: Callable[[], float] | None = None,
    ) -> None:
        self._folder = folder
        self._presence = Presence(listener)
        self._rescan_s = rescan_s
        self._settle_s = settle_s
        self._now_s = now_s
        self._since_s: dict[str, float] = {}
        self._watched: tuple[int, int] | None = None
        self._observer: BaseObserver | None = None
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Detect until cancelled; then no thread is left."""
        try:
            while True:
                resting = await self._step()
                await news_or_timeout(self._news, self._rescan_s if resting else min(self._settle_s, self._rescan_s))
        finally:
            await self._stop_watching()

    async def _step(self) -> bool:
        """Look once; true if no file is still settling."""
        trouble = ""
        try:
            await self._ensure_watched()
        except OSError as error:
            trouble = f"New files in {self._folder} are noticed late: {error.strerror}. It is tried again."
        try:
            files = list(itertools.islice(self._files(), MAX_IMAGES + 1))
        except FileNotFoundError as error:
            files, trouble = [], self._unseen(error)
        except OSError as error:  # nothing was seen, so nothing is known to be gone
            self._presence.trouble(self._unseen(error))
            return False
        if len(files) > MAX_IMAGES:
            trouble = f"{self._folder} has more than {MAX_IMAGES} files: take some out, the others are not looked at."
        resting = self._tell(files[:MAX_IMAGES])
        self._presence.trouble(trouble)
        return resting

    def _unseen(self, error: OSError) -> str:
        return f"The image folder {self._folder} can't be looked at: {error.strerror}. It is tried again."

    def _tell(self, files: list[DockedPath]) -> bool:
        now_s = self._now_s() if self._now_s else asyncio.get_running_loop().time()
        self._since_s = {file.key: self._since_s.get(file.key, now_s) for file in files}
        settled = [Seen(file) for file in files if now_s - self._since_s[file.key] >= self._settle_s]
        self._presence.update(sorted(settled, key=lambda seen: seen.docked.slot))
        return len(settled) == len(files)

    def _files(self) -> Iterator[DockedPath]:
        """The files of this moment; the key of one that changes changes."""
        with os.scandir(self._folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not entry.is_file(follow_symlinks=False):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # taken out while we looked: it is not there
                if stat.S_ISREG(found.st_mode) and found.st_size > 0:
                    key = f"{entry.name}#{found.st_dev:x}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"
                    path = self._folder / entry.name
                    yield DockedPath(key, path, entry.name, image_device(path, found.st_size))

    async def _ensure_watched(self) -> None:
        """Watch the folder that has this name now: it may have been replaced, or its disk mounted later."""
        found = self._folder.stat()
        if self._watched == (found.st_dev, found.st_ino):
            return
        await self._stop_watching()
        observer = Observer()
        handler = _Hint(asyncio.get_running_loop(), self._news)
        observer.schedule(handler, str(self._folder), event_filter=list(_HINTS))
        observer.start()
        self._observer, self._watched = observer, (found.st_dev, found.st_ino)

    async def _stop_watching(self) -> None:
        observer, self._observer, self._watched = self._observer, None, None
        if observer is not None:  # both wait for threads of the observer
            await asyncio.to_thread(observer.stop)
            await asyncio.to_thread(observer.join, _STOP_LIMIT_S)
