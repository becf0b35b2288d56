"""Promise: a press starts, only a hold ends; a button that bounces, floods or is unplugged ends and doubles nothing.

Real here are serial lines (pseudo-terminals, so without modem lines) and the bytes of the kernel's input layer, which a
FIFO carries: this machine has neither uinput nor a button.
"""

from __future__ import annotations

import asyncio
import os
import pty
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config.rooms import Room
from agent.errors import RequestError
from agent.model import LiveSession, StartedBy
from agent.pipeline.buttons import Buttons
from agent.pipeline.sessions import Order
from agent.rooms.button import BOUNCE_S, HOLD_S, Button, Contact, Press
from tests.conftest import SettableClock

LIMIT_S = 60.0
KEY_ENTER = 28


def key(value: int, code: int = KEY_ENTER, kind: int = 1) -> bytes:
    """A key's event and the report behind it, as drivers/input/evdev.c writes them on a 64-bit kernel."""
    return struct.pack("@llHHi", 1_700_000_000, 5, kind, code, value) + struct.pack("@llHHi", 1_700_000_000, 5, 0, 0, 0)


# The contact


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_presses_come_apart_and_holds_only_in_presses(readings: list[tuple[float, bool]]) -> None:
    contact, now_s, told = Contact(), 0.0, list[tuple[float, Press]]()
    ups = list[float]()
    for pause_s, is_down in readings:
        now_s += pause_s
        ups += [] if is_down else [now_s]
        news = [(now_s, press) for press in contact.feed(now_s, is_down)]
        told += news
        if (now_s, Press.HELD) in news:
            since_s = max(at for at, press in told if press is Press.DOWN)
            assert all(up - since_s < BOUNCE_S for up in ups), "nobody let go within a hold"
    downs = [at for at, press in told if press is Press.DOWN]
    assert all(later - earlier >= 0.05 for earlier, later in pairwise(downs))
    kinds = [press for _, press in told]
    assert (Press.HELD, Press.HELD) not in pairwise(kinds)
    for at, press in told:
        if press is Press.HELD:
            assert at - max(down for down in downs if down <= at) >= HOLD_S


def test_one_that_is_down_when_it_is_found_was_pressed_by_nobody() -> None:
    contact = Contact(is_down=True)
    assert not [press for at in range(100) for press in contact.feed(at / 10, is_down=True)]
    assert list(contact.feed(10.1, is_down=False)) == []
    assert list(contact.feed(10.2, is_down=True)) == [Press.DOWN]


def test_a_short_press_between_two_looks_is_not_lost() -> None:
    contact = Contact()
    assert [*contact.feed(1.0, is_down=True), *contact.feed(1.0, is_down=False)] == [Press.DOWN]
    assert [press for at in range(11, 60) for press in contact.feed(at / 10)] == []


# The devices


async def first(button: Button, number: int) -> list[Press]:
    """The next presses, with a bound."""
    found: list[Press] = []
    async with asyncio.timeout(LIMIT_S), aclosing(button.presses()) as presses:
        async for press in presses:
            found.append(press)
            if len(found) == number:
                break
    return found


