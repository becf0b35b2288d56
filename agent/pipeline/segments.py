"""From a closed file of a room's session to an original that is held; journalled first, so a crash is finished."""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from blake3 import blake3

from agent import durable
from agent.deadline import deadline_for, is_plausible
from agent.errors import StoreError
from agent.journal import Reader, new_id
from agent.media.probing import Limits, asked
from agent.model import (
    Asset,
    AssetChanged,
    AssetState,
    Blocked,
    ClockTrust,
    Medium,
    Recording,
    Role,
    SegmentTaken,
    SessionStarted,
    source_id,
)
from agent.pipeline.hold import ReadBack, hold
from agent.pipeline.station import Station
from agent.rooms.protocol import Closed, Track, Why
from agent.vault import Settled, Vault

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FILE: Final = re.compile(r"([A-Za-z0-9_-]+)-([0-9]{6})\.(mp4|mov|mkv)")
_LOST: Final = "文件内容已丢失 (its bytes are lost here; the session's folder does not have them)"
_US: Final = timedelta(microseconds=1)
_TORN: Final = frozenset({Why.KILLED, Why.DISK})
_COUNTING: Final = Limits(stall_s=30.0, total_s=60.0, cpu_s=20)
"""Others wait to be taken meanwhile."""


class Lying(NamedTuple):
    """A file of a session that lies in its folder: of which source, which number, how large."""

    source: str
    number: int
    path: Path
    size_bytes: int
    changed_at: datetime


def at(us: int) -> datetime:
    """The time of so many microseconds since 1970."""
    return EPOCH + us * _US


def lying(folder: Path) -> list[Lying]:
    """The files with content that a recorder wrote into the folder of a session, in their order."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _FILE.fullmatch(path.name)
        if match is not None and path.is_file() and not path.is_symlink() and (size := path.stat().st_size):
            changed_at = at(path.stat().st_mtime_ns // 1000)
            found.append(Lying(match[1], int(match[2]), path, size, changed_at))
    return sorted(found)


async def take(station: Station, started: SessionStarted, folder: Path, closed: Closed) -> None:
    """Make a closed file a recording, and have the vault hold it. Safe to repeat, also after a crash.

    What its recorder wrote and somebody took away is a recording, too: one whose bytes are lost.
    Raises JournalError, StoreError or EvidenceError; the file is then where it was, or a part of the asset.
    """
    reader = station.journal.reader
    taken = await station.on_disk(reader.segment, started.session_id, closed.source, closed.number)
    if taken is None:
        path = folder / closed.file
        size_bytes = await station.on_disk(_make_durable, path)
        if not size_bytes and not closed.size_bytes:
            return  # nothing was ever written into it; it stays where it is
        if size_bytes and closed.why in _TORN:
            closed = await _counted(started, path, closed)
        taken = _taken(station, started, closed, size_bytes or closed.size_bytes)
        await station.journal.record(taken)
    await finish(station, folder, taken)


async def finish(station: Station, folder: Path, taken: SegmentTaken) -> None:
    """Have the vault hold a segment that the journal knows. Safe to repeat. Raises as `take`."""
    asset_id = taken.asset.asset_id
    asset = await station.on_disk(station.journal.reader.asset, asset_id)
    if asset.state is not AssetState.WANTED:
        return
    settled = await station.on_disk(_settled, station.vault, station.journal.reader, asset, folder / taken.file)
    if settled is None:
        # An attempt that was cut off may have been committed since its state was asked for: then nothing lies anywhere.
        asset = await station.on_disk(station.journal.reader.asset, asset_id)
        if asset.state is AssetState.WANTED:
            await station.journal.record(AssetChanged(asset_id, Blocked(_LOST)))
    else:
        await hold(station, [ReadBack(settled)])


async def salvage(station: Station, started: SessionStarted, folder: Path, left: Lying) -> None:
    """Take a file that no report closed, exactly as it is on disk. It ends when it was written last.

    Safe to repeat. Raises as `take`.
    """
    end_us = await station.on_disk(_written_us, left)
    counts = (end_us, end_us, 0, left.size_bytes, 0, 0)
    await take(station, started, folder, Closed(left.source, left.number, left.path.name, Why.KILLED, *counts, ()))


async def _counted(started: SessionStarted, path: Path, closed: Closed) -> Closed:
    """The same with what the sandboxed prober counts in the file: nothing where it can't read it.

    A file ends as it was told, or earlier if it doesn't play as long.
    """
    try:
        with durable.opened(path) as fd:
            answer = await asked(fd, gps=False, limits=_COUNTING)
    except OSError as error:
        raise _refused(path, error) from error
    facts = answer.facts()
    (frames, video_us), (samples, audio_us) = (answer.counted.get(kind, (0, 0)) for kind in ("video", "audio"))
    media_us = video_us or audio_us or 1000 * (facts.duration_ms or 0)
    tracks = tuple(
        Track(one.kind, one.codec, one.width, one.height, one.rate_hz, one.channels)
        for one in facts.streams
        if one.kind in {"video", "audio"}
    )
    start_us, end_us = closed.start_us, closed.end_us
    if start_us < end_us and media_us:
        end_us = min(end_us, start_us + media_us)
    elif start_us == end_us:
        start_us = min(max(end_us - media_us, (started.started_at - EPOCH) // _US), end_us)
    return replace(
        closed, start_us=start_us, end_us=end_us, media_us=media_us, frames=frames, samples=samples,
        tracks=tracks or closed.tracks,
    )  # fmt: skip


def _written_us(left: Lying) -> int:
    """When it was written last; what was taken already is there no more, and its time is in the journal."""
    try:
        with durable.opened(left.path) as fd:
            if _is_being_written(fd):
                what = f"The recorder of the service that ended still writes {left.path.name}."
                raise StoreError(what, safe="It is taken when it has ended.", do="Nothing.")
            return os.fstat(fd).st_mtime_ns // 1000
    except FileNotFoundError:
        return (left.changed_at - EPOCH) // _US
    except OSError as error:
        raise _refused(left.path, error) from error


def _is_being_written(fd: int) -> bool:
    """Whether any process has the file open for writing: then no read lease is granted (fcntl(2), F_SETLEASE)."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    return False


