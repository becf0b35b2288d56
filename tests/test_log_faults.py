"""The running service without its log, which is full, stuck, gone or closed: it works, and no line lands elsewhere."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulator.content import Noise
from tests.cards import image
from tests.daemons import LIMIT_S, call, stage


@contextmanager
def full_disk() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    yield fd
    os.close(fd)


@contextmanager
def nobody_reads() -> Iterator[int]:
    """A pipe that takes nothing more: as journald that hangs."""
    out, into = os.pipe()
    os.set_blocking(into, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(into, bytes(fcntl.fcntl(into, fcntl.F_GETPIPE_SZ))):
            pass
    os.set_blocking(into, True)
    yield into
    os.close(into)
    os.close(out)


@contextmanager
def reader_is_gone() -> Iterator[int]:
    out, into = os.pipe()
    os.close(out)
    yield into
    os.close(into)


@contextmanager
def closed() -> Iterator[None]:
    yield None


@pytest.mark.parametrize("log", [full_disk, nobody_reads, reader_is_gone, closed], ids=lambda made: made.__name__)
def test_the_service_works_and_ends_in_good_order_without_its_log(
    tmp_path: Path, log: Callable[[], contextlib.AbstractContextManager[int | None]]
) -> None:
    """A recorder is pulled and stored, byte by byte, also where descriptors 0 to 2 were closed at the start."""
    made = stage(tmp_path)
    content = Noise(300_000, 1)
    path = image(tmp_path / "card.img", {"A.MP4": content})
    with log() as stderr:
        words = (
            made.command("run")
            if stderr is not None
            else ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *made.command("run")]
        )
        service = subprocess.Popen(words, stdout=stderr, stderr=stderr)
        try:
            end = time.monotonic() + LIMIT_S
            while call(made, "status").returncode != 0:
                assert time.monotonic() < end
                assert service.poll() is None
            assert call(made, "pull", str(path)).returncode == 0
            if stderr is None:
                first = [os.readlink(f"/proc/{service.pid}/fd/{fd}") for fd in range(3)]
                assert first == [os.devnull] * 3
            service.send_signal(signal.SIGTERM)
            assert service.wait(20) == 0
        finally:
            service.kill()
            service.wait()
    assert [file.read_bytes() for file in (made.station / "vault").rglob("*") if file.is_file()] == [content.read()]
    assert call(made, "verify").returncode == 0
