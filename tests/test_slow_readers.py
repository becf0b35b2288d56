"""Promise: who takes an answer slowly, or not at all, keeps neither its bytes nor a place for long."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.screens import door, player, server
from agent.status.board import Board
from agent.vault import address_in
from tests.journal_entries import digests_of
from tests.status_station import Served, serve
from tests.test_player import ask, granted
from tests.test_player import served as with_copy

__all__ = ["with_copy"]
LARGE_BYTES = 16 << 20
"""More than the kernel takes for who doesn't read."""
SOON_S = 20


@pytest.fixture(autouse=True)
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "COPY_LIMIT_S", 1.0)
    monkeypatch.setattr(player, "_COPIES", 1)


def asked_for(served: Served, path: str) -> socket.socket:
    """A connection that has asked, and takes little."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(SOON_S)
    client.connect(("127.0.0.1", served.port))
    client.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nCookie: session={served.cookie}\r\n\r\n".encode())
    assert client.recv(15).split()[1] in (b"200", b"206")
    return client


@contextlib.asynccontextmanager
async def asking(served: Served, path: str) -> AsyncIterator[socket.socket]:
    """A client that stays there until nothing is done for him any more, and is let go soon."""
    before = asyncio.all_tasks()
    with await asyncio.to_thread(asked_for, served, path) as client:
        assert asyncio.all_tasks() - before, "somebody works for him"
        yield client
        async with asyncio.timeout(SOON_S):
            while asyncio.all_tasks() - before:
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(("taken_s", "stalled_ms", "trickles"), [(1.5, 60_000, True), (60.0, 700, False)])
async def test_a_slow_reader_of_a_large_answer_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken_s: float, stalled_ms: int, trickles: bool
) -> None:
    async def large(_: Board) -> bytes:
        return b" " * LARGE_BYTES

    monkeypatch.setattr(server, "_TAKEN_S", taken_s)
    monkeypatch.setattr(door, "STALLED_MS", stalled_ms)
    monkeypatch.setattr(Board, "status", large)
    async with serve(tmp_path) as served:
        async with asking(served, "/api/v1/status") as client:
            got = await asyncio.to_thread(taken, client) if trickles else 0
        assert got < LARGE_BYTES
        status, _, body = await asyncio.to_thread(served.ask, "/api/v1/status", Connection="close")
        assert (status, len(body)) == (200, LARGE_BYTES), "who reads gets all of it"


def taken(client: socket.socket) -> int:
    """Take a little at a time until the other side has enough of it."""
    got = 0
    with contextlib.suppress(ConnectionError):
        while part := client.recv(1000):
            got += len(part)
            time.sleep(0.02)
    return got


async def test_a_slow_reader_of_a_copy_gives_his_place_to_the_next_one(with_copy: Served, tmp_path: Path) -> None:
    path = address_in(tmp_path, digests_of("p").blake3)
    with path.open("r+b") as file:
        file.truncate(LARGE_BYTES)
    address = f"/recordings/rec-a/copy?grant={await granted(with_copy)}"
    async with asking(with_copy, address):
        status, _, body = await ask(with_copy, address, Range="bytes=0-999", Connection="close")
        assert (status, len(body)) == (206, 1000)
