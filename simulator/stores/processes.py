"""Starts server processes that end with the process that started them, whatever ends that."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
_PORTS: Final = range(20000, 32000)
_LOOK_AGAIN_S: Final = 0.02
_ORDERLY_S: Final = 20
_TAIL_BYTES: Final = 2000


class NotInstalledError(Exception):
    """A server can't be started because a program is missing; the text says which, and what installs it."""


class ServerError(Exception):
    """A server did not come up, or an administrative call failed; the text holds what it said."""


def program(name: str) -> str:
    """Return the path of an installed program; raises NotInstalledError."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    if found is None:
        raise NotInstalledError(f"{name} is not installed; ./run test installs it")
    return found


def free_port() -> int:
    """Return a port that nobody listens on, outside of those that the kernel gives to outgoing connections."""
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ServerError(f"no free port between {_PORTS.start} and {_PORTS.stop}")


class Servers:
    """A process group of servers, with a watcher that kills all of it as soon as we close its pipe or are gone.

    The watcher leads the group and reads from a pipe that only we hold open. The kernel closes it when we end, also by
    SIGKILL; no server needs to know. A parent-death signal would not do: it comes when the *thread* that started the
    server ends. Output of all servers goes to the file `log`.
    """

    def __init__(self, log: Path) -> None:
        self.log = log
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", "read _; kill -9 0"], stdin=subprocess.PIPE, process_group=0, cwd="/"
        )
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self, *command: str | Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start one server, which must stay in the foreground; `env` comes on top of a clean environment."""
        clean = {"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "HOME": str(self.log.parent)}
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [os.fspath(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=clean | dict(env or {}),
                process_group=self._watcher.pid,
            )
        self._running.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes], number: signal.Signals = signal.SIGKILL) -> None:
        """End one server by a signal, in the end by SIGKILL; one that has ended already is fine.

        A gateway that is asked to end in good order now and then hangs while it does.
        """
        process.send_signal(number)
        try:
            process.wait(timeout=_ORDERLY_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=30)
        self._running.remove(process)

    def wait_until(self, ready: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Look until `ready`; if that fails, everything is closed, and ServerError has the end of the log."""
        end = time.monotonic() + timeout_s
        with ExitStack() as undo:
            undo.callback(self.close)
            while not ready():
                if time.monotonic() > end:
                    raise ServerError(
                        f"{what} did not come up in {timeout_s:.0f} s; {self.log} ends with\n{self.said()}"
                    )
                time.sleep(_LOOK_AGAIN_S)
            undo.pop_all()

    def wait_for_port(self, process: subprocess.Popen[bytes], port: int, what: str) -> None:
        """Wait until a server that was started here accepts connections at its port; fails as `wait_until`."""

        def ready() -> bool:
            if process.poll() is not None:
                raise ServerError(f"{what} has ended; {self.log} ends with\n{self.said()}")
            return listens(port)

        self.wait_until(ready, what)

    def said(self) -> str:
        """Return the end of what the servers printed."""
        return self.log.read_bytes()[-_TAIL_BYTES:].decode(errors="replace") if self.log.exists() else ""

    def close(self) -> None:
        """Kill all at once and wait for each; idempotent."""
        assert self._watcher.stdin is not None
        self._watcher.stdin.close()
        self._watcher.wait(timeout=30)
        while self._running:
            self._running.pop().wait(timeout=30)


def listens(port: int) -> bool:
    """Whether somebody accepts connections at a port of this machine."""
    with socket.socket() as probe:
        probe.settimeout(5)
        return probe.connect_ex((HOST, port)) == 0
