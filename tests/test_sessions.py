"""Sessions of rooms: every closed segment is held at once, every gap is told, and the end says what there is."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent.config.rooms import Room, Source
from agent.errors import RequestError, StoreError
from agent.journal.segments import continuity_of
from agent.model import AssetState, Completeness, Missing, StartedBy, Statement
from agent.pipeline import session as session_module
from agent.pipeline.station import Station
from agent.rooms.protocol import Cause, Kind, Noticed, Why
from tests.conftest import SettableClock
from tests.journal_entries import assert_consistent
from tests.stations import opened
from tests.studio import ORDER, ROOM, Studio, until, us


@pytest.fixture
def studio(monkeypatch: pytest.MonkeyPatch) -> Studio:
    monkeypatch.setattr(session_module, "_BEAT_S", 0.01)
    monkeypatch.setattr(session_module, "_ADDRESS_LIMIT_S", 0.05)
    monkeypatch.setattr(session_module, "_ASK_AGAIN_S", 0.01)
    return Studio()


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    async with opened(tmp_path / "station", clock) as station:
        yield station
    assert_consistent(tmp_path / "station" / "journal.db")


def folder_of(station: Station, session_id: str) -> Path:
    return station.vault.root / "rooms" / session_id


async def test_each_closed_segment_is_held_while_the_session_runs(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        recorder.begin()
        content = recorder.content("front")
        clock.advance(60)
        recorder.close("front")
        reader = station.journal.reader
        await until(lambda: reader.overview(clock()).assets[AssetState.HELD].files == 1)
        (taken,) = reader.session(session_id).segments
        row = reader.recording(taken.recording.recording_id)
        assert row.asset.digests is not None
        assert station.vault.address(row.asset.digests.blake3).read_bytes() == content
        assert (row.captured[0], row.captured[1]) == (clock(), clock())
        assert row.recording.device_id == "room:xunwen:front"
        assert taken.facts["frames"] == 25
        assert not (folder_of(station, session_id) / taken.file).exists()
        recorder.begin("front")
        clock.advance(30)
        await sessions.stop(session_id, "李四", "问完")
        view = reader.session(session_id)
        assert [(one.source, one.number) for one in view.segments] == [("front", 1), ("side", 1), ("front", 2)]
        assert view.ended is not None
        assert (view.ended.who, view.ended.reason, view.ended.ended_at) == ("李四", "stopped", clock())
        assert reader.overview(clock()).assets[AssetState.HELD].files == 3
        assert sessions.running() == ()
        assert not folder_of(station, session_id).exists()


async def test_what_the_session_says_of_its_recordings_nobody_has_to_say_again(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        order = replace(ORDER, participants=("当事人：王某", "书记员"), case_number="鲁医保〔2026〕1号")
        session_id = await sessions.start("xunwen", order)
        (await studio.recorder()).begin()
        clock.advance(60)
        await sessions.stop(session_id, "张三", "问完")
        reader = station.journal.reader
        view = reader.activity(session_id)
        assert (view.stated.stage, view.stated.who, len(view.recordings)) == ("S05", "张三", 2)
        assert continuity_of(view).gaps == ()
        for row in view.recordings:
            known = reader.metadata(row.recording.recording_id)
            assert known.lacks == {Missing.MAKERS, Missing.PROOF_OBJECT}
            assert known.completeness is Completeness.INCOMPLETE
            (said,) = reader.statements([row.recording.recording_id])[row.recording.recording_id]
            assert isinstance(said.said, Statement)
            assert said.said.fields["case_no"] == "鲁医保〔2026〕1号"
            assert said.said.fields["place_text"] == "一号询问室"
            people = [{"role": "当事人", "name": "王某"}, {"role": "在场人员", "name": "书记员"}]
            assert said.said.fields["persons_present"] == people
            assert said.said.fields["method"] == "fixed_camera"


async def test_what_is_asked_for_and_can_not_be_is_refused_in_words(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        with pytest.raises(RequestError, match="no room 'nowhere'; there are: xunwen"):
            await sessions.start("nowhere", ORDER)
        for end in (clock(), clock() - timedelta(days=2000), clock() + timedelta(hours=24, seconds=1)):
            with pytest.raises(RequestError, match="in the next 24 hours"):
                await sessions.start("xunwen", replace(ORDER, planned_end=end, anyway=True))
        session_id = await sessions.start("xunwen", ORDER)
        with pytest.raises(RequestError, match="recording already"):
            await sessions.start("xunwen", ORDER)
        with pytest.raises(RequestError, match="is not running"):
            await sessions.stop("other", "张三", "误按")
        await sessions.stop(session_id, "张三", "误按")
        with pytest.raises(RequestError, match="is not running"):
            await sessions.stop(session_id, "张三", "误按")


async def test_two_at_once_can_not_both_start(station: Station, studio: Studio) -> None:
    async with studio.serving(station) as sessions:
        told = await asyncio.gather(*(sessions.start("xunwen", ORDER) for _ in range(5)), return_exceptions=True)
        assert sum(isinstance(one, str) for one in told) == 1
        assert sum(isinstance(one, RequestError) for one in told) == 4
        assert len(station.journal.reader.open_sessions()) == 1


async def test_the_space_of_the_planned_time_is_kept_and_given_back(
    station: Station, studio: Studio, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.pipeline.reserve._STEP_BYTES", 0)
    room = replace(ROOM, planned_h=1.0)  # 2 x 64 kbit/s x 3600 s x 1.05
    planned = 60_480_000
    async with studio.serving(station, room) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        reserved = folder_of(station, session_id) / "reserved.part"
        assert reserved.stat().st_size == planned
        assert reserved.stat().st_blocks * 512 >= planned
        recorder = await studio.recorder()
        recorder.begin("front")
        grown = planned - len(recorder.content("front"))
        await until(lambda: reserved.stat().st_size == grown)
        clock.advance(60)
        recorder.close("front")
        await until(lambda: station.journal.reader.session(session_id).segments)
        assert reserved.stat().st_size == grown
        await sessions.stop(session_id, "张三", "问完")
        assert not reserved.exists()


async def test_without_the_space_a_session_starts_only_if_somebody_wants_it_anyway(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    room = replace(ROOM, planned_h=24.0, bitrate_kbit_s=1_000_000)
    station.reserve_bytes = station.vault.free_bytes() - (200 << 20)
    async with studio.serving(station, room) as sessions:
        with pytest.raises(RequestError, match="存储空间不足"):
            await sessions.start("xunwen", ORDER)
        assert not station.journal.reader.open_sessions()
        session_id = await sessions.start("xunwen", replace(ORDER, anyway=True))
        assert sessions.running()[0].reserved_bytes > 0
        (note,) = station.journal.reader.session(session_id).notes
        assert (note.kind, note.source) == ("space", "")
        await sessions.stop(session_id, "张三", "试")
        session_id = await sessions.start("xunwen", replace(ORDER, started_by=StartedBy.SCHEDULE))
        await sessions.stop(session_id, "张三", "试")
        station.reserve_bytes = station.vault.free_bytes()
        with pytest.raises(RequestError, match="存储空间不足"):
            await sessions.start("xunwen", replace(ORDER, anyway=True))


async def test_every_gap_is_told_with_its_start_its_end_and_its_cause(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        recorder.begin()
        clock.advance(20)
        recorder.lose("front")
        recorder.close("front")
        since = clock()
        await until(lambda: sessions.running()[0].sources[0].gaps)
        (live,) = sessions.running()
        assert [(one.name, one.connected, one.gaps) for one in live.sources] == [("front", False, 1), ("side", True, 0)]
        clock.advance(3)
        recorder.lose("front", Cause.REFUSED)  # the same gap, of which more is known now
        clock.advance(4)
        recorder.begin("front")
        recorder.back("front")
        await until(lambda: sessions.running()[0].sources[0].connected)
        (live,) = sessions.running()
        assert live.sources[0].since == clock()
        back = clock()
        clock.advance(9)
        recorder.lose("side", Cause.CLOSED)
        lost = clock()
        recorder.close("side")
        clock.advance(5)
        await sessions.stop(session_id, "张三", "问完")
        notes = [one for one in station.journal.reader.session(session_id).notes if one.kind == "gap"]
        told = [(one.source, one.cause, one.start, one.end) for one in notes]
        assert told == [("front", "refused", since, back), ("side", "closed", lost, clock())]


async def test_what_is_noticed_goes_on_until_it_ends(station: Station, studio: Studio, clock: SettableClock) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        recorder.begin()
        start = us(clock())
        recorder.say(Noticed("front", Kind.BLACK, start, track="video"))
        recorder.say(Noticed("front", Kind.JUMP, start, start, value=3_600_000_000))
        recorder.alive("front", level_db=-20.5, still="front.jpg")
        await until(lambda: sessions.running()[0].sources[0].level_db == -20.5)
        (live,) = sessions.running()
        assert live.sources[0].noticed == ("black",)
        assert live.sources[0].still == folder_of(station, session_id) / "front.jpg"
        assert live.sources[0].media_s == 5.0
        clock.advance(10)
        recorder.say(Noticed("front", Kind.BLACK, start, us(clock()), track="video"))
        await until(lambda: not sessions.running()[0].sources[0].noticed)
        await sessions.stop(session_id, "张三", "问完")
        notes = {one.kind: one for one in station.journal.reader.session(session_id).notes}
        assert notes["black"].end == clock()
        assert notes["black"].detail == {"track": "video"}
        assert notes["jump"].detail == {"value": 3_600_000_000}


async def test_late_starts_overruns_and_missing_sources_are_alarms_and_are_kept(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    planned = clock()
    clock.advance(61)
    order = replace(ORDER, planned_start=planned, planned_end=planned + timedelta(minutes=10), scheduled="uid")
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", order)
        started = clock()
        recorder = await studio.recorder()
        recorder.begin("front")
        clock.advance(61)
        await until(lambda: any("侧面" in told and "missing" in told for told in sessions.problems()))
        recorder.begin("side")
        came = clock()
        await until(lambda: not sessions.problems())
        clock.set(planned + timedelta(minutes=15, seconds=1))
        notes = station.journal.reader.session_notes
        await until(lambda: any(one.kind == "overrun" for one in notes(session_id)))
        assert not recorder.stopped
        await sessions.stop(session_id, "张三", "问完")
        told = [(one.kind, one.source, one.start, one.end) for one in station.journal.reader.session(session_id).notes]
        assert ("late", "", planned, started) in told
        assert ("missing", "side", started, came) in told
        assert ("gap", "side", started, came) in told
        assert ("overrun", "", order.planned_end, clock()) in told
        assert station.journal.reader.was_scheduled("xunwen", "uid")


async def test_a_session_lasts_until_the_end_that_was_planned_last_also_after_a_crash(
    station: Station, studio: Studio, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.pipeline.reserve._STEP_BYTES", 0)
    begun = clock()
    hour = timedelta(hours=1)
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", replace(ORDER, planned_end=begun + hour))
        clock.advance(3600 + 301)
        notes = station.journal.reader.session_notes
        await until(lambda: any(one.kind == "overrun" for one in notes(session_id) if one.end is None))
        for end in (clock(), begun, clock() + 25 * hour):
            with pytest.raises(RequestError, match="next 24 hours"):
                await sessions.extend(session_id, end, "张三", "未问完")
        assert await sessions.extend(session_id, begun + 2 * hour, "张三", "未问完") == 0
        assert sessions.running()[0].planned_end == begun + 2 * hour
        assert (folder_of(station, session_id) / "reserved.part").stat().st_size == 2 * 60_480_000
        await until(lambda: all(one.end is not None for one in notes(session_id) if one.kind == "overrun"))
        monkeypatch.setattr("agent.durable.os.posix_fallocate", _full)
        clock.advance(1)
        assert await sessions.extend(session_id, begun + 3 * hour, "张三", "未问完") == 60_480_000
    async with studio.serving(station) as sessions:
        await until(sessions.running)
        assert sessions.running()[0].planned_end == begun + 3 * hour
        await sessions.stop(session_id, "张三", "问完")
        with pytest.raises(RequestError, match="is not running"):
            await sessions.extend(session_id, begun + 3 * hour, "张三", "未问完")
    lines = [one for one in station.journal.reader.session(session_id).notes if one.kind == "extended"]
    assert [one.detail["who"] for one in lines] == ["张三", "张三"]


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_camera_that_has_no_address_yet_joins_when_it_has_one(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    studio.mute.add("side")
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        first = await studio.recorder()
        assert [source.name for source in first.plan.sources] == ["front"]
        first.begin()
        studio.mute.clear()
        second = await studio.recorder(2)
        assert [source.name for source in second.plan.sources] == ["side"]
        second.begin()
        clock.advance(5)
        await sessions.stop(session_id, "张三", "问完")
        assert first.stopped
        assert second.stopped
        assert len(station.journal.reader.session(session_id).segments) == 2


async def test_a_recorder_that_gives_up_is_followed_by_another(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        first = await studio.recorder()
        first.begin()
        clock.advance(5)
        first.close("front")
        first.close("side")
        first.die()
        second = await studio.recorder(2)
        assert second.plan.first_numbers == (2, 2)
        second.begin()
        for name in ("front", "side"):
            second.back(name)
        await sessions.stop(session_id, "张三", "问完")
        notes = station.journal.reader.session(session_id).notes
        assert {(one.source, one.kind, one.cause) for one in notes if one.kind == "gap"} == {
            ("front", "gap", "recorder"),
            ("side", "gap", "recorder"),
        }


async def test_two_sessions_back_to_back_stay_apart(station: Station, studio: Studio, clock: SettableClock) -> None:
    ids = []
    async with studio.serving(station) as sessions:
        for count in (1, 2):
            ids.append(await sessions.start("xunwen", ORDER))
            recorder = await studio.recorder(count)
            assert recorder.plan.first_numbers == (1, 1)
            assert recorder.plan.folder.endswith(ids[-1])
            recorder.begin()
            clock.advance(60)
            await sessions.stop(ids[-1], "张三", "问完")
        reader = station.journal.reader
        taken = [{one.recording.recording_id for one in reader.session(name).segments} for name in ids]
        assert not taken[0] & taken[1]
        assert [set(reader.activity(name).stated.recordings) for name in ids] == taken


async def test_rooms_record_beside_each_other(station: Station, studio: Studio, clock: SettableClock) -> None:
    other = Room(
        "tingzheng", "听证室", (Source("all", "全景", "rtsp://192.0.2.9/a"),), planned_h=0.1, bitrate_kbit_s=64
    )
    async with studio.serving(station, ROOM, other) as sessions:
        first = await sessions.start("xunwen", ORDER)
        second = await sessions.start("tingzheng", ORDER)
        assert [one.room for one in sessions.running()] == ["tingzheng", "xunwen"]
        await sessions.stop(first, "张三", "问完")
        assert [one.session_id for one in sessions.running()] == [second]
        await sessions.stop(second, "张三", "问完")


@pytest.mark.soak
async def test_eight_hours_of_four_cameras_are_taken_one_by_one_and_joined(
    station: Station, studio: Studio, clock: SettableClock
) -> None:
    """1920 segments; midnight comes in the middle, and those before it belong to what ended after it."""
    cameras = tuple(Source(name, name, f"rtsp://192.0.2.9/{name}") for name in "abcd")
    room = Room("xunwen", "一号询问室", cameras, planned_h=8.0, bitrate_kbit_s=16)
    clock.set(clock().replace(hour=20))
    async with studio.serving(station, room) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        for number in range(1, 481):
            recorder.begin()
            clock.advance(60)
            for name in "abcd" if number < 480 else "":
                recorder.close(name)
            if not number % 20:
                taken = 4 * number if number < 480 else 4 * 479
                await until(lambda taken=taken: station.journal.reader.session_tally(session_id).files == taken)  # type: ignore[misc]
        await sessions.stop(session_id, "张三", "问完")
        view = station.journal.reader.activity(session_id)
        assert len(view.recordings) == 1920
        assert (view.recordings[0].ended, view.recordings[-1].ended) == (clock(), None)
        assert continuity_of(view).gaps == ()
        assert station.journal.reader.unsaid(session_id) == ()


async def test_what_the_disk_refuses_is_taken_when_it_lets_us(
    station: Station, studio: Studio, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = station.vault.settle
    refuses = [True]

    def settle(parts: object) -> object:
        if refuses:
            raise StoreError("the disk is full")
        return real(parts)  # type: ignore[arg-type]

    monkeypatch.setattr(station.vault, "settle", settle)
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        recorder.begin()
        clock.advance(5)
        recorder.close("front")
        await until(lambda: any("尚未入库" in told for told in sessions.problems()))
        recorder.begin("front")  # and recording goes on
        clock.advance(5)
        refuses.clear()
        await sessions.stop(session_id, "张三", "问完")
        assert len(station.journal.reader.session(session_id).segments) == 3
        assert station.journal.reader.overview(clock()).assets[AssetState.HELD].files == 3


@pytest.mark.parametrize("why", [Why.LENGTH, Why.DISK])
@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b"")])
async def test_a_file_that_somebody_took_away_is_a_recording_whose_bytes_are_lost(
    station: Station, studio: Studio, clock: SettableClock, spoil: Callable[[Path], object], why: Why
) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        recorder.begin("front")
        path = Path(recorder.plan.folder) / recorder.file("front")
        clock.advance(5)
        written = path.stat().st_size
        recorder.close("front", why=why)
        spoil(path)
        await sessions.stop(session_id, "张三", "问完")
        (segment,) = station.journal.reader.session(session_id).segments
        asset = station.journal.reader.asset(segment.asset.asset_id)
        assert (asset.state, asset.expected_bytes) == (AssetState.STUCK, written)
        assert "丢失" in asset.reason


async def test_no_address_with_a_password_is_in_the_journal(
    station: Station, studio: Studio, tmp_path: Path, clock: SettableClock
) -> None:
    async with studio.serving(station) as sessions:
        session_id = await sessions.start("xunwen", ORDER)
        recorder = await studio.recorder()
        assert "secret" in recorder.plan.sources[0].url
        recorder.begin()
        clock.advance(5)
        await sessions.stop(session_id, "张三", "问完")
    found = [path for path in (tmp_path / "station").rglob("*") if path.is_file() and b"secret" in path.read_bytes()]
    assert found == []
