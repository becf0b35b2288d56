"""Promise: `verify` finds each change of what was recorded, says what and where it is, and since when it may be."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent import journal
from agent.config import CustodyLog, Scrub
from agent.config.manifests import Manifests
from agent.errors import UnknownError
from agent.journal.codec import FIRST_LINK, leaf, link
from agent.manifest import Background, Manifest
from agent.model import Asset, Incident, KeyRotated, Sealing
from agent.pipeline import rereading, verify_place
from agent.pipeline.checkpoint_store import CheckpointStoreLane
from agent.pipeline.checkpoints import begin, sign
from agent.pipeline.custody import Custody
from agent.pipeline.documents import add_document
from agent.pipeline.rotation import rotate, rotation_text
from agent.pipeline.scrubbing import ScrubLane
from agent.pipeline.sealing import SealLane
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from agent.pipeline.verify import Report, Scope, verify
from agent.signing import SigningKey, station_key
from agent.tlog.checkpoint import Checkpoint
from agent.tlog.keys import Signer
from agent.tlog.note import Signature, signed
from agent.verbs.verify import _Bar
from tests import stations
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder, FakeStore
from tests.stations import QUICK, dock
from tests.test_checkpoint_store import signed as signed_log
from tests.test_journal_audit import intruder
from tests.test_scrubbing import change, held, path_of
from tests.test_witness import by_stick, docks, objection

FILES = {f"/{number}.MP4": b"footage %d" % number * 50 for number in range(6)}
NOWHERE = Path("/nonexistent/credential")
LOCAL = Scope(centre=False)
LOG = Scope(files=False, centre=False)


def quiet(_what: str, _done: int, _total: int) -> None:
    """Tell nobody."""


async def begin_signing(station: Station) -> None:
    station.custody = Custody(CustodyLog(checkpoint_every_s=3600))
    await begin(station, station_key(station.vault.root, NOWHERE))


@asynccontextmanager
async def opened(root: Path, clock: SettableClock) -> AsyncIterator[Station]:
    """A station with six stored originals and three checkpoints, an hour and a few events between them."""
    async with stations.opened(root, clock) as station:
        station.limits = replace(QUICK, probe_pause_s=0)
        await begin_signing(station)
        await sign(station)
        await dock(station, FakeRecorder(FILES, station.vault.staging_dir))
        clock.now += timedelta(hours=1)
        await sign(station)
        lane = StoreLane(station)
        for _ in FILES:
            delivery = await lane.take()
            await lane.store(delivery)
            lane.give_back(delivery)
        clock.now += timedelta(hours=1)
        await sign(station)
        yield station


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "root", clock) as station:
        yield station


async def checked(station: Station, scope: Scope | None = None, *, resume: bool = False) -> Report:
    path = station.vault.root / "journal.db"
    return await verify(path, station.vault, station.store, quiet, scope=scope or Scope(), resume=resume)


def originals(station: Station) -> list[Asset]:
    return [asset for asset in held(station) if asset.role == "original"]


def edit(station: Station, *statements: str) -> None:
    with intruder(station.vault.root / "journal.db") as db:
        for statement in statements:
            assert db.execute(statement).rowcount, statement


def rechained(station: Station) -> None:
    """Whoever changed an event makes chain, tree and tables fit again; all that takes is root, and this program."""
    path = station.vault.root / "journal.db"
    with intruder(path) as db:
        head = FIRST_LINK
        for seq, at, kind, subject, detail, _ in db.execute("SELECT * FROM event ORDER BY seq").fetchall():
            head = link(head, leaf(seq, at, kind, subject, detail))
            db.execute("UPDATE event SET hash = ? WHERE seq = ?", (head, seq))


async def test_what_is_as_it_was_recorded_is_counted_and_sound(station: Station) -> None:
    report = await checked(station)
    assert (report.sound, report.problems) == (True, [])
    assert report.events == station.journal.reader.log_size()
    assert (report.checkpoints, report.originals, report.stored) == (3, len(FILES), len(FILES))
    assert report.checked_bytes == sum(map(len, FILES.values()))
    only_log, local, centre = [await checked(station, one) for one in (LOG, LOCAL, Scope(files=False))]
    assert (only_log.originals, only_log.stored) == (0, 0)
    assert (local.originals, local.stored) == (len(FILES), 0)
    assert (centre.originals, centre.stored) == (0, len(FILES))
    assert not (station.vault.root / verify_place.FILE).exists()


async def test_a_changed_byte_is_named_with_the_time_it_was_right_last(station: Station, clock: SettableClock) -> None:
    pulled = station.journal.reader.last_good(originals(station)[3].asset_id)
    assert pulled is not None
    change(path_of(station, victim := originals(station)[3]))
    (problem,) = (await checked(station, LOCAL)).problems
    assert problem.startswith(f"{victim.asset_id}: ")
    assert "does not give back what was written" in problem
    assert problem.endswith(f"It was as recorded when it was last read, {pulled.isoformat(timespec='seconds')}.")


async def test_the_scrub_narrows_down_since_when(station: Station, clock: SettableClock) -> None:
    clock.now += timedelta(days=31)
    station.scrub = Scrub(limit_bytes_s=10**11)
    lane = ScrubLane(station, lambda: False)
    for _ in range(len(FILES) + 1):
        await lane.step()
    change(path_of(station, originals(station)[0]))
    (problem,) = (await checked(station, LOCAL)).problems
    last = station.journal.reader.last_scrub(complete=True)
    assert last is not None
    assert f"last read, {last.told.round_at.isoformat(timespec='seconds')}" in problem


async def test_two_files_that_changed_their_names_are_both_found(station: Station) -> None:
    one, other = (path_of(station, asset) for asset in originals(station)[:2])
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    problems = (await checked(station, LOCAL)).problems
    assert [problem.partition(":")[0] for problem in problems] == [a.asset_id for a in originals(station)[:2]]


async def test_two_recordings_swapped_in_the_tables_are_found_by_the_log(station: Station) -> None:
    one, other = originals(station)[:2]
    assert one.digests is not None
    assert other.digests is not None
    swap = "UPDATE asset SET blake3 = '{}', sha256 = '{}' WHERE asset_id = '{}'"
    edit(
        station,
        swap.format(other.digests.blake3, other.digests.sha256, one.asset_id),
        swap.format(one.digests.blake3, one.digests.sha256, other.asset_id),
    )
    report = await checked(station, LOCAL)
    found = "\n".join(report.problems)
    for asset in (one, other):
        assert asset.digests is not None
        assert f"asset {asset.asset_id}: blake3 is " in found
        assert f"by the log '{asset.digests.blake3}'" in found
    assert report.originals == len(FILES), "the files themselves are where they should be"


@pytest.mark.parametrize(
    ("statement", "where"),
    [
        ("UPDATE event SET detail = replace(detail, 'MP4', 'MP3') WHERE seq = 6", "event 6"),
        ("UPDATE event SET at = '2026-01-01T00:00:00.000000+00:00' WHERE seq = 4", "event 4"),
        ("UPDATE asset SET state = 'stored', reason = 'x'", "asset "),
        ("DELETE FROM clip WHERE number = 3", "clip "),
        ("UPDATE tree SET hash = zeroblob(32)", "tree "),
        ("UPDATE checkpoint SET size = size - 1 WHERE number = 2", "checkpoint 2"),
        ("UPDATE checkpoint SET note = replace(note, 'time 2026', 'time 2025') WHERE number = 3", "checkpoint 3"),
        ("DELETE FROM checkpoint WHERE number = 3", "checkpoint 3"),
        ("UPDATE recording SET deadline = '{}'", "recording "),
    ],
)
async def test_a_change_of_the_journal_is_found_where_it_is(station: Station, statement: str, where: str) -> None:
    if "tree" in statement:
        await station.journal.record(*(Incident("tick", {"n": number}) for number in range(256)))
    edit(station, statement)
    report = await checked(station, LOG)
    assert any(problem.startswith(where) for problem in report.problems), report.problems


async def test_a_rewritten_past_contradicts_the_checkpoints_and_they_say_between_which(station: Station) -> None:
    """Chain, tree and tables fit the lie; only what was signed doesn't."""
    first, second, third = station.journal.reader.checkpoints()
    seq = next(
        event.seq
        for event in station.journal.reader.events(0, 1000)
        if event.kind == "clip_seen" and event.seq > first.size
    )
    edit(station, f"UPDATE event SET detail = replace(detail, 'MP4', 'MP3') WHERE seq = {seq}")
    rechained(station)
    report = await checked(station, LOG)
    assert report.checkpoints == 1
    (problem,) = (one for one in report.problems if one.startswith("checkpoint"))
    assert problem.startswith(f"checkpoint {second.number}: the log is not what was signed")
    assert f"among events {first.size + 1} to {second.size}" in problem
    assert "time 2026-11-23T03:00:00Z" in problem, "it was right yet at the second"
    assert f"{third.number - second.number + 1} checkpoints are contradicted" in problem
    assert first.size < seq <= second.size


