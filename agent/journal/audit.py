"""Checks the journal against itself, and writes its tables anew from the log: the log is the oracle."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.errors import AgentError, JournalError
from agent.journal.codec import FIRST_LINK, decode, leaf, link
from agent.journal.lock import WriterLock
from agent.journal.projection import Projection
from agent.journal.schema import EVIDENCE_TABLES, connect, migrate
from agent.journal.tree import Growth
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.note import Note
from agent.tlog.texts import NoteError
from agent.tlog.tree import EMPTY_ROOT, Frontier

TOLD_LIMIT: Final = 1000
_PROGRESS_EVENTS: Final = 1000
_NOT_REPLAYED: Final = (
    "asset_by_state", "asset_unsafe", "asset_late", "asset_to_probe", "asset_to_store", "asset_to_derive",
    "asset_by_alarm", "asset_by_capture", "asset_by_size",
    "clip_by_likeness", "clip_pending",
)  # fmt: skip
"""Indexes that only the service asks by: without them a replay takes three quarters of the time."""

_SHOWN_CHARACTERS: Final = 80

_Row = tuple[Any, ...]
_Tell = Callable[[str, str], None]
Progress = Callable[[int, int], None]
"""Called with how many events were replayed, and how many there are."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that isn't as the log says: `where` is "event 7", "asset 0198…" or "database"."""

    where: str
    what: str


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found. `differences` tells the first thousand of `found`; `checkpoints` is how many hold.

    `roots` are those that were asked for, by size, as the events that are there give them. Neither chain nor tree can
    show that events are missing at the end together with the checkpoints over them: whoever has one of these can.
    """

    events: int
    head_hash: str
    differences: tuple[Difference, ...]
    found: int
    checkpoints: int = 0
    roots: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def consistent(self) -> bool:
        """Whether chain and tables are exactly as the log says."""
        return self.found == 0


def verify(path: Path, *, sizes: Collection[int] = (), progress: Progress = lambda done, total: None) -> Report:
    """Follow the hash chain, replay all events into a scratch database and compare every row; changes nothing.

    The root of the tree is computed from the events alone, and compared with every checkpoint that was signed. It may
    run while the agent works. Reports all differences; raises JournalError only if the file can't be opened.
    """
    told: list[Difference] = []
    found = 0

    def tell(where: str, what: str) -> None:
        nonlocal found
        found += 1
        if len(told) < TOLD_LIMIT:
            told.append(Difference(where, what))

    head, held, roots = (0, FIRST_LINK), 0, dict.fromkeys(sizes, b"")
    with closing(connect(path, write=False)) as db, closing(sqlite3.connect("", isolation_level=None)) as scratch:
        migrate(scratch, path)
        for index in _NOT_REPLAYED:
            scratch.execute(f"DROP INDEX IF EXISTS {index}")
        scratch.execute("PRAGMA cache_size = -65536")
        scratch.execute("BEGIN")
        try:
            db.text_factory = _text
            db.execute("BEGIN")
            signed = db.execute("SELECT number, size, note FROM checkpoint ORDER BY number").fetchall()
            roots |= {size: b"" for _, size, _ in signed} | {0: EMPTY_ROOT}
            head = _replay(db, scratch, tell, roots, progress)
            held = _compare_signed(signed, head[0], roots, tell)
            for table in EVIDENCE_TABLES:
                _compare(table, db, scratch, tell)
            for (message,) in db.execute("PRAGMA quick_check(20)"):
                if message != "ok":
                    tell("database", message)
        except sqlite3.DatabaseError as error:
            tell("database", f"can't be read further: {error}")
    return Report(head[0], head[1].hex(), tuple(told), found, held, roots)


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
        seq, _ = _replay(db, db, refuse, {})
        db.execute("COMMIT")
    return seq


def _replay(
    log: sqlite3.Connection,
    tables: sqlite3.Connection,
    tell: _Tell,
    roots: dict[int, bytes],
    progress: Progress = lambda done, total: None,
) -> tuple[int, bytes]:
    """Check the chain of `log` and project its events into `tables`; returns the head. Goes on behind what it tells.

    `roots` gets the root of each of its sizes that is reached.
    """
    projection, tree = Projection(tables), Growth(tables, Frontier())
    seq, head = 0, FIRST_LINK
    (total,) = log.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()
    for number, at, kind, subject, detail, digest in log.execute("SELECT * FROM event ORDER BY seq"):
        if number != seq + 1:
            tell(f"event {seq + 1}", f"missing: event {number} follows event {seq}")
        content = leaf(number, at, kind, subject, detail)
        if link(head, content) != digest:
            tell(f"event {number}", "the chain is broken: it, or the one before, is not what was recorded")
        tree.append(number, content)
        if number in roots:
            roots[number] = tree.frontier.root()
        if not number % _PROGRESS_EVENTS:
            progress(number, total)
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


def _compare_signed(
    signed: Collection[tuple[int, int, str]], events: int, roots: Mapping[int, bytes], tell: _Tell
) -> int:
    """Tell which is the first checkpoint that the events contradict, and so where they were changed, and when not yet.

    Returns how many hold.
    """
    good, bad = "", []
    held = after = 0
    for number, size, text in signed:
        try:
            checkpoint = Checkpoint.parse(Note.parse(text.encode("utf-8", "surrogateescape")).text)
        except NoteError as error:
            tell(f"checkpoint {number}", error.what)
            continue
        shown = f"checkpoint {number} ({size} events, {' '.join(checkpoint.extensions) or 'no time'})"
        if (checkpoint.size, checkpoint.root) == (size, roots[size]):
            good, held, after = shown, held + 1, size
        else:
            bad.append((number, size, shown))
    if bad:
        number, size, shown = bad[0]
        cut = f"its end was cut off: it has {events} events" if size > events else f"among events {after + 1} to {size}"
        since = f"{good} holds" if good else "none before it holds"
        what = f"the log is not what was signed, {cut}; changed after {shown}, since {since}"
        tell(f"checkpoint {number}", f"{what}; {len(bad)} checkpoints are contradicted")
    return held


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
