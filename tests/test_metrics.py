"""Promise: the metrics say what the status says, no more, with as many series on every station, and name nobody."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from agent.accounts.book import Role
from agent.clocks import ClockState
from agent.model import AssetState, AuditProgress, Completeness, Outcome, Phase, ScrubProgress, Upload
from agent.screens.metrics import METRICS, exposition
from agent.status.words import Hold
from tests.journal_entries import acquired, confirmed, opened
from tests.status_station import HOSTILE, NOW, Served, footage, serve, slot

DOCS = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serve(tmp_path, role=Role.IT) as station:
        yield station


async def status_of(served: Served) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(await served.board.status())
    return found


def samples(text: bytes) -> dict[str, float]:
    """Values of our metrics by name, or name and value of the label."""
    return {
        " ".join([sample.name.removeprefix("capture_agent_"), *sample.labels.values()]): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def busy(served: Served) -> None:
    """Everything that a running service knows is known."""
    served.world.live = replace(
        served.world.live,
        store_locks=True,
        store_error="the share is away",
        store_rate_bytes_s=5e6,
        clock=ClockState(synced=False, rtc_ahead_s=-2.4),
        uploads=(Upload("a", 7, 9),),
        audit=AuditProgress(40, 30, 2, 1, NOW),
        scrub=ScrubProgress(damaged=1, full_damaged=2, full_at=NOW),
        problems=("one", "two"),
    )
    served.world.show(slot(Phase.READING, total=9, pulled=1), slot(Phase.UNPLUGGED, total=9, pulled=1))


async def some(served: Served) -> None:
    """One recording stored, one held, one wanted and late, one stuck on a hostile name."""
    made = NOW.replace(day=10)
    await served.journal.record(
        opened(), *(footage(served.config, name, at, made, path=HOSTILE) for at, name in enumerate("abc", 1))
    )
    await served.journal.record(acquired("a", 1), acquired("b", 2))
    await served.journal.record(confirmed("a"))


async def test_the_answer_is_what_prometheus_reads(served: Served) -> None:
    status, headers, body = await asyncio.to_thread(served.ask, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    assert samples(body)["originals stored"] == 0


@pytest.mark.parametrize(
    ("role", "told"), [(None, 401), (Role.SUPERVISOR, 403), (Role.CUSTODIAN, 403), (Role.OFFICER, 403)]
)
async def test_only_it_gets_a_number(tmp_path: Path, role: Role | None, told: int) -> None:
    async with serve(tmp_path, role=role) as station:
        status, _, body = await asyncio.to_thread(station.ask, "/metrics")
    assert status == told
    assert b"capture_agent_" not in body


async def test_each_number_is_that_of_the_status(served: Served) -> None:
    await some(served)
    busy(served)
    shown = samples(exposition(await status_of(served)))
    assert {name: shown[name] for name in shown if name.startswith("originals")} == {
        "originals wanted": 1, "originals held": 1, "originals stored": 1, "originals released": 0,
        "originals stuck": 0, "originals matched": 0, "originals_bytes wanted": 1000, "originals_bytes held": 1000,
        "originals_bytes stored": 1000, "originals_bytes released": 0, "originals_bytes stuck": 0,
        "originals_bytes matched": 0,
    }  # fmt: skip
    told = {
        "overdue": 2, "due_soon": 0, "undecided": 0, "metadata incomplete": 3, "store_up": 0, "store_locks": 1,
        "store_bytes_per_second": 5e6, "uploads": 1, "audit_checked_total": 40, "audit_lost_total": 2,
        "scrub_damaged": 3, "free_bytes": 1e11, "reserve_bytes": 2 << 30, "clock_synchronised": 0,
        "hardware_clock_ahead_seconds": -2, "slots keep": 1, "slots gone": 1, "slots take": 0, "slots ask": 0,
        "pull_bytes_per_second": 6e7, "status_timestamp_seconds": NOW.timestamp(), "dockings_open": 1,
        "audit_timestamp_seconds": NOW.timestamp(), "scrub_timestamp_seconds": NOW.timestamp(),
        "calendar_until_timestamp_seconds": NOW.replace(month=12, day=23, hour=0).timestamp(),
        "gaps_unexplained": 0, "recorders_not_back": 0, "recorders_past_limit": 0, "forecast_missed": 0,
    }  # fmt: skip
    assert {name: shown[name] for name in told} == told


async def test_a_tile_without_its_metric_is_noticed(served: Served) -> None:
    """The words of a tile are where its number is found: nobody may change one without the other."""
    shown = samples(exposition(await status_of(served)))
    assert {"overdue", "due_soon", "undecided", "gaps_unexplained"} <= shown.keys()


async def test_the_problems_are_as_many_as_the_screens_name(served: Served) -> None:
    busy(served)
    status = await status_of(served)
    assert samples(exposition(status))["problems"] == len(status["health"]["problems"]) >= 4


async def test_what_is_not_known_has_no_sample_and_is_never_a_zero(served: Served) -> None:
    served.world.live = replace(served.world.live, free_bytes=None, clock=ClockState())
    shown = samples(exposition(await status_of(served)))
    unknown = {
        "free_bytes", "clock_synchronised", "hardware_clock_ahead_seconds", "store_locks", "store_bytes_per_second",
        "audit_timestamp_seconds", "scrub_timestamp_seconds",
    }  # fmt: skip
    assert not unknown & shown.keys()
    assert "reserve_bytes" in shown


async def test_nothing_names_anybody_and_the_number_of_series_depends_on_nothing(served: Served) -> None:
    busy(served)
    few = exposition(await status_of(served))
    await some(served)
    served.world.show(
        *(replace(slot(Phase.FAILED), slot=f"/mnt/李四 {n}", device_label="王五 110101") for n in range(60))
    )
    many = exposition(await status_of(served))
    assert samples(few).keys() == samples(many).keys()
    assert many.isascii()
    for name in ("rec-", "DSJ", "110101", "mnt", "MP4", "58F6", "share"):
        assert name not in many.decode()
    assert len(many) < 16_000


async def test_no_recorder_may_be_taken_by_any_number_while_one_file_is_missing(served: Served) -> None:
    served.world.show(slot(Phase.FINISHED, total=3, pulled=2, unreadable=1, may_remove=True))
    shown = samples(exposition(await status_of(served)))
    assert (shown["slots take"], shown["slots ask"]) == (0, 1)


async def test_a_broken_journal_gives_an_error_and_no_number(served: Served) -> None:
    served.journal.reader.close()
    status, _, body = await asyncio.to_thread(served.ask, "/metrics")
    assert status == 503
    assert b"capture_agent_" not in body


def documented() -> Mapping[str, tuple[str, str]]:
    rows = re.findall(r"^\| `capture_agent_(\w+)` \| (?:`(\w+)`)? \| (.*) \|$", DOCS.read_text("utf-8"), re.MULTILINE)
    return {name: (label, text) for name, label, text in rows}


def test_the_page_names_every_metric_with_its_label_and_no_other() -> None:
    assert documented() == {metric.name: (metric.label, metric.text) for metric in METRICS}


async def test_the_page_names_every_value_of_every_label_and_every_number_of_the_process(served: Served) -> None:
    text = DOCS.read_text("utf-8")
    for kind in (AssetState, Outcome, Completeness, Hold):
        assert all(re.search(rf"\b{value}\b", text) for value in kind)
    for name in samples(exposition(await status_of(served))):
        assert not name.startswith("process_") or f"`{name}`" in text


def test_the_name_tells_the_unit() -> None:
    """https://prometheus.io/docs/practices/naming/: base units, and `_total` for what only grows."""
    for metric in METRICS:
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", metric.name)
        assert metric.text.endswith(".")
        for word, unit in (("bytes of", "_bytes"), ("since 1970", "_timestamp_seconds"), ("rate ", "_per_second")):
            assert word not in metric.text.lower() or metric.name.endswith(unit), metric.name
