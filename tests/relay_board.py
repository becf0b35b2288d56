"""A relay board that speaks Modbus-RTU (pymodbus's server) on a pseudo-terminal, and a wire to it that can be bad."""

from __future__ import annotations

import asyncio
import os
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer
from pymodbus.simulator import DataType, SimData, SimDevice

COILS = 4
UNITS = (1, 2)


class Bad(StrEnum):
    """What the wire does to what the board answers."""

    NOT = "not"
    SILENT = "silent"
    ECHO = "echo"  # an adapter that gives back what is said, and no board
    ECHO_TOO = "echo-too"  # and then the board
    GARBAGE = "garbage"
    CHECK = "check"  # one bit of the check is wrong
    HALF = "half"
    NOISE = "noise"  # a byte before each answer, as a bus without bias has
    FLOOD = "flood"
    FORGETS = "forgets"  # it says yes and switches nothing


@dataclass(slots=True)
class Wire:
    """Between `node`, which is opened, and the boards, which have the UNITS; `bad` may change at any time."""

    node: str
    server: ModbusSerialServer | None = None
    bad: Bad = Bad.NOT
    said: list[bytes] = field(default_factory=list)
    _ours: int = -1
    _theirs: int = -1

    async def lit(self, coil: int = 0, unit: int = 1) -> bool:
        """Whether the board has that coil on."""
        assert self.server is not None
        (value,) = await self.server.async_getValues(unit, 1, coil, 1)
        return bool(value)

    async def switch(self, coil: int, *, is_lit: bool, unit: int = 1) -> None:
        """As somebody does by hand at the board."""
        assert self.server is not None
        await self.server.async_setValues(unit, 5, coil, [is_lit])

    def asked(self) -> None:
        """Bytes from who has opened `node`."""
        request = os.read(self._ours, 4096)
        self.said.append(request)
        if self.bad in {Bad.ECHO, Bad.ECHO_TOO}:
            os.write(self._ours, request)
        if self.bad is Bad.FORGETS and request[1] == 5:
            os.write(self._ours, request)
        elif (
            self.bad not in {Bad.ECHO, Bad.SILENT} and request[0] in UNITS
        ):  # any other board hears it, too, and is silent
            os.write(self._theirs, request)

    def answered(self) -> None:
        """Bytes from the boards."""
        answer = os.read(self._theirs, 4096)
        match self.bad:
            case Bad.GARBAGE:
                answer = bytes(byte ^ 0x5A for byte in answer)
            case Bad.CHECK:
                answer = answer[:-1] + bytes((answer[-1] ^ 1,))
            case Bad.HALF:
                answer = answer[:4]
            case Bad.NOISE:
                answer = b"\x00" + answer
            case Bad.FLOOD:
                answer = b"\x01" * 1000
        os.write(self._ours, answer)

    def unplug(self) -> None:
        """The adapter is pulled out: its line is gone."""
        loop = asyncio.get_running_loop()
        for fd in (self._ours, self._theirs):
            if fd >= 0:
                loop.remove_reader(fd)
                os.close(fd)
        self._ours = self._theirs = -1


async def _answers(_: int, __: int, address: int, *___: object) -> ExcCodes | None:
    """A board whose last relay is broken."""
    return ExcCodes.DEVICE_FAILURE if address == COILS - 1 else None


@asynccontextmanager
async def boards() -> AsyncIterator[Wire]:
    """Two boards of COILS relays each, at one line."""
    ours, theirs = os.openpty(), os.openpty()
    for main, end in (ours, theirs):
        tty.setraw(end)
        os.set_blocking(main, False)
    coils = [SimData(0, values=[False] * COILS, datatype=DataType.BITS)]
    nothing = [SimData(0, datatype=DataType.BITS)]
    devices = [SimDevice(unit, (coils, nothing, nothing, nothing), action=_answers) for unit in UNITS]
    server = ModbusSerialServer(devices, port=os.ttyname(theirs[1]), baudrate=9600)
    wire = Wire(os.ttyname(ours[1]), server, _ours=ours[0], _theirs=theirs[0])
    loop = asyncio.get_running_loop()
    loop.add_reader(ours[0], wire.asked)
    loop.add_reader(theirs[0], wire.answered)
    await server.serve_forever(background=True)
    try:
        yield wire
    finally:
        await server.shutdown()
        wire.unplug()
        os.close(ours[1])
        os.close(theirs[1])
