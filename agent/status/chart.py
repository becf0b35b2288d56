"""Statistics as a chart: one SVG without scripts, every bar with its number in words, nothing told by colour alone."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from agent.statistics.report import Amount, Subject, Table, Timeliness
from agent.statistics.suppression import SMALLEST
from agent.status.statistics import (
    MEASURED,
    TITLES,
    TOTAL,
    Figures,
    hours,
    mean_delay_hours,
    percent_in_time,
    period,
)

_WIDTH: Final = 960
_LEFT: Final = 360
_BAR: Final = 200
_LINE: Final = 38
_MARGIN: Final = 24
_ZH_SHOWN, _EN_SHOWN = 22, 46
_STYLE: Final = (
    "text{font-family:'Noto Sans CJK SC','Source Han Sans SC','Microsoft YaHei',sans-serif;font-size:15px;fill:#1a1a1a}"
    " .h{font-size:18px;font-weight:bold} .t{font-size:22px;font-weight:bold} .n{fill:#4d4d4d;font-size:13px}"
    " .l{text-anchor:end} .e{text-anchor:end;fill:#4d4d4d;font-size:12px} rect{fill:#1f5fa6} .g{fill:#ffffff}"
)

_NOTE: Final = (
    f"少于 {SMALLEST} 的数及可由其推算的数不公布 · "
    f"Numbers below {SMALLEST}, and what they could be computed from, are not told"
)


def figures_svg(figures: Figures) -> str:
    """The last column of each table, that of the year or of the month, as bars under each other."""
    title = f"音像记录统计 {figures.year if figures.month is None else f'{figures.year}-{figures.month:02}'}"
    y = _MARGIN + 22
    lines = [_text(_MARGIN, y, f"{title} · Recording statistics", "t")]
    told: list[str] = []
    for table in figures.shown:
        y += _LINE + 14
        lines += [
            _text(_MARGIN, y, " · ".join(TITLES[table.subject]), "h"),
            _text(_MARGIN, y + 18, _span(figures, table), "n"),
        ]
        y += 12
        told.append(f"{TITLES[table.subject][0]}（{_span(figures, table)}）")
        for (chinese, english), share, words in _bars(figures, table):
            y += _LINE
            lines += [
                _text(_LEFT - 12, y - 7, _short(chinese, _ZH_SHOWN), "l"),
                _text(_LEFT - 12, y + 8, _short(english, _EN_SHOWN), "e"),
                _rect(_LEFT, y, share),
                _text(_LEFT + _BAR * share + 10, y, words),
            ]
            told.append(f"{chinese} {english}：{words}")
    y += _LINE + 8
    lines.append(_text(_MARGIN, y, _NOTE, "n"))
    height = y + _MARGIN
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        f' role="img" aria-labelledby="title desc"><title id="title">{escape(title)}</title>'
        f'<desc id="desc">{escape("；".join(told))}</desc><style>{_STYLE}</style>'
        f'<rect class="g" width="{_WIDTH}" height="{height}"/>{"".join(lines)}</svg>\n'
    )


def _span(figures: Figures, table: Table) -> str:
    if not table.columns:
        return "无可公布的数 · nothing to tell"
    last = table.columns[-1]
    return f"{period(figures.year, last)}{' 未完 (not ended)' if last.running else ''}"


def _bars(figures: Figures, table: Table) -> Iterator[tuple[tuple[str, str], float, str]]:
    """Each row's name, its share of the longest bar, and its number in words."""
    if not table.columns:
        return
    total = table.totals[-1]
    largest = max(total.count, 1)
    for code, cells in table.rows.items():
        if (cell := cells[-1]) is None:
            yield figures.label(table.subject, code), 0, "不公布 (not told)"
        elif cell.count:
            yield figures.label(table.subject, code), cell.count / largest, _words(table, code, cell)
    yield TOTAL, total.count / largest, _words(table, "", total)


def _words(table: Table, code: str, amount: Amount) -> str:
    told = [f"{amount.count}"]
    if table.subject in MEASURED:
        told += [f"{hours(amount)} 小时 (h)", f"{amount.size_bytes / 1e9:.1f} GB"]
    if table.subject is Subject.TIMELINESS and not code:
        share = percent_in_time(table, -1)
        told += [f"按期率 (in time) {share}%"] if share is not None else []
    if code == Timeliness.LATE and (delay := mean_delay_hours(amount)) is not None:
        told.append(f"平均逾期 (mean delay) {delay} 小时 (h)")
    return " · ".join(told)


def _short(words: str, longest: int) -> str:
    """As much of a name as has room beside its bar; all of it is in the description."""
    return words if len(words) <= longest else f"{words[: longest - 1]}…"


def _text(x: float, y: float, words: str, style: str = "") -> str:
    named = f' class="{style}"' if style else ""
    return f'<text{named} x="{x:.1f}" y="{y}">{escape(words)}</text>'


def _rect(x: float, y: float, share: float) -> str:
    return f'<rect x="{x}" y="{y - 15}" width="{max(_BAR * share, 1):.1f}" height="20"/>'
