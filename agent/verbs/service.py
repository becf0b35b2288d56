"""`capture-agent run`, `status`, `top`, `unstored`, `resume`: the service, what it shows, a person's word to it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from contextlib import closing
from functools import partial
from typing import Final

from agent.config import Config, load
from agent.journal import Reader
from agent.journal.views import Tally
from agent.logs import logging_service
from agent.model import Clock
from agent.status.client import fetch_status
from agent.status.summary import summary
from agent.status.views import to_json
from agent.verbs.base import Add, Exit, Fields, entered, json_option, signed_options

_TURN_S: Final = 0.0005
"""A thread that computes gives way after so long: the screens' thread asks for its turn at each line it sends."""


def add_run(add: Add) -> None:
    """`capture-agent run`."""
    add("run", _run, "run the service: detect recorders, pull, verify, store")


def add_status(add: Add) -> None:
    """`capture-agent status`."""
    json_option(add("status", _status, "show slots, recordings at risk and the state of the station"))


def add_top(add: Add) -> None:
    """`capture-agent top`."""
    top = add("top", _top, "show the same again and again, until Ctrl-C")
    top.add_argument("--interval", type=_seconds, default=1.0, metavar="SECONDS", help="default: %(default)s")
    top.add_argument("--count", type=_times, metavar="N", help="how many times; default: until Ctrl-C")
    json_option(top)


def add_unstored(add: Add) -> None:
    """`capture-agent unstored`."""
    json_option(add("unstored", _unstored, "count what is only here; exit code 1 if there is anything"))


def add_resume(add: Add) -> None:
    """`capture-agent resume`."""
    resume = add("resume", _resume, "let a stuck recording be tried again")
    resume.add_argument("asset", metavar="ID", help="asset or recording id, as the status shows it")
    signed_options(resume, "decided this")
    json_option(resume)


def _run(options: argparse.Namespace, clock: Clock) -> int:
    from agent.service import serve  # all that the other verbs here do without

    sys.setswitchinterval(_TURN_S)
    with logging_service():
        asyncio.run(serve(load(options.config), clock))
    return Exit.OK


def _status(options: argparse.Namespace, clock: Clock) -> int:
    shown = _fetched(load(options.config))
    if options.json:
        print(to_json(shown).decode())
    elif sys.stdout.isatty():
        from rich.console import Console

        from agent.status.terminal import screen

        console = Console()
        console.print(screen(shown, console.width))
    else:
        print(summary(shown))
    return Exit.OK


def _top(options: argparse.Namespace, clock: Clock) -> int:
    from rich.console import Console

    from agent.status.terminal import again, watch

    fetch = partial(_fetched, load(options.config))
    with contextlib.suppress(KeyboardInterrupt):
        if options.json:
            again(lambda: print(to_json(fetch()).decode(), flush=True), options.interval, options.count)
        else:
            watch(fetch, Console(), options.interval, options.count)
    return Exit.OK


def _fetched(config: Config) -> Fields:
    return fetch_status(config.storage.root)


def _seconds(text: str) -> float:
    if not 0.2 <= (found := float(text)) <= 3600:
        raise ValueError(text)
    return found


def _times(text: str) -> int:
    if (found := int(text)) < 1:
        raise ValueError(text)
    return found


def _unstored(options: argparse.Namespace, clock: Clock) -> int:
    root = load(options.config).storage.root
    found = Tally()
    if (root / "journal.db").exists() or (root / "vault").exists():
        with closing(Reader(root / "journal.db")) as reader:
            found = reader.only_here()
    if options.json:
        print(json.dumps({"folder": str(root), "files": found.files, "bytes": found.bytes}))
    else:
        print(f"{root}: {found.files} files ({found.bytes} bytes) that the store has not confirmed")
    return Exit.EVIDENCE if found.files else Exit.OK


def _resume(options: argparse.Namespace, clock: Clock) -> int:
    asked = {"id": options.asset, "who": options.who, "why": options.why}
    answer = asyncio.run(entered(load(options.config), clock, "resume", asked))
    print(json.dumps(answer) if options.json else f"{answer['asset']} is tried again")
    return Exit.OK
