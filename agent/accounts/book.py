"""The accounts of a station, in one small private file that is written whole or not at all."""

from __future__ import annotations

import hmac
import json
import os
import re
import stat
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from secrets import token_bytes
from typing import Any, Final

from agent import durable
from agent.errors import AgentError

FILE: Final = "accounts.json"
"""Name of the file below the station's storage."""

ACCOUNTS_LIMIT: Final = 500
TOKENS_LIMIT: Final = 16
_SIZE_LIMIT_BYTES: Final = 4 << 20
_NAME: Final = re.compile(r"[^\W_][\w.@-]{0,63}")
_CARD: Final = re.compile(r"[0-9A-Za-z]{6,64}")
_SAFE: Final = "Recordings are pulled and stored all the same; nobody can sign in."


class Role(StrEnum):
    """What somebody may do; none of them may delete or edit. Requirements §5, docs/accounts.md."""

    PUBLIC = "public"
    KIOSK = "kiosk"
    OFFICER = "officer"
    SUPERVISOR = "supervisor"
    CUSTODIAN = "custodian"
    IT = "it"


SIGNED_IN: Final = (Role.OFFICER, Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
"""The roles that an account can have."""

PROGRAMS: Final = (Role.SUPERVISOR, Role.CUSTODIAN, Role.IT)
"""The roles that a token can have: officers are persons who stand at the station."""


class AccountsError(AgentError):
    """The accounts can't be read or written, or what was asked of them can't be done."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a program shows instead of a password: the SHA-256 of 256 random bits, one role, an end."""

    name: str
    sha256: str
    role: Role
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody; `secret` is the argon2id hash of a password or PIN, `card` the keyed hash of a card's number."""

    name: str
    role: Role
    secret: str = ""
    card: str = ""
    disabled: bool = False
    tokens: tuple[Token, ...] = ()


@dataclass(frozen=True, slots=True)
class Accounts:
    """All of them by name, and the key under which the numbers of cards are hashed."""

    card_key: bytes = b""
    by_name: Mapping[str, Account] = field(default_factory=dict)

    def card(self, number: str) -> str:
        """The keyed hash of a card's number: without the key nobody finds out a number by trying all of them."""
        return hmac.digest(self.card_key, number.encode(), "sha256").hex()

    def of_card(self, number: str) -> Account | None:
        """Whose card it is."""
        found = self.card(number)
        return next((one for one in self.by_name.values() if one.card and hmac.compare_digest(one.card, found)), None)

    def of_token(self, token: str, now: datetime) -> tuple[Account, Token] | None:
        """Whose token it is, unless it has expired, its account is disabled, or it is an officer's."""
        digest = sha256(token.encode("utf-8", "replace")).hexdigest()
        for account in self.by_name.values():
            for known in account.tokens:
                if hmac.compare_digest(known.sha256, digest):
                    is_good = now < known.expires_at and not account.disabled
                    return (account, known) if is_good and Role.OFFICER not in (account.role, known.role) else None
        return None


class Book:
    """The accounts as they are now. Threads may change them; the event loop only looks at `accounts`.

    `trouble` says what is wrong with the file; then there are no accounts, and nothing is changed.
    """

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._lock = threading.Lock()
        self.accounts = Accounts()
        self.trouble = ""

    def load(self) -> None:
        """Read the file; one that is not there has no accounts, a damaged one neither, and `trouble` tells."""
        try:
            self.accounts, self.trouble = self.read(), ""
        except AccountsError as error:
            self.accounts, self.trouble = Accounts(), str(error)

    def read(self) -> Accounts:
        """The accounts in the file; raises AccountsError if it is damaged or not private."""
        try:
            with durable.opened(self._path) as fd:
                if stat.S_IMODE(os.fstat(fd).st_mode) & (stat.S_IRWXG | stat.S_IRWXO):
                    raise self._refused("can be read by others", f"Find out who had it, then chmod 600 {self._path}")
                content = os.read(fd, _SIZE_LIMIT_BYTES)
        except FileNotFoundError:
            return Accounts(token_bytes(32))
        except OSError as error:
            raise self._refused(f"can't be read: {error.strerror}", "Have the disk checked.") from error
        try:
            return _from_json(json.loads(content))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            do = "Bring back a copy of it, or move it aside and add the accounts again."
            raise self._refused("is damaged", do) from error

    def change(self, name: str, edit: Callable[[Accounts, Account | None], Account]) -> Account:
        """Put what `edit` makes of an account (None: there is none) in its place, durably; raises AccountsError."""
        with self._lock:
            before = self.read()
            made = edit(before, before.by_name.get(name))
            _check(made)
            after = replace(before, by_name={**before.by_name, name: made})
            if len(after.by_name) > ACCOUNTS_LIMIT:
                raise refused(f"There are {ACCOUNTS_LIMIT} accounts already.", "Use one that is disabled.")
            try:
                self._write(json.dumps(_to_json(after), ensure_ascii=False).encode())
            except OSError as error:
                raise self._refused(f"can't be written: {error.strerror}", "Have the disk checked.") from error
            self.accounts, self.trouble = after, ""
            return made

    def _write(self, content: bytes) -> None:
        part = self._path.with_name(FILE + durable.PART_SUFFIX)
        durable.remove_part(part)
        durable.write_part(part, content)
        with durable.opened(part) as fd:
            durable.fsync_file(fd)
        durable.name_finished(part, self._path)

    def _refused(self, why: str, do: str) -> AccountsError:
        return AccountsError(
            f"账号文件无法使用 (the accounts in {self._path} can't be used): it {why}.", safe=_SAFE, do=do
        )


def refused(what: str, do: str) -> AccountsError:
    """What was asked of the accounts can't be done."""
    return AccountsError(what, safe="No account was changed.", do=do)


def card_number(text: str) -> str:
    """The number of a card as its reader types it; raises AccountsError."""
    if not _CARD.fullmatch(text):
        raise refused("A card's number has 6 to 64 digits or letters.", "Hold the card to the reader once more.")
    return text


def _check(account: Account) -> None:
    if not _NAME.fullmatch(account.name):
        what = "The name of an account has 1 to 64 letters, digits, or . @ - and begins with a letter or digit."
        raise refused(what, "Choose another one.")
    if account.role not in SIGNED_IN:
        raise refused(f"No account can be {account.role.value}.", "Choose another role.")
    if len(account.tokens) > TOKENS_LIMIT:
        raise refused(f"{account.name} has {TOKENS_LIMIT} tokens already.", "Disable the account, or use another one.")


def _to_json(accounts: Accounts) -> dict[str, Any]:
    rows = [asdict(account) for account in accounts.by_name.values()]
    for row in rows:
        row["tokens"] = [{**token, "expires_at": token["expires_at"].isoformat()} for token in row["tokens"]]
    return {"version": 1, "card_key": accounts.card_key.hex(), "accounts": rows}


def _from_json(found: Any) -> Accounts:  # noqa: ANN401 - whatever the file says
    if found["version"] != 1 or len(found["accounts"]) > ACCOUNTS_LIMIT:
        raise ValueError(found["version"])
    accounts = [_account(row) for row in found["accounts"]]
    key = bytes.fromhex(found["card_key"])
    if len(key) != sha256().digest_size or len({account.name for account in accounts}) != len(accounts):
        raise ValueError(len(key))
    return Accounts(key, {account.name: account for account in accounts})


def _account(row: dict[str, Any]) -> Account:
    tokens = tuple(
        Token(str(one["name"]), _text(one["sha256"]), Role(one["role"]), _moment(one["expires_at"]))
        for one in row["tokens"]
    )
    secret, card, disabled = _text(row["secret"]), _text(row["card"]), row["disabled"]
    if type(disabled) is not bool:
        raise TypeError(disabled)
    account = Account(_text(row["name"]), Role(row["role"]), secret, card, disabled, tokens)
    try:
        _check(account)
    except AccountsError as error:
        raise ValueError(error.what) from error
    return account


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _moment(value: object) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    if moment.tzinfo is None:
        raise ValueError(value)
    return moment
