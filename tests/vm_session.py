"""A whole session of a room whose station loses its power: what was recorded is there once, and each cut is told.

The installed package records two cameras under systemd, with docs/rooms.md's drop-in and a password from a credential.
The cameras are outside and go on meanwhile, so it is known what they showed.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.journal import Reader, verify
from agent.journal.views import SessionView
from agent.model import AssetState
from simulator.cameras.camera import PASSWORD, USER, Cameras
from simulator.cameras.footage import Footage
from simulator.cameras.frames import Known, Matched
from tests.machine import drives
from tests.machine.image import Image
from tests.machine.machine import BOOT_LIMIT_S, STATUS, Machine, computer
from tests.machine.qemu import Hardware
from tests.test_power_cut import RATE, Onlooker
from tests.vm_rooms import HOST, NETWORK

pytestmark = [pytest.mark.root, pytest.mark.timeout(7200)]

SEED = int(os.environ.get("CAPTURE_AGENT_VM_SEED", "20261123"))
REPORT = os.environ.get("CAPTURE_AGENT_VM_REPORT", "")
CUTS, CUTS_LONG = 4, 15
SURVIVAL = 0.5
BOOT_S, STARTING_S, RECORDING_S = 25.0, 4.0, 9.0
"""How long at most after power on, after the service's first answer, after both cameras are recorded, power fails."""

SHORT_S = 2.0
"""What a camera showed and an emulated machine hasn't got to yet is no loss; what it said to have recorded would be."""

LIMIT_S = 900.0

DOCS = Path(__file__).resolve().parents[1] / "docs" / "rooms.md"
ROOMS = STATUS.replace("status", "rooms")
AGENT = "runuser -u capture-agent -- capture-agent"
DROP_IN = "/etc/systemd/system/capture-agent.service.d/rooms.conf"
STOP = f"{AGENT} room stop hearing --who 李四 --why 听证结束"
CREDENTIAL = "/etc/credstore/capture-agent.camera-hearing"
ROOM = """
[room.hearing]
title = "第一听证室"
segment_s = 4
planned_h = 0.5
bitrate_kbit_s = 400
source.front = { title = "前方", url = "rtsp://PLACE/front", credential = "hearing" }
source.side = { title = "侧面", url = "rtsp://PLACE/side", credential = "hearing" }
"""
CABLE = """
[Unit]
DefaultDependencies=no
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip link set eth1 up && ip addr add 10.0.9.15/24 dev eth1'
[Install]
WantedBy=multi-user.target
"""


@dataclass(slots=True)
class Story:
    """What was seen at each cut; written to the file that CAPTURE_AGENT_VM_REPORT names."""

    seed: int = SEED
    moments: list[str] = field(default_factory=list)
    short_s: dict[str, list[float]] = field(default_factory=lambda: {"front": [], "side": []})
    behind_s: dict[str, list[float]] = field(default_factory=lambda: {"front": [], "side": []})
    load: list[float] = field(default_factory=list)
    pieces: list[tuple[int, int]] = field(default_factory=list)
    told: dict[str, object] = field(default_factory=dict)

    def tell(self) -> None:
        if REPORT:
            fields = {name: getattr(self, name) for name in self.__slots__}
            Path(REPORT).write_text(json.dumps(fields, indent=1, default=str))


@dataclass(slots=True)
class Left:
    """What the disks of a machine that is off have of a session."""

    view: SessionView
    states: dict[str, AssetState]
    found: dict[str, Matched]


