"""Serial lines at USB, with the packaged service: a recorder that is switched to a disk, the lamp of a room."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulator.content import Noise
from simulator.serial_recorder import SerialRecorder
from tests.cards import image
from tests.machine.machine import Machine
from tests.relay_board import Wire, boards
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


ROOM = """\
[room.hearing]
planned_h = 0.1
bitrate_kbit_s = 400
lamp = "modbus:/dev/ttyUSB0?unit=2&coil=1"
[room.hearing.source.front]
url = "rtsp://127.0.0.1:9/nobody"
"""
LAMP_DROP_IN = """\
[Unit]
Wants=modprobe@ftdi_sio.service modprobe@usbserial.service
After=modprobe@ftdi_sio.service modprobe@usbserial.service
[Service]
SupplementaryGroups=input dialout
DeviceAllow=char-ttyUSB rw
"""
WHO = "--who 张三 --why 听证"


@contextmanager
def wired() -> Iterator[tuple[Wire, Callable[[bool], None]]]:
    """Relay boards whose lamp is lit, and how to wait until it is as it should be."""
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[Wire] = []

    async def serve() -> None:
        async with boards() as wire:
            await wire.switch(1, is_lit=True, unit=2)
            found.append(wire)
            ready.set()
            await ended.wait()

    def until(is_lit: bool) -> None:
        end = time.monotonic() + 240
        while asyncio.run_coroutine_threadsafe(found[0].lit(1, 2), loop).result(60) is not is_lit:
            assert time.monotonic() < end, found[0].said[-9:]
            time.sleep(0.1)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield found[0], until
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture
def lamp() -> Iterator[tuple[Wire, Callable[[bool], None]]]:
    """Outlives the machine, as the recorder does."""
    with wired() as found:
        yield found


def test_the_lamp_of_a_room_shows_over_usb_what_is_recorded(
    lamp: tuple[Wire, Callable[[bool], None]], machine: Machine
) -> None:
    """The packaged service in its own sandbox; a camera that nobody answers for is a session that blinks."""
    wire, until = lamp
    machine.guest.write("/etc/capture-agent/rooms.toml", ROOM)
    machine.run("mkdir -p /etc/systemd/system/capture-agent.service.d")
    machine.guest.write("/etc/systemd/system/capture-agent.service.d/lamp.conf", LAMP_DROP_IN)
    machine.run("systemctl daemon-reload; systemctl restart capture-agent", 300)
    machine.until_status(lambda status: "录制指示灯不受控（串口无法打开）" in json.dumps(status, ensure_ascii=False))
    machine.usb.serial(wire.node, port="5")
    until(False)
    machine.until_status(lambda status: "指示灯" not in json.dumps(status, ensure_ascii=False))
    machine.run(f"runuser -u capture-agent -- capture-agent room start hearing {WHO}", 120)
    for is_lit in (True, False, True):
        until(is_lit)
    machine.run("systemctl stop capture-agent", 120)
    until(False)
    machine.run("systemctl start capture-agent", 300)  # the session goes on
    until(True)
    machine.run(f"runuser -u capture-agent -- capture-agent room stop hearing {WHO}", 120)
    until(False)
    asked = len(wire.said)
    time.sleep(10)
    assert {request[1] for request in wire.said[asked:]} == {1}, "it is asked, and not switched"
