"""What the reader answers: order of work, what is known, what was under way, and pages that stay stable."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.errors import JournalError, UnknownError
from agent.journal import Journal, Reader
from agent.journal.codec import decode
from agent.journal.views import DurableBlock, SettledNote
from agent.model import (
    Acquired,
    AssetChanged,
    AssetState,
    Basis,
    Blocked,
    ClipAccounted,
    ClipRefused,
    DockingClosed,
    Finding,
    Incident,
    JournalEntry,
    Matched,
    Mode,
    Observed,
    Outcome,
    Resumed,
    Stamp,
)
from agent.vault import Settled
from tests.conftest import SettableClock
from tests.journal_entries import (
    DEVICE,
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
)


@pytest.fixture
async def journal(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Journal]:
    clock.set(NOW)
    async with Journal.open(tmp_path / "journal.db", clock) as opened_journal:
        yield opened_journal
    assert_consistent(tmp_path / "journal.db")


@pytest.fixture
def reader(journal: Journal) -> Reader:
    return journal.reader


async def record(journal: Journal, *entries: JournalEntry) -> None:
    for entry in entries:
        await journal.record(entry)


async def test_incidents_of_a_kind_since_a_time_are_told_newest_first(
    journal: Journal, reader: Reader, clock: SettableClock
) -> None:
    await record(journal, Incident("missed", {"n": 0}))
    clock.advance(60)
    since = clock()
    await record(journal, Incident("missed", {"n": 1}), Incident("other"), Incident("missed", {"n": 2}))
    assert [one.detail["n"] for one in reader.incidents_of("missed", since, 10)] == [2, 1]
    assert [one.detail["n"] for one in reader.incidents_of("missed", since - timedelta(hours=1), 10)] == [2, 1, 0]
    assert [one.detail["n"] for one in reader.incidents_of("missed", since, 1)] == [2]


async def test_next_clips_gives_new_footage_then_rescue_then_confirmation_each_by_deadline(
    journal: Journal, reader: Reader
) -> None:
    await record(journal, opened(), seen("old", 9, hours=1), acquired("old", 9), opened("d2"))
    await record(journal, seen_again("old", 1, "d2"))
    for number, hours in [(2, 30), (3, 10), (4, 20), (5, 10)]:
        await record(journal, seen(f"a{number}", number, "d2", hours=hours))
    await record(journal, ClipAccounted("d2", 3, Outcome.PENDING, Mode.RESCUE))
    order = [(item.clip.number, item.mode, item.asset_id) for item in reader.next_clips("d2", 9)]
    assert order == [
        (5, Mode.PULL, "a5"),
        (4, Mode.PULL, "a4"),
        (2, Mode.PULL, "a2"),
        (3, Mode.RESCUE, "a3"),
        (1, Mode.CONFIRM, "old"),
    ]
    assert [item.clip.number for item in reader.next_clips("d2", 4)] == [5, 4, 2, 3]
    assert [item.clip.number for item in reader.next_clips("d2", 2, {5, 3})] == [4, 2]
    assert [item.clip.number for item in reader.next_clips("d2", 9, {5, 3})] == [4, 2, 1]
    assert reader.next_clips("d2", 9)[0].clip == clip(5)
    assert reader.next_clips("unknown", 9) == []


async def test_the_most_urgent_original_is_stored_first_but_not_one_that_waits_after_a_failure(
    journal: Journal, reader: Reader
) -> None:
    await record(journal, opened())
    for number, hours in [(1, 30), (2, 10), (3, 20)]:
        await record(journal, seen(f"a{number}", number, hours=hours), acquired(f"a{number}", number))

    def next_one(after_s: float = 0, taken: tuple[str, ...] = ()) -> str:
        due = reader.next_to_store(NOW + timedelta(seconds=after_s), taken)
        return due.asset.asset_id if due else ""

    assert next_one() == "a2"
    assert next_one(taken=("a2", "a3")) == "a1"
    assert next_one(taken=("a1", "a2", "a3")) == ""
    await journal.failed("a2", "the store is away", NOW + timedelta(seconds=60))
    assert (next_one(), next_one(59), next_one(60)) == ("a3", "a3", "a2")
    await record(journal, AssetChanged("a3", Blocked("refused")), confirmed("a1"))
    assert (next_one(), next_one(61)) == ("", "a2")
    assert next_one(-10 * 365 * 86400) == "a2", "the clock was set back: no pause is that long"
    assert reader.next_to_store(NOW, longest_pause=timedelta(seconds=59)) is not None
    await record(journal, AssetChanged("a3", Resumed("officer", "mended")))
    assert next_one() == "a3"


async def test_a_clip_is_known_only_by_device_path_raw_name_size_and_stamp_together(
    journal: Journal, reader: Reader
) -> None:
    await record(journal, opened(), seen("a", 1))
    like = clip(1)
    assert [asset.asset_id for asset in reader.known_clips("device", replace(like, number=77, created=Stamp("x")))] == [
        "a"
    ]
    for other in (
        replace(like, path="DCIM/101/视频00001.MP4"),
        replace(like, raw_name=b"x"),
        replace(like, size_bytes=1001),
        replace(like, modified=Stamp("2026-07-06T08:00:02")),
        replace(like, modified=Stamp(like.modified.local, 480)),
    ):
        assert reader.known_clips("device", other) == ()
    assert reader.known_clips("cloned", like) == ()


async def test_of_several_recordings_that_a_clip_may_be_the_latest_seen_comes_first(
    journal: Journal, reader: Reader
) -> None:
    await record(journal, opened(), seen("a"), acquired("a"), opened("d2"), replace(seen("b"), docking_id="d2"))
    assert [asset.asset_id for asset in reader.known_clips("device", clip(1))] == ["b", "a"]
    await record(journal, opened("d3"), seen_again("a", 1, "d3"))
    assert [asset.asset_id for asset in reader.known_clips("device", clip(1))] == ["a", "b"]


async def test_a_refused_clip_is_known_as_nothing(journal: Journal, reader: Reader) -> None:
    await record(journal, opened(), ClipRefused("d1", clip(1), "a loop"))
    assert reader.known_clips("device", clip(1)) == ()


async def test_content_is_found_by_its_digest_in_the_states_that_are_asked_for(
    journal: Journal, reader: Reader
) -> None:
    digest = digests_of("a").blake3
    await record(journal, opened(), seen("a"), seen("b", 2))
    assert reader.asset_by_blake3(digest, tuple(AssetState)) is None
    await record(journal, acquired("a"))
    await record(journal, AssetChanged("b", Matched("a", digests_of("a")), "d1", 2, Outcome.ALREADY_HELD))
    found = reader.asset_by_blake3(digest, [AssetState.HELD])
    assert found is not None
    assert found.asset_id == "a"
    assert reader.asset_by_blake3(digest, [AssetState.STORED]) is None
    assert {asset.asset_id for asset in reader.assets_with({digest, digests_of("b").blake3})} == {"a", "b"}
    assert reader.assets_with(()) == []
    await record(journal, AssetChanged("a", Blocked("refused")))
    kept = reader.kept_asset(digest)
    assert kept is not None
    assert kept.asset_id == "a"


async def test_an_unknown_asset_is_told_in_words(reader: Reader) -> None:
    with pytest.raises(JournalError, match="There is no"):
        reader.asset("x")
    with pytest.raises(UnknownError, match="nothing of such a name"):
        reader.asset("\udcff")
    assert reader.accounting("x").seen == 0


async def test_what_was_under_way_when_the_process_ended_comes_back(tmp_path: Path, clock: SettableClock) -> None:
    path = tmp_path / "journal.db"
    note = SettledNote(Settled("b", 1000, digests_of("b")), ((0, 512),))
    async with Journal.open(path, clock) as journal:
        await record(journal, opened(), seen("a", 1), seen("b", 2))
        for index in range(3):
            await journal.block("a", DurableBlock(index, 100, f"{index:02}", ((5, index + 1),)))
        await journal.settled([note])
    async with Journal.open(path, clock) as journal:
        reader = journal.reader
        assert reader.blocks("a") == tuple(DurableBlock(i, 100, f"{i:02}", ((5, i + 1),)) for i in range(3))
        assert reader.settled() == (note,)
        assert (reader.is_settled(digests_of("b").blake3), reader.is_settled("00")) == (True, False)
        assert reader.open_dockings() == ("d1",)
        assert reader.open_clip_of("b") == ("d1", 2)
        await record(journal, acquired("b", 2, holes=((0, 512),)))
        assert reader.settled() == ()
        assert reader.open_clip_of("b") is None
        await record(journal, AssetChanged("a", Blocked("why")))
        assert len(reader.blocks("a")) == 3
        await journal.unsettled("a")
        assert reader.blocks("a") == ()


async def test_a_block_that_is_written_again_voids_those_behind_it(journal: Journal, reader: Reader) -> None:
    for index in range(4):
        await journal.block("a", DurableBlock(index, 100, "old"))
    await journal.block("a", DurableBlock(1, 100, "new"))
    assert [(block.index, block.blake3) for block in reader.blocks("a")] == [(0, "old"), (1, "new")]


async def test_the_last_dock_out_is_that_of_the_newest_docking_that_was_listed_and_ended(
    journal: Journal, reader: Reader, clock: SettableClock
) -> None:
    assert reader.last_dock_out("device") is None
    await record(journal, opened())
    assert reader.last_dock_out("device") is None
    clock.advance(60)
    await record(journal, listed(0), DockingClosed("d1", "complete"), opened("d2"), opened("d3", "other"))
    assert reader.last_dock_out("device") == NOW + timedelta(seconds=60)
    clock.advance(60)
    await record(journal, DockingClosed("d2", "yanked before the listing was complete"))
    assert reader.last_dock_out("device") == NOW + timedelta(seconds=60)
    assert reader.last_dock_out("other") is None


async def test_the_overview_counts_everything_once(journal: Journal, reader: Reader) -> None:
    await record(journal, opened(), *(seen(f"a{n}", n, hours=n - 2) for n in range(5)), acquired("a0", 0))
    await record(journal, confirmed("a0"), acquired("a1", 1), ClipRefused("d1", clip(9), "a loop"), listed(6))
    overview = reader.overview(NOW)
    assert {state: tally.files for state, tally in overview.assets.items() if tally.files} == {
        AssetState.WANTED: 3,
        AssetState.HELD: 1,
        AssetState.STORED: 1,
    }
    assert overview.assets[AssetState.WANTED].bytes == 3000
    assert overview.clips[Outcome.REFUSED].files == 1
    assert overview.late == 2  # a1 and a2; a0 was late, and is safe
    assert (overview.open_dockings, overview.head_seq) == (1, 11)


async def ten(journal: Journal) -> None:
    await record(journal, opened(), *(seen(f"a{n}", n, hours=10 - n) for n in range(10)))


def names(rows: tuple[object, ...]) -> list[str]:
    return [row.asset.asset_id for row in rows]  # type: ignore[attr-defined]


async def test_pages_without_filter_show_the_newest_first(journal: Journal, reader: Reader) -> None:
    await ten(journal)
    first = reader.recordings(limit=4)
    assert names(first) == ["a9", "a8", "a7", "a6"]
    assert names(reader.recordings(limit=4, after=first[-1].after)) == ["a5", "a4", "a3", "a2"]


async def test_pages_with_a_filter_show_the_most_urgent_first_and_are_complete(
    journal: Journal, reader: Reader
) -> None:
    await ten(journal)
    await record(journal, *(acquired(f"a{n}", n) for n in range(0, 10, 2)), confirmed("a8"))
    soon = NOW + timedelta(hours=4)  # alarms are one hour before 10 - n
    cases: list[tuple[dict[str, object], list[str]]] = [
        ({"state": AssetState.HELD}, ["a6", "a4", "a2", "a0"]),
        ({"state": AssetState.STORED}, ["a8"]),
        ({"due_before": soon}, ["a9", "a7", "a6"]),
        ({"due_before": soon, "state": AssetState.HELD}, ["a6"]),
    ]
    for filters, expected in cases:
        for limit in (1, 2, 50):
            found: list[str] = []
            after = ""
            while page := reader.recordings(limit=limit, after=after, **filters):  # type: ignore[arg-type]
                found += names(page)
                after = page[-1].after
            assert found == expected, filters


async def test_a_page_neither_skips_nor_repeats_while_others_move_on(journal: Journal, reader: Reader) -> None:
    await ten(journal)
    first = reader.recordings(state=AssetState.WANTED, limit=5)
    assert names(first) == ["a9", "a8", "a7", "a6", "a5"]
    await record(journal, acquired("a7", 7), seen("new", 20, hours=0.5), acquired("a3", 3))
    second = reader.recordings(state=AssetState.WANTED, limit=5, after=first[-1].after)
    assert names(second) == ["a4", "a2", "a1", "a0"]


async def test_nothing_is_late_on_a_provisional_calendar(journal: Journal, reader: Reader) -> None:
    provisional = replace(seen("a"), recording=recording("a", hours=-100, basis=Basis.PROVISIONAL))
    await record(journal, opened(), provisional)
    assert reader.overview(NOW).late == 0
    assert names(reader.recordings(due_before=NOW)) == ["a"]


async def test_a_nonsense_place_gives_a_page_and_no_error(journal: Journal, reader: Reader) -> None:
    await ten(journal)
    for after in ("nonsense", "/", "'; DROP TABLE asset; --", "9999/\u6267"):
        reader.recordings(after=after)
        reader.recordings(after=after, state=AssetState.WANTED)


async def test_an_asset_is_found_by_its_id_and_that_of_its_recording(journal: Journal, reader: Reader) -> None:
    await record(journal, opened(), seen("a"), seen("b", 2))
    assert reader.asset("a") == reader.asset("rec-a")
    assert reader.asset("rec-b").asset_id == "b"


async def test_dockings_findings_and_incidents_are_told_as_recorded(journal: Journal, reader: Reader) -> None:
    gap = Finding("gap", {"after": 7})
    await record(journal, opened(), seen("a", 1), ClipRefused("d1", clip(2), "a loop"), Observed("d1", gap), listed(2))
    await record(journal, Incident("one"), Incident("two", {"n": 2}), opened("d2"), DockingClosed("d1", "yanked"))
    _, view = reader.dockings()
    assert (view.device, view.slot, view.reason) == (DEVICE, "slot-1", "yanked")
    assert (view.opened_at, view.listed_at, view.closed_at) == (NOW, NOW, NOW)
    assert (view.accounting.refused, view.accounting.left) == (1, 1)
    assert [docking.docking_id for docking in reader.dockings()] == ["d2", "d1"]
    assert [docking.docking_id for docking in reader.dockings(limit=1)] == ["d2"]
    assert reader.open_dockings() == ("d2",)
    entries = [decode(event.kind, event.detail) for event in reader.events()]
    assert [entry.finding for entry in entries if isinstance(entry, Observed)] == [gap]
    assert [entry for entry in entries if isinstance(entry, Incident)] == [Incident("one"), Incident("two", {"n": 2})]
    assert reader.devices() == {"device": DEVICE}


async def test_events_are_followed_by_sequence_number(journal: Journal, reader: Reader) -> None:
    await ten(journal)
    assert [event.seq for event in reader.events(limit=3)] == [1, 2, 3]
    assert [event.seq for event in reader.events(9, limit=9)] == [10, 11]
    assert reader.events(11) == ()


async def test_many_threads_may_ask_while_entries_are_recorded(journal: Journal, reader: Reader) -> None:
    """Each answer is of one moment: all clips of the docking are somewhere."""
    await ten(journal)
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(lambda: reader.dockings()[0].accounting.seen) for _ in range(200)]
        for number in range(10):
            await record(journal, acquired(f"a{number}", number))
        assert {future.result() for future in asked} == {10}


async def test_an_asset_may_be_acquired_long_after_its_docking_ended(journal: Journal, reader: Reader) -> None:
    await record(journal, opened(), seen("a"), DockingClosed("d1", "interrupted"))
    assert reader.open_clip_of("a") is None
    await record(journal, AssetChanged("a", Acquired(held("a"))))
    assert reader.accounting("d1").left == 1
    assert reader.asset("a").state is AssetState.HELD
