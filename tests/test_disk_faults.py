"""The running service while its own disk is full, read-only, dead, hanging or over quota: it lives, and never lies."""

from __future__ import annotations

import errno
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from blake3 import blake3

from agent.verbs.base import Exit
from simulator.content import Content, Noise
from simulator.stage import DemoError
from tests.cards import MIB, image
from tests.daemons import Daemon, call, running, stage
from tests.disks import NEVER, FaultyShare, faulty_image, faulty_share, fill, loop, run

EARLIER: dict[str, Content] = {"EARLIER.MP4": Noise(900_000, 20)}
FILES: dict[str, Content] = {"BIG.MP4": Noise(40 * MIB, 1), **{f"{n:04}.MP4": Noise(70_000 + n, n) for n in (2, 3, 4)}}
DISK_BYTES = 320 * MIB
pytestmark = pytest.mark.root


@dataclass(slots=True)
class OwnDisk:
    """The disk below a station: how it breaks, and how it is whole again, by itself or by a person's hands."""

    strike: Callable[[], object]
    told: str
    heal: Callable[[], object] | None = None
    mend: Callable[[], object] | None = None


@contextmanager
def on_loop(station: Path, backing: Path, kind: str) -> Iterator[Callable[[], None]]:
    """A filesystem of its own for the station, over `backing/disk.img`; gives how a person unmounts, checks, mounts."""
    path = backing / "disk.img"
    with path.open("wb") as file:
        file.truncate(DISK_BYTES)
    run(f"mkfs.{kind}", "-q", *(["-m", "0"] if kind == "ext4" else []), path)
    with loop(path) as device:

        def mend() -> None:
            run("umount", station)
            if kind == "ext4":
                assert subprocess.run(["e2fsck", "-p", device.path], capture_output=True, check=False).returncode <= 1
            run("mount", device.path, station)

        run("mount", device.path, station)
        try:
            yield mend
        finally:
            run("umount", station)


@contextmanager
def full(station: Path, folder: Path) -> Iterator[OwnDisk]:
    """F21: somebody else's files take the last byte."""
    with on_loop(station, folder, "ext4"):
        filler = station / "somebody-elses-file"
        yield OwnDisk(lambda: fill(station), "存储空间不足", filler.unlink)


@contextmanager
def shared(station: Path, folder: Path) -> Iterator[FaultyShare]:
    (behind := folder / "behind").mkdir()
    station.rmdir()
    with faulty_share(behind, station) as share, ExitStack() as end:
        end.callback(share.fail)
        yield share


@contextmanager
def over_quota(station: Path, folder: Path) -> Iterator[OwnDisk]:
    """EDQUOT at each write, journal and staging alike, while the disk shows much free space."""
    with shared(station, folder) as share:
        yield OwnDisk(lambda: share.fail(write=errno.EDQUOT), "本机磁盘无法写入", share.fail)


@contextmanager
def hanging(station: Path, folder: Path) -> Iterator[OwnDisk]:
    """What is below answers no write; the kernel waits, and so does whoever wrote."""
    with shared(station, folder) as share:
        yield OwnDisk(lambda: share.fail(hang=["write", "fsync"]), "本机磁盘无法写入", share.fail)


@contextmanager
def read_only(station: Path, folder: Path) -> Iterator[OwnDisk]:
    """The kernel found an error and lets nobody write any more; a person unmounts, checks and mounts it."""
    with on_loop(station, folder, "ext4") as mend:
        yield OwnDisk(lambda: run("mount", "-o", "remount,abort", station), "本机磁盘无法写入", mend=mend)


@contextmanager
def failing(station: Path, folder: Path) -> Iterator[OwnDisk]:
    """EIO at each write that reaches the medium."""
    (behind := folder / "behind").mkdir()
    with faulty_share(behind, folder / "share") as share, on_loop(station, folder / "share", "ext4") as mend:

        def repaired() -> None:
            share.fail()
            mend()

        yield OwnDisk(lambda: share.fail(write=errno.EIO, fsync=errno.EIO), "本机磁盘无法写入", mend=repaired)


@contextmanager
def dead(station: Path, folder: Path) -> Iterator[OwnDisk]:
    """As a disk that is gone: no read and no write is answered but with EIO."""
    with on_loop(station, folder, "xfs") as mend:
        # "can't be read" or "can't be used": what SQLite has in memory, a status is still made of
        yield OwnDisk(lambda: run("xfs_io", "-x", "-c", "shutdown", station), "journal.db can't be", mend=mend)


