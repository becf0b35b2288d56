"""The listening socket of the screens: so many connections at once, and fewer of one machine, signed in or not."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, Final
from weakref import WeakKeyDictionary

LIMIT: Final = 512
"""Connections at once. Each is a descriptor of the process that pulls; by default it has 1,024 for all its work."""

ELSEWHERE: Final = 384
"""Of other machines, so that the kiosk always gets its answer."""

ONE_MACHINE: Final = 64
"""Of one other machine."""


STALLED_MS: Final = 20_000
_SENDING_BYTES: Final = 128 * 1024
"""What the kernel keeps for who reads slowly; it doubles that."""


class Door(socket.socket):
    """Takes over a listening socket. Who is too many is let go before any TLS or HTTP is spoken with him."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(fileno=listening.detach())
        self._inside: WeakKeyDictionary[socket.socket, str] = WeakKeyDictionary()

    def accept(self) -> tuple[socket.socket, Any]:
        """As every socket does; raises ConnectionAbortedError, behind which asyncio goes on, for one too many."""
        connection, address = super().accept()
        if not admits([host for one, host in self._inside.items() if one.fileno() >= 0], address[0]):
            connection.close()
            raise ConnectionAbortedError
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SENDING_BYTES)
        # Who takes no byte of an answer for so long is gone, also while his connection is being closed (tcp(7)).
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, STALLED_MS)
        self._inside[connection] = address[0]
        return connection, address


def admits(inside: Sequence[str], host: str) -> bool:
    """Whether one more of this address may come in beside those who are."""
    if len(inside) >= LIMIT or _is_here(host):
        return len(inside) < LIMIT
    return sum(not _is_here(one) for one in inside) < ELSEWHERE and inside.count(host) < ONE_MACHINE


def _is_here(host: str) -> bool:
    return ipaddress.ip_address(host.partition("%")[0]).is_loopback


def listening(host: str, port: int) -> socket.socket:
    """A socket that has this address; raises OSError."""
    return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
