"""The only place that names, removes, flushes, forgets and protects files: one small function for each effect.

System calls on the happy path of an original, in this order:

    openat(part) write* sync_file_range(WRITE)*          puller: the blocks, write-back started behind them
    fdatasync(part), or syncfs for many small parts      vault: a block is durable
    fadvise64(DONTNEED) mincore preadv*                  vault: it is forgotten, proven forgotten, read from the medium;
                                                         small parts are asked for first (fadvise64), many at once
    chmod(part, 0440)                                    vault: from here on nobody writes to it
    renameat2(part, original, RENAME_NOREPLACE)          vault: it has its name, and nothing was replaced
    ioctl(FS_IOC_GETFLAGS) ioctl(FS_IOC_SETFLAGS)        vault: immutable, where that is permitted
    fsync(folder of the original) fsync(staging)         vault: the name is durable

`remove_part` and `remove_work` take only unfinished files; an original goes by `free_original` alone, with a proof.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the puller must not pay for it
    from pathlib import Path

    from agent.model import Releasable

PART_SUFFIX: Final = ".part"
WORK_FOLDER: Final = "derived"
"""What is being made from originals lies below a folder of this name, in one folder for each of them."""

STILL_SUFFIX: Final = ".jpg"
"""What a camera shows right now; no original ever has a name with a suffix."""

INCOMING_PREFIX: Final = ".incoming-"
READ_ONLY_MODE: Final = 0o440
CHUNK_BYTES: Final = 512 * 1024
"""Reading and hashing unit: stays in the processor's cache."""

_FOLDER_MODE: Final = 0o750
_PART_MODE: Final = 0o600
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

# linux/fcntl.h, linux/fs.h, asm-generic/mman-common.h
_AT_FDCWD: Final = -100
_RENAME_NOREPLACE: Final = 1
_SYNC_FILE_RANGE_WRITE: Final = 2
_SYNC_FILE_RANGE_AND_WAIT: Final = 1 | 2 | 4
_PROT_READ: Final = 1
_MAP_SHARED: Final = 1
_LONG_BYTES: Final = struct.calcsize("l")
_FS_IOC_GETFLAGS: Final = 0x80006601 | _LONG_BYTES << 16
_FS_IOC_SETFLAGS: Final = 0x40006602 | _LONG_BYTES << 16
_FS_IMMUTABLE_FL: Final = 0x10

_FS_IOC_ENABLE_VERITY: Final = 0x40806685
_VERITY_SHA256: Final = struct.pack("=IIIIQIIQ88x", 1, 1, 4096, 0, 0, 0, 0, 0)

_NOT_OFFERED: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
_NOT_SEALABLE: Final = _NOT_OFFERED | {errno.ENOTTY, errno.EPERM, errno.EACCES}

_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_MAP_FAILED: Final = ctypes.c_void_p(-1).value


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


@contextlib.contextmanager
def opened(path: Path, flags: int = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK) -> Iterator[int]:
    """A descriptor that is closed at the end; by itself it only reads, follows no link and waits for no pipe."""
    fd = os.open(path, flags | os.O_CLOEXEC, _PART_MODE)
    try:
        yield fd
    finally:
        os.close(fd)


# Making bytes and names durable.


def start_writeback(fd: int, offset_bytes: int, size_bytes: int) -> None:
    """Begin writing dirty pages of a range to the medium without waiting; no promise, it only avoids a stall later."""
    _sync_range(fd, offset_bytes, size_bytes, _SYNC_FILE_RANGE_WRITE)


def finish_writeback(fd: int, offset_bytes: int, size_bytes: int) -> None:
    """Wait until a range was handed to the medium, so that a later flush is short; no promise that it is durable."""
    _sync_range(fd, offset_bytes, size_bytes, _SYNC_FILE_RANGE_AND_WAIT)


def _sync_range(fd: int, offset_bytes: int, size_bytes: int, what: int) -> None:
    result = _libc.sync_file_range(fd, offset_bytes, size_bytes, what)
    if result < 0 and ctypes.get_errno() not in _NOT_OFFERED:
        raise _error()


def fdatasync(fd: int) -> None:
    """Return when all bytes of the file and its size are on the medium; raises OSError when they are not."""
    os.fdatasync(fd)


def fsync_file(fd: int) -> None:
    """As `fdatasync`, with mode and times."""
    os.fsync(fd)


def sync_filesystem(folder: Path) -> None:
    """Write everything that is dirty on the filesystem of `folder`; cheaper than a flush for each of many files.

    Kernels before 5.8 keep write errors to themselves, so only reading back from the medium makes this a proof.
    """
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        if _libc.syncfs(fd) < 0:
            raise _error()


