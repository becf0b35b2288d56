"""The database file: how it is created, migrated, recognised, and found quickly in."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from agent.errors import JournalError
from agent.journal import Journal, Reader, rebuild, verify
from agent.journal.recordings import Sort, Wanted
from agent.journal.schema import APPLICATION_ID, MIGRATIONS, connect, migrate, version_of
from agent.model import (
    Adopted,
    AssetChanged,
    AssetState,
    Damaged,
    DeadlineRecomputed,
    Derived,
    DockingClosed,
    Matched,
    Outcome,
    Resumed,
)
from simulator.journal import State, fill, freed, questions, state_of
from tests.conftest import SettableClock
from tests.journal_entries import (
    NOW,
    acquired,
    activity,
    assert_consistent,
    confirmed,
    deadline,
    digests_of,
    document,
    held,
    listed,
    opened,
    probed,
    recording,
    seen,
    wanted,
    write,
)

RECORDINGS = 2000
VERSION_4 = Path(__file__).parent / "data" / "journal_version_4.sql"


def pragma(path: Path, name: str) -> object:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(f"PRAGMA {name}").fetchone()[0]


async def test_a_new_journal_is_marked_as_ours_and_writes_ahead(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write(path)
    assert pragma(path, "application_id") == APPLICATION_ID
    assert pragma(path, "user_version") == len(MIGRATIONS)
    assert pragma(path, "journal_mode") == "wal"


def test_every_commit_is_synced_and_references_are_checked(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "journal.db", write=True)) as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_every_table_is_strict(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "journal.db", write=True)) as db:
        migrate(db, tmp_path / "journal.db")
        tables = db.execute("SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND type = 'table'")
        assert {name for name, strict in tables if not strict} == {"sqlite_schema"}


async def test_an_older_journal_is_migrated_and_keeps_its_evidence(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write(path, opened(), seen("a"))
    later = (*MIGRATIONS, ("ALTER TABLE attempt ADD COLUMN host TEXT", "CREATE TABLE more (x INTEGER) STRICT"))
    with closing(connect(path, write=True)) as db:
        migrate(db, path, later)
        assert version_of(db, path, newest=len(later)) == len(later)
        assert db.execute("SELECT count(*) FROM event").fetchone() == (2,)
        assert db.execute("SELECT host FROM attempt").fetchall() == []
        migrate(db, path, later)


async def test_the_tables_of_the_version_before_are_filled_from_the_log(tmp_path: Path) -> None:
    """What was journaled when limits were still fixed gets the limit that its event tells, and when it was held."""
    path, old = tmp_path / "journal.db", tmp_path / "old.db"
    entries = (
        opened(),
        seen("a"),
        seen("b", 2),
        listed(2),
        acquired("a"),
        Adopted(recording("c"), wanted("c"), held("c")),
    )
    await write(path, *entries)
    with closing(sqlite3.connect(path)) as new, closing(connect(old, write=True)) as db:
        migrate(db, old, MIGRATIONS[:2])
        for row in new.execute("SELECT * FROM event ORDER BY seq"):
            db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", row)
        for table in ("device", "docking", "recording", "asset", "clip", "counter"):
            names = ", ".join(name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (table,)))
            known = "WHERE scope <> 'metadata'" if table == "counter" else ""
            for row in new.execute(f"SELECT {names} FROM {table} {known}"):
                db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", row)
        migrate(db, old)
    assert_consistent(old)
    with closing(Reader(old)) as reader:
        assert reader.recording("a").held_at == NOW
        assert reader.recording("b").held_at is None
        assert reader.recording("c").held_at == NOW


async def test_a_journal_that_version_4_wrote_is_taken_over_and_takes_documents(
    tmp_path: Path, clock: SettableClock
) -> None:
    """The file is the dump of a real one, with every kind of state; nothing of it changes."""
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_4.read_text("utf-8"))
        assert version_of(db, path) == 4
        before = db.execute("SELECT * FROM event ORDER BY seq").fetchall()
        assets = db.execute("SELECT * FROM asset ORDER BY asset_id").fetchall()
    async with Journal.open(path, clock) as journal:
        assert pragma(path, "user_version") == len(MIGRATIONS)
        assert_consistent(path)
        due = journal.reader.next_to_store(clock())
        assert due is not None
        assert due.asset.asset_id == "b"
        assert journal.reader.overview(NOW).assets[AssetState.HELD].files == 2
        to_probe = journal.reader.next_to_probe()
        assert to_probe is not None
        assert to_probe.state in (AssetState.HELD, AssetState.STORED, AssetState.MATCHED)
        await journal.record(document("s", "a", "b"))
        assert [view.asset.asset_id for view in journal.reader.documents("rec-b")] == ["s"]
    assert_consistent(path)
    rebuild(path)
    assert_consistent(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM event ORDER BY seq").fetchall()[: len(before)] == before
        columns = "SELECT * FROM asset WHERE role = 'original' ORDER BY asset_id"
        assert [row[: len(assets[0])] for row in db.execute(columns)] == assets


async def test_a_migration_that_fails_leaves_the_old_version_whole(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    await write(path, opened(), seen("a"))
    broken = (*MIGRATIONS, ("CREATE TABLE more (x INTEGER) STRICT", "CREATE TABLE more (x INTEGER) STRICT"))
    with closing(connect(path, write=True)) as db:
        with pytest.raises(JournalError, match="already exists"):
            migrate(db, path, broken)
        assert not db.in_transaction
    assert pragma(path, "user_version") == len(MIGRATIONS)
    assert_consistent(path)


async def test_a_journal_of_a_newer_agent_is_refused_and_not_touched(tmp_path: Path, clock: SettableClock) -> None:
    path = tmp_path / "journal.db"
    await write(path, opened())
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 99")
    before = path.read_bytes()
    for open_it in (lambda: Journal.open(path, clock), lambda: Reader(path), lambda: verify(path)):
        with pytest.raises(JournalError, match=r"newer agent \(version 99"):
            open_it()
    assert path.read_bytes() == before


def test_a_database_of_somebody_else_is_refused_and_not_touched(tmp_path: Path, clock: SettableClock) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="no journal of this agent"):
        Journal.open(path, clock)
    assert path.read_bytes() == before


def test_a_reader_needs_a_journal_that_is_there_and_of_this_version(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with pytest.raises(JournalError, match="can't be used"):
        Reader(path)
    assert not path.exists()
    sqlite3.connect(path).close()
    with pytest.raises(JournalError, match="older version"):
        Reader(path)


async def test_a_reader_cannot_write(tmp_path: Path) -> None:
    await write(tmp_path / "journal.db", opened())
    with closing(Reader(tmp_path / "journal.db")) as reader, pytest.raises(JournalError, match="readonly"):
        reader._db.all("DELETE FROM device")


@pytest.mark.parametrize("state", [state_of, freed])
def test_a_made_journal_is_one_that_could_have_been_recorded(tmp_path: Path, state: State) -> None:
    fill(tmp_path / "journal.db", 1200, state)
    assert_consistent(tmp_path / "journal.db")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("big") / "journal.db"
    fill(path, RECORDINGS)
    return path


@pytest.fixture
def reader(big: Path) -> Iterator[Reader]:
    with closing(Reader(big)) as opened_reader:
        yield opened_reader


def test_the_generated_journal_is_what_recording_would_have_made(big: Path) -> None:
    assert_consistent(big)


BOUNDED = {
    # These walk in the order that is asked for and stop at the limit.
    ("overview", "SCAN event"),
    ("recordings, newest", "SCAN asset"),
    ("dockings", "SCAN docking"),
    ("incidents", "SCAN event USING INDEX event_incident"),
    # These take all rows of what is few: recorders, open dockings, parts and uploads under way, counters.
    ("devices", "SCAN device"),
    ("standings", "SCAN custody"),
    ("overview", "SCAN docking USING INDEX docking_open"),
    ("open dockings", "SCAN docking USING INDEX docking_open"),
    ("unheld documents", "SCAN asset USING INDEX asset_unheld_document"),
    ("notes", "SCAN settled"),
    ("next asset to store", "SCAN device"),
    ("next asset to store", "SCAN json_each VIRTUAL TABLE INDEX 1:"),
    ("next asset to store, some under way", "SCAN device"),
    ("next asset to store, some under way", "SCAN json_each VIRTUAL TABLE INDEX 1:"),
    ("what waits", "SCAN docking USING INDEX docking_open"),
    ("what waits", "SCAN (subquery-1)"),  # what a limit of 10,000 rows has left
    ("overview", "SCAN note"),
    ("receipts to withdraw", "SCAN note"),
    ("receipts", "SCAN docking USING INDEX docking_to_receipt"),
    ("next to derive", "SCAN asset USING INDEX asset_to_derive"),
    ("copies", "SCAN asset USING INDEX asset_to_derive"),
    ("overview", "SCAN asset USING INDEX asset_to_derive"),
    ("copies", "SCAN asset USING INDEX asset_to_probe"),
    ("overview", "SCAN asset USING INDEX asset_to_probe"),
    # And these what an inner query has limited.
    ("copies", "SCAN (subquery-2)"),
    ("overview", "SCAN (subquery-1)"),
    ("overview", "SCAN (subquery-2)"),
    ("history", "SCAN json_each VIRTUAL TABLE INDEX 1:"),
    ("seal counts", "SCAN (subquery-1)"),
    ("incidents since", "SCAN (subquery-1)"),
    ("recordings, due and wanted", "SCAN (subquery-1)"),
    ("known clips", "SCAN seen"),
}
BIG = r"SCAN (asset|recording|clip|event|kept|own)\b"
SORTED_BEFORE_LIMIT = re.compile(r"USE TEMP B-TREE FOR (GROUP|ORDER) BY")
MAY_SORT = {
    "known clips", "recording with its history", "open clip of", "documents", "statements", "derivatives", "seals",
    "belongings", "incidents since", "recordings, due and wanted", "history", "what waits",
}  # fmt: skip
"""Sorts the sightings of one clip or one asset, what was said about one recording, and what a limit found to be few."""


def test_no_query_reads_a_big_table_from_end_to_end(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plans of all queries that the pipeline and the status page make; independent of this machine's speed."""
    plans: dict[str, list[str]] = {}
    asked = questions(reader, RECORDINGS)
    run = reader._db.all
    name = ""

    def explained(query: str, *values: object) -> list[tuple[object, ...]]:
        if query not in ("BEGIN", "COMMIT"):
            plans.setdefault(name, []).extend(str(row[3]) for row in run(f"EXPLAIN QUERY PLAN {query}", *values))
        return run(query, *values)

    monkeypatch.setattr(reader._db, "all", explained)
    for name, ask in asked.items():  # noqa: B007  `explained` files the plans under it
        ask()
    assert len(plans) > 20
    scans = {(name, step) for name, steps in plans.items() for step in steps if step.startswith("SCAN")}
    assert {scan for scan in scans if not scan[0].startswith("page by")} <= BOUNDED
    sorts = {name for name, steps in plans.items() if any(map(SORTED_BEFORE_LIMIT.match, steps))}
    assert {name for name in sorts if not name.startswith("page by")} <= MAY_SORT