def said(daemon: Daemon) -> str:
    """Why the station is in trouble, as its status says, which never calls the recorder done; or why there is none."""
    try:
        shown = daemon.status()
    except DemoError as error:
        return str(error)
    assert not any(slot["may_remove"] for slot in shown["slots"] if slot["slot"] == "card.img")
    return json.dumps(shown["health"], ensure_ascii=False)


def in_the_middle(daemon: Daemon) -> bool:
    return bool(daemon.slot("card.img").get("bytes", {}).get("done", 0) >= 8 * MIB)


def on_the_disk(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file() and len(path.name) == 64}


@pytest.mark.parametrize(
    "trouble", [full, over_quota, hanging, read_only, failing, dead], ids=lambda made: made.__name__
)
def test_a_disk_that_breaks_in_the_middle_of_a_file_costs_nothing_and_is_told(
    tmp_path: Path, trouble: Callable[[Path, Path], AbstractContextManager[OwnDisk]]
) -> None:
    """Nothing is called done, the screens say why, and all is there once the disk works: exactly, and once."""
    made = stage(tmp_path, {"dock.image_dir": f'"{tmp_path / "fuse"}"', "runner.backoff_max_s": "2"})
    made.station.mkdir()
    path = image(tmp_path / "big.img", dict(FILES))
    earlier = image(tmp_path / "earlier.img", dict(EARLIER))
    other = image(tmp_path / "other.img", {"OTHER.MP4": Noise(600_000, 30)})
    with trouble(made.station, tmp_path) as own, faulty_image(path, tmp_path / "fuse", threads=True) as card:
        card.fail(stall_from=24 * MIB)
        with running(made) as daemon:
            assert call(made, "pull", str(earlier)).returncode == 0
            daemon.until(lambda: in_the_middle(daemon))
            own.strike()
            card.fail(stall_from=NEVER)
            daemon.until(lambda: own.told in said(daemon))
            if trouble is not hanging:  # there the command would wait, too
                assert call(made, "pull", str(other)).returncode != 0
            assert own.told in said(daemon)
            if own.heal is not None:
                own.heal()
                is_whole(daemon)
        if own.mend is not None:
            own.mend()
            with running(made) as daemon:
                is_whole(daemon)
        assert call(made, "verify").returncode == 0
        contents = {blake3(content.read()).hexdigest() for content in (*FILES.values(), *EARLIER.values())}
        for folder in (made.station / "vault", made.store):
            assert {name: blake3(read).hexdigest() for name, read in on_the_disk(folder).items()} == {
                name: name for name in contents
            }


def is_whole(daemon: Daemon) -> None:
    """All that was docked is pulled and stored, and nothing is to be complained of."""
    assert daemon.until_phase("card.img", "finished")["may_remove"]
    files = len(FILES) + len(EARLIER)
    daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == files)
    daemon.until(lambda: "磁盘" not in json.dumps(daemon.status()["health"], ensure_ascii=False))


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_start_on_a_disk_that_takes_nothing_ends_in_words_and_the_next_one_works(
    tmp_path: Path, trouble: str
) -> None:
    """systemd starts it again and again until the disk has room; nobody has to do anything else."""
    made = stage(tmp_path)
    made.station.mkdir()
    with on_loop(made.station, tmp_path, "ext4"):
        with running(made):
            assert call(made, "pull", str(image(tmp_path / "card.img", dict(EARLIER)))).returncode == 0
        filler = fill(made.station)
        if trouble == "read-only":
            filler.unlink()
            run("mount", "-o", "remount,ro", made.station)
        ended = call(made, "run")
        assert ended.returncode == Exit.JOURNAL
        assert "Traceback" not in ended.stderr
        assert "the disk" in ended.stderr or "Read-only" in ended.stderr
        if trouble == "read-only":
            run("mount", "-o", "remount,rw", made.station)
        filler.unlink(missing_ok=True)
        with running(made) as daemon:
            daemon.until(lambda: daemon.status()["counters"]["assets"]["stored"]["files"] == len(EARLIER))
        assert call(made, "verify").returncode == 0
