"""A batch of an inbox keeps the contract of a driver, and never gives the bytes of another file than was found."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from agent.drivers.base import BlockWritten, Docked, Failed, Fetched, FetchReport, FetchRequest, Listing, ListingEnd
from agent.drivers.folder import Batch, Folder, clip_of, inbox_device
from agent.drivers.folder_reader import Mark
from agent.drivers.mass_storage import Limits
from agent.model import BLOCK_BYTES, Clip, FailReason, Finding, Stamp, Volume
from tests.disks import faulty_share, tmpfs
from tests.driver_conformance import CARD, DriverConformance


def mark(inbox: Path, path: bytes) -> Mark:
    found = os.stat(os.fsencode(inbox) + b"/" + path, follow_symlinks=False)
    return Mark(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def filled(inbox: Path, files: dict[str, bytes]) -> Path:
    for path, content in files.items():
        (inbox / path).parent.mkdir(parents=True, exist_ok=True)
        (inbox / path).write_bytes(content)
    return inbox


def folder(inbox: Path, staging: Path, paths: Iterable[str | bytes]) -> Folder:
    marks = tuple(mark(inbox, os.fsencode(path)) for path in paths)
    staging.mkdir(exist_ok=True)
    return Folder(inbox, inbox_device("nvr", "NVR"), staging, Batch(marks))


class TestFolder(DriverConformance):
    """The conformance suite against a folder on the test's disk."""

    def dock(self, tmp_path: Path, staging: Path) -> Docked:
        return folder(filled(tmp_path / "inbox", CARD), staging, CARD)


async def listing(docked: Docked) -> list[Listing]:
    async with aclosing(docked.clips()) as items:
        return [item async for item in items]


async def fetched(docked: Docked, clips: Iterable[Clip], part: str = "{}.part") -> list[FetchReport]:
    requests = [FetchRequest(clip, part.format(clip.number)) for clip in clips]
    async with aclosing(docked.fetch(requests)) as reports:
        return [report async for report in reports]


@asynccontextmanager
async def docked(inbox: Path, tmp_path: Path, *paths: str | bytes) -> AsyncIterator[tuple[Folder, list[Clip]]]:
    one = folder(inbox, tmp_path / "staging", paths)
    try:
        yield one, [item for item in await listing(one) if isinstance(item, Clip)]
    finally:
        await one.close()


def reasons(reports: Iterable[FetchReport]) -> dict[int, FailReason | None]:
    """How each clip ended."""
    return {one.number: getattr(one, "reason", None) for one in reports if isinstance(one, (Failed, Fetched))}