async def collect(button: Button, found: list[Press]) -> None:
    async with aclosing(button.presses()) as presses:
        async for press in presses:
            found += [press]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hold that is short: what it is compared with are the real two seconds elsewhere."""
    monkeypatch.setattr("agent.rooms.button.HOLD_S", 0.4)
    monkeypatch.setattr("agent.pipeline.buttons._BEAT_S", 0.05)


@pytest.fixture
def line() -> Iterator[tuple[int, Path]]:
    """A serial line: the end that a button writes to, and the name of the other."""
    button, tty = pty.openpty()
    name = Path(os.ttyname(tty))
    os.close(tty)
    yield button, name
    os.close(button)


@pytest.fixture
def events(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    path = tmp_path / "event3"
    os.mkfifo(path)
    keyboard = os.open(path, os.O_RDWR)
    yield keyboard, path
    os.close(keyboard)


@pytest.mark.usefixtures("quick")
async def test_a_byte_on_a_serial_line_is_a_press_and_bytes_that_go_on_a_hold(line: tuple[int, Path]) -> None:
    end, name = line

    async def hold() -> None:
        while True:
            os.write(end, b"\r")
            await asyncio.sleep(0.1)

    held = asyncio.create_task(hold())
    try:
        assert await first(Button(f"serial:{name}"), 2) == [Press.DOWN, Press.HELD]
    finally:
        held.cancel()
        await asyncio.wait([held])


async def test_bytes_are_taken_as_they_are(line: tuple[int, Path]) -> None:
    """A terminal would turn them into lines, signals and echoes."""
    end, name = line
    waiting = asyncio.create_task(first(Button(f"serial:{name}"), 1))
    await asyncio.sleep(0.2)
    os.write(end, b"\x03")
    assert await waiting == [Press.DOWN]
    os.set_blocking(end, False)
    with pytest.raises(OSError):
        os.read(end, 10)


async def test_a_key_is_a_press_when_it_goes_down_and_a_hold_after_two_seconds(events: tuple[int, Path]) -> None:
    keyboard, path = events
    os.write(keyboard, key(1))
    begun = asyncio.get_running_loop().time()
    assert await first(Button(f"evdev:{path}"), 2) == [Press.DOWN, Press.HELD]
    assert asyncio.get_running_loop().time() - begun >= HOLD_S


async def test_a_key_that_is_let_go_of_is_no_hold_and_repeats_are_no_presses(events: tuple[int, Path]) -> None:
    keyboard, path = events
    now = SettableClock()
    button = Button(f"evdev:{path}", seconds=lambda: now().timestamp())
    os.write(keyboard, key(1) + key(2) * 5 + key(0) + key(4, code=4, kind=4))
    found: list[Press] = []
    reading = asyncio.create_task(collect(button, found))
    await until(lambda: found == [Press.DOWN])
    for _ in range(8):
        now.advance(1)
        await asyncio.sleep(0.06)
    os.write(keyboard, key(1))
    await until(lambda: found == [Press.DOWN, Press.DOWN])
    os.write(keyboard, struct.pack("@llHHi", 0, 0, 0, 3, 0))  # SYN_DROPPED: the kernel has lost events
    await asyncio.sleep(0.2)
    for _ in range(8):
        now.advance(1)
        await asyncio.sleep(0.06)
    assert found == [Press.DOWN, Press.DOWN]
    reading.cancel()
    await asyncio.wait([reading])


async def test_a_flood_leaves_time_for_others_and_is_few_presses(events: tuple[int, Path]) -> None:
    keyboard, path = events
    os.set_blocking(keyboard, False)
    found: list[Press] = []
    writes = 0

    async def flood() -> None:
        nonlocal writes
        while True:
            with_room = True
            while with_room:
                try:
                    writes += os.write(keyboard, (key(1) + key(0)) * 20) // 48
                except BlockingIOError:
                    with_room = False
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(flood()), asyncio.create_task(collect(Button(f"evdev:{path}"), found))]
    turns, end = 0, asyncio.get_running_loop().time() + 1
    while asyncio.get_running_loop().time() < end:
        turns += 1
        await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert turns > 20
    assert writes > 1000
    assert 0 < len(found) <= 2 * 1 / 0.05
    assert Press.HELD not in found


async def test_a_button_that_is_unplugged_is_told_and_works_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.rooms.button._AGAIN_S", 0.05)
    path = tmp_path / "button"
    button = Button(f"serial:{path}")
    found: list[Press] = []
    reading = asyncio.create_task(collect(button, found))
    for count in (1, 2):
        await until(lambda: "No such file" in button.trouble or "went away" in button.trouble)
        end, tty = pty.openpty()
        path.symlink_to(os.ttyname(tty))
        await until(lambda: not button.trouble)
        os.close(tty)
        os.write(end, b"x")
        await until(lambda count=count: len(found) == count)
        path.unlink()
        os.close(end)
    await until(lambda: bool(button.trouble))
    reading.cancel()
    await asyncio.wait([reading])
    assert found == [Press.DOWN, Press.DOWN]


@pytest.mark.usefixtures("quick")
async def test_a_line_that_closes_is_a_press(line: tuple[int, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No pseudo-terminal has modem lines: what TIOCMGET would say is said by the test."""
    levels = {"on": False}
    monkeypatch.setattr(Button, "_level", lambda *_: levels["on"])
    waiting = asyncio.create_task(first(Button(f"serial:{line[1]}#cts"), 2))
    await asyncio.sleep(0.1)
    levels["on"] = True
    assert await waiting == [Press.DOWN, Press.HELD]


