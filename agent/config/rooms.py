"""`rooms.toml`: the rooms of this station, their cameras and microphones, and when sessions are planned."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.config import lamps
from agent.config.environment import credential
from agent.config.lamps import Lamp, lamp_of
from agent.config.options import (
    NAME,
    TomlFile,
    Unfit,
    UnfitSecretError,
    choice,
    flag,
    folder_or_off,
    integer,
    number,
    option,
    text,
)
from agent.model import STAGES

_ROOMS_LIMIT: Final = 32
_SOURCES_LIMIT: Final = 16
_URL_LIMIT: Final = 512
_DEVICE: Final = re.compile(r"(v4l2:/dev/[\w./:+-]+|alsa:[\w.:,=/-]+)(\?[\w=&/]+)?", re.ASCII)
_BUTTON: Final = re.compile(r"(evdev:/dev/input/[\w./:+-]+|serial:/dev/[\w./:+-]+(#(cts|dsr))?)?", re.ASCII)
_PASSWORD: Final = re.compile(r"(?:passw|pwd|psw)\w*=(?!\{password\})", re.IGNORECASE)


class Carried(StrEnum):
    """How RTSP brings its packets; the values are those of rooms.protocol.Transport."""

    TCP = "tcp"
    UDP = "udp"


def _checked_url(value: object) -> str:
    if not isinstance(value, str) or len(value) > _URL_LIMIT or not re.fullmatch(r"[!-~]+", value):
        raise UnfitSecretError(f"must be an address of up to {_URL_LIMIT} characters of ASCII without blanks")
    if _DEVICE.fullmatch(value):
        return value
    try:
        parts = urlsplit(value)
        port, host = parts.port, parts.hostname
        (host or "").encode("idna")  # what no name server can be asked for, either
    except ValueError:
        port, host, parts = None, None, urlsplit("")
    if "@" in value or _PASSWORD.search(value):
        how = "put user:password into the systemd credential that credential names (docs/rooms.md)"
        raise UnfitSecretError(f"must not have a user or a password in it: {how}")
    if parts.scheme not in {"rtsp", "onvif"} or not host or port == 0 or parts.fragment:
        must = "must be like rtsp://10.1.2.3:554/path, onvif://10.1.2.3:80, v4l2:/dev/video0 or alsa:hw:1"
        raise UnfitSecretError(must)
    return value


def _url() -> str:
    return option("", "rtsp://…, onvif://…, v4l2:/dev/… or alsa:…", _checked_url)


def _credential() -> str:
    def read(value: object) -> str:
        if value == "" or (isinstance(value, str) and NAME.fullmatch(value)):
            return str(value)
        raise UnfitSecretError("must be a name of letters, digits, - and _; user and password don't belong here")

    return option("", 'name of letters, digits, - and _, or "" for none', read)


def _stage() -> str:
    def read(value: object) -> str:
        if isinstance(value, str) and value in STAGES:
            return value
        raise Unfit(f"must be one of {', '.join(STAGES)}")

    return option("S05", "code of a stage", read)


def _button() -> str:
    def read(value: object) -> str:
        if isinstance(value, str) and _BUTTON.fullmatch(value):
            return value
        raise Unfit("must be like evdev:/dev/input/by-id/… or serial:/dev/ttyUSB0, behind it #cts or #dsr for a line")

    return option("", 'evdev:/dev/input/…, serial:/dev/…, or "" for none', read)


def _lamp() -> str:
    def read(value: object) -> str:
        if isinstance(value, str):  # what it says is looked at later: no recording hangs on it
            return value
        raise Unfit(f"must be {lamps.TAKES}")

    return option("", lamps.TAKES, read)


@dataclass(frozen=True, slots=True)
class Source:
    """One camera or microphone of a room. `url` has no password: `credential` names the systemd credential that has it.

    `url` is rtsp://host[:port]/path, onvif://host[:port][/profile] (asked for its stream), v4l2:/dev/… or alsa:….
    """

    name: str = ""
    title: str = text("", 64)
    url: str = _url()
    credential: str = _credential()
    transport: str = choice(Carried.TCP)
    watch: bool = flag(default=True)
    plain_password: bool = flag(default=False)

    @property
    def secret(self) -> Path | None:
        """The file with user:password; None without a credential."""
        return credential(f"capture-agent.camera-{self.credential}") if self.credential else None


@dataclass(frozen=True, slots=True)
class Room:
    """One room; `schedule` is an iCalendar file or a TOML file with [[session]], None without one.

    `button` is evdev:/dev/input/… or serial:/dev/…[#cts|#dsr], empty without one; so is `lamp` (config.lamps).
    """

    name: str = ""
    title: str = text("", 64)
    sources: tuple[Source, ...] = ()
    stage: str = _stage()
    segment_s: int = integer(60, 2, 3600, "seconds")
    planned_h: float = number(4.0, 0.1, 24, "hours")
    bitrate_kbit_s: int = integer(4096, 16, 1_000_000, "kbit/s")
    schedule: Path | None = folder_or_off()
    overrun_min: int = integer(30, 0, 1440, "minutes")
    button: str = _button()
    lamp: str = _lamp()
    test_before_s: int = integer(900, 0, 86400, "seconds")
    test_each_s: int = integer(300, 60, 86400, "seconds")


def read_rooms(path: Path) -> tuple[Mapping[str, Room], tuple[str, ...]]:
    """The rooms by name, none without the file, and what is wrong with it.

    A wrong room is left out as a whole: no recorder in the dock has to wait for it. Of a wrong lamp only the lamp is.
    """
    problems: list[str] = []
    if not os.path.lexists(path):
        return {}, ()
    file = TomlFile(path, problems)
    document = file.document()
    file.refuse("", document, ("room",))
    found: dict[str, Room] = {}
    for name, entry in _tables(file, "room", document.get("room", {}), _ROOMS_LIMIT).items():
        before = len(problems)
        room = _read_room(file, name, entry)
        if len(problems) == before:
            found[name] = room
    lit: dict[str, Lamp] = {}
    for name, room in found.items():
        try:
            lamp = lamp_of(room.lamp)
            wrong = lamps.clash(lit, lamp) if lamp is not None else ""
        except ValueError as error:
            lamp, wrong = None, str(error)
        if wrong:
            file.problem(f"room.{name}.lamp", room.lamp, wrong)
            found[name] = replace(room, lamp="")
        elif lamp is not None:
            lit[name] = lamp
    return found, tuple(problems)


def _tables(file: TomlFile, key: str, entries: object, limit: int) -> Mapping[str, dict[str, object]]:
    """The tables of one kind, by name."""
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        file.problem(key, None, f"must be tables like [{key}.a1]")
        return {}
    for name in entries:
        if not NAME.fullmatch(name):
            file.problem(key, name, "must be a name of letters, digits, - and _")
    if len(entries) > limit:
        file.problem(key, len(entries), f"must be at most {limit}")
    return {name: entry for name, entry in list(entries.items())[:limit] if NAME.fullmatch(name)}


def _read_room(file: TomlFile, name: str, entry: Mapping[str, object]) -> Room:
    where = f"room.{name}"
    options = dict(entry)
    tables = _tables(file, f"{where}.source", options.pop("source", {}), _SOURCES_LIMIT)
    room = file.section(Room, options, where)
    sources: list[Source] = []
    for key, table in tables.items():
        source = file.section(Source, table, f"{where}.source.{key}")
        file.require(table, ("url",), f"{where}.source.{key}.")
        if any(source.url == other.url for other in sources if source.url):
            file.problem(f"{where}.source.{key}.url", None, "is also the address of another source of this room")
        sources.append(replace(source, name=key, title=source.title or key))
    if not sources:
        file.problem(f"{where}.source", None, f"there must be at least one [{where}.source.…]")
    return replace(room, name=name, title=room.title or name, sources=tuple(sources))
