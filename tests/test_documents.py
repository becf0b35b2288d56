"""Documents: what is said about recordings is held like an original, and no crash makes it vanish or double."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agent import control
from agent.config import load
from agent.errors import AgentError, JournalError, StoreError, UnknownError
from agent.journal import Reader, rebuild
from agent.journal import verify as verify_journal
from agent.model import (
    DOCUMENT_LIMIT_BYTES,
    Asset,
    AssetChanged,
    AssetState,
    Damaged,
    DocumentAdded,
    Explanation,
    Role,
    Said,
    Stated,
    Statement,
    Transcript,
    TranscriptKind,
)
from agent.pipeline import asked, limits
from agent.pipeline.auditing import AuditLane
from agent.pipeline.documents import add_document, recover_documents, written
from agent.pipeline.recover import census, recover
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.pipeline.verify import verify
from simulator.content import Noise
from simulator.stage import Stage
from tests.cards import image
from tests.conftest import SettableClock
from tests.daemons import Daemon, call, running, stage
from tests.fakes import FakeRecorder, FakeStore
from tests.journal_entries import NOW, digests_of
from tests.stations import QUICK, dock, opened

FILES = {f"/DCIM/{n:04}.MP4": f"clip {n}".encode() * n for n in range(1, 4)}
STATEMENT = Statement("张三", "补充", NOW, {"place": "县城"})
TRANSCRIPT = Transcript(TranscriptKind.HUMAN, "李四", NOW, "笔录.txt")
EXPLANATION = Explanation("act1", "张三", NOW, "gap1", "INT-01", "避让行人")
SAID: Sequence[Said] = (STATEMENT, TRANSCRIPT, EXPLANATION)


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    """A station that holds three recordings."""
    async with opened(tmp_path / "root", clock, seal=True) as station:
        await dock(station, FakeRecorder(dict(FILES), station.vault.staging_dir))
        yield station


def ids(station: Station) -> list[str]:
    """The recordings."""
    return [view.recording.recording_id for view in station.journal.reader.recordings()]


def content_of(station: Station, asset: Asset) -> bytes:
    assert asset.digests is not None
    return station.vault.address(asset.digests.blake3).read_bytes()


async def store_all(station: Station) -> list[str]:
    """Store everything that waits; returns the assets in the order in which they were taken."""
    lane, order = StoreLane(station), []
    while station.journal.reader.next_to_store(station.clock()) is not None:
        delivery = await lane.take()
        order.append(delivery.asset.asset_id)
        await lane.store(delivery)
        lane.give_back(delivery)
    return order


async def sound(station: Station) -> bool:
    report = await verify(station.vault.root / "journal.db", station.vault, station.store, lambda *_: None)
    assert report.sound, report.problems
    return True


# What a document is.


@pytest.mark.parametrize("said", SAID)
async def test_a_document_is_held_stored_and_found_again(station: Station, said: Said) -> None:
    first, second, third = ids(station)
    asset = await add_document(station, said, [first, second], b"what is said")
    assert asset.state is AssetState.HELD
    assert asset.recording_id == first
    assert asset.role is not Role.ORIGINAL
    assert content_of(station, asset) == b"what is said"
    for recording_id in (first, second):
        (view,) = station.journal.reader.documents(recording_id)
        assert (view.asset, view.said, view.recordings) == (asset, said, (first, second))
    assert station.journal.reader.documents(third) == ()
    await store_all(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.STORED
    assert await sound(station)


async def test_words_alone_are_a_document_whose_bytes_follow_from_its_event(station: Station) -> None:
    (first, *_) = ids(station)
    asset = await add_document(station, STATEMENT, [first])
    told = json.loads(content_of(station, asset))
    assert told["recordings"] == [first]
    assert told["said"]["fields"] == {"place": "县城"}
    view = station.journal.reader.document(asset.asset_id)
    assert written(view.said, view.recordings) == content_of(station, asset)


async def test_recordings_are_counted_and_listed_by_their_originals_alone(station: Station) -> None:
    reader, now = station.journal.reader, station.clock()
    before = reader.overview(now)
    pages = [reader.recordings(), reader.recordings(state=AssetState.HELD), reader.undecided("", 100)]
    risks = reader.recordings(due_before=now.replace(year=now.year + 1))
    assert len(risks) == len(FILES)
    for recording_id in ids(station):  # not a statement: that changes how complete a recording is
        await add_document(station, Explanation("act1", "张三", now, recording_id), [recording_id])
    after = reader.overview(now)
    assert (after.assets, after.clips, after.late) == (before.assets, before.clips, before.late)
    assert after.documents[AssetState.HELD].files == len(FILES)
    assert [reader.recordings(), reader.recordings(state=AssetState.HELD), reader.undecided("", 100)] == pages
    assert reader.recordings(due_before=now.replace(year=now.year + 1)) == risks
    assert reader.overview(now.replace(year=now.year + 1)).late == len(FILES), "no document is late"


async def test_a_document_is_no_recording(station: Station, clock: SettableClock) -> None:
    asset = await add_document(station, STATEMENT, ids(station)[:1])
    with pytest.raises(UnknownError, match="no recording"):
        station.journal.reader.recording(asset.asset_id)
    with pytest.raises(UnknownError, match="no recording"):
        await limits.state_time(station, asset.asset_id, Stated(clock(), "who", "why"))
    with pytest.raises(UnknownError, match="no recording"):
        await add_document(station, STATEMENT, [asset.asset_id])


async def test_originals_are_stored_before_documents_of_the_same_urgency(station: Station) -> None:
    """Also if the document came first."""
    document = await add_document(station, STATEMENT, ids(station)[:1])
    late = {"/DCIM/0004.MP4": b"the same day"}
    await dock(station, FakeRecorder(late, station.vault.staging_dir, serial="SN2"))
    order = await store_all(station)
    assert order[-1] == document.asset_id
    assert len(order) == len(FILES) + 2


async def test_a_document_is_as_urgent_as_its_recording(station: Station, clock: SettableClock) -> None:
    """A limit that becomes earlier takes the documents with it, and who keeps their bytes."""
    reader = station.journal.reader
    first, second, third = ids(station)
    one = await add_document(station, TRANSCRIPT, [first, second], b"one text")
    same = await add_document(station, TRANSCRIPT, [third], b"one text")
    assert same.state is AssetState.MATCHED
    originals = [view.asset.asset_id for view in reader.recordings()]
    before = reader.next_to_store(clock(), originals)
    assert before is not None
    made_at = reader.recording(third).recording.captured_latest.replace(year=2025)
    limit = await limits.state_time(station, third, Stated(made_at, "who", "why"))
    after = reader.next_to_store(clock(), originals)
    assert after is not None
    assert (after.asset.asset_id, after.alarm_at) == (one.asset_id, limit.alarm_at)
    assert after.alarm_at < before.alarm_at
    assert await sound(station)


# Content.


async def test_an_empty_file_is_a_document_too(station: Station) -> None:
    asset = await add_document(station, TRANSCRIPT, ids(station)[:1], b"")
    assert asset.state is AssetState.HELD
    assert content_of(station, asset) == b""
    await store_all(station)
    assert await sound(station)


async def test_the_largest_file_is_taken_and_one_byte_more_is_refused_in_words(station: Station) -> None:
    content = bytes(DOCUMENT_LIMIT_BYTES)
    asset = await add_document(station, TRANSCRIPT, ids(station)[:1], content)
    assert asset.size_bytes == DOCUMENT_LIMIT_BYTES
    with pytest.raises(JournalError, match="文件超过 16 MiB"):
        await add_document(station, TRANSCRIPT, ids(station)[:1], content + b"\0")
    assert len(station.journal.reader.documents(ids(station)[0])) == 1


async def test_equal_content_exists_once_and_is_said_twice(station: Station) -> None:
    first, second, _ = ids(station)
    one = await add_document(station, TRANSCRIPT, [first], b"same")
    other = await add_document(station, replace(TRANSCRIPT, author="王五"), [second], b"same")
    assert (other.state, other.same_as) == (AssetState.MATCHED, one.asset_id)
    assert not list(station.vault.staging_dir.iterdir())
    assert [view.asset for view in station.journal.reader.documents(second)] == [other]
    assert len(await store_all(station)) == len(FILES) + 1
    assert await sound(station)


async def test_many_at_once_with_equal_content(station: Station) -> None:
    recordings = ids(station)
    done = await asyncio.gather(*(add_document(station, TRANSCRIPT, recordings, b"same") for _ in range(8)))
    (kept,) = [asset for asset in done if asset.state is AssetState.HELD]
    assert {asset.same_as for asset in done if asset is not kept} == {kept.asset_id}
    assert await sound(station)


async def test_no_original_depends_on_a_document_with_the_same_bytes(station: Station) -> None:
    """A voice explanation may be copied off a recorder before that is docked: each is held, and stored, for itself."""
    voice = b"what the officer says"
    document = await add_document(station, EXPLANATION, ids(station)[:1], voice)
    await dock(station, FakeRecorder({"/A.WAV": voice}, station.vault.staging_dir, serial="SN2"))
    views = station.journal.reader.recordings()
    (original,) = [view.asset for view in views if view.clip and view.clip.path == "/A.WAV"]
    assert original.state is document.state is AssetState.HELD
    assert original.digests == document.digests
    originals = [view.asset.asset_id for view in views]
    assert station.journal.reader.next_to_store(station.clock(), originals) is None, "its bytes are under way"
    assert (await store_all(station))[-1] == document.asset_id
    again = await add_document(station, EXPLANATION, ids(station)[:1], FILES["/DCIM/0001.MP4"])
    assert again.state is AssetState.HELD
    assert await sound(station)


async def test_a_statement_about_a_thousand_recordings(tmp_path: Path, clock: SettableClock) -> None:
    async with opened(tmp_path / "root", clock) as station:
        files = {f"/{n}.JPG": f"photo {n}".encode() for n in range(1001)}
        await dock(station, FakeRecorder(files, station.vault.staging_dir))
        reader = station.journal.reader
        known = [view.recording.recording_id for view in reader.recordings(limit=2000)]
        asset = await add_document(station, STATEMENT, known[:1000])
        assert asset.state is AssetState.HELD
        assert reader.documents(known[999])[0].recordings == tuple(known[:1000])
        for wrong in (known, [], [known[0], known[0]]):
            with pytest.raises(JournalError, match="1 to 1000"):
                await add_document(station, STATEMENT, wrong)
        await limits.state_time(station, known[3], Stated(clock().replace(year=2025), "who", "why"))
        assert await sound(station)


async def test_a_full_disk_takes_no_document_and_leaves_nothing(station: Station) -> None:
    station.reserve_bytes = 1 << 60
    with pytest.raises(StoreError, match="存储空间不足"):
        await add_document(station, STATEMENT, ids(station)[:1])
    station.reserve_bytes = 0
    assert not list(station.vault.staging_dir.iterdir())
    assert not station.journal.reader.documents(ids(station)[0])


# Crashes: what each moment leaves behind. Crashes around every effect are injected in `test_documents_crash`.


async def wanted(station: Station, said: Said, content: bytes) -> Asset:
    """The document as a process leaves it that dies right behind its event, without its part."""
    event = event_of(said, ids(station)[0], content)
    await station.journal.record(event)
    return event.asset


def event_of(said: Said, recording_id: str, content: bytes) -> DocumentAdded:
    role = Role(type(said).__name__.lower())
    digests = digests_of(content.decode())
    return DocumentAdded(
        Asset("0123-doc", recording_id, role, AssetState.WANTED, len(content), digests=digests), (recording_id,), said
    )


async def test_a_part_that_no_event_tells_of_is_debris(station: Station) -> None:
    debris = station.vault.staging_dir / "0123-doc.part"
    debris.write_bytes(b"x")
    await recover(station)
    assert not debris.exists()
    assert await sound(station)


async def test_the_part_of_an_original_is_no_debris(station: Station) -> None:
    recorder = FakeRecorder({"/BIG.MP4": bytes(40 << 20)}, station.vault.staging_dir, serial="SN2")
    recorder.gone_after_bytes = 20 << 20
    await dock(station, recorder)
    (part,) = station.vault.staging_dir.iterdir()
    await recover(station)
    assert part.exists()


async def test_a_document_is_finished_from_its_part(station: Station) -> None:
    asset = await wanted(station, TRANSCRIPT, b"said")
    (station.vault.staging_dir / "0123-doc.part").write_bytes(b"said")
    await recover(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.HELD
    assert await sound(station)


async def test_a_document_is_finished_from_the_vault_and_never_adopted(station: Station) -> None:
    """Its notes are lost: only the event tells whose bytes these are."""
    asset = await wanted(station, TRANSCRIPT, b"said")
    assert asset.digests is not None
    address = station.vault.address(asset.digests.blake3)
    address.parent.mkdir(exist_ok=True)
    address.write_bytes(b"said")
    await census(station)
    assert len(ids(station)) == len(FILES), "nothing was adopted"
    await recover(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.HELD
    assert await sound(station)


@pytest.mark.parametrize("part", [None, b"sai", b"SAID", b"said and more"])
async def test_a_file_whose_bytes_are_gone_is_stuck_until_it_is_attached_again(
    station: Station, part: bytes | None
) -> None:
    asset = await wanted(station, TRANSCRIPT, b"said")
    if part is not None:
        (station.vault.staging_dir / "0123-doc.part").write_bytes(part)
    await recover(station)
    stuck = station.journal.reader.asset(asset.asset_id)
    assert stuck.state is AssetState.STUCK
    assert "重新附上" in stuck.reason
    await recover(station)
    assert station.journal.reader.asset(asset.asset_id) == stuck
    again = await add_document(station, TRANSCRIPT, ids(station)[:1], b"said")
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.HELD
    assert (again.state, again.same_as) == (AssetState.MATCHED, asset.asset_id)
    assert await sound(station)


async def test_words_that_were_lost_are_written_again(station: Station) -> None:
    content = written(STATEMENT, ids(station)[:1])
    asset = await wanted(station, STATEMENT, content)
    await recover(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.HELD
    assert content_of(station, asset) == content
    assert await sound(station)


@pytest.mark.parametrize("said", SAID)
async def test_a_document_that_is_damaged_here_is_stuck_or_written_again(station: Station, said: Said) -> None:
    is_words = isinstance(said, Statement)
    asset = await add_document(station, said, ids(station)[:1], None if is_words else b"a file")
    assert asset.digests is not None
    station.vault.quarantine(asset.asset_id, asset.digests)
    await store_all(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.STUCK
    await recover(station)
    assert station.journal.reader.asset(asset.asset_id).state is (AssetState.HELD if is_words else AssetState.STUCK)
    if not is_words:
        await add_document(station, said, ids(station)[:1], b"a file")
    await store_all(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.STORED
    assert await sound(station)


async def test_resuming_a_document_brings_it_back_or_says_again_what_is_missing(station: Station) -> None:
    verb, why = asked.VERBS["resume"], {"who": "admin", "why": "the disk was changed"}
    words = await add_document(station, STATEMENT, ids(station)[:1])
    file = await add_document(station, TRANSCRIPT, ids(station)[:1], b"a file")
    for asset in (words, file):
        assert asset.digests is not None
        station.vault.quarantine(asset.asset_id, asset.digests)
        await station.journal.record(AssetChanged(asset.asset_id, Damaged("a bit flipped", source_docked=False)))
        await verb(station, {"id": asset.asset_id, **why})
    assert station.journal.reader.asset(words.asset_id).state is AssetState.HELD
    stuck = station.journal.reader.asset(file.asset_id)
    assert stuck.state is AssetState.STUCK
    assert "重新附上" in stuck.reason


async def test_a_disk_that_refuses_at_recovery_leaves_the_document_for_the_next_start(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = await wanted(station, STATEMENT, written(STATEMENT, ids(station)[:1]))

    def refuse(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("agent.durable.write_part", refuse)
        await recover_documents(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.WANTED
    await recover_documents(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.HELD


async def test_the_tables_follow_from_the_log(station: Station, tmp_path: Path, clock: SettableClock) -> None:
    first, second, _ = ids(station)
    await add_document(station, STATEMENT, [first, second])
    await add_document(station, TRANSCRIPT, [second], b"same")
    await add_document(station, TRANSCRIPT, [first], b"same")
    await store_all(station)
    path = tmp_path / "root" / "journal.db"
    before = station.journal.reader.documents(first)
    await station.journal.close()
    rebuild(path)
    report = verify_journal(path)
    assert report.consistent, report.differences
    with closing(Reader(path)) as reader:
        assert reader.documents(first) == before


WRONG = {
    "about nothing": lambda event: replace(event, recordings=()),
    "about another one first": lambda event: replace(event, asset=replace(event.asset, recording_id="rec-x")),
    "about an unknown one": lambda event: replace(event, recordings=(*event.recordings, "rec-x")),
    "about one twice": lambda event: replace(event, recordings=event.recordings * 2),
    "an original": lambda event: replace(event, asset=replace(event.asset, role=Role.ORIGINAL)),
    "another role": lambda event: replace(event, asset=replace(event.asset, role=Role.STATEMENT)),
    "held already": lambda event: replace(event, asset=replace(event.asset, state=AssetState.HELD)),
    "without fingerprints": lambda event: replace(event, asset=replace(event.asset, digests=None)),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_the_journal_refuses_what_is_no_new_document(station: Station, wrong: str) -> None:
    event = WRONG[wrong](event_of(TRANSCRIPT, ids(station)[0], b"said"))
    with pytest.raises(AgentError):
        await station.journal.record(event)
    assert not station.journal.reader.unheld_documents()


# The control socket.


@pytest.fixture
async def socket(station: Station) -> AsyncIterator[Path]:
    """A service that takes files about the first recording."""

    async def attach(asked: control.Asked, content: bytes) -> dict[str, object]:
        asset = await add_document(station, replace(TRANSCRIPT, name=asked["name"]), ids(station)[:1], content)
        return {"asset": asset.asset_id, "bytes": asset.size_bytes}

    async def plain(asked: control.Asked) -> dict[str, object]:
        return dict(asked)

    async with control.serving(station.vault.root, {"plain": plain}, {"attach": attach}):
        yield station.vault.root


@pytest.mark.parametrize("size", [0, 1, 300_000, DOCUMENT_LIMIT_BYTES])
async def test_a_file_goes_through_the_control_socket(socket: Path, station: Station, size: int) -> None:
    content = bytes(index % 251 for index in range(1000)) * (size // 1000 + 1)
    answer = await control.ask(socket, "attach", {"name": "笔录.txt"}, content[:size])
    assert answer["bytes"] == size
    (view,) = station.journal.reader.documents(ids(station)[0])
    assert content_of(station, view.asset) == content[:size]
    assert view.said == replace(TRANSCRIPT, name="笔录.txt")


async def test_a_file_that_is_too_large_is_refused_in_words_by_either_side(socket: Path, tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="文件超过 16 MiB"):
        await control.ask(socket, "attach", {"name": "x"}, bytes(DOCUMENT_LIMIT_BYTES + 1))
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(DOCUMENT_LIMIT_BYTES + 1)
    with pytest.raises(JournalError, match="文件超过 16 MiB"):
        control.read_file(big)
    with pytest.raises(JournalError, match="can't be read"):
        control.read_file(tmp_path / "missing")
    big.write_bytes(b"small")
    assert control.read_file(big) == b"small"


async def test_a_thousand_names_fit_into_what_is_asked_and_more_are_refused(socket: Path) -> None:
    many = " ".join(["01234567-89ab-7cde-8f01-23456789abcd"] * 1000)
    assert await control.ask(socket, "plain", {"recordings": many}) == {"recordings": many}
    for content in (None, b""):
        with pytest.raises(AgentError):
            await control.ask(socket, "plain" if content is None else "attach", {"name": "x" * 300_000}, content)


async def test_a_verb_that_takes_a_file_needs_one_and_others_take_none(socket: Path) -> None:
    for verb, content in (("attach", None), ("plain", b"x")):
        with pytest.raises(AgentError, match="bad request"):
            await control.ask(socket, verb, {"name": "x"}, content)


async def test_a_store_that_is_full_of_documents_is_checked_like_any_other(station: Station) -> None:
    """An audit finds a document that the store has lost, and it is sent again."""
    asset = await add_document(station, STATEMENT, ids(station)[:1])
    await store_all(station)
    assert isinstance(station.store, FakeStore)
    assert asset.digests is not None
    del station.store.objects[asset.digests.blake3]
    station.limits = replace(QUICK, audit_pause_s=0)
    lane = AuditLane(station)
    for _ in range(len(FILES) + 2):
        await lane.step()
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.HELD
    assert await store_all(station) == [asset.asset_id]
    assert await sound(station)


# The real service.


@pytest.fixture
def made(tmp_path: Path) -> Stage:
    """A stage whose station holds one recording of sound."""
    made = stage(tmp_path)
    card = image(tmp_path / "card.img", {"VOICE/0001.WAV": Noise(60_000, 1)})
    assert call(made, "pull", str(card)).returncode == 0
    return made


def root_of(made: Stage) -> Path:
    return load(made.config).storage.root


def the_recording(made: Stage) -> str:
    with closing(Reader(root_of(made) / "journal.db")) as reader:
        return reader.recordings()[0].recording.recording_id


def entered(made: Stage) -> dict[str, AssetState]:
    """The documents about the recording, by what was said to be their file's name."""
    with closing(Reader(root_of(made) / "journal.db")) as reader:
        views = reader.documents(the_recording(made))
        return {view.said.name: view.asset.state for view in views if isinstance(view.said, Transcript)}


