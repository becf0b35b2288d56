"""Promise: whoever opens connections to the screens takes no descriptor that a pull needs, nor the kiosk's place."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.screens import door
from agent.screens.door import ELSEWHERE, LIMIT, ONE_MACHINE, admits
from tests.status_station import Served, serve


async def opened(served: Served) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", served.port)


async def test_one_too_many_is_let_go_at_once_and_comes_in_when_another_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "LIMIT", 5)
    async with serve(tmp_path, role=None) as served, contextlib.AsyncExitStack() as stack:
        idle = [await opened(served) for _ in range(5)]
        for _, writer in idle:
            stack.callback(writer.close)
        for _ in range(20):
            reader, writer = await opened(served)
            stack.callback(writer.close)
            assert await asyncio.wait_for(reader.read(), 5) == b"", "without a word, nor a place in a queue"
        idle[0][1].close()
        status = 0
        while status != 200:
            with contextlib.suppress(ConnectionError):
                status = (await asyncio.to_thread(served.ask, "/healthz"))[0]


@given(st.lists(st.sampled_from(["127.0.0.1", "::1", *(f"192.0.2.{n}" for n in range(1, 12))]), max_size=150))
def test_no_crowd_is_larger_than_its_part(coming: list[str]) -> None:
    inside: list[str] = []
    for host in coming * 4:
        if admits(inside, host):
            inside.append(host)
    others = [host for host in inside if host.startswith("192")]
    assert len(inside) <= LIMIT
    assert len(others) <= ELSEWHERE
    assert all(others.count(host) <= ONE_MACHINE for host in others)


def test_a_network_leaves_the_kiosk_its_place() -> None:
    crowd = [f"2001:db8::{n % 100:x}" for n in range(ELSEWHERE)]
    assert not admits(crowd, "2001:db8::ffff")
    assert admits(crowd, "127.0.0.1")
    assert not admits(["fe80::1%eth0"] * ONE_MACHINE, "fe80::1%eth0")
