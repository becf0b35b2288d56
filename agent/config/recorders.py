"""`recorders/*.toml`: how recorders of one model are spoken to over their serial line, step by step."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.config.environment import credential
from agent.config.options import NAME, TomlFile, Unfit, choice, flag, integer, number, option, text

TOLD: Final = frozenset({"id_code", "device_no", "officer_no", "unit_no", "model", "firmware", "battery_percent"})
"""What may be read off a recorder beside its clock; no names of persons or units."""

_FILES_LIMIT: Final = 64
_MATCHES_LIMIT: Final = 64
_STEPS_LIMIT: Final = 16
_TEXT_LIMIT: Final = 200
_USB: Final = re.compile(r"[0-9a-f]{4}:[0-9a-f]{4}")
_ZONE: Final = re.compile(r"([+-])(0\d|1[0-4]):([0-5]\d)")
_EXAMPLE: Final = datetime(2026, 11, 23, 16, 5, 9, tzinfo=UTC)


class Does(StrEnum):
    """What a step is for; they come in this order, and the clock is compared before anything else is asked."""

    GREET = "greet"
    UNLOCK = "unlock"
    CLOCK = "clock"
    TELL = "tell"
    DISK = "disk"
    SET_CLOCK = "set_clock"


class Parity(StrEnum):
    """The bit beside each byte."""

    NONE = "none"
    EVEN = "even"
    ODD = "odd"


class Flow(StrEnum):
    """Who may stop whom."""

    NONE = "none"
    HARDWARE = "rtscts"
    SOFTWARE = "xonxoff"


def _read(default: str, takes: str, fits: re.Pattern[str]) -> str:
    def read(value: object) -> str:
        if isinstance(value, str) and fits.fullmatch(value):
            return value
        raise Unfit(f"must be {takes}")

    return option(default, takes, read)


def _pattern() -> str:
    def read(value: object) -> str:
        if not isinstance(value, str) or len(value) > _TEXT_LIMIT:
            raise Unfit(f"must be a regular expression of up to {_TEXT_LIMIT} characters")
        try:
            re.compile(value)
        except re.error as error:
            raise Unfit(f"is no regular expression: {error}") from error
        return value

    return option("", "regular expression, which a whole answer must match", read)


def _wire(default: str) -> str:
    def read(value: object) -> str:
        if isinstance(value, str) and len(value) <= _TEXT_LIMIT:
            return value
        raise Unfit(f"must be up to {_TEXT_LIMIT} characters")

    return option(default, f"up to {_TEXT_LIMIT} characters as they are sent", read)


def _encoding() -> str:
    def read(value: object) -> str:
        if value in {"ascii", "gbk", "utf-8"}:
            return str(value)
        raise Unfit('must be "ascii", "gbk" or "utf-8"')

    return option("ascii", '"ascii", "gbk" or "utf-8"', read)


@dataclass(frozen=True, slots=True)
class Match:
    """[[match]]: whose line it is: that of a USB device in any slot, or one that is wired to one `slot` as `node`."""

    usb: str = _read("", "numbers of vendor and product as lsusb shows them, like 2bdf:0280", _USB)
    slot: str = text("", 200)
    node: str = _read("", "a serial line, like /dev/ttyS1", re.compile(r"/[\w./:+-]{1,199}", re.ASCII))


@dataclass(frozen=True, slots=True)
class Wire:
    """[line]: how bytes go over the line; `end` ends each request and each answer."""

    baud: int = integer(115200, 300, 4_000_000)
    bits: int = integer(8, 7, 8)
    parity: Parity = choice(Parity.NONE)
    stop_bits: int = integer(1, 1, 2)
    flow: Flow = choice(Flow.NONE)
    end: str = _wire("\r\n")
    encoding: str = _encoding()
    wait_s: float = number(1.0, 0.05, 10, "seconds")


@dataclass(frozen=True, slots=True)
class Step:
    """[[step]]: one request and the answer that it must get; `refused` is an answer that means no.

    The named groups of `expect` are what is taken from it: those of TOLD, and `clock` in a clock step. `{password}`
    in `send` is the credential's, `{clock}` the time in `clock_format`. An `optional` step may fail.
    """

    does: Does = choice(Does.TELL)
    send: str = _wire("")
    expect: str = _pattern()
    refused: str = _pattern()
    optional: bool = flag(default=False)


@dataclass(frozen=True, slots=True)
class RecorderProfile:
    """One file of `recorders/`. `credential` names the systemd credential with the recorder's password, if it has one.

    `clock_format` (strftime) and `clock_zone` are how it shows its time, which it does in steps of `clock_step_ms`.
    `set_clock`: set it after all that is on it was taken over; never before, and not unless somebody says so here.
    """

    name: str = ""
    title: str = text("", 64)
    credential: str = _read("", 'name of letters, digits, - and _, or "" for none', re.compile(f"({NAME.pattern})?"))
    clock_format: str = text("%Y%m%d%H%M%S", 64, shortest=1)
    clock_zone: str = _read("+08:00", "an offset like +08:00", _ZONE)
    clock_step_ms: int = integer(1000, 1, 60_000, "ms")
    set_clock: bool = flag(default=False)
    matches: tuple[Match, ...] = ()
    wire: Wire = Wire()
    steps: tuple[Step, ...] = ()

    @property
    def secret(self) -> Path | None:
        """The file with the password; None without a credential."""
        return credential(f"capture-agent.recorder-{self.credential}") if self.credential else None

    @property
    def zone_min(self) -> int:
        """How far its clock's zone is ahead of UTC."""
        match = _ZONE.fullmatch(self.clock_zone)
        assert match is not None
        return (int(match[2]) * 60 + int(match[3])) * (-1 if match[1] == "-" else 1)


