"""What the verbs share: exit codes, options that mean the same everywhere, and how a verb gets into the parser."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any

from agent.config import Config
from agent.control import NotRunningError, ask
from agent.errors import RequestError
from agent.model import Clock
from agent.status.summary import printable
from agent.status.views import to_json

Fields = dict[str, Any]
"""A JSON object to print."""

Command = Callable[[argparse.Namespace, Clock], int]
"""Does what was asked and returns the exit code, or raises AgentError."""

Add = Callable[[str, Command, str], argparse.ArgumentParser]
"""Adds a verb: its name, what it does, and the sentence that the help shows."""


class Exit(IntEnum):
    """Exit codes, the same for every command; documented in `capture-agent --help` and the README."""

    OK = 0
    EVIDENCE = 1
    USAGE = 2
    CONFIG = 3
    DEVICE = 4
    STORE = 5
    JOURNAL = 6
    NOT_RUNNING = 7
    BAD = 8
    DOUBT = 9


def verbs(parser: argparse.ArgumentParser, clock: Clock, title: str, metavar: str) -> Add:
    """Return what adds verbs to a parser; each sets `command`, which takes the options, and `verb`, its name."""
    found = parser.add_subparsers(title=title, required=True, metavar=metavar)

    def add(name: str, command: Command, text: str) -> argparse.ArgumentParser:
        verb = found.add_parser(name, help=text, description=text)
        verb.set_defaults(command=lambda options: command(options, clock), verb=name)
        return verb

    return add


def group(add: Add, clock: Clock, name: str, text: str) -> Add:
    """Add a verb that has verbs of its own; returns what adds those."""

    def none(_options: argparse.Namespace, _clock: Clock) -> int:
        raise AssertionError("one of its verbs is required")

    return verbs(add(name, none, text), clock, "verbs", "VERB")


def json_option(parser: argparse.ArgumentParser) -> None:
    """Give a verb --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def signed_options(parser: argparse.ArgumentParser, does: str, reader: Callable[[str], str] = str) -> None:
    """Give a verb --who and --why, which go into the journal."""
    parser.add_argument("--who", required=True, type=reader, help=f"who {does} (is kept in the journal)")
    parser.add_argument("--why", required=True, type=reader, help="why (is kept in the journal)")


def text_of(reader: Callable[[str], str]) -> Callable[[str], str]:
    """What is wrong is told without what was given: it may be long, or steer the terminal."""

    def read(text: str) -> str:
        try:
            return reader(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def here(original: Path) -> Path:
    """The file of an original; raises RequestError if this station has none (any more)."""
    if not original.exists():
        what = "本机没有该原始资料，其副本可能已释放 / the original is not here: its copy may have been freed."
        raise RequestError(what, safe="Nothing was changed.", do="Do it where the original is.")
    return original


def show(options: argparse.Namespace, told: Fields, lines: Iterable[str]) -> int:
    """Print one JSON object if that was asked for, else its lines."""
    for text in [to_json(told).decode()] if options.json else map(printable, lines):
        print(text)
    return Exit.OK


async def entered(
    config: Config, clock: Clock, verb: str, asked: dict[str, str], content: bytes | None = None
) -> Fields:
    """By the running service if there is one, since only one process may write the journal; else by ourselves.

    `content`: what `control.read_file` gave, for one of the FILE_VERBS. Raises AgentError as the verb does.
    """
    try:
        return await ask(config.storage.root, verb, asked, content)
    except NotRunningError:  # only now all is needed that a station is made of
        from agent.opening import opened
        from agent.pipeline.asked import FILE_VERBS, VERBS

        async with opened(config, clock) as station:
            if content is not None:
                return await FILE_VERBS[verb](station, asked, content)
            return await VERBS[verb](station, asked)
