"""Promise: manifests get a time stamp where one is wanted, nothing waits for it, and nothing else is taken for one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent.config.manifests import Timestamps
from agent.model import AssetState, Role, Stamping
from agent.pipeline.stamping import StampLane
from agent.pipeline.station import Station
from agent.status.sealed import manifest_lines, manifest_view
from agent.transcripts import read_sealed
from tests.authority import Authority
from tests.conftest import SettableClock
from tests.test_seal_lane import lane_of, recordings, said, station

__all__ = ["station"]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tsa") / "good")


@asynccontextmanager
async def asking(station: Station, authority: Authority) -> AsyncIterator[StampLane]:
    """The lane of a station that asks this authority."""
    async with authority.serving() as url:
        station.timestamp = Timestamps(url=url, ca_file=authority.roots, limit_s=10)
        yield StampLane(station)


def content_of(station: Station, asset_id: str) -> bytes:
    digests = station.journal.reader.asset(asset_id).digests
    assert digests is not None
    return read_sealed(station.vault.address(digests.blake3), digests.blake3)


async def test_each_manifest_is_stamped_once_and_openssl_takes_the_stamp(
    station: Station, authority: Authority
) -> None:
    await lane_of(station).step()
    async with asking(station, authority) as lane:
        for _ in range(4):
            await lane.step()
    assert lane.trouble == ""
    assert len(authority.asked) == 2
    for recording_id in recordings(station):
        manifest, stamp = station.journal.reader.seals(recording_id)
        assert isinstance(stamp.said, Stamping)
        assert (stamp.asset.role, stamp.asset.state) == (Role.TIMESTAMP, AssetState.HELD)
        assert (stamp.said.manifest, stamp.said.authority) == (manifest.asset.asset_id, "CN=tsa.example")
        content = content_of(station, manifest.asset.asset_id)
        assert authority.verify(content_of(station, stamp.asset.asset_id), content)
        view = manifest_view([manifest, stamp])
        assert view is not None
        assert view["stamped"]["authority"] == "CN=tsa.example"
        assert "时间戳" in "".join(manifest_lines(view))
    assert station.journal.reader.next_to_seal(station.clock(), *(2 * [station.clock() - station.clock()]), 9) == ()


async def test_without_an_authority_nobody_is_asked(station: Station) -> None:
    await lane_of(station).step()
    lane = StampLane(station)
    await lane.step()
    assert (lane.trouble, len(station.journal.reader.seals(recordings(station)[0]))) == ("", 1)


async def test_an_authority_that_fails_or_lies_is_asked_again_and_holds_nothing_up(
    station: Station, clock: SettableClock, tmp_path: Path, authority: Authority
) -> None:
    await lane_of(station).step()
    station.limits = replace(station.limits, backoff_base_s=0)
    stranger = Authority(tmp_path / "stranger")
    station.timestamp = Timestamps(url="http://127.0.0.1:9/tsa", ca_file=authority.roots, limit_s=1)
    away = StampLane(station)
    await away.step()
    assert "no time stamp: No connection" in away.trouble
    async with asking(station, stranger) as lane:
        station.timestamp = replace(station.timestamp, ca_file=authority.roots)
        await lane.step()
        assert "proves nothing" in lane.trouble
        stranger.status = 503
        await lane.step()
        assert "status 503" in lane.trouble
        station.timestamp = replace(station.timestamp, ca_file=tmp_path / "none.pem")
        await lane.step()
        assert "can't be read" in lane.trouble
    async with asking(station, authority) as lane:
        await lane.step()
        await lane.step()
    assert lane.trouble == ""
    assert [len(station.journal.reader.seals(each)) for each in recordings(station)] == [2, 2]


async def test_news_has_the_new_manifest_stamped_and_no_old_one(
    station: Station, clock: SettableClock, authority: Authority
) -> None:
    first = recordings(station)[0]
    await lane_of(station).step()
    clock.advance(1)
    await said(station, [first])
    await lane_of(station).step()
    before = len(authority.asked)
    async with asking(station, authority) as lane:
        for _ in range(4):
            await lane.step()
    assert len(authority.asked) == before + 2
    one, two, stamp = station.journal.reader.seals(first)
    assert isinstance(stamp.said, Stamping)
    assert stamp.said.manifest == two.asset.asset_id != one.asset.asset_id
    assert manifest_view([one, two]) is not None
    assert manifest_view([]) is None
    assert "尚未签署" in "".join(manifest_lines(None))


async def test_a_manifest_whose_bytes_changed_is_not_stamped(station: Station, authority: Authority) -> None:
    await lane_of(station).step()
    for recording_id in recordings(station):
        digests = station.journal.reader.seals(recording_id)[0].asset.digests
        assert digests is not None
        path = station.vault.address(digests.blake3)
        path.chmod(0o600)
        path.write_bytes(path.read_bytes().replace(b'"number":1', b'"number":7'))
    station.limits = replace(station.limits, backoff_base_s=0)
    before = len(authority.asked)
    async with asking(station, authority) as lane:
        await lane.step()
    assert "other bytes" in lane.trouble
    assert len(authority.asked) == before