def asked_of(recording_id: str, name: str) -> control.Asked:
    known = {"kind": "human", "author": "张三", "encoding": "utf-8", "tool": "", "language": ""}
    return {"id": recording_id, "name": name, **known}


def test_the_asking_process_opens_the_file_and_the_service_never(made: Stage) -> None:
    """A pipe that only the caller has."""
    with running(made) as daemon:
        command = made.command("transcript", "add", the_recording(made), "/dev/stdin", "--kind", "human",
                               "--author", "张三")  # fmt: skip
        done = subprocess.run(command, input="口述内容\n".encode(), capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        daemon.until(lambda: set(entered(made).values()) == {AssetState.STORED})
    assert call(made, "verify").returncode == 0


def test_a_service_that_is_killed_while_files_come_has_all_it_said_it_has(made: Stage) -> None:
    recording_id, said_to_be_here = the_recording(made), list[str]()

    async def attach(number: int) -> None:
        for index in itertools.count():
            name = f"{number}-{index}.txt"
            await control.ask(root_of(made), "transcript_add", asked_of(recording_id, name), f"text {name}".encode())
            said_to_be_here.append(name)

    async def attach_until_killed(daemon: Daemon) -> None:
        attaching = [asyncio.create_task(attach(number)) for number in range(4)]
        while len(said_to_be_here) < 12:
            await asyncio.sleep(0.001)
        daemon.service.process.kill()
        daemon.service.process.wait()
        ends = await asyncio.gather(*attaching, return_exceptions=True)
        assert {type(end) for end in ends} == {control.NotRunningError}

    with running(made) as daemon:
        asyncio.run(attach_until_killed(daemon))
    with running(made) as daemon:
        daemon.until(lambda: set(entered(made).values()) <= {AssetState.STORED, AssetState.MATCHED})
    assert set(said_to_be_here) <= entered(made).keys()
    assert not list((root_of(made) / "staging").iterdir())
    assert call(made, "verify").returncode == 0


async def test_a_transcript_that_is_lost_here_is_whole_again_when_its_file_is_attached_again(station: Station) -> None:
    """Though the same file of the same author is attached only once otherwise."""
    add, content = asked.FILE_VERBS["transcript_add"], "口述内容".encode()
    first = await add(station, asked_of(ids(station)[0], "a.txt"), content)
    again = await add(station, asked_of(ids(station)[0], "a.txt"), content)
    assert (first["again"], again["again"]) == (False, True)
    asset = station.journal.reader.asset(str(first["asset"]))
    assert asset.digests is not None
    station.vault.quarantine(asset.asset_id, asset.digests)
    await store_all(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.STUCK
    await add(station, asked_of(ids(station)[0], "a.txt"), content)
    await store_all(station)
    assert station.journal.reader.asset(asset.asset_id).state is AssetState.STORED
    assert await sound(station)


async def test_what_the_journal_refuses_leaves_no_part(station: Station) -> None:
    stale = replace(STATEMENT, versions=(7,))
    with pytest.raises(JournalError, match="at version 0, not 7"):
        await add_document(station, stale, ids(station)[:1])
    assert not list(station.vault.staging_dir.iterdir())
