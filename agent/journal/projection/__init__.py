"""What each event means for the tables: the one place where evidence tables are written, live and in every replay."""

from __future__ import annotations

import sqlite3
from typing import assert_never

from agent.journal.projection.activities import ActivityEntry, apply_activity
from agent.journal.projection.assets import apply_adopted
from agent.journal.projection.checkpoints import CheckpointEntry, apply_checkpoint
from agent.journal.projection.custody import CustodyEntry, apply_custody
from agent.journal.projection.derived import apply_derived
from agent.journal.projection.dockings import DockingEntry, apply_docking
from agent.journal.projection.documents import apply_document, apply_silence
from agent.journal.projection.limits import LimitEntry, apply_limit
from agent.journal.projection.manifests import touch
from agent.journal.projection.metadata import apply_checked
from agent.journal.projection.sessions import SessionEntry, apply_session
from agent.journal.projection.tables import Tables
from agent.model import (
    AccountChanged,
    Adopted,
    Checked,
    CheckpointWitnessed,
    ClockStepped,
    CopyViewed,
    DeriveAsked,
    Derived,
    DocumentAdded,
    Exported,
    Frozen,
    Incident,
    JournalEntry,
    KeyRotated,
    NoSpeechFound,
    ReleaseAsked,
    ReleaseConfirmed,
    Scrubbed,
    SignedIn,
    SignedOut,
    SignInRefused,
)

_OnlyTold = (
    Incident | ClockStepped | Scrubbed | CheckpointWitnessed | KeyRotated | ReleaseAsked | ReleaseConfirmed | Frozen
    | Exported | SignedIn | SignInRefused | SignedOut | AccountChanged | CopyViewed
)  # fmt: skip


class Projection:
    """Applies entries to the evidence tables of one connection, inside the caller's transaction.

    It never reads `event`, clocks or notes, so that a replay gives the same rows. Raises JournalError or
    EvidenceError if an entry contradicts the tables; the caller rolls back.

    Counters are collected, by (scope, name), and added to their table once per job by `flush`, not at all after
    `forget`. One that was touched has a row, even if that is zero, so that a replay gives the same rows.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._tables = Tables(db)
        self._of_job: dict[tuple[str, str], tuple[int, int]] = {}

    def apply(self, seq: int, at: str, entry: JournalEntry) -> None:
        """Change the tables as event `seq`, recorded `at` (UTC text), says; counters wait for `flush`."""
        self._tables.counted.clear()
        self._apply(seq, at, entry)
        touch(self._tables, seq, at, entry)
        for scope, name, files, size_bytes in self._tables.counted:
            before = self._of_job.get((scope, name), (0, 0))
            self._of_job[scope, name] = before[0] + files, before[1] + size_bytes

    def flush(self) -> None:
        """The job is complete: add what it counted to the table."""
        self._tables.db.executemany(
            "INSERT INTO counter VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET files = files + excluded.files, bytes = bytes + excluded.bytes",
            [(*key, *change) for key, change in self._of_job.items()],
        )
        self._of_job.clear()

    def forget(self) -> None:
        """The job was refused."""
        self._of_job.clear()

    def _apply(self, seq: int, at: str, entry: JournalEntry) -> None:
        """Each subject is a module, with the kinds of entries that it takes."""
        if isinstance(entry, DockingEntry):
            apply_docking(self._tables, seq, at, entry)
        elif isinstance(entry, Adopted):
            apply_adopted(self._tables, seq, at, entry)
        elif isinstance(entry, SessionEntry):
            apply_session(self._tables, seq, entry)
        elif isinstance(entry, DocumentAdded):
            apply_document(self._tables, seq, entry)
        elif isinstance(entry, Derived | DeriveAsked):
            apply_derived(self._tables, seq, entry)
        elif isinstance(entry, NoSpeechFound):
            apply_silence(self._tables, entry)
        elif isinstance(entry, LimitEntry):
            apply_limit(self._tables, seq, entry)
        else:
            self._apply_said(seq, entry)

    def _apply_said(
        self, seq: int, entry: CustodyEntry | ActivityEntry | Checked | CheckpointEntry | _OnlyTold
    ) -> None:
        """What brings and changes no asset."""
        if isinstance(entry, CustodyEntry):
            apply_custody(self._tables, entry)
        elif isinstance(entry, ActivityEntry):
            apply_activity(self._tables, seq, entry)
        elif isinstance(entry, Checked):
            apply_checked(self._tables, entry)
        elif isinstance(entry, CheckpointEntry):
            apply_checkpoint(self._tables, seq, entry)
        elif not isinstance(entry, _OnlyTold):  # of these the event itself is all there is to keep
            assert_never(entry)
