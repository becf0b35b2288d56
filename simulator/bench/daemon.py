"""The real service under measurement: started as systemd does it, asked for its status, ended at the end."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from agent.accounts.book import Role
from simulator.bench.report import BenchError
from simulator.stage import HOST, Stage, enlist, tail

STATUS: Final = "/api/v1/status"
_READY_LIMIT_S: Final = 120.0
_STOP_LIMIT_S: Final = 30.0
_ASK_LIMIT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Daemon:
    """A running service, how long it took from the start of its process until it said READY=1, and a token for IT."""

    pid: int
    ready_s: float
    token: str


@contextlib.contextmanager
def running(stage: Stage, command: Sequence[str] = ()) -> Iterator[Daemon]:
    """Start the service and wait until it is ready; raises BenchError if it ends or never is."""
    _, token = enlist(stage, Role.IT)
    address = f"@capture-agent-bench-{os.getpid()}"
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as news, stage.log.open("ab") as log:
        news.bind("\0" + address[1:])
        environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": address}
        began_s = time.perf_counter()
        process = subprocess.Popen(
            list(command) or stage.command("run"), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            env=environment,
        )  # fmt: skip
        try:
            ready_s = _ready(news, process, stage) - began_s
            hearing = threading.Thread(target=_hear, args=(news, process), name="hearing")
            hearing.start()
            try:
                yield Daemon(process.pid, ready_s, token)
            finally:
                process.terminate()
                hearing.join()
        finally:
            process.terminate()
            try:
                process.wait(_STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(news: socket.socket, process: subprocess.Popen[bytes], stage: Stage) -> float:
    end_s = time.perf_counter() + _READY_LIMIT_S
    news.settimeout(0.2)
    while time.perf_counter() < end_s and process.poll() is None:
        with contextlib.suppress(TimeoutError):
            if b"READY=1" in news.recv(4096):
                return time.perf_counter()
    raise BenchError(f"the service did not get ready:\n{tail(stage.log)}")


def _hear(news: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Take what the service goes on telling, as systemd does: it waits for who doesn't."""
    while process.poll() is None:
        with contextlib.suppress(TimeoutError):
            news.recv(4096)


def ask_s(connection: http.client.HTTPConnection, path: str, token: str) -> float:
    """Seconds from a request to the last byte of its answer; raises BenchError unless it is 200."""
    began_s = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    answer.read()
    if answer.status != http.client.OK:
        raise BenchError(f"{path} answered {answer.status}")
    return time.perf_counter() - began_s


@dataclass(slots=True)
class Asking:
    """A client that asks for the status every few milliseconds on a thread of its own; `times_s` are its waits."""

    stage: Stage
    token: str
    pause_s: float = 0.02
    times_s: list[float] = field(default_factory=list)
    trouble: str = ""
    _done: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._ask, name="asking")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        assert self._thread is not None
        self._thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(HOST, self.stage.port, timeout=_ASK_LIMIT_S)
        try:
            while not self._done.wait(self.pause_s):
                self.times_s.append(ask_s(connection, STATUS, self.token))
        except (OSError, http.client.HTTPException, BenchError) as error:
            self.trouble = str(error)
        finally:
            connection.close()
