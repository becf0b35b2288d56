"""The demo's recorder that is spoken to before it is read, over a line that is wired to its slot."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any, Final

from simulator.handling import recordings
from simulator.recorders import Recorder
from simulator.serial_recorder import SerialRecorder
from simulator.show import Show
from simulator.stage import DemoError, Stage

AHEAD_S: Final = 93.4
PROFILE: Final = "gat947-simulated"


@contextlib.contextmanager
def wired(stage: Stage, slot: str, *, ahead_s: float = AHEAD_S) -> Iterator[SerialRecorder]:
    """A simulated recorder on a pseudo-terminal that the shipped profile is told to be wired to `slot`.

    Its password is in a credential, as systemd hands it to the service; before the service starts.
    """
    secrets = stage.root / "credentials"
    secrets.mkdir(mode=0o700, exist_ok=True)
    secret = secrets / "capture-agent.recorder-simulated"
    with SerialRecorder(ahead_s=ahead_s) as recorder:
        secret.write_text(f"{recorder.password}\n")
        secret.chmod(0o400)
        os.environ["CREDENTIALS_DIRECTORY"] = str(secrets)
        path = stage.config.parent / "recorders" / f"{PROFILE}.toml"
        words = path.read_text("utf-8")
        if 'usb = "1d6b:0947"' not in words:
            raise DemoError(f"{path} is not the profile that is shipped")
        place = f'slot = "{slot}"\nnode = "{recorder.node}"'
        path.write_text(words.replace('usb = "1d6b:0947"', place), "utf-8")
        yield recorder


def record_of(stage: Stage, slot: str) -> dict[str, Any]:
    """The fields of a recording that was pulled from a slot, from the real command line."""
    dockings = {one["docking_id"] for one in stage.ask("/api/v1/status")["dockings"] if one["slot"] == slot}
    found = next((row for row in recordings(stage) if row["docking_id"] in dockings), None)
    if found is None:
        raise DemoError(f"nothing was pulled from {slot}")
    command = stage.command("metadata", "show", found["recording_id"], "--json")
    record = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    fields: dict[str, Any] = record["fields"]
    return fields


def tell(stage: Stage, show: Show, recorder: Recorder, line: SerialRecorder) -> None:
    """What the recorder was asked before it was read; raises DemoError if a claim is not true."""
    fields = record_of(stage, recorder.image.name)
    offset_ms = fields["device_clock_offset_ms"]["value"]
    compared = fields["device_clock_compared"]["value"]
    show.say(f"串口 its serial line (simulated): clock {offset_ms:+} ms, give or take {compared['uncertainty_ms']} ms")
    close = abs(offset_ms - line.ahead_s * 1000) <= compared["uncertainty_ms"] + 1
    show.claim("时钟偏差 measured before the pull, in the record, and right", close, True)
    said = fields["device"]["value"]["says"]["device_no"]
    show.claim("设备号 it says of itself is in the record, too", said, line.device_no)
