"""Finds out by trying what a disk or share can do as a store, for the person who sets it up."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agent import durable
from agent.model import Clock
from agent.uploader import directory_errors as errors
from agent.uploader.base import Trait, clock_trait, trait
from agent.uploader.directory_share import Share, incoming, lock
from agent.uploader.mounts import mount_of
from agent.uploader.source import write_all
from agent.vault import fingerprint

_MIB: Final = 1024 * 1024
_PROBE_MIB: Final = 16
_LITTLE_ROOM_GIB: Final = 1.0


def survey(share: Share, root: Path, clock: Clock) -> Iterator[Trait]:
    """All traits of a share; the probes are no evidence and gone afterwards. Raises StoreError if it is away."""
    with share.opened() as here, share.storing():
        yield trait("marker", True, f"{root / errors.MARKER} is there: this is the store")
        yield from _place(here)
        space = os.statvfs(here)
        free, size = (blocks * space.f_frsize / 1024**3 for blocks in (space.f_bavail, space.f_blocks))
        yield trait("room", free >= _LITTLE_ROOM_GIB, f"{free:.1f} of {size:.1f} GiB are free", "Give it more room.")
        try:
            with incoming(here) as (fd, path):
                yield from _probe(here, fd, path, clock)
        except OSError as error:
            what, do = errors.in_words(error)
            yield trait("writable", False, f"a probe could not be written: {what}", do)


def _place(here: Path) -> Iterator[Trait]:
    with durable.opened(here, os.O_RDONLY | os.O_DIRECTORY) as fd:
        mount = mount_of(fd)
    if mount is None:
        yield trait("filesystem", None, "not known: it was unmounted in this moment")
        return
    yield trait("filesystem", None, f"{mount.kind} from {mount.source}")
    if mount.is_network:
        what = "reading back reaches at most the memory of the storage, and nothing here can lock its files"
        do = "Make the share WORM, or take snapshots, on the storage itself; leave store.options.seal = false."
        yield trait("network share", None, what, do)
    if mount.kind.startswith("nfs"):
        hard = "soft" not in mount.options
        what = "hard: it is sent until the storage has it" if hard else "soft: a short trouble loses what was written"
        do = "Mount it with the option hard: the service notices a share that hangs by itself."
        yield trait("nfs mount", hard, what, do)


def _probe(here: Path, fd: int, path: Path, clock: Clock) -> Iterator[Trait]:
    yield from _speed(fd)
    os.utime(fd)
    yield clock_trait(os.fstat(fd).st_mtime - clock().timestamp())
    exist = lock(fd) is not None  # that nobody refuses again what is locked already only shows that locks exist
    what = f"copies that a crash left are {'told from those under way' if exist else 'never removed, without locks'}"
    do = "Mount it with locks; else remove files .incoming-* by hand while no service runs."
    yield trait("locks", exist, what, do)
    kept = durable.fsync_dir(here)
    what = "names are flushed to the medium" if kept else "not offered: the storage must keep names after a power cut"
    yield trait("folder flush", kept or None, what)
    can = durable.make_immutable(path) and durable.make_mutable(path)
    if can:
        yield trait("seal", None, "files can be made immutable", "store.options.seal = true does it.")
    else:
        do = "Leave store.options.seal = false; protect the files on the storage itself."
        yield trait("seal", None, "files can't be made immutable from here", do)
    try:
        yield _naming(here, path)
    except OSError as error:
        what, do = errors.in_words(error)
        yield trait("names", False, f"a file can't be given a name without replacing: {what}", do)


def _speed(fd: int) -> Iterator[Trait]:
    content = memoryview(secrets.token_bytes(_MIB))
    begun = time.monotonic()
    for _ in range(_PROBE_MIB):
        write_all(fd, content)
    durable.fsync_file(fd)
    written = time.monotonic()
    size, _ = fingerprint(fd)
    back = time.monotonic()
    if size != _PROBE_MIB * _MIB:
        yield trait("writable", False, f"{size} of {_PROBE_MIB * _MIB} bytes came back", "Have it checked.")
        return
    yield trait("writable", True, "a probe was written and read back")
    speeds = (_PROBE_MIB / max(span, 1e-6) for span in (written - begun, back - written))
    yield trait("speed", None, "writing {:.0f} MiB/s, reading back {:.0f} MiB/s, with 16 MiB".format(*speeds))


def _naming(here: Path, path: Path) -> Trait:
    durable.make_read_only(path)
    with incoming(here) as (_, taken):
        try:
            durable.rename_no_replace(path, taken)
        except FileExistsError:
            pass
        else:
            return trait("names", False, "a name that was taken was replaced", "Use another storage.")
    free = here / f"{durable.INCOMING_PREFIX}{secrets.token_hex(16)}"
    try:
        in_one = durable.rename_no_replace(path, free)
    finally:
        durable.remove_part(free)
    how = "in one step" if in_one else "by a second name first, since the share refuses RENAME_NOREPLACE"
    return trait("names", True, f"a name is never replaced, {how}")
