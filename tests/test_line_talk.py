"""Conversations over real pseudo-terminals with the simulated recorder, and every way in which a line can be bad."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import termios
import threading
import time
import tty
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.recorders import Does, RecorderProfile, read_recorders
from agent.lines.asking import Heard, _with, converse
from agent.lines.talk import Line, UnheardError, opened
from agent.lines.wire import Trouble
from simulator.serial_recorder import Fault, SerialRecorder

SHIPPED = Path(__file__).parent.parent / "config" / "recorders"
READING = (Does.GREET, Does.UNLOCK, Does.CLOCK, Does.TELL)
ALL = (*READING, Does.DISK)
TOLD = {
    "id_code": "DSJH7", "device_no": "0000217", "officer_no": "001234", "unit_no": "370800", "battery_percent": "87",
}  # fmt: skip
_KEYS = ("clock", "at_ms", "told", "done", "failed", "trouble", "optional", "model")
quick_recorder = partial(SerialRecorder, tenths=True)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecorderProfile:
    """The shipped profile, with the simulated recorder's password as systemd hands it over."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret = tmp_path / "capture-agent.recorder-simulated"
    secret.write_text("000000\n")
    secret.chmod(0o400)
    profiles, problems = read_recorders(SHIPPED)
    assert not problems
    return profiles["gat947-simulated"]


@pytest.fixture
def quick(profile: RecorderProfile) -> RecorderProfile:
    """The same for recorders that show tenths of a second, so that no test waits for whole ones."""
    clock = replace(profile.steps[2], expect=r"TIME (?P<clock>\d{15})")
    steps = (*profile.steps[:2], clock, *profile.steps[3:])
    wire = replace(profile.wire, wait_s=0.5)
    return replace(profile, steps=steps, wire=wire, clock_format="%Y%m%d%H%M%S%f", clock_step_ms=100)


async def spoken(recorder: SerialRecorder, profile: RecorderProfile, wanted: Sequence[Does] = ALL) -> Heard:
    with recorder:
        return await converse(profile, recorder.node, wanted)


@pytest.mark.parametrize("ahead_s", [0.0, 93.4, -7200.25, 3.6e8])
async def test_a_recorder_is_read_and_switched_and_its_clock_is_within_what_is_told(
    profile: RecorderProfile, ahead_s: float
) -> None:
    recorder = SerialRecorder(ahead_s=ahead_s)
    before = time.time()
    heard = await spoken(recorder, profile)
    assert (heard.is_whole, heard.failed, dict(heard.told), heard.is_disk) == (True, (), TOLD, True)
    assert recorder.is_disk
    assert heard.offset_ms is not None
    assert heard.measured_at is not None
    assert abs(heard.offset_ms - ahead_s * 1000) <= heard.uncertainty_ms + 1
    assert heard.uncertainty_ms <= 501, "whole seconds, and the way there and back"
    assert before - 1 <= heard.measured_at.timestamp() <= time.time() + 1


async def test_the_clock_is_compared_before_anything_else_is_asked(quick: RecorderProfile) -> None:
    recorder = quick_recorder()
    await spoken(recorder, quick)
    asked = [request for request in recorder.heard if request != "TIME?"]
    first = recorder.heard.index("TIME?")
    assert recorder.heard[:first] == ["INIT", "PASS 000000"]
    assert asked == ["INIT", "PASS 000000", "INFO?", "POWER?", "MSDC"]


async def test_a_slow_way_makes_the_clock_less_certain_and_no_less_true(quick: RecorderProfile) -> None:
    heard = await spoken(quick_recorder(ahead_s=10, delay_s=0.2), quick, READING)
    assert heard.offset_ms is not None
    assert abs(heard.offset_ms - 10_000) <= heard.uncertainty_ms + 1
    assert heard.uncertainty_ms >= 95, "half of the way there and back"


async def test_answers_that_come_too_late_never_become_a_wrong_offset(quick: RecorderProfile) -> None:
    heard = await spoken(quick_recorder(delay_s=0.7), quick)
    assert not heard.is_whole
    assert heard.offset_ms is None


def test_what_came_unasked_is_no_answer() -> None:
    ends = os.openpty()
    tty.setraw(ends[1])
    try:
        line = Line(ends[1], b"\r\n")
        os.write(ends[0], b"TIME 20200101000000\r\nTIME 2020")
        line.hush(0.05)
        line.send(b"TIME?", 1.0)
        assert os.read(ends[0], 100) == b"TIME?\r\n"
        os.write(ends[0], b"TIME 20261123101500\r\n")
        assert line.answer(time.monotonic() + 10) == b"TIME 20261123101500"
        assert not line.half
    finally:
        for fd in ends:
            os.close(fd)


