"""Promise: a lamp says what is true: lit only while all is recorded; a recording never depends on it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import control
from agent.config.lamps import lamp_of
from agent.config.rooms import Room, read_rooms
from agent.model import LiveSession, SourceLive
from agent.pipeline import lamps as module
from agent.pipeline.lamps import Lamps
from simulator.cameras.camera import Cameras
from tests.conftest import SettableClock
from tests.daemons import running, stage
from tests.relay_board import Bad, Wire, boards

LIMIT_S = 30.0


class Shown:
    """Sessions that run, and the lamps that show it."""

    def __init__(self, *rooms: Room) -> None:
        self.live: dict[str, LiveSession] = {}
        self.now_s = 0.0
        self.lamps = Lamps(lambda: tuple(self.live.values()), {r.name: r for r in rooms}, lambda: self.now_s)

    def records(self, room: str = "a1", *connected: bool) -> None:
        sources = tuple(SourceLive(f"s{n}", "", is_on, None) for n, is_on in enumerate(connected or (True,)))
        self.live[room] = LiveSession(room, "s", SettableClock()(), None, sources)

    def told(self) -> str:
        return "\n".join(self.lamps.problems())


def room(wire: Wire, name: str = "a1", query: str = "") -> Room:
    return Room(name, f"{name}室", lamp=f"modbus:{wire.node}{query}")


async def until(holds: object) -> None:
    """Whatever `holds` is: a function, of a truth or of something that is awaited for it."""
    assert callable(holds)
    async with asyncio.timeout(LIMIT_S):
        while True:
            found = holds()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.02)


@asynccontextmanager
async def shown(*rooms: Room) -> AsyncIterator[Shown]:
    here = Shown(*rooms)
    task = asyncio.create_task(here.lamps.run())
    try:
        yield here
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BEAT_S", 0.05)
    monkeypatch.setattr(module, "_AGAIN_S", 0.05)
    monkeypatch.setattr(module, "_WAIT_S", 0.2)


async def test_a_lamp_is_lit_while_all_is_recorded_and_dark_without_a_session_and_when_the_service_ends() -> None:
    async with boards() as wire:
        await wire.switch(0, is_lit=True)  # as a station left it whose power failed
        async with shown(room(wire), room(wire, "b2", "?unit=2&coil=3")) as here:
            await until(lambda: bool(wire.said))
            await until(wire_dark := lambda: _is(wire, lit=False))
            here.records()
            await until(lambda: _is(wire, lit=True))
            here.live.clear()
            await until(wire_dark)
            here.records()
            await until(lambda: _is(wire, lit=True))
        assert not await wire.lit()


async def _is(wire: Wire, *, lit: bool, coil: int = 0, unit: int = 1) -> bool:
    return await wire.lit(coil, unit) is lit


async def test_it_blinks_while_a_source_of_a_session_is_not_recorded() -> None:
    async with boards() as wire, shown(room(wire)) as here:
        here.records("a1", True, False)
        for _ in range(2):
            await until(lambda: _is(wire, lit=True))
            here.now_s += 2
            await until(lambda: _is(wire, lit=False))
            here.now_s += 2
        here.records("a1", True, True)
        await until(lambda: _is(wire, lit=True))
        here.now_s += 2
        wire.said.clear()
        await until(lambda: len(wire.said) > 3)
        assert {request[1] for request in wire.said} == {1}, "nothing was switched"


async def test_each_room_has_its_own_lamp_and_one_that_fails_is_told_by_its_room() -> None:
    async with boards() as wire, shown(room(wire), room(wire, "b2", "?unit=2"), room(wire, "c3", "?unit=9")) as here:
        here.records("b2")
        await until(lambda: _is(wire, lit=True, unit=2))
        assert not await wire.lit()
        await until(lambda: "c3室" in here.told())
        assert "没有应答" in here.told()
        assert "b2" not in here.told()


@pytest.mark.parametrize(("bad", "words"), [(Bad.SILENT, "silent"), (Bad.CHECK, "校验"), (Bad.FORGETS, "没有动作")])
async def test_what_is_amiss_is_told_while_it_lasts_and_not_for_one_disturbed_byte(bad: Bad, words: str) -> None:
    async with boards() as wire, shown(room(wire)) as here:
        here.records()
        await until(lambda: _is(wire, lit=True))
        wire.bad = Bad.GARBAGE
        here.lamps._failed.clear()
        await until(lambda: bool(here.lamps._failed))
        wire.bad = Bad.NOT
        await until(lambda: not here.lamps._failed)
        wire.bad = bad
        here.live.clear()
        await until(lambda: words in here.told())
        wire.bad = Bad.NOT
        await until(lambda: not here.told())
        await until(lambda: _is(wire, lit=False))


async def test_an_adapter_that_is_unplugged_is_told_and_its_lamp_is_right_when_it_is_back(tmp_path: Path) -> None:
    node = tmp_path / "relays"
    async with boards() as wire:
        node.symlink_to(wire.node)
        async with shown(Room("a1", "甲", lamp=f"modbus:/dev/..{node}")) as here:
            here.records()
            await until(lambda: _is(wire, lit=True))
            wire.unplug()
            node.unlink()
            await until(lambda: "busy" in here.told())
            async with boards() as other:
                node.symlink_to(other.node)
                await until(lambda: _is(other, lit=True))
                await until(lambda: not here.told())


async def test_a_child_that_dies_is_followed_by_another_and_a_reload_puts_out_what_it_takes_away() -> None:
    async with boards() as wire, shown(room(wire), room(wire, "b2", "?coil=1")) as here:
        here.records("a1")
        here.records("b2")
        await until(lambda: _is(wire, lit=True, coil=1))
        here.lamps.use({"a1": room(wire)})
        await until(lambda: _is(wire, lit=False, coil=1))
        assert await wire.lit()
        here.lamps.use({"a1": Room("a1", "甲")})
        await until(lambda: _is(wire, lit=False))
        here.lamps.use({"a1": room(wire)})
        await until(lambda: _is(wire, lit=True))


@pytest.mark.parametrize(
    "line", [None, {}, {"number": 1, "lamps": []}, {"number": 1, "lamps": ["bored"]}, {"trouble": "x"}]
)
async def test_what_no_child_of_ours_says_is_not_believed(monkeypatch: pytest.MonkeyPatch, line: object) -> None:
    class Liar:
        stall_limit_s = 1.0

        @classmethod
        async def start(cls, *_: object, **__: object) -> Liar:
            return cls()

        async def send(self, *_: object) -> None:
            pass

        async def line(self) -> object:
            return line

        async def stop(self) -> None:
            pass

    monkeypatch.setattr(module, "Child", Liar)
    async with shown(Room("a1", "甲", lamp="modbus:/dev/ttyS9")) as here:
        await until(lambda: ("broken" if line is not None else "gone") in here.told())


# Its address


def test_what_a_lamp_is_when_nothing_more_is_said() -> None:
    lamp = lamp_of("modbus:/dev/ttyUSB0")
    assert lamp is not None
    assert (lamp.unit, lamp.coil, lamp.board.baud, lamp.board.parity) == (1, 0, 9600, "none")
    assert lamp_of("") is None


@pytest.mark.parametrize(
    "address",
    ["modbus:", "modbus:/etc/passwd", "tcp:/dev/ttyS0", "modbus:/dev/ttyS0?unit=0", "modbus:/dev/ttyS0?unit=248",
     "modbus:/dev/ttyS0?coil=65536", "modbus:/dev/ttyS0?coil=1&coil=2", "modbus:/dev/ttyS0?speed=9600",
     "modbus:/dev/ttyS0?parity=mark", "modbus:/dev/ttyS0?baud=", "modbus:/dev/ttyS0?baud=4800",
     "modbus:/dev/ttyS0?unit=١", "modbus:/dev/ttyS0?"],
)  # fmt: skip
def test_what_can_t_be_a_lamp_is_told_and_its_room_recorded_without_it(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError):
        lamp_of(address)
    source = f'[room.a1]\nlamp = "{address}"\n[room.a1.source.front]\nurl = "rtsp://10.1.2.3/main"\n'
    found, (problem,) = read(tmp_path, source)
    assert found["a1"].lamp == ""
    assert "room.a1.lamp" in problem


@pytest.mark.parametrize(
    ("other", "is_told"), [("?coil=1", False), ("?unit=2", False), ("", True), ("?baud=19200&coil=1", True)]
)
def test_two_rooms_have_no_lamp_in_common_and_one_way_to_speak_at_each_line(
    tmp_path: Path, other: str, is_told: bool
) -> None:
    text = "".join(
        f'[room.{name}]\nlamp = "modbus:/dev/ttyS0{query}"\n[room.{name}.source.front]\nurl = "rtsp://10.1.2.3/main"\n'
        for name, query in (("a1", ""), ("b2", other))
    )
    found, problems = read(tmp_path, text)
    assert bool(problems) is is_told
    assert (bool(found["a1"].lamp), bool(found["b2"].lamp)) == (True, not is_told)


def read(folder: Path, text: str) -> tuple[dict[str, Room], tuple[str, ...]]:
    path = folder / "rooms.toml"
    path.write_text(text, "utf-8")
    found, problems = read_rooms(path)
    return dict(found), problems


@given(st.text(max_size=60) | st.text("modbus:/devtyS0?unit=cl&12", max_size=60))
def test_no_address_breaks_it(address: str) -> None:
    with contextlib.suppress(ValueError):
        lamp_of(address)


# With the service


ROOM = """
[room.xunwen]
title = "一号询问室"
planned_h = 0.1
bitrate_kbit_s = 400
lamp = "modbus:{node}?unit=2&coil=1"

[room.xunwen.source.front]
url = "{front}"
watch = false
"""


async def test_the_service_shows_by_a_rooms_lamp_that_it_is_recorded_and_records_without_it(
    tmp_path: Path, pack: Callable[..., Path], cameras: Callable[..., Cameras]
) -> None:
    server = cameras({"front": pack()}, auth="")
    made = stage(tmp_path)
    async with boards() as wire:
        text = ROOM.format(node=wire.node, front=server.url("front"))
        (made.config.parent / "rooms.toml").write_text(text, "utf-8")
        with running(made) as daemon:
            await control.ask(made.station, "session_start", {"room": "xunwen", "who": "张三"})
            await until(lambda: _is(wire, lit=True, coil=1, unit=2))
            wire.unplug()
            async with asyncio.timeout(LIMIT_S):
                while "指示灯" not in str((status := await asyncio.to_thread(daemon.status))["health"]["problems"]):
                    await asyncio.sleep(0.2)
            assert status["rooms"][0]["light"]["name"] == "recording"
            assert status["health"]["name"] == "degraded"
            await control.ask(made.station, "session_stop", {"room": "xunwen", "who": "李四"})
