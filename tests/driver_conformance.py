"""What every driver must keep (the contract of `Docked`); run against each one by subclassing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

import pytest
from blake3 import blake3

from agent.drivers.base import BlockWritten, Docked, Failed, Fetched, FetchReport, FetchRequest, ListingEnd
from agent.model import BLOCK_BYTES, Clip, FailReason, Volume

BIG = bytes(range(251)) * (2 * BLOCK_BYTES // 251 + 77)
"""Two full blocks and a little, without two equal blocks."""

CARD = {
    "DCIM/100ANDRO/123456_0000001_20261120090000_0001.MP4": BIG,
    "DCIM/100ANDRO/医保稽核_现场检查_第一段.mp4": b"short film" * 1000,
    "VOICE/录音_0001.WAV": b"RIFF" + bytes(50_000),
    "EMPTY.JPG": b"",
}


def blocks_of(content: bytes) -> list[str]:
    """Fingerprints of the blocks of a file; an empty one has one empty block."""
    return [blake3(content[at : at + BLOCK_BYTES]).hexdigest() for at in range(0, max(1, len(content)), BLOCK_BYTES)]


class DriverConformance:
    """Subclasses say how to dock `CARD`."""

    @abstractmethod
    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        """A freshly docked recorder that holds CARD."""

    @pytest.fixture
    def staging(self, tmp_path: Path) -> Path:
        folder = tmp_path / "staging"
        folder.mkdir()
        return folder

    async def listed(self, docked: Docked) -> list[Clip]:
        async with aclosing(docked.clips()) as items:
            return [item async for item in items if isinstance(item, Clip)]

    async def fetched(self, docked: Docked, requests: Sequence[FetchRequest]) -> list[FetchReport]:
        async with aclosing(docked.fetch(requests)) as reports:
            return [report async for report in reports]

    async def test_listing_names_everything_once_and_ends_once(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        async with aclosing(docked.clips()) as stream:
            items = [item async for item in stream]
        clips = [item for item in items if isinstance(item, Clip)]
        assert {clip.path: clip.size_bytes for clip in clips} == {path: len(data) for path, data in CARD.items()}
        assert [clip.number for clip in clips] == list(range(1, len(CARD) + 1))
        assert isinstance(items[-1], ListingEnd)
        assert sum(isinstance(item, ListingEnd) for item in items) == 1
        assert any(isinstance(item, Volume) for item in items)
        assert docked.device.filesystem_ids
        await docked.close()

    async def test_listing_again_gives_the_same(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        assert await self.listed(docked) == await self.listed(docked)
        await docked.close()

    async def test_what_is_fetched_is_what_is_on_the_card(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        clips = await self.listed(docked)
        reports = await self.fetched(docked, [FetchRequest(clip, f"{clip.number}.part") for clip in clips])
        for clip in clips:
            mine = [report for report in reports if report.number == clip.number]
            assert isinstance(mine[-1], Fetched)
            found = [report for report in mine if isinstance(report, BlockWritten)]
            assert [report.index for report in found] == list(range(len(found)))
            assert [report.blake3 for report in found] == blocks_of(CARD[clip.path])
            assert (staging / f"{clip.number}.part").read_bytes() == CARD[clip.path]
        order = [report.number for report in reports]
        assert order == sorted(order), "reports come in the order of the requests"
        await docked.close()

    async def test_resume_reads_only_what_is_missing(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        clip = next(clip for clip in await self.listed(docked) if clip.size_bytes == len(BIG))
        (staging / "x.part").write_bytes(BIG[: 2 * BLOCK_BYTES])
        request = FetchRequest(clip, "x.part", first_block=2, check=(1, blocks_of(BIG)[1]))
        reports = await self.fetched(docked, [request])
        assert [report.index for report in reports if isinstance(report, BlockWritten)] == [2]
        assert isinstance(reports[-1], Fetched)
        assert (staging / "x.part").read_bytes() == BIG
        await docked.close()

    async def test_resume_of_another_recording_is_refused_before_anything_is_written(
        self, tmp_path: Path, staging: Path
    ) -> None:
        docked = self.dock(tmp_path, staging)
        clip = next(clip for clip in await self.listed(docked) if clip.size_bytes == len(BIG))
        (staging / "x.part").write_bytes(b"other" * 100)
        reports = await self.fetched(docked, [FetchRequest(clip, "x.part", first_block=1, check=(0, "11" * 32))])
        assert [report.reason for report in reports if isinstance(report, Failed)] == [FailReason.DIFFERENT]
        assert len(reports) == 1
        assert (staging / "x.part").read_bytes() == b"other" * 100
        await docked.close()

    async def test_fingerprint_only_writes_nothing(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        clips = await self.listed(docked)
        reports = await self.fetched(docked, [FetchRequest(clip, "", rescue=True) for clip in clips])
        ends = {report.number: report.blake3 for report in reports if isinstance(report, Fetched)}
        assert ends == {clip.number: blake3(CARD[clip.path]).hexdigest() for clip in clips}
        assert list(staging.iterdir()) == []
        await docked.close()

    async def test_after_unplugging_every_clip_fails_as_gone(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        clips = await self.listed(docked)
        await docked.unplugged()
        reports = await self.fetched(docked, [FetchRequest(clip, f"{clip.number}.part") for clip in clips])
        assert {report.number for report in reports} == {clip.number for clip in clips}
        assert all(isinstance(report, Failed) and report.reason is FailReason.GONE for report in reports)
        await docked.close()

    async def test_unplugging_in_the_middle_ends_every_clip_exactly_once(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        clips = await self.listed(docked)
        ends: list[int] = []
        async with aclosing(docked.fetch([FetchRequest(clip, f"{clip.number}.part") for clip in clips])) as reports:
            async for report in reports:
                if isinstance(report, BlockWritten):
                    await docked.unplugged()
                elif isinstance(report, (Fetched, Failed)):
                    ends.append(report.number)
        assert sorted(ends) == sorted(clip.number for clip in clips)
        await docked.close()

    async def test_closing_twice_is_fine_and_ends_a_fetch_under_way(self, tmp_path: Path, staging: Path) -> None:
        docked = self.dock(tmp_path, staging)
        clips = await self.listed(docked)
        async with aclosing(docked.fetch([FetchRequest(clips[0], "1.part")])) as reports:
            async for _ in reports:
                break
        await docked.close()
        await docked.close()
