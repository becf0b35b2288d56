"""A TCP proxy between recorder and camera that has the faults of networks and of clocks; in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Final, Self

_RATES: Final = 90_000
_PIECE: Final = 65536
_RST: Final = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class _Faults:
    """What is wrong now. Time stamps become `stamp × factor + jump`, as seconds of the track's clock."""

    flows: asyncio.Event
    is_refusing: bool = False
    is_deaf: bool = False
    is_half_open: bool = False
    corrupt: int = 0
    jump_s: float = 0.0
    ntp_jump_s: float = 0.0
    factor: float = 1.0
    reported_s: dict[int, float] = field(default_factory=dict)
    random: Random = field(default_factory=lambda: Random(7))


class _Stamps:
    """Rewrites the time stamps of RTP and of RTCP sender reports in an interleaved connection (RFC 2326, 10.12)."""

    def __init__(self, faults: _Faults, audio_rate: int) -> None:
        self._faults, self._rates = faults, (_RATES, audio_rate)
        self._rest = b""
        self._first: dict[int, int] = {}
        self._first_ntp = 0

    def feed(self, data: bytes) -> bytes:
        """What to pass on of what came so far."""
        data, at, out = self._rest + data, 0, bytearray()
        while at < len(data):
            if data[at] != 0x24:
                end = data.find(b"$", at)
                end = len(data) if end < 0 else end
                out += data[at:end]
                at = end
                continue
            if len(data) < at + 4 or len(data) < at + 4 + (size := int.from_bytes(data[at + 2 : at + 4], "big")):
                break
            packet = bytearray(data[at : at + 4 + size])
            self._rewrite(packet[1], packet)
            out += packet
            at += 4 + size
        self._rest = data[at:]
        return bytes(out)

    def _rewrite(self, channel: int, packet: bytearray) -> None:
        is_report = bool(channel & 1)
        where = 20 if is_report else 8  # of a sender report: after its header, its SSRC and the NTP time
        if channel > 3 or len(packet) < where + 4 or (is_report and packet[5] != 200):
            return
        (stamp,) = struct.unpack_from(">I", packet, where)
        rate = self._rates[channel >> 1]
        first = self._first.setdefault(channel >> 1, stamp)
        since = (stamp - first + (1 << 31)) % (1 << 32) - (1 << 31)
        new = first + since * self._faults.factor + self._faults.jump_s * rate
        if is_report:
            new += self._faults.reported_s.get(channel >> 1, 0.0) * rate
        struct.pack_into(">I", packet, where, int(new) % (1 << 32))
        if is_report:
            (ntp,) = struct.unpack_from(">Q", packet, 12)
            self._first_ntp = self._first_ntp or ntp
            new = (ntp - self._first_ntp) * self._faults.factor + self._faults.ntp_jump_s * 2**32
            struct.pack_into(">Q", packet, 12, self._first_ntp + int(new))


class Proxy:
    """Listens on `port` (of 127.0.0.1; 0: any) for connections to a camera on `target`; a context.

    `stamps`: whether time stamps can be changed (`audio_rate` is the clock of the second track). All calls may be made
    from any thread and have taken effect when they return.
    """

    def __init__(self, target: int, *, port: int = 0, stamps: bool = False, audio_rate: int = 16_000) -> None:
        self.port, self._target, self._stamps, self._audio_rate = port, target, stamps, audio_rate
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._loop = asyncio.new_event_loop()
        self._faults = _Faults(asyncio.Event())
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def stall(self) -> None:
        """Bring no more bytes from the camera; the connection stays."""
        self._set(self._faults.flows.clear)

    def resume(self) -> None:
        """Bring what was held up, and all that follows; ends `half_open` and `deaf` for connections to come."""

        def all_well() -> None:
            self._faults.is_half_open = self._faults.is_deaf = self._faults.is_refusing = False
            self._faults.flows.set()

        self._set(all_well)

    def half_open(self) -> None:
        """What was connected stays so for the recorder and brings nothing, ever; the camera knows nothing of it."""
        self._set(lambda: setattr(self._faults, "is_half_open", True))

    def deaf(self) -> None:
        """Take new connections and answer nothing."""
        self._set(lambda: setattr(self._faults, "is_deaf", True))

    def refuse(self, *, on: bool = True) -> None:
        """Break new connections at once."""
        self._set(lambda: setattr(self._faults, "is_refusing", on))

    def corrupt(self, pieces: int) -> None:
        """Invert 20 bytes of each of the next larger pieces."""
        self._set(lambda: setattr(self._faults, "corrupt", pieces))

    def jump(self, seconds: float, *, ntp: bool = True) -> None:
        """Add to all time stamps from now on, and to the wall clock that the camera reports unless told otherwise."""

        def add() -> None:
            self._faults.jump_s += seconds
            self._faults.ntp_jump_s += seconds * ntp

        self._set(add)

    def drift(self, factor: float) -> None:
        """Have the camera's clock run so much faster, from the beginning of each connection."""
        self._set(lambda: setattr(self._faults, "factor", factor))

    def misreport(self, track: int, seconds: float) -> None:
        """Have the sender reports of a track (0: pictures) say that it is so much earlier than it seemed."""
        self._set(lambda: self._faults.reported_s.__setitem__(track, seconds))

    def rst(self) -> None:
        """Break all connections with a TCP reset."""

        def reset() -> None:
            self._faults.flows.set()
            for pair in tuple(self._pairs):
                for writer in pair:
                    with contextlib.suppress(OSError):  # it is closed already
                        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
                    writer.transport.abort()

        self._set(reset)

    def _set(self, change: Callable[[], object]) -> None:
        async def do() -> None:
            change()

        self._do(do())

    def _do(self, what: Coroutine[object, object, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _listen(self) -> None:
        self._faults.flows.set()
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        for pair in self._pairs:
            for writer in pair:
                writer.transport.abort()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._faults.is_refusing:
            writer.transport.abort()
            return
        if self._faults.is_deaf:
            await reader.read(-1)
            writer.transport.abort()
            return
        try:
            from_camera, to_camera = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        self._pairs.add(pair := (writer, to_camera))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, to_camera))
                group.create_task(self._pump(from_camera, writer, is_down=True))
        finally:
            self._pairs.discard(pair)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_down: bool = False) -> None:
        stamps, faults = _Stamps(self._faults, self._audio_rate), self._faults
        try:
            while data := await reader.read(_PIECE):
                if is_down:
                    await faults.flows.wait()
                    if faults.is_half_open:
                        await asyncio.Event().wait()
                    data = self._corrupted(data)
                    data = stamps.feed(data) if self._stamps else data
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort() if self._is_broken(writer) else writer.close()

    @staticmethod
    def _is_broken(writer: asyncio.StreamWriter) -> bool:
        return writer.transport.is_closing()

    def _corrupted(self, data: bytes) -> bytes:
        if not self._faults.corrupt or len(data) < 2000:
            return data
        self._faults.corrupt -= 1
        changed = bytearray(data)
        for _ in range(20):
            changed[self._faults.random.randrange(100, len(data))] ^= 0xFF
        return bytes(changed)
