"""Promise: in a real machine the station says who keeps its clock, and a clock that is set by days stops nothing."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from simulator.content import Noise
from tests.cards import MIB, image
from tests.machine.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

DAY_S = 86400
# A time server that is a day ahead, whatever this machine's own clock is set to (RFC 4330).
SERVER = f"""
import socket, struct, time
base = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + {DAY_S} + 2208988800
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as served:
    served.bind(("127.0.0.1", 123))
    while True:
        asked, peer = served.recvfrom(512)
        now = struct.pack(">Q", int((base + time.clock_gettime(time.CLOCK_BOOTTIME)) * 2**32))
        served.sendto(struct.pack(">BBbbII4s", 0x24, 1, 6, -20, 0, 0, b"TEST") + now + asked[40:48] + now + now, peer)
"""


def stepped(machine: Machine, by_s: int) -> None:
    """Wait until the station has noticed that its clock was set by so much."""

    def seen(status: dict[str, Any]) -> bool:
        step = status["clock"]["stepped"]
        return step is not None and abs(step["seconds"] - by_s) < 60

    machine.until_status(seen)


def pulled(machine: Machine, folder: Path, seed: int) -> str:
    """Dock a recorder with one clip, wait until it is stored, and pull it out; SHA-256 of the clip."""
    clip = Noise(MIB + seed, seed)
    stick = machine.usb.disk(image(folder / f"card{seed}", {"DCIM/0001.MP4": clip}, "fat32"), f"REC-{seed}")
    machine.until_status(lambda status: [slot["may_remove"] for slot in status["slots"]] == [True])
    machine.until_status(lambda status: status["counters"]["assets"]["stored"]["files"] == seed)
    machine.usb.yank(stick)
    machine.until_status(lambda status: status["slots"] == [])
    return hashlib.sha256(clip.read()).hexdigest()


def test_a_clock_that_is_set_by_days_stops_nothing(machine: Machine, tmp_path: Path) -> None:
    """From the unit's own sandbox: timedated and the hardware clock can be asked, and timesyncd's step is seen."""
    assert machine.until_status(lambda status: status["clock"]["synced"] is False)["clock"]["rtc_ahead_s"] is not None
    begun_s = float(machine.run("date +%s"))
    machine.guest.write("/srv/server.py", SERVER)
    machine.guest.write("/etc/systemd/timesyncd.conf.d/test.conf", "[Time]\nNTP=127.0.0.1\n")
    machine.run("systemd-run --unit=time-server /usr/bin/python3 /srv/server.py")
    machine.run("systemctl restart systemd-timesyncd")
    stepped(machine, DAY_S)
    known = machine.until_status(lambda status: status["clock"]["synced"])["clock"]
    assert known["by"] == "systemd-timesyncd"
    made = [pulled(machine, tmp_path, 1)]

    machine.run("systemctl stop systemd-timesyncd time-server; date -s '-1 day'")
    stepped(machine, -DAY_S)
    assert not machine.until_status(lambda status: not status["clock"]["synced"])["clock"]["by"]

    # Not the first day: the kernel refuses a time at which the machine would have been started before 1970.
    machine.run("date -s '1970-01-02 08:01:00'")
    machine.until_status(lambda status: (status["clock"]["stepped"] or {}).get("seconds", 0) < -DAY_S * 365)
    machine.run("systemctl restart capture-agent", 120)
    machine.until_status(lambda status: status["clock"]["synced"] is False and not status["clock"]["stepped"])
    made.append(pulled(machine, tmp_path, 2))

    machine.run(f"date -s @{begun_s + 600}")
    machine.until_status(lambda status: (status["clock"]["stepped"] or {}).get("seconds", 0) > DAY_S * 365)
    assert not machine.status()["clock"]["behind"]
    assert machine.run("systemctl show -P NRestarts capture-agent").strip() == "0"
    machine.power_off()
    assert sorted(machine.stored().values()) == sorted(machine.vaulted().values()) == sorted(made)
