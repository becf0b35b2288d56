"""The guard: hears what happens to the station's files, tells what was not done by us, and has the damage mended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.changes import Seen, Whose, seen
from agent.deadline import ZONE
from agent.errors import EvidenceError, JournalError, StoreError
from agent.inotify import Ears, Happened, What
from agent.journal.guard_queries import EXAMINED, TAMPERED, Alarm, open_alarms
from agent.model import Asset, Incident
from agent.pipeline.damage import put_aside
from agent.pipeline.patrol import Patrol, is_here
from agent.pipeline.station import Station
from agent.register import line
from agent.vault_errors import world

log: Final = logging.getLogger("capture-agent")

_LOOK_EACH_S: Final = 5.0
_SETTLE_S: Final = 0.5
_PENDING: Final = 10_000
_TOLD_EACH: Final = 100
_TOLD_IN_ALL: Final = 10_000
_FOLDER: Final = re.compile(r"[0-9a-f]{2}")
_SQLITE: Final = What.CREATED | What.WRITTEN | What.CLOSED
"""What SQLite does to its files all the time."""

_WAL: Final = "journal.db-wal"
"""Whoever reads the journal as root gives it to its owner once more: that is SQLite, too."""

_WATCHED: Final = frozenset({"journal.db", _WAL, "vault", "damaged"})


@dataclass(frozen=True, slots=True)
class Found:
    """A name below the station's folder, and what was done to it by somebody else, in words of one or two letters."""

    path: Path
    what: tuple[str, ...]


