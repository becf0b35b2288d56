"""Promise: every recording gets a manifest of all that belongs to it, signed, and another one whenever that changes."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.config import Runner
from agent.config.manifests import Manifests
from agent.errors import StoreError
from agent.journal import verify
from agent.manifest import Background, Json, Manifest, contradictions, verified
from agent.model import AssetState, Role, Statement, Transcript, TranscriptKind
from agent.pipeline import documents
from agent.pipeline.checkpoints import begin, sign, verifiers
from agent.pipeline.documents import add_document
from agent.pipeline.recover import recover
from agent.pipeline.rotation import rotate
from agent.pipeline.sealing import SealLane
from agent.pipeline.station import Station
from agent.signing import CommandKey, station_key
from agent.tlog.keys import Algorithm, Key
from agent.tlog.note import Note
from agent.transcripts import read_sealed
from simulator import sm2
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.stations import dock, opened

CARD = {"/A.MP4": b"film", "/B.MP4": b"another film"}
ROOT = Path(__file__).resolve().parents[1]


def metadata(recording_id: str) -> Json:
    return {"version": 0, "fields": {"item_id": {"source": "A", "value": recording_id}}}


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    """Two recordings, held, by a station that can sign at once."""
    async with opened(tmp_path, clock) as station:
        await begin(station, station_key(tmp_path, tmp_path / "no-credential"))
        station.limits = Runner(probe_pause_s=0, backoff_base_s=60, backoff_max_s=600)
        station.manifests = Manifests(quiet_s=0)
        station.background = lambda: Background({"name": "采集站"}, {"agent": "1"}, metadata)
        await dock(station, FakeRecorder(CARD, station.vault.staging_dir))
        yield station
    assert verify(tmp_path / "journal.db").differences == ()


def lane_of(station: Station, *, busy: bool = False) -> SealLane:
    return SealLane(station, lambda: busy)


def recordings(station: Station) -> list[str]:
    return sorted(view.recording.recording_id for view in station.journal.reader.recordings())


def manifests(station: Station, recording_id: str) -> list[Manifest]:
    """All manifests of a recording, each held, and signed by the station's key."""
    found = []
    for view in station.journal.reader.seals(recording_id):
        assert view.asset.state is AssetState.HELD
        assert view.asset.digests is not None
        content = read_sealed(station.vault.address(view.asset.digests.blake3), view.asset.digests.blake3)
        keys = verifiers(station.journal.reader, station.custody.origin)
        found.append(verified(content, keys)[0])
    return found


async def said(station: Station, about: list[str]) -> None:
    await add_document(station, Statement("张三", "现场", station.clock(), {"case_no": "鲁医保罚〔2026〕1号"}), about)


async def test_each_recording_gets_a_manifest_of_what_belongs_to_it(station: Station) -> None:
    checkpoint = await sign(station)
    assert checkpoint is not None
    await lane_of(station).step()
    reader = station.journal.reader
    for recording_id in recordings(station):
        (made,) = manifests(station, recording_id)
        original = reader.asset(recording_id)
        assert original.digests is not None
        (listed,) = made.assets
        told = (listed.asset_id, listed.role, listed.size_bytes, listed.blake3, listed.sha256)
        digests = original.digests
        assert told == (original.asset_id, Role.ORIGINAL, original.size_bytes, digests.blake3, digests.sha256)
        assert (made.recording_id, made.number, made.previous, made.log) == (recording_id, 1, "", checkpoint.note)
        assert (made.station, made.environment, made.metadata) == (
            {"name": "采集站"},
            {"agent": "1"},
            metadata(recording_id),
        )
        assert contradictions(made, recording_id, [original]) == []
    assert station.custody.asked.is_set(), "a checkpoint covers them soon"
    assert reader.next_to_store(station.clock()) is not None


async def test_news_makes_another_that_names_the_one_before(station: Station, clock: SettableClock) -> None:
    lane, (first, second) = lane_of(station), recordings(station)
    await lane.step()
    await said(station, [second, first])
    clock.advance(1)
    await add_document(station, Transcript(TranscriptKind.HUMAN, "张三", station.clock()), [first], "一句话".encode())
    await lane.step()
    await lane.step()
    one, two = manifests(station, first)
    before = station.journal.reader.seals(first)[0].asset.digests
    assert before is not None
    assert (two.number, two.previous) == (2, before.blake3)
    assert two.covers > one.covers
    assert [listed.role for listed in two.assets] == [Role.ORIGINAL, Role.STATEMENT, Role.TRANSCRIPT]
    assert [listed.role for listed in manifests(station, second)[1].assets] == [Role.ORIGINAL, Role.STATEMENT]


async def test_it_waits_until_it_is_quiet_around_a_recording(station: Station, clock: SettableClock) -> None:
    station.manifests = Manifests(quiet_s=600)
    lane, (first, second) = lane_of(station), recordings(station)
    clock.advance(300)
    await said(station, [first])
    clock.advance(300)
    await lane.step()
    assert [len(manifests(station, each)) for each in (first, second)] == [0, 1]
    clock.advance(300)
    await lane.step()
    assert [len(manifests(station, each)) for each in (first, second)] == [1, 1]


async def test_nothing_is_signed_while_a_recorder_is_read_or_without_a_key_or_over_a_forked_log(
    station: Station,
) -> None:
    await lane_of(station, busy=True).step()
    key, station.custody.key = station.custody.key, None
    await lane_of(station).step()
    station.custody.key, station.custody.fork = key, "an older copy"
    await lane_of(station).step()
    assert station.journal.reader.seals(recordings(station)[0]) == ()
    station.custody.fork = ""
    await lane_of(station).step()
    assert len(manifests(station, recordings(station)[0])) == 1