@dataclass(slots=True)
class Hearing:
    """A room with two cameras, the machine that records it, and somebody else who looks at the cameras."""

    machine: Machine
    server: Cameras
    known: Mapping[str, Known]
    onlookers: Mapping[str, Onlooker]
    story: Story = field(default_factory=Story)
    seen: dict[str, set[int]] = field(default_factory=dict)

    def until_ended(self, reason: str) -> None:
        """Wait until the command line tells that the latest session has ended, and why."""
        end = time.monotonic() + LIMIT_S
        while not (newest := self._sessions()[0])["ended_at"]:
            assert time.monotonic() < end, newest
        assert newest["reason"]["name"] == reason

    def _sessions(self) -> list[dict[str, Any]]:
        told: dict[str, list[dict[str, Any]]] = json.loads(
            self.machine.run(f"{AGENT} room show hearing --json", LIMIT_S)
        )
        return told["sessions"]

    def recorded_s(self) -> dict[str, int]:
        """For how long each camera is recorded since the boot, as the page of the room says; 0 for one that is lost."""
        (room,) = json.loads(self.machine.until(ROOMS, LIMIT_S))["rooms"]
        return {one["source"]: one["media_s"] * (one["light"]["name"] == "recording") for one in room["sources"]}

    def until_recording(self, least_s: int = 1) -> None:
        """Wait until both cameras are."""
        end = time.monotonic() + LIMIT_S
        while min((said := self.recorded_s()).values()) < least_s:
            assert time.monotonic() < end, said

    def cut(self, chance: random.Random) -> dict[str, int]:
        """The power fails; half of what was never flushed is lost. What the cameras showed last."""
        shown = {name: onlooker.number for name, onlooker in self.onlookers.items()}
        self.story.load.append(os.getloadavg()[0])
        self.story.pieces.append(self.machine.power_cut(chance, SURVIVAL))
        return shown

    def left(self) -> Left:
        """Read the disks from outside: all that was there at the last time still is, each picture once, and plays."""
        machine, station_disk = self.machine, self.machine.station
        with (
            drives.files(station_disk, machine.folder) as station,
            drives.files(machine.evidence, machine.folder) as evidence,
            closing(Reader(checked(station / "journal.db"))) as reader,
        ):
            stored = [path.name for path, _ in drives.named(evidence / "originals")]
            vaulted = [path.name for path, _ in drives.named(station / "vault")]
            assert len(stored) == len(set(stored))
            assert len(vaulted) == len(set(vaulted))
            noted = {note.settled.digests.blake3 for note in reader.settled()}  # has its name, and isn't committed yet
            for digest in {*stored, *vaulted} - noted:
                assert reader.assets_with([digest]), "bytes that the journal doesn't know"
            assert not noted & set(stored)
            view = reader.session(reader.sessions_of("hearing", 1)[0].started.session_id)
            assets = {one.asset.asset_id: reader.asset(one.asset.asset_id) for one in view.segments}
            for asset in assets.values():
                assert asset.state is not AssetState.STORED or (asset.digests and asset.digests.blake3 in stored)
            digests = [asset.digests.blake3 for asset in assets.values() if asset.digests]
            assert len(digests) == len(set(digests))
            found = {name: self._matched(name, view, reader, station) for name in self.known}
        return Left(view, {name: asset.state for name, asset in assets.items()}, found)

    def _matched(self, source: str, view: SessionView, reader: Reader, station: Path) -> Matched:
        folder = station / "rooms" / view.started.session_id
        noted = {note.settled.asset_id: note.settled.digests for note in reader.settled()}
        files = {path.name: path for path in folder.glob(f"{source}-*.m*") if path.stat().st_size}
        for one in (one for one in view.segments if one.source == source):
            asset = reader.asset(one.asset.asset_id)
            places = [station / "staging" / f"{asset.asset_id}.part"]
            if digests := asset.digests or noted.get(asset.asset_id):
                places.insert(0, station / "vault" / digests.blake3[:2] / digests.blake3)
            here = [path for path in places if path.exists()]
            assert here or one.file in files, f"the bytes of {one.file} are nowhere"
            assert not (here and one.file in files), f"the bytes of {one.file} are there twice"
            files[one.file] = here[0] if here else files[one.file]
        found = self.known[source].match([files[name] for name in sorted(files)])
        assert (found.repeated, found.foreign_sound) == (0, 0)
        assert len(found.damaged) + len(found.unreadable) <= self.machine.boots, "more than what was begun at each cut"
        return found

    def check(self, left: Left, shown: Mapping[str, int], said_s: Mapping[str, int]) -> None:
        """Nothing that was there is gone. Tell what lacks of what was said to be recorded, and of what was shown."""
        for source, found in left.found.items():
            key = f"{left.view.started.session_id} {source}"
            new = set(found.pictures) - self.seen.get(key, set())
            assert self.seen.get(key, set()) <= set(found.pictures)
            self.seen[key] = set(found.pictures)
            if source in said_s:
                self.story.short_s[source].append(round(said_s[source] - len(new) / RATE, 2))
                self.story.behind_s[source].append(round((shown[source] - found.pictures[-1]) / RATE, 2))
        self.story.tell()

    def slack(self) -> timedelta:
        """How far its times may be off: its clock is set to whole seconds, and it may be behind its cameras."""
        return timedelta(seconds=2 + 2 * max(itertools.chain(*self.story.behind_s.values())))

    def shown_at(self, number: float) -> datetime:
        """When a camera showed that picture."""
        return datetime.fromtimestamp(time.time() - time.monotonic() + self.server.began + number / RATE, UTC)


