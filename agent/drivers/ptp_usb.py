"""PTP over USB (ISO 15740, annex D) by the kernel's usbfs: one interface of one device, with nothing in between."""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Sequence
from ctypes import addressof, c_char
from typing import Final, NamedTuple

from agent.drivers.ptp import ALL, Conversation, GoneError, Operation, PtpError, Response
from agent.drivers.source import LOOK_S, LOOKS

READ_BYTES: Final = 64 * 1024
"""One bulk transfer; the kernel wants so much memory in one piece."""

USBDEVFS_CONTROL, USBDEVFS_BULK, USBDEVFS_CLAIM, USBDEVFS_CLEAR_HALT = 0xC0185500, 0xC0185502, 0x8004550F, 0x80045515
USED_LATER: Final = (USBDEVFS_CONTROL, USBDEVFS_BULK, USBDEVFS_CLEAR_HALT)
"""What must be allowed after the interface was claimed."""

_COMMAND, _DATA, _RESPONSE = 1, 2, 3
_HEADER: Final = struct.Struct("<IHHI")
_RESET_REQUEST: Final = (0x21, 0x66)
_STALE_S: Final = 0.1
_STALE_LIMIT_S: Final = 20.0
_STALE_ERRNOS: Final = frozenset({errno.ETIMEDOUT, errno.EPIPE, errno.EOVERFLOW, errno.EPROTO, errno.EILSEQ})
GONE_ERRNOS: Final = frozenset({errno.ENODEV, errno.ESHUTDOWN, errno.ENXIO, errno.ENOENT})


class Interface(NamedTuple):
    """Where PTP is spoken: number, the addresses of its bulk endpoints, and how long a packet to us may be."""

    number: int
    bulk_in: int
    bulk_out: int
    packet_bytes: int


def interface_of(descriptors: bytes) -> Interface:
    """The interface for still images (06/01/01), else the first of the vendor's own with the same three endpoints.

    `descriptors` are those of a device and its configurations, as usbfs gives them. Raises PtpError if there is none.
    """
    found: dict[int, list[tuple[int, int, int]]] = {}
    ranks: list[tuple[bool, int]] = []
    number, at = -1, 0
    while at + 2 <= len(descriptors) and descriptors[at] >= 2:
        one = descriptors[at : at + descriptors[at]]
        match one[1]:
            case 2 if found:
                break  # another configuration
            case 4 if len(one) >= 9:
                number = one[2]
                if one[3] == 0 and (one[5:8] == b"\x06\x01\x01" or one[5] == 0xFF):
                    ranks.append((one[5] == 0xFF, number))
            case 5 if len(one) >= 7:
                found.setdefault(number, []).append((one[2], one[3] & 3, one[4] | (one[5] & 7) << 8))
        at += len(one)
    for _, number in sorted(ranks):
        ends = found.get(number, [])
        bulk_in = [(address, size) for address, kind, size in ends if kind == 2 and address & 0x80 and size >= 16]
        bulk_out = [address for address, kind, _ in ends if kind == 2 and not address & 0x80]
        if len(bulk_in) == len(bulk_out) == 1 and any(kind == 3 for _, kind, _ in ends):
            return Interface(number, bulk_in[0][0], bulk_out[0], bulk_in[0][1])
    raise PtpError("it has no interface that speaks PTP or MTP")


