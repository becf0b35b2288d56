"""Promise: a running service takes over mended rules on SIGHUP, and keeps the last good ones when they are bad."""

from __future__ import annotations

import json
import os
import signal
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli import Exit
from agent.journal import Reader, verify
from simulator.content import Noise
from simulator.stage import Stage, with_options
from tests.cards import card
from tests.daemons import Daemon, call, running, stage

NOTICE = "year = 2026\ncomplete = true\nsource = '补充通知'\n"


def stamp(text: str) -> datetime:
    return datetime.fromisoformat(text)  # naive: as a recorder writes it


def stamped(path: Path) -> Path:
    """A card with a good time, with last year's end, over midnight, and with two impossible clocks."""
    made = card(path, {})
    clips = {
        "GOOD": ("2026-11-20T16:30:00", None),
        "DEC31": ("2025-12-31T23:30:00", None),
        "NIGHT": ("2026-11-20T00:10:00", "2026-11-19T23:50:00"),
        "1980": ("1980-01-01T00:00:00", None),
        "2099": ("2099-01-01T00:00:00", None),
    }
    for seed, (name, (modified, created)) in enumerate(clips.items()):
        began = stamp(created) if created else None
        made.add(f"DCIM/{name}.MP4", Noise(5000, seed), modified=stamp(modified), created=began)
    made.finish()
    made.close()
    return path


def recordings(daemon: Daemon) -> dict[str, dict[str, Any]]:
    rows = daemon.stage.ask("/api/v1/recordings")["recordings"]
    return {Path(row["name"]).stem: row for row in rows}


def problems(daemon: Daemon) -> str:
    return json.dumps(daemon.status()["health"]["problems"], ensure_ascii=False)


def told(daemon: Daemon, *arguments: str) -> tuple[int, str]:
    done = call(daemon.stage, *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    """A station whose store is away, so that every verdict stays open."""
    made = stage(tmp_path)
    (made.store / ".capture-agent-store").unlink()
    (made.config.parent / "calendar.d").mkdir()
    return made


def docked(daemon: Daemon, folder: Path) -> dict[str, dict[str, Any]]:
    daemon.until_phase(daemon.dock(stamped(folder / "card.img")), "finished")
    return recordings(daemon)


def test_clocks_that_are_right_late_or_impossible(made: Stage, tmp_path: Path) -> None:
    with running(made) as daemon:
        rows = docked(daemon, tmp_path)
    assert rows["GOOD"]["due_at"].startswith("2026-11-25T00:00")
    assert rows["NIGHT"]["counted_days"] == ["2026-11-23", "2026-11-24"], "it was completed after midnight"
    assert rows["DEC31"]["counted_days"] == ["2026-01-04", "2026-01-05"], "the Sunday was worked"
    assert {rows[name]["captured"]["clock"]["name"] for name in ("1980", "2099")} == {"untrusted"}


def test_bad_rules_are_refused_and_mended_ones_recompute(made: Stage, tmp_path: Path) -> None:
    file = made.config.parent / "calendar.d" / "2026b.toml"
    with running(made) as daemon:
        docked(daemon, tmp_path)
        file.write_text(NOTICE + "off = ['2026-11-24']\nwork = ['2026-11-24']\n")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: "2026b.toml" in problems(daemon))
        assert "(line 4)" in problems(daemon)
        assert recordings(daemon)["GOOD"]["due_at"].startswith("2026-11-25T00:00"), "the last good data is in force"

        file.write_text(NOTICE + "off = ['2026-11-24']\n")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: recordings(daemon)["GOOD"]["due_at"].startswith("2026-11-26T00:00"))
        daemon.until(lambda: "2026b.toml" not in problems(daemon))
        says = daemon.stage.ask(recordings(daemon)["GOOD"]["explained"])
        assert "放假，不计（补充通知）" in [day["why"]["zh"] for day in says["days"]]
    file.unlink()
    with running(made) as daemon:  # a start recomputes too, beside the work
        daemon.until(lambda: recordings(daemon)["GOOD"]["due_at"].startswith("2026-11-25T00:00"))
    with closing(Reader(made.station / "journal.db")) as reader:
        kinds = [event.kind for event in reader.events(limit=10_000)]
    assert kinds.count("deadline_recomputed") >= 2
    report = verify(made.station / "journal.db")
    assert report.consistent, report.differences


