"""`capture-agent key show`: the public part of the station's signing key, to be written down and compared."""

from __future__ import annotations

import argparse

from agent.config import load
from agent.config.environment import credential
from agent.model import Clock
from agent.signing import CREDENTIAL, read_key
from agent.verbs.base import Add, group, json_option, show


def add_key(add: Add, clock: Clock) -> None:
    """`capture-agent key` and its verbs."""
    own = group(add, clock, "key", "the station's signing key")
    json_option(own("show", _show, "print its fingerprint and its public part"))


def _show(options: argparse.Namespace, clock: Clock) -> int:
    key = read_key(load(options.config).storage.root, credential(CREDENTIAL))
    told = {"algorithm": "Ed25519", "fingerprint": key.fingerprint, "public": key.pem}
    return show(options, told, [f"Ed25519 SHA256 {key.fingerprint}", *key.pem.splitlines()])