async def test_a_log_that_was_cut_behind_its_checkpoints_is_found_by_them(station: Station) -> None:
    second = station.journal.reader.checkpoint(2)
    assert second is not None
    edit(station, f"DELETE FROM event WHERE seq > {second.size - 3}")
    problems = [one for one in (await checked(station, LOG)).problems if one.startswith("checkpoint 2: the log")]
    assert len(problems) == 1
    assert f"its end was cut off: it has {second.size - 3} events" in problems[0]


async def test_a_checkpoint_signed_by_nobody_we_know_is_told(station: Station, tmp_path: Path) -> None:
    stranger = station_key(tmp_path, NOWHERE)
    with intruder(station.vault.root / "journal.db") as db:
        (note,) = db.execute("SELECT note FROM checkpoint WHERE number = 3").fetchone()
    forged = Checkpoint.parse(note.partition("\n\n")[0] + "\n").signed(Signer(note.partition("\n")[0], stranger))
    edit(station, f"UPDATE checkpoint SET note = '{forged.encode().decode()}' WHERE number = 3")
    problems = (await checked(station, LOG)).problems
    assert "checkpoint 3: The note is not signed by a key that is trusted here." in problems


async def test_only_one_recording_is_read_when_one_is_named(station: Station) -> None:
    one, other = originals(station)[:2]
    change(path_of(station, other))
    report = await checked(station, Scope(recording_id=one.recording_id))
    assert (report.sound, report.originals, report.stored) == (True, 1, 1)
    report = await checked(station, Scope(recording_id=other.recording_id))
    assert (report.found, report.originals, report.stored) == (1, 0, 1)


