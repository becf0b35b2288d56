"""The tree over the events: kept with each commit, the same after any restart, and honest about what was changed."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import JournalError
from agent.journal import Journal, Reader, rebuild, verify
from agent.journal.codec import encode, leaf, link
from agent.journal.log import Log
from agent.journal.schema import MIGRATIONS, connect, migrate
from agent.journal.tree import Nodes
from agent.model import Incident
from agent.tlog.tree import EMPTY_ROOT, continues, includes, leaf_hash
from simulator.journal import fill
from tests.journal_entries import NOW, acquired, assert_consistent, opened, write
from tests.test_journal_audit import found, intruder
from tests.test_tlog_tree import naive

EVENTS = 700


def tick(number: int) -> Incident:
    return Incident("tick", {"n": number})


def contents(path: Path) -> list[bytes]:
    """The leaves, made from the table without any code of the agent."""
    with closing(sqlite3.connect(path)) as db:
        return [
            f"{json.dumps([seq, at, kind, subject], separators=(',', ':'))[:-1]},{detail}]".encode()
            for seq, at, kind, subject, detail in db.execute("SELECT seq, at, kind, subject, detail FROM event")
        ]


def kept(path: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute("SELECT height, number FROM tree ORDER BY height, number").fetchall()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of two whole subtrees and some more, with a job that was refused in the middle of each."""
    path = tmp_path / "journal.db"
    with closing(Log(path, lambda: NOW)) as log:
        for first in range(0, EVENTS, 100):
            bad = [encode(tick(0))] * 300 + [encode(acquired("nobody"))]
            results = log.commit(
                [
                    lambda log, first=first: log.append([encode(tick(first + n)) for n in range(50)]),
                    lambda log, bad=bad: log.append(bad),
                    lambda log, first=first: log.append([encode(tick(first + n)) for n in range(50, 100)]),
                ]
            )
            assert [isinstance(one, JournalError) for one in results] == [False, True, False]
    return path


@pytest.fixture
def reader(path: Path) -> Iterator[Reader]:
    with closing(Reader(path)) as opened_reader:
        yield opened_reader


def test_one_row_is_kept_of_256_events_and_refused_jobs_leave_none(path: Path) -> None:
    assert kept(path) == [(8, 0), (8, 1)]
    assert_consistent(path)


def test_every_size_has_the_root_of_the_naive_tree(path: Path, reader: Reader) -> None:
    leaves = contents(path)
    assert reader.log_size() == EVENTS == len(leaves)
    assert reader.log_root(0) == EMPTY_ROOT
    for size in [*range(1, 20), *range(250, 262), 511, 512, 513, 699, 700]:
        assert reader.log_root(size) == naive(leaves[:size])


def test_events_are_proved_by_what_the_reader_gives(path: Path, reader: Reader) -> None:
    leaves = contents(path)
    for seq in (1, 2, 255, 256, 257, 512, 513, 699, 700):
        assert reader.log_leaf(seq) == leaves[seq - 1]
        for size in {seq, max(seq, 513), EVENTS}:
            path_to = reader.inclusion(seq, size)
            assert includes(leaf_hash(leaves[seq - 1]), seq - 1, size, path_to, reader.log_root(size))


def test_growth_is_proved_by_what_the_reader_gives(reader: Reader) -> None:
    sizes = [0, 1, 7, 255, 256, 257, 511, 512, 513, 640, 700]
    roots = {size: reader.log_root(size) for size in sizes}
    for old in sizes:
        for size in (one for one in sizes if one >= old):
            assert continues(old, roots[old], size, roots[size], reader.consistency(old, size))


def test_what_is_not_there_can_not_be_asked_for(reader: Reader) -> None:
    for ask in (
        lambda: reader.log_root(EVENTS + 1),
        lambda: reader.log_root(-1),
        lambda: reader.log_leaf(0),
        lambda: reader.inclusion(0, 5),
        lambda: reader.inclusion(6, 5),
        lambda: reader.inclusion(1, EVENTS + 1),
        lambda: reader.consistency(6, 5),
        lambda: reader.consistency(-1, 5),
        lambda: reader.consistency(5, EVENTS + 1),
    ):
        with pytest.raises(JournalError, match="The log has 700 events"):
            ask()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.tuples(st.integers(1, 300), st.booleans()), min_size=1, max_size=6))
