"""Promise: the guide to encryption works as it stands: unlocked by the TPM, useless without it, recovered by paper."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from simulator.content import Noise
from tests.cards import MIB, image
from tests.machine.image import Image
from tests.machine.machine import Machine, computer
from tests.machine.qemu import COMMAND_LINE, Hardware

pytestmark = [pytest.mark.root, pytest.mark.timeout(1200)]

GUIDE = Path(__file__).parents[1] / "docs" / "encryption.md"
START_LIMIT_S = 20.0
RECOVERY_KEY = re.compile(r"\b(?:[cbdefghijklnrtuv]{8}-){7}[cbdefghijklnrtuv]{8}\b")


def block(name: str) -> str:
    """A block of commands of the guide; the first error ends it."""
    found = re.search(rf"<!-- commands: {name} -->\n```sh\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return "set -e\n" + found[1]


@contextmanager
def tpm(state: Path, place: Path) -> Iterator[None]:
    """A TPM 2.0 that a machine finds at the socket `place`; it ends when the machine lets go of it."""
    state.mkdir(exist_ok=True)
    place.unlink(missing_ok=True)
    words = ["socket", "--tpm2", "--tpmstate", f"dir={state}", "--ctrl", f"type=unixio,path={place}", "--terminate"]
    process = subprocess.Popen(["swtpm", *words], stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_LIMIT_S
        while not place.exists():
            assert process.poll() is None, "swtpm has ended"
            assert time.monotonic() < end, "swtpm doesn't listen"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    if shutil.which("swtpm") is None:
        pytest.skip("needs Debian's package swtpm")
    return tmp_path / "tpm.socket"


@pytest.fixture
def machine(machine_image: Image, tmp_path: Path, place: Path) -> Iterator[Machine]:
    """A machine with a TPM, that is off."""
    words: tuple[str, ...] = ("-chardev", f"socket,id=tpm,path={place}", "-tpmdev", "emulator,id=tpm,chardev=tpm")
    # This machine has no ACPI tables that would tell where the TPM is.
    words += ("-device", "tpm-tis,tpmdev=tpm", "-append", f"{COMMAND_LINE} tpm_tis.force=1 tpm_tis.interrupts=0")
    hardware = Hardware(arguments=words)
    with computer(machine_image, tmp_path, hardware=hardware) as made:
        yield made


def contains(disk: Path, wanted: bytes) -> bool:
    """Whether these bytes are anywhere on the disk."""
    before = b""
    with disk.open("rb") as file:
        while piece := file.read(16 * MIB):
            if wanted in before + piece:
                return True
            before = piece[-len(wanted) :]
    return False


def test_the_guide_as_it_stands(machine: Machine, tmp_path: Path, place: Path) -> None:
    clip = Noise(MIB + 5, 5)
    card = image(tmp_path / "card", {"DCIM/0001.MP4": clip}, "fat32")
    content = clip.read()
    with tpm(tmp_path / "tpm", place):
        machine.power_on()
        told = machine.run(block("make"), 300)
        paper = RECOVERY_KEY.search(told)
        assert paper is not None, told
        stick = machine.usb.disk(card, "REC")
        machine.until_status(lambda status: [slot["may_remove"] for slot in status["slots"]] == [True])
        machine.until_status(lambda status: status["counters"]["assets"]["stored"]["files"] == 1)
        machine.usb.yank(stick)
        machine.run("sync")
        machine.power_cut()
    assert contains(card, content[4096:4160]), "what is looked for can be found"
    assert not contains(machine.station, content[4096:4160])

    with tpm(tmp_path / "tpm", place):
        machine.power_on()
        assert machine.run(block("look"), 120).split()[-2:] == ["/dev/mapper/station", "active"]
        vault = "find /var/lib/capture-agent/vault -type f -exec sha256sum {} +"
        assert hashlib.sha256(content).hexdigest() in machine.run(vault)
        machine.power_off()

    with tpm(tmp_path / "another-tpm", place):
        machine.power_on()
        assert machine.call("systemctl is-active capture-agent").returncode != 0
        assert machine.run("ls -A /var/lib/capture-agent") == ""
        disk = "DISK=/dev/disk/by-id/virtio-station\nexport PASSWORD=" + paper[0] + "\n"
        machine.run(disk + block("recover"), 300)
        assert hashlib.sha256(content).hexdigest() in machine.run(vault)
        machine.until_status(lambda status: status["counters"]["assets"]["stored"]["files"] == 1)
        machine.power_off()
    assert list(machine.stored().values()) == [hashlib.sha256(content).hexdigest()]
