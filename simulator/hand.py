"""A newcomer's hand at the demo's dock: another recorder in, out, in again; its card is read as slowly as over USB."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Final

from simulator.handling import Handling, pullers
from simulator.recorders import Recorder
from simulator.show import Show

RUN_S: Final = 0.005
REST_S: Final = 0.03
"""A card in memory is read some ten times faster than a recorder; so its reader rests most of the time."""


class Hand:
    """Puts recorders into the dock and takes them out; `film` makes another one."""

    def __init__(self, film: Callable[[], Recorder], handling: Handling, show: Show) -> None:
        self._film = film
        self._handling = handling
        self._show = show
        self._docked: list[Recorder] = []
        self._away: list[Recorder] = []

    def dock(self) -> None:
        """Dock another recorder."""
        self._put(self._film())

    def give_back(self) -> None:
        """Dock the one again that was taken out last."""
        if self._away:
            self._put(self._away.pop())
        else:
            self._show.say("none was taken out: type dock, then yank")

    def yank(self) -> None:
        """Take the newest one out now, whatever is going on."""
        if not self._docked:
            self._show.say("none is docked: type dock")
            return
        recorder = self._docked.pop()
        self._handling.yank(recorder)
        self._away.append(recorder)
        self._show.warn(f"{recorder.image.name} is taken out")

    def _put(self, recorder: Recorder) -> None:
        self._handling.dock(recorder)
        self._docked.append(recorder)
        self._show.say(f"{recorder.image.name} is docked")


@contextlib.contextmanager
def slowed(service_pid: int) -> Iterator[None]:
    """While the block runs, let the service's pullers read in short turns only."""
    stop = threading.Event()
    thread = threading.Thread(target=_in_turns, args=(service_pid, stop), name="slow-cards")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _in_turns(service_pid: int, stop: threading.Event) -> None:
    known: list[int] = []
    while not stop.wait(REST_S if known else RUN_S):
        _tell(known, signal.SIGCONT)
        stop.wait(RUN_S)
        known = list(pullers(service_pid))
        _tell(known, signal.SIGSTOP)
    _tell(known, signal.SIGCONT)


def _tell(pids: list[int], what: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, what)
