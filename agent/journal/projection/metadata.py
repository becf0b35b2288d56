"""How complete the capture metadata of each recording is: one row beside each recording, and counts of all."""

from __future__ import annotations

from typing import Final

from agent.errors import JournalError
from agent.journal.projection.tables import UNCHANGED, Tables
from agent.metadata import Lacks, after_probe, after_statement, completeness, missing
from agent.model import (
    Checked,
    ClockTrust,
    Completeness,
    Medium,
    Missing,
    Probed,
    Recording,
    Statement,
    Transcript,
)
from agent.transcripts import completes

SCOPE: Final = "metadata"
"""Of the counters: how many recordings are in each state of completeness."""


def enter_metadata(tables: Tables, recording: Recording) -> None:
    """A new recording lacks all that persons have to say of it."""
    lacks = missing(recording.medium, recording.clock_trust, {}, has_transcript=False)
    state = completeness(lacks, checked=False)
    tables.db.execute("INSERT INTO metadata VALUES (?, ?, ?, 0, 0)", (recording.recording_id, state, lacks_text(lacks)))
    tables.count(SCOPE, state, 1, 0)


def apply_statement(tables: Tables, recordings: tuple[str, ...], said: Statement) -> None:
    """Each recording gets its next version, if nobody else has spoken since the one that this follows."""
    if said.versions:
        _at_versions(tables, recordings, said.versions)
    for recording_id in recordings:
        _, lacks, _ = _row(tables, recording_id)
        _set(tables, recording_id, after_statement(lacks, said.fields), said=1)


def apply_transcript(tables: Tables, recordings: tuple[str, ...], said: Transcript) -> None:
    """A text of what is said is there; what only a machine has written and nobody signed completes nothing."""
    if not completes(said):
        return
    for recording_id in recordings:
        _, lacks, _ = _row(tables, recording_id)
        _set(tables, recording_id, lacks - {Missing.TRANSCRIPT}, has_transcript=1)


def apply_time(tables: Tables, recording_id: str) -> None:
    """A person stated when it was made."""
    _, lacks, _ = _row(tables, recording_id)
    _set(tables, recording_id, lacks - {Missing.MADE_AT})


def apply_probe(tables: Tables, recording_id: str, entry: Probed) -> None:
    """The content told what it is, and whether its time can be believed; what was checked stays so if nothing lacks."""
    query = "SELECT medium, stated FROM recording WHERE recording_id = ?"
    medium, stated = tables.db.execute(query, (recording_id,)).fetchone()
    trust = entry.time.clock_trust if stated is None else ClockTrust.STATED
    checked, lacks, has_transcript = _row(tables, recording_id)
    lacks = after_probe(lacks, Medium(medium), trust, has_transcript=has_transcript)
    _set(tables, recording_id, lacks, checked=checked)


def apply_checked(tables: Tables, entry: Checked) -> None:
    """Somebody has checked all that is said now of recordings that lack nothing."""
    _at_versions(tables, entry.recordings, entry.versions)
    for recording_id in entry.recordings:
        _, lacks, _ = _row(tables, recording_id)
        if lacks:
            what = f"Recording {recording_id} can't be checked yet (待补充): it lacks {lacks_text(lacks)}."
            raise JournalError(what, safe=UNCHANGED, do="Let the officer say what is missing first.")
        _set(tables, recording_id, lacks, checked=True)


def lacks_text(lacks: Lacks) -> str:
    """What is lacking as a column has it: in the order of the article."""
    return " ".join(name for name in Missing if name in lacks)


def lacks_of(text: str) -> Lacks:
    """What `lacks_text` wrote."""
    return frozenset(map(Missing, text.split()))


def _row(tables: Tables, recording_id: str) -> tuple[bool, Lacks, bool]:
    query = "SELECT completeness, lacks, has_transcript FROM metadata WHERE recording_id = ?"
    row = tables.db.execute(query, (recording_id,)).fetchone()
    if row is None:
        raise JournalError(f"Recording {recording_id} is unknown.", safe=UNCHANGED)
    return row[0] == Completeness.CHECKED, lacks_of(row[1]), bool(row[2])


def _at_versions(tables: Tables, recordings: tuple[str, ...], versions: tuple[int, ...]) -> None:
    if len(recordings) != len(versions):
        raise JournalError(f"{len(versions)} versions of {len(recordings)} recordings.", safe=UNCHANGED)
    for recording_id, version in zip(recordings, versions, strict=True):
        query = "SELECT version FROM metadata WHERE recording_id = ?"
        row = tables.db.execute(query, (recording_id,)).fetchone()
        if row is not None and row[0] != version:
            raise JournalError(
                f"Recording {recording_id} is at version {row[0]}, not {version}: somebody else has spoken since.",
                safe=UNCHANGED,
                do="Look at it with `capture-agent metadata show`, then say it again.",
            )


def _set(
    tables: Tables, recording_id: str, lacks: Lacks, *, checked: bool = False, said: int = 0, has_transcript: int = 0
) -> None:
    query = "SELECT completeness FROM metadata WHERE recording_id = ?"
    (before,) = tables.db.execute(query, (recording_id,)).fetchone()
    after = completeness(lacks, checked=checked)
    tables.db.execute(
        "UPDATE metadata SET completeness = ?, lacks = ?, version = version + ?, has_transcript = has_transcript | ?"
        " WHERE recording_id = ?",
        (after, lacks_text(lacks), said, has_transcript, recording_id),
    )
    tables.count(SCOPE, before, -1, 0)
    tables.count(SCOPE, after, 1, 0)
