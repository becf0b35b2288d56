"""Files of a session that no report closed: taken exactly as they are on disk, once nobody writes them any more."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.errors import StoreError
from agent.model import AssetState, SegmentTaken, SessionStarted
from agent.pipeline import segments
from agent.pipeline.segments import finish, lying, salvage, take
from agent.pipeline.station import Station
from agent.rooms.protocol import Closed, Track, Why
from tests.conftest import SettableClock
from tests.journal_entries import session_started
from tests.media import film
from tests.stations import opened
from tests.studio import us

ENDED = datetime(2026, 11, 23, 10, 30, 7, 250_000, tzinfo=UTC)
FRAGMENTED = ("-movflags", "+frag_keyframe+empty_moov+default_base_moof", "-frag_duration", "500000")


@pytest.fixture
async def station(tmp_path: Path) -> AsyncIterator[Station]:
    async with opened(tmp_path / "station", SettableClock(ENDED + timedelta(minutes=1))) as station:
        yield station


@pytest.fixture
async def started(station: Station) -> SessionStarted:
    started = session_started(started_at=ENDED - timedelta(minutes=5))
    await station.journal.record(started)
    return started


def left(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    os.utime(path, ns=(0, us(ENDED) * 1000))
    return path


async def test_a_torn_file_is_kept_to_its_last_byte_and_lasts_as_long_as_it_plays(
    station: Station, started: SessionStarted, tmp_path: Path
) -> None:
    torn = film(tmp_path, "mp4", 4, FRAGMENTED)[:-5000]
    left(tmp_path, "cam-000003.mp4", torn)
    (found,) = lying(tmp_path)
    assert (found.source, found.number, found.size_bytes, found.changed_at) == ("cam", 3, len(torn), ENDED)
    await salvage(station, started, tmp_path, found)
    (taken,) = station.journal.reader.session("s1").segments
    assert taken.end == ENDED
    assert timedelta(seconds=2) < taken.end - taken.start < timedelta(seconds=4.5)
    assert taken.facts["why"] == "killed"
    assert taken.facts["media_us"] == us(taken.end) - us(taken.start)
    asset = station.journal.reader.asset(taken.asset.asset_id)
    assert asset.state is AssetState.HELD
    assert asset.digests is not None
    assert station.vault.address(asset.digests.blake3).read_bytes() == torn
    assert lying(tmp_path) == []


def packets(path: Path, kind: str) -> int:
    """As FFmpeg's own tool counts them."""
    words = ["ffprobe", "-v", "fatal", "-select_streams", kind, "-count_packets", "-show_entries"]
    words += ["stream=nb_read_packets", "-of", "csv=p=0", str(path)]
    return int(subprocess.run(words, check=True, capture_output=True, timeout=60).stdout.split()[0])


def only(station: Station) -> SegmentTaken:
    (taken,) = station.journal.reader.session("s1").segments
    return taken


@pytest.mark.parametrize("why", [Why.KILLED, Why.DISK])
async def test_what_a_recorder_did_not_close_is_counted_whatever_it_told(
    station: Station, started: SessionStarted, tmp_path: Path, why: Why
) -> None:
    path = left(tmp_path, "cam-000001.mp4", film(tmp_path, "mp4", 4, FRAGMENTED)[:-5000])
    pictures, sounds = packets(path, "v"), packets(path, "a")
    assert 50 < pictures < 100
    begun_us = us(ENDED) - 6_000_000
    told = Closed("cam", 1, path.name, why, begun_us, us(ENDED), 4_000_000, 1, 100, 200, (Track("video", "h264"),))
    await take(station, started, tmp_path, told)
    taken = only(station)
    assert (taken.facts["frames"], taken.facts["samples"]) == (pictures, sounds)
    media_us = taken.facts["media_us"]
    assert isinstance(media_us, int)
    assert 0 <= media_us - pictures * 40_000 < 200_000, "ffmpeg's first picture here lasts longer"
    assert (us(taken.start), us(taken.end)) == (begun_us, begun_us + media_us), "it plays no longer"
    tracks = taken.facts["tracks"]
    assert isinstance(tracks, list)
    assert [(one["type"], one["codec"], one["width"] > 0, one["rate_hz"] > 0) for one in tracks] == [
        ("video", "h264", True, False), ("audio", "aac", False, True),
    ]  # fmt: skip


