"""Beside a session: asks its ONVIF cameras for clocks and key frames, and hears what they notice by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from agent.config.rooms import Source
from agent.errors import RoomError
from agent.model import Clock
from agent.rooms.addresses import onvif_place, user_and_password
from agent.rooms.onvif import ClockReading, Events, Happening, Notices, clock_offset, synchronize
from agent.rooms.protocol import Cause, Kind, Noticed

log: Final = logging.getLogger("capture-agent")

OFF: Final = timedelta(seconds=1)
"""A camera's clock that is further off goes on as an alarm: what its pictures say of the time isn't so."""

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_READ_EACH_S: Final = 600.0
_AGAIN_S: Final = 60.0
_CHANGED_US: Final = 100_000
_COARSEST_US: Final = 200_000
_TRIES: Final = 2
_DEAF: Final = timedelta(seconds=30)
"""A camera that starts anew is back by then; longer than that is told."""
_LOOK_S: Final = 1.0
_KINDS: Final[Mapping[Notices, Kind]] = {Notices.TAMPER: Kind.TAMPER, Notices.SIGNAL: Kind.SIGNAL}
"""Motion is left out: people move, and a ledger of that says nothing."""

Tell = Callable[[Noticed], None]


class SessionCameras:
    """The ONVIF cameras among the sources of a session. Nothing waits for them, and their trouble harms no recording.

    `tell` hears of each clock (CLOCK: goes on while it is off, is over at once if it isn't; `value` is by how much the
    camera is ahead), of TAMPER and SIGNAL while they go on, and of UNHEARD while these can't be heard; once, if the
    camera has no such events.
    """

    def __init__(self, sources: Iterable[Source], clock: Clock, tell: Tell) -> None:
        self._sides = {one.name: _Side(one, clock, tell) for one in sources if one.url.startswith("onvif:")}

    def opened(self, source: str) -> None:
        """The recorder has connected to a source: its camera shall begin with a key frame."""
        if (side := self._sides.get(source)) is not None:
            side.opened.set()

    async def run(self) -> None:
        """Until cancelled; a bug in here is logged, and one camera is not asked any more."""
        tasks = [asyncio.create_task(work) for side in self._sides.values() for work in side.works()]
        for task in tasks:
            task.add_done_callback(_ended)
        try:
            await asyncio.Event().wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Side:
    """One camera of a session, and what was told of it."""

    def __init__(self, source: Source, clock: Clock, tell: Tell) -> None:
        self.opened = asyncio.Event()
        self._source, self._clock, self._tell = source, clock, tell
        self._read: ClockReading | None = None
        self._events: Events | None = None
        self._hears = True
        self._going: dict[Kind, Noticed] = {}
        self._on: dict[Kind, set[tuple[str, str]]] = {kind: set() for kind in _KINDS.values()}

    def works(self) -> tuple[Coroutine[None, None, None], ...]:
        """What is to be done at the same time, each for ever."""
        return self._compare(), self._listen(), self._follow(), self._synchronize()

    async def _compare(self) -> None:
        host, port, _ = onvif_place(self._source)
        while True:
            pause_s = _READ_EACH_S
            try:
                self._compared(await clock_offset(host, port, *self._who(), clock=self._clock))
            except RoomError as error:  # the recorder tells of a camera that is gone
                pause_s = _READ_EACH_S if error.cause == Cause.UNAUTHORISED else _AGAIN_S
            await asyncio.sleep(pause_s)

    def _compared(self, reading: ClockReading) -> None:
        """Tell of the first reading that is good enough, and of each that is another."""
        if reading.uncertainty_us > max(_COARSEST_US, abs(reading.offset_us) // 10):
            return
        if (told := self._read) is not None:
            unsure_us = told.uncertainty_us + reading.uncertainty_us
            if abs(told.offset_us - reading.offset_us) <= _CHANGED_US + unsure_us:
                return
        self._read, at_us = reading, (reading.at - _EPOCH) // _MICROSECOND
        self._end(Kind.CLOCK, at_us)
        off = abs(reading.offset_us) - reading.uncertainty_us > OFF // _MICROSECOND
        self._begin(Noticed(self._source.name, Kind.CLOCK, at_us, None if off else at_us, reading.offset_us))

    async def _listen(self) -> None:
        host, port, _ = onvif_place(self._source)
        self._events = Events(host, port, *self._who(), self._clock)
        try:
            async with contextlib.aclosing(aiter(self._events)) as heard:
                async for happening in heard:
                    self._heard(happening)
        finally:
            self._hears = False

    async def _follow(self) -> None:
        """Tell that nothing is heard once that lasts, from when it began, and as soon as it is over."""
        since_us, is_told = 0, False
        while True:
            events, now_us = self._events, self._now_us()
            if events is None or (self._hears and not events.trouble):
                since_us = 0
                self._end(Kind.UNHEARD, now_us)
            elif not events.is_able:
                if not is_told:
                    self._begin(Noticed(self._source.name, Kind.UNHEARD, now_us, now_us))
                is_told = True
            elif Kind.UNHEARD not in self._going:
                since_us = since_us or now_us
                if now_us - since_us >= _DEAF // _MICROSECOND:
                    self._begin(Noticed(self._source.name, Kind.UNHEARD, since_us))
            await asyncio.sleep(_LOOK_S)

    def _now_us(self) -> int:
        return (self._clock() - _EPOCH) // _MICROSECOND

    def _heard(self, happening: Happening) -> None:
        if (kind := _KINDS.get(happening.what)) is None:
            return
        on, at_us = self._on[kind], (happening.at - _EPOCH) // _MICROSECOND
        (on.add if happening.on else on.discard)((happening.topic, happening.source))
        if on and kind not in self._going:
            self._begin(Noticed(self._source.name, kind, at_us))
        elif not on:
            self._end(kind, at_us)

    async def _synchronize(self) -> None:
        host, port, profile = onvif_place(self._source)
        while True:
            await self.opened.wait()
            self.opened.clear()
            for _ in range(_TRIES):
                with contextlib.suppress(RoomError):  # then the key frame comes when it comes
                    await synchronize(host, port, *self._who(), profile, clock=self._clock)
                    break

    def _who(self) -> tuple[str, str]:
        """Nobody without the credential, of which the recorder tells; much needs none."""
        try:
            return user_and_password(self._source)
        except RoomError:
            return "", ""

    def _begin(self, noticed: Noticed) -> None:
        if noticed.end_us is None:
            self._going[noticed.kind] = noticed
        self._tell(noticed)

    def _end(self, kind: Kind, at_us: int) -> None:
        if (going := self._going.pop(kind, None)) is not None:
            self._tell(replace(going, end_us=max(going.start_us, at_us)))


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("bug: a camera of a session is not asked any more", exc_info=error)