class PtpUsb:
    """An interface of an open device; another program that has it keeps it."""

    def __init__(self, fd: int, timeout_s: float) -> None:
        self._fd = fd
        self._timeout_s = timeout_s
        self._interface = interface_of(os.pread(fd, 64 * 1024, 0))
        self._buffer = bytearray(READ_BYTES)
        self._place = addressof(c_char.from_buffer(self._buffer))
        try:
            fcntl.ioctl(fd, USBDEVFS_CLAIM, struct.pack("I", self._interface.number))
        except OSError as error:
            raise _broken(error, "the device can't be claimed") from error
        self._drain()

    def recover(self) -> None:
        """Ask for a reset of the conversation (class request 0x66), and let go of what is left of it."""
        request = struct.pack("BBHHHIP", *_RESET_REQUEST, 0, self._interface.number, 0, 3000, 0)
        asked = [(USBDEVFS_CONTROL, request)]
        asked += [(USBDEVFS_CLEAR_HALT, struct.pack("I", end)) for end in self._interface[1:3]]
        for code, what in asked:
            try:
                fcntl.ioctl(self._fd, code, what)
            except OSError as error:
                if error.errno in GONE_ERRNOS:
                    raise _broken(error, "the device is gone") from error
        self._drain()

    def _drain(self) -> None:
        """What a killed initiator had asked for is an answer to nobody."""
        until_s = time.monotonic() + _STALE_LIMIT_S
        while time.monotonic() < until_s:
            try:
                self._bulk(self._interface.bulk_in, READ_BYTES, _STALE_S)
            except OSError as error:
                if error.errno in _STALE_ERRNOS:
                    return
                raise self._failed(error, "the device can't be read") from error

    def converse(self, operation: Operation, transaction: int, parameters: Sequence[int]) -> Conversation:
        """See `ptp.Wire`."""
        size = _HEADER.size + 4 * len(parameters)
        _HEADER.pack_into(self._buffer, 0, size, _COMMAND, operation, transaction)
        struct.pack_into(f"<{len(parameters)}I", self._buffer, _HEADER.size, *parameters)
        try:
            self._bulk(self._interface.bulk_out, size, self._timeout_s)
        except OSError as error:
            raise self._failed(error, "the device takes no request") from error
        view = self._container()
        length, kind, code, number = _HEADER.unpack_from(view)
        if kind == _DATA and number == transaction:
            yield from self._data(view, length)
            view = self._container()
            length, kind, code, number = _HEADER.unpack_from(view)
        if kind != _RESPONSE or len(view) > _HEADER.size + 20:
            raise PtpError("the device sends something else than a response")
        return Response(code, number, struct.unpack_from(f"<{(len(view) - _HEADER.size) // 4}I", view, _HEADER.size))

    def _data(self, view: memoryview, length: int) -> Conversation:
        """A short transfer ends the data, and so does the stated length; some send the header alone before.

        No more is asked for than was stated: of devices that end full packets without an empty one the response would
        come with the data.
        """
        stated = None if length == ALL else length
        came = len(view)
        if came > _HEADER.size:
            yield view[_HEADER.size :]
        is_open = came in (self._interface.packet_bytes, _HEADER.size)
        while is_open and (stated is None or came < stated):
            asked = READ_BYTES if stated is None else min(READ_BYTES, stated - came)
            view = self._read(asked)
            came += len(view)
            is_open = len(view) == asked
            yield view
        return Response(0, 0)

    def _container(self) -> memoryview:
        """The first packet that isn't empty: data that fill their last packet may be followed by an empty one."""
        packet_bytes = self._interface.packet_bytes
        view = self._read(packet_bytes) or self._read(packet_bytes)
        if len(view) < _HEADER.size:
            raise PtpError("the device sends less than a header")
        return view

    def _read(self, asked: int) -> memoryview:
        try:
            size = self._bulk(self._interface.bulk_in, asked, self._timeout_s)
        except OSError as error:
            raise self._failed(error, "the device does not answer") from error
        return memoryview(self._buffer)[:size]

    def _failed(self, error: OSError, what: str) -> PtpError:
        """What a failed transfer means: one that was unplugged gives other errors for the moment until a hub tells."""
        for _ in range(LOOKS):
            try:
                os.pread(self._fd, 1, 0)  # its descriptors, which the kernel has; refused as soon as it knows
            except OSError as gone:
                return _broken(gone, what)
            time.sleep(LOOK_S)
        return _broken(error, what)

    def _bulk(self, endpoint: int, size: int, timeout_s: float) -> int:
        request = struct.pack("IIIP", endpoint, size, round(timeout_s * 1000), self._place)
        return int(fcntl.ioctl(self._fd, USBDEVFS_BULK, bytearray(request)))


def _broken(error: OSError, what: str) -> PtpError:
    kind = GoneError if error.errno in GONE_ERRNOS else PtpError
    return kind(f"{what}: {error.strerror}")
