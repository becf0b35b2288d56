"""A camera or Android recorder that answers PTP/IP (ISO 15740, CIPA DC-005, MTP 1.1), with the faults of real ones."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

MTP: Final = "microsoft.com: 1.0; android.com: 1.0;"
ALL: Final = 0xFFFFFFFF
STORAGE: Final = 0x00010001
READING: Final = (0x1001, 0x1002, 0x1003, 0x1004, 0x1005, 0x1007, 0x1008, 0x1009)
PARTIAL, PARTIAL_64, PROPERTY = 0x101B, 0x95C1, 0x9803
WRITING: Final = (0x100B, 0x100C, 0x100D, 0x1012, 0x9804, 0x95C2, 0x95C3, 0x95C4, 0x95C5)
"""What a real device would let anybody do; asked here it is only noted."""

OK, GENERAL, NOT_SUPPORTED, INVALID_HANDLE, INVALID_PARAMETER = 0x2001, 0x2002, 0x2005, 0x2009, 0x201D
DENIED, BUSY, ALREADY_OPEN = 0x200F, 0x2019, 0x201E
_PIECE_BYTES: Final = 256 * 1024


class Vast:
    """Bytes without end that nobody has to keep: every eighth offset holds itself."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes

    def __len__(self) -> int:
        return self.size_bytes

    def __getitem__(self, part: slice) -> bytes:
        begin, end, _ = part.indices(self.size_bytes)
        first = begin // 8
        words = range(first, -(-end // 8))
        return struct.pack(f"<{len(words)}Q", *words)[begin - first * 8 :][: max(0, end - begin)]


@dataclass
class Thing:
    """A file or folder. `stated` and `stated_64` are what the device tells of its size; None: the truth."""

    name: str
    data: bytes | Vast | None = b""
    parent: int = 0
    storage: int = STORAGE
    stated: int | None = None
    stated_64: int | None = None
    made: str = "20261120T090000"
    code: int = OK

    @property
    def told_size(self) -> int:
        """The size in 32 bits, as the standard wants it, unless it is a lie."""
        return min(len(self.data or b""), ALL) if self.stated is None else self.stated


@dataclass
class MtpDevice:
    """A device to be served. `reads` hears of every request for bytes before it is answered, and may change all.

    `surplus` bytes follow each object; `refused` has codes with which questions for storages are answered. The
    connection breaks after `gone_after` bytes, or is still after `stall_after`.
    """

    things: dict[int, Thing] = field(default_factory=dict)
    storages: Mapping[int, str] = field(default_factory=lambda: {STORAGE: "CARD"})
    extensions: str = MTP
    operations: tuple[int, ...] = (*READING, PARTIAL, PARTIAL_64, PROPERTY, *WRITING)
    serial: str = "058F63666485"
    reads: Callable[[Thing, int], None] = lambda thing, offset: None
    surplus: int = 0
    gone_after: int | None = None
    stall_after: int | None = None
    busy: int = 0
    refused: Mapping[int, int] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    sent_bytes: int = 0
    port: int = 0
    is_open: bool = False

    def add(self, path: str, data: bytes | Vast, storage: int = STORAGE, **told: int | str) -> Thing:
        """Put a file there, with the folders above it."""
        *folders, name = path.split("/")
        parent = 0
        for folder in folders:
            parent = self._folder(folder, parent, storage)
        thing = Thing(name, data, parent, storage, **told)  # type: ignore[arg-type]
        self.things[len(self.things) + 1] = thing
        return thing

    def _folder(self, name: str, parent: int, storage: int) -> int:
        for handle, thing in self.things.items():
            if (thing.name, thing.parent, thing.storage, thing.data) == (name, parent, storage, None):
                return handle
        handle = len(self.things) + 1
        self.things[handle] = Thing(name, None, parent, storage)
        return handle

    # Operations

    def answer(self, code: int, parameters: tuple[int, ...]) -> tuple[int, Iterator[bytes] | None, tuple[int, ...]]:
        """Response code, data if there are any, and parameters of the response."""
        self.asked.append(code)
        first, second, third, fourth = (*parameters, 0, 0, 0, 0)[:4]
        if code not in self.operations or code in WRITING:
            return NOT_SUPPORTED, None, ()
        if self.busy:
            self.busy -= 1
            return BUSY, None, ()
        match code:
            case 0x1001:
                return self._data(self._device_info())
            case 0x1002:
                was_open, self.is_open = self.is_open, True
                return (ALREADY_OPEN if was_open else OK), None, ()
            case 0x1003:
                self.is_open = False
                return OK, None, ()
            case 0x1004:
                return self._data(array("I", *self.storages))
            case 0x1005 if first in self.refused:
                return self.refused[first], None, ()
            case 0x1005:
                sizes = struct.pack("<HHHQQI", 4, 2, 0, 64 << 30, 1 << 30, ALL)
                return self._data(sizes + text("Internal storage") + text(self.storages[first]))
            case 0x1007:
                place = (first, 0 if third == ALL else third)
                inside = [handle for handle, thing in self.things.items() if (thing.storage, thing.parent) == place]
                return self._data(array("I", *inside))
        return self._of_object(code, first, second, third, fourth)

    def _of_object(
        self, code: int, handle: int, second: int, third: int, fourth: int
    ) -> tuple[int, Iterator[bytes] | None, tuple[int, ...]]:
        thing = self.things.get(handle)
        if thing is None:
            return INVALID_HANDLE, None, ()
        if code == 0x1008:
            return self._data(self._object_info(thing))
        if code == PROPERTY:
            size = len(thing.data or b"") if thing.stated_64 is None else thing.stated_64
            return self._data(size.to_bytes(8, "little"))
        if thing.data is None or thing.code != OK:
            return (INVALID_PARAMETER if thing.data is None else thing.code), None, ()
        offset, count = (second, third) if code == PARTIAL else (second | third << 32, fourth)
        if code == 0x1009:
            offset, count = 0, len(thing.data)
        self.reads(thing, offset)
        if offset > len(thing.data):
            return INVALID_PARAMETER, None, ()
        end = min(offset + count, len(thing.data))
        return OK, self._pieces(thing, offset, end), ((end - offset + self.surplus,) if code != 0x1009 else ())

    def _pieces(self, thing: Thing, begin: int, end: int) -> Iterator[bytes]:
        assert thing.data is not None
        for at in range(begin, end, _PIECE_BYTES):
            yield thing.data[at : min(at + _PIECE_BYTES, end)]
        if self.surplus:
            yield bytes(self.surplus)

    @staticmethod
    def _data(data: bytes) -> tuple[int, Iterator[bytes], tuple[int, ...]]:
        return OK, iter([data]), ()

    def _device_info(self) -> bytes:
        vendor = 6 if self.extensions else 0
        head = struct.pack("<HIH", 100, vendor, 100) + text(self.extensions) + struct.pack("<H", 0)
        lists = array("H", *self.operations) + array("H") * 3 + array("H", 0x3000, 0x3801)
        return head + lists + text("DSJ") + text("V8") + text("1.0") + text(self.serial)

    @staticmethod
    def _object_info(thing: Thing) -> bytes:
        kind = 0x3001 if thing.data is None else 0x3000
        data = struct.pack("<IHHI", thing.storage, kind, 0, thing.told_size) + struct.pack("<H", 0) + bytes(24)
        data += struct.pack("<IHII", thing.parent, int(thing.data is None), 0, 0)
        return data + text(thing.name) + text(thing.made) + text(thing.made) + text("")

    # PTP/IP

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, of the two that an initiator makes."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                length, kind = struct.unpack("<II", await reader.readexactly(8))
                body = await reader.readexactly(length - 8)
                if kind == 1:
                    writer.write(packet(2, struct.pack("<I", 1) + bytes(16) + "V8\0".encode("utf-16-le") + bytes(4)))
                elif kind == 3:
                    writer.write(packet(4, b""))
                elif kind == 6:
                    await self._converse(body, writer)
                await writer.drain()
        writer.close()

    async def _converse(self, body: bytes, writer: asyncio.StreamWriter) -> None:
        _, code, transaction = struct.unpack_from("<IHI", body)
        parameters = struct.unpack_from(f"<{(len(body) - 10) // 4}I", body, 10)
        result, data, told = self.answer(code, parameters)
        number = struct.pack("<I", transaction)
        if data is not None:
            if code == 0x1009:  # comes as it is read, and with the size that the device tells of it
                size = self.things[parameters[0]].told_size
            else:
                joined = b"".join(data)
                data, size = iter([joined]), len(joined)
            writer.write(packet(9, number + struct.pack("<Q", size)))
            for piece in data:
                await self._send(piece, number, writer)
            writer.write(packet(12, number))
        writer.write(packet(7, struct.pack(f"<HI{len(told)}I", result, transaction, *told)))

    async def _send(self, piece: bytes, number: bytes, writer: asyncio.StreamWriter) -> None:
        self.sent_bytes += len(piece)
        if self.gone_after is not None and self.sent_bytes > self.gone_after:
            writer.transport.abort()
            raise ConnectionError
        if self.stall_after is not None and self.sent_bytes > self.stall_after:
            await asyncio.Event().wait()
        writer.write(packet(10, number + piece))
        await writer.drain()


def packet(kind: int, body: bytes) -> bytes:
    """A packet of PTP/IP."""
    return struct.pack("<II", 8 + len(body), kind) + body


def text(words: str) -> bytes:
    """A string of PTP: its length in characters with the end, UTF-16LE; an empty one has no end."""
    raw = (words + "\0").encode("utf-16-le", "surrogatepass") if words else b""
    return bytes([len(raw) // 2]) + raw


def array(kind: str, *numbers: int) -> bytes:
    """An array of PTP."""
    return struct.pack(f"<I{len(numbers)}{kind}", len(numbers), *numbers)


@contextlib.asynccontextmanager
async def served(device: MtpDevice) -> AsyncIterator[str]:
    """Serve it on loopback; gives where, as the driver names it."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await device.serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        device.port = server.sockets[0].getsockname()[1]
        yield f"ptpip:127.0.0.1:{device.port}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
