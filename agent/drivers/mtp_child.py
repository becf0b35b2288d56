"""The child that speaks MTP: lists one device, then reads its objects into parts, in one session, and can't do more.

    python -I -m agent.drivers.mtp_child WHERE TIMEOUT_S STAGING_FD

WHERE is a node of usbfs, or ptpip:HOST:PORT. It connects, locks itself in (`agent.drivers.sandbox`), and prints the
lines that the parser prints of a card, with {"alive": true} while nothing else is to be said; each clip lies at a made
place, `SPAN_BYTES` times its number. Then it takes orders as the puller does. Handles of objects are only good for one
session: another child has to list again.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Final

from blake3 import blake3

from agent.card import Extent, FailReason, Finding, Volume
from agent.drivers.mtp_objects import MtpFile, Walk
from agent.drivers.names import safe_name
from agent.drivers.ptp import GoneError, NoStorageError, PtpError, RefusedError, Session, Wire
from agent.drivers.ptp_ip import PtpIp
from agent.drivers.ptp_usb import GONE_ERRNOS, USED_LATER, PtpUsb
from agent.drivers.puller import Parent, ParentGoneError, work
from agent.drivers.pulling import Puller
from agent.drivers.reading import FetchError
from agent.drivers.sandbox import lock_asker

SPAN_BYTES: Final = 1 << 43
SIZE_LIMIT_BYTES: Final = SPAN_BYTES - 1
SOURCE_BYTES: Final = 1 << 62
NETWORK: Final = "ptpip:"
_WINDOW_BYTES: Final = 1024 * 1024
_HEARTBEAT_S: Final = 2.0
_SURPLUS_BYTES: Final = 64 * 1024 * 1024
_NOT_THERE: Final = frozenset({0x2009, 0x201D})  # invalid handle, invalid parameter
_CODECS: Final = ("utf-16-le", "utf-8", "ascii")


class Ahead:
    """A device is asked for one thing at a time: nothing is read ahead of it."""

    def expect(self, pieces: Iterator[Extent]) -> None:
        """Nothing to do."""

    def advance(self, position: int) -> None:
        """Nothing to do."""


class ObjectReader:
    """The objects of a listing as one medium, by their made places; both a `pulling.Medium` and its `Patience`.

    Each object must be the one that was listed, before and after it is read, and end where it ended then.
    """

    def __init__(self, session: Session, files: Sequence[MtpFile], parent: Parent) -> None:
        self.read_ahead = Ahead()
        self._session = session
        self._files = files
        self._parent = parent
        self._file: MtpFile | None = None
        self._window = b""
        self._begin = 0
        self._stream: Iterator[memoryview] | None = None

    def let_kernel_guess(self, guess: bool, /) -> None:
        """Nothing to do."""

    def forget(self, offset: int, length: int) -> None:
        """Nothing to do."""

    def take_holes(self) -> list[Extent]:
        """A device that can't give a byte gives none behind it either: there are no holes."""
        return []

    def read(self, offset: int, view: memoryview, _file_offset: int = 0) -> None:
        """Fill `view`; raises FetchError, or PtpError when the device is not to be used any more."""
        number, at = divmod(offset, SPAN_BYTES)
        file = self._files[number - 1]
        filled = 0
        try:
            if file is not self._file:
                self._check(file)
                self._file, self._window, self._begin = file, b"", 0
            while filled < len(view):
                if not self._begin <= at + filled < self._begin + len(self._window):
                    self._fill(file, at + filled)
                piece = self._window[at + filled - self._begin :][: len(view) - filled]
                view[filled : filled + len(piece)] = piece
                filled += len(piece)
        except GoneError as error:
            raise FetchError(FailReason.GONE, str(error)) from error
        except RefusedError as error:
            reason = FailReason.CHANGED if error.code in _NOT_THERE else FailReason.UNREADABLE
            raise FetchError(reason, f"byte {at + filled}: {error}") from error
        finally:
            if file.size_bytes == at + filled:
                self._file = None

    def _check(self, file: MtpFile) -> None:
        self._leave_stream()
        if self._session.object(file.handle) != file.info:
            raise FetchError(FailReason.CHANGED, "the device tells something else of it than when it was listed")

    def _fill(self, file: MtpFile, at: int) -> None:
        if file.size_bytes < self._session.reach_bytes:
            count = min(_WINDOW_BYTES, file.size_bytes - at)
            is_last = at + count == file.size_bytes
            # At the end one byte more is asked for: it must not come.
            self._window, self._begin = self._session.piece(file.handle, at, count + is_last), at
        else:
            self._skip_to(file, at)
        end = self._begin + len(self._window)
        if end <= at:
            raise FetchError(FailReason.CHANGED, f"it ends at byte {at}, and had {file.size_bytes} when it was listed")
        if end >= file.size_bytes:
            self._end(file, end)

    def _end(self, file: MtpFile, end: int) -> None:
        """All was read: nothing must follow."""
        for surplus in self._stream or ():
            end += len(surplus)
            self._bounded(file, end)
        self._stream = None
        if end > file.size_bytes:
            raise FetchError(FailReason.CHANGED, f"it goes on behind the {file.size_bytes} bytes that were listed")
        self._check(file)

    def _skip_to(self, file: MtpFile, at: int) -> None:
        """A device that can't read in pieces gives an object as a whole only, from its beginning."""
        if self._stream is None or at < self._begin:
            self._leave_stream()
            self._stream, self._window, self._begin = iter(self._session.whole(file.handle)), b"", 0
        while at >= self._begin + len(self._window):
            piece = next(self._stream, None)
            self._begin += len(self._window)
            self._window = bytes(piece or b"")
            self._parent.alive()
            if piece is None:
                self._stream = None
                return

    def _leave_stream(self) -> None:
        """What was begun has to be gone through before anything else can be asked."""
        size_bytes = 0
        stream, self._stream = self._stream, None
        with contextlib.suppress(RefusedError):
            for piece in stream or ():
                size_bytes += len(piece)
                self._parent.alive()
                if self._file is not None:
                    self._bounded(self._file, size_bytes)

    @staticmethod
    def _bounded(file: MtpFile, size_bytes: int) -> None:
        if size_bytes > file.size_bytes + _SURPLUS_BYTES:
            raise PtpError("the device goes on sending behind the end of an object")


