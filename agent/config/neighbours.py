"""How the log is signed, and neighbouring docks by their keys (c2sp.org/signed-note): who witnesses for whom."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from agent.config.options import TomlFile, Unfit, integer, number, option, origin, text
from agent.tlog.keys import Algorithm, Ed25519Verifier, Key
from agent.tlog.texts import NoteError

_LIMIT: Final = 32


class Neighbour(NamedTuple):
    """A witness of our log, and where it answers; without `url` it is asked with a stick."""

    key: Key
    url: str

    @property
    def verifier(self) -> Ed25519Verifier:
        """What tells whether it cosigned."""
        return Ed25519Verifier(self.key)


def witnesses() -> tuple[Neighbour, ...]:
    """A list of texts: a witness's key, and behind a space its address."""

    def read(value: object) -> tuple[Neighbour, ...]:
        found = [_neighbour(*text.partition(" ")[::2]) for text in _lines(value)]
        if len({one.key.name for one in found}) < len(found):
            raise Unfit("must have each witness once")
        return tuple(found)

    return option((), "list of keys, each with an address behind a space or none", read)


def logs() -> tuple[Key, ...]:
    """A list of texts: keys that sign logs."""
    return option((), "list of keys", lambda value: tuple(_key(text, Algorithm.ED25519) for text in _lines(value)))


def _lines(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value) or len(value) > _LIMIT:
        raise Unfit(f"must be a list of up to {_LIMIT} texts")
    return value


def _neighbour(vkey: str, url: str) -> Neighbour:
    parts = urlsplit(url)
    if url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment):
        raise Unfit(f"{url[:80]!r} must be an address like http://10.1.2.3:8471")
    return Neighbour(_key(vkey, Algorithm.COSIGNATURE), url.rstrip("/"))


def _key(vkey: str, algorithm: Algorithm) -> Key:
    try:
        key = Key.parse(vkey)
        if key.algorithm is not algorithm:
            raise Unfit(f"the key of {key.name!r} is of another kind: a witness's and a log's are not the same")
        Ed25519Verifier(key)  # one that anybody can sign with is refused
    except NoteError as error:
        raise Unfit(error.what) from error
    return key


@dataclass(frozen=True, slots=True)
class CustodyLog:
    """[log]: the name of the station's own log (流转记录), how often it is signed at least, and who cosigns it."""

    origin: str = origin()
    checkpoint_every_s: float = number(900, 1, 86400, "seconds")
    witnesses: tuple[Neighbour, ...] = witnesses()


@dataclass(frozen=True, slots=True)
class Witness:
    """[witness]: for whose logs this station is a witness, and where it answers; without `host` only on a stick."""

    host: str = text("", 45)
    port: int = integer(8471, 1, 65535)
    logs: tuple[Key, ...] = logs()


def check_witness(file: TomlFile, witness: Witness) -> None:
    """Note what of it can't be as it is written; without `host` it is off."""
    try:
        ipaddress.ip_address(witness.host or "::")
    except ValueError:
        file.problem("witness.host", witness.host, "must be an IP address of this station, or empty for none")