async def test_no_statement_of_a_commit_reads_a_big_table_from_end_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New holiday notices change the limit of a million recordings, one after the other."""
    path, plans, bare = tmp_path / "journal.db", dict[str, list[str]](), sqlite3.connect
    fill(path, RECORDINGS)

    class Explained(sqlite3.Connection):
        def execute(self, query: str, *values: object) -> sqlite3.Cursor:  # type: ignore[override]
            if query.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
                plans[query] = [row[3] for row in super().execute(f"EXPLAIN QUERY PLAN {query}", *values)]
            return super().execute(query, *values)

    monkeypatch.setattr(sqlite3, "connect", partial(bare, factory=Explained))
    old, new = deadline(48), deadline(24)
    await write(
        path, opened(), seen("a", 1), seen("b", 2), listed(2), acquired("a"),
        AssetChanged("b", Matched("a", digests_of("a")), "d1", 2, Outcome.ALREADY_HELD),
        DockingClosed("d1", "complete"), probed("a", old=old, new=old), DeadlineRecomputed("a", old, new),
        activity("a", "b"), document("s", "a"), Derived("a"), confirmed("a"),
        AssetChanged("a", Damaged("gone", source_docked=False)), AssetChanged("a", Resumed("somebody", "a disk")),
    )  # fmt: skip
    assert sum(query.startswith(("UPDATE", "DELETE", "INSERT")) for query in plans) > 20
    scans = {query for query, steps in plans.items() if any(re.match(BIG, step) for step in steps)}
    assert scans <= {"SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1"}


def test_a_page_walks_an_index_in_its_order_or_sorts_what_a_limit_has_found_to_be_few(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the table of recordings, where no filter counts as finding few."""
    monkeypatch.setattr("agent.journal.recordings._SCANNED", 100)
    run, plans = reader._db.all, list[str]()

    def explained(query: str, *values: object) -> list[tuple[object, ...]]:
        if query not in ("BEGIN", "COMMIT"):
            plans.extend(str(row[3]) for row in run(f"EXPLAIN QUERY PLAN {query}", *values))
        return run(query, *values)

    monkeypatch.setattr(reader._db, "all", explained)
    for sort in Sort:
        for chosen in ({}, {"state": AssetState.STORED}, {"unsafe": True}, {"device_id": "none"}, {"id_begins": "0"}):
            reader.page(Wanted(sort, **chosen))
    assert not any(map(SORTED_BEFORE_LIMIT.match, plans))
    indexes = ("by_alarm", "by_capture", "by_size")
    walks = {"SCAN asset", "SCAN (subquery-1)", *(f"SCAN asset USING INDEX asset_{name}" for name in indexes)}
    assert {step for step in plans if step.startswith("SCAN")} <= walks
