"""An inbox on real folders: only what is complete is docked, everything else is waited for, refused or told."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from agent.child import ChildError
from agent.config.inboxes import Inbox
from agent.drivers.folder import clip_of
from agent.drivers.folder_reader import Folder as FolderOf
from agent.drivers.folder_reader import Mark
from agent.drivers.parser import Output
from agent.inboxes import inbox as inboxes
from agent.inboxes.inbox import InboxDock
from agent.inboxes.judging import Patience
from agent.inboxes.watcher import Watcher, breath_s, local_device
from agent.model import Clip, Outcome
from tests.disks import faulty_share
from tests.dock_listener import Ear, running
from tests.media import film

QUICK = Inbox("nvr", None, "NVR", settle_s=0.3, unsure_s=0.6, give_up_s=3600, rescan_s=0.3)


class Place:
    """An inbox at work. Each batch counts as read and taken over when the test says so."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ear = Ear()
        self.fates: dict[Clip, Outcome] = {}
        self.asked = 0

    async def fates_of(self, name: str, clips: Sequence[Clip]) -> Sequence[Outcome | None]:
        assert name == "nvr"
        self.asked += len(clips)
        return [self.fates.get(clip) for clip in clips]

    def batch(self) -> list[bytes]:
        """The paths of what is docked now."""
        return [mark.path for docked in self.ear.docked.values() if docked.batch for mark in docked.batch.marks]

    def findings(self) -> dict[str, object]:
        batches = [docked.batch for docked in self.ear.docked.values() if docked.batch]
        return {str(found.detail["path"]): found.detail["why"] for one in batches for found in one.findings}

    async def docks(self, *paths: str | bytes) -> None:
        """Wait until exactly these are docked."""
        wanted = sorted(map(os.fsencode, paths))
        try:
            await self.ear.until(lambda: self.batch() == wanted)
        except TimeoutError:
            pytest.fail(f"docked are {self.batch()}, not {wanted}; {self.ear.troubles}")

    def end(self, fate: Outcome | None = Outcome.PULLED) -> None:
        """The batch was read."""
        for docked in self.ear.docked.values():
            assert docked.batch is not None
            if fate is not None:
                self.fates |= {clip_of(0, mark): fate for mark in docked.batch.marks}
            docked.batch.ends += 1
            docked.batch.under_way = False

    async def stays(self, *paths: str) -> None:
        """Nothing else is docked for some looks; one that is docked late would be found by the tests that wait."""
        for _ in range(20):
            await asyncio.sleep(0.05)
            assert self.batch() == sorted(map(os.fsencode, paths))


@contextlib.asynccontextmanager
async def watched(folder: Path, inbox: Inbox = QUICK) -> AsyncIterator[Place]:
    folder.mkdir(exist_ok=True)
    place = Place(folder)
    dock = InboxDock(replace(inbox, folder=folder), place.ear, place.fates_of, stall_s=20)
    async with running(dock.run()):
        yield place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inbox").mkdir()
    return tmp_path / "inbox"


async def test_what_lies_there_and_what_comes_is_docked_batch_by_batch(folder: Path) -> None:
    (folder / "a/b/c").mkdir(parents=True)
    (folder / "a/b/c/deep.txt").write_bytes(b"deep")
    (folder / "first.txt").write_bytes(b"first")
    async with watched(folder) as place:
        await place.docks("a/b/c/deep.txt", "first.txt")
        (folder / "second.txt").write_bytes(b"second")
        await place.stays("a/b/c/deep.txt", "first.txt")  # a batch that is being read is left alone
        place.end()
        await place.docks("second.txt")
        assert [docked.slot for docked in place.ear.docked.values()] == ["收件夹 NVR"]
        assert [what for what, _ in place.ear.history] == ["docked", "gone", "docked"]


async def test_what_is_taken_already_is_not_docked_and_what_failed_comes_again_with_what_is_new(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"a")
    async with watched(folder) as place:
        await place.docks("a.txt")
        place.end(None)
        await place.stays("a.txt")  # it is tried again by itself
        (folder / "b.txt").write_bytes(b"b")
        await place.docks("a.txt", "b.txt")
        place.end()
        before = place.fates
    async with watched(folder) as place:
        place.fates = before
        await place.ear.until(lambda: place.asked == 2)
        (folder / "c.txt").write_bytes(b"c")
        await place.docks("c.txt")


async def test_what_could_not_be_read_is_told_and_holds_up_no_other_batch(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"a")
    async with watched(folder) as place:
        await place.docks("a.txt")
        place.end(Outcome.UNREADABLE)
        (folder / "b.txt").write_bytes(b"b")
        await place.docks("b.txt")
        assert "1 files can't be read" in place.ear.troubles[-1]
        before = place.fates
    async with watched(folder) as place:
        place.fates = before
        await place.docks("a.txt", "b.txt")  # each start tries again


