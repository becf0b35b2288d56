"""The join lane: makes films of sessions that have ended, a source at a time, behind all else; originals stay apart.

With the last source of a session it makes what shows the whole of it: the cameras side by side, a contact sheet, a time
axis, the list of all segments. What was made of one source is in the journal before the next begins; a crash costs the
one that was under way. Segments get no copies of their own (docs/adr/0055): the film shows them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from agent.access.certificate import AGENT
from agent.access.encoders import proven
from agent.access.filming import Film, Footage, make_film
from agent.access.findings import findings_of
from agent.access.inspecting import Inspection
from agent.access.laying import CAUSES, Missing, Part, places
from agent.access.looking import Detected
from agent.access.made import Everything, Made
from agent.access.plan import NoCopyError
from agent.access.playlist import m3u8
from agent.access.scanning import ChangedError, ScanError, Scanned, scan
from agent.access.tool import ToolError, version
from agent.errors import JournalError, StoreError
from agent.journal import joining
from agent.model import FINDINGS_LIMIT, Derived, Incident, MediaFinding, Role
from agent.pipeline.deriving import ATTEMPTS, clear, entries_of, ready
from agent.pipeline.documents import add_made, refusing
from agent.pipeline.session_work import Files, Row, Work, said_of, us, whole_session
from agent.pipeline.station import Station

Busy = Callable[[], bool]

_ROOM_BYTES: Final = 256 << 20
_LOOKED_AT: Final = 1000
_NO_ROOM: Final = "存储空间不足，暂不制作场次合成片（原始资料不受影响）(no room for films of sessions)"
_UNREAD: Final = "分段无法读取，原始资料仍在 (recorded, but it can't be read)"
_NOT_FOUND: Final = "no film could be made of its session"


class JoinLane:
    """One film at a time, never while a recorder is read or a session runs in any room.

    `unread` tells which originals the probe lane gave up: no session waits for them. `given_up` are (session, source)
    whose files can't be read: tried again after the next start. `trouble` says in two languages why nothing is made.
    """

    def __init__(self, station: Station, is_busy: Busy, unread: Callable[[], Collection[str]] = tuple) -> None:
        self._station = station
        self._unread = unread
        self._others = is_busy
        self.given_up: set[tuple[str, str]] = set()
        self.trouble = ""

    async def step(self) -> None:
        """Make the next film, or wait a little if there is none or others need the station."""
        station, work = self._station, None
        if station.access.enabled and not self._is_busy():
            work = await station.on_disk(_next, station, self.given_up, self._unread())
        if work is None or not await self._has_tool():
            await asyncio.sleep(station.limits.probe_pause_s)
            return
        if not await station.on_disk(_has_room, station, work):
            self.trouble = _NO_ROOM
            await asyncio.sleep(station.limits.backoff_max_s)
            return
        self.trouble = ""
        key = (work.session_id, work.source)
        self.given_up.add(key)
        try:
            if await self._join(work):
                self.given_up.discard(key)
        except (JournalError, StoreError):  # our own disk refuses: that is no fact about this session
            self.given_up.discard(key)
            raise

    def _is_busy(self) -> bool:
        return self._others() or self._station.is_recording()

    async def _has_tool(self) -> bool:
        try:
            await version()
        except ToolError:
            return False  # the derive lane tells of it
        return True

    async def _join(self, work: Work) -> bool:
        """Whether it is settled. Counted before the work: what kills the process does so thrice."""
        station, session_id = self._station, work.session_id
        subject = joining(session_id, work.source)
        before = await station.on_disk(station.journal.reader.attempt, subject)
        if before is not None and before.begun >= ATTEMPTS:
            reason = f"{ATTEMPTS} attempts to make copies of it did not come to an end"
            await station.journal.record(*_without(work, reason))
            return True
        await station.journal.begun([subject])
        folder = station.vault.work_dir / session_id
        folders = (folder, folder.with_name(f"{session_id}-film"))
        try:
            for one in folders:
                await station.on_disk(ready, one)
            await self._make(work, folder)
            await station.journal.note(subject, {})  # asked for again, it is begun anew
        except ScanError:
            await station.journal.note(subject, {})  # a disk that is slow is no fact about it
            return False
        except asyncio.CancelledError:
            with contextlib.suppress(JournalError):
                await station.journal.note(subject, {})
            raise
        finally:
            for one in folders:
                await station.on_disk(clear, one)
        return True

    async def _make(self, work: Work, folder: Path) -> None:
        """The film with its certificate and the findings of its segments, and with the last of them all else."""
        station = self._station
        rows, scanned = await self._scanned(work)
        with refusing(folder.name):
            try:
                film, reason = await self._film(work, rows, folder.with_name(f"{folder.name}-film")), ""
            except (NoCopyError, ToolError, OSError) as error:
                film, reason = None, f"{_NOT_FOUND}: {error}"
            if film is None and not await station.on_disk(_has_room, station, work):
                raise StoreError("The storage became full while copies were made.", safe="No original is affected.")
            files = await station.on_disk(_film_files, station, work, rows, film, reason, folder)
            told = _told(work, rows, film, scanned, files[0][1].asset.asset_id if film else "", reason)
            if work.is_last:
                files += await whole_session(station, work, files, told, folder, self._is_busy)
        settled = {row.taken.asset.asset_id for row in rows}
        told += [one for one in _without(work, reason or _NOT_FOUND) if one.asset_id not in settled]
        await add_made(station, files, *told)

    async def _scanned(self, work: Work) -> tuple[list[Row], list[Scanned]]:
        """The segments whose bytes are still those that were held, and what is in these; raises ScanError."""
        rows, found = [], []
        for row in work.own:
            digests = row.keeper.digests
            assert digests is not None, "it is held"
            try:
                path, size = self._station.vault.address(digests.blake3), row.keeper.expected_bytes
                found.append(await scan(path, size, digests.blake3, is_busy=self._is_busy))
                rows.append(row)
            except ChangedError as error:
                what = {"asset": row.keeper.asset_id, "what": f"{error}; no film shows it"}
                await self._station.journal.record(Incident("vault-damaged", what))
        return rows, found

    async def _film(self, work: Work, rows: Sequence[Row], folder: Path) -> Film:
        station, parts = self._station, []
        for row in rows:
            assert row.keeper.digests is not None and row.view.facts is not None, "only such were chosen"  # noqa: PT018
            path = station.vault.address(row.keeper.digests.blake3)
            parts.append(
                Part(row.keeper.asset_id, path, row.view.facts, us(row.taken.start), us(row.taken.end))
            )  # fmt: skip
        missing = [
            Missing(start_us, end_us, CAUSES.get(cause, cause))
            for start_us, end_us, cause in work.spans_us(work.source, "gap", "missing")
        ]
        said = await station.on_disk(lambda: [*said_of(station, work)])
        missing += [Missing(*one, is_said=True) for one in said]
        lost = [row for row in work.rows[work.source] if row not in rows]
        missing += [Missing(us(row.taken.start), us(row.taken.end), _UNREAD) for row in lost]
        lacks = tuple(f"segment {row.taken.file} can't be read and is not in it" for row in lost)
        footage = Footage(work.title(work.source), parts, missing, work.span_us, lacks)
        encoder = await proven(station.access.encoder, folder, is_busy=self._is_busy)
        return await make_film(footage, folder, station.access, encoder, is_busy=self._is_busy)


def _film_files(
    station: Station, work: Work, rows: Sequence[Row], film: Film | None, reason: str, folder: Path
) -> Files:
    """The film, if there is one, is the first of them."""
    if not rows:
        return []
    paper = Made(Role.PLAYLIST, folder / "segments.m3u8", AGENT)
    paper.path.write_bytes(m3u8(work.listed(work.source, {}, None)))
    session = (work.session_id, work.source)
    segments = [asdict(row.keeper.digests) for row in rows if row.keeper.digests]
    source = {"session_id": session[0], "source": session[1], "segments": segments}
    made = Everything((film.made, paper) if film else (paper,), (), 0, reason, (), source)
    return entries_of(station, rows[0].keeper, made, folder, session)


def _told(
    work: Work, rows: Sequence[Row], film: Film | None, scanned: Sequence[Scanned], shown: str, reason: str
) -> list[Derived]:
    """What was found in each segment, and where in the film it is."""
    told = []
    at_ms = {piece.part: piece.at_us // 1000 for piece in film.pieces} if film else {}
    for number, row in enumerate(rows):
        found = _found(work, rows, number, film, scanned[number])
        film_ms = at_ms.get(number)
        lacks = reason or ("" if film_ms is not None else _NOT_FOUND)
        own = row.taken.asset.asset_id
        told.append(
            Derived(own, found[:FINDINGS_LIMIT], len(found), lacks, shown if film_ms is not None else "", film_ms or 0)
        )
    return told


def _found(
    work: Work, rows: Sequence[Row], number: int, film: Film | None, scanned: Scanned
) -> tuple[MediaFinding, ...]:
    """By its own packets, by what can't be decoded in the film, and by what was noticed while it was recorded."""
    row = rows[number]
    assert row.view.facts is not None, "it was probed"
    tracks = []
    for track in film.seen[number].tracks if film else ():
        seen = film.film.of(track.kind) if film else None
        bad = [
            (start, end) for part, start, end in places(film.pieces, seen.undecodable if seen else ()) if part == number
        ] if film else []  # fmt: skip
        tracks.append(replace(track, frames=track.packets, bad=len(bad), undecodable=tuple(bad)))
    zero_us, end_us = us(row.taken.start), us(row.taken.end)

    def noticed(*kinds: str) -> tuple[tuple[int, int], ...]:
        return tuple(
            ((max(start, zero_us) - zero_us) // 1000, (min(end, end_us) - zero_us) // 1000)
            for start, end, _ in work.spans_us(work.source, *kinds)
            if start < end_us and zero_us < end
        )

    detected = Detected(noticed("black"), noticed("frozen"), noticed("silent", "flat"))
    return findings_of(row.view.facts, Inspection(tuple(tracks), ended=True), scanned, detected)


def _without(work: Work, reason: str) -> list[Derived]:
    """Of no segment that is open a film can be made; those that nobody could read may be read after the next start."""
    rows = (row for row in work.rows[work.source] if row.is_open and row.view.facts is not None)
    return [Derived(row.taken.asset.asset_id, reason=reason) for row in rows]


def _has_room(station: Station, work: Work) -> bool:
    """Whether film and mosaic, and what is written meanwhile, leave the room that recorders need."""
    size = sum(row.keeper.expected_bytes for row in work.own)
    return station.vault.free_bytes() - station.reserve_bytes > 3 * size + _ROOM_BYTES


def _next(station: Station, given_up: Iterable[tuple[str, str]], unread: Collection[str]) -> Work | None:
    """The next source of which a film is to be made, once all segments of its session are held and probed.

    A source of which nothing at all was read waits until the next start.
    """
    reader, tried = station.journal.reader, set(given_up)
    wanted: dict[str, list[str]] = {}
    for session_id, source in reader.to_join(_LOOKED_AT + len(tried)):
        wanted.setdefault(session_id, []).append(source)
    for session_id, sources in wanted.items():
        left = [source for source in sources if (session_id, source) not in tried]
        if left and not reader.is_coming(session_id, unread):
            return replace(work_of(station, session_id, left[0]), is_last=len(sources) == 1)
    return None


def work_of(station: Station, session_id: str, source: str) -> Work:
    """All that is known of a session that has ended."""
    reader = station.journal.reader
    view = reader.session(session_id)
    rows: dict[str, list[Row]] = {}
    for taken in sorted(view.segments, key=lambda one: (one.start, one.number)):
        row = reader.recording(taken.recording.recording_id)
        keeper = reader.asset(row.asset.same_as) if row.asset.same_as else row.asset
        rows.setdefault(taken.source, []).append(Row(taken, row, keeper))
    assert view.ended is not None, "only such are to be joined"
    room = station.rooms.get(view.started.room)
    titles = {one.name: one.title for one in room.sources} if room is not None else {}
    return Work(view, view.ended, rows, source, lambda name: titles.get(name, name))
