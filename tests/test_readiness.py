"""Promise: what would go wrong in a session is told before it, by recording through the whole chain."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from agent.config.rooms import Room, Source
from agent.errors import RequestError, StoreError
from agent.model import LiveSession, Planned, SessionTested
from agent.pipeline import readiness
from agent.pipeline.readiness import Readiness
from agent.pipeline.scheduling import Scheduler
from agent.pipeline.sessions import Order
from agent.pipeline.station import Station
from agent.rooms.addresses import CameraAddresses
from agent.rooms.engine import RoomRecorder
from agent.rooms.protocol import SourcePlan
from agent.signing import FILE, made_key
from simulator.cameras.camera import PASSWORD, USER, Cameras
from simulator.cameras.footage import Footage
from tests.conftest import SettableClock
from tests.fakes import FakeStore
from tests.stations import opened

Pack = Callable[..., Path]
Start = Callable[..., Cameras]
CHECKS = ("record", "decode", "levels", "clock", "disk", "store")


class Idle:
    """No session runs; `live` makes one."""

    def __init__(self) -> None:
        self.live: tuple[LiveSession, ...] = ()

    def running(self) -> tuple[LiveSession, ...]:
        return self.live

    async def start(self, room: str, order: Order) -> str:
        raise AssertionError(room)

    async def stop(self, session_id: str, who: str, why: str, reason: str = "stopped") -> None:
        raise AssertionError(session_id)


class Coming(Scheduler):
    """A schedule that knows of one session."""

    one: Planned | None = None

    def coming(self, room: str) -> Planned | None:
        return self.one


@pytest.fixture
def password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "capture-agent.camera-front").write_text(f"{USER}:{PASSWORD}\n")
    (tmp_path / "capture-agent.camera-front").chmod(0o400)


def room_of(server: Cameras, *names: str, **options: object) -> Room:
    sources = tuple(Source(name, name, f"rtsp://127.0.0.1:{server.port}/{name}", "front") for name in names)
    return replace(Room("a1", "第一询问室", sources, planned_h=0.1), **options)  # type: ignore[arg-type]


async def nobody(*_: object) -> str:
    raise AssertionError("no ONVIF here")


def made(station: Station, room: Room, idle: Idle | None = None) -> tuple[Readiness, Coming]:
    rooms, sessions = {room.name: room}, idle or Idle()
    schedule = Coming(station, sessions, rooms)
    return Readiness(station, sessions, schedule, rooms, CameraAddresses(nobody), RoomRecorder), schedule


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds are recorded; the ten are the soak tests'."""
    monkeypatch.setattr(readiness, "_LASTS_S", 2.0)
    monkeypatch.setattr(readiness, "_ANSWER_LIMIT_S", 8.0)


@pytest.mark.usefixtures("quick", "password")
async def test_a_room_that_is_ready_passes_with_figures_and_the_station_s_signature(
    tmp_path: Path, cameras: Start, pack: Pack, clock: SettableClock
) -> None:
    server = cameras({"front": pack(), "side": pack(Footage("h264", ""))})
    clock.set(datetime.now().astimezone())
    async with opened(tmp_path / "station", clock) as station:
        station.clock_is_kept = lambda: True
        station.custody.key = made_key(tmp_path / FILE)
        ready, schedule = made(station, room_of(server, "front", "side"))
        schedule.one = Planned("k", clock() + timedelta(minutes=10), clock() + timedelta(minutes=20))
        tested = await ready.test("a1")
        assert dict(tested.checks) == dict.fromkeys(CHECKS, "ok")
        assert tested.passed
        assert tested == station.journal.reader.newest_test("a1")
        assert tested.session_id == await schedule.session_id("a1", schedule.one)
        front = tested.figures["sources"]["front"]  # type: ignore[index]
        assert front["media_s"] > 1
        assert front["frames"] > 20
        assert front["level_db"] > -40
        assert {track["codec"] for track in front["tracks"]} == {"h264", "aac"}
        assert not list(station.vault.work_dir.iterdir())
        _verify(tested, station.custody.key.public)


