"""The writer: one thread that commits what others ask for, many jobs per transaction."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from agent.errors import AgentError, AwayError, CommitError, JournalError
from agent.journal.log import Job, Log
from agent.model import Clock

GROUP_JOBS: Final = 256
QUEUE_JOBS: Final = 1024

_Queued = tuple[Job, "Future[list[int]]"]


class Writer:
    """Owns the writing connection. `submit` may be called from any thread; futures resolve after the commit only.

    `trouble` says why the last commit failed; it is empty after one that wrote something.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open the journal (JournalError if it can't be) and start the thread."""
        self._path = path
        self._clock = clock
        self._log: Log | None = Log(path, clock)
        self._queue: queue.Queue[_Queued | None] = queue.Queue(QUEUE_JOBS + 1)
        self._group: list[_Queued] = []
        self._closing = False
        self._ended = False
        self.trouble = ""
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._thread.start()

    def is_alive(self) -> bool:
        """Whether the thread still takes jobs; it ends by `close`, or by a bug of ours."""
        return not self._ended

    def submit(self, job: Job) -> Future[list[int]]:
        """Queue a job, never more than QUEUE_JOBS; its future may fail with JournalError or EvidenceError."""
        future: Future[list[int]] = Future()
        self._queue.put_nowait((job, future))
        if self._ended:  # the thread may have looked for waiting jobs before this one came
            self._refuse_waiting()
        return future

    def close(self) -> None:
        """Commit what is queued, end the thread, close the connection; idempotent."""
        if not self._ended:
            self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while self._take():
                self._commit()
        finally:  # also after a bug of ours: nobody may wait for ever
            self._ended = True
            self._drop_log()
            for _, future in self._group:
                future.set_exception(_closed())
            self._refuse_waiting()

    def _take(self) -> bool:
        """Fill the group with all that waits, at least one job; false once the end was asked for and reached."""
        self._group.clear()
        while not self._closing:
            item = self._queue.get()
            if item is None:
                self._closing = True
            elif item[1].set_running_or_notify_cancel():
                self._group.append(item)
            if self._group and (len(self._group) == GROUP_JOBS or self._queue.empty()):
                return True
        return bool(self._group)

    def _commit(self) -> None:
        try:
            self._log = self._log or Log(self._path, self._clock)
            before = self._log.changes
            results = self._log.commit([job for job, _ in self._group])
            if self._log.changes != before:
                self.trouble = ""
        except (sqlite3.Error, JournalError) as error:
            self._drop_log()  # a fresh connection starts from what is on the disk
            results = [_not_committed(error) for _ in self._group]
            self.trouble = str(error)
        for (_, future), result in zip(self._group, results, strict=True):
            if isinstance(result, AgentError):
                future.set_exception(result)
            else:
                future.set_result(result)
        self._group.clear()

    def _drop_log(self) -> None:
        if self._log is not None:
            self._log.close()
        self._log = None

    def _refuse_waiting(self) -> None:
        with contextlib.suppress(queue.Empty):
            while item := self._queue.get_nowait():
                if item[1].set_running_or_notify_cancel():
                    item[1].set_exception(_closed())


def _not_committed(error: sqlite3.Error | JournalError) -> JournalError:
    return CommitError(
        f"The journal could not commit: {error}.",
        safe="Nothing of this call was written; what was committed before stays.",
        do="Free space on the disk of the journal or check it; the agent tries again by itself.",
    )


def _closed() -> JournalError:
    return AwayError("The journal is closed.", safe="Nothing of this call was written.")
