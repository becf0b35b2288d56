"""`rooms.toml`: the rooms of this station, their cameras and microphones, and when sessions are planned."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Source:
    """One camera or microphone of a room. `url` has no password: `credential` names the systemd credential that has it.

    `url` is rtsp://host[:port]/path, onvif://host[:port] (asked for its stream), v4l2:/dev/… or alsa:….
    """

    name: str
    title: str
    url: str
    credential: str = ""
    transport: str = "tcp"
    watch: bool = True


@dataclass(frozen=True, slots=True)
class Room:
    """One room; `schedule` is an iCalendar file or a TOML file with [[session]], None without one.

    `button` is evdev:/dev/input/… or serial:/dev/tty…, empty without one.
    """

    name: str
    title: str
    sources: tuple[Source, ...]
    stage: str = "S05"
    segment_s: int = 60
    planned_h: float = 4.0
    bitrate_kbit_s: int = 4096
    schedule: Path | None = None
    button: str = ""
    test_before_s: int = 900
    test_each_s: int = 300
