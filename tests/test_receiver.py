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
from agent.lines.nmea import Fix, fix_of
from agent.lines.receiver import Compared, _checked, compared
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


def test_a_real_sentence_is_read() -> None:
    line = b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A"
    fix = fix_of(line)
    assert fix is not None
    assert fix.at == datetime(2094, 3, 23, 12, 35, 19, tzinfo=UTC), "as NMEA's own example has it"
    assert fix.place == pytest.approx((48.1173, 11.516667))


def test_a_beidou_receiver_is_read_as_a_gps_one_and_a_leap_second_is_none() -> None:
    at = datetime(2026, 11, 23, 16, 5, 9, 250_000, tzinfo=UTC)
    assert fix_of(sentence("BDRMC,160509.25,A,,,,,,,231126,,") + b"\r") == Fix(at, None)
    assert fix_of(sentence("BDRMC,235959.00,A,,,,,,,311216,,")) is not None
    assert fix_of(sentence("BDRMC,235960.00,A,,,,,,,311216,,")) is None


@pytest.mark.parametrize(
    "line",
    [b"", b"$", b"$GPRMC*4B", sentence("GPRMC,123519,V,,,,,,,230326,,"), sentence("GPGGA,123519,A,,,,,,,230326"),
     sentence("GPRMC,123519,A,,,,,,,239926,,"), sentence("GPRMC,12351,A,,,,,,,230326,,"), sentence("GPRMC,1,A"),
     sentence("GNZDA,160509.25,23,11,2026,00,00"),
     rmc(datetime(2026, 1, 1, tzinfo=UTC))[:-1] + b"Z", rmc(datetime(2026, 1, 1, tzinfo=UTC)).replace(b"A,", b"B,")],
)  # fmt: skip
def test_what_tells_no_time_that_is_surely_right_is_passed_over(line: bytes) -> None:
    assert fix_of(line) is None


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("3524.0,N,11635.0,E", (35.4, 116.583333)), ("3524.0,S,11635.0,W", (-35.4, -116.583333)),
        ("9000.0,N,18000.0,E", (90.0, 180.0)), ("9000.1,N,11635.0,E", None), ("3524.0,N,18000.1,E", None),
        ("3560.0,N,11635.0,E", None), ("3524.0,E,11635.0,N", None), ("3524.0,,11635.0,E", None),
        ("-524.0,N,11635.0,E", None), ("3524.0,NS,11635.0,E", None), ("nan,N,inf,E", None),
    ],
)  # fmt: skip
def test_a_place_is_one_on_earth_or_none(place: str, expected: tuple[float, float] | None) -> None:
    fix = fix_of(sentence(f"GPRMC,160509,A,{place},0.0,0.0,231126,,"))
    assert fix is not None
    assert fix.place == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("place", [[91.0, 0.0], [0.0, -181.0], [1.0], ["1", "2"], "here", [float("nan"), 0.0]])
def test_a_place_that_no_child_of_ours_says_is_refused(place: object) -> None:
    with pytest.raises(ValueError):
        _checked(place)


@given(st.binary(max_size=200) | st.text(max_size=80).map(lambda body: f"$GPRMC,{body}*00".encode()))
def test_no_bytes_break_it(line: bytes) -> None:
    fix_of(line)


@pytest.mark.parametrize("behind_s", [0.0, 3600.0])
async def test_the_clock_is_compared_with_what_the_receiver_tells_and_its_place_is_told_as_its_own(
    behind_s: float,
) -> None:
    with receiver(behind_s=behind_s) as node:
        said = await compared(node, 4800)
    assert isinstance(said, Compared)
    assert -500 <= said.ahead_ms - behind_s * 1000 <= 5000
    told = _by_satellite(said)
    assert told.grade is (Grade.GOOD if said.ahead_ms <= 2000 else Grade.WARNING)
    assert "自报位置 北纬 35.400°，东经 116.583°" in told.zh
    assert "it says that it is at 35.400° N, 116.583° E" in told.en
    assert "位置" not in _by_satellite(Compared(0)).zh


async def test_a_receiver_without_a_fix_or_without_a_line_is_told() -> None:
    with receiver(b"$GPRMC,,V,,,,,,,,,,N*53") as node:
        assert await compared(node, 4800) is Trouble.SILENT
    assert await compared("/dev/ttyNOTHERE", 4800) is Trouble.BUSY
    assert "silent" in _by_satellite(Trouble.SILENT).en
