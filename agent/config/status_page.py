"""The section [status] of the configuration: where the screens listen, and what must not be heard on the way there."""

# ruff: noqa: RUF009 - an option is a dataclass field that also knows how to read itself

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from agent.config.options import TomlFile, flag, folder_or_off, integer, secret, text


@dataclass(frozen=True, slots=True)
class StatusPage:
    """[status]: where the screens listen; beyond this machine with TLS, their own or that of a proxy on it."""

    host: str = text("127.0.0.1", 45, shortest=2)
    port: int = integer(8470, 1, 65535)
    tls_certificate: Path | None = folder_or_off()
    tls_key: Path | None = secret()
    behind_proxy: bool = flag(default=False)


def check_page(file: TomlFile, status: StatusPage) -> None:
    """Note what of it can't be as it is written."""
    try:
        loopback = ipaddress.ip_address(status.host).is_loopback
    except ValueError:
        file.problem("status.host", status.host, "must be an IP address, like 127.0.0.1")
    else:
        if not loopback and status.behind_proxy:
            reason = "is not a loopback address: who asks past the proxy could say that he is anybody, in the clear"
            file.problem("status.host", status.host, f"{reason}; with behind_proxy it must be 127.0.0.1 or ::1")
        elif not loopback and status.tls_certificate is None:
            reason = "is not a loopback address; passwords would go over its network in the clear: set tls_certificate"
            file.problem("status.host", status.host, reason)
