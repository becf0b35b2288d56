"""Promise: supervisors see which recorders are missing and since when, in honest words, and nobody's name."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.config import Config, load
from agent.deadline import ZONE, Rules, deadline_for
from agent.journal.views import Accounting, DockingView
from agent.model import Custody, Recorder, RecorderKind, Standing
from agent.status.devices import device_lines, devices_view
from agent.status.summary import printable
from tests.journal_entries import DEVICE
from tests.status_station import configured

FRIDAY = datetime(2026, 11, 20, 8, tzinfo=ZONE)
OWNED = {
    name: Recorder(name, f"固资 {name}", RecorderKind.BODY_CAMERA, "DSJ-V8", f"serial-{name}", "", ())
    for name in ("DSJ-001", "DSJ-002", "DSJ-003", "DSJ-004")
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return configured(tmp_path_factory.mktemp("station"))


@pytest.fixture(scope="module")
def rules(config: Config) -> Rules:
    return Rules(config.profile, config.calendars)


@pytest.fixture(scope="module")
def same_day(tmp_path_factory: pytest.TempPathFactory) -> Rules:
    config = configured(tmp_path_factory.mktemp("nanchang"), '[deadline]\nprofile = "nanchang"\n')
    return Rules(config.profile, config.calendars)


def out(name: str, since: datetime = FRIDAY, custody: Custody = Custody.OUT, **changes: datetime) -> Standing:
    return replace(Standing(name, custody, since, since, since), **changes)  # type: ignore[arg-type]


def row(view: dict[str, Any], name: str) -> dict[str, Any]:
    return next(row for row in view["recorders"] if row["id"] == name)


def docking(**changes: object) -> DockingView:
    device = replace(DEVICE, **changes)  # type: ignore[arg-type]
    return DockingView("d1", device, "1", FRIDAY, FRIDAY, FRIDAY, "complete", Accounting())


def test_the_limit_counts_as_if_footage_was_completed_on_the_day_of_the_handover(rules: Rules) -> None:
    """Handed out on Friday 20 November: 24:00 of Tuesday, whatever is on it; before that nothing is said to be late."""
    standings = {"DSJ-001": out("DSJ-001")}
    tuesday = datetime(2026, 11, 25, tzinfo=ZONE)
    before = row(devices_view(OWNED, standings, (), rules, tuesday - timedelta(seconds=1)), "DSJ-001")
    assert (before["state"]["zh"], before["since"]) == ("已领用", "2026-11-20T08:00:00+08:00")
    assert (before["alarm_at"], before["ran_out"]) == ("2026-11-25T00:00:00+08:00", False)
    assert "可能有未采集的音像记录" in before["warning"]["zh"]
    assert "11月24日 24:00" in before["warning"]["zh"]
    view = devices_view(OWNED, standings, (), rules, tuesday)
    after = row(view, "DSJ-001")
    assert (after["state"]["zh"], after["ran_out"], view["ran_out"]) == ("未归还", True, 1)
    assert "最早可能的期限已过" in after["warning"]["zh"]
    assert "鲁医保发〔2019〕60号" in after["citation"]


def test_the_same_day_rule_ends_at_midnight_of_the_day_of_the_handover(same_day: Rules) -> None:
    view = devices_view(OWNED, {"DSJ-001": out("DSJ-001")}, (), same_day, FRIDAY)
    assert row(view, "DSJ-001")["alarm_at"] == "2026-11-21T00:00:00+08:00"


def test_a_limit_on_an_unknown_year_says_provisional(rules: Rules) -> None:
    view = devices_view(OWNED, {"DSJ-001": out("DSJ-001", datetime(2026, 12, 30, 8, tzinfo=ZONE))}, (), rules, FRIDAY)
    assert row(view, "DSJ-001")["basis"]["name"] == "provisional"
    assert "暂定" in row(view, "DSJ-001")["warning"]["zh"]


TIMES = st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)).map(lambda time: time.replace(tzinfo=ZONE))  # noqa: DTZ001


@given(since=TIMES, worked_h=st.integers(0, 2000))
def test_no_recording_made_on_it_can_be_due_before_the_alarm(rules: Rules, since: datetime, worked_h: int) -> None:
    """The bound is the earliest: whatever was completed after the handover is due then, or later."""
    alarm_at = datetime.fromisoformat(
        row(devices_view(OWNED, {"DSJ-001": out("DSJ-001", since)}, (), rules, since), "DSJ-001")["alarm_at"]
    )
    made = since + timedelta(hours=worked_h)
    assert alarm_at <= deadline_for(rules, made, made).alarm_at


@given(
    custody=st.sampled_from([Custody.OUT, Custody.UNPULLED]),
    since=TIMES,
    now=TIMES,
    back=st.none() | st.integers(1, 99),
)
def test_a_recording_that_nobody_has_seen_is_never_called_overdue(
    rules: Rules, custody: Custody, since: datetime, now: datetime, back: int | None
) -> None:
    back_by = since + timedelta(hours=back) if back else None
    standing = replace(out("DSJ-001", since, custody), back_by=back_by)
    view = devices_view(OWNED, {"DSJ-001": standing}, (), rules, now)
    told = json.dumps(view, ensure_ascii=False) + "".join(device_lines(view, everything=True))
    assert "逾期" not in told
    assert "overdue" not in told
    assert "可能有" in told


def test_past_the_time_it_was_expected_back_it_is_not_back_though_no_limit_has_passed(rules: Rules) -> None:
    standing = out("DSJ-001", back_by=FRIDAY + timedelta(hours=10))
    for hours, words, not_back in ((9, "已领用", 0), (10, "未归还", 1)):
        view = devices_view(OWNED, {"DSJ-001": standing}, (), rules, FRIDAY + timedelta(hours=hours))
        assert (row(view, "DSJ-001")["state"]["zh"], view["ran_out"], view["not_back"]) == (words, 0, not_back)


def test_the_most_urgent_comes_first_and_who_is_here_last(rules: Rules) -> None:
    """One that came back without docking counts as much as one that is out; one given up, or pulled, no longer."""
    standings = {
        "DSJ-002": out("DSJ-002", FRIDAY),
        "DSJ-003": out("DSJ-003", FRIDAY - timedelta(days=9), Custody.UNPULLED),
        "DSJ-004": replace(out("DSJ-004", FRIDAY - timedelta(days=99), Custody.WRITTEN_OFF), unseen_since=None),
    }
    view = devices_view(OWNED, standings, (), rules, FRIDAY)
    assert [found["id"] for found in view["recorders"]] == ["DSJ-003", "DSJ-002", "DSJ-001", "DSJ-004"]
    assert [found["state"]["zh"] for found in view["recorders"]] == ["已归还，未采集", "已领用", "在站", "不再等待采集"]
    assert (view["missing"], view["ran_out"]) == (2, 1)


def test_who_takes_a_recorder_out_of_the_inventory_doesnt_stop_its_countdown(rules: Rules) -> None:
    view = devices_view({}, {"DSJ-001": out("DSJ-001")}, (), rules, FRIDAY)
    assert (row(view, "DSJ-001")["registered"], view["missing"]) == (False, 1)


def test_a_docked_device_that_is_not_in_the_inventory_is_shown_once_with_its_marks(rules: Rules) -> None:
    dockings = [docking(), docking(), docking(serial="serial-DSJ-002", product="DSJ-V8")]
    (stranger,) = devices_view(OWNED, {}, dockings, rules, FRIDAY)["unregistered"]
    assert (stranger["state"]["zh"], stranger["serial"]) == ("未登记", DEVICE.serial)
    assert stranger["filesystem_ids"] == list(DEVICE.filesystem_ids)
    assert devices_view({}, {}, dockings, rules, FRIDAY)["unregistered"] == [], "without an inventory all would be"


def test_the_lines_for_a_terminal_can_not_steer_it(rules: Rules) -> None:
    view = devices_view(OWNED, {"DSJ-001": out("DSJ-001")}, [docking(serial="\x1b[2J\u202e")], rules, FRIDAY)
    lines = [printable(text) for text in device_lines(view)]
    assert all(text.isprintable() for text in lines)
    assert len(lines) == 3, "one that is out with its warning, one that isn't known; those that are here only on demand"
    assert len(list(device_lines(view, everything=True))) == 6


def test_the_example_of_the_shipped_inventory_is_one(tmp_path: Path) -> None:
    """Taken out of its comments it works, and shows every option."""
    config = configured(tmp_path)
    assert config.inventory == {}
    file = config.path.parent / "inventory.toml"
    options = [text[2:] for text in file.read_text("utf-8").splitlines() if " = " in text or text.startswith("# [")]
    file.write_text("\n".join(options), "utf-8")
    assert load(config.path).inventory == {
        "DSJ-001": Recorder(
            "DSJ-001", "固资 2024-0117", RecorderKind.BODY_CAMERA, "DSJ-V8", "058F63666485", "执法仪",
            ("fat32:1A2B-3C4D",),
        )
    }  # fmt: skip
