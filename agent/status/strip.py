"""An activity as a strip: its recordings, the gaps between them and what was found in them, over its time, as SVG."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from html import escape
from typing import Any, Final

Json = dict[str, Any]

_LEFT, _WIDTH, _LINE = 8, 944, 26
_SHOWN: Final = 200
"""How many recordings and gaps are drawn at most."""


def strip_svg(view: Json, lang: str) -> str:
    """What `activity_view` gave, as a picture that says in words what it shows; classes have the page's colours."""
    arrived, left = (datetime.fromisoformat(view[name]) for name in ("arrived_at", "left_at"))
    parts, gaps = view["recordings"][:_SHOWN], _whole(view)
    spans = [part for part in parts if part["placed"]]
    first = min([arrived, *(datetime.fromisoformat(part["from"]) for part in spans)])
    last = max([left, *(datetime.fromisoformat(part["to"]) for part in spans)])
    length_s = max((last - first).total_seconds(), 1.0)

    def bar(begin: str, end: str, y: int, look: str) -> str:
        x, until = ((datetime.fromisoformat(at) - first).total_seconds() / length_s * _WIDTH for at in (begin, end))
        x = min(max(x, 0.0), _WIDTH - 2.0)
        width = max(min(until, _WIDTH) - x, 2.0)
        return f'<rect class="{look}" x="{_LEFT + x:.1f}" y="{y}" width="{width:.1f}" height="{_LINE - 6}"/>'

    title = view["stage"][lang]
    rows = [bar(view["arrived_at"], view["left_at"], 30, "site")]
    rows += [bar(part["from"], part["to"], 30 + _LINE, "segment") for part in spans]
    rows += [bar(gap["from"], gap["to"], 30 + 2 * _LINE, f"gap {gap['state']['name']}") for gap in gaps]
    axis = f'<text x="{_LEFT}" y="18">{first:%m-%d %H:%M:%S}</text>'
    axis += f'<text class="end" x="{_LEFT + _WIDTH}" y="18">{last:%m-%d %H:%M:%S}</text>'
    told = "; ".join(_told(view, lang))
    name = f"strip-{escape(view['activity_id'])}"
    return (
        f'<svg class="strip" xmlns="http://www.w3.org/2000/svg" role="img" aria-labelledby="{name} {name}-told"'
        f' viewBox="0 0 {_LEFT * 2 + _WIDTH} {36 + 3 * _LINE}"><title id="{name}">{escape(title)}</title>'
        f'<desc id="{name}-told">{escape(told)}</desc>{axis}{"".join(rows)}</svg>'
    )


def _whole(view: Json) -> list[Json]:
    """Gaps in which nothing was recorded by anything."""
    return [gap for gap in view["gaps"] if not gap["source"]][:_SHOWN]


def _told(view: Json, lang: str) -> Iterator[str]:
    zh = lang == "zh"
    yield f"{view['arrived_at']} – {view['left_at']}"
    for part in view["recordings"][:_SHOWN]:
        yield ("分段 " if zh else "segment ") + f"{part['from']} – {part['to']}"
    for gap in _whole(view):
        yield ("中断 " if zh else "gap ") + f"{gap['from']} – {gap['to']} {gap['state'][lang]}"