class Guard:
    """Knows our own changes by what each file is like, never by when something was heard.

    What the kernel doesn't tell (flags, links, mounts, what happened while nobody listened) the patrol finds.
    """

    def __init__(self, station: Station) -> None:
        self._station = station
        self._pending: dict[Path, What] = {}
        self._news = asyncio.Event()
        self._patrol = Patrol(station)
        self._told = 0
        self._alarms: list[Alarm] = []
        self._seq = 0
        self._deaf = ""
        self._displaced = False
        self._lost = False
        self._untold: list[Found] = []
        self._telling = asyncio.Lock()

    def problems(self) -> Iterator[str]:
        """What the status page shows of it."""
        if self._displaced:
            zh = "本机存储目录被替换或被其他文件系统覆盖，请检查挂载"
            yield f"{zh} (the storage folder is covered or replaced: look at its mounts)"
        if self._deaf:
            yield f"文件防护监视未运行，只定期检查 (changes of files are found late only): {self._deaf}"
        if self._alarms:
            newest = self._alarms[-1]
            count, path, at = len(self._alarms), newest.detail.get("path", ""), newest.at.astimezone(ZONE)
            zh = f"发现 {count} 处本机文件被外部改动，最近一处 {path}（{at:%Y-%m-%d %H:%M}），请保留现场并联系管理员"
            yield f"{zh} (files here were changed by others: capture-agent guard)"

    async def watch(self) -> None:
        """Listen and judge until something must be listened to anew."""
        loop = asyncio.get_running_loop()
        with contextlib.closing(Ears()) as ears:
            self._deaf = await self._station.on_disk(self._listen_to_all, ears)
            self._lost = bool(self._deaf)
            self._patrol.look_at_all()
            if ears.fileno() >= 0:
                loop.add_reader(ears.fileno(), self._hear, ears)
            try:
                while True:
                    await self._judge()
                    if self._lost:
                        return
                    await asyncio.sleep(_SETTLE_S)  # several events of one attack are one alarm
            finally:
                if ears.fileno() >= 0:
                    loop.remove_reader(ears.fileno())

    async def patrol(self) -> None:
        """One round over all that must be there, and the pause behind it."""
        async for wrong in self._patrol.round():
            found = [Found(path, what) for path, what in wrong]
            await self._tell(found)
            await self._mend(found)
            await self._recall()
        await self._patrol.rest()

    # Hearing.

    def _listen_to_all(self, ears: Ears) -> str:
        """Why not all can be heard; empty if it can."""
        vault = self._station.vault
        try:
            for folder in (vault.root, vault.originals_dir, *sorted(vault.originals_dir.iterdir())):
                if folder.is_dir():
                    ears.listen(folder)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _hear(self, ears: Ears) -> None:
        for happened in ears.heard():
            is_moved = happened.what & What.IS_FOLDER and happened.what & What.MOVED_HERE
            self._lost |= bool(happened.is_lost or is_moved or len(self._pending) >= _PENDING)
            if happened.path.parent == self._station.vault.root and not happened.what & ~_done_by_sqlite(happened.path):
                continue
            if self._is_new_folder(happened):
                self._listen(ears, happened.path)
            elif len(self._pending) < _PENDING:
                self._pending[happened.path] = self._pending.get(happened.path, What(0)) | happened.what
        self._news.set()

    def _is_new_folder(self, happened: Happened) -> bool:
        """Whether it is one of the 256 of originals, as we make them too; what comes into it is what counts."""
        is_ours = happened.path.parent == self._station.vault.originals_dir and _FOLDER.fullmatch(happened.path.name)
        return bool(is_ours) and bool(happened.what & What.CREATED) and bool(happened.what & What.IS_FOLDER)

    def _listen(self, ears: Ears, folder: Path) -> None:
        try:
            ears.listen(folder)
            for path in folder.iterdir():  # what came before we listened
                self._pending[path] = What.ATTRIBUTES
        except OSError:
            self._pending[folder] = What.CREATED

    # Judging.

    async def _judge(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EACH_S):
                await self._news.wait()
        self._news.clear()
        pending, self._pending = self._pending, {}
        found = await self._station.on_disk(lambda: list(self._foreign(pending)))
        await self._tell([*found, *await self._look_around()])
        await self._mend(found)
        await self._recall()

    def _foreign(self, pending: Mapping[Path, What]) -> Iterator[Found]:
        """What somebody else did; what we are doing just now is judged again later."""
        vault = self._station.vault
        for path, what in pending.items():
            if path.parent.parent == vault.originals_dir and not what & What.IS_FOLDER:
                whose = vault.changes.whose(path)
                if whose is Whose.IN_HAND:
                    self._pending.setdefault(path, what)
                elif whose is Whose.FOREIGN or what & What.WRITTEN:
                    yield Found(path, _words(what))
            elif path.is_relative_to(vault.originals_dir):
                yield Found(path, _words(what))
            elif path.parent == vault.root and path.name in _WATCHED:
                yield Found(path, _words(what & ~_done_by_sqlite(path)))

    async def _look_around(self) -> list[Found]:
        """What nobody tells: mounts, and another one's writing to the journal."""
        station, before = self._station, self._displaced
        self._displaced = not await station.on_disk(self._is_in_place)
        self._lost |= before and not self._displaced
        found = [Found(station.vault.root, ("covered",))] if self._displaced and not before else []
        if await station.journal.written_by_others():
            found.append(Found(station.vault.root / "journal.db", ("written",)))
        return found

    def _is_in_place(self) -> bool:
        vault = self._station.vault
        with world(vault.root):
            return vault.place.is_same()

    # Telling and mending.

    async def _tell(self, found: list[Found]) -> None:
        """Journal what was found: each name, or of very many how many there were."""
        self._untold += found[: _PENDING - len(self._untold)]
        async with self._telling:
            if self._untold:
                await self._journal(self._untold)

    async def _journal(self, found: list[Found]) -> None:
        root, most = self._station.vault.root, _TOLD_EACH if self._told < _TOLD_IN_ALL else 1
        entries = [Incident(TAMPERED, {"path": _below(one.path, root), "what": list(one.what)}) for one in found[:most]]
        if len(found) > most:
            entries.append(Incident(TAMPERED, {"path": "", "what": ["more"], "names": len(found) - most}))
        for entry in entries:
            log.critical("changed by somebody else: %s %s", entry.detail["path"], entry.detail["what"])
        self._untold = []
        try:
            await self._station.journal.record(*entries)
        except JournalError:
            self._untold = found + self._untold
            raise
        self._told += len(found)

    async def _recall(self) -> None:
        """What is open, also from earlier runs."""
        async with self._telling:
            alarms, self._seq = await self._station.on_disk(self._station.journal.reader.alarms, self._seq)
        self._alarms = open_alarms([*self._alarms, *alarms])[-_PENDING:]

    async def _mend(self, found: list[Found]) -> None:
        vault = self._station.vault
        for path in (one.path for one in found):
            if path.parent.parent == vault.originals_dir and not self._displaced:
                try:
                    await self._examine(path)
                except StoreError as error:  # not ours any more, say: it stays as it is, and told
                    log.error("%s", error)

    async def _examine(self, path: Path) -> None:
        """Read it from the medium: what differs goes aside and comes back; what is right gets its rights back."""
        station, vault = self._station, self._station.vault
        asset, found = await station.on_disk(_look, station, path)
        if asset is None or (found is not None and found.mount != vault.place.mount):
            return  # what covers it can't be put aside, and what it hides can't be told
        try:
            if found is not None and stat.S_ISREG(found.mode):
                await station.on_disk(vault.protect, path)
            held = await station.on_disk(vault.examine, asset.asset_id, path.name)
            if (held.size_bytes, held.digests) != (asset.size_bytes, asset.digests):
                raise EvidenceError(f"The vault's {path.name} has another SHA-256 than was recorded.")
        except EvidenceError as error:
            await put_aside(station, asset, error.what)


async def examined(station: Station, asked: Mapping[str, str]) -> dict[str, object]:
    """A person has looked at all alarms until now: `who`, `why`. They stay in the journal."""
    who, why = line(asked["who"]), line(asked["why"])
    alarms, _ = await station.on_disk(station.journal.reader.alarms)
    seq = await station.journal.record(Incident(EXAMINED, {"who": who, "why": why}))
    return {"alarms": len(open_alarms(alarms)), "seq": seq}


def _look(station: Station, path: Path) -> tuple[Asset | None, Seen | None]:
    """Whose bytes must lie there, and what does."""
    same = station.journal.reader.assets_with([path.name])
    with world(path):
        return next((asset for asset in same if is_here(asset)), None), seen(path)


def _done_by_sqlite(path: Path) -> What:
    return _SQLITE | What.ATTRIBUTES if path.name == _WAL else _SQLITE


def _words(what: What) -> tuple[str, ...]:
    named = (one for one in What if one & what and one is not What.IS_FOLDER)
    return tuple(str(one.name).lower().replace("_", " ") for one in named)


def _below(path: Path, root: Path) -> str:
    """As it is called in the journal, whatever bytes somebody put into its name."""
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
    return inside.encode("utf-8", "backslashreplace").decode()[:500]
