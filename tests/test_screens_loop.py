"""Promise: no page and no number of followers holds up the loop on which recorders are looked after."""

from __future__ import annotations

import asyncio
import contextlib
import time
from asyncio import events
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.model import Incident, Phase
from agent.screens.who import Role
from tests.journal_entries import NOW, opened
from tests.status_station import Served, footage, serve, slot

STEP_CPU_S = 0.025
"""Of the loop's own thread, in one step: five times what the dearest takes, so that no other load counts."""

FOLLOWERS = 60
PAGES = {
    "/": Role.SUPERVISOR, "/recordings/rec-a1": Role.SUPERVISOR, "/statistics": Role.SUPERVISOR,
    "/api/v1/status": Role.SUPERVISOR, "/api/v1/recordings": Role.SUPERVISOR, "/api/v1/devices": Role.IT,
    "/metrics": Role.IT, "/healthz": Role.IT, "/kiosk": Role.OFFICER,
}  # fmt: skip


@contextlib.contextmanager
def stepping(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """What each step of the loop costs until the block ends, in seconds of its thread's CPU."""
    taken: list[float] = []
    step = events.Handle._run

    def timed(handle: events.Handle) -> None:
        began_s = time.thread_time()
        step(handle)
        taken.append(time.thread_time() - began_s)

    with monkeypatch.context() as patch:
        patch.setattr(events.Handle, "_run", timed)
        yield taken


async def follow(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        asked = f"GET /api/v1/events HTTP/1.1\r\nHost: 127.0.0.1\r\nCookie: session={served.cookie}\r\n\r\n"
        writer.write(asked.encode())
        while await reader.read(1 << 16):
            pass
    finally:
        writer.close()


async def changed(served: Served, done: int) -> None:
    """Thirty recorders go on, and a hundred things happen."""
    reading = replace(slot(Phase.READING), bytes_done=done)
    served.world.show(*(replace(reading, slot=str(number)) for number in range(30)))
    await served.journal.record(*(Incident("tick", {"number": number}) for number in range(100)))


async def test_no_step_of_the_loop_is_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve(tmp_path, f'[storage]\nroot = "{tmp_path}"\n') as served:
        seen = (footage(served.config, f"a{number}", number, NOW - timedelta(hours=number)) for number in range(100))
        await served.journal.record(opened(), *seen)
        followers = [asyncio.create_task(follow(served)) for _ in range(FOLLOWERS)]
        for path, role in PAGES.items():  # a template is compiled once
            assert (await asyncio.to_thread(served.signed_in(role).ask, path))[0] == 200, path
        for path, role in PAGES.items():
            asking = served.signed_in(role)
            with stepping(monkeypatch) as taken:
                await changed(served, len(path))
                assert (await asyncio.to_thread(asking.ask, path))[0] == 200
            assert max(taken) < STEP_CPU_S, path
        for follower in followers:
            follower.cancel()
        await asyncio.wait(followers)
