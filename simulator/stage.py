"""The demo's private station: a folder of its own, a configuration, and the real service as a child process."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from secrets import randbelow, token_urlsafe
from typing import Any, Final

from agent.accounts.book import Account, Book, Role, Token
from agent.accounts.hashing import hashed
from agent.status.client import StatusUnavailable, fetch_status

CHECKOUT: Final = Path(__file__).resolve().parents[1]
MARKER: Final = ".made-by-capture-agent-demo"
STORE_MARKER: Final = ".capture-agent-store"
COMMAND: Final = Path(sys.executable).with_name("capture-agent")
HOST: Final = "127.0.0.1"
START_LIMIT_S: Final = 20.0
STOP_LIMIT_S: Final = 20.0
DYING_S: Final = 0.5
"""Its page is gone a little before the service itself is."""
LOG_LINES: Final = 12


class DemoError(Exception):
    """The demo can't go on, or found that something is not as claimed."""


@dataclass(frozen=True, slots=True)
class Stage:
    """The folders of one demo station."""

    root: Path
    port: int

    @property
    def config(self) -> Path:
        """Configuration of the service."""
        return self.root / "config" / "agent.toml"

    @property
    def dock(self) -> Path:
        """The folder in which an image counts as a docked recorder."""
        return self.root / "dock"

    @property
    def recorders(self) -> Path:
        """Where the recorders lie while they are not docked."""
        return self.root / "recorders"

    @property
    def station(self) -> Path:
        """Vault and journal of the service."""
        return self.root / "station"

    @property
    def store(self) -> Path:
        """The dedicated storage that originals go to, if it is a folder."""
        return self.root / "store"

    @property
    def vault(self) -> Path:
        """The service's own originals."""
        return self.station / "vault"

    @property
    def log(self) -> Path:
        """What the service says."""
        return self.root / "capture-agent.log"

    @property
    def address(self) -> str:
        """The status page."""
        return f"http://{HOST}:{self.port}/"

    def ask(self, path: str) -> dict[str, Any]:
        """A JSON answer of the status page; raises StatusUnavailable."""
        return fetch_status(self.station, path)

    def command(self, *arguments: str) -> list[str]:
        """A call of `capture-agent` with this stage's configuration."""
        return [str(COMMAND), "--config", str(self.config), *arguments]


def prepare(root: Path) -> Stage:
    """An empty stage whose store is a folder, and that makes no access copies; for `root` see `empty`."""
    stage = empty(root)
    configure(stage, "directory", make_store(stage), copies=False)
    return stage


def make_store(stage: Stage) -> Mapping[str, str | int]:
    """Make the folder that is the store, as IT does it; returns the agent's options for it."""
    stage.store.mkdir()
    (stage.store / STORE_MARKER).touch()
    return {"path": str(stage.store)}


