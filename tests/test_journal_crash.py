"""A journal survives kill -9, a full disk and a disk that fails: what was promised is there, and it goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.errors import JournalError
from agent.journal import Journal, verify
from agent.journal.codec import encode
from agent.journal.lock import WriterLock
from agent.journal.log import Log
from agent.journal.writer import Writer
from agent.model import Incident
from tests.conftest import SettableClock
from tests.journal_entries import NOW, acquired, assert_consistent, confirmed, opened, seen, write

KILLS = 12
CHILD = """
import asyncio, sys
from pathlib import Path
from agent.journal import Journal
from agent.model import Incident
from tests.journal_entries import NOW, acquired, opened, seen

async def work(path, run):
    async with Journal.open(path, lambda: NOW) as journal:
        await journal.record(opened(f"d{run}"))
        for number in range(100_000):
            name = f"{run}-{number}"
            await journal.record(seen(name, number, f"d{run}"), Incident("between"), acquired(name, number, f"d{run}"))
            print(name, flush=True)

asyncio.run(work(Path(sys.argv[1]), sys.argv[2]))
"""


def _killed_after(path: Path, run: int, lines: int) -> list[str]:
    """Names that the child was told are durable, before it was killed somewhere in a later call."""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), str(run)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as child:
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.read().split()
    assert child.returncode == -signal.SIGKILL
    return [name for name in told if name]


def test_after_every_kill_what_was_promised_is_there_whole_and_consistent(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    promised: list[str] = []
    for run in range(KILLS):
        promised += _killed_after(path, run, lines=1 + 7 * run % 30)
        report = verify(path)
        assert report.differences == ()
        # Each call is three events, each run one more: nothing half-done is there.
        assert (report.events - run - 1) % 3 == 0
        assert report.events >= 3 * len(promised) + run + 1

    async def check() -> None:
        async with Journal.open(path, lambda: NOW) as journal:
            for name in promised:
                assert journal.reader.asset(name).digests is not None
            await journal.record(Incident("goes on"))

    asyncio.run(check())
    assert_consistent(path)


class PowerCut(BaseException):
    """The process is gone between two statements."""


class DyingConnection:
    """A connection that works until its nth statement."""

    def __init__(self, db: sqlite3.Connection, statements: int) -> None:
        self._db = db
        self._left = statements

    def _step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise PowerCut

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        self._step()
        return self._db.execute(statement, values)

    def executemany(self, statement: str, rows: list[tuple[Any, ...]]) -> sqlite3.Cursor:
        self._step()
        return self._db.executemany(statement, rows)

    @property
    def total_changes(self) -> int:
        return self._db.total_changes

    def close(self) -> None:
        self._db.close()


def _dies_at(path: Path, statements: int) -> bool:
    """Commit one group of two jobs, the second refused, and die on the way; false if it survived."""
    log = Log(path, lambda: NOW)
    log.db = log._projection._tables.db = DyingConnection(log.db, statements)  # type: ignore[assignment]
    good = [encode(entry) for entry in (seen("b", 2), acquired("b", 2), confirmed("b"))]
    bad = [encode(entry) for entry in (seen("c", 3), acquired("nobody"))]
    try:
        log.commit([lambda log: log.append(good), lambda log: log.append(bad)])
    except PowerCut:
        return True
    finally:
        log.close()
    return False


async def test_dying_between_any_two_statements_leaves_all_of_a_group_or_nothing(tmp_path: Path) -> None:
    start = tmp_path / "start.db"
    await write(start, opened(), seen("a"), acquired("a"))
    statements = 0
    died = True
    while died:
        path = tmp_path / f"{statements}.db"
        shutil.copy(start, path)
        died = _dies_at(path, statements)
        report = verify(path)
        assert report.differences == (), statements
        assert report.events == (3 if died else 6), statements
        statements += 1
    assert statements > 30, "every statement had its turn"


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    _killed_after(path, 0, lines=1)
    assert path.with_suffix(".lock").read_text().strip().isdigit()
    with WriterLock(path):
        assert int(path.with_suffix(".lock").read_text()) == os.getpid()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 2 MiB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.root
async def test_on_a_full_disk_calls_fail_in_words_and_work_again_when_there_is_room(tiny_disk: Path) -> None:
    path = tiny_disk / "journal.db"
    written: list[int] = []
    async with Journal.open(path, lambda: NOW) as journal:

        async def fill() -> None:
            for number in range(100_000):
                await journal.record(seen(f"a{number}", number))
                written.append(number)

        await journal.record(opened())
        with pytest.raises(JournalError, match=r"could not commit: .*full.*Nothing of this call was written"):
            await fill()
        together = (journal.record(seen(f"b{number}", 10_000 + number)) for number in range(500))
        results = await asyncio.gather(*together, return_exceptions=True)
        assert any(isinstance(result, JournalError) for result in results)
        assert journal.reader.asset("a0").asset_id == "a0"
        await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=16M", str(tiny_disk)], check=True)
        await journal.record(acquired("a0", 0))
        there = sum(not isinstance(result, BaseException) for result in results)
        assert journal.reader.accounting("d1").seen == len(written) + there
    assert_consistent(path)


class FailingLog(Log):
    """A log whose next commits fail in the way a disk does, before or after SQLite did its part."""

    fail: str = ""

    def commit(self, jobs: object) -> list[object]:  # type: ignore[override]
        if FailingLog.fail == "before":
            FailingLog.fail = ""
            raise sqlite3.OperationalError("disk I/O error")
        if FailingLog.fail == "middle":
            FailingLog.fail = ""
            self.db.execute("BEGIN IMMEDIATE")
            for job in jobs:  # type: ignore[attr-defined]
                self._run(job)
            raise sqlite3.OperationalError("disk I/O error")
        return super().commit(jobs)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("moment", ["before", "middle"])
async def test_after_an_io_error_the_connection_starts_from_what_is_on_the_disk(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    monkeypatch.setattr("agent.journal.writer.Log", FailingLog)
    async with Journal.open(tmp_path / "journal.db", clock) as journal:
        await journal.record(opened())
        FailingLog.fail = moment
        calls = [journal.record(seen(f"a{n}", n)) for n in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        failed = [isinstance(result, JournalError) for result in results]
        assert any(failed)
        await asyncio.gather(*(journal.record(seen(f"a{n}", n)) for n in range(20) if failed[n]))
        assert journal.reader.accounting("d1").seen == 20
    assert_consistent(tmp_path / "journal.db")


async def test_while_the_journal_cannot_be_opened_again_every_call_is_told_so(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal.open(tmp_path / "journal.db", clock)
    refuse = JournalError("the disk is gone")

    def gone(path: Path, clock: object) -> Log:
        raise refuse

    broken = FailingLog
    journal._writer._log.__class__ = broken
    broken.fail = "before"
    monkeypatch.setattr("agent.journal.writer.Log", gone)
    for _ in range(3):
        with pytest.raises(JournalError, match="could not commit"):
            await journal.record(Incident("x"))
    monkeypatch.undo()
    assert await journal.record(Incident("x")) == 1
    await journal.close()


async def test_a_bug_in_the_writer_leaves_nobody_waiting(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own mistakes are not caught: the thread ends loudly, and every caller is told instead of hanging."""
    seen_by_hook: list[str] = []
    monkeypatch.setattr("threading.excepthook", lambda info: seen_by_hook.append(str(info.exc_value)))
    writer = Writer(tmp_path / "journal.db", clock)

    def bug(log: Log) -> list[int]:
        raise ZeroDivisionError("ours")

    futures = [writer.submit(bug), *(writer.submit(lambda log: []) for _ in range(50))]
    for future in futures:
        with pytest.raises(JournalError, match="closed"):
            future.result(timeout=10)
    with pytest.raises(JournalError, match="closed"):
        writer.submit(lambda log: []).result(timeout=10)
    writer.close()
    assert seen_by_hook == ["ours"]
    assert os.path.exists(tmp_path / "journal.db")
