"""Reads the configuration: agent.toml, and beside it holiday notices, the jurisdiction's rule and the inventory.

The only place that reads configuration. Every problem of every file is reported at once, with file, key, value and
reason; an option nobody knows is refused, because a mistyped one must not silently keep its default.
"""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import time
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from agent.config.dock import Dock, check_dock
from agent.config.forms import read_forms
from agent.config.inboxes import Inbox, read_inboxes
from agent.config.inventory import read_inventory
from agent.config.manifests import Manifests, Timestamps, check_seals
from agent.config.neighbours import CustodyLog, Witness, check_witness
from agent.config.obligations import read_interruptions
from agent.config.oidc import Oidc, check_oidc
from agent.config.options import (
    TomlFile,
    choice,
    flag,
    folder,
    identifier,
    integer,
    number,
    org_code,
    region,
    spans_of_day,
    table,
    text,
    texts,
)
from agent.config.recorders import RecorderProfile, read_recorders
from agent.config.release import Release
from agent.config.rooms import Room, read_rooms
from agent.config.rules import read_calendars, read_profile
from agent.config.slots import read_slots
from agent.config.status_page import StatusPage, check_page
from agent.errors import ConfigError
from agent.model import CalendarYear, Forms, FreeWhen, OrgType, Profile, Recorder, Terms

_GIB: Final = 1 << 30
_NOT_STARTED: Final = "\nNothing was started and no recording was touched."
_CORRECT: Final = "Correct this, then run `capture-agent config check`."


class Milestone(StrEnum):
    """What ends the time limit: the configured store has the original, or this station holds it (本单位专用存储器)."""

    CENTRAL = "central"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Station:
    """[station]: how this dock station calls itself, whom the screens say to call, and whose station it is."""

    name: str = text("采集站", 64, shortest=1)
    contact: str = text("", 64)
    org_name: str = text("", 64)
    org_code: str = org_code("")
    org_type: OrgType = choice(OrgType.UNSTATED)


@dataclass(frozen=True, slots=True)
class Storage:
    """[storage]: where originals are kept on this station."""

    root: Path = folder("/var/lib/capture-agent")
    reserve_bytes: int = integer(2 * _GIB, 0, 1 << 50, "bytes")
    seal: bool = flag(default=True)
    verity: bool = flag(default=False)


@dataclass(frozen=True, slots=True)
class StoreChoice:
    """[store]: where originals go; `options` belong to the store, which checks them itself."""

    kind: str = identifier("directory")
    name: str = text("专用存储器", 64, shortest=1)
    hours: tuple[tuple[time, time], ...] = spans_of_day()
    options: Mapping[str, object] = table()


@dataclass(frozen=True, slots=True)
class Limit:
    """[deadline]: the jurisdiction, and what ends the time limit."""

    profile: str = identifier("shandong")
    region: str = region("")
    satisfied_by: Milestone = choice(Milestone.CENTRAL)


@dataclass(frozen=True, slots=True)
class Runner:
    """[runner]: how often and how soon work is tried again, and how much runs at a time."""

    attempts: int = integer(8, 1, 1000)
    backoff_base_s: float = number(5, 0, 3600, "seconds")
    backoff_max_s: float = number(900, 0, 86400, "seconds")
    store_workers: int = integer(4, 1, 32)
    audit_pause_s: float = number(60, 0, 86400, "seconds")
    audit_read_each: int = integer(10, 1, 1_000_000)
    probe_pause_s: float = number(2, 0, 3600, "seconds")


class Overlay(StrEnum):
    """What is written into the pictures of an access copy; it says nothing that the original doesn't."""

    NOTHING = ""
    TIME = "time"
    NOTICE = "notice"


class Encoder(StrEnum):
    """Who encodes the pictures of an access copy: the graphics hardware where it is proven, or always the processor."""

    AUTO = "auto"
    SOFTWARE = "software"


@dataclass(frozen=True, slots=True)
class AccessCopies:
    """[access]: whether and how access copies (查阅副本) and pictures are made; no original depends on it."""

    enabled: bool = flag(default=True)
    encoder: Encoder = choice(Encoder.AUTO)
    overlay: Overlay = choice(Overlay.NOTHING)
    notice: str = text("查阅副本", 40)
    height_px_max: int = integer(1080, 144, 4320, "pixels")
    photo_px_max: int = integer(2048, 256, 16384, "pixels")


