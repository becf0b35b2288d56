"""The log is the oracle: every change behind the agent's back is found, and tables can be made anew from the log."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from agent.errors import JournalError
from agent.journal import Journal, rebuild, verify
from agent.journal.codec import leaf, link
from agent.journal.lock import WriterLock
from agent.journal.schema import EVIDENCE_TABLES
from agent.model import AssetChanged, Blocked, ClipRefused, Damaged, DockingClosed, Incident, JournalEntry
from tests.journal_entries import (
    NOW,
    acquired,
    assert_consistent,
    clip,
    confirmed,
    listed,
    opened,
    seen,
    write,
)

LIFE: list[JournalEntry] = [
    opened(),
    seen("a", 1),
    seen("b", 2),
    seen("c", 3),
    ClipRefused("d1", clip(4), "a loop"),
    listed(4),
    acquired("a", 1),
    acquired("b", 2),
    confirmed("a"),
    AssetChanged("b", Damaged("a bit flipped", source_docked=False)),
    AssetChanged("c", Blocked("the card is broken")),
    Incident("not-sealed", {"asset": "a"}),
    DockingClosed("d1", "yanked"),
]


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    await write(tmp_path / "journal.db", *LIFE)
    return tmp_path / "journal.db"


@contextmanager
def intruder(path: Path, *, without_triggers: bool = True) -> Iterator[sqlite3.Connection]:
    """Somebody with the rights of root and a copy of sqlite3."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        if without_triggers:
            for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
                db.execute(f"DROP TRIGGER {name}")
        yield db


def found(path: Path) -> dict[str, list[str]]:
    places: dict[str, list[str]] = {}
    for difference in verify(path).differences:
        places.setdefault(difference.where, []).append(difference.what)
    return places


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with closing(sqlite3.connect(path)) as db:
        return {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in ("event", *EVIDENCE_TABLES)}


def test_a_closed_journal_is_one_file_that_can_be_copied(path: Path) -> None:
    assert not path.with_name("journal.db-wal").exists()


def test_an_untouched_journal_is_consistent_and_names_its_head(path: Path) -> None:
    report = verify(path)
    assert report.consistent
    assert report.events == len(LIFE)
    with intruder(path, without_triggers=False) as db:
        assert db.execute("SELECT hex(hash) FROM event ORDER BY seq DESC").fetchone()[0].lower() == report.head_hash


def test_verify_changes_nothing(path: Path) -> None:
    before = path.read_bytes()
    verify(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE event SET detail = '{}' WHERE seq = 3",
        "UPDATE event SET hash = zeroblob(32)",
        "DELETE FROM event WHERE seq = 13",
        "DELETE FROM event",
        "INSERT OR REPLACE INTO event SELECT seq, at, kind, subject, '{}', hash FROM event WHERE seq = 3",
        "REPLACE INTO event SELECT 99, at, kind, subject, detail, hash FROM event WHERE seq = 3",
        "INSERT INTO event SELECT 0, at, kind, subject, detail, hash FROM event WHERE seq = 3",
        "INSERT INTO event SELECT NULL, at, kind, subject, detail, hash FROM event WHERE seq = 3",
        "INSERT INTO event SELECT 14, at, kind, subject, detail, x'00' FROM event WHERE seq = 3",
    ],
)
def test_the_database_itself_forbids_to_change_the_log(path: Path, statement: str) -> None:
    with intruder(path, without_triggers=False) as db, pytest.raises(sqlite3.IntegrityError):
        db.execute(statement)
    assert_consistent(path)


@pytest.mark.parametrize(
    ("statement", "place"),
    [
        ("UPDATE event SET detail = replace(detail, '1000', '1001') WHERE seq = 2", "event 2"),
        ("UPDATE event SET at = '2020-01-01T00:00:00.000000+00:00' WHERE seq = 12", "event 12"),
        ("UPDATE event SET kind = 'observed' WHERE seq = 12", "event 12"),
        ("UPDATE event SET subject = 'z' WHERE seq = 7", "event 7"),
        ("UPDATE event SET hash = zeroblob(32) WHERE seq = 7", "event 7"),
        ("DELETE FROM event WHERE seq = 9", "event 9"),
        ("UPDATE event SET detail = cast(x'7bff' AS TEXT) WHERE seq = 12", "event 12"),
        ("UPDATE asset SET state = 'stored' WHERE asset_id = 'b'", "asset b"),
        ("UPDATE asset SET blake3 = 'ff' WHERE asset_id = 'a'", "asset a"),
        ("UPDATE asset SET reason = cast(x'ff' AS TEXT) WHERE asset_id = 'c'", "asset c"),
        ("UPDATE asset SET late_at = NULL WHERE asset_id = 'a'", "asset a"),
        ("UPDATE clip SET outcome = 'pulled' WHERE number = 3", "clip d1/3"),
        ("DELETE FROM clip WHERE number = 3", "clip d1/3"),
        ("DELETE FROM recording WHERE recording_id = 'rec-b'", "recording rec-b"),
        ("UPDATE docking SET closed_at = NULL", "docking 1"),
        ("INSERT INTO device VALUES ('ghost', 1, 1)", "device ghost"),
        ("UPDATE counter SET files = 7 WHERE scope = 'asset' AND name = 'stored'", "counter asset/stored"),
    ],
)
def test_each_change_of_log_or_tables_is_found_where_it_is(path: Path, statement: str, place: str) -> None:
    with intruder(path) as db:
        db.execute(statement)
    assert place in found(path)