async def test_a_clip_says_where_it_lay_and_when_it_was_written(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", {"nvr/01/a.mp4": b"film"})
    os.utime(inbox / "nvr/01/a.mp4", ns=(0, 1_795_438_800_123_456_789))
    async with docked(inbox, tmp_path, "nvr/01/a.mp4") as (one, clips):
        assert [(clip.path, clip.raw_name, clip.size_bytes) for clip in clips] == [("nvr/01/a.mp4", b"a.mp4", 4)]
        assert clips[0].modified == Stamp("2026-11-23T13:00:00.123456", 0)
        items = await listing(one)
        assert isinstance(items[0], Volume)
        assert items[0].filesystem_id == "nvr"
        assert one.device.filesystem_ids == ("folder:nvr",)


async def test_names_that_are_not_utf8_are_read_and_kept(tmp_path: Path) -> None:
    names = ["录音.wav".encode("gbk"), b"\xff\xfe.mp4", b"line\nfeed.mp4", "录音.wav".encode()]
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    for name in names:
        Path(os.fsdecode(os.fsencode(inbox) + b"/" + name)).write_bytes(name)
    async with docked(inbox, tmp_path, *names) as (one, clips):
        assert [clip.raw_name for clip in clips] == names
        assert [clip.path for clip in clips] == [
            "录音.wav", "<U+DCFF><U+DCFE>.mp4", "line<U+000A>feed.mp4", "录音.wav",
        ]  # fmt: skip
        assert set(reasons(await fetched(one, clips)).values()) == {None}
        assert [(tmp_path / f"staging/{clip.number}.part").read_bytes() for clip in clips] == names


async def test_what_became_another_file_since_it_was_found_is_told_and_not_listed(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", {"a.mp4": b"a", "b.mp4": b"b", "c.mp4": b"c", "d/e.mp4": b"e"})
    one = folder(inbox, tmp_path / "staging", ["a.mp4", "b.mp4", "c.mp4", "d/e.mp4"])
    (inbox / "a.mp4").write_bytes(b"a longer one")
    (inbox / "b.mp4").unlink()
    (inbox / "d/e.mp4").unlink()
    (inbox / "d").rmdir()
    (inbox / "d").write_bytes(b"a file now")
    items = await listing(one)
    assert [item.path for item in items if isinstance(item, Clip)] == ["c.mp4"]
    told = [(item.kind, item.detail["path"]) for item in items if isinstance(item, Finding)]
    assert told == [
        ("inbox-file-changed", "a.mp4"), ("inbox-file-vanished", "b.mp4"), ("inbox-file-vanished", "d/e.mp4"),
    ]  # fmt: skip
    assert await listing(one) == items, "the same again is the same digest"
    clips = [item for item in items if isinstance(item, Clip)]
    assert reasons(await fetched(one, clips)) == {1: None}
    assert (tmp_path / "staging/1.part").read_bytes() == b"c"
    await one.close()


async def test_a_change_after_the_listing_changes_the_digest_of_the_next(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", {"a.mp4": b"a", "b.mp4": b"b"})
    one = folder(inbox, tmp_path / "staging", ["a.mp4", "b.mp4"])
    before = (await listing(one))[-1]
    with (inbox / "b.mp4").open("ab") as file:
        file.write(b"more")
    after = (await listing(one))[-1]
    assert isinstance(before, ListingEnd)
    assert isinstance(after, ListingEnd)
    assert before != after
    await one.close()


async def test_each_way_of_changing_a_file_after_the_listing_fails_it_alone(tmp_path: Path) -> None:
    names = ["grown", "shrunk", "rewritten", "gone", "link", "fifo", "socket", "folder", "whole"]
    inbox = filled(tmp_path / "inbox", {name: name.encode() for name in names} | {"other": b"another's"})
    async with docked(inbox, tmp_path, *names) as (one, clips):
        with (inbox / "grown").open("ab") as file:
            file.write(b"more")
        os.truncate(inbox / "shrunk", 2)
        (inbox / "new").write_bytes(b"rewritteN")
        (inbox / "new").replace(inbox / "rewritten")
        for name in ("gone", "link", "fifo", "socket", "folder"):
            (inbox / name).unlink()
        (inbox / "link").symlink_to("other")
        os.mkfifo(inbox / "fifo")
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(inbox / "socket"))
        (inbox / "folder").mkdir()
        ends = reasons(await fetched(one, clips))
    assert ends == dict.fromkeys(range(1, 9), FailReason.CHANGED) | {9: None}
    assert [path.name for path in sorted((tmp_path / "staging").iterdir())] == ["9.part"]


async def test_a_folder_on_the_way_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", {"day/a.mp4": b"film"})
    async with docked(inbox, tmp_path, "day/a.mp4") as (one, clips):
        (inbox / "day").rename(tmp_path / "elsewhere")
        (inbox / "day").symlink_to(tmp_path / "elsewhere")
        assert reasons(await fetched(one, clips)) == {1: FailReason.CHANGED}


async def test_a_file_written_to_before_its_last_block_fails_as_changed(tmp_path: Path) -> None:
    # Long enough that the reader, four blocks ahead at most, has not come to the end when the first one is here.
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    with (inbox / "a.mp4").open("wb") as file:
        file.truncate(8 * BLOCK_BYTES)
    async with docked(inbox, tmp_path, "a.mp4") as (one, clips):
        ends: list[FetchReport] = []
        async with aclosing(one.fetch([FetchRequest(clips[0], "1.part")])) as reports:
            async for report in reports:
                if isinstance(report, BlockWritten) and report.index == 0:
                    with (inbox / "a.mp4").open("r+b") as file:
                        file.write(b"another beginning")
                ends.append(report)
    assert reasons(ends) == {1: FailReason.CHANGED}


async def test_a_folder_that_is_gone_ends_everything_as_gone(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", {"a.mp4": b"a", "b.mp4": b"b"})
    async with docked(inbox, tmp_path, "a.mp4", "b.mp4") as (one, clips):
        inbox.rename(tmp_path / "elsewhere")
        (tmp_path / "inbox").mkdir()
        (tmp_path / "elsewhere/a.mp4").unlink()
        (tmp_path / "elsewhere/b.mp4").unlink()
        assert set(reasons(await fetched(one, clips)).values()) == {FailReason.GONE}


async def test_reading_leaves_the_inbox_as_it_was(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", CARD)
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in sorted(inbox.rglob("*"))}
    async with docked(inbox, tmp_path, *CARD) as (one, clips):
        await fetched(one, clips)
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ctime_ns) for path in sorted(inbox.rglob("*"))} == before


@pytest.mark.root
async def test_a_share_that_fails_gives_no_byte_for_another(tmp_path: Path) -> None:
    behind = filled(tmp_path / "behind", {"a.mp4": b"a" * 300_000, "b.mp4": b"b" * 1000})
    with faulty_share(behind, tmp_path / "share") as share:
        async with docked(share.path, tmp_path, "a.mp4", "b.mp4") as (one, clips):
            share.fail(read=errno.EIO)
            assert set(reasons(await fetched(one, clips)).values()) == {FailReason.UNREADABLE}
            async with aclosing(one.fetch([FetchRequest(clips[1], "2.part", rescue=True)])) as reports:
                rescued = [report async for report in reports]
            assert [report.holes for report in rescued if isinstance(report, BlockWritten)] == [((0, 1000),)]
            share.fail(open=errno.EACCES)
            assert set(reasons(await fetched(one, clips)).values()) == {FailReason.UNREADABLE}
            share.fail()
            assert reasons(await fetched(one, clips)) == {1: None, 2: None}
            share.fail(read=errno.ENOTCONN)
            assert set(reasons(await fetched(one, clips)).values()) == {FailReason.GONE}


@pytest.mark.root
@pytest.mark.parametrize("rescue", [False, True])
async def test_errors_of_a_share_whose_computer_is_gone_are_no_holes(tmp_path: Path, rescue: bool) -> None:
    """Its path and what is known of its files stay for a while; by how full its disk is the other side is asked."""
    behind = filled(tmp_path / "behind", {"a.mp4": b"a" * 3000, "b.mp4": b"b" * 1000})
    with faulty_share(behind, tmp_path / "share") as share:
        async with docked(share.path, tmp_path, "a.mp4", "b.mp4") as (one, clips):
            share.fail(read=errno.EIO, statfs=errno.EHOSTDOWN)
            requests = [FetchRequest(clip, f"{clip.number}.part", rescue=rescue) for clip in clips]
            async with aclosing(one.fetch(requests)) as reports:
                found = [report async for report in reports]
            assert reasons(found) == {1: FailReason.GONE, 2: FailReason.GONE}
            assert not any(isinstance(report, BlockWritten) for report in found)


@pytest.mark.root
async def test_a_share_that_hangs_costs_the_file_at_hand_and_a_limited_time(tmp_path: Path) -> None:
    behind = filled(tmp_path / "behind", {"a.mp4": b"a", "b.mp4": b"b"})
    with faulty_share(behind, tmp_path / "share") as share:
        marks = tuple(mark(share.path, name) for name in (b"a.mp4", b"b.mp4"))
        (tmp_path / "staging").mkdir()
        one = Folder(share.path, inbox_device("nvr"), tmp_path / "staging", Batch(marks), Limits(stall_s=2))
        clips = [item for item in await listing(one) if isinstance(item, Clip)]
        share.fail(hang=["read"])
        ends: dict[int, FailReason | None] = {}
        async with aclosing(one.fetch([FetchRequest(clip, f"{clip.number}.part") for clip in clips])) as reports:
            async for report in reports:
                ends |= reasons([report])
                share.fail()
        assert ends == {1: FailReason.BROKEN, 2: None}
        await one.close()


@pytest.mark.root
async def test_a_full_disk_is_told_and_the_file_fetched_when_there_is_room(tmp_path: Path) -> None:
    inbox = filled(tmp_path / "inbox", {"a.mp4": os.urandom(1 << 20)})
    (tmp_path / "staging").mkdir()
    with tmpfs(tmp_path / "staging", 600 << 10):
        async with docked(inbox, tmp_path, "a.mp4") as (one, clips):
            assert reasons(await fetched(one, clips)) == {1: FailReason.NO_SPACE}
    async with docked(inbox, tmp_path, "a.mp4") as (one, clips):
        assert reasons(await fetched(one, clips)) == {1: None}


def test_a_time_beyond_all_calendars_is_no_time() -> None:
    assert clip_of(1, Mark(b"a.mp4", 1, 1, -1, 0)).modified == Stamp()
    assert clip_of(1, Mark(b"a.mp4", 1, 1, 1 << 62, 0)).modified.local is not None
    assert clip_of(1, Mark(b"a.mp4", 1, 1, 10**21, 0)).modified == Stamp()
