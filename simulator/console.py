"""Lets a newcomer dock and yank recorders, and kill the store's server, by hand; tells what changes meanwhile."""

from __future__ import annotations

import io
import select
import sys
from collections.abc import Mapping
from typing import Any, Final

from simulator.hand import Hand
from simulator.handling import recordings
from simulator.outage import Server
from simulator.show import Show
from simulator.stage import Service

LOOK_S: Final = 0.25


class Console:
    """Obeys what is typed, and shows dockings, uploads, trouble and what got stored; `server`: None for a folder."""

    def __init__(
        self, server: Server | None, service: Service, show: Show, hand: Hand, words_fd: int | None = None
    ) -> None:
        self._server = server
        self._service = service
        self._show = show
        self._hand = hand
        fd = sys.stdin.fileno() if words_fd is None else words_fd
        self._words: io.FileIO | None = io.FileIO(fd, closefd=False)  # without a buffer that select can't see
        self._trouble: tuple[str, ...] = ()
        self._slots: dict[str, str] = {}
        self._stored = {row["asset_id"] for row in self._stored_rows()}

    def _introduce(self) -> None:
        """Say what can be typed."""
        show = self._show
        show.say("Type here, and press Enter:")
        show.say("  dock    to film another recorder (some 10 s) and dock it")
        show.say("  yank    to take it out now, too early or in time")
        show.say("  return  to dock it again")
        if self._server:
            show.say(f"  kill    to kill the gateway of the store; or in another terminal:  kill -9 {self._server.pid}")
            show.say("  start   to start the gateway again")
        show.say("  quit    to end everything, as Ctrl-C does")

    def run(self) -> None:
        """Obey and tell until somebody wants to quit, or interrupts."""
        self._introduce()
        while True:
            self._service.alive()
            self._tell()
            word = self._word()
            if word == "quit":
                return
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
                self._hand.dock()
            case "yank":
                self._hand.yank()
            case "return":
                self._hand.give_back()
            case "kill" | "start" if self._server:
                self._command(self._server, word)
            case _:
                self._show.say(f"type dock, yank, return{', kill, start' if self._server else ''} or quit")

    def _command(self, server: Server, word: str) -> None:
        if (word == "kill") == (server.pid is None):
            self._show.say(f"it is {'gone' if server.pid is None else 'running'} already")
        elif word == "kill":
            self._show.warn(f"kill -9 {server.pid}")
            server.kill()
        else:
            server.start()
            self._show.say(f"the gateway answers again, as process {server.pid}")

    def _tell(self) -> None:
        status = self._service.status()
        slots = {slot["slot"]: f"{_both(slot['phase'])} · {_both(slot['hold'])}" for slot in status["slots"]}
        for name in slots.keys() - {name for name, words in self._slots.items() if words == slots.get(name)}:
            self._show.say(f"{name}  {slots[name]}")
        self._slots = slots
        for row in status["at_risk"]:
            if row["sent_bytes"]:
                self._show.upload(row["sent_bytes"], row["size_bytes"])
        trouble = tuple(map(_both, status["health"]["problems"]))
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
                lock = f", locked until {row['locked_until']}" if row["locked_until"] else ""
                self._show.say(f"已入库 stored: {row['name']}{lock}")

    def _stored_rows(self) -> list[Mapping[str, Any]]:
        return [row for row in recordings(self._service.stage) if row["state"]["name"] == "stored"]


def _both(word: Mapping[str, str]) -> str:
    return f"{word['zh']}  {word['en']}"