async def test_what_is_kept_by_another_recording_is_read_for_its_twin(station: Station) -> None:
    twin = FakeRecorder({"/COPY.MP4": FILES["/0.MP4"]}, station.vault.staging_dir, serial="SN2")
    await dock(station, twin)
    copy = next(event for event in station.journal.reader.events(0, 1000) if event.kind == "matched")
    recording = station.journal.reader.asset(copy.subject).recording_id
    report = await checked(station, Scope(recording_id=recording))
    assert (report.sound, report.originals, report.stored) == (True, 1, 1)


async def test_what_the_centre_has_is_proved_by_its_receipts(station: Station) -> None:
    store = station.store
    assert isinstance(store, FakeStore)
    lost, changed = list(store.objects)[:2]
    del store.objects[lost]
    store.objects[changed] = b"other bytes"
    report = await checked(station, Scope(files=False))
    assert (report.found, report.stored, report.originals) == (2, len(FILES) - 2, 0)
    assert all("The store confirmed it at 2026-11-23T" in problem for problem in report.problems)
    assert (await checked(station, LOCAL)).sound, "here all is as it was"


async def deposit(station: Station) -> None:
    lane = CheckpointStoreLane(station)
    while station.journal.reader.checkpoint_to_store() is not None and not station.custody.problems()[1:]:
        await lane.step()


