"""`capture-agent device`: what is plugged in, who has which recorder, and which are missing since when."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from itertools import chain
from typing import Any

from agent.config import Config, load
from agent.deadline import Rules
from agent.errors import JournalError
from agent.journal import Reader
from agent.model import Clock
from agent.register import line, moment
from agent.status.absences import absence_lines
from agent.status.devices import DOCKINGS, device_lines, devices_view
from agent.status.plugged import plugged_lines
from agent.status.views import docking_view
from agent.verbs.base import Add, Exit, Fields, entered, group, json_option, show, signed_options, text_of
from agent.verbs.plugged import add_plugged, plugged_now


def add_device(add: Add, clock: Clock) -> None:
    """`capture-agent device` and its verbs."""
    own = group(
        add,
        clock,
        "device",
        "what is plugged in and why it is or isn't pulled; hand recorders out, take them back, tell which are missing",
    )
    issued = own("issue", _handed_over, "a recorder is handed out")
    issued.add_argument("--to", required=True, type=text_of(line), metavar="OFFICER_REF", help="to whom: a reference")
    issued.add_argument("--back-by", type=text_of(_time), metavar="TIME", help="when it is expected back")
    issued.set_defaults(verb="device_issue", asks=("id", "to", "at", "back_by", "who", "why"))
    returned = own("return", _handed_over, "a recorder came back, and was not docked")
    text = "it can never be docked (lost, broken): stop waiting for what is on it"
    returned.add_argument("--unread", action="store_const", const="yes", default="", help=text)
    returned.set_defaults(verb="device_return", asks=("id", "at", "who", "why", "unread"))
    for verb in (issued, returned):
        verb.add_argument("id", type=text_of(line), metavar="ID", help="id of the recorder in inventory.toml")
        verb.add_argument("--at", required=True, type=text_of(_time), metavar="TIME", help="like 2026-11-22T08:30")
        signed_options(verb, "enters this", text_of(line))
    listing = own("list", _list, "what is plugged in and why it is or isn't pulled; which recorders are here or out")
    gone = own("missing", _missing, "which recordings were on recorders and are not, in the latest dockings")
    for verb in (issued, returned, listing, gone):
        json_option(verb)
    add_plugged(own)


def _time(text: str) -> str:
    return moment(text).isoformat()


def _handed_over(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    asked = {name: getattr(options, name) or "" for name in options.asks}
    answer = asyncio.run(entered(config, clock, options.verb, asked))
    print(json.dumps(answer) if options.json else f"{answer['recorder']}: {answer['custody']}")
    return Exit.OK


def _missing(options: argparse.Namespace, _clock: Clock) -> int:
    with closing(Reader(load(options.config).storage.root / "journal.db")) as reader:
        dockings = reader.dockings(limit=DOCKINGS)
        found = [docking_view(one, reader.absences(one.docking_id)) for one in dockings]
    return show(options, {"dockings": found}, (text for one in found for text in _missing_lines(one)))


def _missing_lines(one: Fields) -> Iterator[str]:
    yield f"docked {one['opened_at']}  {one['device']}: {len(one['absences'])} facts"
    yield from absence_lines(one["absences"], everything=True)


def _list(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    devices, now = _devices(config, clock()), plugged_now(config)
    return show(options, devices | now, chain(plugged_lines(now), device_lines(devices, everything=True)))


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