def checked(journal: Path) -> Path:
    """A journal whose chain of events is whole."""
    assert verify(journal).consistent
    return journal


@contextmanager
def hearing(machine: Machine, server: Cameras, packs: Mapping[str, Path]) -> Iterator[Hearing]:
    onlookers: dict[str, Onlooker] = {}
    try:
        for name in packs:
            onlookers[name] = Onlooker(server.url(name))
        yield Hearing(machine, server, {name: Known(pack) for name, pack in packs.items()}, onlookers)
    finally:
        for onlooker in onlookers.values():
            onlooker.end()


def doctor(machine: Machine) -> list[str]:
    """What the doctor says of the room's cameras, with the grade of each."""
    told = machine.call("capture-agent doctor --only rooms --json", LIMIT_S).output
    disk, *found = json.loads(told)["findings"]
    assert disk["grade"] == "good"
    return [f"{one['grade']}: {one['zh'].partition('：')[2]}" for one in found]


def what_a_test_found(machine: Machine) -> dict[str, str]:
    """What a readiness test has against the room, by check; nobody keeps the clock of this machine right."""
    told = json.loads(machine.call(f"{AGENT} room test hearing --json", LIMIT_S).output)["checks"]
    return {one["name"]: one["told"] for one in told if one["name"] != "clock"}


def wire(machine: Machine, port: int) -> None:
    """Connect the cameras' network, and name the room."""
    machine.guest.write("/etc/systemd/system/machine-cameras.service", CABLE)
    machine.run("systemctl enable -q --now machine-cameras")
    machine.guest.write("/etc/capture-agent/rooms.toml", ROOM.replace("PLACE", f"{HOST}:{port}"))


