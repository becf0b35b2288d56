"""Sessions of browsers, in memory: bounded, ended by idleness and age, and known here only by their hash."""

from __future__ import annotations

import hmac
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from secrets import token_bytes, token_urlsafe
from typing import Final

from agent.accounts.book import Account, Accounts, Role
from agent.screens.who import Who

_SESSIONS_LIMIT: Final = 500
_IDLE_S: Final[Mapping[Role, float]] = {Role.OFFICER: 180.0}
"""At the kiosk the next officer stands there already."""

_IDLE_OTHERS_S: Final = 1800.0
_TOTAL_S: Final = 10 * 3600.0


@dataclass(frozen=True, slots=True)
class _Session:
    account: str
    role: Role
    secret: str
    begun_s: float
    seen_s: float
    central: Account | None = None


class Sessions:
    """Whose each session is. A cookie is 256 random bits; whoever reads this process' memory learns none of them."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._key = token_bytes(32)
        self._found: OrderedDict[str, _Session] = OrderedDict()

    def begin(self, account: str, role: Role, secret: str = "", central: Account | None = None) -> str:
        """Begin one and return its cookie; `secret` is the hash with which it began. The longest idle one gives way.

        `central` is whom an identity provider vouches for: he has no account of this station.
        """
        cookie, now_s = token_urlsafe(32), self._seconds()
        self._found[_hashed(cookie)] = _Session(account, role, secret, now_s, now_s, central)
        while len(self._found) > _SESSIONS_LIMIT:
            self._found.popitem(last=False)
        return cookie

    def find(self, cookie: str, accounts: Accounts, *, acts: bool = True) -> Who | None:
        """Whose it is, if it goes on; it ends too once its account is disabled, or has another role or password.

        Only who `acts` is not idle.
        """
        key, now_s = _hashed(cookie), self._seconds()
        session = self._found.get(key)
        if session is None:
            return None
        account = session.central or accounts.by_name.get(session.account)
        idle_s = _IDLE_S.get(session.role, _IDLE_OTHERS_S)
        is_over = now_s - session.seen_s > idle_s or now_s - session.begun_s > _TOTAL_S
        began_with = session.role, session.secret
        if is_over or account is None or account.disabled or (account.role, account.secret) != began_with:
            del self._found[key]
            return None
        if acts:
            self._found[key] = replace(session, seen_s=now_s)
            self._found.move_to_end(key)
        return Who(session.role, session.account, key)

    def end(self, session: str) -> None:
        """End the session of this `Who.session`; one that is gone is fine."""
        self._found.pop(session, None)

    def end_central(self) -> None:
        """End those that an identity provider vouched for: it, or what its groups mean here, has changed."""
        for key in [key for key, session in self._found.items() if session.central is not None]:
            del self._found[key]

    def form_token(self, owner: str) -> str:
        """What every form of `owner` carries: a session's, or that of a visitor's cookie."""
        return hmac.digest(self._key, f"form {owner}".encode("utf-8", "surrogateescape"), "sha256").hex()

    def is_form_token(self, owner: str, token: str) -> bool:
        """Whether a form that came back was `owner`'s."""
        return bool(owner) and hmac.compare_digest(self.form_token(owner).encode(), token.encode("utf-8", "replace"))


def visitor(cookie: str) -> str:
    """Whose a form is that is filled in before anybody has signed in."""
    return "visitor " + _hashed(cookie) if cookie else ""


def _hashed(cookie: str) -> str:
    return sha256(cookie.encode("utf-8", "replace")).hexdigest()
