"""`capture-agent key`: the public part of the station's signing key, to be written down, and another key for it."""

from __future__ import annotations

import argparse
import asyncio

from agent.config import load
from agent.config.environment import credential
from agent.model import Clock
from agent.register import line
from agent.signing import CREDENTIAL, read_key
from agent.verbs.base import Add, entered, group, json_option, show, signed_options, text_of


def add_key(add: Add, clock: Clock) -> None:
    """`capture-agent key` and its verbs."""
    own = group(add, clock, "key", "the station's signing key")
    json_option(own("show", _show, "print its fingerprint and its public part"))

    rotate = own("rotate", _rotate, "sign with a new key from now on; the old one keeps verifying what it signed")
    signed_options(rotate, "changes it", text_of(line))
    json_option(rotate)


def _rotate(options: argparse.Namespace, clock: Clock) -> int:
    asked = {"who": options.who, "why": options.why}
    told = asyncio.run(entered(load(options.config), clock, "key_rotate", asked))
    return show(options, told, [f"before SHA256 {told['before']}", f"now    SHA256 {told['fingerprint']}"])


def _show(options: argparse.Namespace, clock: Clock) -> int:
    key = read_key(load(options.config).storage.root, credential(CREDENTIAL))
    told = {"algorithm": "Ed25519", "fingerprint": key.fingerprint, "public": key.pem}
    return show(options, told, [f"Ed25519 SHA256 {key.fingerprint}", *key.pem.splitlines()])
