"""Says which slot of the dock a USB port is; udev runs it too, so it needs nothing but the standard library."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path


def slot_of(path: str, slots: Mapping[str, str]) -> str:
    """Name of the slot in which a device with this ID_PATH sits, empty if in none; `slots` are names by port.

    What is not the only disk of a recorder is told apart by what follows: "3 /1" is a second disk, "3 .2" sits behind a
    hub inside the recorder.
    """
    for port, name in slots.items():
        tail = path[len(port) :]
        if path.startswith(port) and tail[:1] in ("", ".", ":", "-"):
            return f"{name} {_short(tail)}".rstrip()
    return ""


def _short(tail: str) -> str:
    tail = tail.removesuffix("-scsi-0:0:0:0").removesuffix(":1.0")
    return tail.replace(":1.0-scsi-0:0:0:", "/")


def main(file: str, path: str) -> str:
    """What udev is told: the port is a `slot` of the dock, some `other`, or `any`, since no slot was named.

    Raises OSError or ValueError if the file can't be read: then udev is told nothing, and leaves the device alone.
    """
    if not os.path.lexists(file):
        return "CAPTURE_AGENT_PORT=any"
    slots = tomllib.loads(Path(file).read_text("utf-8")).get("slots", {})
    return f"CAPTURE_AGENT_PORT={'any' if not slots else 'slot' if slot_of(path, slots) else 'other'}"


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]))
