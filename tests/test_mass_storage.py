"""Real FAT32 and exFAT cards through the real helpers keep the contract of a driver."""

from __future__ import annotations

from pathlib import Path

from agent.drivers.base import Docked
from agent.drivers.mass_storage import MassStorage
from agent.model import Device
from simulator.card import Card
from tests.driver_conformance import CARD, DriverConformance


def filled(card: Card) -> Path:
    with card:
        for path, content in CARD.items():
            card.add(path, content)
        return card.path


class TestFat32(DriverConformance):
    """The conformance suite against a FAT32 card."""

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        image = filled(Card.fat32(tmp_path / "fat32.img", 160 << 20))
        return MassStorage(image, Device("mass_storage"), staging)


class TestExFat(DriverConformance):
    """The conformance suite against an exFAT card."""

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        image = filled(Card.exfat(tmp_path / "exfat.img", 160 << 20))
        return MassStorage(image, Device("mass_storage"), staging)