def test_who_talks_on_is_a_flood_however_slowly_and_what_lay_there_before_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agent.lines.talk._HUSH_LIMIT_S", 0.3)
    ends = os.openpty()
    tty.setraw(ends[1])
    ended = threading.Event()

    def drip() -> None:
        while not ended.wait(0.01):
            os.write(ends[0], b"U")

    talking = threading.Thread(target=drip)
    try:
        line = Line(ends[1], b"\r\n", limit_bytes=256)
        os.write(ends[0], b"x" * 3000)
        line.hush(0.05)
        talking.start()
        with pytest.raises(UnheardError) as told:
            line.hush(5.0)
        assert told.value.trouble is Trouble.FLOOD
    finally:
        ended.set()
        talking.join()
        for fd in ends:
            os.close(fd)


@pytest.mark.parametrize(
    ("fault", "trouble"),
    [
        (Fault.SILENT, Trouble.SILENT),
        (Fault.ECHO, Trouble.ECHO),
        (Fault.GARBAGE, Trouble.GARBAGE),
        (Fault.HALF, Trouble.HALF),
        (Fault.FLOOD, Trouble.FLOOD),
        (Fault.OTHER, Trouble.OTHER),
        (Fault.GONE, Trouble.GONE),
    ],
)
async def test_every_fault_ends_the_conversation_and_is_called_what_it_is(
    quick: RecorderProfile, fault: Fault, trouble: Trouble
) -> None:
    recorder = quick_recorder(fault=fault)
    heard = await spoken(recorder, quick)
    assert heard.failed == (("greet", trouble),)
    assert (heard.is_whole, heard.offset_ms, heard.is_disk) == (False, None, False)
    assert set(recorder.heard) <= {"INIT"}, "nothing more is said to what doesn't answer as its profile says"


@pytest.mark.parametrize("fault", [Fault.SILENT, Fault.HALF, Fault.FLOOD, Fault.OTHER, Fault.GONE])
async def test_a_fault_behind_the_clock_leaves_the_clock(quick: RecorderProfile, fault: Fault) -> None:
    recorder = quick_recorder(ahead_s=60, fault=fault, fault_from=7)
    heard = await spoken(recorder, quick)
    assert heard.offset_ms is not None
    assert heard.failed
    assert not heard.is_disk


@pytest.mark.parametrize("fault", [Fault.ECHO_TOO, Fault.CHATTY])
async def test_what_comes_beside_the_answers_is_passed_over(quick: RecorderProfile, fault: Fault) -> None:
    heard = await spoken(quick_recorder(fault=fault), quick)
    assert (heard.is_whole, dict(heard.told)) == (True, TOLD)


async def test_a_wrong_password_is_said_once_only(quick: RecorderProfile) -> None:
    recorder = quick_recorder(password="654321")
    heard = await spoken(recorder, quick)
    assert heard.failed == (("unlock", Trouble.REFUSED),)
    assert recorder.heard == ["INIT", "PASS 000000"]


@pytest.mark.parametrize("content", [None, "", "two\nlines\n"])
async def test_without_a_password_that_can_be_read_nothing_is_said(quick: RecorderProfile, content: str | None) -> None:
    assert quick.secret is not None
    quick.secret.unlink()
    if content is not None:
        quick.secret.write_text(content)
    recorder = quick_recorder()
    heard = await spoken(recorder, quick)
    assert (heard.failed, recorder.heard) == ((("open", Trouble.NO_SECRET),), [])


async def test_a_password_that_everybody_may_read_is_not_used(quick: RecorderProfile) -> None:
    assert quick.secret is not None
    quick.secret.chmod(0o444)
    heard = await spoken(quick_recorder(), quick)
    assert heard.failed == (("open", Trouble.NO_SECRET),)


