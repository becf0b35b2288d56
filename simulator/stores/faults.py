"""The faults that the proxy can make happen, and the rules that say to which request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import format_datetime, parsedate_to_datetime
from enum import StrEnum

from simulator.stores.http_stream import Answer


class Side(StrEnum):
    """Which way the bytes go."""

    UP = "from the client to the store"
    DOWN = "from the store to the client"


@dataclass(frozen=True, slots=True)
class Cut:
    """End both connections when so many bytes of a body have passed; 0 is before its head, None a random byte.

    The store gets all bytes up to there, the client a reset.
    """

    after_bytes: int | None = None
    side: Side = Side.UP


@dataclass(frozen=True, slots=True)
class Stall:
    """Move nothing more from there on, without closing; the byte is as for Cut."""

    after_bytes: int | None = 0
    side: Side = Side.UP


@dataclass(frozen=True, slots=True)
class Call:
    """Call something, in a thread, and go on when it returns; the byte is as for Cut."""

    what: Callable[[], object]
    after_bytes: int | None = 0
    side: Side = Side.UP


@dataclass(frozen=True, slots=True)
class Swallow:
    """Let the store do all of the request, drop its reply and cut."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Answer something else; with `forward` the store does the request all the same."""

    answer: Answer
    forward: bool = False


@dataclass(frozen=True, slots=True)
class Alter:
    """Let a function change the store's own reply."""

    edit: Callable[[Answer], Answer]


Fault = Cut | Stall | Call | Swallow | Replace | Alter


def s3_error(status: int, code: str, message: str = "") -> Answer:
    """Return an error as S3 words it; with status 200 it is the one that comes after a success was begun."""
    body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(status, {"content-type": "application/xml"}, body.encode())


def slow_down() -> Replace:
    """The store asks for fewer requests, without having done this one."""
    return Replace(s3_error(503, "SlowDown", "Please reduce your request rate."))


def shift_date(by: timedelta) -> Alter:
    """The clock of the store is off by this much, as its replies tell."""

    def edit(answer: Answer) -> Answer:
        date = parsedate_to_datetime(answer.headers["date"]) + by
        answer.headers["date"] = format_datetime(date, usegmt=True)
        return answer

    return Alter(edit)


@dataclass(slots=True)
class Rule:
    """A fault, and to which requests it happens: from the `nth` that matches on, `times` times (None: for ever).

    `target` is a part of path and query. `happened` counts.
    """

    fault: Fault
    method: str = ""
    target: str = ""
    nth: int = 1
    times: int | None = 1
    matched: int = field(default=0, init=False)
    happened: int = field(default=0, init=False)

    def applies(self, method: str, target: str) -> bool:
        """Count a request that matches, and return whether the fault is due for it."""
        if self.method not in {"", method} or self.target not in target:
            return False
        self.matched += 1
        return self.matched >= self.nth and (self.times is None or self.matched < self.nth + self.times)
