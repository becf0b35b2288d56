"""A recorder at a USB serial line: spoken to by the packaged service, switched, docked as the disk it becomes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.content import Noise
from simulator.serial_recorder import SerialRecorder
from tests.cards import image
from tests.machine.machine import Machine
from tests.vm_usb import dock, pulled

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

PROFILE = "/etc/capture-agent/recorders/gat947-simulated.toml"
CREDENTIAL = "/etc/credstore/capture-agent.recorder-simulated"
DROP_IN = """\
[Unit]
Wants=modprobe@ftdi_sio.service modprobe@usbserial.service
After=modprobe@ftdi_sio.service modprobe@usbserial.service
[Service]
LoadCredential=capture-agent.recorder-simulated
DeviceAllow=char-ttyUSB rw
"""
AHEAD_S = 754.0
PASSWORD = "xyzzy7"


@pytest.fixture
def recorder() -> Iterator[SerialRecorder]:
    """Outlives the machine, which is hung up on (SIGHUP) when its line ends."""
    with SerialRecorder(ahead_s=AHEAD_S, password=PASSWORD) as recorder:
        yield recorder


def test_a_recorder_is_spoken_to_over_usb_switched_and_pulled_with_its_clock_compared(
    recorder: SerialRecorder, machine: Machine, tmp_path: Path
) -> None:
    """QEMU's FTDI adapter, with the simulated recorder at its other end; the service in its own sandbox."""
    machine.run(f"sed -i 's/1d6b:0947/0403:6001/' {PROFILE}; install -d -m 700 /etc/credstore")
    machine.guest.write(CREDENTIAL, f"{PASSWORD}\n")
    machine.run(f"chmod 400 {CREDENTIAL}; mkdir -p /etc/systemd/system/capture-agent.service.d")
    machine.guest.write("/etc/systemd/system/capture-agent.service.d/serial.conf", DROP_IN)
    machine.run("systemctl daemon-reload; systemctl restart capture-agent", 300)
    dock(machine, port3="3")
    ahead_s = AHEAD_S + time.time() - float(machine.run("date +%s.%N"))
    line = machine.usb.serial(recorder.node, port="3", number="SN-1")
    end = time.monotonic() + 240
    while not recorder.is_disk:
        assert time.monotonic() < end, (recorder.heard, machine.run("journalctl -b -q -u capture-agent | tail -20"))
        time.sleep(0.2)
    machine.usb.yank(line)
    machine.usb.disk(image(tmp_path / "card", {"DCIM/0001.MP4": Noise(300_000, 1)}), "SN-1", port="3")
    machine.until_status(pulled("3"))
    assert recorder.heard[:2] == ["INIT", f"PASS {PASSWORD}"]
    events = machine.run("runuser -u capture-agent -- sqlite3 -readonly /var/lib/capture-agent/journal.db"
                         " \"SELECT detail FROM event WHERE kind = 'observed'\"")  # fmt: skip
    found = [json.loads(line)["finding"]["detail"] for line in events.splitlines() if '"line"' in line]
    assert len(found) == 1, (events, machine.journal())
    (said,) = found
    assert said["told"]["device_no"] == "0000217"
    assert abs(said["offset_ms"] - ahead_s * 1000) <= said["uncertainty_ms"] + 3000, "the guest was asked meanwhile"
    assert PASSWORD not in machine.run("journalctl -b -q")
