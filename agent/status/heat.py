"""A month as a calendar: for each day, what share of the recordings completed on it was stored in time, as SVG."""

from __future__ import annotations

from calendar import Calendar
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import date
from html import escape
from typing import Any, Final

from agent.statistics.report import DECIDED, Timeliness

Json = dict[str, Any]

_WEEKDAYS: Final[Mapping[str, str]] = {"zh": "一二三四五六日", "en": "MTWTFSS"}
_CELL, _TOP, _LEFT = 92, 28, 4
_OPEN: Final = (Timeliness.OPEN, Timeliness.PROVISIONAL, Timeliness.UNDECIDED)


def month_view(year: int, month: int, days: Mapping[date, Counter[str]]) -> list[Json]:
    """Each day of a month: how many of the recordings completed on it are decided, were in time, and are open."""
    found = []
    for day in (day for day in Calendar().itermonthdates(year, month) if day.month == month):
        counted = days.get(day) or Counter[str]()
        decided = sum(counted[kind] for kind in DECIDED)
        waiting = sum(counted[kind] for kind in _OPEN)
        in_time = counted[Timeliness.IN_TIME]
        late = decided - in_time
        look = "late" if late else "open" if waiting else "intime" if decided else "none"
        found.append({"day": day, "decided": decided, "in_time": in_time, "late": late, "open": waiting, "look": look})
    return found


def heat_svg(month: list[Json], lang: str) -> str:
    """The days as a calendar; each says its numbers, `look` is its class: colours are the page's, never alone."""
    first = month[0]["day"]
    rows = (first.weekday() + len(month) + 6) // 7
    title = f"{first:%Y-%m} " + ("按期入库情况" if lang == "zh" else "stored in time")
    told = "; ".join(f"{one['day']:%d}: {_words(one, lang)}" for one in month if one["look"] != "none")
    heads = "".join(
        f'<text class="head" x="{_LEFT + _CELL * place + 6}" y="18">{name}</text>'
        for place, name in enumerate(_WEEKDAYS[lang])
    )
    cells = "".join(_cells(month, first.weekday(), lang))
    return (
        f'<svg class="heat" xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="heat-title heat-told"'
        f' viewBox="0 0 {7 * _CELL + 8} {_TOP + rows * 56 + 4}"><title id="heat-title">{escape(title)}</title>'
        f'<desc id="heat-told">{escape(told or "—")}</desc>{heads}{cells}</svg>'
    )


def _cells(month: list[Json], before: int, lang: str) -> Iterator[str]:
    for place, one in enumerate(month, before):
        x, y = _LEFT + _CELL * (place % 7), _TOP + 56 * (place // 7)
        yield f'<rect class="{one["look"]}" x="{x}" y="{y}" width="{_CELL - 4}" height="52" rx="4"/>'
        yield f'<text class="day {one["look"]}" x="{x + 6}" y="{y + 17}">{one["day"].day}</text>'
        yield f'<text class="{one["look"]}" x="{x + 6}" y="{y + 40}">{escape(_short(one))}</text>'


def _short(one: Json) -> str:
    """In a cell: ✓ all in time, ✗ how many weren't, … how many are open."""
    marks = {"late": f"✗ {one['late']}/{one['decided']}", "intime": f"✓ {one['in_time']}", "open": f"… {one['open']}"}
    return marks.get(one["look"], "")


def _words(one: Json, lang: str) -> str:
    if lang == "zh":
        return f"按期 {one['in_time']}，逾期 {one['late']}，未定 {one['open']}"
    return f"{one['in_time']} in time, {one['late']} late, {one['open']} open"
