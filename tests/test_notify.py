"""Notifications arrive at a real socket as systemd reads them."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import notify


@pytest.fixture
def service_manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


async def test_ready_alive_and_stopping_are_told(service_manager: socket.socket) -> None:
    await notify.ready()
    assert service_manager.recv(4096) == b"READY=1"
    for tell, told in ((notify.alive, b"WATCHDOG=1"), (notify.stopping, b"STOPPING=1")):
        tell()
        assert service_manager.recv(4096) == told


def test_a_status_is_one_short_line_that_cannot_claim_anything_else(service_manager: socket.socket) -> None:
    notify.status("槽位 3: 采集中\nWATCHDOG=1\n" + "x" * 500)
    told = service_manager.recv(4096).decode()
    assert told.startswith("STATUS=槽位 3: 采集中 WATCHDOG=1 xxx")
    assert "\n" not in told
    assert len(told) == len("STATUS=") + notify.STATUS_LIMIT


async def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    await notify.ready()
    notify.alive()
    notify.status("采集中")


async def test_where_nobody_reads_nothing_stops_and_that_it_is_ready_is_told_again(
    service_manager: socket.socket,
) -> None:
    """A service manager that hangs must not stop the event loop, and with it all pulls."""
    for _ in range(5000):
        notify.alive()  # far more than any queue of datagrams holds; it waited here for ever
    ready = asyncio.create_task(notify.ready())
    await asyncio.sleep(0)
    assert not ready.done()
    service_manager.setblocking(False)
    told = []
    async with asyncio.timeout(20):
        while not told or told[-1] != b"READY=1":
            with contextlib.suppress(BlockingIOError):
                told.append(service_manager.recv(4096))
            await asyncio.sleep(0.001)
        await ready
    assert set(told[:-1]) == {b"WATCHDOG=1"}


async def test_a_socket_in_the_abstract_namespace_or_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0capture-agent-test-notify")
        listening.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", "@capture-agent-test-notify")
        await notify.ready()
        assert listening.recv(4096) == b"READY=1"
    await notify.ready()  # nobody is there to wait for


# The page's socket, by systemd's own tool.

SHOW = """
import os, socket
from agent import notify
ours, others = notify.listening("127.0.0.1", int(os.environ["PAGE"]))
print(ours is not None, len(others), flush=True)
if ours:
    ours.settimeout(10)
    ours.accept()[0].sendall(b"here")
"""


def activated(page: int, *listening: str) -> str:
    """What a process that systemd-socket-activate starts for us is told."""
    words = [word for address in listening for word in ("-l", address)]
    command = ["systemd-socket-activate", *words, "-E", f"PAGE={page}", sys.executable, "-c", SHOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as started:
        address = listening[0].rpartition(":")[0].strip("[]") or "127.0.0.1"
        with connected(address, int(listening[0].rpartition(":")[2])) as client:
            assert started.stdout is not None
            told = started.stdout.readline()
            if told.startswith("True"):
                assert client.recv(4) == b"here", "who came before the start is answered after it"
    return told


def connected(address: str, port: int) -> socket.socket:
    """It listens a moment after it was started."""
    end = time.monotonic() + 30
    while True:
        try:
            return socket.create_connection((address, port), timeout=30)
        except ConnectionRefusedError:
            assert time.monotonic() < end
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as opened:
        probes = [opened.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def test_the_socket_of_the_configured_address_is_taken_and_others_are_let_go() -> None:
    page, other = free_ports(2)
    assert activated(page, f"127.0.0.1:{page}") == "True 0\n"
    assert activated(page, f"127.0.0.1:{page}", f"127.0.0.1:{other}") == "True 1\n"
    assert activated(other, f"127.0.0.1:{page}") == "False 1\n"


def test_without_sockets_there_is_none() -> None:
    assert notify.listening("127.0.0.1", 8470) == (None, ())
