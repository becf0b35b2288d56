"""`capture-agent verify`: journal, originals and stored copies, checked from end to end."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path

from agent.config import Config, load
from agent.journal import rebuild
from agent.model import Clock
from agent.opening import opened_store
from agent.pipeline.verify import Report, Tell, verify
from agent.vault import Vault
from agent.verbs.base import Add, Exit, json_option


def add_verify(add: Add) -> None:
    """`capture-agent verify`."""
    text = "check the journal, read every original, and have the store prove each stored one"
    options = add("verify", _verify, text)
    options.add_argument("--journal-only", action="store_true", help="don't read the originals again")
    options.add_argument("--rebuild", action="store_true", help="write the tables anew from the log (service stopped)")
    json_option(options)


def _verify(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    journal = config.storage.root / "journal.db"
    if options.rebuild:
        rebuild(journal)
    vault = Vault(config.storage.root, seal=False)
    tell = _Counter(show=not options.json and sys.stderr.isatty())
    report = asyncio.run(_verified(config, clock, journal, vault, tell, read_originals=not options.journal_only))
    tell.end()
    if options.json:
        print(json.dumps(asdict(report) | {"sound": report.sound}, ensure_ascii=False))
    else:
        for problem in report.problems:
            print(f"PROBLEM {problem}")
        print(
            f"{report.events} events, {report.originals} files ({report.checked_bytes} bytes) read,"
            f" {report.stored} stored copies proved, {report.read_back} of them read back:"
            f" {'all as recorded' if report.sound else f'{len(report.problems)} problems'}"
        )
    return Exit.OK if report.sound else Exit.EVIDENCE


async def _verified(
    config: Config, clock: Clock, journal: Path, vault: Vault, tell: Tell, *, read_originals: bool
) -> Report:
    async with opened_store(config, clock) as store:
        return await verify(journal, vault, store, clock(), tell, read_originals=read_originals)


class _Counter:
    """Tells how far `verify` is, on a terminal."""

    def __init__(self, *, show: bool) -> None:
        self._show = show

    def __call__(self, what: str, done: int, total: int) -> None:
        if self._show:
            print(f"\r\033[K{what}: {done} of {total}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._show:
            print(file=sys.stderr)
