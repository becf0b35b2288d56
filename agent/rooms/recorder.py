"""The recorder process of a room: gets a plan, records its sources until told to stop, and reports as JSON lines."""

from __future__ import annotations

import gc
import json
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final

from agent.child import ChildError
from agent.rooms.protocol import Alive, Noticed, Plan, Report, Stop
from agent.rooms.source import Source, Watch
from agent.rooms.wire import order, packed
from agent.rooms.writer import Flusher

_BEAT_S: Final = 1.0
_ORDERLY_S: Final = 2.0
"""How long the sources have to end by themselves: a camera that still sends does so within a picture."""

_FLUSH_LIMIT_S: Final = 2.0
_SPEAK_LIMIT_S: Final = 0.5
_WORDS_LIMIT: Final = 10_000
_LINE_LIMIT_BYTES: Final = 1 << 20


class Speaker:
    """Says reports to the daemon, from a thread that alone waits when nobody reads.

    Of what is said each second only the newest waits; when far too much does, what was noticed goes first.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._words: deque[Report] = deque()
        self._alive: dict[str, Alive] = {}
        self._more = threading.Condition()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="speaker", daemon=True)
        self._thread.start()

    def say(self, *reports: Report) -> None:
        """Have something said; from any thread, never waits."""
        with self._more:
            for report in reports:
                if isinstance(report, Alive):
                    self._alive[report.source] = report
                elif len(self._words) < (_WORDS_LIMIT if isinstance(report, Noticed) else 2 * _WORDS_LIMIT):
                    self._words.append(report)
            self._more.notify()

    def end(self, limit_s: float) -> None:
        """Say what is left, as long as somebody listens."""
        with self._more:
            self._ending = True
            self._more.notify()
        self._thread.join(limit_s)

    def _run(self) -> None:
        while True:
            with self._more:
                while not self._words and not self._alive:
                    if self._ending:
                        return
                    self._more.wait()
                words = [*self._words, *self._alive.values()]
                self._words.clear()
                self._alive.clear()
            text = "".join(json.dumps(packed(word), separators=(",", ":")) + "\n" for word in words)
            left = memoryview(text.encode("ascii"))
            try:
                while left:
                    left = left[os.write(self._fd, left) :]
            except OSError:
                return  # nobody will ever read; the recording goes on until the daemon's end closes our input


class Orders:
    """What the daemon says: lines of standard input, whose end means that the daemon is gone."""

    def __init__(self, fd: int) -> None:
        self._fd, self._rest = fd, b""

    def wait(self, limit_s: float | None) -> Plan | Stop | None:
        """The next order, within a time or whenever it comes; None if there is none. Raises ChildError."""
        while b"\n" not in self._rest:
            if not select.select([self._fd], [], [], limit_s)[0]:
                return None
            piece = os.read(self._fd, 65536)
            if not piece:
                return Stop()
            self._rest += piece
            if len(self._rest) > _LINE_LIMIT_BYTES:
                raise ChildError("an order is too long")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            return order(json.loads(line))
        except (ValueError, RecursionError):
            raise ChildError("an order is not JSON") from None


def _complain(args: threading.ExceptHookArgs) -> None:
    """Say where a thread broke, without its error's words: addresses with passwords may be in them."""
    place: TracebackType | None = args.exc_traceback
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}" if place is not None else "?"
    sys.stderr.write(f"{args.exc_type.__name__} at {where}\n")


def _watched(plan: Plan, at: int) -> Watch | None:
    if not plan.sources[at].watch:
        return None
    from agent.rooms.watching import Watch as Watching

    return Watching(plan.sources[at].name, Path(plan.folder), plan.still_s)


def record(plan: Plan, orders: Orders, speaker: Speaker) -> int:
    """Record until told to stop; 0 then, 1 if a source can't go on without a new process."""
    folder = Path(plan.folder)
    flusher = Flusher(folder)
    places = range(len(plan.sources))
    sources = [Source(plan, at, speaker.say, flusher, _watched(plan, at)) for at in places]
    code = 0
    gc.collect()
    gc.freeze()
    while not isinstance(orders.wait(_BEAT_S), Stop):
        noticed = [one for source in sources if source.watch for one in source.watch.take()]
        speaker.say(*noticed, *(source.alive() for source in sources))
        if not all(source.check() for source in sources):
            code = 1
            break
    for source in sources:
        source.stop()
    until = time.monotonic() + _ORDERLY_S
    for source in sources:
        source.join(until - time.monotonic())
    flusher.end(_FLUSH_LIMIT_S)
    for source in sources:
        if source.watch:
            source.watch.close()
            speaker.say(*source.watch.take())
        speaker.say(source.alive())
    speaker.end(_SPEAK_LIMIT_S)
    return code


def main(_arguments: Sequence[str]) -> int:
    """Follow the plan that comes first on standard input; no argument has anything of it."""
    threading.excepthook = _complain
    orders = Orders(sys.stdin.fileno())
    plan = orders.wait(None)
    return record(plan, orders, Speaker(sys.stdout.fileno())) if isinstance(plan, Plan) else 0
