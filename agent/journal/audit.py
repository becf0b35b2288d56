"""Checks the journal against itself, and writes its tables anew from the log: the log is the oracle."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.errors import AgentError, JournalError
from agent.journal.codec import FIRST_LINK, decode, leaf, link
from agent.journal.lock import WriterLock
from agent.journal.projection import Projection
from agent.journal.schema import EVIDENCE_TABLES, connect, migrate
from agent.journal.tree import Growth
from agent.tlog.tree import Frontier

TOLD_LIMIT: Final = 1000
_SHOWN_CHARACTERS: Final = 80

_Row = tuple[Any, ...]
_Tell = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that isn't as the log says: `where` is "event 7", "asset 0198…" or "database"."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found. `differences` tells the first thousand of `found`.

    The chain can't show that events are missing at its end: whoever wrote down `events` and `head_hash` earlier can.
    """

    events: int
    head_hash: str
    differences: tuple[Difference, ...]
    found: int

    @property
    def consistent(self) -> bool:
        """Whether chain and tables are exactly as the log says."""
        return self.found == 0


def verify(path: Path) -> Report:
    """Follow the hash chain, replay all events into a scratch database and compare every row; changes nothing.

    It may run while the agent works. Reports all differences; raises JournalError only if the file can't be opened.
    """
    told: list[Difference] = []
    found = 0

    def tell(where: str, what: str) -> None:
        nonlocal found
        found += 1
        if len(told) < TOLD_LIMIT:
            told.append(Difference(where, what))

    head = (0, FIRST_LINK)
    with closing(connect(path, write=False)) as db, closing(sqlite3.connect("", isolation_level=None)) as scratch:
        migrate(scratch, path)
        scratch.execute("BEGIN")
        try:
            db.text_factory = _text
            db.execute("BEGIN")
            head = _replay(db, scratch, tell)
            for table in EVIDENCE_TABLES:
                _compare(table, db, scratch, tell)
            for (message,) in db.execute("PRAGMA quick_check(20)"):
                if message != "ok":
                    tell("database", message)
        except sqlite3.DatabaseError as error:
            tell("database", f"can't be read further: {error}")
    return Report(head[0], head[1].hex(), tuple(told), found)


def rebuild(path: Path) -> int:
    """Write the evidence tables anew from the log in one transaction; returns the number of events.

    Only while nobody else writes the journal. Raises JournalError, with nothing changed, if the log itself is damaged:
    tables made from a changed log would only hide the change.
    """

    def refuse(where: str, what: str) -> None:
        raise JournalError(
            f"The journal can't be rebuilt: {where}: {what}.",
            safe="Nothing was changed.",
            do="Keep this file as it is, and bring back a copy from before the damage.",
        )

    with WriterLock(path), closing(connect(path, write=True)) as db:
        migrate(db, path)
        db.execute("BEGIN IMMEDIATE")
        for table in reversed(EVIDENCE_TABLES):
            db.execute(f"DELETE FROM {table}")  # noqa: S608  names of our own tables
        seq, _ = _replay(db, db, refuse)
        db.execute("COMMIT")
    return seq


def _replay(log: sqlite3.Connection, tables: sqlite3.Connection, tell: _Tell) -> tuple[int, bytes]:
    """Check the chain of `log` and project its events into `tables`; returns the head. Goes on behind what it tells."""
    projection, tree = Projection(tables), Growth(tables, Frontier())
    seq, head = 0, FIRST_LINK
    for number, at, kind, subject, detail, digest in log.execute("SELECT * FROM event ORDER BY seq"):
        if number != seq + 1:
            tell(f"event {seq + 1}", f"missing: event {number} follows event {seq}")
        content = leaf(number, at, kind, subject, detail)
        if link(head, content) != digest:
            tell(f"event {number}", "the chain is broken: it, or the one before, is not what was recorded")
        tree.append(number, content)
        seq, head = number, digest
        tables.execute("SAVEPOINT event")
        try:
            projection.apply(number, at, decode(kind, detail))
        except (AgentError, sqlite3.IntegrityError, OverflowError, UnicodeEncodeError) as error:
            tables.execute("ROLLBACK TO event")
            tell(f"event {number}", f"contradicts the events before it: {error}")
        tables.execute("RELEASE event")
    projection.flush()
    return seq, head


def _compare(table: str, db: sqlite3.Connection, scratch: sqlite3.Connection, tell: _Tell) -> None:
    columns = scratch.execute(f"SELECT name, pk FROM pragma_table_info('{table}')").fetchall()  # noqa: S608  as above
    names = [name for name, _ in columns]
    keys = [name for name, place in sorted(columns, key=lambda column: column[1]) if place]
    query = f"SELECT {', '.join(keys)}, {', '.join(names)} FROM {table} ORDER BY {', '.join(keys)}"  # noqa: S608  as above
    for ours, expected in _paired(len(keys), db.execute(query), scratch.execute(query)):
        where = f"{table} {'/'.join(map(str, (ours or expected or ())[: len(keys)]))}"
        if expected is None:
            tell(where, "no event speaks of it")
        elif ours is None:
            tell(where, "missing, though the log has it")
        else:
            for name, there, right in zip(names, ours[len(keys) :], expected[len(keys) :], strict=True):
                if there != right:
                    tell(where, f"{name} is {_short(there)}, by the log {_short(right)}")


def _paired(width: int, left: Iterator[_Row], right: Iterator[_Row]) -> Iterator[tuple[_Row | None, _Row | None]]:
    """Pair rows by their first `width` columns, by which both sides are ordered; only pairs that differ."""
    ours, expected = next(left, None), next(right, None)
    while ours is not None or expected is not None:
        if ours == expected:
            ours, expected = next(left, None), next(right, None)
        elif expected is None or (ours is not None and ours[:width] < expected[:width]):
            yield ours, None
            ours = next(left, None)
        elif ours is None or ours[:width] > expected[:width]:
            yield None, expected
            expected = next(right, None)
        else:
            yield ours, expected
            ours, expected = next(left, None), next(right, None)


def _text(stored: bytes) -> str:
    """Damaged text must be reported, not stop the check."""
    return stored.decode("utf-8", "surrogateescape")


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
