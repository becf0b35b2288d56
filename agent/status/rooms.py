"""The rooms as the screens tell them: whether they are recorded now, by what, how long still, and what is amiss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from agent.config.rooms import Room, Source
from agent.model.sessions import LiveSession, SessionNoted, SessionTested, SourceLive
from agent.rooms.protocol import Cause, Kind
from agent.status.words import Check, Light, Line, at, named, named_as, words

Json = dict[str, Any]

GAPS_SHOWN: Final = 50
"""How many lines of its ledger the page of a room shows, the newest."""

OK: Final = "ok"
"""What a check of a readiness test says that has found nothing amiss."""

_MEASURED_S: Final = 30.0
"""From when on what a session has written tells its rate better than the configuration."""
_TEST_COUNTS: Final = timedelta(days=1)
_SHORT_H: Final = 1.0
_BITS: Final = 8
_LOWEST_DB: Final = -60.0
_OF_TIME: Final = (Kind.JUMP, Kind.DRIFT, Kind.CLOCK)
_TRACKS: Final[Mapping[str, tuple[str, str]]] = {"video": ("画面", "picture"), "audio": ("声音", "sound")}


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of all rooms at one moment; `notes` are those of running sessions by their id.

    `planned` is when the next session of a room begins and ends. `tests` are the latest, by room.
    """

    sessions: Sequence[LiveSession] = ()
    free_bytes: int | None = None
    reserve_bytes: int = 0
    notes: Mapping[str, Sequence[SessionNoted]] = field(default_factory=dict)
    tests: Mapping[str, SessionTested | None] = field(default_factory=dict)
    planned: Mapping[str, tuple[datetime, datetime | None]] = field(default_factory=dict)


def rooms_view(rooms: Mapping[str, Room], known: Known, now: datetime) -> list[Json]:
    """Every room in the order of the configuration; no person, no case and no camera's address is named.

    Behind them what still runs in one that is no longer configured.
    """
    running = {session.room: session for session in known.sessions}
    rooms = {**rooms, **{name: Room(name, name) for name in running if name not in rooms}}
    return [_room_view(room, running.get(name), known, now) for name, room in rooms.items()]


def _room_view(room: Room, session: LiveSession | None, known: Known, now: datetime) -> Json:
    ledger = ledger_view(known.notes.get(session.session_id, ()), room, now) if session else []
    absent = (Line.MISSING, Line.GAP)
    missing = {one["source"] for one in ledger if one["kind"]["name"] in absent and not one["end"]}
    sources = [_source_view(one, missing) for one in session.sources] if session else [*map(_idle_view, room.sources)]
    lights = Counter(one["light"]["name"] for one in sources)
    others = sum(_rate_bytes_s(one, now) for one in known.sessions if one is not session)
    own = (_rate_bytes_s(session, now) if session else 0) or _planned_rate_bytes_s(room)
    hours = _hours_left(known, own + others)
    test, planned = known.tests.get(room.name), known.planned.get(room.name)
    view: Json = {
        "room": room.name,
        "title": room.title,
        "light": named(_light(session, lights)),
        "session": _running_view(session, now) if session else None,
        "sources": sources,
        "ledger": ledger[-GAPS_SHOWN:],
        "gaps": sum(one["kind"]["name"] == Line.GAP for one in ledger),
        "disk_hours": hours,
        "test": test_view(test) if test else None,
        "next": {"start": at(planned[0]), "end": at(planned[1])} if planned else None,
    }
    return view | {"problems": list(_problems(view, ledger, room, now))}


def _light(session: LiveSession | None, sources: Mapping[str, int]) -> Light:
    """Of the whole room: RECORDING only if all that is meant arrives, LOST as soon as one is lost."""
    if session is None:
        return Light.IDLE
    return next((one for one in (Light.LOST, Light.CONNECTING) if sources.get(one)), Light.RECORDING)


def _running_view(session: LiveSession, now: datetime) -> Json:
    end = session.planned_end
    return {
        "session_id": session.session_id,
        "started_at": at(session.started_at),
        "planned_end": at(end),
        "elapsed_s": int(session.elapsed(now).total_seconds()),
        "over_s": max(0, int((now - end).total_seconds())) if end else 0,
    }


def _source_view(source: SourceLive, missing: Collection[str] = ()) -> Json:
    connecting = not (source.connected or source.media_s or source.gaps or source.name in missing)
    light = (
        Light.RECORDING
        if source.connected and source.name not in missing
        else Light.CONNECTING
        if connecting
        else Light.LOST
    )
    return {
        "source": source.name,
        "title": source.title or source.name,
        "light": named(light),
        "since": at(source.since),
        "level_db": None if source.level_db is None or not source.connected else round(source.level_db, 1),
        "picture": source.connected and source.still is not None,
        "media_s": int(source.media_s),
        "size_bytes": source.size_bytes,
        "gaps": source.gaps,
        "noticed": [named_as(one, Kind, Line) for one in source.noticed],
    }


def _idle_view(source: Source) -> Json:
    idle = SourceLive(source.name, source.title, connected=False, since=None)
    return _source_view(idle) | {"light": named(Light.IDLE)}


def level_percent(level_db: float | None) -> int:
    """How much of its meter a level fills: none at -60 dBFS and below, all at 0."""
    return 0 if level_db is None else round(100 * (1 - min(1.0, max(0.0, level_db / _LOWEST_DB))))


# The disk.


def _planned_rate_bytes_s(room: Room) -> float:
    return room.bitrate_kbit_s * 1000 / _BITS * len(room.sources)


def _rate_bytes_s(session: LiveSession, now: datetime) -> float:
    """What it has written each second; 0 while that can't be told."""
    elapsed_s = session.elapsed(now).total_seconds()
    return sum(one.size_bytes for one in session.sources) / elapsed_s if elapsed_s >= _MEASURED_S else 0.0


