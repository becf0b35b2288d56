"""Passwords and PINs: which are long enough, and argon2id hashes of them."""

from __future__ import annotations

import unicodedata
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from agent.accounts.book import Account, AccountsError, Role, refused

SECRET_LIMIT: Final = 128
"""Characters of the longest password."""

_SHORTEST: Final = 12
_SHORTEST_PIN: Final = 6
"""For officers, who sign in at the kiosk only, with a brake on wrong ones."""

# RFC 9106, section 4, second choice, on one lane: a pull goes on beside it.
_HASHER: Final = PasswordHasher(time_cost=3, memory_cost=64 * 1024, parallelism=1)
_NOBODYS: Final = "$argon2id$v=19$m=65536,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def hashed(secret: str, role: Role) -> str:
    """The hash that is kept of a password or PIN; raises AccountsError for one that is too short or too long."""
    text = _normal(secret)
    shortest = _SHORTEST_PIN if role is Role.OFFICER else _SHORTEST
    if not shortest <= len(text) <= SECRET_LIMIT:
        what = f"密码或 PIN 须为 {shortest} 至 {SECRET_LIMIT} 个字符 (a password has {shortest} to {SECRET_LIMIT})."
        raise refused(what, "Choose another one.")
    try:
        return _HASHER.hash(text)
    except UnicodeEncodeError as error:
        raise _unfit() from error


def is_right(account: Account | None, secret: str) -> bool:
    """Whether it is the account's password or PIN; takes as long without an account or for one that has none."""
    known = account.secret if account is not None and account.secret else _NOBODYS
    try:
        _HASHER.verify(known, _normal(secret))
    except (VerificationError, InvalidHashError, UnicodeEncodeError):
        return False
    return account is not None and known == account.secret


def _normal(secret: str) -> str:
    """As typed on any keyboard (NIST SP 800-63B, 5.1.1.2)."""
    return unicodedata.normalize("NFKC", secret)


def _unfit() -> AccountsError:
    return refused("The password has a character that no text can have.", "Choose another one.")
