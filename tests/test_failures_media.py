"""A whole station on real filesystems: what is called safe was written and read back; recorders stay as they are."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from agent.medium_reader import MediumReader
from agent.model import AssetChanged, AssetState, JournalEntry, Phase, SlotProgress
from agent.pipeline.acquire import Docking, End
from agent.pipeline.progress import Meter
from agent.pipeline.station import Station
from agent.pipeline.storing import StoreLane
from simulator.content import Noise
from tests.cards import (
    KINDS,
    MIB,
    accounts,
    card,
    docked,
    driver,
    expected,
    held,
    image,
    incidents,
    mounts,
    sha256,
    stored,
)
from tests.conftest import SettableClock
from tests.disks import LoopDevice, ext4, faulty_image, loop, mounted, run
from tests.shares import OwnProcessStore, made
from tests.stations import opened

BIG = Noise(33 * MIB, 1)
SMALL = {f"DCIM/{n:04}.MP4": Noise(40_000 + n, n + 2) for n in range(1, 6)}
FILES = {"BIG.MP4": BIG, **SMALL}
CONTENTS = expected(*(content.read() for content in FILES.values()))


def store_at(folder: Path, root: Path) -> OwnProcessStore:
    return OwnProcessStore("store", {"path": str(made(folder))}, vault_root=root)


def states(station: Station) -> dict[AssetState, int]:
    found = station.journal.reader.overview(station.clock()).assets
    return {state: tally.files for state, tally in found.items() if tally.files}


# F2: "verified" means that the medium was asked.


@contextmanager
def counted(station: Station, kind: str, disk: LoopDevice, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What the disk had read and written when the journal was told of each event of this kind; gives the sizes seen."""
    read_before, written_before = disk.counters()
    record = station.journal.record
    sizes: list[int] = []

    async def watched(*entries: JournalEntry) -> int:
        for entry in entries:
            if isinstance(entry, AssetChanged) and type(entry.event).__name__ == kind:
                proof = entry.event.held if kind == "Acquired" else entry.event.receipt  # type: ignore[union-attr]
                sizes.append(proof.size_bytes)
        if sizes:
            read, written = disk.counters()
            assert read - read_before >= sum(sizes), "the disk was not asked to give back what it took"
            assert written - written_before >= sum(sizes), "the bytes were not on the disk"
        return await record(*entries)

    monkeypatch.setattr(station.journal, "record", watched)
    yield sizes