async def test_what_a_recorder_closed_is_believed(station: Station, started: SessionStarted, tmp_path: Path) -> None:
    path = left(tmp_path, "cam-000001.mp4", b"film")
    await take(station, started, tmp_path, Closed("cam", 1, path.name, Why.LENGTH, 1, 2, 1, 4, 25, 15, ()))
    assert only(station).facts["frames"] == 25


async def test_a_disk_that_refuses_while_it_is_held_is_tried_again(
    station: Station, started: SessionStarted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then it lies in its folder no more."""
    left(tmp_path, "cam-000001.mp4", film(tmp_path, "mp4", 1, FRAGMENTED))
    (found,) = lying(tmp_path)

    async def refused(*_: object) -> None:
        raise StoreError("The disk refused.", safe="Yes.", do="Nothing.")

    with monkeypatch.context() as patched:
        patched.setattr(segments, "hold", refused)
        with pytest.raises(StoreError, match="refused"):
            await salvage(station, started, tmp_path, found)
    assert lying(tmp_path) == []
    await salvage(station, started, tmp_path, found)
    assert station.journal.reader.asset(only(station).asset.asset_id).state is AssetState.HELD


async def test_what_is_held_a_moment_later_is_not_called_lost(
    station: Station, started: SessionStarted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service is told to end while a segment is committed, and tries it once more before it goes."""
    path = left(tmp_path, "cam-000001.mp4", b"film")
    await take(station, started, tmp_path, Closed("cam", 1, path.name, Why.LENGTH, 1, 2, 1, 4, 25, 15, ()))
    taken, reader = only(station), station.journal.reader
    held = reader.asset(taken.asset.asset_id)
    told = iter([replace(held, state=AssetState.WANTED), held])
    with monkeypatch.context() as patched:
        patched.setattr(type(reader), "asset", lambda *_: next(told))
        await finish(station, tmp_path, taken)
    assert reader.asset(taken.asset.asset_id).state is AssetState.HELD


async def test_a_file_that_the_disk_does_not_let_us_open_is_no_crash(
    station: Station, started: SessionStarted, tmp_path: Path
) -> None:
    path = left(tmp_path, "cam-000001.mp4", b"film")
    (found,) = lying(tmp_path)
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="refused cam-000001"):
        await salvage(station, started, tmp_path, found)


async def test_what_nobody_can_read_is_kept_all_the_same(
    station: Station, started: SessionStarted, tmp_path: Path
) -> None:
    left(tmp_path, "cam-000001.mov", b"\0\0\0\x08garbage")
    await salvage(station, started, tmp_path, lying(tmp_path)[0])
    (taken,) = station.journal.reader.session("s1").segments
    assert (taken.start, taken.end) == (ENDED, ENDED)
    assert station.journal.reader.asset(taken.asset.asset_id).state is AssetState.HELD


async def test_a_file_that_is_still_written_waits(station: Station, started: SessionStarted, tmp_path: Path) -> None:
    path = left(tmp_path, "cam-000001.mp4", b"film")
    with path.open("ab"), pytest.raises(StoreError, match="still writes"):
        await salvage(station, started, tmp_path, lying(tmp_path)[0])
    assert station.journal.reader.session("s1").segments == ()
    await salvage(station, started, tmp_path, lying(tmp_path)[0])
    assert len(station.journal.reader.session("s1").segments) == 1


def test_only_files_with_content_that_a_recorder_named_are_taken(tmp_path: Path) -> None:
    for name in ("cam-1.mp4", "cam-000001.jpg", "reserved.part", "cam-000001.mp4.part", "notes.txt"):
        left(tmp_path, name, b"x")
    left(tmp_path, "cam-000001.mp4", b"")
    (tmp_path / "cam-000002.mp4").symlink_to("/etc/passwd")
    (tmp_path / "cam-000003.mp4").mkdir()
    left(tmp_path, "a-b_c-000004.mov", b"film")
    assert [(one.source, one.number) for one in lying(tmp_path)] == [("a-b_c", 4)]
    assert lying(tmp_path / "nowhere") == []
