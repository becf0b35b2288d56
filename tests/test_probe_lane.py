"""The probe lane: the most urgent first, behind all else; what the content says never makes a limit later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.config import Milestone
from agent.errors import JournalError
from agent.journal import rebuild
from agent.media.probing import Limits
from agent.model import Basis, ClockTrust, Facts, Integrity, Medium, Stamp, Stated, TimeBasis
from agent.pipeline import probing
from agent.pipeline.limits import recompute, state_time
from agent.pipeline.probing import ProbeLane
from agent.pipeline.runner import Runner
from agent.pipeline.station import Station
from agent.status.explain import explain, explanation
from agent.status.views import recording_view
from tests.conftest import CHINA, SettableClock
from tests.fakes import FakeRecorder
from tests.journal_entries import acquired, assert_consistent, deadline, opened, probed, seen
from tests.media import film
from tests.stations import QUICK, dock
from tests.stations import opened as station_opened

END = datetime(2026, 11, 20, 9, 0, tzinfo=CHINA)  # what FakeRecorder stamps
SECONDS = timedelta(seconds=4)


def made_at(end: datetime) -> tuple[str, str]:
    """For ffmpeg: a container that says that its four seconds ended then."""
    return "-metadata", f"creation_time={(end - SECONDS).isoformat()}"


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    root = tmp_path / "root"
    async with station_opened(root, clock) as made:
        made.limits = replace(QUICK, probe_pause_s=0)
        yield made
    assert_consistent(root / "journal.db")
    rebuild(root / "journal.db")
    assert_consistent(root / "journal.db")


async def docked(station: Station, files: dict[str, bytes], **options: Any) -> None:  # noqa: ANN401
    await dock(station, FakeRecorder(files, station.vault.staging_dir, **options))


async def all_probed(station: Station) -> ProbeLane:
    lane = ProbeLane(station, lambda: False)
    while station.journal.reader.next_to_probe(lane.given_up) is not None:
        await lane.step()
    return lane


def columns(station: Station, name: str) -> tuple[Any, ...]:
    row = station.journal.reader.recordings(limit=50)
    found = next(view for view in row if view.clip is not None and view.clip.path == name)
    columns = station.journal.reader._db.one(
        "SELECT medium, made_start_at, made_end_at, time_basis, integrity FROM recording WHERE recording_id = ?",
        found.recording.recording_id,
    )
    assert columns is not None
    return columns


def view_of(station: Station, name: str) -> Any:  # noqa: ANN401
    rows = station.journal.reader.recordings(limit=50)
    return next(view for view in rows if view.clip is not None and view.clip.path == name)


async def test_what_the_content_says_is_entered_and_shown(station: Station, tmp_path: Path) -> None:
    """A film that is called a photo is a film."""
    await docked(station, {"/A.JPG": film(tmp_path, "mp4", options=made_at(END)), "/B.MP4": b"nothing at all"})
    assert view_of(station, "/A.JPG").recording.medium is Medium.PHOTO
    await all_probed(station)
    medium, begin, end, basis, integrity = columns(station, "/A.JPG")
    assert (begin[:19], end[:19]) == ("2026-11-20T00:59:56", "2026-11-20T01:00:00")
    assert (medium, basis, integrity) == ("video", "container", "complete")
    assert columns(station, "/B.MP4")[0::4] == ("video", "unreadable")  # the content can't tell, so the name still does
    row = view_of(station, "/A.JPG")
    assert row.recording.medium is Medium.VIDEO
    told = recording_view(row, station.rules, Milestone.CENTRAL, {}, station.clock())
    assert told["facts"]["integrity"]["zh"] == "完整"
    assert told["facts"]["streams"][0]["codec"] == "h264"
    assert told["made"]["basis"]["name"] == "container"
    assert told["made"]["sources"][0]["agrees"]
    broken = recording_view(view_of(station, "/B.MP4"), station.rules, Milestone.CENTRAL, {}, station.clock())
    assert broken["facts"]["integrity"]["zh"] == "无法解析"
    assert broken["facts"]["integrity"]["reason"]["zh"] == "不是可识别的音像记录"
    assert broken["verdict"]["name"] == told["verdict"]["name"]


async def test_a_probe_that_changes_no_limit_says_so(station: Station, tmp_path: Path) -> None:
    await docked(station, {"/A.MP4": film(tmp_path, "mp4", options=made_at(END))})
    before = view_of(station, "/A.MP4")
    await all_probed(station)
    after = view_of(station, "/A.MP4")
    assert after.recording.deadline == before.recording.deadline
    assert after.captured == before.captured


async def test_a_contradiction_raises_the_alarm_and_only_a_person_decides(
    station: Station, tmp_path: Path, clock: SettableClock
) -> None:
    """The container says that it was made three days before: the alarm takes that, 逾期 is not said."""
    early = END - timedelta(days=3)
    await docked(station, {"/A.MP4": film(tmp_path, "mp4", options=made_at(early))})
    before = view_of(station, "/A.MP4").recording.deadline
    await all_probed(station)
    row = view_of(station, "/A.MP4")
    assert row.recording.deadline.alarm_at < before.alarm_at
    assert row.recording.deadline.due_at == before.due_at
    clock.set(row.recording.deadline.alarm_at + timedelta(hours=1))
    told = explain(row, station.rules, Milestone.CENTRAL, clock())
    assert told["verdict"]["name"] == "undecided"
    assert told["differs"] is None
    text = explanation(told)
    assert "时间矛盾" in text
    assert "不一致 differs" in text
    assert "文件时间" in text
    await state_time(station, row.asset.asset_id, Stated(early, "张三", "the file was copied later"))
    row = view_of(station, "/A.MP4")
    assert row.captured == (early, early, ClockTrust.STATED)
    begin, end, basis = columns(station, "/A.MP4")[1:4]
    assert (begin[:18], end, basis) == ("2026-11-17T00:59:5", "2026-11-17T01:00:00.000000+00:00", "officer")
    assert explain(row, station.rules, Milestone.CENTRAL, clock())["verdict"]["name"] == "overdue"


async def test_a_later_witness_never_moves_the_limit_but_a_person_may(
    station: Station, tmp_path: Path, clock: SettableClock
) -> None:
    """The file says Thursday, the container Sunday: no verdict before a person has spoken, up to what is witnessed."""
    thursday, sunday = Stamp("2026-11-19T09:00:00", 480), END + timedelta(days=2)
    content = film(tmp_path, "mp4", options=made_at(sunday))
    await docked(station, {"/A.MP4": content}, stamps={"/A.MP4": thursday})
    before = view_of(station, "/A.MP4").recording.deadline
    await all_probed(station)
    row = view_of(station, "/A.MP4")
    after = row.recording.deadline
    assert (after.due_at, after.alarm_at) == (before.due_at, before.alarm_at)
    assert (before.basis, after.basis) == (Basis.OFFICIAL, Basis.PROVISIONAL)
    assert station.journal.reader.overview(after.due_at + timedelta(days=30)).late == 0
    with pytest.raises(JournalError, match="at the latest"):
        await state_time(station, row.asset.asset_id, Stated(sunday + timedelta(hours=1), "张三", "why"))
    new = await state_time(station, row.asset.asset_id, Stated(sunday, "张三", "the container is right"))
    assert (new.due_at > before.due_at, new.basis) == (True, Basis.OFFICIAL)


async def test_a_word_that_came_before_the_probe_stays_above_it(station: Station, tmp_path: Path) -> None:
    await docked(station, {"/A.MP4": film(tmp_path, "mp4", options=made_at(END - timedelta(days=3)))})
    row = view_of(station, "/A.MP4")
    said = END - timedelta(hours=1)
    limit = await state_time(station, row.asset.asset_id, Stated(said, "张三", "I was there"))
    await all_probed(station)
    row = view_of(station, "/A.MP4")
    assert (row.recording.deadline, row.captured) == (limit, (said, said, ClockTrust.STATED))
    assert (row.time.made_end, row.time.basis) == (said, TimeBasis.OFFICER)
    assert columns(station, "/A.MP4")[2:4] == ("2026-11-20T00:00:00.000000+00:00", "officer")


async def test_other_rules_later_count_with_what_the_content_said(
    station: Station, tmp_path: Path, clock: SettableClock
) -> None:
    """A limit that is computed again still stands on the same witnesses, and a stored one is not judged anew."""
    await docked(station, {"/A.MP4": film(tmp_path, "mp4", options=made_at(END - timedelta(days=3)))})
    await all_probed(station)
    assert await recompute(station) == 0


async def test_the_most_urgent_comes_first_and_equal_content_is_probed_for_each_recording(
    station: Station, tmp_path: Path
) -> None:
    content = film(tmp_path, "wav")
    stamps = {"/NEW.WAV": Stamp("2026-11-22T09:00:00", 480), "/OLD.WAV": Stamp("2026-11-18T09:00:00", 480)}
    await docked(station, {"/NEW.WAV": content + b"\0\0", "/OLD.WAV": content}, stamps=stamps)
    await docked(station, {"/COPY.WAV": content}, serial="SN2")
    lane = ProbeLane(station, lambda: False)
    await lane.step()
    assert view_of(station, "/OLD.WAV").facts is not None
    assert view_of(station, "/NEW.WAV").facts is None
    await all_probed(station)
    assert view_of(station, "/COPY.WAV").facts == view_of(station, "/OLD.WAV").facts


async def test_nothing_begins_while_a_recorder_is_read(station: Station, tmp_path: Path) -> None:
    await docked(station, {"/A.WAV": film(tmp_path, "wav")})
    await ProbeLane(station, lambda: True).step()
    assert view_of(station, "/A.WAV").facts is None


async def test_an_original_that_can_t_be_opened_holds_up_nobody(station: Station, tmp_path: Path) -> None:
    await docked(station, {"/A.WAV": film(tmp_path, "wav"), "/B.WAV": film(tmp_path, "wav", 2)})
    digests = view_of(station, "/A.WAV").asset.digests
    station.vault.quarantine("a", digests)
    lane = await all_probed(station)
    assert lane.given_up == {view_of(station, "/A.WAV").asset.asset_id}
    assert view_of(station, "/A.WAV").facts is None
    assert view_of(station, "/B.WAV").facts is not None


async def test_a_bug_at_one_original_is_told_once_and_the_others_go_on(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await docked(station, {"/A.WAV": film(tmp_path, "wav"), "/B.WAV": film(tmp_path, "wav", 2)})
    made, calls = probing.made, []

    def broken(*arguments: Any) -> Any:  # noqa: ANN401
        calls.append(arguments)
        if len(calls) == 1:
            raise ZeroDivisionError("a bug")
        return made(*arguments)

    monkeypatch.setattr(probing, "made", broken)
    lane = ProbeLane(station, lambda: False)
    with pytest.raises(ZeroDivisionError):
        await lane.step()
    await lane.step()
    await lane.step()
    assert len(calls) == 2
    assert len(lane.given_up) == 1


async def test_a_disk_that_refuses_what_was_found_is_asked_again(
    station: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await docked(station, {"/A.WAV": film(tmp_path, "wav")})
    record, refused = station.journal.record, []

    async def refusing(*entries: Any) -> int:  # noqa: ANN401
        if not refused:
            refused.append(entries)
            raise JournalError("the disk is full")
        return await record(*entries)

    monkeypatch.setattr(station.journal, "record", refusing)
    lane = ProbeLane(station, lambda: False)
    await lane.step()
    assert view_of(station, "/A.WAV").facts is None
    await lane.step()
    assert view_of(station, "/A.WAV").facts is not None
    assert (len(refused), lane.given_up) == (1, set())


async def test_a_content_that_kills_its_reader_is_said_to_be_unreadable(station: Station, tmp_path: Path) -> None:
    """And the alarm and everything else of that recording stay as they were."""
    await docked(station, {"/A.MP4": film(tmp_path, "mp4")})
    before = view_of(station, "/A.MP4")
    lane = ProbeLane(station, lambda: False, Limits(memory_bytes=1 << 20))
    await lane.step()
    row = view_of(station, "/A.MP4")
    assert row.facts.integrity is Integrity.UNREADABLE
    assert row.facts.reason
    assert (row.recording.deadline, row.asset) == (before.recording.deadline, before.asset)


async def test_the_service_probes_by_itself_and_leaves_no_child_behind(station: Station, tmp_path: Path) -> None:
    """Also what was stored long before; ended in the middle, it begins again at the next start."""
    await docked(station, {f"/{n}.WAV": film(tmp_path, "wav", 1 + n / 10) for n in range(3)})
    runner = Runner(station)
    serving = asyncio.create_task(runner.run(2, lambda: None))
    while station.journal.reader.next_to_probe() is not None:
        await asyncio.sleep(0.01)
    serving.cancel()
    await asyncio.wait([serving])
    assert all(view.facts.integrity is Integrity.COMPLETE for view in station.journal.reader.recordings())


async def test_a_probe_that_is_ended_in_the_middle_is_begun_again(station: Station, tmp_path: Path) -> None:
    await docked(station, {"/A.WAV": film(tmp_path, "wav")})
    step = asyncio.create_task(ProbeLane(station, lambda: False).step())
    await asyncio.sleep(0.05)
    step.cancel()
    await asyncio.wait([step])
    await all_probed(station)
    assert view_of(station, "/A.WAV").facts is not None


# The journal.


async def test_facts_are_entered_only_for_the_limit_that_is_in_force(station: Station) -> None:
    journal = station.journal
    for entry in (opened(), seen("a"), acquired("a")):
        await journal.record(entry)
    with pytest.raises(JournalError, match="no longer"):
        await journal.record(probed("a", old=deadline(7)))
    assert journal.reader.recording("a").facts is None
    await journal.record(probed("a", new=deadline(20)))
    row = journal.reader.recording("a")
    assert row.recording.deadline == deadline(20)
    assert isinstance(row.facts, Facts)
    assert journal.reader.next_to_probe() is None


async def test_the_next_original_is_found_by_an_index(station: Station) -> None:
    """However many are stored: no sorting, no scan."""
    plan = station.journal.reader._db.all(
        "EXPLAIN QUERY PLAN SELECT asset_id FROM asset INDEXED BY asset_to_probe"
        " WHERE probed = 0 AND role = 'original' AND state IN ('held', 'stored', 'matched')"
        " ORDER BY alarm_at, asset_id LIMIT ?",
        1,
    )
    told = " ".join(str(row[-1]) for row in plan)
    assert "asset_to_probe" in told
    assert "TEMP B-TREE" not in told


async def test_only_what_is_here_is_probed(station: Station) -> None:
    journal = station.journal
    for entry in (opened(), seen("a"), seen("b", 2)):
        await journal.record(entry)
    assert journal.reader.next_to_probe() is None
    await journal.record(acquired("b", 2))
    found = journal.reader.next_to_probe()
    assert found is not None
    assert found.asset_id == "b"
    assert journal.reader.next_to_probe({"b"}) is None
