"""`capture-agent pull`: dock a block device or an image file by hand, and watch."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from pathlib import Path
from typing import Final

from agent.config import Config, load
from agent.control import NotRunningError, ask
from agent.model import Clock, Phase
from agent.opening import progress_fields, pull_by_hand
from agent.status.client import StatusUnavailable
from agent.verbs.base import Add, Exit, Fields, json_option

_ENDED: Final = frozenset({Phase.FINISHED, Phase.FAILED, Phase.UNPLUGGED, Phase.UNSUPPORTED})
_POLL_S: Final = 0.3


def add_pull(add: Add) -> None:
    """`capture-agent pull`."""
    pull = add("pull", _pull, "dock a block device or an image file by hand")
    pull.add_argument("path", type=Path, metavar="DEVICE|IMAGE")
    json_option(pull)


def _pull(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    bar = Bar(show=not options.json)
    fields = asyncio.run(_pulled(config, clock, options.path.absolute(), bar))
    return ended(options, fields, bar)


def ended(options: argparse.Namespace, fields: Fields, bar: Bar) -> int:
    """Print what became of a docking; returns the exit code."""
    bar.end()
    if options.json:
        print(json.dumps(fields, ensure_ascii=False))
    else:
        print(told(fields))
    if fields["may_remove"]:
        return Exit.OK
    return Exit.EVIDENCE if fields["files_total"] else Exit.DEVICE


async def _pulled(config: Config, clock: Clock, path: Path, bar: Bar) -> Fields:
    """By the running service if there is one, since only one process may write the journal; else by ourselves."""
    try:
        answer = await ask(config.storage.root, "dock", {"path": str(path)})
    except NotRunningError:
        return progress_fields(await pull_by_hand(config, path, clock, lambda shown: bar.draw(progress_fields(shown))))
    return await watched(config, str(answer["slot"]), bar)


async def watched(config: Config, slot: str, bar: Bar) -> Fields:
    """Draw the progress of a docking by hand until it has ended; raises StatusUnavailable if the service does."""
    while True:
        fields = await _slot(config, slot)
        bar.draw(fields)
        if fields.get("phase") in _ENDED:
            return fields
        await asyncio.sleep(_POLL_S)


async def _slot(config: Config, slot: str) -> Fields:
    with contextlib.suppress(NotRunningError):
        if fields := await ask(config.storage.root, "slot", {"slot": slot}):
            return fields
    raise StatusUnavailable(
        "The service ended before it had finished.",
        safe="What it had pulled is safe; the rest is on the recorder.",
        do="Start it again, then pull again: it goes on where it stopped.",
    )


def told(fields: Fields) -> str:
    """Return what became of the files, in one sentence."""
    outcomes = ", ".join(f"{files} {name.replace('_', ' ')}" for name, files in fields["outcomes"].items() if files)
    verdict = "every file is safe here" if fields["may_remove"] else fields["message"] or "not everything is safe here"
    return f"{fields['files_total']} files seen: {outcomes or 'none'}; {verdict}"


class Bar:
    """A progress line on a terminal; one line per phase elsewhere."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._live = sys.stderr.isatty()
        self._phase = ""

    def draw(self, fields: Fields) -> None:
        """Show a slot's progress."""
        if not fields or not self._show or (not self._live and fields["phase"] == self._phase):
            return
        self._phase = fields["phase"]
        share = fields["bytes_done"] / fields["bytes_total"] if fields["bytes_total"] else 0.0
        filled = min(24, int(share * 24))
        line = (
            f"{fields['phase']:<11} [{'#' * filled}{'.' * (24 - filled)}]"
            f" {fields['files_done']}/{fields['files_total']} files"
            f" {fields['bytes_done'] / 1e6:.0f}/{fields['bytes_total'] / 1e6:.0f} MB"
        )
        if fields["eta_s"] is not None and fields["phase"] == Phase.READING:
            line += f" {fields['rate_bytes_s'] / 1e6:.0f} MB/s, {fields['eta_s']:.0f} s left"
        print(f"\r\033[K{line}" if self._live else line, end="" if self._live else "\n", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._show and self._live:
            print(file=sys.stderr)
