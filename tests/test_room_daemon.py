"""The real service with real cameras and the real recorder, killed again and again: what was recorded is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent import control
from agent.errors import JournalError
from agent.journal import Reader, verify
from agent.journal.views import SessionView
from agent.model import AssetState
from simulator.cameras.camera import Cameras
from simulator.cameras.footage import Footage
from simulator.cameras.frames import Known
from simulator.stage import Stage, serving, tail
from tests.daemons import running, stage
from tests.disks import tmpfs

LIMIT_S = 60.0
SEED = 20261123
ROOM = """
[room.xunwen]
title = "一号询问室"
segment_s = 2
planned_h = 0.1
bitrate_kbit_s = 400

[room.xunwen.source.front]
url = "{front}"
watch = false

[room.xunwen.source.side]
url = "{side}"
watch = false
"""

Start = Callable[..., Cameras]
Pack = Callable[..., Path]


def order(made: Stage, verb: str, **asked: str) -> dict[str, object]:
    return asyncio.run(control.ask(made.station, verb, asked))


def session(made: Stage) -> SessionView | None:
    """The only one, as the journal has it now."""
    with contextlib.suppress(JournalError), contextlib.closing(Reader(made.station / "journal.db")) as reader:
        heads = reader.sessions_of("xunwen", 9)
        assert len(heads) <= 1
        return reader.session(heads[0].started.session_id) if heads else None
    return None


def until(made: Stage, condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, tail(made.log)
        time.sleep(0.02)


def recorders(pid: int) -> Iterator[int]:
    """The recorder processes below a service."""
    children: set[str] = set()
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            children.update((task / "children").read_text().split())
    for child in children:
        with contextlib.suppress(OSError):
            if b"agent.rooms.recorder" in Path(f"/proc/{child}/cmdline").read_bytes():
                yield int(child)


def growing(made: Stage) -> dict[str, int]:
    """The files that lie in the folders of sessions, and their sizes."""
    found = {}
    for path in (made.station / "rooms").glob("*/*.m*"):
        with contextlib.suppress(FileNotFoundError):
            found[path.name] = path.stat().st_size
    return found


def check(made: Stage, packs: dict[str, Path], kills: int, torn: int = 0) -> float:
    """Everything is held, undamaged, once; what is missing between files is in the ledger. Returns seconds missing."""
    assert verify(made.station / "journal.db").consistent
    view = session(made)
    assert view is not None
    assert view.ended is not None
    assert [note for note in view.notes if note.end is None] == []
    assert list((made.station / "rooms").iterdir()) == []
    missing_s = 0.0
    with contextlib.closing(Reader(made.station / "journal.db")) as reader:
        for source, pack in packs.items():
            own = sorted((one for one in view.segments if one.source == source), key=lambda one: one.number)
            assets = [reader.asset(one.asset.asset_id) for one in own]
            assert {asset.state for asset in assets} <= {AssetState.HELD, AssetState.STORED}
            digests = [asset.digests.blake3 for asset in assets if asset.digests]
            files = [made.vault / digest[:2] / digest for digest in digests]
            found = Known(pack).match(files)
            assert (found.unreadable, found.foreign_sound) == ([], 0)
            assert len(found.damaged) <= torn, "a picture that was written only in part"
            assert found.repeated == 0, "a picture was recorded twice"
            told = sum(int(str(one.facts["frames"])) for one in own)
            assert len(found.pictures) <= told <= len(found.pictures) + len(found.damaged), "whoever closed it"
            gaps = [note for note in view.notes if note.source == source and note.kind == "gap" and note.end]
            told_s = sum(((note.end or note.start) - note.start).total_seconds() for note in gaps)
            assert found.missing / 25 <= told_s + 1.0 * kills, (found.gaps, gaps)
            missing_s = max(missing_s, found.missing / 25)
        assert set(reader.activity(view.started.session_id).stated.recordings) == {
            one.recording.recording_id for one in view.segments
        }
    return missing_s


def killed(made: Stage, packs: dict[str, Path], rounds: Sequence[int]) -> float:
    """In each round of a session kill its recorder so often, and then the service; then stop it in good order."""
    chance = random.Random(SEED)
    ends = datetime.now(UTC) + timedelta(hours=1)
    for number, kills in enumerate(rounds):
        with serving(made) as service:
            if number == 0:
                order(made, "session_start", room="xunwen", who="张三", planned_end=ends.isoformat())
            for left in range(kills, -1, -1):
                before = growing(made).keys()
                until(made, lambda before=before: growing(made).keys() - before)  # type: ignore[misc]
                time.sleep(chance.uniform(0.0, 1.0))
                for pid in recorders(service.process.pid) if left else ():
                    os.kill(pid, signal.SIGKILL)
            service.process.kill()
            service.process.wait()
    with running(made) as daemon:
        known = growing(made).keys()
        until(made, lambda: growing(made).keys() - known)
        order(made, "session_stop", room="xunwen", who="李四", why="问完")
        daemon.until(lambda: (found := session(made)) is not None and found.ended is not None)
    return check(made, packs, sum(rounds) + len(rounds))


@pytest.fixture
def room(tmp_path: Path, cameras: Start, pack: Pack) -> tuple[Stage, dict[str, Path], Cameras]:
    """A station with a room of two cameras, not running yet."""
    packs = {"front": pack(), "side": pack(Footage(audio="pcm_alaw"))}
    server = cameras(packs, auth="")
    made = stage(tmp_path)
    text = ROOM.format(front=server.url("front"), side=server.url("side"))
    (made.config.parent / "rooms.toml").write_text(text, "utf-8")
    return made, packs, server


def test_ten_kills_lose_at_most_a_second_each_and_every_outage_is_told(
    room: tuple[Stage, dict[str, Path], Cameras],
) -> None:
    made, packs, _ = room
    killed(made, packs, (3, 2, 2))


@pytest.mark.soak
def test_fifty_kills(room: tuple[Stage, dict[str, Path], Cameras]) -> None:
    made, packs, _ = room
    killed(made, packs, (1, 2, 3, 1, 2, 3, 1, 2, 3, 0, 5, 0, 4, 0, 3, 5))


@pytest.mark.soak
def test_a_disk_that_others_fill_does_not_stop_a_session(tmp_path: Path, cameras: Start, pack: Pack) -> None:
    """Its space was kept for it: after a few seconds at most it goes on, though nobody has made room."""
    packs = {"front": pack(), "side": pack(Footage(audio="pcm_alaw"))}
    server = cameras(packs, auth="")
    made = stage(tmp_path)
    text = ROOM.format(front=server.url("front"), side=server.url("side"))
    (made.config.parent / "rooms.toml").write_text(text, "utf-8")
    made.station.mkdir()
    with tmpfs(made.station, 100 << 20), running(made) as daemon:
        order(made, "session_start", room="xunwen", who="张三")
        until(made, lambda: (view := session(made)) is not None and len(view.segments) >= 2)
        with (made.station / "others").open("wb") as others, contextlib.suppress(OSError):
            while True:
                others.write(bytes(1 << 20))
                others.flush()
        full = session(made)
        assert full is not None
        last = max(one.number for one in full.segments)
        until(made, lambda: (view := session(made)) is not None and view.segments[-1].number > last + 2)
        order(made, "session_stop", room="xunwen", who="李四")
        daemon.until(lambda: (found := session(made)) is not None and found.ended is not None)
        check(made, packs, 3, torn=1)  # each attempt to write onto a full disk may cost what was not flushed
        assert (made.station / "others").stat().st_size > 10 << 20


def test_a_service_that_is_told_to_end_closes_its_files_and_goes_on_afterwards(
    room: tuple[Stage, dict[str, Path], Cameras],
) -> None:
    """As systemd restarts it: SIGTERM, a bounded end, and the same session again."""
    made, packs, _ = room
    with running(made):
        order(made, "session_start", room="xunwen", who="张三")
        until(made, lambda: len(growing(made)) >= 2)
        time.sleep(1.0)
    assert growing(made) == {}, "all that was closed was taken before the end"
    view = session(made)
    assert view is not None
    assert view.ended is None
    assert {one.source for one in view.segments} == {"front", "side"}
    with running(made) as daemon:
        until(made, lambda: len(growing(made)) >= 2)
        status = daemon.status()
        assert status["rooms"][0]["session"]["session_id"] == view.started.session_id
        order(made, "session_stop", room="xunwen", who="李四")
        daemon.until(lambda: (found := session(made)) is not None and found.ended is not None)
    check(made, packs, 1)
