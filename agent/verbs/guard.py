"""`capture-agent guard`: what others did to this station's files, and that a person has looked at it."""

from __future__ import annotations

import argparse
import asyncio
from contextlib import closing

from agent.config import load
from agent.deadline import ZONE
from agent.errors import RequestError
from agent.journal import Reader
from agent.journal.guard_queries import Alarm, open_alarms
from agent.model import Clock
from agent.register import line
from agent.verbs.base import Add, Exit, entered, json_option, show, text_of


def add_guard(add: Add) -> None:
    """`capture-agent guard`."""
    options = add("guard", _guard, "list what others did to this station's files, or say that a person looked at it")
    options.add_argument("--examined", action="store_true", help="all alarms so far were looked at; they stay known")
    for name, does in (("--who", "who did"), ("--why", "what came of it")):
        options.add_argument(name, type=text_of(line), help=f"{does} (is kept in the journal)")
    json_option(options)


def _guard(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    if options.examined:
        if options.who is None or options.why is None:
            raise RequestError("--examined needs --who and --why.", safe="Nothing was changed.")
        told = asyncio.run(entered(config, clock, "guard_examined", {"who": options.who, "why": options.why}))
        return show(options, told, [f"{told['alarms']} alarms examined, event {told['seq']}"])
    with closing(Reader(config.storage.root / "journal.db")) as reader:
        alarms = open_alarms(reader.alarms()[0])
    rows = [{"at": alarm.at.astimezone(ZONE).isoformat(), **alarm.detail} for alarm in alarms]
    show(options, {"alarms": rows}, map(_line, alarms) if alarms else ["nothing was changed by others"])
    return Exit.EVIDENCE if alarms else Exit.OK


def _line(alarm: Alarm) -> str:
    told = alarm.detail
    name = told.get("path") or f"{told.get('names', '')} more names"
    return f"{alarm.at.astimezone(ZONE):%Y-%m-%d %H:%M:%S}  {name}: {', '.join(map(str, told.get('what', ())))}"