def fsync_dir(folder: Path) -> bool:
    """Return when the names in `folder` are on the medium; False if a network filesystem doesn't offer it.

    Such a one keeps names alone, as far as it keeps them. Every other error is raised, above all EIO.
    """
    with opened(folder, os.O_RDONLY | os.O_DIRECTORY) as fd:
        try:
            os.fsync(fd)
        except OSError as error:
            if error.errno not in _NOT_OFFERED:
                raise
            return False
    return True


def make_dir(folder: Path) -> bool:
    """Make one folder and its name durable, and tell so; one that is there already is fine. Parents must exist."""
    try:
        folder.mkdir(mode=_FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return False
    fsync_dir(folder.parent)
    return True


# Names.


def rename_no_replace(source: Path, target: Path) -> bool:
    """Give a file its name; raises FileExistsError, and changes nothing, if the name is taken.

    Filesystems without RENAME_NOREPLACE (NFS, some FUSE ones) get a hard link first, which can't replace either; then
    it returns False, since both names exist for a moment.
    """
    result = _libc.renameat2(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE)
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code not in _NOT_OFFERED:
        raise OSError(code, os.strerror(code), str(source), None, str(target))
    os.link(source, target, follow_symlinks=False)
    os.unlink(source)
    return False


def write_part(path: Path, content: bytes) -> None:
    """Write an unfinished copy anew, as a whole; it is not durable yet."""
    assert path.name.endswith(PART_SUFFIX), f"{path} is no part"
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW) as fd:
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]


def cut_part(fd: int, size_bytes: int) -> None:
    """Shorten an unfinished copy to what is durable of it; what was behind is pulled again."""
    os.ftruncate(fd, size_bytes)


def remove_part(path: Path) -> None:
    """Remove an unfinished copy (`*.part`, `.incoming-*`), never anything else; one that is gone is fine."""
    unfinished = path.name.endswith(PART_SUFFIX) or path.name.startswith(INCOMING_PREFIX)
    assert unfinished, f"{path} is not the name of an unfinished copy"
    path.unlink(missing_ok=True)


def name_finished(part: Path, target: Path) -> None:
    """Give a folder, or the next version of a *.json, its name, durably; an empty folder, or the *.json, makes room."""
    assert part.name.endswith(PART_SUFFIX), f"{part} is no part"
    assert target.suffix == ".json" or not target.is_file(), f"{target} is not ours to replace"
    os.rename(part, target)
    fsync_dir(target.parent)


def replace_still(part: Path, still: Path) -> None:
    """Give the next passing picture (*.jpg) of a room its name; at once, but not durably: it is worth nothing later."""
    assert part.name.endswith(PART_SUFFIX), f"{part} is no part"
    assert still.suffix == STILL_SUFFIX, f"{still} is not ours to replace"
    os.rename(part, still)


def mark_seen(still: Path) -> None:
    """Let who makes a passing picture know, by the time of its last access, that somebody looks at it."""
    assert still.suffix == STILL_SUFFIX, f"{still} is no passing picture"
    os.utime(still, ns=(time.time_ns(), still.stat().st_mtime_ns))


def remove_still(still: Path) -> None:
    """Remove a passing picture, never anything else; one that is gone is fine."""
    assert still.suffix == STILL_SUFFIX, f"{still} is no passing picture"
    still.unlink(missing_ok=True)


def remove_work(folder: Path) -> None:
    """Remove one folder of unfinished work with all that is in it, never anything else; one that is gone is fine."""
    assert WORK_FOLDER == folder.parent.name or folder.name.endswith(PART_SUFFIX), f"{folder} is no unfinished work"
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    if folder.exists():
        folder.rmdir()


def keep_room(path: Path, size_bytes: int) -> None:
    """Have the disk keep so many bytes free in an unfinished file (`*.part`), or give back what it keeps above them.

    Raises OSError, above all ENOSPC; then it keeps what it kept.
    """
    assert path.name.endswith(PART_SUFFIX), f"{path} is no unfinished copy"
    with opened(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW) as fd:
        before = os.fstat(fd).st_size
        try:
            if size_bytes > before:
                os.posix_fallocate(fd, 0, size_bytes)
            else:
                os.ftruncate(fd, size_bytes)
        except OSError:
            os.ftruncate(fd, before)
            raise


def remove_empty(path: Path) -> bool:
    """Remove a file without a byte, or a folder that has nothing in it; False if there is something."""
    if not path.is_dir():
        if empty := path.stat().st_size == 0:
            path.unlink()
        return empty
    if any(path.iterdir()):
        return False
    path.rmdir()
    return True


