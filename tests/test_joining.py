"""Promise: what sessions recorded is shown by one film for each source; a crash costs an attempt, never an original."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
from blake3 import blake3

from agent.access.filming import Film, Footage, make_film
from agent.access.inspecting import inspect
from agent.access.tool import ToolError
from agent.config import AccessCopies
from agent.config.rooms import Room, Source
from agent.errors import StoreError
from agent.journal import joining
from agent.journal.views import DocumentView
from agent.model import (
    ActivityStated,
    AssetState,
    Derivation,
    FindingKind,
    GapExplained,
    Incident,
    Role,
    SessionEnded,
    SessionNoted,
)
from agent.pipeline import joining as lane_module
from agent.pipeline.asked import VERBS
from agent.pipeline.deriving import ATTEMPTS, DeriveLane
from agent.pipeline.joining import JoinLane
from agent.pipeline.probing import ProbeLane
from agent.pipeline.recover import recover
from agent.pipeline.segments import take
from agent.pipeline.station import Station
from agent.rooms.protocol import Closed, Why
from tests.conftest import SettableClock
from tests.journal_entries import session_started
from tests.segments import RATE, Stream, camera, cut, decoded
from tests.stations import opened

LASTS = {"front": (0.0, 2.0, 9.0), "rear": (0.5, 2.5)}
"""When the segments of a source begin, of 2 s each; the session lasts 11 s."""


ROOM = Room("xunwen", "询问室", (Source("front", "前方摄像机"), Source("rear", "后方摄像机")))


def idle() -> bool:
    return False


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stream]:
    folder = tmp_path_factory.mktemp("cameras")
    return {"front": camera(folder, "front", 8), "rear": camera(folder, "rear", 6, size="160x120")}


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock, streams: dict[str, Stream]) -> AsyncIterator[Station]:
    """A session of two cameras that has ended; one of them lost its connection for five seconds."""
    async with opened(tmp_path / "station", clock) as station:
        station.access, station.rooms = AccessCopies(), {ROOM.name: ROOM}
        begun = clock() - timedelta(minutes=1)
        started = session_started(started_at=begun, sources=("front", "rear"))
        end = begun + timedelta(seconds=11)
        gap = SessionNoted("s1", "front", "gap", begun + timedelta(seconds=4), begun + timedelta(seconds=9), "closed")
        black = SessionNoted("s1", "rear", "black", begun + timedelta(seconds=0.5), begun + timedelta(seconds=4))
        await station.journal.record(started, gap, black)
        folder = tmp_path / "station" / "rooms" / "s1"
        folder.mkdir(parents=True)
        for source, begins in LASTS.items():
            for number, at_s in enumerate(begins, 1):
                path = cut(streams[source], folder / f"{source}-{number:06}", 2 * number, 2 * number + 2, 100 * number)
                start_us = round((begun.timestamp() + at_s) * 1e6)
                counts = (2_000_000, path.stat().st_size, 2 * RATE, 31)
                closed = Closed(
                    source, number, path.name, Why.LENGTH, start_us, start_us + 2_000_000, *counts, ()
                )  # fmt: skip
                await take(station, started, folder, closed)
        await station.journal.record(SessionEnded("s1", end, "张三", "结束", "stopped"))
        yield station


async def all_probed(station: Station) -> None:
    while station.journal.reader.next_to_probe() is not None:
        await ProbeLane(station, idle).step()  # a new one tries again what a busy machine kept another from


def files(station: Station, of: str = "") -> dict[Role, DocumentView]:
    """What was made of a source, or of the whole session: the newest of each role."""
    found = {}
    for view in station.journal.reader.joined("s1"):
        assert isinstance(view.said, Derivation)
        if view.said.of == of:
            found[view.said.role] = view
    return found


def path_of(station: Station, view: DocumentView) -> Path:
    assert view.asset.digests is not None
    assert view.asset.state in (AssetState.HELD, AssetState.MATCHED)
    return station.vault.address(view.asset.digests.blake3)


def segments(station: Station, source: str) -> list[str]:
    return [one.recording.recording_id for one in station.journal.reader.session("s1").segments if one.source == source]


async def test_films_of_all_sources_and_what_shows_the_whole_session(station: Station) -> None:
    lane, reader = JoinLane(station, idle), station.journal.reader
    await lane.step()
    assert files(station, "front") == {}, "nobody has probed it yet"
    await all_probed(station)
    await lane.step()
    assert set(files(station, "front")) == {Role.ACCESS_COPY, Role.PLAYLIST, Role.CERTIFICATE}
    assert (files(station), files(station, "rear")) == ({}, {})
    await lane.step()
    assert reader.to_join(9) == ()
    whole = files(station)
    assert set(whole) == {Role.MOSAIC, Role.CONTACT_SHEET, Role.TIMELINE, Role.SESSION_LIST, Role.CERTIFICATE}
    film = path_of(station, files(station, "front")[Role.ACCESS_COPY])
    originals = [path for name in segments(station, "front") for path in [original(station, name)]]
    assert [picture for _, picture in decoded(film)][: 4 * RATE] == [
        p for one in originals[:2] for _, p in decoded(one)
    ]
    assert len(decoded(film)) == 6 * RATE + 5, "five seconds of a card"
    assert len(decoded(path_of(station, files(station, "rear")[Role.ACCESS_COPY]))) == 4 * RATE + 1 + 7
    mosaic = (await inspect(path_of(station, whole[Role.MOSAIC]))).of("video")
    assert mosaic is not None
    assert (mosaic.bad, mosaic.span_ms) == (0, pytest.approx(11_000, abs=200))
    assert path_of(station, whole[Role.CONTACT_SHEET]).read_bytes()[:3] == b"\xff\xd8\xff"
    told = path_of(station, whole[Role.TIMELINE]).read_text("utf-8")
    assert "前方摄像机" in told
    assert "00:00:04–00:00:09" in told
    assert list(station.vault.work_dir.iterdir()) == list(station.vault.staging_dir.iterdir()) == []
    the_list_names_every_segment(station)
    segments_have_findings_and_no_copies(station)
    before = files(station, "front")[Role.ACCESS_COPY]
    name = station.journal.reader.recording(segments(station, "front")[1]).asset.asset_id
    await VERBS["derive"](station, {"id": name, "who": "李四", "why": "设置已改"})
    await all_joined(station)
    assert files(station, "front")[Role.ACCESS_COPY].seq > before.seq
    assert files(station)[Role.SESSION_LIST].seq > before.seq


async def test_what_was_said_of_a_gap_by_then_is_on_its_card(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    await all_probed(station)
    begun = station.journal.reader.session("s1").started.started_at
    names = [one.recording.recording_id for one in station.journal.reader.session("s1").segments]
    span = begun + timedelta(seconds=4.5), begun + timedelta(seconds=9)
    await station.journal.record(
        ActivityStated("s1", "S05", begun, begun + timedelta(seconds=11), tuple(names), "张三", "询问"),
        GapExplained("s1", 1, *span, "INT-12", "断电", "张三", "doc"),
        GapExplained("s1", 2, *span, "INT-09", "误按", "张三", "doc"),
    )
    asked: list[Footage] = []

    async def seen(footage: Footage, *more: object, **options: object) -> Film:
        asked.append(footage)
        return await make_film(footage, *more, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lane_module, "make_film", seen)
    await JoinLane(station, idle).step()
    (footage,) = asked
    assert [one.reason for one in footage.missing if one.is_said] == ["INT-09 误操作 (handling mistake)，待确认"]
    assert Role.ACCESS_COPY in files(station, "front")


def the_list_names_every_segment(station: Station) -> None:
    """With its digests, and its place in the film."""
    listed = json.loads(path_of(station, files(station)[Role.SESSION_LIST]).read_bytes())
    assert [one["name"] for one in listed["sources"]] == ["front", "rear"]
    front, rear = listed["sources"]
    assert [one["film_ms"] for one in front["segments"]] == [0, 2000, 9000]
    assert [one["film_ms"] for one in rear["segments"]] == [500, 2500]
    for one in (*front["segments"], *rear["segments"]):
        path = original(station, one["recording_id"])
        assert one["original"]["blake3"] == blake3(path.read_bytes()).hexdigest()
        assert one["recorded"]["frames"] == 2 * RATE
    assert front["film"]["blake3"] == path_of(station, files(station, "front")[Role.ACCESS_COPY]).name
    assert [(note["kind"], note["cause"]) for note in front["notes"]] == [("gap", "closed")]
    assert listed["mosaic"]["blake3"] == path_of(station, files(station)[Role.MOSAIC]).name
    played = path_of(station, files(station, "front")[Role.PLAYLIST]).read_text("utf-8")
    names = [line for line in played.splitlines() if line and not line.startswith("#")]
    assert all((station.vault.address("0" * 64).parents[1] / name).is_file() for name in names)
    assert len(names) == 3
    assert played.count("# nothing for 5.000 s") == 1
    paper = json.loads(path_of(station, files(station, "front")[Role.CERTIFICATE]).read_bytes())
    assert [one["role"] for one in paper["files"]] == ["access_copy", "playlist"]
    assert len(paper["source"]["counts"]["segments"]) == 3


def segments_have_findings_and_no_copies(station: Station) -> None:
    reader = station.journal.reader
    film = files(station, "rear")[Role.ACCESS_COPY].asset.asset_id
    told = [reader.derived(name) for name in segments(station, "rear")]
    assert [(one.film, one.film_ms, one.reason) for one in told if one] == [(film, 500, ""), (film, 2500, "")]
    black = [[(f.start_ms, f.end_ms) for f in one.findings if f.kind is FindingKind.BLACK] for one in told if one]
    assert black == [[(0, 2000)], []], "of the second segment it is less than is told"
    deriving = DeriveLane(station, idle, None, None)  # type: ignore[arg-type]
    assert reader.next_to_derive() is None
    assert deriving.trouble == ""
    assert reader.copies().made == 5


async def test_nothing_begins_while_a_recorder_is_read_a_session_runs_or_the_disk_is_full(station: Station) -> None:
    await all_probed(station)
    await JoinLane(station, lambda: True).step()
    station.is_recording = lambda: True
    await JoinLane(station, idle).step()
    station.is_recording, station.reserve_bytes = idle, station.vault.free_bytes()
    full = JoinLane(station, idle)
    await full.step()
    assert "存储空间不足" in full.trouble
    assert station.journal.reader.joined("s1") == ()


async def test_a_segment_that_can_not_be_read_holds_no_film_back_and_is_in_the_next_one_when_it_can(
    station: Station,
) -> None:
    name = segments(station, "front")[1]
    lost = original(station, name)
    away = lost.rename(lost.with_name("away"))
    probing = ProbeLane(station, idle)
    while not probing.given_up or station.journal.reader.next_to_probe(frozenset(probing.given_up)) is not None:
        await probing.step()
    await JoinLane(station, idle).step()
    assert station.journal.reader.joined("s1") == (), "it may be read yet, for all that this lane knows"
    lane = JoinLane(station, idle, probing.unread)
    for _ in range(3):
        await lane.step()
    film = files(station, "front")[Role.ACCESS_COPY]
    assert isinstance(film.said, Derivation)
    assert not film.said.complete
    paper = path_of(station, files(station, "front")[Role.CERTIFICATE]).read_text("utf-8")
    assert "segment front-000002.mp4 can't be read and is not in it" in paper
    assert Role.SESSION_LIST in files(station)
    assert station.journal.reader.derived(name) is None, "its film is still to be made"
    away.rename(lost)
    await all_probed(station)
    await all_joined(station)
    after = files(station, "front")[Role.ACCESS_COPY]
    assert after.seq > film.seq
    assert len(decoded(path_of(station, after))) == 6 * RATE + 5
    assert [one.film_ms for one in map(station.journal.reader.derived, segments(station, "front")) if one] == [
        0,
        2000,
        9000,
    ]


async def test_a_crash_in_the_middle_costs_an_attempt_and_three_are_enough(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process dies while it makes a film: nothing of it is entered, and the next start clears what lies there."""
    await all_probed(station)

    async def dies(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    monkeypatch.setattr(lane_module, "make_film", dies)
    for attempt in range(1, ATTEMPTS + 1):
        with pytest.raises(RuntimeError):
            await JoinLane(station, idle).step()
        begun = station.journal.reader.attempt(joining("s1", "front"))
        assert begun is not None
        assert begun.begun == attempt
        await recover(station)
    assert station.journal.reader.joined("s1") == ()
    await JoinLane(station, idle).step()
    reasons = [station.journal.reader.derived(name) for name in segments(station, "front")]
    assert all(one is not None and "3 attempts" in one.reason for one in reasons)
    monkeypatch.undo()
    await all_joined(station)
    assert Role.ACCESS_COPY in files(station, "rear")
    assert Role.SESSION_LIST in files(station)


async def test_a_disk_that_refuses_what_was_made_is_asked_again_by_the_same_lane(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    await all_probed(station)
    lane = JoinLane(station, idle)

    async def refuses(*_: object) -> None:
        raise StoreError("The disk refused.", safe="Yes.", do="Nothing.")

    with monkeypatch.context() as patched:
        patched.setattr(lane_module, "add_made", refuses)
        with pytest.raises(StoreError):
            await lane.step()
    await lane.step()
    assert Role.ACCESS_COPY in files(station, "front")


async def test_the_service_that_ends_is_not_the_fault_of_the_session(station: Station) -> None:
    await all_probed(station)
    under_way = asyncio.create_task(JoinLane(station, idle).step())
    await asyncio.sleep(1)
    under_way.cancel()
    with pytest.raises(asyncio.CancelledError):
        await under_way
    assert list(station.vault.work_dir.iterdir()) == []
    before = station.journal.reader.attempt(joining("s1", "front"))
    assert before is None or before.begun <= 1


async def test_what_is_changed_or_can_not_be_shown_is_said(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    await all_probed(station)
    changed = original(station, segments(station, "front")[0])
    changed.chmod(0o600)
    changed.write_bytes(b"\1" + changed.read_bytes()[1:])
    await JoinLane(station, idle).step()
    first, second, third = (station.journal.reader.derived(name) for name in segments(station, "front"))
    assert first is not None
    assert second is not None
    assert third is not None
    assert (bool(first.reason), second.reason, third.reason) == (True, "", "")
    assert second.film_ms == 2000, "a card stands for what is changed"
    events = station.journal.reader.events(limit=1000)
    assert any(Incident("vault-damaged", {}).kind in one.detail for one in events)

    async def refuses(*_: object, **__: object) -> None:
        raise ToolError("ffmpeg made no progress")

    monkeypatch.setattr(lane_module, "make_film", refuses)
    await JoinLane(station, idle).step()
    rear = [station.journal.reader.derived(name) for name in segments(station, "rear")]
    assert {one.reason for one in rear if one} == {"no film could be made of its session: ffmpeg made no progress"}
    assert Role.SESSION_LIST in files(station)


async def all_joined(station: Station) -> None:
    await all_probed(station)
    while station.journal.reader.to_join(9):
        await JoinLane(station, idle).step()


def original(station: Station, recording_id: str) -> Path:
    asset = station.journal.reader.recording(recording_id).asset
    assert asset.digests is not None
    return station.vault.address(asset.digests.blake3)
