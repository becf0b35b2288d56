"""[dock] of agent.toml: how recorders are found, which are read, and whether this is a station for training."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.config.options import TomlFile, choice, flag, folder_or_off, integer, number
from agent.model import Recorder

TRAINING: Final = "演练"
"""What the name of a station for training has in it: every screen, paper and manifest shows that name."""

_GIB: Final = 1 << 30


class Unknown(StrEnum):
    """What is done with a recorder that the inventory doesn't have: nothing, all but marked, or all."""

    REFUSE = "refuse"
    QUARANTINE = "quarantine"
    TAKE = "take"


@dataclass(frozen=True, slots=True)
class Dock:
    """[dock]: how recorders are found, and how long they are waited for."""

    usb: bool = flag(default=True)
    unknown: Unknown = choice(Unknown.QUARANTINE)
    image_dir: Path | None = folder_or_off()
    simulate: bool = flag(default=False)
    rescan_s: float = number(5, 1, 3600, "seconds")
    receiver: Path | None = folder_or_off()
    receiver_baud: int = integer(4800, 300, 4_000_000)
    stall_limit_s: float = number(30, 1, 3600, "seconds")
    rescue_limit_s: float = number(1800, 0, 86400, "seconds")
    parser_limit_s: float = number(120, 1, 3600, "seconds")
    parser_memory_bytes: int = integer(_GIB, _GIB // 16, 16 * _GIB, "bytes")


def check_dock(file: TomlFile, dock: Dock, station: str, inventory: Mapping[str, Recorder]) -> None:
    """What is wrong with it beside the rest of the configuration goes to the problems; `station` is its name."""
    if dock.unknown is Unknown.REFUSE and not inventory:
        reason = "would refuse every recorder, since inventory.toml has none"
        file.problem("dock.unknown", dock.unknown.value, reason)
    if dock.simulate and TRAINING not in station:
        reason = f"is for training: station.name must have {TRAINING} in it, so that every screen and paper says so"
        file.problem("dock.simulate", "true", reason)
