"""The tables of the journal, their migrations, and how a connection to them is opened.

`event` is the evidence; device, docking, clip, recording, asset, counter, custody, document, about and checkpoint
follow from it (see `projection`), tree too (see `tree`); the first five and document name by `seq` the event that holds
their facts. attempt, block and settled are notes of work under way: losing them costs time, never evidence.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final
from urllib.parse import quote

from agent.errors import JournalError
from agent.journal.captured import PAGES
from agent.journal.checkpoints import CHECKPOINTS
from agent.journal.projection.manifests import MANIFESTS, touch_all
from agent.journal.projection.sessions import SESSIONS
from agent.journal.receipts import RECEIPTS
from agent.journal.tree import TREE, plant
from agent.journal.versions import VERSIONS_1_TO_6

Step = Callable[[sqlite3.Connection], None]
APPLICATION_ID: Final = 0x63617061  # "capa"
EVIDENCE_TABLES: Final = (
    "device", "docking", "recording", "asset", "clip", "counter", "custody", "document", "about",
    "activity", "segment", "explanation", "metadata", "tree", "checkpoint", "manifest",
    "session", "session_segment", "session_note", "session_test",
)  # fmt: skip
"""The tables that follow from the events, parents first."""

_EXPORTS: Final = ("CREATE INDEX event_exported ON event (seq) WHERE kind = 'exported'",)
MIGRATIONS: Final = (
    *VERSIONS_1_TO_6, (TREE, plant), CHECKPOINTS, (*MANIFESTS, touch_all), RECEIPTS, _EXPORTS, PAGES, SESSIONS,
)  # fmt: skip
"""Statements that lead from `user_version` n to n + 1. What has been released is never edited, only followed."""


def connect(path: Path, *, write: bool) -> sqlite3.Connection:
    """Open the database in autocommit mode; the caller migrates or checks it. Raises JournalError.

    Every commit is durable when it returns (WAL with synchronous=FULL; sqlite.org/pragma.html#pragma_synchronous).
    """
    mode = "rwc" if write else "ro"
    with ExitStack() as undo:
        try:
            uri = f"file:{quote(str(path))}?mode={mode}"
            db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=10)
            undo.callback(db.close)
            version_of(db, path)  # before anything is set: a foreign database must stay as it is
            for pragma in _WRITER if write else _READER:
                db.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        undo.pop_all()
    return db


_READER: Final = ("query_only = ON", "trusted_schema = OFF", "cache_size = -4096")
_WRITER: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "trusted_schema = OFF",
    "cache_size = -8192",
    "temp_store = MEMORY",  # what undoes a refused job; else every page is written to a temporary file as well
    "wal_autocheckpoint = 2000",
    "journal_size_limit = 67108864",
)


def migrate(db: sqlite3.Connection, path: Path, steps: Sequence[Sequence[str | Step]] = MIGRATIONS) -> None:
    """Bring the tables to the newest version, all or nothing; raises JournalError if that isn't possible."""
    try:
        version = version_of(db, path, newest=len(steps))
        if version == len(steps):
            return
        db.execute("BEGIN IMMEDIATE")
        for step in steps[version:]:
            for statement in step:
                db.execute(statement) if isinstance(statement, str) else statement(db)
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute(f"PRAGMA user_version = {len(steps)}")
        db.execute("COMMIT")
    except sqlite3.Error as error:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise _unusable(path, error) from error


def version_of(db: sqlite3.Connection, path: Path, newest: int = len(MIGRATIONS)) -> int:
    """Return the version of the tables (0: empty file); raises JournalError if it isn't ours or is newer than us."""
    (application_id,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if tables and application_id != APPLICATION_ID:
        raise JournalError(f"{path} is no journal of this agent.", safe="It was not touched.", do="Check the path.")
    if version > newest:
        raise JournalError(
            f"{path} was written by a newer agent (version {version}, this one knows {newest}).",
            safe="It was not touched.",
            do="Install the newer agent again.",
        )
    return int(version)


def _unusable(path: Path, error: sqlite3.Error) -> JournalError:
    return JournalError(
        f"The journal {path} can't be used: {error}.",
        safe="Nothing was written.",
        do="Check the disk (full? read-only?) and the folder's rights; `capture-agent verify` tells what is damaged.",
    )
