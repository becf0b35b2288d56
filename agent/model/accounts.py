"""What the journal says of accounts: who came in, who was refused, and what was changed about whom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody signed in: `by` is password, pin, card or centre; `address` is from where.

    By the centre: `issuer` is who vouched for him, and `subject` what he is called there and nobody else ever will be.
    """

    account: str
    role: str
    by: str
    address: str
    issuer: str = ""
    subject: str = ""


@dataclass(frozen=True, slots=True)
class SignInRefused:
    """Somebody tried to sign in; without `account` there is none of that name, which may have been a password."""

    account: str
    why: str
    address: str


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Somebody ended his session."""

    account: str


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """`who` added, disabled or enabled an account, set its password or card, or made a token of the role `role`."""

    account: str
    change: str
    role: str
    who: str
    why: str
