"""The real service with real cameras: what a person asks of its rooms, and what a readiness test finds out."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from agent import cli
from agent.journal import Reader
from agent.model import SessionTested
from agent.signing import FILE, made_key
from simulator.cameras.camera import PASSWORD, USER, Cameras
from simulator.cameras.footage import Footage
from tests.daemons import Daemon, running, stage

LIMIT_S = 90.0
SIGNED = ("--who", "张三", "--why", "问询")
Pack = Callable[..., Path]
Start = Callable[..., Cameras]


@contextmanager
def station(folder: Path, rooms: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """The service with these rooms, and the cameras' password as systemd would hand it over."""
    secrets = folder / "secrets"
    secrets.mkdir()
    with os.fdopen(os.open(secrets / "capture-agent.camera-front", os.O_WRONLY | os.O_CREAT, 0o400), "w") as file:
        file.write(f"{USER}:{PASSWORD}\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(secrets))
    made = stage(folder)
    (made.config.parent / "rooms.toml").write_text(rooms, "utf-8")
    with running(made) as daemon:
        yield daemon


def room(daemon: Daemon, *words: str, code: int = 0) -> str:
    """One call of the command line, in this process: another one would take a second to start."""
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said):
        try:
            done = cli.main(["--config", str(daemon.stage.config), "room", *words])
        except SystemExit as error:
            done = int(error.code or 0)
    assert done == code, said.getvalue()
    return said.getvalue()


def rooms_of(server: Cameras, *mounts: str, more: str = "") -> str:
    sources = "".join(
        f'[room.a1.source.{name}]\ntitle = "{name}"\nurl = "rtsp://127.0.0.1:{server.port}/{name}"\n'
        f'credential = "front"\n'
        for name in mounts
    )
    return f'[room.a1]\ntitle = "第一询问室"\nplanned_h = 0.1\nbitrate_kbit_s = 500\n{more}{sources}'


