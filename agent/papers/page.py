"""HTML of the papers: text is escaped unless it is markup already, and every paper has the same frame."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

import segno

QR_LIMIT_BYTES: Final = 2953
"""The largest QR code has no more (ISO/IEC 18004, version 40-L); up to 2000 a telephone reads it easily."""

_STYLE: Final = """
@page { size: A4; margin: 14mm 15mm 15mm; font: 7pt "Noto Sans CJK SC", "WenQuanYi Zen Hei", sans-serif; color: #444;
  @bottom-left { content: string(foot) } @bottom-right { content: counter(page) " / " counter(pages) } }
@media screen { body { padding: 8mm 0 } }
* { box-sizing: border-box }
body { font: 9pt/1.45 "Noto Sans CJK SC", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", sans-serif; color: #000;
  max-width: 180mm; margin: 0 auto; background: #fff; overflow-wrap: anywhere }
h1 { font-size: 17pt; line-height: 1.2; margin: 0 0 3mm; padding-bottom: 2mm; border-bottom: 0.6mm solid #000 }
h2 { font-size: 10.5pt; margin: 4mm 0 1.5mm; break-after: avoid }
h1 [lang=en], h2 [lang=en] { font-weight: normal }
[lang=en] { font-size: 0.82em; color: #333 }
.verdict [lang=en] { display: block; font-weight: normal }
table { border-collapse: collapse; width: 100%; table-layout: fixed }
th, td { border: 0.2mm solid #777; padding: 0.8mm 1.4mm; text-align: left; vertical-align: top }
th { background: #eee; font-weight: 600 }
tr { break-inside: avoid }
table.facts th { width: 31% }
p { margin: 1.5mm 0 }
.verdict { border: 0.7mm solid #000; padding: 2mm 3mm; font-size: 11.5pt; font-weight: 600; break-inside: avoid }
.digest { font-family: "DejaVu Sans Mono", "Liberation Mono", "Noto Sans Mono CJK SC", monospace; font-size: 0.8em;
  overflow-wrap: anywhere }
pre { white-space: pre-wrap; margin: 1mm 0; line-height: 1.35 }
.beside { display: flex; gap: 5mm; align-items: center; break-inside: avoid }
.beside > * { flex: 1 1 0 } .beside > .qr { flex: none }
.signed { border-bottom: 0.2mm solid #000; padding-top: 10mm }
@media print { .screen { display: none } }
.qr { break-inside: avoid } .qr svg { width: 76mm; height: 76mm; display: block }
h1 { string-set: foot attr(data-foot) }
.foot { font-size: 7pt; color: #444; margin-top: 4mm; border-top: 0.2mm solid #777 }
@media print { .foot { display: none } }
"""

_FRAME: Final = """<!DOCTYPE html>
<html lang="zh-CN">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="dcterms.created" content="{made_at}">
<title>{zh} {en}</title>
<style>{style}</style>
</head>
<body>
<h1 data-foot="{foot}">{zh} <span lang="en">{en}</span></h1>
{body}
<p class="foot">{foot}</p>
</body>
</html>
"""


class Markup(str):
    """HTML that is what it should be; any other text is escaped where it is put in."""

    __slots__ = ()


def filled(template: str, **values: object) -> Markup:
    """Return the markup of a template of ours (`str.format`), with each value escaped unless it is Markup."""
    return Markup(template.format_map({name: _markup(value) for name, value in values.items()}))


def joined(parts: Iterable[object]) -> Markup:
    """Return parts one behind the other, each escaped unless it is Markup."""
    return Markup("".join(map(_markup, parts)))


def both(zh: object, en: object) -> Markup:
    """Return Chinese with English beside it."""
    return filled('{zh} <span lang="en">{en}</span>', zh=zh, en=en)


def digest(text: str) -> Markup:
    """Return a fingerprint, key or the like, which may be broken anywhere."""
    return filled('<span class="digest">{text}</span>', text=text)


def facts(rows: Iterable[tuple[object, object]]) -> Markup:
    """Return a table of names and what they are."""
    lines = (filled("<tr><th>{name}</th><td>{value}</td></tr>\n", name=name, value=value) for name, value in rows)
    return filled('<table class="facts">\n{lines}</table>\n', lines=joined(lines))


def table(heads: Sequence[object], rows: Iterable[Sequence[object]], widths: Sequence[str] = ()) -> Markup:
    """Return a table whose heads are repeated on every page; `widths` are CSS, like "20%"."""
    columns = joined(filled('<col style="width: {width}">', width=width) for width in widths)
    head = joined(filled("<th>{one}</th>", one=one) for one in heads)
    cells = (joined(filled("<td>{one}</td>", one=one) for one in row) for row in rows)
    lines = (filled("<tr>{cells}</tr>\n", cells=row) for row in cells)
    return filled(
        "<table>{columns}<thead><tr>{head}</tr></thead><tbody>\n{lines}</tbody></table>\n",
        columns=columns, head=head, lines=joined(lines),
    )  # fmt: skip


def qr_code(text: str) -> Markup:
    """Return a QR code (ISO/IEC 18004) of a text as inline SVG; raises ValueError above QR_LIMIT_BYTES."""
    content = text.encode()
    if len(content) > QR_LIMIT_BYTES:
        raise ValueError(f"{len(content)} bytes are more than a QR code holds")
    svg = io.BytesIO()
    segno.make_qr(content, error="l", boost_error=True).save(svg, kind="svg", xmldecl=False, omitsize=True, border=4)
    return filled('<div class="qr">{svg}</div>\n', svg=Markup(svg.getvalue().decode()))


def page(zh: str, en: str, body: Markup, *, foot: str, made_at: str) -> str:
    """Return a whole paper under its title in two languages; `foot` stands below every page, `made_at` is RFC 3339."""
    return filled(_FRAME, zh=zh, en=en, body=body, foot=foot, made_at=made_at, style=Markup(_STYLE))


def _markup(value: object) -> str:
    return value if isinstance(value, Markup) else escape("".join(map(_shown, str(value))))


def _shown(char: str) -> str:
    """A character as it may stand on paper: what would reverse, hide or break a line's text becomes U+FFFD."""
    is_plain = char.isprintable() or char == "\n" or unicodedata.category(char) == "Zs"
    return char if is_plain else "\N{REPLACEMENT CHARACTER}"
