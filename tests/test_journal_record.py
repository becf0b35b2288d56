"""Recording: what an entry may say, that a call is all or nothing, and that groups don't mix what they carry."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import AgentError, CommitError, EvidenceError, JournalError
from agent.journal import Journal
from agent.journal.lock import WriterLock
from agent.journal.log import Job, Log
from agent.journal.projection import Projection
from agent.journal.schema import connect, migrate
from agent.journal.writer import GROUP_JOBS
from agent.model import (
    Acquired,
    Adopted,
    AssetChanged,
    AssetState,
    Basis,
    Blocked,
    ClipAccounted,
    ClipRefused,
    ClipSeen,
    DockingClosed,
    Finding,
    Incident,
    JournalEntry,
    Matched,
    Mode,
    Observed,
    Outcome,
    Resumed,
)
from tests.conftest import SettableClock
from tests.disks import faulty_share
from tests.journal_entries import (
    NOW,
    acquired,
    assert_consistent,
    clip,
    confirmed,
    digests_of,
    held,
    listed,
    opened,
    recording,
    seen,
    seen_again,
    wanted,
)


@pytest.fixture
async def journal(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Journal]:
    async with Journal.open(tmp_path / "journal.db", clock) as opened_journal:
        yield opened_journal
    assert_consistent(tmp_path / "journal.db")


async def record(journal: Journal, *entries: JournalEntry) -> None:
    for entry in entries:
        await journal.record(entry)


async def refused(journal: Journal, *entries: JournalEntry, match: str) -> None:
    """The call raises, and not one event of it is in the log."""
    before = journal.reader.overview(NOW).head_seq
    with pytest.raises(JournalError, match=match):
        await journal.record(*entries)
    assert journal.reader.overview(NOW).head_seq == before


async def test_a_docking_adds_up_at_every_moment(journal: Journal) -> None:
    await record(journal, opened(), *(seen(f"a{n}", n) for n in range(1, 5)))
    await record(journal, ClipRefused("d1", clip(5), "a loop"), listed(5), acquired("a1", 1))
    await record(journal, acquired("a2", 2, holes=((0, 512),)))
    match = AssetChanged("a3", Matched("a1", digests_of("a1")), "d1", 3, Outcome.ALREADY_HELD)
    await record(journal, match)
    now = journal.reader.accounting("d1")
    assert (now.seen, now.pending, now.pulled, now.already_held, now.refused, now.unreadable, now.left) == (
        *(5, 1, 1, 1, 1, 1, 0),
    )
    await record(journal, DockingClosed("d1", "yanked"))
    end = journal.reader.accounting("d1")
    assert (end.seen, end.pending, end.left) == (5, 0, 1)
    assert journal.reader.overview(NOW).clips[Outcome.LEFT].bytes == 1000


async def test_a_listing_is_complete_only_if_every_clip_is_recorded(journal: Journal) -> None:
    await record(journal, opened(), seen("a"))
    await refused(journal, listed(2), match="lists 2 clips, 1 of them")
    await record(journal, listed(1))
    await refused(journal, listed(1), match="listed already")
    await refused(journal, seen("b", 2), match="can't be listed now")
    await refused(journal, ClipRefused("d1", clip(2), "late"), match="no entry can be added")


@pytest.mark.parametrize(
    "entry",
    [
        seen("b", 2),
        ClipRefused("d1", clip(2), "x"),
        Observed("d1", Finding("gap", {})),
        listed(1),
        DockingClosed("d1", "again"),
        ClipAccounted("d1", 1, Outcome.UNREADABLE, Mode.PULL),
        acquired("a"),
        opened("d1"),
    ],
    ids=lambda entry: type(entry).__name__,
)
async def test_a_closed_docking_takes_nothing_more(journal: Journal, entry: JournalEntry) -> None:
    await record(journal, opened(), seen("a"), DockingClosed("d1", "yanked"))
    await refused(journal, entry, match=r"closed|pending|UNIQUE")


async def test_an_unknown_docking_or_asset_is_refused(journal: Journal) -> None:
    await refused(journal, seen("a"), match="unknown")
    await refused(journal, acquired("a"), match="unknown")
    await record(journal, opened("d2"))
    await refused(journal, seen_again("a"), match="unknown")


async def test_new_footage_brings_a_fresh_recording_and_asset(journal: Journal) -> None:
    await record(journal, opened())
    whole = seen("a")
    broken = [
        replace(whole, asset=None),
        replace(whole, recording=None),
        replace(whole, asset_id="other"),
        replace(whole, recording=recording("other")),
        replace(whole, asset=replace(wanted("a"), state=AssetState.HELD)),
        replace(whole, asset=replace(wanted("a"), digests=digests_of("a"))),
    ]
    for entry in broken:
        await refused(journal, entry, match="needs both|can't be new")
    await record(journal, whole)
    await refused(journal, seen("a", 2), match="UNIQUE")


async def test_pulled_needs_the_proof_and_all_bytes(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), seen("b", 2))
    await refused(journal, ClipAccounted("d1", 1, Outcome.PULLED, Mode.PULL), match="only with the proof")
    await refused(journal, replace(acquired("a", holes=((0, 9),)), outcome=Outcome.PULLED), match="can't settle")
    await refused(journal, replace(acquired("a"), outcome=Outcome.UNREADABLE), match="can't settle")
    await refused(journal, replace(acquired("a"), outcome=Outcome.ALREADY_HELD), match="can't settle")
    await refused(journal, replace(acquired("a"), outcome=None), match="can't settle")
    await refused(journal, replace(acquired("a"), number=2), match="isn't asset a")
    with pytest.raises(EvidenceError):
        await journal.record(acquired("a", size=999))
    await record(journal, acquired("a"))


async def test_already_held_needs_something_that_is_held(journal: Journal) -> None:
    claim = ClipAccounted("d2", 1, Outcome.ALREADY_HELD, Mode.CONFIRM)
    await record(journal, opened(), seen("a"), opened("d2"), seen_again("a"))
    await refused(journal, claim, match="isn't held")
    await record(journal, acquired("a"), claim)
    assert journal.reader.accounting("d2").already_held == 1


async def test_already_held_may_be_said_of_what_matched_a_held_asset(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), seen("b", 2), acquired("a"))
    await record(journal, AssetChanged("b", Matched("a", digests_of("a")), "d1", 2, Outcome.ALREADY_HELD))
    await record(journal, opened("d2"), seen_again("b"))
    await record(journal, ClipAccounted("d2", 1, Outcome.ALREADY_HELD, Mode.CONFIRM))


async def test_equal_content_is_held_once(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), seen("b", 2), acquired("a", content="same"))
    await refused(journal, acquired("b", 2, content="same"), match="already held as asset a")
    await record(journal, AssetChanged("a", Blocked("the store refuses")))
    await refused(journal, acquired("b", 2, content="same"), match="already held as asset a")
    match = AssetChanged("b", Matched("a", digests_of("same")), "d1", 2, Outcome.ALREADY_HELD)
    await record(journal, match)


async def test_matched_needs_an_asset_that_holds_this_content(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), seen("b", 2))
    for other, content in [("a", "a"), ("nobody", "a")]:
        await refused(journal, AssetChanged("b", Matched(other, digests_of(content))), match="doesn't hold|unknown")
    await record(journal, acquired("a"))
    await refused(journal, AssetChanged("b", Matched("a", digests_of("other"))), match="doesn't hold")


async def test_two_equal_clips_of_one_batch_become_one_original(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), seen("b", 2))
    match = AssetChanged("b", Matched("a", digests_of("same")), "d1", 2, Outcome.ALREADY_HELD)
    await journal.record(acquired("a", content="same"), match)
    assert journal.reader.accounting("d1").pulled == 1


async def test_what_matched_makes_the_original_as_urgent_as_itself(journal: Journal) -> None:
    await record(journal, opened(), seen("calm", 1, hours=90), seen("other", 2, hours=60), seen("hasty", 3, hours=10))
    await record(journal, acquired("calm", 1), acquired("other", 2))
    assert [view.asset.asset_id for view in journal.reader.recordings(state=AssetState.HELD)] == ["other", "calm"]
    match = AssetChanged("hasty", Matched("calm", digests_of("calm")), "d1", 3, Outcome.ALREADY_HELD)
    await record(journal, match)
    first = journal.reader.next_to_store(NOW)
    assert first is not None
    assert first.asset.asset_id == "calm"


async def test_what_matched_on_an_official_calendar_can_make_a_provisional_original_late(journal: Journal) -> None:
    provisional = replace(seen("a"), recording=recording("a", basis=Basis.PROVISIONAL))
    await record(journal, opened(), provisional, seen("b", 2, hours=-5), acquired("a"))
    assert journal.reader.overview(NOW).late == 1
    await record(journal, AssetChanged("b", Matched("a", digests_of("a")), "d1", 2, Outcome.ALREADY_HELD))
    assert journal.reader.overview(NOW).late == 1


async def test_a_clip_deferred_to_rescue_is_still_pending_and_settled_once(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), ClipAccounted("d1", 1, Outcome.PENDING, Mode.RESCUE, "bad sector"))
    assert [item.mode for item in journal.reader.next_clips("d1", 9)] == [Mode.RESCUE]
    await record(journal, ClipAccounted("d1", 1, Outcome.UNREADABLE, Mode.RESCUE, "nothing came"))
    await refused(journal, ClipAccounted("d1", 1, Outcome.LEFT, Mode.RESCUE), match="isn't pending")


async def test_a_clip_that_turned_out_to_be_other_footage_becomes_a_recording_of_its_own(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), acquired("a"), opened("d2"), seen_again("a"), listed(1, "d2"))
    await record(journal, replace(seen("b"), docking_id="d2"))
    assert [item.asset_id for item in journal.reader.next_clips("d2", 9)] == ["b"]
    assert journal.reader.accounting("d2").seen == 1
    other = ClipSeen("d2", clip(1, path="OTHER.MP4"), Mode.PULL, "b")
    await refused(journal, other, match="can't be listed now")
    await record(journal, acquired("b", docking="d2"))
    await refused(journal, replace(seen("c"), docking_id="d2"), match="can't be listed now")


async def test_a_vault_file_without_a_row_is_adopted_as_held(journal: Journal) -> None:
    await record(journal, Adopted(recording("a"), wanted("a"), held("a")))
    assert journal.reader.asset("a").state is AssetState.HELD
    await refused(journal, Adopted(recording("b"), wanted("b"), held("b", content="a")), match="already held")


async def test_of_two_who_change_the_same_asset_one_wins(journal: Journal) -> None:
    """The compare-and-swap: the loser is told, and nothing of what it said is kept."""
    await record(journal, opened(), seen("a"), acquired("a"))
    results = await asyncio.gather(*(journal.record(confirmed("a")) for _ in range(5)), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["JournalError"] * 4 + ["int"]


async def test_a_refused_call_takes_back_all_its_entries_and_none_of_its_neighbours(journal: Journal) -> None:
    await record(journal, opened())
    calls = [journal.record(seen(f"a{n}", n), *([acquired("nobody")] if n % 3 == 0 else [])) for n in range(30)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, JournalError) for result in results] == [n % 3 == 0 for n in range(30)]
    assert journal.reader.accounting("d1").seen == 20


async def test_names_and_reasons_that_no_text_column_takes_are_kept_all_the_same(journal: Journal) -> None:
    """A card may say anything: lone surrogates, control characters, right-to-left marks."""
    path = "DCIM/\ud800\x07\u202e.MP4"
    await record(journal, opened(), ClipRefused("d1", clip(1, path=path), f"bad name {path}"))
    await record(journal, replace(seen("a", 2), clip=clip(2, path=path)))
    await record(journal, AssetChanged("a", Blocked(path)))
    assert journal.reader.next_clips("d1", 1)[0].clip.path == path
    assert "\\ud800" in journal.reader.asset("a").reason


async def test_numbers_that_no_column_takes_are_refused_and_harm_nobody(journal: Journal) -> None:
    await record(journal, opened())
    await refused(journal, ClipRefused("d1", clip(1, size=2**63), "absurd"), match="too large")
    await record(journal, seen("a"))


async def test_no_entries_are_no_event(journal: Journal) -> None:
    assert await journal.record() == 0
    assert journal.reader.overview(NOW).head_seq == 0


async def test_record_tells_the_sequence_number_of_its_last_event(journal: Journal) -> None:
    assert await journal.record(opened(), seen("a")) == 2
    assert await journal.record(Incident("x")) == 3


async def test_what_record_returned_is_seen_by_the_reader(journal: Journal) -> None:
    await record(journal, opened())
    for number in range(50):
        await record(journal, seen(f"a{number}", number))
        assert journal.reader.asset(f"a{number}").state is AssetState.WANTED


async def test_a_cancelled_call_happens_whole_or_not_at_all_and_others_go_on(journal: Journal) -> None:
    await record(journal, opened())
    calls = [asyncio.ensure_future(journal.record(seen(f"a{n}", 2 * n), seen(f"b{n}", 2 * n + 1))) for n in range(40)]
    await asyncio.sleep(0)
    for call in calls[::2]:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 20
    await record(journal, Incident("after"))
    seen_names = {view.asset.asset_id for view in journal.reader.recordings(limit=100)}
    assert {f"{kind}{n}" for n in range(1, 40, 2) for kind in "ab"} <= seen_names
    assert all((f"a{n}" in seen_names) == (f"b{n}" in seen_names) for n in range(40))


async def test_more_calls_than_the_queue_holds_wait_their_turn(journal: Journal) -> None:
    await record(journal, opened())
    await asyncio.gather(*(journal.record(seen(f"a{n}", n)) for n in range(3000)))
    assert journal.reader.accounting("d1").seen == 3000


async def test_notes_come_back_and_end_with_the_change_they_led_to(journal: Journal, clock: SettableClock) -> None:
    await record(journal, opened(), seen("a"))
    assert await journal.begun(["a"]) == [1]
    assert await journal.begun(["a", "b"]) == [2, 1]
    assert await journal.failed("a", "read error \ud800", clock()) == 1
    attempt = journal.reader.attempt("a")
    assert attempt is not None
    assert (attempt.begun, attempt.failed, attempt.next_at) == (2, 1, clock())
    await record(journal, AssetChanged("a", Blocked("three times")), AssetChanged("a", Resumed("officer", "again")))
    assert journal.reader.attempt("a") is None


async def test_events_carry_the_time_of_the_clock_even_when_it_goes_back(
    journal: Journal, clock: SettableClock
) -> None:
    first = clock()
    await record(journal, Incident("one"))
    clock.advance(-86400)
    await record(journal, Incident("two"))
    assert [event.at for event in journal.reader.events()] == [first, clock()]


async def test_a_second_process_is_refused_and_told_who_writes(journal: Journal, tmp_path: Path) -> None:
    program = (
        "import sys, pathlib\nfrom datetime import UTC, datetime\nfrom agent.errors import JournalError\n"
        "from agent.journal import Journal\n"
        "try:\n    Journal.open(pathlib.Path(sys.argv[1]), lambda: datetime.now(UTC))\n"
        "except JournalError as error:\n    print(error)\n"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, str(tmp_path / "journal.db")],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert f"Process {os.getpid()} writes the journal" in done.stdout
    with pytest.raises(JournalError, match="writes the journal"):
        WriterLock(tmp_path / "journal.db")


async def test_a_closed_journal_refuses_and_can_be_opened_again(tmp_path: Path, clock: SettableClock) -> None:
    path = tmp_path / "journal.db"
    first = Journal.open(path, clock)
    await first.record(opened())
    await first.close()
    await first.close()
    with pytest.raises(JournalError, match="closed"):
        await first.record(Incident("late"))
    async with Journal.open(path, clock) as second:
        await second.record(seen("a"))
        assert [event.seq for event in second.reader.events()] == [1, 2]


async def test_closing_commits_what_was_asked_before(tmp_path: Path, clock: SettableClock) -> None:
    path = tmp_path / "journal.db"
    journal = Journal.open(path, clock)
    calls = [asyncio.ensure_future(journal.record(Incident("x", {"n": n}))) for n in range(500)]
    await asyncio.sleep(0)
    await journal.close()
    assert await asyncio.gather(*calls) == list(range(1, 501))


def test_a_missing_folder_is_told_in_words(tmp_path: Path, clock: SettableClock) -> None:
    with pytest.raises(JournalError, match=r"can't be opened.*Check that the folder exists"):
        Journal.open(tmp_path / "nowhere" / "journal.db", clock)


async def test_a_held_asset_needs_no_docking_to_change(journal: Journal) -> None:
    await record(journal, opened(), seen("a"), DockingClosed("d1", "yanked"))
    await record(journal, AssetChanged("a", Acquired(held("a"))), confirmed("a"))
    assert journal.reader.asset("a").state is AssetState.STORED


async def test_calls_that_wait_share_a_commit(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[int] = []
    commit = Log.commit

    def counted(log: Log, jobs: Sequence[Job]) -> list[list[int] | AgentError]:
        groups.append(len(jobs))
        return commit(log, jobs)

    monkeypatch.setattr(Log, "commit", counted)
    await asyncio.gather(*(journal.record(Incident("x", {"n": n})) for n in range(600)))
    assert sum(groups) == 600
    assert max(groups) <= GROUP_JOBS
    assert len(groups) < 300, "far fewer commits than calls"


async def test_the_calls_of_one_task_are_logged_in_their_order(journal: Journal) -> None:
    async def work(name: str) -> None:
        for number in range(30):
            await journal.record(Incident(name, {"n": number}))

    await asyncio.gather(*(work(f"task{n}") for n in range(8)))
    told = [json.loads(event.detail) for event in journal.reader.events(limit=1000)]
    for n in range(8):
        assert [entry["detail"]["n"] for entry in told if entry["kind"] == f"task{n}"] == list(range(30))


async def test_readers_never_see_half_a_call(journal: Journal) -> None:
    await record(journal, opened())
    counts: set[int] = set()
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            counts.add(journal.reader.accounting("d1").seen)

    watcher = asyncio.get_running_loop().run_in_executor(None, watch)
    for first in range(0, 200, 10):
        await journal.record(*(seen(f"a{n}", n) for n in range(first, first + 10)))
    stop.set()
    await watcher
    assert counts <= set(range(0, 201, 10))


async def test_a_detail_that_changes_after_the_call_is_recorded_as_it_was(journal: Journal) -> None:
    detail: dict[str, object] = {"n": 1}
    call = asyncio.ensure_future(journal.record(Incident("x", detail)))
    await asyncio.sleep(0)
    detail["n"] = 2
    await call
    assert journal.reader.events()[0].detail == '{"detail":{"n":1},"kind":"x"}'


def test_a_counter_counts_only_events_that_were_applied_and_jobs_that_were_done(tmp_path: Path) -> None:
    with closing(connect(tmp_path / "journal.db", write=True)) as db:
        migrate(db, tmp_path)
        projection = Projection(db)

        def rows() -> list[tuple[object, ...]]:
            return db.execute("SELECT * FROM counter WHERE scope = 'asset' ORDER BY name").fetchall()

        projection.apply(1, "", opened())
        projection.apply(2, "", seen("a"))
        with pytest.raises(JournalError):
            projection.apply(3, "", replace(seen("b", 2), asset_id="c"))
        projection.apply(3, "", acquired("a"))
        assert rows() == []
        projection.flush()
        assert rows() == [("asset", "held", 1, 1000), ("asset", "wanted", 0, 0)]
        projection.apply(4, "", seen("d", 4))
        projection.forget()
        projection.flush()
        assert rows()[1] == ("asset", "wanted", 0, 0)


@pytest.mark.root
async def test_what_writes_nothing_does_not_tell_that_the_disk_works(tmp_path: Path, clock: SettableClock) -> None:
    """A question that goes through the writer, and a job that is refused, ask nothing of the disk."""
    (behind := tmp_path / "behind").mkdir()
    with faulty_share(behind, tmp_path / "share") as share:
        async with Journal.open(share.path / "journal.db", clock) as journal:
            await journal.record(Incident("started"))
            share.fail(write=errno.EDQUOT)
            with pytest.raises(CommitError):
                await journal.record(Incident("stopped"))
            trouble = journal.trouble
            assert trouble
            assert not await journal.written_by_others()
            assert journal.trouble == trouble
            with pytest.raises(JournalError):
                await journal.record(DockingClosed("unknown", "complete"))
            assert journal.trouble
            share.fail()
            await journal.record(Incident("stopped"))
            assert not journal.trouble
