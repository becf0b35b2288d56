"""Asks a camera or recorder by PTP (ISO 15740) and MTP 1.1, with the few operations that change nothing on it.

There is no way in here to send data to a device, nor any operation but those of `Operation`.
"""

import struct
import time
from collections.abc import Generator, Iterator, Sequence
from enum import IntEnum
from typing import Final, NamedTuple, Protocol

ALL: Final = 0xFFFFFFFF
"""Of a size: not known, or 4 GiB and more. Of a parent: the root of a storage."""

DATASET_LIMIT_BYTES: Final = 8 * 1024 * 1024
BUSY_LIMIT: Final = 20
BUSY_S: Final = 0.25
_U32: Final = 1 << 32


class Operation(IntEnum):
    """All that is ever asked. The last two are vendors' own and only used where the device says whose they are."""

    GET_DEVICE_INFO = 0x1001
    OPEN_SESSION = 0x1002
    CLOSE_SESSION = 0x1003
    GET_STORAGE_IDS = 0x1004
    GET_STORAGE_INFO = 0x1005
    GET_OBJECT_HANDLES = 0x1007
    GET_OBJECT_INFO = 0x1008
    GET_OBJECT = 0x1009
    GET_PARTIAL_OBJECT = 0x101B
    GET_OBJECT_PROP_VALUE = 0x9803
    GET_PARTIAL_OBJECT_64 = 0x95C1


OK, BUSY, SESSION_ALREADY_OPEN = 0x2001, 0x2019, 0x201E
NOTHING_THERE: Final = frozenset({0x2002, 0x201D})
"""General error and invalid parameter: what devices answer who are asked for bytes behind the end."""

OBJECT_SIZE: Final = 0xDC04


class PtpError(Exception):
    """The device does not answer, or not sensibly; nothing more is to be expected of this connection."""

    kind = "mtp"


class GoneError(PtpError):
    """The device is not there any more."""

    kind = "gone"


class NoStorageError(PtpError):
    """The device shows no storage: it is locked, or its owner has not consented."""

    kind = "no-storage"


class RefusedError(Exception):
    """The device answered with an error; it can be asked for something else."""

    kind = "mtp"

    def __init__(self, operation: Operation, code: int) -> None:
        super().__init__(f"{operation.name} was answered with 0x{code:04x}")
        self.code = code


class Response(NamedTuple):
    """How an operation ended."""

    code: int
    transaction: int
    parameters: tuple[int, ...] = ()


Conversation = Generator[memoryview, None, Response]
"""The data that an operation gives, piece by piece, and then its response; must be gone through to its end."""


class Wire(Protocol):
    """A connection to a device; everything raises PtpError, or GoneError."""

    def converse(self, operation: Operation, transaction: int, parameters: Sequence[int]) -> Conversation:
        """Ask one operation."""

    def recover(self) -> None:
        """Bring a device whose last initiator was killed back to where it listens."""


class DeviceInfo(NamedTuple):
    """Who answers, and what it can do (ISO 15740, 5.5.1)."""

    extensions: str
    operations: frozenset[int]
    manufacturer: str
    model: str
    version: str
    serial: str


class StorageInfo(NamedTuple):
    """A storage of a device; its sizes are what it claims."""

    capacity_bytes: int
    free_bytes: int
    description: str
    volume: str


class ObjectInfo(NamedTuple):
    """A file or folder (ISO 15740, 5.5.3); times as they came. `size_bytes` has 32 bits, and is not to be believed."""

    storage: int
    is_folder: bool
    size_bytes: int
    raw_name: bytes
    captured: str
    modified: str

    @property
    def name(self) -> str:
        """The name as text; broken surrogates survive as such."""
        return self.raw_name.decode("utf-16-le", "surrogatepass")


