"""A batch of complete files of an inbox as something docked: listed and fetched by one locked child, never changed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from blake3 import blake3

from agent.child import Child, ChildError
from agent.drivers.base import FetchRequest, Listing, ListingEnd
from agent.drivers.fetching import Fetching
from agent.drivers.folder_reader import CHANGED, SAME, VANISHED, Mark
from agent.drivers.mass_storage import DEFAULT_LIMITS, Limits
from agent.drivers.names import join_path, safe_name
from agent.errors import DeviceError
from agent.model import INBOX, Clip, Device, Finding, Stamp, Volume

_LINE_BYTES: Final = 48 * 1024
_SKIPPED: Final[Mapping[str, str]] = {CHANGED: "inbox-file-changed", VANISHED: "inbox-file-vanished"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST_S: Final = 253_402_300_799


@dataclass(slots=True)
class Batch:
    """Files that are taken over together, as one docking, and what else is to be told there.

    `under_way` while that reads or is about to; `ends` counts how often it has ended.
    """

    marks: tuple[Mark, ...]
    findings: tuple[Finding, ...] = ()
    under_way: bool = True
    ends: int = 0


def inbox_device(name: str, title: str = "") -> Device:
    """Who an inbox is: its name in the configuration, whatever folder that stands for."""
    return Device(INBOX, port=name, filesystem_ids=(f"{INBOX}:{name}",), label=title or name)


def clip_of(number: int, mark: Mark) -> Clip:
    """A file as a clip. Its time is the filesystem's, in UTC; a flag tells of what leaves time and size alone."""
    names = [safe_name(_text(part)) for part in mark.path.split(b"/")]
    path = ""
    for name in names:
        path = join_path(path, name)
    return Clip(
        number=number,
        path=path,
        raw_name=mark.path.rpartition(b"/")[2],
        size_bytes=mark.size_bytes,
        readable_bytes=mark.size_bytes,
        modified=_stamp(mark.mtime_ns),
        flags=(f"ctime-ns:{mark.ctime_ns}",),
    )


def _text(name: bytes) -> str:
    """As UTF-8, else as Windows in China writes names; what is neither keeps its bytes as surrogates."""
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        return name.decode("gbk")
    except UnicodeDecodeError:
        return name.decode("utf-8", "surrogateescape")


def _stamp(time_ns: int) -> Stamp:
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    if not 0 <= seconds <= _LATEST_S:
        return Stamp()
    moment = _EPOCH + timedelta(seconds=seconds, microseconds=rest_ns // 1000)
    return Stamp(moment.replace(tzinfo=None).isoformat(), 0)


class Folder(Fetching):
    """A batch of an inbox. What became something else since it was found complete is told and left to a later one."""

    def __init__(
        self, path: Path, device: Device, staging_dir: Path, batch: Batch, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        super().__init__()
        self.device = device
        self._path = path
        self._staging_dir = staging_dir
        self._batch = batch
        self._limits = limits
        self._files: list[int] = []

    async def clips(self) -> AsyncGenerator[Listing, None]:
        """List the files of the batch that are still what they were; raises DeviceError if the folder can't be read."""
        self._batch.under_way = True
        marks = self._batch.marks
        try:
            states, space = await self._look()
        except ChildError as error:
            raise _unreadable(f"its reader {error}") from error
        yield Volume(INBOX, self.device.port, self.device.label, *space, dirty=False)
        self._files = [index for index, state in enumerate(states) if state == SAME]
        for number, index in enumerate(self._files, 1):
            yield clip_of(number, marks[index])
        for mark, state in zip(marks, states, strict=True):
            if state != SAME:
                yield Finding(_SKIPPED[state], {"path": clip_of(0, mark).path})
        for finding in self._batch.findings:
            yield finding
        digest = blake3(repr([mark[:4] for mark in marks]).encode() + states.encode("ascii"))
        yield ListingEnd(digest.hexdigest())

    async def _look(self) -> tuple[str, tuple[int, int]]:
        """A letter for each mark, and the sizes of the filesystem's blocks and of all of it."""
        reader = await self._started_puller()
        await reader.send({"look": True})
        states = ""
        while True:
            match await reader.line():
                case {"states": str(letters)} if set(letters) <= {SAME, *_SKIPPED}:
                    states += letters
                case {"end": [int(block), int(size)]} if len(states) == len(self._batch.marks):
                    return states, (block, size)
                case {"gone": str(why)}:
                    raise _unreadable(why[:200])
                case _:
                    raise ChildError("reported something that was not asked")

    async def _started_puller(self) -> Child:
        if self._puller is None:
            arguments = (self._path, self._limits.rescue_s)
            self._puller = await self._start(
                "agent.drivers.folder_reader", arguments, self._staging_dir, self._limits.stall_s
            )
            await self._puller.send(*_mark_lines(self._batch.marks))
        return self._puller

    def _lines(self, requests: Sequence[FetchRequest]) -> Iterator[object]:
        for request in requests:
            size = request.clip.readable_bytes
            order = {
                "number": request.clip.number, "file": self._files[request.clip.number - 1], "part": request.part,
                "size": size, "zero_from": None, "first_block": request.first_block, "check": request.check,
                "rescue": request.rescue,
            }  # fmt: skip
            yield {"fetch": order, "extents": [[0, size]] if size else []}

    async def close(self) -> None:
        """End the reader; what is left of the batch may go into another one."""
        self._batch.ends += self._batch.under_way
        self._batch.under_way = False
        await super().close()


def _mark_lines(marks: Iterable[Mark]) -> Iterator[object]:
    """Lines below the reader's limit, however long the paths are."""
    rows: list[list[object]] = []
    size_bytes = 0
    for path, *numbers in marks:
        rows.append([path.hex(), *numbers])
        size_bytes += 2 * len(path) + 100
        if size_bytes > _LINE_BYTES:
            yield {"marks": rows}
            rows, size_bytes = [], 0
    yield {"marks": rows}


def _unreadable(why: str) -> DeviceError:
    return DeviceError(
        f"This inbox can't be read: {why}.",
        safe="Nothing in it was changed; what was taken over before is safe.",
        do="Look whether its disk or share is there; it is tried again.",
    )