@pytest.mark.root
async def test_held_and_stored_are_said_after_the_disks_took_and_gave_back_every_byte(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2: counters of the block devices under the vault and under the store, at the moment of the claim."""
    path = image(tmp_path / "card.img", FILES)
    total = sum(content.size_bytes for content in FILES.values())
    with (
        ext4(tmp_path / "vault", tmp_path / "vault.img", 128 * MIB) as vault_disk,
        ext4(tmp_path / "store", tmp_path / "store.img", 128 * MIB) as store_disk,
    ):
        root = tmp_path / "vault" / "station"
        async with opened(root, clock, store=store_at(tmp_path / "store" / "objects", root), seal=True) as station:
            with counted(station, "Acquired", vault_disk, monkeypatch) as sizes:
                assert (await docked(station, path))[0] is End.COMPLETE
            assert sum(sizes) == total
            monkeypatch.undo()
            with counted(station, "Confirmed", store_disk, monkeypatch) as sizes:
                await stored(station)
            assert sum(sizes) == total
            assert states(station) == {AssetState.STORED: len(FILES)}
            assert held(station) == CONTENTS


class Flipper:
    """Flips a bit of a file on its medium, under the page cache, just before the file is read back; so many times."""

    def __init__(self, folder: Path, disk: LoopDevice, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._disk = disk
        self._forget = MediumReader.forget
        self._lock = threading.Lock()
        self.left = times
        flipper = self

        def forget(reader: MediumReader, fd: int, offset: int, size: int) -> bool:
            flipper.flip(fd, offset)
            return flipper._forget(reader, fd, offset, size)

        monkeypatch.setattr(MediumReader, "forget", forget)

    def flip(self, fd: int, offset: int) -> None:
        """Flip a bit near `offset`, if the file lies on the disk at hand and there is any left to do."""
        with self._lock:  # small files are read back by several threads
            self._flip_if_ours(fd, offset)

    def _flip_if_ours(self, fd: int, offset: int) -> None:
        if self.left and Path(os.readlink(f"/proc/self/fd/{fd}")).is_relative_to(self._folder):
            self.left -= 1
            self._flip(os.pread(fd, 4096, offset)[:512])

    def _flip(self, wanted: bytes) -> None:
        whole = self._disk.image.read_bytes()
        at = whole.find(wanted)
        assert at >= 0, "the bytes are not on the disk yet"
        while at >= 0:  # earlier attempts may have left their copies in free blocks
            with self._disk.image.open("r+b", buffering=0) as file:
                os.pwrite(file.fileno(), bytes([(whole[at + 100] + 1) % 256]), at + 100)
                os.fsync(file.fileno())
            at = whole.find(wanted, at + 1)


@pytest.mark.root
@pytest.mark.parametrize("files", [{"BIG.MP4": BIG}, {"A.MP4": Noise(50_000, 3), "B.MP4": Noise(60_000, 4)}])
async def test_a_sector_flipped_under_the_cache_while_pulling_is_pulled_again(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch, files: dict[str, Noise]
) -> None:
    """F2: the disk gives back other bytes once; the clip is started over from the card and comes out right."""
    path = image(tmp_path / "card.img", dict(files))
    with ext4(tmp_path / "vault", tmp_path / "vault.img", 128 * MIB) as disk:
        async with opened(tmp_path / "vault" / "station", clock) as station:
            flipper = Flipper(tmp_path / "vault", disk, 1, monkeypatch)
            await docked(station, path)
            assert flipper.left == 0
            assert any("read-back-differs" in detail for detail in incidents(station))
            assert accounts(station) == {"pulled": len(files)}
            assert held(station) == expected(*(content.read() for content in files.values()))


@pytest.mark.root
async def test_a_disk_that_never_gives_back_what_it_took_never_holds_anything(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2, F25: after a few attempts a person is needed, and the recorder must not be taken away."""
    path = image(tmp_path / "card.img", {"A.MP4": Noise(50_000, 3)})
    with ext4(tmp_path / "vault", tmp_path / "vault.img", 64 * MIB) as disk:
        async with opened(tmp_path / "vault" / "station", clock) as station:
            flipper = Flipper(tmp_path / "vault", disk, 99, monkeypatch)
            _, shown = await docked(station, path)
            assert 99 - flipper.left >= station.limits.attempts
            assert states(station) == {AssetState.STUCK: 1}
            assert accounts(station) == {"unreadable": 1}
            assert held(station) == {}
            assert not shown.may_remove
            assert shown.phase is Phase.FAILED


@pytest.mark.root
async def test_a_sector_flipped_under_the_stores_cache_is_never_stored(
    tmp_path: Path, clock: SettableClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F2: the store says so, keeps nothing, and takes the original later."""
    path = image(tmp_path / "card.img", {"A.MP4": Noise(50_000, 3)})
    with ext4(tmp_path / "store", tmp_path / "store.img", 64 * MIB) as disk:
        root = tmp_path / "station"
        objects = tmp_path / "store" / "objects"
        async with opened(root, clock, store=store_at(objects, root)) as station:
            await docked(station, path)
            flipper = Flipper(tmp_path / "store", disk, 1, monkeypatch)
            await stored_once(station)
            assert flipper.left == 0
            assert states(station) == {AssetState.HELD: 1}
            assert [found for found in objects.rglob("??/*") if found.is_file()] == []
            await stored(station)
            assert states(station) == {AssetState.STORED: 1}


async def stored_once(station: Station) -> None:
    lane = StoreLane(station)
    asset = await lane.take()
    await lane.store(asset)
    lane.give_back(asset)
    assert lane.error


# F5: the medium gets smaller.


@pytest.mark.parametrize("kind", KINDS)
async def test_an_image_that_shrinks_while_it_is_pulled_gives_no_recording(
    tmp_path: Path, clock: SettableClock, kind: str
) -> None:
    """F5: a valid fingerprint of half a file is never made."""
    path = image(tmp_path / "card.img", FILES, kind)

    def shrink(progress: SlotProgress) -> None:
        if progress.bytes_done > 17 * MIB:
            os.truncate(path, 20 * MIB)

    async with opened(tmp_path / "root", clock) as station:
        _, shown = await docked(station, path, shrink)
        assert not shown.may_remove
        assert shown.phase is not Phase.FINISHED
        assert set(held(station)) < set(CONTENTS)
        assert "pulled" not in accounts(station) or accounts(station)["pulled"] < len(FILES)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_image_that_shrinks_while_it_is_fingerprinted_is_not_confirmed(
    tmp_path: Path, clock: SettableClock, kind: str
) -> None:
    """F5: what is held already stays held; the card is not called safe."""
    path = image(tmp_path / "card.img", FILES, kind)
    async with opened(tmp_path / "root", clock) as station:
        assert (await docked(station, path))[1].may_remove

        def shrink(progress: SlotProgress) -> None:
            if progress.bytes_done > 0:
                os.truncate(path, 20 * MIB)

        _, shown = await docked(station, path, shrink)
        assert not shown.may_remove
        assert accounts(station).get("already_held", 0) < len(FILES)
        assert "pulled" not in accounts(station)
        assert held(station) == CONTENTS


async def test_an_image_cut_after_the_last_byte_was_read_is_not_called_done(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F5, F25: what lies at the path at the end is not what was listed."""
    path = image(tmp_path / "card.img", SMALL)

    def shrink(progress: SlotProgress) -> None:
        if progress.phase is Phase.VERIFYING:
            os.truncate(path, 40 * MIB)

    async with opened(tmp_path / "root", clock) as station:
        _, shown = await docked(station, path, shrink)
        assert not shown.may_remove


async def test_footage_recorded_while_the_card_was_docked_is_pulled_before_it_is_called_done(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F25: a recorder that goes on recording while it is docked must not be released with a clip that nobody saw."""
    made = card(tmp_path / "card.img", SMALL)
    late = Noise(90_000, 77)

    def go_on_recording(progress: SlotProgress) -> None:
        if progress.phase is Phase.VERIFYING and made._fd >= 0:
            made.add("DCIM/LATE.MP4", late)
            made.finish()
            made.close()

    async with opened(tmp_path / "root", clock) as station:
        end, shown = await docked(station, made.path, go_on_recording)
        assert not shown.may_remove
        assert end is not End.COMPLETE, "it is docked again by itself"
        end, shown = await docked(station, made.path)
        assert end is End.COMPLETE
        assert shown.may_remove
        assert accounts(station) == {"pulled": 1, "already_held": len(SMALL)}


# F7, F8: content decides, never a name, a size or a time.


@pytest.mark.root
async def test_what_failed_is_offered_again_and_what_was_refused_is_never_remembered_as_had(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F7: bad sectors in one file, once; the next docking reads it."""
    made = card(tmp_path / "card.img", SMALL)
    bad = made.extents(made.node("DCIM/0003.MP4"))[0]
    made.close()
    with faulty_image(made.path, tmp_path / "fuse") as served:
        async with opened(tmp_path / "root", clock) as station:
            served.fail(bad=[[bad[0] + 8192, 512]])
            _, shown = await docked(station, served.path)
            assert accounts(station) == {"pulled": len(SMALL) - 1, "unreadable": 1}
            assert not shown.may_remove
            served.fail(bad=[])
            _, shown = await docked(station, served.path)
            assert accounts(station) == {"pulled": 1, "already_held": len(SMALL) - 1}
            assert shown.may_remove
            assert SMALL["DCIM/0003.MP4"].read() in held(station).values()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_reset_recorder_that_counts_from_one_again_loses_nothing(
    tmp_path: Path, clock: SettableClock, kind: str
) -> None:
    """F8: the same card with equal names, sizes and times, and other footage."""
    made = card(tmp_path / "card.img", {"A.MP4": Noise(90_000, 1), "B.MP4": Noise(20 * MIB, 2)}, kind)
    other = {"A.MP4": Noise(90_000, 3), "B.MP4": Noise(20 * MIB, 4)}
    async with opened(tmp_path / "root", clock) as station:
        assert (await docked(station, made.path))[1].may_remove
        for name, content in other.items():
            made.poke(made.extents(made.node(name))[0][0], content.read())
        made.close()
        assert (await docked(station, made.path))[1].may_remove
        assert accounts(station) == {"pulled": 2}
        assert len(held(station)) == 4


@pytest.mark.parametrize("kind", KINDS)
async def test_a_moved_clock_or_zone_imports_nothing_twice(tmp_path: Path, clock: SettableClock, kind: str) -> None:
    """F8: every time on the card moved by eight hours, and exFAT's offset field is another one."""
    made = card(tmp_path / "card.img", SMALL, kind)
    async with opened(tmp_path / "root", clock) as station:
        assert (await docked(station, made.path))[1].may_remove
        for name in SMALL:
            node = made.node(name)
            node.modified += timedelta(hours=8)
            node.created += timedelta(hours=8)
            node.utc_offset_min = 0
        made.finish()
        made.close()
        assert (await docked(station, made.path))[1].may_remove
        assert accounts(station) == {"already_held": len(SMALL)}
        assert len(held(station)) == len(SMALL)


@pytest.mark.parametrize("kind", KINDS)
async def test_equal_content_under_two_names_is_kept_once_with_both_names(
    tmp_path: Path, clock: SettableClock, kind: str
) -> None:
    """F8: a marked clip is a copy of another one, on this card and on a second one of another kind."""
    files = {"0001.MP4": Noise(17 * MIB, 9), "0001IMP.MP4": Noise(17 * MIB, 9), "V.WAV": Noise(999, 8)}
    path = image(tmp_path / "card.img", dict(files), kind)
    second = image(tmp_path / "other.img", {"X/COPY.WAV": Noise(999, 8)}, "exfat" if kind == "fat32" else "fat32")
    async with opened(tmp_path / "root", clock) as station:
        await docked(station, path)
        assert accounts(station) == {"pulled": 2, "already_held": 1}
        assert (await docked(station, second))[1].may_remove
        assert accounts(station) == {"already_held": 1}
        assert len(held(station)) == 2
        views = station.journal.reader.recordings(limit=10)
        assert {view.clip.path for view in views if view.clip} == {*files, "X/COPY.WAV"}


# F9: identities that are not unique.


@pytest.mark.parametrize("kind", KINDS)
async def test_two_clones_docked_together_never_share_a_part(tmp_path: Path, clock: SettableClock, kind: str) -> None:
    """F9: the same serial, label, names, sizes and times; only the footage differs."""
    made = card(tmp_path / "a.img", FILES, kind)
    made.close()
    clone = tmp_path / "sub" / "a.img"
    clone.parent.mkdir()
    shutil.copyfile(made.path, clone)
    other = Noise(BIG.size_bytes, 99).read()
    with clone.open("r+b") as file:
        os.pwrite(file.fileno(), other, made.extents(made.node("BIG.MP4"))[0][0])
    async with opened(tmp_path / "root", clock) as station:
        ends = await asyncio.gather(docked(station, made.path), docked(station, clone))
        assert [end for end, _ in ends] == [End.COMPLETE, End.COMPLETE]
        assert held(station) == CONTENTS | expected(other)
        views = station.journal.reader.dockings(limit=2)
        assert sum(view.accounting.pulled for view in views) == len(FILES) + 1
        assert sum(view.accounting.already_held for view in views) == len(FILES) - 1


async def test_a_clone_put_in_its_place_in_the_middle_of_a_file_is_never_mixed_with_it(
    tmp_path: Path, clock: SettableClock
) -> None:
    """F9: yanked while a big file was pulled; at the next docking another card says it is the same one."""
    long = Noise(97 * MIB, 5)
    made = card(tmp_path / "a.img", {"LONG.MP4": long}, size_bytes=128 * MIB)
    made.close()
    async with opened(tmp_path / "root", clock) as station:
        await yanked(station, made.path, MIB)
        (asset,) = (view.asset for view in station.journal.reader.recordings(limit=2))
        assert station.journal.reader.blocks(asset.asset_id), "something of it is here"
        other = Noise(long.size_bytes, 99).read()
        with made.path.open("r+b") as file:
            os.pwrite(file.fileno(), other, made.extents(made.node("LONG.MP4"))[0][0])
        assert (await docked(station, made.path))[1].may_remove
        assert held(station) == expected(other)


async def yanked(station: Station, path: Path, after_bytes: int) -> SlotProgress:
    """Dock, and pull the recorder out after so many bytes."""
    recorder = driver(station, path)
    shown: list[SlotProgress] = []
    pulls: list[asyncio.Task[None]] = []

    def publish(progress: SlotProgress) -> None:
        shown.append(progress)
        if progress.bytes_done >= after_bytes and not pulls:
            docking.unplugged()
            pulls.append(asyncio.create_task(recorder.unplugged()))

    meter = Meter("1", "card", publish)
    docking = Docking(station, recorder, "1", meter)
    assert await docking.run() is End.YANKED
    await asyncio.gather(*pulls)
    assert not any(progress.may_remove for progress in shown)
    return shown[-1]


# F10, F11: the recorder is evidence.


def dirty_fat32(path: Path) -> None:
    made = card(path, FILES, "fat32")
    made.set_dirty()
    made.close()


def dirty_exfat(path: Path) -> None:
    made = card(path, FILES, "exfat")
    made.set_dirty()
    made.close()


def dirty_ext4(path: Path) -> None:
    """Copied while it was mounted and being written: its journal waits to be replayed."""
    living = path.with_name("living.img")
    with living.open("wb") as file:
        file.truncate(64 * MIB)
    run("mkfs.ext4", "-q", living)
    with loop(living) as disk, mounted(path.parent / "living", disk.path) as folder:
        for name, content in FILES.items():
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(content.read())
        os.sync()
        (folder / "DCIM" / "LAST").mkdir()
        os.sync()
        shutil.copyfile(living, path)
    assert "needs_recovery" in run("dumpe2fs", "-h", path)


def unclean_ntfs(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(64 * MIB)
    run("mkfs.ntfs", "-F", "-q", "-Q", path)
    for name, content in FILES.items():
        source = path.with_name("source")
        source.write_bytes(content.read())
        run("ntfscp", path, source, name.rpartition("/")[2])


@pytest.mark.root
@pytest.mark.parametrize("make", [dirty_fat32, dirty_exfat, dirty_ext4, unclean_ntfs])
@pytest.mark.parametrize("read_only", [True, False], ids=["read-only", "writable"])
async def test_a_dirty_recorder_is_bit_for_bit_the_same_after_docking_yank_and_docking(
    tmp_path: Path, clock: SettableClock, make: Callable[[Path], None], read_only: bool
) -> None:
    """F10, F11: no repair, no journal replay, no mount, not one sector written, also where the device would let us."""
    path = tmp_path / "card.img"
    make(path)
    before = sha256(path)
    with loop(path, read_only=read_only) as disk:
        written_before = disk.counters()[1]
        async with opened(tmp_path / "root", clock) as station:
            await yanked(station, disk.path, MIB)
            assert accounts(station).get("left")
            assert disk.path.name not in mounts()
            _, shown = await docked(station, disk.path)
            assert accounts(station).get("pulled"), "it can be read as it is"
            assert set(CONTENTS) <= set(held(station))
            assert "unreadable" not in accounts(station)
            assert shown.may_remove
            await docked(station, disk.path)
            assert "pulled" not in accounts(station)
            assert disk.counters()[1] == written_before, "a sector was written"
            assert disk.path.name not in mounts()
    assert sha256(path) == before
