"""The derive lane: everything is made of each original once, counted before, stopped by what comes first, taken in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from agent.access.made import OUTPUT, SOURCE, Everything, Made, Original
from agent.access.scanning import ChangedError, ScanError
from agent.access.tool import ToolError
from agent.config import AccessCopies
from agent.errors import JournalError
from agent.journal import deriving
from agent.model import FINDINGS_LIMIT, AssetState, FindingKind, Integrity, MediaFinding, Medium, Role
from agent.pipeline.asked import VERBS
from agent.pipeline.deriving import ATTEMPTS, DeriveLane
from agent.pipeline.recover import recover
from agent.pipeline.station import Station
from tests.conftest import SettableClock
from tests.fakes import FakeRecorder
from tests.journal_entries import probed
from tests.stations import dock, opened

CARD = {"/A.MP4": b"film", "/B.MP4": b"another film"}
FOUND = MediaFinding(FindingKind.SILENT, 0, 900)


def idle() -> bool:
    return False


async def there() -> str:
    return "ffmpeg 5.1.9"


async def made(original: Original, folder: Path, _settings: AccessCopies, _busy: object) -> Everything:
    """A copy and a picture of every original."""
    (folder / "copy.mp4").write_bytes(b"copy of " + original.path.read_bytes())
    (folder / "poster.jpg").write_bytes(b"picture")
    words = ("-i", SOURCE, "-f", "mp4", OUTPUT)
    files = (
        Made(Role.ACCESS_COPY, folder / "copy.mp4", "ffmpeg 5.1.9", words, counts={"frames": [25, 25]}),
        Made(Role.POSTER, folder / "poster.jpg", "ffmpeg 5.1.9", words, repeatable=False, remarks=("one frame",)),
    )
    return Everything(files, (FOUND,), 1, source={"tracks": 2})


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    """Two probed recordings, the second a copy of nothing."""
    async with opened(tmp_path, clock) as station:
        station.access = AccessCopies()
        await dock(station, FakeRecorder(CARD, station.vault.staging_dir))
        await all_probed(station)
        yield station


async def all_probed(station: Station) -> None:
    while (asset := station.journal.reader.next_to_probe()) is not None:
        limit = station.journal.reader.recording(asset.asset_id).recording.deadline
        await station.journal.record(replace(probed(asset.asset_id, old=limit)))


def lane_of(
    station: Station,
    make: Callable[..., Awaitable[Everything]] = made,
    is_busy: Callable[[], bool] = idle,
    version: Callable[[], Awaitable[str]] = there,
) -> DeriveLane:
    return DeriveLane(station, is_busy, make, version)


def originals(station: Station) -> list[str]:
    return sorted(view.asset.asset_id for view in station.journal.reader.recordings())


def reasons(station: Station) -> list[str | None]:
    told = [station.journal.reader.derived(view.recording.recording_id) for view in station.journal.reader.recordings()]
    return [one.reason if one else None for one in told]


async def test_everything_of_each_original_is_taken_in_with_its_certificate(station: Station) -> None:
    lane, reader = lane_of(station), station.journal.reader
    await lane.step()
    await lane.step()
    assert reader.next_to_derive() is None
    for view in reader.recordings():
        told = reader.derived(view.recording.recording_id)
        assert (told.findings, told.found, told.reason) == ((FOUND,), 1, "")
        files = {one.said.role: one for one in reader.derivatives(view.recording.recording_id)}
        assert set(files) == {Role.ACCESS_COPY, Role.POSTER, Role.CERTIFICATE}
        assert {one.asset.state for one in files.values()} <= {AssetState.HELD, AssetState.MATCHED}
        paper = station.vault.address(files[Role.CERTIFICATE].asset.digests.blake3).read_bytes()
        assert {one.said.certificate for one in files.values()} == {blake3(paper).hexdigest(), ""}
        said = json.loads(paper)
        assert paper == (json.dumps(said, sort_keys=True, separators=(",", ":")) + "\n").encode()
        assert said["source"]["blake3"] == view.asset.digests.blake3
        assert said["source"]["counts"] == {"tracks": 2}
        for one in said["files"]:
            asset = files[Role(one["role"])].asset
            content = station.vault.address(one["blake3"]).read_bytes()
            assert (one["asset_id"], one["sha256"], one["size_bytes"]) == (
                asset.asset_id, asset.digests.sha256, len(content)
            )  # fmt: skip
            assert blake3(content).hexdigest() == one["blake3"]
            assert one["arguments"] == ["-i", SOURCE, "-f", "mp4", OUTPUT]
        assert [one["repeatable"] for one in said["files"]] == [True, False]
    assert list(station.vault.work_dir.iterdir()) == list(station.vault.staging_dir.iterdir()) == []


async def test_nothing_begins_while_a_recorder_is_read_or_copies_are_switched_off(station: Station) -> None:
    await lane_of(station, is_busy=lambda: True).step()
    station.access = AccessCopies(enabled=False)
    await lane_of(station).step()
    assert reasons(station) == [None, None]


async def test_without_the_tool_nothing_is_settled_and_it_goes_on_once_that_is_there(station: Station) -> None:
    found = [ToolError("there is no ffmpeg"), None]

    async def version() -> str:
        if (error := found.pop(0)) is not None:
            raise error
        return "ffmpeg 6"

    lane = lane_of(station, version=version)
    await lane.step()
    assert "ffmpeg" in lane.trouble
    assert "原始资料不受影响" in lane.trouble
    assert reasons(station) == [None, None]
    await lane.step()
    assert lane.trouble == ""
    assert sorted(reasons(station), key=str) == ["", None]


async def test_no_room_is_taken_from_the_recorders(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [station.reserve_bytes + 1000]
    monkeypatch.setattr(type(station.vault), "free_bytes", lambda _: free[0])
    lane = lane_of(station)
    await lane.step()
    assert reasons(station) == [None, None]
    free[0] = 1 << 40
    await lane.step()
    assert "" in reasons(station)


async def test_an_original_for_which_there_is_no_room_holds_up_no_smaller_one(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {len(content): path for path, content in CARD.items()}
    assert min(sizes) < max(sizes)
    monkeypatch.setattr(type(station.vault), "free_bytes", lambda _: (64 << 20) + max(sizes))
    lane = lane_of(station)
    for _ in range(6):
        await lane.step()
    told = {view.clip.path: view.made for view in station.journal.reader.recordings()}
    assert told[sizes[min(sizes)]] is not None
    assert told[sizes[max(sizes)]] is None
    monkeypatch.undo()
    for _ in range(2):
        await lane.step()
    assert station.journal.reader.next_to_derive() is None


async def test_what_fails_because_the_disk_is_full_is_no_fact_about_the_original(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [1 << 40]
    monkeypatch.setattr(type(station.vault), "free_bytes", lambda _: free[0])

    async def full(*arguments: object) -> Everything:
        free[0] = 0
        return Everything(reason="ffmpeg ended with 1")

    lane = lane_of(station, full)
    await lane.step()
    assert reasons(station) == [None, None]

    async def refused(*arguments: object) -> Everything:
        raise OSError(28, "No space left on device")

    free[0] = 1 << 40
    await lane_of(station, refused).step()
    assert reasons(station) == [None, None]
    assert not list(station.vault.work_dir.iterdir())
    await lane_of(station).step()
    assert "" in reasons(station)


async def test_three_attempts_that_did_not_come_to_an_end_are_the_last(station: Station) -> None:
    """As if the process had died each time: the attempt is counted before its work."""
    begun: list[str] = []

    async def deadly(original: Original, *_: object) -> Everything:
        begun.append(original.asset.asset_id)
        raise ZeroDivisionError("as good as a crash")

    for _ in range(ATTEMPTS):
        lane = lane_of(station, deadly)  # another process each time
        for _ in CARD:
            with pytest.raises(ZeroDivisionError):
                await lane.step()
        assert lane.given_up == set(originals(station)), "both were tried, neither held up the other"
    lane = lane_of(station, deadly)
    for _ in CARD:
        await lane.step()
    assert len(begun) == ATTEMPTS * len(CARD)
    assert all("3 attempts" in reason for reason in reasons(station))
    assert station.journal.reader.copies().failed == len(CARD)
    assert station.journal.reader.next_to_derive() is None
    first = originals(station)[0]
    await VERBS["derive"](station, {"id": first, "who": "李四", "why": "换了新版工具"})
    await lane_of(station).step()
    assert station.journal.reader.derived(station.journal.reader.asset(first).recording_id).reason == ""


async def test_the_end_of_the_service_is_not_counted_against_the_original(station: Station) -> None:
    started = asyncio.Event()

    async def slow(_original: Original, folder: Path, *_: object) -> Everything:
        (folder / "half.mp4").write_bytes(b"half")
        started.set()
        await asyncio.sleep(3600)
        raise AssertionError

    for _ in range(ATTEMPTS + 2):
        started.clear()
        step = asyncio.create_task(lane_of(station, slow).step())
        await started.wait()
        step.cancel()
        await asyncio.wait([step])
        assert not list(station.vault.work_dir.iterdir())
    first = next(one for one in originals(station) if station.journal.reader.attempt(deriving(one)))
    assert station.journal.reader.attempt(deriving(first)).begun == 1
    assert reasons(station) == [None, None]


async def test_from_bytes_that_are_not_the_original_s_nothing_is_made(station: Station) -> None:
    async def changed(*arguments: object) -> Everything:
        raise ChangedError("its BLAKE3 is another")

    lane = lane_of(station, changed)
    await lane.step()
    assert [event.kind for event in station.journal.reader.events(0, 1000)][-2:] == ["incident", "derived"]
    assert "not those that were held" in next(filter(None, reasons(station)))
    assert lane.given_up == set()


async def test_an_original_that_can_t_be_read_holds_up_nobody_and_is_tried_after_the_next_start(
    station: Station,
) -> None:
    async def unread(*arguments: object) -> Everything:
        raise ScanError("it can't be opened")

    for _ in range(ATTEMPTS + 2):
        lane = lane_of(station, unread)
        for _ in CARD:
            await lane.step()
        assert lane.given_up == set(originals(station))
    assert reasons(station) == [None, None], "however often that was"


async def test_a_journal_that_refuses_is_asked_again(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    record, refused = station.journal.record, []

    async def refusing(*entries: object) -> int:
        if not refused:
            refused.append(entries)
            raise JournalError("the disk is full")
        return await record(*entries)

    monkeypatch.setattr(station.journal, "record", refusing)
    lane = lane_of(station)
    await lane.step()
    assert reasons(station) == [None, None]
    assert not list(station.vault.staging_dir.iterdir())
    await lane.step()
    assert "" in reasons(station)
    assert lane.given_up == set()


async def test_recordings_with_equal_content_share_what_was_made(station: Station) -> None:
    await dock(station, FakeRecorder({"/COPY.MP4": CARD["/A.MP4"]}, station.vault.staging_dir, serial="SN2"))
    await all_probed(station)
    lane, reader = lane_of(station), station.journal.reader
    while reader.next_to_derive() is not None:
        await lane.step()
    views = {view.clip.path: view for view in reader.recordings()}
    first, twin = views["/A.MP4"], views["/COPY.MP4"]
    assert twin.asset.state is AssetState.MATCHED
    assert reader.derivatives(twin.recording.recording_id) == reader.derivatives(first.recording.recording_id) != ()
    assert twin.made == first.made == (1, "")
    await VERBS["derive"](station, {"id": twin.asset.asset_id, "who": "李四", "why": "再做一次"})
    assert reader.next_to_derive() == first.asset


async def test_a_cut_original_is_offered_a_whole_one_of_the_same_kind(tmp_path: Path, clock: SettableClock) -> None:
    asked: list[Original] = []

    async def noting(original: Original, *rest: object) -> Everything:
        asked.append(original)
        return Everything(reason="cut")

    async with opened(tmp_path, clock) as station:
        station.access = AccessCopies()
        await dock(station, FakeRecorder(CARD, station.vault.staging_dir))
        views = {view.clip.path: view for view in station.journal.reader.recordings()}
        for path, integrity in (("/A.MP4", Integrity.TRUNCATED), ("/B.MP4", Integrity.COMPLETE)):
            limit = views[path].recording.deadline
            await station.journal.record(probed(views[path].asset.asset_id, integrity=integrity, old=limit))
        lane = lane_of(station, noting)
        for _ in CARD:
            await lane.step()
        whole = station.vault.address(views["/B.MP4"].asset.digests.blake3)
    found = {one.asset.asset_id: one.reference for one in asked}
    assert found == {views["/A.MP4"].asset.asset_id: whole, views["/B.MP4"].asset.asset_id: None}
    assert {one.facts.medium for one in asked} == {Medium.VIDEO}


async def test_only_the_first_findings_are_in_the_journal(station: Station) -> None:
    many = tuple(MediaFinding(FindingKind.GAP, second * 1000) for second in range(FINDINGS_LIMIT + 5))

    async def found(*arguments: object) -> Everything:
        return Everything(findings=many, found=100_000)

    await lane_of(station, found).step()
    told = next(
        filter(
            None,
            map(
                station.journal.reader.derived,
                (f"{one.recording.recording_id}" for one in station.journal.reader.recordings()),
            ),
        )
    )
    assert (len(told.findings), told.found) == (FINDINGS_LIMIT, 100_000)


async def test_a_kill_in_the_middle_leaves_debris_that_the_next_start_clears(station: Station) -> None:
    folder = station.vault.work_dir / originals(station)[0]
    folder.mkdir()
    (folder / "copy.mp4").write_bytes(b"half")
    await recover(station)
    assert not list(station.vault.work_dir.iterdir())