def allow(machine: Machine) -> None:
    """The drop-in of docs/rooms.md, for the network of these cameras."""
    blocks = re.findall(r"```ini\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    (drop_in,) = (text for text in blocks if "LoadCredential" in text)
    machine.guest.write(DROP_IN, drop_in.replace("10.1.2.0", "10.0.9.0"))
    machine.run("systemctl daemon-reload")


def give_password(machine: Machine) -> None:
    machine.run(f"install -d -m 700 /etc/credstore; (umask 077; cat >{CREDENTIAL}) <<<'{USER}:{PASSWORD}'")


def test_the_doctor_tells_what_a_camera_lacks_and_the_room_is_tested_in_the_sandbox(
    machine_image: Image, tmp_path: Path, pack: Callable[..., Path], cameras: Callable[..., Cameras]
) -> None:
    """Whoever asks beside the service reaches the cameras from the start; the service must be let."""
    server = cameras({"front": pack(), "side": pack(Footage(audio="pcm_alaw"))})
    with computer(machine_image, tmp_path, hardware=Hardware(arguments=NETWORK)) as machine:
        machine.power_on()
        wire(machine, server.port)
        assert set(doctor(machine)) == {"bad: 服务不得访问该地址"}
        allow(machine)
        machine.run("systemctl restart capture-agent", LIMIT_S)
        assert set(doctor(machine)) == {"bad: 服务没有可用的摄像机密码"}
        give_password(machine)
        machine.run("systemctl restart capture-agent", LIMIT_S)
        assert set(doctor(machine)) == {"good: 有应答"}
        end = time.monotonic() + LIMIT_S
        while any((told := what_a_test_found(machine)).values()):  # a busy computer may be too slow at first
            assert time.monotonic() < end, told


def work(here: Hearing, chance: random.Random) -> dict[str, int]:
    """Power on, and let it work up to a random moment; what it said to have recorded then, if it did."""
    machine, goal = here.machine, chance.choice(("booting", "starting", "recording", "recording"))
    if machine.boots < 2:
        goal = "recording"
    if machine.qemu is None:
        machine.power_on(wait=False)
    pause_s = chance.uniform(0, {"booting": BOOT_S, "starting": STARTING_S, "recording": RECORDING_S}[goal])
    if goal != "booting":
        machine.guest.wait(BOOT_LIMIT_S)
        machine.until(ROOMS, LIMIT_S)
    if goal == "recording":
        here.until_recording()
    time.sleep(pause_s)
    here.story.moments.append(f"{goal} +{pause_s:.1f} s")
    return here.recorded_s() if goal == "recording" else {}


def holes(found: Matched) -> list[tuple[int, int]]:
    """Last picture before and first one after each time in which more is missing than a second."""
    return [(a, b) for a, b in itertools.pairwise(found.pictures) if b - a > RATE]


def assert_told(here: Hearing, left: Left) -> None:
    """Each hole is a gap of the ledger, as long as that, with its cause; there are no others."""
    assert left.view.ended
    ended_at = left.view.ended.ended_at
    for source, found in left.found.items():
        gaps = [note for note in left.view.notes if note.source == source and note.kind == "gap"]
        told = [(note.start, note.end) for note in gaps if note.end and note.end - note.start > timedelta(seconds=1)]
        missing = [(here.shown_at(a + 1), here.shown_at(b)) for a, b in holes(found)]
        if told and told[-1][1] == ended_at:  # nothing came any more
            missing.append((here.shown_at(found.pictures[-1] + 1), ended_at))
        here.story.told[f"{left.view.started.session_id} {source}"] = {"ledger": told, "missing": missing}
        here.story.tell()
        assert {note.cause for note in gaps} == {"recorder"}
        assert {note.detail.get("service") for note in gaps} == {"it was not running"}
        assert len(told) == len(missing)  # one that fails while the machine starts makes a gap longer
        for (start, end), (last, first) in zip(told, missing, strict=True):
            assert abs(start - last) <= here.slack()
            assert abs(end - first) <= here.slack()


def settled(here: Hearing) -> Left:
    """Wait until all is stored, and proved; then switch off and look from outside."""
    here.machine.until(f"{AGENT} unstored", LIMIT_S)
    here.machine.run(f"{AGENT} verify", LIMIT_S)
    here.machine.power_off()
    left = here.left()
    here.check(left, {}, {})
    assert set(left.states.values()) == {AssetState.STORED}
    assert [note for note in left.view.notes if note.end is None] == []
    return left


def test_a_session_outlives_power_cuts(
    machine_image: Image, tmp_path: Path, pack: Callable[..., Path], cameras: Callable[..., Cameras], is_long: bool
) -> None:
    chance = random.Random(SEED)
    packs = {"front": pack(), "side": pack(Footage(audio="pcm_alaw", size="352x288"))}
    server = cameras(packs)
    with (
        computer(machine_image, tmp_path, lossy=True, hardware=Hardware(arguments=NETWORK)) as machine,
        hearing(machine, server, packs) as here,
    ):
        machine.power_on()
        wire(machine, server.port)
        allow(machine)
        give_password(machine)
        machine.configure({"access.enabled": "false"})  # films would take minutes here
        machine.run("sync")
        machine.run(f"{AGENT} room start hearing --who 张三 --why 听证 --until +60", LIMIT_S)
        for _ in range(CUTS_LONG if is_long else CUTS):
            said_s = work(here, chance)
            shown = here.cut(chance)
            here.check(here.left(), shown, said_s)
        machine.power_on()
        here.until_recording(6)
        machine.run(f"systemd-run -q {STOP}")
        time.sleep(chance.uniform(0, STARTING_S))
        shown = here.cut(chance)
        here.check(here.left(), shown, {})
        machine.power_on()
        machine.call(STOP, LIMIT_S)  # power may have failed before anybody heard of it
        here.until_ended("stopped")
        left = settled(here)
        assert_told(here, left)
        interrupted(here, chance)
    assert max(itertools.chain(*here.story.short_s.values())) <= SHORT_S, here.story.short_s


def interrupted(here: Hearing, chance: random.Random) -> None:
    """Without a planned end it doesn't go on if power stays away: it is closed in words, and kept as far as it came."""
    machine = here.machine
    machine.power_on()
    machine.run(f"{AGENT} room start hearing --who 张三 --why 询问", LIMIT_S)
    here.until_recording(6)
    said_s = here.recorded_s()
    shown = here.cut(chance)
    here.check(here.left(), shown, said_s)
    later = datetime.now(UTC) + timedelta(minutes=10)
    machine.hardware = replace(machine.hardware, rtc=f"{later:%Y-%m-%dT%H:%M:%S}")
    machine.power_on()
    machine.until_status(lambda status: "中断，未继续" in json.dumps(status, ensure_ascii=False), LIMIT_S)
    here.until_ended("interrupted")
    left = settled(here)
    assert left.view.ended
    last = max(found.pictures[-1] for found in left.found.values())
    assert abs(left.view.ended.ended_at - here.shown_at(last)) <= here.slack()