def test_the_frontier_is_the_same_live_after_a_restart_and_from_nothing(
    tmp_path_factory: pytest.TempPathFactory, groups: list[tuple[int, bool]]
) -> None:
    path = tmp_path_factory.mktemp("tree") / "journal.db"
    log = Log(path, lambda: NOW)
    for count, again in groups:
        log.commit([lambda log, count=count: log.append([encode(tick(n)) for n in range(count)])])
        live = log._tree.frontier
        if again:
            log.close()
            log = Log(path, lambda: NOW)
            assert log._tree.frontier == live
        assert live.root() == naive(contents(path))
    log.close()
    assert_consistent(path)


def test_a_journal_of_65536_events_has_a_row_for_them_all(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    fill(path, 23_000)
    assert (16, 0) in kept(path)
    with closing(Reader(path)) as reader:
        size = reader.log_size()
        assert len(kept(path)) == size // 256 + 1
        leaves = contents(path)
        root = naive(leaves)
        assert reader.log_root(size) == root
        proof = reader.inclusion(40_000, size)
        assert includes(leaf_hash(leaves[39_999]), 39_999, size, proof, root)
        with closing(sqlite3.connect(path)) as db:
            db.execute("DELETE FROM tree WHERE height = 16 OR number IN (3, 40, 256)")
            db.commit()
        assert reader.log_root(size) == root, "rows that were lost are computed again"


def older(path: Path, old: Path, condition: str = "1") -> None:
    """Make a journal of the version before, without a tree, out of events of a new one."""
    with closing(connect(old, write=True)) as db:
        migrate(db, old, MIGRATIONS[:6])
        db.execute("ATTACH ? AS new", (str(path),))
        db.execute("DROP TRIGGER event_comes_next")
        db.execute(f"INSERT INTO event SELECT * FROM new.event WHERE {condition} ORDER BY seq")
        db.execute("DETACH new")


async def test_a_damaged_journal_of_the_version_before_gets_its_tree_too(path: Path, tmp_path: Path) -> None:
    """Missing events and damaged text are found by `verify`; they must not keep the service from starting."""
    with intruder(path) as db:
        db.execute("UPDATE event SET detail = cast(x'7bff' AS TEXT) WHERE seq = 20")
    old = tmp_path / "old.db"
    older(path, old, "seq NOT BETWEEN 300 AND 400")
    await write(old, opened())
    assert kept(old) == [(8, 0), (8, 1)]
    assert {"event 20", "event 300"} <= set(found(old))
    assert not any(place.startswith("tree") for place in found(old))


def test_a_journal_of_the_version_before_gets_its_tree(tmp_path: Path) -> None:
    path, old = tmp_path / "journal.db", tmp_path / "old.db"
    fill(path, 300)
    older(path, old)
    with closing(connect(old, write=True)) as db:
        migrate(db, old)
    assert kept(old) == kept(path) == [(8, 0), (8, 1), (8, 2)]
    with closing(Reader(old)) as reader, closing(Reader(path)) as right:
        assert reader.log_root(reader.log_size()) == right.log_root(right.log_size())


@pytest.mark.parametrize(
    ("statement", "places"),
    [
        ("UPDATE event SET detail = replace(detail, 'tick', 'tock') WHERE seq = 300", {"event 300", "tree 8/1"}),
        ("DELETE FROM event WHERE seq = 20", {"event 20", "event 21", "tree 8/0"}),
        ("UPDATE tree SET hash = zeroblob(32) WHERE number = 1", {"tree 8/1"}),
        ("DELETE FROM tree WHERE number = 1", {"tree 8/1"}),
        ("INSERT INTO tree VALUES (8, 2, zeroblob(32))", {"tree 8/2"}),
        ("INSERT INTO tree VALUES (16, 0, zeroblob(32))", {"tree 16/0"}),
    ],
)
def test_verify_finds_where_the_tree_is_not_what_was_recorded(path: Path, statement: str, places: set[str]) -> None:
    with intruder(path) as db:
        db.execute(statement)
    assert set(found(path)) == places


def test_an_event_far_beyond_the_end_is_told_and_stops_nobody(path: Path) -> None:
    """A forged number must not make the check count up to it."""
    with intruder(path) as db:
        db.execute("INSERT INTO event SELECT (1 << 62) + 3, at, kind, subject, detail, hash FROM event WHERE seq = 700")
        db.execute("INSERT INTO event SELECT -5, at, kind, subject, detail, hash FROM event WHERE seq = 700")
    assert {"event 1", "event 701"} <= set(found(path))
    assert "event 2" not in found(path)


async def test_a_damaged_journal_can_still_be_written(path: Path) -> None:
    """What happens now must be recorded, whatever somebody did to what is older."""
    with intruder(path) as db:
        db.execute("UPDATE event SET detail = cast(x'7bff' AS TEXT) WHERE seq IN (600, 700)")
        db.execute("DELETE FROM event WHERE seq IN (100, 650)")
        db.execute("DELETE FROM tree WHERE number = 0")
    await write(path, opened())
    assert verify(path).events == EVENTS + 1


def test_rebuild_mends_the_tree(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        root = Nodes(lambda query, *values: db.execute(query, values).fetchall())(9, 0)
        db.execute("UPDATE tree SET hash = zeroblob(32)")
        db.commit()
    rebuild(path)
    assert_consistent(path)
    with closing(Reader(path)) as reader:
        assert reader.log_root(512) == root


def test_a_log_that_was_rewritten_with_a_good_chain_is_exposed_by_an_old_root(path: Path) -> None:
    """Whoever rewrites everything, chain and tree, still can't continue what was written down before."""
    with closing(Reader(path)) as reader:
        old_root = reader.log_root(600)
    with intruder(path) as db:
        (head,) = db.execute("SELECT hash FROM event WHERE seq = 299").fetchone()
        rows = db.execute("SELECT seq, at, kind, subject, detail FROM event WHERE seq >= 300").fetchall()
        for seq, at, kind, subject, detail in rows:
            forged = detail.replace("tick", "tock") if seq == 300 else detail
            head = link(head, leaf(seq, at, kind, subject, forged))
            db.execute("UPDATE event SET detail = ?, hash = ? WHERE seq = ?", (forged, head, seq))
        db.execute("DELETE FROM tree")
    rebuild(path)
    assert_consistent(path)
    with closing(Reader(path)) as reader:
        proof = reader.consistency(600, EVENTS)
        assert continues(600, reader.log_root(600), EVENTS, reader.log_root(EVENTS), proof)
        assert not continues(600, old_root, EVENTS, reader.log_root(EVENTS), proof)


def test_an_older_copy_that_went_on_is_exposed_by_a_later_root(path: Path, tmp_path: Path) -> None:
    """The last events are dropped, or the whole file is replaced by a copy of last week: chain and tables are sound."""
    with closing(Reader(path)) as reader:
        known = reader.log_root(600)
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(path)) as db, closing(connect(copy, write=True)) as new:
        migrate(new, copy)
        for row in db.execute("SELECT * FROM event WHERE seq <= 500 ORDER BY seq"):
            new.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", row)
    rebuild(copy)
    with closing(Log(copy, lambda: NOW)) as log:
        log.commit([lambda log: log.append([encode(tick(-n)) for n in range(300)])])
    assert_consistent(copy)
    with closing(Reader(copy)) as reader:
        assert not continues(600, known, 800, reader.log_root(800), reader.consistency(600, 800))


async def test_a_reader_sees_the_tree_of_what_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    async with Journal.open(path, lambda: NOW) as journal:
        for size in range(1, 6):
            await journal.record(tick(size))
            assert journal.reader.log_size() == size
            assert journal.reader.log_root(size) == naive(contents(path))