def _taken(station: Station, started: SessionStarted, closed: Closed, size_bytes: int) -> SegmentTaken:
    start, end, now = at(closed.start_us), at(closed.end_us), station.clock()
    trusted = is_plausible(end, now)
    earliest, trust = (end, ClockTrust.UNMEASURED) if trusted else (None, ClockTrust.UNTRUSTED)
    latest = end if trusted else now
    medium = Medium.AUDIO if {track.type for track in closed.tracks} == {"audio"} else Medium.VIDEO
    limit = deadline_for(station.rules, earliest, latest)
    device_id = source_id(started.room, closed.source)
    recording = Recording(new_id(station.clock), device_id, medium, earliest, latest, trust, limit)
    asset = Asset(new_id(station.clock), recording.recording_id, Role.ORIGINAL, AssetState.WANTED, size_bytes)
    facts = {
        "why": closed.why.value, "media_us": closed.media_us, "tracks": [asdict(track) for track in closed.tracks],
    } | {
        name: value for name in ("frames", "samples", "av_us") if (value := getattr(closed, name))  # 0: nobody counted
    }  # fmt: skip
    camera = at(closed.camera_us) if closed.camera_us is not None else None
    place = (started.session_id, closed.source, closed.number, closed.file)
    return SegmentTaken(*place, start, end, recording, asset, camera, facts)


def _make_durable(path: Path) -> int:
    """What the journal will speak of must still be there after a power cut."""
    try:
        with durable.opened(path) as fd:
            durable.fdatasync(fd)
        durable.fsync_dir(path.parent)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _refused(path, error) from error
    return _size_bytes(path)


def _size_bytes(path: Path) -> int:
    """0 if it isn't there."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise _refused(path, error) from error


def _settled(vault: Vault, reader: Reader, asset: Asset, path: Path) -> Settled | None:
    """Its bytes, durable and read back; None if they are nowhere."""
    noted = next(_notes(reader, asset.asset_id), None)
    if noted is not None:
        return noted
    if vault.part_bytes(asset.asset_id) is None:
        if not _size_bytes(path):
            return None
        vault.take_in(path, asset.asset_id)
    part = vault.staging_dir / vault.part_name(asset.asset_id)
    try:
        with durable.opened(part) as fd:
            size_bytes, digest = _as_written(fd)
    except OSError as error:
        raise _refused(part, error) from error
    return vault.settle([(asset.asset_id, size_bytes, digest)])[0]


def _as_written(fd: int) -> tuple[int, str]:
    """Size and BLAKE3 as the page cache has it, which the recorder wrote to; the medium is compared with that."""
    hasher, size_bytes = blake3(), 0
    while piece := os.read(fd, durable.CHUNK_BYTES):
        hasher.update(piece)
        size_bytes += len(piece)
    return size_bytes, hasher.hexdigest()


def _notes(reader: Reader, asset_id: str) -> Iterator[Settled]:
    """It may have its final name already: then only the journal doesn't know yet."""
    return (note.settled for note in reader.settled() if note.settled.asset_id == asset_id)


def _refused(path: Path, error: OSError) -> StoreError:
    what = f"The station's disk refused {path.name}: {error.strerror or error}."
    return StoreError(what, safe="It stays as it is.", do="Have the administrator check the disk.")
