"""Rooms in a real machine: cameras and microphones of Linux's own drivers, and power cuts while a room records.

`vivid` and `snd-aloop` are test devices of Debian's kernel: V4L2 and ALSA are real, cables and optics aren't there.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pytest

from agent.rooms.noticing import FLOOR_DB
from agent.rooms.protocol import Plan, SourcePlan
from agent.rooms.wire import packed
from simulator.cameras.camera import Cameras
from simulator.cameras.frames import Known, expect
from tests.disks import loop, mounted
from tests.machine.image import Image
from tests.machine.machine import STATION, Machine, computer
from tests.machine.qemu import Hardware
from tests.test_power_cut import RATE, Onlooker

pytestmark = [pytest.mark.root, pytest.mark.timeout(5400)]

START = "from agent.rooms.recorder import main; raise SystemExit(main([]))"
NOT_ITS = "/^(Exec|Type|NotifyAccess|Watchdog|Restart|OnFailure|Wants=capture|After=capture)/d; /^.Install/,$d"
"""What the service's unit says of itself, and not of its sandbox."""

UNIT = "/run/systemd/system/recorder.service"
PYTHON = "/usr/lib/capture-agent/bin/python3"
DROP_IN = f"""
Type=exec
ExecStart=/bin/bash -c 'exec 3<>/run/orders; cat /run/plan >&3; exec {PYTHON} -I /run/recorder.py <&3'
StandardOutput=truncate:/run/said
StandardError=journal
Environment=ALSA_CONFIG_PATH=/usr/share/alsa/alsa.conf
IPAddressAllow=10.0.9.0/24
SupplementaryGroups=video audio
DeviceAllow=char-video4linux rw
DeviceAllow=char-alsa rw
"""
FOLDER = "/var/lib/capture-agent/rooms/session"
CAMERA = "v4l2:/dev/video0?video_size=320x180&framerate=15"
MICROPHONE = "alsa:hw:Loopback,1,0?channels=2&sample_rate=48000"
TONE = "ffmpeg -nostdin -loglevel error -re -f lavfi -i sine=f=1000:r=48000 -ac 2 -f alsa hw:Loopback,0,0"
TONE_DB = -24
"""A sine of an eighth, on two channels."""

CUTS, CUTS_LONG = 3, 12
LIMIT_S = 300.0
HOLE_STEPS = 20
HOST = "10.0.9.2"
NETWORK = (
    "-netdev", f"user,id=cameras,ipv6=off,net=10.0.9.0/24,host={HOST}",
    "-device", "virtio-net-pci,netdev=cameras,romfile=",
)  # fmt: skip


