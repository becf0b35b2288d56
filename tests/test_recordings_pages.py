"""Promise: a page of recordings has what was asked for, in order, whole; and costs the same however many there are."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from agent.journal import Journal, Reader
from agent.journal.captured import PAGES
from agent.journal.recordings import Page, Sort, Wanted
from agent.journal.schema import MIGRATIONS, connect, migrate
from agent.journal.views import RecordingView
from agent.model import AssetState, Completeness, JournalEntry, Stated, TimeStated
from tests.journal_entries import NOW, acquired, assert_consistent, confirmed, document, opened, probed, seen, write

COUNT: Final = 60
DEVICES: Final = ("device", "other")


def entries(dice: random.Random) -> list[JournalEntry]:
    """Recordings of two recorders in different states, captured and due in no order, some at the same time."""
    made: list[JournalEntry] = [opened(f"d-{name}", name) for name in DEVICES]
    for number in range(COUNT):
        name, device = f"{dice.randrange(16):x}{number:02}", dice.choice(DEVICES)
        docking, size = f"d-{device}", dice.randrange(1, 6) * 100
        one = seen(name, number, docking, size=size, hours=dice.randrange(-4, 8))
        assert one.recording is not None
        captured = NOW - timedelta(hours=dice.randrange(12))
        recording = replace(one.recording, device_id=device, captured_latest=captured)
        made.append(replace(one, recording=recording))
        state = dice.randrange(3)
        if state:
            made.append(acquired(name, number, docking, size=size))
        if state == 2:
            made.append(confirmed(name, size))
        if not dice.randrange(4):
            limit = recording.deadline
            said = Stated(NOW - timedelta(minutes=dice.randrange(600)), "张三", "时钟复位")
            made.append(TimeStated(name, said, limit, replace(limit, start=said.made_at)))
    return made


@pytest.fixture(params=range(3))
async def reader(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Reader]:
    path = tmp_path / "journal.db"
    async with Journal.open(path, lambda: NOW) as journal:
        await journal.record(*entries(random.Random(request.param)))
        yield journal.reader
    assert_consistent(path)


def captured(view: RecordingView) -> datetime:
    return view.stated.made_at if view.stated else view.recording.captured_latest


KEYS: Final[dict[Sort, Callable[[RecordingView], tuple[Any, ...]]]] = {
    Sort.NEWEST: lambda view: (view.asset.asset_id,),
    Sort.DEADLINE: lambda view: (view.recording.deadline.alarm_at, view.asset.asset_id),
    Sort.CAPTURED: lambda view: (captured(view), view.asset.asset_id),
    Sort.SIZE: lambda view: (view.asset.expected_bytes, view.asset.asset_id),
}
FILTERS: Final[dict[str, tuple[dict[str, Any], Callable[[RecordingView], bool]]]] = {
    "all": ({}, lambda view: True),
    "held": ({"state": AssetState.HELD}, lambda view: view.asset.state is AssetState.HELD),
    "stuck": ({"state": AssetState.STUCK}, lambda view: False),
    "not safe": ({"unsafe": True}, lambda view: view.asset.receipt is None),
    "some hours": (
        {"captured_from": NOW - timedelta(hours=8), "captured_before": NOW - timedelta(hours=3)},
        lambda view: NOW - timedelta(hours=8) <= captured(view) < NOW - timedelta(hours=3),
    ),
    "id": ({"id_begins": "a"}, lambda view: view.asset.asset_id.startswith("a")),
    "id of the recording": ({"id_begins": "rec-1"}, lambda view: view.recording.recording_id.startswith("rec-1")),
    "device": ({"device_id": "other"}, lambda view: view.recording.device_id == "other"),
    "incomplete": ({"completeness": Completeness.INCOMPLETE}, lambda view: True),
    "checked": ({"completeness": Completeness.CHECKED}, lambda view: False),
    "all of them": (
        {"state": AssetState.STORED, "device_id": "device", "captured_from": NOW - timedelta(hours=9)},
        lambda view: (
            view.asset.state is AssetState.STORED
            and view.recording.device_id == "device"
            and captured(view) >= NOW - timedelta(hours=9)
        ),
    ),
    "accepted": (
        {"accepts": lambda view: view.asset.expected_bytes > 200, "state": AssetState.WANTED},
        lambda view: view.asset.expected_bytes > 200 and view.asset.state is AssetState.WANTED,
    ),
}


def through(reader: Reader, wanted: Wanted, limit: int) -> tuple[list[RecordingView], list[Page]]:
    """All pages, each from where the one before ended."""
    found, pages, after = [], [reader.page(wanted, "", limit)], ""
    while True:
        found += pages[-1].rows
        if pages[-1].after is None:
            return found, pages
        assert pages[-1].after != after, "every page leads on"
        after = pages[-1].after
        pages.append(reader.page(wanted, after, limit))


@pytest.mark.parametrize("scanned", [7, 2000])
def test_pages_have_all_that_is_wanted_in_order_and_nothing_else(
    reader: Reader, scanned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every order and filter, also where a page ends because it has looked at enough."""
    monkeypatch.setattr("agent.journal.recordings._SCANNED", scanned)
    monkeypatch.setattr("agent.journal.recordings._CHUNK", 3)
    everything = reader.page(Wanted(), limit=COUNT).rows
    assert len(everything) == COUNT
    for sort, key in KEYS.items():
        for name, (chosen, fits) in FILTERS.items():
            expected = sorted(filter(fits, everything), key=key, reverse=sort is not Sort.DEADLINE)
            for limit in (4, 50):
                found, pages = through(reader, Wanted(sort, **chosen), limit)
                names = [view.asset.asset_id for view in found]
                assert names == [view.asset.asset_id for view in expected], (sort, name, limit)
                assert all(len(page.rows) <= limit for page in pages)


