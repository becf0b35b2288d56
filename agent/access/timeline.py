"""Strips that show where in a recording something was found, and how loud it is: SVG without scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Final

from agent.model import FindingKind, MediaFinding

Spans = Sequence[tuple[int, int]]
"""From, to, in milliseconds since the beginning; in order."""

NAMES: Final[Mapping[FindingKind, tuple[str, str]]] = {
    FindingKind.BLACK: ("黑屏", "black picture"),
    FindingKind.FROZEN: ("画面静止", "frozen picture"),
    FindingKind.SILENT: ("无声", "silent"),
    FindingKind.GAP: ("时间间断", "gap in time"),
    FindingKind.BACKWARDS: ("时间倒退", "time goes back"),
    FindingKind.OFFSET: ("音画起止不一", "tracks differ"),
    FindingKind.UNDECODABLE: ("无法解码", "undecodable"),
    FindingKind.ZEROS: ("连续零字节", "only zeros"),
    FindingKind.CUT: ("缺尾或缺索引", "end or index missing"),
}
_LOOKS: Final[Mapping[FindingKind, tuple[str, str]]] = {
    FindingKind.BLACK: ("#1a1a1a", ""),
    FindingKind.FROZEN: ("#1f5fa6", "M0 4H8"),
    FindingKind.SILENT: ("#6b4fa0", "M4 0V8"),
    FindingKind.GAP: ("#b3261e", "M-2 2L2 -2M0 8L8 0M6 10L10 6"),
    FindingKind.BACKWARDS: ("#8a4b00", "M-2 6L2 10M0 0L8 8M6 -2L10 2"),
    FindingKind.OFFSET: ("#00695c", "M2 4H6"),
    FindingKind.UNDECODABLE: ("#a3155b", "M0 0L8 8M0 8L8 0"),
    FindingKind.ZEROS: ("#4d4d4d", "M4 2V6"),
    FindingKind.CUT: ("#5d4037", "M0 4H8M4 0V8"),
}
"""Colour, and the white lines by which it is known without one."""
_WIDTH, _LEFT, _BAR, _LINE, _HEAD = 980, 220, 720, 26, 44
COLUMNS: Final = _BAR
"""So many parts of a recording have a loudness of their own."""
_TOLD_LIMIT: Final = 20
_LABEL: Final = 16
_FLOOR_DB, _WAVE = 60, 48
_STYLE: Final = (
    "text{font-family:'Noto Sans CJK SC','Source Han Sans SC','Microsoft YaHei',sans-serif;font-size:13px;fill:#1a1a1a}"
    " .m{text-anchor:middle;fill:#4d4d4d} .l{text-anchor:end} .b{fill:#e4e4e4} path{stroke:#fff;stroke-width:2}"
)


def timeline_svg(duration_ms: int, findings: Iterable[MediaFinding]) -> str:
    """What was found at a time, by kind, on a bar of that length; what has no place in time is not on it."""
    spans: dict[FindingKind, list[tuple[int, int]]] = {kind: [] for kind in FindingKind}
    for one in findings:
        if one.start_ms is not None:
            start = min(max(0, one.start_ms), duration_ms)
            end = one.start_ms if one.end_ms is None else one.end_ms
            spans[one.kind].append((start, min(max(start, end), duration_ms)))
    shown = {kind: sorted(found) for kind, found in spans.items() if found}
    height = _HEAD + _LINE * max(1, len(shown)) + 8
    told = "；".join(_told(kind, found) for kind, found in shown.items()) or "未检出异常 nothing was found"
    rows = [_row(_HEAD + _LINE * number, kind, shown[kind], duration_ms) for number, kind in enumerate(shown)]
    body = "".join(rows) or _empty(_HEAD, told)
    defs = f"<defs>{''.join(map(_pattern, shown))}</defs>"
    return _svg(
        height, "时间轴 · Timeline", f"{clock(duration_ms)}；{told}", f"{defs}{_axis(duration_ms, height)}{body}"
    )


def session_svg(duration_ms: int, sources: Sequence[tuple[str, Mapping[FindingKind, Spans]]]) -> str:
    """A session: for each source what is missing in it, and what was noticed while it was recorded, on one clock."""
    rows: list[str] = []
    told: list[str] = []
    for title, found in sources:
        for kind in found or (FindingKind.GAP,):
            label = f"{title}·{NAMES[kind][0]}"[:_LABEL]
            y = _HEAD + _LINE * len(rows)
            rows.append(_row(y, kind, sorted(found.get(kind, ())), duration_ms, escape(label)))
            told.append(f"{escape(title)}：{_told(kind, sorted(found.get(kind, ())))}")
    kinds = dict.fromkeys(kind for _, found in sources for kind in found)
    height = _HEAD + _LINE * max(1, len(rows)) + 8
    body = f"<defs>{''.join(map(_pattern, kinds))}</defs>{_axis(duration_ms, height)}{''.join(rows)}"
    return _svg(height, "场次时间轴 · Session", f"{clock(duration_ms)}；{'；'.join(told)}", body)


def waveform_svg(duration_ms: int, peaks: Iterable[tuple[int, float]]) -> str:
    """How loud it is: (milliseconds, decibels below the loudest there can be), under the strip's own axis."""
    loud = [0.0] * COLUMNS
    for at_ms, decibels in peaks:
        column = min(COLUMNS - 1, max(0, at_ms) * COLUMNS // max(1, duration_ms))
        loud[column] = max(loud[column], min(1.0, 1 + decibels / _FLOOR_DB))
    middle = _HEAD + _WAVE
    wave = "".join(
        f"M{_LEFT + x} {middle - 1 - round(_WAVE * y)}V{middle + 1 + round(_WAVE * y)}" for x, y in enumerate(loud)
    )
    height = _HEAD + 2 * _WAVE + 8
    body = (
        _text(_LEFT - 10, middle - 9, "音量 loudness", "l")
        + f'<path style="stroke:#1f5fa6;stroke-width:1" d="{wave}"/>'
    )
    return _svg(height, "波形 · Waveform", clock(duration_ms), _axis(duration_ms, height) + body)


def clock(time_ms: int) -> str:
    """Hours, minutes and seconds since the beginning."""
    minutes, seconds = divmod(time_ms // 1000, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _svg(height: int, title: str, told: str, body: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        f' role="img" aria-labelledby="title desc"><title id="title">{title}</title><desc id="desc">{told}</desc>'
        f'<style>{_STYLE}</style><rect fill="#ffffff" width="{_WIDTH}" height="{height}"/>{body}</svg>\n'
    )


def _told(kind: FindingKind, spans: Spans) -> str:
    times = "、".join(f"{clock(start)}–{clock(end)}" for start, end in spans[:_TOLD_LIMIT])
    more = f" … ({len(spans)})" if len(spans) > _TOLD_LIMIT else ""
    return f"{' '.join(NAMES[kind])}：{times}{more}"


def _row(y: int, kind: FindingKind, spans: Spans, duration_ms: int, label: str = "") -> str:
    bars = (
        f'<rect fill="url(#{kind})" x="{x}" y="{y}" width="{width}" height="18"/>'
        for x, width in _bars(spans, duration_ms)
    )
    return _empty(y, label or " ".join(NAMES[kind])) + "".join(bars)


def _empty(y: int, words: str) -> str:
    return f'{_text(_LEFT - 10, y, words, "l")}<rect class="b" x="{_LEFT}" y="{y}" width="{_BAR}" height="18"/>'


def _bars(spans: Spans, duration_ms: int) -> Iterator[tuple[int, int]]:
    """(x, width) in pixels, each wide enough to be seen; what would touch is one, so there are never many."""
    left = right = -1
    for start, end in spans:
        x, until = (_LEFT + _BAR * at // max(1, duration_ms) for at in (start, end))
        x = min(x, _LEFT + _BAR - 2)
        if left >= 0 and x > right:
            yield left, right - left
        if left < 0 or x > right:
            left, right = x, x + 2
        right = max(right, until)
    if left >= 0:
        yield left, right - left


def _pattern(kind: FindingKind) -> str:
    colour, lines = _LOOKS[kind]
    return (
        f'<pattern id="{kind}" width="8" height="8" patternUnits="userSpaceOnUse">'
        f'<rect width="8" height="8" fill="{colour}"/><path d="{lines}"/></pattern>'
    )


def _axis(duration_ms: int, height: int) -> str:
    ticks = []
    for part in range(5):
        x = _LEFT + _BAR * part // 4
        ticks.append(f'<path style="stroke:#b0b0b0" d="M{x} 30V{height - 4}"/>')
        ticks.append(_text(x, 12, clock(duration_ms * part // 4), "m"))
    return "".join(ticks)


def _text(x: int, y: int, words: str, style: str) -> str:
    return f'<text class="{style}" x="{x}" y="{y + 14}">{words}</text>'