async def test_a_recorder_that_gives_the_password_back_is_not_believed(
    quick: RecorderProfile, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    heard = await spoken(quick_recorder(device_no="0000000"), quick)
    assert heard.failed[-1] == ("talk", Trouble.BROKEN)
    assert "device_no" not in heard.told
    assert "000000" not in str(heard.detail()["told"])
    assert "000000" not in caplog.text


async def test_the_password_is_in_no_command_line(quick: RecorderProfile) -> None:
    assert quick.secret is not None
    quick.secret.chmod(0o600)
    quick.secret.write_text("xyzzy-947")
    with quick_recorder(password="xyzzy-947", delay_s=0.1) as recorder:
        talking = asyncio.create_task(converse(quick, recorder.node, READING))
        seen = False
        while not talking.done():
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    words = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
                except OSError:
                    continue
                seen |= b"agent.lines.talk" in words
                assert b"xyzzy-947" not in words
            await asyncio.sleep(0.05)
        assert seen
        assert (await talking).is_whole


async def test_a_line_that_is_not_there_or_belongs_to_another_is_told(quick: RecorderProfile) -> None:
    heard = await converse(quick, "/dev/ttyNOTHERE", ALL)
    assert heard.failed == (("open", Trouble.BUSY),)
    with quick_recorder(delay_s=0.3) as recorder:
        one, other = await asyncio.gather(*(converse(quick, recorder.node, READING) for _ in range(2)))
        assert sorted([one.is_whole, other.is_whole]) == [False, True]
        assert {one.failed, other.failed} == {(), (("open", Trouble.BUSY),)}


@pytest.mark.parametrize("error", [ValueError("custom baud rate"), termios.error(5, "Input/output error")])
def test_a_line_that_can_t_be_set_up_is_one_that_can_t_be_opened(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(termios, "tcsetattr", refuse)
    line = {"baud": 115200, "bits": 8, "parity": "none", "stop_bits": 1, "flow": "none"}
    with quick_recorder() as recorder, pytest.raises(OSError):
        opened({**line, "node": recorder.node})


async def test_two_recorders_of_one_number_are_spoken_to_at_once(quick: RecorderProfile) -> None:
    with quick_recorder(ahead_s=100) as one, quick_recorder(ahead_s=-100) as other:
        first, second = await asyncio.gather(converse(quick, one.node, READING), converse(quick, other.node, READING))
    assert first.told == second.told
    assert first.offset_ms is not None
    assert second.offset_ms is not None
    assert first.offset_ms > 98_000
    assert second.offset_ms < -98_000


async def test_the_clock_is_set_only_if_that_is_asked_for(quick: RecorderProfile) -> None:
    recorder = quick_recorder(ahead_s=3600)
    with recorder:
        await converse(quick, recorder.node, ALL)
        assert recorder.ahead_s == 3600
        heard = await converse(quick, recorder.node, (Does.GREET, Does.UNLOCK, Does.CLOCK, Does.SET_CLOCK))
        assert heard.was_set
        assert abs(recorder.ahead_s) < 2
        again = await converse(quick, recorder.node, (Does.GREET, Does.UNLOCK, Does.CLOCK))
    assert again.offset_ms is not None
    assert abs(again.offset_ms) < 2000


@pytest.mark.soak
async def test_a_pattern_that_never_ends_costs_its_child_only(quick: RecorderProfile) -> None:
    greet = replace(quick.steps[0], send="INFO?", expect=r"INFO ((\w|,|.)+)+!")
    heard = await spoken(quick_recorder(), replace(quick, steps=(greet, *quick.steps[1:])))
    assert heard.failed == (("talk", Trouble.BROKEN),)
    assert not heard.is_whole


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=80),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS) | st.text(), inner),
    )
)
def test_whatever_the_child_says_is_taken_in_full_or_refused(line: object) -> None:
    try:
        heard = _with(Heard("v8"), line, "secret")
    except ValueError:
        return
    assert json.loads(json.dumps(heard.detail())) == heard.detail()
    assert "secret" not in str(heard.detail()["told"])


@pytest.mark.parametrize(
    "line",
    [
        {"clock": [2, 1], "at_ms": 0}, {"clock": [0, 10**20], "at_ms": 0}, {"clock": [0, 1], "at_ms": -1},
        {"clock": [0, 1], "at_ms": 10**15}, {"told": {"officer_name": "x"}}, {"told": {"model": 1}},
        {"told": {"model": "a\x1bb"}}, {"told": {"model": "x" * 65}}, {"told": {"model": "my secret"}},
        {"done": "erase"}, {"failed": "greet", "trouble": "bored"}, {"failed": "x", "trouble": "silent"}, {}, [], 7,
    ],
)  # fmt: skip
def test_what_no_child_of_ours_says_is_refused(line: object) -> None:
    with pytest.raises(ValueError):
        _with(Heard("v8"), line, "secret")


def test_the_simulated_recorder_says_what_it_is(tmp_path: Path) -> None:
    with quick_recorder() as recorder:
        assert os.path.exists(recorder.node)
        assert recorder.reply("INFO?").startswith("INFO 0000217,001234,")
        assert recorder.reply("MSDC") == "MSDC 8", "not without its password"
