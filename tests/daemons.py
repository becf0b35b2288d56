"""The real service as a child process, for tests: its station in a folder, its answers, its exit."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.stage import Service, Stage, prepare, serving, tail, with_options

LIMIT_S = 60.0
QUICK = {
    "storage.reserve_bytes": "0",
    "storage.seal": "false",
    "runner.backoff_base_s": "0.2",
    "runner.backoff_max_s": "1",
    "runner.attempts": "3",
}


def stage(folder: Path, changes: dict[str, str] | None = None) -> Stage:
    """A station that is not running yet; `changes` are options of its configuration, as TOML."""
    made = prepare(folder / "stage")
    text = made.config.read_text("utf-8")
    made.config.write_text(with_options(text, QUICK | (changes or {})), "utf-8")
    return made


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running service; every wait is bounded and fails with the service's own log."""

    service: Service
    stage: Stage

    @property
    def pid(self) -> int:
        return self.service.process.pid

    def status(self) -> dict[str, Any]:
        return self.service.status()

    def slot(self, name: str) -> dict[str, Any]:
        """What a slot shows; empty if there is nothing in it."""
        return next((slot for slot in self.status()["slots"] if slot["slot"] == name), {})

    def until(self, true: Callable[[], object], limit_s: float = LIMIT_S) -> None:
        end = time.monotonic() + limit_s
        while not true():
            self.service.alive()
            assert time.monotonic() < end, f"{self.status()['slots']}\n{tail(self.stage.log)}"
            time.sleep(0.05)

    def until_phase(self, slot: str, *phases: str, limit_s: float = LIMIT_S) -> dict[str, Any]:
        """Wait until a slot is in one of the phases; what it shows then."""
        self.until(lambda: self.slot(slot).get("phase", {}).get("name") in phases, limit_s)
        return self.slot(slot)

    def rss_bytes(self) -> int:
        """The most memory the service itself has ever had."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024

    def dock(self, image: Path, name: str = "") -> str:
        """Put an image into the dock folder, at once and whole; the name of its slot."""
        target = self.stage.dock / (name or image.name)
        os.rename(image, target)
        return target.name


@contextmanager
def running(made: Stage) -> Iterator[Daemon]:
    """The service, from its first answer on; it must end in good order when it is asked to."""
    with serving(made) as service:
        yield Daemon(service, made)
        if service.process.poll() is None:
            assert service.stop() == 0, tail(made.log)
        assert "Traceback" not in made.log.read_text("utf-8"), made.log.read_text("utf-8")


def call(made: Stage, *arguments: str, timeout_s: float = LIMIT_S) -> subprocess.CompletedProcess[str]:
    """One call of the real command line."""
    return subprocess.run(
        made.command(*arguments), capture_output=True, text=True, timeout=timeout_s, check=False
    )  # fmt: skip
