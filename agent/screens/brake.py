"""The brake on guessing: after a few wrong passwords an account, or an address, has to wait longer and longer."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

_LIMIT: Final = 4096
_FREE: Final[Mapping[str, int]] = {"account": 4, "address": 12}
"""Wrong ones that cost nothing; the kiosk is one address for many officers."""

_LONGEST_S: Final = 60.0
_FORGOTTEN_S: Final = 900.0


class _Tried(NamedTuple):
    wrong: int
    at_s: float


class Brake:
    """How often whom was tried in vain, of the latest 4,096 accounts and addresses."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._tried: OrderedDict[tuple[str, str], _Tried] = OrderedDict()

    def wait_s(self, account: str, address: str) -> float:
        """How long nobody may try this account, or from this address."""
        now_s = self._seconds()
        return max(self._left_s(key, now_s) for key in _keys(account, address))

    def tried(self, account: str, address: str) -> None:
        """Somebody tries; counted before it is known whether it is right, so that many at once gain nothing."""
        now_s = self._seconds()
        for key in _keys(account, address):
            known = self._tried.pop(key, None)
            wrong = known.wrong if known is not None and now_s - known.at_s < _FORGOTTEN_S else 0
            self._tried[key] = _Tried(wrong + 1, now_s)
        while len(self._tried) > _LIMIT:
            self._tried.popitem(last=False)

    def was_right(self, account: str, address: str) -> None:
        """It was no guess: nothing is held against the account, and the address gets its try back."""
        of_account, of_address = _keys(account, address)
        self._tried.pop(of_account, None)
        if (known := self._tried.get(of_address)) is not None:
            self._tried[of_address] = known._replace(wrong=known.wrong - 1)

    def _left_s(self, key: tuple[str, str], now_s: float) -> float:
        known = self._tried.get(key)
        over = known.wrong - _FREE[key[0]] if known is not None else 0
        if known is None or over < 0 or now_s - known.at_s >= _FORGOTTEN_S:
            return 0.0
        return max(0.0, known.at_s + min(_LONGEST_S, 2.0 ** min(over, 30)) - now_s)


def _keys(account: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("account", account), ("address", _network(address))


def _network(address: str) -> str:
    """The address, or the /64 of IPv6, which one machine has for itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else str(found)