class Dataset:
    """Reads the fields of a dataset one after the other; raises PtpError where it ends too early."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def number(self, kind: str) -> int:
        """The next number, of a little-endian kind of `struct`."""
        (value,) = struct.unpack("<" + kind, self._take(struct.calcsize("<" + kind)))
        return int(value)

    def numbers(self, kind: str) -> tuple[int, ...]:
        """The next array."""
        count = self.number("I")
        return struct.unpack(f"<{count}{kind}", self._take(count * struct.calcsize("<" + kind)))

    def raw_text(self) -> bytes:
        """The next string as UTF-16LE, without its end; one without an end is taken as it is."""
        raw = self._take(2 * self.number("B"))
        return raw[:-2] if raw.endswith(b"\0\0") and len(raw) % 2 == 0 else raw

    def text(self) -> str:
        """The same as text."""
        return self.raw_text().decode("utf-16-le", "replace")

    def skip(self, size_bytes: int) -> None:
        """Go over fields of no interest."""
        self._take(size_bytes)

    def _take(self, size_bytes: int) -> bytes:
        if size_bytes > len(self._data) - self._at:
            raise PtpError("a dataset ends too early")
        self._at += size_bytes
        return self._data[self._at - size_bytes : self._at]


class Session:
    """One session with a device; handles of objects are good as long as it lasts. All raises PtpError, RefusedError."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._transaction = 0
        self.info = DeviceInfo("", frozenset(), "", "", "", "")

    def open(self) -> None:
        """Begin; another session that was left open is ended."""
        try:
            self._begin()
        except GoneError:
            raise
        except PtpError:
            self._wire.recover()
            self._begin()
        data = Dataset(self._dataset(Operation.GET_DEVICE_INFO))
        data.skip(2 + 4 + 2)
        extensions = data.text()
        data.skip(2)
        operations = frozenset(data.numbers("H"))
        for _ in range(4):
            data.numbers("H")
        self.info = DeviceInfo(extensions, operations, data.text(), data.text(), data.text(), data.text())

    def _begin(self) -> None:
        for code in (SESSION_ALREADY_OPEN, 0):
            self._transaction = -1  # so that this operation has 0, as it must
            try:
                self._call(Operation.OPEN_SESSION, 1)
            except RefusedError as error:
                if error.code != code:
                    raise PtpError(str(error)) from error
                self._call(Operation.CLOSE_SESSION)
            else:
                return

    @property
    def reads_far(self) -> bool:
        """Whether bytes behind 4 GiB can be asked for; the number of this operation is Android's (MTP has none)."""
        return "android.com" in self.info.extensions and Operation.GET_PARTIAL_OBJECT_64 in self.info.operations

    @property
    def reach_bytes(self) -> int:
        """How much of an object can be read in pieces; 0: only objects as a whole."""
        if self.reads_far:
            return 1 << 63
        return ALL if Operation.GET_PARTIAL_OBJECT in self.info.operations else 0

    def storages(self) -> tuple[int, ...]:
        """All storages that have a medium."""
        found = Dataset(self._dataset(Operation.GET_STORAGE_IDS)).numbers("I")
        return tuple(sorted(storage for storage in found if storage & 0xFFFF))

    def storage(self, storage: int) -> StorageInfo:
        """What is told of one."""
        data = Dataset(self._dataset(Operation.GET_STORAGE_INFO, storage))
        data.skip(2 + 2 + 2)
        capacity, free = data.number("Q"), data.number("Q")
        data.skip(4)
        return StorageInfo(capacity, free, data.text(), data.text())

    def children(self, storage: int, folder: int) -> tuple[int, ...]:
        """Handles of all that lies in a folder; `ALL` is the root."""
        return Dataset(self._dataset(Operation.GET_OBJECT_HANDLES, storage, 0, folder)).numbers("I")

    def object(self, handle: int) -> ObjectInfo:
        """What is told of an object."""
        data = Dataset(self._dataset(Operation.GET_OBJECT_INFO, handle))
        storage, kind = data.number("I"), data.number("H")
        data.skip(2)
        size_bytes = data.number("I")
        data.skip(2 + 4 * 6 + 4)
        data.skip(2 + 4 + 4)
        name, captured, modified = data.raw_text(), data.text(), data.text()
        return ObjectInfo(storage, kind == 0x3001, size_bytes, name, captured, modified)

    def stated_size(self, handle: int) -> int | None:
        """The size as MTP's property of 64 bits, if the device has such."""
        known = self.info.operations
        if "microsoft.com" not in self.info.extensions or Operation.GET_OBJECT_PROP_VALUE not in known:
            return None
        try:
            data = self._dataset(Operation.GET_OBJECT_PROP_VALUE, handle, OBJECT_SIZE)
        except RefusedError:
            return None
        return int.from_bytes(data, "little") if len(data) in (4, 8) else None

    def piece(self, handle: int, offset: int, count: int) -> bytes:
        """Bytes of an object, fewer only where it ends; within `reach_bytes`."""
        operation, place = Operation.GET_PARTIAL_OBJECT, [offset]
        if self.reads_far:
            operation, place = Operation.GET_PARTIAL_OBJECT_64, [offset % _U32, offset // _U32]
        data, response = self._call(operation, handle, *place, count, limit_bytes=count)
        said = response.parameters[0] if response.parameters else 0
        if said not in (0, len(data)):
            raise PtpError(f"the device says that it sent {said} bytes, but {len(data)} came")
        return data

    def whole(self, handle: int) -> Iterator[memoryview]:
        """All bytes of an object, however many the device says there are; must be gone through to its end."""
        response = yield from self._converse(Operation.GET_OBJECT, (handle,))
        if response.code != OK:
            raise RefusedError(Operation.GET_OBJECT, response.code)

    def _dataset(self, operation: Operation, *parameters: int) -> bytes:
        return self._call(operation, *parameters, limit_bytes=DATASET_LIMIT_BYTES)[0]

    def _call(self, operation: Operation, *parameters: int, limit_bytes: int = 0) -> tuple[bytes, Response]:
        for _ in range(BUSY_LIMIT):
            data, response = self._asked(operation, parameters, limit_bytes)
            if response.code == OK:
                return data, response
            if response.code != BUSY:
                raise RefusedError(operation, response.code)
            time.sleep(BUSY_S)
        raise RefusedError(operation, BUSY)

    def _asked(self, operation: Operation, parameters: Sequence[int], limit_bytes: int) -> tuple[bytes, Response]:
        data = bytearray()
        conversation = self._converse(operation, parameters)
        while True:
            try:
                data += next(conversation)
            except StopIteration as end:
                return bytes(data), end.value
            if len(data) > limit_bytes:
                raise PtpError(f"the device sends more than was asked of it by {operation.name}")

    def _converse(self, operation: Operation, parameters: Sequence[int]) -> Conversation:
        self._transaction = (self._transaction + 1) % ALL
        response = yield from self._wire.converse(operation, self._transaction, parameters)
        if response.transaction != self._transaction:
            raise PtpError("the device answers to something that was asked before")
        return response