def test_a_page_looks_at_no_more_than_it_may(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fits to nothing ends with a place to go on from, not with a look at everything."""
    monkeypatch.setattr("agent.journal.recordings._SCANNED", 10)
    monkeypatch.setattr("agent.journal.recordings._CHUNK", 5)
    looked: list[int] = []
    run = reader._db.all
    monkeypatch.setattr(
        reader._db, "all", lambda query, *values: (rows := run(query, *values), looked.append(len(rows)))[0]
    )
    page = reader.page(Wanted(Sort.SIZE, device_id="nobody's"))
    assert page.rows == ()
    assert page.after is not None
    assert sum(looked) <= 20


@pytest.mark.parametrize(
    "after", ["nonsense", "/", "a/b/c", "-1/x", "9" * 40 + "/x", "'; DROP TABLE event; --", "\u6267"]
)
def test_any_text_is_a_place(reader: Reader, after: str) -> None:
    for sort in Sort:
        reader.page(Wanted(sort, state=AssetState.HELD), after)


async def test_the_content_and_a_person_tell_when_it_was_captured(tmp_path: Path) -> None:
    """In the order of the table too, and after a migration as when it was entered."""
    path = tmp_path / "journal.db"
    await write(
        path, opened(), *(seen(name, n) for n, name in enumerate("abc")), *(acquired(n, i) for i, n in enumerate("abc"))
    )
    await write(path, probed("b"), document("doc", "a"))
    assert_consistent(path)
    with closing(connect(path, write=True)) as db:
        before = db.execute("SELECT asset_id, captured_at FROM asset ORDER BY asset_id").fetchall()
        for index in ("asset_by_alarm", "asset_by_capture", "asset_by_size"):
            db.execute(f"DROP INDEX {index}")
        db.execute("ALTER TABLE asset DROP COLUMN captured_at")
        for table in ("session_test", "session_note", "session_segment", "session"):
            db.execute(f"DROP TABLE {table}")  # the version after the one that is looked at
        db.execute(f"PRAGMA user_version = {MIGRATIONS.index(PAGES)}")
        migrate(db, path)
        assert db.execute("SELECT asset_id, captured_at FROM asset ORDER BY asset_id").fetchall() == before
    assert [name for name, at in before if not at] == ["doc"], "only an original was captured"