def read_recorders(folder: Path) -> tuple[Mapping[str, RecorderProfile], tuple[str, ...]]:
    """The profiles by file name, none without the folder, and what is wrong with them.

    A wrong profile is left out as a whole: its recorders are pulled, but nobody speaks to them.
    """
    problems: list[str] = []
    found: dict[str, RecorderProfile] = {}
    paths = sorted(folder.glob("*.toml"))
    if len(paths) > _FILES_LIMIT:
        problems.append(f"{folder}: has {len(paths)} files, at most {_FILES_LIMIT} are read")
    for path in paths[:_FILES_LIMIT]:
        before = len(problems)
        file = TomlFile(path, problems)
        profile = _read_profile(file, path.stem, file.document())
        if len(problems) == before:
            for other in found.values():
                for match in set(other.matches) & set(profile.matches):
                    file.problem("match", match.usb or match.slot, f"is matched by {other.name}.toml, too")
        if len(problems) == before:
            found[path.stem] = profile
    return found, tuple(problems)


def _read_profile(file: TomlFile, name: str, document: Mapping[str, object]) -> RecorderProfile:
    options = dict(document)
    wire = file.section(Wire, options.pop("line", {}), "line")
    matches = [file.section(Match, one, "match") for one in _tables(file, "match", options, _MATCHES_LIMIT)]
    tables = _tables(file, "step", options, _STEPS_LIMIT)
    steps = [file.section(Step, one, "step") for one in tables]
    profile = file.section(RecorderProfile, options)
    profile = replace(profile, name=name, title=profile.title or name, matches=tuple(matches), wire=wire)
    profile = replace(profile, steps=tuple(steps))
    if not NAME.fullmatch(name):
        file.problem("", name, "the file's name must be of letters, digits, - and _")
    for match in matches:
        if bool(match.usb) is bool(match.slot) or bool(match.slot) is not bool(match.node):
            file.problem("match", match.usb, "must say either usb, or slot and node")
    for table in tables:
        file.require(table, ("does", "send", "expect"), "step.")
    _check_wire(file, wire)
    _check_clock(file, profile)
    _check_steps(file, profile)
    return profile


def _tables(file: TomlFile, key: str, options: dict[str, object], limit: int) -> Sequence[Mapping[str, object]]:
    found = options.pop(key, [])
    if isinstance(found, list) and 1 <= len(found) <= limit and all(isinstance(one, dict) for one in found):
        return found
    file.problem(key, None, f"must be 1 to {limit} tables, each under its own [[{key}]]")
    return ()


def _check_wire(file: TomlFile, wire: Wire) -> None:
    if not wire.end:
        file.problem("line.end", wire.end, "must not be empty: nobody could tell where an answer ends")


def _check_clock(file: TomlFile, profile: RecorderProfile) -> None:
    try:
        again = datetime.strptime(_EXAMPLE.strftime(profile.clock_format), profile.clock_format).replace(tzinfo=UTC)
    except ValueError:
        again = None
    if again != _EXAMPLE:
        reason = "must show year, month, day, hour, minute and second, and nothing of a zone"
        file.problem("clock_format", profile.clock_format, reason)


def _check_steps(file: TomlFile, profile: RecorderProfile) -> None:
    order = list(Does)
    for before, step in zip((None, *profile.steps), profile.steps, strict=False):
        if before is not None and order.index(step.does) < order.index(before.does):
            file.problem("step.does", step.does.value, f"must come in the order {', '.join(order)}")
        if step.does is not Does.TELL and before is not None and before.does is step.does:
            file.problem("step.does", step.does.value, "must be there once only")
        _check_step(file, profile, step)
    known = {step.does for step in profile.steps}
    if known and Does.CLOCK not in known and known & {Does.TELL, Does.DISK}:
        file.problem("step", None, "one must compare the clock: nothing else is asked of a recorder before that")
    if profile.set_clock and Does.SET_CLOCK not in known:
        file.problem("set_clock", profile.set_clock, 'needs a step that does = "set_clock"')


def _check_step(file: TomlFile, profile: RecorderProfile, step: Step) -> None:
    groups = set(re.compile(step.expect).groupindex)
    allowed = {"clock"} if step.does is Does.CLOCK else TOLD
    if strange := groups - allowed:
        file.problem("step.expect", step.expect, f"{', '.join(sorted(strange))} is not taken there")
    if step.does is Does.CLOCK and "clock" not in groups:
        file.problem("step.expect", step.expect, "must have a group (?P<clock>…)")
    if "{password}" in step.send and not profile.credential:
        file.problem("step.send", step.send, "has {password}, but no credential is named")
    if ("{clock}" in step.send) is not (step.does is Does.SET_CLOCK):
        file.problem("step.send", step.send, "{clock} belongs into the step that sets the clock, and only there")
    try:
        codecs.encode(step.send, profile.wire.encoding)
    except ValueError:
        file.problem("step.send", step.send, f"can't be written in {profile.wire.encoding}")
    if profile.wire.end and profile.wire.end in step.send:
        file.problem("step.send", step.send, "has the end of a line in it")
