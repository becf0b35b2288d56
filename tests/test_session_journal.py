"""Sessions of rooms in the journal: what may follow what, what is answered of them, and how quickly."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import JournalError, UnknownError
from agent.journal import Journal, Reader, rebuild
from agent.journal.segments import continuity_of
from agent.journal.views import Tally
from agent.kit.contents import Wanted, chosen
from agent.model import Acquired, AssetChanged, SessionEnded, SessionNoted, SessionTested
from agent.states import folded
from agent.status.custody import custody_view
from agent.status.record import known_of
from tests.journal_entries import NOW, activity, assert_consistent, held, segment_taken, session_started, write

ENDED = SessionEnded("s1", NOW + timedelta(hours=2), "张三", "结束", "stopped")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def reader(path: Path) -> Iterator[Reader]:
    with closing(Reader(path)) as reader:
        yield reader


async def refused(path: Path, *entries: object) -> str:
    async with Journal.open(path, lambda: NOW) as journal:
        with pytest.raises(JournalError) as refusal:
            await journal.record(*entries)  # type: ignore[arg-type]
    return refusal.value.what


async def test_a_session_is_told_with_everything_in_its_order(path: Path) -> None:
    gap = SessionNoted("s1", "cam", "gap", NOW + timedelta(seconds=9))
    over = replace(gap, end=NOW + timedelta(seconds=20), cause="stalled")
    late = SessionNoted("s1", "", "late", NOW)
    test = SessionTested("s1", "xunwen", NOW, True, {"disk": "ok"})
    taken = [segment_taken("a"), segment_taken("b", source="other"), segment_taken("c", 2)]
    await write(path, test, session_started(), taken[0], gap, late, taken[1], over, taken[2], ENDED)
    with closing(Reader(path)) as reader:
        view = reader.session("s1")
        assert view.started == session_started()
        assert view.ended == ENDED
        assert view.segments == tuple(taken)
        assert view.notes == (late, over)
        assert view.tests == (test,)
        assert reader.newest_test("xunwen") == test
        assert reader.session_tally("s1") == Tally(3, 3000)
        assert reader.session_of("rec-c") == taken[2]
        assert reader.unsaid("s1") == ("rec-a", "rec-b", "rec-c")
        assert reader.open_sessions() == ()
        with pytest.raises(UnknownError):
            reader.session("s9")
    assert_consistent(path)
    rebuild(path)
    assert_consistent(path)


async def test_the_newest_of_a_room_come_first_and_what_is_open_is_known(path: Path) -> None:
    later = session_started("s2", started_at=NOW + timedelta(hours=3), scheduled="uid-7")
    elsewhere = session_started("s3", "tingzheng")
    await write(path, session_started(), ENDED, later, elsewhere)
    with closing(Reader(path)) as reader:
        assert [one.started.session_id for one in reader.sessions_of("xunwen", 9)] == ["s2", "s1"]
        assert [one.started.session_id for one in reader.sessions_of("xunwen", 1)] == ["s2"]
        assert [one.started.session_id for one in reader.open_sessions()] == ["s2", "s3"]
        assert reader.was_scheduled("xunwen", "uid-7")
        assert not reader.was_scheduled("tingzheng", "uid-7")
        assert not reader.was_scheduled("xunwen", "")


async def test_what_can_not_be_is_refused(path: Path) -> None:
    await write(path, session_started(), segment_taken("a"))
    assert "is running in room xunwen" in await refused(path, session_started("s2"))
    assert "was taken already" in await refused(path, segment_taken("b"))
    assert "unknown" in await refused(path, segment_taken("b", session_id="s9"))
    assert "unknown" in await refused(path, SessionNoted("s9", "cam", "gap", NOW))
    assert "unknown" in await refused(path, replace(ENDED, session_id="s9"))
    await write(path, ENDED)
    assert "ended already" in await refused(path, ENDED)
    await write(path, segment_taken("b", 2), session_started("s2"))  # found lying after its session had ended
    assert_consistent(path)


async def test_a_segment_is_a_recording_like_any_other_and_its_history_names_its_session(path: Path) -> None:
    got = AssetChanged("a", Acquired(held("a")))
    await write(path, session_started(), segment_taken("a"), got, ENDED)
    with closing(Reader(path)) as reader:
        row = reader.recording("a")
        assert row.segment == segment_taken("a")
        assert row.name == "cam-000001.mp4"
        assert row.captured[:2] == (NOW + timedelta(minutes=1),) * 2
        assert reader.unjoined(9) == ()
        told = custody_view(reader, known_of(reader, "a"))
        assert [one["kind"] for one in told] == ["session_started", "segment_taken", "acquired", "session_ended"]
        assert folded([segment_taken("a"), got]) == reader.asset("a")
        assert known_of(reader, "a").session_id == "s1"


async def test_segments_cover_what_the_stations_clock_says(path: Path) -> None:
    """Before anybody has read their content; a gap is known to the second."""
    taken = [segment_taken("a"), segment_taken("b", 2), segment_taken("d", 4), segment_taken("e", 2, source="other")]
    stated = activity("a", "b", "d", "e", left_at=NOW + timedelta(minutes=4))
    await write(path, session_started(), *taken, stated)
    with closing(Reader(path)) as reader:
        (gap,) = continuity_of(reader.activity("act")).gaps
        assert (gap.start, gap.end) == (NOW + timedelta(minutes=2), NOW + timedelta(minutes=3))
        assert not gap.doubtful


async def test_eight_hours_of_four_cameras_are_one_activity(path: Path) -> None:
    names = [(f"{source}{number}", number, source) for number in range(1, 481) for source in "abcd"]
    async with Journal.open(path, lambda: NOW) as journal:
        await journal.record(session_started(), *(segment_taken(name, n, source=cam) for name, n, cam in names))
        await journal.record(activity(*(name for name, _, _ in names), left_at=NOW + timedelta(hours=8)))
        view = journal.reader.activity("act")
        assert len(view.recordings) == 1920
        assert continuity_of(view).gaps == ()
        assert len(chosen(journal.reader, Wanted(activities=("act",)))) == 1920


@pytest.mark.parametrize(
    "query",
    [
        "SELECT 1 FROM session WHERE room = 'r' ORDER BY started_at DESC, session_id DESC LIMIT 9",
        "SELECT 1 FROM session INDEXED BY session_open WHERE ended_seq IS NULL ORDER BY session_id",
        "SELECT 1 FROM session WHERE room = 'r' AND scheduled = 'u' AND scheduled <> ''",
        "SELECT 1 FROM session_segment WHERE session_id = 's'",
        "SELECT 1 FROM session_segment WHERE recording_id = 'r'",
        "SELECT 1 FROM session_test WHERE room = 'r' ORDER BY seq DESC LIMIT 1",
    ],
)
async def test_no_question_walks_through_all_sessions(path: Path, query: str) -> None:
    await write(path)
    with closing(sqlite3.connect(path)) as db:
        plan = " ".join(row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {query}"))
    assert "USING" in plan
