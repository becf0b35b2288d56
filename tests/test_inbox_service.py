"""The real service with an inbox: what others put there is taken over and stored, once, and left as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from agent.journal import Reader
from agent.journal.views import DockingView
from agent.model import Clearing
from simulator.stage import Stage
from tests.daemons import Daemon, running, stage

SLOT = "收件夹 NVR"
QUICK = "settle_s = 0.3\nunsure_s = 0.5\ngive_up_s = 1.5\nrescan_s = 0.5\n"


def with_inbox(tmp_path: Path) -> tuple[Stage, Path]:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    made = stage(tmp_path)
    with made.config.open("a", encoding="utf-8") as file:
        file.write(f'\n[[inbox]]\nname = "nvr"\nfolder = "{inbox}"\ntitle = "NVR"\n{QUICK}')
    return made, inbox


@contextmanager
def reading(made: Stage) -> Iterator[Reader]:
    with closing(Reader(made.station / "journal.db")) as reader:
        yield reader


def dockings(made: Stage) -> list[DockingView]:
    with reading(made) as reader:
        return list(reversed(reader.dockings()))


def taken(made: Stage) -> list[tuple[str, str]]:
    """(path, state of its asset) of all that was ever taken over, docking by docking."""
    with reading(made) as reader:
        files = [one for docking in reversed(reader.dockings()) for one in reader.taken_files(docking.docking_id)]
    return [(one.clip.path, one.outcome.value) for one in files]


def stored(daemon: Daemon, count: int) -> bool:
    return any(tile["en"] == "stored" and tile["count"] == count for tile in daemon.status()["tiles"])


def test_files_are_taken_over_once_with_a_receipt_for_each_batch_and_again_when_they_changed(tmp_path: Path) -> None:
    made, inbox = with_inbox(tmp_path)
    (inbox / "cam 1").mkdir()
    (inbox / "cam 1/a.txt").write_bytes(b"first")
    (inbox / "录音.wav".encode("gbk").decode("utf-8", "surrogateescape")).write_bytes(b"second")
    with running(made) as daemon:
        daemon.until(lambda: stored(daemon, 2))
        (inbox / "late.txt").write_bytes(b"third")
        daemon.until(lambda: stored(daemon, 3))
        with (inbox / "late.txt").open("ab") as file:
            file.write(b" and more")
        daemon.until(lambda: stored(daemon, 4))
        daemon.until(lambda: all(one.clearing is Clearing.CLEAR for one in dockings(made)))
        assert daemon.slot(SLOT)["phase"]["name"] == "finished"
        assert daemon.slot(SLOT)["hold"]["zh"] == "本批已全部采集"
    assert taken(made) == [
        ("cam 1/a.txt", "pulled"), ("录音.wav", "pulled"), ("late.txt", "pulled"), ("late.txt", "pulled"),
    ]  # fmt: skip
    before = len(dockings(made))
    assert before == 3
    with running(made) as daemon:
        (inbox / "cam 1/copy.txt").write_bytes(b"first")
        daemon.until(lambda: len(dockings(made)) > before and dockings(made)[-1].closed_at is not None)
    assert [path for path, _ in taken(made)[4:]] == ["cam 1/copy.txt"], "what was taken before is not read again"
    assert sorted(path.name for path in inbox.rglob("*.txt")) == ["a.txt", "copy.txt", "late.txt"]
    assert (inbox / "late.txt").read_bytes() == b"third and more"


def test_a_batch_that_is_cut_short_goes_on_after_the_next_start(tmp_path: Path) -> None:
    made, inbox = with_inbox(tmp_path)
    content = os.urandom(1 << 20) * 64
    (inbox / "big.bin").write_bytes(content)
    with running(made) as daemon:
        daemon.until(lambda: daemon.slot(SLOT).get("bytes", {}).get("done", 0) > 0)
        daemon.service.process.kill()
        daemon.service.process.wait()
    with running(made) as daemon:
        daemon.until(lambda: stored(daemon, 1))
    assert [path for path, outcome in taken(made) if outcome == "pulled"] == ["big.bin"]
    assert (inbox / "big.bin").read_bytes() == content


def test_other_bytes_with_the_same_name_size_and_time_are_another_recording(tmp_path: Path) -> None:
    made, inbox = with_inbox(tmp_path)
    (inbox / "a.txt").write_bytes(b"first")
    with running(made) as daemon:
        daemon.until(lambda: stored(daemon, 1))
        found = (inbox / "a.txt").stat()
    (inbox / "a.txt").write_bytes(b"other")  # while the service rests
    os.utime(inbox / "a.txt", ns=(found.st_atime_ns, found.st_mtime_ns))
    with running(made) as daemon:
        daemon.until(lambda: stored(daemon, 2))
