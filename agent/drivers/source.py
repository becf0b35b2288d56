"""The one way in which a parser reads a device: read-only, bounded, and fingerprinted as it goes."""

import errno
import fcntl
import os
import stat
import struct
from typing import Final, NamedTuple

from blake3 import blake3

from agent.card import Extent
from agent.errors import DeviceError

BLKGETSIZE64: Final = 0x80081272
BLKGETDISKSEQ: Final = 0x80081280
SECTOR_BYTES: Final = 512
READ_LIMIT_BYTES: Final = 64 * 1024 * 1024
BAD_SECTORS_LIMIT: Final = 256  # a dying card takes up to a second for each
BAD_FILL: Final = b"\xe5"  # neither an end mark nor a live entry, in FAT and in exFAT
GONE_ERRNOS: Final = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOMEDIUM})
LOOKS: Final = 10
LOOK_S: Final = 0.1
"""For a second after it was unplugged a recorder may only give errors, as bad sectors do: hubs tell every 0.26 s."""


class FilesystemError(DeviceError):
    """The card can't be listed; `kind` is a short word for the protocol."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message, safe="The footage stays on the recorder.")
        self.kind = kind


class Identity(NamedTuple):
    """What was opened, so that another device under the same name is not taken for it; `diskseq` is 0 if unknown."""

    rdev: int
    ino: int
    dev: int
    size: int
    diskseq: int


def open_read_only(path: str) -> tuple[int, Identity]:
    """Open a block device or image file O_RDONLY; return its descriptor and identity.

    Raises FilesystemError if it can't be opened or is something else.
    """
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
            raise FilesystemError("not-a-device", f"{path} is neither a block device nor a file.")
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return fd, identify(fd)
    except OSError as error:
        raise FilesystemError(_kind(error), f"{path} could not be opened: {error.strerror}.") from error


def identify(fd: int) -> Identity:
    """Identity of an open device or image; raises OSError."""
    status = os.fstat(fd)
    if not stat.S_ISBLK(status.st_mode):
        return Identity(0, status.st_ino, status.st_dev, status.st_size, 0)
    try:
        diskseq = _ioctl_u64(fd, BLKGETDISKSEQ)
    except OSError:  # kernels before 5.15 don't number disks
        diskseq = 0
    return Identity(status.st_rdev, status.st_ino, status.st_dev, _ioctl_u64(fd, BLKGETSIZE64), diskseq)


class Source:
    """Reads metadata of an open device; all that was read goes into one BLAKE3 in reading order.

    Unreadable sectors are filled with a byte that means nothing to the readers, and noted in `bad`.
    """

    def __init__(self, fd: int, size_bytes: int) -> None:
        self._fd = fd
        self.size_bytes = size_bytes
        self.bad: list[Extent] = []
        self._digest = blake3()
        # An earlier listing may have left pages in the cache; this one must see the medium.
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes at an absolute offset; fewer only where the device ends. Raises FilesystemError."""
        if offset < 0 or offset >= self.size_bytes or length <= 0:
            return b""
        length = min(length, self.size_bytes - offset, READ_LIMIT_BYTES)
        try:
            data = self._read_whole(offset, length)
        except OSError as error:
            if error.errno != errno.EIO:
                raise _stopped(error) from error
            data = self._read_around(offset, length)
        self._digest.update(struct.pack("<QQ", offset, len(data)))
        self._digest.update(data)
        return data

    def metadata_blake3(self) -> str:
        """BLAKE3 over all that was read so far, hexadecimal."""
        return self._digest.hexdigest()

    def _read_whole(self, offset: int, length: int) -> bytes:
        data = b""
        while more := os.pread(self._fd, length - len(data), offset + len(data)):
            data += more
            if len(data) == length:
                break
        return data

    def _read_around(self, offset: int, length: int) -> bytes:
        """Read sector by sector, filling those that give an error."""
        pieces = []
        position, end = offset, offset + length
        while position < end:
            step = min(SECTOR_BYTES - position % SECTOR_BYTES, end - position)
            try:
                pieces.append(os.pread(self._fd, step, position))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise _stopped(error) from error
                pieces.append(BAD_FILL * step)
                self.bad.append((position, step))
                if len(self.bad) > BAD_SECTORS_LIMIT:
                    raise FilesystemError(
                        "unreadable", "The card has too many unreadable sectors in its directories."
                    ) from error
            position += step
        return b"".join(pieces)


def _ioctl_u64(fd: int, request: int) -> int:
    (value,) = struct.unpack("<Q", fcntl.ioctl(fd, request, bytes(8)))
    return int(value)


def _stopped(error: OSError) -> FilesystemError:
    return FilesystemError(_kind(error), f"The recorder stopped answering: {error.strerror}.")


def _kind(error: OSError) -> str:
    return "gone" if error.errno in GONE_ERRNOS else "unreadable"