def free_original(proof: Releasable) -> None:
    """Remove the local copy of an original, durably: the only removal of one. Raises OSError; one that is gone is fine.

    Refuses what isn't the very file whose bytes were read for the proof, unchanged since.
    """
    path = proof.path
    assert path.name == proof.blake3 == path.parent.name + path.name[2:], f"{path} is no original"
    assert proof.receipts, f"{path} is nowhere else"
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if (found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns) != proof.identity:
        raise OSError(errno.ESTALE, "not the file that was read", str(path))
    make_mutable(path)
    os.unlink(path)
    fsync_dir(path.parent)


# Reading from the medium instead of from memory.


def drop_cache(fd: int, offset_bytes: int, size_bytes: int) -> None:
    """Ask the kernel to forget clean cached pages of a range; dirty ones stay, so `fdatasync` comes first."""
    first = offset_bytes // _PAGE_BYTES * _PAGE_BYTES
    last = -(-(offset_bytes + size_bytes) // _PAGE_BYTES) * _PAGE_BYTES
    if last > first:  # a length of zero would mean "to the end of the file"
        os.posix_fadvise(fd, first, last - first, os.POSIX_FADV_DONTNEED)


def cached_bytes(fd: int, offset_bytes: int, size_bytes: int) -> int:
    """Bytes of a range (offset on a page) that would be read from memory; 0 proves that reading asks the medium."""
    if not size_bytes:
        return 0
    address = _libc.mmap(None, size_bytes, _PROT_READ, _MAP_SHARED, fd, offset_bytes)
    if address == _MAP_FAILED:
        if ctypes.get_errno() == errno.ENODEV:  # a filesystem that can't map has no page cache for this file
            return 0
        raise _error()
    try:
        pages = ctypes.create_string_buffer(-(-size_bytes // _PAGE_BYTES))
        if _libc.mincore(address, size_bytes, pages) < 0:
            raise _error()
    finally:
        _libc.munmap(address, size_bytes)
    return (len(pages.raw) - pages.raw.count(b"\0")) * _PAGE_BYTES


# Protecting what is finished.


def make_read_only(path: Path) -> None:
    """Take the right to write from everybody."""
    os.chmod(path, READ_ONLY_MODE)


def make_writable(path: Path) -> None:
    """Let the owner write to an unfinished copy again; refuses every other name."""
    assert path.name.endswith(PART_SUFFIX), f"{path} is no unfinished copy"
    os.chmod(path, 0o600)


def enable_verity(path: Path) -> bool:
    """Have the kernel compare every byte of a file with its tree of hashes from now on; False if that isn't offered.

    The file can never be written again. Our rights must reach to write to it, and nobody may have it open for that.
    """
    with opened(path) as fd:
        try:
            fcntl.ioctl(fd, _FS_IOC_ENABLE_VERITY, _VERITY_SHA256)
        except OSError as error:
            if error.errno not in _NOT_SEALABLE | {errno.EEXIST, errno.ETXTBSY, errno.EBUSY, errno.EROFS}:
                raise
            return error.errno == errno.EEXIST
    return True


def make_immutable(path: Path) -> bool:
    """Set the immutable flag; False if this filesystem or our rights don't permit it."""
    return _set_immutable(path, on=True)


def make_mutable(path: Path) -> bool:
    """Clear the immutable flag, so that a damaged file can be moved aside; False if that isn't permitted."""
    return _set_immutable(path, on=False)


def is_immutable(path: Path) -> bool:
    """Whether the immutable flag is set; False where there is none."""
    with opened(path) as fd:
        try:
            return bool(_flags(fd) & _FS_IMMUTABLE_FL)
        except OSError as error:
            if error.errno not in _NOT_SEALABLE:
                raise
            return False


def _flags(fd: int) -> int:
    (flags,) = struct.unpack("l", fcntl.ioctl(fd, _FS_IOC_GETFLAGS, struct.pack("l", 0)))
    return int(flags)


def _set_immutable(path: Path, *, on: bool) -> bool:
    with opened(path) as fd:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        try:
            # The other flags must be given back as they are: ext4 refuses to clear the extents flag, for example.
            flags = _flags(fd)
            wanted = flags | _FS_IMMUTABLE_FL if on else flags & ~_FS_IMMUTABLE_FL
            if wanted != flags:
                fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("l", wanted))
        except OSError as error:
            if error.errno not in _NOT_SEALABLE:
                raise
            return False
    return True