def until(holds: Callable[[], object], limit_s: float = LIMIT_S) -> None:
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_a_session_by_hand_is_recorded_extended_ended_and_shown_with_its_ledger(
    tmp_path: Path, cameras: Start, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cameras({"front": pack()})
    with station(tmp_path, rooms_of(server, "front"), monkeypatch) as daemon:
        assert "a1" in room(daemon, "list")
        wrong = {
            "nothing is being recorded in room 'a1'": ("stop", "a1", *SIGNED),
            "there is no room 'b2'": ("start", "b2", *SIGNED),
            "no stage 'S77'": ("start", "a1", "--stage", "S77", *SIGNED),
        }
        for told, words in wrong.items():
            assert told in room(daemon, *words, code=2)
        assert "must be a time like" in room(daemon, "start", "a1", "--until", "soon", *SIGNED, code=2)
        people = ("--participant", "李四", "--participant", "王五")
        started = room(daemon, "start", "a1", "--case", "7号", *people, "--until", "+3", "--json", *SIGNED)
        name = json.loads(started)["session"]
        assert "is recording already" in room(daemon, "start", "a1", *SIGNED, code=2)
        extended = json.loads(room(daemon, "extend", "a1", "--until", "+5", "--json", *SIGNED))
        assert extended["missing_bytes"] == 0
        end = datetime.fromisoformat(extended["planned_end"])
        assert abs(end - datetime.now(end.tzinfo) - timedelta(minutes=5)) < timedelta(minutes=1)
        until((daemon.stage.station / "rooms" / name / "front-000001.mp4").exists)
        time.sleep(2)
        assert "has ended" in room(daemon, "stop", "a1", *SIGNED)
        shown = room(daemon, "show", name)
        assert "case 7号" in shown
        assert "ledger" in shown
        assert "another end was planned" in shown
        seen = json.loads(room(daemon, "show", name, "--json"))
        assert (seen["participants"], seen["segment_count"]) == (["李四", "王五"], 1)
        assert seen["sources"][0]["media_s"] > 1
        assert name in room(daemon, "show", "a1")
        log = daemon.stage.log.read_text("utf-8")
        assert not [word for word in (PASSWORD, "李四", "7号") if word in log]


@pytest.mark.soak
def test_a_readiness_test_passes_and_is_signed_and_leaves_nothing_but_its_result(
    tmp_path: Path, cameras: Start, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cameras({"front": pack(), "side": pack(Footage("h264", ""))})
    text = rooms_of(server, "front", "side")
    with station(tmp_path, text, monkeypatch) as daemon:
        told = room(daemon, "test", "a1", code=4)  # nobody keeps this machine's clock right
        lines = dict(line.split(" ", 1)[::-1] for line in told.splitlines())
        bad = [line for line in told.splitlines() if line.startswith("BAD")]
        assert len(lines) == 6
        assert all("clock" in line for line in bad), told
        tested = _tested(daemon)
        assert {name: what for name, what in tested.checks.items() if name != "clock"} == dict.fromkeys(
            ("record", "decode", "levels", "disk", "store"), "ok"
        )
        front = tested.figures["sources"]["front"]  # type: ignore[index]
        assert 8 < front["media_s"] < 20
        assert abs(front["camera_ahead_s"]) < 2
        assert front["level_db"] > -40
        assert list((daemon.stage.station / "derived").iterdir()) == []
        assert not list((daemon.stage.station / "rooms").glob("*/*.mp4"))
        key = made_key(daemon.stage.station / FILE)
        assert tested.figures["key"] == key.fingerprint


@pytest.mark.soak
def test_what_is_wrong_with_a_room_is_told_by_a_test_before_it_matters(
    tmp_path: Path, cameras: Start, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Footage(sound="anullsrc=r={rate}")
    server = cameras({"front": pack(silent)})
    text = rooms_of(server, "front", "gone").replace("planned_h = 0.1", "planned_h = 24").replace(
        "bitrate_kbit_s = 500", "bitrate_kbit_s = 1000000"
    )  # fmt: skip
    text += '[room.a1.source.nobody]\nurl = "rtsp://127.0.0.1:9/x"\ncredential = "none"\n'
    with station(tmp_path, text, monkeypatch) as daemon:
        (daemon.stage.store / ".capture-agent-store").unlink()
        room(daemon, "test", "a1", code=4)
        checks = _tested(daemon).checks
        assert "gone：" in checks["record"]
        assert "nobody：用户名或密码错误" in checks["record"]
        assert "front：无声 silent" in checks["levels"]
        assert "not enough space" in checks["disk"]
        assert checks["store"] != "ok"
        assert PASSWORD not in json.dumps(dict(checks))


@pytest.mark.soak
def test_a_session_that_starts_ends_the_test_and_has_the_room_for_itself(
    tmp_path: Path, cameras: Start, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cameras({"front": pack()})
    with station(tmp_path, rooms_of(server, "front"), monkeypatch) as daemon:
        words = daemon.stage.command("room", "test", "a1")
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as testing:
            until(lambda: list((daemon.stage.station / "derived").glob("test-*/*.mp4")))
            room(daemon, "start", "a1", *SIGNED)
            _, told = testing.communicate(timeout=LIMIT_S)
        assert "the test was ended" in told
        assert "is being recorded or tested" in room(daemon, "test", "a1", code=2)
        room(daemon, "stop", "a1", *SIGNED)


@pytest.mark.soak
def test_a_planned_session_is_tested_started_and_ended_by_the_real_service(
    tmp_path: Path, cameras: Start, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cameras({"front": pack()})
    start = datetime.now().astimezone() + timedelta(seconds=75)
    plan = tmp_path / "plan.toml"
    plan.write_text(
        f"[[session]]\nstart = {start.isoformat(timespec='seconds')}\n"
        f"end = {(start + timedelta(seconds=8)).isoformat(timespec='seconds')}\ntitle = '听证'\n"
    )
    text = rooms_of(server, "front", more=f'schedule = "{plan}"\noverrun_min = 0\n')
    with station(tmp_path, text, monkeypatch) as daemon:
        until(lambda: _newest(daemon) is not None)
        test = _tested(daemon)
        until(lambda: json.loads(room(daemon, "show", "a1", "--json"))["sessions"])
        until(lambda: json.loads(room(daemon, "show", "a1", "--json"))["sessions"][0]["ended_at"])
        (head,) = json.loads(room(daemon, "show", "a1", "--json"))["sessions"]
        seen = json.loads(room(daemon, "show", head["session_id"], "--json"))
        assert (seen["title"], seen["reason"]["name"], seen["started_by"]["name"]) == ("听证", "scheduled", "schedule")
        assert head["session_id"] == test.session_id, "the test told the id"
        assert [one["tested_at"] for one in seen["tests"]]
        assert seen["sources"][0]["media_s"] > 3


def _newest(daemon: Daemon) -> SessionTested | None:
    with closing(Reader(daemon.stage.station / "journal.db")) as reader:
        return reader.newest_test("a1")


def _tested(daemon: Daemon) -> SessionTested:
    found = _newest(daemon)
    assert found is not None
    return found
