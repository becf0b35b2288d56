"""Recorders docked in a real machine: udev marks them, systemd's service pulls them, the dedicated storage has them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from simulator.content import Noise
from tests.cards import MIB, image, sha256
from tests.machine.machine import Machine

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


CLIPS = {
    "fat32": {"DCIM/0001.MP4": Noise(3 * MIB, 1), "DCIM/0002.MP4": Noise(MIB + 17, 2)},
    "exfat": {"DCIM/0001.MP4": Noise(2 * MIB, 3), "DCIM/0002.MP4": Noise(MIB + 19, 4)},
}


def test_docked_recorders_are_stored_and_not_changed(machine: Machine, tmp_path: Path) -> None:
    cards = {kind: image(tmp_path / kind, clips, kind) for kind, clips in CLIPS.items()}
    before = {kind: sha256(card) for kind, card in cards.items()}
    for kind, card in cards.items():
        machine.usb.disk(card, f"REC-{kind}")
    machine.until_status(lambda status: [slot["may_remove"] for slot in status["slots"]] == [True, True])
    assert machine.run("lsblk -ndo RO /dev/sda /dev/sdb").split() == ["1", "1"]
    machine.until("runuser -u capture-agent -- capture-agent unstored")
    machine.power_off()
    made = sorted(hashlib.sha256(clip.read()).hexdigest() for clips in CLIPS.values() for clip in clips.values())
    assert sorted(machine.stored().values()) == sorted(machine.vaulted().values()) == made
    assert {kind: sha256(card) for kind, card in cards.items()} == before
