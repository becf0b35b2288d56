"""A lamp at a real Modbus server on a pseudo-terminal, by the locked child; and all ways in which a line can be bad."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.framer import FramerRTU

from agent.child import Child, ChildError
from agent.lines.modbus import answer_in, crc, framed
from agent.lines.talk import UnheardError
from agent.lines.wire import Trouble
from tests.relay_board import COILS, Bad, boards


class Driven:
    """The child, and the orders that it is given."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self.number = 0

    async def light(self, *lamps: tuple[int, int, bool]) -> list[str]:
        self.number += 1
        await self.child.send({"number": self.number, "lamps": lamps})
        match await self.child.line():
            case {"number": self.number, "lamps": list(found)}:
                return found
            case other:
                raise AssertionError(other)


@asynccontextmanager
async def driven(node: str) -> AsyncIterator[Driven]:
    child = await Child.start("agent.lines.lamp", (), stall_limit_s=30)
    try:
        line = {"node": node, "baud": 9600, "bits": 8, "parity": "none", "stop_bits": 1, "flow": "none"}
        await child.send({**line, "wait_s": 0.3})
        yield Driven(child)
    finally:
        await child.stop()


@given(st.binary(max_size=64))
def test_the_check_is_that_of_others(frame: bytes) -> None:
    assert crc(frame) == FramerRTU.compute_CRC(frame).to_bytes(2, "big")


def test_the_frames_are_those_of_the_specification() -> None:
    assert framed(17, 1, 0x13, 0x25).hex() == "1101001300250e84"
    assert framed(17, 5, 0xAC, 0xFF00).hex() == "110500acff004e8b"


@given(st.binary(max_size=80), st.sampled_from([1, 5]))
def test_no_bytes_are_an_answer_unless_their_check_is_right(heard: bytes, function: int) -> None:
    request = framed(1, function, 0, 1)
    try:
        answer = answer_in(heard, request)
    except UnheardError:
        return
    assert answer is None or answer + crc(answer) in heard


async def test_lamps_of_two_boards_at_one_line_are_lit_and_put_out() -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        assert await lamps.light((1, 0, True), (1, 2, False), (2, 2, True)) == ["", "", ""]
        assert [await wire.lit(0), await wire.lit(2), await wire.lit(2, 2)] == [True, False, True]
        assert await lamps.light((1, 0, False), (2, 2, False)) == ["", ""]
        assert [await wire.lit(0), await wire.lit(2, 2)] == [False, False]


async def test_what_is_right_is_asked_for_only_and_what_somebody_else_has_switched_is_put_right() -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        await lamps.light((1, 0, True))
        wire.said.clear()
        await lamps.light((1, 0, True))
        assert [request[1] for request in wire.said] == [1]
        await wire.switch(0, is_lit=False)
        assert await lamps.light((1, 0, True)) == [""]
        assert await wire.lit()


@pytest.mark.parametrize(
    ("bad", "trouble"),
    [
        (Bad.SILENT, Trouble.SILENT), (Bad.ECHO, Trouble.ECHO), (Bad.GARBAGE, Trouble.GARBAGE),
        (Bad.CHECK, Trouble.GARBAGE), (Bad.HALF, Trouble.HALF), (Bad.FLOOD, Trouble.FLOOD),
        (Bad.FORGETS, Trouble.OTHER),
    ],
)  # fmt: skip
async def test_every_fault_is_called_what_it_is_and_is_over_when_the_line_is_good_again(
    bad: Bad, trouble: Trouble
) -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        wire.bad = bad
        assert await lamps.light((1, 0, True)) == [trouble]
        assert not await wire.lit()
        wire.bad = Bad.NOT
        assert await lamps.light((1, 0, True)) == [""]
        assert await wire.lit()


@pytest.mark.parametrize("bad", [Bad.ECHO_TOO, Bad.NOISE])
async def test_what_comes_before_an_answer_does_no_harm(bad: Bad) -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        wire.bad = bad
        assert await lamps.light((1, 1, True)) == [""]
        assert await wire.lit(1)


async def test_a_board_that_refuses_or_is_not_there_keeps_no_other_lamp_waiting() -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        found = await lamps.light((1, COILS - 1, True), (1, 40_000, True), (9, 0, True), (2, 0, True))
        assert found == [Trouble.REFUSED, Trouble.REFUSED, Trouble.SILENT, ""]
        assert await wire.lit(0, 2)


async def test_a_line_that_goes_ends_the_child_and_one_that_is_not_there_is_told() -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        assert await lamps.light((1, 0, True)) == [""]
        wire.unplug()
        assert await lamps.light((1, 0, False)) == [Trouble.GONE]
        assert await lamps.child.line() is None
    async with driven("/dev/ttyNOTHERE") as lamps:
        assert await lamps.child.line() == {"trouble": Trouble.BUSY}


async def test_the_child_ends_when_there_are_no_more_orders() -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        await lamps.light((1, 0, True))
        assert lamps.child._process.stdin is not None
        lamps.child._process.stdin.close()
        assert await lamps.child.line() is None


async def test_what_is_no_order_costs_the_child_only() -> None:
    async with boards() as wire, driven(wire.node) as lamps:
        await lamps.child.send({"lamps": "all"})
        with pytest.raises(ChildError):
            await lamps.child.line()
        assert not await wire.lit()
