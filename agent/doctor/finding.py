"""What the doctor finds, and what it is given to look at."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from agent.config import Config
from agent.model import Clock


class Grade(StrEnum):
    """UNKNOWN could not be looked at: it is never taken for good."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found, in Chinese and English, and how to mend it."""

    grade: Grade
    zh: str
    en: str
    do_zh: str = ""
    do_en: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A station: its configuration file, what it says if it can be read, and the user that its service runs as."""

    path: Path
    config: Config | None
    clock: Clock
    owner: int | None
    is_root: bool

    @property
    def known(self) -> Config:
        """The configuration; raises OSError where there is none, which topic `configuration` tells about."""
        if self.config is None:
            raise OSError("the configuration can't be read (配置无法读取)")
        return self.config


@dataclass(frozen=True, slots=True)
class Topic:
    """One part of the examination, and the seconds it may take; `as_service`: with the rights of the service's user."""

    name: str
    zh: str
    look: Callable[[Case], Iterable[Finding]]
    limit_s: float
    as_service: bool = False


def ask(*words: str, limit_s: float = 20.0) -> tuple[int, str] | None:
    """Exit code and standard output of a tool of the system; None if there is none, or no answer in time."""
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.returncode, done.stdout.decode("utf-8", "replace")
