"""Promise: standstill, upgrades, other configurations and refused requests are in the log, and can't flood it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from agent import __version__, control
from agent.accounts.book import Book
from agent.errors import AgentError, RequestError
from agent.model import Incident, JournalEntry
from agent.pipeline import history
from agent.pipeline.history import Refusals, begun, configured
from agent.pipeline.station import Station
from agent.screens.guard import Gate
from agent.screens.server import status_app
from agent.status.board import Board
from tests import stations
from tests.conftest import SettableClock


def told(station: Station, kind: str) -> list[dict[str, Any]]:
    """The details of all incidents of a kind."""
    events = station.journal.reader.events(limit=1000)
    found = [json.loads(event.detail) for event in events if event.kind == "incident"]
    return [one.get("detail", {}) for one in found if one["kind"] == kind]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "etc"
    folder.mkdir()
    (folder / "agent.toml").write_text('[station]\nname = "a"\n')
    return folder / "agent.toml"


async def test_a_start_tells_since_when_it_stood_still_and_whether_it_had_ended_well(
    tmp_path: Path, config: Path, clock: SettableClock
) -> None:
    ends = []
    for clean in (True, False, True):
        async with stations.opened(tmp_path, clock) as station:
            run = await begun(station, config)
            assert station.journal.reader.events(run - 1)[0].kind == "incident"
            if clean:
                await station.journal.record(Incident("stopped"))
            ends.append(clock.now)
        clock.now += timedelta(hours=5)
    async with stations.opened(tmp_path, clock) as station:
        await station.journal.record(Incident("by-hand"))  # somebody used a verb while the service stood still
        await begun(station, config)
        first, *others = told(station, "started")
        assert first == {"version": __version__}
        assert [one["clean"] for one in others] == [True, False, True]
        since = [datetime.fromisoformat(one["since"]) for one in others]
        assert since == [*ends[:2], clock.now], "the last one: somebody worked by hand meanwhile"


async def test_an_upgrade_and_another_configuration_are_told_once(
    tmp_path: Path, config: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with stations.opened(tmp_path, clock) as station:
        await begun(station, config)
        await begun(station, config)
        assert told(station, "version") == [{"now": __version__, "before": ""}]
        assert len(told(station, "configuration")) == 1
        monkeypatch.setattr(history, "__version__", "9.9")
        await begun(station, config)
        assert told(station, "version")[1:] == [{"now": "9.9", "before": __version__}]
        (config.parent / "inventory.toml").write_text("# changed\n")
        await configured(station, config)
        await configured(station, config)
        first, second = told(station, "configuration")
        assert second["before"] == first["sha256"] != second["sha256"]
        config.parent.joinpath("loop.toml").symlink_to("loop.toml")
        await configured(station, config)
        assert told(station, "configuration")[2:] == [{"sha256": "unknown", "before": second["sha256"]}]


@given(st.lists(st.floats(0, 200), max_size=300))
def test_refusals_never_flood_the_log_and_none_is_forgotten(pauses: list[float]) -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    at: list[float] = []
    counted = 0
    for pause in pauses:
        now += pause
        if (incident := refusals.refused("resume", "JournalError")) is not None:
            at.append(now)
            counted += 1 + cast("int", incident.detail.get("more", 0))
    assert all(sum(begin <= one < begin + 3600 for one in at) <= 60 for begin in at)
    now += 3600
    last = refusals.refused("resume", "JournalError")
    assert last is not None
    assert counted + cast("int", last.detail.get("more", 0)) == len(pauses)


async def test_what_the_control_socket_refuses_is_heard(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    async def refuse(_: dict[str, str]) -> dict[str, object]:
        raise RequestError("no")

    async def agree(_: dict[str, str]) -> dict[str, object]:
        return {}

    verbs = {"resume": refuse, "slot": agree}
    async with control.serving(tmp_path, verbs, refused=lambda what, why: heard.append((what, why))):
        await control.ask(tmp_path, "slot", {})
        with pytest.raises(RequestError):
            await control.ask(tmp_path, "resume", {"who": "张三"})
        with pytest.raises(AgentError):
            await control.ask(tmp_path, "erase", {})
    assert heard == [("resume", "RequestError"), ("control socket", "no such verb")], "nothing that was said is kept"


async def test_what_the_status_page_refuses_is_heard(tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    async def nothing(entry: JournalEntry) -> None:
        raise AssertionError(entry)

    gate = Gate(Book(tmp_path), nothing, ("dock.local",), refused=lambda what, why: heard.append((what, why)))
    app = status_app(cast("Board", None), gate)
    async with TestClient(TestServer(app)) as client:
        async with client.get("/healthz", headers={"Host": "evil.example"}) as response:
            assert response.status == 421
        async with client.post("/healthz", headers={"Host": "dock.local"}) as response:
            assert response.status == 405
    assert heard == [("status page", "another name")]
