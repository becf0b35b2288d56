"""Whatever happens to recordings and documents in whatever order, no document is less urgent than its recordings."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import AgentError
from agent.journal.codec import from_text
from agent.journal.projection import Projection
from agent.journal.rows import sortable
from agent.journal.schema import EVIDENCE_TABLES, migrate
from agent.model import (
    Acquired,
    AssetChanged,
    Deadline,
    DeadlineRecomputed,
    DocumentAdded,
    JournalEntry,
    Matched,
    Transcript,
    TranscriptKind,
)
from tests.journal_entries import NOW, acquired, deadline, digests_of, document, held, opened, seen

RECORDINGS = "abcd"
CONTENTS = "xy"
SAID = Transcript(TranscriptKind.HUMAN, "李四", NOW, "a.txt")

ADD = st.tuples(st.just("add"), st.lists(st.sampled_from(RECORDINGS), min_size=1, unique=True), st.sampled_from("xy"))
HOLD = st.tuples(st.just("hold"), st.integers(0, 9), st.just(""))
LIMIT = st.tuples(st.just("limit"), st.sampled_from(RECORDINGS), st.integers(2, 90))


def tables() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    migrate(db, Path("journal.db"))
    return db


def limit_of(db: sqlite3.Connection, name: str) -> Deadline:
    (text,) = db.execute("SELECT deadline FROM recording WHERE recording_id = ?", (f"rec-{name}",)).fetchone()
    return from_text(Deadline, text)


def entries(db: sqlite3.Connection, steps: list[tuple[str, object, object]]) -> Iterator[JournalEntry]:
    """What the steps journal, given what the tables are by then; some of it is refused."""
    yield opened()
    for number, name in enumerate(RECORDINGS, 1):
        yield seen(name, number, hours=10 * number)
    yield acquired("a", 1, content="same")
    yield AssetChanged("b", Matched("a", digests_of("same")))
    added: list[tuple[str, str]] = []
    for kind, what, how in steps:
        if kind == "add":
            added.append((f"doc{len(added)}", str(how)))
            yield document(added[-1][0], *what, content=str(how), said=SAID)  # type: ignore[misc]
        elif kind == "hold" and added:
            name, content = added[int(str(what)) % len(added)]
            query = "SELECT asset_id FROM asset WHERE blake3 = ? AND state = 'held'"
            kept = db.execute(query, (digests_of(content).blake3,)).fetchone()
            event = Matched(kept[0], digests_of(content)) if kept else Acquired(held(name, content=content))
            yield AssetChanged(name, event)
        elif kind == "limit":
            yield DeadlineRecomputed(str(what), limit_of(db, str(what)), deadline(float(str(how))))


def contents(db: sqlite3.Connection) -> dict[str, list[tuple[object, ...]]]:
    return {table: sorted(db.execute(f"SELECT * FROM {table}"), key=repr) for table in EVIDENCE_TABLES}


@settings(deadline=None, max_examples=150)
@given(st.lists(ADD | HOLD | LIMIT, max_size=25))
def test_a_document_is_never_less_urgent_than_any_of_its_recordings(steps: list[tuple[str, object, object]]) -> None:
    with closing(tables()) as db, closing(tables()) as again:
        projection, replay = Projection(db), Projection(again)
        for seq, entry in enumerate(entries(db, steps), 1):
            db.execute("SAVEPOINT step")
            try:
                projection.apply(seq, sortable(NOW), entry)
            except AgentError:
                db.execute("ROLLBACK TO step")
                db.execute("RELEASE step")
                continue
            db.execute("RELEASE step")
            replay.apply(seq, sortable(NOW), entry)
        limits = {f"rec-{name}": sortable(limit_of(db, name).alarm_at) for name in RECORDINGS}
        rows = db.execute("SELECT about.recording_id, alarm_at, late_at FROM about JOIN asset USING (asset_id)")
        for recording_id, alarm_at, late_at in rows.fetchall():
            assert alarm_at <= limits[recording_id]
            assert late_at is None, "only a recording can be late"
        twins = db.execute(
            "SELECT count(*) FROM asset AS twin JOIN asset AS keeper ON keeper.asset_id = twin.same_as"
            " WHERE keeper.alarm_at > twin.alarm_at OR (keeper.role = 'original') <> (twin.role = 'original')"
        )
        assert twins.fetchone() == (0,), "who keeps the bytes is as urgent as everybody who has them"
        for one in (projection, replay):
            one.flush()
        assert contents(db) == contents(again)


def test_the_earliest_of_many_recordings_counts_and_a_later_limit_lets_go() -> None:
    with closing(tables()) as db:
        projection = Projection(db)
        first = [opened(), *(seen(name, n, hours=20 * n) for n, name in enumerate(RECORDINGS, 1))]
        added: list[DocumentAdded] = [document("s", *RECORDINGS), replace(document("t", "d", said=SAID))]
        for seq, entry in enumerate((*first, *added), 1):
            projection.apply(seq, sortable(NOW), entry)

        def alarms() -> list[str]:
            return [
                row[0] for row in db.execute("SELECT alarm_at FROM asset WHERE role <> 'original' ORDER BY asset_id")
            ]

        assert alarms() == [sortable(deadline(20).alarm_at), sortable(deadline(80).alarm_at)]
        projection.apply(10, sortable(NOW), DeadlineRecomputed("a", deadline(20), deadline(200)))
        assert alarms() == [sortable(deadline(40).alarm_at), sortable(deadline(80).alarm_at)]
        projection.apply(11, sortable(NOW), DeadlineRecomputed("d", deadline(80), deadline(5)))
        assert alarms() == [sortable(deadline(5).alarm_at)] * 2
