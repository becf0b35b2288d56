"""A satellite receiver on a pseudo-terminal, against which the station's clock is compared; and what is no sentence."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import reduce
from operator import xor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.doctor.evidence import _by_satellite
from agent.doctor.finding import Grade
from agent.lines.nmea import time_of
from agent.lines.receiver import station_ahead_ms
from agent.lines.wire import Trouble


def sentence(body: str) -> bytes:
    """With its $ and its checksum."""
    return f"${body}*{reduce(xor, body.encode()):02X}".encode()


def rmc(at: datetime, status: str = "A") -> bytes:
    return sentence(f"GPRMC,{at:%H%M%S}.00,{status},3524.0,N,11635.0,E,0.0,0.0,{at:%d%m%y},,,A")


@contextmanager
def receiver(*lines: bytes, behind_s: float = 0.0) -> Iterator[str]:
    """Writes `lines`, and without any the present time, again and again; the name of its line."""
    main, end = os.openpty()
    tty.setraw(end)
    ended = threading.Event()

    def talk() -> None:
        while not ended.wait(0.1):
            now = datetime.fromtimestamp(time.time() - behind_s, UTC)
            os.write(main, b"".join(line + b"\r\n" for line in lines or (b"$GPGSV,1", rmc(now))))

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield os.ttyname(end)
    finally:
        ended.set()
        thread.join()
        os.close(main)
        os.close(end)


def test_the_time_of_a_real_sentence_is_read() -> None:
    line = b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A"
    assert time_of(line) == datetime(2094, 3, 23, 12, 35, 19, tzinfo=UTC), "as NMEA's own example has it"
    assert time_of(sentence("GNZDA,160509.25,23,11,2026,00,00") + b"\r") == datetime(
        2026, 11, 23, 16, 5, 9, 250_000, tzinfo=UTC
    )
    assert time_of(sentence("BDRMC,235960,A,,,,,,,311216,,")) is None, "a leap second"


@pytest.mark.parametrize(
    "line",
    [b"", b"$", b"$GPRMC*4B", sentence("GPRMC,123519,V,,,,,,,230326,,"), sentence("GPGGA,123519,A,,,,,,,230326"),
     sentence("GPRMC,123519,A,,,,,,,239926,,"), sentence("GPRMC,12351,A,,,,,,,230326,,"), sentence("GPZDA,1,2"),
     rmc(datetime(2026, 1, 1, tzinfo=UTC))[:-1] + b"Z", rmc(datetime(2026, 1, 1, tzinfo=UTC)).replace(b"A,", b"B,")],
)  # fmt: skip
def test_what_tells_no_time_is_passed_over(line: bytes) -> None:
    assert time_of(line) is None


@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda body: f"$GPRMC,{body}*00".encode()))
def test_no_bytes_break_it(line: bytes) -> None:
    time_of(line)


@pytest.mark.parametrize("behind_s", [0.0, 3600.0])
async def test_the_clock_is_compared_with_what_the_receiver_tells(behind_s: float) -> None:
    with receiver(behind_s=behind_s) as node:
        ahead = await station_ahead_ms(node, 4800)
    assert not isinstance(ahead, Trouble)
    assert -500 <= ahead - behind_s * 1000 <= 5000
    assert _by_satellite(ahead).grade is (Grade.GOOD if ahead <= 2000 else Grade.WARNING)


async def test_a_receiver_without_a_fix_or_without_a_line_is_told() -> None:
    with receiver(b"$GPRMC,,V,,,,,,,,,,N*53") as node:
        assert await station_ahead_ms(node, 4800) is Trouble.SILENT
    assert await station_ahead_ms("/dev/ttyNOTHERE", 4800) is Trouble.BUSY
    assert "silent" in _by_satellite(Trouble.SILENT).en
