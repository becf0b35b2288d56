"""Lets a newcomer kill and start the store's server by hand while originals are under way, and tells what changes."""

from __future__ import annotations

import io
import select
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from simulator.handling import recordings
from simulator.outage import Server
from simulator.show import Show
from simulator.stage import Service

LOOK_S: Final = 0.25


class Console:
    """Obeys `dock`, `kill` and `start`, and shows uploads, trouble and what got stored; `dock` brings new footage."""

    def __init__(
        self, server: Server, service: Service, show: Show, dock: Callable[[], None], words_fd: int | None = None
    ) -> None:
        self._server = server
        self._service = service
        self._show = show
        self._dock = dock
        fd = sys.stdin.fileno() if words_fd is None else words_fd
        self._words: io.FileIO | None = io.FileIO(fd, closefd=False)  # without a buffer that select can't see
        self._trouble: tuple[str, ...] = ()
        self._stored = {row["asset_id"] for row in self._stored_rows()}

    def _introduce(self) -> None:
        """Say what can be typed."""
        show, pid = self._show, self._server.pid
        show.say("Type here, and press Enter:")
        show.say("  dock    to dock another recorder with one long clip; it takes some 20 s to the store")
        show.say(f"  kill    to kill the gateway of the store; or in another terminal:  kill -9 {pid}")
        show.say("  start   to start the gateway again")
        show.say("Ctrl-C ends everything.")

    def run(self) -> None:
        """Obey and tell until somebody interrupts."""
        self._introduce()
        while True:
            self._service.alive()
            self._tell()
            word = self._word()
            if word:
                self._obey(word)

    def _word(self) -> str:
        """What was typed, if anything was, within a moment."""
        ready, _, _ = select.select([self._words] if self._words else [], [], [], LOOK_S)
        if not ready or self._words is None:
            return ""
        line = self._words.readline()
        if not line:  # nobody is there to type; the service runs on
            self._words = None
        return line.decode("utf-8", "replace").strip()

    def _obey(self, word: str) -> None:
        match word:
            case "dock":
                self._dock()
            case "kill" if self._server.pid is not None:
                self._show.warn(f"kill -9 {self._server.pid}")
                self._server.kill()
            case "start" if self._server.pid is None:
                self._server.start()
                self._show.say(f"the gateway answers again, as process {self._server.pid}")
            case "kill" | "start":
                self._show.say(f"it is {'gone' if self._server.pid is None else 'running'} already")
            case _:
                self._show.say("type dock, kill or start")

    def _tell(self) -> None:
        status = self._service.status()
        for row in status["at_risk"]:
            if row["sent_bytes"]:
                self._show.upload(row["sent_bytes"], row["size_bytes"])
        trouble = tuple(f"{problem['zh']}  {problem['en']}" for problem in status["health"]["problems"])
        if trouble != self._trouble:
            self._trouble = trouble
            for line in trouble or ("正常  in order",):
                self._show.warn(line)
        if status["counters"]["assets"]["stored"]["files"] != len(self._stored):
            self._tell_stored()

    def _tell_stored(self) -> None:
        for row in self._stored_rows():
            if row["asset_id"] not in self._stored:
                self._stored.add(row["asset_id"])
                self._show.say(f"已入库 stored: {row['name']}, locked until {row['locked_until']}")

    def _stored_rows(self) -> list[Mapping[str, Any]]:
        return [row for row in recordings(self._service.stage) if row["state"]["name"] == "stored"]