async def test_checkpoints_at_the_centre_are_what_was_signed_here(station: Station) -> None:
    store = station.store
    assert isinstance(store, FakeStore)
    await deposit(station)
    assert (await checked(station)).deposited == 3
    key = next(name for name in store.objects if name.endswith("00000002"))
    before, store.objects[key] = store.objects[key], b"forged"
    report = await checked(station, Scope(files=False))
    assert (report.deposited, report.found) == (2, 1)
    assert report.problems[0].startswith("checkpoint 2: ")
    store.objects[key] = before
    receipt = "(SELECT receipt FROM checkpoint WHERE number = 1)"
    edit(station, f"UPDATE checkpoint SET receipt = {receipt} WHERE number = 3")
    told = "\n".join((await checked(station, Scope(files=False))).problems)
    assert "checkpoint 3: the receipt is of checkpoints/" in told
    assert "whose bytes are not what was signed here" in told


async def test_a_journal_that_was_set_back_meets_its_own_numbers_at_the_centre(
    tmp_path: Path, clock: SettableClock
) -> None:
    """The older copy is whole in itself; what it signs next is a number that the centre has of the true log."""
    async with opened(tmp_path, clock) as station:
        store = station.store
    older = (tmp_path / "journal.db").read_bytes()
    async with stations.opened(tmp_path, clock, store=store) as station:
        await begin_signing(station)
        await dock(station, FakeRecorder({"/new.MP4": b"new"}, station.vault.staging_dir, serial="SN2"))
        await sign(station)
        await deposit(station)
    (tmp_path / "journal.db").write_bytes(older)
    async with stations.opened(tmp_path, clock, store=store) as station:
        await begin_signing(station)
        assert (await checked(station, LOG)).sound, "nothing in it shows that it is an older one"
        await station.journal.record(Incident("tick"))
        await sign(station)
        await deposit(station)
        report = await checked(station)
        told = "\n".join(report.problems)
        assert "checkpoint 4: refused by the store, which has another, first at 2026-11-23T" in told
        assert "in the vault without a row" in told, "the recording of which the older journal knows nothing"


async def test_a_thousand_problems_are_told_and_all_are_counted(station: Station) -> None:
    for number in range(1100):
        (station.vault.originals_dir / f"note-{number}.txt").touch()
    report = await checked(station, LOCAL)
    assert (report.found, len(report.problems)) == (1100, 1000)


# Manifests.


async def sealed(station: Station) -> list[Manifest]:
    """A manifest for each recording."""
    station.manifests = Manifests(quiet_s=0)
    station.background = lambda: Background({"name": "采集站"}, {"agent": "1"}, lambda _: {"version": 0, "fields": {}})
    lane = SealLane(station, lambda: False)
    while station.journal.reader.seal_counts().to_make:
        await lane.step()
    seals = [one for asset in originals(station) for one in station.journal.reader.seals(asset.recording_id)]
    return [Manifest.parse(path_of(station, one.asset).read_bytes())[0] for one in seals]


async def forged(station: Station, manifest: Manifest, said: Sealing | None = None, key: Signer | None = None) -> None:
    """A manifest that somebody has the journal tell of: he has the rights of root, and perhaps the key."""
    signers = station.custody.signers if key is None else (key,)
    said = said or Sealing(manifest.number, manifest.covers, manifest.previous)
    await add_document(station, said, [manifest.recording_id], manifest.sealed(*signers))


def next_of(station: Station, manifest: Manifest) -> Manifest:
    (one,) = station.journal.reader.seals(manifest.recording_id)
    assert one.asset.digests is not None
    return replace(manifest, number=2, previous=one.asset.digests.blake3)


async def test_manifests_are_opened_and_compared_with_what_they_list(station: Station) -> None:
    assert len(await sealed(station)) == len(FILES)
    report = await checked(station)
    assert (report.problems, report.manifests) == ([], len(FILES))
    one = originals(station)[2].recording_id
    report = await checked(station, Scope(centre=False, recording_id=one))
    assert (report.sound, report.originals, report.manifests) == (True, 2, 1)


