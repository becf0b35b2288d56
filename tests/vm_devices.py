"""What is plugged into a real machine: told by the installed service, and recorded if it is the room's own camera.

`vivid` and `snd-aloop` are test devices of Debian's kernel: V4L2 and ALSA are real, cables and optics aren't there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cards import image
from tests.machine.machine import LIMIT_S, Machine
from tests.vm_rooms import CAMERA, MICROPHONE, TONE, played
from tests.vm_usb import clip, dock

pytestmark = [pytest.mark.root, pytest.mark.timeout(5400)]

AGENT = "runuser -u capture-agent -- capture-agent"
DOCS = Path(__file__).resolve().parents[1] / "docs" / "rooms.md"
DROP_IN = "/etc/systemd/system/capture-agent.service.d/rooms.conf"
NEEDED = ("SupplementaryGroups=video audio", "DeviceAllow=char-video4linux rw", "DeviceAllow=char-alsa rw")
ROOM = f"""
[room.hearing]
title = "第一听证室"
segment_s = 10
planned_h = 0.5
bitrate_kbit_s = 2000
source.camera = {{ title = "前方", url = "{CAMERA}" }}
source.microphone = {{ title = "话筒", url = "{MICROPHONE}" }}
"""


def told(machine: Machine, words: str) -> dict[str, Any]:
    """What a verb prints with --json; it must succeed."""
    found: dict[str, Any] = json.loads(machine.run(f"capture-agent {words} --json", LIMIT_S))
    return found


def until(look: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Look again and again until there is something to see; that."""
    end = time.monotonic() + LIMIT_S
    while not (found := look()):
        assert time.monotonic() < end, "it doesn't happen"
        time.sleep(1.0)
    return found


def test_the_service_tells_from_its_sandbox_what_is_plugged_in_and_why_it_is_not_pulled(
    machine: Machine, tmp_path: Path
) -> None:
    """Real udev, the shipped rules, the service's own rights; and by a look of our own when it is stopped."""
    dock(machine, port3="左一", port2="右一")
    card, other = (image(tmp_path / port, {"DCIM/0001.MP4": clip(int(port))}) for port in "35")
    machine.usb.disk(card, "REC-3", port="3")
    machine.usb.disk(other, "REC-5", port="5")
    machine.usb.keyboard("4")
    machine.until_phase("finished", slot="左一")
    machine.run("udevadm settle")
    listed = told(machine, "device list")
    assert listed["served"]
    rows = {row["port"].partition("-usb-0:")[2]: row for row in listed["plugged"]}
    states = {port: (row["state"]["name"], row["why"]["en"]) for port, row in rows.items()}
    assert states == {
        "3": ("docked", ""),
        "5": ("left_alone", "its port is no slot of slots.toml"),
        "4": ("left_alone", "its port is no slot of slots.toml"),
    }, listed
    assert (rows["3"]["slot"], rows["3"]["docked"][0]["progress"]["phase"]) == ("左一", "finished")
    (disk,) = (node for node in rows["3"]["nodes"] if node["subsystem"] == "block")
    assert (disk["mark"], disk["is_read_only"], disk["busy"]) == ("dock", True, "")
    (shown,) = told(machine, "device show 左一")["plugged"]
    assert shown["docked"][0]["docking"]["accounting"]["pulled"] == 1
    (known,) = told(machine, f"device identify {disk['path']}")["devices"]
    assert known["known"][disk["path"]]["ID_SERIAL_SHORT"] == "REC-3"
    assert any("CAPTURE_AGENT=dock, read-only" in rule for rule in known["rules"])
    assert machine.call(f"capture-agent device simulate {disk['path']} --who a --why b", LIMIT_S).returncode == 4
    machine.run("systemctl stop capture-agent.socket capture-agent", LIMIT_S)
    listed = told(machine, "device list")
    assert not listed["served"]
    assert [row["state"]["name"] for row in listed["plugged"]] == ["waits", "left_alone", "left_alone"]


def allow(machine: Machine) -> None:
    """The drop-in of docs/rooms.md for a camera that may come after the service has started."""
    blocks = re.findall(r"```ini\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (service,) = (text for text in blocks if "LoadCredential" in text)
    (modules,) = (text for text in blocks if "modprobe@videodev" in text)
    assert set(NEEDED) <= set(service.splitlines())
    machine.guest.write(DROP_IN, "\n".join([modules, "[Service]", *NEEDED, ""]))
    machine.run("systemctl daemon-reload")
    machine.configure({"storage.reserve_bytes": "0", "access.enabled": "false"})  # films would take minutes here


def test_a_camera_and_a_microphone_of_the_station_are_recorded_by_the_service_as_any_other(machine: Machine) -> None:
    """Plugged in after it has started; the camera is pulled out and comes back; all of it is stored and plays."""
    machine.guest.write("/etc/capture-agent/rooms.toml", ROOM)
    allow(machine)
    machine.run("modprobe vivid n_devs=1 node_types=0x1; modprobe snd-aloop; udevadm settle", LIMIT_S)
    machine.run(f"systemd-run -q --unit=tone {TONE}")
    session = told(machine, "room start hearing --who 张三 --why 听证 --until +60")["session"]

    def seen() -> dict[str, Any]:
        found: dict[str, Any] = told(machine, f"room show {session}")
        return found

    def light(name: str, wanted: str) -> bool:
        (room,) = told(machine, "room list")["rooms"]
        return any(one["source"] == name and one["light"]["name"] == wanted for one in room["sources"])

    def segments(name: str) -> int:
        return next(one["segments"] for one in seen()["sources"] if one["source"] == name)

    until(lambda: segments("camera") >= 1 and segments("microphone") >= 1)
    machine.run("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind")
    until(lambda: light("camera", "lost"))
    machine.run("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind; udevadm settle")
    before = segments("camera")
    until(lambda: light("camera", "recording") and segments("camera") > before)
    told(machine, "room stop hearing --who 李四 --why 听证结束")
    ended = until(lambda: shown if (shown := seen())["ended_at"] else None)
    gaps = [one for one in ended["ledger"] if one["kind"]["name"] == "gap"]
    assert any(one["source"] == "camera" and one["cause"] and one["end"] for one in gaps), ended["ledger"]
    machine.until(f"{AGENT} unstored", LIMIT_S)
    machine.run(f"{AGENT} verify", LIMIT_S)
    share = machine.mount_share()
    machine.run(f"find /srv/evidence/originals -type f -exec cp {{}} {share}/ ';'", LIMIT_S)
    machine.power_off()
    stored = [Path(name).name for name in machine.stored()]
    assert len(stored) == sum(one["segments"] for one in ended["sources"])
    assert {played(machine.share / name)[0] for name in stored} == {"h264", "pcm_s16le"}
