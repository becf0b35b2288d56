"""What is made from originals is held like them, hurries nobody, is asked of nobody, and survives every crash."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from agent.access.made import Everything, Made, Original
from agent.config import AccessCopies
from agent.errors import AgentError, JournalError
from agent.journal import Journal, Reader, deriving, rebuild, verify
from agent.journal.schema import MIGRATIONS, version_of
from agent.model import (
    Acquired,
    AssetChanged,
    AssetState,
    Completeness,
    Damaged,
    DeriveAsked,
    Matched,
    Outcome,
    Role,
    Transcript,
    TranscriptKind,
)
from agent.pipeline.deriving import DeriveLane
from agent.pipeline.documents import add_document, add_made, recover_documents
from agent.pipeline.recover import census, recover
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.pipeline.verify import verify as verify_station
from tests.conftest import SettableClock, is_immutable
from tests.crashing import BLOCK, VISIBLE, Place, World, _recorder, process, wired
from tests.fakes import FakeRecorder
from tests.journal_entries import (
    NOW,
    acquired,
    assert_consistent,
    confirmed,
    deadline,
    digests_of,
    document,
    held,
    listed,
    opened,
    probed,
    seen,
)
from tests.made import BLACK, copy, derived, make
from tests.stations import dock
from tests.stations import opened as opened_station

VERSION_5 = Path(__file__).parent / "data" / "journal_version_5.sql"
CARD = {"/A.MP4": b"film", "/B.MP4": b"another film"}


@pytest.fixture
async def journal(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Journal]:
    """Two recordings that were probed, the second more urgent, and one with the bytes of the first."""
    async with Journal.open(tmp_path / "journal.db", clock) as journal:
        for entry in (opened(), seen("a", hours=48), seen("b", 2, hours=24), seen("c", 3), listed(3)):
            await journal.record(entry)
        await journal.record(acquired("a"), acquired("b", 2))
        same = Matched("a", digests_of("a"))
        await journal.record(AssetChanged("c", same, "d1", 3, Outcome.ALREADY_HELD))
        yield journal
    assert_consistent(tmp_path / "journal.db")
    rebuild(tmp_path / "journal.db")
    assert_consistent(tmp_path / "journal.db")


def taken(name: str, content: str = "") -> AssetChanged:
    """The vault holds the file."""
    return AssetChanged(name, Acquired(held(name, content=content)))


async def all_probed(journal: Journal) -> None:
    await journal.record(probed("a"), probed("b", old=deadline(24)), probed("c"))


async def test_the_next_original_is_the_most_urgent_that_was_probed_and_has_bytes_of_its_own(journal: Journal) -> None:
    reader = journal.reader
    assert reader.next_to_derive() is None, "nothing was probed"
    assert reader.copies().waiting == 2, "and yet copies are to be made"
    await all_probed(journal)
    assert reader.copies().waiting == 2
    assert [reader.next_to_derive(taken).asset_id for taken in ((), ["b"])] == ["b", "a"]
    assert reader.next_to_derive(["a", "b"]) is None
    await journal.record(confirmed("b"))
    assert reader.next_to_derive().asset_id == "b", "also what is stored"
    await journal.record(copy("p", "b"), derived("b"))
    assert reader.next_to_derive().asset_id == "a"
    assert tuple(reader.copies()) == (1, 1, 0)


async def test_equal_content_is_looked_at_once_and_found_by_each_recording(journal: Journal) -> None:
    await all_probed(journal)
    await journal.record(copy("p", "a"), copy("t", "a", Role.TIMELINE), derived("a", "no picture"))
    for recording_id in ("rec-a", "rec-c"):
        assert journal.reader.derived(recording_id) == derived("a", "no picture")
        assert [view.asset.asset_id for view in journal.reader.derivatives(recording_id)] == ["p", "t"]
        assert journal.reader.recording(recording_id).made == (1, "no picture")
    assert journal.reader.derived("rec-b") is None
    assert journal.reader.derivatives("rec-b") == ()
    assert journal.reader.recording("rec-b").made is None


async def test_what_is_asked_for_again_is_made_again_and_known_until_then(journal: Journal) -> None:
    await all_probed(journal)
    await journal.begun([deriving("b")] * 3)
    await journal.record(derived("b", "a tool died"))
    assert journal.reader.attempt(deriving("b")) is None
    assert tuple(journal.reader.copies()) == (1, 0, 1)
    await journal.begun([deriving("b")])
    for _ in range(2):
        await journal.record(DeriveAsked("b", "李四", "新版工具"))
        assert tuple(journal.reader.copies()) == (2, 0, 0)
    assert journal.reader.attempt(deriving("b")) is None, "whoever asks forgives what failed"
    assert journal.reader.derived("rec-b") == derived("b", "a tool died")
    await journal.record(derived("b"))
    await journal.record(derived("b"))
    assert tuple(journal.reader.copies()) == (1, 1, 0)


async def test_what_is_made_is_no_document_of_anybody_and_hurries_nobody(journal: Journal) -> None:
    reader = journal.reader
    await all_probed(journal)
    before, waiting, rows = reader.overview(NOW), reader.waiting(), reader.recordings()
    await journal.record(copy("p", "b"), taken("p"))
    after = reader.overview(NOW)
    assert (after.assets, after.documents, after.metadata) == (before.assets, before.documents, before.metadata)
    assert after.derived[AssetState.HELD].files == 1
    assert (reader.waiting(), reader.recordings()) == (waiting, rows)
    assert reader.documents("rec-b") == ()
    assert reader.completeness() == {Completeness.INCOMPLETE: 3}
    due = [reader.next_to_store(NOW, taken) for taken in ((), ["b"], ["a", "b"])]
    assert [one.asset.asset_id for one in due] == ["b", "a", "p"]
    assert reader.next_to_store(NOW, ["a", "b"], before=NOW.replace(year=8999)) is None
    await journal.record(document("s", "b"))
    assert reader.document("s").asset.state is AssetState.WANTED
    limit = replace(deadline(24), alarm_at=NOW)
    await journal.record(probed("b", old=deadline(24), new=limit))
    assert reader.next_to_store(NOW, ["a", "b"]).alarm_at.year == 9000, "the limit of the original moves nothing made"


async def test_an_entry_that_contradicts_what_is_known_is_refused(journal: Journal) -> None:
    wrong = (
        (copy("p", "z"), "unknown"),
        (replace(copy("p", "a"), recordings=("rec-b",)), "can't be new"),
        (replace(copy("p", "a"), said=replace(copy("p", "b").said)), "can be made from b"),
        (copy("p", "a", Role.TRANSCRIPT), "can be made from a"),
        (replace(derived("a"), found=0), "not the first"),
        (derived("z"), "unknown"),
        (DeriveAsked("z", "who", "why"), "unknown"),
    )
    for entry, why in wrong:
        with pytest.raises(JournalError, match=why):
            await journal.record(entry)
    await journal.record(copy("p", "a"))
    second = copy("q", "a")
    for entry in (derived("p"), replace(second, said=replace(second.said, source="p")), DeriveAsked("p", "who", "why")):
        with pytest.raises(JournalError, match="no original"):
            await journal.record(entry)


async def test_neither_an_original_nor_a_person_s_word_stands_on_what_was_made(journal: Journal) -> None:
    await journal.record(copy("p", "a", content="same"))
    await journal.record(taken("p", "same"))
    await journal.record(document("s", "a", content="same"))
    with pytest.raises(JournalError, match="doesn't hold"):
        await journal.record(AssetChanged("s", Matched("p", digests_of("same"))))
    await journal.record(taken("s", "same"))
    await journal.record(copy("q", "b", content="same"))
    await journal.record(AssetChanged("q", Matched("p", digests_of("same"))))


async def test_a_journal_that_version_5_wrote_is_taken_over_and_takes_what_is_made(
    tmp_path: Path, clock: SettableClock
) -> None:
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(VERSION_5.read_text("utf-8"))
        assert version_of(db, path) == 5
        before = db.execute("SELECT * FROM event ORDER BY seq").fetchall()
        assets = db.execute("SELECT * FROM asset ORDER BY asset_id").fetchall()
    async with Journal.open(path, clock) as journal:
        assert_consistent(path)
        assert journal.reader.next_to_derive().asset_id == "a"
        assert journal.reader.copies().waiting == 2
        assert journal.reader.recording("rec-a").made is None
        await journal.record(copy("p", "a"), derived("a"))
        assert journal.reader.derived("rec-c") == derived("a")
    rebuild(path)
    assert_consistent(path)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert db.execute("SELECT * FROM event ORDER BY seq").fetchall()[: len(before)] == before
        rows = db.execute("SELECT * FROM asset WHERE asset_id <> 'p' ORDER BY asset_id").fetchall()
        assert [row[: len(assets[0])] for row in rows] == assets


# Files.


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened_station(tmp_path, clock, seal=True) as station:
        await dock(station, FakeRecorder(CARD, station.vault.staging_dir))
        yield station


def original(station: Station, path: str = "/A.MP4") -> str:
    return next(view.asset for view in station.journal.reader.recordings() if view.clip.path == path)


async def stored(station: Station) -> list[str]:
    lane, order = StoreLane(station), []
    while station.journal.reader.next_to_store(station.clock()) is not None:
        delivery = await lane.take()
        order.append(delivery.asset.asset_id)
        await lane.store(delivery)
        lane.give_back(delivery)
    return order


async def sound(station: Station) -> bool:
    path = station.vault.root / "journal.db"
    report = await verify_station(path, station.vault, station.store, lambda *_: None)
    return report.problems == []


async def test_a_file_of_any_size_is_held_sealed_and_stored_behind_all_originals(station: Station) -> None:
    big = bytes(range(256)) * 70_000  # more than one block
    small, large = await make(station, original(station), b"poster", big)
    assert not list(station.vault.staging_dir.iterdir())
    for name, content in ((small, b"poster"), (large, big)):
        asset = station.journal.reader.asset(name)
        path = station.vault.address(asset.digests.blake3)
        assert (asset.state, path.read_bytes()) == (AssetState.HELD, content)
        assert path.stat().st_mode & 0o777 == 0o440
        assert is_immutable(path)
    order = await stored(station)
    assert set(order[2:]) == {small, large}
    assert await sound(station)


async def test_what_was_promised_is_compared_with_what_the_medium_gives(station: Station) -> None:
    source = original(station)
    folder = station.vault.work_dir / source.asset_id
    folder.mkdir()
    (folder / "x.mp4").write_bytes(b"other bytes")
    entry = copy("p", "a")
    said = replace(entry.said, source=source.asset_id)
    asset = replace(entry.asset, recording_id=source.recording_id)
    entry = replace(entry, asset=asset, recordings=(source.recording_id,), said=said)
    with pytest.raises(AgentError, match="does not give back"):
        await add_made(station, [(folder / "x.mp4", entry)], derived(source.asset_id))
    assert not list(station.vault.staging_dir.iterdir())
    assert station.journal.reader.derived(source.recording_id) is None


async def test_equal_files_exist_once_and_a_second_making_of_the_same_is_matched(station: Station) -> None:
    first = await make(station, original(station), b"line", b"line")
    second = await make(station, original(station, "/B.MP4"), b"line")
    states = [station.journal.reader.asset(name).state for name in (*first, *second)]
    assert states == [AssetState.HELD, AssetState.MATCHED, AssetState.MATCHED]


async def test_what_is_lost_is_made_again_and_asked_of_nobody(station: Station) -> None:
    reader, source = station.journal.reader, original(station)
    (name,) = await make(station, source, b"copy")
    asset = reader.asset(name)
    station.vault.quarantine(name, asset.digests)
    await station.journal.record(AssetChanged(name, Damaged("a bit flipped", source_docked=False)))
    for _ in range(2):
        await recover_documents(station)
        assert reader.asset(name).state is AssetState.STUCK
        assert "重新制作" in reader.asset(name).reason
        asked = [event for event in reader.events(0, 1000) if event.kind == "derive_asked"]
        assert len(asked) == 1, "asked once, whatever starts come"
    assert reader.overview(station.clock()).documents[AssetState.STUCK].files == 0
    assert await sound(station)
    (again,) = await make(station, source, b"copy")
    assert reader.asset(name).state is AssetState.HELD, "the same bytes heal it"
    assert reader.asset(again).same_as == name


async def test_begun_work_is_cleared_away_at_the_start(station: Station) -> None:
    folder = station.vault.work_dir / "some id"
    (folder / "deeper").mkdir(parents=True)
    (folder / "deeper" / "copy.mp4").write_bytes(b"half")
    (folder / "link").symlink_to(station.vault.originals_dir)
    await recover_documents(station)
    assert not list(station.vault.work_dir.iterdir())
    assert len(list(station.vault.originals())) == len(CARD)


async def test_a_person_s_file_with_the_same_bytes_is_held_for_itself(station: Station) -> None:
    source = original(station)
    await make(station, source, b"words")
    said = Transcript(TranscriptKind.HUMAN, "李四", NOW, "a.txt")
    asset = await add_document(station, said, [source.recording_id], b"words")
    assert asset.state is AssetState.HELD
    assert [view.asset for view in station.journal.reader.documents(source.recording_id)] == [asset]


# Crashes.

MADE = (b"poster", bytes(range(256)) * 40, b"poster")
"""The second is larger than a block of these tests; the third has the content of the first."""

assert len(MADE[1]) > 2 * BLOCK


@pytest.fixture
def memory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


async def all_made(original: Original, folder: Path, *_: object) -> Everything:
    for number, content in enumerate(MADE):
        (folder / f"{number}.mp4").write_bytes(content)
    files = tuple(Made(Role.ACCESS_COPY, folder / f"{number}.mp4", "ffmpeg 5") for number in range(len(MADE)))
    return Everything(files, (BLACK,), 1)


async def there() -> str:
    return "ffmpeg 5"


def life(place: Place, world: World, *, making: bool = True) -> None:
    """One process: recover, dock, make what isn't made yet, store; or until it crashes."""

    async def work(station: Station) -> None:
        await recover(station)
        reader = station.journal.reader
        if not reader.recordings():
            await dock(station, _recorder(place, world, station))
        while (asset := reader.next_to_probe()) is not None and not world.refused:
            limit = reader.recording(asset.asset_id).recording.deadline
            await station.journal.record(probed(asset.asset_id, old=limit))
        station.access = AccessCopies(enabled=making)
        lane = DeriveLane(station, bool, all_made, there)
        while making and reader.next_to_derive() is not None and not world.refused:
            await lane.step()
        await census(station)
        while reader.next_to_store(station.clock()) is not None and not world.refused:
            lane = StoreLane(station)
            delivery = await lane.take()
            await lane.store(delivery)
            lane.give_back(delivery)

    async def until_dead(station: Station) -> None:
        working = asyncio.create_task(work(station))
        while not (working.done() or world.dead):
            await asyncio.sleep(0.001)
        working.cancel()
        await asyncio.wait([working])
        if not working.cancelled():
            working.result()

    with wired(world), contextlib.suppress(AgentError):
        asyncio.run(process(place, world, until_dead))


