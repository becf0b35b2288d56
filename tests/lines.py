"""For tests of what is spoken over serial lines: the shipped profile, made quick, and a switchboard without udev."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from agent.config.recorders import Match, RecorderProfile, read_recorders
from agent.lines.ports import SerialPort
from agent.lines.switchboard import Switchboard
from agent.model import Incident
from simulator.serial_recorder import SerialRecorder

USB: Final = "1d6b:0947"
PORT: Final = "pci-0000:00:14.0-usb-0:1"
SLOTS: Final[Mapping[str, str]] = {f"{PORT}.{number}": str(number) for number in range(1, 6)}

quick_recorder = partial(SerialRecorder, tenths=True)


def shipped() -> RecorderProfile:
    """The profile of the simulated recorder, as it is shipped."""
    profiles, problems = read_recorders(Path(__file__).parent.parent / "config" / "recorders")
    assert not problems
    return profiles["gat947-simulated"]


def quick() -> RecorderProfile:
    """The same for recorders that show tenths of a second, so that no test waits for whole ones."""
    profile = shipped()
    clock = replace(profile.steps[2], expect=r"TIME (?P<clock>\d{15})")
    steps = (*profile.steps[:2], clock, *profile.steps[3:])
    wire = replace(profile.wire, wait_s=0.5)
    return replace(profile, steps=steps, wire=wire, clock_format="%Y%m%d%H%M%S%f", clock_step_ms=100)


def hand_over(folder: Path, password: str = "000000") -> Path:
    """The simulated recorder's password, in a folder of credentials as systemd makes one."""
    secret = folder / "capture-agent.recorder-simulated"
    secret.write_text(f"{password}\n")
    secret.chmod(0o400)
    return secret


@dataclass
class Dock:
    """What is plugged in, and a switchboard that sees it; `record`ed incidents are kept."""

    profile: RecorderProfile = field(default_factory=quick)
    ports: dict[str, SerialPort] = field(default_factory=dict)
    incidents: list[Incident] = field(default_factory=list)
    now_s: float = 1000.0
    plugged: int = 0

    def __post_init__(self) -> None:
        self.board = Switchboard(
            self.incidents.append,
            {self.profile.name: self.profile},
            SLOTS,
            look=lambda: list(self.ports.values()),
            seconds=lambda: self.now_s,
        )

    def plug(
        self, slot: str, recorder: SerialRecorder, *, is_disk: bool = False, serial: str = "", interface: str = "1.0"
    ) -> None:
        """A recorder's line appears in a slot."""
        self.plugged += 1
        path = f"{PORT}.{slot}:{interface}"
        self.ports[slot] = SerialPort(f"{recorder.node}#{self.plugged}", recorder.node, path, USB, serial, is_disk)

    def wired(self, slot: str, node: str, *, set_clock: bool = False) -> None:
        """From now on the profile is for one line that is wired to a slot."""
        profile = replace(self.profile, matches=(Match(slot=slot, node=node),), set_clock=set_clock)
        self.board.use({profile.name: profile}, SLOTS)

    def kinds(self) -> list[str]:
        """Which incidents were told."""
        return [incident.kind for incident in self.incidents]