def test_what_a_reload_takes_over_and_what_waits_for_a_new_start(made: Stage) -> None:
    text = made.config.read_text("utf-8")
    changes = {"station.contact": '"8001"', "storage.reserve_bytes": "12345", "runner.store_workers": "7"}
    with running(made) as daemon:
        made.config.write_text(with_options(text, changes), "utf-8")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: "runner.store_workers 已改" in problems(daemon))
        shown = daemon.status()
        assert (shown["station"]["contact"], shown["storage"]["reserve_bytes"]) == ("8001", 12345)
        made.config.write_text("[station\n", "utf-8")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: "agent.toml: is not a TOML file" in problems(daemon))
        assert daemon.status()["station"]["contact"] == "8001", "what was in force stays"
        made.config.write_text(text, "utf-8")
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.until(lambda: daemon.status()["station"]["contact"] == "")
        assert "agent.toml" not in problems(daemon)
        assert "runner.store_workers" not in problems(daemon), "it is again what the service began with"


def test_a_start_with_a_bad_notice_pulls_and_alarms_and_the_mended_one_settles_all(made: Stage, tmp_path: Path) -> None:
    """No recorder waits for a calendar: known limits stay, new ones are provisional and never later than the law."""
    file = made.config.parent / "calendar.d" / "2026b.toml"
    with running(made) as daemon:
        daemon.until_phase(daemon.dock(stamped(tmp_path / "card.img")), "finished")
    file.write_text(NOTICE + "off = ['2026-11-24']\nwork = ['2026-11-24']\n")
    new = card(tmp_path / "new.img", {})
    new.add("DCIM/NEW.MP4", Noise(5000, 77), modified=stamp("2026-11-20T16:30:00"))
    new.finish()
    new.close()
    with running(made) as daemon:
        daemon.until(lambda: "2026b.toml" in problems(daemon))
        daemon.until_phase(daemon.dock(tmp_path / "new.img"), "finished")
        rows = recordings(daemon)
        assert rows["GOOD"]["due_at"].startswith("2026-11-25T00:00"), "what was settled stays"
        assert rows["GOOD"]["basis"]["name"] == "official"
        assert rows["NEW"]["basis"]["name"] == "provisional"
        assert rows["NEW"]["alarm_at"] <= "2026-11-24T00:00:00+08:00", "a make-up Saturday may be what it was about"
        assert told(daemon, "config", "check")[0] == Exit.CONFIG

        file.write_text(NOTICE + "off = ['2026-11-23']\n")
        os.kill(daemon.pid, signal.SIGHUP)
        for name in ("GOOD", "NEW"):
            daemon.until(lambda name=name: recordings(daemon)[name]["due_at"].startswith("2026-11-26T00:00"))
        daemon.until(lambda: "2026b.toml" not in problems(daemon))


def test_what_is_taken_over_under_a_bad_notice_is_settled_by_the_next_start_too(made: Stage, tmp_path: Path) -> None:
    file = made.config.parent / "calendar.d" / "2026b.toml"
    with running(made):
        pass
    file.write_text(NOTICE + "off = ['2026-11-24']\nwork = ['2026-11-24']\n")
    done = call(made, "pull", str(stamped(tmp_path / "card.img")))
    assert done.returncode == 0, done.stderr
    file.unlink()
    with running(made) as daemon:
        daemon.until(lambda: recordings(daemon)["GOOD"]["basis"]["name"] == "official")
        assert recordings(daemon)["GOOD"]["due_at"].startswith("2026-11-25T00:00")


def test_what_persons_say_is_taken_down_with_and_without_the_service(made: Stage, tmp_path: Path) -> None:
    who = ("--who", "张三", "--why", "设备电池耗尽，时钟复位")
    with running(made) as daemon:
        lost = docked(daemon, tmp_path)["1980"]["recording_id"]
        code, said = told(daemon, "deadline", "state", lost, "--made", "2026-11-20 10:00", *who, "--json")
        assert (code, json.loads(said)["due_at"]) == (0, "2026-11-25T00:00:00+08:00")
        code, said = told(daemon, "deadline", "explain", lost)
        assert (code, "张三" in said, "人工说明" in said) == (0, True, True)
        code, said = told(daemon, "deadline", "state", lost, "--made", "2099-01-01", *who)
        assert (code, "at the latest" in said) == (Exit.JOURNAL, True)
        event = ("--event", "return_to_unit", "--at", "2026-11-21 10:00", "--cause", "LATE-02")
        code, said = told(daemon, "deadline", "declare", lost, *event, *who)
        assert (code, "No rule of the profile 'shandong'" in said) == (Exit.JOURNAL, True)
        assert told(daemon, "deadline", "explain", "nobody")[0] == Exit.JOURNAL
    done = call(made, "deadline", "state", lost, "--made", "2026-11-19 10:00", *who)
    assert (done.returncode, "2026-11-24T00:00" in done.stdout) == (0, True), done.stderr
