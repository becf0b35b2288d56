"""The package in a running machine: installed by IT without any network, upgraded in the middle of a docking."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from agent import __version__
from simulator.content import Noise
from tests.cards import MIB, image, sha256
from tests.debs import older
from tests.machine.image import base, installed
from tests.machine.machine import Machine, computer

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]

INSTALL_LIMIT_S = 900.0
CLIPS = {"DCIM/0001.MP4": Noise(5 * MIB, 1), "DCIM/0002.MP4": Noise(MIB, 2)}


def install(machine: Machine, package: Path) -> str:
    """Install a package as IT does; what apt and the package say."""
    shutil.copy(package, machine.share)
    folder = machine.mount_share()
    machine.run(f"cp {folder}/{package.name} /var/tmp")
    return machine.run(f"DEBIAN_FRONTEND=noninteractive apt-get install -q -y /var/tmp/{package.name}", INSTALL_LIMIT_S)


def until_stored(machine: Machine, card: Path) -> None:
    """The docked recorder may be taken, the storage has all of it, and it is as it was."""
    before = sha256(card)
    assert machine.until_phase("finished", limit_s=240)["may_remove"]
    machine.until("runuser -u capture-agent -- capture-agent unstored", 240)
    machine.power_off()
    wanted = sorted(hashlib.sha256(clip.read()).hexdigest() for clip in CLIPS.values())
    assert sorted(machine.stored().values()) == sorted(machine.vaulted().values()) == wanted
    assert sha256(card) == before


def test_it_is_installed_without_network_and_starts_with_what_is_plugged_in(
    machine_package: Path, tmp_path: Path
) -> None:
    card = image(tmp_path / "card", CLIPS)
    with computer(base(), tmp_path) as machine:
        machine.power_on(wait=False)
        machine.usb.disk(card, "REC1", port="1")
        machine.wait()
        assert machine.call("id capture-agent").returncode != 0
        install(machine, machine_package)
        machine.run("udevadm trigger --settle -s block")
        machine.run("systemctl is-active capture-agent || systemctl start capture-agent", 240)
        assert machine.run("systemctl --failed --no-legend") == ""
        until_stored(machine, card)


def test_an_upgrade_in_the_middle_of_a_docking_goes_on_where_it_was(machine_package: Path, tmp_path: Path) -> None:
    card = image(tmp_path / "card", CLIPS, "exfat")
    before = installed(older(machine_package, tmp_path, "0.0.9"))
    with computer(before, tmp_path) as machine:
        machine.power_on()
        machine.run('sed -i \'s/^name = "采集站"/name = "二号采集站"/\' /etc/capture-agent/agent.toml')
        machine.usb.disk(card, "REC1", port="1", rate_bps=200_000)
        machine.until_phase("reading")
        install(machine, machine_package)
        assert machine.run("dpkg-query -W -f='${Version}' capture-agent") == __version__
        assert machine.until_status(lambda status: status["slots"])["station"]["name"] == "二号采集站"
        until_stored(machine, card)
