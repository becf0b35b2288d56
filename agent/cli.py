"""The command line: run the daemon, dock by hand, ask for the status, verify, resume, check the configuration."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from agent import __version__
from agent.config import Config, checked, load
from agent.control import NotRunningError, ask
from agent.deadline import Rules
from agent.device_verbs import add_device_verbs
from agent.errors import AgentError, ConfigError, DeviceError, EvidenceError, JournalError, StoreError
from agent.journal import Reader, rebuild
from agent.model import Phase
from agent.pipeline.verify import Report, Tell, verify
from agent.service import opened_store, progress_fields, pull_by_hand, resume_by_hand, say_by_hand, serve
from agent.status.client import StatusUnavailable, fetch_status
from agent.status.explain import explain, explanation
from agent.status.summary import summary
from agent.uploader.base import Trait
from agent.vault import Vault

Fields = dict[str, Any]

DEFAULT_CONFIG: Final = Path("/etc/capture-agent/agent.toml")


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


_EXIT_OF: Final[Mapping[type[AgentError], Exit]] = {
    ConfigError: Exit.CONFIG,
    DeviceError: Exit.DEVICE,
    StoreError: Exit.STORE,
    EvidenceError: Exit.EVIDENCE,
    JournalError: Exit.JOURNAL,
    StatusUnavailable: Exit.NOT_RUNNING,
}
_ENDED: Final = frozenset({Phase.FINISHED, Phase.FAILED, Phase.UNPLUGGED, Phase.UNSUPPORTED})
_POLL_S: Final = 0.3
_VERDICT: Final[Mapping[bool | None, str]] = {True: "ok  ", False: "BAD ", None: "    "}

EXIT_CODES: Final = """exit codes:
  0  done, and true
  1  evidence: a file is missing, differs, or was left or unreadable on the recorder
  2  the command line is wrong
  3  the configuration is wrong
  4  the recorder or image can't be read
  5  the store refused or could not prove that it keeps an original
  6  the journal is in use by another process, or contradicts itself
  7  the service is not running, or can't serve its status
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `capture-agent`; prints errors as sentences, never as tracebacks."""
    options = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return int(command(options))
    except AgentError as error:
        return _complain(error, options)
    except KeyboardInterrupt:
        print("interrupted; nothing is lost, the next start goes on where this stopped", file=sys.stderr)
        return 130


def _complain(error: AgentError, options: argparse.Namespace) -> int:
    code = next((code for kind, code in _EXIT_OF.items() if isinstance(error, kind)), Exit.EVIDENCE)
    if getattr(options, "json", False):
        print(json.dumps({"error": error.what, "safe": error.safe, "do": error.do, "exit": int(code)}))
    else:
        print(f"capture-agent: {error}", file=sys.stderr)
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="capture-agent", epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Pulls enforcement recordings off docked recorders, proves them unaltered, stores them in time.",
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"capture-agent {__version__}")
    parser.add_argument("--config", type=Path, default=DEFAULT_CONFIG, metavar="FILE", help="default: %(default)s")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command)
        return sub

    add("run", _run, "run the service: detect recorders, pull, verify, store")
    pull = add("pull", _pull, "dock a block device or an image file by hand")
    pull.add_argument("path", type=Path, metavar="DEVICE|IMAGE")
    _json_option(pull)
    _json_option(add("status", _status, "show slots, recordings at risk and the state of the station"))
    verify = add("verify", _verify, "check the journal, read every original, and have the store prove each stored one")
    verify.add_argument("--journal-only", action="store_true", help="don't read the originals again")
    verify.add_argument("--rebuild", action="store_true", help="write the tables anew from the log (service stopped)")
    _json_option(verify)
    resume = add("resume", _resume, "let a stuck recording be tried again")
    resume.add_argument("asset", metavar="ID", help="asset or recording id, as the status shows it")
    resume.add_argument("--who", required=True, help="who decided this (is kept in the journal)")
    resume.add_argument("--why", required=True, help="why (is kept in the journal)")
    _json_option(resume)
    _deadline_options(add("deadline", _explain, "explain a recording's time limit; state its time; declare a return"))
    device = commands.add_parser("device", help="hand recorders out, take them back, tell which are missing")
    add_device_verbs(device, _now)
    check = add("config", _config_check, "check the configuration")
    check.add_argument("action", choices=["check"])
    _json_option(check)
    store = add("store", _store_check, "find out what the store can do by trying it with a probe, and what to mend")
    store.add_argument("action", choices=["check"])
    _json_option(store)
    return parser


def _deadline_options(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def add(name: str, command: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(command=command, verb=name)
        sub.add_argument("id", metavar="ID", help="asset or recording id, as the status shows it")
        _json_option(sub)
        return sub

    add("explain", _explain, "rule, article, start, each day and why it counts, verdict and why")
    state = add("state", _say, "a person states when a recording was completed whose recorder's clock can't tell")
    state.add_argument("--made", dest="at", required=True, metavar="TIME", help='like "2026-11-20 16:30", in China')
    declare = add("declare", _say, "a person declares an event from which a rule of the profile counts")
    declare.add_argument("--event", required=True, help="its name in the profile, like return_to_unit")
    declare.add_argument("--at", required=True, metavar="TIME", help='like "2026-11-20 16:30", in China')
    declare.add_argument("--cause", required=True, metavar="CODE", help="which of the article's causes, like LATE-02")
    for sub in (state, declare):
        sub.add_argument("--who", required=True, help="who says so (is kept in the journal)")
        sub.add_argument("--why", required=True, help="why (is kept in the journal)")


def _json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def _now() -> datetime:
    return datetime.now(UTC)


def _run(options: argparse.Namespace) -> int:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("capture-agent").setLevel(logging.INFO)  # libraries only speak up when something is wrong
    asyncio.run(serve(load(options.config), _now))
    return Exit.OK


def _pull(options: argparse.Namespace) -> int:
    config = load(options.config)
    bar = _Bar(show=not options.json)
    fields = asyncio.run(_pulled(config, options.path.absolute(), bar))
    bar.end()
    if options.json:
        print(json.dumps(fields, ensure_ascii=False))
    else:
        print(_told(fields))
    if fields["may_remove"]:
        return Exit.OK
    return Exit.EVIDENCE if fields["files_total"] else Exit.DEVICE


async def _pulled(config: Config, path: Path, bar: _Bar) -> Fields:
    """By the running service if there is one, since only one process may write the journal; else by ourselves."""
    try:
        answer = await ask(config.storage.root, "dock", {"path": str(path)})
    except NotRunningError:
        return progress_fields(await pull_by_hand(config, path, _now, lambda shown: bar.draw(progress_fields(shown))))
    while True:
        fields = await _slot(config, str(answer["slot"]))
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


def _told(fields: Fields) -> str:
    outcomes = ", ".join(f"{files} {name.replace('_', ' ')}" for name, files in fields["outcomes"].items() if files)
    verdict = "every file is safe here" if fields["may_remove"] else fields["message"] or "not everything is safe here"
    return f"{fields['files_total']} files seen: {outcomes or 'none'}; {verdict}"


def _status(options: argparse.Namespace) -> int:
    config = load(options.config)
    shown = fetch_status(config.status.host, config.status.port)
    print(json.dumps(shown, ensure_ascii=False) if options.json else summary(shown))
    return Exit.OK


def _verify(options: argparse.Namespace) -> int:
    config = load(options.config)
    journal = config.storage.root / "journal.db"
    if options.rebuild:
        rebuild(journal)
    vault = Vault(config.storage.root, seal=False)
    tell = _Counter(show=not options.json and sys.stderr.isatty())
    report = asyncio.run(_verified(config, journal, vault, tell, read_originals=not options.journal_only))
    tell.end()
    if options.json:
        print(json.dumps(asdict(report) | {"sound": report.sound}, ensure_ascii=False))
    else:
        for problem in report.problems:
            print(f"PROBLEM {problem}")
        print(
            f"{report.events} events, {report.originals} originals ({report.checked_bytes} bytes) read,"
            f" {report.stored} stored copies proved, {report.read_back} of them read back:"
            f" {'all as recorded' if report.sound else f'{len(report.problems)} problems'}"
        )
    return Exit.OK if report.sound else Exit.EVIDENCE


async def _verified(config: Config, journal: Path, vault: Vault, tell: Tell, *, read_originals: bool) -> Report:
    async with opened_store(config, _now) as store:
        return await verify(journal, vault, store, _now(), tell, read_originals=read_originals)


def _resume(options: argparse.Namespace) -> int:
    config = load(options.config)
    asset = asyncio.run(_resumed(config, options.asset, options.who, options.why))
    print(json.dumps({"asset": asset}) if options.json else f"{asset} is tried again")
    return Exit.OK


async def _resumed(config: Config, identifier: str, who: str, why: str) -> str:
    try:
        answer = await ask(config.storage.root, "resume", {"id": identifier, "who": who, "why": why})
        return str(answer["asset"])
    except NotRunningError:
        return await resume_by_hand(config, _now, identifier, who, why)


def _explain(options: argparse.Namespace) -> int:
    config = load(options.config)
    with contextlib.closing(Reader(config.storage.root / "journal.db")) as reader:
        row = reader.recording(options.id)
    told = explain(row, Rules(config.profile, config.calendars), config.deadline.satisfied_by, _now())
    print(json.dumps(told, ensure_ascii=False) if options.json else explanation(told))
    return Exit.OK


def _say(options: argparse.Namespace) -> int:
    config = load(options.config)
    asked = {name: value for name in ("id", "at", "event", "cause", "who", "why") if (value := _text(options, name))}
    fields = asyncio.run(_said(config, options.verb, asked))
    print(json.dumps(fields) if options.json else f"due at {fields['due_at']} by {fields['rule']}, {fields['basis']}")
    return Exit.OK


def _text(options: argparse.Namespace, name: str) -> str:
    return str(getattr(options, name, ""))


async def _said(config: Config, verb: str, asked: dict[str, str]) -> Fields:
    try:
        return await ask(config.storage.root, verb, asked)
    except NotRunningError:
        return await say_by_hand(config, _now, verb, asked)


async def _look(config: Config) -> None:
    async with opened_store(config, _now) as store:
        await store.look()


def _config_check(options: argparse.Namespace) -> int:
    config = checked(options.config)
    try:
        asyncio.run(_look(config))
    except StoreError as error:
        raise ConfigError(error.what, safe="Nothing was changed.", do=error.do) from error
    years = ", ".join(str(year) for year in sorted(config.calendars))
    if options.json:
        print(
            json.dumps({"config": str(config.path), "profile": config.profile.name, "years": sorted(config.calendars)})
        )
    else:
        print(f"{config.path}: correct; profile {config.profile.name}, holiday notices for {years}")
    return Exit.OK


def _store_check(options: argparse.Namespace) -> int:
    config = load(options.config)
    traits = asyncio.run(_survey(config))
    if options.json:
        found = {"store": config.store.name, "kind": config.store.kind, "traits": [asdict(trait) for trait in traits]}
        print(json.dumps(found, ensure_ascii=False))
    else:
        for trait in traits:
            print(f"{_VERDICT[trait.good]} {trait.name}: {trait.what}")
            if trait.do:
                print(f"     {'mend it: ' if trait.good is False else ''}{trait.do}")
    return Exit.STORE if any(trait.good is False for trait in traits) else Exit.OK


async def _survey(config: Config) -> Sequence[Trait]:
    async with opened_store(config, _now) as store:
        return await store.survey()


class _Bar:
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


if __name__ == "__main__":
    sys.exit(main())
