"""A room whose recorder does what the test says: real files in the real folder, and the reports of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from agent.config.rooms import Room, Source
from agent.model import Clock, StartedBy
from agent.pipeline.segments import EPOCH
from agent.pipeline.sessions import Order, Sessions
from agent.pipeline.station import Station
from agent.rooms.protocol import Alive, Back, Begun, Cause, Closed, Lost, Plan, Report, SourcePlan, Track, Why

ROOM = Room(
    "xunwen",
    "一号询问室",
    (Source("front", "正面", "rtsp://192.0.2.1/a"), Source("side", "侧面", "rtsp://192.0.2.2/a")),
    planned_h=0.1,
    bitrate_kbit_s=64,
)
ORDER = Order(StartedBy.SCREEN, "张三", "询问", title="询问王某", case_number="", participants=("当事人：王某",))
VIDEO = (Track("video", "h264", 640, 360),)
LIMIT_S = 20.0
"""So long a test waits for what takes milliseconds."""


def us(time: datetime) -> int:
    """Microseconds since 1970."""
    return (time - EPOCH) // timedelta(microseconds=1)


class Scripted:
    """One recorder process; `plan` is what it was told."""

    def __init__(self, plan: Plan, clock: Clock, written: set[bytes]) -> None:
        self.plan = plan
        self.written = written
        self.clock = clock
        self.numbers = dict(zip((source.name for source in plan.sources), plan.first_numbers, strict=True))
        self.stopped = False
        self._open: dict[str, datetime] = {}
        self._said: asyncio.Queue[Report | None] = asyncio.Queue()

    async def reports(self) -> AsyncIterator[Report]:
        while (report := await self._said.get()) is not None:
            yield report

    async def stop(self) -> None:
        self.stopped = True
        for name in list(self._open):
            self.close(name, why=Why.STOPPED)
        self._said.put_nowait(None)

    def die(self) -> None:
        """It ends by itself, without a word."""
        self._said.put_nowait(None)

    def say(self, *reports: Report) -> None:
        for report in reports:
            self._said.put_nowait(report)

    def begin(self, *names: str) -> None:
        for name in names or self.numbers:
            self._open[name] = self.clock()
            (Path(self.plan.folder) / self.file(name)).write_bytes(self.content(name))
            self.written.add(self.content(name))
            self.say(Begun(name, self.numbers[name], self.file(name), us(self.clock())))

    def close(self, name: str, *, why: Why = Why.LENGTH) -> Closed:
        start, end = self._open.pop(name), self.clock()
        size_bytes = (Path(self.plan.folder) / self.file(name)).stat().st_size
        span = (us(start), us(end), us(end) - us(start), size_bytes, 25, 0)
        closed = Closed(name, self.numbers[name], self.file(name), why, *span, VIDEO)
        self.numbers[name] += 1
        self.say(closed)
        return closed

    def file(self, name: str) -> str:
        return f"{name}-{self.numbers[name]:06}.mp4"

    def content(self, name: str) -> bytes:
        return f"{self.plan.session_id} {self.file(name)} ".encode() * 100

    def lose(self, name: str, cause: Cause = Cause.STALLED) -> None:
        self.say(Lost(name, us(self.clock()), cause))

    def back(self, name: str) -> None:
        self.say(Back(name, us(self.clock())))

    def alive(self, name: str, **more: object) -> None:
        plain = {"mono_us": 0, "media_us": 5_000_000, "size_bytes": 1000, "video_bytes": 900, "audio_bytes": 0}
        self.say(Alive(name, **(plain | {"connected": True} | more)))  # type: ignore[arg-type]


@dataclass
class Studio:
    """Makes the recorders of a life of the service, and addresses of cameras that answer unless they are `mute`."""

    made: list[Scripted] = field(default_factory=list)
    written: set[bytes] = field(default_factory=set)
    mute: set[str] = field(default_factory=set)

    def record(self, plan: Plan, clock: Clock) -> Scripted:
        self.made.append(Scripted(plan, clock, self.written))
        return self.made[-1]

    async def address(self, _: Room, source: Source) -> SourcePlan:
        if source.name in self.mute:
            await asyncio.Event().wait()
        return SourcePlan(source.name, source.url.replace("//", "//user:secret@"))

    async def recorder(self, count: int = 1) -> Scripted:
        """The newest, when so many were made."""
        await until(lambda: len(self.made) >= count)
        return self.made[-1]

    @asynccontextmanager
    async def serving(self, station: Station, *rooms: Room) -> AsyncIterator[Sessions]:
        """A life of the service, until the block ends: then it is told to end, as by SIGTERM."""
        chosen = {room.name: room for room in rooms or (ROOM,)}
        sessions = Sessions(station, chosen, self.address, self.record)
        task = asyncio.create_task(sessions.run())
        try:
            yield sessions
        finally:
            task.cancel()
            await asyncio.wait([task])
        if not task.cancelled():
            task.result()


async def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fails after a generous while."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.005)