def _hours_left(known: Known, rate_bytes_s: float) -> float | None:
    """How long all that records now, and this room, can go on: what is free above the reserve, and what is set aside.

    Rounded down to a tenth: never more than there is.
    """
    if known.free_bytes is None or rate_bytes_s <= 0:
        return None
    room_bytes = known.free_bytes - known.reserve_bytes + sum(one.reserved_bytes for one in known.sessions)
    return int(max(0, room_bytes) / rate_bytes_s / 360) / 10


# Ledger and tests.


def ledger_view(notes: Iterable[SessionNoted], room: Room | None, now: datetime) -> list[Json]:
    """The lines of a session's ledger, oldest first: one that was ended later is one line, with its end."""
    lines = {(note.source, note.kind, note.start): note for note in notes}
    titles = {one.name: one.title for one in room.sources} if room else {}
    told = sorted(lines.values(), key=lambda one: one.start)
    return [_line_view(one, titles, now) for one in told]


def _line_view(note: SessionNoted, titles: Mapping[str, str], now: datetime) -> Json:
    cause = named_as(note.cause, Cause) if note.cause else None
    return {
        "source": note.source,
        "title": titles.get(note.source) or note.source,
        "kind": named_as(note.kind, Line, Kind),
        "start": at(note.start),
        "end": at(note.end),
        "length_s": round(max(0.0, ((note.end or now) - note.start).total_seconds()), 3),
        "cause": cause,
        "detail": _detail(note),
    }


def _detail(note: SessionNoted) -> Json | None:
    """What more is known of a line in words: how far, how many, of which track. Never who, and no text of a camera."""
    if note.kind == Line.EXTENDED:
        until = (at(datetime.fromisoformat(str(note.detail["planned_end"]))) or "")[11:16]
        return words(f"至 {until}", f"until {until}")
    value = note.detail.get("value", note.detail.get("missing_bytes"))
    track = _TRACKS.get(str(note.detail.get("track", "")), ("", ""))
    amount = ("", "")
    if isinstance(value, int) and value:
        if note.kind in _OF_TIME:
            amount = (f"{value / 1e6:+.3f} 秒", f"{value / 1e6:+.3f} s")
        elif note.kind == Line.SPACE:
            amount = (f"缺 {value / 1e9:.1f} GB", f"{value / 1e9:.1f} GB missing")
        else:
            amount = (f"{value} 个数据包", f"{value} packets")
    told = [" ".join(filter(None, both)) for both in zip(track, amount, strict=True)]
    return words(*told) if told[0] else None


def test_view(test: SessionTested) -> Json:
    """A readiness test: what was looked at, and what is wrong with it."""
    checks = [
        named_as(name, Check) | {"passed": told == OK, "told": "" if told == OK else told}
        for name, told in test.checks.items()
    ]
    return {"session_id": test.session_id, "tested_at": at(test.tested_at), "passed": test.passed, "checks": checks}


# What is amiss.


def _problems(view: Json, ledger: Iterable[Json], room: Room, now: datetime) -> Iterator[dict[str, str]]:
    """Why a person should look at this room now: what its ledger has no end of, its last test, its disk."""
    for line in ledger:
        if line["end"] is None:
            where = f"{room.title} {line['title']}".rstrip()
            since, kind, cause = line["start"][11:19], line["kind"], line["cause"]
            told = (
                (f"{kind['zh']}（{cause['zh']}）", f"{kind['en']}, {cause['en']}")
                if cause
                else (kind["zh"], kind["en"])
            )
            yield words(f"{where}：{since} 起{told[0]}", f"{room.name} {line['source']}: {told[1]} since {since}")
    session, test, hours = view["session"], view["test"], view["disk_hours"]
    if test and not test["passed"] and now - datetime.fromisoformat(test["tested_at"]) < _TEST_COUNTS:
        bad = "、".join(one["zh"] for one in test["checks"] if not one["passed"])
        yield words(f"{room.title}：开录前测试未通过（{bad}）", f"{room.name}: its readiness test failed")
    if hours is not None and hours < _wanted_hours(session, room, now):
        yield words(f"{room.title}：磁盘空间只够录制 {hours:g} 小时", f"{room.name}: room for {hours:g} hours only")


def _wanted_hours(session: Json | None, room: Room, now: datetime) -> float:
    if session is None:
        return room.planned_h
    if session["planned_end"] is None:
        return _SHORT_H
    return max(0.0, (datetime.fromisoformat(session["planned_end"]) - now).total_seconds() / 3600)


def room_problems(rows: Iterable[Json]) -> list[dict[str, str]]:
    """Those of all rooms."""
    return [problem for row in rows for problem in row["problems"]]


def room_lines(rows: Iterable[Json]) -> Iterator[str]:
    """The rooms as text for a terminal, line by line."""
    for row in rows:
        session, hours = row["session"], row["disk_hours"]
        since = f"  {elapsed(session['elapsed_s'])}" if session else ""
        left = f"  磁盘可录 (room for) {hours:g} h" if hours is not None else ""
        yield f"room {row['room']}  {_both(row['light'])}{since}  {row['gaps']} 次中断 (gaps){left}"
        for source in row["sources"] if session else ():
            level = "" if source["level_db"] is None else f"  {source['level_db']:g} dB"
            yield f"  {source['source']}  {_both(source['light'])}  {source['size_bytes'] / 1e6:.0f} MB{level}"


def elapsed(seconds: float) -> str:
    """A length as a clock shows it: hours, minutes, seconds."""
    whole = int(seconds)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}"


def _both(told: Mapping[str, Any]) -> str:
    return f"{told['zh']} ({told['en']})"
