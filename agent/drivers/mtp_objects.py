"""What lies on an MTP device: all its objects in a steady order, each with the size that it really has."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from agent.card import NO_STAMP, Finding, Stamp, Volume
from agent.drivers.names import join_path, safe_name
from agent.drivers.ptp import ALL, NOTHING_THERE, ObjectInfo, PtpError, RefusedError, Session

STORAGES_LIMIT: Final = 16
OBJECTS_LIMIT: Final = 400_000
DEPTH_LIMIT: Final = 32
UNTOLD_BYTES: Final = 1 << 40
"""What a storage is taken to hold at most that doesn't say."""

_TIME: Final = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)(?:\.(\d))?\d*(Z|[+-]\d{4})?")
Alive = Callable[[], None]


@dataclass(frozen=True, slots=True)
class MtpFile:
    """A file of a device. `stated` is the size that the device tells, `size_bytes` what reading it showed.

    With a `refusal` it can't be read.
    """

    handle: int
    path: str
    info: ObjectInfo
    stated: int
    size_bytes: int
    refusal: str = ""

    @property
    def created(self) -> Stamp:
        """When it was made, as the device says."""
        return stamp_of(self.info.captured)

    @property
    def modified(self) -> Stamp:
        """When it was changed last; devices that tell only one time mean both by it."""
        return stamp_of(self.info.modified or self.info.captured)


def stamp_of(text: str) -> Stamp:
    """A time like 20261120T090000.0+0800 (ISO 15740, 5.3.5); no time if it is something else."""
    found = _TIME.fullmatch(text)
    if found is None:
        return NO_STAMP
    year, month, day, hour, minute, second, tenth, zone = found.groups()
    local = f"{year}-{month}-{day}T{hour}:{minute}:{second}" + (f".{tenth}" if tenth else "")
    if zone in (None, "Z"):
        return Stamp(local, 0 if zone else None)
    offset_min = int(zone[1:3]) * 60 + int(zone[3:])
    return Stamp(local, -offset_min if zone[0] == "-" else offset_min) if offset_min < 1440 else Stamp(local)


class Walk:
    """Goes through all storages and folders. What can't be followed is a finding: there may be more behind it."""

    def __init__(self, session: Session, alive: Alive) -> None:
        self._session = session
        self._alive = alive
        self._seen: set[int] = set()
        self._holds_bytes = UNTOLD_BYTES

    def __iter__(self) -> Iterator[Volume | MtpFile | Finding]:
        """Raises PtpError when the device fails, and RefusedError when it does not even show its storages."""
        storages = self._session.storages()
        if len(storages) > STORAGES_LIMIT:
            yield Finding("directory-damaged", {"path": "", "why": f"more than {STORAGES_LIMIT} storages"})
        for number, storage in enumerate(storages[:STORAGES_LIMIT], 1):
            # As on a card with several volumes: two may hold the same path, and nearly all devices have only one.
            root = "" if number == 1 else f"volume-{number}"
            try:
                told = self._session.storage(storage)
            except RefusedError as error:
                yield Finding("directory-damaged", {"path": root, "why": str(error)})
                continue
            self._holds_bytes = told.capacity_bytes or UNTOLD_BYTES
            name = safe_name(told.volume) if told.volume else f"{storage:08x}"
            yield Volume("mtp", name, safe_name(told.description), 1, min(told.capacity_bytes, 1 << 62), dirty=False)
            yield from self._folder(storage, ALL, root, 0)

    def _folder(self, storage: int, folder: int, path: str, depth: int) -> Iterator[MtpFile | Finding]:
        try:
            handles = self._session.children(storage, folder)
        except RefusedError as error:
            yield Finding("directory-damaged", {"path": path, "why": str(error)})
            return
        children: list[tuple[ObjectInfo, int]] = []
        for handle in handles:
            if handle in self._seen:
                yield Finding("directory-loop", {"path": path})
                continue
            if len(self._seen) >= OBJECTS_LIMIT:
                yield Finding("directory-damaged", {"path": path, "why": f"more than {OBJECTS_LIMIT} objects"})
                break
            self._seen.add(handle)
            self._alive()
            try:
                children.append((self._session.object(handle), handle))
            except RefusedError as error:
                yield Finding("directory-damaged", {"path": path, "why": str(error)})
        # The order in which a device tells them may be another one in the next session.
        children.sort(key=lambda child: (child[0].raw_name, child[0].modified, child[0].size_bytes))
        for info, handle in children:
            below = join_path(path, safe_name(info.name))
            if not info.is_folder:
                yield from self._file(info, handle, below)
            elif depth < DEPTH_LIMIT:
                yield from self._folder(storage, handle, below, depth + 1)
            else:
                yield Finding("too-deep", {"path": below})

    def _file(self, info: ObjectInfo, handle: int, path: str) -> Iterator[MtpFile | Finding]:
        other = self._session.stated_size(handle)
        stated = other if info.size_bytes == ALL and other is not None else info.size_bytes
        guesses = (stated,) if other is None else (stated, other)
        try:
            size_bytes = measured(self._session, handle, guesses, self._alive, max(self._holds_bytes, *guesses))
        except RefusedError as error:
            yield MtpFile(handle, path, info, stated, 0, str(error))
            return
        if other is None and stated == ALL <= size_bytes:
            stated = size_bytes  # it means "more than can be said in 32 bits", and that is true
        yield MtpFile(handle, path, info, stated, size_bytes)
        if size_bytes != stated or other not in (None, stated):
            sizes = {"stated": info.size_bytes, "stated_in_64_bits": other, "found": size_bytes}
            yield Finding("size-differs", {"path": path, **sizes})


def measured(session: Session, handle: int, guesses: tuple[int, ...], alive: Alive, limit_bytes: int) -> int:
    """The size of an object as reading shows it; raises RefusedError if it can't be read, PtpError if it has no end.

    An object that can't be reached in pieces is read as a whole, to count: there is no other way to know.
    """
    for guess in guesses:
        if 0 < guess < session.reach_bytes and _reads(session, handle, guess - 1, 2) == 1:
            return guess
    size_bytes = _searched(session, handle, alive) if session.reach_bytes else 0
    return size_bytes if size_bytes < session.reach_bytes else _counted(session, handle, alive, limit_bytes)


def _reads(session: Session, handle: int, offset: int, count: int) -> int:
    """How many bytes there are from an offset on, at most `count`."""
    try:
        return len(session.piece(handle, offset, count))
    except RefusedError as error:
        if error.code in NOTHING_THERE:
            return 0
        raise


def _searched(session: Session, handle: int, alive: Alive) -> int:
    """The first offset at which there is no byte, or `reach_bytes`: ever larger steps, then halves."""
    last = session.reach_bytes - 1
    low, step = 0, 1
    while _reads(session, handle, min(low + step - 1, last), 1):
        alive()
        low = min(low + step, session.reach_bytes)
        if low == session.reach_bytes:
            return low
        step *= 2
    high = min(low + step - 1, last)
    while low < high:
        alive()
        middle = (low + high) // 2
        low, high = (middle + 1, high) if _reads(session, handle, middle, 1) else (low, middle)
    return low


def _counted(session: Session, handle: int, alive: Alive, limit_bytes: int) -> int:
    size_bytes = 0
    for piece in session.whole(handle):
        size_bytes += len(piece)
        alive()
        if size_bytes > limit_bytes:
            raise PtpError("the device sends more of an object than its storage holds")
    return size_bytes
