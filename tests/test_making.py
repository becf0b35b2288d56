"""Everything that is made from one original, with the real tools: each step for itself, nothing from other bytes."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.access import making
from agent.access.certificate import fingerprinted
from agent.access.made import OUTPUT, SOURCE, Everything, Original
from agent.access.making import make_all
from agent.access.plan import NoCopyError
from agent.access.scanning import ChangedError, ScanError
from agent.access.tool import ToolError
from agent.config import AccessCopies
from agent.journal import deriving
from agent.media.probing import probe
from agent.model import Asset, AssetState, FindingKind, Role
from agent.pipeline.deriving import DeriveLane
from agent.pipeline.probing import ProbeLane
from agent.pipeline.station import Station
from tests.conftest import SettableClock
from tests.damage import damaged
from tests.disks import fill, tmpfs
from tests.fakes import FakeRecorder
from tests.stations import dock, opened

MIB = 1 << 20
ALWAYS = {Role.FINDINGS}


async def original(path: Path, reference: Path | None = None) -> Original:
    """As the lane finds it, probed by the real reader."""
    size, digests = fingerprinted(path)
    fd = os.open(path, os.O_RDONLY)
    try:
        facts = await probe(fd, gps=False)
    finally:
        os.close(fd)
    asset = Asset("a", "rec-a", Role.ORIGINAL, AssetState.HELD, size, size, digests)
    return Original(asset, path, facts, reference)


async def made(folder: Path, name: str) -> Everything:
    (folder / "work").mkdir()
    return await make_all(await original(damaged(folder, name)), folder / "work", AccessCopies(), bool)


async def test_a_film_gets_a_copy_pictures_and_findings(tmp_path: Path) -> None:
    everything = await made(tmp_path, "whole")
    assert {one.role for one in everything.files} == {
        Role.ACCESS_COPY, Role.POSTER, Role.CONTACT_SHEET, Role.WAVEFORM, Role.TIMELINE, Role.FINDINGS,
    }  # fmt: skip
    assert (everything.reason, everything.problems, everything.found) == ("", (), 0)
    assert everything.source["ended"] is True
    assert everything.source["offset_ms"] is not None
    names = [one.path.name for one in everything.files]
    assert len(set(names)) == len(names)
    for one in everything.files:
        assert one.path.parent == tmp_path / "work"
        assert not any(str(tmp_path) in word for word in one.arguments), "a path of this station is in no certificate"
        if one.arguments:
            assert sum(SOURCE in word for word in one.arguments) == 1
            assert sum(OUTPUT in word for word in one.arguments) == 1


async def test_a_photo_gets_a_copy_and_no_pictures_of_a_film(tmp_path: Path) -> None:
    everything = await made(tmp_path, "photo")
    assert {one.role for one in everything.files} == {Role.ACCESS_COPY, Role.FINDINGS}


@pytest.mark.parametrize("name", ["empty", "one-byte", "text", "random"])
async def test_what_is_no_recording_gets_findings_and_a_reason(tmp_path: Path, name: str) -> None:
    everything = await made(tmp_path, name)
    assert {one.role for one in everything.files} == ALWAYS
    assert everything.reason
    assert FindingKind.UNDECODABLE in {one.kind for one in everything.findings}
    told = json.loads((tmp_path / "work" / "findings.json").read_bytes())
    assert len(told["findings"]) == everything.found


async def test_two_runs_give_the_same_findings(tmp_path: Path) -> None:
    source = await original(damaged(tmp_path, "hole"))
    papers = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        await make_all(source, folder, AccessCopies(), bool)
        papers.append((folder / "findings.json").read_bytes())
    assert papers[0] == papers[1]


async def test_pictures_that_fail_cost_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def look(*_: object, **__: object) -> None:
        raise ToolError("ffmpeg made no progress for 60 s")

    monkeypatch.setattr(making, "look", look)
    everything = await made(tmp_path, "whole")
    assert {one.role for one in everything.files} == {Role.ACCESS_COPY, Role.TIMELINE, Role.FINDINGS}
    assert everything.problems == ("no pictures: ffmpeg made no progress for 60 s",)
    assert everything.reason == ""


@pytest.mark.parametrize("error", [ToolError("ffmpeg ended with -9"), NoCopyError("it holds no picture")])
async def test_a_copy_that_fails_costs_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def make_copy(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(making, "make_copy", make_copy)
    everything = await made(tmp_path, "whole")
    assert Role.ACCESS_COPY not in {one.role for one in everything.files}
    assert Role.POSTER in {one.role for one in everything.files}
    assert everything.reason == str(error)
    assert everything.problems == (), "what is whole is not salvaged"


async def test_of_other_bytes_nothing_is_made(tmp_path: Path) -> None:
    source = await original(damaged(tmp_path, "wav"))
    changed = bytearray(source.path.read_bytes())
    changed[len(changed) // 2] ^= 1
    (tmp_path / "other.wav").write_bytes(changed)
    other = Original(source.asset, tmp_path / "other.wav", source.facts)
    (tmp_path / "work").mkdir()
    with pytest.raises(ChangedError):
        await make_all(other, tmp_path / "work", AccessCopies(), bool)
    with pytest.raises(ScanError):
        await make_all(Original(source.asset, tmp_path / "gone", source.facts), tmp_path / "work", AccessCopies(), bool)
    assert not list((tmp_path / "work").iterdir())


# With a station around it.


@pytest.fixture
async def station(tmp_path: Path, clock: SettableClock) -> AsyncIterator[Station]:
    """On a disk of its own, that can be filled; one recording, probed."""
    with tmpfs(tmp_path / "disk", 400 * MIB) as disk:
        async with opened(disk / "station", clock) as station:
            station.access = AccessCopies()
            card = {"/A.AVI": damaged(tmp_path, "mjpeg-avi").read_bytes()}
            await dock(station, FakeRecorder(card, station.vault.staging_dir))
            await ProbeLane(station, bool).step()
            yield station


async def test_a_disk_that_becomes_full_in_the_middle_leaves_no_debris_and_no_verdict(
    station: Station, tmp_path: Path
) -> None:
    async def full(source: Original, folder: Path, settings: AccessCopies, is_busy: making.Busy) -> Everything:
        filler = fill(folder)
        try:
            return await make_all(source, folder, settings, is_busy)
        finally:
            filler.rename(station.vault.root / "filler")

    (view,) = station.journal.reader.recordings()
    await DeriveLane(station, bool, full).step()
    assert station.journal.reader.derived(view.recording.recording_id) is None
    assert list(station.vault.work_dir.iterdir()) == list(station.vault.staging_dir.iterdir()) == []
    await DeriveLane(station, bool, make_all).step()
    assert station.journal.reader.attempt(deriving(view.asset.asset_id)).begun == 1, "it isn't begun while it is full"
    (station.vault.root / "filler").unlink()
    await DeriveLane(station, bool, make_all).step()
    assert station.journal.reader.derived(view.recording.recording_id).reason == ""


async def test_the_tools_stand_still_while_a_recorder_is_read(station: Station) -> None:
    """Asked again and again in every step; what they make is the same."""
    asked: list[bool] = []

    def is_busy() -> bool:
        asked.append(len(asked) % 3 == 1)
        return asked[-1]

    lane = DeriveLane(station, is_busy, make_all)
    await lane.step()
    (view,) = station.journal.reader.recordings()
    assert station.journal.reader.derived(view.recording.recording_id).reason == ""
    assert len(asked) > 5


async def test_a_film_whose_index_is_lost_gets_its_pictures_back_beside_it(tmp_path: Path) -> None:
    """Its certificate tells what was got; without a whole film of its kind it tells why there is none."""
    work = tmp_path / "work"
    work.mkdir()
    whole = damaged(tmp_path, "front")
    everything = await make_all(await original(damaged(tmp_path, "no-moov"), whole), work, AccessCopies(), bool)
    (copy,) = [one for one in everything.files if one.role is Role.RECOVERY_COPY]
    assert (copy.complete, copy.counts["pictures"], copy.counts["shown"]) == (False, 150, 150)
    assert everything.reason, "there is still no access copy of the original itself"
    alone = await make_all(await original(damaged(tmp_path, "no-moov")), work, AccessCopies(), bool)
    assert Role.RECOVERY_COPY not in {one.role for one in alone.files}
    assert alone.problems[0].startswith("no recovery copy: ")