async def test_a_file_is_not_docked_while_it_grows_or_somebody_may_still_write(folder: Path) -> None:
    async with watched(folder) as place:
        with (folder / "a.txt").open("wb", buffering=0) as file:
            for _ in range(10):
                file.write(b"piece")
                await asyncio.sleep(0.1)
            await place.stays()  # at rest, but open
        await place.docks("a.txt")


async def test_a_file_that_grows_after_it_was_taken_is_docked_again(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"a")
    async with watched(folder) as place:
        await place.docks("a.txt")
        place.end()
        with (folder / "a.txt").open("ab") as file:
            file.write(b"more")
        await place.ear.until(lambda: len(place.ear.history) == 3)
        (mark,) = (mark for docked in place.ear.docked.values() if docked.batch for mark in docked.batch.marks)
        assert mark.size_bytes == 5


async def test_a_change_that_leaves_name_size_and_time_is_docked_again(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"one")
    async with watched(folder) as place:
        await place.docks("a.txt")
        place.end()
        found = (folder / "a.txt").stat()
        (folder / "a.txt").write_bytes(b"two")
        os.utime(folder / "a.txt", ns=(found.st_atime_ns, found.st_mtime_ns))
        await place.ear.until(lambda: len(place.ear.history) == 3)


async def test_an_upload_under_another_name_is_docked_when_it_gets_its_own(folder: Path) -> None:
    async with watched(folder) as place:
        for name in ("a.mp4.part", "b.mp4.FILEPART", ".hidden.mp4"):
            (folder / name).write_bytes(b"film")
        await place.stays()
        (folder / "a.mp4.part").rename(folder / "a.bin")
        await place.docks("a.bin")


async def test_unfinished_uploads_are_told_when_they_rest_for_long(folder: Path) -> None:
    (folder / "a.mp4.part").write_bytes(b"film")
    async with watched(folder, replace(QUICK, give_up_s=0.9)) as place:
        await place.ear.until(lambda: any("1 files are not finished" in told for told in place.ear.troubles))
        (folder / "a.mp4.part").unlink()
        await place.ear.until(lambda: place.ear.troubles[-1] == "")


