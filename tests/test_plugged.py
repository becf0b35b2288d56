"""Promise: what is plugged in is told, and why it is or isn't pulled; what is for training says so everywhere."""

from __future__ import annotations

import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.config import checked
from agent.drivers.plugged import _functions
from agent.errors import ConfigError
from agent.journal import Reader
from agent.model import SIMULATED, Device, Recorder, RecorderKind
from agent.register import recognise
from simulator.content import Noise
from tests.cards import image
from tests.daemons import Daemon, call, running, stage
from tests.status_station import configured
from tests.udev_world import play

FILES = {f"DCIM/{n:04}.MP4": Noise(50_000, n) for n in (1, 2, 3)}
TRAINING = {"station.name": '"一号演练站"', "dock.simulate": "true"}
SIGNED = ("--who", "trainer", "--why", "course")


@pytest.mark.root
@pytest.mark.parametrize("scene", ["verdicts", "reasons", "identity"])
def test_what_is_made_of_what_is_plugged_in(scene: str) -> None:
    """Among made devices, judged by the real udevadm with the rules as they are shipped."""
    play(scene, "tests.plugged_world")


@pytest.mark.parametrize(
    ("interfaces", "told"),
    [
        (":080650:", ("disk",)),
        (":060101:080650:", ("camera", "disk")),
        (":020201:0a0000:", ("serial",)),
        (":020600:", ("network",)),
        (":ef0401:e00103:", ("network",)),
        (":ffff00:fe0101:", ("its maker's own", "class fe")),
        ("", ()),
    ],
)
def test_the_functions_of_a_device_are_those_of_its_interfaces(interfaces: str, told: tuple[str, ...]) -> None:
    assert _functions(interfaces) == told


def test_training_needs_a_station_whose_name_says_so(tmp_path: Path) -> None:
    """Every screen, paper and manifest has that name."""
    with pytest.raises(ConfigError, match=r"station\.name must have 演练"):
        checked(configured(tmp_path / "a", "[dock]\nsimulate = true\n").path)
    config = configured(tmp_path / "b", '[dock]\nsimulate = true\n[station]\nname = "演练"\n')
    assert checked(config.path).dock.simulate


def test_a_recorder_of_the_inventory_does_not_come_back_by_training() -> None:
    owned = {"DSJ-001": Recorder("DSJ-001", "1", RecorderKind.BODY_CAMERA, volume_label="CARD")}
    assert recognise(owned, Device("mass_storage", label="CARD")) is not None
    assert recognise(owned, Device("mass_storage", SIMULATED, label="CARD")) is None


def as_json(told: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def test_an_image_is_docked_for_training_and_says_so_everywhere(tmp_path: Path) -> None:
    made = stage(tmp_path, TRAINING)
    card = image(tmp_path / "card.img", dict(FILES))
    with running(made) as daemon:
        for wrong in (tmp_path, tmp_path / "none.img", Path("/dev/null")):
            assert call(made, "device", "simulate", str(wrong), *SIGNED).returncode == 4
        assert daemon.status()["slots"] == []
        told = call(made, "device", "simulate", str(card), *SIGNED, "--json")
        assert told.returncode == 0, told.stderr
        slot = as_json(told)["slot"]
        assert slot.startswith("演练 SIMULATED: ")
        shown = as_json(call(made, "device", "show", slot, "--json"))["plugged"][0]
        assert (shown["state"]["name"], shown["vendor"]) == ("docked", "演练 SIMULATED")
        assert shown["docked"][0]["docking"]["accounting"]["pulled"] == len(FILES)
        daemon.until(lambda: all_say_so(daemon))
        (seen,) = made.ask("/api/v1/devices")["docked"]
        assert seen["quarantine"]
        assert "SIMULATED" in call(made, "device", "list").stdout
        with closing(Reader(made.station / "journal.db")) as reader:
            told = [json.loads(event.detail) for event in reader.events(limit=10_000) if event.kind == "incident"]
        assert {"kind": "simulated", "detail": {"who": "trainer", "why": "course"}} in told
    assert "course" not in made.log.read_text("utf-8")


def all_say_so(daemon: Daemon) -> bool:
    """Slot, docking, and every recording, with the station's own name above."""
    status, rows = daemon.status(), daemon.stage.ask("/api/v1/recordings")["recordings"]
    marks = [row["quarantine"]["zh"] for row in rows]
    named = [status["dockings"][0]["device"], *(row["device"] for row in rows), *(s["slot"] for s in status["slots"])]
    assert "演练" in status["station"]["name"]
    return marks == ["演练，非证据"] * len(FILES) and all("SIMULATED" in name for name in named)


def test_a_docked_image_is_listed_with_its_progress_and_shown_with_its_docking(tmp_path: Path) -> None:
    """As the running service sees it; what nobody knows is told as such. Training is refused where evidence is kept."""
    made = stage(tmp_path)
    with running(made) as daemon:
        told = call(made, "device", "simulate", str(image(tmp_path / "other.img", dict(FILES))), *SIGNED)
        assert (told.returncode, daemon.status()["slots"]) == (4, [])
        assert "本站未配置为演练站" in told.stderr
        slot = daemon.dock(image(tmp_path / "card.img", dict(FILES)))
        daemon.until_phase(slot, "finished")
        listed = as_json(call(made, "device", "list", "--json"))
        (entry,) = (row for row in listed["plugged"] if row["docked"])
        assert listed["served"]
        assert listed["recorders"] == []
        assert entry["docked"][0]["progress"]["phase"] == "finished"
        told = call(made, "device", "show", "card.img").stdout
        assert "已采集 (pulled)  3/3 files" in told
        assert "fat32:" in told or "exfat:" in told
        assert "未登记 (not registered)" in told
        assert call(made, "device", "show", "no such thing").returncode == 4
        (daemon.stage.dock / slot).unlink()
        daemon.until(
            lambda: not [row for row in as_json(call(made, "device", "list", "--json"))["plugged"] if row["docked"]]
        )
    assert "the service does not answer" in call(made, "device", "list").stdout
    assert call(made, "device", "simulate", str(tmp_path / "other.img"), *SIGNED).returncode == 7


def test_a_disk_of_this_computer_is_identified_and_never_offered(tmp_path: Path) -> None:
    made = stage(tmp_path)
    told = as_json(call(made, "device", "identify", "/dev/null", "--json"))["devices"][0]
    assert told["plugged"]["state"]["name"] == "left_alone"
    assert told["lines"] == {}
    assert told["known"]["/dev/null"]["SUBSYSTEM"] == "mem"
    missing = call(made, "device", "identify", "/dev/none")
    assert (missing.returncode, "Traceback" in missing.stderr) == (4, False)
    (tmp_path / "round").symlink_to("round")
    assert call(made, "device", "identify", str(tmp_path / "round")).returncode == 4
