"""Rows of measured figures with their noise, goals and verdicts, as a table for the terminal and for the docs."""

from __future__ import annotations

import statistics
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

HEADINGS: Final = ("case", "what", "agent", "compared with", "its figure", "ratio", "goal", "met")


class BenchError(Exception):
    """The bench can't measure here, or the agent did not do what is being measured; the text says which."""


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the agent over several rounds, compared with a command in the same rounds or with a limit.

    `theirs` has one value for each of `ours`, or is empty. `goal` is about the median ratio if there are `theirs`,
    else about our median; it is a lower limit if `at_least`, and there may be none. `instead` says why nothing was
    measured.
    """

    case: str
    what: str
    unit: str = ""
    ours: tuple[float, ...] = ()
    against: str = ""
    theirs: tuple[float, ...] = ()
    goal: float | None = None
    at_least: bool = False
    instead: str = ""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Ours by theirs, round by round."""
        return tuple(our / their for our, their in zip(self.ours, self.theirs, strict=True)) if self.theirs else ()

    @property
    def met(self) -> bool | None:
        """Whether the median keeps to the goal; None if there is none or nothing was measured."""
        if self.goal is None or self.instead:
            return None
        value = statistics.median(self.ratios or self.ours)
        return value >= self.goal if self.at_least else value <= self.goal

    def cells(self, *, judged: bool = True) -> tuple[str, ...]:
        """The row as texts under HEADINGS; without verdict unless `judged`."""
        if self.instead:
            return (self.case, self.what, self.instead, self.against, "", "", "", "")
        sign = "≥" if self.at_least else "≤"
        goal = "" if self.goal is None else f"{sign} {self.goal:g}{' x' if self.theirs else ' ' + self.unit}"
        verdict = {None: "", True: "yes", False: "no"}[self.met] if judged else ""
        return (
            self.case, self.what, _spread(self.ours, self.unit), self.against, _spread(self.theirs, self.unit),
            _spread(self.ratios, "x"), goal, verdict,
        )  # fmt: skip


def _spread(values: Sequence[float], unit: str) -> str:
    """Median, with minimum and maximum if there are several values."""
    if not values:
        return ""
    middle = f"{_short(statistics.median(values))} {unit}"
    return middle if len(values) == 1 else f"{middle} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows: Sequence[Row], *, judged: bool) -> str:
    """The rows for a terminal."""
    texts = [HEADINGS, *(row.cells(judged=judged) for row in rows)]
    widths = [max(_width(line[column]) for line in texts) for column in range(len(HEADINGS))]
    return "\n".join("  ".join(_padded(*cell) for cell in zip(line, widths, strict=True)).rstrip() for line in texts)


def markdown(rows: Sequence[Row], machine: Sequence[tuple[str, str]], command: str, *, judged: bool) -> str:
    """The page docs/bench.md: machine, table, and the command that makes it."""
    lines = [
        "# Speed",
        "",
        f"Made by `{command}`. Each figure is the median of alternated rounds (minimum to maximum).",
        "Each ratio is taken within a round, so that it holds when the speed of the machine drifts.",
        "",
        *(f"- {name}: {value}" for name, value in machine),
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + " --- |" * len(HEADINGS),
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row.cells(judged=judged)) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _padded(text: str, width: int) -> str:
    return text + " " * (width - _width(text))
