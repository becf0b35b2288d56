"""A room's button: a key of the kernel's input layer, or a contact at a serial line; unplugged and back at any time."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import struct
import termios
import time
import tty
from collections.abc import AsyncGenerator, Callable, Iterator
from enum import StrEnum
from typing import Final

HOLD_S: Final = 2.0
"""So long a press must last to be a hold."""

BOUNCE_S: Final = 0.05
"""What changes back sooner is the same press."""

_LINE_EACH_S: Final = 0.02
_PAUSE_S: Final = 0.02
_BYTES_LAST_S: Final = 0.5
"""A button that sends bytes is down as long as they come."""
_AGAIN_S: Final = 2.0

_EVENT: Final = struct.Struct("@llHHi")
"""struct input_event (linux/input.h): seconds, microseconds, type, code, value."""
_EVENTS: Final = 64
_EV_SYN, _EV_KEY, _SYN_DROPPED = 0, 1, 3
_EVIOCGRAB: Final = 0x40044590
_LINES: Final = (("cts", termios.TIOCM_CTS), ("dsr", termios.TIOCM_DSR))
_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Press(StrEnum):
    """What a person did: DOWN at once, HELD if it is still down after HOLD_S."""

    DOWN = "down"
    HELD = "held"


class Contact:
    """Makes presses out of a contact that bounces; times in seconds, of a clock that nobody sets.

    `is_down`: how it is found. What is down then was pressed by nobody.
    """

    def __init__(self, *, is_down: bool = False) -> None:
        self._raw = self._down = is_down
        self._changed_s = float("-inf")
        self._told = True

    def feed(self, now_s: float, is_down: bool | None = None) -> Iterator[Press]:
        """What a reading means; without one only time has passed."""
        if is_down is not None:
            self._raw = is_down
        if self._raw is not self._down and now_s - self._changed_s >= BOUNCE_S:
            self._down, self._changed_s, self._told = self._raw, now_s, False
            if self._down:
                yield Press.DOWN
        elif self._down and self._raw and not self._told and now_s - self._changed_s >= HOLD_S:
            self._told = True
            yield Press.HELD


class Button:
    """Reads `evdev:/dev/input/…` or `serial:/dev/…[#cts|#dsr]`, for ever; `trouble` says why it can't just now."""

    def __init__(self, address: str, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._kind, _, place = address.partition(":")
        self._path, _, self._line = place.partition("#")
        self._seconds = seconds
        self.trouble = ""

    async def presses(self) -> AsyncGenerator[Press, None]:
        """Until cancelled. A device that goes away lets go of its key, and is looked for again."""
        while True:
            try:
                fd = os.open(self._path, _FLAGS)
            except OSError as error:
                self.trouble = error.strerror or "is not there"
            else:
                try:
                    self._prepare(fd)
                    self.trouble = ""
                    async for press in self._read(fd):
                        yield press
                except (OSError, termios.error, EOFError) as error:
                    self.trouble = f"went away: {error}"
                finally:
                    asyncio.get_running_loop().remove_reader(fd)
                    os.close(fd)
            await asyncio.sleep(_AGAIN_S)

    def _prepare(self, fd: int) -> None:
        if self._kind == "serial":
            tty.setraw(fd)
            return
        with contextlib.suppress(OSError):  # else its key would also be typed into a console or a page
            fcntl.ioctl(fd, _EVIOCGRAB, 1)

    async def _read(self, fd: int) -> AsyncGenerator[Press, None]:
        contact = Contact(is_down=bool(self._line) and self._level(fd))
        if self._line:
            while True:
                for press in contact.feed(self._seconds(), self._level(fd)):
                    yield press
                await asyncio.sleep(_LINE_EACH_S)
        news = asyncio.Event()
        asyncio.get_running_loop().add_reader(fd, news.set)
        released_s = float("inf")
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BOUNCE_S):
                    await news.wait()
            news.clear()
            now_s = self._seconds()
            for is_down in self._levels(fd):
                for press in contact.feed(now_s, is_down):
                    yield press
                released_s = now_s + _BYTES_LAST_S if self._kind == "serial" else released_s
            released = False if now_s >= released_s else None
            for press in contact.feed(now_s, released):
                yield press
            await asyncio.sleep(_PAUSE_S)  # however much it says

    def _level(self, fd: int) -> bool:
        """Whether the line is on, as an RS-232 line or a contact from RTS or DTR to it is."""
        (lines,) = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCMGET, bytes(4)))
        return bool(lines & dict(_LINES)[self._line])

    def _levels(self, fd: int) -> Iterator[bool]:
        """What was done to the keys, in its order; raises OSError or EOFError if the device is gone."""
        try:
            content = os.read(fd, _EVENTS * _EVENT.size)
        except BlockingIOError:
            return
        if not content:
            raise EOFError("end of file")
        if self._kind == "serial":
            yield True
            return
        for _, _, kind, code, value in _EVENT.iter_unpack(content[: len(content) // _EVENT.size * _EVENT.size]):
            if kind == _EV_KEY:
                yield bool(value)
            elif (kind, code) == (_EV_SYN, _SYN_DROPPED):
                yield False  # what was lost may have been the end of a press