async def test_a_changed_byte_of_a_manifest_is_found(station: Station) -> None:
    manifest = (await sealed(station))[0]
    (view,) = station.journal.reader.seals(manifest.recording_id)
    change(path_of(station, view.asset))
    report = await checked(station, LOCAL)
    assert (report.found, report.manifests) == (1, len(FILES) - 1)
    assert report.problems[0].startswith(view.asset.asset_id)


async def test_a_manifest_that_swaps_two_recordings_is_contradicted(station: Station) -> None:
    one, other, *_ = await sealed(station)
    await forged(station, replace(next_of(station, one), assets=other.assets))
    mixed = replace(one.assets[0], blake3=other.assets[0].blake3, sha256=other.assets[0].sha256)
    await forged(station, replace(next_of(station, other), assets=(mixed,)))
    report = await checked(station, LOCAL)
    told = "\n".join(report.problems)
    assert f"manifest 2 of {one.recording_id}: it lists the original of another recording" in told
    assert f"2 of {other.recording_id}: original {mixed.asset_id} has other bytes than the manifest says" in told
    assert (report.found, report.manifests) == (3, len(FILES)), "the last is of another recording, too"


async def test_a_manifest_that_another_key_signed_is_not_valid(station: Station, tmp_path: Path) -> None:
    manifest = (await sealed(station))[0]
    await forged(
        station, next_of(station, manifest), key=Signer(station.custody.origin, station_key(tmp_path, NOWHERE))
    )
    (problem,) = (await checked(station, LOCAL)).problems
    assert "the manifest is not valid: The note is not signed by a key that is trusted here." in problem


async def test_a_manifest_whose_event_tells_of_another_place_is_told(station: Station) -> None:
    manifest = (await sealed(station))[0]
    new = next_of(station, manifest)
    await forged(station, replace(new, number=7), said=Sealing(2, new.covers, new.previous))
    (problem,) = (await checked(station, LOCAL)).problems
    assert problem.endswith("the log tells of another number, or of another manifest before it")


# Going on where it was interrupted.


class InterruptedByHandError(Exception):
    """As Ctrl-C is."""


async def interrupted(station: Station, files: int, monkeypatch: pytest.MonkeyPatch, scope: Scope = LOCAL) -> Path:
    """A call that ends when so many files were read; what it noted stays."""
    monkeypatch.setattr(verify_place, "_EACH_S", 0.0)
    read = 0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal read
        read += what != "events"
        if read > files:
            raise InterruptedByHandError

    monkeypatch.setattr(rereading, "_AHEAD", 0)
    monkeypatch.setattr(rereading, "_READERS", 1)
    path = station.vault.root / "journal.db"
    with pytest.raises(InterruptedByHandError):
        await verify(path, station.vault, station.store, tell, scope=scope)
    return station.vault.root / verify_place.FILE


