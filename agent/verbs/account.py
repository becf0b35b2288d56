"""`capture-agent account`: who may sign in at the screens, by which password, PIN or card, and tokens for programs."""

from __future__ import annotations

import argparse
import asyncio
import getpass
import sys
from typing import Any, Final

from agent.accounts.book import PROGRAMS, SIGNED_IN
from agent.config import load
from agent.errors import RequestError
from agent.model import Clock
from agent.register import line
from agent.verbs.base import Add, entered, group, json_option, show, signed_options, text_of

_INPUT_LIMIT: Final = 1024


def add_account(add: Add, clock: Clock) -> None:
    """`capture-agent account` and its verbs."""
    own = group(add, clock, "account", "say who may sign in at the screens, and make tokens for programs")
    added = own("add", _change, "add an account; asks for its password, PIN or card")
    changed = own("password", _change, "give an account another password, PIN or card; its sessions end")
    disabled = own("disable", _change, "an account opens nothing from now on")
    enabled = own("enable", _change, "it opens again what it opened")
    made = own("token", _change, "make a token for a program; it is told this once")
    listed = own("list", _list, "all accounts, without what is secret")
    for verb in (added, changed):
        verb.add_argument("--card", action="store_true", help="an officer's card instead of a password or PIN")
    for verb, known in ((added, SIGNED_IN), (made, PROGRAMS)):
        roles = [role.value for role in known]
        verb.add_argument("--role", required=True, choices=roles, help="what it may do, see docs/accounts.md")
    made.add_argument("--name", required=True, type=text_of(line), help="what the token is for; one of that name ends")
    made.add_argument("--days", default="365", help="how long it is good for (default: 365)")
    for verb in (added, changed, disabled, enabled, made):
        verb.add_argument("account", type=text_of(line), metavar="ACCOUNT", help="its name")
        signed_options(verb, "does this", text_of(line))
    for verb in (added, changed, disabled, enabled, made, listed):
        json_option(verb)


def _change(options: argparse.Namespace, clock: Clock) -> int:
    given = {name: getattr(options, name, None) for name in ("account", "role", "name", "days", "who", "why")}
    asked = {name: text for name, text in given.items() if text is not None}
    if options.verb in ("add", "password"):
        asked |= {"card": _read("card")} if options.card else {"secret": _password()}
    told = asyncio.run(entered(load(options.config), clock, f"account_{options.verb}", asked))
    lines = [_line(told)]
    if "token" in told:
        lines.append(f"{told['token']}  until {told['expires_at']}; it is not kept and never shown again")
    return show(options, told, lines)


def _list(options: argparse.Namespace, clock: Clock) -> int:
    told = asyncio.run(entered(load(options.config), clock, "account_list", {}))
    return show(options, told, map(_line, told["accounts"]))


def _line(one: dict[str, Any]) -> str:
    what = [word for word in ("disabled", "has_password", "has_card") if one[word]]
    tokens = [f"token {token['name']} ({token['role']}, until {token['expires_at'][:10]})" for token in one["tokens"]]
    return f"{one['account']}: {', '.join((one['role'], *what, *tokens)).replace('has_', '')}"


def _password() -> str:
    """Typed twice, or one line of standard input; never an argument, which others on this machine could read."""
    first = _read("password or PIN")
    if sys.stdin.isatty() and _read("once more") != first:
        raise RequestError("These are not the same.", safe="No account was changed.", do="Type it again.")
    return first


def _read(what: str) -> str:
    return getpass.getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline(_INPUT_LIMIT).rstrip("\r\n")
