"""Notifications arrive at a real socket as systemd reads them."""

from __future__ import annotations

import socket
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


def test_ready_alive_and_stopping_are_told(service_manager: socket.socket) -> None:
    for tell, told in ((notify.ready, b"READY=1"), (notify.alive, b"WATCHDOG=1"), (notify.stopping, b"STOPPING=1")):
        tell()
        assert service_manager.recv(4096) == told


def test_a_status_is_one_short_line_that_cannot_claim_anything_else(service_manager: socket.socket) -> None:
    notify.status("槽位 3: 采集中\nWATCHDOG=1\n" + "x" * 500)
    told = service_manager.recv(4096).decode()
    assert told.startswith("STATUS=槽位 3: 采集中 WATCHDOG=1 xxx")
    assert "\n" not in told
    assert len(told) == len("STATUS=") + notify.STATUS_LIMIT


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify.ready()
    notify.alive()
    notify.status("采集中")
