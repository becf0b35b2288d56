"""The options of signing in through the bureau's own identity provider (OpenID Connect), which is off by default."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agent.config.options import TomlFile, Unfit, folder_or_off, option, secret, text

CALLBACK: Final = "/login/centre"
"""Where the provider sends people back to, below `oidc.address`."""

ROLES: Final = ("supervisor", "custodian", "it")
"""Who may come that way; officers sign in at the dock."""

_GROUPS_LIMIT: Final = 64


def roles() -> Mapping[str, str]:
    """A table: what the provider says of a person, and the role he has then. The first that fits counts."""

    def read(value: object) -> Mapping[str, str]:
        if not isinstance(value, dict) or len(value) > _GROUPS_LIMIT or not all(value):
            raise Unfit(f"must be a table of up to {_GROUPS_LIMIT} names")
        if wrong := [role for role in value.values() if role not in ROLES]:
            raise Unfit(
                f"{str(wrong[0])[:40]!r} is no role; there are {', '.join(ROLES)} (officers sign in at the dock)"
            )
        return dict(value)

    return option({}, f"table of names with {' or '.join(ROLES)}", read)


@dataclass(frozen=True, slots=True)
class Oidc:
    """[oidc]: who vouches for people, as whom we ask him, and what he must say of somebody who may come in."""

    issuer: str = text("", 512)
    client_id: str = text("", 256)
    client_secret: Path | None = secret()
    ca_file: Path | None = folder_or_off()
    address: str = text("", 256)
    name_claim: str = text("preferred_username", 128, shortest=1)
    roles_claim: str = text("groups", 128, shortest=1)
    roles: Mapping[str, str] = roles()


def check_oidc(file: TomlFile, oidc: Oidc) -> None:
    """Note what of it can't be as it is written; without `issuer` it is off."""
    if not oidc.issuer:
        return
    for name, address in (("issuer", oidc.issuer), ("address", oidc.address)):
        if not is_safe(address) or set(address) & set("?#"):
            reason = "must begin with https:// (on this machine http://127.0.0.1 too), without ? and #"
            file.problem(f"oidc.{name}", address, reason)
    if urlsplit(oidc.address).path:
        file.problem("oidc.address", oidc.address, "must end behind the name or the port, like https://dock-3.example")
    if not oidc.client_id:
        file.problem("oidc.client_id", "", "must be the name that the provider knows this station by")
    if not oidc.roles:
        file.problem("oidc.roles", "", "must say who has which role: nobody has one by default")


def is_safe(address: str) -> bool:
    """Whether nobody reads along or answers in its place: https, or this very machine."""
    try:
        parts = urlsplit(address)
        port, host = parts.port, parts.hostname
    except ValueError:
        return False
    if not host or port == 0 or parts.username is not None or not address.isascii() or " " in address:
        return False
    return parts.scheme == "https" or (parts.scheme == "http" and is_here(host))


def is_here(host: str) -> bool:
    """Whether a host is this machine by its number; a name may lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
