"""`capture-agent deadline`: explain a recording's time limit; state its time; declare a return."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json

from agent.config import load
from agent.deadline import Rules
from agent.journal import Reader
from agent.model import Clock
from agent.status.explain import explain, explanation
from agent.verbs.base import Add, Command, Exit, entered, group, json_option, signed_options


def add_deadline(add: Add, clock: Clock) -> None:
    """`capture-agent deadline` and its verbs."""
    own = group(add, clock, "deadline", "explain a recording's time limit; state its time; declare a return")

    def one(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        verb = own(name, command, text)
        verb.add_argument("id", metavar="ID", help="asset or recording id, as the status shows it")
        json_option(verb)
        return verb

    one("explain", _explain, "rule, article, start, each day and why it counts, verdict and why")
    state = one("state", _say, "a person states when a recording was completed whose recorder's clock can't tell")
    state.add_argument("--made", dest="at", required=True, metavar="TIME", help='like "2026-11-20 16:30", in China')
    declare = one("declare", _say, "a person declares an event from which a rule of the profile counts")
    declare.add_argument("--event", required=True, help="its name in the profile, like return_to_unit")
    declare.add_argument("--at", required=True, metavar="TIME", help='like "2026-11-20 16:30", in China')
    declare.add_argument("--cause", required=True, metavar="CODE", help="which of the article's causes, like LATE-02")
    for verb in (state, declare):
        signed_options(verb, "says so")


def _explain(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    with contextlib.closing(Reader(config.storage.root / "journal.db")) as reader:
        row = reader.recording(options.id)
    told = explain(row, Rules(config.profile, config.calendars), config.deadline.satisfied_by, clock())
    print(json.dumps(told, ensure_ascii=False) if options.json else explanation(told))
    return Exit.OK


def _say(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    asked = {name: value for name in ("id", "at", "event", "cause", "who", "why") if (value := _text(options, name))}
    fields = asyncio.run(entered(config, clock, options.verb, asked))
    print(json.dumps(fields) if options.json else f"due at {fields['due_at']} by {fields['rule']}, {fields['basis']}")
    return Exit.OK


def _text(options: argparse.Namespace, name: str) -> str:
    return str(getattr(options, name, ""))
