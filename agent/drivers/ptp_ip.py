"""PTP over TCP (CIPA DC-005): the wire to the recorders that the tests make. No dock leads to cameras in a network."""

import os
import select
import socket
import struct
import time
from collections.abc import Sequence
from typing import Final

from agent.drivers.ptp import Conversation, GoneError, Operation, PtpError, Response

PORT: Final = 15740
_PACKET_LIMIT_BYTES: Final = 16 * 1024 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
_VERSION: Final = 0x10000
_NAME: Final = "capture-agent\0".encode("utf-16-le")
INIT_COMMAND, INIT_COMMAND_ACK, INIT_EVENT, INIT_EVENT_ACK, REQUEST = 1, 2, 3, 4, 6


class PtpIp:
    """Both connections of PTP/IP; events are not listened to."""

    def __init__(self, host: str, port: int, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        try:
            self._command = socket.create_connection((host, port), timeout_s)
            self._send(self._command, INIT_COMMAND, bytes(16) + _NAME + struct.pack("<I", _VERSION))
            (number,) = struct.unpack_from("<I", self._packet(self._command, INIT_COMMAND_ACK))
            self._command.setblocking(True)  # what waits is select
            self._event = socket.create_connection((host, port), timeout_s)
            self._send(self._event, INIT_EVENT, struct.pack("<I", number))
            self._packet(self._event, INIT_EVENT_ACK)
        except (OSError, struct.error) as error:
            raise GoneError(f"no connection: {error}") from error

    def recover(self) -> None:
        """Nothing to do: who connects anew begins anew."""

    def converse(self, operation: Operation, transaction: int, parameters: Sequence[int]) -> Conversation:
        """See `ptp.Wire`."""
        asked = struct.pack(f"<IHI{len(parameters)}I", 1, operation, transaction, *parameters)
        self._send(self._command, REQUEST, asked)
        while True:
            kind, body = self._any_packet(self._command)
            match kind:
                case 9:
                    pass  # the length that it states counts for nothing: what comes, comes
                case 10 | 12:
                    if len(body) > 4:  # none with nothing in it is a sign of life
                        yield memoryview(body)[4:]
                case 7 if len(body) >= 6:
                    code, number = struct.unpack_from("<HI", body)
                    return Response(code, number, struct.unpack_from(f"<{(len(body) - 6) // 4}I", body, 6))
                case _:
                    raise PtpError(f"the device sends a packet of kind {kind}")

    def _packet(self, connection: socket.socket, wanted: int) -> bytes:
        kind, body = self._any_packet(connection)
        if kind != wanted:
            raise GoneError(f"the device refuses the connection ({kind})")
        return body

    def _any_packet(self, connection: socket.socket) -> tuple[int, bytes]:
        until_s = time.monotonic() + self._timeout_s
        length, kind = struct.unpack("<II", self._receive(connection, 8, until_s))
        if not 8 <= length <= _PACKET_LIMIT_BYTES:
            raise PtpError(f"the device sends a packet of {length} bytes")
        return kind, self._receive(connection, length - 8, until_s)

    def _receive(self, connection: socket.socket, size_bytes: int, until_s: float) -> bytes:
        data = bytearray()
        while len(data) < size_bytes:
            if not select.select([connection], (), (), max(0.0, until_s - time.monotonic()))[0]:
                raise PtpError(f"the device has not answered for {self._timeout_s:g} s")
            try:
                more = os.read(connection.fileno(), min(_RECEIVE_BYTES, size_bytes - len(data)))
            except OSError as error:
                raise GoneError(f"the connection is lost: {error.strerror}") from error
            if not more:
                raise GoneError("the connection was closed")
            data += more
        return bytes(data)

    @staticmethod
    def _send(connection: socket.socket, kind: int, body: bytes) -> None:
        try:
            packet = memoryview(struct.pack("<II", 8 + len(body), kind) + body)
            while packet:  # as on a file: the sandbox knows no calls for sockets
                packet = packet[os.write(connection.fileno(), packet) :]
        except OSError as error:
            raise GoneError(f"the connection is lost: {error.strerror}") from error
