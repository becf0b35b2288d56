"""A session as a picture: for each source when it was recorded, where it was not, and what was noticed, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import Any, Final

from agent.status.words import Line

Json = dict[str, Any]

_LEFT, _WIDTH, _ROW, _TOP = 190, 762, 30, 34
_SHOWN: Final = 300
"""How many lines of the ledger are drawn at most, gaps before all else."""


def session_svg(view: Json, lang: str) -> str:
    """What `session_view` gave, as a picture that says in words what it shows; classes have the page's colours."""
    first, last = _reach(view)
    length_s = max((last - first).total_seconds(), 1.0)

    def bar(start: str, end: str | None, y: int, look: str) -> str:
        begins, ends = (
            min(max((moment - first).total_seconds() / length_s, 0.0), 1.0) * _WIDTH
            for moment in (datetime.fromisoformat(start), datetime.fromisoformat(end) if end else last)
        )
        x = min(begins, _WIDTH - 2.0)
        return f'<rect class="{look}" x="{_LEFT + x:.1f}" y="{y}" width="{max(ends - x, 2.0):.1f}" height="20"/>'

    rows = []
    lines = sorted(view["ledger"], key=_is_gap, reverse=True)[:_SHOWN]
    for n, source in enumerate(view["sources"]):
        y = _TOP + n * _ROW
        rows.append(f'<text x="0" y="{y + 15}">{escape(source["title"][:11])}</text>')
        rows += [bar(span["start"], span["end"], y, "segment") for span in source["spans"]]
        own = [line for line in lines if line["source"] == source["source"]]
        rows += [bar(one["start"], one["end"], y, _look(one)) for one in sorted(own, key=_is_gap)]
    name, told = f"session-{escape(view['session_id'])}", "; ".join(_told(view, lines, lang))
    title = "录制时间轴" if lang == "zh" else "What was recorded when"
    axis = f'<text x="{_LEFT}" y="18">{first:%m-%d %H:%M:%S}</text>'
    axis += f'<text class="end" x="{_LEFT + _WIDTH}" y="18">{last:%m-%d %H:%M:%S}</text>'
    return (
        f'<svg class="strip" xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{name} {name}-told"'
        f' viewBox="0 0 {_LEFT + _WIDTH + 8} {_TOP + max(1, len(view["sources"])) * _ROW}"><title id="{name}">'
        f'{title}</title><desc id="{name}-told">{escape(told)}</desc>{axis}{"".join(rows)}</svg>'
    )


def _reach(view: Json) -> tuple[datetime, datetime]:
    spans = [span for source in view["sources"] for span in source["spans"]]
    times = [view["started_at"], view["ended_at"], *(one["end"] for one in (*spans, *view["ledger"]))]
    times += [one["start"] for one in (*spans, *view["ledger"])]
    known = [datetime.fromisoformat(time) for time in times if time]
    return min(known), max(known)


def _is_gap(line: Json) -> bool:
    return bool(line["kind"]["name"] in (Line.GAP, Line.MISSING))


def _look(line: Json) -> str:
    return "gap" if _is_gap(line) else "noticed"


def _told(view: Json, lines: list[Json], lang: str) -> Iterator[str]:
    for source in view["sources"]:
        yield f"{source['title']}: " + ", ".join(f"{one['start']} – {one['end']}" for one in source["spans"])
    for line in lines:
        yield f"{line['title']} {line['kind'][lang]} {line['start']} – {line['end'] or '…'}"