class Listing:
    """Prints what a walk finds, as `parser.Report` does."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._digest = blake3()
        self._said_s = time.monotonic()
        self.files: list[MtpFile] = []

    def alive(self) -> None:
        """Tell now and then that this is slow, not stuck."""
        if time.monotonic() - self._said_s >= _HEARTBEAT_S:
            self._say({"alive": True})

    def print(self, session: Session) -> None:
        """List all; raises PtpError or RefusedError."""
        told = session.info
        words = {"maker": told.manufacturer, "model": told.model, "version": told.version, "serial": told.serial}
        about: dict[str, object] = {name: safe_name(word) for name, word in words.items()}
        about |= {"reads_in_pieces": session.reach_bytes > 0, "reads_behind_4_gib": session.reads_far}
        volumes = 0
        for item in Walk(session, self.alive):
            match item:
                case Volume():
                    self._say({"volume": item._asdict()})
                    if not volumes:
                        self._say({"finding": {"kind": "mtp-device", "detail": about}})
                    volumes += 1
                case Finding():
                    self._say({"finding": item._asdict()})
                case MtpFile():
                    self._file(item)
        if not volumes:
            raise NoStorageError("the device shows no storage")
        digest = self._digest.hexdigest()
        self._say({"end": {"entries": len(self.files), "metadata_blake3": digest, "space": None}})

    def _file(self, file: MtpFile) -> None:
        self.files.append(file)
        size_bytes = min(file.size_bytes, SIZE_LIMIT_BYTES)
        clip: dict[str, object] = {
            "number": len(self.files),
            "path": file.path,
            "raw_name": file.info.raw_name.hex(),
            "size": min(file.stated, SOURCE_BYTES),
            "readable": size_bytes,
            "created": file.created,
            "modified": file.modified,
            "flags": ["size-differs"] * (file.size_bytes != file.stated),
            "entry_offset": -1,
        }
        self._digest.update(json.dumps(clip).encode("ascii"))
        if file.refusal:
            self._say({"refused": {"clip": clip, "reason": file.refusal}})
        else:
            extents = [(len(self.files) * SPAN_BYTES, size_bytes)] if size_bytes else []
            self._say({"clip": clip | {"zero_from": None}, "extents": extents})

    def _say(self, line: object) -> None:
        self._said_s = time.monotonic()
        self._parent.say(line)


def connected(where: str, timeout_s: float) -> tuple[Wire, dict[str, int]]:
    """The wire to a device, and what tells it from another one under the same name; raises PtpError."""
    if where.startswith(NETWORK):
        host, _, port = where.removeprefix(NETWORK).rpartition(":")
        return PtpIp(host, int(port), timeout_s), {"rdev": 0, "ino": 0, "dev": 0, "size": SOURCE_BYTES, "diskseq": 0}
    try:
        fd = os.open(where, os.O_RDWR | os.O_CLOEXEC)  # usbfs takes requests by no other; what is asked only reads
    except OSError as error:
        kind = GoneError if error.errno in GONE_ERRNOS else PtpError
        raise kind(f"{where} can't be opened: {error.strerror}") from error
    found = os.fstat(fd)
    identity = {"rdev": found.st_rdev, "ino": found.st_ino, "dev": found.st_dev, "size": SOURCE_BYTES, "diskseq": 0}
    return PtpUsb(fd, timeout_s), identity


def main(arguments: Sequence[str]) -> int:
    """Run as a child process; returns the exit code."""
    where, timeout_s, staging_fd = arguments[0], float(arguments[1]), int(arguments[2])
    for name in _CODECS:
        codecs.lookup(name)
    parent = Parent(sys.stdin.fileno(), sys.stdout.fileno())
    listing = Listing(parent)
    with contextlib.suppress(ParentGoneError):
        try:
            wire, identity = connected(where, timeout_s)
            parent.say({"source": identity})
            lock_asker(staging_fd, USED_LATER)
            session = Session(wire)
            session.open()
            listing.print(session)
        except (PtpError, RefusedError) as error:
            parent.say({"error": {"kind": error.kind, "message": str(error)}})
            return 0
        reader = ObjectReader(session, listing.files, parent)
        try:
            work(parent, Puller(reader, staging_fd, parent, reader))
        except PtpError as error:
            os.write(2, f"{error}\n".encode("ascii", "backslashreplace"))
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
