"""Finds out by trying what a disk or share can do as a store, for the person who sets it up."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

from agent import durable
from agent.model import Clock
from agent.uploader import directory_errors as errors
from agent.uploader.base import Trait
from agent.uploader.directory_share import Share, lock, write_all
from agent.uploader.mounts import mount_of
from agent.vault import fingerprint

_PROBE_BYTES: Final = 16 * 1024 * 1024
_PIECE_BYTES: Final = 1 << 20
_LITTLE_ROOM_BYTES: Final = 1024**3
_CLOCK_LIMIT_S: Final = 60.0
_MIB: Final = 1024 * 1024


def survey(share: Share, root: Path, clock: Clock, alive: Callable[[], None]) -> list[Trait]:
    """All traits of an opened share; the probes are no evidence and gone afterwards. Raises StoreError if it is away.

    `alive` is called after each of them.
    """
    with share.opened() as here, share.storing():
        traits = [Trait("marker", good=True, what=f"{root / errors.MARKER} is there: this is the store")]
        for trait in (*_place(here), *_room(here)):
            traits.append(trait)
            alive()
        try:
            with share.incoming(here) as (fd, path):
                for trait in _probe(share, here, fd, path, clock):
                    traits.append(trait)
                    alive()
        except OSError as error:
            what, do = errors.in_words(error)
            traits.append(Trait("writable", good=False, what=f"a probe could not be written: {what}", do=do))
    return traits


def _place(here: Path) -> Iterator[Trait]:
    with durable.opened(here, os.O_RDONLY | os.O_DIRECTORY) as fd:
        mount = mount_of(fd)
    if mount is None:
        yield Trait("filesystem", None, "not known: it was unmounted in this moment")
        return
    yield Trait("filesystem", None, f"{mount.kind} from {mount.source}")
    if mount.is_network:
        what = "reading back reaches at most the memory of the storage, and nothing here can lock its files"
        do = "Make the share WORM, or take snapshots, on the storage itself; leave store.options.seal = false."
        yield Trait("network share", None, what, do)
    if mount.kind.startswith("nfs"):
        if "soft" in mount.options:
            do = "Mount it with the option hard: the service notices a share that hangs by itself."
            yield Trait("nfs mount", good=False, what="soft: a short trouble loses what was written", do=do)
        else:
            yield Trait("nfs mount", good=True, what="hard: what was written is sent until the storage has it")


def _room(here: Path) -> Iterator[Trait]:
    space = os.statvfs(here)
    free, size = space.f_bavail * space.f_frsize, space.f_blocks * space.f_frsize
    enough = free >= _LITTLE_ROOM_BYTES
    what = f"{free / 1024**3:.1f} of {size / 1024**3:.1f} GiB are free"
    yield Trait("room", enough, what, "" if enough else "Give it more room.")


def _probe(share: Share, here: Path, fd: int, path: Path, clock: Clock) -> Iterator[Trait]:
    yield from _speed(fd)
    yield _clock(fd, clock())
    yield _locks(fd)
    yield _folder_flush(here)
    yield _seal(path)
    try:
        yield _naming(share, here, path)
    except OSError as error:
        what, do = errors.in_words(error)
        yield Trait("names", good=False, what=f"a file can't be given a name without replacing: {what}", do=do)


def _speed(fd: int) -> Iterator[Trait]:
    content = memoryview(secrets.token_bytes(_PIECE_BYTES))
    begun = time.monotonic()
    for _ in range(_PROBE_BYTES // _PIECE_BYTES):
        write_all(fd, content)
    durable.fsync_file(fd)
    written = time.monotonic()
    size, _ = fingerprint(fd)
    back = time.monotonic()
    if size != _PROBE_BYTES:
        yield Trait("writable", good=False, what=f"{size} of {_PROBE_BYTES} bytes came back", do="Have it checked.")
        return
    yield Trait("writable", good=True, what="a probe was written and read back")
    speeds = (_PROBE_BYTES / _MIB / max(span, 1e-6) for span in (written - begun, back - written))
    yield Trait("speed", None, "writing {:.0f} MiB/s, reading back {:.0f} MiB/s, with 16 MiB".format(*speeds))


def _clock(fd: int, now: datetime) -> Trait:
    os.utime(fd)
    offset_s = os.fstat(fd).st_mtime - now.timestamp()
    if abs(offset_s) < _CLOCK_LIMIT_S:
        return Trait("clock", good=True, what=f"the share's clock is {offset_s:+.1f} s from the station's")
    what = f"the share's clock is {offset_s:+.0f} s from the station's"
    return Trait("clock", good=False, what=what, do="Set both by the same time server.")


def _locks(fd: int) -> Trait:
    # The probe is locked already; that nobody refuses it again only shows that locks exist.
    if lock(fd) is None:
        do = "Mount it with locks; else remove files .incoming-* by hand while no service runs."
        return Trait("locks", good=False, what="none: copies that a crash left are never removed", do=do)
    return Trait("locks", good=True, what="copies that a crash left are told from those under way")


def _folder_flush(here: Path) -> Trait:
    if durable.fsync_dir(here):
        return Trait("folder flush", good=True, what="names are flushed to the medium")
    return Trait("folder flush", None, "not offered: the storage itself must keep names after a power cut")


def _seal(path: Path) -> Trait:
    if durable.make_immutable(path) and durable.make_mutable(path):
        return Trait("seal", None, "files can be made immutable", "store.options.seal = true does it.")
    what = "files can't be made immutable from here"
    return Trait("seal", None, what, "Leave store.options.seal = false; protect the files on the storage itself.")


def _naming(share: Share, here: Path, path: Path) -> Trait:
    durable.make_read_only(path)
    with share.incoming(here) as (_, taken):
        try:
            durable.rename_no_replace(path, taken)
        except FileExistsError:
            pass
        else:
            return Trait("names", good=False, what="a name that was taken was replaced", do="Use another storage.")
    free = here / f"{durable.INCOMING_PREFIX}{secrets.token_hex(16)}"
    try:
        in_one = durable.rename_no_replace(path, free)
    finally:
        durable.remove_part(free)
    how = "in one step" if in_one else "by a second name first, since the share refuses RENAME_NOREPLACE"
    return Trait("names", good=True, what=f"a name is never replaced, {how}")
