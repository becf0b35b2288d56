"""The image dock on a real folder, watched by real inotify."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.drivers import image_dock
from agent.drivers.image_dock import ImageDock
from tests.dock_listener import Ear, running

CONTENT = b"not really a card" * 4096


@contextlib.asynccontextmanager
async def docking(folder: Path, *, rescan_s: float = 3600.0, settle_s: float = 0.05) -> AsyncIterator[Ear]:
    """An image dock at work; a rescan of an hour proves that a hint was heard."""
    ear = Ear()
    async with running(ImageDock(folder, ear, rescan_s=rescan_s, settle_s=settle_s).run()):
        yield ear


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


async def test_an_image_that_lies_there_at_start_is_docked(folder: Path) -> None:
    (folder / "card.img").write_bytes(CONTENT)
    async with docking(folder) as ear:
        await ear.hears("card.img")
        (docked,) = ear.docked.values()
        assert docked.path == folder / "card.img"
        assert (docked.device.driver, docked.device.size_bytes) == ("mass_storage", len(CONTENT))
        assert docked.slot == "card.img"


async def test_an_image_that_appears_is_docked_and_one_that_vanishes_is_gone(folder: Path) -> None:
    async with docking(folder) as ear:
        (folder / "执法记录仪 3.img").write_bytes(CONTENT)
        await ear.hears("执法记录仪 3.img")
        (folder / "执法记录仪 3.img").unlink()
        await ear.hears()
        assert [what for what, _ in ear.history] == ["docked", "gone"]


async def test_an_image_moved_in_is_docked_and_moved_out_is_gone(folder: Path, tmp_path: Path) -> None:
    async with docking(folder) as ear:
        (tmp_path / "card.img").write_bytes(CONTENT)
        (tmp_path / "card.img").rename(folder / "card.img")
        await ear.hears("card.img")
        (folder / "card.img").rename(folder / "renamed.img")
        await ear.hears("renamed.img")
        (folder / "renamed.img").rename(tmp_path / "card.img")
        await ear.hears()


async def test_events_that_never_come_cost_at_most_a_rescan(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_dock._Hint, "on_any_event", lambda *_: None)
    async with docking(folder, rescan_s=0.05) as ear:
        (folder / "card.img").write_bytes(CONTENT)
        await ear.hears("card.img")


async def test_a_slow_copy_is_not_docked_before_it_is_complete(folder: Path) -> None:
    """The file grows between all looks, however often is looked; only at rest it is docked, with its full size."""
    looks: list[float] = []

    class Slow(ImageDock):
        async def _step(self) -> bool:
            if len(looks) < 30:
                with (folder / "slow.img").open("ab") as file:
                    file.write(CONTENT)
            looks.append(0.0)
            return await super()._step()

    ear = Ear()
    async with running(Slow(folder, ear, rescan_s=0.01, settle_s=0.02).run()):
        await ear.hears("slow.img")
    (docked,) = ear.docked.values()
    assert docked.device.size_bytes == 30 * len(CONTENT)
    assert len(looks) >= 31
    assert ear.history == [("docked", "slow.img")]


async def test_settling_is_measured_between_looks(folder: Path) -> None:
    """Two looks closer together than the settling time are not enough."""
    (folder / "card.img").write_bytes(CONTENT)
    ear = Ear()
    now = [100.0]
    dock = ImageDock(folder, ear, settle_s=1.0, now_s=lambda: now[0])
    assert not await dock._step()
    now[0] += 0.9
    assert not await dock._step()
    os.utime(folder / "card.img", ns=(1, 1))
    now[0] += 0.9
    assert not await dock._step()
    now[0] += 1.0
    assert await dock._step()
    assert ear.history == [("docked", "card.img")]
    await dock._stop_watching()


async def test_an_image_that_changes_while_docked_is_gone_and_then_another(folder: Path) -> None:
    (folder / "card.img").write_bytes(CONTENT)
    async with docking(folder) as ear:
        await ear.hears("card.img")
        (before,) = ear.docked
        with (folder / "card.img").open("ab") as file:
            file.write(b"more")
        await ear.until(lambda: len(ear.history) == 3)
        assert ear.history == [("docked", "card.img"), ("gone", "card.img"), ("docked", "card.img")]
        assert before not in ear.docked


async def test_what_is_no_image_file_is_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.img").write_bytes(CONTENT)
    (folder / "link.img").symlink_to(tmp_path / "elsewhere.img")
    (folder / "dangling.img").symlink_to(tmp_path / "nothing")
    (folder / "folder.img").mkdir()
    (folder / "folder.img" / "inner.img").write_bytes(CONTENT)
    (folder / ".hidden.img").write_bytes(CONTENT)
    (folder / "empty.img").write_bytes(b"")
    os.mkfifo(folder / "pipe.img")
    async with docking(folder, rescan_s=0.02) as ear:
        (folder / "card.img").write_bytes(CONTENT)
        await ear.hears("card.img")
        assert ear.history == [("docked", "card.img")]


async def test_a_folder_that_is_missing_or_replaced_is_told_and_found_again(folder: Path, tmp_path: Path) -> None:
    folder.rmdir()
    async with docking(folder, rescan_s=0.05) as ear:
        await ear.until(lambda: bool(ear.troubles))
        assert "No such file" in ear.troubles[-1]
        folder.mkdir()
        (folder / "first.img").write_bytes(CONTENT)
        await ear.hears("first.img")
        assert ear.troubles[-1] == ""
        folder.rename(tmp_path / "aside")
        await ear.hears()
        folder.mkdir()
        (folder / "second.img").write_bytes(CONTENT)
        await ear.hears("second.img")
        assert ear.troubles[-1] == ""


async def test_a_look_that_fails_tells_nobody_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A moment without descriptors or an answer of the disk must not end the dockings under way."""
    (folder / "card.img").write_bytes(CONTENT)
    ear = Ear()
    dock = ImageDock(folder, ear, settle_s=0.0)
    assert await dock._step()

    def refuse(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        await dock._step()
    assert "Too many open files" in ear.troubles[-1]
    assert await dock._step()
    assert ear.troubles[-1] == ""
    assert ear.history == [("docked", "card.img")]
    await dock._stop_watching()


async def test_too_many_images_are_bounded_and_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_dock, "MAX_IMAGES", 3)
    for number in range(5):
        (folder / f"card{number}.img").write_bytes(CONTENT)
    async with docking(folder, rescan_s=0.05) as ear:
        await ear.until(lambda: len(ear.docked) == 3 and bool(ear.troubles))
        assert "more than 3 files" in ear.troubles[-1]
        for path in sorted(docked.path for docked in ear.docked.values())[:2]:
            path.unlink()
        await ear.until(lambda: not ear.troubles[-1] and len(ear.docked) == 3)


async def test_starting_and_stopping_often_leaves_no_thread(folder: Path, tmp_path: Path) -> None:
    """conftest fails this test if a thread or an inotify descriptor is left."""
    shutil.copytree(folder, tmp_path / "copy")
    for _ in range(5):
        async with docking(folder) as ear:
            await asyncio.sleep(0)
            assert ear.troubles == []
