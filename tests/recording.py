"""Records from a camera in a test as the daemon does, and says what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from agent.rooms.engine import RoomRecorder
from agent.rooms.protocol import Closed, Lost, Noticed, Plan, Report, SourcePlan, Transport, Why
from simulator.cameras.frames import Known, Matched

T = TypeVar("T")
LIMIT_S = 60.0
"""Far more than anything here takes."""


def plan(folder: Path, *urls: str, transport: Transport = Transport.TCP, **options: object) -> Plan:
    """Sources cam0, cam1, …, unwatched, in segments of 2 s."""
    folder.mkdir(exist_ok=True)
    sources = tuple(SourcePlan(f"cam{at}", url, transport, watch=False) for at, url in enumerate(urls))
    values = {"segment_s": 2.0, **options}
    return Plan("session", str(folder), sources, (1,) * len(sources), **values)  # type: ignore[arg-type]


@dataclass
class Recording:
    """What a recorder said so far; `recorder` is it."""

    recorder: RoomRecorder
    folder: Path
    said: list[Report] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def all(self, kind: type[T], source: str = "") -> list[T]:
        return [one for one in self.said if isinstance(one, kind) and (not source or one.source == source)]  # type: ignore[attr-defined]

    async def wait(self, kind: type[T], count: int = 1, when: Callable[[T], bool] = lambda _: True) -> T:
        """The report of a kind that makes it `count`."""
        async with asyncio.timeout(LIMIT_S):
            while len(found := [one for one in self.all(kind) if when(one)]) < count:
                self.news.clear()
                await self.news.wait()
        return found[count - 1]

    def noticed(self, kind: str) -> list[Noticed]:
        return [one for one in self.all(Noticed) if one.kind == kind]

    def causes(self) -> list[str]:
        return [one.cause.value for one in self.all(Lost)]

    @property
    def sources(self) -> list[str]:
        return sorted({one.source for one in self.said})

    def files(self, source: str = "cam0") -> list[Path]:
        return sorted(path for path in self.folder.glob(f"{source}-*.m*") if path.stat().st_size)

    def match(self, *packs: Path, source: str = "cam0") -> Matched:
        """What the files have; all were told as closed, with as many pictures as they have where that is known."""
        matched = Known(*packs).match(self.files(source))
        told = {closed.file: closed.frames for closed in self.all(Closed, source)}
        torn = {closed.file for closed in self.all(Closed, source) if closed.why in {Why.KILLED, Why.DISK}}
        found = {name: len(numbers) for name, numbers in matched.per_file.items()}
        damaged = len(matched.damaged)
        assert told.keys() == {path.name for path in self.files(source)}
        told, found = ({name: count for name, count in all_.items() if name not in torn} for all_ in (told, found))
        assert sum(found.values()) <= sum(told.values()) <= sum(found.values()) + damaged
        assert damaged or told == found
        return matched


@asynccontextmanager
async def recording(what: Plan) -> AsyncIterator[Recording]:
    """A recording that is stopped at the end; `wait` and what was said are there afterwards as well."""
    recorder = RoomRecorder(what, lambda: datetime.now(UTC))
    it = Recording(recorder, Path(what.folder))

    async def listen() -> None:
        async for report in recorder.reports():
            it.said.append(report)
            it.news.set()

    listening = asyncio.create_task(listen())
    try:
        yield it
    finally:
        async with asyncio.timeout(LIMIT_S):
            await recorder.stop()
            await listening
