"""The power plug is pulled at random moments while recorders are pulled and stored: nothing lost, nothing doubled."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytest

from simulator.content import Noise
from tests.cards import KINDS, MIB, image, sha256
from tests.machine.image import Image
from tests.machine.machine import BOOT_LIMIT_S, Machine, booted, computer

pytestmark = [pytest.mark.root, pytest.mark.timeout(7200)]

SEED = int(os.environ.get("CAPTURE_AGENT_VM_SEED", "20261123"))
CUTS, CUTS_LONG = 3, 21
RATE_BPS = 1_500_000
PHASES = ("identifying", "reading", "verifying", "finished")
BOOT_S, AFTER_S = 25.0, 4.0
SURVIVAL = 0.5
REPORT = os.environ.get("CAPTURE_AGENT_VM_REPORT", "")


@dataclass(slots=True)
class Cards:
    """Recorders that wait to be docked, each with clips of its own; none is ever changed."""

    folder: Path
    made: dict[str, Path] = field(default_factory=dict)
    content: dict[str, set[str]] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)

    def add(self, chance: random.Random) -> None:
        """One more: FAT32 and exFAT in turn, two clips of up to 4 MiB."""
        number = len(self.made)
        serial = f"REC{number:04}"
        clips = {
            f"DCIM/{serial}{index}.MP4": Noise(chance.randrange(MIB, 4 * MIB), 10 * number + index) for index in (0, 1)
        }
        self.made[serial] = image(self.folder / serial, clips, KINDS[number % len(KINDS)])
        self.content[serial] = {hashlib.sha256(clip.read()).hexdigest() for clip in clips.values()}
        self.sums[serial] = sha256(self.made[serial])

    def digests(self) -> set[str]:
        return {digest for digests in self.content.values() for digest in digests}


@dataclass(slots=True)
class Story:
    """What was seen at each cut; written to the file that CAPTURE_AGENT_VM_REPORT names."""

    seed: int = SEED
    moments: list[str] = field(default_factory=list)
    stored: int = 0
    unflushed: int = 0
    lost: int = 0
    lossy: int = 0
    is_finished: bool = False

    def tell(self) -> None:
        if REPORT:
            Path(REPORT).write_text(json.dumps(asdict(self), indent=1))


def assert_true(machine: Machine, cards: Cards, stored_before: set[str]) -> set[str]:
    """Only whole originals lie in the storage and in the vault, each once, and nothing that was stored is gone."""
    stored, vaulted = list(machine.stored().values()), list(machine.vaulted().values())
    for found in (stored, vaulted):
        assert len(found) == len(set(found))
        assert set(found) <= cards.digests()
    assert stored_before <= set(stored) <= set(vaulted)
    return set(stored)


def work(machine: Machine, cards: Cards, chance: random.Random) -> str:
    """Let the machine work with the newest recorders docked, up to a random moment; what it did then, in words.

    A third of the moments lie in its boot; the others follow a phase of the newest docking by up to `AFTER_S`.
    """
    for number, serial in enumerate(reversed(list(cards.made)[-2:]), 1):
        machine.usb.disk(cards.made[serial], serial, port=f"{number}", rate_bps=RATE_BPS)
    goal = chance.choice(("", "", *PHASES))
    pause_s = chance.uniform(0, AFTER_S if goal else BOOT_S)
    if not goal:
        time.sleep(pause_s)
        return "starting"
    machine.guest.wait(BOOT_LIMIT_S)
    past = PHASES[PHASES.index(goal) :]
    shown = machine.until_phase(*past, slot="usb-0:1:")
    time.sleep(pause_s)
    return f"{shown['phase']['name']} {shown['bytes']['done']}/{shown['bytes']['total']} +{pause_s:.1f} s"


def _may_be_taken(status: dict[str, Any], port: str) -> bool:
    return any(slot["may_remove"] for slot in status["slots"] if port in slot["slot"])


def settle(machine: Machine, cards: Cards) -> None:
    """Dock every recorder once more, two at a time; all must say that they may be taken, and the rest is stored."""
    machine.power_on()
    serials = list(cards.made)
    for pair in (serials[index : index + 2] for index in range(0, len(serials), 2)):
        sticks = [machine.usb.disk(cards.made[serial], serial, port=f"{port}") for port, serial in enumerate(pair, 1)]
        for port in range(1, len(pair) + 1):
            assert machine.until_phase("finished", "failed", slot=f"usb-0:{port}:")["may_remove"]
        for port, stick in enumerate(sticks, 1):
            machine.usb.yank(stick)
            machine.until_status(lambda status, port=port: not _may_be_taken(status, f"usb-0:{port}:"))
    machine.until("runuser -u capture-agent -- capture-agent unstored", 300)
    machine.run("runuser -u capture-agent -- capture-agent verify", 300)
    machine.power_off()


def test_no_power_cut_loses_or_doubles_anything(machine_image: Image, tmp_path: Path, is_long: bool) -> None:
    chance, cards, story = random.Random(SEED), Cards(tmp_path), Story()
    stored: set[str] = set()
    with computer(machine_image, tmp_path, lossy=True, frozen=booted(machine_image)) as machine:
        for number in range(CUTS_LONG if is_long else CUTS):
            if number % 2 == 0:
                cards.add(chance)
            machine.power_on(wait=False)
            story.moments.append(work(machine, cards, chance))
            is_lossy = number % 2 == 1
            unflushed, lost = machine.power_cut(chance if is_lossy else None, SURVIVAL)
            stored = assert_true(machine, cards, stored)
            story.lossy, story.stored = story.lossy + is_lossy, len(stored)
            story.unflushed, story.lost = story.unflushed + unflushed, story.lost + lost
            story.tell()
        settle(machine, cards)
        assert assert_true(machine, cards, stored) == cards.digests()
    assert {serial: sha256(card) for serial, card in cards.made.items()} == cards.sums
    story.stored, story.is_finished = len(cards.digests()), True
    story.tell()
