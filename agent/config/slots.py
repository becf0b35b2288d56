"""Reads which USB port is which slot of the dock."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from agent.config.options import TomlFile
from agent.config.ports import slot_of
from agent.model import SlotProgress

_PORT: Final = re.compile(r"[a-z][\w.:-]{0,199}", re.ASCII)
_NAME: Final = re.compile(r"\S{1,16}")


def in_order(shown: Sequence[SlotProgress], slots: Mapping[str, str]) -> tuple[SlotProgress, ...]:
    """The slots as they follow each other on the dock; what isn't named comes behind."""
    places = {name: place for place, name in reversed(list(enumerate(slots.values())))}
    return tuple(sorted(shown, key=lambda slot: places.get(slot.slot.partition(" ")[0], len(slots))))


def read_slots(path: Path, problems: list[str]) -> Mapping[str, str]:
    """Names of slots by port, in the order of the file, none without it; what is wrong with it goes to `problems`."""
    if not os.path.lexists(path):
        return {}
    file = TomlFile(path, problems)
    document = file.document()
    file.refuse("", document, ("slots",))
    slots = document.get("slots", {})
    if not isinstance(slots, dict):
        file.problem("slots", slots, "must be a table of ports and names")
        return {}
    for port, name in slots.items():
        if not _PORT.fullmatch(port):
            file.problem("slots", port, "must be a USB port, like pci-0000:00:14.0-usb-0:1.2")
        if not isinstance(name, str) or not name.isprintable() or not _NAME.fullmatch(name):
            file.problem(f"slots.{port}", name, "must be a name of 1..16 characters without blanks")
    for one, other in itertools.permutations(slots, 2):
        if slot_of(one, {other: "-"}):
            file.problem("slots", one, f"is a part of the port {other}")
    return slots