async def test_a_line_that_a_device_doesn_t_have_is_told(line: tuple[int, Path]) -> None:
    button = Button(f"serial:{line[1]}#cts")
    reading = asyncio.create_task(first(button, 1))
    await until(lambda: "went away" in button.trouble)
    reading.cancel()
    await asyncio.wait([reading])


async def until(holds: object) -> None:
    assert callable(holds)
    async with asyncio.timeout(LIMIT_S):
        while not holds():
            await asyncio.sleep(0.01)


# What it does


class Noted:
    """Sessions that are only noted."""

    def __init__(self) -> None:
        self.live: dict[str, LiveSession] = {}
        self.did: list[str] = []
        self.refuses = False
        self.clock = SettableClock()

    def running(self) -> tuple[LiveSession, ...]:
        return tuple(self.live.values())

    async def start(self, room: str, order: Order) -> str:
        if self.refuses:
            raise RequestError("存储空间不足 (no space).")
        assert order.started_by is StartedBy.BUTTON
        self.live[room] = LiveSession(room, f"s{len(self.did)}", self.clock(), None, ())
        self.did.append(f"start {order.title}".strip())
        return self.live[room].session_id

    async def stop(self, session_id: str, who: str, why: str, reason: str = "stopped") -> None:
        del self.live["a1"]
        self.did.append(f"stop {who}")


@asynccontextmanager
async def pressing(address: str, sessions: Noted) -> AsyncIterator[Buttons]:
    def meant(room: Room, order: Order) -> Order:
        return Order(order.started_by, order.who, order.why, title="planned")

    buttons = Buttons(sessions, {"a1": Room("a1", "第一询问室", button=address), "b2": Room("b2", "乙")}, meant)
    task = asyncio.create_task(buttons.run())
    try:
        yield buttons
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.mark.usefixtures("quick")
async def test_a_press_starts_what_is_planned_and_only_a_hold_ends_it(events: tuple[int, Path]) -> None:
    keyboard, path = events
    sessions = Noted()
    async with pressing(f"evdev:{path}", sessions):
        os.write(keyboard, key(1))
        await until(lambda: sessions.did == ["start planned"])
        await asyncio.sleep(0.8)
        assert sessions.live, "the press that has begun it doesn't end it"
        os.write(keyboard, key(0))
        await asyncio.sleep(0.2)
        os.write(keyboard, key(1) + key(0))
        await asyncio.sleep(0.3)
        assert sessions.live
        os.write(keyboard, key(1))
        await until(lambda: sessions.did == ["start planned", "stop button"])


@pytest.mark.usefixtures("quick")
async def test_a_refusal_is_told_until_a_press_works_and_the_button_goes_on(events: tuple[int, Path]) -> None:
    keyboard, path = events
    sessions = Noted()
    sessions.refuses = True
    async with pressing(f"evdev:{path}", sessions) as buttons:
        os.write(keyboard, key(1) + key(0))
        await until(lambda: buttons.problems() != ())
        assert buttons.problems() == ("第一询问室：按钮未起作用 (its button was refused): 存储空间不足 (no space).",)
        sessions.refuses = False
        await asyncio.sleep(0.2)
        os.write(keyboard, key(1) + key(0))
        await until(lambda: sessions.live != {})
        await until(lambda: buttons.problems() == ())


@pytest.mark.usefixtures("quick")
async def test_a_button_that_is_not_there_is_told_and_another_one_is_taken_over(
    events: tuple[int, Path], tmp_path: Path
) -> None:
    sessions = Noted()
    async with pressing(f"evdev:{tmp_path}/none", sessions) as buttons:
        await until(lambda: buttons.problems() == ("第一询问室：按钮未接好 (its button: No such file or directory)",))
        buttons.use({"a1": Room("a1", "第一询问室", button=f"evdev:{events[1]}")})
        os.write(events[0], key(1))
        await until(lambda: sessions.did == ["start planned"])
        assert buttons.problems() == ()
        buttons.use({})
        assert buttons.problems() == ()
