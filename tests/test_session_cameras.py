"""What a session learns of its ONVIF cameras besides their pictures, and that it never depends on it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.config.rooms import Source
from agent.pipeline import cameras as cameras_module
from agent.pipeline import session as session_module
from agent.pipeline.cameras import SessionCameras
from agent.rooms import onvif as onvif_module
from agent.rooms.onvif import events as events_module
from agent.rooms.protocol import Kind, Noticed, Opened
from simulator.stores.processes import HOST, free_port
from tests.conftest import SettableClock
from tests.onvif_cameras import PASSWORD, USER, Puppet, fault, nothing_noticed, noticed, puppet, services, subscribed
from tests.stations import opened
from tests.studio import ORDER, ROOM, VIDEO, Studio, until, us

TAMPER = "tns1:RuleEngine/TamperDetector/Tamper"
BLURRY = "tns1:VideoSource/ImageTooBlurry/ImagingService"
LOSS = "tns1:VideoSource/SignalLoss"
MOTION = "tns1:RuleEngine/CellMotionDetector/Motion"
HOUR_US = 3600 * 1_000_000


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(onvif_module, "_ROUNDS", 1)
    monkeypatch.setattr(cameras_module, "_COARSEST_US", 1_000_000)
    monkeypatch.setattr(cameras_module, "_READ_EACH_S", 0.05)
    monkeypatch.setattr(cameras_module, "_AGAIN_S", 0.05)
    monkeypatch.setattr(cameras_module, "_LOOK_S", 0.02)
    monkeypatch.setattr(events_module, "_PACE_S", 0.01)
    monkeypatch.setattr(events_module, "_PAUSES_S", (0.01,))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    credential = tmp_path / "capture-agent.camera-front"
    credential.write_text(f"{USER}:{PASSWORD}\n")
    credential.chmod(0o400)


@dataclass
class Told:
    """A session's cameras at work, and what they told."""

    cameras: SessionCameras
    all: list[Noticed] = field(default_factory=list)

    def of(self, kind: Kind) -> list[Noticed]:
        return [one for one in self.all if one.kind is kind]

    async def until(self, ready: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not ready():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def beside(*urls: str, credential: str = "front") -> AsyncIterator[Told]:
    sources = [Source("front", "正面", url, credential) for url in urls]
    found: list[Noticed] = []
    told = Told(SessionCameras(sources, lambda: datetime.now(UTC), found.append), found)
    running = asyncio.create_task(told.cameras.run())
    try:
        yield told
        assert not running.done()
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


def url(camera: Puppet, profile: str = "") -> str:
    return f"onvif://{HOST}:{camera.port}/{profile}"


async def test_a_clock_that_is_off_is_told_until_it_is_right() -> None:
    async with puppet(wants="digest", ahead=timedelta(hours=-1)) as camera, beside(url(camera)) as told:
        await told.until(lambda: told.all)
        (off,) = told.all
        assert (off.source, off.kind, off.end_us) == ("front", Kind.CLOCK, None)
        assert abs(off.value + HOUR_US) < 1_000_000
        camera.ahead = timedelta(0)
        await told.until(lambda: len(told.all) == 3)
        assert told.all[1].end_us is not None
        assert (told.all[1].start_us, told.all[1].value) == (off.start_us, off.value)
        assert told.all[2].end_us == told.all[2].start_us, "it is right: that is told, and over"
        assert abs(told.all[2].value) < 1_000_000


async def test_a_clock_that_goes_well_is_told_once() -> None:
    async with puppet() as camera, beside(url(camera)) as told:
        await told.until(lambda: told.all)
        before = camera.asked.count("GetSystemDateAndTime")
        await told.until(lambda: camera.asked.count("GetSystemDateAndTime") > before + 6)
        assert len(told.of(Kind.CLOCK)) == 1


async def test_what_the_camera_notices_goes_on_until_all_of_it_is_over() -> None:
    async with puppet(wants="token") as camera:
        left = iter(
            [
                noticed(TAMPER, "true"), noticed(MOTION, "true"), noticed(BLURRY, "true"), noticed(TAMPER, "false"),
                noticed(LOSS, "true"), noticed(BLURRY, "false"),
            ]
        )  # fmt: skip

        class Replies(dict[str, object]):
            def __getitem__(self, call: str) -> object:
                return next(left, nothing_noticed()) if call == "PullMessages" else super().__getitem__(call)

        camera.replies = Replies(  # type: ignore[assignment]
            CreatePullPointSubscription=subscribed(f"http://{HOST}:{camera.port}/sub"), PullMessages=""
        )
        async with beside(url(camera)) as told:
            await told.until(lambda: len(told.of(Kind.TAMPER)) == 2)
            begun, ended = told.of(Kind.TAMPER)
            assert (begun.end_us, ended.start_us) == (None, begun.start_us)
            assert ended.end_us is not None
            assert [one.end_us for one in told.of(Kind.SIGNAL)] == [None]
            assert {one.kind for one in told.all} <= {Kind.TAMPER, Kind.SIGNAL, Kind.CLOCK}
        await told.until(lambda: camera.asked[-1] == "Unsubscribe")


async def test_a_key_frame_is_asked_for_each_time_the_recorder_connects() -> None:
    async with puppet(wants="token", ahead=timedelta(days=9)) as camera, beside(url(camera, "Profile%201")) as told:
        for count in (1, 2):
            told.cameras.opened("front")
            told.cameras.opened("no such source")
            await told.until(lambda count=count: camera.asked.count("SetSynchronizationPoint") == count)  # type: ignore[misc]
        body = next(body for body in camera.bodies if "SetSynchronizationPoint" in body)
        assert "<ProfileToken>Profile 1</ProfileToken>" in body


async def test_a_camera_that_gives_no_key_frame_is_asked_twice() -> None:
    async with puppet() as camera, beside(url(camera)) as told:
        camera.replies["SetSynchronizationPoint"] = fault("Receiver", "ActionNotSupported")
        told.cameras.opened("front")
        await told.until(lambda: camera.asked.count("SetSynchronizationPoint") == 2)
        before = len(camera.asked)
        await told.until(lambda: len(camera.asked) > before + 10)
        assert camera.asked.count("SetSynchronizationPoint") == 2


async def test_what_can_not_be_heard_is_told_once_it_lasts_and_as_soon_as_it_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cameras_module, "_DEAF", timedelta(seconds=0.5))
    async with puppet() as camera:
        camera.replies["CreatePullPointSubscription"] = fault("Receiver", "MaxNumberOfSubscriptions")
        async with beside(url(camera)) as told:
            await told.until(lambda: told.of(Kind.UNHEARD))
            (deaf,) = told.of(Kind.UNHEARD)
            assert deaf.end_us is None
            camera.replies |= {
                "CreatePullPointSubscription": subscribed(f"http://{HOST}:{camera.port}/sub"),
                "PullMessages": noticed(TAMPER, "true"),
            }
            await told.until(lambda: len(told.of(Kind.UNHEARD)) == 2)
            after = told.of(Kind.UNHEARD)[1]
            assert after.start_us == deaf.start_us
            assert after.end_us is not None
            assert after.end_us - after.start_us >= 500_000
            await told.until(lambda: told.of(Kind.TAMPER))


