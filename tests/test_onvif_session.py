"""From a camera that nobody knows to sealed originals: found, compared, asked for its stream, recorded, told of."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.config.rooms import Source
from agent.journal.views import SessionView
from agent.model import AssetState
from agent.pipeline.sessions import Sessions
from agent.pipeline.station import Station
from agent.rooms import onvif as onvif_module
from agent.rooms.addresses import CameraAddresses
from agent.rooms.engine import RoomRecorder
from agent.rooms.onvif import discover, stream_address
from simulator.cameras import camera as simulated
from simulator.cameras.camera import Cameras
from simulator.cameras.frames import Known
from tests.onvif_cameras import ADDRESS, private_network, start_recorded
from tests.servers import installed
from tests.stations import opened
from tests.studio import ORDER, ROOM, until

YEARS_US = 11 * 365 * 86400 * 1_000_000


def present() -> datetime:
    return datetime.now(UTC)


@contextlib.asynccontextmanager
async def serving(sessions: Sessions) -> AsyncIterator[None]:
    task = asyncio.create_task(sessions.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def is_as_shown(station: Station, view: SessionView, known: Known) -> None:
    """The ledger has the clock of the recorded camera, who lives in 2014, and the vault each picture that was shown."""
    (clock,) = (one for one in view.notes if one.kind == "clock")
    offset_us = clock.detail["value"]
    assert isinstance(offset_us, int)
    assert offset_us < -YEARS_US
    assert [one.kind for one in view.notes if one.kind == "gap"] == []
    digests = [station.journal.reader.recording(one.recording.recording_id).asset.digests for one in view.segments]
    matched = known.match([station.vault.address(one.blake3) for one in digests if one is not None])
    assert len(matched.per_file) == len(view.segments) >= 2
    assert (matched.damaged, matched.unreadable, matched.missing, matched.repeated) == ([], [], 0, 0)
    assert len(matched.pictures) > 50


def test_from_a_camera_that_nobody_knows_to_sealed_originals(
    tmp_path: Path, pack: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in a network that has only the camera: the ONVIF of a recorded one, the stream of GStreamer's server."""
    shown = pack()
    monkeypatch.setattr(onvif_module, "_ROUNDS", 1)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    credential = tmp_path / "capture-agent.camera-front"
    credential.write_text(f"{simulated.USER}:{simulated.PASSWORD}\n")
    credential.chmod(0o400)

    async def scenario() -> None:
        (found,) = await discover(0.5)
        source = Source("front", "正面", f"onvif://{found.host}:{found.port}", "front")
        room = replace(ROOM, sources=(source,), segment_s=2)
        async with opened(tmp_path / "station", present) as station:
            reader = station.journal.reader
            sessions = Sessions(station, {room.name: room}, CameraAddresses(stream_address), RoomRecorder)
            async with serving(sessions):
                session_id = await sessions.start(room.name, ORDER)
                await until(lambda: reader.overview(present()).assets[AssetState.HELD].files >= 2)
                await until(lambda: any(one.kind == "clock" for one in reader.session(session_id).notes))
                await sessions.stop(session_id, "李四", "问完")
            is_as_shown(station, reader.session(session_id), Known(shown))

    with private_network(tmp_path / "camera.log") as network:
        with installed():
            start_recorded(network)
            server = Cameras({"h264main": shown}, address=ADDRESS, port=554)
            network.call(server.start)
        try:
            network.run(scenario())
        finally:
            server.kill()
