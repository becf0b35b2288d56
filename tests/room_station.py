"""A station with two rooms for the tests of their pages: a real journal, what a recorder would tell, pictures."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import av

from agent.accounts.book import Role
from agent.deadline import Rules, deadline_for
from agent.model import (
    Acquired,
    ActivityStated,
    AssetChanged,
    JournalEntry,
    SegmentTaken,
    SessionNoted,
    SessionStarted,
    SessionTested,
)
from agent.model.sessions import LiveSession, SourceLive
from agent.rooms.protocol import Cause
from agent.screens.asking import Verb
from tests.journal_entries import confirmed, held, segment_taken, session_started
from tests.status_station import NO_VERBS, NOW, Served, serve

MINUTE = timedelta(minutes=1)
BEGAN = NOW - timedelta(minutes=10)
CASE, PERSON = "鲁医保案〔2026〕7号", "李四"
ROOMS = """
[room.xunwen]
title = "第一询问室"
planned_h = 2
[room.xunwen.source.face]
title = "正面摄像机"
url = "rtsp://10.1.2.3/face"
[room.xunwen.source.wide]
title = "全景摄像机"
url = "rtsp://10.1.2.4/wide"
[room.tingzheng]
title = "听证室"
stage = "S13"
[room.tingzheng.source.hall]
title = "会场"
url = "rtsp://10.1.2.5/hall"
"""


def picture(folder: Path, name: str, luma: int = 90) -> Path:
    """A JPEG that PyAV has made, as a recorder's is."""
    folder.mkdir(parents=True, exist_ok=True)
    frame = av.VideoFrame(640, 360, "yuvj420p")
    for plane, value in zip(frame.planes, (luma, 140, 100), strict=True):
        plane.update(bytes([value]) * plane.buffer_size)
    path = folder / f"{name}.jpg"
    with av.open(str(path), "w", format="mjpeg") as file:
        stream = file.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuvj420p"
        for packet in (*stream.encode(frame), *stream.encode()):
            file.mux(packet)
    return path


def source(name: str, title: str, still: Path | None = None, **changes: object) -> SourceLive:
    """A source that is recorded and heard, with so much of it written."""
    plain = SourceLive(name, title, connected=True, since=BEGAN, level_db=-23.0, still=still, media_s=600.0,
                       size_bytes=300_000_000)  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def session(*sources: SourceLive, **changes: object) -> LiveSession:
    """The one that runs in xunwen since ten minutes."""
    plain = LiveSession("xunwen", "s1", BEGAN, NOW + timedelta(hours=1), sources)
    return replace(plain, **changes)  # type: ignore[arg-type]


def show(served: Served, *sessions: LiveSession, **changes: object) -> None:
    """What the service would tell from now on."""
    served.world.live = replace(served.world.live, sessions=sessions, **changes)  # type: ignore[arg-type]
    served.world.version += 1


def started(**changes: object) -> SessionStarted:
    """How the journal has it."""
    named = {"case_number": CASE, "participants": (f"当事人/{PERSON}", "记录人/王五"), "sources": ("face", "wide")}
    return session_started(started_at=BEGAN, planned_end=NOW + timedelta(hours=1), **named | changes)


def taken(served: Served, name: str, number: int, start: datetime, end: datetime, of: str = "face") -> SegmentTaken:
    """A segment with its real limit."""
    plain = segment_taken(name, number, source=of)
    limit = deadline_for(Rules(served.config.profile, served.config.calendars), end, end)
    made = replace(plain.recording, captured_earliest=end, captured_latest=end, deadline=limit)
    facts = {"why": "length", "media_us": int((end - start).total_seconds() * 1e6)}
    return replace(plain, start=start, end=end, recording=made, camera_start=start + MINUTE / 10, facts=facts)


async def recorded(served: Served) -> None:
    """Ten minutes of two cameras: three minutes missing of one, two of them of the other too; a late end is open."""
    face = [(0, 3), (6, 8), (8, 10)]
    wide = [(0, 4), (6, 10)]
    entries: list[JournalEntry] = [
        SessionTested("s1", "xunwen", BEGAN - MINUTE, False, {"decode": "ok", "levels": "no sound from wide"}),
        started(),
    ]
    names = []
    for of, spans in (("face", face), ("wide", wide)):
        for number, (begin, end) in enumerate(spans, 1):
            names.append(f"{of}{number}")
            entries.append(taken(served, names[-1], number, BEGAN + begin * MINUTE, BEGAN + end * MINUTE, of))
    entries += gaps()
    recordings = tuple(f"rec-{name}" for name in names)
    entries.append(ActivityStated("s1", "S05", BEGAN, NOW, recordings, "张三", "询问"))
    await served.journal.record(*entries)
    await served.journal.record(AssetChanged("face1", Acquired(held("face1"))), confirmed("face1"))


def gaps() -> Sequence[SessionNoted]:
    """What the ledger has of it; the silence goes on."""
    first = SessionNoted("s1", "face", "gap", BEGAN + 3 * MINUTE, cause=Cause.STALLED)
    second = SessionNoted("s1", "wide", "gap", BEGAN + 4 * MINUTE, BEGAN + 6 * MINUTE, Cause.CLOSED)
    silent = SessionNoted("s1", "wide", "silent", BEGAN + 8 * MINUTE)
    return first, second, silent, replace(first, end=BEGAN + 6 * MINUTE)


@asynccontextmanager
async def standing(
    tmp_path: Path, role: Role | None = Role.SUPERVISOR, verbs: Mapping[str, Verb] = NO_VERBS, rooms: str = ROOMS
) -> AsyncIterator[Served]:
    """The station, asked by somebody of this role."""
    async with serve(tmp_path, role=role, rooms=rooms, verbs=verbs) as served:
        yield served