@dataclass(frozen=True, slots=True)
class Scrub:
    """[scrub]: how often, when and how fast all that is held is read again from the medium."""

    enabled: bool = flag(default=True)
    each_days: int = integer(30, 1, 3650, "days")
    hours: tuple[tuple[time, time], ...] = spans_of_day()
    limit_bytes_s: int = integer(20_000_000, 1_000_000, 100_000_000_000, "bytes per second")


@dataclass(frozen=True, slots=True)
class Privacy:
    """[privacy]: what is read out of originals beyond what the law asks for."""

    gps: bool = flag(default=False)


@dataclass(frozen=True, slots=True)
class Transcripts:
    """[transcript]: the command that makes a text of a recording; `tool` and `language` are kept with what it makes."""

    command: tuple[str, ...] = texts()
    timeout_s: float = number(3600, 1, 86400, "seconds")
    tool: str = text("", 200)
    language: str = text("", 35)


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration, checked; made by `load`.

    `refused` tells what is wrong with holiday notices, which stop nobody; `rooms_refused` the same of rooms.toml,
    `recorders_refused` of recorders/*.toml.
    """

    path: Path
    station: Station
    storage: Storage
    store: StoreChoice
    deadline: Limit
    dock: Dock
    status: StatusPage
    oidc: Oidc
    runner: Runner
    log: CustodyLog
    manifest: Manifests
    timestamp: Timestamps
    witness: Witness
    transcript: Transcripts
    access: AccessCopies
    release: Release
    privacy: Privacy
    scrub: Scrub
    profile: Profile
    calendars: Mapping[int, CalendarYear]
    inventory: Mapping[str, Recorder]
    slots: Mapping[str, str]
    forms: Forms
    rooms: Mapping[str, Room]
    recorders: Mapping[str, RecorderProfile]
    inboxes: tuple[Inbox, ...] = ()
    refused: tuple[str, ...] = ()
    rooms_refused: tuple[str, ...] = ()
    recorders_refused: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is wrong in files whose wrong parts are left out, and stop nobody."""
        return (*self.forms.refused, *self.rooms_refused, *self.recorders_refused)

    @property
    def terms(self) -> Terms:
        """On which terms local copies may be freed, with the store that has to prove them."""
        store = (self.store.kind, self.store.name, sorted(self.store.options.items()))
        return replace(self.release.terms, store=f"{self.store.kind} {sha256(repr(store).encode()).hexdigest()}")


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "station": Station,
    "storage": Storage,
    "store": StoreChoice,
    "deadline": Limit,
    "dock": Dock,
    "status": StatusPage,
    "oidc": Oidc,
    "runner": Runner,
    "log": CustodyLog,
    "manifest": Manifests,
    "timestamp": Timestamps,
    "witness": Witness,
    "transcript": Transcripts,
    "access": AccessCopies,
    "release": Release,
    "privacy": Privacy,
    "scrub": Scrub,
}


AT_START: Final[Mapping[str, tuple[str, ...]]] = {
    "storage": ("root", "seal", "verity"),
    "store": ("kind", "name", "options"),
    "dock": ("usb", "image_dir", "rescan_s"),
    "status": ("host", "port", "tls_certificate", "tls_key", "behind_proxy"),
    "runner": ("store_workers",),
    "log": ("origin",),
    "witness": ("host", "port"),
}
"""Options that only a new start takes over; a reload takes over all others."""


def load(path: Path) -> Config:
    """Read and check `path`, and beside it `calendar/*.toml`, `calendar.d/*.toml` and the one `profiles/<name>.toml`.

    `inventory.toml`, `slots.toml`, `interruptions.toml`, `roster.toml`, `items.toml`, `rooms.toml`, `names/*.toml`
    and `recorders/*.toml` are read too if they exist.

    Raises ConfigError that lists every problem, one per line: file, key, value, reason. A holiday notice that is wrong
    is left out: what it may have said of its year is unknown then, and no recorder has to wait until it is mended. So
    is a wrong line of roster or items, a wrong rule of names, a wrong room, a wrong profile of a recorder; `left_out`
    tells.
    """
    problems: list[str] = []
    config = _read(path, problems, [])
    _refuse(problems and [*problems, *config.refused, *config.left_out], _NOT_STARTED, _CORRECT)
    return config


def _read(path: Path, problems: list[str], refused: list[str]) -> Config:
    """The configuration, with defaults where `problems` tells that something is wrong."""
    file = TomlFile(path, problems)
    document = file.document()
    sections = {key: file.section(kind, document.get(key, {}), key) for key, kind in SECTIONS.items()}
    file.refuse("", document, (*SECTIONS, "inbox"))
    inboxes = read_inboxes(file, document.get("inbox", []), _ours(sections))
    check_page(file, sections["status"])
    check_witness(file, sections["witness"])
    runner = sections["runner"]
    if runner.backoff_max_s < runner.backoff_base_s:
        file.problem("runner.backoff_max_s", runner.backoff_max_s, "must not be less than runner.backoff_base_s")
    _check_command(file, sections["transcript"])
    check_oidc(file, sections["oidc"])
    check_seals(file, sections["manifest"], sections["timestamp"])
    _check_release(file, sections["release"], sections["deadline"])
    profile, calendars = _rules(path, sections["deadline"], problems, refused)
    inventory = read_inventory(path.parent / "inventory.toml", problems)
    check_dock(file, sections["dock"], sections["station"].name, inventory)
    slots = read_slots(path.parent / "slots.toml", problems)
    forms = read_forms(path.parent, profile)
    rooms, rooms_refused = read_rooms(path.parent / "rooms.toml")
    recorders, recorders_refused = read_recorders(path.parent / "recorders")
    return Config(
        path=path,
        profile=profile,
        calendars=calendars,
        inventory=inventory,
        slots=slots,
        forms=forms,
        rooms=rooms,
        inboxes=inboxes,
        recorders=recorders,
        refused=tuple(refused),
        rooms_refused=rooms_refused,
        recorders_refused=recorders_refused,
        **sections,
    )


def checked(path: Path) -> Config:
    """As `load`, but a wrong holiday notice is an error too, and a wrong line of roster, items or rooms."""
    config = load(path)
    safe = "\nRecorders are pulled; limits that a holiday notice may change are provisional."
    _refuse((*config.refused, *config.left_out), safe, _CORRECT)
    return config


def reloaded(config: Config) -> tuple[Config, tuple[str, ...]]:
    """The configuration as the files have it now, and the options that others than these would need a new start for.

    Those keep their values. Raises ConfigError; then everything stays in force as it is.
    """
    problems: list[str] = []
    read = _read(config.path, problems, problems)
    do = "Correct this, run `capture-agent config check`, then reload again."
    safe = (
        "\nConfiguration, rules, notices, inventory, slots, roster, items, rooms that were read before stay in force."
    )
    _refuse((*problems, *read.left_out), safe, do)
    waiting: list[str] = []
    kept: dict[str, Any] = {}
    for name, options in AT_START.items():
        old, new = getattr(config, name), getattr(read, name)
        waiting += [f"{name}.{option}" for option in options if getattr(old, option) != getattr(new, option)]
        kept[name] = replace(new, **{option: getattr(old, option) for option in options})
    waiting += ["inbox"] * (config.inboxes != read.inboxes)
    return replace(read, refused=(), inboxes=config.inboxes, **kept), tuple(waiting)


def _ours(sections: Mapping[str, Any]) -> tuple[Path, ...]:
    """Where this station keeps evidence, or looks for images of recorders."""
    options = {"path": "/srv/evidence"} | sections["store"].options
    kept = (Path(value) for value in options.values() if str(value).startswith("/"))
    return (sections["storage"].root, *filter(None, (sections["dock"].image_dir,)), *kept)


def _refuse(problems: Sequence[str], safe: str, do: str) -> None:
    if problems:
        raise ConfigError("\n".join(problems), safe=safe, do=do)


def _rules(
    path: Path, limit: Limit, problems: list[str], refused: list[str]
) -> tuple[Profile, Mapping[int, CalendarYear]]:
    profile = read_profile(path.parent / "profiles", limit.profile, problems)
    profile = replace(profile, interruptions=read_interruptions(path.parent / "interruptions.toml", refused))
    folders = (path.parent / "calendar", path.parent / "calendar.d")
    return profile, read_calendars(folders, limit.region, refused)


def _check_release(file: TomlFile, release: Release, limit: Limit) -> None:
    if release.when is not FreeWhen.OFF and limit.satisfied_by is Milestone.LOCAL:
        reason = "would free the copies by which this station is the 专用存储器 (deadline.satisfied_by = local)"
        file.problem("release.when", release.when.value, reason)


def _check_command(file: TomlFile, transcript: Transcripts) -> None:
    command = transcript.command
    if not command:
        return
    if not command[0].startswith("/") or not any("{original}" in word for word in command):
        reason = "must begin with a program's absolute path, and have {original} where the path of a recording goes"
        file.problem("transcript.command", " ".join(command), reason)
    if not transcript.tool:
        reason = "must say which tool in which version it is: that is kept with every text it makes"
        file.problem("transcript.tool", transcript.tool, reason)