def _verify(tested: SessionTested, key: bytes) -> None:
    figures = {name: value for name, value in tested.figures.items() if name not in {"key", "signature"}}
    said = asdict(replace(tested, figures=figures)) | {"tested_at": tested.tested_at.isoformat()}
    signature = bytes.fromhex(str(tested.figures["signature"]))
    Ed25519PublicKey.from_public_bytes(key).verify(signature, rfc8785.dumps(said))


@pytest.mark.usefixtures("quick", "password")
async def test_each_thing_that_is_wrong_is_told_by_its_source_and_without_its_password(
    tmp_path: Path, cameras: Start, pack: Pack, clock: SettableClock
) -> None:
    silent = Footage(sound="anullsrc=r={rate}")
    server = cameras({"front": pack(silent)})
    room = room_of(server, "front", "gone", planned_h=24.0, bitrate_kbit_s=1_000_000)
    room = replace(room, sources=(*room.sources, Source("nobody", "nobody", "rtsp://127.0.0.1:9/x", "none")))
    async with opened(tmp_path / "station", clock, store=Away()) as station:
        ready, _ = made(station, room)
        tested = await ready.test("a1")
        told = dict(tested.checks)
        assert not tested.passed
        assert "gone：" in told["record"]
        assert "front" not in told["record"]
        assert "nobody：用户名或密码错误" in told["record"]
        assert told["decode"] == "ok"
        assert told["levels"].startswith("front：无声 silent")
        assert told["clock"].startswith("本站时钟未校准")
        assert "not enough space" in told["disk"]
        assert told["store"] == "The share is away."
        assert PASSWORD not in repr(tested)
        assert "key" not in tested.figures


class Away(FakeStore):
    """A store that can't be reached."""

    async def look(self) -> None:
        raise StoreError("The share is away.")


async def test_a_session_that_starts_ends_the_test_and_a_room_that_records_is_not_tested(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    idle, ended = Idle(), asyncio.Event()

    async def never(room: Room, source: Source) -> SourcePlan:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError(source)

    room = Room("a1", "第一询问室", (Source("front", "front", "onvif://10.1.2.3"),))
    async with opened(tmp_path / "station", clock) as station:
        ready, _ = made(station, room, idle)
        monkeypatch.setattr(ready, "_addresses", never)
        testing = asyncio.create_task(ready.test("a1"))
        await asyncio.sleep(0.1)
        with pytest.raises(RequestError, match="being recorded or tested"):
            await ready.test("a1")
        idle.live = (LiveSession("a1", "s1", clock(), None, ()),)
        with pytest.raises(RequestError, match="the test was ended"):
            await testing
        assert ended.is_set()
        with pytest.raises(RequestError, match="being recorded or tested"):
            await ready.test("a1")
        with pytest.raises(RequestError, match="no room 'b2'"):
            await ready.test("b2")
        assert not list(station.vault.work_dir.iterdir())
        assert station.journal.reader.newest_test("a1") is None


async def test_it_is_repeated_from_its_time_on_until_shortly_before_the_session(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "_BEAT_S", 0.01)
    room, idle, now_s = Room("a1", "第一询问室", test_before_s=900, test_each_s=300), Idle(), 0.0
    start = clock() + timedelta(minutes=20)
    tests: list[int] = []
    async with opened(tmp_path / "station", clock) as station:
        ready, schedule = made(station, room, idle)
        schedule.one = Planned("k", start, start + timedelta(hours=1))
        monkeypatch.setattr(ready, "_now_s", lambda: 0.0)
        for minute in range(25):
            for name in ready._due():
                tests.append(minute)
                ready._again_at_s[name] = now_s + room.test_each_s
                ready._testing.add(name)
                assert ready._due() == [], "while it is tested"
                ready._testing.discard(name)
            now_s += 60
            clock.advance(60)
            monkeypatch.setattr(ready, "_now_s", lambda at=now_s: at)
    assert tests == [5, 10, 15]
