"""`capture-agent release`: what would be freed here and why the rest stays; two persons' terms; what must stay."""

from __future__ import annotations

import argparse
import asyncio
import sys
from contextlib import closing
from dataclasses import asdict

from agent.config import Config, load
from agent.errors import RequestError
from agent.journal import Reader
from agent.journal.views import Tally
from agent.model import Clock, FreeWhen, Stays
from agent.pipeline.releasable import Plan, Rule, plan, too_many
from agent.register import line
from agent.status.words import named
from agent.verbs.base import Add, Fields, entered, json_option, show, text_of


def add_release(add: Add) -> None:
    """`capture-agent release`; there is no verb that frees anything: the service does, or nobody."""
    verb = add("release", _release, "local copies of what is stored: how many would go, who allows it, what must stay")
    what = verb.add_mutually_exclusive_group(required=True)
    what.add_argument("--dry-run", action="store_true", help="how many copies would go now, and why the others stay")
    what.add_argument("--ask", action="store_true", help="ask for the terms of the configuration to be in force")
    what.add_argument("--confirm", action="store_true", help="agree with what another person has asked for")
    what.add_argument("--freeze", nargs="+", metavar="ID", help="keep the copies of these recordings here (审核冻结)")
    what.add_argument("--thaw", nargs="+", metavar="ID", help="let the copies of these recordings go again")
    for name, does in (("--who", "who says so"), ("--why", "why")):
        verb.add_argument(name, type=text_of(line), help=f"{does} (is kept in the journal); not for --dry-run")
    json_option(verb)


def _release(options: argparse.Namespace, clock: Clock) -> int:
    config = load(options.config)
    if options.dry_run:
        return _dry_run(options, config, clock)
    if not (options.who and options.why):
        raise RequestError("须写明何人、为何 / say --who and --why.", safe="Nothing was changed.")
    words = {"who": options.who, "why": options.why}
    if options.ask or options.confirm:
        verb = "release_ask" if options.ask else "release_confirm"
        told = asyncio.run(entered(config, clock, verb, words))
        next_step = "另一人须用 --confirm 确认 (another person must --confirm)" if options.ask else "已确认 (confirmed)"
        return show(
            options, told, [f"{told['files']} / {told['of_files']} · {told['bytes'] / 1e9:.1f} GB  {next_step}"]
        )
    asked = words | {"ids": " ".join(options.freeze or options.thaw), "frozen": "yes" if options.freeze else "no"}
    told = asyncio.run(entered(config, clock, "release_freeze", asked))
    state = "已冻结 (frozen)" if told["frozen"] else "已解冻 (not frozen any more)"
    return show(options, told, [f"{one}  {state}" for one in told["recordings"]])


def _dry_run(options: argparse.Namespace, config: Config, clock: Clock) -> int:
    terms = config.terms

    def tell(done: int, of: int) -> None:
        if sys.stderr.isatty() and not options.json:
            print(f"\r\033[K{done} / {of}", end="", file=sys.stderr, flush=True)

    with closing(Reader(config.storage.root / "journal.db")) as reader:
        rule = Rule(terms, reader.witness(), clock(), config.access.enabled, config.forms.names)
        found = plan(reader, rule, tell)
        left = too_many(reader, terms, found.goes.files)
    is_on = terms.when is not FreeWhen.OFF
    told: Fields = {
        "on": is_on, "goes": _fields(found.goes), "of": _fields(found.stored), "second_person": left is not None,
        "stays": {reason.value: _fields(tally) for reason, tally in sorted(found.stays.items())},
    }  # fmt: skip
    return show(options, told, _lines(found, is_on=is_on, left=left))


def _lines(found: Plan, *, is_on: bool, left: int | None) -> list[str]:
    lines = [f"可释放 would go: {_line(found.goes)}，共 of {_line(found.stored)}"]
    lines += [f"  保留 stays: {_line(tally)}  {_reason(reason)}" for reason, tally in sorted(found.stays.items())]
    if not is_on:
        lines.append("策略未启用，不释放任何副本 (release.when is off: nothing goes)")
    elif left is not None:
        lines.append(f"超过限额 {left}，须由第二人确认 (more than {left}: a second person must confirm)")
    return lines


def _line(tally: Tally) -> str:
    return f"{tally.files} 个 files, {tally.bytes / 1e9:.1f} GB"


def _fields(tally: Tally) -> Fields:
    return asdict(tally)


def _reason(reason: Stays) -> str:
    told = named(reason)
    return f"{told['zh']} ({told['en']})"
