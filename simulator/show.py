"""What the demo prints: steps, facts, claims with their proof, live progress; coloured only on a terminal."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, TextIO

from simulator.stage import DemoError

BOLD: Final = "1"
DIM: Final = "2"
GREEN: Final = "32"
RED: Final = "31"
YELLOW: Final = "33"
BAR_CELLS: Final = 24
QUARTERS: Final = 4


class Show:
    """Prints the story and keeps count of its claims; one that is false ends the demo."""

    def __init__(self, out: TextIO | None = None) -> None:
        self._out = sys.stdout if out is None else out
        self._live = self._out.isatty()
        self._colour = self._live and not os.environ.get("NO_COLOR")
        self._began = time.monotonic()
        self._line = False
        self._quarter = ("", -1)
        self.claims = 0

    def step(self, chinese: str, english: str) -> None:
        """Begin a part of the story."""
        self._print(f"\n{self._paint(BOLD, f'{chinese}  {english}')}{self._paint(DIM, f'  +{self.seconds():.0f} s')}")

    def say(self, text: str) -> None:
        """Tell a fact."""
        self._print(f"  {text}")

    def warn(self, text: str) -> None:
        """Tell something that needs attention."""
        self._print(f"  {self._paint(YELLOW, text)}")

    def claim(self, text: str, found: object, expected: object) -> None:
        """State something that was checked; raises DemoError with both sides if it is not so."""
        self.claims += 1
        if found != expected:
            self._print(f"  {self._paint(RED, '✗ ' + text)}")
            raise DemoError(f"{text}: expected {expected!r}, found {found!r}")
        self._print(f"  {self._paint(GREEN, '✓')} {text}")

    def progress(self, slot: Mapping[str, Any]) -> None:
        """Show a slot as it is now: one line that is drawn anew, or elsewhere a line per phase and quarter."""
        share = share_of(slot)
        now = (slot["phase"]["name"], int(share * QUARTERS))
        if not self._live and now == self._quarter:
            return
        self._quarter = now
        line = (
            f"  {slot['phase']['zh']} {slot['phase']['en']:<12} {bar(share)}"
            f"  {slot['files']['done']}/{slot['files']['total']} 个文件 files"
            f"  {megabytes(slot['bytes']['done'])}/{megabytes(slot['bytes']['total'])}"
        )
        if slot["rate_bytes_s"]:
            line += f"  {megabytes(slot['rate_bytes_s'])}/s"
        self._draw(line)

    def upload(self, done_bytes: int, total_bytes: int) -> None:
        """Show how far an original is on its way to the store, in the same manner."""
        share = done_bytes / total_bytes if total_bytes else 0.0
        now = (f"upload of {total_bytes}", int(share * QUARTERS))
        if self._live or now != self._quarter:
            self._quarter = now
            self._draw(f"  上传中 {'uploading':<12} {bar(share)}  {megabytes(done_bytes)}/{megabytes(total_bytes)}")

    def seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._began

    def failed(self, text: str) -> None:
        """Say why the demo ended."""
        self._print(f"\n{self._paint(RED, 'FAILED 未通过')}  {text}")

    def _draw(self, line: str) -> None:
        self._out.write(f"\r\033[K{line}" if self._live else f"{line}\n")
        self._out.flush()
        self._line = self._live

    def _print(self, text: str) -> None:
        if self._line:
            self._out.write("\n")
            self._line = False
        self._out.write(f"{text}\n")
        self._out.flush()

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._colour else text


def share_of(slot: Mapping[str, Any]) -> float:
    """How much of the recorder's bytes has been read, 0 to 1."""
    total = slot["bytes"]["total"]
    return slot["bytes"]["done"] / total if total else 0.0


def bar(share: float) -> str:
    """A share as a bar, with its percentage."""
    return f"[{'#' * int(share * BAR_CELLS):.<{BAR_CELLS}}] {share:4.0%}"


def megabytes(size_bytes: float) -> str:
    """In decimal megabytes, as recorders count."""
    return f"{size_bytes / 1e6:.0f} MB"