class Recorder:
    """The recorder process of the package, in the service's own sandbox with docs/rooms.md's drop-in; what it says."""

    def __init__(self, machine: Machine, plan: Plan) -> None:
        self.machine = machine
        machine.guest.write("/run/plan", json.dumps(packed(plan)) + "\n")
        machine.guest.write("/run/recorder.py", START)
        machine.guest.write("/run/drop-in", DROP_IN)
        machine.run(
            f"install -d -o capture-agent -g capture-agent {Path(FOLDER).parent} {plan.folder};"
            "rm -f /run/orders; mkfifo /run/orders; chmod a+rw /run/orders /run/plan;"
            f"sed -E '{NOT_ITS}' $(systemctl show -P FragmentPath capture-agent) >{UNIT};"
            f"cat /run/drop-in >>{UNIT}; systemctl daemon-reload; systemctl start recorder",
            LIMIT_S,
        )

    def said(self) -> list[dict[str, Any]]:
        """All reports so far."""
        lines = self.machine.run("cat /run/said").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def until(self, is_it: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """The first report that is as wanted, waited for."""
        found: list[dict[str, Any]] = []

        def look() -> bool:
            found.extend(report for report in self.said() if is_it(report))
            return bool(found)

        _wait(look)
        return found[0]

    def stop(self) -> None:
        """Have it end in order."""
        self.machine.run('echo \'{"is":"Stop"}\' >/run/orders')
        self.machine.until("! systemctl is-active -q recorder", LIMIT_S)


def _wait(is_so: Callable[[], bool]) -> None:
    import time

    end = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < end, "it doesn't happen"
        time.sleep(1.0)


def attached(**options: object) -> Plan:
    sources = (SourcePlan("camera", CAMERA), SourcePlan("microphone", MICROPHONE))
    return Plan("session", FOLDER, sources, (1, 1), segment_s=10.0, **options)  # type: ignore[arg-type]


def test_cameras_and_microphones_of_the_station_are_recorded_unplugged_and_recorded_again(machine: Machine) -> None:
    machine.run("modprobe vivid n_devs=1 node_types=0x1; modprobe snd-aloop; udevadm settle", LIMIT_S)
    recorder = Recorder(machine, attached())
    recorder.until(lambda it: it["is"] == "Noticed" and it["kind"] == "flat" and it["source"] == "microphone")
    machine.run(f"systemd-run -q --unit=tone {TONE}")
    recorder.until(lambda it: it["is"] == "Noticed" and it["kind"] == "flat" and it["end_us"])
    heard = recorder.until(lambda it: it["is"] == "Alive" and abs((it["level_db"] or FLOOR_DB) - TONE_DB) < 2)
    assert heard["source"] == "microphone"
    recorder.until(lambda it: it["is"] == "Alive" and it["still"] == "camera.jpg")
    recorder.until(lambda it: it["is"] == "Closed" and it["source"] == "camera" and it["why"] == "length")
    machine.run("echo vivid.0 >/sys/bus/platform/drivers/vivid/unbind")
    recorder.until(lambda it: it["is"] == "Lost" and it["source"] == "camera")
    machine.run("echo vivid.0 >/sys/bus/platform/drivers/vivid/bind; udevadm settle")
    recorder.until(lambda it: it["is"] == "Back" and it["source"] == "camera")
    recorder.until(lambda it: it["is"] == "Closed" and it["source"] == "camera" and it["number"] >= 3)
    recorder.stop()
    said = recorder.said()
    share = machine.mount_share()
    machine.run(f"cp {FOLDER}/* {share}/", LIMIT_S)
    closed = [it for it in said if it["is"] == "Closed"]
    assert {path.name for path in machine.share.iterdir()} == {it["file"] for it in closed}
    told = [it for it in said if it["is"] == "Noticed"]
    for it in closed:
        codec, pieces, holes = played(machine.share / it["file"])
        assert codec == ("h264" if it["source"] == "camera" else "pcm_s16le")
        assert pieces == (it["frames"] or it["samples"])
        # A busy emulated machine may come too late for its microphone: then that is in the ledger.
        assert not holes or any(one["kind"] == "dropped" and one["source"] == it["source"] for one in told), (
            it,
            holes,
            told,
        )


def played(path: Path) -> tuple[str, int, list[float]]:
    """Codec, packets that decode, and when a packet is missing behind one; time goes on with each."""
    with av.open(str(path)) as container:
        (stream,) = container.streams
        times = []
        for packet in container.demux(stream):
            if packet.dts is not None:
                assert packet.decode(), f"{path.name}: packet {len(times)} says nothing"
                times.append(float(packet.dts * packet.time_base))
    pairs = list(itertools.pairwise(times))
    steps = sorted(b - a for a, b in pairs)
    back = [(a, b) for a, b in pairs if b - a <= 0]
    assert not back, f"{path.name} steps back in its time, of {len(times)} packets at {back}"
    usual = steps[len(steps) // 2] if steps else 0.0
    return stream.codec_context.name, len(times), [a for a, b in pairs if b - a > HOLE_STEPS * usual]


@contextmanager
def onlooking(url: str) -> Iterator[Onlooker]:
    onlooker = Onlooker(url)
    try:
        yield onlooker
    finally:
        onlooker.end()


def test_a_power_cut_takes_a_second_at_most_of_a_room(
    machine_image: Image, tmp_path: Path, pack: Callable[..., Path], cameras: Callable[..., Cameras], is_long: bool
) -> None:
    """The disk loses half of what was never flushed; the camera goes on meanwhile, so it is known what was shown."""
    chance, footage, lost_s = random.Random(20261123), pack(), list[float]()
    server = cameras({"front": footage})
    url = server.url("front")
    source = SourcePlan("cam0", url.replace("127.0.0.1", HOST), watch=False)
    hardware = Hardware(arguments=NETWORK)
    with computer(machine_image, tmp_path, lossy=True, hardware=hardware) as machine, onlooking(url) as onlooker:
        for cut in range(CUTS_LONG if is_long else CUTS):
            machine.power_on()
            machine.run("ip link set eth1 up && ip addr add 10.0.9.15/24 dev eth1")
            plan = Plan("session", f"{FOLDER}-{cut}", (source,), (1,), segment_s=4.0)
            recorder = Recorder(machine, plan)
            recorder.until(lambda it: it["is"] == "Alive" and it["media_us"] > 5_000_000)
            machine.run(f"sleep {chance.uniform(0, 5):.2f}")
            shown = onlooker.number
            machine.power_cut(chance, 0.5)
            lost_s.append(lost(machine, tmp_path, f"session-{cut}", footage, shown))
        machine.power_on()
        machine.run(f"test $(ls -d {FOLDER}-* | wc -l) = {len(lost_s)}")
    report = os.environ.get("CAPTURE_AGENT_VM_REPORT", "")
    if report:
        Path(report).write_text(json.dumps(lost_s))
    assert sorted(lost_s)[len(lost_s) // 2] <= 1.0, f"lost {lost_s} s"
    assert max(lost_s) <= 3.0, f"lost {lost_s} s"  # an emulated machine may be slower than its camera


def lost(machine: Machine, folder: Path, session: str, footage: Path, shown: int) -> float:
    """Seconds from the last picture on the disk of a machine that is off to what the camera showed; the rest plays."""
    disk = folder / f"{STATION}.cut"
    disk.write_bytes(b"")
    from tests.machine.drives import copied

    copied(machine.station, disk)
    left = folder / "left"
    left.mkdir(exist_ok=True)
    with loop(disk) as device, mounted(left, device.path):
        files = sorted((left / "rooms" / session).glob("cam0-*.mp4"))
        known = Known(footage).match(files)
    if known.unreadable == [files[-1].name]:  # begun so shortly before that it has no fragment yet
        known.unreadable.clear()
    expect(known)
    return round((shown - known.pictures[-1]) / RATE, 2)
