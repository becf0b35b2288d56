"""What a page of recordings may be filtered and sorted by, as it stands in an address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import Final

from aiohttp import web

from agent.deadline import ZONE, Verdict
from agent.journal.recordings import Sort, Wanted
from agent.model import AssetState, Completeness
from agent.screens.answers import TEXT, one_of, text

FILTERS: Final = ("state", "verdict", "completeness", "device", "id", "from", "to", "sort")
PAGE_LIMIT: Final = 100
_FIRST: Final = date(1900, 1, 1)
_LAST: Final = date(2200, 1, 1)
ID: Final = r"[0-9A-Za-z_-]*"


def wanted_of(asked: Mapping[str, str]) -> tuple[Wanted, Verdict | None]:
    """What is wanted, and with which verdict; raises HTTPBadRequest.

    `from` and `to` are days of the station, both inclusive. Without `sort` the newest come first; of one state or
    verdict the most urgent.
    """
    state = one_of(AssetState, asked["state"], "state") if "state" in asked else None
    verdict = one_of(Verdict, asked["verdict"], "verdict") if "verdict" in asked else None
    complete = one_of(Completeness, asked["completeness"], "completeness") if "completeness" in asked else None
    usual = Sort.NEWEST if state is None and verdict is None else Sort.DEADLINE
    first, last = (_day(asked[name], name) if name in asked else None for name in ("from", "to"))
    wanted = Wanted(
        one_of(Sort, asked["sort"], "sort") if "sort" in asked else usual,
        state,
        captured_from=first,
        captured_before=last + timedelta(days=1) if last is not None else None,
        id_begins=text(asked.get("id", ""), "id", "must be the beginning of an id", ID),
        completeness=complete,
        device_id=text(asked.get("device", ""), "device", "must be a device_id of /api/v1/devices", TEXT),
    )
    return wanted, verdict


def _day(given: str, name: str) -> datetime:
    """The beginning of a day; of one that no recorder has seen or will see that of the nearest other."""
    try:
        day = date.fromisoformat(given if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", given) else "")
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{name} must be a day as 2026-11-23") from error
    return datetime.combine(min(max(day, _FIRST), _LAST), time(), ZONE)
