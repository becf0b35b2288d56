"""A made /sys in which everything is plugged in that a dock may meet, judged by the real udevadm with our rules.

Run as root inside namespaces of its own: `unshare --mount --net python -m tests.plugged_world SCENE`; see usb_world.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from agent.config import Config, load
from agent.dock_orders import plugged_unserved
from agent.status.identity import identity
from agent.status.plugged import plugged_lines, plugged_view, wanted
from tests.status_station import configured
from tests.udev_world import tool
from tests.usb_world import (
    ACM,
    DATA,
    FTDI,
    KEYBOARD,
    MTP,
    PORT,
    PTP,
    ROOT,
    RULES,
    STORAGE,
    Plugged,
    is_read_only,
    loops,
    plug,
    private_world,
    remember,
    run,
    slots,
    write,
)

NAMED = "".join(
    f'"{PORT}{port}" = "{name}"\n' for port, name in (("1", "一"), ("2", "2"), ("3", "3"), ("4", "4"), ("5", "5"))
)


def config_with(folder: Path, named: str) -> Config:
    """A station with these slots, which udev gets to read, too."""
    config = configured(folder)
    (config.path.parent / "slots.toml").write_text(f"[slots]\n{named}", "utf-8")
    slots(f"[slots]\n{named}")
    return load(config.path)


def told_of(config: Config) -> dict[str, dict[str, Any]]:
    """Each row of `device list` without a service, by its port."""
    view = plugged_view(config, plugged_unserved(config))
    assert (view["served"], view["trouble"]) == (False, [])
    assert "".join(plugged_lines(view)).isprintable()
    return {row["port"].removeprefix(PORT): row for row in view["plugged"]}


def verdict(row: dict[str, Any]) -> tuple[str, str]:
    assert row["state"]["zh"]
    assert bool(row["why"]["zh"]) == bool(row["why"]["en"])
    assert bool(row["do"]["zh"]) == bool(row["do"]["en"])
    return row["state"]["name"], row["why"]["en"]


def remembered(device: Plugged) -> Plugged:
    remember(device.folder)
    return device


def marked(disk: Path, loop: str) -> Path:
    """A disk as the rules leave it; the kernel knows it by its number, this folder has to be told."""
    remember(disk)
    return write(disk, ro=int(is_read_only(loop)))


def scene_verdicts(folder: Path, *disks: str) -> None:
    """For each thing in a port: what the station makes of it, and the true reason."""
    config = config_with(folder, NAMED)
    plug("1", kind="09")
    recorder = remembered(plug("1.1", STORAGE, speed="5000"))
    marked(recorder.disk(disks[0], "sdb"), disks[0])
    reader = remembered(plug("1.2", STORAGE))
    empty = reader.disk(disks[1], "sdc")
    write(empty, size="0")
    remember(empty)
    remembered(plug("2", STORAGE, KEYBOARD))
    remembered(plug("3", MTP))
    remembered(plug("4", FTDI)).node("tty", "ttyUSB0")
    remembered(plug("5", PTP))
    outside = remembered(plug("7", STORAGE))
    remember(outside.disk(disks[2], "sdd"))
    remembered(plug("8", KEYBOARD))
    plug("9", STORAGE)
    rows = told_of(config)
    found = {port: verdict(row) for port, row in rows.items()}
    assert found == {
        "1.1": ("waits", "it is pulled as soon as the service runs"),
        "1.2": ("not_ready", "there is no medium in it"),
        "2": ("refused", "a keyboard or a mouse is in it: it was switched off"),
        "3": ("refused", "it doesn't show itself as a USB disk: nothing can be pulled from it"),
        "4": ("refused", "it doesn't show itself as a USB disk: nothing can be pulled from it"),
        "5": ("waits", "it is pulled as soon as the service runs"),
        "7": ("left_alone", "its port is no slot of slots.toml"),
        "8": ("left_alone", "its port is no slot of slots.toml"),
        "": ("not_ready", "udev has not dealt with it"),
    }, found
    assert [row["slot"] for row in rows.values()] == ["一 .1", "5", "2", "3", "4", "", "一 .2", "", ""], "docked first"
    first = rows["1.1"]
    assert [one["driver"] for one in rows["5"]["docked"]] == ["mtp"]
    assert (first["link_mbit_s"], first["docked"][0]["driver"], first["nodes"][1]["is_read_only"]) == (
        5000, "mass_storage", True,
    )  # fmt: skip
    assert [one["zh"] for one in rows["2"]["functions"]] == ["U盘", "键盘或鼠标"]
    assert [node["subsystem"] for node in rows["4"]["nodes"]] == ["usb", "tty"]
    assert rows["4"]["line"]["en"] == "serial line: no profile for 2bdf:0280 in recorders/"
    assert rows["2"]["line"] is None
    (profile,) = (ROOT / "config/recorders").glob("*.toml")
    ours = re.sub('usb = "[0-9a-f:]+"', 'usb = "2bdf:0280"', profile.read_text("utf-8"))
    write(config.path.parent / "recorders", **{profile.name: ours})
    spoken = told_of(load(config.path))
    assert spoken["4"]["line"]["profile"] == profile.stem
    assert "no named slot" in spoken["7"]["line"]["en"]
    for name in ("一 .1", f"{PORT}1.1", "/dev/sdb", recorder.folder.name):
        assert wanted(list(rows.values()), name) == [first]
    assert len(wanted(list(rows.values()), "058F63666485")) == 8, "clones have one serial number: all are told"


def scene_reasons(folder: Path, *disks: str) -> None:
    """Those that depend on what was before: mounted, a port named later, rules not in force, the station's own."""
    config = config_with(folder, "")
    for port, rule in (("1", "own"), ("2", "")):
        text = f'SUBSYSTEM=="usb|block", ENV{{ID_PATH}}=="{PORT}1*", ENV{{CAPTURE_AGENT}}="own"\n' if rule else ""
        write(RULES, **{"61-capture-agent.rules": text})
        remember(remembered(plug(port, STORAGE)).disk(disks[int(port) - 1], f"sd{port}"))
    place = Path("/run/mounted")
    place.mkdir()
    tool("mkfs.ext4", "-q", "-O", "^has_journal", disks[2])
    mounted = remembered(plug("3", STORAGE)).disk(disks[2], "sd3")
    tool("mount", "-o", "ro", disks[2], place)
    remember(mounted)
    remembered(plug("4", KEYBOARD))
    (RULES / "62-capture-agent.rules").rename("/run/62")
    remember(remembered(plug("5", STORAGE)).disk(disks[3], "sd5"))
    Path("/run/62").rename(RULES / "62-capture-agent.rules")
    rows = told_of(config)
    tool("umount", place)
    found = {port: verdict(row) for port, row in rows.items()}
    assert found == {
        "1": ("left_alone", "a local rule (61) says that it is this station's own"),
        "2": ("waits", "it is pulled as soon as the service runs"),
        "3": ("refused", "this computer had it mounted when it appeared"),
        "4": ("left_alone", "it has neither a disk nor a camera: no recorder"),
        "5": ("refused", "our udev rules said nothing of it"),
    }, found
    plug("6", STORAGE)
    off = dataclasses.replace(config, dock=dataclasses.replace(config.dock, usb=False))
    assert {verdict(row) for row in told_of(off).values()} == {("left_alone", "dock.usb is switched off")}
    slots(f'[slots]\n"{PORT}9" = "9"\n')
    remembered(plug("7", STORAGE))
    late = told_of(config_with(folder, f'"{PORT}7" = "七"\n'))["7"]
    assert verdict(late) == ("refused", "it was plugged in before its port became slot 七")


