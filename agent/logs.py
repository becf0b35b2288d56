"""Where the service's log goes: to journald with fields if systemd started it, else to stderr; nobody waits for it."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
from collections.abc import Iterator
from logging.handlers import QueueHandler
from typing import Final

from systemd.journal import JournalHandler

from agent.config.environment import is_journald

LOG: Final = "capture-agent"
EVENTS: Final = "capture-agent.events"
"""What the journal committed, for journald only: without fields it would say little."""

QUEUE_ENTRIES: Final = 10_000
_STDERR: Final = 2
_LAST_WORDS_S: Final = 2.0

_Queue = queue.Queue[logging.LogRecord | None]


@contextlib.contextmanager
def logging_service() -> Iterator[None]:
    """Log as a service does until the block ends: a log that hangs costs entries, which are counted, and no time."""
    structured = is_journald(_STDERR)
    handler = JournalHandler(SYSLOG_IDENTIFIER=LOG) if structured else _Stderr()
    handler.setFormatter(logging.Formatter("%(message)s" if structured else "%(levelname)s %(message)s"))
    handler.lock = None  # only one thread uses it; the end of the process must not wait for that thread
    waiting: _Queue = queue.Queue(QUEUE_ENTRIES)
    writing = threading.Thread(target=_write, args=(waiting, handler), name="log", daemon=True)
    root, queued = logging.getLogger(), _Queued(waiting)
    root.addHandler(queued)
    logging.getLogger(LOG).setLevel(logging.INFO)  # libraries only speak up when something is wrong
    logging.getLogger(EVENTS).setLevel(logging.INFO if structured else logging.CRITICAL)
    writing.start()
    try:
        yield
    finally:
        root.removeHandler(queued)
        with contextlib.suppress(queue.Full):
            waiting.put_nowait(None)
        writing.join(_LAST_WORDS_S)


def _write(waiting: _Queue, handler: logging.Handler) -> None:
    while (record := waiting.get()) is not None:
        handler.handle(record)


class _Queued(QueueHandler):
    """Hands entries to the thread that writes; what finds no room is lost, and that is said when there is room."""

    def __init__(self, waiting: _Queue) -> None:
        super().__init__(waiting)
        self._lost = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Called under the handler's lock."""
        try:
            if self._lost:
                told = f"{self._lost} entries of this log were lost: it could not be written in time"
                self.queue.put_nowait(logging.makeLogRecord({"name": LOG, "levelno": logging.WARNING, "msg": told}))
                self._lost = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self._lost += 1


class _Stderr(logging.Handler):
    """Writes lines past Python's buffers: a stderr that is closed, full or stuck must not keep the process."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one entry, or lose it."""
        with contextlib.suppress(OSError):
            os.write(_STDERR, f"{self.format(record)}\n".encode(errors="backslashreplace"))
