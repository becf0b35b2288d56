"""A real FTP server uploads into an inbox: nothing of a file is docked before its upload has ended."""

from __future__ import annotations

import contextlib
import ftplib
import os
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from simulator.stores.processes import HOST, Servers, free_port
from simulator.stores.rclone import program
from tests.servers import installed
from tests.test_inbox import QUICK, watched

CONTENT = bytes(range(256)) * 4096


@pytest.fixture
def ftp(tmp_path: Path) -> Iterator[ftplib.FTP]:
    """A client of `rclone serve ftp` on the folder `inbox`."""
    (tmp_path / "inbox").mkdir()
    with installed():
        rclone = program()
    port, passive = free_port(), free_port()
    options = ("--addr", f"{HOST}:{port}", "--passive-port", f"{passive}-{passive + 5}", "--user", "u", "--pass", "p")
    with contextlib.closing(Servers(tmp_path / "ftp.log")) as servers:
        process = servers.start(rclone, "serve", "ftp", "--config", os.devnull, *options, tmp_path / "inbox")
        servers.wait_for_port(process, port, "rclone")
        with ftplib.FTP(timeout=20) as client:
            client.connect(HOST, port)
            client.login("u", "p")
            yield client


async def test_an_upload_is_docked_when_it_has_ended_and_not_before(ftp: ftplib.FTP, tmp_path: Path) -> None:
    async with watched(tmp_path / "inbox", replace(QUICK, rescan_s=0.2)) as place:
        ftp.mkd("cam")
        connection = ftp.transfercmd("STOR cam/a.bin")
        connection.sendall(CONTENT)
        await place.stays()
        connection.sendall(CONTENT)
        connection.close()
        ftp.voidresp()
        await place.docks("cam/a.bin")
        assert (tmp_path / "inbox/cam/a.bin").read_bytes() == 2 * CONTENT
        ftp.storbinary("STOR b.bin", BytesIO(CONTENT))
        place.end()
        await place.docks("b.bin")
