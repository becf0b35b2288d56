"""How every demo begins and ends: its options, what it needs, and an exit code that says whether it told the truth."""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from agent.errors import AgentError
from agent.status.client import StatusUnavailable
from simulator.footage import FootageError
from simulator.show import Show, megabytes
from simulator.stage import CHECKOUT, DemoError, Stage, empty, wipe
from simulator.stores.processes import NotInstalledError

FAILURES = (
    DemoError, AgentError, FootageError, NotInstalledError, StatusUnavailable, OSError, subprocess.SubprocessError,
)  # fmt: skip


def options(name: str, about: str | None, folder: str, stay: str) -> argparse.ArgumentParser:
    """The options that all demos have; `stay` is what one may do at its end."""
    parser = argparse.ArgumentParser(prog=f"./run {name}", description=about)
    parser.add_argument("--dir", type=Path, default=CHECKOUT / folder, help=f"folder to work in (default: {folder})")
    parser.add_argument("--keep", action="store_true", help="keep that folder afterwards")
    parser.add_argument("--stay", action="store_true", help=f"then {stay}; implies --keep")
    return parser


def told(
    given: argparse.Namespace, needed: Sequence[str], needed_bytes: int, story: Callable[[Stage, Show], None]
) -> int:
    """Tell it on an empty stage: 0 if every claim was checked and true, 1 otherwise, 130 if somebody ends it."""
    show = Show()
    try:
        if missing := [tool for tool in needed if not shutil.which(tool)]:
            raise DemoError(f"{', '.join(missing)} can't be found: ./run demo installs what is missing")
        stage = empty(given.dir)
        free_bytes = shutil.disk_usage(stage.root).free
        if free_bytes < needed_bytes:
            raise DemoError(f"{stage.root} has {megabytes(free_bytes)} free, the demo needs {megabytes(needed_bytes)}")
        story(stage, show)
    except FAILURES as error:
        show.failed(str(error))
        return 1
    except KeyboardInterrupt:
        show.failed("interrupted")
        return 130
    if not given.keep and not given.stay:
        wipe(stage.root)
    return 0


def exit_with(main: Callable[[], int]) -> NoReturn:
    """Run a demo as a program: whatever signal ends it, it ends its service, stores and cameras first."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    sys.exit(main())


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