async def test_what_can_not_be_told_is_shown_tried_later_and_keeps_nobody_else(
    station: Station, clock: SettableClock
) -> None:
    first, second = recordings(station)
    broken = {first}

    def some(recording_id: str) -> Json:
        return {"words": "x" * (1 << 18)} if recording_id in broken else {}

    station.background = lambda: Background({}, {}, some)
    lane = lane_of(station)
    await lane.step()
    await lane.step()
    assert [len(manifests(station, each)) for each in (first, second)] == [0, 1]
    broken.clear()
    await lane.step()
    assert len(manifests(station, first)) == 0, "it rests"
    clock.advance(61)
    await lane.step()
    assert len(manifests(station, first)) == 1
    assert lane.trouble == ""


async def test_what_kills_the_process_does_so_a_few_times_and_then_rests(
    station: Station, clock: SettableClock
) -> None:
    asked = 0

    def deadly() -> Background:
        nonlocal asked
        asked += 1
        raise KeyboardInterrupt

    def dying(recording_id: str) -> Json:
        return deadly().metadata(recording_id)

    station.background = lambda: Background({}, {}, dying)
    for _ in range(10):
        try:
            await lane_of(station).step()
        except KeyboardInterrupt:
            continue
    assert asked == 6, "three times for each"
    station.background = lambda: Background({}, {}, metadata)
    clock.advance(61)
    await lane_of(station).step()
    assert [len(manifests(station, each)) for each in recordings(station)] == [1, 1]


async def test_a_manifest_that_is_cut_off_is_finished_and_one_that_is_lost_is_made_anew(
    station: Station, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between its event and the vault: with the part it is finished; without it another one says the same."""
    first, second = recordings(station)

    async def cut(*_: object) -> None:
        raise StoreError("power is cut")

    with monkeypatch.context() as patched:
        patched.setattr(documents, "hold", cut)
        await lane_of(station).step()
    lost = station.journal.reader.seals(second)[0].asset.asset_id
    (station.vault.staging_dir / station.vault.part_name(lost)).unlink()
    await recover(station)
    clock.advance(61)
    assert len(manifests(station, first)) == 1
    assert station.journal.reader.asset(lost).state is AssetState.STUCK
    await lane_of(station).step()
    _, again = station.journal.reader.seals(second)
    assert again.asset.state is AssetState.HELD


async def test_a_second_signature_comes_from_a_command_and_openssl_takes_it(
    station: Station, clock: SettableClock, tmp_path: Path
) -> None:
    """SM2 in software, as a token would; the station's own signature stands beside it."""
    key = sm2.make(tmp_path / "sm2.pem", "bureau.example/sm2")
    assert Key.parse(key.vkey) == key
    station.manifests = Manifests(quiet_s=0, command=("/x",), key=key.vkey)
    lane = lane_of(station)
    await lane.step()
    assert "/x can't be started" in lane.trouble
    assert station.journal.reader.seals(recordings(station)[0]) == ()
    command = tmp_path / "sign"
    command.write_text(f"#!/bin/sh\ncd {ROOT} && exec {sys.executable} -m simulator.sm2 sign {tmp_path}/sm2.pem\n")
    command.chmod(0o700)
    station.manifests = Manifests(quiet_s=0, command=(str(command),), key=key.vkey)
    clock.advance(61)
    await lane.step()
    assert lane.trouble == ""
    (view,) = station.journal.reader.seals(recordings(station)[0])
    assert view.asset.digests is not None
    note = Note.parse(station.vault.address(view.asset.digests.blake3).read_bytes())
    ours, theirs = note.signatures
    assert (ours.name, theirs.name, theirs.key_id) == (station.custody.origin, key.name, key.key_id)
    assert sm2.verify(tmp_path / "sm2.pem", note.text.encode(), theirs.data)
    assert not sm2.verify(tmp_path / "sm2.pem", note.text.encode() + b"!", theirs.data)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("/bin/false",), "ended with 1 and 0 bytes"),
        (("/bin/true",), "ended with 0 and 0 bytes"),
        (("/bin/sh", "-c", "head -c 9000 /dev/zero"), "ended with 0 and 9000 bytes"),
        (("/bin/sh", "-c", "sleep 60 & sleep 60"), "gave no answer within 0.2 s"),
    ],
)
async def test_a_command_that_gives_no_signature_is_refused_and_leaves_nobody_behind(
    words: tuple[str, ...], why: str
) -> None:
    with pytest.raises(Exception, match=why):
        await asyncio.to_thread(CommandKey(words, b"", 0.2).sign, b"text")


async def test_no_key_signs_behind_the_event_that_another_follows_it(station: Station) -> None:
    """Also if it is changed while a few manifests are being made."""
    await sign(station)
    first, second = recordings(station)
    loop, changed = asyncio.get_running_loop(), []

    def changing(recording_id: str) -> Json:
        if not changed:
            asked = rotate(station, {"who": "李四", "why": "the old one was copied"})
            changed.append(asyncio.run_coroutine_threadsafe(asked, loop))
        return metadata(recording_id)

    station.background = lambda: Background({}, {}, changing)
    await lane_of(station).step()
    await asyncio.wrap_future(changed[0])
    reader = station.journal.reader
    (event,) = (one for one in reader.events(0, 100) if one.kind == "key_rotated")
    old, new = (bytes.fromhex(key.public) for key in reader.announced_keys())
    for recording_id in (first, second):
        (view,) = reader.seals(recording_id)
        assert view.asset.digests is not None
        (signature,) = Note.parse(station.vault.address(view.asset.digests.blake3).read_bytes()).signatures
        key = Key(station.custody.origin, Algorithm.ED25519, new if view.seq > event.seq else old)
        assert signature.key_id == key.key_id
    assert len({view.seq > event.seq for each in (first, second) for view in reader.seals(each)}) == 2