async def test_half_a_container_is_waited_for_and_taken_as_it_is_after_long(folder: Path, tmp_path: Path) -> None:
    content = film(tmp_path, "mp4", seconds=1)
    async with watched(folder) as place:
        (folder / "a.mp4").write_bytes(content[: len(content) // 2])
        (folder / "b.wav").write_bytes(b"")
        with (folder / "preallocated.ts").open("wb") as file:
            file.truncate(1 << 20)
        await place.stays()
        (folder / "preallocated.ts").unlink()
        (folder / "a.mp4").write_bytes(content)
        await place.docks("a.mp4")
    (folder / "a.mp4").rename(folder / "c.mp4")
    os.truncate(folder / "c.mp4", len(content) // 2)
    async with watched(folder, replace(QUICK, give_up_s=1.2)) as place:
        await place.docks("b.wav", "c.mp4")
        assert place.findings() == {"b.wav": "empty", "c.mp4": "not-whole"}


async def test_with_a_marker_only_what_is_marked_counts(folder: Path) -> None:
    async with watched(folder, replace(QUICK, marker=".done", give_up_s=0.6, unsure_s=0.4)) as place:
        (folder / "a.mp4").write_bytes(b"no container at all, but they say it is complete")
        (folder / "b.mp4").write_bytes(b"not yet")
        (folder / "a.mp4.done").touch()
        await place.docks("a.mp4")
        await place.ear.until(lambda: any("1 files are not finished" in told for told in place.ear.troubles))
        await place.stays("a.mp4")


async def test_what_somebody_holds_for_himself_is_waited_for_and_not_refused(
    folder: Path,
) -> None:
    """As Samba does while a client may write: whoever opens the file is told to come back later."""
    heard = signal.signal(signal.SIGIO, signal.SIG_IGN)
    (folder / "a.txt").write_bytes(b"a")
    fd = os.open(folder / "a.txt", os.O_RDWR)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        async with watched(folder, replace(QUICK, give_up_s=0.9)) as place:
            await place.ear.until(lambda: any("1 files are not finished" in told for told in place.ear.troubles))
            assert not place.batch()
            fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
            os.close(fd)
            fd = -1
            await place.docks("a.txt")
            assert place.findings() == {}
            assert not any("can't be read" in told for told in place.ear.troubles)
    finally:
        if fd >= 0:
            os.close(fd)
        signal.signal(signal.SIGIO, heard)


AS_NOBODY = """
import os, sys
from agent.inboxes.watcher import main
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.root
def test_a_folder_into_which_nobody_may_look_hides_only_itself() -> None:
    with TemporaryDirectory(dir="/dev/shm") as name:  # pytest's own folders are root's alone
        folder = Path(name)
        folder.chmod(0o755)
        for mode in (0o744, 0o700):
            (folder / f"{mode:o}").mkdir()
            (folder / f"{mode:o}/a.txt").write_bytes(b"a")
            (folder / f"{mode:o}").chmod(mode)
        (folder / "b.txt").write_bytes(b"b")
        words = [sys.executable, "-c", AS_NOBODY, name, "0.1", "0.1", "9", "0.1"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as watcher:
            assert watcher.stdout
            assert watcher.stdin
            told: list[dict[str, list[object]]] = []
            while not any("file" in line for line in told):
                told.append(json.loads(watcher.stdout.readline()))
            watcher.stdin.close()
        assert {bytes.fromhex(str(line["file"][0])) for line in told if "file" in line} == {b"b.txt"}
        refused = {bytes.fromhex(str(line["refused"][0])): line["refused"][1] for line in told if "refused" in line}
        assert refused == dict.fromkeys([b"744/a.txt", b"700"], "unreadable: Permission denied")


def test_what_was_remembered_of_a_file_and_is_not_so_any_more_is_not_told(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As NFS remembers times and sizes for a minute; the file says when it is opened."""
    (folder / "a.txt").write_bytes(b"half")
    found = (folder / "a.txt").stat()
    remembered = Mark(b"a.txt", found.st_ino, 2, found.st_mtime_ns, found.st_ctime_ns)
    output, opened = Output(1), FolderOf(str(folder))
    watcher = Watcher(opened, None, Patience(1, 1, 1), output)
    assert not watcher._judge(remembered, 100, {})
    assert watcher._judge(remembered._replace(size_bytes=4), 100, {})
    os.close(opened.fd)
    output.flush()
    assert capfd.readouterr().out.count('"file"') == 1


def test_after_a_slow_look_the_watcher_rests_and_never_longer_than_it_may_be_silent() -> None:
    assert breath_s(lasted_s=0.001, pause_s=5, rescan_s=60) == 0.5
    assert breath_s(lasted_s=2, pause_s=5, rescan_s=60) == 10
    assert breath_s(lasted_s=100, pause_s=5, rescan_s=60) == 60


async def test_links_pipes_and_sockets_are_refused_and_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/other.txt").write_bytes(b"not here")
    (folder / "file-link.txt").symlink_to(tmp_path / "secret/other.txt")
    (folder / "folder-link").symlink_to(tmp_path / "secret")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "a.txt").write_bytes(b"a")
    async with watched(folder) as place:
        await place.docks("a.txt")
        assert place.findings() == {
            "file-link.txt": "link", "folder-link": "link", "loop": "link", "pipe.mp4": "fifo",
        }  # fmt: skip
        assert "4 entries are links" in place.ear.troubles[-1]
        for name in ("file-link.txt", "folder-link", "loop", "pipe.mp4"):
            (folder / name).unlink()
        await place.ear.until(lambda: place.ear.troubles[-1] == "")


async def test_names_that_are_not_utf8_and_very_deep_folders(folder: Path) -> None:
    name = "录音.wav".encode("gbk")
    Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(b"sound")
    deep = folder.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    async with watched(folder) as place:
        await place.docks(name)
        assert place.findings() == {"/".join(["d"] * 33): "too-deep"}


async def test_more_files_at_once_than_a_batch_takes_are_two(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inboxes, "BATCH_FILES", 1500)
    for day in range(20):
        (folder / str(day)).mkdir()
        for number in range(100):
            (folder / str(day) / f"{number}.txt").write_bytes(b"x")
    async with watched(folder) as place:
        await place.ear.until(lambda: len(place.batch()) == 1500)
        place.end()
        await place.ear.until(lambda: len(place.batch()) == 500)


async def test_folders_that_vanish_and_come_back(folder: Path) -> None:
    (folder / "day").mkdir()
    (folder / "day/a.txt").write_bytes(b"a")
    async with watched(folder) as place:
        await place.docks("day/a.txt")
        place.end()
        shutil.rmtree(folder / "day")
        (folder / "day").mkdir()
        (folder / "day/b.txt").write_bytes(b"b")
        await place.docks("day/b.txt")
        place.end()
        shutil.rmtree(folder)
        await place.ear.until(lambda: any("can't be looked at" in told for told in place.ear.troubles))
        folder.mkdir()
        (folder / "c.txt").write_bytes(b"c")
        await place.docks("c.txt")
        assert place.ear.troubles[-1] == ""


async def test_hints_are_heard_long_before_the_next_look(folder: Path) -> None:
    async with watched(folder, replace(QUICK, rescan_s=3600)) as place:
        (folder / "new").mkdir()
        (folder / "new/a.txt").write_bytes(b"a")
        await place.docks("new/a.txt")


async def test_a_watcher_that_is_killed_is_started_again(folder: Path) -> None:
    async with watched(folder) as place:
        (folder / "a.txt").write_bytes(b"a")
        await place.docks("a.txt")
        for pid in _children():
            os.kill(pid, signal.SIGKILL)
        await place.ear.until(lambda: any("ended with -9" in told for told in place.ear.troubles))
        place.end()
        (folder / "b.txt").write_bytes(b"b")
        await place.docks("b.txt")


def _children() -> Iterable[int]:
    """The watchers that this test has started."""
    for task in os.listdir("/proc/self/task"):
        for pid in Path(f"/proc/self/task/{task}/children").read_text().split():
            if "agent.inboxes.watcher" in Path(f"/proc/{pid}/cmdline").read_text():
                yield int(pid)


@pytest.mark.root
async def test_on_a_share_nothing_is_heard_and_who_writes_is_not_known_so_files_must_rest_longer(
    tmp_path: Path,
) -> None:
    behind = tmp_path / "behind"
    behind.mkdir()
    with faulty_share(behind, tmp_path / "share") as share:
        assert local_device(str(share.path), Path("/proc/self/mountinfo").read_text()) is None
        async with watched(share.path, replace(QUICK, settle_s=0.2, unsure_s=3600)) as place:
            (behind / "a.txt").write_bytes(b"a")
            await place.stays()
        async with watched(share.path) as place:
            await place.docks("a.txt")
            place.end()
            (behind / "b.txt").write_bytes(b"b")
            await place.docks("b.txt")


@pytest.mark.root
async def test_a_share_whose_server_is_away_is_told_in_its_words_and_looked_at_again(tmp_path: Path) -> None:
    behind = tmp_path / "behind"
    behind.mkdir()
    with faulty_share(behind, tmp_path / "share") as share:
        async with watched(share.path) as place:
            share.fail(readdir=errno.EHOSTDOWN)
            await place.ear.until(lambda: any("Host is down" in told for told in place.ear.troubles))
            share.fail()
            (behind / "b.txt").write_bytes(b"b")
            await place.docks("b.txt")


@pytest.mark.root
async def test_a_share_that_hangs_holds_up_nobody_and_is_looked_at_again(tmp_path: Path) -> None:
    behind = tmp_path / "behind"
    behind.mkdir()
    with faulty_share(behind, tmp_path / "share") as share:
        place = Place(share.path)
        dock = InboxDock(replace(QUICK, folder=share.path), place.ear, place.fates_of, stall_s=1)
        async with running(dock.run()):
            (behind / "a.txt").write_bytes(b"a")
            await place.docks("a.txt")
            place.end()
            share.fail(hang=["getattr"])
            await place.ear.until(lambda: any("no answer for" in told for told in place.ear.troubles))
            share.fail()
            (behind / "b.txt").write_bytes(b"b")
            await place.docks("b.txt")


async def test_what_no_watcher_says_ends_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dock = InboxDock(replace(QUICK, folder=folder), Ear(), Place(folder).fates_of, stall_s=1)
    numbers = [1, 2, 3, 4]
    lines: tuple[object, ...] = (
        {"file": ["61", *numbers, "because"]}, {"file": ["zz", *numbers, ""]}, {"file": ["61", 1, -2, 3, 4, ""]},
        {"file": ["2e2e2f61", *numbers, ""]}, {"file": ["2f61", *numbers, ""]}, {"file": ["6100", *numbers, ""]},
        {"file": ["61" * 5000, *numbers, ""]}, {"look": [1, 2]}, {"lost": ""}, {}, [], None,
    )  # fmt: skip
    for line in lines:
        with pytest.raises(ChildError):
            await dock._hear(line)
    await dock._hear({"file": ["61", *numbers, ""]})
    assert dock._new == [Mark(b"a", *numbers)]
    monkeypatch.setattr(inboxes, "FILES_LIMIT", 1)
    with pytest.raises(ChildError, match="more files than it may"):
        await dock._hear({"file": ["62", *numbers, ""]})
