"""A docking of a recorder that was spoken to: how wrong its clock was is in the journal, the record, the manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.capture_time import by_comparison
from agent.lines.announced import Announced
from agent.lines.asking import Heard
from agent.lines.wire import Trouble
from agent.model import ClockTrust
from agent.pipeline.acquire import Docking, End
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station
from agent.status.record import known_of, record_view, sealed_view
from simulator.card import Card
from simulator.demo_lines import record_of, wired
from tests.conftest import CHINA, SettableClock
from tests.daemons import running, stage
from tests.fakes import FakeRecorder
from tests.stations import SHIPPED, opened

AT = datetime(2026, 11, 23, 10, 0, tzinfo=CHINA)
SAID = Heard("v8", {"device_no": "0000217", "officer_no": "001234"}, -93_400, 16, AT, is_whole=True)


async def docked(station: Station, heard: Heard | None) -> str:
    """One docking to its end; the id of the recording that it brought."""

    async def said() -> Heard | None:
        return heard

    recorder = Announced(FakeRecorder({"DCIM/a.mp4": b"a" * 1000}, station.vault.staging_dir), said)
    assert await Docking(station, recorder, "3", Meter("3", "V8", lambda _: None)).run() is End.COMPLETE
    (row,) = station.journal.reader.recordings()
    return row.recording.recording_id


def fields(station: Station, recording: str) -> dict[str, Any]:
    view: dict[str, Any] = record_view(known_of(station.journal.reader, recording), SHIPPED, AT)["fields"]
    return view


async def test_the_offset_and_what_it_is_worth_are_in_the_record_and_in_what_is_sealed(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with opened(tmp_path, clock) as station:
        emptied: list[str] = []
        station.emptied = emptied.append
        recording = await docked(station, SAID)
        record = fields(station, recording)
        assert (record["device_clock_offset_ms"]["value"], record["device_clock_offset_ms"]["source"]) == (-93_400, "A")
        assert record["device_clock_compared"]["value"] == {
            "uncertainty_ms": 16, "measured_at": "2026-11-23T10:00:00.000+08:00", "profile": "v8",
        }  # fmt: skip
        assert record["device"]["value"]["says"] == {"device_no": "0000217", "officer_no": "001234"}
        sealed = sealed_view(known_of(station.journal.reader, recording), SHIPPED, AT)["fields"]
        assert sealed["device_clock_offset_ms"] == {"value": -93_400, "source": "A"}
        assert json.dumps(sealed)
        assert emptied == ["3"]


@pytest.mark.parametrize("heard", [None, Heard("v8", failed=(("greet", Trouble.SILENT),))])
async def test_what_was_not_measured_is_absent_and_never_made_up(
    tmp_path: Path, clock: SettableClock, heard: Heard | None
) -> None:
    async with opened(tmp_path, clock) as station:
        recording = await docked(station, heard)
        record = record_view(known_of(station.journal.reader, recording), SHIPPED, AT)
        assert {"device_clock_offset_ms", "device_clock_compared"} <= set(record["absent"])
        assert "says" not in record["fields"]["device"]["value"]


async def test_a_later_docking_does_not_change_what_was_measured_when_it_was_pulled(
    tmp_path: Path, clock: SettableClock
) -> None:
    async with opened(tmp_path, clock) as station:
        await docked(station, SAID)
        clock.advance(3600)
        recording = await docked(station, replace(SAID, offset_ms=5, measured_at=clock()))
        assert fields(station, recording)["device_clock_offset_ms"]["value"] == -93_400


@pytest.mark.parametrize("ahead_ms", [-86_400_000, -1, 0, 299_999, 300_000, 86_400_000])
async def test_a_clock_that_is_ahead_makes_limits_earlier_and_none_makes_them_later(
    tmp_path: Path, clock: SettableClock, ahead_ms: int
) -> None:
    limits = {}
    for name, heard in (("plain", None), ("compared", replace(SAID, offset_ms=ahead_ms))):
        async with opened(tmp_path / name, clock) as station:
            recording = await docked(station, heard)
            limits[name] = station.journal.reader.recording(recording).recording
    plain, compared = limits["plain"], limits["compared"]
    assert (compared.captured_latest, compared.deadline.due_at) == (plain.captured_latest, plain.deadline.due_at)
    assert compared.deadline.alarm_at <= plain.deadline.alarm_at
    assert plain.captured_earliest is not None
    assert compared.captured_earliest is not None
    if ahead_ms < 300_000:
        assert compared.captured_earliest == plain.captured_earliest
        assert compared.clock_trust is ClockTrust.UNMEASURED
    else:
        assert compared.captured_earliest == plain.captured_earliest - timedelta(milliseconds=ahead_ms)
        assert compared.clock_trust is ClockTrust.CONTRADICTED


@given(
    earliest=st.none() | st.integers(-3000, 0).map(lambda days: AT + timedelta(days=days)),
    trust=st.sampled_from(ClockTrust),
    ahead_ms=st.integers(-(10**14), 10**14),
)
def test_whatever_the_offset_an_interval_only_grows_and_only_downwards(
    earliest: datetime | None, trust: ClockTrust, ahead_ms: int
) -> None:
    told = (earliest, AT, trust)
    low, high, _ = by_comparison(told, timedelta(milliseconds=ahead_ms))
    assert high == AT
    assert (low is None) is (earliest is None)
    assert low is None or earliest is None or low <= earliest


@pytest.mark.root
def test_the_service_speaks_to_a_recorder_whose_line_is_wired_to_its_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real daemon, the real child, a pseudo-terminal; the password as systemd hands it over."""
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "")  # is put back afterwards
    made = stage(tmp_path)
    image = tmp_path / "card.img"
    with Card.exfat(image, 96 << 20) as card:
        card.add("DCIM/0001.MP4", b"film" * 5000)
    with wired(made, "card.img", ahead_s=754.0) as recorder:
        with running(made) as daemon:
            daemon.until_phase(daemon.dock(image), "finished")
            fields = record_of(made, "card.img")
            offset_ms = fields["device_clock_offset_ms"]["value"]
            assert abs(offset_ms - 754_000) <= fields["device_clock_compared"]["value"]["uncertainty_ms"] + 1
            assert fields["device"]["value"]["says"]["device_no"] == "0000217"
        assert recorder.heard[:2] == ["INIT", "PASS 000000"]
        assert "000000" not in made.log.read_text("utf-8")