@pytest.mark.parametrize("files", [2, 5])
async def test_it_goes_on_behind_what_was_read(station: Station, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    change(path_of(station, originals(station)[0]))
    await interrupted(station, files, monkeypatch)
    told: list[tuple[str, int, int]] = []
    path, total = station.vault.root / "journal.db", sum(map(len, FILES.values()))
    report = await verify(path, station.vault, station.store, lambda *one: told.append(one), scope=LOCAL, resume=True)
    assert report.resumed
    assert (report.originals, report.found) == (len(FILES) - 1, 1), "what was found before is told again"
    read = [done for what, done, _ in told if what == "files"]
    assert len(read) <= len(FILES) - files + 1
    assert told[-1] == ("files", total, total)
    assert not (station.vault.root / verify_place.FILE).exists()
    assert not (await checked(station, LOCAL, resume=True)).resumed, "that was the end"


async def test_the_centre_goes_on_too_and_what_is_here_is_not_read_again(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    await interrupted(station, len(FILES) + 2, monkeypatch, Scope())
    report = await checked(station, resume=True)
    assert (report.resumed, report.originals, report.stored, report.found) == (True, len(FILES), len(FILES), 0)


async def test_events_that_came_since_are_no_reason_to_begin_anew(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    await interrupted(station, 3, monkeypatch)
    await dock(station, FakeRecorder({"/new.MP4": b"new"}, station.vault.staging_dir, serial="SN2"))
    report = await checked(station, LOCAL, resume=True)
    assert (report.resumed, report.originals) == (True, len(FILES) + 1)


Harm = Callable[[Path], object]
HARMS: dict[str, Harm] = {
    "another log": lambda place: place.write_text(
        json.dumps(json.loads(place.read_text()) | {"root": "00" * 32}), "utf-8"
    ),
    "more events than there are": lambda place: place.write_text(
        json.dumps(json.loads(place.read_text()) | {"events": 10**6}), "utf-8"
    ),
    "another scope": lambda place: place.write_text(
        json.dumps(json.loads(place.read_text()) | {"scope": "Scope()"}), "utf-8"
    ),
    "torn": lambda place: place.write_bytes(place.read_bytes()[:-9]),
    "empty": lambda place: place.write_bytes(b""),
    "no text": lambda place: place.write_bytes(b"\xff" * 100),
    "endless": lambda place: place.write_bytes(b" " * (5 << 20)),
    "gone": lambda place: place.unlink(),
}


@pytest.mark.parametrize("harm", HARMS)
async def test_a_place_that_makes_no_sense_is_not_believed(
    station: Station, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    HARMS[harm](await interrupted(station, 3, monkeypatch))
    report = await checked(station, LOCAL, resume=True)
    assert (report.resumed, report.originals, report.sound) == (False, len(FILES), True)


async def test_a_log_that_was_rewritten_since_is_read_from_the_beginning(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    await interrupted(station, 3, monkeypatch)
    edit(station, "UPDATE event SET detail = replace(detail, 'MP4', 'MP3') WHERE seq = 6")
    rechained(station)
    report = await checked(station, LOCAL, resume=True)
    assert (report.resumed, report.originals) == (False, len(FILES))


async def test_a_folder_that_takes_no_note_stops_nobody(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_place, "_EACH_S", 0.0)
    (station.vault.root / verify_place.FILE).mkdir()
    assert (await checked(station, resume=True)).sound


@settings(max_examples=20, deadline=None)
@given(content=st.binary(max_size=300))
def test_no_content_of_the_note_is_a_place(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.mktemp("place")
    (folder / verify_place.FILE).write_bytes(content)
    assert verify_place.Places(folder).recall() is None


# The rest.


async def test_an_unknown_recording_is_told(station: Station) -> None:
    with pytest.raises(UnknownError):
        await checked(station, Scope(recording_id="nobody"))


def test_roots_are_those_of_the_events_alone(tmp_path: Path, clock: SettableClock) -> None:
    async def made() -> dict[int, bytes]:
        async with opened(tmp_path, clock) as station:
            await station.journal.record(*(Incident("tick", {"n": number}) for number in range(600)))
            reader = station.journal.reader
            return {size: reader.log_root(size) for size in (0, 1, 255, 256, 257, reader.log_size())}

    expected = asyncio.run(made())
    with closing(sqlite3.connect(tmp_path / "journal.db", isolation_level=None)) as db:
        db.execute("UPDATE tree SET hash = zeroblob(32)")
    found = journal.verify(tmp_path / "journal.db", sizes=expected.keys())
    assert {size: found.roots[size] for size in expected} == expected


def test_the_bar_tells_share_speed_and_what_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    bar = _Bar(show=True)
    bar("events", 1000, 4000)
    bar("files", 0, 8_000_000)
    bar("files", 8_000_000, 8_000_000)
    bar.end()
    told = capsys.readouterr().err
    assert "events [######..................]  25%" in told
    assert "files [........................]   0%" in told
    _Bar(show=False)("files", 1, 2)
    assert capsys.readouterr().err == ""


# Keys.


def rotated(station: Station, new: SigningKey, *signers: SigningKey) -> KeyRotated:
    """A word that the station's key is followed by another one, signed by whom it is said to be signed by, or not."""
    old, origin = station.custody.key, station.custody.origin
    assert old is not None
    text = rotation_text(Signer(origin, old).key, Signer(origin, new).key)
    note = signed(text, *(Signer(origin, key) for key in signers)).encode().decode()
    return KeyRotated(old.public.hex(), new.public.hex(), note, "李四", "轮换")


async def test_keys_follow_each_other_by_both_signatures_or_it_is_told(station: Station) -> None:
    await sealed(station)
    await rotate(station, {"who": "李四", "why": "轮换"})
    await station.journal.record(Incident("tick"))
    await sign(station)
    report = await checked(station)
    assert (report.problems, report.notes, report.checkpoints, report.manifests) == ([], [], 4, len(FILES))
    other = station_key(station.vault.work_dir, NOWHERE)
    await station.journal.record(rotated(station, other, other))
    (problem,) = (await checked(station, LOG)).problems
    assert problem.endswith("the keys did not both sign that one follows the other")


async def test_a_key_that_was_followed_by_another_signs_no_more(station: Station) -> None:
    """Whoever stole the old one can't go on with it."""
    old = station.custody.key
    await rotate(station, {"who": "李四", "why": "轮换"})
    station.custody.key = old
    await station.journal.record(Incident("tick"))
    await sign(station)
    (problem,) = (await checked(station, LOG)).problems
    assert problem == "checkpoint 4: The note is not signed by a key that is trusted here."


async def test_a_key_that_was_put_there_is_for_a_person_to_judge(station: Station, tmp_path: Path) -> None:
    """A station that lost its key goes on with another one; so does who exchanges it."""
    await begin(station, station_key(tmp_path, NOWHERE))
    report = await checked(station, LOG)
    assert (report.sound, len(report.notes)) == (True, 1)
    assert "another key signs from here on" in report.notes[0]


# Witnesses.


async def shown(ours: Station) -> Report:
    """What is found by who knows the witnesses' keys."""
    path, known = ours.vault.root / "journal.db", [one.verifier for one in ours.custody.settings.witnesses]
    return await verify(path, ours.vault, ours.store, quiet, scope=LOG, witnesses=known)


async def test_what_a_witness_signed_is_counted_and_what_is_said_of_it_is_checked(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, theirs):
        await signed_log(ours, 5)
        await by_stick(ours, theirs)
        report = await shown(ours)
        assert (report.problems, report.cosigned) == ([], 1)
        with intruder(ours.vault.root / "journal.db") as db:
            (note,) = db.execute("SELECT note FROM checkpoint").fetchone()
            last = Signature.parse(note.splitlines()[-1])
            forged = note.replace(str(last), str(replace(last, data=last.data[:-1] + b"?")))
            db.execute("UPDATE checkpoint SET note = ?", (forged,))
        assert any("cosigned it, and it did not" in problem for problem in (await shown(ours)).problems)


async def test_an_older_journal_that_a_witness_objects_to_is_told(tmp_path: Path) -> None:
    async with docks(tmp_path) as (ours, theirs):
        await signed_log(ours, 5)
    copy = shutil.copy(tmp_path / "ours" / "journal.db", tmp_path / "copy.db")
    async with docks(tmp_path) as (ours, theirs):
        await signed_log(ours, 5)
        await by_stick(ours, theirs)
    shutil.copy(copy, tmp_path / "ours" / "journal.db")
    async with docks(tmp_path) as (ours, theirs):
        await signed_log(ours, 1)
        assert (await shown(ours)).sound, "nothing in it shows that it is an older one"
        await objection(ours, theirs)
        (problem,) = (await shown(ours)).problems
        assert problem.startswith("checkpoint 2: a witness objects, which has seen another log, first at 2026-")
