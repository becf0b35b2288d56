"""One inbox at work: hears its watcher, asks the journal what is taken already, and docks the rest batch by batch."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final

from agent.child import Child, ChildError
from agent.config.inboxes import Inbox
from agent.drivers.dock import DockedPath, DockListener
from agent.drivers.folder import Batch, clip_of, inbox_device
from agent.drivers.folder_reader import Mark
from agent.inboxes.judging import Doubt
from agent.inboxes.watcher import FILES_LIMIT
from agent.model import INBOX_SLOT, Clip, Finding, Outcome

Fates = Callable[[str, Sequence[Clip]], Awaitable[Sequence[Outcome | None]]]
"""(name of the inbox, files) -> what the journal says became of them, exactly as they are now."""

BATCH_FILES: Final = 20_000
BATCH_BYTES: Final = 64 << 30
"""What is found meanwhile waits for the end of a batch: so much takes some minutes."""

_GATHER_S: Final = 15.0
_ASKED_AT_ONCE: Final = 500
_PATH_LIMIT: Final = 4096
_NUMBER_LIMIT: Final = 1 << 64
_COUNTS: Final = 6
_TOLD_LIMIT: Final = 200


class InboxDock:
    """Detection of complete files in one folder. Ends when it is cancelled; no child is left then."""

    def __init__(self, inbox: Inbox, listener: DockListener, fates: Fates, *, stall_s: float) -> None:
        assert inbox.folder is not None, "a configuration with such an inbox is refused"
        self._inbox = inbox
        self._folder: Path = inbox.folder
        self._listener = listener
        self._fates = fates
        self._stall_s = stall_s
        self._new: list[Mark] = []
        self._pending: dict[bytes, Mark] = {}
        self._findings: list[Finding] = []
        self._unreadable: set[bytes] = set()
        self._pending_since_s = 0.0
        self._batch: Batch | None = None
        self._ends_seen = 0
        self._key = ""
        self._batches = 0
        self._trouble = ""

    async def run(self) -> None:
        """Watch, and start watching again after a pause when that fails."""
        child: Child | None = None
        while True:
            if child is None or child.ended:  # another one would only hang beside one that the kernel holds
                child, why = await self._watch()
                self._tell(f"收件夹 {self._name} 无法查看，正在重试 (can't be looked at: {why}; it is tried again)")
            await asyncio.sleep(min(self._inbox.rescan_s, self._stall_s))

    @property
    def _name(self) -> str:
        return self._inbox.title or self._inbox.name

    async def _watch(self) -> tuple[Child | None, str]:
        """Hear one watcher until it fails; that, and why."""
        inbox, child = self._inbox, None
        patience = (inbox.settle_s, inbox.unsure_s, inbox.give_up_s, inbox.rescan_s)
        arguments = [str(self._folder), *map(str, patience), *([inbox.marker] if inbox.marker else [])]
        for known in (self._new, self._pending, self._unreadable):
            known.clear()
        try:
            stall_s = self._stall_s + inbox.rescan_s
            child = await Child.start("agent.inboxes.watcher", arguments, stall_limit_s=stall_s)
            while (line := await child.line()) is not None:
                if isinstance(line, dict) and "gone" in line:
                    return child, str(line["gone"])[:_TOLD_LIMIT]
                await self._hear(line)
            return child, "its watcher ended"
        except ChildError as error:
            return child, f"its watcher {error}"
        finally:
            if child is not None:
                await child.stop()

    async def _hear(self, line: object) -> None:
        match line:
            case {"file": [str(path), *numbers, str(doubt)]} if doubt in list(Doubt):
                mark = _mark(path, numbers)
                if len(self._new) == FILES_LIMIT:
                    raise ChildError("reported more files than it may")
                self._new.append(mark)
                if doubt:
                    self._found("inbox-file-doubtful", mark.path, doubt)
            case {"lost": str(path)}:
                self._pending.pop(_path(path), None)
                self._unreadable.discard(_path(path))
            case {"refused": [str(path), str(why)]}:
                self._found("inbox-entry-refused", _path(path), why[:_TOLD_LIMIT])
            case {"seen": int()}:
                pass
            case {"look": [*counts]} if len(counts) == _COUNTS and all(isinstance(one, int) for one in counts):
                await self._looked(counts)
            case _:
                raise ChildError("reported something that was not asked")

    def _found(self, kind: str, path: bytes, why: str) -> None:
        if len(self._findings) < _ASKED_AT_ONCE:
            shown = clip_of(0, Mark(path, 0, 0, 0, 0)).path
            self._findings.append(Finding(kind, {"path": shown, "why": why}))

    async def _looked(self, counts: Sequence[int]) -> None:
        _, settling, *troubles = counts
        new, self._new = self._new, []
        for at in range(0, len(new), _ASKED_AT_ONCE):
            await self._add(new[at : at + _ASKED_AT_ONCE])
        if self._batch is not None and not self._batch.under_way and self._batch.ends != self._ends_seen:
            self._ends_seen = self._batch.ends
            await self._drop_settled(self._batch.marks)
        self._tell(self._trouble_of(*troubles))
        self._dock(is_quiet=not settling)

    async def _add(self, marks: Sequence[Mark]) -> None:
        if not self._pending:
            self._pending_since_s = asyncio.get_running_loop().time()
        for mark, fate in zip(marks, await self._ask(marks), strict=True):
            if fate in (None, Outcome.UNREADABLE):  # each start tries again to read what could not be read
                self._pending[mark.path] = mark

    async def _drop_settled(self, batch: Sequence[Mark]) -> None:
        """What was taken over is done; what could not be read must not hold up each batch that comes."""
        marks = [self._pending[mark.path] for mark in batch if mark.path in self._pending]
        for at in range(0, len(marks), _ASKED_AT_ONCE):
            some = marks[at : at + _ASKED_AT_ONCE]
            for mark, fate in zip(some, await self._ask(some), strict=True):
                if fate is not None:
                    del self._pending[mark.path]
                if fate is Outcome.UNREADABLE:
                    self._unreadable.add(mark.path)

    async def _ask(self, marks: Sequence[Mark]) -> Sequence[Outcome | None]:
        return await self._fates(self._inbox.name, [clip_of(0, mark) for mark in marks])

    def _dock(self, *, is_quiet: bool) -> None:
        """Dock what is pending, unless a batch is being read, or more is about to be complete."""
        known = set(self._batch.marks) if self._batch is not None else set()
        now_s = asyncio.get_running_loop().time()
        if self._batch is not None and (self._batch.under_way or known >= set(self._pending.values())):
            return  # a batch that failed is tried again by itself
        if not self._pending or not (is_quiet or now_s - self._pending_since_s >= _GATHER_S):
            return
        if self._key:
            self._listener.on_gone(self._key)
        self._batch = Batch(self._next(), tuple(self._findings))
        self._findings.clear()
        self._ends_seen = 0
        self._batches += 1
        self._key = f"inbox {self._inbox.name} #{self._batches}"
        device = inbox_device(self._inbox.name, self._inbox.title)
        self._listener.on_docked(
            DockedPath(self._key, self._folder, f"{INBOX_SLOT}{self._name}", device, batch=self._batch)
        )

    def _next(self) -> tuple[Mark, ...]:
        """The oldest files that are pending, in the order of their paths."""
        chosen: list[Mark] = []
        size_bytes = 0
        for mark in sorted(self._pending.values(), key=lambda mark: (mark.mtime_ns, mark.path)):
            if chosen and (len(chosen) == BATCH_FILES or size_bytes + mark.size_bytes > BATCH_BYTES):
                break
            chosen.append(mark)
            size_bytes += mark.size_bytes
        return tuple(sorted(chosen))

    def _trouble_of(self, overdue: int, refused: int, blind: int, too_many: int) -> str:
        told = []
        if overdue:
            told.append("{0} 个文件未上传完毕 ({0} files are not finished)".format(_about(overdue)))
        if refused:
            what = "{0} 项无法采集，例如链接或无读取权限 ({0} entries are links or can't be read)"
            told.append(what.format(_about(refused)))
        if self._unreadable:
            what = "{0} 个文件读取失败 ({0} files can't be read; tried again after a restart)"
            told.append(what.format(_about(len(self._unreadable))))
        if blind:
            told.append("新文件发现较晚 (new files are noticed late, by looking only)")
        if too_many:
            told.append("文件过多，其余未查看 (too many files: the others are not looked at)")
        return f"收件夹 {self._name}: {'; '.join(told)}" if told else ""

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._listener.on_trouble(trouble)


def _about(count: int) -> str:
    """A number that doesn't change with each file: every change of what is told goes into the journal."""
    return str(count) if count < 10 else f"{10 ** (len(str(count)) - 1)}+"


def _path(text: str) -> bytes:
    try:
        path = bytes.fromhex(text)
    except ValueError:
        raise ChildError("reported a path that is none") from None
    if not 0 < len(path) < _PATH_LIMIT or b"\0" in path or {b"", b".", b".."} & set(path.split(b"/")):
        raise ChildError("reported a path that is none")
    return path


def _mark(path: str, numbers: Sequence[object]) -> Mark:
    match numbers:
        case [int(ino), int(size), int(mtime), int(ctime)] if all(abs(n) < _NUMBER_LIMIT for n in (ino, mtime, ctime)):
            if 0 <= size < 1 << 62:
                return Mark(_path(path), ino, size, mtime, ctime)
    raise ChildError("reported a file that can't be")
