"""The status drawn on a terminal of any width, once or again and again; the words are those of every other screen."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from agent.status.client import StatusUnavailable
from agent.status.reasons import both
from agent.status.summary import details, lines_at_risk, printable
from agent.status.words import Hold

Json = Mapping[str, Any]
Fetch = Callable[[], Json]
"""Gives the status; raises StatusUnavailable."""

_ALARM: Final = "bold red"
_NOTE: Final = "yellow"
_GOOD: Final = "green"
_STYLES: Final[Mapping[str, str]] = {
    Hold.KEEP: _ALARM, Hold.TAKE: f"bold {_GOOD}", Hold.ASK: f"bold {_NOTE}", Hold.GONE: f"bold {_NOTE}",
}  # fmt: skip
_ALARMING: Final = ("overdue", "need a person", "gaps not explained")
_ROOM_FOR_BARS: Final = 100
"""Columns of a terminal below which the slots are lines instead of a table."""


def screen(status: Json, width: int) -> RenderableType:
    """The whole status for a terminal with so many columns; nothing that a recorder is named can steer it."""
    return Group(
        _head(status),
        *(Text(printable(f"! {_both(problem)}"), _NOTE) for problem in status["health"]["problems"]),
        Columns([_tile(tile) for tile in status["tiles"]], padding=(0, 2)),
        Rule(style="dim"),
        *_slots(status["slots"], width),
        *(Text(printable(line)) for line in (*lines_at_risk(status["at_risk"]), *details(status))),
    )


def watch(fetch: Fetch, console: Console, interval_s: float, count: int | None) -> None:
    """Draw the status anew every `interval_s`, `count` times or until Ctrl-C; below each other where it is no terminal.

    While the service doesn't answer, that is all that is shown: nothing of before looks as if it still held.
    """
    with _drawing(console) as draw:
        again(lambda: draw(_now(fetch, console.width)), interval_s, count)


def again(show: Callable[[], None], interval_s: float, count: int | None) -> None:
    """Show every `interval_s`, `count` times or for ever."""
    for number in itertools.count(1) if count is None else range(1, count + 1):
        show()
        if number != count:
            time.sleep(interval_s)


@contextlib.contextmanager
def _drawing(console: Console) -> Iterator[Callable[[RenderableType], None]]:
    if console.is_terminal:
        with Live(console=console, auto_refresh=False, screen=True) as live:
            yield lambda shown: live.update(shown, refresh=True)
    else:
        yield console.print


def _now(fetch: Fetch, width: int) -> RenderableType:
    try:
        return screen(fetch(), width)
    except StatusUnavailable as error:
        return Text(printable(str(error)), _ALARM)


def _head(status: Json) -> Text:
    health = status["health"]
    look = {"ok": _GOOD, "degraded": _NOTE}.get(health["name"], _ALARM)
    return Text.assemble(
        (printable(status["station"]["name"]), "bold"), "  ", (_both(health), look), "  ",
        (status["now"], "dim"),
    )  # fmt: skip


def _tile(tile: Json) -> Text:
    more = "+" if tile["or_more"] else ""
    alarming = tile["count"] and tile["en"] in _ALARMING
    return Text(f"{tile['zh']} {tile['en']}: {tile['count']}{more}", _ALARM if alarming else "")


def _slots(slots: Sequence[Json], width: int) -> Iterator[RenderableType]:
    if width >= _ROOM_FOR_BARS and slots:
        table = Table(box=None, show_header=False, expand=True, padding=(0, 1))
        for slot in slots:
            table.add_row(*_told(slot), ProgressBar(slot["bytes"]["total"] or None, slot["bytes"]["done"]), _hold(slot))
        yield table
    else:
        for slot in slots:
            yield Text(" ").join([*_told(slot), _hold(slot)])
    told = ((slot["slot"], slot["message_words"]) for slot in slots if slot["message_words"])
    yield from (Text(printable(f"  {name}: {both(words)}"), _NOTE) for name, words in told)


def _told(slot: Json) -> list[Text]:
    files, size = slot["files"], slot["bytes"]
    runs = slot["hold"]["name"] == Hold.KEEP and slot["eta_s"] is not None
    left = f" 约 {slot['eta_s'] // 60 + 1} min" if runs else ""
    return [
        Text(printable(f"{slot['slot']} {slot['device']}")), Text(_both(slot["phase"])),
        Text(f"{files['done']}/{files['total']} files {size['done'] / 1e9:.1f}/{size['total'] / 1e9:.1f} GB{left}"),
    ]  # fmt: skip


def _hold(slot: Json) -> Text:
    return Text(printable(_both(slot["hold"])), _STYLES[slot["hold"]["name"]])


def _both(words: Json) -> str:
    return f"{words['zh']} ({words['en']})"