def check(place: Place) -> None:
    """Each original's files are there once, with what is told of it; all is stored, and nothing else is left."""
    report = verify(place.journal)
    assert report.consistent, report.differences
    with closing(Reader(place.journal)) as reader:
        views = reader.recordings()
        assert sorted(view.clip.path for view in views) == sorted(CARD)
        held = {view.asset.digests.blake3 for view in views}
        for view in views:
            told = reader.derived(view.recording.recording_id)
            assert told is not None
            assert told.findings == (BLACK,)
            made = reader.derivatives(view.recording.recording_id)
            assert len(made) == len(MADE) + 1, "one transaction: all of them, once, with their certificate"
            assert {one.asset.state for one in made} <= {AssetState.STORED, AssetState.MATCHED}
            held |= {one.asset.digests.blake3 for one in made}
    assert {path.name for path in (place.root / "vault").glob("??/*")} == held == place.stored().keys()
    assert list((place.root / "staging").iterdir()) == list((place.root / "derived").iterdir()) == []


FAULTS = {
    "crash before": World,
    "crash after": partial(World, after=True),
    "full for a while": partial(World, error=errno.ENOSPC, lasting=True),
    "failing once": partial(World, error=errno.EIO, counts=VISIBLE | {"remove_work"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_effect_is_the_last_one_all_is_made_once_or_made_again(
    memory: Path, clock: SettableClock, fault: str
) -> None:
    (memory / "start").mkdir()
    start = Place(memory / "start", clock, dict(CARD))
    life(start, World(), making=False)
    at = 0
    while True:
        here = start.copy_to(memory / f"at {at}")
        world = FAULTS[fault](at)
        life(here, world)
        if at >= len(world.log):
            break
        life(here, World())
        try:
            check(here)
        except AssertionError as error:
            error.add_note(f"{fault} effect {at} of {world.log}")
            raise
        shutil.rmtree(here.folder)
        at += 1
    assert at > 30, "every effect had its turn"
