"""The station's own clock: steps are found with their size, and nothing is claimed that nobody told."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import clocks
from agent.clocks import ClockState, ClockWatch, Step
from agent.status.clock import clock_problems, clock_view

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY_S = 86400.0


@dataclass
class Machine:
    """A wall clock that can be set, and an uptime that can't; `held_s` passes between two readings."""

    now: datetime = NOON
    up_s: float = 100.0
    held_s: float = 0.0
    steps: list[Step] = field(default_factory=list)
    takes: bool = True
    answers: list[tuple[bool | None, str]] = field(default_factory=list)

    def clock(self) -> datetime:
        self.wait(self.held_s)
        return self.now

    def uptime(self) -> float:
        return self.up_s

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        self.up_s += seconds

    def set(self, by_s: float) -> None:
        self.now += timedelta(seconds=by_s)

    async def on_step(self, step: Step) -> bool:
        self.steps.append(step)
        return self.takes

    def on_answer(self, state: ClockState) -> None:
        self.answers.append((state.synced, state.by))

    def watch(self, root: Path = Path("/nowhere")) -> ClockWatch:
        return ClockWatch(self.clock, self.on_step, self.on_answer, uptime=self.uptime, root=root)


def problems(state: ClockState) -> list[str]:
    return [problem["en"] for problem in clock_problems(state)]


def synced_file(root: Path, at: datetime) -> None:
    path = root / "run/systemd/timesync/synchronized"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.utime(path, (at.timestamp(), at.timestamp()))


def rtc(root: Path, at: datetime, adjtime: str | None = None) -> None:
    (root / "sys/class/rtc/rtc0").mkdir(parents=True, exist_ok=True)
    (root / "sys/class/rtc/rtc0/since_epoch").write_text(f"{int(at.timestamp())}\n")
    if adjtime is not None:
        (root / "etc").mkdir(exist_ok=True)
        (root / "etc/adjtime").write_text(adjtime)


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a test puts the `busctl` that is asked."""
    monkeypatch.setattr(os, "defpath", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin" / "busctl"


def answers(bus: Path, script: str) -> None:
    bus.write_text(f"#!/bin/sh\n{script}\n")
    bus.chmod(0o755)


# Steps


@given(st.lists(st.tuples(st.floats(0.1, 1e6), st.one_of(st.just(0.0), st.floats(-2e9, 1e9))), max_size=20))
def test_every_step_is_told_once_with_its_size_and_nothing_else_is(moves: list[tuple[float, float]]) -> None:
    """Also from 1970 and back; what is smaller than a second adds up."""
    machine = Machine()
    watch = machine.watch()
    asyncio.run(watch.look())
    silent = 0.0
    for waits_s, by_s in moves:
        machine.wait(waits_s)
        if machine.now.timestamp() + by_s > 0:
            machine.set(by_s)
            silent += by_s
        told = len(machine.steps)
        asyncio.run(watch.look())
        if abs(silent) > 1.001:
            assert machine.steps[-1].size_s == pytest.approx(silent, abs=0.01)
            assert machine.steps[-1].after == machine.now
            silent = 0.0
        elif abs(silent) < 0.999:
            assert len(machine.steps) == told
        else:
            silent = silent if len(machine.steps) == told else 0.0


async def test_a_process_that_was_held_up_takes_no_delay_for_a_step() -> None:
    machine = Machine()
    watch = machine.watch()
    await watch.look()
    machine.held_s = 30
    await watch.look()
    machine.held_s = 0
    await watch.look()
    assert machine.steps == []


async def test_a_machine_that_slept_made_no_step() -> None:
    """CLOCK_BOOTTIME runs while the machine sleeps, CLOCK_MONOTONIC doesn't."""
    machine = Machine()
    watch = machine.watch()
    await watch.look()
    machine.wait(DAY_S)
    await watch.look()
    assert machine.steps == []
    assert clocks.uptime() > 0


async def test_a_step_is_shown_for_a_day_however_often_the_clock_is_set() -> None:
    machine = Machine()
    watch = machine.watch()
    await watch.look()
    machine.set(-DAY_S)
    await watch.look()
    shown = watch.state()
    assert shown.step_s == -DAY_S
    assert problems(shown) == [
        "the clock was set by -86400 s at 2026-11-22 20:00; check the times of what was docked before"
    ]
    machine.wait(DAY_S + 1)
    await watch.look()
    assert watch.state() == ClockState()


async def test_a_step_that_was_not_taken_down_is_told_again() -> None:
    machine = Machine(takes=False)
    watch = machine.watch()
    await watch.look()
    machine.set(DAY_S)
    await watch.look()
    machine.wait(5)
    machine.takes = True
    for _ in range(3):
        await watch.look()
    assert [step.size_s for step in machine.steps] == [DAY_S, DAY_S]


# Who keeps it right


async def test_a_clock_that_nobody_speaks_of_is_unknown(bus: Path, tmp_path: Path) -> None:
    machine = Machine()
    for script in ("exit 1", "echo 'b maybe'", "echo b true; echo more", ":"):
        answers(bus, script)
        watch = machine.watch(tmp_path)
        await watch.ask()
        assert watch.state() == ClockState(), script


async def test_without_busctl_the_clock_is_unknown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "defpath", str(tmp_path))
    watch = Machine().watch(tmp_path)
    await watch.ask()
    assert watch.state().synced is None