def scene_identity(folder: Path, *disks: str) -> None:
    """What udev knows, the rule it met, and a line that really lets in what was refused."""
    config = config_with(folder, "")
    refused = plug("2", STORAGE, KEYBOARD, ACM, DATA)
    remember(refused.folder)
    marked(remembered(plug("1", STORAGE, serial='A"B*\x1b[2J')).disk(disks[0], "sdb"), disks[0])
    hostile, ours = (identified(config, f"{PORT}{port}") for port in ("1", "2"))
    assert ours["known"][""]["CAPTURE_AGENT"] == "refused-input"
    assert any("keyboard" in rule and ":030101:" in rule for rule in ours["rules"])
    assert not [name for known in ours["known"].values() for name in known if "SEAT" in name or "NET" in name]
    assert ours["lines"]["slots.toml"] == f'[slots]\n"{PORT}2" = "1"'
    write(RULES, **{"61-capture-agent.rules": ours["lines"]["/etc/udev/rules.d/61-capture-agent.rules"]})
    (refused.folder / "authorized").write_text("1\n")
    found = run(refused.folder)
    assert (found["CAPTURE_AGENT"], (refused.folder / "authorized").read_text()) == ("dock", "1\n")
    offered = json.dumps(hostile["lines"])
    assert "A" not in json.dumps(hostile["lines"].get("inventory.toml", "").split("serial")[1:]), offered
    assert "61-capture" not in offered, "nothing that could mean something else in a rule is offered"
    assert any("/dev/sdb CAPTURE_AGENT=dock, read-only" in rule for rule in hostile["rules"])


def identified(config: Config, which: str) -> dict[str, Any]:
    told: dict[str, Any] = plugged_unserved(config)
    (row,) = wanted(plugged_view(config, told)["plugged"], which)
    (one,) = (one for one in told["usb"] if one["name"] == row["name"])
    return identity(config, row, one)


SCENES = {"verdicts": scene_verdicts, "reasons": scene_reasons, "identity": scene_identity}


def main(scene: str) -> None:
    """Take a private world, then play the scene."""
    assert Path("/proc/self/mountinfo").read_text().count(" shared:") == 0, "run by unshare --mount --net"
    with tempfile.TemporaryDirectory() as folder, loops(Path(folder), 4) as disks:
        private_world(disks)
        SCENES[scene](Path(folder), *disks)


if __name__ == "__main__":
    main(sys.argv[1])
