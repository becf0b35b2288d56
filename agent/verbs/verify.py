"""`capture-agent verify`: the log, what is held here and what the store has, checked from end to end."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from dataclasses import asdict
from datetime import timedelta
from typing import Final

from agent.config import Config, load
from agent.journal import rebuild
from agent.model import Clock
from agent.opening import opened_store
from agent.pipeline.verify import Report, Scope, verify
from agent.vault import Vault
from agent.verbs.base import Add, Exit, json_option

_WIDTH: Final = 24
_EACH_S: Final = 0.2
_IN_EVENTS: Final = "events"


def add_verify(add: Add) -> None:
    """`capture-agent verify`."""
    text = "check the journal, read every original, and have the store prove each stored one"
    options = add("verify", _verify, text)
    only = options.add_mutually_exclusive_group()
    only.add_argument("--recording", default="", metavar="ID", help="only the log and what belongs to one recording")
    only.add_argument("--local", action="store_true", help="only this station: the log and what is held here")
    only.add_argument("--centre", action="store_true", help="only the log and what the store has")
    only.add_argument("--log-only", "--journal-only", action="store_true", help="don't read the originals again")
    options.add_argument("--resume", action="store_true", help="go on where the same call was interrupted")
    options.add_argument("--rebuild", action="store_true", help="write the tables anew from the log (service stopped)")
    json_option(options)


def _verify(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    if options.rebuild:
        rebuild(config.storage.root / "journal.db")
    bar = _Bar(show=not options.json and sys.stderr.isatty())
    report = asyncio.run(_verified(config, clock, options, bar))
    bar.end()
    if options.json:
        print(json.dumps(asdict(report) | {"sound": report.sound}, ensure_ascii=False))
        return Exit.OK if report.sound else Exit.EVIDENCE
    if options.resume and not report.resumed:
        print("begun anew: there was nothing to go on with, or the log is not the one that was checked then")
    for note in report.notes:
        print(f"NOTE {note}")
    for problem in report.problems:
        print(f"PROBLEM {problem}")
    print(
        f"{report.events} events, {report.checkpoints} signed checkpoints, {report.manifests} manifests,"
        f" {report.originals} files ({report.checked_bytes} bytes) read,"
        f" {report.stored} stored copies proved, {report.read_back} of them read back:"
        f" {'all as recorded' if report.sound else f'{report.found} problems'}"
    )
    return Exit.OK if report.sound else Exit.EVIDENCE


async def _verified(config: Config, clock: Clock, options: argparse.Namespace, bar: _Bar) -> Report:
    files, centre = not (options.log_only or options.centre), not (options.log_only or options.local)
    scope = Scope(files, centre, options.recording)
    root = config.storage.root
    async with opened_store(config, clock) as store:
        vault, known = Vault(root, seal=False), [one.verifier for one in config.log.witnesses]
        journal, resume = root / "journal.db", options.resume
        return await verify(journal, vault, store, bar, scope=scope, resume=resume, witnesses=known)


class _Bar:
    """Tells on a terminal how far `verify` is and how long it will take; callable from any thread that takes turns."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._what = ""
        self._from = (0.0, 0)
        self._next_s = 0.0

    def __call__(self, what: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if what != self._what:
            self._what, self._from, self._next_s = what, (now_s, done), 0.0
        if self._show and now_s >= self._next_s:
            self._next_s = now_s + _EACH_S
            print(f"\r\033[K{self._line(done, total, now_s)}", end="", file=sys.stderr, flush=True)

    def _line(self, done: int, total: int, now_s: float) -> str:
        share = min(1.0, done / total) if total else 1.0
        bar = "#" * int(share * _WIDTH)
        rate = (done - self._from[1]) / max(now_s - self._from[0], 1e-3)
        left = f"about {timedelta(seconds=round((total - done) / rate))} left" if rate > 0 else ""
        speed = f"{rate:.0f}/s" if self._what == _IN_EVENTS else f"{rate / 1e6:.0f} MB/s"
        return f"{self._what} [{bar:.<{_WIDTH}}] {share:4.0%}  {speed}  {left}"

    def end(self) -> None:
        """Leave the line."""
        if self._show:
            print(file=sys.stderr)