@pytest.mark.parametrize(("answer", "synced", "by"), [("b true", True, "kernel"), ("b false", False, "")])
async def test_what_the_kernel_knows_is_asked_over_d_bus(
    bus: Path, tmp_path: Path, answer: str, synced: bool, by: str
) -> None:
    answers(bus, f'echo "$@" > {tmp_path}/asked; echo {answer}')
    machine = Machine()
    watch = machine.watch(tmp_path)
    await watch.ask()
    machine.wait(60)
    await watch.ask()
    assert (watch.state().synced, watch.state().by, watch.state().since) == (synced, by, NOON)
    assert "get-property org.freedesktop.timedate1" in (tmp_path / "asked").read_text()


async def test_a_bus_that_does_not_answer_is_left(bus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is ended: the fixtures of every test look for those that are left."""
    monkeypatch.setattr(clocks, "_ANSWER_LIMIT_S", 0.2)
    answers(bus, "exec sleep 600")
    watch = Machine().watch(tmp_path)
    await watch.ask()
    assert watch.state().synced is None


async def test_a_watch_that_is_stopped_while_it_asks_leaves_nobody(bus: Path, tmp_path: Path) -> None:
    answers(bus, f"touch {tmp_path}/there; exec sleep 600")
    task = asyncio.create_task(Machine().watch(tmp_path).run())
    while not (tmp_path / "there").exists():
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_what_timesyncd_confirmed_lately_is_synchronised(bus: Path, tmp_path: Path) -> None:
    answers(bus, "echo b false")
    machine = Machine()
    watch = machine.watch(tmp_path)
    synced_file(tmp_path, NOON - timedelta(hours=1))
    await watch.ask()
    await watch.ask()
    assert (watch.state().synced, watch.state().by) == (True, "systemd-timesyncd")
    machine.wait(9 * 3600)
    await watch.ask()
    assert watch.state().synced is False, "nobody has confirmed it for ten hours"
    synced_file(tmp_path, machine.now + timedelta(hours=1))
    await watch.ask()
    assert watch.state().synced is False, "it was confirmed in the future: somebody has set the clock back since"
    assert machine.answers == [(True, "systemd-timesyncd"), (False, "")], "only what is new is told"


async def test_a_clock_that_was_set_by_hand_is_not_confirmed_by_what_was_before(bus: Path, tmp_path: Path) -> None:
    answers(bus, "echo b false")
    machine = Machine()
    watch = machine.watch(tmp_path)
    synced_file(tmp_path, NOON)
    await watch.look()
    machine.wait(5)
    machine.set(600)
    await watch.look()
    await watch.ask()
    assert watch.state().synced is False
    synced_file(tmp_path, machine.now - timedelta(seconds=4))
    await watch.ask()
    assert watch.state().synced is True, "it may be the step itself that was confirmed, between two looks"


# The hardware clock


@pytest.mark.parametrize("adjtime", [None, "0.0 0 0.0\n0\nUTC\n"])
async def test_the_hardware_clock_is_compared(bus: Path, tmp_path: Path, adjtime: str | None) -> None:
    answers(bus, "echo b true")
    rtc(tmp_path, NOON - timedelta(days=3650), adjtime)
    watch = Machine().watch(tmp_path)
    await watch.ask()
    assert watch.state().rtc_ahead_s == -3650 * DAY_S
    assert problems(watch.state()) == [
        "the hardware clock is off by -315360000 s: after a power cut the time may be wrong"
    ]


@pytest.fixture
def in_china(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Shanghai")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("in_china")
async def test_a_hardware_clock_in_local_time_is_right(bus: Path, tmp_path: Path) -> None:
    answers(bus, "echo b true")
    rtc(tmp_path, NOON + timedelta(hours=8), "0.0 0 0.0\n0\nLOCAL\n")
    watch = Machine().watch(tmp_path)
    await watch.ask()
    assert watch.state().rtc_ahead_s == 0


@pytest.mark.parametrize("told", ["", "garbage", "-5", "٣"])
async def test_a_hardware_clock_that_tells_nothing_is_unknown(bus: Path, tmp_path: Path, told: str) -> None:
    answers(bus, "exit 1")
    rtc(tmp_path, NOON)
    (tmp_path / "sys/class/rtc/rtc0/since_epoch").write_text(told)
    watch = Machine().watch(tmp_path)
    await watch.ask()
    assert watch.state().rtc_ahead_s is None


# What screens say


def test_a_clock_behind_what_was_recorded_is_wrong_unless_it_is_kept_right(tmp_path: Path) -> None:
    machine = Machine(now=datetime(1970, 1, 1, tzinfo=UTC))
    watch = machine.watch()
    watch.newest = NOON
    assert problems(watch.state()) == ["the clock is behind times that were recorded here: it is wrong"]
    machine.set(NOON.timestamp() + 1)
    assert problems(watch.state()) == []


def test_what_is_not_known_is_null() -> None:
    assert clock_view(ClockState(), NOON) == {
        "now": "2026-11-23T20:00:00.000+08:00",
        "synced": None, "by": "", "since": None, "rtc_ahead_s": None, "stepped": None, "behind": False,
    }  # fmt: skip


def test_all_that_is_known_is_told() -> None:
    view = clock_view(ClockState(True, "kernel", NOON, -0.4, -86400.04, NOON, is_behind=True), NOON)
    assert view["rtc_ahead_s"] == 0
    assert view["stepped"] == {"at": "2026-11-23T20:00:00.000+08:00", "seconds": -86400.0}
    assert view["behind"] is True
