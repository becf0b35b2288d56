"""What IT says of accounts: added, disabled, given a password, card or token; each an event of the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from secrets import token_urlsafe

from agent.accounts.book import PROGRAMS, SIGNED_IN, Account, Accounts, AccountsError, Role, Token, card_number, refused
from agent.accounts.hashing import hashed
from agent.errors import RequestError
from agent.model import AccountChanged
from agent.pipeline.station import Station
from agent.register import line

Asked = Mapping[str, str]
Answer = dict[str, object]
Edit = Callable[[Accounts, Account | None], Account]


async def listed(station: Station, asked: Asked) -> Answer:
    """All accounts, without what is secret."""
    try:
        accounts = await station.on_disk(station.book.read)
    except AccountsError as error:
        raise _told(error) from error
    return {"accounts": [_shown(one) for _, one in sorted(accounts.by_name.items())]}


async def add(station: Station, asked: Asked) -> Answer:
    """A new account: `account`, `role`, `secret` or `card`, `who`, `why`."""
    role = _role(asked["role"])

    def edit(accounts: Accounts, before: Account | None) -> Account:
        if before is not None:
            raise refused(f"There is an account {before.name} already.", "Choose another name, or change that one.")
        if not asked.get("secret") and not asked.get("card"):
            raise refused("An account needs a password or a card.", "Give one.")
        return _with(accounts, Account(asked["account"], role), asked)

    return await _change(station, asked, "added", edit)


async def password(station: Station, asked: Asked) -> Answer:
    """Another password, PIN or card: `account`, `secret` or `card`, `who`, `why`. Its sessions end."""
    return await _change(
        station,
        asked,
        "card" if asked.get("card") else "password",
        lambda accounts, before: _with(accounts, _there(before), asked),
    )


async def disable(station: Station, asked: Asked) -> Answer:
    """An account that opens nothing from now on: `account`, `who`, `why`."""
    return await _change(station, asked, "disabled", lambda _, before: replace(_there(before), disabled=True))


async def enable(station: Station, asked: Asked) -> Answer:
    """The contrary."""
    return await _change(station, asked, "enabled", lambda _, before: replace(_there(before), disabled=False))


async def token(station: Station, asked: Asked) -> Answer:
    """A token for a program: `account`, `name`, `role`, `days`, `who`, `why`; it is told this once."""
    made, now = token_urlsafe(32), station.clock()
    try:
        ends = now + timedelta(days=int(asked["days"]))
    except (ValueError, OverflowError) as error:
        raise RequestError("The days are not a number of days.", do="Give 1 to 3650.") from error
    kept = Token(line(asked["name"]), sha256(made.encode()).hexdigest(), _role(asked["role"], PROGRAMS), ends)

    def edit(_: Accounts, before: Account | None) -> Account:
        account = _there(before)
        if account.role is Role.OFFICER:
            raise refused("Officers sign in at the station, by PIN or card.", "Make the token of another account.")
        others = tuple(one for one in account.tokens if one.name != kept.name and one.expires_at > now)
        return replace(account, tokens=(*others, kept))

    return await _change(station, asked, f"token {kept.name}", edit, kept.role) | {
        "token": made,
        "expires_at": ends.isoformat(),
    }


def _with(accounts: Accounts, account: Account, asked: Asked) -> Account:
    """The account with the password, PIN or card that is asked for."""
    if secret := asked.get("secret"):
        account = replace(account, secret=hashed(secret, account.role))
    if number := asked.get("card"):
        if account.role is not Role.OFFICER:
            raise refused("Only officers sign in by card.", "Give a password.")
        owner = accounts.of_card(card_number(number))
        if owner is not None and owner.name != account.name:
            raise refused(f"It is the card of {owner.name}.", "Give another card.")
        account = replace(account, card=accounts.card(number))
    return account


def _there(account: Account | None) -> Account:
    if account is None:
        raise refused("There is no such account.", "See `capture-agent account list`.")
    return account


async def _change(station: Station, asked: Asked, change: str, edit: Edit, role: Role | None = None) -> Answer:
    """Change the file, then tell the journal. Without the event the change is in force and told by nobody: the error
    says so.
    """
    who, why = line(asked["who"]), line(asked["why"])
    try:
        made = await station.on_disk(station.book.change, asked["account"], edit)
    except AccountsError as error:
        raise _told(error) from error
    await station.journal.record(AccountChanged(made.name, change, (role or made.role).value, who, why))
    return _shown(made)


def _told(error: AccountsError) -> RequestError:
    return RequestError(error.what, safe=error.safe, do=error.do)


def _role(text: str, known: Sequence[Role] = SIGNED_IN) -> Role:
    if text not in known:
        raise RequestError(f"There is no role {text!r} here.", do=f"Choose {', '.join(known)}.")
    return Role(text)


def _shown(account: Account) -> Answer:
    tokens = [
        {"name": one.name, "role": one.role.value, "expires_at": one.expires_at.isoformat()} for one in account.tokens
    ]
    return {
        "account": account.name, "role": account.role.value, "disabled": account.disabled,
        "has_password": bool(account.secret), "has_card": bool(account.card), "tokens": tokens,
    }  # fmt: skip