def empty(root: Path) -> Stage:
    """An empty stage at `root`, not yet configured; a folder is wiped only if a demo made it, else DemoError."""
    root = root.resolve()
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).is_file():
            raise DemoError(
                f"{root} is not empty and was not made by the demo: nothing was touched, choose another --dir"
            )
        wipe(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_text("Made by the capture-agent demo, which may remove this folder.\n")
    stage = Stage(root, _free_port())
    for folder in (stage.dock, stage.recorders):
        folder.mkdir()
    return stage


def wipe(root: Path) -> None:
    """Remove a stage; its originals are sealed (immutable), which is taken back first."""
    assert (root / MARKER).is_file(), "never removes what the demo didn't make"
    subprocess.run(["chattr", "-R", "-f", "-i", str(root)], capture_output=True, check=False)
    for path in root.iterdir():
        if path.name != MARKER:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (root / MARKER).unlink()  # last, so that a wipe that was interrupted can be repeated
    with contextlib.suppress(OSError):
        root.rmdir()


def configure(stage: Stage, kind: str, options: Mapping[str, str | int], *, copies: bool = True) -> None:
    """The shipped configuration, with its rules, and only what a demo and this kind of store must have otherwise.

    Without `copies` no access copies are made: where something else is measured or counted.
    """
    shutil.copytree(CHECKOUT / "config", stage.config.parent)
    changes = {
        "station.name": '"演示采集站"',
        "storage.root": f'"{stage.station}"',
        "storage.reserve_bytes": "268435456",
        "dock.usb": "false",
        "dock.image_dir": f'"{stage.dock}"',
        "dock.rescan_s": "1",
        "status.port": str(stage.port),
        "store.kind": _toml(kind),
        "runner.backoff_base_s": "1",
        "access.enabled": _toml(copies),
    }
    text = with_options(stage.config.read_text("utf-8"), changes)
    given = "".join(f"{name} = {_toml(value)}\n" for name, value in options.items())
    stage.config.write_text(text.replace("\n[store.options]\n", f"\n[store.options]\n{given}"), "utf-8")


def enlist(stage: Stage, role: Role) -> tuple[str, str]:
    """Make an account that is called as its role, before the service starts; returns password (or PIN) and token."""
    pin, token = str(100_000 + randbelow(900_000)), token_urlsafe(32)
    password = pin if role is Role.OFFICER else token_urlsafe(12)
    ends = datetime.now(UTC) + timedelta(days=1)
    kept = Token("demo", sha256(token.encode()).hexdigest(), role, ends)
    made = Account(role.value, role, hashed(password, role), tokens=(kept,))
    stage.station.mkdir(exist_ok=True)
    Book(stage.station).change(made.name, lambda _, __: made)
    return password, token


def _toml(value: str | int) -> str:
    """A value as TOML writes it; for texts and whole numbers that is as JSON does."""
    return json.dumps(value, ensure_ascii=False)


def with_options(text: str, changes: Mapping[str, str]) -> str:
    """A TOML text with the values of `section.key` options replaced; each must be there exactly once."""
    section, left, lines = "", dict(changes), []
    for line in text.splitlines():
        if head := re.fullmatch(r"\[([\w.]+)\]", line):
            section = head[1]
        elif (option := re.match(r"(\w+) = ", line)) and f"{section}.{option[1]}" in left:
            line = option[0] + left.pop(f"{section}.{option[1]}")  # noqa: PLW2901 - the line with its new value
        lines.append(line)
    if left:
        raise DemoError(f"config/agent.toml has no option {', '.join(left)}")
    return "\n".join(lines) + "\n"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, slots=True)
class Service:
    """The running service."""

    process: subprocess.Popen[bytes]
    stage: Stage

    def alive(self) -> None:
        """Raise DemoError with the end of its log if it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise DemoError(f"capture-agent ended with {code}:\n{tail(self.stage.log)}")

    def status(self) -> dict[str, Any]:
        """What the status page says; raises DemoError if it says nothing."""
        try:
            return self.stage.ask("/api/v1/status")
        except StatusUnavailable as error:
            time.sleep(DYING_S)
            self.alive()
            raise DemoError(f"capture-agent runs, but {error}") from None

    def stop(self) -> int:
        """Send SIGTERM and return the exit code; raises DemoError if it doesn't end in time."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"capture-agent did not end within {STOP_LIMIT_S:g} s of SIGTERM") from None


@contextlib.contextmanager
def serving(stage: Stage) -> Iterator[Service]:
    """Start `capture-agent run` and wait until it answers; afterwards it is gone, whatever happened."""
    with stage.log.open("ab") as log:
        process = subprocess.Popen(
            stage.command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=_environment(),
            start_new_session=True,  # Ctrl-C is for the demo, which then stops the service itself
        )  # fmt: skip
    service = Service(process, stage)
    try:
        _wait_until_it_answers(service)
        yield service
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_it_answers(service: Service) -> None:
    end = time.monotonic() + START_LIMIT_S
    while True:
        service.alive()
        try:
            service.stage.ask("/healthz")
            return
        except StatusUnavailable as error:
            if time.monotonic() > end:
                raise DemoError(f"capture-agent doesn't answer: {error}\n{tail(service.stage.log)}") from None
        time.sleep(0.05)


def _environment() -> dict[str, str]:
    """Ours without systemd's, so that the service doesn't take somebody else's watchdog for its own."""
    return {key: value for key, value in os.environ.items() if key not in {"NOTIFY_SOCKET", "WATCHDOG_USEC"}}


def tail(path: Path) -> str:
    """The last lines of a log."""
    return "\n".join(path.read_text("utf-8", "replace").splitlines()[-LOG_LINES:])
