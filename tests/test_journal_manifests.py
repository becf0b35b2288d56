"""Which recordings want a manifest: told by the events alone, in order, and the same after a replay or a migration."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import JournalError
from agent.journal import Journal, Reader
from agent.journal.codec import encode
from agent.journal.log import Log
from agent.journal.projection.manifests import touch_all
from agent.journal.rows import sortable
from agent.journal.schema import MIGRATIONS
from agent.model import (
    Acquired,
    AssetChanged,
    Blocked,
    Damaged,
    JournalEntry,
    Matched,
    Outcome,
    Resumed,
    Role,
    Sealing,
    Stamping,
    TimeStated,
)
from tests.journal_entries import (
    NOW,
    acquired,
    assert_consistent,
    confirmed,
    digests_of,
    document,
    held,
    opened,
    probed,
    seen,
    write,
)
from tests.test_journal_codec import ENTRIES

NONE, DAY = timedelta(0), timedelta(days=1)
START = (opened(), seen("a"), seen("b", 2), acquired("a"))


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "journal.db"
    assert_consistent(tmp_path / "journal.db")


def wanted(path: Path) -> tuple[str, ...]:
    with closing(Reader(path)) as reader:
        return reader.next_to_seal(NOW, NONE, DAY, 10)


def kept(name: str) -> AssetChanged:
    """The bytes of a document are held."""
    return AssetChanged(name, Acquired(held(name)))


def same(name: str, number: int) -> AssetChanged:
    """Clip `number` has the content of a."""
    return AssetChanged(name, Matched("a", digests_of("a")), "d1", number, Outcome.ALREADY_HELD)


def sealed(name: str, number: int = 1, covers: int = 99, *, of: str = "a", after: str = "") -> tuple[JournalEntry, ...]:
    """A manifest with the id `name` is signed and held."""
    previous = digests_of(after).blake3 if after else ""
    return document(name, of, said=Sealing(number, covers, previous)), kept(name)


async def test_a_manifest_is_wanted_from_when_the_original_is_held_until_one_says_all(path: Path) -> None:
    await write(path, *START)
    assert wanted(path) == ("rec-a",)
    await write(path, *sealed("m"))
    assert wanted(path) == ()
    await write(path, document("s", "a", "b"))
    assert wanted(path) == ("rec-a",)  # of b nothing is held yet
    await write(path, same("b", 2))
    assert wanted(path) == ("rec-a", "rec-b")


NEWS = {
    "said": document("s", "a"),
    "held": kept("s"),
    "probed": probed("a"),
    "stated": next(one for one in ENTRIES if isinstance(one, TimeStated)),
    "its manifest is lost": AssetChanged("m", Damaged("a bit flipped", source_docked=False)),
}


@pytest.mark.parametrize("news", NEWS.values(), ids=NEWS)
async def test_each_kind_of_news_wants_another_one(path: Path, news: JournalEntry) -> None:
    before = [document("s", "a")] if news == kept("s") else []
    async with Journal.open(path, lambda: NOW) as journal:
        for entry in (*START, *before, *sealed("m")):
            await journal.record(entry)
        assert journal.reader.next_to_seal(NOW, NONE, DAY, 10) == ()
        await journal.record(news)
        assert journal.reader.next_to_seal(NOW, NONE, DAY, 10) == ("rec-a",)


async def test_what_the_store_says_is_no_news(path: Path) -> None:
    await write(path, *START, *sealed("m"), confirmed("a"), confirmed("m"))
    assert wanted(path) == ()
    await write(path, document("z", "a", said=Stamping("m", NOW)), kept("z"), confirmed("z"))
    assert wanted(path) == ()
    await write(path, AssetChanged("m", Damaged("gone", source_docked=False)))
    assert wanted(path) == ("rec-a",)


async def test_a_store_that_refuses_a_manifest_asks_for_no_other(path: Path) -> None:
    await write(path, *START, *sealed("m"), AssetChanged("m", Blocked("refused")))
    assert wanted(path) == ()


async def test_news_that_came_while_it_was_made_wants_another(path: Path) -> None:
    await write(path, *START, document("s", "a"), *sealed("m", covers=4))
    assert wanted(path) == ("rec-a",)
    await write(path, *sealed("n", 2, covers=7, after="m"))
    assert wanted(path) == ()


@pytest.mark.parametrize(
    "wrong",
    [
        sealed("n", 1)[0],
        sealed("n", 3, after="m")[0],
        sealed("n", 2)[0],
        sealed("n", 2, after="s")[0],
        sealed("n", 1, of="b")[0],
        document("n", "a", "b", said=Sealing(2, 9, digests_of("m").blake3)),
        document("n", "a", said=Stamping("s", NOW)),
        document("n", "b", said=Stamping("m", NOW)),
        document("n", "a", said=Stamping("a", NOW)),
    ],
)
async def test_what_does_not_follow_is_refused(path: Path, wrong: JournalEntry) -> None:
    await write(path, *START, document("s", "a"), *sealed("m"))
    with pytest.raises(JournalError):
        await write(path, wrong)


async def test_quiet_is_waited_for_and_a_clock_that_was_set_back_holds_nothing_up(path: Path) -> None:
    await write(path, *START)
    with closing(Reader(path)) as reader:
        quiet = timedelta(minutes=10)
        assert reader.next_to_seal(NOW + timedelta(minutes=9), quiet, DAY, 10) == ()
        assert reader.next_to_seal(NOW + quiet, quiet, DAY, 10) == ("rec-a",)
        assert reader.next_to_seal(NOW - DAY, quiet, DAY, 10) == ("rec-a",)


async def test_manifests_go_to_the_store_behind_every_original_and_before_what_was_made(path: Path) -> None:
    await write(path, *START, *sealed("m"), opened("d2"), seen("late", docking="d2", hours=24 * 365 * 20))
    await write(path, acquired("late", docking="d2"))
    with closing(Reader(path)) as reader:
        order = []
        while (due := reader.next_to_store(NOW, order)) is not None:
            order.append(due.asset.asset_id)
    assert order == ["a", "late", "m"]


async def test_only_the_newest_manifest_of_a_recording_is_stamped_once(path: Path) -> None:
    await write(path, *START, *sealed("m"), document("s", "a"), *sealed("n", 2, after="m"))
    async with Journal.open(path, lambda: NOW) as journal:
        asset = journal.reader.next_to_stamp(NOW, DAY)
        assert asset is not None
        assert (asset.asset_id, asset.role) == ("n", Role.MANIFEST)
        await journal.record(document("z", "a", said=Stamping("m", NOW)))  # the older one, which was under way
        assert journal.reader.next_to_stamp(NOW, DAY) is not None
        await journal.record(document("y", "a", said=Stamping("n", NOW)))
        assert journal.reader.next_to_stamp(NOW, DAY) is None
        assert [view.asset.asset_id for view in journal.reader.seals("rec-a")] == ["m", "n", "z", "y"]


async def test_a_manifest_names_all_that_is_known_of_a_recording_and_nothing_that_vouches_for_it(path: Path) -> None:
    await write(path, *START, document("s", "b", "a"), *sealed("m"), document("t", "b"))
    with closing(Reader(path)) as reader:
        number, previous, covers, assets = reader.belongings("rec-a")
    assert (number, previous, covers) == (2, digests_of("m").blake3, 8)
    assert [(asset.asset_id, is_sealed) for asset, is_sealed in assets] == [("a", True), ("s", False)]


async def test_a_journal_without_manifests_gets_the_rows_that_a_replay_gives(path: Path) -> None:
    await write(path, *START, document("s", "a"), same("b", 2), probed("a"))
    with closing(sqlite3.connect(path)) as db:
        before = db.execute("SELECT * FROM manifest").fetchall()
        assert before == [("rec-a", 7, sortable(NOW), 0, None, None), ("rec-b", 6, sortable(NOW), 0, None, None)]
        db.execute("DELETE FROM manifest")
        touch_all(db)
        assert any(touch_all in step for step in MIGRATIONS), "as a journal without it is migrated"
        db.commit()
        assert db.execute("SELECT * FROM manifest").fetchall() == before


NAMES = st.sampled_from(["a", "b", "c"])
NUMBERS = st.integers(1, 3)
HISTORY: st.SearchStrategy[JournalEntry] = st.one_of(
    st.builds(seen, NAMES, NUMBERS),
    st.builds(acquired, NAMES, NUMBERS),
    st.builds(lambda name: AssetChanged(name, Acquired(held(name))), st.sampled_from(["a", "s", "t", "m"])),
    st.builds(same, NAMES, NUMBERS),
    st.builds(document, st.sampled_from(["s", "t"]), NAMES),
    st.builds(probed, NAMES),
    st.builds(lambda name: AssetChanged(name, Damaged("a bit flipped", source_docked=False)), st.sampled_from("asm")),
    st.builds(lambda name: AssetChanged(name, Blocked("why")), st.sampled_from("asm")),
    st.builds(lambda name: AssetChanged(name, Resumed("officer", "why")), st.sampled_from("asm")),
    st.builds(confirmed, st.sampled_from("asm")),
    st.builds(
        lambda name, of, number, covers, after: sealed(name, number, covers, of=of, after=after)[0],
        st.sampled_from("mn"), NAMES, st.integers(1, 2), st.integers(0, 30), st.sampled_from(["", "m"]),
    ),
    st.builds(lambda of: document("z", of, said=Stamping("m", NOW)), NAMES),
)  # fmt: skip


def rows(log: Log) -> list[tuple[object, ...]]:
    return log.db.execute("SELECT * FROM manifest").fetchall()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=st.lists(HISTORY, max_size=30))
def test_whatever_happens_the_rows_follow_from_the_events_and_an_old_journal_gets_the_same(
    history: list[JournalEntry],
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "journal.db"
        with closing(Log(path, lambda: NOW)) as log:
            for entry in (opened(), seen("a"), *history):
                encoded = encode(entry)
                log.commit([lambda log, encoded=encoded: log.append([encoded])])  # type: ignore[misc]
            live = rows(log)
            log.db.execute("DELETE FROM manifest")
            if log.db.execute("SELECT 1 FROM document WHERE kind IN ('manifest', 'timestamp')").fetchone() is None:
                touch_all(log.db)
                assert rows(log) == live
            log.db.execute("DELETE FROM manifest")
            log.db.executemany("INSERT INTO manifest VALUES (?, ?, ?, ?, ?, ?)", live)
        assert_consistent(path)