async def test_a_camera_without_events_is_told_once_and_is_no_alarm() -> None:
    async with puppet() as camera:
        plain = services(f"http://{HOST}:{camera.port}/onvif")
        camera.replies["GetServices"] = plain.replace("ver10/events/", "ver10/other/")
        async with beside(url(camera)) as told:
            await told.until(lambda: told.of(Kind.UNHEARD))
            before = camera.asked.count("GetServices")
            await told.until(lambda: camera.asked.count("GetServices") > before + 5)
            (only,) = told.of(Kind.UNHEARD)
            assert only.end_us == only.start_us


async def test_a_camera_that_comes_later() -> None:
    async with beside(f"onvif://{HOST}:{free_port()}") as told:
        told.cameras.opened("front")
        await asyncio.sleep(0.3)
        assert told.all == []
    async with puppet(wants="token") as camera, beside(url(camera), credential="none") as told:
        await told.until(lambda: told.of(Kind.CLOCK))  # which needs no user


async def test_other_sources_are_not_asked() -> None:
    async with puppet() as camera, beside(f"rtsp://{HOST}:{camera.port}/", "alsa:hw:1") as told:
        told.cameras.opened("front")
        await asyncio.sleep(0.2)
        assert camera.seen == b""


async def test_a_bug_in_here_ends_no_recording(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def wrong(*_: object, **__: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cameras_module, "clock_offset", wrong)
    async with puppet() as camera, beside(url(camera)) as told:
        await told.until(lambda: "bug" in caplog.text)
        told.cameras.opened("front")
        await told.until(lambda: "SetSynchronizationPoint" in camera.asked)
    assert caplog.records[0].levelno == logging.ERROR
    assert PASSWORD not in caplog.text


async def test_when_a_bug_ends_the_hearing_nothing_is_heard_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wrong(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(cameras_module, "_DEAF", timedelta(seconds=0.1))
    monkeypatch.setattr(events_module, "_happening", wrong)
    async with puppet() as camera:
        camera.replies |= {
            "CreatePullPointSubscription": subscribed(f"http://{HOST}:{camera.port}/sub"),
            "PullMessages": noticed(TAMPER, "true"),
        }
        async with beside(url(camera)) as told:
            await told.until(lambda: told.of(Kind.UNHEARD))
    assert [one.end_us for one in told.of(Kind.UNHEARD)] == [None]
    assert "bug" in caplog.text


async def test_a_session_has_it_in_its_ledger_across_lives_of_the_service(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "_BEAT_S", 0.01)
    year = timedelta(days=365)
    async with opened(tmp_path / "station", clock) as station, puppet(wants="digest", ahead=-year) as camera:
        camera.replies |= {
            "CreatePullPointSubscription": subscribed(f"http://{HOST}:{camera.port}/sub"),
            "PullMessages": noticed(TAMPER, "true"),
        }
        studio, room = Studio(), replace(ROOM, sources=(Source("front", "正面", url(camera), "front"),))
        reader = station.journal.reader
        async with studio.serving(station, room) as sessions:
            session_id = await sessions.start(room.name, ORDER)
            recorder = await studio.recorder()
            recorder.say(Opened("front", us(clock()), VIDEO, 900))
            await until(lambda: {"clock", "tamper"} <= {one.kind for one in reader.session(session_id).notes})
            await until(lambda: "SetSynchronizationPoint" in camera.asked)
            (line,) = (one for one in reader.session(session_id).notes if one.kind == "clock")
            assert line.end is None
            assert isinstance(line.detail["value"], int)
            assert line.detail["value"] < -(year - timedelta(days=2)).total_seconds() * 1e6
            assert set(sessions.running()[0].sources[0].noticed) == {"clock", "tamper"}
        clock.advance(60)
        async with studio.serving(station, room) as sessions:
            await until(lambda: len([one for one in reader.session(session_id).notes if one.kind == "clock"]) == 2)
            await until(lambda: len([one for one in reader.session(session_id).notes if one.kind == "tamper"]) == 2)
            clock.advance(60)
            await sessions.stop(session_id, "李四", "问完")
        lines = [one for one in reader.session(session_id).notes if one.kind in {"clock", "tamper"}]
        assert all(one.end is not None for one in lines), "what a crash left open is ended by what is told next"
