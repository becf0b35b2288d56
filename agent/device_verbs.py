"""`capture-agent device`: hand recorders out, take them back, and tell which are missing and since when."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from contextlib import closing
from datetime import datetime
from typing import Any

from agent.config import Config, load
from agent.control import NotRunningError, ask
from agent.deadline import Rules
from agent.errors import JournalError
from agent.journal import Reader
from agent.model import Clock
from agent.register import line, moment
from agent.service import hand_over_by_hand
from agent.status.devices import DOCKINGS, device_lines, devices_view
from agent.status.summary import printable


def add_device_verbs(parser: argparse.ArgumentParser, clock: Clock) -> None:
    """Give the parser of `device` its verbs; each sets `command`, which returns 0 or raises AgentError."""
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")

    def add(name: str, text: str, command: Callable[[argparse.Namespace, Clock], int]) -> argparse.ArgumentParser:
        verb = verbs.add_parser(name, help=text, description=text)
        verb.set_defaults(command=lambda options: command(options, clock))
        return verb

    issued = add("issue", "a recorder is handed out", _handed_over)
    issued.add_argument("--to", required=True, type=_read(line), metavar="OFFICER_REF", help="to whom: a reference")
    issued.add_argument("--back-by", type=_read(_time), metavar="TIME", help="when it is expected back")
    issued.set_defaults(verb="device_issue", asks=("id", "to", "at", "back_by", "who", "why"))
    returned = add("return", "a recorder came back, and was not docked", _handed_over)
    text = "it can never be docked (lost, broken): stop waiting for what is on it"
    returned.add_argument("--unread", action="store_const", const="yes", default="", help=text)
    returned.set_defaults(verb="device_return", asks=("id", "at", "who", "why", "unread"))
    for verb in (issued, returned):
        verb.add_argument("id", type=_read(line), metavar="ID", help="id of the recorder in inventory.toml")
        verb.add_argument("--at", required=True, type=_read(_time), metavar="TIME", help="when, like 2026-11-22T08:30")
        verb.add_argument("--who", required=True, type=_read(line), help="who enters this (is kept in the journal)")
        verb.add_argument("--why", required=True, type=_read(line), help="why (is kept in the journal)")
    for verb in (issued, returned, add("list", "which recorders are here, handed out, missing, or not known", _list)):
        verb.add_argument("--json", action="store_true", help="print one JSON object")


def _read(reader: Callable[[str], str]) -> Callable[[str], str]:
    """What is wrong is told without what was given: it may be long, or steer the terminal."""

    def read(text: str) -> str:
        try:
            return reader(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _time(text: str) -> str:
    return moment(text).isoformat()


def _handed_over(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    asked = {name: getattr(options, name) or "" for name in options.asks}
    answer = asyncio.run(_entered(config, clock, options.verb, asked))
    print(json.dumps(answer) if options.json else f"{answer['recorder']}: {answer['custody']}")
    return 0


async def _entered(config: Config, clock: Clock, verb: str, asked: dict[str, str]) -> dict[str, object]:
    """By the running service if there is one, since only one process may write the journal; else by ourselves."""
    try:
        return await ask(config.storage.root, verb, asked)
    except NotRunningError:
        return await hand_over_by_hand(config, clock, verb, asked)


def _list(options: argparse.Namespace, clock: Clock) -> int:
    devices = _devices(load(options.config), clock())
    if options.json:
        print(json.dumps(devices, ensure_ascii=False))
        return 0
    for text in device_lines(devices, everything=True):
        print(printable(text))
    return 0


def _devices(config: Config, now: datetime) -> dict[str, Any]:
    """Read beside the service, which may run or not."""
    rules = Rules(config.profile, config.calendars)
    journal = config.storage.root / "journal.db"
    try:
        journal.stat()
    except FileNotFoundError:
        return devices_view(config.inventory, {}, (), rules, now)  # nothing was ever handed out
    except OSError as error:
        what = f"The journal {journal} can't be read: {error.strerror}."
        raise JournalError(what, safe="Nothing was touched.", do="Run it as the service's user.") from error
    with closing(Reader(journal)) as reader:
        return devices_view(config.inventory, reader.standings(), reader.dockings(limit=DOCKINGS), rules, now)