def test_all_differences_are_reported_not_only_the_first(path: Path) -> None:
    with intruder(path) as db:
        db.execute("UPDATE event SET at = 'never' WHERE seq IN (3, 6)")
        db.execute("UPDATE asset SET state = 'stored', reason = 'none'")
        db.execute("DELETE FROM device")
    places = found(path)
    assert {"event 3", "event 6", "asset b", "asset c", "asset a", "device device"} <= places.keys()
    assert "state is 'stored', by the log 'stuck'" in places["asset c"]
    assert len(places["asset c"]) == 2


def test_rewriting_the_hash_of_a_changed_event_breaks_the_next_one(path: Path) -> None:
    with intruder(path) as db:
        (previous,) = db.execute("SELECT hash FROM event WHERE seq = 11").fetchone()
        _, at, kind, subject, detail = db.execute(
            "SELECT seq, at, kind, subject, detail FROM event WHERE seq = 12"
        ).fetchone()
        detail = detail.replace("not-sealed", "sealed")
        forged = link(previous, leaf(12, at, kind, subject, detail))
        db.execute("UPDATE event SET detail = ?, hash = ? WHERE seq = 12", (detail, forged))
    assert set(found(path)) == {"event 13"}


def test_a_log_cut_at_its_end_contradicts_the_tables_that_were_left(path: Path) -> None:
    with intruder(path) as db:
        db.execute("DELETE FROM event WHERE seq > 8")
    assert {"asset a", "asset b", "asset c", "docking 1"} <= set(found(path))


def test_an_illegal_event_with_a_good_hash_is_found_by_the_replay(path: Path) -> None:
    """Whoever forges the whole chain must also forge a history that the state machine allows."""
    with intruder(path) as db:
        seq, previous = db.execute("SELECT seq, hash FROM event ORDER BY seq DESC LIMIT 1").fetchone()
        at, kind, subject, detail = db.execute("SELECT at, kind, subject, detail FROM event WHERE seq = 9").fetchone()
        forged = link(previous, leaf(seq + 1, at, kind, subject, detail))
        db.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", (seq + 1, at, kind, subject, detail, forged))
    (place,) = found(path).items()
    assert place[0] == f"event {seq + 1}"
    assert "Asset a is stored: Confirmed is not possible" in place[1][0]


def test_a_thousand_differences_are_told_and_all_are_counted(path: Path) -> None:
    with intruder(path) as db:
        db.execute("BEGIN")
        db.executemany("INSERT INTO device VALUES (?, 1, 1)", [(f"ghost{n}",) for n in range(1500)])
        db.execute("COMMIT")
    report = verify(path)
    assert (len(report.differences), report.found) == (1000, 1500)


@pytest.mark.parametrize("table", ["event", "asset", "counter"])
def test_pages_that_were_overwritten_are_reported_not_raised(path: Path, table: str) -> None:
    with intruder(path, without_triggers=False) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    data = bytearray(path.read_bytes())
    data[(root - 1) * size : root * size] = b"\xa5" * size
    path.write_bytes(data)
    last = verify(path).differences[-1]
    assert last.where == "database"
    assert "malformed" in last.what


def test_a_file_that_is_no_database_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "journal.db").write_bytes(b"\x00" * 9 + b"no database at all" * 500)
    with pytest.raises(JournalError, match="can't be used"):
        verify(tmp_path / "journal.db")
    with pytest.raises(JournalError, match="can't be used"):
        verify(tmp_path / "missing.db")


async def test_verify_may_run_while_the_journal_is_written(path: Path) -> None:
    async with Journal.open(path, lambda: NOW) as journal:
        for number in range(20):
            await journal.record(Incident("tick", {"n": number}))
            assert verify(path).events == len(LIFE) + number + 1


def test_rebuild_gives_exactly_the_tables_that_were_there(path: Path) -> None:
    before = dump(path)
    assert rebuild(path) == len(LIFE)
    assert dump(path) == before


def test_rebuild_heals_tables_that_were_changed_or_lost(path: Path) -> None:
    before = dump(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("UPDATE asset SET state = 'stored'")
        for table in ("clip", "counter", "device"):
            db.execute(f"DELETE FROM {table}")
    rebuild(path)
    assert dump(path) == before
    assert_consistent(path)


async def test_rebuild_keeps_the_notes_of_work_under_way(path: Path) -> None:
    async with Journal.open(path, lambda: NOW) as journal:
        await journal.begun(["c"])
    rebuild(path)
    async with Journal.open(path, lambda: NOW) as journal:
        attempt = journal.reader.attempt("c")
        assert attempt is not None
        assert attempt.begun == 1


def test_rebuild_refuses_a_damaged_log_and_leaves_everything(path: Path) -> None:
    with intruder(path) as db:
        db.execute("UPDATE event SET detail = replace(detail, '1000', '1001') WHERE seq = 2")
    before = dump(path)
    with pytest.raises(JournalError, match="event 2: the chain is broken"):
        rebuild(path)
    assert dump(path) == before


def test_rebuild_waits_for_nobody_it_refuses_while_the_agent_runs(path: Path) -> None:
    with WriterLock(path), pytest.raises(JournalError, match="writes the journal"):
        rebuild(path)


async def test_a_rebuilt_journal_goes_on(path: Path) -> None:
    rebuild(path)
    await write(path, opened("d2"), seen("e", 1, "d2"))
    assert_consistent(path)
